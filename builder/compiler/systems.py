"""Paths as an image's system writes them, and as layers have them: with slashes, without a drive. Pure.

Only Windows differs. Both of its separators are taken, its paths lose their drive, which can only be C:, and
a working folder is written with its own separator. For all others a path is what it is. As BuildKit has it.
"""

from __future__ import annotations

from builder.compiler import paths

WINDOWS = "windows"


def slashed(path: str, system: str) -> str:
    """The path with slashes and without its drive, not cleaned. Raises ValueError: it is on another drive."""
    if system != WINDOWS:
        return path
    path = path.replace("\\", "/")
    if path.startswith("//"):
        raise ValueError(f"{path} is on another machine: UNC paths are not supported")
    drive, colon, rest = path.partition(":")
    if not colon:
        return path
    if drive.lower() != "c":
        raise ValueError(f"{path} is not on the system drive (C:)")
    if not rest:
        raise ValueError(f"{path} names a drive, and no path on it")
    return rest


def working_folder(current: str, path: str, system: str) -> str:
    """Where WORKDIR `path` leads from the folder `current` ("" is the root), with slashes; an absolute path
    stays as it is written, but for Windows. Raises ValueError."""
    folder = slashed(current, system) or "/"
    if not folder.startswith("/"):
        folder = paths.clean(folder)
    wanted = slashed(path, system) or folder
    full = wanted if wanted.startswith("/") else paths.join(folder, wanted)
    return paths.clean(full) if system == WINDOWS else full


def native(path: str, system: str) -> str:
    """A path with slashes, as the system writes it."""
    return path.replace("/", "\\") if system == WINDOWS else path
