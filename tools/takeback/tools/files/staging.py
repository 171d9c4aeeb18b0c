"""Preparing changes: everything that can be done where nobody sees it, and the effects that a swap will make true.

Runs in worker threads. What is new is made in a slot of the trash, complete with owner, mode and attributes, and flushed; the
visible step is then a rename.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL
from takeback.journal.states import ABSENT, State, trusted
from takeback.tools.files.calls import OPEN_NEW, OPEN_READ, Dir, Xattrs
from takeback.tools.files.capture import (
    content_image,
    facts_image,
    file_image,
    folder_image,
    put_xattrs,
)
from takeback.tools.files.copying import copy_into
from takeback.tools.files.drafting import Draft, Drafter, Ref, owner_and_mode, with_more, with_ref
from takeback.tools.files.fingerprint import (
    HASHED,
    Measured,
    Owner,
    content_digest,
    file_digest,
    is_empty,
    measure,
    planned_digest,
    way_of,
)
from takeback.tools.files.held import close
from takeback.tools.files.inherit import inherit
from takeback.tools.files.paths import Place
from takeback.tools.files.reading import standing
from takeback.tools.files.refusals import refusal, refuse
from takeback.tools.files.trash import Slot


class Stager(Drafter):
    """Prepares one kind of change per method."""

    # -- the changes -----------------------------------------------------------------------------------------------------

    def write(self, place: Place, content: bytes, *, create_parents: bool, draft: Draft) -> None:
        """A file with this content, new or instead of what is there."""
        with self._guarded(place, draft):
            parent = self._folder_for(place, draft, create=create_parents)
            before = self._measured(place, parent, keep=True) if parent else Measured(ABSENT, None)
            if before.state.kind == "directory":
                raise refuse("is_directory", f"{place.shown} is a folder.", "Name a file in it.")
            if before.state.kind == "symlink":
                raise refuse(
                    "is_symlink",
                    f"{place.shown} is a symlink, and writing would replace the link.",
                    "Write to the file that it points to, or delete the link first.",
                )
            if before.stat is not None and parent is not None:
                if not self._calls.may_write(parent, place.name):
                    if self._calls.read_only(parent):
                        raise refusal(OSError(errno.EROFS, ""), place.shown)
                    raise refuse("no_permission", f"{place.shown} is write-protected.", "Change its permissions first.")
                if before.stat.st_nlink > 1:
                    self._in_place(place, parent, before, content, draft)
                    return
            self._new_file(place, parent, before, content, draft)

    def merged(self, place: Place, present: State, content: bytes, draft: Draft, *, owner: Owner | None = None) -> bool:
        """A file with merged content under the mode, owner and attributes that it has now; `False` if it changed again.

        Slot and time follow from the states, so that preparing the same merge twice gives the same effect.

        :param owner: another mode and owner.
        """
        with self._guarded(place, draft):
            parent = self._bench.parent(place)
            before = standing(self._bench, place, present) if parent else None
            if parent is None or before is None or before.stat is None:
                return False
            if before.stat.st_nlink > 1:
                self._in_place(place, parent, before, content, draft, mtime_ns=before.stat.st_mtime_ns + 1)
                return True
            free = self._trashes.free_slot(place, parent)
            told = f"{place.object} {present.digest} {content_digest(content)} {owner or ''}"
            name = blake3(told.encode()).hexdigest(length=10)
            slot = Slot(free.trash, name.encode())
            there = self._calls.lstat(slot.folder, slot.name)
            planned = planned_digest(
                before.stat, before.xattrs, content_digest(content), size=len(content),
                mtime_ns=before.stat.st_mtime_ns + 1, owner=owner,
            )  # fmt: skip
            if there is not None:
                found = measure(self._calls, slot.folder, slot.name, keep=True)
                if found.state.digest == planned:
                    common = self._common(place, slot, before, draft)
                    self._add(
                        place, self._imaged(before, common, draft), self._based(found, before, common, draft), draft
                    )
                    return True
                slot = free
            self._new_file(
                place, parent, before, content, draft, slot=slot, mtime_ns=before.stat.st_mtime_ns + 1, owner=owner
            )
            return True

    def delete(self, place: Place, *, recursive: bool, draft: Draft) -> None:
        """Nothing instead of what is there."""
        with self._guarded(place, draft):
            parent = self._bench.parent(place)
            before = self._measured(place, parent, keep=True) if parent else Measured(ABSENT, None)
            if before.state.absent or parent is None:
                raise refuse("not_found", f"{place.shown} does not exist.", "List its folder to see what is there.")
            if before.state.kind == "directory" and not recursive and not is_empty(self._calls, parent, place.name):
                raise refusal(OSError(errno.ENOTEMPTY, ""), place.shown)
            self._refuse_mount(place, parent, before)
            slot = self._trashes.free_slot(place, parent)
            common = self._common(place, slot, before, draft)
            self._add(place, self._imaged(before, common, draft), with_ref(ABSENT, common), draft)

    def move(self, source: Place, destination: Place, *, overwrite: bool, draft: Draft) -> None:
        """Another name for what is there."""
        with self._guarded(destination, draft):
            start = self._bench.parent(source)
            moved = self._measured(source, start, keep=False) if start else Measured(ABSENT, None)
            if moved.state.absent or start is None or moved.stat is None:
                raise refuse("not_found", f"{source.shown} does not exist.", "List its folder to see what is there.")
            if destination.parts[: len(source.parts)] == source.parts and source.root is destination.root:
                raise refuse(
                    "into_itself", f"{source.shown} cannot be moved into itself.", "Choose a destination outside it."
                )
            self._refuse_mount(source, start, moved)
            end = self._folder_for(destination, draft, create=True)
            taken = self._taken(destination, end, overwrite=overwrite)
            if taken.stat is not None and (taken.stat.st_dev, taken.stat.st_ino) == (
                moved.stat.st_dev,
                moved.stat.st_ino,
            ):
                raise refuse(
                    "same_file", "Source and destination are the same file.", "Delete one of the names instead."
                )
            target = end or self._nearest(destination)
            if not self._calls.same_mount(start, target):
                raise refusal(OSError(errno.EXDEV, ""), source.shown)
            move: JsonValue = {"from": source.object, "to": destination.object}
            common: Ref = {"move": move}
            if not taken.state.absent:
                assert end is not None
                slot = self._trashes.free_slot(destination, end)
                common = {**common, **self._common(destination, slot, taken, draft)}
            here: Ref = {**common, "at": source.object}
            there: Ref = {**common, "at": destination.object}
            self._add(source, self._imaged(moved, here, draft), with_ref(ABSENT, here), draft)
            before = self._imaged(taken, there, draft) if not taken.state.absent else with_ref(ABSENT, there)
            self._add(destination, before, self._imaged(moved, there, draft), draft)

    def copy(self, source: Place, destination: Place, *, overwrite: bool, draft: Draft) -> None:
        """A second one of what is there."""
        with self._guarded(destination, draft):
            start = self._bench.parent(source)
            original = self._measured(source, start, keep=False) if start else Measured(ABSENT, None)
            if original.state.absent or start is None or original.stat is None:
                raise refuse("not_found", f"{source.shown} does not exist.", "List its folder to see what is there.")
            if destination.parts[: len(source.parts)] == source.parts and source.root is destination.root:
                raise refuse(
                    "into_itself", f"{source.shown} cannot be copied into itself.", "Choose a destination outside it."
                )
            end = self._folder_for(destination, draft, create=True)
            taken = self._taken(destination, end, overwrite=overwrite)
            slot = self._trashes.free_slot(destination, end or self._nearest(destination))
            try:
                copy_into(self._calls, start, source.name, slot.folder, slot.name)
            finally:
                self._staged(slot, draft)
            self._whole(source, start, original, slot, draft)
            common = self._common(destination, slot, taken, draft)
            before = self._imaged(taken, common, draft) if not taken.state.absent else with_ref(ABSENT, common)
            after = measure(self._calls, slot.folder, slot.name, keep=True)
            if taken.stat is not None and after.stat is not None:
                before = with_more(before, "meta", owner_and_mode(taken.stat))
            wanted = self._based(after, taken, common, draft)
            if taken.stat is not None and after.stat is not None:
                wanted = with_more(wanted, "meta", owner_and_mode(after.stat))
            self._add(destination, before, wanted, draft)

    def _whole(self, source: Place, start: Dir, original: Measured, slot: Slot, draft: Draft) -> None:
        """Make sure that a copy is of one moment; where only a part of a tree was being written, say so."""
        if original.state.kind == "file" and original.stat is not None and original.stat.st_size <= HASHED:
            same = measure(self._calls, slot.folder, slot.name).state.content == original.state.content
        else:
            same = measure(self._calls, start, source.name, way_of(original.state.digest)).state.same(original.state)
        if same:
            return
        if original.state.kind == "file":
            raise refuse("changing", f"{source.shown} was being written while it was read.", "Try again.")
        draft.warnings.append(f"{source.shown} was changed by somebody else while it was being copied.")

    def directory(self, place: Place, *, draft: Draft) -> None:
        """A folder, with the folders above it."""
        with self._guarded(place, draft):
            if not place.parts:
                raise refuse("exists", f"{place.shown} exists already.", "Name something in it.")
            parent = self._bench.parent(place)
            there = self._calls.lstat(parent, place.name) if parent else None
            if there is not None:
                what = {stat.S_IFDIR: "The folder", stat.S_IFREG: "A file named", stat.S_IFLNK: "A link named"}
                kind = what.get(stat.S_IFMT(there.st_mode), "A device or FIFO named")
                raise refuse("exists", f"{kind} {place.shown} exists already.", "Use it, or choose another name.")
            self._folder_for(place, draft, create=True)
            self._new_folder(place, draft)

    # -- parts of them ---------------------------------------------------------------------------------------------------

    def _new_file(
        self, place: Place, parent: Dir | None, before: Measured, content: bytes, draft: Draft,
        *, slot: Slot | None = None, mtime_ns: int | None = None, owner: Owner | None = None,
    ) -> None:  # fmt: skip
        calls = self._calls
        slot = slot or self._trashes.free_slot(place, parent or self._nearest(place))
        mode = 0o666 & ~self._limits.umask
        if before.stat is not None:
            mode, *_ = owner = owner or (stat.S_IMODE(before.stat.st_mode), before.stat.st_uid, before.stat.st_gid)
        fd = calls.open_file(slot.folder, slot.name, OPEN_NEW, 0o600)
        try:
            self._staged(slot, draft)
            calls.pwrite(fd, content, 0)
            if owner is not None:
                try:
                    self._dress_like(fd, slot, owner, before.xattrs)
                except PermissionError:
                    # the owner cannot be given to a new file, so the old one is changed where it is
                    assert parent is not None
                    self.discard(draft)
                    self._in_place(place, parent, before, content, draft, mtime_ns=mtime_ns)
                    return
            else:
                calls.chmod(slot.folder, slot.name, mode)
                inherit(calls, parent, slot.folder, slot.name, is_folder=False)
            if mtime_ns is not None:
                calls.utime(slot.folder, slot.name, mtime_ns, mtime_ns)
            xattrs = calls.xattrs_of(fd)
            there = os.fstat(fd)
            calls.sync(fd)
        finally:
            os.close(fd)
        digest = content_digest(content)
        if len(content) <= HASHED:
            whole = file_digest(there, xattrs, digest)
            after = trusted(State, digest=whole, kind="file", content=digest, size=there.st_size)
        else:
            after = measure(calls, slot.folder, slot.name).state
        common = self._common(place, slot, before, draft)
        made = Measured(after, there, content, xattrs)
        old = self._imaged(before, common, draft) if not before.state.absent else with_ref(ABSENT, common)
        self._add(place, old, self._based(made, before, common, draft), draft)

    def _dress_like(self, fd: int, slot: Slot, owner: Owner, xattrs: Xattrs) -> None:
        now, (mode, uid, gid) = os.fstat(fd), owner
        if (now.st_uid, now.st_gid) != (uid, gid):
            self._calls.chown(slot.folder, slot.name, uid, gid)
        self._calls.chmod(slot.folder, slot.name, mode)
        if xattrs:
            put_xattrs(self._calls, slot, xattrs)
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                self._calls.chmod(slot.folder, slot.name, mode)  # an access list holds a mode too

    def _in_place(
        self, place: Place, parent: Dir, before: Measured, content: bytes, draft: Draft, *, mtime_ns: int | None = None
    ) -> None:
        assert before.stat is not None
        common: Ref = {"at": place.object, "in_place": True}
        if hasattr(os, "geteuid") and os.geteuid() not in {0, before.stat.st_uid}:
            raise refuse(
                "not_permitted",
                f"{place.shown} belongs to another user, so a change of it could not be taken back exactly.",
                "Ask its owner, or work on a copy.",
            )
        if before.stat.st_size > self._limits.object_bytes or len(content) > self._limits.object_bytes:
            raise refuse(
                "too_large",
                f"{place.shown} has several hard links and is larger than what may be kept of one file, "
                "so changing it could not be taken back.",
                "Raise object_bytes under [limits], or delete this name first.",
            )

        def put(data: bytes) -> str:
            if len(data) > SMALL:
                return self._bench.put(data)
            name, blobs = self._objects.small(data)
            draft.blobs.update(blobs)
            return name

        fd = self._calls.open_file(parent, place.name, OPEN_READ)
        try:
            old, old_names = file_image(fd, before.stat, before.xattrs, put)
        finally:
            close(fd)
        now = measure(self._calls, parent, place.name)
        if not now.state.same(before.state):
            raise refuse("changing", f"{place.shown} was being written while it was read.", "Try again.")
        mtime = mtime_ns or time.time_ns()
        new, new_names = content_image(content, facts_image(before), mtime, put)
        after = self._planned(before, content, mtime)
        state = State(
            digest=before.state.digest, kind="file", content=before.state.content, size=before.state.size,
            objects=old_names, ref={**common, "image": old},
        )  # fmt: skip
        wanted = after.model_copy(update={"objects": new_names, "ref": {**common, "image": new}})
        self._add(place, state, wanted, draft)
        draft.warnings.append(
            f"{place.shown} has several names (hard links) or another group, so it is changed where it is; somebody "
            "who writes it in the same instant could be missed."
        )

    def _planned(self, before: Measured, content: bytes, mtime_ns: int) -> State:
        """The fingerprint of a file that will have other content and time, and nothing else different."""
        assert before.stat is not None
        digest = content_digest(content)
        if len(content) > HASHED:
            raise refuse(
                "too_large", "A file with several hard links can be written up to 8 MiB.", "Delete this name first."
            )
        planned = planned_digest(before.stat, before.xattrs, digest, size=len(content), mtime_ns=mtime_ns)
        return State(digest=planned, kind="file", content=digest, size=len(content))

    def _new_folder(self, place: Place, draft: Draft) -> None:
        calls = self._calls
        parent = self._bench.parent(place)
        slot = self._trashes.free_slot(place, parent or self._nearest(place))
        calls.mkdir(slot.folder, slot.name, 0o777 & ~self._limits.umask)
        self._staged(slot, draft)
        inherit(calls, parent or self._nearest(place), slot.folder, slot.name, is_folder=True)
        made = measure(calls, slot.folder, slot.name, "dir")
        assert made.stat is not None
        common: Ref = {**slot.ref, "at": place.object}
        image: JsonValue = folder_image(made.stat, calls.xattrs(slot.folder, slot.name))
        self._add(place, with_ref(ABSENT, common), with_ref(made.state, {**common, "image": image}), draft)

    def _folder_for(self, place: Place, draft: Draft, *, create: bool) -> Dir | None:
        """The folder a new object will lie in; stages it, and those above, if there is none."""
        try:
            parent = self._bench.parent(place)
        except OSError as error:
            raise refusal(error, place.shown) from error
        if parent is not None:
            return parent
        self._calls.lstat(self._bench.nearest(place), place.name)  # a name that is too long shows here already
        above = self._bench.names.parent(place)
        assert above is not None
        if not create:
            raise refuse("not_found", f"The folder {above.shown} does not exist.", "Create it first.")
        grand = self._folder_for(above, draft, create=True)
        if grand is not None and self._calls.lstat(grand, above.name) is not None:
            raise refusal(OSError(errno.ENOTDIR, ""), place.shown)
        self._new_folder(above, draft)
        return None

    def _nearest(self, place: Place) -> Dir:
        """The innermost folder above a place that is there."""
        return self._bench.nearest(place)

    def _refuse_mount(self, place: Place, parent: Dir, there: Measured) -> None:
        if there.stat is not None and there.stat.st_dev != self._calls.stat_folder(parent).st_dev:
            raise refusal(OSError(errno.EBUSY, ""), place.shown)

    def _taken(self, place: Place, parent: Dir | None, *, overwrite: bool) -> Measured:
        taken = self._measured(place, parent, keep=True) if parent else Measured(ABSENT, None)
        if taken.state.absent:
            return taken
        if not overwrite:
            raise refuse("exists", f"{place.shown} exists already.", "Choose another name, or pass overwrite.")
        if taken.state.kind == "directory":
            raise refuse("is_directory", f"{place.shown} is a folder.", "Delete it first, or name something in it.")
        return taken

    def _measured(self, place: Place, parent: Dir, *, keep: bool) -> Measured:
        return measure(self._calls, parent, place.name, keep=keep)

    @contextmanager
    def _guarded(self, place: Place, draft: Draft) -> Generator[None]:
        if not place.parts:
            raise refuse("root", f"{place.shown} is the workspace itself.", "Name something in it.")
        try:
            yield
        except BaseException as error:
            with suppress(OSError, RecursionError):
                self.discard(draft)
            if isinstance(error, OSError):
                raise refusal(error, place.shown) from error
            raise
