"""The flags of `pybuild bench`: those of a build that say what is built, and its own."""

from __future__ import annotations

from builder.commands.bench import COMMAND, OWN_FLAGS, PASSED
from builder.commands.build_flags import FLAGS
from builder.commands.store import GLOBAL_FLAGS


def test_every_flag_is_there_once() -> None:
    names = [flag.name for flag in COMMAND.flags]

    assert len(names) == len(set(names))


def test_what_a_build_is_passed_is_a_flag_of_the_build_and_none_of_the_benchs() -> None:
    passed = {flag.name for flag in PASSED}

    assert passed < {flag.name for flag in FLAGS}
    assert not passed & {flag.name for flag in (*OWN_FLAGS, *GLOBAL_FLAGS)}
    assert {"build-arg", "target", "secret", "memory", "isolation", "reproducible"} <= passed
    assert not passed & {"output", "tag", "quiet", "plan", "cache-to", "no-cache", "load"}
