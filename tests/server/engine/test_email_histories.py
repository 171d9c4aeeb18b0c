"""Random histories of mail through the whole engine, taken back: bytes, folder, flags, times as before, others' acts kept."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.tools.email import maildirs

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, ToolSettings
from takeback.tools.email.settings import MailboxSettings

HISTORIES = int(os.environ.get("TAKEBACK_MAIL_HISTORIES", "25"))
FOLDERS = ("INBOX", "Sent", "Trash", "Drafts", "Archive/2024")
FLAGS = ("seen", "answered", "flagged", "draft", "passed")


async def open_engine(folder: Path, box: Path, *, portable: bool = False) -> Bench:
    settings = settings_for(
        folder,
        tools=ToolSettings(off=("files", "database")),
        triggers=TriggerSettings.off(),
        limits=LimitSettings(ballast_bytes=4096, step_seconds=20),
        mailboxes={"work": MailboxSettings(path=box, address="me@example.org")},
        portable_files=portable,
    )
    engine = await Engine.open(settings)
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


def plant(box: Path, chance: random.Random) -> None:
    maildirs.make(box, (".Sent", ".Trash", ".Drafts", ".Archive.2024", ".Kept"))
    for number in range(12):
        sub = chance.choice(("cur", "new"))
        info = "" if sub == "new" else chance.choice(("", ":2,", ":2,S", ":2,FRS", ":2,Sab"))
        folder = chance.choice(("", ".Sent", ".Archive.2024"))
        content = maildirs.letter(number) if number % 4 else maildirs.letter(number).replace(b"\r\n", b"\n")
        maildirs.put(box, f"{number}.host{info}", content, folder, sub, maildirs.TIME + number)


async def act(bench: Bench, run: str, chance: random.Random) -> Any:
    caller = Caller(principal=ALICE.principal, client=str(chance.random()))
    keys = [f"{number}.host" for number in chance.sample(range(12), chance.randrange(1, 4))]
    match chance.randrange(4):
        case 0:
            name, arguments = "move_email", {"message_ids": keys, "destination": chance.choice(FOLDERS)}
        case 1:
            flags = chance.sample(FLAGS, 3)
            name, arguments = "flag_email", {"message_ids": keys, "add": flags[:2], "remove": flags[2:]}
        case 2:
            name, arguments = "delete_email", {"message_ids": keys}
        case _:
            name = "draft_email"
            arguments = {"to": ["a@example.org"], "subject": "Hi", "body": "x" * chance.choice((10, 50_000))}
    answer = await bench.call(name, run, caller=caller, mailbox="work", **arguments)
    assert answer.status in ("applied", "failed"), answer
    return answer


def somebody_else(box: Path, chance: random.Random) -> None:
    """Another mail program: a keyword z, or off into a folder of its own, or destroyed."""
    files = [box / name for name in maildirs.tree(box)]
    file = chance.choice([each for each in files if each.parent.parent.name != ".Kept"] or files)
    base, _, info = file.name.partition(":2,")
    match chance.randrange(5):
        case 0:
            file.rename(box / ".Kept" / "cur" / file.name)
        case 1:
            file.unlink()
        case _:
            file.rename(file.parent.parent / "cur" / f"{base}:2,{''.join(sorted({*info, 'z'}))}")


@pytest.mark.parametrize("portable", [False, True])
async def test_random_histories_of_mail_are_taken_back_exactly(tmp_path: Path, portable: bool) -> None:
    bench = await open_engine(tmp_path, tmp_path / "box", portable=portable)
    plant(tmp_path / "box", random.Random(f"mail {portable}"))
    try:
        for seed in range(HISTORIES):
            chance = random.Random(f"mail {seed}")
            before = maildirs.tree(tmp_path / "box")
            run = await bench.start(str(seed))
            answers = [await act(bench, run, chance) for _ in range(chance.randrange(1, 7))]
            acted = maildirs.tree(tmp_path / "box")
            assert all(answer.status == "applied" for answer in answers), answers
            back = await bench.back(run_id=run)
            assert back.status == "complete", (seed, back.report)
            assert maildirs.tree(tmp_path / "box") == before, seed
            if not any(step.outcome == "restored" for step in back.steps):
                assert acted == before, "moved to where it lay, or marked as it was"
                with pytest.raises(EngineError, match="changed nothing"):
                    await bench.engine.redo(ALICE, str(back.rollback_id))
                continue
            redone = await bench.engine.redo(ALICE, str(back.rollback_id))
            assert redone.status == "complete", (seed, redone.report)
            assert maildirs.tree(tmp_path / "box") == acted, seed
            again = await bench.engine.redo(ALICE, str(redone.rollback_id))
            assert again.status == "complete", (seed, again.report)
            assert maildirs.tree(tmp_path / "box") == before, seed
    finally:
        await bench.engine.close()


async def test_what_another_mail_program_did_in_between_always_survives(tmp_path: Path) -> None:
    bench = await open_engine(tmp_path, tmp_path / "unused")
    await bench.engine.close()
    outcomes: set[str] = set()
    for seed in range(HISTORIES):
        chance = random.Random(f"mail foreign {seed}")
        folder = tmp_path / str(seed)
        folder.mkdir()
        box = folder / "box"
        plant(box, chance)
        bench = await open_engine(folder, box)
        try:
            run = await bench.start(str(seed))
            for _ in range(chance.randrange(2, 7)):
                await act(bench, run, chance)
                if chance.random() < 0.6:
                    somebody_else(box, chance)
            theirs = maildirs.tree(box)
            try:
                back = await bench.back(run_id=run)
            except EngineError as error:
                assert error.code == "nothing"
                continue
            now = maildirs.tree(box)
            outcomes |= {step.outcome for step in back.steps}
            assert all(step.outcome != "failed" for step in back.steps), (seed, back.report)
            # what they filed lies where they filed it, with their keyword; what they destroyed stays destroyed
            kept = {name.partition(":2,")[0] for name in theirs if name.startswith(".Kept/")}
            assert kept <= {name.partition(":2,")[0] for name in now}, (seed, back.report)
            marked = {Path(name).name.partition(":2,")[0] for name in theirs if "z" in name.partition(":2,")[2]}
            assert marked <= {Path(n).name.partition(":2,")[0] for n in now if "z" in n.partition(":2,")[2]}, seed
            bases = [Path(name).name.partition(":")[0] for name in now]
            assert len(set(bases)) == len(bases)
            assert set(bases) <= {Path(name).name.partition(":")[0] for name in theirs}, (seed, "nothing came back")
            lost = {Path(name).name.partition(":")[0] for name in theirs} - set(bases)
            assert all(base.startswith("takeback.") for base in lost), (seed, lost)
        finally:
            await bench.engine.close()
    assert {"restored", "merged", "conflict"} <= outcomes
