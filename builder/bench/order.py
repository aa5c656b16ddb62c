"""Orders of instructions that mean the same, as far as can be known, and keep more in the cache. Pure.

There are two moves. An ARG goes below the RUNs that do not use it, if these are of known programs, as its
value is part of each RUN below it. And a COPY of the context goes below a RUN that is known to read nothing
of it, or only a few files, which are copied first then. It is proposed only where nothing that is passed on
the way could tell:

- the RUN, and each one between, is of programs whose reading is known (`needs`), without a bind mount;
- between them stand only instructions that a COPY does not feel, or other COPYs to other paths;
- the COPY goes to a folder of the project's own, not where systems keep theirs; it has no variables that are
  set on the way, and no relative destination with a WORKDIR on the way;
- what package managers write beside their manifests (node_modules, vendor) is not in the context;
- the manifests themselves name no other files of the project, and run none of its scripts.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from builder.bench import needs
from builder.bench.model import each_taken, is_main
from builder.bench.needs import Needs
from builder.compiler.compile import Visit
from builder.compiler.program import Program
from builder.dockerfile import ast
from builder.ops import files
from builder.snapshots.tree import Tree

SYSTEM = (
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "usr",
    "var",
)
WRITTEN = ("node_modules", "vendor", ".venv", ".yarn", ".pnp.cjs")
PASSED = (
    ast.Run, ast.Copy, ast.Add, ast.Arg, ast.Env, ast.Label, ast.Expose, ast.Cmd, ast.Entrypoint, ast.User,
    ast.Workdir, ast.Healthcheck, ast.Stopsignal, ast.Maintainer,
)  # fmt: skip
SET = (ast.Arg, ast.Env)

ReadText = Callable[[str], str]  # a file of the context; "" for what is no text


@dataclass(frozen=True, slots=True)
class Subject:
    """A Dockerfile that was compiled over a context: its tree, instructions as they were met, and program."""

    dockerfile: ast.Dockerfile
    visits: tuple[Visit, ...]
    program: Program
    tree: Tree
    read: ReadText


@dataclass(frozen=True, slots=True)
class Move:
    """A proposal: the new text; what goes below which RUN; files: those that are copied first."""

    text: str
    moved: ast.Copy | ast.Add | ast.Arg
    run: ast.Run
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A RUN that could go up, but for a reason that people should know."""

    run: ast.Run
    reason: str


def moves(subject: Subject) -> Iterator[Move | Refused]:
    """All moves of one COPY or ARG, each below the last RUN that it can go below."""
    stages: dict[int, list[Visit]] = {}
    for visit in subject.visits:
        stages.setdefault(visit.stage, []).append(visit)
    for visits in stages.values():
        for number, visit in enumerate(visits):
            step = visit.step.instruction
            found: Move | Refused | None = None
            if isinstance(step, ast.Copy | ast.Add) and not visit.step.onbuild:
                found = _best(subject, visits, number)
            elif isinstance(step, ast.Arg) and not visit.step.onbuild:
                found = _below(subject, step, visits[number + 1 :])
            if found is not None:
                yield found


def _below(subject: Subject, arg: ast.Arg, visits: list[Visit]) -> Move | None:
    """The move of this ARG below the last RUN that comes before anything that may use it."""
    if any("$" in (pair.value or "") for pair in arg.pairs):  # what that means may be set on the way
        return None
    used = re.compile(rf"\b(?:{'|'.join(re.escape(pair.name) for pair in arg.pairs)})\b")
    best: Move | None = None
    for visit in visits:
        step = visit.step.instruction
        bodies = "".join(heredoc.content for heredoc in step.heredocs)
        if visit.step.onbuild or not isinstance(step, PASSED) or used.search(step.original + bodies):
            break
        if isinstance(step, ast.Run):
            if needs_of(visit) is None:
                break
            best = Move(rewritten(subject.dockerfile, arg, step, []), arg, step, ())
    return best


def _best(subject: Subject, visits: list[Visit], number: int) -> Move | Refused | None:
    """The move of this COPY below the last of the RUNs that follow it."""
    copy = visits[number].step.instruction
    assert isinstance(copy, ast.Copy | ast.Add)
    given = _given(subject, visits[number])
    if given is None:
        return None
    best: Move | Refused | None = None
    wanted: dict[str, str] = {}
    for index in range(number + 1, len(visits)):
        visit = visits[index]
        step = visit.step.instruction
        if visit.step.onbuild or not isinstance(step, PASSED) or _hinders(subject, copy, given, visit):
            break
        if not isinstance(step, ast.Run):
            continue
        needed = needs_of(visit)
        if needed is None:
            break
        found = _files(subject, visits[number:index], visit, needed, given)
        if isinstance(found, str):
            return best or Refused(step, found)
        wanted.update(found)
        text = rewritten(subject.dockerfile, copy, step, _copies(copy, visits[number], wanted))
        best = Move(text, copy, step, tuple(dict.fromkeys(wanted.values())))
    return best


def needs_of(visit: Visit) -> Needs | None:
    """What a RUN reads of what was copied; None where that is not known."""
    step = visit.step.instruction
    assert isinstance(step, ast.Run)
    if step.heredocs or (visit.state.config.shell or ("/bin/sh",))[0] not in (
        "/bin/sh",
        "/bin/bash",
        "sh",
        "bash",
    ):
        return None
    for flag in step.flags:
        kinds = [part for part in (flag.value or "").split(",") if part.startswith("type=")]
        if flag.name == "mount" and kinds not in (
            ["type=cache"],
            ["type=secret"],
            ["type=ssh"],
            ["type=tmpfs"],
        ):
            return None
    if step.command.shell:
        return needs.of_shell(step.command.words[0])
    return needs.of_words(list(step.command.words))


Given = dict[str, str]  # absolute path in the image -> path in the context


def _given(subject: Subject, visit: Visit) -> Given | None:
    """What a COPY of the build's own context gives; None where it takes from elsewhere, or may not move."""
    step = visit.step.instruction
    assert isinstance(step, ast.Copy | ast.Add)
    if step.heredocs or step.flag("from") is not None or step.flag("parents") is not None:
        return None
    vertices = [v for v in subject.program.definition if v.about.location and isinstance(v.op, files.Copy)]
    vertex = next((v for v in vertices if v.about.location and v.about.location.span == step.span), None)
    if (
        vertex is None
        or len(vertex.inputs) != 2
        or not is_main(subject.program.definition[vertex.inputs[1].of])
    ):
        return None
    op, select = vertex.op, vertex.inputs[1].select
    assert isinstance(op, files.Copy)
    if op.unpack and isinstance(step, ast.Add):
        return None
    if select is None or _is_system(op.dest):
        return None
    given: Given = {}
    into = op.dest.endswith("/") or len(op.items) > 1

    def tell(name: str, path: str) -> None:
        is_file = path.rpartition("/")[2] == name and not into
        given[op.dest if is_file and len(select.patterns) == 1 and _is_file(subject, select.patterns[0])
              else posixpath.join(op.dest, name)] = path  # fmt: skip

    each_taken(subject.tree, select, tell)
    return given


def _is_file(subject: Subject, pattern: str) -> bool:
    entry = subject.tree.get(pattern.strip("/") or ".")
    return entry is not None and entry.kind == "f"


def _is_system(path: str) -> bool:
    first = path.strip("/").partition("/")[0]
    return not first or (first in SYSTEM and not path.startswith(("/usr/src/", "/var/www", "/usr/local/app")))


def _hinders(subject: Subject, copy: ast.Copy | ast.Add, given: Given, visit: Visit) -> bool:
    """Whether the COPY may not go below this instruction."""
    step = visit.step.instruction
    if isinstance(step, SET):
        names = {pair.name for pair in step.pairs}
        words = " ".join((*copy.sources, copy.dest, *(flag.value or "" for flag in copy.flags)))
        return any(f"${name}" in words or f"${{{name}" in words for name in names)
    if isinstance(step, ast.Workdir):  # it makes a folder as its own user's
        return not copy.dest.startswith("/") or visit.state.config.user not in ("", "0", "root")
    if isinstance(step, ast.Copy | ast.Add):
        if step.flag("from") is not None or step.heredocs:
            return True
        other = _given(subject, visit)
        return other is None or any(other[path] != given[path] for path in other.keys() & given.keys())
    return False


def _files(
    subject: Subject, above: list[Visit], visit: Visit, needed: Needs, given: Given
) -> dict[str, str] | str:
    """The files to be copied first (path in the image -> in the context), or why that would not do.

    above: the instructions from the COPY on to the RUN.
    """
    if not needed.required and not needed.optional:
        return {}
    folder = visit.state.folder
    if any(path.startswith(posixpath.join(folder, name) + "/") for path in given for name in WRITTEN):
        return "the context holds what the command writes"
    between: Given = {}
    for other in above[1:]:
        if isinstance(other.step.instruction, ast.Copy | ast.Add):
            between |= _given(subject, other) or {}
    found: dict[str, str] = {}
    seen: set[str] = set()
    todo = [(name, True) for name in needed.required] + [(name, False) for name in needed.optional]
    while todo:
        name, is_manifest = todo.pop(0)
        path = posixpath.normpath(posixpath.join(folder, name))
        if path in seen:
            continue
        seen.add(path)
        if path in given and path not in between:
            found[path] = given[path]
        if is_manifest:
            for source in _sources(subject, path, between | given):
                text = subject.read(source)
                if reason := needs.objection(path, text):
                    return reason
                todo += [(other, True) for other in needs.further(path, text)]
    return found


def _sources(subject: Subject, path: str, given: Given) -> list[str]:
    """The files of the context that may be at a path: all of that name, where it was copied further above."""
    if path in given:
        return [given[path]]
    name = posixpath.basename(path)
    return [place for place in subject.tree.nodes if posixpath.basename(place) == name]


def _copies(copy: ast.Copy | ast.Add, visit: Visit, wanted: dict[str, str]) -> list[str]:
    """The COPYs of single files that go before: one per folder that they are in."""
    by_folder: dict[str, list[str]] = {}
    for path, source in wanted.items():
        if posixpath.basename(path) == posixpath.basename(source):
            by_folder.setdefault(posixpath.dirname(path), []).append(source)
    flags = [f"--{f.name}" + (f"={f.value}" if f.value is not None else "")
             for f in copy.flags if f.name in ("chown", "chmod", "link")]  # fmt: skip
    lines = []
    for folder, sources in by_folder.items():
        place = folder.rstrip("/") + "/"
        if not copy.dest.startswith("/") and (place + "/").startswith(visit.state.folder.rstrip("/") + "/"):
            place = "./" + (place[len(visit.state.folder.rstrip("/")) + 1 :])
        words = [*sources, place]
        bare = not any(character in word for word in words for character in " \t\"'\\$[]*?")
        lines.append(" ".join(["COPY", *flags, *(words if bare else [json.dumps(words)])]))
    return lines


def rewritten(
    dockerfile: ast.Dockerfile, copy: ast.Copy | ast.Add | ast.Arg, run: ast.Run, first: list[str]
) -> str:
    """The text with an instruction below the RUN, other lines where it was; comments above it go along."""
    lines = dockerfile.source.lines()
    own = {comment.span.line for comment in dockerfile.comments if comment.inside is None}
    begin = copy.span.line
    while begin - 1 in own and lines[begin - 2].strip():
        begin -= 1
    block = lines[begin - 1 : copy.span.last_line]
    between = lines[copy.span.last_line : run.span.last_line]
    return "\n".join([*lines[: begin - 1], *first, *between, *block, *lines[run.span.last_line :]])
