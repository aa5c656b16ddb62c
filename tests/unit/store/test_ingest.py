import errno
import fcntl
import os
import signal
import threading

import pytest

from builder.errors import StoreError
from builder.store import ingest
from builder.store.ingest import IngestFolder, count_left, make_file, sweep_ingest


def names(root):
    return sorted(os.listdir(root / "ingest"))


def in_child(function):
    """Run a function in a child that then stops; the child's pid."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        function()
        os.write(told, b"x")
        signal.pause()
        os._exit(1)
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
    return pid


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_folder_is_there_in_the_block_and_gone_after_it(tmp_path):
    with IngestFolder(tmp_path) as work:
        assert os.listdir(work.path) == ["lock"]
        os.mkdir(os.path.join(work.path, "a"))
        assert work.name.startswith(f"{os.getpid()}-")

    assert names(tmp_path) == []


def test_what_was_renamed_away_stays(tmp_path):
    with IngestFolder(tmp_path) as work:
        os.mkdir(os.path.join(work.path, "a"))
        os.rename(os.path.join(work.path, "a"), tmp_path / "kept")

    assert (tmp_path / "kept").is_dir()


def test_a_sweep_leaves_the_living_and_takes_the_dead(tmp_path):
    made = []
    pid = in_child(lambda: made.append(IngestFolder(tmp_path)))
    with IngestFolder(tmp_path) as ours:
        assert sweep_ingest(tmp_path) == 0
        assert len(names(tmp_path)) == 2

        kill(pid)

        assert sweep_ingest(tmp_path) == 1
        assert names(tmp_path) == [ours.name]


def test_a_folder_without_a_lock_is_dead(tmp_path):
    (tmp_path / "ingest/1-0123/deep/er").mkdir(parents=True)

    assert sweep_ingest(tmp_path) == 1
    assert names(tmp_path) == []


def test_a_file_goes_once_nobody_holds_it_and_its_process_is_dead(tmp_path):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    (tmp_path / "ingest").mkdir()
    (tmp_path / f"ingest/blob-{pid}-00ff").touch()
    (tmp_path / f"ingest/blob-{os.getpid()}-00ff").touch()
    (tmp_path / "ingest/of-no-known-form").touch()

    assert sweep_ingest(tmp_path) == 1
    assert names(tmp_path) == [f"blob-{os.getpid()}-00ff", "of-no-known-form"]


def test_a_sweep_of_no_store_does_nothing(tmp_path):
    assert sweep_ingest(tmp_path / "nowhere") == 0


def test_makers_and_sweepers_do_not_hurt_each_other(tmp_path):
    stop = threading.Event()
    problems = []

    def sweep():
        while not stop.is_set():
            sweep_ingest(tmp_path)

    def make():
        try:
            for _ in range(150):
                with IngestFolder(tmp_path) as work:
                    path = os.path.join(work.path, "f")
                    with open(path, "w") as file:
                        file.write("x")
                    os.stat(path)
        except OSError as error:
            problems.append(error)

    sweeper = threading.Thread(target=sweep)
    makers = [threading.Thread(target=make) for _ in range(3)]
    for thread in (sweeper, *makers):
        thread.start()
    for thread in makers:
        thread.join()
    stop.set()
    sweeper.join()

    assert problems == []
    sweep_ingest(tmp_path)  # two that remove the same at once leave it to the next sweep
    assert names(tmp_path) == []


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_sweep_follows_no_link(tmp_path, target):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "ingest").mkdir()
    (tmp_path / "ingest/blob-999999999-00").symlink_to(tmp_path / target)

    sweep_ingest(tmp_path)

    assert (tmp_path / target).exists()


def test_what_a_sweep_could_not_remove_can_be_counted(tmp_path):
    with IngestFolder(tmp_path) as held:
        dead, bare = tmp_path / "ingest/1-dead", tmp_path / "ingest/1-bare"
        for folder in (dead, bare):
            folder.mkdir()
        (dead / "lock").touch()
        (tmp_path / "ingest/file-1-x").touch()

        assert count_left(tmp_path) == 2
        assert os.path.isdir(held.path)
        sweep_ingest(tmp_path)
        assert count_left(tmp_path) == 0
    assert count_left(tmp_path / "nowhere") == 0


@pytest.mark.parametrize("refused", ["open", "flock"])
def test_a_folder_whose_lock_cannot_be_had_is_not_left(tmp_path, monkeypatch, refused):
    def refuse(*_words, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "ingest").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "open") if refused == "open" else (fcntl, "flock")), refuse)
        with pytest.raises(StoreError, match="no space left"):
            IngestFolder(tmp_path)

    assert names(tmp_path) == []


def sweep_from_elsewhere(root, monkeypatch):
    """As a process of another PID namespace does, to which no pid of ours means anything."""
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_is_alive", lambda _pid: False)
        return sweep_ingest(root)


def test_a_file_that_is_held_stays_whatever_pid_namespace_the_sweeper_is_in(tmp_path, monkeypatch):
    path, fd = make_file(str(tmp_path), "kind")

    assert sweep_from_elsewhere(tmp_path, monkeypatch) == 0
    os.close(fd)
    assert sweep_from_elsewhere(tmp_path, monkeypatch) == 1
    assert not os.path.exists(path)


def test_whose_file_is_swept_before_it_is_held_makes_another(tmp_path, monkeypatch):
    flock, swept = fcntl.flock, []

    def sweep_first(fd, operation):
        if not swept:
            swept.append(0)  # whoever comes to this lock next sweeps no more
            swept.append(sweep_from_elsewhere(tmp_path, monkeypatch))
        flock(fd, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", sweep_first)
        path, fd = make_file(str(tmp_path), "kind")

    assert swept == [0, 1]
    assert names(tmp_path) == [os.path.basename(path)]
    os.close(fd)
