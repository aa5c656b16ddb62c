"""Handlers of binfmt_misc, as a folder of files like the kernel's."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from builder.isolation.emulators import (
    emulated_platforms,
    emulation_of,
    needs_loader,
    program_head,
    read_handlers,
)

# As qemu's own script registers them.
AARCH64 = ("7f454c460201010000000000000000000200b700", "ffffffffffffff00fffffffffffffffffeffffff")
ARM = ("7f454c4601010100000000000000000002002800", "ffffffffffffff00fffffffffffffffffeffffff")
S390X = ("7f454c4602020100000000000000000000020016", "ffffffffffffff00fffffffffffffffffffeffff")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "binfmt_misc"
    folder.mkdir()
    (folder / "status").write_text("enabled\n")
    (folder / "register").write_text("")
    return folder


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    return write_program(tmp_path / "qemu-static", 1)


def write_program(path: Path, segment: int) -> Path:
    """The head of a program of 64 bits with one segment of that type."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    rest = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    path.write_bytes(head + rest + struct.pack("<I", segment) + bytes(52))
    return path


def register(
    folder: Path, name: str, numbers: tuple[str, str], interpreter: Path, flags: str, state: str = "enabled"
) -> None:
    magic, mask = numbers
    text = f"{state}\ninterpreter {interpreter}\nflags: {flags}\noffset 0\nmagic {magic}\nmask {mask}\n"
    (folder / name).write_text(text)


@pytest.mark.parametrize(("numbers", "architecture"), [(AARCH64, "arm64"), (ARM, "arm"), (S390X, "s390x")])
def test_a_handler_is_found_by_the_programs_it_takes(
    folder: Path, interpreter: Path, numbers: tuple[str, str], architecture: str
) -> None:
    register(folder, "whatever", numbers, interpreter, "F")

    (handler,) = read_handlers(str(folder))

    others = {"amd64", "386", "arm", "arm64", "s390x", "riscv64", "ppc64le"} - {architecture}
    assert handler.takes(program_head(architecture) or b"")
    assert not any(handler.takes(program_head(other) or b"") for other in others)
    assert emulation_of(architecture, str(folder)).problem == ""


def test_the_platforms_that_are_emulated_are_told(folder: Path, interpreter: Path) -> None:
    register(folder, "qemu-arm", ARM, interpreter, "F")
    register(folder, "qemu-s390x", S390X, interpreter, "")

    assert emulated_platforms(read_handlers(str(folder))) == ["linux/arm", "linux/s390x"]
    assert emulated_platforms([]) == []


def test_a_held_interpreter_is_not_brought(folder: Path, interpreter: Path) -> None:
    register(folder, "qemu-aarch64", AARCH64, interpreter, "POCF")

    found = emulation_of("arm64", str(folder))

    assert (found.bring, found.problem) == ((), "")


def test_an_interpreter_that_is_not_held_is_brought_to_its_path(
    folder: Path, interpreter: Path, tmp_path: Path
) -> None:
    link = tmp_path / "aarch64-binfmt-P"
    link.symlink_to(interpreter)
    register(folder, "qemu-aarch64", AARCH64, link, "OC")

    found = emulation_of("arm64", str(folder))

    assert (found.bring, found.problem) == (((str(link), str(interpreter)),), "")


@pytest.mark.parametrize("flags", ["F", ""])
def test_an_interpreter_with_a_loader_is_no_use(folder: Path, tmp_path: Path, flags: str) -> None:
    dynamic = write_program(tmp_path / "qemu-aarch64", 3)
    register(folder, "qemu-aarch64", AARCH64, dynamic, flags)

    assert "linked dynamically" in emulation_of("arm64", str(folder)).problem


def test_an_interpreter_that_is_gone_is_a_problem_unless_it_is_held(folder: Path, tmp_path: Path) -> None:
    register(folder, "qemu-aarch64", AARCH64, tmp_path / "gone", "")
    register(folder, "qemu-arm", ARM, tmp_path / "gone", "F")

    assert emulation_of("arm64", str(folder)).problem == f"its emulator {tmp_path}/gone is not there"
    assert emulation_of("arm64", str(folder)).bring == ()
    assert emulation_of("arm", str(folder)).problem == ""


def test_what_is_switched_off_or_damaged_does_not_count(folder: Path, interpreter: Path) -> None:
    register(folder, "qemu-aarch64", AARCH64, interpreter, "F", state="disabled")
    register(folder, "odd", ("7f4", "ff"), interpreter, "F")
    register(folder, "relative", AARCH64, Path("qemu"), "F")
    (folder / "by-name").write_text("enabled\ninterpreter /usr/bin/jar\nflags: \nextension .jar\n")

    assert read_handlers(str(folder)) == []
    assert "no emulator is registered" in emulation_of("arm64", str(folder)).problem

    register(folder, "qemu-aarch64", AARCH64, interpreter, "F")
    (folder / "status").write_text("disabled\n")
    assert read_handlers(str(folder)) == []


def test_where_binfmt_misc_is_not_seen_there_is_no_handler(tmp_path: Path) -> None:
    assert read_handlers(str(tmp_path / "none")) == []
    assert emulation_of("pdp11", str(tmp_path)).problem == "no emulator is known for it"


def test_programs_with_a_loader_are_told_from_those_without(interpreter: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    cut = tmp_path / "cut"
    cut.write_bytes(interpreter.read_bytes()[:70])

    assert needs_loader(sys.executable)
    assert not needs_loader(str(interpreter))
    assert not needs_loader(str(text))
    assert not needs_loader(str(cut))
