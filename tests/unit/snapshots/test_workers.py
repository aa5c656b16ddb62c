"""Layers that are unpacked by processes of their own: what they give, and that none outlives its use."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder import stop
from builder.oci import layer
from builder.oci.compressed import Compression
from builder.snapshots import index
from builder.snapshots.snapshot import FILE, FOLDER, WHITEOUT, Entry
from builder.snapshots.workers import MOST, WORTH, Workers
from builder.store.growing import CutShort, Growing
from tests.support.processes import children, comm, is_alive

CONTENT = {"etc/motd": b"hello\n", "usr": os.urandom(3 << 20)}


def a_blob(*others: Entry) -> tuple[bytes, str]:
    """A layer's blob, and its diff id."""
    entries = [Entry("etc", FOLDER, 0o755), *others]
    entries += [Entry(name, FILE, 0o640, size=len(data)) for name, data in CONTENT.items()]
    out = io.BytesIO()
    made = layer.pack(
        entries, lambda entry: io.BytesIO(CONTENT[entry.path]), layer.Counted(out), Compression("gzip")
    )
    return out.getvalue(), made.diff_id


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.close()


class Coming:
    """A blob that comes into a file; `growing` follows it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"blob-{os.urandom(4).hex()}"
        self.growing = Growing(lambda: None)
        self._file = self.path.open("w+b")
        self.growing.begin(self._file.fileno())

    def give(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self.growing.note(self._file.tell())

    def give_all(self, data: bytes) -> None:
        self.give(data)
        self.growing.end()

    def close(self) -> None:
        self._file.close()
        self.growing.close()


@pytest.fixture
def coming(tmp_path: Path) -> Iterator[Callable[[], Coming]]:
    made: list[Coming] = []

    def make() -> Coming:
        made.append(Coming(tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def job_in(folder: Path) -> dict[str, object]:
    folder.mkdir()
    return {
        "tree": str(folder / "tree"),
        "folder": str(folder),
        "way": None,
        "name": "a layer",
        "many": False,
    }


def working() -> set[int]:
    """The workers that this process has: not those that it was left by others, which have ended."""
    return {pid for pid in children() if comm(pid) in ("pybuild-unpack", "exe")}


def test_a_blob_becomes_a_folder_and_an_index(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path
) -> None:
    data, diff_id = a_blob()
    blob = coming()
    blob.give_all(data)

    done = workers.unpack(blob.growing, job_in(tmp_path / "layer"), blob.growing.fileno())

    assert (done.diff_id, done.settled) == (diff_id, True)
    entries = index.read_index(str(tmp_path / "layer"))
    assert entries is not None
    assert done.size == index.room_of(entries)
    assert {entry.path for entry in entries} == {"etc", *CONTENT}
    for name, bytes_ in CONTENT.items():
        assert (tmp_path / "layer/tree" / name).read_bytes() == bytes_
        assert (tmp_path / "layer/tree" / name).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("other", [Entry("opt/implied", FILE, 0o644), Entry("etc/gone", WHITEOUT)])
def test_a_blob_that_shows_otherwise_over_other_layers_is_not_settled(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path, other: Entry
) -> None:
    data, diff_id = a_blob(other)
    blob = coming()
    blob.give_all(data)

    done = workers.unpack(blob.growing, job_in(tmp_path / "layer"), blob.growing.fileno())

    assert (done.diff_id, done.settled) == (diff_id, False)


def test_one_process_does_one_layer_after_the_other(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path
) -> None:
    data, diff_id = a_blob()
    for name in "ab":
        blob = coming()
        blob.give_all(data)
        assert workers.unpack(blob.growing, job_in(tmp_path / name), blob.growing.fileno()).diff_id == diff_id

    assert len(working()) == 1


def test_what_is_damaged_is_a_layer_of_nobody_and_the_process_does_the_next(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path
) -> None:
    data, diff_id = a_blob()
    bad = coming()
    bad.give(b"\x1f\x8b\x08 is no layer")
    bad.give_all(data)
    with pytest.raises(CutShort):
        workers.unpack(bad.growing, job_in(tmp_path / "bad"), bad.growing.fileno())
    before = working()

    good = coming()
    good.give_all(data)
    assert workers.unpack(good.growing, job_in(tmp_path / "good"), good.growing.fileno()).diff_id == diff_id
    assert working() == before


def test_a_process_that_dies_is_a_layer_of_nobody_and_another_takes_its_place(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path
) -> None:
    data, diff_id = a_blob()
    blob = coming()
    blob.give(data[: WORTH // 2])

    def kill() -> None:
        while not (there := working()):
            time.sleep(0.01)
        os.kill(there.pop(), signal.SIGKILL)
        blob.growing.end()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(CutShort):
        workers.unpack(blob.growing, job_in(tmp_path / "bad"), blob.growing.fileno())
    killer.join()

    good = coming()
    good.give_all(data)
    assert workers.unpack(good.growing, job_in(tmp_path / "good"), good.growing.fileno()).diff_id == diff_id


def test_stopped_it_leaves_no_process_that_could_write(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path
) -> None:
    data, _ = a_blob()
    blob = coming()
    blob.give(data[: WORTH // 2])
    flag = stop._Flag()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            workers.unpack(blob.growing, job_in(tmp_path / "layer"), blob.growing.fileno())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=stop._under(flag, work))
    thread.start()
    while not (tmp_path / "layer/tree/etc").exists():
        time.sleep(0.01)
    flag.up = True
    thread.join()

    assert [type(error) for error in raised] == [stop.Stopped]
    assert working() == set()


def test_closed_none_is_left(workers: Workers, coming: Callable[[], Coming], tmp_path: Path) -> None:
    data, _ = a_blob()
    blob = coming()
    blob.give_all(data)
    workers.unpack(blob.growing, job_in(tmp_path / "layer"), blob.growing.fileno())
    assert working()

    workers.close()

    assert working() == set()


def test_no_more_work_at_a_time_than_there_are_processors(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path
) -> None:
    data, _ = a_blob()
    blobs = [coming() for _ in range(MOST + 2)]

    def unpack(number: int) -> None:
        blob = blobs[number].growing
        workers.unpack(blob, job_in(tmp_path / str(number)), blob.fileno())

    threads = [threading.Thread(target=unpack, args=(number,)) for number in range(len(blobs))]
    for thread in threads:
        thread.start()
    for blob in blobs:
        blob.give_all(data)
    for thread in threads:
        thread.join()

    assert 1 <= len(working()) <= min(MOST, len(os.sched_getaffinity(0)))
    assert all((tmp_path / str(number) / "index").exists() for number in range(len(blobs)))


def test_a_small_blob_is_not_worth_it() -> None:
    assert not Workers().are_worth(WORTH - 1)


def test_alone_on_a_processor_none_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    assert not Workers().are_worth(1 << 40)


def test_one_ends_with_its_builder_and_holds_its_folder_till_then(tmp_path: Path) -> None:
    """However that ends: a sweep of what dead builds left never meets a process that still writes there."""
    data, _ = a_blob()
    (tmp_path / "blob").write_bytes(data[: WORTH // 2])
    script = f"""
        import os, sys
        sys.path[:] = {sys.path!r}
        from builder.store.growing import Growing
        from builder.snapshots.workers import Workers
        claim = os.open({str(tmp_path / "lock")!r}, os.O_CREAT | os.O_RDWR)
        import fcntl
        fcntl.flock(claim, fcntl.LOCK_EX)
        growing = Growing(lambda: None)
        growing.begin(os.open({str(tmp_path / "blob")!r}, os.O_RDONLY))
        growing.note({WORTH // 2})
        os.mkdir({str(tmp_path / "layer")!r})
        job = {{"tree": {str(tmp_path / "layer/tree")!r}, "folder": {str(tmp_path / "layer")!r},
               "way": None, "name": "a layer", "many": False}}
        Workers().unpack(growing, job, claim)
    """
    builder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        while not (tmp_path / "layer/tree/etc").exists():
            assert builder.poll() is None
            time.sleep(0.01)
        (worker,) = children(builder.pid)
        assert comm(worker) == "pybuild-unpack"
    finally:
        builder.kill()
        builder.wait()

    with open(tmp_path / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # which is given up by the last of them
    while is_alive(worker):
        time.sleep(0.01)


def test_no_descriptor_or_environment_of_the_builder_is_with_it(
    workers: Workers, coming: Callable[[], Coming], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)
    data, _ = a_blob()
    blob = coming()
    blob.give_all(data)
    try:
        workers.unpack(blob.growing, job_in(tmp_path / "layer"), blob.growing.fileno())
        (worker,) = working()
        held = {os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")}
    finally:
        os.close(secret)

    assert b"canary" not in Path(f"/proc/{worker}/environ").read_bytes()
    assert {name.partition(":")[0] for name in held} == {"/dev/null", "socket"}
