"""Roots for steps with recorded owners: the base of busybox, or a root with this machine's programs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.fs.ownership import STAT_XATTR, Record, decode
from tests.support.singleid import SingleId

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
mail:x:8:8::/tmp:/bin/sh
app:x:1000:1000:App:/home/app:/bin/sh
other:x:2000:2000::/tmp:/bin/sh
"""
GROUP = "root:x:0:\nmail:x:8:app\nstaff:x:50:\napp:x:1000:\nother:x:2000:\n"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Steps:
    """Runs commands, each over the base with a new upper folder (`upper`) unless that is `kept`."""

    single: SingleId
    base: tuple[Path, ...]
    folder: Path
    binds: tuple[Mapping[str, Any], ...] = ()
    upper: Path = field(default_factory=Path)
    last: dict[str, Any] = field(default_factory=dict)
    made: int = 0

    def spec(self, command: str | list[str], *, kept: bool = False, **changes: Any) -> dict[str, Any]:
        """Arguments of `sandbox_spec`."""
        lower = [str(folder) for folder in self.base]
        if kept:
            lower.append(str(self.upper))
        self.made += 1
        self.upper, work = (self.folder / f"{name}{self.made}" for name in ("upper", "work"))
        self.upper.mkdir()
        work.mkdir()
        return {
            "lower": lower,
            "upper": str(self.upper),
            "work": str(work),
            "argv": ["/bin/sh", "-c", command] if isinstance(command, str) else command,
            "env": [("PATH", PATH), ("HOME", "/root")],
            "cwd": "/",
            "binds": self.binds,
            **changes,
        }

    def run(
        self,
        command: str | list[str],
        *,
        table: Mapping[str, tuple[int, int]] | None = None,
        kept: bool = False,
        **changes: Any,
    ) -> dict[str, Any]:
        """Run it, however it ends."""
        self.last = self.single.run(spec=self.spec(command, kept=kept, **changes), table=table or {})
        return self.last

    def says(self, command: str | list[str], **changes: Any) -> list[str]:
        """The lines of standard output of a command that must end well, and say nothing else."""
        told = self.run(command, **changes)
        assert told.get("code") == 0, told
        assert not told["err"], told
        lines: list[str] = told["out"]
        return lines

    @property
    def owners(self) -> dict[str, tuple[int, int]]:
        """What the last step's supervisor remembered."""
        return {path: (uid, gid) for path, (uid, gid) in self.last["owners"].items()}

    def record(self, path: str) -> Record | None:
        """The record of a file that the last step wrote."""
        return read_record(self.upper / path)


def read_record(path: Path) -> Record | None:
    """A file's record on disk."""
    try:
        return decode(os.getxattr(path, STAT_XATTR))
    except OSError:
        return None


def write_accounts(root: Path) -> None:
    """/etc/passwd and /etc/group, and homes."""
    for name in ("etc", "home/app", "tmp", "root", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    os.setxattr(root / "home/app", STAT_XATTR, b"1000:1000")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)


def write_host_root(root: Path) -> tuple[Mapping[str, Any], ...]:
    """A root whose programs are this machine's; the mounts that it needs."""
    write_accounts(root)
    for name in ("usr", "var/lib", "var/tmp", "etc/pam.d", "etc/security"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        os.symlink(f"usr/{name}", root / name)
    (root / "etc/shadow").write_text("".join(f"{line.split(':')[0]}:*:1::::::\n" for line in PASSWD.split()))
    for service in ("su", "other"):
        rules = "".join(f"{kind} sufficient pam_permit.so\n" for kind in ("auth", "account", "session"))
        (root / "etc/pam.d" / service).write_text(rules)
    (root / "etc/login.defs").write_text("UID_MIN 1000\nGID_MIN 1000\nUSERGROUPS_ENAB yes\n")
    return ({"target": "/usr", "source": "/usr"},)
