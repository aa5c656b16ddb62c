"""eStargz blobs are what the specification says, read by a reader that was written from it."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from builder import digest as digests
from builder.errors import BuildError, ImageError
from builder.oci import estargz, spec
from builder.oci.compressed import Compression
from builder.oci.layer import Counted, pack, pack_tar, scan
from builder.oci.spec import LayerBlob
from builder.snapshots.snapshot import CHAR, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry
from tests.support.estargz import Estargz, sha256

LARGE = 4 << 20  # bytes of a file in one member
LEVELS = (None, 1, 6)


def random_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "bin/tool": b"#!/bin/sh\n" * 700,
    "bin/large": random_bytes(2 * LARGE + 5),
    "bin/exact": bytes(LARGE),
    "etc/empty": b"",
    "etc/ü": b"umlaut",
    "etc/" + "long" * 40: b"long name",
}


def entries() -> list[Entry]:
    files = [
        Entry(path, FILE, 0o4755, 7, 8, size=len(data), mtime=10**18 + n)
        for n, (path, data) in enumerate(FILES.items())
    ]
    return [
        Entry("bin", FOLDER, 0o1777),
        Entry("etc", FOLDER, 0o755, mtime=1_700_000_000 * 10**9),
        *files,
        Entry("bin/again", FILE, 0o4755, 7, 8, size=7000, hardlink="bin/tool"),
        Entry("bin/link", SYMLINK, 0o777, link="../etc/ü"),
        Entry("etc/null", CHAR, 0o666, device=(1, 3)),
        Entry("etc/gone", WHITEOUT),
        Entry("var", FOLDER, 0o755),
        Entry("var", OPAQUE),
        Entry("var/cap", FILE, 0o755, size=3, xattrs=(("security.capability", b"\1\0\0\2" + bytes(16)),)),
    ]  # fmt: skip


def content(entry: Entry) -> io.BytesIO:
    return io.BytesIO({**FILES, "var/cap": b"cap"}[entry.path])


def packed(level: int | None = None) -> tuple[bytes, LayerBlob]:
    raw = io.BytesIO()
    blob = pack(entries(), content, Counted(raw), Compression("estargz", level))
    return raw.getvalue(), blob


@pytest.mark.parametrize("level", LEVELS)
def test_each_file_can_be_had_by_itself(level: int | None) -> None:
    data, blob = packed(level)

    read = Estargz(data, blob.descriptor.annotations)

    assert {path: read.read(path) for path in FILES} == FILES
    assert sorted(e["chunkOffset"] for e in read.entries if e["type"] == "chunk") == [LARGE, 2 * LARGE]
    assert blob.descriptor.media_type == spec.OCI_LAYER_GZIP
    assert (blob.descriptor.digest, blob.descriptor.size) == (sha256(data), len(data))
    assert (blob.diff_id, blob.size) == (sha256(gzip.decompress(data)), len(gzip.decompress(data)))


def test_the_table_tells_what_the_tar_has() -> None:
    data, blob = packed()

    told = {
        entry["name"]: entry
        for entry in Estargz(data, blob.descriptor.annotations).entries
        if entry["type"] != "chunk"
    }

    assert told["bin/"]["type"] == "dir"
    assert told["etc/"]["modtime"] == "2023-11-14T22:13:20Z"
    assert told["bin/again"] | {"type": "hardlink", "linkName": "bin/tool"} == told["bin/again"]
    assert told["bin/link"]["linkName"] == "../etc/ü"
    assert (told["etc/null"]["devMajor"], told["etc/null"]["devMinor"]) == (1, 3)
    assert {"etc/.wh.gone", "var/.wh..wh..opq"} <= told.keys()
    assert list(told["var/cap"]["xattrs"]) == ["security.capability"]
    assert told["etc/empty"].keys() & {"size", "offset", "chunkDigest"} == set()


def test_any_layer_reader_takes_it() -> None:
    data, blob = packed()

    found, diff_id = scan(io.BytesIO(data))

    assert diff_id == blob.diff_id
    assert {entry.path for entry in found} == {entry.path for entry in entries()} | {spec.TOC, spec.LANDMARK}


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("step", [1 << 20, 4099, 511])
def test_bytes_depend_on_the_tar_and_the_level_alone(threads: int, step: int) -> None:
    tar = io.BytesIO()
    pack(entries(), content, Counted(tar), Compression("none"))
    whole = tar.getvalue()

    def write(raw: object) -> None:
        for at in range(0, len(whole), step):
            raw.write(whole[at : at + step])  # type: ignore[attr-defined]

    out = io.BytesIO()
    estargz.pack(write, Counted(out), None, threads)

    assert out.getvalue() == packed()[0]


def test_small_files_share_a_thread_and_not_a_member() -> None:
    many = {f"f{n:05}": b"%d" % n for n in range(3000)}
    out = io.BytesIO()

    blob = pack(
        [Entry(path, FILE, 0o644, size=len(data)) for path, data in many.items()],
        lambda entry: io.BytesIO(many[entry.path]), Counted(out), Compression("estargz"),
    )  # fmt: skip

    read = Estargz(out.getvalue(), blob.descriptor.annotations)
    assert len({entry["offset"] for entry in read.entries}) == 3001
    assert {path: read.read(path) for path in many} == many


def test_a_layer_of_nothing_is_one_too() -> None:
    out = io.BytesIO()

    blob = pack([], content, Counted(out), Compression("estargz"))

    assert [e["name"] for e in Estargz(out.getvalue(), blob.descriptor.annotations).entries] == [
        spec.LANDMARK
    ]


def foreign(**formats: int) -> bytes:
    """A tar as others write it: pax, GNU, or old, with owners' names and long names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **formats) as archive:  # type: ignore[call-overload]
        for name in ("./a", "./" + "n" * 180, "./ö"):
            member = tarfile.TarInfo(name)
            member.size, member.uname, member.uid = 5, "somebody", 3_000_000
            archive.addfile(member, io.BytesIO(b"bytes"))
    return out.getvalue()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tars_of_others_are_taken(form: int) -> None:
    tar = foreign(format=form)
    out = io.BytesIO()

    blob = pack_tar(lambda raw: raw.write(tar), Counted(out), Compression("estargz"))

    read = Estargz(out.getvalue(), blob.descriptor.annotations)
    assert read.read("./a") == read.read("./" + "n" * 180) == read.read("./ö") == b"bytes"


@pytest.mark.parametrize("name", [spec.TOC, spec.LANDMARK, ".prefetch.landmark"])
def test_a_file_that_would_be_taken_for_the_formats_own_is_refused(name: str) -> None:
    with pytest.raises(BuildError, match="takes for its own"):
        pack(
            [Entry(name, FILE, 0o644, size=1)],
            lambda _: io.BytesIO(b"x"),
            Counted(io.BytesIO()),
            Compression("estargz"),
        )


def test_half_a_tar_is_refused() -> None:
    tar = foreign(format=tarfile.PAX_FORMAT)

    for end in (700, 1100, 1600):
        with pytest.raises(ImageError, match="cut off"):
            pack_tar(lambda raw, end=end: raw.write(tar[:end]), Counted(io.BytesIO()), Compression("estargz"))  # type: ignore[misc]


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    from tests.support.machine import run

    (tmp_path / "holes").write_bytes(b"x")
    os.truncate(tmp_path / "holes", 1 << 20)
    run(["tar", "-C", tmp_path, "--sparse", "-cf", tmp_path / "t.tar", "holes"])
    tar = (tmp_path / "t.tar").read_bytes()

    with pytest.raises(ImageError, match="sparse"):
        pack_tar(lambda raw: raw.write(tar), Counted(io.BytesIO()), Compression("estargz"))


def test_what_is_estargz_already_is_recognised(tmp_path: Path) -> None:
    data, blob = packed()
    plain = gzip.compress(b"no tar")
    for name, bytes_ in {
        "one": data,
        "cut": data[:-1],
        "plain": plain,
        "forged": plain + estargz.footer(0),
        "": b"",
    }.items():
        (tmp_path / f"x{name}").write_bytes(bytes_)

    def told(name: str) -> dict[str, str]:
        with open(tmp_path / f"x{name}", "rb", buffering=0) as file:
            return estargz.annotations_of(file)

    assert told("one") == {spec.TOC_DIGEST: blob.descriptor.annotations[spec.TOC_DIGEST]}
    assert [told(name) for name in ("cut", "plain", "forged", "")] == [{}] * 4
    assert digests.of_bytes(data) == blob.descriptor.digest
