"""Every object of a database has one name, and the name leads back to it."""

from hypothesis import given
from hypothesis import strategies as st

from takeback.tools.database import names
from takeback.tools.database.names import Name

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.fixed_dictionaries({"real": st.floats(allow_nan=False).map(float.hex)}),
    st.fixed_dictionaries({"base64": st.binary(max_size=8).map(lambda data: data.hex())}),
)
databases = st.sampled_from(["shop", "files:/home/ada/data/app.db"])


@given(databases, st.text(min_size=1), st.lists(values, min_size=1, max_size=3))
def test_a_row_is_found_again_by_its_name(database, table, key):
    name = names.row(database, table, key)
    assert names.parse(name) == Name(database, table, tuple(key))


@given(databases, st.text(min_size=1), st.lists(values, min_size=1, max_size=3))
def test_a_row_lies_in_its_table_and_that_in_its_database(database, table, key):
    row, its_table = names.row(database, table, key), str(Name(database, table))
    assert row.rpartition("/")[0] == its_table
    assert its_table.rpartition("//")[0] == database


@given(databases, st.text(min_size=1), values, values)
def test_different_keys_have_different_names(database, table, one, other):
    same = type(one) is type(other) and one == other
    assert (names.row(database, table, [one]) == names.row(database, table, [other])) == same


def test_names_are_as_one_would_write_them():
    assert names.row("shop", "orders", [5]) == "shop//orders/5"
    assert names.row("shop", "order items", [5, "Berlin"]) == "shop//order items/5,Berlin"
    assert names.row("shop", "orders", ["5"]) == 'shop//orders/"5"'
    assert names.row("shop", "a/b", ["x/y,z"]) == 'shop//a%2Fb/"x%2Fy,z"'
    assert names.sequence("shop", "orders") == "shop//@sequence/orders"
