"""Which step of an earlier build is the same one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.explain.nearest import align
from builder.keyparts.sheet import Sheet, Step


def sheet(*lines: str) -> Sheet:
    """Steps from lines `stage: INSTRUCTION`, or `INSTRUCTION` in a stage without a name."""
    steps = []
    for number, line in enumerate(lines):
        stage, found, text = line.rpartition(": ")
        label = f"[{stage + ' ' if found else ''}{number + 1}/{len(lines)}] {text}"
        internal = text.startswith("internal")
        kind = "" if internal else text.split()[0]
        steps.append(Step(f"{number}", label, stage if found else "", number + 1, internal, kind, {}))
    return Sheet("/c", "Dockerfile", "", "", tuple(steps))


def pairs(now: Sheet, then: Sheet) -> dict[str, str]:
    """What was paired, by the instructions."""
    name = [lambda n, s=s: s.steps[n].label.partition("] ")[2] for s in (now, then)]
    return {name[0](a): name[1](b) for a, b in align(now, then).items()}


def test_equal_builds_are_paired_step_by_step() -> None:
    lines = ("FROM a", "COPY src /", "RUN make", "RUN make", "internal x")

    assert align(sheet(*lines), sheet(*lines)) == {0: 0, 1: 1, 2: 2, 3: 3}


def test_an_inserted_line_has_no_counterpart_and_the_others_keep_theirs() -> None:
    then = sheet("FROM a", "RUN one", "RUN two", "RUN three")
    now = sheet("FROM a", "RUN one", "RUN new", "RUN two", "RUN three")

    assert align(now, then) == {0: 0, 1: 1, 3: 2, 4: 3}


def test_a_line_that_went_is_nobodys_counterpart() -> None:
    assert align(sheet("FROM a", "RUN two"), sheet("FROM a", "RUN one", "RUN two")) == {0: 0, 1: 2}


def test_a_changed_line_is_paired_with_what_it_was() -> None:
    found = pairs(sheet("FROM a:2", "COPY b /", "RUN x"), sheet("FROM a:1", "COPY a /", "RUN x"))

    assert found == {"FROM a:2": "FROM a:1", "COPY b /": "COPY a /", "RUN x": "RUN x"}


def test_of_a_new_and_a_changed_line_the_one_that_is_alike_is_paired() -> None:
    now = sheet("FROM a", "RUN apt-get update", "RUN make all install", "COPY x /")
    then = sheet("FROM a", "RUN make all", "COPY x /")

    assert pairs(now, then)["RUN make all install"] == "RUN make all"
    assert "RUN apt-get update" not in pairs(now, then)


def test_instructions_of_other_kinds_are_no_counterparts() -> None:
    assert align(sheet("FROM a", "RUN x"), sheet("FROM a", "COPY x /")) == {0: 0}


def test_stages_go_by_their_names_and_renamed_ones_by_what_they_have_in_common() -> None:
    then = sheet("one: FROM a", "one: RUN x", "two: FROM b", "two: RUN y")
    now = sheet("two: FROM b", "two: RUN y", "uno: FROM a", "uno: RUN x")

    assert pairs(now, then) == {"FROM a": "FROM a", "RUN x": "RUN x", "FROM b": "FROM b", "RUN y": "RUN y"}
    assert align(now, then) == {0: 2, 1: 3, 2: 0, 3: 1}


def test_a_stage_that_gets_a_name_because_another_came_is_the_same_stage() -> None:
    now = sheet("build: FROM go", "build: RUN make", "stage-1: FROM a", "stage-1: RUN x", "stage-1: RUN y")

    assert align(now, sheet("FROM a", "RUN x", "RUN y")) == {2: 0, 3: 1, 4: 2}


def test_a_line_that_moved_to_another_stage_is_found() -> None:
    now = sheet("one: FROM a", "two: FROM b", "two: RUN moved")
    then = sheet("one: FROM a", "one: RUN moved", "two: FROM b")

    assert align(now, then)[2] == 1


LINES = st.lists(
    st.builds(
        lambda stage, text: f"{stage}: {text}",
        st.sampled_from(["one", "two"]),
        st.sampled_from(["FROM a", "RUN x", "RUN x y", "RUN z", "COPY x /", "internal"]),
    ),
    max_size=12,
)


@given(LINES, LINES)
def test_pairs_are_of_one_kind_and_nothing_is_paired_twice(new: list[str], old: list[str]) -> None:
    now, then = sheet(*new), sheet(*old)

    found = align(now, then)

    assert len(set(found.values())) == len(found)
    for a, b in found.items():
        assert now.steps[a].kind == then.steps[b].kind
        assert not now.steps[a].internal
        assert not then.steps[b].internal


@given(LINES)
def test_a_build_is_paired_with_itself(lines: list[str]) -> None:
    whole = sheet(*lines)

    assert all(a == b for a, b in align(whole, whole).items())
    assert len(align(whole, whole)) == sum(not step.internal for step in whole.steps)


def test_thousands_of_lines_are_paired_in_no_time() -> None:
    now = sheet(
        "FROM a", *(f"RUN echo {n}" for n in range(1000)), "RUN new", *(f"RUN x {n}" for n in range(1000))
    )
    then = sheet("FROM b", *(f"RUN echo {n}" for n in range(1000)), *(f"RUN x {n}" for n in range(1000)))

    assert len(align(now, then)) == 2001
