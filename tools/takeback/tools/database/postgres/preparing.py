"""`takeback db prepare` and `unprepare`: install and remove the triggers that write down what changes (`triggers.py`).

What is installed: a schema `takeback` with a log and its functions, and a trigger on each table that the role owns. They sleep
unless a transaction of takeback wakes them, and write down each changed row as one text. TRUNCATE is seen otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from takeback.tools.database.postgres import triggers
from takeback.tools.database.postgres.catalog import TableInfo, all_tables
from takeback.tools.database.postgres.connecting import FIXED, Connections, fix
from takeback.tools.database.postgres.driver import Connection, identifier, literal
from takeback.tools.database.postgres.failures import Lost, ServerFailure, as_target
from takeback.tools.database.postgres.threads import Watch
from takeback.tools.system import Refused, Unavailable

LISTED: Final = 10_000
_SET: Final = " ".join(
    f"SET {name} = '{value}'" if name != "search_path" else "SET search_path = pg_catalog, pg_temp"
    for name, value in FIXED
    if name not in ("row_security", "standard_conforming_strings", "default_transaction_read_only")
)
_SCHEMA: Final = (
    "CREATE SCHEMA takeback",
    "GRANT USAGE ON SCHEMA takeback TO PUBLIC",
    "CREATE UNLOGGED TABLE takeback.changes"
    " (n bigint GENERATED ALWAYS AS IDENTITY, xid xid8 NOT NULL, tab oid NOT NULL, old boolean NOT NULL, image text NOT NULL)",
    "CREATE INDEX ON takeback.changes (xid, tab)",
    f"""CREATE FUNCTION takeback.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {_SET} AS $note$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO takeback.changes (xid, tab, old, image) VALUES (pg_current_xact_id(), TG_RELID, true, (OLD.*)::text);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO takeback.changes (xid, tab, old, image) VALUES (pg_current_xact_id(), TG_RELID, false, (NEW.*)::text);
  END IF;
  RETURN NULL;
END $note$""",
    # a transaction reads what it wrote itself, and nothing of anybody else's
    f"""CREATE FUNCTION takeback.log(which oid) RETURNS TABLE (old boolean, image text) LANGUAGE sql STABLE
  SECURITY DEFINER {_SET} AS $log$
  SELECT old, image FROM takeback.changes WHERE xid = pg_current_xact_id_if_assigned() AND tab = which ORDER BY n $log$""",
    f"""CREATE FUNCTION takeback.forget() RETURNS void LANGUAGE sql SECURITY DEFINER {_SET} AS $forget$
  DELETE FROM takeback.changes WHERE xid = pg_current_xact_id_if_assigned() $forget$""",
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What would be, or was, done."""

    database: str
    done: bool
    installed: tuple[str, ...]
    """Tables that get triggers."""
    armed: tuple[str, ...]
    """Tables that have them already."""
    left_out: tuple[tuple[str, str], ...]
    """Tables that cannot have any, and why."""
    removed: tuple[str, ...] = ()


def prepare(connections: Connections, *, act: bool) -> Preparation:
    """Install the triggers, or say what would be installed.

    :raises TargetError: it cannot be done.
    """

    def work(connection: Connection) -> Preparation:
        tables = all_tables(connection, LISTED, connections.settings.graveyard)
        armed = _armed(connection)
        fresh: list[TableInfo] = []
        left: list[tuple[str, str]] = []
        for info in tables:
            if info.kind != "r" or info.oid in armed:
                continue
            if not info.owned:
                left.append((info.shown, "the role does not own it"))
            else:
                fresh.append(info)
        if act:
            _install(connection, fresh)
        return Preparation(
            connections.name,
            act,
            tuple(info.shown for info in fresh),
            tuple(info.shown for info in tables if info.oid in armed),
            tuple(left),
        )

    return _run(connections, work, "It cannot be prepared")


def unprepare(connections: Connections, *, act: bool) -> Preparation:
    """Remove the triggers and the schema, or say what would be removed.

    :raises TargetError: it cannot be done.
    """

    def work(connection: Connection) -> Preparation:
        armed = _armed(connection)
        tables = [info for info in all_tables(connection, LISTED, connections.settings.graveyard) if info.oid in armed]
        if act:
            for info in tables:
                connection.run(f"DROP TRIGGER IF EXISTS {identifier(triggers.TRIGGER)} ON {info.sql}")
            if _theirs(connection) is not None:
                connection.run("DROP SCHEMA takeback CASCADE")
        return Preparation(connections.name, act, (), (), (), tuple(info.shown for info in tables))

    return _run(connections, work, "It cannot be taken out")


def _install(connection: Connection, tables: list[TableInfo]) -> None:
    comment = _theirs(connection)
    if comment is None:
        for statement in _SCHEMA:
            connection.run(statement)
        connection.run(f"COMMENT ON SCHEMA takeback IS{literal(triggers.comment())}")
    elif comment != triggers.comment():
        raise Refused(
            "There is a schema takeback already that this version did not make.",
            advice="Run takeback db unprepare with the version that made it, or rename the schema.",
        )
    for info in tables:
        row = identifier(triggers.TRIGGER)
        connection.run(
            f"CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {info.sql} FOR EACH ROW"
            " WHEN (pg_catalog.current_setting('takeback.active', true) = '1') EXECUTE FUNCTION takeback.note()"
        )
        # whatever a function does with session_replication_role, they see it
        connection.run(f"ALTER TABLE {info.sql} ENABLE ALWAYS TRIGGER {row}")


def _theirs(connection: Connection) -> str | None:
    rows = connection.rows("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'takeback'")
    return (rows[0][0] or "") if rows else None


def _armed(connection: Connection) -> set[int]:
    return {
        int(oid or 0)
        for (oid,) in connection.rows("SELECT tgrelid FROM pg_trigger WHERE tgname = $1", [triggers.TRIGGER])
    }


def _run(connections: Connections, work: Callable[[Connection], Preparation], doing: str) -> Preparation:
    watch = Watch()
    try:
        with connections.use(watch) as connection:
            connection.run("BEGIN")
            fix(connection)
            done = work(connection)
            connection.run("COMMIT" if done.done else "ROLLBACK")
            return done
    except ServerFailure as error:
        raise as_target(error, doing) from error
    except Lost as error:
        raise Unavailable(f"{doing}: {error}", advice="Try again.") from error
