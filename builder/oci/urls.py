"""URLs as httpx takes them, with all that it would stumble over later: hosts that no name can be, ports that
no server can have. Foreign ones (a Location, a Link) pass here, and those that people write.
"""

from __future__ import annotations

import httpx

HIGHEST_PORT = 65535


def read_url(text: str) -> httpx.URL:
    """The URL that a text is. Raises ValueError with a reason for people."""
    try:
        return _checked(httpx.URL(text))
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error


def join_url(here: httpx.URL, location: str) -> httpx.URL:
    """Where a text leads from a URL (RFC 3986, 5.2). Raises ValueError."""
    try:
        return _checked(here.join(location))
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error


def _checked(url: httpx.URL) -> httpx.URL:
    if not (url.port or 0) <= HIGHEST_PORT:
        raise ValueError(f"there is no port {url.port}")
    _ = url.host  # takes an internationalised name apart only now, and may find that it is none
    return url
