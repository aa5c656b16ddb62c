"""Where cgroups can be made here."""

from __future__ import annotations

import os


def find_writable() -> str | None:
    """ "v2", "v1", or None where no cgroup can be written to."""
    for name, path in (("v2", "/sys/fs/cgroup/cgroup.procs"), ("v1", "/sys/fs/cgroup/memory/cgroup.procs")):
        if os.access(path, os.W_OK):
            return name
    return None
