"""Where the store is, and the flags that every command takes. On the path of a fully cached build."""

from __future__ import annotations

import os

from builder.commands.flags import Flag, Parsed
from builder.errors import UsageError

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
    """The store's folder: --root, PYBUILD_ROOT, /var/lib/pybuild for root, else the XDG data folder."""
    chosen = parsed.text("root") or environ.get("PYBUILD_ROOT")
    if chosen:
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # basedir-spec: a relative path is to be ignored
        data = os.path.join(os.path.expanduser("~"), ".local/share")
    if not os.path.isabs(data):
        raise UsageError("there is no home folder for the store", hint="name a folder with --root")
    return os.path.join(data, "pybuild")
