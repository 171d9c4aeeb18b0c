"""Evidence of one run in one file: what happened, by which rule, on whose consent, what it looked like before and after.

A zip that others can check without the data directory: every file's SHA-256 stands in the manifest, the events carry what the
chain was computed from, and with the key file the chain itself can be verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol, cast, runtime_checkable

from takeback.checkpoints.objects import ObjectError
from takeback.journal.chain import Row, decode, digest, holds
from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.keys import KeyFile, KeyRing
from takeback.journal.log import KeyUnavailable
from takeback.journal.states import State
from takeback.journal.views import (
    ActionView,
    AnyView,
    ApprovalView,
    CheckpointView,
    OpenItem,
    RollbackView,
    RunView,
)
from takeback.server.engine.answers import EngineError
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.discreet import Discreet
from takeback.server.engine.queries import event_row
from takeback.server.engine.reporting import report_run

FORMAT = "takeback-bundle/1"
OBJECT_BYTES = 16 * 1024 * 1024
"""Largest stored object that is put into a bundle; larger ones are named with their size only."""
TOTAL_BYTES = 512 * 1024 * 1024
PAGE = 1000
_LONGEST_FILE = 1024 * 1024 * 1024

_VIEWS: tuple[tuple[str, type[AnyView]], ...] = (
    ("run", RunView),
    ("action", ActionView),
    ("checkpoint", CheckpointView),
    ("approval", ApprovalView),
    ("rollback", RollbackView),
    ("open_item", OpenItem),
)


@runtime_checkable
class Chained(Protocol):
    """A journal whose events can be handed over with what their macs were computed from."""

    async def chain_rows(self, run_id: RunId, *, after: int = 0, limit: int = 1000) -> Sequence[Row]:
        """Events of one run, in order, those after position `after`."""
        ...


async def export_run(core: Core, caller: Caller, run_id: str, path: Path, *, redacted: bool = False) -> Path:
    """Write the bundle of a run.

    :param path: of the zip; it must not exist yet. It is complete or not there at all.
    :param redacted: for whoever helps: without contents, secrets, addresses and places. Its chain can still be verified.
    :returns: the path.
    :raises EngineError: unknown or foreign run, a path that is taken or cannot be written.
    """
    run = await core.run(caller, run_id, "look")
    if not isinstance(core.journal, Chained):
        raise EngineError("not_offered", "This journal cannot hand over its chain.", "Export from an SQLite journal.")
    beside = path.with_name(f".{path.name}.part")
    if path.exists():
        raise EngineError("exists", f"{path} is there already.", "Choose another name, or move it away.")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as bundle:
            await _write(core, core.journal, run, _Bundle(bundle), await _discretion(core, run) if redacted else None)
        with open(beside, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise EngineError(
            "cannot_write", f"{path} could not be written: {error.strerror}.", "Choose another place."
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    return path


class _Bundle:
    """Adds files to the zip and keeps what the manifest says of them."""

    def __init__(self, bundle: zipfile.ZipFile) -> None:
        self.bundle = bundle
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, data: bytes) -> None:
        # a fixed time, so that the same run at the same position gives the same bytes
        info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_DEFLATED
        self.bundle.writestr(info, data)
        self.files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


async def _discretion(core: Core, run: RunView) -> Discreet:
    requested = [action.requested for action in await core.journal.find(ActionView, run_id=run.run_id)]
    places = [str(root) for root in core.settings.workspace.roots]
    return Discreet(os.urandom(32), [*places, str(core.settings.data), str(Path.home())], requested)


async def _write(core: Core, journal: Chained, run: RunView, bundle: _Bundle, discreet: Discreet | None) -> None:
    lines: list[str] = []
    head: dict[str, Any] = {"seq": 0, "mac": ""}
    after = 0
    while rows := await journal.chain_rows(run.run_id, after=after, limit=PAGE):
        lines += [json.dumps(_line(row, discreet), ensure_ascii=True, separators=(",", ":")) for row in rows]
        after = rows[-1].position
        head = {"seq": rows[-1].seq, "mac": rows[-1].mac.hex()}
    bundle.add("events.jsonl", "".join(line + "\n" for line in lines).encode("ascii"))
    if discreet is not None:
        bundle.add("events.redacted.jsonl", await _told(core, run, discreet))
    for name, kind in _VIEWS:
        found = await core.journal.find(kind, run_id=run.run_id, oldest_first=True)
        values = [view.model_dump(mode="json") for view in found]
        text = json.dumps(values if discreet is None else discreet.value(values), ensure_ascii=True, indent=1)
        bundle.add(f"views/{name}.json", text.encode("ascii"))
    actions = await core.journal.find(ActionView, run_id=run.run_id, oldest_first=True)
    report = await report_run(core, run, titled=discreet is None)
    text = report.text if discreet is None else discreet.text(_without_contents(report.text))
    bundle.add("report.md", text.encode("utf-8", "backslashreplace"))
    left_out = (
        await _objects(core, actions, bundle) if discreet is None else [{"object": "all", "why": "not for others"}]
    )
    manifest = {
        "format": FORMAT,
        "run_id": run.id,
        "exported_at": rfc3339(core.now()),
        "head": head,
        "events": len(lines),
        "files": bundle.files,
        "objects_left_out": left_out,
    }
    bundle.add("manifest.json", json.dumps(manifest, ensure_ascii=True, indent=1).encode("ascii"))


async def _told(core: Core, run: RunView, discreet: Discreet) -> bytes:
    """The events as others may see them."""
    lines: list[str] = []
    after = 0
    while batch := await core.journal.read(run.run_id, after=after, limit=PAGE):
        lines += [json.dumps(discreet.value(event_row(recorded)), ensure_ascii=True) for recorded in batch]
        after = batch[-1].position
    return "".join(line + "\n" for line in lines).encode("ascii")


_CONTENTS = ("- To do it by hand: ", "- The message ", "- Nobody knows whether the message ")


def _without_contents(text: str) -> str:
    """The report without what a person would need to do it by hand, and without the subjects of messages."""
    return "\n".join(line for line in text.split("\n") if not line.startswith(_CONTENTS))


def _line(row: Row, discreet: Discreet | None = None) -> dict[str, Any]:
    if discreet is not None:  # as if its payload had been erased: the chain runs over digests, and holds without it
        row = replace(row, payload=None, salt=None)
    return {
        "position": row.position,
        "run_id": row.run_id,
        "seq": row.seq,
        "type": row.type,
        "at": row.at,
        "action_id": row.action_id,
        "payload": None if row.payload is None else row.payload.decode("utf-8", "surrogatepass"),
        "salt": None if row.salt is None else row.salt.hex(),
        "payload_digest": row.payload_digest.hex(),
        "mac": row.mac.hex(),
        "key_id": row.key_id,
    }


def _row(line: dict[str, Any]) -> Row:
    payload, salt = line["payload"], line["salt"]
    return Row(
        position=int(line["position"]),
        run_id=RunId(str(line["run_id"])),
        seq=int(line["seq"]),
        type=str(line["type"]),
        at=str(line["at"]),
        action_id=None if line["action_id"] is None else str(line["action_id"]),
        payload=None if payload is None else str(payload).encode("utf-8", "surrogatepass"),
        salt=None if salt is None else bytes.fromhex(str(salt)),
        payload_digest=bytes.fromhex(str(line["payload_digest"])),
        mac=bytes.fromhex(str(line["mac"])),
        key_id=str(line["key_id"]),
    )


async def _objects(core: Core, actions: Iterable[ActionView], bundle: _Bundle) -> list[dict[str, Any]]:
    # what is too large, or gone, is named: a bundle never looks more complete than it is
    left_out: list[dict[str, Any]] = []
    seen: set[str] = set()
    room = TOTAL_BYTES
    states = (state for action in actions for effect in action.effects for state in (effect.before, effect.after))
    for state in states:
        for name in state.objects:
            if name in seen:
                continue
            seen.add(name)
            why = await _object(core, name, state, room, bundle)
            if why:
                left_out.append({"object": name, "why": why})
            else:
                room -= bundle.files[_file_of(name)]["size"]
    return left_out


def _file_of(name: str) -> str:
    return "objects/" + name.replace(":", "-").replace("/", "_")


async def _object(core: Core, name: str, state: State, room: int, bundle: _Bundle) -> str:
    if state.size is not None and len(state.objects) == 1 and state.size > min(OBJECT_BYTES, room):
        return f"larger than the bundle takes ({state.size} bytes)"
    try:
        data = await core.objects.get(name)
    except ObjectError as error:
        return str(error)
    if len(data) > min(OBJECT_BYTES, room):
        return f"larger than the bundle takes ({len(data)} bytes)"
    bundle.add(_file_of(name), data)
    return ""


# --- verification -----------------------------------------------------------------------------------------------------


def verify_bundle(path: Path, key_file: Path | None = None) -> list[str]:
    """What is wrong with a bundle, one sentence each; empty if nothing is.

    Without the key it is proven that the files are those of the manifest and the events those that their digests name. With the
    key, also that the journal wrote these events, in this order, up to the head that the manifest names.

    :param key_file: the chain's key; `None`: the macs are not checked.
    :raises KeyUnavailable: the key file cannot be read.
    """
    ring = None if key_file is None else KeyRing.load(KeyFile(key_file))
    if ring is not None and ring.empty:
        raise KeyUnavailable(f"there is no key in {key_file}")
    try:
        with zipfile.ZipFile(path) as bundle:
            return _problems(bundle, ring)
    except (OSError, zipfile.BadZipFile) as error:
        return [f"The bundle cannot be opened: {error}."]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.LargeZipFile) as error:
        return [f"The bundle is not laid out as one: {type(error).__name__}."]


def _problems(bundle: zipfile.ZipFile, ring: KeyRing | None) -> list[str]:
    names = bundle.namelist()
    if len(set(names)) != len(names):
        return ["A file is in the bundle twice."]
    if "manifest.json" not in names:
        return ["The manifest is missing."]
    manifest = cast("dict[str, Any]", json.loads(_read(bundle, "manifest.json")))
    if manifest["format"] != FORMAT:
        return [f"The bundle is of another format than {FORMAT}."]
    problems: list[str] = []
    files = cast("dict[str, dict[str, Any]]", manifest["files"])
    problems += [f"{name} is not in the manifest." for name in names if name not in files and name != "manifest.json"]
    for name, told in files.items():
        if name not in names:
            problems.append(f"{name} is missing.")
        elif _sha256(bundle, name) != told["sha256"]:
            problems.append(f"{name} is not what the manifest says.")
    if "events.jsonl" not in names:
        return problems or ["events.jsonl is missing."]
    rows = [_row(json.loads(line)) for line in _read(bundle, "events.jsonl").splitlines()]
    return problems + _chain_problems(rows, manifest, ring)


def _chain_problems(rows: Sequence[Row], manifest: dict[str, Any], ring: KeyRing | None) -> list[str]:
    problems: list[str] = []
    previous, seq = b"", 0
    for row in rows:
        seq += 1
        if row.seq != seq or row.run_id != manifest["run_id"]:
            problems.append(f"Event {row.seq} stands where event {seq} of the run should.")
            seq = row.seq
        if row.payload is not None and row.salt is not None:
            if digest(row.salt, row.payload) != row.payload_digest:
                problems.append(f"The content of event {row.seq} is not the one that was written.")
            elif not _says(row):
                problems.append(f"Event {row.seq} does not say what its content says.")
        key = None if ring is None else ring.find(row.key_id)
        if ring is not None and key is None:
            problems.append(f"The key {row.key_id} of event {row.seq} is not in the key file.")
        elif key is not None and not holds(row, key.secret, previous):
            problems.append(f"The mac of event {row.seq} is wrong.")
        previous = row.mac
    head = manifest["head"]
    if (seq, previous.hex()) != (head["seq"], head["mac"]) or len(rows) != manifest["events"]:
        problems.append("The events do not end where the manifest says.")
    return problems


def _says(row: Row) -> bool:
    try:
        event = decode(row.type, row.payload or b"")
    except ValueError:
        return False
    return (event.run_id, event.at.isoformat()) == (row.run_id, row.at)


def _read(bundle: zipfile.ZipFile, name: str) -> bytes:
    # a bundle comes from somebody else, so its sizes are not trusted
    if bundle.getinfo(name).file_size > _LONGEST_FILE:
        raise ValueError(f"{name} is too large")
    return bundle.read(name)


def _sha256(bundle: zipfile.ZipFile, name: str) -> str:
    hasher = hashlib.sha256()
    with bundle.open(name) as file:
        _feed(file, hasher.update)
    return hasher.hexdigest()


def _feed(file: IO[bytes], take: Callable[[bytes], object]) -> None:
    while block := file.read(1024 * 1024):
        take(block)
