"""Failed steps that are kept: as many as there is room for, as long as nobody uses them, and whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from builder import failed, record
from builder.errors import BuildError, StepFailed
from builder.failed import FailedStep, Failures, find, forget, forget_surplus, held, kept_steps
from builder.graph.definition import About
from builder.ops.exec import Exec, SecretMount, SshMount
from builder.record import recorded
from builder.request import BuildRequest
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.solver.cache import sealed
from builder.store.root import Store, open_store

ERROR = StepFailed("it failed", status=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


@pytest.fixture
def layers(store: Store) -> LayerStore:
    return LayerStore(store.root / "layers", store.blobs)


def request(store: Store) -> BuildRequest:
    return BuildRequest(root=store.folder, context=".")


def make_layer(layers: LayerStore) -> LayerId:
    return layers.create([], lambda entry: pytest.fail(entry.path), unpacked=True)


def keep(store: Store, layers: LayerStore, build: str, *, time: float = 0, size: int = 0) -> LayerId:
    """A failed step with a layer of its own, as the file on disk has it."""
    layer = make_layer(layers)
    step = FailedStep(
        build=build, time=time, label="RUN x", place="", message="failed", status=1, op=Exec(("x",), (), "/"),
        shell="", below=(), inputs=((),), layer=layer, rung="root", size=size,
    )  # fmt: skip
    folder = store.root / "builds" / build
    folder.mkdir()
    (folder / failed.FILE).write_bytes(sealed(failed.FILE, msgspec.to_builtins(step)))
    return layer


def described(
    failures: Failures, layer: LayerId, op: Exec, inputs: tuple[tuple[LayerId, ...], ...]
) -> FailedStep:
    return failures.describe(About("RUN x"), op, (), inputs, layer, "root", ERROR)


def test_the_oldest_go_when_there_are_too_many(store: Store, layers: LayerStore) -> None:
    made = [keep(store, layers, f"b{number}", time=number) for number in range(failed.KEPT_STEPS + 2)]

    forget_surplus(store)

    assert [step.build for step in kept_steps(store)] == [
        f"b{n}" for n in range(failed.KEPT_STEPS + 1, 1, -1)
    ]
    assert set(layers.all()) == set(made[2:])


def test_large_ones_go_sooner_but_never_the_newest(store: Store, layers: LayerStore) -> None:
    keep(store, layers, "old", time=1, size=5)
    keep(store, layers, "new", time=2, size=failed.KEPT_BYTES + 1)

    forget_surplus(store)

    assert [step.build for step in kept_steps(store)] == ["new"]


def test_who_is_in_there_keeps_it(store: Store, layers: LayerStore) -> None:
    layer = keep(store, layers, "b")

    with held(store, find(store)):
        assert not forget(store, "b")
        assert layers.exists((layer,))
    assert forget(store, "b")

    assert not list(layers.all())
    with pytest.raises(BuildError, match="no failed step is kept"):
        find(store)


def test_a_step_goes_with_its_build_s_record(
    store: Store, layers: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "KEPT_BUILDS", 0)
    keep(store, layers, "20010101T000000-aa", time=1)
    used = keep(store, layers, "20010101T000000-bb", time=1)

    with held(store, find(store, "20010101T000000-bb")), recorded(store, request(store), lambda _event: None):
        assert [*layers.all()] == [used]
        assert (store.root / "builds" / "20010101T000000-bb").exists()
        assert not (store.root / "builds" / "20010101T000000-aa").exists()


OTHERS = [b"", b"{", b"[]", sealed(failed.FILE, {"build": "b"}), sealed(failed.FILE, {"format": 1})]


@pytest.mark.parametrize("content", OTHERS)
def test_a_damaged_file_is_none(store: Store, content: bytes) -> None:
    (store.root / "builds" / "b").mkdir()
    (store.root / "builds" / "b" / failed.FILE).write_bytes(content)

    assert kept_steps(store) == []


async def test_the_first_that_fails_is_kept(store: Store, layers: LayerStore) -> None:
    (store.root / "builds" / "b").mkdir()
    failures = Failures(store, f"{store.folder}/builds/b", request(store))
    one, two = (described(failures, LayerId(letter * 16), Exec((), (), "/"), ()) for letter in "ab")

    async def commit() -> tuple[str, ...]:
        assert [step.layer for step in kept_steps(store)] == [one.layer]  # named before it is there
        return ()

    await failures.keep(one, ERROR, commit)
    await failures.keep(two, StepFailed("too", status=1), commit)

    assert failures.error is ERROR
    assert [step.layer for step in kept_steps(store)] == [one.layer]


async def test_nothing_is_kept_where_that_fails(store: Store) -> None:
    (store.root / "builds" / "b").mkdir()
    failures = Failures(store, f"{store.folder}/builds/b", request(store))

    async def commit() -> tuple[str, ...]:
        raise OSError(28, "No space left on device")

    await failures.keep(described(failures, LayerId("a" * 16), Exec((), (), "/"), ()), ERROR, commit)

    assert failures.kept is None
    assert os.listdir(store.root / "builds" / "b") == []


async def test_contexts_become_layers_of_the_store(store: Store, layers: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bytes")
    (store.root / "builds" / "b").mkdir()
    mtime = (tmp_path / "file").stat().st_mtime_ns
    lent = layers.add_folder(tmp_path, [Entry("file", FILE, 0o644, size=5, mtime=mtime)])
    layer = make_layer(layers)
    failures = Failures(store, f"{store.folder}/builds/b", request(store))

    async def commit() -> tuple[str, ...]:
        return ("a/path",)

    await failures.keep(described(failures, layer, Exec((), (), "/"), ((layer,), (lent,))), ERROR, commit)
    kept = failures.finish(layers)
    layers.close()

    assert kept == find(store)
    assert kept is not None
    assert kept.size == 5
    assert kept.redacted == ("a/path",)
    (own,) = kept.adopted
    assert kept.inputs == ((layer,), (own,))
    later = LayerStore(store.root / "layers", store.blobs)
    assert (later.unpacked(LayerId(own)) / "file").read_text() == "bytes"
    forget(store, "b")
    assert not list(later.all())


def test_no_secret_s_way_and_no_proxy_is_kept(store: Store) -> None:
    mounts = SecretMount("s", "/s", required=True), SshMount("a", None, required=True)
    proxy = (("http_proxy", "http://user:password@host"),)
    op = Exec(("run", "\udcff"), (), "/", mounts=mounts, proxy=proxy)
    (store.root / "builds" / "b").mkdir()
    failures = Failures(store, f"{store.folder}/builds/b", request(store))
    step = described(failures, LayerId("a" * 16), op, ())
    failed._write(f"{store.folder}/builds/b", step)

    (kept,) = kept_steps(store)
    assert kept == step
    assert kept.op.argv == op.argv
    assert not any(getattr(mount, "required", False) for mount in kept.op.mounts)
    assert "password" not in json.dumps((store.root / "builds/b/failed.json").read_text())


def test_ids_are_found_by_their_beginning(store: Store, layers: LayerStore) -> None:
    for build in ("2026-aa", "2026-ab", "2025-x"):
        keep(store, layers, build)

    assert find(store, "2025").build == "2025-x"
    with pytest.raises(BuildError, match="begins the ids of 2 builds"):
        find(store, "2026")
    with pytest.raises(BuildError, match="build 1 has no failed step"):
        find(store, "1")


async def test_what_was_removed_before_the_build_ended_is_not_kept_after_all(
    store: Store, layers: LayerStore
) -> None:
    (store.root / "builds" / "b").mkdir()
    failures = Failures(store, f"{store.folder}/builds/b", request(store))

    async def commit() -> tuple[str, ...]:
        return ()

    step = described(failures, make_layer(layers), Exec((), (), "/"), ())
    await failures.keep(step, ERROR, commit)
    assert forget(store, "b")

    assert failures.finish(layers) is None
    assert kept_steps(store) == []
    assert not list(layers.all())


def test_a_file_that_is_damaged_anywhere_keeps_nothing(store: Store, layers: LayerStore) -> None:
    keep(store, layers, "good", time=2)
    keep(store, layers, "bad", time=1)
    file = store.root / "builds/bad" / failed.FILE
    written = file.read_bytes()
    for at in range(0, len(written), 7):
        file.write_bytes(written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :])
        assert [step.build for step in kept_steps(store)] == ["good"], at

    file.write_bytes(written)
    assert [step.build for step in kept_steps(store)] == ["good", "bad"]
