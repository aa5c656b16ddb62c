"""Tarballs become images of one layer, with the checks of ADD."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from builder import images
from builder.errors import BuildError, ImageError, StoreError, UsageError
from builder.images.contents import read_contents
from builder.images.importing import import_image
from builder.oci.spec import Platform
from builder.snapshots.snapshot import SYMLINK
from builder.store.root import Store, open_store
from tests.support.archives import Member, tar_of
from tests.support.web import Answer, Web

NOBODY = 1 << 22  # the number of no process: it is the kernel's highest bound for them
FILES: tuple[Member, ...] = (
    ("etc", {"type": tarfile.DIRTYPE, "mode": 0o750, "uid": 7}),
    ("etc/hello", {"data": b"hello\n", "mode": 0o640, "gid": 8}),
    ("etc/again", {"type": tarfile.LNKTYPE, "linkname": "etc/hello", "mode": 0o640, "gid": 8}),
    ("etc/link", {"type": tarfile.SYMTYPE, "linkname": "hello"}),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def written(tmp_path: Path, *members: Member) -> str:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(tar_of(*members))
    return str(path)


def test_a_tarball_becomes_an_image_with_its_files(store: Store, tmp_path: Path) -> None:
    ident = import_image(store, written(tmp_path, *FILES), "app:1")

    told = images.inspect(store, "app:1")
    assert told["Id"] == ident
    assert told["RepoTags"] == ["app:1"]
    tree = read_contents(store, "app:1").tree()
    hello, link = tree.nodes["etc/hello"].entry, tree.nodes["etc/link"].entry
    assert (hello.mode, hello.gid, hello.size) == (0o640, 8, 6)
    assert tree.nodes["etc"].entry.uid == 7
    assert (link.kind, link.link) == (SYMLINK, "hello")
    again = tree.nodes["etc/again"].entry
    assert hello.path in (again.hardlink, again.path) or hello.hardlink == "etc/again"


def test_what_a_killed_import_left_is_swept_by_the_next(store: Store, tmp_path: Path) -> None:
    left = store.root / f"ingest/blob-{NOBODY}-0123456789abcdef"
    left.write_bytes(b"half of a layer")

    import_image(store, written(tmp_path, *FILES), "app:1")

    assert list(left.parent.iterdir()) == []


def test_an_archive_that_cannot_be_read_is_named(store: Store) -> None:
    with pytest.raises(ImageError, match=r"archive /proc/self/mem cannot be read: input/output error"):
        import_image(store, "/proc/self/mem", "app:1")


def test_a_disk_without_room_for_what_is_imported_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = written(tmp_path, *FILES)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115

    with pytest.raises(
        StoreError, match=r"keeping what an archive holds in .*store.* no space left"
    ) as caught:
        import_image(store, archive, "app:1")

    assert caught.value.code == "disk-full"


def test_changes_and_message_are_the_images(store: Store, tmp_path: Path) -> None:
    changes = [
        'CMD ["/hello"]', "ENV A=1 B=$A", "ENV C=${A}2", "EXPOSE 80/tcp 90-91", "LABEL x=y", "USER me",
        "WORKDIR /srv", "VOLUME /data", "STOPSIGNAL SIGUSR1", "ENTRYPOINT run it", "ONBUILD RUN make",
        "HEALTHCHECK --retries=2 CMD true",
    ]  # fmt: skip

    import_image(store, written(tmp_path, *FILES), "app", changes=changes, message="from tests", created=1000)

    told = images.inspect(store, "app")
    run: dict[str, Any] = told["Config"]
    assert run["Env"] == ["A=1", "B=", "C=12"], "nothing but what was asked for"
    assert list(run["ExposedPorts"]) == ["80/tcp", "90/tcp", "91/tcp"]
    assert (run["User"], run["WorkingDir"], run["Labels"]) == ("me", "/srv", {"x": "y"})
    assert (list(run["Volumes"]), run["StopSignal"], run["OnBuild"]) == (["/data"], "SIGUSR1", ["RUN make"])
    assert run["Entrypoint"] == ["/bin/sh", "-c", "run it"]
    assert run["Cmd"] == ["/hello"]
    assert run["Healthcheck"]["Retries"] == 2
    (line,) = images.history(store, "app")
    assert (line["Comment"], line["Created"]) == ("from tests", "1970-01-01T00:16:40Z")


def test_without_changes_the_config_is_empty(store: Store, tmp_path: Path) -> None:
    archive = written(tmp_path, *FILES)
    import_image(store, archive, "app", platform=Platform("arm64", "linux"))

    told = images.inspect(store, "app")

    assert {key: value for key, value in told["Config"].items() if value} == {}
    assert told["Architecture"] == "arm64"
    assert told["Comment"] == f"Imported from {archive}"


def test_the_same_tarball_at_the_same_time_gives_the_same_image(store: Store, tmp_path: Path) -> None:
    archive = written(tmp_path, *FILES)
    other = open_store(tmp_path / "other")

    assert import_image(store, archive, created=5) == import_image(other, archive, created=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN make", "--change RUN: that is no change of an image's config"),
        ("COPY a b", "--change COPY"),
        ("FROM scratch", "--change FROM"),
        ("ARG A=1", "--change ARG"),
        ("EXPOSE 80x", "--change 'EXPOSE 80x': port '80x'"),
        ("NOTHING", "--change 'NOTHING'"),
        ("STOPSIGNAL SIGNOPE", "signal 'SIGNOPE' is not known"),
    ],
)
def test_what_is_no_change_is_refused_before_anything_is_made(
    store: Store, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        import_image(store, written(tmp_path, *FILES), "app", changes=["ENV A=1", change])

    assert list(store.blobs.digests()) == []


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_it_may_be_compressed(store: Store, tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "packed"
    path.write_bytes(pack(tar_of(*FILES)))

    import_image(store, str(path), "app")

    assert "etc/hello" in read_contents(store, "app").tree().nodes


def test_it_may_come_through_a_pipe(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, tar_of(*FILES))
    os.close(write)
    saved = os.dup(0)
    try:
        os.dup2(read, 0)
        with open(0, closefd=False) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            import_image(store, "-", "app")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)

    assert "etc/hello" in read_contents(store, "app").tree().nodes
    assert os.listdir(Path(store.folder, "ingest")) == []


def test_an_archive_of_nothing_is_an_image_of_nothing(store: Store, tmp_path: Path) -> None:
    import_image(store, written(tmp_path), "empty")

    assert read_contents(store, "empty").tree().nodes == {}


# ── hostile ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_name_leads_out_of_the_image(store: Store, tmp_path: Path) -> None:
    members: list[Member] = [
        ("../../etc/passwd", {"data": b"x"}),
        ("/abs", {"data": b"y"}),
        ("etc/up", {"type": tarfile.SYMTYPE, "linkname": "../../../.."}),
        ("etc/up/through", {"data": b"z"}),
    ]

    import_image(store, written(tmp_path, *members), "app")

    assert sorted(read_contents(store, "app").tree().nodes) == [
        "abs", "etc", "etc/passwd", "etc/up", "through",
    ]  # fmt: skip
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("dev", {"type": tarfile.CHRTYPE})], "a device 0:0 is the removal"),
        ([("h", {"type": tarfile.LNKTYPE, "linkname": "../etc/passwd"})], "names 'etc/passwd', which is not"),
        (
            [("a", {"data": b"file"}), ("a/b", {"data": b"below a file"})],
            "'a' in the archive is no folder but has entries in it",
        ),
        (
            [("loop", {"type": tarfile.SYMTYPE, "linkname": "loop"}), ("loop/x", {})],
            "too many symbolic links",
        ),
    ],
    ids=["device", "hard-link", "below-a-file", "loop"],
)  # fmt: skip
def test_what_add_refuses_is_refused(
    store: Store, tmp_path: Path, members: list[Member], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        import_image(store, written(tmp_path, *members), "app")

    assert images.list_images(store) == []
    assert list(store.blobs.digests()) == []
    assert os.listdir(Path(store.folder, "ingest")) == []


def test_a_tarball_that_is_cut_short_is_none(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    path.write_bytes(tar_of(("big", {"data": os.urandom(100_000)}))[:50_000])

    with pytest.raises(ImageError, match="it is cut off") as caught:
        import_image(store, str(path), "app")

    assert "cut.tar" in caught.value.message
    assert list(store.blobs.digests()) == []


@pytest.mark.parametrize("data", [b"", b"no archive at all", bytes(100)])
def test_what_is_no_archive_is_said_to_be_none(store: Store, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "what"
    path.write_bytes(data)

    with pytest.raises(ImageError, match="is no tar archive"):
        import_image(store, str(path))


# ── from the web ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_tarball_may_be_on_the_web(store: Store, tmp_path: Path) -> None:
    web = Web(tmp_path)
    web.answers["/rootfs.tar.gz"] = Answer(gzip.compress(tar_of(*FILES)))
    with web.running():
        import_image(store, f"{web.url}/rootfs.tar.gz", "web")
        with pytest.raises(BuildError, match="the server answers 404"):
            import_image(store, f"{web.url}/none.tar", "none")

    assert "etc/hello" in read_contents(store, "web").tree().nodes
    assert images.history(store, "web")[0]["Comment"].startswith("Imported from http://")


def test_what_is_no_utf8_in_names_and_messages_becomes_text(store: Store, tmp_path: Path) -> None:
    """As JSON has none of it."""
    source = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tar")
    os.rename(written(tmp_path, *FILES), source)

    import_image(store, source, "one")
    import_image(store, source, "other", message=os.fsdecode(b"caf\xe9"))

    assert images.inspect(store, "one")["Comment"] == f"Imported from {tmp_path}/caf\ufffd.tar"
    assert images.inspect(store, "other")["Comment"] == "caf\ufffd"
