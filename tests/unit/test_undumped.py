"""No core dump holds a secret: neither the builder's, nor that of a step that is not a command yet."""

from __future__ import annotations

import os

from builder import libc
from builder.runtime import init
from builder.undumped import without_dumps


def dumpable() -> int:
    return libc.prctl(libc.PR_GET_DUMPABLE)


def test_while_there_are_secrets_there_are_no_dumps() -> None:
    before = dumpable()

    with without_dumps(True), without_dumps(False):
        assert dumpable() == 0

    assert dumpable() == before


def test_without_secrets_all_is_as_it_was() -> None:
    before = dumpable()

    with without_dumps(False):
        assert dumpable() == before


def test_a_step_has_no_dumps_when_it_takes_its_secrets() -> None:
    errors, told = os.pipe()
    seen, tells = os.pipe()
    child = os.fork()
    if child == 0:

        def load() -> tuple[bytes, dict[str, bytes]]:
            os.write(tells, b"%d" % dumpable())
            return b"no spec", {}

        init.run(load, told)
    os.close(told)
    os.close(tells)
    os.waitpid(child, 0)

    assert os.read(seen, 10) == b"0"
    assert b"the spec cannot be understood" in os.read(errors, 1000)
    for descriptor in (errors, seen):
        os.close(descriptor)
