from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from builder.digest import Digest
from builder.graph import view
from builder.graph.definition import About, Definition, Input
from builder.graph.selection import Selection
from builder.text import Location, SourceText, Span


class Step:
    """An op that is nothing but its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def plain(self) -> list[Any] | None:
        return [self.name]

    async def run(self, worker: object, inputs: Sequence[object]) -> object:
        return None


SOURCE = SourceText("Dockerfile", "FROM a\n" * 9)


def add(definition: Definition, name: str, *inputs: Digest | Input, stage: str = "", line: int = 0) -> Digest:
    given = tuple(item if isinstance(item, Input) else Input(item) for item in inputs)
    location = Location(SOURCE, Span(line)) if line else None
    return definition.add(Step(name), given, About(label=name, stage=stage, location=location))


def diamond() -> tuple[Definition, dict[str, Digest]]:
    """base -> left, right; both -> target, the right one by content; something else is not reached."""
    definition = Definition()
    base = add(definition, "[base 1/1] FROM x", stage="base", line=1)
    add(definition, "not reached", base)
    left = add(definition, "[left 1/1] RUN a", base, stage="left", line=2)
    right = add(definition, '[right 1/1] RUN "b"', base, stage="right", line=3)
    target = add(
        definition, "[final 1/1] COPY", left, Input(right, Selection(("/x",))), stage="final", line=4
    )
    return definition, {"base": base, "left": left, "right": right, "target": target}


def names(vertices: Sequence[Any]) -> list[str]:
    return [vertex.about.label.partition(" ")[0] for vertex in vertices]


def test_generations_hold_what_can_run_side_by_side() -> None:
    definition, of = diamond()

    shown = view.View(definition, [of["target"]])

    assert [names(generation) for generation in shown.generations()] == [
        ["[base"],
        ["[left", "[right"],
        ["[final"],
    ]


def test_the_critical_path_is_the_chain_that_takes_longest() -> None:
    definition, of = diamond()

    by_left = view.View(definition, [of["target"]], {of["left"]: 3.0, of["right"]: 2.0})
    by_right = view.View(definition, [of["target"]], {of["left"]: 0.5, of["right"]: 2.0})

    assert names(by_left.critical_path()) == ["[base", "[left", "[final"]
    assert names(by_right.critical_path()) == ["[base", "[right", "[final"]


def test_the_critical_path_reaches_the_target_where_nothing_takes_time() -> None:
    definition = Definition()
    last = add(definition, "0")
    for number in range(1, 5):
        last = add(definition, str(number), last)

    shown = view.View(definition, [last], dict.fromkeys(definition.vertices, 0.0))

    assert [vertex.about.label for vertex in shown.critical_path()] == ["0", "1", "2", "3", "4"]


def test_shared_vertices_have_more_than_one_consumer_that_is_reached() -> None:
    definition, of = diamond()

    shown = view.View(definition, [of["target"]])

    assert names(shown.shared()) == ["[base"]
    assert names(shown.consumers(of["base"])) == ["[left", "[right"]


def test_text_for_people() -> None:
    definition, of = diamond()

    text = view.to_text(view.View(definition, [of["target"]], {of["left"]: 3.0, of["base"]: 1.0}))

    assert text == (
        "4 vertices, 4 edges, at most 2 side by side\n"
        "\n"
        "generation 1\n"
        " *   1  [base 1/1] FROM x  1.0s\n"
        "\n"
        "generation 2\n"
        " *   2  [left 1/1] RUN a  <- 1  3.0s\n"
        '     3  [right 1/1] RUN "b"  <- 1\n'
        "\n"
        "generation 3\n"
        " *   4  [final 1/1] COPY  <- 2, 3\n"
        "\n"
        "critical path (*): 3 of 4 vertices, 4.0s in the last build, 1 of unknown length\n"
        "  1 -> 2 -> 4\n"
        "\n"
        "shared\n"
        "     1  [base 1/1] FROM x  -> 2, 3\n"
    )


def test_dot_for_graphviz() -> None:
    definition, of = diamond()

    text = view.to_dot(view.View(definition, [of["target"]], {of["right"]: 3.0}))

    assert text == (
        "digraph build {\n"
        "  rankdir=LR;\n"
        '  node [shape=box, fontname="monospace"];\n'
        "  subgraph cluster_0 {\n"
        '    label="base";\n'
        '    n1 [label="[base 1/1] FROM x", style=bold];\n'
        "  }\n"
        "  subgraph cluster_1 {\n"
        '    label="left";\n'
        '    n2 [label="[left 1/1] RUN a"];\n'
        "  }\n"
        "  subgraph cluster_2 {\n"
        '    label="right";\n'
        '    n3 [label="[right 1/1] RUN \\"b\\"\\n3.0s", style=bold];\n'
        "  }\n"
        "  subgraph cluster_3 {\n"
        '    label="final";\n'
        '    n4 [label="[final 1/1] COPY", style=bold];\n'
        "  }\n"
        "  n1 -> n2;\n"
        '  n1 -> n3 [style="bold"];\n'
        "  n2 -> n4;\n"
        '  n3 -> n4 [style="dashed,bold"];\n'
        "}\n"
    )


def test_json_for_programs() -> None:
    definition, of = diamond()

    data = json.loads(view.to_json(view.View(definition, [of["target"]], {of["left"]: 3.0})))

    assert data["target"] == of["target"]
    assert data["vertices"][0]["label"] == "[base 1/1] FROM x"
    assert data["vertices"][3]["inputs"] == [
        {"digest": of["left"], "selects": False},
        {"digest": of["right"], "selects": True},
    ]
    assert data["vertices"][3]["line"] == 4
    assert data["generations"][1] == [of["left"], of["right"]]
    assert data["criticalPath"] == [of["base"], of["left"], of["target"]]
    assert data["criticalSeconds"] is None
    assert data["shared"] == [of["base"]]


@pytest.mark.parametrize("form", sorted(view.FORMATS))
def test_a_single_vertex_is_a_graph_too(form: str) -> None:
    definition = Definition()
    target = add(definition, "odd \x1b[31m\nlabel \u202e")

    text = view.FORMATS[form](view.View(definition, [target]))

    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_long_chain_is_no_problem() -> None:
    definition = Definition()
    last = add(definition, "0")
    for number in range(1, 3000):
        last = add(definition, str(number), last)

    assert len(view.View(definition, [last]).critical_path()) == 3000
