"""Where the configuration file is. What is in it `settings` knows, and whether it is in order `slips`.

It is the file that PYBUILD_CONFIG names, else pybuild/config.toml in $XDG_CONFIG_HOME (~/.config), else
/etc/pybuild/config.toml; one file, never several. On the path of a fully cached build.
"""

from __future__ import annotations

import os

from builder.home import in_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "PYBUILD_CONFIG"
SYSTEM_FILE = "/etc/pybuild/config.toml"
MAX_FILE = 1 << 20


def find(environment: Mapping[str, str]) -> str:
    """The path of the configuration file, "" where there is none.

    One that PYBUILD_CONFIG names is taken to be there; an empty PYBUILD_CONFIG means none.
    """
    if VARIABLE in environment:
        return environment[VARIABLE]
    folder = environment.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):  # the specification says to ignore relative ones
        folder = in_home(environment, ".config")
    for path in (os.path.join(folder, "pybuild", "config.toml") if folder else "", SYSTEM_FILE):
        if os.path.exists(path):
            return path
    return ""
