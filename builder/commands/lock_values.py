"""--locked and --offline: what they cannot stand beside. Light: on the path of a fully cached build."""

from __future__ import annotations

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.request import BuildRequest

SWITCHES = ("locked", "offline")
FALSE = ("false", "0", "f")


def check(request: BuildRequest) -> None:
    """Raise UsageError for what contradicts --locked or --offline."""
    for name in SWITCHES:
        if request.pull and getattr(request, name):
            raise UsageError(
                f"--pull and --{name} cannot be used together",
                hint="--pull asks the registries what the names mean now",
            )
    if not request.offline:
        return
    if request.push or any(
        spec.type == "registry" or spec.attrs.get("push", "false").lower() not in FALSE
        for spec in request.outputs
    ):
        raise UsageError("--offline opens no connection, and an output goes to a registry")
    if any(cache.type == "registry" and not cache.ignore_error for cache in request.cache_to):
        raise UsageError(
            "--offline opens no connection, and --cache-to names a registry",
            hint="type=local,dest=DIR is a cache in a folder",
        )
