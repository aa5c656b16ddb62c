"""Tables, chains and variables: values that share what has not changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.compiler.chain import Chain
from builder.compiler.table import Table
from builder.compiler.variables import Variables

NAMES = st.integers(0, 60).map(lambda number: f"name{number}")
CHANGES = st.lists(st.tuples(NAMES, st.integers(), st.booleans()), max_size=200)


@given(CHANGES)
def test_a_table_is_what_a_dict_would_be_and_never_changes(changes: list[tuple[str, int, bool]]) -> None:
    table: Table[int] = Table()
    expected: dict[str, int] = {}
    steps = [(table, expected)]
    for name, value, moves in changes:
        table = table.put_last(name, value) if moves else table.put(name, value)
        expected = {key: old for key, old in expected.items() if key != name or not moves} | {name: value}
        steps.append((table, expected))

    for made, meant in steps:
        assert list(made.pairs()) == list(meant.items())
        assert len(made) == len(meant)
        assert [made.get(name) for name in meant] == list(meant.values())
        assert made.get("other") is None
        assert "other" not in made


def test_names_of_one_hash_are_kept_apart() -> None:
    class Same(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

    names = [Same(f"name{number}") for number in range(100)]
    table = Table((name, number) for number, name in enumerate(names))

    assert [table[name] for name in names] == list(range(100))


def test_several_names_are_set_in_their_places() -> None:
    table = Table([("a", 1), ("b", 2)]).with_all([("c", 3), ("a", 4)])

    assert table.pairs() == (("a", 4), ("b", 2), ("c", 3))


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_a_chain_has_its_items_in_order(first: list[int], more: list[int]) -> None:
    row = Chain(first)
    for item in more:
        row = row.added(item)

    assert list(row) == [*first, *more]
    assert len(row) == len(first) + len(more)


def test_a_chain_of_very_many_is_read_and_let_go() -> None:
    row: Chain[int] = Chain()
    for number in range(200_000):
        row = row.added(number)

    assert sum(row) == 200_000 * 199_999 // 2
    del row


def test_variables_are_in_the_order_they_were_set() -> None:
    env = Table([("PATH", "/bin"), ("A", "1")])
    below = Variables().opened(env).assigned("B", "x").assigned("PATH", "/own")

    assert below.pairs() == (("A", "1"), ("B", "x"), ("PATH", "/own"))
    assert list(below) == ["A", "B", "PATH"]


def test_what_the_image_has_wins_over_arguments_of_the_stage_below() -> None:
    env = Table([("A", "image")])
    opened = Variables().opened(env).assigned("A", "argument").assigned("B", "b").opened(env)

    assert opened.pairs() == (("B", "b"), ("A", "image"))
    assert opened.get("A") == "image"
    assert opened.get("C", "none") == "none"


@given(st.lists(st.tuples(NAMES, st.text(max_size=3), st.sampled_from(["arg", "env", "open"])), max_size=60))
def test_the_size_is_that_of_all_pairs(changes: list[tuple[str, str, str]]) -> None:
    env: Table[str] = Table([("PATH", "/bin")])
    variables = Variables().opened(env)
    for name, value, kind in changes:
        if kind == "open":
            variables = variables.opened(env)
        else:
            variables = variables.assigned(name, value)
            env = env.put(name, value) if kind == "env" else env
        assert variables.size == sum(len(key) + len(text) + 2 for key, text in variables.pairs())
        assert len(variables) == len(variables.pairs())


def test_what_holds_a_nul_is_found() -> None:
    variables = Variables().assigned("A", "x").assigned("B", "y\0").assigned("C\0", "")

    assert variables.with_nul() == ("y\0", "C\0")
    assert variables.assigned("B", "").with_nul() == ("C\0",)
