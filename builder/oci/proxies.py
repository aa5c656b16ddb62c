"""Which proxy a server is reached by: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY. Pure.

The rules are those of Go's programs (golang.org/x/net/http/httpproxy), as docker's users know them: names in
upper or lower case, NO_PROXY with domains, addresses, networks (10.0.0.0/8) and ports; this machine itself is
never asked by a proxy. ALL_PROXY is curl's, for what the other two do not name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from builder.errors import UsageError
from builder.oci.addresses import Address, as_address, is_loopback

_PORTS = {"http": 80, "https": 443}


def proxy_for(scheme: str, host: str, port: int | None, environ: Mapping[str, str]) -> str:
    """The URL of the proxy for a server, "" where it is asked directly. Raises UsageError for an odd one."""
    if is_loopback(host):
        return ""
    name, url = _named(scheme, environ)
    if not url or _is_excepted(host.lower(), port or _PORTS.get(scheme, 0), environ):
        return ""
    if "://" not in url:
        url = f"http://{url}"
    if url.partition("://")[0].lower() not in ("http", "https"):
        raise UsageError(
            f"the proxy that {name} names is of a kind that is not known",
            hint="proxies are http://HOST:PORT or https://HOST:PORT",
        )
    return url


def _named(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts, and its value."""
    names = [f"{scheme}_proxy", "all_proxy"]
    if scheme == "http" and "REQUEST_METHOD" in environ:  # a CGI's HTTP_PROXY is a header of its client
        names.remove("http_proxy")
    for name in names:
        for spelled in (name.upper(), name):
            if value := environ.get(spelled, "").strip():
                return spelled, value
    return "", ""


def _is_excepted(host: str, port: int, environ: Mapping[str, str]) -> bool:
    text = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    address = as_address(host)
    return any(
        _covers(rule, host, address, port) for word in text.split(",") if (rule := word.strip().lower())
    )


def _covers(rule: str, host: str, address: Address | None, port: int) -> bool:
    """Whether one word of NO_PROXY means the host."""
    if rule == "*":
        return True
    if address is not None and "/" in rule:
        try:
            return address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(rule)
    if wanted and wanted != str(port):
        return False
    meant = as_address(name)
    if meant is not None or address is not None:
        return meant == address
    if name.startswith("*."):
        name = name[1:]
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split_port(rule: str) -> tuple[str, str]:
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = rule.rpartition(":")
    return (name, port) if colon and ":" not in name else (rule, "")
