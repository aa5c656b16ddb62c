"""What lowering a stage needs besides its state: the stage, the build's options, and where vertices go.

One `Lowering` lives as long as one stage is lowered; it never changes. The definition that it adds to is
the only thing that grows. Labels ("[stage 2/7] RUN make") are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import msgspec
from msgspec.structs import replace

from builder.compiler import created_by, platforms, remotes, scope
from builder.compiler.growth import Counted, Growth
from builder.compiler.lock import Addresses
from builder.compiler.places import fault, place
from builder.compiler.program import CompileOptions
from builder.compiler.sources import FromContext, Source
from builder.compiler.state import StageState
from builder.digest import Digest
from builder.dockerfile.ast import AnyInstruction
from builder.dockerfile.words import WordError
from builder.errors import DockerfileError
from builder.graph.definition import About, Definition, Input
from builder.graph.op import Op
from builder.oci.spec import Platform
from builder.ops.files import Copy, InlineItem
from builder.ops.source import MAIN_CONTEXT, Git, Http, Local, Scratch
from builder.text import Location, SourceText

P = ParamSpec("P")


class Origin(msgspec.Struct, frozen=True):
    """Where files come from: a vertex, and the source that it is (None: the build context).

    with_owners: it is a context that was fetched or came as an archive, so its owners are meant.
    """

    vertex: Digest
    source: Source | None
    with_owners: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that the user gave: its owners are reset, its content is what counts."""
        return not self.with_owners and (self.source is None or isinstance(self.source, FromContext))


class Lowering(msgspec.Struct, frozen=True):
    """One stage being lowered.

    shown: the stage's name in labels, "" where there is only one stage. total: how many labels it has.
    onbuild: the instructions are triggers of what the stage stands on. growth: what all has come to;
    addresses: those that were come to.
    """

    definition: Definition
    options: CompileOptions
    text: SourceText
    escape: str
    globals: Mapping[str, str]
    shown: str
    total: int
    no_cache: bool
    onbuild: bool = False
    growth: Growth = msgspec.field(default_factory=Growth)
    addresses: Addresses = msgspec.field(default_factory=Addresses)

    def location(self, step: AnyInstruction) -> Location:
        """The place of an instruction."""
        return place(self.text, step)

    def fault(
        self,
        step: AnyInstruction,
        message: str,
        code: str,
        hint: str | None = None,
        *,
        flag: str = "",
        value: str | None = None,
    ) -> DockerfileError:
        """An error at an instruction, or at a flag of it, of several the one with this value."""
        return fault(place(self.text, step, flag, value), message, code=code, hint=hint)

    def expand(self, word: str, state: StageState, step: AnyInstruction) -> str:
        """A word of an instruction as it is meant in this state."""
        if "$" not in word:
            return scope.expand(word, state.variables, self.escape, self.location(step))
        text = scope.expand(word, self.counted(state), self.escape, self.location(step))
        self.bound(step, self.growth.add, len(text))
        return text

    def counted(self, state: StageState) -> Counted:
        """The variables of a state, of which lookups count for how large the Dockerfile becomes."""
        return Counted(state.variables, self.growth)

    def bound(
        self, step: AnyInstruction, check: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Ask whether something is within its bound (see growth). Raises DockerfileError where it is not."""
        try:
            check(*args, **kwargs)
        except WordError as error:
            raise self.fault(step, str(error), "too-large") from error

    def expand_all(self, words: tuple[str, ...], state: StageState, step: AnyInstruction) -> tuple[str, ...]:
        """Several words, each on its own."""
        return tuple(self.expand(word, state, step) for word in words)

    def refuse_nul(self, step: AnyInstruction, *texts: str) -> None:
        """Raise DockerfileError where a text that the kernel is told holds a NUL."""
        if "\0" in "".join(texts):
            raise self.fault(step, f"{step.keyword} holds a NUL character", "nul-character")

    def add(
        self, op: Op[Any, Any], inputs: tuple[Input, ...], state: StageState, step: AnyInstruction, text: str
    ) -> tuple[Digest, StageState]:
        """Add the vertex of an instruction; returns it, and the state with one more label counted."""
        number = state.steps + 1
        about = self.about(text, number, step, state.platform, state)
        return self.definition.add(op, inputs, about), replace(state, steps=number)

    def about(
        self,
        text: str,
        number: int,
        step: AnyInstruction,
        platform: Platform,
        state: StageState | None = None,
    ) -> About:
        """What people are told of an instruction's vertex; `state`: what the instruction met, if anything."""
        variables = state.variables if state is not None else {}
        shell = (state.config.shell or ("",))[0] if state is not None else ""
        where = platforms.shown(platform, variables) if self.options.several_platforms else ""
        label, location = self.label(text, number, where), self.location(step)
        return About(label, stage=self.shown, location=location, no_cache=self.no_cache, shell=shell)

    def label(self, text: str, number: int, platform: str = "") -> str:
        """`[stage 2/7] RUN make`, on one line; what a trigger does is called ONBUILD. With a platform it is
        `[linux/arm64 stage 2/7] RUN make`."""
        name = "".join(f"{part} " for part in (platform, self.shown) if part)
        trigger = "ONBUILD " if self.onbuild else ""
        line = created_by.valid(" ".join(text.split("\n")))
        return f"[{name}{number:>{len(str(self.total))}}/{self.total}] {trigger}{line}"

    def add_internal(self, op: Op[Any, Any], inputs: tuple[Input, ...], label: str) -> Digest:
        """Add a vertex that no instruction stands for."""
        return self.definition.add(op, inputs, About(label, internal=True))

    def scratch(self) -> Digest:
        """The empty filesystem."""
        return self.add_internal(Scratch(), (), "[internal] empty filesystem")

    def context(self) -> Origin:
        """The build context."""
        vertex = self.add_internal(Local(MAIN_CONTEXT), (), "[internal] load build context")
        return Origin(vertex, None, with_owners=not self.options.context_is_folder)

    def fetch(self, op: Git | Http, step: AnyInstruction) -> Digest:
        """What an instruction fetches; equal addresses are fetched once."""
        location = self.location(step)
        op = self.addresses.pin(op, location)
        return self.definition.add(op, (), fetching(op, location))

    def inline_file(self, name: str, content: str, mode: str) -> Digest:
        """A filesystem that holds one file."""
        op = Copy((InlineItem(name, content),), "/", chmod=mode)
        return self.add_internal(op, (Input(self.scratch()),), "[internal] prepare an inline file")


def fetching(op: Git | Http, location: Location | None, context: str = "") -> About:
    """What people are told of the vertex that fetches something, for a named context or an instruction."""
    text = op.url if isinstance(op, Http) else f"{op.remote}#{op.ref}:{op.subdir}".rstrip(":").rstrip("#")
    label = f"[context {context}] load {text}" if context else f"[fetch] {text}"
    return About(remotes.redact(created_by.valid(label)), location=location, internal=True)
