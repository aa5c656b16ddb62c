import contextlib
import gzip
import hashlib
import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import digest
from builder.errors import BuildError, ImageError
from builder.oci import layer, spec, weight
from builder.oci.compressed import Compression
from builder.oci.compression import NO_LIMITS, Limits
from builder.snapshots.snapshot import CHAR, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry

SECOND = 1_000_000_000
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


PLAIN = Compression("none")


class Notes:
    """A sink that remembers what passed."""

    def __init__(self):
        self.seen = []

    def add(self, entry, reader):
        self.seen.append((entry.path, entry.kind, entry.hardlink, reader.read() if reader else None))


def pack(entries, contents=None, compression=PLAIN, **options):
    out = io.BytesIO()
    contents = contents or {}
    blob = layer.pack(
        entries, lambda entry: io.BytesIO(contents[entry.path]), layer.Counted(out), compression, **options
    )
    return blob, out.getvalue()


def scan(data, **options):
    entries, _ = layer.scan(io.BytesIO(data), **options)
    return entries


def archive(*members):
    """A tar by tarfile of (name, type, more...): link for types 1 and 2, bytes for 0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, kind, *rest in members:
            member = tarfile.TarInfo(name)
            member.type = kind.encode()
            data = b""
            for value in rest:
                if isinstance(value, bytes):
                    data = value
                elif isinstance(value, dict):
                    for key, field in value.items():
                        setattr(member, key, field)
                else:
                    member.linkname = value
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def names(entries):
    return [(entry.path, entry.kind) for entry in entries]


def test_a_blob_is_described_by_what_was_written():
    entries = [Entry("a", FILE, 0o644, size=5)]
    for compression, media_type in [
        (Compression("gzip"), spec.OCI_LAYER_GZIP), (Compression("zstd"), spec.OCI_LAYER_ZSTD),
        (Compression("none"), spec.OCI_LAYER),
    ]:  # fmt: skip
        blob, data = pack(entries, {"a": b"hello"}, compression)
        assert blob.descriptor == spec.Descriptor(media_type, digest.of_bytes(data), len(data))
        found, diff_id = layer.scan(io.BytesIO(data))
        assert diff_id == blob.diff_id
        assert found == [entries[0].replace(digest=digest.of_bytes(b"hello"))]
    assert blob.diff_id == blob.descriptor.digest
    assert blob.size == len(data) == 2048


def test_the_order_of_entries_does_not_change_the_blob():
    entries = [
        Entry("b", FOLDER), Entry("b", OPAQUE), Entry("b/x", FILE, hardlink="b/y"), Entry("b/y", FILE),
        Entry("b", WHITEOUT), Entry("a-b", FOLDER), Entry("a", FOLDER), Entry("a/b", FOLDER),
    ]  # fmt: skip
    expected = ["a", "a/b", "a-b", ".wh.b", "b", "b/.wh..wh..opq", "b/y", "b/x"]

    _, data = pack(entries)
    _, other = pack(entries[::-1])

    assert data == other
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        assert file.getnames() == expected


def test_removals_are_empty_files_of_the_epoch():
    _, data = pack([Entry("d/gone", WHITEOUT, mtime=5 * SECOND), Entry(".", OPAQUE)])
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        found = [(m.name, m.type, m.size, m.mode, m.mtime) for m in file]
    assert found == [(".wh..wh..opq", b"0", 0, 0, 0), ("d/.wh.gone", b"0", 0, 0, 0)]


def test_removals_come_back():
    entries = [Entry("d", FOLDER), Entry("d", OPAQUE), Entry("d/gone", WHITEOUT), Entry("gone", WHITEOUT)]
    assert scan(pack(entries)[1]) == entries


def test_files_that_are_called_as_removals_are_written_and_come_back_by_the_index():
    entries = [
        Entry(".wh..wh..opq", FILE, size=3, digest=digest.of_bytes(b"abc")),
        Entry(".", OPAQUE),
        Entry(".wh.a", FILE, size=1, digest=digest.of_bytes(b"x")),
        Entry(".wh.d", FOLDER),
        Entry(".wh.d/.wh.b", SYMLINK, 0o777, link="x"),
        Entry(".wh.d/a", FILE, digest=digest.of_bytes(b"")),
        Entry(".wh.d/b", WHITEOUT),
        Entry(".wh.d/gone", WHITEOUT),
        Entry("a", WHITEOUT),
    ]

    _, data = pack(entries, {".wh.a": b"x", ".wh..wh..opq": b"abc", ".wh.d/a": b""})

    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        assert sorted(file.getnames()) == [
            ".wh..wh..opq", ".wh.a", ".wh.d", ".wh.d/.wh.b", ".wh.d/.wh.gone", ".wh.d/a"
        ]  # fmt: skip
    assert layer.scan(io.BytesIO(data), indexed=entries)[0] == layer.canonical(entries)


def test_to_others_such_files_are_removals():
    _, data = pack([Entry(".wh.a", FILE), Entry("b", FILE)], {".wh.a": b"", "b": b""})

    assert names(scan(data)) == [("a", WHITEOUT), ("b", FILE)]


@pytest.mark.hostile("containerd whiteout check")
def test_names_that_would_remove_nothing_that_has_a_name_cannot_be_packed():
    for name in (".wh.", "d/.wh..", "d/.wh..."):
        with pytest.raises(BuildError, match="cannot be in an image"):
            pack([Entry(name, FILE)])


def test_implied_folders_are_not_packed():
    assert names(scan(pack([Entry("d", FOLDER, implied=True), Entry("e", FOLDER)])[1])) == [("e", FOLDER)]


def test_later_times_are_clamped_and_content_sees_the_entry_itself():
    entry = Entry("a", FILE, size=1, mtime=9 * SECOND)
    seen = []

    def content(found):
        seen.append(found)
        return io.BytesIO(b"x")

    out = io.BytesIO()
    layer.pack([entry], content, layer.Counted(out), Compression("none"), clamp=5 * SECOND)

    assert scan(out.getvalue())[0].mtime == 5 * SECOND
    assert seen[0] is entry


def test_bytes_that_changed_are_refused():
    with pytest.raises(BuildError, match="'a' changed during the build"):
        pack([Entry("a", FILE, size=1, digest=digest.of_bytes(b"x"))], {"a": b"y"}, Compression("gzip"))


def test_folders_that_a_tar_only_implies_are_added():
    sink = Notes()
    found = scan(archive(("a/b/c", "0", b"x"), ("a", "5", {"mode": 0o700})), sink=sink)

    assert [(e.path, e.mode, e.implied) for e in found] == [
        ("a", 0o700, False), ("a/b", 0o755, True), ("a/b/c", 0o644, False)
    ]  # fmt: skip
    assert [path for path, *_ in sink.seen] == ["a", "a/b", "a/b/c", "a"]


def test_the_sink_gets_the_bytes_and_need_not_read_them():
    class Lazy(Notes):
        def add(self, entry, reader):
            if entry.path != "a":
                super().add(entry, reader)

    sink = Lazy()
    found = scan(archive(("a", "0", b"one" * 300_000), ("b", "0", b"two"), ("c", "0")), sink=sink)

    assert sink.seen == [("b", FILE, None, b"two"), ("c", FILE, None, b"")]
    assert [e.digest for e in found] == [digest.of_bytes(d) for d in (b"one" * 300_000, b"two", b"")]


def test_the_diff_id_covers_what_follows_the_end():
    data = archive(("a", "0")) + b"trailing"
    assert layer.scan(io.BytesIO(gzip.compress(data)))[1] == "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_later_entry_replaces_the_former():
    data = archive(
        ("f", "0", b"one"), ("f", "2", "target"), ("d", "5", {"mode": 0o700}), ("d/x/y", "0"),
        ("d", "5", {"mode": 0o711}), ("e/x", "0"), ("e", "0", b"file"),
    )  # fmt: skip
    found = scan(data)

    assert names(found) == [
        ("d", FOLDER), ("d/x", FOLDER), ("d/x/y", FILE), ("e", FILE), ("f", SYMLINK)
    ]  # fmt: skip
    assert found[0].mode == 0o711


def test_links_to_folders_are_followed_inside_the_layer():
    data = archive(
        ("usr/lib", "5"), ("lib", "2", "usr/lib"), ("abs", "2", "/usr/../../usr"), ("lib/a", "0"),
        ("abs/lib/b", "0"),
        ("lib/.wh.c", "0"), ("lib/.wh..wh..opq", "0"), ("h", "1", "abs/lib/a"), ("dangling", "2", "var/new"),
        ("dangling/d", "0"),
    )  # fmt: skip
    found = scan(data)

    assert names(found) == [
        ("abs", SYMLINK), ("dangling", SYMLINK), ("h", FILE), ("lib", SYMLINK), ("usr", FOLDER),
        ("usr/lib", FOLDER), ("usr/lib", OPAQUE), ("usr/lib/a", FILE), ("usr/lib/b", FILE),
        ("usr/lib/c", WHITEOUT), ("var", FOLDER), ("var/new", FOLDER), ("var/new/d", FILE),
    ]  # fmt: skip
    assert found[7].hardlink is None
    assert found[2].hardlink == "usr/lib/a"


@pytest.mark.hostile("containerd whiteout check", "overlay xattrs", "CVE-2021-29136", "duplicate entries")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("loop", "2", "loop"), ("loop/x", "0")], "'loop' is a link without end"),
        ([("a", "2", "b"), ("b", "2", "a"), ("a/x", "0")], "is a link without end"),
        ([("f", "0"), ("f/x", "0")], "is no folder"),
        ([("f", "6"), ("f/.wh.x", "0")], "is no folder"),
        ([(".wh..", "0")], "which is no name"),
        ([(".wh...", "0")], "which is no name"),
        ([("d/.wh...", "0")], "which is no name"),
        ([(".wh.", "0")], "which is no name"),
        ([(".wh.d/x", "0")], "below a removed path"),
        ([("x", "3")], "device 0:0"),
        ([("/.", "2", "/etc")], "replaces the root"),
        ([(".", "0", b"x")], "replaces the root"),
        ([("..", "1", "x")], "replaces the root"),
        ([("a", "0"), ("a", "1", "a")], "hard link"),
        ([("a", "1", "a")], "hard link"),
        ([("d/x", "0"), ("d", "1", "d/x")], "hard link"),
        ([("d/x", "0"), ("l", "1", "d")], "hard link"),
        ([("l", "1", ".")], "hard link"),
        ([("l", "2", ".wh.x"), ("l/f", "0")], r"a link to '\.wh\.x'"),
    ],
)
def test_layers_that_make_no_sense_are_image_errors(members, message):
    with pytest.raises(ImageError, match=message):
        scan(archive(*members))


def test_names_of_archives_that_are_no_layers_may_begin_with_wh():
    data = archive((".wh.d/x", "0"), (".wh..", "0"), ("a/.wh..wh..opq", "0"))
    assert [e.path for e in scan(data, whiteouts=False) if e.kind == FILE] == [
        ".wh..",
        ".wh.d/x",
        "a/.wh..wh..opq",
    ]


def test_leftovers_of_aufs_are_ignored():
    assert names(
        scan(archive((".wh..wh.plnk", "5"), (".wh..wh.plnk/1.2", "0"), (".wh..wh.aufs", "0"), ("a", "5")))
    ) == [("a", FOLDER)]


@pytest.mark.parametrize("first", [True, False])
def test_a_removal_speaks_of_the_layers_below_only(first):
    removals = [(".wh.f", "0"), (".wh.d", "0"), (".wh.i", "0")]
    made = [("f", "0"), ("d", "5"), ("d/x", "0"), ("i/x", "0")]
    found = scan(archive(*(removals + made if first else made + removals)))

    assert names(found) == [
        ("d", FOLDER), ("d", OPAQUE), ("d/x", FILE), ("f", FILE), ("i", FOLDER), ("i", OPAQUE), ("i/x", FILE)
    ]  # fmt: skip
    assert not any(entry.implied for entry in found)


def test_a_removal_below_what_became_a_file_is_forgotten():
    assert names(scan(archive(("d/.wh.x", "0"), ("d", "0"), ("e/.wh..wh..opq", "0"), ("e", "0")))) == [
        ("d", FILE), ("e", FILE)
    ]  # fmt: skip


def test_hard_links_repeat_what_they_link_to():
    data = archive(
        ("a", "0", b"data", {"mode": 0o4755, "uid": 7}), ("b", "1", "a", {"mode": 0}), ("c", "1", "b")
    )
    a, b, c = scan(data)

    assert (a.hardlink, b.hardlink, c.hardlink) == (None, "a", "a")
    assert b == a.replace(path="b", hardlink="a")
    assert c.digest == digest.of_bytes(b"data")


def test_a_hard_link_survives_what_it_linked_to():
    sink = Notes()
    data = archive(("a", "0", b"old"), ("b", "1", "a"), ("c", "1", "a"), ("a", "0", b"new"), ("d", "1", "c"))
    a, b, c, d = scan(data, sink=sink)

    assert (a.digest, a.hardlink) == (digest.of_bytes(b"new"), None)
    assert (b.digest, b.hardlink) == (digest.of_bytes(b"old"), None)
    assert (c.hardlink, d.hardlink, d.size) == ("b", "b", 3)
    assert [hardlink for _, _, hardlink, _ in sink.seen] == [None, "a", "a", None, "c"]


def test_a_hard_link_to_something_else_is_another_of_it():
    found = scan(archive(("s", "2", "x"), ("t", "1", "s"), ("p", "6"), ("q", "1", "p")))
    assert [(e.path, e.kind, e.link, e.hardlink) for e in found] == [
        ("p", "p", "", None), ("q", "p", "", None), ("s", SYMLINK, "x", None), ("t", SYMLINK, "x", None)
    ]  # fmt: skip


def test_a_hard_link_out_of_the_layer_is_kept_as_it_is():
    found = scan(archive(("b", "1", "lower/a"), ("c", "1", "b")))
    assert [(e.path, e.hardlink, e.digest) for e in found] == [("b", "lower/a", None), ("c", "lower/a", None)]


@pytest.mark.hostile("overlay xattrs")
def test_only_capabilities_are_kept_of_the_xattrs():
    attributes = {
        "security.capability": CAPABILITY, "trusted.overlay.redirect": b"/etc", "user.overlay.opaque": b"y",
        "trusted.overlay.opaque": b"y", "user.comment": b"x", "security.selinux": b"x",
    }  # fmt: skip
    records = tuple(sorted(attributes.items()))
    _, data = pack([Entry("f", FILE, xattrs=records), Entry("d", FOLDER, xattrs=records)])

    d, f = scan(data)

    assert f.xattrs == (("security.capability", CAPABILITY),)
    assert d.xattrs == ()


def test_a_device_other_than_0_0_is_kept():
    _, data = pack([Entry("null", CHAR, 0o666, device=(1, 3))])
    assert scan(data) == [Entry("null", CHAR, 0o666, device=(1, 3))]


@pytest.mark.hostile("bombs")
@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([(f"{n}/" + "d/" * 500 + "f", "0") for n in range(5)], r"\d/d/d"),  # what is only implied
        ([(f".wh.{n}", "0") for n in range(3000)], ""),
        ([("same", "0")] * 3000, "same"),
        ([("same", "5")] * 3000, "same"),
        ([("d/.wh..wh..opq", "0")] * 3000, "d"),
        ([("l", "2", "./" * 2000 + "d"), *[(f"l/{n}", "0") for n in range(300)]], "l"),  # what is followed
        ([(f"{n}", "2", "t" * 4000) for n in range(300)], ""),
    ],
    ids=["implied", "removals", "files", "folders", "opaque", "followed", "links"],
)
def test_paths_are_weighed_before_they_fill_the_memory(monkeypatch, members, named):
    monkeypatch.setattr(weight, "FREE", 1 << 20)
    with pytest.raises(ImageError, match=f"more paths, at '{named}"):
        scan(gzip.compress(archive(*members)))


def test_files_that_differ_are_as_many_as_they_are(monkeypatch):
    monkeypatch.setattr(weight, "FREE", 1 << 10)
    members = [(os.urandom(20).hex(), "0", os.urandom(40)) for _ in range(200)]

    assert len(scan(gzip.compress(archive(*members)))) == 200
    _, data = pack([Entry(f"{n}", FILE) for n in range(500)], compression=Compression("zstd"))
    assert len(layer.scan(io.BytesIO(data), limits=NO_LIMITS)[0]) == 500
    with pytest.raises(ImageError, match="more paths"):
        scan(data)


@pytest.mark.hostile("bombs")
@pytest.mark.parametrize("size", [0, 1, 25, 900_000])
def test_capabilities_have_the_size_that_the_kernel_knows(size):
    """They are kept for every file: a record of a megabyte each is nothing to compress."""
    _, data = pack([Entry("bin/su", FILE, xattrs=(("security.capability", b"x" * size),))])

    with pytest.raises(ImageError, match="capabilities at 'bin/su'") if size else contextlib.nullcontext():
        assert scan(data)[-1].xattrs == ()


def test_limits_and_names_reach_the_reader():
    data = gzip.compress(archive(("a", "0", bytes(1 << 20))))
    with pytest.raises(ImageError, match="layer 7 is larger than 1000 bytes"):
        scan(data, name="layer 7", limits=Limits(size=1000))
    with pytest.raises(ImageError, match="layer 7 is damaged"):
        scan(data[:-20], name="layer 7")


parts = st.sampled_from(["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", "..", "."])
members = st.tuples(
    st.lists(parts, min_size=1, max_size=4).map("/".join),
    st.sampled_from("0125"),
    st.lists(parts, min_size=1, max_size=3).map("/".join),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(members, max_size=10))
def test_any_layer_is_canonical_or_an_image_error(found):
    try:
        entries = scan(archive(*found))
    except ImageError:
        return
    by_path = {e.path: e for e in entries if e.kind not in (WHITEOUT, OPAQUE)}
    for entry in entries:
        parent = entry.path.rpartition("/")[0]
        assert not parent or by_path[parent].kind == FOLDER
        assert entry.kind != OPAQUE or entry.path == "." or by_path[entry.path].kind == FOLDER
        assert entry.kind != WHITEOUT or entry.path not in by_path
        if entry.hardlink is not None and entry.digest is not None:
            assert by_path[entry.hardlink].hardlink is None
    again = scan(pack([e.replace(digest=None) for e in entries if e.hardlink is None])[1])
    explicit = [e for e in entries if not e.implied]
    assert {(e.path, e.kind) for e in again} >= {(e.path, e.kind) for e in explicit if e.hardlink is None}
