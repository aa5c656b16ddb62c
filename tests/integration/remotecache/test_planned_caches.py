"""Plans ask the caches elsewhere, say what they have, and bring nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import needs, needs_root
from tests.support.registry import RunningRegistry
from tests.support.remotecaches import Machine
from tests.support.workshop import Outcome

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

Make = Callable[[str], Machine]


def planned(machine: Machine, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(machine.build("--plan", "--format", "json", *words).out)
    return document


def states(plan: dict[str, Any]) -> dict[str, str]:
    """Vertex -> state."""
    return {step["digest"]: step["state"] for step in plan["steps"]}


def elsewhere(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Instruction -> what is said of where its record is."""
    return {
        step["label"].partition("] ")[2]: reason
        for step in plan["steps"]
        for reason in step["reasons"]
        if reason["kind"] == "elsewhere"
    }


def did(outcome: Outcome) -> dict[str, str]:
    """Vertex -> as a plan would have called what a build did."""
    told: dict[str, str] = {}
    for event in map(json.loads, outcome.err.splitlines()):
        if event["event"] in ("started", "cached"):
            told[event["vertex"]] = "hit" if event["event"] == "cached" else "miss"
    return told


def check(machine: Machine, plan: dict[str, Any], *words: str) -> None:
    """The build does what the plan says, and the store is as it was before."""
    built = did(machine.build("--progress=rawjson", *words))
    for vertex, state in states(plan).items():
        assert state in (built[vertex], "depends"), plan


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plan_says_hit_where_a_registry_has_it_and_what_would_come(
    machine: Make, registry: RunningRegistry, mode: str
) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/planned-{mode}:cache"
    here.app("--cache-to", f"type=registry,ref={ref},mode={mode}")

    plan = planned(there, "--cache-from", ref)

    assert set(states(plan).values()) == {"hit"}
    assert plan["notes"] == []
    ((step, found),) = elsewhere(plan).items()
    assert step == "RUN date +%s%N > /made"
    missing = [layer for layer in here.layers() if not there.has(layer)]
    sizes = [(here.root / "blobs/sha256" / layer.removeprefix("sha256:")).stat().st_size for layer in missing]
    assert missing
    assert (found["cache"], found["bytes"]) == (ref, sum(sizes))
    assert plan["summary"]["fetchBytes"] == sum(sizes)
    text = there.build("--plan", "--cache-from", ref).out
    assert f"in the cache {ref}, " in text
    assert text.endswith(" to fetch from caches elsewhere\n")
    assert planned(there)["summary"]["misses"] > 0
    check(there, plan, "--cache-from", ref)
    assert elsewhere(planned(there, "--cache-from", ref)) == {}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plan_goes_on_from_what_a_cache_has(machine: Make, tmp_path: Path, mode: str) -> None:
    here, there = machine("here"), machine("there")
    cache = f"{tmp_path}/cache"
    here.app("--cache-to", f"type=local,dest={cache},mode={mode}")
    there.write("src/a", "changed\n")

    plan = planned(there, "--cache-from", f"type=local,src={cache}")

    found = states(plan)
    assert {"hit", "miss"} <= set(found.values())
    assert len(elsewhere(plan)) == (2 if mode == "max" else 1)
    check(there, plan, "--cache-from", f"type=local,src={cache}")


def test_a_stage_that_is_made_from_a_cache_is_believed_as_it_is_by_a_build(
    machine: Make, tmp_path: Path
) -> None:
    """The stage's own next step runs, so its layers come; what is copied from it is as the cache says."""
    here, there = machine("here"), machine("there")
    cache = f"{tmp_path}/cache"
    text = "FROM busybox AS one\nRUN echo 1 > /one\nFROM busybox\nCOPY --from=one /one /one\n"
    here.build("--cache-to", f"type=local,dest={cache},mode=max", dockerfile=text)
    there.dockerfile(text.replace("FROM busybox\n", "FROM one AS two\nRUN echo 2 > /two\nFROM busybox\n"))
    there.dockerfile((there.context / "Dockerfile").read_text() + "COPY --from=two /two /two\n")

    plan = planned(there, "--cache-from", f"type=local,src={cache}")

    assert list(states(plan).values()).count("miss") == 1
    assert states(plan)[plan["steps"][-1]["digest"]] == "depends"
    assert states(plan)[plan["steps"][-2]["digest"]] == "hit"
    assert [step["key"] is not None for step in plan["steps"][-2:]] == [True, False]
    check(there, plan, "--cache-from", f"type=local,src={cache}")


def test_a_cache_that_cannot_be_read_is_a_note(machine: Make, tmp_path: Path) -> None:
    there = machine("there")
    flags = ["--cache-from", f"type=local,src={tmp_path}/none", "--cache-from", "127.0.0.1:1/no/where"]

    plan = planned(there, *flags)
    offline = planned(there, "--offline", *flags)

    assert [note.partition(":")[0] for note in plan["notes"]] == [
        f"cache from {tmp_path}/none",
        "cache from 127.0.0.1",
    ]
    assert "cache 127.0.0.1:1/no/where:latest is left out: --offline asks no registry" in offline["notes"]
    assert plan["summary"]["fetchBytes"] == 0


def test_caches_are_not_asked_where_all_is_here_or_nothing_is_wanted_of_them(
    machine: Make, tmp_path: Path
) -> None:
    here = machine("here")
    flags = ["--cache-from", f"type=local,src={tmp_path}/none"]

    assert planned(here, "--no-cache", *flags)["notes"] == []
    here.app()

    assert planned(here, *flags)["notes"] == []
