"""Where the store is, and the flags that every command takes. On the path of a fully cached build."""

from __future__ import annotations

import os

from builder.commands.flags import Flag, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = "General"
GLOBAL_FLAGS = (
    Flag(name="root", metavar="DIR", group=GROUP, help="folder of the store (also PYBUILD_ROOT)"),
    Flag(name="debug", short="D", kind="switch", group=GROUP, help="show tracebacks of what goes wrong"),
    Flag(name="help", short="h", kind="switch", group=GROUP, help="show this"),
    Flag(name="version", kind="switch"),
)


def root_of(parsed: Parsed, environ: Mapping[str, str]) -> str:
    """The store's folder: --root, else what the environment says."""
    chosen = parsed.text("root")
    if chosen:
        return os.path.abspath(chosen)
    from builder.store.root import default_root

    return default_root(environ)
