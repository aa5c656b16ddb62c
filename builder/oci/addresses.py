"""Whose an address is: this machine's, one that only machines beside it have, or anybody's. Pure.

Only what is written down is judged, in all forms that resolvers read as numbers; what a name means is for who
connects.
"""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """Whether `host`, with or without a port, is this machine by docker's rule: localhost or 127.0.0.0/8."""
    name = without_port(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_inward(host: str) -> bool:
    """Whether `host` names this machine or its link, by any spelling: no place to be sent to by others."""
    name = without_port(host).lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = as_address(name)
    return address is not None and (address.is_loopback or address.is_link_local or address.is_unspecified)


def as_address(name: str) -> Address | None:
    """The address that a text is, in the old forms (`127.1`, `0x7f000001`) too; None for a name."""
    try:
        address: Address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError, UnicodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def without_port(host: str) -> str:
    """The name or address alone, without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host
