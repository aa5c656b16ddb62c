"""What a layer store promises, whatever is put in and however its process ends."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.oci.compressed import Compression
from builder.snapshots.layers import LayerStore
from builder.snapshots.reading import read_tree
from builder.snapshots.snapshot import (
    FIFO,
    FILE,
    FOLDER,
    OPAQUE,
    SYMLINK,
    WHITEOUT,
    Entry,
    LayerId,
    parent_of,
)
from builder.store.ingest import sweep_ingest
from tests.support.layers import bytes_of, make_layer, open_layers

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts and owners need root")

NAMES = st.text("ab.é\udcff \n", min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
KINDS = st.sampled_from([FILE, FILE, FOLDER, SYMLINK, FIFO, WHITEOUT])
SECONDS = st.integers(-(2**31), 2**33)


@st.composite
def a_layer(draw: st.DrawFn) -> tuple[list[Entry], dict[str, bytes]]:
    """Entries as a COPY or a RUN may come to, and the bytes of the files."""
    kinds: dict[str, str] = {}
    for path, kind in draw(st.lists(st.tuples(PATHS, KINDS), max_size=8)):
        parents = []
        folder = path
        while (folder := parent_of(folder)) != ".":
            parents.append(folder)
        if any(kinds.get(parent, FOLDER) != FOLDER for parent in parents) or path in kinds:
            continue
        kinds.update(dict.fromkeys(parents, FOLDER))
        kinds[path] = kind
    entries: list[Entry] = []
    files: dict[str, bytes] = {}
    for path, kind in kinds.items():
        if kind == WHITEOUT:
            entries.append(Entry(path, WHITEOUT))
            continue
        mode = 0o777 if kind == SYMLINK else draw(st.integers(0, 0o7777))
        entry = Entry(
            path, kind, mode, draw(st.integers(0, 2**31)), draw(st.integers(0, 99)), 0, draw(SECONDS) * 10**9
        )
        if kind == SYMLINK:
            entry.link = draw(PATHS)
        if kind == FILE and files and draw(st.booleans()):
            first = next(e for e in entries if e.path == next(iter(files)))
            entry = first.replace(path=path, hardlink=first.path)
        elif kind == FILE:
            files[path] = draw(st.binary(max_size=20))
            entry.size = len(files[path])
        entries.append(entry)
    return entries, files


def facts(entries: list[Entry]) -> list[list[object]]:
    """What must be equal whatever form a layer has; hard links by their group."""
    rows = []
    groups: dict[str, list[str]] = {}
    for entry in entries:
        if entry.kind == FILE:
            groups.setdefault(entry.hardlink or entry.path, []).append(entry.path)
    leader = {path: sorted(group)[0] for group in groups.values() for path in group}
    for entry in entries:
        if entry.path != "." and entry.kind != OPAQUE:
            rows.append([*entry.plain()[:7], entry.link, leader.get(entry.path)])
    return sorted(rows, key=repr)


@pytest.mark.root
@needs_root
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=a_layer(), unpacked=st.booleans())
def test_entries_folder_and_blob_of_a_layer_say_the_same(
    tmp_path: Path, made: tuple[list[Entry], dict[str, bytes]], unpacked: bool
) -> None:
    entries, files = made
    layers = open_layers(tmp_path)

    layer = layers.create(entries, bytes_of(files), unpacked=unpacked)
    again = open_layers(tmp_path)

    assert facts(again.entries(layer)) == facts(entries)
    fd = os.open(again.unpacked(layer), os.O_RDONLY)
    try:
        assert facts(list(read_tree(fd))) == facts(entries)
    finally:
        os.close(fd)
    for entry in again.entries(layer):
        if entry.kind == FILE:
            with again.open(layer, entry) as file:
                assert file.read() == files[entry.hardlink or entry.path]
    imported = again.import_blob(again.blob(layer, Compression()), unpacked=False)
    assert facts(again.entries(imported)) == facts(entries)


# ── a process that ends in the middle ────────────────────────────────────────────────────────────────────

FILES: dict[str, bytes | None] = {"d/a": b"1" * 3000, "d/b": b"2", "e": b""}


def create_folder(layers: LayerStore, base: LayerId) -> None:
    make_layer(layers, FILES, unpacked=True)


def create_blob(layers: LayerStore, base: LayerId) -> None:
    make_layer(layers, FILES, unpacked=False)


def commit(layers: LayerStore, base: LayerId) -> None:
    with layers.edit((base,)) as edit:
        try:
            (edit.upper / "d").mkdir()
            for path, data in FILES.items():
                (edit.upper / path).write_bytes(data or b"")
            os.setxattr(edit.upper / "e", "user.gone", b"x")
            (edit.upper / "stub").touch()
        except OSError as error:
            raise BuildError("the step failed") from error
        layers.commit(edit, (base,), ["/stub"])


def unpack(layers: LayerStore, base: LayerId) -> None:
    layers.unpacked(base)


def pack(layers: LayerStore, base: LayerId) -> None:
    layers.blob(base, Compression("none"))


def import_blob(layers: LayerStore, base: LayerId) -> None:
    layers.import_blob(layers.blob(base, Compression()), unpacked=True)


def delete(layers: LayerStore, base: LayerId) -> None:
    layers.delete(base)


WORK = [create_folder, create_blob, pytest.param(commit, marks=needs_root), unpack, pack, import_blob, delete]


def in_child(function: Callable[[], None]) -> int:
    """The wait status of a child that runs the function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork, with threads of other tests about
        pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BuildError:
            os._exit(3)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def at_call(number: int, happen: Callable[[], None]) -> None:
    """Let something happen at the n-th system call on files from now on (in this process, for good)."""
    left = [number]
    calls = "mkdir rename remove rmdir symlink link chmod chown utime scandir listdir truncate removexattr"
    changing = {"open", *(f"os.{call}" for call in calls.split())}

    def hook(event: str, _: object) -> None:
        if event in changing:
            left[0] -= 1
            if left[0] == 0:
                happen()

    sys.addaudithook(hook)


def import_what_it_needs(work: Callable[[LayerStore, LayerId], None], folder: Path) -> None:
    """Do the work once, so that no call that is counted later is an import's."""
    layers = open_layers(folder / "first")
    work(layers, make_layer(layers, FILES, unpacked=False))


def check_whole(tmp_path: Path, most: int) -> None:
    """Every layer that is there has all its bytes, in both forms, and nothing else is left after a sweep.

    Then all of them go, for the next trial.
    """
    sweep_ingest(tmp_path / "root")
    assert os.listdir(tmp_path / "root/ingest") == []
    layers = open_layers(tmp_path)
    found = list(layers.all())
    assert len(found) <= most
    for layer in found:
        assert layers.exists((layer,))
        for entry in layers.entries(layer):
            if entry.kind == FILE:
                with layers.open(layer, entry) as file:
                    assert file.read() == FILES[entry.path]
        layers.blob(layer, Compression())
        layers.delete(layer)


@pytest.mark.parametrize("work", WORK)
def test_a_process_killed_at_any_call_leaves_whole_layers_only(
    tmp_path: Path, work: Callable[[LayerStore, LayerId], None]
) -> None:
    import_what_it_needs(work, tmp_path)
    number = 1
    while True:
        layers = open_layers(tmp_path)
        base = make_layer(layers, FILES, unpacked=False)

        def run(layers: LayerStore = layers, base: LayerId = base, number: int = number) -> None:
            at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            work(layers, base)

        status = in_child(run)

        check_whole(tmp_path, most=2)
        if status == 0:
            break
        assert os.WIFSIGNALED(status)
        number += 1
    assert number > 3


@pytest.mark.parametrize("work", WORK)
def test_a_disk_that_is_full_at_any_call_is_a_clear_error_and_leaves_whole_layers_only(
    tmp_path: Path, work: Callable[[LayerStore, LayerId], None]
) -> None:
    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import_what_it_needs(work, tmp_path)
    number = 1
    while True:
        layers = open_layers(tmp_path)
        base = make_layer(layers, FILES, unpacked=False)
        reached = tmp_path / f"reached-{number}"

        def happen(reached: Path = reached) -> None:
            os.close(os.open(reached, os.O_CREAT))
            refuse()

        def run(layers: LayerStore = layers, base: LayerId = base, number: int = number) -> None:
            at_call(number, happen)
            work(layers, base)

        status = in_child(run)

        check_whole(tmp_path, most=2)
        assert os.waitstatus_to_exitcode(status) in (0, 3)
        if not reached.exists():
            break
        number += 1
    assert number > 3


def test_a_reader_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)

    def content(entry: Entry) -> io.BytesIO:
        if entry.path == "b":
            raise KeyboardInterrupt
        return io.BytesIO(b"x")

    entries = [Entry("a", FILE, size=1), Entry("b", FILE, size=1)]
    for unpacked in (True, False):
        with pytest.raises(KeyboardInterrupt):
            layers.create(entries, content, unpacked=unpacked)

    assert list(layers.all()) == os.listdir(tmp_path / "root/ingest") == list(layers.blobs.digests()) == []
