"""Recorded builds as each reader shows them. UPDATE_GOLDEN=1 writes the expected texts anew."""

import io
import os
from pathlib import Path

import pytest

from builder import events
from builder.ui.board import Board
from builder.ui.jsonl import JsonLines
from builder.ui.plain import Plain
from builder.ui.reader import Quiet, open_reader, replay
from builder.ui.stream import Stream

GOLDEN = Path(__file__).parents[2] / "golden" / "ui"
RECORDED = sorted(path.stem for path in GOLDEN.glob("*.jsonl"))


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def screens(name: str, width: int, height: int, *, fancy: bool = True) -> str:
    """The board after every half second of a recorded build, then its last rows."""
    board, shots, last = Board(fancy=fancy), [], 0.0
    for line in (GOLDEN / f"{name}.jsonl").read_bytes().splitlines():
        event = events.decode(line)
        if event.time - last >= 0.5 and board.is_working:
            last = event.time
            shots.append(board.rows(event.time, width, height))
        board.emit(event)
    shots.append(board.final_rows(width))
    return "\n---\n".join("\n".join("".join(t for t, _ in row) for row in shot) for shot in shots) + "\n"


def test_there_are_recorded_builds() -> None:
    assert {"simple", "interleaved", "failed", "hostile", "cached"} <= set(RECORDED)


@pytest.mark.parametrize("name", RECORDED)
def test_plain_lines(name: str) -> None:
    out = io.StringIO()

    replay(str(GOLDEN / f"{name}.jsonl"), Plain(Stream(out)))

    compare(f"{name}.plain.txt", out.getvalue())


@pytest.mark.parametrize("name", RECORDED)
def test_terminal_rows(name: str) -> None:
    compare(f"{name}.tty.txt", screens(name, 72, 20))


def test_terminal_rows_in_ascii_on_a_small_screen() -> None:
    compare("simple.small.txt", screens("simple", 40, 5, fancy=False))


@pytest.mark.parametrize("name", RECORDED)
def test_raw_json_is_the_recorded_stream_itself(name: str) -> None:
    out = io.StringIO()

    replay(str(GOLDEN / f"{name}.jsonl"), JsonLines(Stream(out)))

    assert out.getvalue().encode() == (GOLDEN / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_of_a_build_reaches_the_terminal_but_printable_characters(name: str) -> None:
    out = io.StringIO()

    replay(str(GOLDEN / f"{name}.jsonl"), Plain(Stream(out)))
    shown = out.getvalue() + screens(name, 72, 20)

    assert all(line.isprintable() for line in shown.split("\n"))


def test_the_quiet_reader_takes_every_event() -> None:
    replay(str(GOLDEN / "simple.jsonl"), Quiet())


def test_where_no_terminal_is_the_automatic_reader_is_the_plain_one() -> None:
    assert isinstance(open_reader("auto", io.StringIO(), {"TERM": "xterm"}), Plain)
    assert isinstance(open_reader("rawjson", io.StringIO(), {}), JsonLines)
    assert isinstance(open_reader("quiet", io.StringIO(), {}), Quiet)
