"""`pybuild diff`: what differs between two images, for people and as JSON."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from builder.commands.arguments import PLATFORM, Environ, expect, open_store_of, platform_of
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.formats import (
    TEXT_OR_JSON,
    WIDEST_NAME,
    WIDEST_STEP,
    cut,
    print_document,
    print_lines,
    short_id,
    size,
    wants_document,
)
from builder.commands.store import GLOBAL_FLAGS
from builder.ui.words import one_line

if TYPE_CHECKING:
    from builder.images.contents import Contents
    from builder.images.difference import Change, Difference, FileChange
    from builder.snapshots.snapshot import Entry

SIGNS = {"added": "A", "deleted": "D", "modified": "C"}


def diff(parsed: Parsed, environ: Environ) -> int:
    """`pybuild diff IMAGE IMAGE`: 0, or with --exit-code 1 where something differs."""
    as_json, platform = wants_document(parsed), platform_of(parsed)
    expect(parsed, "pybuild diff", 2, 2, "two images")
    from builder.images.contents import read_contents
    from builder.images.difference import compare
    from builder.images.packages import is_database

    store = open_store_of(parsed, environ)
    one = read_contents(store, parsed.words[0], platform, is_database)
    other = read_contents(store, parsed.words[1], platform, is_database, like=one)
    found = compare(one, other, times=not parsed.switch("ignore-times"))
    if as_json:
        print_document(_diff_object(parsed.words, (one, other), found))
    else:
        print_lines(_diff_lines(parsed.words, (one, other), found))
    return int(parsed.switch("exit-code") and not found.is_empty)


def _diff_lines(names: Sequence[str], images: Sequence[Contents], found: Difference) -> Iterator[str]:
    for sign, name, contents in zip("-+", names, images, strict=True):
        yield f"{sign}{sign}{sign} {one_line(name)}  {shown_image(contents)}"
    if found.is_empty:
        yield "nothing differs"
        return
    counts = [sum(change.how == how for change in found.files) for how in SIGNS]
    if found.files:
        yield ""
        yield "Files: " + ", ".join(f"{count} {how}" for count, how in zip(counts, SIGNS, strict=True))
        width = min(WIDEST_NAME, max(len(change.path) for change in found.files) + 1)
        for change in found.files:
            yield f"{SIGNS[change.how]} {one_line(_shown(change.path)):<{width}}  {_what(change)}"
    if found.config:
        yield ""
        yield "Config:"
        for field in found.config:
            yield from _field_lines(field)
    yield from _layer_lines(found)
    if found.packages:
        yield ""
        yield "Packages:"
        for kind, package in found.packages:
            yield one_line(f"{_sign(package)} {kind} {package.name} {_versions(package)}")


def _shown(path: str) -> str:
    """A path as the image has it."""
    return "/" if path == "." else f"/{path}"


def shown_image(contents: Contents) -> str:
    """An image by its id and platform."""
    found = contents.found
    return one_line(f"{short_id(found.manifest.config.digest, full=False)} {found.descriptor.platform}")


def _what(change: FileChange) -> str:
    """What of a path differs, with both values where they tell something."""
    from builder.images.difference import KINDS

    one, other = change.before, change.after
    if one is None or other is None:
        entry = one or other
        assert entry is not None
        return size(entry.size) if entry.kind == "f" else KINDS[entry.kind]
    told = []
    for what in change.what:
        before, after = _aspect(one, what), _aspect(other, what)
        told.append(what if before == after else f"{what} ({before} -> {after})")
    return one_line(", ".join(told))


def _aspect(entry: Entry, what: str) -> str:
    from builder.images.difference import KINDS

    match what:
        case "kind":
            return KINDS[entry.kind]
        case "content":
            return size(entry.size)
        case "mode":
            return f"{entry.mode:04o}"
        case "owner":
            return f"{entry.uid}:{entry.gid}"
        case "link":
            return entry.link
        case "device":
            return f"{entry.device[0]}:{entry.device[1]}"
        case "time":
            try:
                return datetime.fromtimestamp(entry.mtime // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            except (ValueError, OverflowError, OSError):  # a tar can say any time
                return str(entry.mtime // 10**9)
    return ", ".join(f"{name}={value.hex()}" for name, value in entry.xattrs)


def _field_lines(field: Change) -> Iterator[str]:
    if field.name == "History":
        same = " the same steps; times, comments or layers differ" if field.before == field.after else ""
        yield f"C History:{same}"
        for line in difflib.unified_diff(field.before, field.after, n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")):
                yield f"    {cut(one_line(line), WIDEST_STEP, full=False)}"
        return
    yield one_line(f"{_sign(field)} {field.name}: {_versions(field, as_json=True)}")


def _sign(change: Change) -> str:
    return "A" if change.before is None else "D" if change.after is None else "C"


def _versions(change: Change, *, as_json: bool = False) -> str:
    values = [value for value in (change.before, change.after) if value is not None]
    return " -> ".join(json.dumps(value) if as_json else str(value) for value in values)


def _layer_lines(found: Difference) -> Iterator[str]:
    one, other = found.layers
    if list(one) == list(other):
        return
    yield ""
    yield f"Layers: {found.shared} of {len(one)} and {len(other)} are the same"
    for sign, layers in (("D", one), ("A", other)):
        for digest, diff_id in layers[found.shared :]:
            yield f"{sign} {digest}  diff id {short_id(diff_id, full=False)}"
    if found.shared == len(one) == len(other):
        yield "  the same layers, compressed in another way"


def _diff_object(names: Sequence[str], images: Sequence[Contents], found: Difference) -> dict[str, Any]:
    one, other = found.layers
    return {
        "Images": [image_object(name, contents) for name, contents in zip(names, images, strict=True)],
        "Equal": found.is_empty,
        "Files": [
            {
                "Path": _shown(change.path),
                "Change": change.how,
                "What": list(change.what),
                "Before": _entry_object(change.before),
                "After": _entry_object(change.after),
            }
            for change in found.files
        ],
        "Config": [{"Field": c.name, "Before": c.before, "After": c.after} for c in found.config],
        "Layers": {
            "Shared": found.shared,
            "Before": [{"Digest": digest, "DiffID": diff_id} for digest, diff_id in one],
            "After": [{"Digest": digest, "DiffID": diff_id} for digest, diff_id in other],
        },
        "Packages": [
            {"Type": kind, "Name": package.name, "Before": package.before, "After": package.after}
            for kind, package in found.packages
        ],
    }


def image_object(name: str, contents: Contents) -> dict[str, Any]:
    """An image by its names, as plain data."""
    found = contents.found
    return {
        "Name": name,
        "Id": found.manifest.config.digest,
        "Digest": found.descriptor.digest,
        "Platform": str(found.descriptor.platform),
    }


def _entry_object(entry: Entry | None) -> dict[str, Any] | None:
    from builder.images.difference import KINDS

    if entry is None:
        return None
    told: dict[str, Any] = {
        "Type": KINDS[entry.kind],
        "Mode": f"{entry.mode:04o}",
        "Uid": entry.uid,
        "Gid": entry.gid,
        "Time": entry.mtime // 10**9,
    }
    if entry.kind == "f":
        told |= {"Size": entry.size, "Digest": entry.digest}
    if entry.kind == "l":
        told["Link"] = entry.link
    if entry.kind in "cb":
        told["Device"] = list(entry.device)
    if entry.xattrs:
        told["Xattrs"] = {name: value.hex() for name, value in entry.xattrs}
    return told


COMMANDS = {
    "diff": Command(
        flags=(
            TEXT_OR_JSON,
            Flag(name="exit-code", kind="switch", group="How", help="exit with 1 where something differs"),
            Flag(name="ignore-times", kind="switch", group="How", help="times alone are no difference"),
            PLATFORM, *GLOBAL_FLAGS,
        ),
        run=diff, usage="pybuild diff [FLAGS] IMAGE IMAGE",
        about="Show what differs between two images: files, config, layers, and packages of dpkg, apk, rpm, "
              "Python and npm.",
        closing="A added, D deleted, C changed: kind, content, mode, owner, time, … are told apart.",
    ),
}  # fmt: skip
