"""Random histories of mail on real servers through the engine, taken back: folder, flags, INTERNALDATE, bytes; modulo numbers.

Few by default; `make mail-histories` runs thousands (TAKEBACK_MAIL_HISTORIES).
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.email.imap.boxes import FOLDERS, ODD, Box, message_id
from tests.tools.email.imap.proxy import Proxy
from tests.tools.email.imap.test_lost_connections import LACKING, lying
from tests.tools.email.imap.test_store import keys_of

from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, Settings, ToolSettings

HISTORIES = int(os.environ.get("TAKEBACK_MAIL_HISTORIES", "3"))
FLAGS = ("seen", "answered", "flagged", "draft")
COUNT = 8


def settings_of(box: Box, folder: Path) -> Settings:
    return settings_for(
        folder,
        tools=ToolSettings(off=("files", "database", "calendar")),
        triggers=TriggerSettings.off(),
        limits=LimitSettings(ballast_bytes=4096, step_seconds=20),
        mailboxes={"work": box.settings()},
    )


async def open_bench(box: Box, folder: Path) -> Bench:
    engine = await Engine.open(settings_of(box, folder))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


async def ids_of(bench: Bench) -> list[str]:
    """Messages as the agent finds them."""
    store = bench.engine.core.systems["email"].store("work")  # type: ignore[attr-defined] -- the system of mail
    return [key for folder in ("INBOX", *FOLDERS) for key in (await keys_of(store, folder)).values()]


async def act(bench: Bench, run: str, chance: random.Random, known: list[str]) -> Any:
    caller = Caller(principal=ALICE.principal, client=str(chance.random()))
    keys = chance.sample(known, min(len(known), chance.randrange(1, 4)))
    match chance.randrange(4):
        case 0:
            name, arguments = "move_email", {"message_ids": keys, "destination": chance.choice(("INBOX", *FOLDERS))}
        case 1:
            flags = chance.sample(FLAGS, 3)
            name, arguments = "flag_email", {"message_ids": keys, "add": flags[:2], "remove": flags[2:]}
        case 2:
            name, arguments = "delete_email", {"message_ids": keys}
        case _:
            name = "draft_email"
            arguments = {"to": ["a@example.org"], "subject": "Hi", "body": "x" * chance.choice((10, 90_000))}
    answer = await bench.call(name, run, caller=caller, mailbox="work", **arguments)
    assert answer.status in ("applied", "failed"), answer
    return answer


def somebody_else(box: Box, chance: random.Random, number: int) -> str:
    """Another mail program: flags a message with a flag that no tool sets here, files it, or destroys it. What it did."""
    places = [folder for folder, _, _, content in box.tree() if message_id(number).encode() in content]
    if not places:
        return ""
    match chance.randrange(5):
        case 0:
            if places[0] == "Kept":
                return ""
            box.move(places[0], message_id(number), "Kept")
            return "filed"
        case 1:
            box.destroy(places[0], message_id(number))
            return "destroyed"
        case _:
            box.flag(places[0], message_id(number), "\\Deleted")
            return "marked"


async def test_random_histories_are_taken_back_exactly(box: Box, tmp_path: Path) -> None:
    box.fill(2)
    bench = await open_bench(box, tmp_path)
    try:
        for seed in range(HISTORIES):
            chance = random.Random(f"imap {seed}")
            before, known = box.tree(), await ids_of(bench)
            run = await bench.start(str(seed))
            answers = [await act(bench, run, chance, known) for _ in range(chance.randrange(1, 7))]
            acted = box.tree()
            assert all(answer.status == "applied" for answer in answers), answers
            back = await bench.back(run_id=run)
            assert back.status == "complete", (seed, back.report)
            assert box.tree() == before, seed
            if not any(step.outcome == "restored" for step in back.steps):
                assert acted == before, "moved to where it lay, or marked as it was"
                with pytest.raises(EngineError, match="changed nothing"):
                    await bench.engine.redo(ALICE, str(back.rollback_id))
                continue
            redone = await bench.engine.redo(ALICE, str(back.rollback_id))
            assert redone.status == "complete", (seed, redone.report)
            assert box.tree() == acted, seed
            again = await bench.engine.redo(ALICE, str(redone.rollback_id))
            assert again.status == "complete", (seed, again.report)
            assert box.tree() == before, seed
    finally:
        await bench.engine.close()


@pytest.mark.parametrize("lacking", ["no move", "no uidplus", "nothing"])
async def test_histories_on_a_server_that_lacks_extensions_are_taken_back_but_for_what_waits_to_be_expunged(
    dovecot_box: Box, tmp_path: Path, lacking: str
) -> None:
    box = dovecot_box.fill(2)
    proxy = Proxy(box.server.port, hide=LACKING[lacking])
    box.port = proxy.port
    bench = await open_bench(box, tmp_path)
    try:
        known = await ids_of(bench)
        for seed in range(max(2, HISTORIES // 3)):
            chance = random.Random(f"imap {lacking} {seed}")
            before = lying(box) if lacking != "no move" else box.tree()
            run = await bench.start(str(seed))
            answers = [await act(bench, run, chance, known) for _ in range(chance.randrange(1, 7))]
            assert all(answer.status == "applied" for answer in answers), answers
            back = await bench.back(run_id=run)
            assert back.status == "complete", (seed, back.report)
            assert (lying(box) if lacking != "no move" else box.tree()) == before, seed
    finally:
        await bench.engine.close()
        proxy.close()


async def test_what_another_mail_program_did_in_between_always_survives(box: Box, tmp_path: Path) -> None:
    outcomes: set[str] = set()
    for seed in range(HISTORIES):
        chance = random.Random(f"imap foreign {seed}")
        box.wipe()
        box.fill(COUNT, (*FOLDERS, "Kept"))
        folder = tmp_path / str(seed)
        folder.mkdir()
        bench = await open_bench(box, folder)
        try:
            known = await ids_of(bench)
            run = await bench.start(str(seed))
            did: dict[int, str] = {}
            for _ in range(chance.randrange(2, 7)):
                await act(bench, run, chance, known)
                number = chance.randrange(1, COUNT + 1)
                if chance.random() < 0.6 and (what := somebody_else(box, chance, number)):
                    did[number] = what
                    if chance.random() < 0.1 and box.server.kind == "pymap":
                        box.made_anew(
                            ODD
                        )  # Dovecot 2.3 loses its own index when a folder that others have open is replaced
            theirs = box.tree()
            try:
                back = await bench.back(run_id=run)
            except EngineError as error:
                assert error.code == "nothing"
                continue
            now = box.tree()
            outcomes |= {step.outcome for step in back.steps}
            assert all(step.outcome != "failed" for step in back.steps), (seed, back.report)
            for number in range(1, COUNT + 1):
                mine = [each for each in now.elements() if message_id(number).encode() in each[3]]
                were = [each for each in theirs.elements() if message_id(number).encode() in each[3]]
                assert len(mine) == len(were), (seed, number, back.report)
                for old, new in zip(were, mine, strict=True):
                    assert new[2:] == old[2:], "INTERNALDATE and bytes"
                    assert ("\\Deleted" in new[1]) == ("\\Deleted" in old[1]), (seed, number, "their mark stays")
                    if did.get(number) == "filed" and old[0] == "Kept":
                        assert new[0] == "Kept", (seed, number, back.report)
        finally:
            await bench.engine.close()
    if HISTORIES >= 20:
        assert {"restored", "merged", "conflict"} <= outcomes


async def test_a_death_at_any_step_is_settled_by_what_is_there(box: Box, tmp_path: Path) -> None:
    before = box.tree()
    # each step on Dovecot; on pymap some of them, and all of them where time is given for many histories
    for at in range(1, 60, 1 if box.server.kind == "dovecot" or HISTORIES >= 20 else 6):
        engine = await Engine.open(settings_of(box, tmp_path))
        bench = Bench(engine, tmp_path)
        run = await bench.start(f"death {at}")
        [first, second, *_] = await ids_of(bench)
        reaper = Reaper(at)
        interpose(engine.core, reaper)
        died = False
        try:
            await bench.call("delete_email", run, mailbox="work", message_ids=[first, second])
            await bench.call("draft_email", run, to=["a@example.org"], subject="Hi", body="x")
            await engine.rollback(ALICE, run_id=run)
        except Died:
            died = True
        except BaseExceptionGroup as several:
            assert several.split(Died)[1] is None
            died = True
        await engine.core.journal.close()  # the process is gone, and what it held with it
        await engine.core.systems["email"].close()  # type: ignore[attr-defined] -- the system of mail
        engine = await Engine.open(settings_of(box, tmp_path))
        try:
            actions = await engine.core.journal.find(ActionView, run_id=RunId(run), oldest_first=True)
            assert all(action.status not in ("intended", "in_doubt") for action in actions), (at, actions)
            if any(action.stands for action in actions):
                assert box.tree() != before
                answer = await engine.rollback(ALICE, run_id=run)
                assert answer.status == "complete", (at, answer.report)
            assert box.tree() == before, at
        finally:
            await engine.close()
        if not died:
            assert at > 8
            return
    pytest.fail("it never came to its end")
