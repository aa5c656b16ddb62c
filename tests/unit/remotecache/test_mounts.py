"""Cache mounts as archives: what goes in, what comes out, and what never does."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from builder import digest as digests
from builder.errors import ImageError
from builder.oci.compressed import Compression
from builder.oci.spec import Descriptor, LayerBlob
from builder.remotecache.document import MOUNT_TYPE
from builder.remotecache.mounts import TooLarge, pack, unpack

LIMIT = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").write_text("content")
    (folder / "a/run").write_text("#!/bin/sh\n")
    (folder / "a/run").chmod(0o755)
    (folder / "link").symlink_to("../outside")
    os.link(folder / "a/b/file", folder / "second")
    (folder / ".wh.odd").write_text("a file of that name")
    os.mkfifo(folder / "pipe")
    os.utime(folder / "a/b/file", (1000, 1000))
    return folder


def carried(source: Path, folder: Path) -> LayerBlob:
    """Pack a folder, and unpack what came of it into another."""
    out = io.BytesIO()
    blob = pack(str(source), LIMIT, out, Compression())
    folder.mkdir()
    unpack(io.BytesIO(out.getvalue()), blob, str(folder), LIMIT)
    return blob


def test_what_is_packed_comes_out(source: Path, tmp_path: Path) -> None:
    blob = carried(source, tmp_path / "new")

    new = tmp_path / "new"
    assert blob.descriptor.media_type == f"{MOUNT_TYPE}+gzip"
    assert (new / "a/b/file").read_text() == "content"
    assert (new / "a/b/file").stat().st_mtime == 1000
    assert (new / "a/run").stat().st_mode & 0o777 == 0o755
    assert (new / "link").readlink() == Path("../outside")
    assert (new / "second").samefile(new / "a/b/file")
    assert (new / ".wh.odd").read_text() == "a file of that name"
    assert stat.S_ISFIFO((new / "pipe").stat().st_mode)
    assert sorted(os.listdir(new)) == sorted(os.listdir(source))


def test_the_same_folder_is_the_same_archive(source: Path) -> None:
    assert pack(str(source), LIMIT, io.BytesIO(), Compression()) == pack(
        str(source), LIMIT, io.BytesIO(), Compression()
    )


def test_what_is_too_large_is_not_packed(source: Path) -> None:
    (source / "large").write_bytes(bytes(2000))

    with pytest.raises(TooLarge, match=r"it has 20\d\d bytes, and may have 2000"):
        pack(str(source), 2000, io.BytesIO(), Compression())


def archive(*members: tarfile.TarInfo) -> tuple[io.BytesIO, LayerBlob]:
    """An archive of these, each with as many bytes as it says, and what is said of it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    data = out.getvalue()
    digest = digests.of_bytes(data)
    return io.BytesIO(data), LayerBlob(Descriptor(MOUNT_TYPE, digest, len(data)), digest, len(data))


def member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    for key, value in more.items():
        setattr(info, key, value)
    return info


def test_devices_and_setuid_bits_stay_outside(tmp_path: Path) -> None:
    stream, blob = archive(
        member("disk", tarfile.BLKTYPE, devmajor=8, devminor=0),
        member("mem", tarfile.CHRTYPE, devmajor=1, devminor=1),
        member("su", mode=0o4755, size=3),
        member("group", mode=0o2755),
        member(".", tarfile.DIRTYPE, mode=0o000),
    )

    unpack(stream, blob, str(tmp_path), LIMIT)

    assert sorted(os.listdir(tmp_path)) == ["group", "su"]
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("su", "group")] == [0o755, 0o755]
    assert tmp_path.stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize(
    "members",
    [
        [member("way", tarfile.SYMTYPE, linkname="/tmp"), member("way/escaped", size=1)],
        [member("../escaped", size=1)],
        [member("hard", tarfile.LNKTYPE, linkname="../../etc/passwd")],
    ],
    ids=["through a link", "above", "a hard link outside"],
)
@pytest.mark.hostile("CVE-2007-4559")
def test_nothing_leaves_the_folder(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    stream, blob = archive(*members)

    with contextlib.suppress(ImageError):
        unpack(stream, blob, str(folder), LIMIT)

    assert os.listdir(tmp_path) == ["in"]
    assert not Path("/tmp/escaped").exists()
    assert not (folder / "hard").exists()


def test_files_have_no_more_bytes_than_they_may(tmp_path: Path) -> None:
    stream, blob = archive(member("one", size=600), member("two", size=600))

    with pytest.raises(ImageError, match="more than the 1000 bytes"):
        unpack(stream, blob, str(tmp_path), 1000)


def test_another_archive_is_refused(tmp_path: Path) -> None:
    stream, blob = archive(member("one", size=1))
    other = LayerBlob(blob.descriptor, digests.of_bytes(b"other"), blob.size)

    with pytest.raises(ImageError, match="has the diff id"):
        unpack(stream, other, str(tmp_path), LIMIT)
