"""URLs: what is none, or leads to nothing that can be asked, is refused when it is read."""

from __future__ import annotations

import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import ImageError
from builder.oci.transport import Transport
from builder.oci.urls import join_url, read_url

HERE = httpx.URL("https://host/v2/")
ODD = [
    "http://a:65536/", "http://a:99999/", "http://[::::]/", "http://[1]/", "http://256.1.1.1/", "http://xn--/",
    "http://xn--a/", "http://\udcff/", "http://a/\ud800", "http://a?\udcff", "http://u\udcff@a/", "http://\u200d/",
    "http://a/\t", "http://a/\x7f", "x" * 70_000,
]  # fmt: skip
PIECES = (
    "http://",
    "https://",
    "//",
    "xn--",
    "[",
    "]",
    "::",
    ":",
    "@",
    "/",
    "?",
    "#",
    "99999",
    "%",
    "..",
    "é",
)


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text)[:30])
def test_what_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of many reasons
        read_url(text)
    with pytest.raises(ValueError):  # noqa: PT011 - of many reasons
        join_url(HERE, text)


@given(st.lists(st.sampled_from(PIECES) | st.characters() | st.integers().map(str), max_size=8).map("".join))
def test_whatever_is_read_can_be_asked_for_its_parts(text: str) -> None:
    for read in (read_url, lambda text: join_url(HERE, text)):
        with contextlib.suppress(ValueError):
            url = read(text)
            assert 0 <= (url.port or 0) <= 65535
            assert isinstance(url.host, str)
            httpx.Request("GET", url)


@pytest.mark.parametrize(
    "registry", ["localhost:65536", "localhost:99999", "[::::]", "[1]", "xn--.example", "256.1.1.1:80"]
)
async def test_a_registry_of_a_name_that_leads_nowhere_is_told(registry: str) -> None:
    async with Transport() as transport:
        with pytest.raises(ImageError) as caught:
            async with transport.open(registry, "GET", "app/manifests/1", "repository:app:pull"):
                pass

    assert caught.value.message.startswith(f"registry {registry} cannot be asked: ")
    assert caught.value.code == "registry-unreachable"
