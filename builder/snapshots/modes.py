"""--chmod: permission bits as octal digits or as chmod(1)'s symbolic clauses (BSD's setmode(3), umask 0).

Pure. A mode is parsed once and applied to many entries; an octal one also names the mode of the folders
made on the way, of which it gives the last three digits only.
"""

from __future__ import annotations

import msgspec

from builder.errors import BuildError

SET_ID, STICKY = 0o6000, 0o1000
WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
SHIFT = {"u": 6, "g": 3, "o": 0}
EXECUTE = 0o111


class _Step(msgspec.Struct, frozen=True):
    """`op` one of + - = on the bits of `who`: with `bits`, with the class `copy`'s, or if `search` with x."""

    op: str
    who: int
    bits: int = 0
    copy: str = ""
    search: bool = False


class Chmod(msgspec.Struct, frozen=True):
    """What --chmod does: one octal mode for all, or steps from the mode that is there."""

    octal: int | None
    steps: tuple[_Step, ...] = ()

    @property
    def made_folders(self) -> int:
        """The mode of folders that a COPY makes on the way."""
        return 0o755 if self.octal is None else self.octal & 0o777

    def apply(self, mode: int, *, folder: bool) -> int:
        """The new mode (07777) of an entry that has `mode`."""
        if self.octal is not None:
            return self.octal
        new = mode
        for step in self.steps:
            bits = step.bits
            if step.copy:
                bits = (new >> SHIFT[step.copy] & 7) * 0o111
            elif step.search:
                bits = EXECUTE if folder or mode & EXECUTE else 0
            if step.op == "=":
                new &= ~(step.who & 0o777 if step.copy else step.who)
            new = new & ~(bits & step.who) if step.op == "-" else new | bits & step.who
        return new


def parse(text: str) -> Chmod:
    """The meaning of a --chmod value; raises BuildError for what is none."""
    if text[:1].isdigit():
        if not set(text) <= set("01234567") or int(text, 8) > 0o7777:
            raise BuildError(
                f"invalid --chmod value '{text}'", code="bad-mode", hint="octal modes go from 0 to 07777"
            )
        return Chmod(int(text, 8))
    steps = [step for clause in text.split(",") for step in _clause(clause, text)]
    return Chmod(None, tuple(steps))


def _clause(clause: str, text: str) -> list[_Step]:
    """The steps of `[ugoa...][+-=][rwxXstugo...]...`."""
    position = 0
    who = 0
    while position < len(clause) and clause[position] in WHO:
        who |= WHO[clause[position]]
        position += 1
    if position == len(clause):
        raise _invalid(text)
    steps: list[_Step] = []
    while position < len(clause):
        op = clause[position]
        if op not in "+-=":
            raise _invalid(text)
        end = position + 1
        while end < len(clause) and clause[end] not in "+-=":
            end += 1
        steps += _operation(op, who, clause[position + 1 : end], text)
        position = end
    return steps


def _operation(op: str, who: int, letters: str, text: str) -> list[_Step]:
    """The steps of one operator and its letters; `=` clears once, then adds."""
    whole = who or 0o6777
    only_others = who == 0o007
    bits, search, copies = 0, False, []
    for letter in letters:
        if letter in BITS:
            bits |= BITS[letter]
        elif letter == "X" and op == "-":
            bits |= EXECUTE
        elif letter == "X":
            search = True
        elif letter == "s":
            bits |= 0 if only_others else SET_ID
        elif letter == "t":
            if not only_others:
                bits |= STICKY
                whole = who | STICKY  # named for nobody, the sticky bit is all that is changed
        elif letter in SHIFT:
            copies.append(letter)
        else:
            raise _invalid(text)
    add = "-" if op == "-" else "+"
    steps = [_Step(add, whole, copy=letter) for letter in copies]
    if op == "=":
        # What is copied is read before it is cleared, as in g=g.
        steps = [_Step(op, whole, copy=copies[0]), *steps[1:]] if copies else [_Step(op, whole)]
    if bits:
        steps.append(_Step(add, whole, bits))
    if search:
        steps.append(_Step(add, whole, search=True))
    return steps


def _invalid(text: str) -> BuildError:
    return BuildError(
        f"invalid --chmod value '{text}'", code="bad-mode", hint="octal digits, or clauses such as u+rwx,go-w"
    )
