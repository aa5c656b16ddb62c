"""What the README promises is there, and what is there is in the README."""

from __future__ import annotations

import re

from builder.cli import COMMANDS
from builder.commands import (
    archives,
    bench,
    debug,
    describing,
    diff,
    explain,
    fsck,
    images,
    layers,
    lock,
    login,
    room,
    transfers,
    verify,
)
from builder.commands.build_flags import FLAGS
from tests.support.machine import CHECKOUT

README = (CHECKOUT / "README.md").read_text()


def test_every_flag_of_a_build_is_told() -> None:
    offered = {flag.name for flag in FLAGS if flag.group and flag.name != "help"}

    assert not {name for name in offered if f"--{name}" not in README}


def test_every_command_is_told() -> None:
    assert not {name for name in COMMANDS if name != "build" and f"pybuild {name}" not in README}


def test_every_flag_that_is_told_is_there() -> None:
    told = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", README))
    flags = {flag.name for flag in FLAGS}
    others = {"mount", "security", "from", "chmod", "device", "checksum"}  # of instructions
    others |= {"privileged", "user", "scope"}  # of podman and systemd-run
    commands = (bench.COMMAND, debug.COMMAND, explain.COMMAND, fsck.COMMAND, *room.COMMANDS.values())
    commands += (lock.COMMAND, verify.COMMAND, *login.COMMANDS.values())
    for of_images in (archives, describing, diff, images, layers, transfers):
        commands += tuple(of_images.COMMANDS.values())
    flags |= {flag.name for command in commands for flag in command.flags}

    assert told - others <= flags | {"version"}


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)

    assert targets
    assert not [target for target in targets if not (CHECKOUT / target).exists()]
