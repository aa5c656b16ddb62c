import os
import shutil
from pathlib import Path

import pytest

from builder import events
from builder.commands.graph import last_seconds


def record(builds: Path, name: str, age: int, *recorded: events.AnyEvent) -> None:
    folder = builds / name
    folder.mkdir(parents=True)
    path = folder / "events.jsonl"
    path.write_bytes(b"".join(events.encode(event) + b"\n" for event in recorded))
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))


def finished(vertex: str, seconds: float) -> events.Finished:
    return events.Finished(time=1.0, vertex=vertex, seconds=seconds)


def test_the_newest_record_that_knows_a_vertex_tells_its_time(tmp_path: Path) -> None:
    record(tmp_path, "a", 20, finished("x", 1.0), finished("y", 2.0), finished("other", 9.0))
    record(tmp_path, "b", 10, finished("x", 3.0), events.Cached(time=1.0, vertex="y"))

    assert last_seconds(str(tmp_path), {"x", "y", "z"}) == {"x": 3.0, "y": 2.0}


def test_damaged_and_missing_records_tell_what_they_can(tmp_path: Path) -> None:
    record(tmp_path, "a", 0, finished("x", 1.0))
    with (tmp_path / "a" / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"finished","time"\n')
    (tmp_path / "empty").mkdir()

    assert last_seconds(str(tmp_path), {"x"}) == {"x": 1.0}
    assert last_seconds(str(tmp_path / "nowhere"), {"x"}) == {}


def test_a_record_that_goes_while_it_is_looked_for_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, "a", 20, finished("x", 1.0))
    record(tmp_path, "b", 10, finished("x", 2.0))
    look = os.stat

    def look_and_lose(path: str, **how: bool) -> os.stat_result:
        found = look(path, **how)
        if path == str(tmp_path / "b" / "events.jsonl"):
            shutil.rmtree(tmp_path / "b")
        return found

    monkeypatch.setattr(os, "stat", look_and_lose)

    assert last_seconds(str(tmp_path), {"x"}) == {"x": 1.0}
