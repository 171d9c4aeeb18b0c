"""The mail system passes the kit on real servers, and the tools on them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from tests.tools.email.imap.boxes import ODD, Box, message_id
from tests.tools.email.imap.test_store import keys_of

from takeback.journal.states import Effect
from takeback.tools.conformance import SystemConformance, ToolConformance, World, kit_services
from takeback.tools.contract import Tool
from takeback.tools.email.act_tools import DeleteEmailTool, FlagEmailTool, MoveEmailTool
from takeback.tools.email.draft_tool import DraftEmailTool
from takeback.tools.email.family import EmailFamily
from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.states import state_of
from takeback.tools.email.system import MailSystem
from takeback.tools.registry import Services
from takeback.tools.system import Swapped


@pytest.fixture
def services(box: Box, tmp_path: Path) -> Services:
    (tmp_path / "data").mkdir()
    return dataclasses.replace(kit_services(tmp_path), mailboxes={"work": box.settings()})


@pytest_asyncio.fixture
async def family(services: Services) -> AsyncIterator[EmailFamily]:
    family = await EmailFamily.open(services)
    yield family
    await family.close()
    services.outbox.close()  # type: ignore[attr-defined] -- the kit's own


def store_of(system: MailSystem) -> ImapStore:
    store = system.store("work")
    assert isinstance(store, ImapStore)
    return store


class TestMailSystem(SystemConformance):
    @pytest.fixture
    def system(self, family: EmailFamily) -> MailSystem:
        [system] = family.systems
        assert isinstance(system, MailSystem)
        return system

    @pytest.fixture
    def world(self, box: Box) -> World:
        return World(box.tree)

    @pytest.fixture
    def missing(self) -> str:
        return "work/1.999.INBOX"

    @pytest_asyncio.fixture
    async def effects(self, system: MailSystem) -> Sequence[Effect]:
        store = store_of(system)
        keys = await keys_of(store)
        three = [keys[message_id(number)] for number in (1, 2, 4)]
        now = [place for place in await store.look(three) if place is not None]
        after = [
            store.moved(now[0], ODD),
            store.marked(now[1], add=["answered"]),
            store.marked(store.moved(now[2], "Trash"), add=["flagged"]),
        ]
        return [
            Effect(
                system="email",
                object=f"work/{key}",
                before=state_of("work", key, before),
                after=state_of("work", key, goal),
            )
            for key, before, goal in zip(three, now, after, strict=True)
        ]

    async def meddle(self, system: MailSystem, name: str) -> None:  # type: ignore[override] -- a system of mail here
        store = store_of(system)
        key = name.partition("/")[2]
        [now] = await store.look([key])
        assert now is not None
        goal = store.marked(store.moved(now, "Drafts"), add=["draft"])
        effect = Effect(
            system="email", object=name, before=state_of("work", key, now), after=state_of("work", key, goal)
        )
        assert isinstance(await system.swap([effect]), Swapped)

    async def test_of_two_swaps_one_wins(self, system: MailSystem, effects: Sequence[Effect]) -> None:  # type: ignore[override] -- as above
        """Two programs move the same message at once: one of them does."""
        key = effects[0].object.partition("/")[2]
        store = store_of(system)
        [now] = await store.look([key])
        assert now is not None
        other = effects[0].model_copy(update={"after": state_of("work", key, store.moved(now, "Drafts"))})
        answers = await asyncio.gather(system.swap([effects[0]]), system.swap([other]))
        assert sum(isinstance(answer, Swapped) for answer in answers) == 1

    async def test_crash_at_any_line_of_swap_can_be_settled(self) -> None:
        pytest.skip("a swap of mail has several steps; test_lost_connections dies at each of them")

    async def test_merge_never_loses_a_foreign_change(self) -> None:
        pytest.skip("mail has no content to merge; test_histories shows what others did surviving")


class EmailTool(ToolConformance):
    """With an example that is known only when the mailbox is there."""

    @pytest.fixture
    def box(self, dovecot_box: Box) -> Box:
        return dovecot_box

    @pytest.fixture
    def tool(self, family: EmailFamily) -> Tool:  # type: ignore[type-arg] -- any of them
        return next(tool for tool in family.tools if isinstance(tool, self.tool_class))

    @pytest.fixture
    def world(self, box: Box) -> World:
        def edit() -> Callable[[], bool]:
            for number in range(1, 7):
                box.flag("Archive" if number % 3 == 0 else "INBOX", message_id(number), "\\Deleted")
            there = sum("\\Deleted" in each[1] for each in box.tree().elements())
            return lambda: sum("\\Deleted" in each[1] for each in box.tree().elements()) == there

        return World(box.tree, foreign_edit=edit)

    @pytest.fixture
    def objects(self, services: Services) -> object:
        return services.objects

    @pytest.fixture
    def systems(self, family: EmailFamily, services: Services) -> list[object]:
        return [*family.systems, services.outbox]


class TestDraftEmail(EmailTool):
    tool_class = DraftEmailTool
    examples = [{"to": ["Anna Berg <anna@example.org>"], "subject": "Grüße", "body": "Hello"}]
    refused = [{"to": ["a@example.org"], "subject": "x", "body": "x", "in_reply_to": "1.999.INBOX"}]


@pytest.mark.parametrize("tool_class", [MoveEmailTool, FlagEmailTool, DeleteEmailTool])
async def test_an_id_that_leads_nowhere_is_refused(family: EmailFamily, tool_class: type) -> None:
    from takeback.tools.contract import ToolError

    tool = next(tool for tool in family.tools if isinstance(tool, tool_class))
    more = {"destination": "Trash"} if tool_class is MoveEmailTool else {}
    more |= {"add": ["seen"]} if tool_class is FlagEmailTool else {}  # type: ignore[dict-item] -- arguments of any kind
    arguments = tool.arguments.model_validate({"mailbox": "work", "message_ids": ["1.999.INBOX"], **more})
    with pytest.raises(ToolError, match="no message"):
        await tool.prepare(arguments, None)
