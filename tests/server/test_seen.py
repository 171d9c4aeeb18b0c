"""What an agent is held to: what it last saw of each object, until it could see it again."""

from takeback.journal.events import Caller
from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.seen import Seen
from takeback.tools.contract import EVERYTHING

ADA = Caller(principal="ada", client="chat", client_version="1")
BOB = Caller(principal="bob", client="chat", client_version="1")


def effect(object: str, kind: str, text: str = "x") -> Effect:
    after = State(digest=f"{kind}:{text}", kind=kind)
    return Effect(system="database", object=object, before=ABSENT, after=after)


def test_a_row_that_the_caller_wrote_is_one_that_it_has_seen():
    seen = Seen()
    seen.note_effects(ADA, [effect("shop//orders/5", "row")])
    assert seen.last(ADA, "database", "shop//orders/5") == "row:x"
    assert seen.last(BOB, "database", "shop//orders/5") is None


def test_whoever_could_see_a_whole_database_is_held_to_nothing_older_in_it():
    seen = Seen()
    for caller in (ADA, BOB):
        seen.note_effects(caller, [effect("shop//orders/5", "row"), effect("shopping//orders/5", "row")])
    seen.note(ADA, {("database", "shop"): EVERYTHING})
    assert seen.last(ADA, "database", "shop//orders/5") is None
    assert seen.last(ADA, "database", "shopping//orders/5") is not None
    assert seen.last(BOB, "database", "shop//orders/5") is not None


def test_a_change_of_a_whole_table_leaves_nobody_held_to_its_rows():
    for kind, object in (("rows", "shop//orders"), ("table", "shop//orders"), ("database", "shop")):
        seen = Seen()
        seen.note_effects(ADA, [effect("shop//orders/5", "row")])
        seen.note_effects(BOB, [effect(object, kind)])
        assert seen.last(ADA, "database", "shop//orders/5") is None
        assert seen.last(BOB, "database", object) is None


def test_nobody_is_held_to_a_counter():
    seen = Seen()
    seen.note_effects(ADA, [effect("shop//@sequence/orders", "sequence")])
    assert seen.last(ADA, "database", "shop//@sequence/orders") is None
