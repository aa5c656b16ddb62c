"""The overlay by mount(2), as kernels before `lowerdir+` need it, in a mount namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SCRIPT = """
import errno, json, os, sys
from builder import libc
from builder.runtime import mounts

libc.unshare(libc.CLONE_NEWNS)
libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
lower, upper, work, place = json.loads(sys.argv[1])
asked = libc.fsconfig_string

def of_an_older_kernel(configuration, key, value):
    if key == "lowerdir+":
        raise OSError(errno.EINVAL, "fsconfig lowerdir+: Invalid argument")
    asked(configuration, key, value)

libc.fsconfig_string = of_an_older_kernel
tree = mounts.overlay_tree(lower, upper, work, libc.MOUNT_ATTR_NODEV, place)
mounts.attach(tree, libc.openat2(-100, place, os.O_PATH))
os.mkdir(place + "/made")
said = [line for line in open("/proc/self/mounts") if line.startswith("overlay " + place + " ")][-1]
print(json.dumps([sorted(os.listdir(place)), "nodev" in said, "volatile" in said, os.getcwd()]))
"""


def test_150_layers_with_odd_names_are_mounted(tmp_path: Path) -> None:
    lower = []
    for number in range(150):
        layer = tmp_path / f"la:yer,{number}\\"
        layer.mkdir()
        (layer / f"f{number}").touch()
        lower.append(str(layer))
    folders = [tmp_path / name for name in ("up,per", "work:", "place")]
    for folder in folders:
        folder.mkdir()
    given = json.dumps([lower, *map(str, folders)])
    done = subprocess.run([sys.executable, "-c", SCRIPT, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, nodev, volatile, cwd = json.loads(done.stdout)
    assert len(names) == 151
    assert (nodev, volatile, cwd) == (True, True, "/")
    assert (tmp_path / "up,per/made").is_dir()
