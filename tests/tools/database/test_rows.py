"""Rows as states: kept exactly, fingerprinted by content, merged column by column without losing anybody's change."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takeback.checkpoints.objects import SMALL
from takeback.tools.conformance import KitObjects
from takeback.tools.database import rows
from takeback.tools.system import Clash

stored = st.one_of(
    st.none(), st.integers(), st.text(), st.binary(), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, math.inf])
)
cells = st.one_of(st.none(), st.integers(0, 2), st.sampled_from(["a", "b"]))
columns = ("id", "name", "price")
row = st.fixed_dictionaries(dict.fromkeys(columns, cells))


@given(stored)
def test_a_value_comes_back_as_it_was_to_the_bit(value):
    back = rows.decode(json.loads(json.dumps(rows.encode(value))))
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@given(row, st.permutations(columns))
def test_the_order_of_columns_is_no_part_of_a_row(content, order):
    assert rows.digest_of(content) == rows.digest_of({column: content[column] for column in order})


def test_one_and_true_and_the_text_of_it_are_different_values():
    digests = {rows.digest_of({"x": value}) for value in (1, "1", rows.encode(1.0), None)}
    assert len(digests) == 4


@pytest.mark.parametrize("size", [10, rows.INLINE + 1, SMALL + 1])
async def test_a_row_of_any_size_is_found_again_by_its_state(size):
    objects, content = KitObjects(), {"id": 1, "text": "x" * size}
    state, blobs = await rows.stored_state(content, objects)
    await objects.put_blobs(blobs)
    assert await rows.row_of(state, objects) == content
    assert state.digest == rows.digest_of(content)


@given(row, row, row)
def test_a_merge_removes_our_change_and_keeps_every_other(base, wanted, present):
    merged = rows.merge(base, wanted, present)
    ours = {column for column in columns if base[column] != wanted[column]}
    theirs = {column for column in columns if base[column] != present[column]}
    if isinstance(merged, Clash):
        assert any(present[column] != wanted[column] for column in ours & theirs)
        return
    assert merged is not None
    for column in columns:
        assert merged[column] == (wanted[column] if column in ours else present[column])


@given(row, row, row)
def test_a_merge_never_undoes_what_somebody_else_did_to_a_column(base, wanted, present):
    merged = rows.merge(base, wanted, present)
    if not isinstance(merged, Clash) and merged is not None:
        for column in columns:
            if present[column] != base[column]:
                assert merged[column] == present[column]


@given(row, row)
def test_where_nobody_else_changed_anything_the_earlier_row_comes_back(base, wanted):
    assert rows.merge(base, wanted, base) == wanted
    assert rows.merge(base, wanted, wanted) == wanted
    assert rows.merge(None, wanted, None) == wanted
    assert rows.merge(base, None, base) is None


@given(row, row, row)
def test_rows_that_somebody_else_made_or_deleted_are_never_touched(base, wanted, present):
    if present != wanted:
        assert isinstance(rows.merge(None, wanted, present), Clash)
    if wanted is not None:
        assert isinstance(rows.merge(base, wanted, None), Clash)
    if present != base:
        assert isinstance(rows.merge(base, None, present), Clash)


def test_a_preview_shows_what_changes_and_cuts_what_is_long():
    before, after = {"id": 1, "name": "a" * 200}, {"id": 1, "name": "b"}
    assert rows.changes_of(before, after) == f"name: {'a' * (rows.CELL - 1)}… → b"
    assert rows.diff_of([(before, None)], more=2).splitlines()[-1] == "… and 2 more rows"
