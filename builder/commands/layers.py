"""`pybuild layers`: what each layer of an image adds, and which bytes of it are wasted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from builder.commands.arguments import PLATFORM, Environ, expect, open_store_of, platform_of
from builder.commands.diff import image_object, shown_image
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.formats import (
    SHOWN,
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
from builder.errors import UsageError
from builder.ui.words import one_line, plural

if TYPE_CHECKING:
    from builder.images.contents import Contents
    from builder.images.waste import Branch, LayerReport, Report

MARKS = {"added": "+", "changed": "~", "removed": "-", "": " "}
DEPTH, MAX_DEPTH, MOST_WASTED = 2, 100, 10


def layers(parsed: Parsed, environ: Environ) -> int:
    """`pybuild layers IMAGE`."""
    as_json, platform, depth = wants_document(parsed), platform_of(parsed), _depth(parsed)
    expect(parsed, "pybuild layers", 1, 1)
    from builder.images.contents import read_contents
    from builder.images.waste import report

    name = parsed.words[0]
    contents = read_contents(open_store_of(parsed, environ), name, platform, digests_wanted=False)
    found = report(contents)
    chosen = _chosen(found, parsed.text("layer"))
    if as_json:
        print_document(_layers_object(name, contents, found, chosen, depth))
    else:
        print_lines(_layers_lines(name, contents, found, chosen, depth))
    return 0


def _depth(parsed: Parsed) -> int:
    text = parsed.text("depth", str(DEPTH))
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise UsageError(f"--depth {text}: not a number of folders", hint="0 shows no tree")
    return min(int(text), MAX_DEPTH)


def _chosen(found: Report, text: str) -> Sequence[LayerReport]:
    """The layers to show: all, or the one of a number or of a digest's beginning. Raises UsageError."""
    if not text:
        return found.layers
    if text.isascii() and text.isdecimal() and len(text) < 5:
        chosen = [each for each in found.layers if each.layer.number == int(text)]
    else:
        known = text.removeprefix("sha256:")
        chosen = [
            each
            for each in found.layers
            if known
            and any(d[7:].startswith(known) for d in (each.layer.descriptor.digest, each.layer.diff_id))
        ]
    if len(chosen) != 1:
        raise UsageError(
            f"--layer {text}: {'no such layer' if not chosen else 'that begins several digests'}",
            hint=f"the layers are 1 to {len(found.layers)}, the lowest first" if found.layers else None,
        )
    return chosen


def _layers_lines(
    name: str, contents: Contents, found: Report, chosen: Sequence[LayerReport], depth: int
) -> Iterator[str]:
    yield f"{one_line(name)}  {shown_image(contents)}"
    for each in chosen:
        layer = each.layer
        yield ""
        told = (
            f"{size(layer.descriptor.size)} packed, {size(each.size)} in {plural(len(each.changes), 'path')}"
        )
        wasted = f", {size(each.wasted)} wasted" if each.wasted else ""
        yield f"Layer {layer.number}  {short_id(layer.descriptor.digest, full=False)}  {told}{wasted}"
        step = layer.step.created_by or layer.step.comment
        if step:
            yield f"  {cut(one_line(step), WIDEST_STEP, full=False)}"
        from builder.images.waste import grow

        yield from _branch_lines(grow(each.changes, depth), "    ")
    yield ""
    yield (
        f"Wasted: {size(found.wasted_bytes)} of {size(found.total)} in files, efficiency {_percent(found)}"
    )
    for lost in found.wasted[:MOST_WASTED]:
        files = f", {plural(lost.files, 'file')}" if lost.files > 1 else ""
        where = f"in layer {lost.layer}{files}, {lost.how} by layer {lost.by}"
        yield f"  {size(lost.size):>8}  {one_line(lost.path)}  {where}"
    if len(found.wasted) > MOST_WASTED:
        yield f"  and {len(found.wasted) - MOST_WASTED} more, see --format json"


def _percent(found: Report) -> str:
    """Rounded down: what is not all of it is not called 100 %."""
    return f"{int(found.efficiency * 1000) / 10:.1f} %"


def _branch_lines(branch: Branch, indent: str) -> Iterator[str]:
    for name in sorted(branch.below):
        below = branch.below[name]
        slash = "/" if below.kind == "d" else ""
        label = one_line(f"{indent}{name}{slash}")
        hidden = f"  hides {size(below.hidden)}" if below.hidden else ""
        amount = "" if below.how == "removed" else size(below.size)
        yield f"{MARKS[below.how]}{label:<{WIDEST_NAME}}{amount:>8}{hidden}"
        yield from _branch_lines(below, indent + "  ")


def _layers_object(
    name: str, contents: Contents, found: Report, chosen: Sequence[LayerReport], depth: int
) -> dict[str, Any]:
    return {
        **image_object(name, contents),
        "Layers": [_layer_object(each, depth) for each in chosen],
        "FileBytes": found.total,
        "WastedBytes": found.wasted_bytes,
        "Efficiency": round(found.efficiency, 6),
        "Wasted": [
            {
                "Path": wasted.path,
                "Bytes": wasted.size,
                "Files": wasted.files,
                "Layer": wasted.layer,
                "By": wasted.by,
                "How": wasted.how,
            }
            for wasted in found.wasted
        ],
    }


def _layer_object(each: LayerReport, depth: int) -> dict[str, Any]:
    from builder.images.waste import grow

    layer = each.layer
    return {
        "Number": layer.number,
        "Digest": layer.descriptor.digest,
        "DiffID": layer.diff_id,
        "MediaType": layer.descriptor.media_type,
        "Size": layer.descriptor.size,
        "FileBytes": each.size,
        "WastedBytes": each.wasted,
        "CreatedBy": layer.step.created_by,
        "Paths": len(each.changes),
        "Tree": _branch_objects(grow(each.changes, depth)),
    }


def _branch_objects(branch: Branch) -> list[dict[str, Any]]:
    from builder.images.difference import KINDS

    return [
        {
            "Name": name,
            "Change": below.how or None,
            "Type": KINDS[below.kind],
            "Bytes": below.size,
            "HiddenBytes": below.hidden,
            "Paths": below.paths,
            "Children": _branch_objects(below),
        }
        for name, below in sorted(branch.below.items())
    ]


COMMANDS = {
    "layers": Command(
        flags=(
            TEXT_OR_JSON,
            Flag(name="depth", metavar="N", group=SHOWN, help=f"how deep trees are shown (default: {DEPTH})"),
            Flag(name="layer", metavar="N", group=SHOWN, help="this layer alone, by its number or digest"),
            PLATFORM, *GLOBAL_FLAGS,
        ),
        run=layers, usage="pybuild layers [FLAGS] IMAGE",
        about="Show what each layer of an image adds, changes and removes, and which bytes are wasted: in a "
              "layer, but replaced or removed by a later one.",
        closing="+ added, ~ changed, - removed.",
    ),
}  # fmt: skip
