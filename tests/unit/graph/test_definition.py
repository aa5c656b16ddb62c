"""The definition: digests that name what is done, never what people are told."""

from __future__ import annotations

import pytest

from builder.digest import of_bytes
from builder.graph.definition import About, Definition, Input
from builder.graph.selection import Selection
from builder.ops.exec import Exec
from builder.ops.files import Copy, MakeDir, Merge, PathItem
from builder.ops.source import Image, Local, Scratch
from builder.text import Location, SourceText, Span

PLAIN = About("[1/2] FROM base")


def run(*argv: str) -> Exec:
    return Exec(argv, (("PATH", "/bin"),), "/")


def test_equal_ops_on_equal_inputs_are_one_vertex() -> None:
    definition = Definition()
    base = definition.add(Scratch(), (), PLAIN)

    one = definition.add(run("make"), (Input(base),), About("one"))
    two = definition.add(run("make"), (Input(base),), About("two"))

    assert one == two
    assert len(definition.vertices) == 2
    assert definition[one].about.label == "one"


def test_what_people_are_told_is_not_in_the_digest() -> None:
    place = Location(SourceText("Dockerfile", "FROM a\nRUN make\n"), Span(2))
    told = About("[stage 2/7] RUN make", stage="stage", location=place, no_cache=True, internal=True)

    plain, full = Definition(), Definition()

    assert plain.add(MakeDir("/w"), (), PLAIN) == full.add(MakeDir("/w"), (), told)


def test_a_vertex_that_must_run_is_told_so_by_any_of_its_uses() -> None:
    definition = Definition()
    digest = definition.add(MakeDir("/w"), (), PLAIN)

    definition.add(MakeDir("/w"), (), About("again", no_cache=True))

    assert definition[digest].about.no_cache


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (run("a", "b"), run("a b")),
        (MakeDir("/w"), MakeDir("/w", user="app")),
        (Local("one"), Local("two")),
        (Copy((PathItem(1, "/a"),), "/x"), Copy((PathItem(1, "/a"),), "/x/")),
        (Exec(("a",), (), "/", network="none"), Exec(("a",), (), "/")),
        (Exec(("a",), (("A", "1"), ("B", "2")), "/"), Exec(("a",), (("B", "2"), ("A", "1")), "/")),
    ],
)
def test_different_ops_have_different_digests(one: Exec, other: Exec) -> None:
    definition = Definition()

    assert definition.add(one, (), PLAIN) != definition.add(other, (), PLAIN)


def test_an_image_is_its_digest_wherever_it_comes_from() -> None:
    definition, digest = Definition(), of_bytes(b"manifest")

    assert definition.add(Image("a", digest), (), PLAIN) == definition.add(Image("b", digest), (), PLAIN)


def test_proxies_are_not_in_the_digest_of_a_run() -> None:
    definition = Definition()
    proxied = Exec(("a",), (), "/", proxy=(("HTTP_PROXY", "http://p"),))

    assert definition.add(proxied, (), PLAIN) == definition.add(Exec(("a",), (), "/"), (), PLAIN)


def test_a_selection_counts() -> None:
    definition = Definition()
    context = definition.add(Local("context"), (), PLAIN)
    op = Copy((PathItem(0, "/a"),), "/")

    whole = definition.add(op, (Input(context),), PLAIN)
    part = definition.add(op, (Input(context, Selection(("/a",))),), PLAIN)
    other = definition.add(op, (Input(context, Selection(("/b",))),), PLAIN)

    assert len({whole, part, other}) == 3


def test_an_input_must_be_there_first() -> None:
    with pytest.raises(KeyError):
        Definition().add(Merge(), (Input(of_bytes(b"nothing")),), PLAIN)


def test_only_what_the_target_needs_is_reached_in_order() -> None:
    definition = Definition()
    base = definition.add(Scratch(), (), PLAIN)
    left = definition.add(run("left"), (Input(base),), PLAIN)
    unused = definition.add(run("unused"), (Input(base),), PLAIN)
    top = definition.add(Merge(), (Input(base), Input(left)), PLAIN)

    reached = [vertex.digest for vertex in definition.reached(top)]

    assert reached == [base, left, top]
    assert unused not in reached


def test_a_long_chain_is_no_deep_one() -> None:
    definition = Definition()
    digest = definition.add(Scratch(), (), PLAIN)
    for number in range(3000):
        digest = definition.add(run(str(number)), (Input(digest),), PLAIN)

    assert len(definition.reached(digest)) == 3001


def test_a_selection_survives_the_disk() -> None:
    selection = Selection(("/a", "/b*"), ("*.md",), parents=True, owners=False, modes=False, wildcards=False)

    assert Selection.from_plain(selection.plain()) == selection
    assert hash(Selection.from_plain(selection.plain())) == hash(selection)
    assert selection != Selection(("/a", "/b*"))


def test_the_time_that_files_may_have_is_part_of_the_ops_that_write_some() -> None:
    plain, bounded, other = Definition(), Definition(latest=1), Definition(latest=2)
    ops = (Exec(("true",), (), "/"), Copy((), "/"), MakeDir("/a"))

    for op in ops:
        assert len({d[d.add(op, (), About(""))].op_digest for d in (plain, bounded, other)}) == 3
    assert len({d.add(Scratch(), (), About("")) for d in (plain, bounded, other)}) == 1


def test_definitions_that_are_put_together_have_equal_vertices_once() -> None:
    definitions = [Definition(), Definition()]
    targets = []
    for number, definition in enumerate(definitions):
        base = definition.add(Scratch(), (), PLAIN)
        shared = definition.add(run("fetch"), (Input(base),), About(f"{number}", no_cache=number == 1))
        targets.append(definition.add(run("make", str(number)), (Input(shared),), PLAIN))

    whole = Definition()
    for definition in definitions:
        whole.take(definition)

    assert len(whole.vertices) == 4
    assert [vertex.digest for vertex in whole.reached(*targets)] == list(whole.vertices)
    assert len(whole.reached(targets[0])) == 3
    assert whole.vertices[shared].about.no_cache
