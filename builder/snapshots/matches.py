"""Matches: where the source patterns of a COPY lead to in a tree, and what is there.

A pattern leads to matches (a file, or a folder whose contents are meant), a match to items (one path each,
relative to what is copied). Symlinks are followed inside the tree: on the way to a source and in its last
place, not below a source folder and not below the pivot of --parents. Knows nothing of what becomes of it.

On the path of a fully cached build.
"""

from __future__ import annotations

from builder.errors import BuildError, MissingPath
from builder.snapshots.patterns import BadPattern, Patterns, clean, glob, has_wildcards, may_cross
from builder.snapshots.snapshot import FOLDER, SYMLINK, Entry, LayerId
from builder.snapshots.tree import Node, TooManyLinks, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator

    from builder.graph.selection import Selection

    HiddenBy = Callable[[str], str | None]  # the ignore file's line that hides a path, as people know it

ROOT = Node(Entry(".", FOLDER, 0o755), LayerId(""))


class Match:
    """One path that a pattern leads to.

    index: the pattern's; pattern: as written; path: in the tree, symlinks resolved; name: what a file is
    called in a destination folder (the name that was asked for, not a link's target's); node: what is
    there; inside: for --parents, which paths below are meant.
    """

    __slots__ = ("index", "inside", "name", "node", "path", "pattern")

    def __init__(
        self, index: int, pattern: str, path: str, name: str, node: Node, inside: Inside | None = None
    ) -> None:
        self.index = index
        self.pattern = pattern
        self.path = path
        self.name = name
        self.node = node
        self.inside = inside

    @property
    def is_folder(self) -> bool:
        """Whether its contents are copied, rather than itself."""
        return self.node.entry.kind == FOLDER


class Inside:
    """What --parents takes below the pivot: the pattern, and the folders that it begins with."""

    __slots__ = ("literal", "patterns")

    def __init__(self, pattern: str) -> None:
        self.patterns = Patterns([pattern])
        self.literal: list[str] = []
        for part in pattern.split("/"):
            if part in ("", ".") or "\\" in part or has_wildcards(part):
                break
            self.literal.append(part)


class Item:
    """One path of what is copied: `path` is relative to it, `node` what it is in the tree.

    carried: the path was not meant itself, it is a folder on the way to one that is.
    """

    __slots__ = ("carried", "node", "path")

    def __init__(self, path: str, node: Node, *, carried: bool = False) -> None:
        self.path = path
        self.node = node
        self.carried = carried


def select(tree: Tree, selection: Selection, *, hidden_by: HiddenBy | None = None) -> list[Match]:
    """What each pattern leads to, in order.

    A pattern with wildcards may lead to nothing. Raises MissingPath where a plain path (or what a link
    leads to, or the folder before the wildcards) is not there, and BuildError for a pattern that is none
    and for a circle of links.
    """
    finder = _Finder(tree, hidden_by)
    matches: list[Match] = []
    for index, pattern in enumerate(selection.patterns):
        if not selection.wildcards:
            matches.append(finder.exact(index, pattern, clean("/" + pattern)))
        elif selection.parents:
            matches += finder.with_parents(index, pattern, selection)
        else:
            matches += finder.by_pattern(index, pattern, clean("/" + pattern))
            if selection.excludes and clean("/" + pattern) == "/":
                finder.check_links(matches[-1], patterns_of(selection.excludes))
    return matches


def items(tree: Tree, match: Match, excludes: Patterns | None) -> Iterator[Item]:
    """What is in a matched folder, folders before what they hold, sorted; the folder itself is not told."""
    if match.inside is None and excludes is None:
        yield from _all_items(tree, match.path)
        return
    inside = match.inside.patterns if match.inside else None
    offset = 0 if match.path == "." else len(match.path) + 1
    above: list[tuple[str, Item | None]] = []  # the folders we are in; None: told already
    for path, descend in _candidates(tree, match):
        relative = path[offset:]
        while above and not path.startswith(above[-1][0]):
            above.pop()
        item = Item(relative, tree.nodes[path])
        excluded = excludes is not None and excludes.matches(relative)
        taken = not excluded and (inside is None or inside.matches(relative))
        if taken:
            for position, (folder, untold) in enumerate(above):
                if untold is not None:
                    yield untold
                    above[position] = (folder, None)
            yield item
        if item.node.entry.kind == FOLDER and (not excluded or (excludes and excludes.exceptions)):
            carried = None if taken else Item(relative, item.node, carried=True)
            above.append((path + "/", carried))
            descend()


def patterns_of(excludes: Iterable[str]) -> Patterns | None:
    """The --exclude patterns, None where there are none; raises BuildError."""
    excludes = list(excludes)
    try:
        return Patterns(excludes) if excludes else None
    except BadPattern as error:
        raise BuildError(f"invalid exclude pattern '{error}'", code="bad-pattern") from error


def _all_items(tree: Tree, root: str) -> Iterator[Item]:
    children, nodes = tree.children_map(), tree.nodes
    offset = 0 if root == "." else len(root) + 1
    pending = sorted(children.get(root, ()), reverse=True)
    while pending:
        path = pending.pop()
        node = nodes[path]
        yield Item(path[offset:], node)
        if node.entry.kind == FOLDER and path in children:
            pending.extend(sorted(children[path], reverse=True))


def _candidates(tree: Tree, match: Match) -> Iterator[tuple[str, Callable[[], None]]]:
    """The paths below a match, each with the call that makes those in it follow."""
    children = tree.children_map()
    literal = match.inside.literal if match.inside else []

    def below(folder: str, depth: int) -> list[str]:
        if depth >= len(literal):
            return sorted(children.get(folder, ()), reverse=True)
        only = literal[depth] if folder == "." else f"{folder}/{literal[depth]}"
        return [only] if only in tree.nodes else []

    pending = [(path, 1) for path in below(match.path, 0)]
    while pending:
        path, depth = pending.pop()

        def descend(path: str = path, depth: int = depth) -> None:
            pending.extend((child, depth + 1) for child in below(path, depth))

        yield path, descend


class _Finder:
    """Finds what patterns lead to in one tree, and says what is missing."""

    def __init__(self, tree: Tree, hidden_by: HiddenBy | None) -> None:
        self.tree = tree
        self.hidden_by = hidden_by

    def exact(self, index: int, pattern: str, path: str) -> Match:
        """The match at this path, symlinks followed; raises MissingPath."""
        try:
            resolved = self.tree.resolve(path)
        except TooManyLinks as error:
            raise BuildError(f"too many symbolic links on the way to '{path}'", code="link-loop") from error
        node = self.tree.nodes.get(resolved)
        if node is None and resolved == ".":
            node = ROOT
        if node is None:
            raise self.missing(path, resolved)
        return Match(index, pattern, resolved, path.rpartition("/")[2] or ".", node)

    def by_pattern(self, index: int, pattern: str, path: str) -> Iterator[Match]:
        """The matches of a cleaned absolute path that may hold wildcards, in the tree's order."""
        parts = path[1:].split("/")
        wild = next((i for i, part in enumerate(parts) if has_wildcards(part)), None)
        if wild is None:
            yield self.exact(index, pattern, path)
            return
        rest = "/".join(parts[wild:])
        try:
            regex = glob(rest)
        except BadPattern as error:
            raise BuildError(f"invalid source pattern '{path}'", code="bad-pattern") from error
        base = self.exact(index, pattern, "/" + "/".join(parts[:wild]))
        for found in self._matching(base.path, regex, rest.count("/") + may_cross(rest)):
            yield self.exact(index, pattern, "/" + found)

    def with_parents(self, index: int, pattern: str, selection: Selection) -> list[Match]:
        """The matches of --parents: the pivot's folders, with the pattern for what is below them."""
        pivot, below = split_pivot(pattern)
        below = below if below.startswith("../") else clean("/" + below)[1:]
        try:
            inside = Inside(below)
        except BadPattern as error:
            raise BuildError(f"invalid source pattern '{pattern}'", code="bad-pattern") from error
        matches = list(self.by_pattern(index, pattern, clean("/" + pivot)))
        excludes = patterns_of(selection.excludes)
        plain = not has_wildcards(pivot) and not has_wildcards(below)
        for match in matches:
            match.inside = inside
            if plain and not self._is_inside(match, pivot, below, excludes):
                if below.startswith("../"):
                    raise self.missing(f"/{join(pivot or '.', below)}", "")
                whole = clean(f"/{pivot}/{below}")
                if not below:
                    hint = "with --parents it takes a pattern for what is below it: '**' is all"
                    raise MissingPath(f"source '{whole}' not found", hint=hint)
                raise self.missing(whole, join(match.path, below))
            if clean("/" + pivot) == "/":
                self.check_links(match, excludes)
        return matches

    def _is_inside(self, match: Match, pivot: str, below: str, excludes: Patterns | None) -> bool:
        """Whether a plain --parents path is there, as written: a pivot that is a link has nothing in it."""
        if not match.is_folder or "\\" in below or self._is_link(clean("/" + pivot)):
            return False
        return next(items(self.tree, match, excludes), None) is not None

    def _is_link(self, path: str) -> bool:
        entry = self.tree.get(self.tree.resolve(path, last=False))
        return entry is not None and entry.kind == SYMLINK

    def check_links(self, match: Match, excludes: Patterns | None) -> None:
        """See that links lead somewhere which a source that is the root takes, chosen by patterns.

        The reference hashes what these lead to, though they are copied as links; raises as `exact`.
        """
        inside = match.inside.patterns if match.inside else None
        for path in self.tree.children(match.path):
            taken = not (excludes and excludes.matches(path)) and (inside is None or inside.matches(path))
            if taken and self.tree.nodes[path].entry.kind == SYMLINK:
                self.exact(match.index, match.pattern, "/" + path)

    def missing(self, path: str, resolved: str) -> MissingPath:
        """The error for a path that is not there: what hides it, or what it may have been meant to be."""
        notes = []
        if resolved and "/" + resolved != path:
            notes.append(f"'{path}' leads to '/{resolved}' through a symbolic link")
        if self.hidden_by is not None:
            for candidate in dict.fromkeys((path[1:], resolved)):
                if candidate and (line := self.hidden_by(candidate)):
                    return MissingPath(
                        f"source '{path}' not found: it is left out by {line}",
                        hint=f"add '!{candidate}' behind that line to take it back in",
                        notes=tuple(notes),
                    )
        near = _near(self.tree, resolved or path[1:])
        hint = "did you mean " + " or ".join(f"'{name}'" for name in near) + "?" if near else None
        return MissingPath(f"source '{path}' not found", hint=hint, notes=tuple(notes))

    def _matching(self, base: str, regex: re.Pattern[str], depth: int) -> Iterator[str]:
        children, nodes = self.tree.children_map(), self.tree.nodes
        offset = 0 if base == "." else len(base) + 1
        pending = sorted(children.get(base, ()), reverse=True)
        while pending:
            path = pending.pop()
            if regex.match(path, offset):
                yield path
            elif path.count("/", offset) < depth and nodes[path].entry.kind == FOLDER:
                pending.extend(sorted(children.get(path, ()), reverse=True))


def split_pivot(pattern: str) -> tuple[str, str]:
    """What --parents leaves away, and the rest: cut at the first `/./` that has something before it."""
    pattern = pattern.lstrip("/")
    while pattern.startswith("./"):
        pattern = pattern[2:].lstrip("/")
    pivot, found, rest = pattern.partition("/./")
    return (pivot, rest) if found else ("", pattern)


def join(folder: str, path: str) -> str:
    """The path of `path` in a folder of a tree."""
    return path if folder == "." else f"{folder}/{path}"


def _near(tree: Tree, path: str) -> list[str]:
    """Up to three paths that somebody who wrote `path` may have meant."""
    import difflib

    folder, _, name = path.rpartition("/")
    siblings = {p.rpartition("/")[2]: p for p in tree.children(folder or ".")[:5000]}
    near = [siblings[n] for n in difflib.get_close_matches(name, siblings, 3, 0.6)]
    elsewhere = [p for p in tree.nodes if p.rpartition("/")[2] == name][:3]
    other_case = [p for n, p in siblings.items() if n.lower() == name.lower()]
    return list(dict.fromkeys([*other_case, *near, *elsewhere]))[:3]
