"""Which outputs can have the attestations that are asked for: told before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.exporters import Export
    from builder.request import BuildRequest

TREES = ("tar", "local")


def check(exports: Sequence[Export], request: BuildRequest) -> None:
    """Refuse early what could not be done at the end. Raises UsageError."""
    images = [export for export in exports if export.kind not in TREES]
    if request.sign and not images:
        raise UsageError("--sign needs an image, which a local or tar output does not make")
    for export in images:
        if export.kind == "docker" and (request.sign or request.attests.referrers):
            what = "--sign" if request.sign else "--attest-as=referrers"
            raise UsageError(
                f"{what}: a docker archive has no place for what refers to an image", hint="use type=oci"
            )
        if export.kind == "image" and not export.names and (request.sign or request.attests.referrers):
            what = "--sign" if request.sign else "--attest-as=referrers"
            raise UsageError(f"{what}: the image needs a name", hint="give it one with -t NAME")
        if export.docker_types and request.attests.is_any and not request.attests.referrers:
            raise UsageError(
                "attestations in an index and oci-mediatypes=false do not go together",
                hint="leave one of them out",
            )
