"""What a tool states about taking back is held against its kind, or follows from it."""

from __future__ import annotations

import pytest

from takeback.tools.contract import AnyTool
from takeback.tools.definition import DefinitionError, check_tool_class
from takeback.tools.memory import Announce, GetValue, PostNote, SetValue
from takeback.tools.recovery import Recovery, stated


@pytest.mark.parametrize(
    ("kind", "recovery", "fact"),
    [
        (SetValue, Recovery(""), "does not say `how`"),
        (SetValue, Recovery("put back", unless="a\nb"), "plain line"),
        (SetValue, Recovery("put back", worse=("irreversible",)), "without the other"),
        (SetValue, Recovery("put back", worse_if="it is late"), "without the other"),
        (SetValue, Recovery("put back", worse=("irreversible", "compensable"), worse_if="it is late"), "not in order"),
        (PostNote, Recovery("deleted again"), "its kind says compensable"),
        (Announce, Recovery("nothing", best="compensable"), "its kind says irreversible"),
        (GetValue, Recovery("nothing"), "only reads"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_the_tool_is_defined(
    kind: type[AnyTool], recovery: Recovery, fact: str
) -> None:
    with pytest.raises(DefinitionError, match=fact):
        check_tool_class(type("Stating", (kind,), {"recovery": recovery}))


def test_what_is_meant_is_taken_and_told() -> None:
    its = Recovery("it is put back", worse=("compensable",), worse_if="somebody saw it")
    own = type("Stating", (SetValue,), {"recovery": its})
    check_tool_class(own)
    assert stated(own) is its


def test_a_tool_that_says_nothing_is_told_by_its_kind() -> None:
    assert stated(GetValue) is None
    assert stated(PostNote) == Recovery("Delete the note again.", best="compensable")
    announce = stated(Announce)
    assert announce is not None and announce.best == "irreversible"
    changes = stated(SetValue)
    assert changes is not None and (changes.best, changes.worse[-1]) == ("reversible", "irreversible")
