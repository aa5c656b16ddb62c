"""What crosses between the builder, the zygote and a step."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError, SandboxError, StepFailed
from builder.runtime import failure, probe
from builder.runtime.launch import LONGEST_LINE, _error_of, _Step, _Stream
from builder.runtime.zygote import read_payload, write_payload


@given(st.binary(max_size=50), st.dictionaries(st.text(max_size=5), st.binary(max_size=50), max_size=3))
def test_a_payload_comes_back_as_it_was(document: bytes, files: dict[str, bytes]) -> None:
    payload = write_payload(document, files)
    try:
        assert read_payload(payload) == (document, files)
    finally:
        os.close(payload)


def test_a_failure_comes_back_as_it_was() -> None:
    told = failure.decode(failure.Failure("mount", 2, "cannot mount 'x'").encode())
    assert (told.step, told.errno, told.text) == ("mount", 2, "cannot mount 'x'")


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"step": 1}', b"\xff"])
def test_a_broken_failure_is_one_too(document: bytes) -> None:
    assert "broke off" in failure.decode(document).text


@pytest.mark.parametrize(
    ("step", "kind"),
    [("exec", StepFailed), ("mount", BuildError), ("cwd", BuildError), ("limit", BuildError)],
)
def test_the_steps_own_faults_are_not_the_sandboxs(step: str, kind: type[BuildError]) -> None:
    error = _error_of(failure.Failure(step, 13, "no"))
    assert type(error) is kind
    assert isinstance(_error_of(failure.Failure("root", 13, "no")), SandboxError)


@given(
    chunks=st.lists(st.binary(max_size=20) | st.just(b"\n") | st.just(b"x" * LONGEST_LINE), max_size=12),
)
def test_lines_do_not_depend_on_how_bytes_arrive(chunks: list[bytes]) -> None:
    lines: list[bytes] = []
    stream = _Stream(1, as_lines=True)
    for chunk in chunks:
        stream.feed(chunk, lambda _, line: lines.append(line))
        assert len(stream.rest) < LONGEST_LINE
    stream.finish(lambda _, line: lines.append(line))
    whole = b"".join(chunks)
    assert b"".join(lines) == whole.replace(b"\n", b"")
    assert all(len(line) <= LONGEST_LINE for line in lines)
    if len(whole) < LONGEST_LINE:
        assert lines == whole.removesuffix(b"\n").split(b"\n") or whole in (b"", b"\n")


def test_kernel_releases_are_read_as_numbers() -> None:
    assert probe._version("6.18.44-fc-v669") == (6, 18)
    assert probe._version("5.4.0-1-amd64") == (5, 4)


def test_a_plain_user_is_told_to_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    reason = probe.probe()
    assert reason is not None
    assert "root" in reason.message
    assert reason.hint


async def test_what_is_written_while_lines_are_handed_on_keeps_its_order() -> None:
    step = _Step(supervised=False, as_lines=True, on_terminal=None)
    out, err, failed = step.take_child_ends()
    lines: list[tuple[int, bytes]] = []

    def take(stream: int, line: bytes) -> None:
        lines.append((stream, line))
        if line == b"first":
            os.write(out, b"second\n")
            os.write(err, b"last\n")
        if line == b"last":
            step.learn({"status": 0})

    os.write(out, b"first\n")
    try:
        await asyncio.wait_for(step.follow(take), 60)
    finally:
        step.close()
        for end in (out, err, failed):
            os.close(end)

    assert lines == [(1, b"first"), (1, b"second"), (2, b"last")]
