"""PostgreSQL behind the whole engine: what others did since stays, deaths at any step, a server that dies around COMMIT."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres_server import Server, drop, fresh, server
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.database.postgres.world import build, difference, dump

from takeback.checkpoints.retention import collect
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.views import ActionView, RollbackView, RunView
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.database.postgres import execution
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.system import DatabaseSystem


class Shop:
    """A database, a person at psql, and engines on one data directory."""

    def __init__(self, running: Server, name: str, folder: Path) -> None:
        self.server, self.name, self.folder = running, name, folder
        self.engines: list[Engine] = []

    def person(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.url(self.name), autocommit=True)

    def sql(self, text: str) -> list[Any]:
        with self.person() as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def dump(self) -> dict[str, Any]:
        with self.person() as connection:
            return dump(connection)

    async def bench(self, **settings: Any) -> Bench:
        url = self.server.url(self.name, settings.pop("user", "agent"))
        options = settings_for(
            self.folder, tools=ToolSettings(), databases={"shop": DatabaseSettings(url=url, **settings)}
        )
        engine = await Engine.open(options)
        engine.core.retry_pauses = (0.0, 0.0)
        self.engines.append(engine)
        return Bench(engine, self.folder / "work")


@pytest.fixture
async def shop(tmp_path: Path) -> Any:
    running = server(18)
    name = fresh(running)
    with psycopg.connect(running.url(name), autocommit=True) as connection:
        build(connection)
    made = Shop(running, name, tmp_path)
    yield made
    for engine in made.engines:
        await engine.close()
    drop(running, name)


async def sql(bench: Bench, run: str, text: str, **more: Any) -> Any:
    return await bench.call("execute_sql", run, database="shop", sql=text, **more)


async def test_a_run_is_taken_back_around_what_a_person_did(shop: Shop) -> None:
    bench = await shop.bench()
    run = await bench.start()
    for text in (
        "update ruled set v = 'ours' where id in (1, 2)",
        'update odd set t = \'ours\' where "Ünï ""code" = 4',
        "insert into loose values (8, 'ours')",
        "delete from parts where id = 1",
    ):
        assert (await sql(bench, run, text)).status == "applied"
    shop.sql("update ruled set v = 'theirs' where id = 1")
    shop.sql('update odd set _t = \'theirs\' where "Ünï ""code" = 4')
    shop.sql("insert into loose values (8, 'ours')")
    answer = await bench.back(run_id=run)
    outcomes = {step.object: step.outcome for step in answer.steps}
    assert answer.status == "partial"
    assert sorted(outcomes.values()) == ["conflict", "merged", "merged", "restored"]
    assert shop.sql("select v from ruled where id in (1, 2) order by id") == [("theirs",), ("ours",)]
    assert shop.sql('select t, _t from odd where "Ünï ""code" = 4') == [(None, "theirs")]
    assert shop.sql("select count(*) from loose where b = 'ours'") == [(1,)]
    [item] = await bench.engine.open_items(ALICE, run_id=run)
    resolved = await bench.engine.resolve_conflict(ALICE, str(item.conflict_id), "ours")
    assert resolved.status in ("resolved", "complete", "restored", "applied") or resolved is not None
    assert shop.sql("select v from ruled where id in (1, 2) order by id") == [("r1",), ("r2",)] or shop.sql(
        "select v from ruled where id in (1, 2) order by id"
    ) == [("r1",), ("ours",)]


async def test_a_dropped_table_waits_as_long_as_the_journal_needs_it(shop: Shop) -> None:
    bench = await shop.bench()
    core = bench.engine.core
    assert isinstance(core.objects, FileObjectStore)
    run = await bench.start()
    dropped = await sql(bench, run, "drop table optional")
    assert dropped.status == "applied"
    graves = "select count(*) from pg_namespace where nspname like 'takeback_graveyard%'"
    at_once, systems = {"keep_days": 30.0, "grace_seconds": -1e6}, tuple(core.systems.values())
    much_later = core.now() + timedelta(days=400)
    kept = await collect(core.journal, core.objects, systems, now=much_later, **at_once)
    assert not kept.problems and shop.sql(graves) == [(1,)], "the run is open"
    await bench.engine.finish_run(ALICE, run)
    await collect(core.journal, core.objects, systems, now=core.now(), **at_once)
    assert shop.sql(graves) == [(1,)], "a month has not passed"
    gone = await collect(core.journal, core.objects, systems, now=much_later, **at_once)
    assert not gone.problems and gone.trash_bytes > 0 and shop.sql(graves) == [(0,)]
    answer = await bench.back(actions=[str(dropped.action_id)])
    [step] = answer.steps
    assert step.outcome == "conflict" and "removed for good" in step.why, step


async def test_chosen_actions_are_taken_back_alone(shop: Shop) -> None:
    bench = await shop.bench()
    run = await bench.start()
    first = await sql(bench, run, "update ruled set v = 'one' where id = 1")
    await sql(bench, run, "update ruled set v = 'two' where id = 2")
    answer = await bench.back(actions=[str(first.action_id)])
    assert answer.status == "complete"
    assert shop.sql("select v from ruled where id in (1, 2) order by id") == [("r1",), ("two",)]


async def test_a_dry_run_shows_rows_and_does_nothing(shop: Shop) -> None:
    bench = await shop.bench()
    run = await bench.start()
    before = shop.dump()
    answer = await sql(bench, run, "update ruled set v = 'x' where id < 3", dry_run=True)
    assert answer.status == "shadowed" and "ruled: 2 rows updated" in answer.summary
    assert "- id=1, v=r1\n+ id=1, v=x" in answer.preview[0]
    assert difference(before, shop.dump()) == ""


async def test_a_run_in_shadow_mode_changes_nothing_but_the_counters_that_it_names(shop: Shop) -> None:
    bench = await shop.bench()
    run = await bench.start(mode="shadow")
    before = shop.dump()
    answer = await sql(bench, run, "insert into audit (what) select 'x' from generate_series(1, 3)")
    assert answer.status == "shadowed", answer.error
    assert any("audit_id_seq" in text for text in answer.preview), answer.preview
    changed = difference(before, shop.dump())
    assert all("audit_id_seq" in line for line in changed.splitlines() if line), changed


async def test_what_cannot_be_taken_back_waits_for_a_person_and_consent_lasts_until_it_is_used(shop: Shop) -> None:
    bench = await shop.bench()
    run = await bench.start()
    text = "alter table audit add column more int default nextval('orders_id_seq')"
    asked = await sql(bench, run, text)
    assert asked.status == "pending_approval" and "cannot be put back" in asked.question
    await bench.engine.approve(ALICE, asked.approval_id, lane="test")
    done = await sql(bench, run, text)
    assert done.status == "applied" and done.reversibility == "irreversible", done
    answer = await bench.back(run_id=run)
    assert [step.outcome for step in answer.steps] == ["irreversible"]


async def test_without_the_right_the_call_is_compensable_and_is_made_up_for(shop: Shop) -> None:
    with shop.server.admin(shop.name) as admin:
        admin.execute("grant all on all tables in schema public to plain")
        admin.execute("grant all on all sequences in schema public to plain")
    bench = await shop.bench(user="plain")
    run = await bench.start()
    asked = await sql(bench, run, "update orders set note = 'x' where id = 1")
    assert asked.status == "pending_approval" and "run again" in asked.question
    await bench.engine.approve(ALICE, asked.approval_id, lane="test")
    done = await sql(bench, run, "update orders set note = 'x' where id = 1")
    assert done.status == "applied" and done.reversibility == "compensable", done.error
    answer = await bench.back(run_id=run)
    assert [step.outcome for step in answer.steps] == ["compensated"], answer
    assert shop.sql("select note from orders where id = 1") == [("o1",)]


async def test_a_death_at_any_step_is_settled_truthfully(shop: Shop) -> None:
    async def act(bench: Bench, run: str) -> None:
        await sql(bench, run, "update ruled set v = 'ours' where id = 1")
        await sql(bench, run, "delete from customers where id = 1")
        await bench.back(run_id=run)

    with shop.person() as connection:
        start = {name: value for name, value in dump(connection).items() if not name.startswith("counter ")}
    for n in range(1, 60):
        bench = await shop.bench()
        run = await bench.start()
        reaper = Reaper(n)
        interpose(bench.engine.core, reaper)
        try:
            await act(bench, run)
        except Died:
            pass
        except BaseExceptionGroup as group:
            if group.split(Died)[1] is not None:
                raise
        await _kill(bench)
        survivor = await shop.bench()
        for action in await survivor.engine.core.journal.find(ActionView):
            assert action.status not in ("intended", "in_doubt"), (n, action.status)
        for one in await survivor.engine.core.journal.find(RunView):
            assert one.status != "sealed", n
        for rollback in await survivor.engine.core.journal.find(RollbackView):
            assert rollback.status != "running", n
        standing = [action for action in await survivor.engine.core.journal.find(ActionView) if action.stands]
        assert bool(standing) == (shop.sql("select v from ruled where id = 1") == [("ours",)]), n
        if standing:
            assert (await survivor.back(run_id=run)).status == "complete", n
        with shop.person() as connection:
            now = {name: value for name, value in dump(connection).items() if not name.startswith("counter ")}
        assert now == start, (n, difference(start, now))
        if not reaper.dead:
            assert n > 10
            return
    raise AssertionError("the scenario never ran through")


async def _kill(bench: Bench) -> None:
    # the process is gone, and its connections with it
    system = bench.engine.core.systems["database"]
    assert isinstance(system, DatabaseSystem)
    await system.close()


async def test_what_others_did_after_a_death_does_not_hide_that_it_happened(shop: Shop) -> None:
    bench = await shop.bench()
    run = await bench.start()
    reaper = Reaper(2)  # dies when the outcome is to be written
    interpose(bench.engine.core, reaper)
    with pytest.raises(BaseException):  # noqa: B017 -- a death is no error of any class
        await sql(bench, run, "update ruled set v = 'ours', id = 50 where id = 1")
    await _kill(bench)
    there = shop.sql("select v from ruled where id = 50")
    shop.sql("update ruled set v = 'theirs' where id = 50")
    survivor = await shop.bench()
    [action] = await survivor.engine.core.journal.find(ActionView)
    assert (action.status == "applied") == bool(there), action.status


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_backend_that_is_terminated_around_commit_is_settled(
    shop: Shop, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await shop.bench()
    run = await bench.start()
    real = execution.commit

    def cut(opened: Any) -> None:
        run_ = opened.connection.run

        def dying(text: str, parameters: Any = ()) -> Any:
            if text != "COMMIT":
                return run_(text, parameters)
            answer = run_(text, parameters) if when == "after" else None
            opened.connection.close()
            with shop.server.admin(shop.name) as admin:
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'agent' and state like 'idle in%'"
                )
            del answer
            raise execution.Lost("cut")

        opened.connection.run = dying
        real(opened)

    monkeypatch.setattr(execution, "commit", cut)
    answer = await sql(bench, run, "update ruled set v = 'ours' where id = 1")
    there = shop.sql("select v from ruled where id = 1") == [("ours",)]
    assert there == (when == "after")
    assert answer.status == ("applied" if there else "failed"), answer
    monkeypatch.undo()
    if there:
        assert (await bench.back(run_id=run)).status == "complete"
    assert shop.sql("select v from ruled where id = 1") == [("r1",)]


@pytest.fixture
def durable() -> Iterator[Server]:
    yield server(18, durable=True)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_server_killed_around_commit_is_settled_after_its_restart(
    durable: Server, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = fresh(durable)
    with psycopg.connect(durable.url(name), autocommit=True) as connection:
        build(connection)
    shop = Shop(durable, name, tmp_path)
    monkeypatch.setattr(execution, "SETTLING_SECONDS", 0.0)
    bench = await shop.bench()
    run = await bench.start()
    real = execution.commit

    def cut(opened: Any) -> None:
        run_ = opened.connection.run

        def dying(text: str, parameters: Any = ()) -> Any:
            if text == "COMMIT" and when == "before":
                durable.kill()
            answer = run_(text, parameters)
            if text == "COMMIT":
                durable.kill()
                raise execution.Lost("cut")
            return answer

        opened.connection.run = dying
        real(opened)

    monkeypatch.setattr(execution, "commit", cut)
    answer = await sql(bench, run, "update ruled set v = 'ours' where id = 1")
    assert answer.status == "in_doubt", answer
    durable.start()
    monkeypatch.undo()
    await bench.engine.close()
    survivor = await shop.bench()
    [action] = await survivor.engine.core.journal.find(ActionView)
    there = shop.sql("select v from ruled where id = 1") == [("ours",)]
    assert there == (when == "after")
    assert action.status == ("applied" if there else "not_applied")
    if there:
        assert (await survivor.back(run_id=run)).status == "complete"
    assert shop.sql("select v from ruled where id = 1") == [("r1",)]
    await survivor.engine.close()
    drop(durable, name)


async def test_a_number_that_was_given_once_more_after_a_crash_is_not_taken_for_ours(
    durable: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = fresh(durable)
    with psycopg.connect(durable.url(name), autocommit=True) as connection:
        build(connection)
    shop = Shop(durable, name, tmp_path)
    monkeypatch.setattr(execution, "SETTLING_SECONDS", 0.0)
    with durable.admin(name) as admin:  # so that nothing of a transaction reaches the disk before its COMMIT
        admin.execute("alter system set wal_writer_delay = '10s'")
        admin.execute("select pg_reload_conf()")
        admin.execute("checkpoint")
    bench = await shop.bench()
    run = await bench.start()
    real, ours = execution.commit, list[int]()

    def cut(opened: Any) -> None:
        run_ = opened.connection.run
        ours.append(int(opened.xid.partition("@")[0]))

        def dying(text: str, parameters: Any = ()) -> Any:
            if text == "COMMIT":
                durable.kill()
            return run_(text, parameters)

        opened.connection.run = dying
        real(opened)

    monkeypatch.setattr(execution, "commit", cut)
    assert (await sql(bench, run, "update ruled set v = 'ours' where id = 1")).status == "in_doubt"
    durable.start()
    monkeypatch.undo()
    await bench.engine.close()
    [(given,)] = shop.sql("insert into ruled values (1000, 'theirs') returning pg_current_xact_id()::text")
    assert int(given) == ours[0]
    survivor = await shop.bench()
    [action] = await survivor.engine.core.journal.find(ActionView)
    assert action.status == "not_applied", action
    assert shop.sql("select v from ruled where id = 1") == [("r1",)]
    await survivor.engine.close()
    with durable.admin(name) as admin:
        admin.execute("alter system reset wal_writer_delay")
        admin.execute("select pg_reload_conf()")
    drop(durable, name)


async def test_idle_connections_survive_a_restart_of_the_server(durable: Server, tmp_path: Path) -> None:
    name = fresh(durable)
    with psycopg.connect(durable.url(name), autocommit=True) as connection:
        build(connection)
    shop = Shop(durable, name, tmp_path)
    bench = await shop.bench()
    run = await bench.start()
    assert (await sql(bench, run, "update ruled set v = 'ours' where id = 1")).status == "applied"
    durable.kill()
    durable.start()
    assert (await sql(bench, run, "update ruled set v = 'ours' where id = 2")).status == "applied"
    assert (await bench.back(run_id=run)).status == "complete"
    await bench.engine.close()
    drop(durable, name)
