"""The syntax tree: one frozen value per instruction, each with its span.

Words are as written: quotes, escapes and `${…}` are still in them (`words.expand` gives them meaning).
Pure data; knows nothing of images or files.
"""

from __future__ import annotations

import msgspec

from builder.text import SourceText, Span


class Flag(msgspec.Struct, frozen=True):
    """`--name=value`; `value` is None for a bare `--name`."""

    name: str
    value: str | None
    span: Span


class Heredoc(msgspec.Struct, frozen=True):
    """`<<NAME` and its body; `expand` is false for a quoted name, `strip_tabs` true for `<<-`.

    `content` is raw: for `<<-` tabs are still there (`text` takes them off). `marker` is the whole word as it
    stands in the line (`<<-"NAME"`), and so among the sources of COPY and ADD; of two with one name the last
    counts for both.
    """

    name: str
    content: str
    expand: bool
    strip_tabs: bool
    descriptor: str
    span: Span
    marker: str = ""

    @property
    def text(self) -> str:
        """The body as the program reads it."""
        if not self.strip_tabs:
            return self.content
        return without_tabs(self.content)


def without_tabs(text: str) -> str:
    """The text without the tabs that its lines begin with, as `<<-` has it."""
    return "\n".join(line.lstrip("\t") for line in text.split("\n"))


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """What all instructions have.

    `keyword` is upper case; `original` is the logical line as joined (continuations removed), which
    history and messages show; `comments` are what the comment lines above say of it, without `#`: those back
    to an empty comment (`Dockerfile.comments` has them all); `gaps` are the numbers of the empty lines inside
    its continuation, which a check warns of.
    """

    keyword: str
    original: str
    span: Span
    flags: tuple[Flag, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    gaps: tuple[int, ...] = ()

    def flag(self, name: str) -> str | None:
        """The value of the last flag of that name; a bare flag gives ""; None: not given."""
        found: str | None = None
        for flag in self.flags:
            if flag.name == name:
                found = flag.value or ""
        return found


class Command(msgspec.Struct, frozen=True):
    """Exec form: the array's strings. Shell form (`shell` true): one word, the text."""

    words: tuple[str, ...]
    shell: bool


class From(Instruction, frozen=True, tag="FROM"):
    """FROM image [AS name]; the name is in lower case (`original` has it as written)."""

    image: str
    name: str | None = None


class Run(Instruction, frozen=True, tag="RUN"):
    """RUN; in the shell form the command's text holds the heredoc markers, `heredocs` the bodies."""

    command: Command


class Copy(Instruction, frozen=True, tag="COPY"):
    """COPY; sources that are heredocs stand in `sources` as their marker word (`<<EOF`)."""

    sources: tuple[str, ...]
    dest: str


class Add(Instruction, frozen=True, tag="ADD"):
    """ADD; as COPY."""

    sources: tuple[str, ...]
    dest: str


class Pair(msgspec.Struct, frozen=True):
    """NAME=value; `value` None: no `=` was there (ARG only)."""

    name: str
    value: str | None


class Env(Instruction, frozen=True, tag="ENV"):
    """ENV; `legacy` for the `ENV NAME rest of line` form."""

    pairs: tuple[Pair, ...]
    legacy: bool = False


class Arg(Instruction, frozen=True, tag="ARG"):
    """ARG."""

    pairs: tuple[Pair, ...]


class Label(Instruction, frozen=True, tag="LABEL"):
    """LABEL."""

    pairs: tuple[Pair, ...]
    legacy: bool = False


class Expose(Instruction, frozen=True, tag="EXPOSE"):
    """EXPOSE."""

    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, tag="VOLUME"):
    """VOLUME."""

    paths: tuple[str, ...]


class User(Instruction, frozen=True, tag="USER"):
    """USER."""

    user: str


class Workdir(Instruction, frozen=True, tag="WORKDIR"):
    """WORKDIR."""

    path: str


class Cmd(Instruction, frozen=True, tag="CMD"):
    """CMD."""

    command: Command


class Entrypoint(Instruction, frozen=True, tag="ENTRYPOINT"):
    """ENTRYPOINT."""

    command: Command


class Healthcheck(Instruction, frozen=True, tag="HEALTHCHECK"):
    """HEALTHCHECK; `command` None is HEALTHCHECK NONE."""

    command: Command | None


class Stopsignal(Instruction, frozen=True, tag="STOPSIGNAL"):
    """STOPSIGNAL."""

    signal: str


class Shell(Instruction, frozen=True, tag="SHELL"):
    """SHELL."""

    words: tuple[str, ...]


class Onbuild(Instruction, frozen=True, tag="ONBUILD"):
    """ONBUILD; `trigger` is the raw text (with heredoc bodies), parsed only when it is used."""

    trigger: str


class Maintainer(Instruction, frozen=True, tag="MAINTAINER"):
    """MAINTAINER."""

    name: str


AnyInstruction = (
    From | Run | Copy | Add | Env | Arg | Label | Expose | Volume | User | Workdir | Cmd | Entrypoint
    | Healthcheck | Stopsignal | Shell | Onbuild | Maintainer
)  # fmt: skip


class Directive(msgspec.Struct, frozen=True):
    """A parser directive at the top: `# name=value`, the name in lower case."""

    name: str
    value: str
    span: Span


class Comment(msgspec.Struct, frozen=True):
    """A comment line: its `text` from the `#` on as written, but for blanks at its end.

    `inside` is set for one between the lines of a continued instruction: how many characters of that one's
    `original` stand before it.
    """

    text: str
    span: Span
    inside: int | None = None


class Dockerfile(msgspec.Struct, frozen=True):
    """A parsed Dockerfile. `comments` are all that there are, in order; below a shebang directives, too."""

    source: SourceText
    directives: tuple[Directive, ...]
    escape: str
    instructions: tuple[AnyInstruction, ...]
    comments: tuple[Comment, ...] = ()
