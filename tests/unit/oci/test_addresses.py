"""Whose an address is."""

from __future__ import annotations

import pytest

from builder.oci.addresses import is_inward, without_port


@pytest.mark.hostile("dotnet #54225")
@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.1", "127.0.0.1:80",
        "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::1]:5000", "[::]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0xa9fea9fe",
    ],
)  # fmt: skip
def test_this_machine_and_its_link_are_known_by_any_spelling(host: str) -> None:
    assert is_inward(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "registry.example", "localhost.example", "1.1.1.1:443", "[2001:db8::1]"]
)
def test_other_places_are_others(host: str) -> None:
    assert not is_inward(host)


def test_ports_and_brackets_are_no_part_of_a_name() -> None:
    assert [without_port(host) for host in ("a:1", "a", "[::1]:5", "::1", "[::1]")] == [
        "a",
        "a",
        "::1",
        "::1",
        "::1",
    ]
