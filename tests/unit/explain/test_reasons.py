"""From states and sheets to an account: which reason a step gets, how long it takes, and the texts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.explain.account import (
    ABSENT,
    DEPENDS,
    FAILED,
    GONE,
    HIT,
    MISS,
    UNSAFE,
    Account,
    Finding,
    Sources,
)
from builder.explain.history import History, Past
from builder.explain.paths import nothing_hidden
from builder.explain.reasons import account_of
from builder.explain.told import document_of, text_of
from builder.keyparts.rows import Listing, Row
from builder.keyparts.sheet import Sheet, Step, Taken

SELECT = [["/src"], [], False, True, True, True]
GOLDEN = Path(__file__).parents[2] / "golden" / "explain"


def step(name: str, *inputs: Taken, kind: str = "RUN", key: str | None = "", seconds: float | None = None,
         forced: str = "", stage: str = "", internal: bool = False, **parts: Any) -> Step:  # fmt: skip
    label = name if internal else f"[1/1] {kind} {name}"
    return Step(
        name, label, stage, 1, internal, kind, parts, name if key == "" else key, inputs, seconds, forced
    )


def sheet(*steps: Step, begun: float = 0.0, target: str = "") -> Sheet:
    return Sheet("/c", "Dockerfile", target, "", steps, begun=begun)


def account(
    now: Sheet,
    states: dict[str, str],
    *then: Sheet,
    others: tuple[Sheet, ...] = (),
    rows: dict[str, Listing] | None = None,
    conditions: dict[str, str] | None = None,
    origins: dict[str, tuple[str, ...]] | None = None,
    took: dict[str, float] | None = None,
) -> Account:
    listings = rows or {}
    past = Past(
        "line", then, lambda: [("other", sheet) for sheet in others], lambda _line, name: listings.get(name)
    )
    sources = Sources(
        states=states,
        origins=origins or {},
        condition=lambda key: (conditions or {}).get(key, ABSENT),
        recorded_seconds=lambda _key: None,
        hidden=lambda _context: nothing_hidden,
        was_hidden=lambda _found, _context: nothing_hidden,
        took=took,
    )
    return account_of(History(now, past, lambda item: listings.get(item.rows)), sources)


def texts(found: Account) -> dict[str, list[str]]:
    return {f.step.digest: [reason.text for reason in f.reasons] for f in found.findings if f.reasons}


def files(**contents: str) -> Listing:
    return Listing(
        {path: Row("f", "644", "0:0", content, "", "") for path, content in contents.items()}, len(contents)
    )


def test_a_step_nobody_has_seen_is_new() -> None:
    found = account(sheet(step("a", key="1")), {"a": MISS})

    assert texts(found) == {"a": ["RUN: no earlier record of this step"]}
    assert found.findings[0].seconds is None
    assert found.total() == (0.0, 1)


def test_what_stands_on_a_step_that_runs_says_so_and_what_is_its_own() -> None:
    then = sheet(step("a", key="1"), step("b", Taken(0), key="2", user="x"))
    now = sheet(step("a", key="3", user="y"), step("b", Taken(0), key="4", user="z"))

    assert texts(account(now, {"a": MISS, "b": MISS}, then)) == {
        "a": ["RUN: user was none, is y"],
        "b": ["stands on step 1, which runs", "RUN: user was x, is z"],
    }


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (GONE, "RUN: its record's layers are gone: pruned"),
        (ABSENT, "RUN: its record is gone: pruned"),
        (
            UNSAFE,
            "RUN: its record was made before the machine's last start, and was not safely on the disk "
            "by then",
        ),
    ],
)
def test_what_became_of_a_record_of_this_very_key_is_told(condition: str, text: str) -> None:
    now = sheet(step("a", key="1"))

    assert texts(account(now, {"a": MISS}, now, conditions={"1": condition})) == {"a": [text]}


def test_a_forced_step_names_its_flag_and_so_does_what_stands_on_it() -> None:
    now = sheet(step("a", forced="--no-cache-filter"), step("b", Taken(0)), step("c", Taken(1)))

    found = texts(account(now, dict.fromkeys("abc", MISS), now))

    assert found["a"] == ["runs because of --no-cache-filter"]
    assert found["c"] == ["stands on step 2, which runs because of --no-cache-filter"]


def test_what_depends_on_an_output_names_the_step() -> None:
    now = sheet(step("a"), step("b", key=None), step("c", Taken(0), Taken(1, SELECT), kind="COPY", key=None))

    found = account(now, {"a": HIT, "b": MISS, "c": DEPENDS}, origins={"c": ("b",)})

    assert texts(found)["c"] == ["depends on the output of step 2"]
    assert found.findings[2].depends == (2,)


def test_a_change_below_of_what_is_in_the_cache_is_told_where_it_is() -> None:
    then = sheet(step("base", kind="FROM", key="1", image="sha256:" + "a" * 64), step("b", Taken(0), key="2"))
    now = sheet(step("base", kind="FROM", key="3", image="sha256:" + "b" * 64), step("b", Taken(0), key="4"))

    (text,) = texts(account(now, {"base": HIT, "b": MISS}, then))["b"]

    assert text == "base image digest changed from sha256:aaaaaaaaaaaa… to sha256:bbbbbbbbbbbb…"


def test_a_change_deep_below_is_told_with_its_step() -> None:
    def build(user: str, key: str) -> Sheet:
        return sheet(
            step("a", key="0"), step("b", Taken(0), key=f"b{key}", user=user),
            step("c", Taken(1), key=f"c{key}"),
            step("d", Taken(2), key=f"d{key}"),
        )  # fmt: skip

    found = account(build("y", "2"), {"a": HIT, "b": HIT, "c": HIT, "d": MISS}, build("x", "1"))

    assert texts(found) == {"d": ["stands on step 2: RUN: user was x, is y"]}


def copy(content: str, key: str) -> Sheet:
    return sheet(
        step("context", kind="context", key=None, internal=True),
        step("base", kind="FROM", key="base"),
        step("src /src", Taken(1), Taken(0, SELECT, content, content), kind="COPY", key=key),
    )


COPIED = {"base": HIT, "src /src": MISS}


def test_the_build_that_differs_in_the_fewest_files_is_the_nearest() -> None:
    rows = {
        "main": files(a="1", b="1", c="1"), "branch": files(a="2", b="2", c="2"),
        "now": files(a="1", b="1", c="3"),
    }  # fmt: skip

    for order in (("main", "branch"), ("branch", "main")):
        then = [copy(name, name) for name in order]
        found = account(copy("now", "now"), COPIED, *then, rows=rows)
        assert texts(found) == {"src /src": ["COPY src: 1 of 3 files changed: c"]}


def test_without_listings_it_is_told_that_the_content_changed() -> None:
    found = account(copy("now", "now"), COPIED, copy("was", "was"))

    assert texts(found) == {"src /src": ["COPY src: the content changed (which files is not known)"]}


def test_other_contexts_are_asked_only_where_the_own_one_has_no_such_step() -> None:
    rows = {"was": files(a="1"), "other": files(a="2"), "now": files(a="3", b="1")}

    own = account(copy("now", "1"), COPIED, copy("was", "2"), others=(copy("other", "3"),), rows=rows)
    foreign = account(copy("now", "1"), COPIED, others=(copy("other", "3"),), rows=rows)

    assert texts(own) == texts(foreign)
    assert texts(foreign)["src /src"][0] == "COPY src: 1 of 2 files changed: a"


def test_a_base_of_another_platform_says_so() -> None:
    def build(platform: str) -> Sheet:
        base = step("base", kind="FROM", key=platform, image=f"sha256:{platform}")
        return Sheet("/c", "Dockerfile", "", platform, (base,))

    found = account(build("linux/arm64"), {"base": MISS}, build("linux/arm/v7"), build(""))

    assert texts(found)["base"][0] == "FROM: platform was linux/arm/v7, is linux/arm64"


def test_the_same_platform_is_nearer_than_another() -> None:
    def build(platform: str, user: str, key: str) -> Sheet:
        return Sheet("/c", "Dockerfile", "", platform, (step("a", key=key, platform=platform, user=user),))

    found = account(build("arm64", "z", "1"), {"a": MISS}, build("amd64", "z", "2"), build("arm64", "y", "3"))

    assert texts(found) == {"a": ["RUN: user was y, is z"]}


# ── seconds ──────────────────────────────────────────────────────────────────────────────────────────────


def test_seconds_are_those_of_the_last_time_and_hits_take_none() -> None:
    then = sheet(step("a", key="1", seconds=5.0), step("b", Taken(0), key="2", seconds=7.0))
    now = sheet(step("a", key="1"), step("b", Taken(0), key="9", user="x"))

    found = account(now, {"a": HIT, "b": MISS}, then)

    assert [finding.seconds for finding in found.findings] == [0.0, 7.0]
    assert found.total() == (7.0, 0)


def test_seconds_of_a_step_that_was_a_hit_then_are_those_of_its_key() -> None:
    first = sheet(step("a", key="1", seconds=5.0))
    second = sheet(step("a", key="1"))
    now = sheet(step("a", key="9", user="x"))

    assert account(now, {"a": MISS}, second, first).findings[0].seconds == 5.0


def test_the_critical_path_is_the_chain_that_takes_longest() -> None:
    now = sheet(
        step("a", seconds=1.0), step("b", seconds=4.0), step("c", Taken(0), seconds=1.0),
        step("d", Taken(1), Taken(2), seconds=2.0),
    )  # fmt: skip

    found = account(now, dict.fromkeys("abcd", MISS), now)

    assert found.path == (1, 3)
    assert found.critical() == 6.0
    assert found.total() == (8.0, 0)


STEPS = st.lists(
    st.tuples(st.sets(st.integers(0, 9)), st.floats(0, 9), st.sampled_from([HIT, MISS, DEPENDS])), max_size=10
)


@given(STEPS)
def test_no_chain_takes_longer_than_the_critical_path(rows: list[tuple[set[int], float, str]]) -> None:
    steps = [
        step(str(n), *(Taken(i) for i in sorted(inputs) if i < n), seconds=seconds)
        for n, (inputs, seconds, _) in enumerate(rows)
    ]
    found = account(sheet(*steps), {str(n): state for n, (_, _, state) in enumerate(rows)}, sheet(*steps))

    assert found.critical() <= found.total()[0] + 1e-9
    assert all((f.seconds or 0) <= found.critical() + 1e-9 for f in found.findings)
    for one, other in zip(found.path, found.path[1:], strict=False):
        assert one < other


# ── the texts ────────────────────────────────────────────────────────────────────────────────────────────


def example() -> Account:
    rows = {"was": files(a="1", b="1", old="1"), "now": files(a="2", b="1", new="1")}
    select = Taken(0, SELECT, "now", "now")
    then_select = Taken(0, SELECT, "was", "was")
    env = {"KIND": "production", "NPM_TOKEN": {"shown": "***", "tag": "1"}}
    new_env = {"KIND": "test", "NPM_TOKEN": {"shown": "***", "tag": "2"}}

    def build(*, now: bool) -> Sheet:
        key = "now" if now else "was"
        return sheet(
            step("[internal] load build context", kind="context", key=None, internal=True, seconds=0.1),
            step("go:1", kind="FROM", stage="build", key="go", seconds=3.0),
            step("src /src", Taken(1), select if now else then_select, kind="COPY", stage="build",
                 key=f"c{key}", seconds=0.3),
            step("make", Taken(2), stage="build", key=f"m{key}", env=new_env if now else env, seconds=75.2),
            step("alpine", kind="FROM", key="alpine", seconds=1.0),
            step("--from=build /app /app", Taken(4), Taken(3, SELECT, None if now else "app"), kind="COPY",
                 key=None if now else "app", seconds=0.2),
            step("echo \x1b[31mred", Taken(5), key=None if now else "red"),
        )  # fmt: skip

    states = {
        "[internal] load build context": MISS, "go:1": HIT, "src /src": MISS, "make": MISS, "alpine": HIT,
        "--from=build /app /app": DEPENDS, "echo \x1b[31mred": DEPENDS,
    }  # fmt: skip
    origins = {"--from=build /app /app": ("make",), "echo \x1b[31mred": ("make",)}
    return account(build(now=True), states, build(now=False), rows=rows, origins=origins)


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_a_plan_as_text() -> None:
    check_golden("plan.txt", text_of(example()))


def test_a_plan_as_a_document() -> None:
    document = document_of(example(), {"kind": "plan", "context": ".", "dockerfile": "Dockerfile"})

    check_golden("plan.json", json.dumps(document, indent=2) + "\n")


def test_a_build_as_text() -> None:
    now = sheet(step("a"), step("b", Taken(0), user="x"), step("c", Taken(1)))
    then = sheet(step("a"), step("b", Taken(0), key="old"), step("c", Taken(1), key="older"))

    found = account(now, {"a": HIT, "b": FAILED}, then, took={"b": 61.0})

    check_golden("build.txt", text_of(found, done=True))


def test_nothing_to_do_as_text() -> None:
    now = sheet(step("a"))

    assert text_of(account(now, {"a": HIT}, now)) == "1  hit   [1/1] RUN a\n\n1 step: 1 hit, 0 misses\n"


def test_a_build_without_steps_as_text() -> None:
    assert text_of(Account(())) == "0 steps: 0 misses\n"


def test_no_text_breaks_a_terminal_or_a_document() -> None:
    nasty = step("x\x1b[2J\udcff\n\u202e")
    found = Account((Finding(1, nasty, MISS, (), (), (), None),))

    assert text_of(found).isprintable() or {c for c in text_of(found) if not c.isprintable()} == {"\n"}
    json.dumps(document_of(found, {})).encode("utf-8")
    assert "\udcff" not in document_of(found, {})["steps"][0]["label"]
