"""--call=graph: the definition for people, graphviz and programs, with the times of earlier builds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import lay
from tests.support.machine import Pybuild, needs, needs_root

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

DOCKERFILE = """\
FROM busybox AS base
RUN echo base > /base
FROM base AS slow
RUN sleep 0.4 && echo slow > /slow
FROM base AS fast
RUN echo fast > /fast
FROM scratch
COPY --from=slow /slow /
COPY --from=fast /fast /
"""


@pytest.fixture
def graph(pybuild: Pybuild, context: Path) -> Pybuild:
    lay(context, DOCKERFILE)
    return pybuild


def as_json(pybuild: Pybuild, context: Path, *flags: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pybuild("--call=graph,format=json", *flags, context).stdout)
    return found


def labels_of(found: dict[str, Any], digests: list[str]) -> list[str]:
    labels = {row["digest"]: row["label"] for row in found["vertices"]}
    return [labels[digest] for digest in digests]


def test_generations_and_shared_vertices(graph: Pybuild, context: Path) -> None:
    found = as_json(graph, context)

    generations = [sorted(labels_of(found, row)) for row in found["generations"]]
    assert len(found["vertices"]) == sum(len(row) for row in generations)
    side_by_side = next(row for row in generations if any("RUN echo fast" in label for label in row))
    assert [re.sub(r"^\[.*?\] ", "", label) for label in side_by_side] == [
        "RUN echo fast > /fast", "RUN sleep 0.4 && echo slow > /slow",
    ]  # fmt: skip
    assert [label for label in labels_of(found, found["shared"]) if "RUN echo base" in label]
    assert labels_of(found, [found["target"]])[0].endswith("COPY --from=fast /fast /")
    assert all(row["seconds"] is None for row in found["vertices"] if "RUN" in row["label"])
    assert found["criticalSeconds"] is None


def test_after_a_build_the_critical_path_has_its_times(graph: Pybuild, context: Path) -> None:
    graph(context)

    found = as_json(graph, context)
    text = graph("--call=graph", context).stdout

    seconds = {row["label"]: row["seconds"] for row in found["vertices"]}
    slow, fast = (
        next(label for label in seconds if word in label) for word in ("RUN sleep", "RUN echo fast")
    )
    path = labels_of(found, found["criticalPath"])
    assert seconds[slow] >= 0.4
    copied = next(took for label, took in seconds.items() if "COPY --from=slow" in label)
    by_slow = seconds[slow] + (1.0 if copied is None else copied)  # from there it is one copy more to the end
    assert (slow in path, fast in path) == (by_slow > seconds[fast], by_slow < seconds[fast])
    assert found["criticalPath"][-1] == found["target"]
    assert found["criticalSeconds"] is None or found["criticalSeconds"] >= seconds[slow]
    assert re.search(r"^critical path \(\*\): \d of \d+ vertices, \d+\.\ds in the last build", text, re.M)


def test_a_cached_build_keeps_the_times_of_the_one_that_ran(graph: Pybuild, context: Path) -> None:
    for _ in range(4):
        graph(context)

    seconds = [row["seconds"] for row in as_json(graph, context)["vertices"] if "sleep" in row["label"]]

    assert seconds[0] is not None
    assert seconds[0] >= 0.4


def test_the_text_has_generations_path_and_shared(graph: Pybuild, context: Path) -> None:
    text = graph("--call=graph", context).stdout

    assert re.match(r"\d+ vertices, \d+ edges, at most \d+ side by side\n", text)
    assert "\ngeneration 1\n" in text
    assert "\ncritical path (*):" in text
    assert re.search(r"^shared\n +\d+  .*RUN echo base > /base  -> \d+, \d+$", text, re.M)


def test_the_dot_text_is_a_digraph_with_stages(graph: Pybuild, context: Path) -> None:
    text = graph("--call=graph,format=dot", context).stdout

    assert text.startswith("digraph build {")
    assert text.rstrip().endswith("}")
    for stage in ("base", "slow", "fast"):
        assert f'label="{stage}"' in text
    assert "style=bold" in text
    assert "dashed" in text
    assert text.count("{") == text.count("}")


def test_only_what_the_target_needs_is_shown_and_nothing_is_run(graph: Pybuild, context: Path) -> None:
    found = as_json(graph, context, "--target=fast")

    labels = [row["label"] for row in found["vertices"]]
    assert not any("sleep" in label for label in labels)
    assert json.loads(graph("images", "--format=json").stdout)["Repository"] == "busybox"


@pytest.mark.parametrize("call", ["graph,format=xml", "graf", "graph,colour=red"])
def test_a_call_that_is_not_there_is_refused(graph: Pybuild, context: Path, call: str) -> None:
    done = graph(f"--call={call}", context, check=False)

    assert done.returncode == 2
    assert call.split(",")[0] in done.stderr
