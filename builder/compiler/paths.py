"""Absolute paths inside an image, as text: joined, folded, with `..` stopping at the root. Pure.

Nothing is looked up: symlinks are for those who have the tree.
"""

from __future__ import annotations


def clean(path: str) -> str:
    """The path made absolute, without `.`, `..`, doubled and trailing slashes."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def join(folder: str, path: str) -> str:
    """`path` as seen from `folder`, clean."""
    return clean(path if path.startswith("/") else f"{folder}/{path}")


def destination(folder: str, path: str) -> str:
    """As `join`, with a slash behind it where the text means a folder (`x/`, `x/.`, `.`, nothing)."""
    full = join(folder, path)
    is_folder = path in ("", ".") or path.endswith(("/", "/."))
    return full + "/" if is_folder and full != "/" else full


def base_name(path: str) -> str:
    """The last part of a path, "/" for the root, "." for nothing."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"
