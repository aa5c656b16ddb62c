"""The tags of a repository, page by page (distribution-spec, "Content Discovery").

What comes is bounded, and each tag is one: it may become part of a name. Knows nothing of what tags mean.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import httpx
import msgspec

from builder.errors import ImageError
from builder.oci.answers import SMALL_SECONDS, denied, read_small, said, unreachable
from builder.oci.documents import MAX_MANIFEST
from builder.oci.reference import is_tag

if TYPE_CHECKING:
    from builder.oci.reference import Reference
    from builder.oci.transport import Transport

MAX_PAGES = 100
MAX_TAGS = 20_000
PAGE = 1000
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class _Page(msgspec.Struct):
    tags: list[str] | None = None


async def list_tags(transport: Transport, name: Reference) -> list[str]:
    """All tags, in the order in which the registry tells them. Raises ImageError."""
    found: dict[str, None] = {}
    path: str | None = f"{name.repository}/tags/list?n={PAGE}"
    for _ in range(MAX_PAGES):
        if path is None:
            return list(found)
        tags, path = await _page(transport, name, path)
        found.update(dict.fromkeys(tag for tag in tags if tag and is_tag(tag)))
        if len(found) > MAX_TAGS:
            break
    raise ImageError(f"{name.familiar_name()} has too many tags", code="registry")


async def _page(transport: Transport, name: Reference, path: str) -> tuple[list[str], str | None]:
    """The tags of a page, and the path of the next one."""
    scope = f"repository:{name.repository}:pull"
    what = f"the list of tags of {name.familiar_name()}"
    try:
        async with (
            asyncio.timeout(SMALL_SECONDS),
            transport.open(name.registry, "GET", path, scope) as response,
        ):
            if response.status_code in (401, 403):
                raise denied(name.registry, await said(response) or "it wants a login", what)
            if response.status_code == 404:
                raise ImageError(
                    f"there is no repository {name.repository} in registry {name.registry}",
                    code="image-not-found",
                )
            if response.status_code != 200:
                raise ImageError(
                    f"registry {name.registry} answers {response.status_code} for {what}", code="registry"
                )
            data = await read_small(response, MAX_MANIFEST, what)
            link = _NEXT.search(response.headers.get("link", "")[:4096])
        tags = msgspec.json.decode(data, type=_Page).tags or []
    except httpx.HTTPError as error:
        raise unreachable(name.registry, error) from error
    except TimeoutError as error:
        raise ImageError(f"registry {name.registry} is too slow", code="registry-unreachable") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{what} from registry {name.registry} is not valid", code="registry") from error
    return tags, _next_path(link[1], name) if link else None


def _next_path(link: str, name: Reference) -> str:
    """Where the next page is; only the same list of the same registry is asked for it."""
    _, found, query = link.partition(f"/v2/{name.repository}/tags/list?")
    if not found:
        raise ImageError(
            f"registry {name.registry} leads from its list of tags to {link[:200]!r}", code="registry"
        )
    return f"{name.repository}/tags/list?{query}"
