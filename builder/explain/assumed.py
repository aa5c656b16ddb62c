"""What if: paths of the context that are taken as changed, or as added, though nobody touches them.

Only the entries that a context was read as are changed, in memory: their digests are then those of no bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from builder.digest import of_value
from builder.errors import UsageError
from builder.snapshots.patterns import BadPattern, Patterns, has_wildcards
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, Entry
from builder.snapshots.tree import TooManyLinks, resolve

NEW_FILE, NEW_FOLDER = 0o644, 0o755


class Assumed:
    """The paths and patterns of `--assume`, as .dockerignore has them. Raises UsageError for a bad one.

    notes: what is to be said of them once they were applied.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self.notes: list[str] = []
        self._touched: dict[str, list[str]] = {}
        self._patterns = [(text, _cleaned(text)) for text in self.texts]
        for text, path in self._patterns:
            try:
                Patterns([path])
            except BadPattern as error:
                raise UsageError(f"--assume {text}: not a pattern: {error}") from error
            if path.startswith("!"):
                raise UsageError(f"--assume {text}: nothing can be taken back here")

    def apply(
        self, entries: list[Entry], hidden: Callable[[str], str | None], exists: Callable[[str], bool]
    ) -> None:
        """Change entries of a context as if the paths were changed; add those that are not there.

        hidden: the ignore file's line that hides a path; exists: whether a path is in the folder, though it
        was not read.
        """
        there = {entry.path: entry for entry in entries}
        for text, path in self._patterns:
            found = self._matching(path, there)
            self._touched[text] = [entry.path for entry in found]
            if found:
                for entry in found:
                    entry.digest = of_value(["assumed", entry.path])
                    entry.hardlink = None
            elif has_wildcards(path):
                self.notes.append(f"--assume {text}: nothing that a step takes matches")
            elif line := hidden(path):
                self.notes.append(f"--assume {text}: hidden by {line}")
            elif path in there:
                self.notes.append(f"--assume {text}: there is no file in it")
            elif exists(path):
                self.notes.append(f"--assume {text}: no step takes it")
            else:
                _add(entries, there, path)
                self._touched[text] = [path]

    def note_unused(self, taken: Callable[[str], bool]) -> None:
        """Say of which paths nothing is taken, as `taken` tells."""
        for text, paths in self._touched.items():
            if paths and not any(map(taken, paths)):
                self.notes.append(f"--assume {text}: no step takes it")

    def _matching(self, path: str, there: dict[str, Entry]) -> list[Entry]:
        """The files that a path or pattern means: itself, what it leads to, or all below it."""
        patterns = Patterns([path])
        found = [entry for entry in there.values() if entry.path != "." and patterns.matches(entry.path)]
        files: dict[str, Entry] = {}
        for entry in found:
            if entry.kind == SYMLINK:
                try:
                    target = there.get(resolve(entry.path, there.get))
                except TooManyLinks:
                    continue
                if target is not None and target.kind == FILE:
                    files[target.path] = target
            elif entry.kind == FILE:
                files[entry.path] = entry
            elif entry.kind == FOLDER:
                below = entry.path + "/"
                files.update({p: e for p, e in there.items() if e.kind == FILE and p.startswith(below)})
        if path == ".":
            files = {p: e for p, e in there.items() if e.kind == FILE}
        return list(files.values())


def _add(entries: list[Entry], there: dict[str, Entry], path: str) -> None:
    """Add a file, and the folders that lead to it."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if folder not in there:
            there[folder] = Entry(folder, FOLDER, NEW_FOLDER)
            entries.append(there[folder])
    there[path] = Entry(path, FILE, NEW_FILE, digest=of_value(["assumed", path]))
    entries.append(there[path])


def _cleaned(text: str) -> str:
    """A path in the context: without `.`, `..` and outer slashes. Raises UsageError where it is outside."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            if not parts:
                raise UsageError(f"--assume {text}: it is not in the context", hint="paths are the context's")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."
