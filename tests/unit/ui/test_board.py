import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import events
from builder.ui.board import Board, cells, fit

EVENT_KINDS = st.sampled_from(["started", "cached", "finished", "failed", "log", "waiting", "progress"])
STEPS = st.lists(st.tuples(st.integers(0, 30), EVENT_KINDS, st.text(max_size=90)), max_size=80)


def event_of(time: float, vertex: str, kind: str, text: str) -> events.AnyEvent:
    match kind:
        case "started":
            return events.Started(time=time, vertex=vertex)
        case "cached":
            return events.Cached(time=time, vertex=vertex)
        case "finished":
            return events.Finished(time=time, vertex=vertex, seconds=1.0)
        case "failed":
            return events.Failed(time=time, vertex=vertex, seconds=1.0, error=text)
        case "waiting":
            return events.Waiting(time=time, vertex=vertex)
        case "progress":
            return events.Progress(time=time, vertex=vertex, item=text, done=1, total=2)
    return events.Log(time=time, vertex=vertex, stream=1, line=text)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, width=st.integers(1, 120), height=st.integers(1, 40))
def test_the_board_never_exceeds_the_screen(
    steps: list[tuple[int, str, str]], width: int, height: int
) -> None:
    board = Board()
    for time, (vertex, kind, text) in enumerate(steps):
        board.emit(event_of(float(time), f"v{vertex}", kind, text))

    rows = board.rows(100.0, width, height)

    assert len(rows) <= max(2, height)
    assert all("\n" not in text and "\x1b" not in text for row in rows for text, _ in row)
    if width >= 60:  # narrower ones are cropped by who draws
        assert all(sum(cells(text) for text, _ in row) <= width for row in rows)


def test_what_runs_has_the_room_before_what_ended() -> None:
    board = Board()
    for number in range(10):
        board.emit(event_of(0.0, f"done{number}", "finished", ""))
    for number in range(3):
        board.emit(event_of(0.0, f"busy{number}", "started", ""))

    text = ["".join(part for part, _ in row) for row in board.rows(1.0, 60, 7)]

    assert [line.split()[1] for line in text[2:]] == ["done9", "busy0", "busy1", "busy2"]
    assert text[1].strip() == "… 9 earlier"


def test_transfers_show_their_bytes_until_they_are_over() -> None:
    board = Board()
    board.emit(events.Started(time=0.0, vertex="v"))
    board.emit(events.Progress(time=0.0, vertex="v", item="aa", done=5_000_000, total=10_000_000))
    board.emit(events.Progress(time=0.0, vertex="v", item="bb", done=7, total=7))
    board.emit(events.Progress(time=0.0, vertex="v", item="cc", done=3, total=9, unit="files"))

    text = ["".join(part for part, _ in row) for row in board.rows(1.0, 60, 20)]

    assert [line.strip() for line in text[2:]] == [
        "│ aa 5.00 MB / 10.0 MB",
        "│ cc 3 / 9 files",
        "│ 1 transfer done",
    ]


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("abc", -3, ""),
    ],
)
def test_texts_are_cut_by_the_cells_that_they_fill(text: str, width: int, cut: str) -> None:
    assert fit(text, width) == cut
