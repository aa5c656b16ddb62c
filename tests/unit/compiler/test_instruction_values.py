"""The small languages inside instructions: ports, durations, platforms, paths, names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.compiler.created_by import duration_text, quoted, quoted_list, run_text
from builder.compiler.nearest import distance, meant, nearest
from builder.compiler.paths import clean, destination, join
from builder.compiler.platforms import full_name, normalise, parse_platform
from builder.compiler.ports import read_port
from builder.dockerfile.healthchecks import parse_duration
from builder.oci.spec import Platform

MACHINE = Platform("amd64", "linux")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("7002-7004/udp", ["7002/udp", "7003/udp", "7004/udp"]),
        ("80-80", ["80/tcp"]),
        ("8080:80", ["80/tcp"]),
        ("127.0.0.1:8080:80/sctp", ["80/sctp"]),
        ("[::1]:8080:80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
    ],
)
def test_ports_are_spelled_out(text: str, ports: list[str]) -> None:
    assert read_port(text) == ports


@pytest.mark.parametrize(
    "text",
    ["", "/tcp", "65536", "90-80", "80/http", "a", "80-", "-80", "1.2.3:8:9", "1-2:3-5", "٣", "1" * 30],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        read_port(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("0", 0, "0s"),
        ("30s", 30 * 10**9, "30s"),
        ("1m30s", 90 * 10**9, "1m30s"),
        ("500ms", 5 * 10**8, "500ms"),
        ("1.5s", 15 * 10**8, "1.5s"),
        ("2h", 7200 * 10**9, "2h0m0s"),
        ("1h0.5s", 3600 * 10**9 + 5 * 10**8, "1h0m0.5s"),
        ("1us", 1000, "1µs"),
        (".5m", 30 * 10**9, "30s"),
        ("+1s", 10**9, "1s"),
    ],
)
def test_durations_are_read_and_written(text: str, nanoseconds: int, shown: str) -> None:
    assert parse_duration(text) == nanoseconds
    assert duration_text(nanoseconds) == shown


@pytest.mark.parametrize("text", ["", "30", "s", ".s", "1x", "1s2", "1 s", "999999999999h", "-"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(0, 2**62))
def test_a_written_duration_is_read_as_the_same(nanoseconds: int) -> None:
    assert parse_duration(duration_text(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("arm64", "linux/arm64"),
        ("LINUX", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
    ],
)
def test_platforms_are_normalised(text: str, name: str) -> None:
    platform = parse_platform(text, MACHINE)

    assert full_name(platform) == name
    assert normalise(platform) == platform


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "/amd64", "nonsense", "linux/am d", "linux/*"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="platform"):
        parse_platform(text, MACHINE)


@pytest.mark.parametrize(
    ("folder", "path", "result"),
    [
        ("/w", "a", "/w/a"),
        ("/w", "a/", "/w/a/"),
        ("/w", ".", "/w/"),
        ("/w", "", "/w/"),
        ("/w", "..", "/"),
        ("/w/v", "..", "/w"),
        ("/w", "../../../x/", "/x/"),
        ("/w", "/x/.", "/x/"),
        ("/w", "//x///y//./", "/x/y/"),
        ("/", "/", "/"),
    ],
)
def test_a_destination_keeps_its_slash(folder: str, path: str, result: str) -> None:
    assert destination(folder, path) == result


@given(st.text(alphabet="ab./", max_size=12), st.text(alphabet="ab./", max_size=12))
@pytest.mark.hostile("BuildKit 4ed7a2ff3")
def test_paths_never_leave_the_root(folder: str, path: str) -> None:
    joined = join(clean(folder), path)

    assert joined.startswith("/")
    assert ".." not in joined.split("/")
    assert clean(joined) == joined


def test_the_nearest_name_is_found_where_one_is_near() -> None:
    options = ["build", "final", "BASE"]

    assert nearest("biuld", options) == "build"
    assert nearest("base", options) == "BASE"
    assert meant("fnial", options) == "did you mean final?"
    assert meant("zzz", options) is None


@given(st.text(max_size=8), st.text(max_size=8))
def test_a_distance_is_the_same_both_ways(one: str, other: str) -> None:
    assert distance(one, other) == distance(other, one)
    assert (distance(one, other) == 0) == (one == other)


def test_history_texts_are_quoted() -> None:
    assert quoted('a "b"\n\x01ü\udcff\u200b') == '"a \\"b\\"\\n\\x01ü\\xff\\u200b"'
    assert quoted_list(["a", "b c"]) == '["a" "b c"]'
    assert run_text(["make"], ("A", "B", "A"), {"A": "1"}) == "RUN |2 A=1 B= make # buildkit"
