"""What a build gives. On the path of a fully cached build: nothing is imported."""

from __future__ import annotations

from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.digest import Digest


class BuildResult(Value):
    """What a build gave: the manifest's digest (None where no image was made), its names, its size.

    metadata is what --metadata-file holds, with buildx's names.
    """

    image: Digest | None
    names: tuple[str, ...]
    size: int
    seconds: float
    metadata: dict[str, object]
