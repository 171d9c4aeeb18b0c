"""The file system as a target system: roots, paths, prepared changes, and swaps of what is there with what was there.

Every change is an exchange between a path and a slot of the trash: before it, what is new lies in the slot; after it, what was
there does. Undo and redo are the same exchange. All work on files runs in worker threads, one hop a call.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import anyio.from_thread
import anyio.to_thread

from takeback.checkpoints.objects import SMALL, ObjectError, ObjectStore, QuotaExceeded
from takeback.journal.states import ABSENT, Effect, State, altered
from takeback.tools.files import versions
from takeback.tools.files.bring_out import bring_out
from takeback.tools.files.calls import OPEN_READ, Calls, Dir
from takeback.tools.files.capture import Get, Put
from takeback.tools.files.choosing import choose_calls
from takeback.tools.files.drafting import NAME, Draft, Limits
from takeback.tools.files.fingerprint import Torn
from takeback.tools.files.happening import happened
from takeback.tools.files.held import close
from takeback.tools.files.inplace import NOTES, mend
from takeback.tools.files.listing import entries_of, info_of
from takeback.tools.files.paths import Names, Place
from takeback.tools.files.reading import Reader
from takeback.tools.files.reconcile import reconcile
from takeback.tools.files.refusals import refusal, refuse, too_deep
from takeback.tools.files.showing import preview_of
from takeback.tools.files.staged import FileInfo, Root, Staged
from takeback.tools.files.staging import Stager
from takeback.tools.files.steps import side_ref
from takeback.tools.files.swapping import swap, unavailable
from takeback.tools.files.together import swap_each
from takeback.tools.files.trash import Trashes
from takeback.tools.files.workbench import Workbench, look_at
from takeback.tools.system import (
    Alone,
    Clash,
    Drifted,
    Merged,
    Preview,
    Swapped,
    TargetError,
    TargetSystem,
    Unavailable,
)

T = TypeVar("T")


class FileSystem(TargetSystem):
    """The folders of a workspace. Make one with `open`."""

    name = NAME
    side_by_side = True  # what happens in one folder stays in order, because the folder's own time is put back too

    def __init__(self, calls: Calls, names: Names, trashes: Trashes, objects: ObjectStore, limits: Limits, notes: Dir):
        self._calls, self._names, self._trashes = calls, names, trashes
        self._objects, self._limits, self._notes = objects, limits, notes
        self.roots: Sequence[Root] = tuple(names.roots)

    @classmethod
    async def open(
        cls,
        roots: Sequence[Path],
        data: Path,
        objects: ObjectStore,
        *,
        object_bytes: int,
        trash_bytes: int,
        portable: bool = False,
    ) -> FileSystem:
        """Open the roots and the trash; bring back files that a crash left half-written.

        :param object_bytes: largest file that is copied into the object store.
        :param trash_bytes: what the trash may hold in all.
        :param portable: do without `openat2` and `renameat2` even where they exist.
        :raises Refused: roots that overlap, contain the data directory or lie in it, or are no folders.
        """

        def work() -> FileSystem:
            raw = os.fsencode(os.path.abspath(data))
            os.makedirs(os.path.join(raw, NOTES), mode=0o700, exist_ok=True)
            calls = choose_calls(raw, [os.fsencode(root) for root in roots], portable=portable)
            names = Names(calls, roots, data)
            umask = os.umask(0o077)
            os.umask(umask)
            limits = Limits(object_bytes=object_bytes, trash_bytes=trash_bytes, umask=umask)
            notes = calls.open_root(os.path.join(raw, NOTES))
            return FileSystem(calls, names, Trashes(calls, names, raw), objects, limits, notes)

        system = await anyio.to_thread.run_sync(work)
        await system._in_thread(lambda bench: mend(bench, system._notes), "the workspace")
        return system

    async def close(self) -> None:
        """Let go of all folders."""
        self._names.close()
        self._trashes.close()
        self._notes.close()

    # -- names -----------------------------------------------------------------------------------------------------------

    def resolve(self, path: str) -> str:
        r"""The id of the object that a user's path names: absolute inside a root, or relative to the first root, or
        beginning with a root's name. Bytes that are not UTF-8 are written `\xNN`.

        :raises Refused: `outside_roots`, `symlink_in_path`, `bad_name`, `reserved`, `not_a_directory`.
        """
        return self._names.resolve(path).object

    def display(self, object: str) -> str:
        """The object's name for people: relative to its root."""
        try:
            return self._names.locate(object).shown
        except TargetError:
            return object

    def ancestors(self, object: str) -> Sequence[str]:
        try:
            above = self._names.parent(self._names.locate(object))
        except TargetError:
            return ()
        found: list[str] = []
        while above is not None:
            found.append(above.object)
            above = self._names.parent(above)
        return tuple(found)

    # -- looking ---------------------------------------------------------------------------------------------------------

    async def stat(self, object: str) -> FileInfo | None:
        """Facts about an object; `None` if there is nothing. Never follows a link."""
        place = self._names.locate(object)
        return await self._in_thread(lambda bench: info_of(bench, place), place.shown)

    async def listing(self, object: str, *, recursive: bool, limit: int) -> list[FileInfo]:
        """What is in a folder, sorted by name, at most `limit` entries. Follows no link, hides what is reserved.

        :raises Refused: there is no such folder.
        """
        place = self._names.locate(object)
        return await self._in_thread(lambda bench: entries_of(bench, place, recursive, limit), place.shown)

    async def read_bytes(self, object: str, *, limit: int) -> tuple[bytes, State]:
        """Content and state of a regular file, both of the same moment.

        :raises Refused: it is no regular file, or larger than `limit` bytes.
        :raises Unavailable: it never held still.
        """
        place = self._names.locate(object)
        try:
            found = self._at_once(lambda bench: self._reader(bench).read_small(place, min(limit, SMALL)), place.shown)
        except Unavailable:
            found = None  # somebody is writing it: to be waited for elsewhere
        if found is not None:
            return found
        return await self._in_thread(lambda bench: self._reader(bench).read_file(place, limit), place.shown)

    async def open_read(self, object: str) -> int:
        """A descriptor of a regular file, to be read in parts and closed by the caller.

        :raises Refused: it is no regular file.
        """
        place = self._names.locate(object)

        def work(bench: Workbench) -> int:
            parent = bench.parent(place) if place.parts else None
            if parent is None:
                raise refuse("not_found", f"{place.shown} does not exist.", "List its folder to see what is there.")
            fd = bench.calls.open_file(parent, place.name, OPEN_READ)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                close(fd)
                raise refuse("not_a_file", f"{place.shown} is not a regular file.", "Name a file.")
            return fd

        return await self._in_thread(work, place.shown)

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        likes = [*like, *[None] * (len(objects) - len(like))]

        def work(bench: Workbench) -> Sequence[State]:
            return [self._look(bench, name, to) for name, to in zip(objects, likes, strict=True)]

        return await self._in_thread(work, self.display(objects[0]) if objects else "")

    def _look(self, bench: Workbench, object_id: str, like: State | None) -> State:
        place = self._names.locate(object_id)
        try:
            parent = bench.parent(place)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            parent = None  # its folder is a link or a file by now, so under this name there is nothing
        if parent is None:
            return ABSENT
        state = look_at(bench.calls, parent, place.name, like or ABSENT)
        return state if state.absent else altered(state, ref={"at": object_id})

    # -- preparing -------------------------------------------------------------------------------------------------------

    async def stage_write(self, object: str, content: bytes, *, create_parents: bool = True) -> Staged:
        """Prepare a file with this content, new or instead of what is there.

        :raises Refused: a folder, a link or a device is there; or it cannot be written.
        :raises Unavailable: no space, or it never held still.
        """
        place = self._names.locate(object)
        return await self._stage(
            place,
            lambda stager, draft: stager.write(place, content, create_parents=create_parents, draft=draft),
            "Put the earlier content back.",
        )

    async def stage_delete(self, object: str, *, recursive: bool) -> Staged:
        """Prepare a deletion: a rename into the trash, whatever the size.

        :raises Refused: nothing is there, or a folder that is not empty without `recursive`.
        """
        place = self._names.locate(object)
        return await self._stage(
            place,
            lambda stager, draft: stager.delete(place, recursive=recursive, draft=draft),
            "Put it back from the trash.",
        )

    async def stage_move(self, source: str, destination: str, *, overwrite: bool) -> Staged:
        """Prepare another name; missing folders are created. The destination's effect is the last one.

        :raises Refused: nothing is there; the destination is taken; it is another file system.
        """
        start, end = self._names.locate(source), self._names.locate(destination)
        return await self._stage(
            end,
            lambda stager, draft: stager.move(start, end, overwrite=overwrite, draft=draft),
            "Move it back; what it replaced comes back from the trash.",
        )

    async def stage_copy(self, source: str, destination: str, *, overwrite: bool) -> Staged:
        """Prepare a copy of a file, a link (as a link) or a folder; missing folders are created.

        :raises Refused: nothing is there; the destination is taken; a device is among it.
        """
        start, end = self._names.locate(source), self._names.locate(destination)
        return await self._stage(
            end,
            lambda stager, draft: stager.copy(start, end, overwrite=overwrite, draft=draft),
            "Remove the copy; what it replaced comes back from the trash.",
        )

    async def stage_directory(self, object: str) -> Staged:
        """Prepare a folder with those above it.

        :raises Refused: something is there already.
        """
        place = self._names.locate(object)
        return await self._stage(
            place, lambda stager, draft: stager.directory(place, draft=draft), "Remove the folder if it is empty."
        )

    async def stage_versions(self, object: str, contents: Sequence[bytes]) -> Sequence[Staged]:
        """Prepare contents that follow each other, to be put out by one swap of `at_once`.

        :raises InPlace: they can only be written one after the other.
        :raises Refused, Unavailable: as `stage_write`.
        """
        place = self._names.locate(object)
        drafts = await self._in_thread(
            lambda bench: versions.stage_versions(
                versions.VersionStager(bench, self._objects, self._limits), place, contents
            ),
            place.shown,
        )
        return [self._drafted(place, draft, "Put the earlier content back.") for draft in drafts]

    async def _stage(self, place: Place, work: Callable[[Stager, Draft], None], how: str) -> Staged:
        draft = Draft()
        await self._in_thread(lambda bench: work(self._stager(bench), draft), place.shown)
        return self._drafted(place, draft, how)

    def _drafted(self, place: Place, draft: Draft, how: str) -> Staged:
        async def discard() -> None:
            await self._in_thread(lambda bench: self._stager(bench).discard(draft), place.shown)

        irreversible = draft.reversibility == "irreversible"
        return Staged(
            effects=tuple(draft.effects),
            blobs=draft.blobs,
            discard=discard,
            warnings=tuple(draft.warnings),
            reversibility=draft.reversibility,
            reason=draft.reason,
            how="It cannot be taken back." if irreversible else how,
        )

    def _stager(self, bench: Workbench) -> Stager:
        return Stager(bench, self._objects, self._limits)

    # -- changing --------------------------------------------------------------------------------------------------------

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        shown = self.display(effects[0].object) if effects else "nothing"
        try:
            result = await self._in_thread(lambda bench: swap(bench, effects, self._notes), shown)
        except ObjectError as error:
            raise Unavailable(str(error), advice=error.advice) from error
        except TargetError as error:
            raise (error if error.code == "half_done" else unavailable(error)) from error
        if isinstance(result, Swapped) and not result.already:
            self._trashes.grow(self.pending(effects))
        return result

    async def happened(self, effects: Sequence[Effect]) -> bool | None:
        shown = self.display(effects[0].object) if effects else "nothing"
        return await self._in_thread(lambda bench: happened(bench, effects, self._notes), shown)

    def at_once(self, acts: Sequence[Sequence[Effect]]) -> Sequence[Effect]:
        return versions.at_once(acts)

    def each_of(self, acts: Sequence[Sequence[Effect]], made: Sequence[Effect]) -> Sequence[tuple[Effect, ...]]:
        told = versions.each_of(acts, made)
        self._trashes.grow(self.pending([act[-1] for act in told[1:]]))  # the swap has counted the first
        return told

    async def swap_each(self, acts: Sequence[Sequence[Effect]]) -> Sequence[Swapped | Alone]:
        shown = self.display(acts[0][0].object) if acts and acts[0] else "nothing"
        results = await self._in_thread(lambda bench: swap_each(bench, acts, self._notes), shown)
        for effects, result in zip(acts, results, strict=True):
            if isinstance(result, Swapped):
                self._trashes.grow(self.pending(effects))
        return results

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        shown = self.display(wanted[0].object) if wanted else "nothing"
        return await self._in_thread(
            lambda bench: reconcile(bench, self._reader(bench), self._objects, self._limits, wanted, present), shown
        )

    async def write(self, object: str, content: bytes, present: State) -> Effect:
        staged = await self.stage_write(object, content)
        effect = staged.effects[-1]
        if len(staged.effects) != 1:
            await staged.discard()
            shown = self.display(object)
            raise refuse("not_found", f"The folder of {shown} is not there.", "Make the folder, then do this again.")
        if not (await self.look([object], [present]))[0].same(present):
            await staged.discard()
            raise refuse("drifted", f"{self.display(object)} has changed again.", "Look at it, then decide again.")
        await self._objects.put_blobs(staged.blobs)  # the caller gets the effect alone, and no blobs to journal with it
        return effect

    async def beside(self, effect: Effect) -> Effect:
        content = await self.read(effect.after)
        if content is None:
            raise refuse("no_content", "What was there before has no bytes to put beside it.", "Choose theirs or ours.")
        base, suffix = os.path.splitext(effect.object)
        for number in range(1, 1000):
            free = f"{base} (earlier{'' if number == 1 else f' {number}'}){suffix}"
            if await self.stat(free) is None:
                staged = await self.stage_write(free, content)
                await self._objects.put_blobs(staged.blobs)
                return staged.effects[-1]
        raise refuse("exists", "There is no free name beside it.", "Choose theirs or ours.")

    # -- for people ------------------------------------------------------------------------------------------------------

    async def describe(self, effect: Effect) -> Preview:
        shown = self.display(effect.object)
        return await self._in_thread(lambda bench: preview_of(self._reader(bench), effect, shown), shown)

    async def read(self, state: State) -> bytes | None:
        return await self._in_thread(lambda bench: self._reader(bench).content(state), "a stored state")

    async def bring_out(self, state: State, destination: Path) -> bool:
        """Copy an earlier state, a whole folder too, to a new path outside; whether it could still be had."""
        shown = destination.name
        return await self._in_thread(lambda bench: bring_out(bench, state, str(destination)), shown)

    # -- keeping ---------------------------------------------------------------------------------------------------------

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        slots = {(str(state.ref.get("trash")), str(state.ref.get("slot"))) for state in keep if "slot" in state.ref}
        return await self._in_thread(lambda bench: bench.trashes.collect(slots, older_than_ns), "the trash")

    def pending(self, effects: Iterable[Effect]) -> int:
        kept = 0
        for effect in effects:
            ref = side_ref(effect)
            stays = "move" in ref and effect.after.absent  # it only goes by another name
            if effect.before.absent or stays or "slot" not in ref or "drop" in ref:
                continue
            on_disk = effect.before.ref.get("bytes")
            kept += on_disk if isinstance(on_disk, int) else effect.before.size or 0
        return kept

    # -- threads ---------------------------------------------------------------------------------------------------------

    def _reader(self, bench: Workbench) -> Reader:
        return Reader(bench)

    async def _in_thread(self, work: Callable[[Workbench], T], shown: str) -> T:
        """One hop: open what is needed, work, let go; errors of the system become refusals."""

        def get(name: str) -> bytes:
            return anyio.from_thread.run(self._objects.get, name)

        def put(data: bytes) -> str:
            return anyio.from_thread.run(self._objects.put, data)

        return await anyio.to_thread.run_sync(lambda: self._visit(work, shown, get, put))

    def _at_once(self, work: Callable[[Workbench], T], shown: str) -> T:
        """The same for a few calls that need no store and flush nothing: a hop to a thread would cost more than they do."""
        return self._visit(work, shown, _no_store, _no_store)

    def _visit(self, work: Callable[[Workbench], T], shown: str, get: Get, put: Put) -> T:
        bench = Workbench(self._calls, self._names, self._trashes, get, put)
        try:
            self._names.present()
            return work(bench)
        except Torn as error:
            torn = Unavailable(f"{shown} is being written all the time.", advice="Try again when it is quiet.")
            torn.code = "changing"
            raise torn from error
        except QuotaExceeded as error:
            raise refuse("quota", str(error), error.advice) from error
        except OSError as error:
            raise refusal(error, shown) from error
        except RecursionError as error:
            raise too_deep(shown) from error
        finally:
            bench.close()


def _no_store(given: object) -> NoReturn:
    raise AssertionError("the store is asked from a thread only")
