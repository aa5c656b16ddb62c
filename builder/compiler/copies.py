"""COPY, ADD and WORKDIR: what puts files into an image without running anything. Pure.

All paths of one instruction come from one place, so its vertex has one input for them besides what it
copies onto, selected by all of the patterns, and one for each source that ADD fetches. With `--link` the
files are laid on nothing and merged on top, so that the layer does not depend on what is below; `--chmod`
switches that off.
"""

from __future__ import annotations

import posixpath
import re

import msgspec

from builder.compiler import created_by, paths, remotes, scope, systems
from builder.compiler.fetched import read_addresses
from builder.compiler.flags import switch, texts
from builder.compiler.lowering import Lowering, Origin
from builder.compiler.state import StageState
from builder.digest import Digest
from builder.dockerfile import ignore
from builder.dockerfile.ast import Add, Copy, Run, Workdir
from builder.dockerfile.heredocs import InlineFile, split_sources
from builder.errors import DockerfileError
from builder.graph.definition import Input
from builder.graph.selection import Selection
from builder.ops import files
from builder.ops.files import InlineItem, MakeDir, Merge, PathItem
from builder.ops.source import Git, Http

MAX_PATH = 4095  # bytes; PATH_MAX of limits.h counts the end too
OCTAL = re.compile(r"[0-7]{1,16}")
# chmod(1): clauses of who, operator and permissions (letters, or the permissions of another class).
SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")


def lower_copy(lowering: Lowering, state: StageState, step: Copy | Add, origin: Origin) -> StageState:
    """COPY or ADD of files, folders, local archives and heredocs."""
    chown = lowering.expand(step.flag("chown") or "", state, step)
    chmod = lowering.expand(step.flag("chmod") or "", state, step)
    _check_chmod(lowering, step, chmod)
    sources, inline = _read_sources(lowering, state, step)
    excludes = _read_excludes(lowering, step)
    dest = lowering.expand(step.dest, state, step)
    lowering.refuse_nul(step, dest, chown, *sources, *excludes)
    system = state.platform.os
    addresses = read_addresses(
        lowering, step, sources, lowering.expand(step.flag("checksum") or "", state, step)
    )
    linked = switch(step, "link") and not chmod
    op = files.Copy(
        (),
        paths.destination(state.folder, _slashed(lowering, step, dest, system)),
        chown=chown,
        chmod=chmod,
        unpack=isinstance(step, Add) and switch(step, "unpack", default=True),
        parents=switch(step, "parents"),
        excludes=excludes,
        link=linked,
    )
    below = Input(lowering.scratch() if linked else state.head)
    named = tuple(
        source if address else _slashed(lowering, step, source, system)
        for source, address in zip(sources, addresses, strict=True)
    )
    items, inputs = _take(lowering, step, op, named, addresses, origin)
    op = msgspec.structs.replace(op, items=(*items, *inline))
    head, grown = lowering.add(op, (below, *inputs), state, step, _label(lowering, state, step))
    if linked:
        merged = (Input(state.head), Input(head))
        text = f"{step.keyword} --link {dest}"
        about = lowering.about(f"LINK {text}", grown.steps, step, grown.platform, grown)
        head = lowering.definition.add(Merge(), merged, about)
    told = (*map(remotes.redact, sources), *(f"<<{item.name}" for item in inline), dest)
    return grown.grown(head, _created_by(step, chown, chmod, told))


def _slashed(lowering: Lowering, step: Copy | Add, path: str, system: str) -> str:
    try:
        return systems.slashed(path, system)
    except ValueError as error:
        raise lowering.fault(step, str(error), "bad-path") from error


def _created_by(step: Copy | Add, chown: str, chmod: str, words: tuple[str, ...]) -> str:
    flags = ["--parents"] if switch(step, "parents") else []
    flags += [f"--{name}={value}" for name, value in (("chown", chown), ("chmod", chmod)) if value]
    return " ".join([step.keyword, *flags, *words]) + created_by.SUFFIX


def _label(lowering: Lowering, state: StageState, step: Copy | Add | Workdir) -> str:
    """The instruction's text with its variables filled in, where they can be."""
    try:
        return remotes.redact(scope.expand_text(step.original, lowering.counted(state), None))
    except DockerfileError:
        return remotes.redact(step.original)


def _take(
    lowering: Lowering,
    step: Copy | Add,
    op: files.Copy,
    sources: tuple[str, ...],
    addresses: list[Git | Http | None],
    origin: Origin,
) -> tuple[list[PathItem], list[Input]]:
    """The items of the sources, in order, and the inputs that they are in: all paths in one."""
    items: list[PathItem] = []
    inputs: list[Input] = []
    patterns = [
        pattern_of(source, parents=op.parents)
        for source, address in zip(sources, addresses, strict=True)
        if address is None
    ]
    local = 0
    remaining = iter(patterns)
    for address in addresses:
        if address is not None:
            items.append(_fetched_item(step, address, len(inputs) + 1))
            vertex = lowering.fetch(address, step)
            inputs.append(_input(op, vertex, (items[-1].pattern,), owners=True, item=items[-1]))
            continue
        if not local:
            inputs.append(_input(op, origin.vertex, tuple(patterns), owners=not origin.is_folder))
            local = len(inputs)
        items.append(PathItem(local, next(remaining)))
    return items, inputs


def _fetched_item(step: Copy | Add, address: Git | Http, number: int) -> PathItem:
    """All files of a repository; a file as it is called, unpacked only where that is asked for."""
    if isinstance(address, Git):
        return PathItem(number, "/", wildcards=False)
    return PathItem(number, "/" + address.filename, wildcards=False, unpack=switch(step, "unpack"))


def _input(
    op: files.Copy, vertex: Digest, patterns: tuple[str, ...], *, owners: bool, item: PathItem | None = None
) -> Input:
    """The input that the patterns take from: its content counts as it will be written."""
    return Input(
        vertex,
        Selection(
            patterns,
            op.excludes,
            parents=op.parents,
            owners=owners and not op.chown,
            modes=not OCTAL.fullmatch(op.chmod),
            wildcards=item is None or item.wildcards,
        ),
    )


def pattern_of(source: str, *, parents: bool) -> str:
    """A source as an absolute, clean pattern; with `--parents` a pivot `/./` is kept.

    What is behind the pivot and absolute is taken as written: a second slash, or `..` above the pivot, leads
    nowhere, and stays as `../`.
    """
    if not parents:
        return paths.clean(source)
    pivot, found, rest = source.partition("/./")
    if not found:
        pivot, rest = "", source
    below = paths.clean(rest)
    written = posixpath.normpath(rest[1:]) if rest.startswith("/") else ""
    if written.startswith(("/", "../")):
        below = f"/..{written}" if written.startswith("/") else f"/{written}"
    return below if paths.clean(pivot) == "/" else paths.clean(pivot) + "/." + below


def _read_sources(
    lowering: Lowering, state: StageState, step: Copy | Add
) -> tuple[tuple[str, ...], tuple[InlineItem, ...]]:
    """The paths, expanded, and the heredocs as files: those come last, whatever the order."""
    words, files = split_sources(step)
    sources = lowering.expand_all(words, state, step)
    return sources, tuple(_inline_item(lowering, state, step, file) for file in files)


def _inline_item(lowering: Lowering, state: StageState, step: Copy | Add, file: InlineFile) -> InlineItem:
    check_file_name(lowering, step, file.name)
    if not file.expand:
        return InlineItem(file.name, file.text)
    return InlineItem(
        file.name, scope.expand_text(file.text, lowering.counted(state), lowering.location(step))
    )


def check_file_name(lowering: Lowering, step: Copy | Add | Run, name: str) -> None:
    """Refuse a heredoc's name that is no name of a file."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise lowering.fault(step, f"heredoc {name!r} cannot be the name of a file", "bad-heredoc-name")


def is_chmod(text: str) -> bool:
    """Whether the value of --chmod is one, "" being none."""
    if not text or (OCTAL.fullmatch(text) and int(text, 8) <= 0o7777):
        return True
    return text[0] not in "0123456789" and SYMBOLIC.fullmatch(text) is not None


def _check_chmod(lowering: Lowering, step: Copy | Add, chmod: str) -> None:
    if not is_chmod(chmod):
        hint = "it is octal from 0 to 7777, or symbolic as in chmod(1)"
        raise lowering.fault(step, f"--chmod={chmod} is not a mode", "bad-chmod", hint, flag="chmod")


def _read_excludes(lowering: Lowering, step: Copy | Add) -> tuple[str, ...]:
    """The patterns of --exclude, which are not expanded."""
    patterns = texts(step, "exclude")
    for pattern in patterns:
        try:
            ignore.parse(pattern + "\n", "--exclude")
        except DockerfileError as error:
            message = f"--exclude={pattern} is not a pattern"
            raise lowering.fault(step, message, "bad-pattern", flag="exclude", value=pattern) from error
    return patterns


def lower_workdir(lowering: Lowering, state: StageState, step: Workdir) -> StageState:
    """WORKDIR: a folder of the image, made by USER; the root is there without a layer."""
    path = lowering.expand(step.path, state, step)
    lowering.refuse_nul(step, path)
    system = state.platform.os
    try:
        folder = systems.working_folder(state.config.working_dir, path, system)
    except ValueError as error:
        raise lowering.fault(step, str(error), "bad-path") from error
    if len(paths.clean(folder).encode("utf-8", "surrogatepass")) > MAX_PATH:
        raise lowering.fault(step, f"the working folder's path is longer than {MAX_PATH} bytes", "too-large")
    state = state.configured(working_dir=systems.native(folder, system))
    if folder == "/":
        return state.noted("WORKDIR /")
    op = MakeDir(paths.clean(folder), user=state.config.user)
    head, state = lowering.add(op, (Input(state.head),), state, step, _label(lowering, state, step))
    return state.grown(head, f"WORKDIR {folder}")
