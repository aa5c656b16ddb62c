"""--offline: what is said where the builder itself would have to open a connection, and must not.

Each source asks before it connects, and then only for what the store lacks; so the error names that. What
steps may reach is no business of it: their network is --network's.
"""

from __future__ import annotations

from builder.errors import BuildError, ImageError


def missing(what: str) -> BuildError:
    """The error that a file or a commit is not in the store."""
    return BuildError(
        f"{what} is not in the store, and --offline fetches nothing",
        code="offline",
        hint="build once without --offline: what that fetches stays in the store",
    )


def missing_image(what: str, name: str) -> ImageError:
    """The error that something of the image `name` is not in the store."""
    return ImageError(
        f"{what} is not in the store, and --offline asks no registry",
        code="offline",
        hint=f"build once without --offline, or `pybuild pull {name}`",
    )
