"""What package managers left may be made to do harm: it is read within limits, and what is wrong is said."""

from __future__ import annotations

import json
import sqlite3
import struct
from contextlib import closing

import pytest

from builder.attest.packages import find, npm, rpm, rpmstores
from builder.attest.spdx import Image, document
from tests.support.packages import found_in, go_program, rpm_bdb, rpm_ndb, rpm_package, rpm_sqlite

HEADER = rpm_package("bash", "5")


def endless() -> bytes:
    """A database whose table of packages is a view that never ends."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIEW Packages AS WITH RECURSIVE c(hnum, blob) AS (SELECT 1, x'00' UNION ALL "
            "SELECT hnum + 1, blob FROM c) SELECT * FROM c"
        )
        return bytes(connection.serialize())


def turning() -> bytes:
    """A hash whose overflow page names itself as the next."""
    data = bytearray(rpm_bdb([HEADER]))
    struct.pack_into("<I", data, 2 * 512 + 16, 2)
    struct.pack_into("<I", data, 512 + struct.unpack_from("<H", data, 512 + 28)[0] + 8, 50 << 20)
    return bytes(data)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0" + bytes(4000)),
        ("var/lib/rpm/rpmdb.sqlite", b""),
        ("var/lib/rpm/rpmdb.sqlite", rpm_sqlite([HEADER])[:5000]),
        ("var/lib/rpm/rpmdb.sqlite", endless()),
        ("var/lib/rpm/rpmdb.sqlite", rpm_sqlite([b"\xff" * 16])),
        ("var/lib/rpm/rpmdb.sqlite", rpm_sqlite([struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF)])),
        ("var/lib/rpm/rpmdb.sqlite", rpm_sqlite([struct.pack(">II", 10, 0)])),
        ("var/lib/rpm/Packages.db", rpm_ndb([HEADER])[:5000].replace(b"BlbS", b"xxxx")),
        ("var/lib/rpm/Packages.db", b"RpmP" + struct.pack("<III", 0, 0, 0xFFFFFFFF) + bytes(16)),
        ("var/lib/rpm/Packages.db", rpm_ndb([HEADER]).replace(struct.pack("<I", len(HEADER)), b"\xff" * 4)),
        ("var/lib/rpm/Packages", rpm_bdb([HEADER])[:1100]),
        ("var/lib/rpm/Packages", turning()),
        ("var/lib/rpm/Packages", b"no database"),
        ("app/package-lock.json", "[" * 200_000),
        ("app/package-lock.json", b"\xff\xfe{}"),
        ("bin/tool", go_program("go1.22", "")[:60] + b"\xff" * 60),
    ],
)
def test_what_cannot_be_read_is_noted_and_the_rest_is_told(path: str, data: bytes | str) -> None:
    apk = "P:musl\nV:1\n"
    found = found_in({path: data, "lib/apk/db/installed": apk})

    assert [package.name for package in found.packages] == ["musl"]
    assert len(found.notes) == 1
    assert "could not be read" in found.notes[0]


def test_what_is_no_table_of_packages_is_not_asked() -> None:
    found = found_in({"var/lib/rpm/rpmdb.sqlite": endless()})

    assert found.notes == ("the packages of rpm could not be read: it has no table of packages",)


def test_the_notes_are_in_the_document() -> None:
    found = found_in({"var/lib/rpm/Packages": b"no database"})

    told = document(Image("app:1", "sha256:" + "0" * 64, "", ""), found, {})

    assert (
        told["comment"] == "what is missing here: the packages of rpm could not be read: it is no Berkeley DB"
    )


def test_a_file_of_any_size_is_read_no_further_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "MAX_LOCK", 1 << 10)
    monkeypatch.setattr(rpmstores, "MAX_SQLITE", 1 << 10)

    found = found_in({"a/package-lock.json": " " * 2000, "var/lib/rpm/rpmdb.sqlite": bytes(2000)})

    assert found.notes == (
        "the packages of rpm could not be read: it has more than 0 MiB",
        "a/package-lock.json could not be read: it has more than 1 KiB",
    )


def test_there_are_no_more_packages_than_are_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_PACKAGES", 5)

    found = found_in({"lib/apk/db/installed": "".join(f"P:p{n}\nV:1\n\n" for n in range(50))})

    assert len(found.packages) == 5
    assert found.notes == ("only 5 packages are told of",)


def test_entries_that_lead_to_the_same_bytes_again_and_again_are_not_all_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpm, "MAX_HEADERS", 10 * len(HEADER))

    found = found_in({"var/lib/rpm/rpmdb.sqlite": rpm_sqlite([HEADER] * 50)})

    assert found.notes == ("the packages of rpm could not be read: it has more packages than are read",)


def test_a_database_is_left_after_so_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpmstores, "WORK", 5_000)

    found = found_in({"var/lib/rpm/rpmdb.sqlite": rpm_sqlite([rpm_package(f"p{n}") for n in range(9000)])})

    assert found.notes == ("the packages of rpm could not be read: it is damaged: interrupted",)


def test_all_that_packages_say_of_themselves_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_TEXT", 1000)

    found = found_in({"lib/apk/db/installed": "".join(f"P:p{n}\nV:1\nT:{'x' * 90}\n\n" for n in range(50))})

    assert 0 < len(found.packages) < 10
    assert found.notes == ("packages say more of themselves than is told",)


def test_what_packages_say_of_themselves_is_bounded_and_printable() -> None:
    lock = {"packages": {"node_modules/a": {"version": "1\x1b[31m" + "9" * 10_000, "license": "x\ny" * 9000}}}
    found = found_in({"package-lock.json": json.dumps(lock), "lib/apk/db/installed": b"P:\xff\xfe\nV:1\n"})

    (apk, package) = found.packages
    assert len(package.version) <= 512
    assert package.version.isprintable()
    assert package.license == "x"
    assert apk.name == "\ufffd\ufffd"
    assert json.dumps(document(Image("", "sha256:0", "", ""), found, {}))


def test_a_text_of_go_that_says_it_is_endless_is_none() -> None:
    program = bytearray(go_program("go1.22", "mod\ta\tv1\n"))
    place = program.index(b"go1.22") - 1
    program[place : place + 9] = b"\xff" * 9

    assert found_in({"bin/tool": bytes(program)}).packages == ()


def test_names_that_are_no_utf8_are_told_as_far_as_they_are() -> None:
    path = "usr/\udcff.dist-info/METADATA"
    found = found_in({path: "Name: a\nVersion: 1\n"})

    assert json.dumps(document(Image("", "sha256:0", "", ""), found, {}), ensure_ascii=False).encode()
