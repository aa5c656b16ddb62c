"""`pybuild push` and `pybuild pull`: docker's flags; its closing lines go to standard output, and alone.

What is transferred, and how, is `builder.images`'s. A push that has nothing to do is over before anything
heavy is loaded.
"""

from __future__ import annotations

import sys

from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.errors import BuildError, UsageError
from builder.oci import reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import TypeVar

    from builder.events import Emit
    from builder.images.downloads import Pulled, Wanted
    from builder.images.uploads import Pushed
    from builder.oci.reference import Reference
    from builder.store.root import Store

    T = TypeVar("T")

WHAT, SHOW, HOW = "What", "What is shown", "How"


def push(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """`pybuild push IMAGE [NAME]`."""
    if not 1 <= len(parsed.words) <= 2:
        wrong = "an image is missing" if not parsed.words else "an image and one name are taken, and no more"
        raise UsageError(wrong, hint="pybuild push IMAGE [NAME]")
    target = parsed.words[-1]
    name = _push_name(target)
    # A word alone is a name: an image's id would be pushed to docker.io under that id.
    source = parsed.words[0] if len(parsed.words) == 2 else name.familiar()
    everything = parsed.switch("all-tags")
    if everything and (len(parsed.words) > 1 or _has_tag(target)):
        raise UsageError("--all-tags takes a name without a tag")
    if path := parsed.text("digestfile"):
        from builder.commands import outputfiles

        outputfiles.check_place(path)
    root = root_of(parsed, environ)
    if not parsed.switch("quiet"):
        if not everything and not _has_tag(target):
            print(f"Using default tag: {name.tag}")
        print(f"The push refers to repository [{name.name}]", flush=True)
    if not (everything or parsed.switch("force") or parsed.text("platform")):
        from builder.unchanged import find_pushed

        known = _as_name(source)
        if known is not None and (there := find_pushed(root, known, [name], environ)) is not None:
            _tell_pushed(parsed, [(name, there.digest, len(there.data))])
            return 0
    from builder.store.root import open_store

    store = open_store(root)
    done = _run(parsed, environ, lambda emit: _push(parsed, environ, store, source, name, emit))
    for note in dict.fromkeys(pushed.note for pushed in done if pushed.note):
        print(f"note: {note}", file=sys.stderr)
    _tell_pushed(parsed, [(pushed.name, pushed.digest, pushed.size) for pushed in done])
    return 0


async def _push(
    parsed: Parsed, environ: Mapping[str, str], store: Store, source: str, name: Reference, emit: Emit
) -> list[Pushed]:
    from builder.commands.arguments import platform_of
    from builder.images import uploads

    names = uploads.names_of_repository(store, name.familiar_name()) if parsed.switch("all-tags") else [name]
    from builder.oci.connections import open_transport

    done: list[Pushed] = []
    async with open_transport(environ, insecure=_insecure(parsed, names), mirrors=False) as transport:
        for each in names:
            wanted = each.familiar() if parsed.switch("all-tags") else source
            done += await uploads.push(store, wanted, [each], platform_of(parsed), transport, emit)
    return done


def _tell_pushed(parsed: Parsed, done: Sequence[tuple[Reference, str, int]]) -> None:
    for name, digest, size in done:
        if parsed.switch("quiet"):
            print(name)
        else:
            print(f"{name.tag or digest}: digest: {digest} size: {size}")
    if path := parsed.text("digestfile"):
        from builder.commands import outputfiles

        outputfiles.write(path, done[-1][1])


def pull(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """`pybuild pull NAME...`."""
    if not parsed.words:
        raise UsageError("the name of an image is missing", hint="pybuild pull NAME")
    names = [_pull_name(text) for text in parsed.words]
    everything = parsed.switch("all-tags")
    if everything and any(_has_tag(text) for text in parsed.words):
        raise UsageError("--all-tags takes names without tags")
    quiet = parsed.switch("quiet")
    for text, name in zip(parsed.words, names, strict=True):
        if not quiet and not everything and not _has_tag(text):
            print(f"Using default tag: {name.tag}", flush=True)
    root = root_of(parsed, environ)
    wanted = _wanted(parsed, environ, root)
    from builder.store.root import open_store

    store = open_store(root)
    done = _run(parsed, environ, lambda emit: _pull(parsed, store, names, wanted, emit))
    for pulled in done:
        _tell_pulled(pulled, quiet=quiet)
    return 0


async def _pull(
    parsed: Parsed, store: Store, names: Sequence[Reference], wanted: Wanted, emit: Emit
) -> list[Pulled]:
    from builder.images import downloads
    from builder.remotecache.place import Connection

    connection = Connection(_insecure(parsed, names))
    try:
        if parsed.switch("all-tags"):
            names = [
                reference.Reference(name.registry, name.repository, tag, None)
                for name in names
                for tag in await downloads.tags_of(name, connection)
            ]
        return await downloads.pull(store, names, wanted, connection, emit)
    finally:
        await connection.close()


def _wanted(parsed: Parsed, environ: Mapping[str, str], root: str) -> Wanted:
    """What is to be pulled. Takes the place where layers are unpacked: so there may be no threads yet."""
    unpack = parsed.switch("unpack") if "unpack" in parsed else True
    if unpack:
        from builder.isolation.choose import stand
        from builder.isolation.rungs import AUTO, NONE

        unpack = stand(AUTO, root).isolation.rung != NONE  # else no step could stand on what is unpacked
    from builder.commands.arguments import DEFAULT_PLATFORM, platform_of
    from builder.images.downloads import Wanted
    from builder.images.find import this_machine

    platform = platform_of(parsed, environ.get(DEFAULT_PLATFORM, "")) or this_machine()
    whole = parsed.switch("all-platforms")
    return Wanted(platform, given=bool(parsed.text("platform")), whole=whole, unpack=unpack)


def _tell_pulled(pulled: Pulled, *, quiet: bool) -> None:
    name = pulled.name
    if quiet:
        print(name)
        return
    state = "Downloaded newer image for" if pulled.is_new else "Image is up to date for"
    print(f"Digest: {pulled.digest}\nStatus: {state} {name.familiar()}\n{name}")


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────


def _run(parsed: Parsed, environ: Mapping[str, str], work: Callable[[Emit], Coroutine[None, None, T]]) -> T:
    """Do the work, watched by the reader that was asked for, until it is done or a signal ends it."""
    from builder.commands.build import display_of
    from builder.commands.termination import hold_signals
    from builder.ui.reader import open_reader

    held = hold_signals()
    reader = open_reader(display_of(parsed, environ).progress, sys.stderr, environ)
    from builder.commands.drive import drive

    try:
        return drive(work(reader.emit), reader, held)
    finally:
        reader.close()


def _insecure(parsed: Parsed, names: Sequence[Reference]) -> tuple[str, ...]:
    """The registries of the names, where --tls-verify=false says so."""
    verified = parsed.switch("tls-verify") if "tls-verify" in parsed else True
    return () if verified else tuple({name.registry for name in names})


def _push_name(text: str) -> Reference:
    """A name that an image can have in a registry. Raises UsageError."""
    try:
        name = reference.parse(text)
    except reference.InvalidReference as error:
        raise UsageError(f"pybuild push {text}: {error.message}", hint=error.hint) from error
    if name.digest is not None:
        raise UsageError(f"pybuild push {text}: a digest is not chosen", hint="give a tag")
    if name.familiar_name() == "sha256":
        raise UsageError(f"pybuild push {text}: that is an id, and no name", hint="pybuild push IMAGE NAME")
    return name


def _pull_name(text: str) -> Reference:
    try:
        name = reference.parse(text)
    except reference.InvalidReference as error:
        raise UsageError(f"pybuild pull {text}: {error.message}", hint=error.hint) from error
    if name.familiar_name() in ("scratch", "sha256"):
        raise BuildError(f"{text} cannot be pulled: that is a reserved name")
    return name


def _as_name(text: str) -> Reference | None:
    try:
        return reference.parse(text)
    except reference.InvalidReference:
        return None


def _has_tag(text: str) -> bool:
    return "@" in text or ":" in text.rpartition("/")[2]


ALL_TAGS = Flag(name="all-tags", short="a", kind="switch", group=WHAT, help="all tags of the repository")
PLATFORM = Flag(name="platform", metavar="OS/ARCH", group=WHAT,
                help="of an image for several platforms this one alone")  # fmt: skip
COMMON = (
    Flag(name="progress", metavar="MODE", group=SHOW, help="auto, tty, plain, rawjson, quiet or none"),
    Flag(name="quiet", short="q", kind="switch", group=SHOW, help="print only the name"),
    Flag(name="tls-verify", kind="switch", group=HOW,
         help="=false: take plain HTTP, and certificates that nobody vouches for"),
    Flag(name="disable-content-trust", kind="switch"),
    *GLOBAL_FLAGS,
)  # fmt: skip
COMMANDS = {
    "push": Command(
        flags=(
            ALL_TAGS, PLATFORM,
            Flag(name="digestfile", metavar="FILE", group=WHAT,
                 help="write the digest of the manifest there"),
            Flag(name="force", kind="switch", group=HOW,
                 help="look for each blob, though the registry has the manifest"),
            *COMMON,
        ),
        run=push,
        usage="pybuild push [FLAGS] IMAGE[:TAG] [NAME[:TAG]]",
        about="Push an image of the local store to its registry, an index with all that it lists. "
        "With NAME it has that name there.",
    ),
    "pull": Command(
        flags=(
            ALL_TAGS, PLATFORM,
            Flag(name="all-platforms", kind="switch", group=WHAT, help="the images for all platforms"),
            Flag(name="unpack", kind="switch", group=HOW,
                 help="=false: leave the layers packed, until a build needs them"),
            *COMMON,
        ),
        run=pull,
        usage="pybuild pull [FLAGS] NAME[:TAG|@DIGEST]...",
        about="Take images out of registries into the local store.",
    ),
}  # fmt: skip
