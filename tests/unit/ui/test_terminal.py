import io
import os
import pty
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder import events
from builder.ui.reader import open_reader, replay
from builder.ui.tty import Terminal

GOLDEN = Path(__file__).parents[2] / "golden" / "ui"
XTERM = {"TERM": "xterm-256color"}


class FakeTerminal(io.StringIO):
    """A terminal of 80 by 24 that remembers everything."""

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


class DeadTerminal(FakeTerminal):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def replayed(name: str, environ: Mapping[str, str]) -> str:
    terminal = FakeTerminal()
    replay(str(GOLDEN / f"{name}.jsonl"), Terminal(terminal, environ))
    return terminal.getvalue()


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)


def started(label: str = "[1/1] RUN x") -> list[events.AnyEvent]:
    info = events.VertexInfo(digest="v", label=label, stage="s", line=1)
    return [
        events.BuildStarted(time=0.0, name="app", dockerfile="Dockerfile", context="."),
        events.Planned(time=0.0, vertices=(info,), target="v"),
        events.Started(time=0.0, vertex="v"),
    ]


def test_a_terminal_gets_the_live_view() -> None:
    assert isinstance(open_reader("auto", FakeTerminal(), XTERM), Terminal)
    for kind in ("dumb", "unknown", ""):
        assert not isinstance(open_reader("auto", FakeTerminal(), {"TERM": kind}), Terminal)


def test_what_runs_is_drawn_in_place_and_gives_way_to_lines_that_stay() -> None:
    shown = replayed("simple", XTERM)

    assert "\x1b[?25l" in shown
    assert "\x1b[?25h" in shown
    assert "│ cc -O2 -c main.c" in without_escapes(shown)
    last = without_escapes(shown.rpartition("\x1b[?25h")[2]).strip("\r\n").split("\n")
    assert last[0].lstrip("\r").split() == ["✔", "[internal]", "load", "build", "context", "0.1s"]
    assert last[-1] == "built app:1.0 sha256:aaaaaaaaaaaa (12.3 MB) in 4.6s, 0 of 5 steps cached"


def test_what_runs_is_drawn_whatever_rich_reads_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "0")

    assert "│ cc -O2 -c main.c" in without_escapes(replayed("simple", XTERM))


def test_a_cached_build_draws_nothing_in_place() -> None:
    shown = replayed("cached", {**XTERM, "NO_COLOR": "1"})

    assert "\x1b" not in shown
    assert shown.count("CACHED") == 4
    assert shown.endswith("all 5 steps cached\n")


def test_without_colors_nothing_but_the_cursor_is_controlled() -> None:
    shown = replayed("simple", {**XTERM, "NO_COLOR": "1"})

    assert not re.search(r"\x1b\[[0-9;]*m", shown.replace("\x1b[0m", ""))


def test_escapes_of_steps_never_reach_the_terminal() -> None:
    ours = without_escapes(replayed("hostile", XTERM))

    assert "\x1b" not in ours
    assert "\x9b" not in ours
    assert "\x07" not in ours
    assert "owned" not in ours
    assert "\u202e" not in ours


def test_a_ticking_clock_moves_the_time_of_what_runs() -> None:
    terminal = FakeTerminal()
    reader = Terminal(terminal, {**XTERM, "NO_COLOR": "1"})
    for event in started():
        reader.emit(event)

    reader.tick(1.0)
    reader.tick(62.0)
    reader.close()

    assert "1.0s" in terminal.getvalue()
    assert "1m02s" in terminal.getvalue()


def test_the_cursor_is_shown_between_two_pictures() -> None:
    """Who stops the process there (Ctrl-Z), or kills it, has a terminal with a cursor."""
    terminal = FakeTerminal()
    reader = Terminal(terminal, XTERM)
    for event in started():
        reader.emit(event)

    for now in (1.0, 2.0):
        reader.tick(now)

        assert f"{now}s" in terminal.getvalue().rpartition("\x1b[?25l")[2]
        assert terminal.getvalue().endswith("\x1b[?25h")
    reader.close()


def test_a_terminal_that_is_gone_does_not_stop_the_build() -> None:
    reader = Terminal(DeadTerminal(), XTERM)
    for event in started():
        reader.emit(event)

    reader.tick(1.0)
    reader.close()

    assert reader.out.gone


def test_closing_twice_says_everything_once() -> None:
    terminal = FakeTerminal()
    reader = Terminal(terminal, XTERM)
    for event in started():
        reader.emit(event)
    reader.close()
    once = terminal.getvalue()

    reader.close()

    assert terminal.getvalue() == once


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (20, 4), (1, 1), (0, 0)])
def test_any_size_of_a_real_terminal_will_do(columns: int, rows: int) -> None:
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    received: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                received.append(os.read(master, 65536))
            except OSError:  # the other end was closed
                return

    reading = threading.Thread(target=drain)
    reading.start()
    with open(slave, "w", encoding="utf-8") as terminal:
        replay(str(GOLDEN / "simple.jsonl"), open_reader("tty", terminal, XTERM))
    reading.join()
    os.close(master)

    assert b"in 4.6s" in b"".join(received)
