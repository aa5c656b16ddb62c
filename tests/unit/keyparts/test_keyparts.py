"""Sheets, listings and what is left out of them."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.digest import of_value
from builder.keyparts import rows, sheets
from builder.keyparts.rows import Told, listing_of, pack, unpack
from builder.keyparts.sheet import MOST_VARIABLES, Sheet, Step, Taken, decode, encode, rows_name
from builder.keyparts.sheets import Sheets, line_of, name_of
from builder.keyparts.veil import HIDDEN, is_hidden, shown_of, veiled, veiled_text, veiled_variable

NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=[]), min_size=1, max_size=8)


def row(name: str, kind: str = "f", content: str = "", mode: str = "644", carried: bool = False) -> str:
    content = content or ("sha256:" + "ab" * 32 if kind == "f" else "")
    return f"{name}\0{kind}\0{mode}\0000:0\0{content}\0\0\0" + ("carried\0" if carried else "")


def step(digest: str = "a", **fields: object) -> Step:
    given = {
        "label": f"[1/1] RUN {digest}",
        "stage": "",
        "line": 1,
        "internal": False,
        "kind": "RUN",
        "parts": {},
    }
    return Step(digest=digest, **{**given, **fields})  # type: ignore[arg-type]


def sheet(*steps: Step, begun: float = 1.0, target: str = "") -> Sheet:
    return Sheet("/ctx", "Dockerfile", target, "", steps or (step(key="k"),), begun=begun)


# ── listings ─────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_are_those_in_the_source() -> None:
    told: Told = [
        ("src", True, "contents\0" + row("a") + row("sub", "d") + row("sub/b")),
        (".", True, row(".", "d") + row("c")),
        ("lib/one", False, row("one")),
    ]

    assert list(listing_of(told).rows) == ["src/a", "src/sub", "src/sub/b", ".", "c", "lib/one"]


def test_content_is_kept_short_and_targets_of_links_whole() -> None:
    listing = listing_of([(".", True, row("f") + row("l", "l", "sha256:" + "x" * 64))])

    assert listing.rows["f"].content == "ab" * 8
    assert listing.rows["l"].content == "sha256:" + "x" * 64
    assert listing.files == 2


MARKS = ("contents", "carried", "f", "d", "644")


@given(
    st.lists(st.tuples(st.one_of(st.sampled_from(MARKS), NAME), st.sampled_from("fdl"), st.booleans())),
    st.booleans(),
)
def test_marks_between_rows_are_told_from_paths_that_are_called_like_them(
    given_rows: list[tuple[str, str, bool]], with_mark: bool
) -> None:
    unique = {name: (kind, carried) for name, kind, carried in given_rows}
    text = "".join(row(name, kind, carried=carried) for name, (kind, carried) in unique.items())

    listing = listing_of([(".", True, ("contents\0" if with_mark else "") + text)])

    assert {name: r.kind for name, r in listing.rows.items()} == {n: kind for n, (kind, _) in unique.items()}


def test_of_too_many_rows_the_number_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST", 2)

    listing = unpack(pack([(".", True, row("a") + row("b") + row("c"))]))

    assert (listing.rows, listing.total, listing.is_whole) == ({}, 3, False)


@given(st.binary(max_size=60))
def test_what_is_no_listing_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed listing"):
        unpack(data)


def test_a_listing_that_is_cut_is_refused() -> None:
    data = pack([(".", True, row("a") + row("b"))])

    for size in range(len(data)):
        with pytest.raises(ValueError, match="not a packed listing"):
            unpack(data[:size])


# ── what is left out ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["TOKEN", "NPM_TOKEN", "db_password", "API_KEY", "AWS_SECRET"])
def test_a_value_of_a_name_that_sounds_secret_is_hidden(name: str) -> None:
    kept = veiled_variable(name, "hunter2")

    assert is_hidden(kept)
    assert kept != veiled_variable(name, "hunter3")
    assert "hunter2" not in repr(kept)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("curl https://me:pw@host/x", "curl https://***@host/x"),
        ("TOKEN=abc make", "TOKEN=*** make"),
        ("export DB_PASSWORD='a b' && run", "export DB_PASSWORD=*** && run"),
        ("make TOKEN_FILE=/x", "make TOKEN_FILE=/x"),
        ("echo plain", "echo plain"),
    ],
)
def test_texts_are_kept_without_what_is_secret(text: str, shown: str) -> None:
    assert shown_of(veiled_text(text)) == shown


def test_a_long_text_is_cut_and_still_told_from_another() -> None:
    kept, other = veiled_text("x" * 5000), veiled_text("x" * 5001)

    assert kept != other
    assert len(shown_of(kept)) < 5000


def test_an_empty_secret_hides_nothing() -> None:
    assert veiled_variable("TOKEN", "") == ""


def test_the_order_of_variables_is_that_of_the_dict() -> None:
    kept = veiled({"env": {"B": "1", "A_TOKEN": "2"}, "env order": ["B", "A_TOKEN"], "user": ""})

    assert list(kept["env"]) == ["B", "A_TOKEN"]
    assert kept["env"]["A_TOKEN"]["shown"] == HIDDEN
    assert "env order" not in kept


# ── sheets ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sheet_survives_the_way_to_the_disk() -> None:
    env = {"A": "1", "TOKEN": {"shown": HIDDEN, "tag": "12"}}
    before = Sheet(
        "/ctx", "Dockerfile", "app", "linux/arm64",
        (step("a", key="k"), step("b", parts={"env": env, "user": "\udcff"}, seconds=1.5, forced="--no-cache",
                                  inputs=(Taken(0), Taken(0, [["/a"]], "sha256:1", "r")))),
        begun=2.0, ignores={"context": (".dockerignore", "*.log\n")},
    )  # fmt: skip

    assert decode(encode(before)) == before


def test_an_environment_is_kept_once() -> None:
    env = {f"NAME{number}": f"value {number * number}" for number in range(1000)}
    one = len(encode(sheet(step(parts={"env": env}))))
    many = len(encode(sheet(*(step(str(n), parts={"env": dict(env)}) for n in range(50)))))

    assert many < 2 * one


def test_environments_are_bounded() -> None:
    env = {f"N{number}": "" for number in range(MOST_VARIABLES)}
    steps = [step(str(n), parts={"env": {**env, "OWN": str(n)}}) for n in range(2)]

    first, second = decode(encode(sheet(*steps))).steps

    assert list(first.parts["env"]) == list(second.parts["env"]) == [""]
    assert first.parts["env"] != second.parts["env"]


@pytest.mark.parametrize("data", [b"", b"x", encode(sheet())[:-4], b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_is_no_sheet_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"sheet|Expecting|JSON"):
        decode(data)


def test_a_step_on_one_behind_it_makes_no_sheet() -> None:
    with pytest.raises(ValueError, match="behind"):
        decode(encode(sheet(step(inputs=(Taken(0),)))))


PLAIN = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3)
ODD = st.recursive(
    PLAIN, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below), max_leaves=5
)


@given(st.data())
def test_a_sheet_with_odd_values_is_a_sheet_or_a_value_error(data: st.DataObject) -> None:
    plain = json.loads(zlib.decompress(encode(sheet(step(parts={"env": {"A": "b"}}, inputs=())))))
    cells: list[Any] = [plain, plain["steps"][0]]
    for cell in data.draw(st.lists(st.sampled_from(cells), min_size=1, max_size=3)):
        cell[data.draw(st.sampled_from(list(cell) if isinstance(cell, dict) else range(len(cell))))] = (
            data.draw(ODD)
        )

    with contextlib.suppress(ValueError):
        assert isinstance(decode(zlib.compress(json.dumps(plain).encode())), Sheet)


@pytest.mark.parametrize("read", [decode, unpack])
def test_what_is_nested_without_end_is_refused(read: Callable[[bytes], object]) -> None:
    with pytest.raises(ValueError, match="recursion"):
        read(zlib.compress(b"[" * 100_000))


def test_equal_builds_have_one_name_and_other_keys_another() -> None:
    assert name_of(sheet(begun=1)) == name_of(sheet(begun=2))
    assert name_of(sheet()) != name_of(sheet(step(key="other")))
    assert name_of(sheet()) != name_of(sheet(step(key="k", forced="--no-cache")))
    assert name_of(sheet()) != name_of(sheet(target="x"))


# ── where they are kept ──────────────────────────────────────────────────────────────────────────────────

CONTENT = of_value("content")
SELECT = [["/src"], [], False, True, True, True]


def with_listing(number: int) -> tuple[Sheet, dict[str, Told]]:
    name = rows_name(CONTENT, [*SELECT, number])
    inputs = (Taken(0, SELECT, CONTENT, name),)
    return sheet(step("a"), step("b", key=str(number), inputs=inputs)), {
        name: [("src", True, row(str(number)))]
    }


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    kept, line = Sheets(str(tmp_path)), line_of("/ctx", "Dockerfile")
    given, told = with_listing(1)

    name = kept.keep(line, given, told)

    assert kept.has(line, name)
    assert kept.read(line, name) == given
    assert kept.of_line(line) == [given]
    listing = kept.rows(line, given.steps[1].inputs[0].rows)
    assert listing is not None
    assert list(listing.rows) == ["src/1"]


def test_the_last_one_comes_first(tmp_path: Path) -> None:
    kept = Sheets(str(tmp_path))
    for number in (1, 2, 3):
        kept.keep("a" * 16, *with_listing(number))
        for path in (tmp_path / "cache/parts").rglob("*.sheet"):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    kept.keep("a" * 16, *with_listing(1))

    assert [found.steps[1].key for found in kept.of_line("a" * 16)] == ["1", "3", "2"]


def test_a_line_keeps_its_last_sheets_and_their_listings(tmp_path: Path) -> None:
    kept = Sheets(str(tmp_path))
    for number in range(sheets.OVERFULL + 1):
        kept.keep("a" * 16, *with_listing(number))
        for path in (tmp_path / "cache/parts").rglob("*.*"):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))

    found = kept.of_line("a" * 16)
    assert len(found) == sheets.KEPT_SHEETS
    assert all(kept.rows("a" * 16, sheet.steps[1].inputs[0].rows) for sheet in found)
    listings = list((tmp_path / "cache/parts").rglob("*.rows"))
    assert len(listings) <= sheets.KEPT_SHEETS + 1


def test_a_store_keeps_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "KEPT_LINES", 3)
    kept = Sheets(str(tmp_path))
    for number in range(6):
        kept.keep(f"{number}" * 16, *with_listing(number))
        os.utime(tmp_path / "cache/parts" / (f"{number}" * 16), ns=(0, number * 10**9))

    assert len(os.listdir(tmp_path / "cache/parts")) <= 4
    assert [line[0] for line, _ in kept.of_others("5" * 16, 2)] == ["4", "3"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "x", "A" * 16])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    kept = Sheets(str(tmp_path))

    assert kept.read("a" * 16, name) is None
    assert kept.read(name, "a" * 16) is None
    assert kept.rows("a" * 16, name) is None
