"""Tags under which a repository has what refers to an image of it, as the OCI distribution-spec and cosign
have them: `sha256-<hex>` for an index of referrers, `sha256-<hex>.sig` for signatures.

In the store they are names beside the image's, and are shown and removed with it. On the path of a fully
cached build.
"""

from __future__ import annotations

from builder.digest import HEX, from_hex, hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.digest import Digest

SIGNATURES = ".sig"
_PREFIX, _DIGITS = "sha256-", 64
_SUFFIXES = ("", SIGNATURES, ".att", ".sbom")


def tag_of(digest: Digest, suffix: str = "") -> str:
    """The tag of what refers to an image of that digest."""
    return f"{_PREFIX}{hex_of(digest)}{suffix}"


def subject_of(name: str) -> Digest | None:
    """The image that things under a name (or a tag alone) refer to; None for a name of another kind."""
    tag = name.rpartition(":")[2]
    digits = tag[len(_PREFIX) : len(_PREFIX) + _DIGITS]
    is_one = tag.startswith(_PREFIX) and len(digits) == _DIGITS and HEX.issuperset(digits)
    return from_hex(digits) if is_one and tag[len(_PREFIX) + _DIGITS :] in _SUFFIXES else None
