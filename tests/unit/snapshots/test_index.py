import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.snapshots import index
from builder.snapshots.snapshot import FILE, FOLDER, WHITEOUT, Entry

text = st.text(min_size=1).map(lambda t: t.replace("/", "x"))
entries = st.builds(
    Entry,
    text,
    st.sampled_from("fdlcbpwo"),
    st.integers(0, 0o7777),
    st.integers(0, 2**32),
    st.integers(0, 2**32),
    st.integers(0, 2**63),
    st.integers(-(2**70), 2**70),
    link=st.text(),
    hardlink=st.none() | text,
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20)),
    xattrs=st.lists(st.tuples(text, st.binary()), max_size=2).map(tuple),
    digest=st.none() | st.just("sha256:" + "a" * 64),
    implied=st.booleans(),
)


@given(st.lists(entries, max_size=5))
def test_an_index_is_read_as_it_was_written(tmp_path_factory, rows):
    folder = str(tmp_path_factory.mktemp("layer"))

    index.write_index(folder, rows)

    assert index.read_index(folder) == rows
    with open(os.path.join(folder, "index"), "rb") as file:
        assert file.read().isascii()


def test_names_that_are_no_utf_8_and_names_with_newlines_are_kept(tmp_path):
    rows = [Entry("a\udcff\nb\u2028", FILE), Entry("c", WHITEOUT)]
    index.write_index(str(tmp_path), rows)

    assert index.read_index(str(tmp_path)) == rows


def test_a_header_of_which_one_bit_is_another_is_told_from_a_sound_one(tmp_path):
    rows = [Entry("a", FOLDER), Entry("a/b", FILE, size=5000)]
    index.write_index(str(tmp_path), rows)
    file = tmp_path / "index"
    data = file.read_bytes()
    assert index.has_sound_header(str(tmp_path), rows)

    for bit in range(8 * (data.index(b"\n") + 1)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        read = index.read_index(str(tmp_path))
        assert read is None or not index.has_sound_header(str(tmp_path), read), bytes(flipped)


@pytest.mark.parametrize("damage", ["cut", "emptied", "other format", "no index", "not json", "wrong shape"])
def test_a_damaged_index_is_no_layer(tmp_path, damage):
    index.write_index(str(tmp_path), [Entry("a", FOLDER), Entry("b", FOLDER)])
    file = tmp_path / "index"
    lines = file.read_text().splitlines(keepends=True)
    match damage:
        case "cut":
            file.write_text("".join(lines[:-1]))
        case "emptied":
            file.write_text("")
        case "other format":
            file.write_text(file.read_text().replace('"format":1', '"format":2'))
        case "no index":
            file.unlink()
        case "not json":
            file.write_text("".join([*lines[:-1], "\0" * 20]))
        case "wrong shape":
            file.write_text("".join([*lines[:-1], "[1]\n"]))

    assert index.read_index(str(tmp_path)) is None


def test_digests_found_later_are_part_of_the_index(tmp_path):
    digest = "sha256:" + "0" * 64
    index.write_index(str(tmp_path), [Entry("a", FILE, size=1), Entry("b", FILE, size=1)])
    lines = index.digest_line("a", digest) + b'["b","sha256:nonsense"]\n' + b'["b",\n' + b"\0\0\n"
    (tmp_path / "digests").write_bytes(lines)

    rows = index.read_index(str(tmp_path))

    assert [row.digest for row in rows] == [digest, None]


def test_a_boot_mark_is_replaced_whole(tmp_path):
    assert index.read_boot(str(tmp_path)) is None

    index.mark_boot(str(tmp_path), "one")
    index.mark_boot(str(tmp_path), index.PROMOTED)

    assert index.read_boot(str(tmp_path)) == index.PROMOTED
    assert os.listdir(tmp_path) == ["boot"]


def test_a_boot_mark_that_cannot_be_replaced_stays_and_nothing_beside_it(tmp_path, monkeypatch):
    def refuse(_source, _target):
        raise OSError(errno.EROFS, "Read-only file system")

    index.mark_boot(str(tmp_path), "one")
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Read-only"):
        index.mark_boot(str(tmp_path), index.PROMOTED)

    assert index.read_boot(str(tmp_path)) == "one"
    assert os.listdir(tmp_path) == ["boot"]


def test_this_boot_has_one_name():
    assert index.boot_id() == index.boot_id() != ""


def test_a_flipped_bit_in_an_index_is_damage(tmp_path):
    rows = [Entry("a", FILE, 0o755, size=5000), Entry("b", FOLDER, 0o700), Entry("c", FILE, 0o644, size=1)]
    assert index.write_index(str(tmp_path), rows) == 8192 + 4096 + 4096
    file = tmp_path / "index"
    sound = file.read_bytes()
    for at in range(sound.index(b"\n") + 1, len(sound)):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        assert index.read_index(str(tmp_path)) is None, at

    file.write_bytes(sound)
    assert index.read_index(str(tmp_path)) == rows
    assert index.read_size(str(tmp_path)) == 16384


def test_a_digest_that_is_noted_under_another_name_is_not_believed(tmp_path):
    index.write_index(str(tmp_path), [Entry("a", FILE, size=1), Entry("b", FILE, size=1)])
    line = index.digest_line("a", "sha256:" + "0" * 64)
    (tmp_path / "digests").write_bytes(line.replace(b'"a"', b'"b"') + line.replace(b":00", b":01"))

    assert [row.digest for row in index.read_index(str(tmp_path))] == [None, None]


def test_digests_that_two_have_noted_are_no_damage_and_broken_lines_are_told(tmp_path):
    digest = "sha256:" + "0" * 64
    (tmp_path / "digests").write_bytes(index.digest_line("a", digest) * 2 + b"[1\n")

    assert index.read_noted(str(tmp_path)) == [("a", digest), ("a", digest), None]
    assert index.read_digests(str(tmp_path)) == {"a": digest}
