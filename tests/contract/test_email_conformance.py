"""The email tools and their system pass the kit, on a Maildir, with the kernel's own calls and without them."""

import dataclasses

import pytest
import pytest_asyncio
from tests.tools.email import maildirs

from takeback.journal.states import Effect
from takeback.tools.conformance import SystemConformance, ToolConformance, World, kit_services
from takeback.tools.email.act_tools import DeleteEmailTool, FlagEmailTool, MoveEmailTool
from takeback.tools.email.draft_tool import DraftEmailTool
from takeback.tools.email.family import EmailFamily
from takeback.tools.email.read_tools import ListMailboxesTool, ReadEmailTool, SearchEmailTool
from takeback.tools.email.send_tool import ListOutboxTool, SendEmailTool
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.states import state_of
from takeback.tools.system import Swapped


@pytest.fixture(params=["kernel calls", "portable"])
def portable(request):
    return request.param == "portable"


@pytest.fixture
def box(tmp_path):
    return maildirs.filled(tmp_path / "box")


@pytest.fixture
def services(box, tmp_path, portable):
    (tmp_path / "data").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "report.pdf").write_bytes(b"\0\r\nreport\n")
    return dataclasses.replace(
        kit_services(tmp_path),
        roots=(tmp_path / "site",),
        portable_files=portable,
        mailboxes={"work": MailboxSettings(path=box, address="me@example.org")},
    )


@pytest_asyncio.fixture
async def family(services):
    family = await EmailFamily.open(services)
    services.outbox.carriers = {carrier.name: carrier for carrier in family.carriers}
    yield family
    await family.close()
    services.outbox.close()


class EmailTool(ToolConformance):
    @pytest.fixture
    def tool(self, family):
        return next(tool for tool in family.tools if isinstance(tool, self.tool_class))

    @pytest.fixture
    def world(self, box):
        def edit():
            # another mail program gives every message a keyword of its own
            for file in list(box.rglob("*")):
                if file.is_file() and file.parent.name in ("cur", "new"):
                    base, _, info = file.name.partition(":2,")
                    file.rename(file.parent.parent / "cur" / f"{base}:2,{''.join(sorted({*info, 'z'}))}")
            there = len(maildirs.tree(box))
            return lambda: sum("z" in name.rpartition(":")[2] for name in maildirs.tree(box)) == there

        return World(lambda: maildirs.tree(box), foreign_edit=edit)

    @pytest.fixture
    def objects(self, services):
        return services.objects

    @pytest.fixture
    def systems(self, family, services):
        return [*family.systems, services.outbox]


class TestListMailboxes(EmailTool):
    tool_class = ListMailboxesTool
    examples = [{}]


class TestSearchEmail(EmailTool):
    tool_class = SearchEmailTool
    examples = [
        {},
        {"mailbox": "work/INBOX", "query": "number 3", "from": "ANNA", "subject": "grüße", "since": "2023-01-01"},
        {"flags": ["seen"], "limit": 1},
    ]
    refused = [{"mailbox": "nowhere"}, {"mailbox": "work/../x"}, {"since": "tomorrow"}, {"cursor": "x"}]


class TestReadEmail(EmailTool):
    tool_class = ReadEmailTool
    examples = [{"mailbox": "work", "message_id": "2.b.host,S=99"}]
    refused = [
        {"mailbox": "work", "message_id": "../cur/1.a.host"},
        {"mailbox": "work/Sent", "message_id": "1.a.host"},
        {"mailbox": "nowhere", "message_id": "1.a.host"},
    ]


class TestListOutbox(EmailTool):
    tool_class = ListOutboxTool
    examples = [{}]


class TestDraftEmail(EmailTool):
    tool_class = DraftEmailTool
    examples = [
        {"to": ["Anna Berg <anna@example.org>"], "subject": "Grüße", "body": "Hello"},
        {
            "to": ["anna@bücher.example"],
            "subject": "Hi",
            "body": "x" * 70_000,
            "bcc": ["b@example.org"],
            "in_reply_to": "1.a.host",
            "attachments": ["report.pdf"],
        },
    ]
    refused = [
        {"to": ["anna"], "subject": "x", "body": "x"},
        {"to": ["a@example.org"], "subject": "=?utf-8?q?a=0D=0ABcc:_e@x.com?=", "body": "x"},
        {"to": ["a@example.org"], "subject": "x", "body": "x", "attachments": ["../data/journal.db"]},
        {"to": ["a@example.org"], "subject": "x", "body": "x", "in_reply_to": "9.z.host"},
    ]


class TestMoveEmail(EmailTool):
    tool_class = MoveEmailTool
    examples = [
        {"mailbox": "work", "message_ids": ["1.a.host", "2.b.host,S=99", "4.d.host"], "destination": "Archive/2024"},
        {"mailbox": "work", "message_ids": ["3.c.host"], "destination": "work/Trash"},
    ]
    refused = [
        {"mailbox": "work", "message_ids": ["1.a.host"], "destination": "Nowhere"},
        {"mailbox": "work", "message_ids": ["9.z.host"], "destination": "Trash"},
        {"mailbox": "work/Sent", "message_ids": ["1.a.host"], "destination": "Trash"},
        {"mailbox": "work", "message_ids": ["1.a.host", "1.a.host"], "destination": "Trash"},
    ]


class TestFlagEmail(EmailTool):
    tool_class = FlagEmailTool
    examples = [
        {"mailbox": "work", "message_ids": ["1.a.host", "2.b.host,S=99", "5.e.host"], "add": ["flagged"]},
        {"mailbox": "work", "message_ids": ["3.c.host"], "add": ["answered"], "remove": ["seen", "flagged"]},
    ]
    refused = [
        {"mailbox": "work", "message_ids": ["1.a.host"]},
        {"mailbox": "work", "message_ids": ["1.a.host"], "add": ["deleted"]},
    ]


class TestDeleteEmail(EmailTool):
    tool_class = DeleteEmailTool
    examples = [{"mailbox": "work", "message_ids": ["1.a.host", "2.b.host,S=99"]}]
    refused = [{"mailbox": "work", "message_ids": ["9.z.host"]}]


class TestSendEmail(EmailTool):
    tool_class = SendEmailTool
    examples = [
        {"to": ["anna@example.org"], "subject": "Hi", "body": "Hello", "hold_seconds": 60},
        {"to": ["a@example.org"], "cc": ["b@example.org"], "subject": "Hi", "body": "x" * 70_000},
    ]
    refused = [
        {"to": [], "subject": "x", "body": "x"},
        {"to": ["a@example.org"], "subject": "x", "body": "x", "hold_seconds": 1e9},
    ]

    @pytest.fixture
    def world(self, services):
        async def waiting():
            return [row.message for row in await services.outbox.rows(None)]

        return World(waiting)

    async def test_what_others_changed_is_kept(self):
        pytest.skip("nobody else changes what is held; what the sender does with it is tested with the outbox")


class TestMailSystem(SystemConformance):
    @pytest.fixture
    def system(self, family):
        return family.systems[0]

    @pytest.fixture
    def world(self, box):
        return World(lambda: maildirs.tree(box))

    @pytest.fixture
    def missing(self):
        return "work/surely-not-there"

    @pytest_asyncio.fixture
    async def effects(self, system):
        store = system.store("work")
        keys = ["1.a.host", "2.b.host,S=99", "3.c.host"]
        now = await store.look(keys)
        after = [
            store.moved(now[0], "Archive/2024"),
            store.marked(now[1], add=["seen"]),
            store.marked(store.moved(now[2], "Trash"), remove=["flagged"]),
        ]
        return [
            Effect(
                system="email",
                object=f"work/{key}",
                before=state_of("work", key, before),
                after=state_of("work", key, goal),
            )
            for key, before, goal in zip(keys, now, after, strict=True)
        ]

    async def meddle(self, system, name):
        store = system.store("work")
        key = name.partition("/")[2]
        [now] = await store.look([key])
        goal = store.marked(store.moved(now, "Drafts"), add=["answered"])
        effect = Effect(
            system="email", object=name, before=state_of("work", key, now), after=state_of("work", key, goal)
        )
        assert isinstance(await system.swap([effect]), Swapped)

    async def test_of_two_swaps_one_wins(self, system, effects):
        """Two programs move the same message at once: one of them does."""
        import asyncio

        store = system.store("work")
        [now] = await store.look(["1.a.host"])
        goal = state_of("work", "1.a.host", store.moved(now, "Drafts"))
        other = effects[0].model_copy(update={"after": goal})
        answers = await asyncio.gather(system.swap([effects[0]]), system.swap([other]))
        assert sum(isinstance(answer, Swapped) for answer in answers) == 1

    async def test_merge_never_loses_a_foreign_change(self, system, world, effects):
        """What somebody did with the messages meanwhile stays: their folder and their flags."""
        there = await self.swapped(system, effects)
        for effect in there:
            await self.meddle(system, effect.object)
        theirs = await world.look()
        wanted = [effect.reversed() for effect in reversed(there)]
        answer = await system.merge(wanted, await system.look([effect.object for effect in wanted]))
        assert await world.look() == theirs
        assert "somebody moved it to Drafts" in answer.why
        flagged = next(effect for effect in wanted if effect.object.startswith("work/2."))
        alone = await system.merge([flagged], await system.look([flagged.object]))
        await self.swapped(system, alone.effects)
        assert ".Drafts/cur/2.b.host,S=99:2,R" in await world.look()
