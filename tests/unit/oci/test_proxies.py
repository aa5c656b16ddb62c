"""Which proxy a server is reached by."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.oci.proxies import proxy_for

PROXY = "http://proxy.example:3128"
BOTH = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://plain.example:1"}


@pytest.mark.parametrize(
    ("scheme", "environ", "expected"),
    [
        ("https", BOTH, PROXY), ("http", BOTH, "http://plain.example:1"), ("https", {}, ""),
        ("https", {"https_proxy": PROXY}, PROXY), ("https", {"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY),
        ("https", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY), ("https", {"HTTP_PROXY": PROXY}, ""),
        ("http", {"ALL_PROXY": PROXY}, PROXY), ("http", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, ""),
    ],
)  # fmt: skip
def test_the_variable_of_the_scheme_counts(scheme: str, environ: dict[str, str], expected: str) -> None:
    assert proxy_for(scheme, "registry.example", None, environ) == expected


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_asked_directly(host: str) -> None:
    assert proxy_for("https", host, 5000, BOTH) == ""


@pytest.mark.parametrize(
    ("rules", "host", "port", "direct"),
    [
        ("*", "a.example", None, True), ("a.example", "a.example", None, True),
        ("example", "a.example", None, True), ("example", "aexample", None, False),
        (".example", "a.example", None, True), (".a.example", "a.example", None, False),
        ("*.example", "a.example", None, True), ("other, A.Example ,", "a.example", None, True),
        ("a.example:5000", "a.example", 5000, True), ("a.example:5000", "a.example", 443, False),
        ("a.example:443", "a.example", None, True), ("10.0.0.0/8", "10.1.2.3", None, True),
        ("10.0.0.0/8", "11.1.2.3", None, False), ("10.0.0.0/8", "10.example", None, False),
        ("10.1.2.3", "10.1.2.3", 5000, True), ("10.1.2.3:80", "10.1.2.3", 5000, False),
        ("2001:db8::/32", "2001:db8::5", None, True), ("[2001:db8::5]:5000", "2001:db8::5", 5000, True),
        ("2001:db8::5", "2001:db8::5", 1, True), ("0.1.2.3/x", "10.1.2.3", None, False),
        ("", "a", None, False),
    ],
)  # fmt: skip
def test_no_proxy_names_hosts_networks_and_ports(
    rules: str, host: str, port: int | None, direct: bool
) -> None:
    found = proxy_for("https", host, port, {**BOTH, "no_proxy": rules})

    assert found == ("" if direct else PROXY)


def test_a_proxy_of_an_unknown_kind_is_an_error_without_its_password() -> None:
    with pytest.raises(UsageError, match="ALL_PROXY") as caught:
        proxy_for("https", "a.example", None, {"ALL_PROXY": "socks5://me:canary@proxy:1"})

    assert "canary" not in str(caught.value)
