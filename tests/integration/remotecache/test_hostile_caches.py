"""Caches that are damaged, foreign, newer or hostile: a warning, a miss, and the right image."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.layouts import digest_of, make_tar
from tests.support.machine import needs_root
from tests.support.remotecaches import CacheFolder, Machine, another, contents_of, steps_of, warnings_of

pytestmark = [pytest.mark.root, needs_root()]

Make = Callable[[str], Machine]

ALL = ["RUN", "COPY", "RUN", "WORKDIR", "COPY", "RUN"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> CacheFolder:
    """A cache of the two stages, to be copied and broken."""
    here = Machine(tmp_path_factory.mktemp("good") / "here", busybox_seed)
    folder = CacheFolder(here.folder / "cache")
    here.app("--cache-to", f"type=local,dest={folder.folder},mode=max")
    here.close()
    return folder


@pytest.fixture
def cache(good: CacheFolder, tmp_path: Path) -> CacheFolder:
    return good.copy(tmp_path / "cache")


@pytest.fixture
def there(machine: Make) -> Machine:
    return machine("there")


def take(there: Machine, cache: CacheFolder, *words: str) -> tuple[list[str], list[str]]:
    """Build by a cache: the kinds of steps that were carried out, and what was warned of."""
    outcome = there.app("--cache-from", f"type=local,src={cache.folder}", *words)
    there.check_clean()
    return [step.split()[0] for step in steps_of(outcome)], warnings_of(outcome)


def test_the_cache_is_good(there: Machine, cache: CacheFolder) -> None:
    assert take(there, cache) == ([], [])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache: cache.change(lambda document: document.update(format=2)),
        lambda cache: cache.change(lambda document: document["chains"].__setitem__(0, [0, 0])),
        lambda cache: cache.set_document(b"[" * 200_000),
        lambda cache: cache.set_manifest(b"{"),
        lambda cache: cache.path(cache.manifest["config"]["digest"]).unlink(),
    ],
    ids=["newer", "endless", "deep", "cut", "gone"],
)
def test_a_cache_that_cannot_be_read_is_a_warning_and_a_miss(
    there: Machine, cache: CacheFolder, spoil: Callable[[CacheFolder], None]
) -> None:
    """All the ways in which one may be unreadable are tried in tests/unit/remotecache."""
    spoil(cache)
    there.dockerfile("FROM scratch\nCOPY src /\n")

    steps, told = take(there, cache)

    assert (steps, len(told)) == (["COPY"], 1), told
    assert told[0].startswith(f"cache from {cache.folder}: ")


# ── blobs ────────────────────────────────────────────────────────────────────────────────────────────────


def own_layers(cache: CacheFolder) -> list[str]:
    """The layers that are not the base's."""
    return [layer["digest"] for layer in cache.manifest["layers"]][1:]


def test_a_damaged_layer_is_a_warning_and_is_made_again(there: Machine, cache: CacheFolder) -> None:
    for digest in own_layers(cache):
        cache.mangled(digest)

    steps, told = take(there, cache)

    assert (sorted(steps), bool(told)) == (sorted(ALL), True)
    assert all("is damaged" in line for line in told)


def test_a_layer_that_is_gone_is_a_warning_and_is_made_again(there: Machine, cache: CacheFolder) -> None:
    for digest in own_layers(cache):
        cache.path(digest).unlink()

    steps, told = take(there, cache)

    assert sorted(steps) == sorted(ALL)
    assert all("is missing" in line for line in told)


def test_a_damaged_layer_is_replaced_by_who_notices(machine: Make, tmp_path: Path) -> None:
    """Made again, it is the same blob, and there is one of its size already."""
    machines, cache = [machine(name) for name in ("one", "two", "three")], CacheFolder(tmp_path / "cache")
    for one in machines:
        one.dockerfile("FROM busybox\nRUN echo the same > /file\n")
    to = f"type=local,dest={cache.folder}"
    machines[0].app("--reproducible", "--cache-to", to)
    (layer,) = own_layers(cache)
    cache.mangled(layer)

    steps, told = take(machines[1], cache, "--reproducible", "--cache-to", to)

    assert (steps, len(told)) == (["RUN"], 1)
    assert own_layers(cache) == [layer]
    assert take(machines[2], cache, "--reproducible") == ([], [])


def test_what_is_damaged_does_not_go_on_to_the_next_cache(
    machine: Make, there: Machine, cache: CacheFolder, tmp_path: Path
) -> None:
    """The build needs nothing of the stage, whose layers are damaged; the rest goes along."""
    large = max(own_layers(cache), key=lambda digest: cache.path(digest).stat().st_size)
    cache.mangled(large)
    second = CacheFolder(tmp_path / "second")

    steps, told = take(there, cache, "--cache-to", f"type=local,dest={second.folder},mode=max")

    assert (steps, len(told)) == ([], 1)
    assert large not in own_layers(second)
    assert take(machine("third"), second) == ([], [])


def test_another_cache_has_what_the_first_one_lost(
    there: Machine, cache: CacheFolder, good: CacheFolder
) -> None:
    for digest in own_layers(cache):
        cache.mangled(digest)

    steps, told = take(there, cache, "--cache-from", f"type=local,src={good.folder}")

    assert (steps, bool(told)) == ([], True)


@pytest.mark.parametrize("size", [-1, 1, 1 << 50])
def test_a_layer_of_another_size_is_a_miss(there: Machine, cache: CacheFolder, size: int) -> None:
    manifest = cache.manifest
    for layer in manifest["layers"][1:]:
        layer["size"] += size
    cache.set_manifest(manifest)

    steps, told = take(there, cache)

    assert sorted(steps) == sorted(ALL)
    assert told


def test_a_layer_that_is_another_than_its_diff_id_says_is_a_miss(there: Machine, cache: CacheFolder) -> None:
    cache.change(lambda d: [row.__setitem__(0, another(row[0])) for row in d["layers"][1:]])

    steps, told = take(there, cache)

    assert sorted(steps) == sorted(ALL)
    assert all("is not what its image says: its diff id is" in line for line in told)


def test_a_layer_that_leaves_its_folder_is_a_miss(there: Machine, cache: CacheFolder, tmp_path: Path) -> None:
    replace_layers(cache, hostile_tar(tmp_path))

    steps, told = take(there, cache)

    assert sorted(steps) == sorted(ALL)
    assert told
    assert not (tmp_path / "escaped").exists()


def hostile_tar(outside: Path) -> bytes:
    """A tar that writes through a symlink, and above its root."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        for name in ("way/escaped", "../../../../escaped"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
        device = tarfile.TarInfo("zero")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    return out.getvalue()


def replace_layers(cache: CacheFolder, tar: bytes) -> None:
    """Make every layer but the base's this one, digests all right."""
    manifest, document = cache.manifest, cache.document
    row = cache.put(gzip.compress(tar))
    for number in range(1, len(manifest["layers"])):
        manifest["layers"][number].update(row)
        document["layers"][number] = [digest_of(tar), len(tar)]
    cache.set_manifest(manifest)
    cache.set_document(document)


# ── lies ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_cache_says_of_a_selection_is_held_against_the_stage_that_is_made(
    there: Machine, cache: CacheFolder
) -> None:
    """It says what is copied from the stage is something else: found out, as soon as the stage is here."""
    cache.change(lambda d: d.update(contents={name: another(name) for name in d["contents"]}))

    steps, told = take(there, cache)

    assert (steps, told) == ([], [])
    cache.change(lambda d: d.update(records={}))
    there.write("src/a", "changed\n")
    take(there, cache)
    assert contents_of(there, "app/all") == "changed\n"


def test_a_false_selection_and_no_record_is_a_miss(there: Machine, cache: CacheFolder) -> None:
    cache.change(lambda d: d.update(contents={name: another(name) for name in d["contents"]}, records={}))

    steps, told = take(there, cache)

    assert sorted(set(steps)) == ["COPY", "RUN", "WORKDIR"]
    assert contents_of(there, "app/all") == "a\n"
    assert told == []


def test_base_images_never_come_from_a_cache(machine: Make, there: Machine, cache: CacheFolder) -> None:
    """What names its content by itself is got where it is, and held to it."""
    assert not any(value[0] == 0 for value in cache.document["records"].values())


# ── cache mounts ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["hostile", "bomb", "no archive", "another"])
def test_a_hostile_cache_mount_is_a_warning_and_an_empty_mount(
    machine: Make, tmp_path: Path, kind: str
) -> None:
    here, there = machine("here"), machine("there")
    dockerfile = "FROM busybox\nRUN --mount=type=cache,id=p,target=/p echo had $(ls /p); echo x > /p/file\n"
    cache = CacheFolder(tmp_path / "cache")
    here.build("--cache-to", f"type=local,dest={cache.folder},mounts=p", dockerfile=dockerfile)
    data = {
        "hostile": hostile_tar(tmp_path),
        "bomb": make_tar({"large": bytes(2 << 20)}),
        "no archive": b"no archive at all",
        "another": b"",
    }[kind]
    manifest, document = cache.manifest, cache.document
    place = document["mounts"][0][2]
    manifest["layers"][place].update(cache.put(gzip.compress(data)))
    document["layers"][place] = [digest_of(data if kind != "another" else b"x"), len(data)]
    cache.set_manifest(manifest)
    cache.set_document(document)
    there.dockerfile(dockerfile)

    source = f"type=local,src={cache.folder},mounts=p,trust-mounts=true,mounts-max=1m"
    taken = there.build("--no-cache", "--cache-from", source)

    assert "had \n" in taken.err or "had\n" in taken.err
    assert len(warnings_of(taken)) == 1, taken.err
    assert not (tmp_path / "escaped").exists()
    there.check_clean()
