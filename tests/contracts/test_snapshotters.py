"""A step comes to the same layer whether it ran over an overlay or in a copy."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.fs import ownership
from builder.fs.rooted import open_root, opened
from builder.snapshots.copies import CLOCK, look
from builder.snapshots.edit import COPY
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FIFO, FILE, FOLDER, SYMLINK, Entry, Snapshot
from tests.support.layers import bytes_of, make_layer, open_layers, run_overlay
from tests.support.namespaces import ONE_ID, call_as_root_of, has_user_namespaces

needs_namespaces = pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")

OLD = 1_500_000_000 * 10**9
BELOW = [
    Entry("d", FOLDER, 0o755, mtime=OLD),
    Entry("d/e", FOLDER, 0o700, mtime=OLD),
    Entry("d/e/f", FILE, 0o644, size=4, mtime=OLD),
    Entry("d/g", FILE, 0o600, size=4, mtime=OLD),
    Entry("empty", FOLDER, 0o1777, mtime=OLD),
    Entry("f", FILE, 0o644, size=4, mtime=OLD),
    Entry("l", SYMLINK, 0o777, mtime=OLD, link="d/e"),
    Entry("p", FIFO, 0o644, mtime=OLD),
]
PLACES = st.sampled_from(
    ["d", "d/e", "d/e/f", "d/g", "empty", "empty/n", "f", "l", "p", "new", "new/n", "d/new"]
)
# Not one inside the other: a copy of a folder into itself depends on the order of a listing.
PAIRS = st.tuples(PLACES, PLACES).filter(lambda pair: not f"{pair[1]}/".startswith(f"{pair[0]}/"))
PAIRS = PAIRS.filter(lambda pair: not f"{pair[0]}/".startswith(f"{pair[1]}/"))
OPERATIONS = st.sampled_from([
    "rm -rf {0}", "mkdir {0}",
    "put new {0}", "test -p {0} || echo x >> {0}", "chmod 640 {0}", "chmod 755 {0}",
    "chmod 700 {0}; chmod 755 {0}", "ln -s x {0}", "ln -sfn d/e {0}", "mkfifo {0}", "mknod {0} c 1 3",
    "touch -h -d @1500000000 {0}", "touch -h -d @77 {0}", "mv -T {0} {1}", "cp -aT {0} {1}", "ln {0} {1}",
    "rm -rf {0} && mkdir {0}", "rm -rf {0} && cp -aT {1} {0}", "mv -T {0} tmp && mv -T tmp {0}",
    "mv -T {0} tmp && cp -aT tmp {0} && rm -r tmp", "chown -h 5:6 {0}", "put DATA {0}",
    "put DATA {0} && touch -d @1500000000 {0}", "put data {0} && touch -d @1500000000 {0}",
]).flatmap(lambda text: PAIRS.map(lambda places: text.format(*places)))  # fmt: skip
PUT = 'put() { test -p "$2" || printf %s "$1" > "$2"; }'  # nobody reads what goes into a fifo
# Times of this moment differ between two runs.
SETTLE = "find . -mindepth 1 -newermt 2020-01-01 -exec touch -h -d @1600000000 {} +"


def rows(layers: LayerStore, layer: str) -> list[list[object]]:
    entries = layers.entries(layer)  # type: ignore[arg-type]
    return [[*entry.plain()[:7], *entry.plain()[8:]] for entry in entries]


def run_copy(layers: LayerStore, below: Snapshot, script: str) -> Snapshot:
    """The snapshot after a RUN in a copy."""
    with layers.edit(below, COPY) as edit:
        time.sleep(0.02)  # so that what was copied is older than a tick of any clock
        with opened(open_root(edit.upper)) as fd:
            (edit.work / CLOCK).unlink()
            edit.copied = look(fd, edit.work)
        command = ["sh", "-euc", script]
        subprocess.run(command, check=True, cwd=edit.upper, timeout=60, stdin=subprocess.DEVNULL)
        return (*below, layers.commit(edit, below, []))


def check_same(tmp_path: Path, script: str) -> None:
    layers = open_layers(tmp_path)
    below: Snapshot = (
        layers.create(BELOW, lambda entry: bytes_of({entry.path: b"data"})(entry), unpacked=True),
    )
    with layers.edit(below) as edit:
        run_overlay(layers, below, edit, script)
        ours = layers.commit(edit, below, [])
    theirs = run_copy(layers, below, script)
    assert rows(layers, theirs[-1]) == rows(layers, ours)
    # And what is on disk serves the next step just as well.
    list_all = "find . -mindepth 1 -printf '%p %y %m %U:%G %T@ %l\\n' | sort > {}"
    for name, layer in (("ours", ours), ("theirs", theirs[-1])):
        with layers.edit() as edit:
            run_overlay(layers, (*below, layer), edit, list_all.format(tmp_path / name))
    told = (tmp_path / "theirs").read_text()
    assert told == (tmp_path / "ours").read_text()
    with layers.edit(theirs, COPY) as edit:
        subprocess.run(["sh", "-c", list_all.format(tmp_path / "copied")], check=True, cwd=edit.upper)
    if ownership.of_process() != ownership.RECORDED:  # there, an overlay shows links as root's
        assert (tmp_path / "copied").read_text() == told


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts overlays")
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATIONS, max_size=6))
def test_any_changes_come_to_the_same_layer(tmp_path: Path, operations: list[str]) -> None:
    check_same(tmp_path, "\n".join([PUT, *(f"{{ {op}; }} 2>/dev/null || true" for op in operations), SETTLE]))


@needs_namespaces
def test_a_user_with_one_id_comes_to_the_same_layer(tmp_path: Path) -> None:
    script = "rm -r d/e; mkdir d/e; echo 2 > d/g; rm f; ln -s x f; mv p q; chmod 600 empty; rm l"
    call_as_root_of(ONE_ID, lambda: check_same(tmp_path, f"{script}\n{SETTLE}"))


def test_an_untouched_copy_is_an_empty_layer_and_shares_nothing_with_the_store(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    below = (make_layer(layers, {"a": b"1", "d/b": b"2"}),)
    with layers.edit(below, COPY) as edit:
        assert (edit.upper / "a").stat().st_nlink == 1
        assert (edit.upper / "a").stat().st_ino != (layers.unpacked(below[0]) / "a").stat().st_ino
        assert edit.copied is not None
        edit.copied.until = 1 << 63
        layer = layers.commit(edit, below, [])

    assert layers.entries(layer) == []
    assert os.listdir(layers.unpacked(layer)) == []


def test_names_of_one_file_stay_so_in_a_copy(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    rows = [Entry(name, FILE, 0o644, size=1, mtime=OLD) for name in "ax"]
    rows += [Entry("b", FILE, 0o644, size=1, mtime=OLD, hardlink="a")]
    below = (layers.create(rows, bytes_of({"a": b"1", "x": b"2"}), unpacked=True),)

    after = run_copy(layers, below, "echo more >> b")

    assert [(e.path, e.hardlink) for e in layers.entries(after[-1])] == [("a", None), ("b", "a")]
    assert run_copy(layers, after, "ln x y; rm y")[-1] not in after
    assert layers.entries(run_copy(layers, after, "ln x y; rm y")[-1]) == []


def test_what_a_step_marks_as_hiding_hides_nothing(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    below = (make_layer(layers, {"d/a": b"1", "d/b": b"2"}),)
    with layers.edit(below, COPY) as edit:
        os.setxattr(edit.upper / "d", layers.owning.opaque, b"y")
        os.chmod(edit.upper / "d", 0o700)
        assert edit.copied is not None
        edit.copied.until = 1 << 63
        layer = layers.commit(edit, below, [])

    assert [(e.path, e.mode) for e in layers.entries(layer)] == [("d", 0o700)]
    assert os.listxattr(layers.unpacked(layer) / "d") == []


def test_a_change_in_the_same_tick_of_the_clock_is_found_by_its_bytes(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    below = (make_layer(layers, {"a": b"1", "b": b"1"}),)
    with layers.edit(below, COPY) as edit:
        (edit.upper / "a").write_bytes(b"2")
        os.utime(edit.upper / "a", ns=(OLD, OLD))
        assert edit.copied is not None
        status = os.stat(edit.upper / "a")
        facts = (status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_mode)
        edit.copied.facts["a"] = facts
        edit.copied.until = status.st_ctime_ns
        layer = layers.commit(edit, below, [])

    assert [e.path for e in layers.entries(layer)] == ["a"]


def test_a_part_of_a_snapshot_can_be_copied(tmp_path: Path) -> None:
    layers = open_layers(tmp_path)
    tree = layers.tree((make_layer(layers, {"d/a": b"1", "d/e/b": b"22", "c": b"3"}),))

    assert layers.copy(tmp_path / "folder", tree, "d") == "."
    assert layers.copy(tmp_path / "file", tree, "d/e/b") == "b"

    copied = sorted(path.relative_to(tmp_path / "folder") for path in (tmp_path / "folder").rglob("*"))
    assert copied == [Path("a"), Path("e"), Path("e/b")]
    assert (tmp_path / "file/b").read_bytes() == b"22"
