"""Blobs appear whole or not at all, whatever happens to whoever writes them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from builder import digest as digests
from builder.digest import Digest
from builder.errors import StoreError
from builder.store.blobs import BlobStore, WrongContent
from builder.store.ingest import sweep_ingest

DATA = b"some bytes" * 1000
DIGEST = digests.of_bytes(DATA)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def waiting(blobs: BlobStore) -> list[str]:
    folder = os.path.join(blobs.folder, "ingest")
    return os.listdir(folder) if os.path.exists(folder) else []


def test_what_is_put_can_be_read(blobs: BlobStore) -> None:
    with blobs.ingest() as ingest:
        ingest.write(DATA[:10])
        ingest.write(memoryview(DATA)[10:])
        assert ingest.commit(expected=DIGEST, size=len(DATA)) == (DIGEST, len(DATA))

    assert blobs.stat(DIGEST) == len(DATA)
    assert blobs.read(DIGEST, len(DATA)) == DATA
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert list(blobs.digests()) == [DIGEST]
    assert waiting(blobs) == []


def test_putting_twice_is_no_error(blobs: BlobStore) -> None:
    with blobs.ingest() as ingest:
        ingest.write(DATA)
        ingest.commit()
    blobs.barrier()
    before = blobs.path(DIGEST).stat().st_ino

    with blobs.ingest() as ingest:
        ingest.write(DATA)
        ingest.commit()

    assert blobs.path(DIGEST).stat().st_ino == before
    assert waiting(blobs) == []


def test_wrong_bytes_leave_nothing(blobs: BlobStore) -> None:
    for expected, size in ((digests.of_bytes(b"x"), None), (None, 3)):
        with blobs.ingest() as ingest:
            ingest.write(DATA)
            with pytest.raises(WrongContent) as caught:
                ingest.commit(expected=expected, size=size)
        assert caught.value.digest == DIGEST

    assert list(blobs.digests()) == []
    assert waiting(blobs) == []


def test_a_block_that_is_left_early_leaves_nothing(blobs: BlobStore) -> None:
    with blobs.ingest() as ingest:
        ingest.write(DATA)

    assert waiting(blobs) == []


def test_a_restart_forgets_what_was_written(blobs: BlobStore) -> None:
    with blobs.ingest() as ingest:
        ingest.write(b"wrong, and longer" * 1000)
        ingest.restart()
        ingest.write(DATA)
        ingest.commit(expected=DIGEST, size=len(DATA))

    blobs.verify(DIGEST)


@pytest.mark.parametrize(
    "text", ["sha256:../../../etc/passwd", "sha512:" + "a" * 64, "", "sha256:" + "A" * 64]
)
@pytest.mark.hostile("CVE-2014-9356", "CVE-2014-9358", "CVE-2024-3727")
def test_only_a_digest_becomes_a_path(blobs: BlobStore, text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        blobs.stat(Digest(text))


def test_a_blob_that_is_not_there_is_an_error(blobs: BlobStore) -> None:
    with pytest.raises(StoreError, match="is not in the store"):
        blobs.open(DIGEST)


def test_damage_is_seen_when_a_blob_is_read(blobs: BlobStore) -> None:
    blobs.put(DATA)
    blobs.barrier()
    path = blobs.path(DIGEST)
    path.chmod(0o600)
    path.write_bytes(b"X" + DATA[1:])

    damage = path.read_bytes()
    with pytest.raises(StoreError, match="is damaged") as caught:
        blobs.read(DIGEST, 1 << 20)
    path.write_bytes(damage)
    with pytest.raises(StoreError, match="is damaged"):
        blobs.verify(DIGEST)
    assert "it was removed" in (caught.value.hint or "")


def test_a_read_has_a_limit(blobs: BlobStore) -> None:
    blobs.put(DATA)

    with pytest.raises(StoreError, match="more than the 5 bytes"):
        blobs.read(DIGEST, 5)


def test_a_barrier_marks_what_is_on_the_disk(blobs: BlobStore) -> None:
    blobs.put(DATA)
    assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o600

    blobs.barrier()

    assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o400


def test_a_barrier_over_many_blobs_needs_few_descriptors(blobs: BlobStore) -> None:
    made = [blobs.put(str(number).encode()) for number in range(200)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    try:
        blobs.barrier()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert {stat.S_IMODE(blobs.path(digest).stat().st_mode) for digest in made} == {0o400}


def test_a_durable_store_needs_no_barrier(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path, durable=True)

    blobs.put(DATA)

    assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o400


def test_a_blob_without_the_mark_is_hashed_before_it_is_believed(tmp_path: Path) -> None:
    BlobStore(tmp_path).put(DATA)
    path = BlobStore(tmp_path).path(DIGEST)

    assert BlobStore(tmp_path).stat(DIGEST) == len(DATA)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_what_a_power_cut_cut_short_is_not_there_and_can_be_put_again(tmp_path: Path) -> None:
    BlobStore(tmp_path).put(DATA)
    path = BlobStore(tmp_path).path(DIGEST)
    path.write_bytes(bytes(len(DATA)))

    blobs = BlobStore(tmp_path)
    assert blobs.stat(DIGEST) is None
    assert blobs.put(DATA) == DIGEST

    blobs.verify(DIGEST)
    assert waiting(blobs) == []


def test_a_writer_that_is_killed_leaves_no_blob_and_the_sweep_cleans_up(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        from builder.store.blobs import BlobStore
        ingest = BlobStore(sys.argv[1]).ingest()
        ingest.write(b"some bytes")
        print("ready", flush=True)
        time.sleep(60)
    """)
    writer = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout as out:
        assert out.readline() == b"ready\n"
        blobs = BlobStore(tmp_path)
        assert sweep_ingest(tmp_path) == 0, "it is still being written"
        writer.send_signal(signal.SIGKILL)
        writer.wait()

    assert sweep_ingest(tmp_path) == 1
    assert waiting(blobs) == []
    blobs.put(b"some bytes")


def test_many_threads_may_put_the_same_blobs(blobs: BlobStore) -> None:
    contents = [bytes([number]) * 50_000 for number in range(10)]
    failures: list[BaseException] = []

    def put_all() -> None:
        try:
            for data in contents:
                with blobs.ingest() as ingest:
                    ingest.write(data)
                    ingest.commit()
                assert blobs.stat(digests.of_bytes(data)) == len(data)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=put_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert sorted(blobs.digests()) == sorted(map(digests.of_bytes, contents))
    assert waiting(blobs) == []


def test_several_processes_may_put_the_same_blobs(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from builder.store.blobs import BlobStore
        blobs = BlobStore(sys.argv[1])
        for number in range(60):
            blobs.put(bytes([number]) * 20_000)
        blobs.barrier()
    """)
    writers = [subprocess.Popen([sys.executable, "-c", script, tmp_path]) for _ in range(3)]

    assert [writer.wait() for writer in writers] == [0, 0, 0]

    blobs = BlobStore(tmp_path)
    assert len(list(blobs.digests())) == 60
    for digest in blobs.digests():
        blobs.verify(digest)
    assert waiting(blobs) == []


class _Failing:
    """os, with one function that fails at its n-th call."""

    def __init__(self, name: str, at: int, code: int) -> None:
        self.name, self.left, self.code = name, at, code
        self.real = getattr(os, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("name", ["open", "write", "link", "unlink", "fsync", "fchmod", "stat"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_each_system_call_may_fail_and_the_store_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    for attempt in range(1, 20):
        failing = _Failing(name, attempt, code)
        blobs = BlobStore(tmp_path / str(attempt), durable=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                blobs.put(DATA)
                failed = False
            except (StoreError, OSError):
                failed = True
        fresh = BlobStore(blobs.folder)
        assert fresh.stat(DIGEST) in (None, len(DATA))
        fresh.put(DATA)
        fresh.verify(DIGEST)
        if not failed and failing.left > 0:
            break
    else:
        pytest.fail("the loop did not come to a run without a failing call")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "no space left on the device"),
        (errno.EDQUOT, "no space left on the device"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "input/output error"),
    ],
)
def test_what_the_disk_refuses_is_told_in_words(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    blobs.put(b"")
    with blobs.ingest() as ingest:
        monkeypatch.setattr(os, "write", _Failing("write", 1, code))
        with pytest.raises(StoreError, match=said) as caught:
            ingest.write(DATA)

    assert blobs.folder in caught.value.message


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small tmpfs")
def test_a_full_disk_leaves_a_usable_store(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], check=True)
    try:
        blobs = BlobStore(tmp_path)
        with pytest.raises(StoreError, match="no space left") as caught:
            blobs.put(bytes(1 << 20))
        assert "--root" in (caught.value.hint or "")
        assert waiting(blobs) == []
        digest = blobs.put(b"small")
        assert blobs.read(digest, 10) == b"small"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_digest_is_that_of_the_bytes(blobs: BlobStore) -> None:
    assert blobs.put(DATA) == "sha256:" + hashlib.sha256(DATA).hexdigest()


def test_a_damaged_blob_gives_way_to_one_that_is_written_anew(tmp_path: Path) -> None:
    for write in (lambda blobs: blobs.put(b"12345"), lambda blobs: _ingest(blobs, b"12345")):
        blobs = BlobStore(tmp_path, durable=True)
        digest = write(blobs)
        file = blobs.path(digest)
        file.chmod(0o600)
        file.write_bytes(b"1x345")
        file.chmod(0o400)

        assert write(BlobStore(tmp_path)) == digest

        assert file.read_bytes() == b"12345"


def _ingest(blobs: BlobStore, data: bytes) -> Digest:
    with blobs.ingest() as ingest:
        ingest.write(data)
        return ingest.commit()[0]


def test_the_error_for_a_damaged_blob_drops_it_and_for_a_sound_one_does_not(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path, durable=True)
    sound, damaged = blobs.put(b"sound"), blobs.put(b"damaged")
    blobs.path(damaged).chmod(0o600)
    blobs.path(damaged).write_bytes(b"DAMAGED")

    assert "it was removed" in (blobs.damaged(damaged).hint or "")
    assert "it was removed" not in (blobs.damaged(sound).hint or "")

    assert not blobs.path(damaged).exists()
    assert blobs.path(sound).exists()


def test_two_that_find_the_same_damage_are_told_the_same(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path, durable=True)
    digest = blobs.put(b"damaged")
    blobs.path(digest).chmod(0o600)
    blobs.path(digest).write_bytes(b"DAMAGED")

    first, second = (BlobStore(tmp_path).damaged(digest) for _ in range(2))

    assert (first.code, first.hint) == (second.code, second.hint)
    assert "it was removed" in (second.hint or "")


def test_what_another_has_dropped_as_damaged_and_made_anew_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = BlobStore(tmp_path)
    digest = blobs.put(b"12345")
    blobs.remove(digest)

    def open_too_late(path: str, *how: int) -> int:
        monkeypatch.undo()
        with pytest.raises(FileNotFoundError) as error:
            os.open(path, *how)
        BlobStore(tmp_path).put(b"12345")
        raise error.value

    monkeypatch.setattr(os, "open", open_too_late)

    assert "it was removed" in (blobs.damaged(digest).hint or "")
    assert blobs.path(digest).read_bytes() == b"12345"


def test_a_blob_that_is_dropped_while_it_is_written_anew_is_there_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = BlobStore(tmp_path).path(BlobStore(tmp_path).put(b"12345"))
    path.write_bytes(b"1x345")
    link = os.link

    def link_and_lose(source: str, target: str) -> None:
        try:
            link(source, target)
        except FileExistsError:
            path.unlink()  # by who has read it at this moment
            raise

    monkeypatch.setattr(os, "link", link_and_lose)
    _ingest(BlobStore(tmp_path), b"12345")

    assert path.read_bytes() == b"12345"
    assert waiting(BlobStore(tmp_path)) == []


def test_a_file_that_cannot_be_locked_is_not_left(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="no locks available"):
        blobs.put(DATA)

    assert os.listdir(os.path.join(blobs.folder, "ingest")) == []
