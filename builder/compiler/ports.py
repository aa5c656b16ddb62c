"""EXPOSE's ports: `80`, `80/udp`, `7000-7003/tcp`, and the `host:` parts that docker lets pass. Pure."""

from __future__ import annotations

import re

PROTOCOLS = ("tcp", "udp", "sctp")
PORT = re.compile(r"[+-]?[0-9]{1,18}")
IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
HIGHEST = 65535


def read_port(text: str) -> list[str]:
    """`port/protocol` for every port that `text` names. Raises ValueError with a message for people."""
    address, host, number, protocol = split_port(text)
    if not number:
        raise ValueError(f"port {text!r} has no number")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise ValueError(f"port {text!r}: protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    if address and not _is_address(address):
        raise ValueError(f"port {text!r}: {address!r} is no IP address")
    first, last = _range(number, text)
    if host:
        first_host, last_host = _range(host, text)
        if last != first and last - first != last_host - first_host:
            raise ValueError(f"port {text!r}: {host} and {number} are ranges of different length")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def split_port(text: str) -> tuple[str, str, str, str]:
    """The parts of `address:host:container/protocol`, unchecked; the address may hold colons itself."""
    rest, _, container = text.rpartition(":")
    address, _, host = rest.rpartition(":")
    number, _, protocol = container.partition("/")
    return address, host, number, protocol


def _is_address(text: str) -> bool:
    if text.startswith("["):
        text = text[1:-1] if text.endswith("]") else ""
    return bool(IPV4.fullmatch(text)) or (":" in text and _is_ipv6(text))


def _is_ipv6(text: str) -> bool:
    import ipaddress  # few files have one

    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _range(ports: str, text: str) -> tuple[int, int]:
    start, separator, end = ports.partition("-")
    first = _port(start, text)
    last = _port(end, text) if separator and end != start else first
    if last < first:
        raise ValueError(f"port {text!r}: the range {ports} goes backward")
    return first, last


def _port(number: str, text: str) -> int:
    if not PORT.fullmatch(number):
        raise ValueError(f"port {text!r}: {number!r} is not a number")
    port = int(number)
    if not 0 <= port <= HIGHEST:
        raise ValueError(f"port {text!r}: {number} is not between 0 and {HIGHEST}")
    return port
