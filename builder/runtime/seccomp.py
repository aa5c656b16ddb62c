"""From the `linux.seccomp` section of an OCI spec to a classic BPF program.

The one idea: for each architecture the calls are sorted by number, runs of numbers with the same answer
become one range, and a binary tree of comparisons finds the range; so the filter is short and its depth
is logarithmic. Argument rules hang as small tests below the leaf of their call.

As in runc, a call newer than every number known here is answered with ENOSYS, whatever the default, so
that C libraries fall back to older calls. An unknown architecture gets the default answer.

Knows nothing of what is allowed (that is the spec's) and imports nothing but the number tables: a step's
process may come through here. See seccomp(2) and linux/filter.h.
"""

from __future__ import annotations

from builder.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant
    Leaf = tuple[Instruction, ...]

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_EQUAL, _GREATER, _AT_LEAST = 0x15, 0x25, 0x35
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32_BIT = 0x40000000
_ENOSYS = 38

_ERRNO = 0x00050000
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}

# AUDIT_ARCH_* of linux/audit.h, the numbers, and what is added to them. 32-bit arm (SCMP_ARCH_ARM) has no
# table: its calls get the default answer on an arm64 machine.
_ARCHES: dict[str, tuple[int, Mapping[str, int], int]] = {
    "SCMP_ARCH_X86_64": (0xC000003E, syscalls.X86_64, 0),
    "SCMP_ARCH_X32": (0xC000003E, syscalls.X32, _X32_BIT),
    "SCMP_ARCH_X86": (0x40000003, syscalls.I386, 0),
    "SCMP_ARCH_AARCH64": (0xC00000B7, syscalls.AARCH64, 0),
}

# Arguments that the kernel takes as int: it ignores the upper half of the register, so the filter must too,
# or socket(AF_ALG | 1 << 32) walks past a rule on AF_ALG.
_INT_ARGUMENTS = frozenset({("socket", 0), ("socket", 1), ("socket", 2), ("personality", 0)})


def assemble(section: Mapping[str, Any]) -> bytes:
    """The program for a `linux.seccomp` section; raises ValueError for what it cannot express."""
    default = _answer(section["defaultAction"], section.get("defaultErrnoRet"))
    rules = _rules_by_name(section.get("syscalls", ()), default)
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for audit, names in _arms(section.get("architectures", ())):
        arm = _arm(names, rules, default)
        program += [(_EQUAL, 1, 0, audit), (_JUMP, 0, 0, len(arm)), *arm]
    program.append((_RETURN, 0, 0, default))
    if len(program) > 4096:
        raise ValueError(f"a seccomp filter of {len(program)} instructions is too long (4096)")
    return b"".join(_encode(instruction) for instruction in program)


def _encode(instruction: Instruction) -> bytes:
    code, true, false, constant = instruction
    return code.to_bytes(2, "little") + bytes((true, false)) + constant.to_bytes(4, "little")


def _answer(action: str, errno: int | None) -> int:
    if action == "SCMP_ACT_ERRNO":
        return _ERRNO | (1 if errno is None else errno)
    if action not in _ACTIONS:
        raise ValueError(f"unknown seccomp action {action}")
    return _ACTIONS[action]


def _rules_by_name(rules: Iterable[Mapping[str, Any]], default: int) -> dict[str, Leaf]:
    """What each call's leaf is: tests of its argument rules in order, then its plain answer."""
    plain: dict[str, int] = {}
    tests: dict[str, list[Instruction]] = {}
    for rule in rules:
        answer = _answer(rule["action"], rule.get("errnoRet"))
        for name in rule["names"]:
            if rule.get("args"):
                tests.setdefault(name, []).extend(_test(name, rule["args"], answer))
            else:
                plain.setdefault(name, answer)
    return {
        name: (*tests.get(name, ()), (_RETURN, 0, 0, plain.get(name, default)))
        for name in plain.keys() | tests.keys()
    }


def _test(name: str, arguments: Sequence[Mapping[str, Any]], answer: int) -> list[Instruction]:
    """Instructions that answer if all of `arguments` hold, and else fall off their end."""
    tail: list[Instruction] = [(_RETURN, 0, 0, answer)]
    for argument in reversed(arguments):
        tail = _comparison(name, argument, len(tail)) + tail
    return tail


def _comparison(name: str, argument: Mapping[str, Any], skip: int) -> list[Instruction]:
    """Go on to the next instruction if the comparison holds, else `skip` instructions further."""
    index, operator, value = argument["index"], argument["op"], argument["value"]
    low = _ARGUMENTS + 8 * index
    high = None if (name, index) in _INT_ARGUMENTS else low + 4
    if operator == "SCMP_CMP_MASKED_EQ":
        return _masked(low, high, value, argument.get("valueTwo", 0), skip)
    if operator == "SCMP_CMP_EQ":
        return _masked(low, high, 0xFFFFFFFFFFFFFFFF, value, skip)
    return _ordered(low, high, operator, value, skip)


def _masked(low: int, high: int | None, mask: int, value: int, skip: int) -> list[Instruction]:
    code = _masked_word(low, mask & 0xFFFFFFFF, value & 0xFFFFFFFF, skip)
    if high is None or not mask >> 32:
        return code
    return _masked_word(high, mask >> 32, value >> 32, skip + len(code)) + code


def _masked_word(offset: int, mask: int, value: int, skip: int) -> list[Instruction]:
    code: list[Instruction] = [(_LOAD, 0, 0, offset)]
    if mask != 0xFFFFFFFF:
        code.append((_AND, 0, 0, mask))
    return [*code, (_EQUAL, 0, skip, value)]


def _ordered(low: int, high: int | None, operator: str, value: int, skip: int) -> list[Instruction]:
    low_value, high_value = value & 0xFFFFFFFF, value >> 32
    jump, negated = {
        "SCMP_CMP_GT": (_GREATER, False),
        "SCMP_CMP_GE": (_AT_LEAST, False),
        "SCMP_CMP_LE": (_GREATER, True),
        "SCMP_CMP_LT": (_AT_LEAST, True),
        "SCMP_CMP_NE": (_EQUAL, True),
    }[operator]
    true, false = (skip, 0) if negated else (0, skip)
    code: list[Instruction] = [(_LOAD, 0, 0, low), (jump, true, false, low_value)]
    if high is None:
        return code
    if operator == "SCMP_CMP_NE":  # another upper half: unequal, whatever the lower one
        return [(_LOAD, 0, 0, high), (_EQUAL, 0, len(code), high_value), *code]
    above, below = (skip, 0) if negated else (0, skip)
    return [
        (_LOAD, 0, 0, high),
        (_GREATER, len(code) + 1 + above, 0, high_value),
        (_EQUAL, 0, len(code) + below, high_value),
        *code,
    ]


def _arms(architectures: Iterable[str]) -> Iterable[tuple[int, dict[int, str]]]:
    """Per audit architecture: its calls by number. x32 shares x86-64's."""
    arms: dict[int, dict[int, str]] = {}
    for architecture in architectures:
        if architecture in _ARCHES:
            audit, table, offset = _ARCHES[architecture]
            arms.setdefault(audit, {}).update({number + offset: name for name, number in table.items()})
    return arms.items()


def _arm(names: Mapping[int, str], rules: Mapping[str, Leaf], default: int) -> list[Instruction]:
    unknown: Leaf = ((_RETURN, 0, 0, default),)
    missing: Leaf = ((_RETURN, 0, 0, _ERRNO | _ENOSYS),)
    ranges: list[tuple[int, Leaf]] = [(0, unknown)]
    newest = max(number for number in names if number < _X32_BIT)
    _extend(ranges, {n: name for n, name in names.items() if n < _X32_BIT}, rules, unknown)
    _append(ranges, newest + 1, missing)
    x32 = {number: name for number, name in names.items() if number >= _X32_BIT}
    _append(ranges, _X32_BIT, unknown)
    _extend(ranges, x32, rules, unknown)
    return [(_LOAD, 0, 0, _NUMBER), *_tree(ranges)]


def _extend(
    ranges: list[tuple[int, Leaf]], names: Mapping[int, str], rules: Mapping[str, Leaf], unknown: Leaf
) -> None:
    for number in sorted(names):
        _append(ranges, number, rules.get(names[number], unknown))
        if number + 1 not in names:
            _append(ranges, number + 1, unknown)


def _append(ranges: list[tuple[int, Leaf]], start: int, leaf: Leaf) -> None:
    """From `start` on the answer is `leaf`; equal neighbours stay one range."""
    if ranges[-1][0] == start:
        ranges.pop()
    if not ranges or ranges[-1][1] != leaf:
        ranges.append((start, leaf))


def _tree(ranges: Sequence[tuple[int, Leaf]]) -> list[Instruction]:
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    left, right = _tree(ranges[:middle]), _tree(ranges[middle:])
    start = ranges[middle][0]
    if len(left) < 256:
        return [(_AT_LEAST, len(left), 0, start), *left, *right]
    return [(_AT_LEAST, 0, 1, start), (_JUMP, 0, 0, len(left)), *left, *right]
