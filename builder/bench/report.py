"""What a bench found, for people and programs: tables, bars, sentences, JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from builder.bench.values import COLD, PART, Case, Result
from builder.ui.words import one_line, plural, seconds

BAR = 40  # characters of the longest
RERAN = 2  # steps told by name in the table
HEADINGS = ("CASE", "TIME", "RUN", "CACHED", "HITS", "RUN AGAIN")


def rows(result: Result) -> list[tuple[str, ...]]:
    """The table's rows under HEADINGS."""
    return [_row(case) for case in result.cases]


def _row(case: Case) -> tuple[str, ...]:
    timing = case.last
    took = f"{'~' if case.predicted else ''}{seconds(case.seconds)}"
    if case.error:
        return case.name, took, "", "", "", f"failed: {one_line(case.error)[:100]}"
    ran = len(timing.ran)
    return (
        case.name,
        took,
        str(ran),
        str(timing.steps - ran),
        f"{case.hit_rate:.0%}",
        _reran(case),
    )


def _reran(case: Case) -> str:
    """The steps that ran, the longest first, with their lines."""
    ran = case.last.ran
    if not ran:
        return "nothing"
    if case.kind == COLD:
        return "everything"
    longest = sorted(ran, key=lambda run: -run.seconds)[:RERAN]
    told = [f"{run.line}: {_short(run.text)} ({seconds(run.seconds)})" for run in longest]
    more = f" and {len(ran) - len(longest)} more" if len(ran) > len(longest) else ""
    return ", ".join(told) + more


def _short(text: str, width: int = 36) -> str:
    line = one_line(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def bars(result: Result, *, ascii_only: bool = False) -> list[str]:
    """The time and the hit rate of each case as bars."""
    block, half = ("#", "") if ascii_only else ("█", "▌")
    longest = max((case.seconds for case in result.cases), default=0.0) or 1.0
    width = max((len(case.name) for case in result.cases), default=0)
    lines = []
    for case in result.cases:
        length = case.seconds / longest * BAR
        bar = block * int(length) + (half if length % 1 >= 0.5 else "")
        hits = "failed" if case.error else f"hits {case.hit_rate:4.0%}"
        lines.append(f"{one_line(case.name):{width}}  {bar or '|'} {seconds(case.seconds)}, {hits}")
    return lines


def sentences(result: Result) -> list[str]:
    """What is to be said below the table."""
    lines = []
    if result.ignored:
        lines.append(f"left out by the ignore file: {', '.join(result.ignored)}")
    lines += result.notes
    if result.suggestions:
        lines += ["", "Another order would do better:"]
        lines += [f"  {number}. {each.text}" for number, each in enumerate(result.suggestions, 1)]
        lines += ["", "The Dockerfile in that order:", "", *result.proposed.rstrip("\n").split("\n")]
    elif any(case.kind == PART for case in result.cases):
        lines.append("no other order of instructions is known to mean the same and do better")
    return lines


def to_json(result: Result) -> dict[str, object]:
    """All of it as plain data; times in seconds."""
    return {
        "context": result.context,
        "dockerfile": result.dockerfile,
        "rounds": result.rounds,
        "complete": result.whole,
        "cases": [_case(case) for case in result.cases],
        "ignored": list(result.ignored),
        "suggestions": [
            {
                "text": each.text,
                "lines": list(each.lines),
                "savings": [
                    {"part": saving.part, "before": round(saving.before, 3), "after": round(saving.after, 3)}
                    for saving in each.savings
                ],
            }
            for each in result.suggestions
        ],
        "proposed": result.proposed or None,
        "notes": list(result.notes),
    }


def _case(case: Case) -> dict[str, object]:
    timing = case.last
    return {
        "name": case.name,
        "kind": case.kind,
        "file": case.file or None,
        "predicted": case.predicted,
        "seconds": round(case.seconds, 3),
        "rounds": [round(each.seconds, 3) for each in case.timings],
        "steps": timing.steps,
        "ran": len(timing.ran),
        "cached": timing.steps - len(timing.ran),
        "hitRate": round(case.hit_rate, 3),
        "ranAgain": [
            {"line": run.line, "stage": run.stage, "text": run.text, "seconds": round(run.seconds, 3)}
            for run in timing.ran
        ],
        "error": case.error or None,
    }


def summary(cases: Sequence[Case]) -> str:
    """One line of what was measured: for the end of an interrupted bench."""
    return f"interrupted: {plural(len(cases), 'case')} measured"
