"""An account as text for people and as a document for programs. Pure.

The document's shape is told in the README; `version` changes when something in it changes its meaning.
"""

from __future__ import annotations

import re
from typing import Any

from builder.explain.account import DEPENDS, FAILED, HIT, MISS, RUNS, UNASKED, Account, Finding
from builder.ui.words import one_line, plural, seconds, size

VERSION = 1
LONGEST_LABEL = 100
PLANNED = {HIT: "hit", MISS: "miss", DEPENDS: "?", FAILED: "failed", UNASKED: "-"}
DONE = {HIT: "cached", MISS: "ran", DEPENDS: "?", FAILED: "failed", UNASKED: "-"}
STATES = {HIT: "hit", MISS: "miss", DEPENDS: "depends", FAILED: "failed", UNASKED: "not-reached"}


def text_of(account: Account, *, done: bool = False) -> str:
    """Lines for people. done: of a build that was done, not of a plan."""
    words = DONE if done else PLANNED
    shown = account.shown
    digits = len(str(shown[-1].number)) if shown else 1
    width = max([4, *(len(words[found.state]) for found in shown)])
    lines = []
    for found in shown:
        took = _took(found)
        label = _label(found)
        lines.append(f"{found.number:>{digits}}  {words[found.state]:<{width}}  {label}{took}")
        lines += [f"{'':{digits + width + 4}}  {one_line(reason.text)}" for reason in found.reasons]
    lines += ["", *_summary(account, done=done)]
    lines += [f"note: {one_line(note)}" for note in account.notes]
    return "\n".join(lines).lstrip("\n") + "\n"


def _label(found: Finding) -> str:
    label = one_line(found.step.label)
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def _took(found: Finding) -> str:
    if found.state not in RUNS or found.seconds is None:
        return ""
    return f"  {seconds(found.seconds)}"


def _summary(account: Account, *, done: bool) -> list[str]:
    counts = [
        _counted(account.count(state), state, done=done)
        for state in (HIT, MISS, DEPENDS, FAILED)
        if account.count(state) or (state == MISS and not done)
    ]
    rest = account.count(UNASKED)
    if rest and done:
        counts.append(f"{rest} not reached")
    lines = [f"{plural(len(account.shown), 'step')}: {', '.join(counts)}"]
    total, unknown = account.total()
    if any(account.count(state) for state in RUNS):
        lines.append(_times(account, total, unknown, done=done))
    if account.fetched:
        lines.append(f"{size(account.fetched)} to fetch from caches elsewhere")
    return lines


def _counted(count: int, state: str, *, done: bool) -> str:
    if state == DEPENDS:
        return f"{count} may run"
    if done or state == FAILED:
        return f"{count} {DONE[state]}"
    return plural(count, "hit") if state == HIT else f"{count} miss{'es' * (count != 1)}"


def _times(account: Account, total: float, unknown: int, *, done: bool) -> str:
    numbers = [str(account.findings[at].number) for at in account.path if account.findings[at].number]
    took = "took" if done else "at most" if account.count(DEPENDS) else "about"
    line = f"{took} {seconds(total)}" if done or total or not unknown else "of unknown length"
    if unknown and total:
        line += f", and {plural(unknown, 'step')} of unknown length"
    if len(numbers) > 0 and account.critical() > 0:
        line += f"; critical path {seconds(account.critical())}: {' -> '.join(numbers)}"
    return line


def document_of(account: Account, head: dict[str, Any]) -> dict[str, Any]:
    """The document; `head` says what it is of."""
    indexes = {at: found.number for at, found in enumerate(account.findings)}
    total, unknown = account.total()
    return {
        "version": VERSION,
        **head,
        "steps": [_step(found, indexes) for found in account.shown],
        "summary": {
            "steps": len(account.shown),
            "hits": account.count(HIT),
            "misses": account.count(MISS) + account.count(FAILED),
            "depends": account.count(DEPENDS),
            "seconds": round(total, 3),
            "unknownSeconds": unknown,
            "criticalSeconds": round(account.critical(), 3),
            "criticalPath": [indexes[at] for at in account.path if indexes[at]],
            "fetchBytes": account.fetched,
        },
        "notes": list(account.notes),
    }


def _step(found: Finding, indexes: dict[int, int]) -> dict[str, Any]:
    step = found.step
    return {
        "number": found.number,
        "digest": step.digest,
        "label": valid(step.label),
        "stage": valid(step.stage),
        "line": step.line or None,
        "state": STATES[found.state],
        "key": step.key,
        "inputs": [indexes[at] for at in found.inputs if indexes[at]],
        "dependsOn": list(found.depends),
        "seconds": None if found.seconds is None else round(found.seconds, 3),
        "reasons": [
            {"kind": reason.kind, "text": valid(reason.text), **_valid(reason.data)}
            for reason in found.reasons
        ],
    }


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, dict):
        return {name: _valid(item) for name, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list | tuple) else value


LONE = re.compile("[\ud800-\udfff]")


def valid(text: str) -> str:
    """A text as JSON can have it: bytes that are no UTF-8 as U+FFFD."""
    return LONE.sub("\ufffd", text)


def shown_address(text: str) -> str:
    """A context or a Dockerfile as it was typed, without credentials."""
    from builder.compiler.remotes import redact

    return valid(redact(text))
