"""The top-level parts of a context, and of each one the file that is changed to stand for it. Pure.

Of a folder that is the file that is most like the others: of the largest group of files that the same steps
take, the first that is text, so that a change breaks nothing. What the ignore file leaves out is no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from builder.bench.model import Model
from builder.snapshots.snapshot import FILE
from builder.snapshots.tree import Tree

LOOKED_AT = 50  # files of a part, until one is text


@dataclass(frozen=True, slots=True)
class Part:
    """name: as people write it (`src/`); files: how many; file: the one to change, "" where there is none."""

    name: str
    files: int
    file: str


def find_parts(tree: Tree, model: Model, is_text: Callable[[str], bool]) -> tuple[Part, ...]:
    """The parts, in the order of their names."""
    files: dict[str, list[str]] = {}
    folders: set[str] = set()
    for path, node in tree.nodes.items():
        top, slash, _rest = path.partition("/")
        if path == ".":
            continue
        files.setdefault(top, [])
        if slash:
            folders.add(top)
        if node.entry.kind == FILE and node.entry.hardlink is None:
            files[top].append(path)
    found = []
    for top, paths in sorted(files.items()):
        entry = tree.get(top)
        is_folder = top in folders or (entry is not None and entry.kind == "d")
        found.append(Part(f"{top}/" if is_folder else top, len(paths), _typical(paths, model, is_text)))
    return tuple(found)


def _typical(paths: Sequence[str], model: Model, is_text: Callable[[str], bool]) -> str:
    groups: dict[tuple[bool, ...], list[str]] = {}
    takers = [step.files for step in model.steps if step.files]
    for path in sorted(paths):
        groups.setdefault(tuple(path in files for files in takers), []).append(path)
    # Of groups of one size, the one that fewer steps take.
    ranked = sorted(groups, key=lambda group: (not any(group), -len(groups[group]), sum(group)))
    if not ranked:
        return ""
    largest = groups[ranked[0]]
    return next((path for path in largest[:LOOKED_AT] if is_text(path)), largest[0])
