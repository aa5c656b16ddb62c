import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import digest
from builder.errors import BuildError
from builder.oci import tar
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK, WHITEOUT, Entry

SECOND = 1_000_000_000


def write(entries, contents=None, **options):
    out = io.BytesIO()
    contents = contents or {}
    tar.write(entries, lambda entry: io.BytesIO(contents[entry.path]), out, **options)
    return out.getvalue()


def read(data):
    found = [(entry, body.read()) for entry, body in tar.read(io.BytesIO(data))]
    return [entry for entry, _ in found], {entry.path: data for entry, data in found if data}


def write_each(entries):
    """An archive whose entries may repeat a path."""
    return b"".join(write([e], {e.path: b"c" * e.size})[:-1024] for e in entries) + bytes(1024)


names = st.one_of(
    st.text("abcdé-_ \n\\", min_size=1, max_size=12),
    st.binary(min_size=1, max_size=80).map(lambda raw: os.fsdecode(raw.translate(None, b"/\0") or b"x")),
    st.integers(90, 255).map(lambda length: "n" * length),
).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) <= 255)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
ids = st.one_of(st.integers(0, 70000), st.sampled_from([0o7777777, 0o10000000, 2**32 - 2]))
times = st.one_of(st.integers(-(2**32), 2**33), st.sampled_from([0, -1, 2**33 - 1, 2**33])).map(
    lambda seconds: seconds * SECOND
)
attributes = {"mode": st.integers(0, 0o7777), "uid": ids, "gid": ids, "mtime": times}
xattrs = st.dictionaries(
    st.sampled_from(["security.capability", "user.é"]), st.binary(min_size=1, max_size=40)
).map(lambda found: tuple(sorted(found.items())))
entries = st.one_of(
    st.builds(Entry, paths, st.just(FILE), size=st.integers(0, 2000), xattrs=xattrs, **attributes),
    st.builds(Entry, paths, st.just(FILE), hardlink=paths, **attributes),
    st.builds(Entry, paths, st.just(FOLDER), **attributes),
    st.builds(Entry, paths, st.just(SYMLINK), link=paths, **attributes),
    st.builds(Entry, paths, st.just(FIFO), **attributes),
    st.builds(
        Entry,
        paths,
        st.sampled_from([CHAR, BLOCK]),
        device=st.tuples(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
        **attributes,
    ),
)


@settings(deadline=None)
@given(st.lists(entries, max_size=12))
def test_what_is_written_is_read_again(written):
    data = write_each(written)

    found = [(entry, body.read()) for entry, body in tar.read(io.BytesIO(data))]

    assert [entry for entry, _ in found] == written
    assert all(body == b"c" * entry.size for entry, body in found)


@settings(deadline=None)
@given(st.lists(entries, max_size=12))
def test_tarfile_reads_what_is_written(written):
    data = write_each(written)

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()

    assert [m.name for m in members] == [e.path for e in written]
    for member, entry in zip(members, written, strict=True):
        assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
        assert int(member.mtime) == entry.mtime // SECOND
        assert member.linkname == (entry.hardlink or entry.link)
        if entry.kind in (CHAR, BLOCK):
            assert (member.devmajor, member.devminor) == entry.device


@settings(deadline=None)
@given(st.lists(entries, max_size=8), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_tarfile_writes_is_read(wanted, form):
    out = io.BytesIO()
    kinds = {FILE: b"0", FOLDER: b"5", SYMLINK: b"2", FIFO: b"6", CHAR: b"3", BLOCK: b"4"}
    with tarfile.open(
        fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for entry in wanted:
            member = tarfile.TarInfo(entry.path)
            member.type = b"1" if entry.hardlink else kinds[entry.kind]
            member.mode, member.uid, member.gid, member.size = entry.mode, entry.uid, entry.gid, entry.size
            member.mtime, member.linkname = entry.mtime // SECOND, entry.hardlink or entry.link
            member.devmajor, member.devminor = entry.device
            archive.addfile(member, io.BytesIO(b"c" * entry.size))

    found, _ = read(out.getvalue())

    assert found == [entry.replace(xattrs=()) for entry in wanted]


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_what_gnu_tar_writes_is_read(tmp_path, form):
    top = tmp_path / "top"
    top.mkdir()
    long = "d" * 60
    (top / long).mkdir()
    (top / long / ("f" * 30)).write_bytes(b"data" * 1000)
    (top / "link").symlink_to("target")
    os.link(top / long / ("f" * 30), top / "second")
    os.utime(top / long / ("f" * 30), ns=(0, 1_234_567_890_123_456_789))
    if form in ("gnu", "pax", "oldgnu"):
        (top / ("g" * 200)).symlink_to("t" * 200)
    done = subprocess.run(
        ["tar", f"--format={form}", "--sort=name", "-cf", "-", "-C", str(top), "."],
        stdout=subprocess.PIPE,
        check=True,
    )

    found, contents = read(done.stdout)

    by_path = {entry.path: entry for entry in found}
    file = by_path[f"{long}/{'f' * 30}"]
    assert by_path["."].kind == FOLDER
    assert contents[file.path] == b"data" * 1000
    assert file.mtime == 1_234_567_890 * SECOND + (123_456_789 if form == "pax" else 0)
    assert by_path["link"].link == "target"
    assert by_path["second"].hardlink == file.path
    if form in ("gnu", "pax", "oldgnu"):
        assert by_path["g" * 200].link == "t" * 200


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
)
@pytest.mark.parametrize("extents", [1, 3, 60, 300])
def test_sparse_files_of_gnu_tar_are_read_whole(tmp_path, options, extents):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        for number in range(extents):
            file.seek(number * 65536 + 8192)
            file.write(b"%08d" % number * 512)
        file.truncate(extents * 65536 + 12345)
    done = subprocess.run(
        ["tar", *options, "-S", "-cf", "-", "-C", str(tmp_path), "sparse"], stdout=subprocess.PIPE, check=True
    )
    assert len(done.stdout) < path.stat().st_size

    found, contents = read(done.stdout)

    assert [(e.path, e.size) for e in found] == [("sparse", path.stat().st_size)]
    assert contents["sparse"] == path.read_bytes()


def test_gnu_tar_reads_what_is_written(tmp_path):
    raw = os.fsdecode(b"caf\xe9")
    written = [
        Entry("d" * 60, FOLDER, 0o750, mtime=5 * SECOND),
        Entry("d" * 60 + "/" + "f" * 90, FILE, 0o640, size=5, mtime=-5 * SECOND),
        Entry("d" * 60 + "/" + "é" * 90, SYMLINK, 0o777, link="t" * 300),
        Entry("h", FILE, 0o640, hardlink="d" * 60 + "/" + "f" * 90, mtime=-5 * SECOND),
        Entry(raw, FILE, 0o600, size=600, mtime=7 * SECOND),
    ]
    data = write(written, {written[1].path: b"hello", raw: b"r" * 600})

    subprocess.run(["tar", "-xpf", "-", "-C", str(tmp_path)], input=data, check=True)

    assert (tmp_path / written[1].path).read_text() == "hello"
    assert (tmp_path / written[1].path).stat().st_mtime == -5
    assert (tmp_path / "h").samefile(tmp_path / written[1].path)
    assert os.readlink(tmp_path / written[2].path) == "t" * 300
    assert (tmp_path / raw).read_bytes() == b"r" * 600


def test_times_are_whole_seconds_rounded_down():
    found, _ = read(write([Entry("a", FOLDER, mtime=1_999_999_999), Entry("b", FOLDER, mtime=-1)]))
    assert [entry.mtime for entry in found] == [SECOND, -SECOND]


def test_only_later_times_are_clamped():
    found, _ = read(
        write([Entry("a", FOLDER, mtime=9 * SECOND), Entry("b", FOLDER, mtime=1 * SECOND)], clamp=5 * SECOND)
    )
    assert [entry.mtime for entry in found] == [5 * SECOND, 1 * SECOND]


def test_plain_entries_need_no_pax_header():
    assert len(write([Entry("a" * 99 + "/" + "b" * 99, FOLDER), Entry("a", FOLDER)])) == 2 * 512 + 1024


def test_xattrs_are_pax_records_that_go_reads():
    data = write([Entry("ping", FILE, xattrs=(("security.capability", b"\1\0\n=\2"),))])
    assert b"42 SCHILY.xattr.security.capability=\1\0\n=\2\n" in data
    assert read(data)[0][0].xattrs == (("security.capability", b"\1\0\n=\2"),)


def test_a_file_of_more_than_eight_gigabytes_has_its_size_in_a_pax_record():
    out = io.BytesIO()
    with pytest.raises(BuildError, match="changed"):  # it ends early, but its header is out by then
        tar.write([Entry("big", FILE, size=8 << 30)], lambda _: io.BytesIO(bytes(1 << 20)), out)

    entry, _ = next(tar.read(io.BytesIO(out.getvalue())))

    assert entry.size == 8 << 30
    assert b"19 size=8589934592\n" in out.getvalue()


@pytest.mark.parametrize("actual", [b"", b"1234", b"123456", b"x" * 1_000_000])
def test_a_file_of_another_size_is_refused(actual):
    with pytest.raises(BuildError, match="'a' changed during the build") as caught:
        write([Entry("a", FILE, size=5)], {"a": actual})
    assert caught.value.code == "changed-during-build"


def test_a_file_of_another_digest_is_refused():
    entry = Entry("a", FILE, size=5, digest=digest.of_bytes(b"hello"))
    assert b"hello" in write([entry], {"a": b"hello"})
    with pytest.raises(BuildError, match="changed during the build"):
        write([entry], {"a": b"HELLO"})


def test_names_with_nul_and_whiteouts_are_not_written():
    with pytest.raises(BuildError, match="no archive can hold"):
        write([Entry("a\0b", FOLDER)])
    with pytest.raises(ValueError, match="kind"):
        write([Entry("a", WHITEOUT)])


def test_content_is_closed():
    opened = []

    def content(entry):
        opened.append(io.BytesIO(b"x"))
        return opened[-1]

    tar.write(
        [Entry("a", FILE, size=1), Entry("b", FILE), Entry("c", FILE, hardlink="a")], content, io.BytesIO()
    )

    assert [stream.closed for stream in opened] == [True]


def test_an_unread_body_is_passed_over():
    data = write(
        [Entry("a", FILE, size=1_000_001), Entry("b", FILE, size=2)], {"a": bytes(1_000_001), "b": b"hi"}
    )
    found = []
    for entry, body in tar.read(io.BytesIO(data)):
        found.append(body.read(1) if entry.path == "a" else body.read())
    assert found == [b"\0", b"hi"]


def test_an_archive_without_end_blocks_is_read():
    assert read(write([Entry("a", FOLDER)])[:512])[0][0].path == "a"
    assert read(b"") == ([], {})
    assert read(bytes(512)) == ([], {})
