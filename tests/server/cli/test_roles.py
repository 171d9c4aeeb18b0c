"""Roles: whose runs somebody may look at, answer for and take back at the command line."""

from __future__ import annotations

import pytest

from takeback.journal.events import Caller
from takeback.journal.guarding import HOLDS, ScopeContained, ScopeReleased
from takeback.journal.ids import RunId
from takeback.server.engine.engine import Call, Engine
from takeback.server.principal import local_principal
from takeback.server.roles import RoleSettings

BOB = Caller(principal="token:bob", client="bobs-agent", client_version="1")
ME = local_principal()


def with_role(desk, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    import json

    monkeypatch.setenv(f"TAKEBACK_ROLES__{role.upper()}", json.dumps([ME]))


def bobs_run(desk) -> str:
    return desk.agent(("write_file", {"path": "bob.txt", "content": "Bob's\n"}), caller=BOB)


def accesses(desk, run: str) -> list[tuple[str, str, str]]:
    async def read(engine: Engine) -> list[tuple[str, str, str]]:
        events = await engine.core.journal.read(RunId(run))
        return [
            (each.event.by, each.event.role, each.event.purpose)
            for each in events
            if each.event is not None and each.event.type == "run.accessed"
        ]

    return desk.ask(read)


LOOK = (("show", "{run}"), ("diff", "{run}"), ("checkpoints", "{run}"))
DECIDE = (
    ("contain", "{run}", "--reason", "it loops"),
    ("take", "{run}"),
    ("recover", "{run}", "--yes"),
    ("rollback", "{run}", "--yes"),
)


def filled(words: tuple[str, ...], run: str) -> list[str]:
    return [word.format(run=run) for word in words]


@pytest.mark.parametrize("words", LOOK + DECIDE, ids=lambda words: words[0])
def test_without_a_role_the_runs_of_others_do_not_exist(desk, words: tuple[str, ...]) -> None:
    run = bobs_run(desk)
    assert desk(*filled(words, run)).code == 3
    assert desk("runs", "--json").json["runs"] == []
    assert accesses(desk, run) == []
    assert (desk.site / "bob.txt").exists()


@pytest.mark.parametrize("words", LOOK, ids=lambda words: words[0])
def test_an_auditor_looks_at_everybodys_runs_and_the_run_says_so(desk, monkeypatch, words: tuple[str, ...]) -> None:
    run = bobs_run(desk)
    with_role(desk, monkeypatch, "auditors")
    assert [each["run_id"] for each in desk("runs", "--principal", BOB.principal, "--json").json["runs"]] == [run]
    assert desk(*filled(words, run)).code == 0
    assert accesses(desk, run) == [(ME, "auditor", "look")]


def test_runs_of_one_principal_are_found_behind_any_number_of_others(desk, monkeypatch) -> None:
    runs = [bobs_run(desk)]
    with_role(desk, monkeypatch, "auditors")
    desk.agent()
    desk.agent()
    found = desk("runs", "--principal", BOB.principal, "--limit", "1", "--json").json
    assert [each["run_id"] for each in found["runs"]] == runs
    assert found["cursor"] is None


@pytest.mark.parametrize("words", DECIDE, ids=lambda words: words[0])
def test_an_auditor_decides_nothing(desk, monkeypatch, words: tuple[str, ...]) -> None:
    run = bobs_run(desk)
    with_role(desk, monkeypatch, "auditors")
    assert desk(*filled(words, run)).code == 3
    assert (desk.site / "bob.txt").exists()


@pytest.mark.parametrize("words", DECIDE, ids=lambda words: words[0])
def test_an_operator_decides_about_everybodys_runs_and_the_run_says_so(
    desk, monkeypatch, words: tuple[str, ...]
) -> None:
    run = bobs_run(desk)
    with_role(desk, monkeypatch, "operators")
    answered = desk(*filled(words, run))
    assert answered.code == 0, answered.err
    assert (ME, "operator", "decide") in accesses(desk, run)
    assert (desk.site / "bob.txt").exists() == (words[0] in ("contain", "take"))


def test_what_an_operator_takes_back_by_time_or_number_is_their_own(desk, monkeypatch) -> None:
    bobs_run(desk)
    with_role(desk, monkeypatch, "operators")
    assert desk("rollback", "--since", "1h", "--yes").code == 3
    assert desk("rollback", "--last", "1", "--yes").code == 3
    assert (desk.site / "bob.txt").exists()


@pytest.mark.parametrize(("role", "code"), [("auditors", 3), ("approvers", 0), ("operators", 0)])
def test_questions_of_others_are_answered_by_whoever_has_the_role(desk, monkeypatch, role: str, code: int) -> None:
    rules = desk.settings.data.parent / "policy.yaml"
    rules.write_text("version: 1\nrules:\n  - {id: all, when: {tools: [write_file]}, then: ask}\n")
    settings = desk.settings.model_copy(update={"policy": desk.settings.policy.model_copy(update={"file": rules})})
    desk.settings = settings
    bobs_run(desk)
    [asked] = desk.answers
    assert asked.status == "pending_approval"
    with_role(desk, monkeypatch, role)
    assert bool(desk("approvals", "--json").json["approvals"]) == (code == 0)
    assert desk("approve", asked.approval_id, "--yes").code == code
    desk.again(("write_file", {"path": "bob.txt", "content": "Bob's\n"}), caller=BOB)
    assert desk.answers[-1].status == ("applied" if code == 0 else "pending_approval")


def test_a_run_that_an_operator_recovers_goes_on_as_its_owners(desk, monkeypatch) -> None:
    run = bobs_run(desk)
    with_role(desk, monkeypatch, "operators")
    resumed = desk("recover", run, "--scope", "*", "--yes", "--json").json["resumed"]["run_id"]

    async def act(engine: Engine) -> str:
        call = Call("write_file", {"path": "bob.txt", "content": "again\n"}, BOB, run_id=resumed)
        return (await engine.call(call)).status

    assert desk.ask(act) == "applied"


def test_an_agent_has_no_role_whatever_its_principal(desk, monkeypatch) -> None:
    run = bobs_run(desk)
    desk.settings = desk.settings.model_copy(update={"roles": RoleSettings(operators=(ME,))})

    async def act(engine: Engine) -> list[str]:
        me = Caller(principal=ME, client="takeback", client_version="1")  # whatever a client calls itself
        page = await engine.list_runs(me)
        return [each.run_id for each in page.runs]

    assert run not in desk.ask(act)


# -- holds: wider than a run ------------------------------------------------------------------------------------------------

WIDE = (("--tool", "write_file"), ("--system", "files"), ("--principal", BOB.principal))


def holds_heard(desk) -> list[tuple[str, str, str]]:
    async def read(engine: Engine) -> list[tuple[str, str, str]]:
        events = [each.event for each in await engine.core.journal.read(HOLDS)]
        return [
            (event.type, event.by, event.role) for event in events if isinstance(event, ScopeContained | ScopeReleased)
        ]

    return desk.ask(read)


@pytest.mark.parametrize("role", ["auditors", "approvers"])
@pytest.mark.parametrize("scope", WIDE, ids=lambda scope: scope[0])
def test_where_roles_are_given_only_an_operator_holds_what_concerns_others(
    desk, monkeypatch, role: str, scope: tuple[str, str]
) -> None:
    bobs_run(desk)
    with_role(desk, monkeypatch, role)
    refused = desk("contain", *scope, "--reason", "odd")
    assert refused.code == 4 and "no operator" in refused.err and holds_heard(desk) == []
    with_role(desk, monkeypatch, "operators")
    assert desk("contain", *scope, "--reason", "odd").code == 0
    monkeypatch.delenv("TAKEBACK_ROLES__OPERATORS")
    assert desk("release", *scope).code == 4, "what an operator holds an auditor does not let go"
    with_role(desk, monkeypatch, "operators")
    assert desk("release", *scope).code == 0
    assert holds_heard(desk) == [("scope.contained", ME, "operator"), ("scope.released", ME, "operator")]


def contained_by(desk, by: str) -> None:
    async def hold(engine: Engine) -> None:
        event = ScopeContained(
            run_id=HOLDS, at=engine.core.now(), kind="principal", name=ME, reason="too much", by=by, role=""
        )
        await engine.core.journal.append([event])

    desk.ask(hold)


@pytest.mark.parametrize(("by", "code"), [(ME, 0), ("trigger:principal_radius", 0), (BOB.principal, 4)])
def test_everybody_may_let_themselves_go_unless_somebody_else_contained_them(
    desk, monkeypatch, by: str, code: int
) -> None:
    bobs_run(desk)
    with_role(desk, monkeypatch, "auditors")
    contained_by(desk, by)
    assert desk("contain", "--principal", ME, "--reason", "mine now").code == code
    assert desk("release", "--principal", ME).code == code


def test_without_roles_whoever_is_at_the_command_line_decides(desk) -> None:
    bobs_run(desk)
    for scope in WIDE:
        assert desk("contain", *scope, "--reason", "odd").code == 0
        assert desk("release", *scope).code == 0
    assert {role for _, _, role in holds_heard(desk)} == {""}
