"""A layer as two folders: just what a whole one would show, through all that a layer store does."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.oci.compression import Compression
from builder.snapshots import folders, index
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import CHAR, FIFO, FILE, FOLDER, SYMLINK, Entry, LayerId, parent_of
from tests.support.layers import bytes_of, make_layer, open_layers, run_step, shape
from tests.support.mounted import look_at

GZIP = Compression()
FILES: dict[str, bytes | None] = {f"d{n // 10}/f{n:03}": b"%d\n" % n for n in range(100)}

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays, which needs root")


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return open_layers(tmp_path)


def make_like(
    layers: LayerStore, model: LayerId, files: dict[str, bytes | None], *, unpacked: bool = True
) -> LayerId:
    """A layer of plain files, made with another one as its model."""
    plain = {path: data for path, data in files.items() if data is not None}
    scratch = make_layer(layers, files)
    rows = [entry.replace() for entry in layers.entries(scratch)]
    layers.delete(scratch)
    return layers.create(rows, bytes_of(plain), unpacked=unpacked, model=model)


def names_in(layers: LayerStore, layer: LayerId, folder: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(top, name), os.path.join(layers.path(layer), folder))
        for top, _, names in os.walk(os.path.join(layers.path(layer), folder))
        for name in names
    )


def test_a_layer_with_one_file_changed_holds_that_file_alone(layers):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})

    assert layers.base(layer) == base
    assert names_in(layers, layer, "delta") == ["d0/f003"]
    assert not os.path.exists(os.path.join(layers.path(layer), "tree"))
    assert layers.lower((layer,)) == [
        os.path.join(layers.path(base), "tree"),
        os.path.join(layers.path(layer), "delta"),
    ]


def test_a_layer_that_is_the_same_is_the_model(layers):
    base = make_layer(layers, FILES)

    assert make_like(layers, base, dict(FILES)) == base
    assert make_like(layers, base, dict(FILES), unpacked=False) == base


def test_the_bytes_are_read_from_the_folder_that_has_them(layers):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n", "d0/added": b"too"})

    found = {}
    for entry in layers.entries(layer):
        if entry.kind == FILE:
            with layers.open(layer, entry) as file:
                found[entry.path] = file.read()

    assert found == FILES | {"d0/f003": b"new\n", "d0/added": b"too"}


def test_no_delta_stands_on_another(layers):
    base = make_layer(layers, FILES)
    first = make_like(layers, base, FILES | {"d0/f003": b"new\n"})
    second = make_like(layers, first, FILES | {"d0/f003": b"newer\n"})

    assert layers.base(first) == base
    assert layers.base(second) is None
    assert os.path.isdir(os.path.join(layers.path(second), "tree"))


def test_a_model_that_is_gone_or_no_layer_is_none(layers):
    base = make_layer(layers, FILES)
    layers.delete(base)

    for model in (base, LayerId("a" * 16), LayerId("../../etc")):
        layer = make_like(layers, model, dict(FILES))
        assert os.path.isdir(os.path.join(layers.path(layer), "tree"))


def test_without_its_base_a_layer_is_lost_unless_it_has_a_blob(layers, tmp_path):
    base = make_layer(layers, FILES)
    kept = make_like(layers, base, FILES | {"d0/f003": b"kept\n"})
    lost = make_like(layers, base, FILES | {"d0/f003": b"lost\n"})
    layers.blob(kept, GZIP)

    layers.delete(base)

    later = open_layers(tmp_path)
    assert later.exists((kept,))
    assert (later.unpacked(kept) / "d0/f003").read_bytes() == b"kept\n"
    assert (later.unpacked(kept) / "d9/f099").read_bytes() == b"99\n"
    assert not later.exists((lost,))
    with pytest.raises(StoreError, match="no longer whole"):
        later.lower((lost,))


def test_a_base_that_was_made_anew_serves_again(layers, tmp_path):
    base = make_layer(layers, FILES)
    layers.blob(base, GZIP)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})
    shutil.rmtree(os.path.join(layers.path(base), "tree"))
    later = open_layers(tmp_path)
    assert not later.exists((layer,))

    later.unpacked(base)

    assert open_layers(tmp_path).exists((layer,))


def test_a_base_that_a_crash_may_have_hurt_is_not_trusted(layers, tmp_path):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})
    index.mark_boot(layers.path(layer), index.PROMOTED)
    index.mark_boot(layers.path(base), "another boot")

    assert not open_layers(tmp_path).exists((layer,))


def test_a_barrier_covers_the_base_too(layers):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})

    layers.barrier([layer])

    assert index.read_boot(layers.path(base)) == index.PROMOTED
    assert index.read_boot(layers.path(layer)) == index.PROMOTED


@pytest.mark.parametrize("text", ["", "../../../etc", "a", "/", "a" * 17])
def test_a_damaged_base_is_no_base(layers, tmp_path, text):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})
    place = os.path.join(layers.path(layer), folders.BASE)
    os.unlink(place)
    if text:
        os.symlink(text, place)

    later = open_layers(tmp_path)
    assert later.base(layer) is None
    assert not later.exists((layer,))


def test_a_whole_folder_is_made_of_the_two_where_one_is_needed(layers, tmp_path):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})

    tree = open_layers(tmp_path).unpacked(layer)

    assert (tree / "d0/f003").read_bytes() == b"new\n"
    assert len(names_in(layers, layer, "tree")) == 100
    assert open_layers(tmp_path).lower((layer,)) == [str(tree)]


def test_the_blob_is_the_one_that_a_whole_folder_gives(layers):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n"})
    whole = make_layer(layers, FILES | {"d0/f003": b"new\n"})

    assert layers.blob(layer, GZIP) == layers.blob(whole, GZIP)


# ── as a step sees it ────────────────────────────────────────────────────────────────────────────────────


def a_tree(rng: random.Random, size: int = 150) -> dict[str, tuple[Entry, bytes]]:
    """Folders, files (some with several names), links, devices and pipes, of all modes and owners."""
    found: dict[str, tuple[Entry, bytes]] = {}
    tops = ["."]
    while len(found) < size:
        folder = rng.choice(tops)
        path = f"n{rng.randrange(400)}" if folder == "." else f"{folder}/n{rng.randrange(400)}"
        if path not in found:
            found[path] = a_thing(rng, path, found)
            if found[path][0].kind == FOLDER and path.count("/") < 3:
                tops.append(path)
    return found


def a_thing(rng: random.Random, path: str, there: dict[str, tuple[Entry, bytes]]) -> tuple[Entry, bytes]:
    owner, mtime = (rng.randrange(3), rng.randrange(3)), rng.randrange(10**18)
    kind = rng.choices([FILE, FOLDER, SYMLINK, CHAR, FIFO, "hard"], [12, 4, 2, 1, 1, 2])[0]
    if kind == "hard":
        leaders = [p for p, (e, _) in there.items() if e.kind == FILE and e.hardlink is None and p < path]
        if leaders:
            entry, data = there[rng.choice(leaders)]
            return entry.replace(path=path, hardlink=entry.path), data
        kind = FILE
    data = rng.randbytes(rng.randrange(40)) if kind == FILE else b""
    entry = Entry(path, kind, rng.choice([0o755, 0o700, 0o644, 0o4755, 0o1777]), *owner, len(data), mtime)
    if kind == SYMLINK:
        entry.mode, entry.link = 0o777, rng.choice(["n1", "/n2", "../n3"])
    if kind == CHAR:
        entry.device = (1, rng.randrange(3, 9))
    return entry, data


def altered(
    rng: random.Random, old: dict[str, tuple[Entry, bytes]], *, remove: bool
) -> dict[str, tuple[Entry, bytes]]:
    """The tree with a few things changed, added and removed."""
    new = dict(old)
    for _ in range(3):
        path = rng.choice([p for p, (e, _) in new.items() if e.kind == FILE and e.hardlink is None])
        entry, data = new[path][0], rng.randbytes(9)
        for other, (there, _) in list(new.items()):
            if path in (other, there.hardlink):
                new[other] = (there.replace(size=9, mtime=entry.mtime + 1), data)
        path = rng.choice([".", *(p for p, (e, _) in new.items() if e.kind == FOLDER)])
        name = f"new{rng.randrange(1000)}"
        new_path = name if path == "." else f"{path}/{name}"
        new[new_path] = a_thing(rng, new_path, new)
        path = rng.choice([p for p, (e, _) in new.items() if e.kind == FOLDER])
        new[path] = (new[path][0].replace(mode=0o711, mtime=5), b"")
        if remove:
            gone = rng.choice([p for p in new if not any(e.hardlink == p for e, _ in new.values())])
            new = {p: row for p, row in new.items() if p != gone and not p.startswith(gone + "/")}
            new = {p: row for p, row in new.items() if row[0].hardlink in (None, *new)}
    return new


def beside(
    things: dict[str, tuple[Entry, bytes]], others: dict[str, tuple[Entry, bytes]]
) -> dict[str, tuple[Entry, bytes]]:
    """The folders that both have, and what the others have not."""
    folders = {p for p, (e, _) in things.items() if e.kind == FOLDER}
    folders = {p for p in folders if p not in others or others[p][0].kind == FOLDER}
    kept = {
        p: row
        for p, row in things.items()
        if (p in folders or p not in others) and (parent_of(p) == "." or parent_of(p) in folders)
    }
    return {p: row for p, row in kept.items() if row[0].hardlink in (None, *kept)}


def laid(layers: LayerStore, things: dict[str, tuple[Entry, bytes]], model: LayerId | None = None) -> LayerId:
    data = {path: data for path, (_, data) in things.items()}
    rows = [entry.replace() for entry, _ in things.values()]
    if model is not None:  # as a COPY has them: with the digests that its key was made of
        known = {e.path: e.digest for e in layers.entries(laid(layers, things))}
        rows = [row.replace(digest=known[row.path]) for row in rows]
    return layers.create(rows, bytes_of(data), unpacked=True, model=model)


@pytest.mark.root
@needs_mounts
@pytest.mark.parametrize("seed", range(12))
def test_a_step_sees_what_a_whole_folder_would_show(layers, seed):
    rng = random.Random(seed)
    old = a_tree(rng)
    new = altered(rng, old, remove=seed % 2 == 1)
    base, whole = laid(layers, old), laid(layers, new)
    stacked = laid(layers, new, base)
    below = laid(layers, beside(a_tree(random.Random(seed + 100)), old))

    assert layers.base(stacked) == base
    for under in ((), (below,)):
        bottom = [str(layers.unpacked(layer)) for layer in under] or [empty_folder(layers)]
        shown = look_at([*bottom, *layers.lower((*under, stacked))[len(under) :]])
        assert shown == look_at([*bottom, str(layers.unpacked(whole))])


def empty_folder(layers: LayerStore) -> str:
    path = os.path.join(layers.store, "empty")
    os.makedirs(path, exist_ok=True)
    return path


@pytest.mark.root
@needs_mounts
def test_what_was_removed_and_lies_below_shows_again(layers):
    below = make_layer(layers, {"d0/f003": b"from below\n"})
    base = make_layer(layers, FILES)
    less = {path: data for path, data in FILES.items() if path != "d0/f003"}
    layer = make_like(layers, base, less)

    alone = look_at([empty_folder(layers), *layers.lower((layer,))])
    over = look_at(layers.lower((below, layer)))

    assert layers.base(layer) == base
    assert "./d0/f003" not in alone
    assert "./d0/f003" in over


@pytest.mark.root
@needs_mounts
def test_base_and_layer_may_lie_in_one_snapshot(layers):
    base = make_layer(layers, FILES)
    first = make_like(layers, base, FILES | {"d0/f003": b"first\n"})
    second = make_like(layers, base, FILES | {"d0/f004": b"second\n"})
    ran = run_step(layers, (base,), "rm d1/f011; echo ran > d0/f005")

    shown = layers.lower((base, first, ran[-1], second))
    assert len(shown) == len(set(shown))
    found = look_at(shown)
    whole = [str(open_layers(Path(layers.store).parent).unpacked(layer)) for layer in (base, first, ran[-1])]
    assert found == look_at([*whole, str(layers.unpacked(second))])


@pytest.mark.root
@needs_mounts
def test_a_step_over_two_folders_leaves_what_it_would_leave_over_one(layers):
    base = make_layer(layers, FILES)
    layer = make_like(layers, base, FILES | {"d0/f003": b"new\n", "d0/f004": b"4\n"})
    script = (
        "rm d0/f003 d1/f011; echo x >> d0/f005; touch -d @1500000000 d0/f004; mv d2 moved; rm -r d3; mkdir d3"
    )

    over_two = run_step(layers, (layer,), script)
    layers.unpacked(layer)
    over_one = run_step(open_layers(Path(layers.store).parent), (layer,), script)

    assert shape(layers, over_two[-1]) == shape(layers, over_one[-1])
    assert parent_of(shape(layers, over_two[-1])[0]) == "."


def test_folders_of_an_edit_are_put_away_once_by_who_was_asked_to(layers):
    works = []
    edit = layers.edit()
    edit.put_away = works.append

    edit.discard()
    edit.discard()

    assert len(works) == 1
    assert os.path.isdir(edit.place)
    works[0]()
    assert not os.path.exists(edit.place)
