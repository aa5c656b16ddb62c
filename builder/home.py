"""The home folder of the user whose process this is. On the path of a fully cached build.

The one idea: a home is an absolute folder, or there is none. What "~" or a relative HOME leads to lies in
the working folder, which may be anybody's project: no place for a store, and nobody's configuration. A build
may become root of a user namespace, and root's entry in passwd(5) is not its user's: so that is asked for
once, at the start (`settle`).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping


def settle(environment: MutableMapping[str, str]) -> None:
    """Where nothing says where the user's home is, let HOME say what passwd(5) does, if anything."""
    if environment.get("HOME"):
        return
    from pwd import getpwuid

    try:
        environment["HOME"] = getpwuid(os.getuid()).pw_dir
    except KeyError:  # a number without a name, as in many containers
        return


def find_home(environment: Mapping[str, str]) -> str:
    """The absolute path of the home folder, "" where there is none."""
    home = environment.get("HOME", "")
    return home if home.startswith("/") else ""


def in_home(environment: Mapping[str, str], *names: str) -> str:
    """A path below the home folder, "" where there is none."""
    home = find_home(environment)
    return os.path.join(home, *names) if home else ""
