"""The parts of an op by their names: what its key is made of, for who explains why a key is another one.

Equal `plain()`, equal parts; and the other way round. Inputs are no part of an op. Pure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from builder.ops.exec import Exec
from builder.ops.files import Copy, InlineItem, MakeDir, Merge, PathItem
from builder.ops.source import Git, Http, Image, Local, Scratch

KINDS: dict[type, str] = {
    Exec: "RUN", Copy: "COPY", MakeDir: "WORKDIR", Merge: "LINK", Image: "FROM", Local: "context",
    Http: "fetch", Git: "fetch", Scratch: "scratch",
}  # fmt: skip


def kind_of(op: object) -> str:
    """What an op is called: by its instruction, or by what it brings."""
    return KINDS.get(type(op), type(op).__name__)


def parts_of(op: object) -> dict[str, Any]:
    """Name -> plain data of all that counts of an op.

    env: a dict, with its order in `env order`; mounts: each by its target; an op of a kind that nobody
    described has its plain data as one part.
    """
    match op:
        case Exec():
            return _exec_parts(op)
        case Copy():
            return _copy_parts(op)
        case MakeDir():
            return {"version": _version(op), "path": op.path, "user": op.user}
        case Image():
            return {"version": _version(op), "image": op.digest}
        case Http():
            return {"version": 1, "checksum": op.checksum, "file name": op.filename}
        case Git():
            return _git_parts(op)
    plain = op.plain() if hasattr(op, "plain") else None
    return {"version": plain[1], "op": plain} if plain and len(plain) > 1 else {}


def _version(op: Any) -> int:
    """The number that an op's plain data holds, for the meaning that it has."""
    plain = op.plain()
    return int(plain[1])


def _exec_parts(op: Exec) -> dict[str, Any]:
    env = dict(op.env)
    parts: dict[str, Any] = {
        "version": _version(op),
        "command": list(op.argv),
        "env": env,
        "env order": [name for name, _ in op.env],
        "working folder": op.cwd,
        "user": op.user,
        "network": op.network,
        "security": op.security,
        "hosts": [f"{name}={address}" for name, address in op.hosts],
        "ulimits": list(op.ulimits),
        "shm size": op.shm_size,
        "hostname": op.hostname,
        "platform": op.platform,
        "devices": [device.name + ("" if not device.required else ",required") for device in op.devices],
        "mounts": [msgspec.to_builtins(mount) for mount in op.mounts],
    }
    if len(env) != len(op.env):  # a name that is there twice: the first value counts as well
        parts["env pairs"] = [list(pair) for pair in op.env]
    return parts


def _copy_parts(op: Copy) -> dict[str, Any]:
    return {
        "version": _version(op),
        "takes": [item.plain() for item in op.items if isinstance(item, PathItem)],
        "heredocs": [[item.name, item.content] for item in op.items if isinstance(item, InlineItem)],
        "order": [item.name if isinstance(item, InlineItem) else "" for item in op.items],
        "destination": op.dest,
        "--chown": op.chown,
        "--chmod": op.chmod,
        "unpacking": op.unpack,
        "--parents": op.parents,
        "--link": op.link,
    }


def _git_parts(op: Git) -> dict[str, Any]:
    kept = op.keep_git_dir and not op.subdir
    return {
        "version": 1,
        "commit": op.commit or "",
        "folder": op.subdir,
        "--keep-git-dir": kept,
        "repository": op.remote if kept else "",
        "ref": (op.found_ref or op.ref) if kept else "",
        "submodules": op.submodules,
        "times of the commit": op.commit_times,
    }
