"""Which step of an earlier build is the same step: by stage, by place and by what it says. Pure.

Two builds are laid beside each other as a diff lays two texts: stages by their names, renamed ones by what
they have in common; in a stage, equal instructions are anchors, and between two anchors the instructions of
one kind are paired by how alike they are. So an inserted line has no counterpart, and those below it keep
theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from builder.keyparts.sheet import Sheet, Step

Token = tuple[str, str]
MANY = 40  # instructions between two anchors, from which on they are paired by their order
LARGE = 3000  # instructions of a stage, from which on only its equal ends are anchors


def align(now: Sheet, then: Sheet) -> dict[int, int]:
    """Number of a step now -> number of its counterpart then; internal steps have none."""
    stages_now, stages_then = _stages(now), _stages(then)
    pairs: dict[int, int] = {}
    for name, other in _paired_stages(now, then, stages_now, stages_then).items():
        pairs.update(_aligned(now, then, stages_now[name], stages_then[other]))
    _pair_moved(now, then, pairs)
    return pairs


def token(step: Step) -> Token:
    """What a step says, wherever it stands."""
    return step.kind, step.label.partition("] ")[2]


def _stages(sheet: Sheet) -> dict[str, list[int]]:
    """Name of a stage -> the numbers of its steps."""
    stages: dict[str, list[int]] = {}
    for number, step in enumerate(sheet.steps):
        if not step.internal:
            stages.setdefault(step.stage, []).append(number)
    return stages


def _paired_stages(
    now: Sheet, then: Sheet, stages_now: dict[str, list[int]], stages_then: dict[str, list[int]]
) -> dict[str, str]:
    pairs = {name: name for name in stages_now if name in stages_then}
    new = [name for name in stages_now if name not in pairs]
    old = [name for name in stages_then if name not in pairs]
    tokens_now = {name: Counter(token(now.steps[n]) for n in stages_now[name]) for name in new}
    tokens_then = {name: Counter(token(then.steps[n]) for n in stages_then[name]) for name in old}
    shared = [
        (-(tokens_now[name] & tokens_then[other]).total(), at, other_at, name, other)
        for at, name in enumerate(new[:MANY])
        for other_at, other in enumerate(old[:MANY])
    ]
    for common, _, _, name, other in sorted(shared):
        if common and name not in pairs and other not in pairs.values():
            pairs[name] = other
    return pairs


def _aligned(now: Sheet, then: Sheet, new: Sequence[int], old: Sequence[int]) -> dict[int, int]:
    tokens_new, tokens_old = [token(now.steps[n]) for n in new], [token(then.steps[n]) for n in old]
    pairs: dict[int, int] = {}
    for start, end, old_start, old_end in _blocks(tokens_new, tokens_old):
        same = tokens_new[start:end] == tokens_old[old_start:old_end]
        part, counterpart = new[start:end], old[old_start:old_end]
        if same:
            pairs.update(zip(part, counterpart, strict=True))
        else:
            pairs.update(_by_likeness(now, then, part, counterpart))
    return pairs


def _blocks(new: list[Token], old: list[Token]) -> list[tuple[int, int, int, int]]:
    """Ranges that belong together: equal ones, and what lies between these."""
    start = 0
    while start < min(len(new), len(old)) and new[start] == old[start]:
        start += 1
    end = 0
    while end < min(len(new), len(old)) - start and new[-1 - end] == old[-1 - end]:
        end += 1
    blocks = [(0, start, 0, start), (len(new) - end, len(new), len(old) - end, len(old))]
    middle_new, middle_old = new[start : len(new) - end], old[start : len(old) - end]
    if max(len(middle_new), len(middle_old)) > LARGE:
        return [*blocks, (start, len(new) - end, start, len(old) - end)]
    codes = SequenceMatcher(None, middle_new, middle_old, autojunk=False).get_opcodes()
    return [*blocks, *((start + a, start + b, start + c, start + d) for _, a, b, c, d in codes)]


def _by_likeness(now: Sheet, then: Sheet, new: Sequence[int], old: Sequence[int]) -> dict[int, int]:
    """Pairs of steps of the same kind, the most alike first; what is not alike goes by its order."""
    pairs: dict[int, int] = {}
    if len(new) * len(old) > MANY * MANY:
        return {a: b for a, b in zip(new, old, strict=False) if now.steps[a].kind == then.steps[b].kind}
    rated = [
        (-_likeness(now.steps[a], then.steps[b]), abs(at - other), at, a, b)
        for at, a in enumerate(new)
        for other, b in enumerate(old)
        if now.steps[a].kind == then.steps[b].kind
    ]
    for _, _, _, a, b in sorted(rated):
        if a not in pairs and b not in pairs.values():
            pairs[a] = b
    return pairs


def _likeness(now: Step, then: Step) -> float:
    """How many words two instructions share, of those that they have."""
    one, other = set(now.label.partition("] ")[2].split()), set(then.label.partition("] ")[2].split())
    return len(one & other) / max(1, len(one | other))


def _pair_moved(now: Sheet, then: Sheet, pairs: dict[int, int]) -> None:
    """Give steps without a counterpart one that says the same, wherever it stands."""
    taken = set(pairs.values())
    free: dict[Token, list[int]] = {}
    for number in range(len(then.steps) - 1, -1, -1):
        if number not in taken and not then.steps[number].internal:
            free.setdefault(token(then.steps[number]), []).append(number)
    for number, step in enumerate(now.steps):
        if number not in pairs and not step.internal and (found := free.get(token(step))):
            pairs[number] = found.pop()
