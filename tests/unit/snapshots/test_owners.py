"""Users and groups by name and number."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.snapshots import owners
from tests.support.trees import device, file, folder, link, tree

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\njoe:x:10:20\n\nodd:x:abc:def\n"
GROUP = b"root:x:0:\nbin:x:2:app\nstaff:x:50:joe,app\napp:x:1001:\n"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("55:66", (55, 66)),
        ("55", (55, 55)),
        ("root", (0, 0)),
        ("app", (1000, 1001)),
        ("app:bin", (1000, 2)),
        ("app:9", (1000, 9)),
        ("7:bin", (7, 2)),
        ("nobody", (0, 0)),
        ("app:nogroup", (1000, 1001)),
        ("7:nogroup", (7, 7)),
        (":5", (0, 5)),
        ("5:", (5, 0)),
        ("2147483647:1", (2147483647, 1)),
        ("2147483648", (0, 0)),
        ("odd", (0, 0)),
        ("\u0661", (0, 0)),
    ],
)
def test_chown_is_lenient(text: str, ids: tuple[int, int]) -> None:
    assert owners.resolve_chown(text, PASSWD, GROUP) == ids


def test_a_name_needs_files_to_be_looked_up_in() -> None:
    with pytest.raises(BuildError, match="app"):
        owners.resolve_chown("app", None, None, nowhere=True)
    with pytest.raises(BuildError, match="bin"):
        owners.resolve_chown("1:bin", None, None, nowhere=True)
    assert owners.resolve_chown("1:2", None, None, nowhere=True) == (1, 2)
    assert owners.resolve_chown("app", None, None) == (0, 0)
    assert owners.needs_files("app")
    assert not owners.needs_files("root:0")


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", owners.User(0, 0, (0,), "/root")),
        ("root", owners.User(0, 0, (0,), "/root")),
        ("app", owners.User(1000, 1001, (1001, 2, 50), "/home/app")),
        ("1000", owners.User(1000, 1001, (1001, 2, 50), "/home/app")),
        ("app:bin", owners.User(1000, 2, (2,), "/home/app")),
        ("app:77", owners.User(1000, 77, (77,), "/home/app")),
        ("1000:1001", owners.User(1000, 1001, (1001,), "/home/app")),
        ("4242", owners.User(4242, 0, (0,), "/")),
        ("joe", owners.User(10, 20, (20, 50), "")),
        ("2147483647:1", owners.User(2147483647, 1, (1,), "/")),
        ("app:bin:x", owners.User(1000, 2, (2,), "/home/app")),
        ("app::x", owners.User(1000, 1001, (1001, 2, 50), "/home/app")),
    ],
)
def test_run_looks_users_up_with_their_groups(text: str, user: owners.User) -> None:
    assert owners.resolve_user(text, PASSWD, GROUP) == user


@pytest.mark.parametrize(
    "text", ["nobody", "app:nogroup", "2147483648", "-1", "4294967296:0", "4294967295:1", "1:2147483648"]
)
@pytest.mark.hostile("CVE-2024-40635", "CVE-2026-46680")
def test_run_refuses_who_is_not_known(text: str) -> None:
    with pytest.raises(BuildError):
        owners.resolve_user(text, PASSWD, GROUP)


def test_root_needs_no_files() -> None:
    assert owners.resolve_user("", None, None) == owners.User(0, 0, (0,), "/")


def test_hostile_files_are_read_as_far_as_they_make_sense() -> None:
    passwd = b"\0\xff:x\n:::::\napp\nfoo:x:99999999999999999999999:1\n" + b"a" * 100_000

    assert owners.resolve_chown("app", passwd, None) == (0, 0)
    assert owners.resolve_user("app", passwd, None).uid == 0


def test_the_files_are_found_through_links_inside_the_tree() -> None:
    with_link = tree(link("etc", "/usr/etc"), "usr/etc/passwd")

    node = owners.find(with_link, owners.PASSWD)

    assert node is not None
    assert node.entry.path == "usr/etc/passwd"
    assert owners.find(tree(), owners.PASSWD) is None


@pytest.mark.hostile("CVE-2026-47262", "GHSA-mjcv-p78q-w5fw", "BuildKit 408266e4b", "CVE-2024-9676")
def test_what_is_no_file_of_users_is_refused() -> None:
    with pytest.raises(BuildError, match="regular"):
        owners.find(tree(device("etc/passwd")), owners.PASSWD)
    with pytest.raises(BuildError, match="regular"):
        owners.find(tree(folder("etc/passwd")), owners.PASSWD)
    with pytest.raises(BuildError, match="links"):
        owners.find(tree(link("etc/passwd", "passwd")), owners.PASSWD)
    huge = file("etc/passwd").replace(size=11 << 20)
    with pytest.raises(BuildError, match="larger"):
        owners.find(tree(huge), owners.PASSWD)
    for host in ("/dev/zero", "../../../../../dev/zero", "/proc/self/root/etc/passwd", __file__):
        assert owners.find(tree(link("etc/passwd", host)), owners.PASSWD) is None


@pytest.mark.parametrize(
    ("text", "expected"), [("-1", (0, 0)), ("5:-1", (5, 0)), ("-2", (4294967294, 4294967294))]
)
def test_minus_one_leaves_what_was_made_to_root(text: str, expected: tuple[int, int]) -> None:
    assert owners.resolve_chown(text, None, None, nowhere=True) == expected


@pytest.mark.hostile("CVE-2024-40635")
@pytest.mark.parametrize("number", ["4294967296", "9" * 20, "9" * 21, "9" * 1000, "-1", "-5"])
def test_an_id_of_a_file_that_none_can_be_is_refused(number: str) -> None:
    """It neither passes for root's nor for any that chown(2) or setuid(2) would take."""
    passwd = f"a:x:{number}:1:\nb:x:1:{number}:\nc:x:2:2:\n".encode()
    group = f"g:x:{number}:c\n".encode()

    for text in ("a", "b", "c:g"):
        with pytest.raises(BuildError, match="out of range"):
            owners.resolve_chown(text, passwd, group)
        with pytest.raises(BuildError, match="out of range"):
            owners.resolve_user(text, passwd, group)
    with pytest.raises(BuildError, match="out of range"):
        owners.resolve_user("c", passwd, group)  # by the groups that have its name
    assert owners.resolve_chown("c", passwd, group) == (2, 2)
    assert owners.resolve_user("7", passwd, group).uid == 7


@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=20))
def test_whatever_the_files_say_ids_are_ids(passwd: bytes, group: bytes, text: str) -> None:
    files = b"a:x:" + passwd, b"g:x:" + group
    for wanted in ("a", "a:g", ":g", text):
        with contextlib.suppress(BuildError):
            assert all(0 <= number < 1 << 32 for number in owners.resolve_chown(wanted, *files))
        with contextlib.suppress(BuildError):
            user = owners.resolve_user(wanted, *files)
            assert all(0 <= number < 1 << 32 for number in (user.uid, user.gid, *user.groups))
