"""What an image or an export holds, as plain data that two of them can be compared by.

Read by the standard library (`tests.support.images`, which checks every digest, size and diff id on the way).
Times are left out where steps ran: those are the only thing in which two right results may differ.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

from tests.support.images import ReadImage, read_archive, read_image

Picture = dict[str, Any]


def of_store(root: Path, names: tuple[str, ...], *, times: bool) -> Picture:
    """The images of these names. Raises AssertionError (or what reading raises) for one that is not whole."""
    return {name: _of_image(read_image(root, name), times=times) for name in names}


def of_export(path: Path, scratch: Path, *, times: bool) -> Picture:
    """What was exported to `path`: a folder, or a tar of an image layout or of a tree."""
    if path.is_dir():
        return _of_folder(path)
    with tarfile.open(path) as archive:
        names = archive.getnames()
        if "oci-layout" not in names:
            return {info.name: _of_member(archive, info) for info in archive}
    return _of_image(read_archive(path, scratch), times=times)


def _of_image(image: ReadImage, *, times: bool) -> Picture:
    config = {key: value for key, value in image.config.items() if key not in ("rootfs", "history")}
    history = [entry.get("created_by") for entry in image.config.get("history", ())]
    tree = {
        path: [m.kind, m.mode, m.uid, m.gid, _digest(m.data), m.link, list(m.device), m.layer]
        for path, m in sorted(image.tree().items())
    }
    return {"digest": image.digest if times else "", "config": config, "history": history, "tree": tree}


def _of_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> list[object]:
    file = archive.extractfile(info) if info.isreg() else None
    data = file.read() if file else b""
    return [info.type.decode(), info.mode, info.uid, info.gid, _digest(data), info.linkname]


def _of_folder(top: Path) -> Picture:
    found: Picture = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            said = os.readlink(path) if path.is_symlink() else ""
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            told = [status.st_mode, status.st_uid, status.st_gid, said, _digest(data)]
            found[os.fspath(path.relative_to(top))] = told
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def differences(expected: Picture, found: Picture, where: str = "") -> list[str]:
    """Where they differ, the first few places."""
    rows: list[str] = []
    for key in sorted(expected.keys() | found.keys()):
        here, there = expected.get(key), found.get(key)
        if here == there:
            continue
        if isinstance(here, dict) and isinstance(there, dict):
            rows += differences(here, there, f"{where}/{key}")
        else:
            rows.append(f"{where}/{key} is {str(there)[:120]}, not {str(here)[:120]}")
    return rows[:5]
