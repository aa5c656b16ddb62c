"""What an overlay of some folders shows, as a step would see it: every path, by lstat and bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from builder.fs import ownership
from tests.support.layers import OPTIONS

_LOOK = """
import hashlib, json, os, stat, sys
found = {}
for folder, names, files in os.walk("."):
    for name in (*names, *files):
        path = os.path.join(folder, name)
        s = os.lstat(path)
        is_folder = stat.S_ISDIR(s.st_mode)
        row = [s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_rdev]
        # An overlay gives merged folders a link count and a size of their own.
        row += [] if is_folder else [s.st_nlink, s.st_size]
        row += [{x: os.getxattr(path, x, follow_symlinks=False).hex()
                 for x in os.listxattr(path, follow_symlinks=False)}]
        if stat.S_ISLNK(s.st_mode):
            row.append(os.readlink(path))
        elif stat.S_ISREG(s.st_mode):
            row.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
        found[path] = row
print(json.dumps(found))
"""


def look_at(folders: Sequence[str]) -> dict[str, Any]:
    """Path -> what a step sees there, of an overlay of these lower folders, bottom first (at least two)."""
    options = f"lowerdir={':'.join(reversed(folders))},{OPTIONS}"
    if ownership.of_process() != ownership.REAL:
        options += ",userxattr"
    mount = 'mount -t overlay overlay -o "$1" /mnt && cd /mnt && exec "$2" -I -S -c "$3"'
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            mount,
            "sh",
            options,
            sys.executable,
            _LOOK,
        ],
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
