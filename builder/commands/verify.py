"""`pybuild verify`: an image is built again from nothing, and compared with what it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.commands import build
from builder.commands.build_flags import FLAGS as BUILD_FLAGS
from builder.commands.build_flags import OUT, SHOW
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.plan import format_of, print_document
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.termination import unwind_on_signals
from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.outset import Outset
    from builder.request import BuildRequest
    from builder.result import BuildResult
    from builder.verify.rebuild import Verification

DONE = "What is done"
NAMES = ("first", "second")  # of the rebuilds
LEFT_OUT = (
    "tag", "call", "check", "plan", "assume", "format", "on-failure", "no-cache", "no-cache-filter", "pull",
    "cache-from", "cache-to",
)  # fmt: skip
# What a record of a build does not keep, or what does not matter to the image: taken beside one, too.
BESIDE = frozenset(("build-arg", "build-context", "secret", "ssh", "offline", "jobs"))
_OWN = (
    Flag(name="twice", kind="switch", group=DONE,
         help="build it twice, and compare the two with each other, too"),
    Flag(name="ignore-times", kind="switch", group=DONE,
         help="exit with 0 where nothing but times differs; it is told all the same"),
    Flag(name="progress", metavar="MODE", group=SHOW, help="auto, tty, plain, rawjson, quiet or none"),
    Flag(name="quiet", short="q", kind="switch", group=SHOW, help="do not show the builds"),
    Flag(name="format", metavar="FORMAT", group=SHOW, help="text (default) or json"),
)  # fmt: skip
_OTHERS = {*LEFT_OUT, *(flag.name for flag in (*_OWN, *GLOBAL_FLAGS))}
PASSED = tuple(
    flag
    for flag in BUILD_FLAGS
    if flag.name == "output" or (flag.group not in ("", SHOW, OUT) and flag.name not in _OTHERS)
)


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Verify, and tell what differs; 1 is an image that is not reproduced. Raises BuildError."""
    form = format_of(parsed)
    image, words = _split(parsed)
    display = build.display_of(parsed, environ)
    unwind_on_signals()
    from builder.store.root import open_store
    from builder.verify import told
    from builder.verify.rebuild import Verification

    store = open_store(root_of(parsed, environ))
    verification = Verification(store, image)
    request = _request(parsed, environ, verification, words)
    from builder.outset import Outset, set_out

    outset = set_out(request, {})  # before there are threads
    with verification:
        verification.prepare(request)
        for name in NAMES if parsed.switch("twice") else NAMES[:1]:
            asked = verification.begin(request, name)
            verification.take(name, _build(asked, outset, display.progress, environ))
            outset = Outset(outset.standing, None, {})  # the process for steps ended with the build
        verdict = verification.verdict()
    if form == "json":
        print_document(told.document_of(verdict))
    else:
        sys.stdout.write(told.text_of(verdict))
    is_well = verdict.is_same or (parsed.switch("ignore-times") and verdict.only_times)
    return 0 if is_well else 1


def _split(parsed: Parsed) -> tuple[str, list[str]]:
    """The image, and the words behind it: its context, if it is named."""
    image, *words = parsed.words or [""]
    if not image:
        raise UsageError("the image is missing", hint="`pybuild verify app:1.0 --twice` verifies that one")
    if len(words) > 1:
        raise UsageError(f"one build context is taken, not {len(words)}: {' '.join(words)}")
    return image, words


def _request(
    parsed: Parsed, environ: Mapping[str, str], verification: Verification, words: list[str]
) -> BuildRequest:
    """What is built again: as it is typed where the context is, else as it is recorded.

    How the image is written and its time are as they are recorded, where nobody typed them.
    """
    parsed.words = words or ["."]
    request = build.request_of(parsed, environ)
    from builder.verify.recorded import complete, find_request

    store, digest = verification.store, verification.row["digest"]
    if words:
        return complete(store, digest, request, environ)
    for flag in PASSED:
        is_beside = flag.name in BESIDE or (flag.name == "network" and request.network_helper)
        if flag.name in parsed and not is_beside:
            raise UsageError(
                f"--{flag.name} goes with a CONTEXT: without one, the build is as its record says",
                hint=f"`pybuild verify {verification.wanted} CONTEXT` with all flags of the build",
            )
    return find_request(store, digest, verification.wanted, request)


def _build(request: BuildRequest, outset: Outset, mode: str, environ: Mapping[str, str]) -> BuildResult:
    """One rebuild, watched by the reader that was asked for."""
    from builder.build import build as build_image
    from builder.commands.drive import drive
    from builder.ui.reader import open_reader

    reader = open_reader(mode, sys.stderr, environ)
    try:
        return drive(build_image(request, reader.emit, outset), reader)
    finally:
        outset.close()
        reader.close()
        unwind_on_signals()


COMMAND = Command(
    flags=(*_OWN, *PASSED, *GLOBAL_FLAGS),
    run=run,
    usage="pybuild verify [FLAGS] IMAGE [CONTEXT]",
    about="Build an image of the store again, from empty caches, and tell which file of which step is not "
    "what it was, and how: by content, size, mode, owner, time, or being there at all. Base images and "
    "contexts are those that are here. The build is as its record says, or as the flags say that are typed "
    "with a CONTEXT.",
    closing="Exit status: 0 reproduced, 1 something differs, or the build fails, 2 bad usage.",
)
