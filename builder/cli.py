"""The command line: which command was typed, what its errors look like, and how the process ends.

Only the first word after the global flags can be a subcommand; anything else is the build's. Exit status:
0 done, 1 failed, 2 bad usage, 130 interrupted, 143 terminated. Standard output carries only what was asked
for; all else goes to standard error. No decision about a build is taken here, and a traceback is shown
only with --debug. This is the start of a fully cached build: whatever is heavy is imported where used.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from errno import EAGAIN

from builder.commands.flags import nearest, parse
from builder.commands.store import GLOBAL_FLAGS
from builder.commands.termination import leave_soon, raise_again, unwind_on_signals
from builder.errors import BuildError, Interrupted, UsageError, raising_limit
from builder.home import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import NoReturn, TextIO

    from builder.commands.flags import Command, Parsed

SIGHUP, SIGINT, SIGPIPE, SIGTERM = 1, 2, 13, 15
FEW_COLLECTIONS = 50_000  # objects, from one to the next: imports and trees make many, and few circles
COMMANDS = {
    "build": "build an image from a Dockerfile",
    "images": "list the images of the local store",
    "tag": "give an image another name",
    "rmi": "remove names and images",
    "history": "show the steps that made an image",
    "inspect": "show an image's configuration and layers",
    "layers": "show what each layer of an image adds, and what is wasted",
    "diff": "show what differs between two images",
    "save": "write images into an archive",
    "load": "take images out of an archive into the store",
    "import": "make an image of a tarball",
    "pull": "take images out of registries into the store",
    "push": "bring images of the store to registries",
    "login": "log in at a registry",
    "logout": "forget the login for a registry",
    "lock": "write down what a Dockerfile's base images and addresses are now",
    "verify": "build an image again, and tell which file of which step differs",
    "du": "show what takes room in the store",
    "prune": "remove what the cache has, as far as it is not needed",
    "fsck": "check the store, and repair it",
    "debug": "go where the last failed RUN step failed, or show what it changed",
    "bench": "measure how cache-friendly a Dockerfile is, and tell which order would do better",
    "explain": "tell of a build why its steps ran",
    "doctor": "tell how RUN steps are isolated here, and what would be better",
}
RESERVED = (
    "run",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _try(words)
    except Interrupted as error:
        return _report_end(error, debug=_wants_debug(words))
    except KeyboardInterrupt:
        return _report_end(Interrupted(SIGINT))
    except SystemExit as end:
        if end.code not in (128 + SIGHUP, 128 + SIGTERM):
            raise
        return _report_end(Interrupted(end.code - 128))


def _try(words: list[str]) -> int:
    """Run a command line, and tell of what goes wrong; what interrupts that, too, is raised."""
    try:
        _prepare_process(debug=_wants_debug(words))
        status = _run(words, os.environ)
        sys.stdout.flush()
    except Interrupted:
        raise
    except BuildError as error:
        return _report(error, debug=_wants_debug(words))
    except BrokenPipeError:
        _drop(sys.stdout)
        return 128 + SIGPIPE
    except OSError as error:
        _drop(sys.stdout)
        from builder.store.failure import system_error

        return _report(system_error(error), debug=_wants_debug(words))
    except RuntimeError as error:
        if str(error) != "can't start new thread":  # threading has no error of its own for that
            raise
        return _report(_no_threads(error), debug=_wants_debug(words))
    return status


def script() -> NoReturn:
    """The whole process: `main`, and its end.

    Where no other thread is left, nothing is at work; so the process ends without taking the interpreter
    apart, which is a tenth of each build that has little to do.
    """
    gc.set_threshold(FEW_COLLECTIONS)
    sys.unraisablehook = raise_again
    status = main()
    _settle_progress()
    threading = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        atexit._run_exitfuncs()
        if _is_flushed():
            os._exit(status)
    sys.exit(status)


def _settle_progress() -> None:
    """What a reader who has gone did not take is given up: held back, it fails Python's own end (120)."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _drop(sys.stderr)


def _is_flushed() -> bool:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return False
    return True


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that is meant, and its own words: global flags typed before it are moved behind it.

    Raises UsageError for a reserved word that names no command yet.
    """
    takes_value = {f"--{flag.name}" for flag in GLOBAL_FLAGS if flag.kind != "switch"}
    switches = {f"--{f.name}" for f in GLOBAL_FLAGS} | {f"-{f.short}" for f in GLOBAL_FLAGS if f.short}
    index = 0
    while index < len(words) and words[index].partition("=")[0] in takes_value | switches:
        index += 2 if words[index] in takes_value else 1
    word = words[index] if index < len(words) else ""
    if word in COMMANDS:
        return word, [*words[:index], *words[index + 1 :]]
    if word in RESERVED:
        hint = f"a folder of this name is written ./{word}" if os.path.isdir(word) else None
        raise UsageError(f"{word} is not available in this version", hint=hint)
    return "build", list(words)


def _run(words: list[str], environ: Mapping[str, str]) -> int:
    if not words:
        sys.stderr.write(_overview())
        return 2
    name, rest = split_command(words)
    command = _command(name)
    parsed = parse(command.flags, rest)
    if parsed.switch("version"):
        from builder import __version__

        print(f"pybuild {__version__}")
        return 0
    if parsed.switch("help"):
        from builder.commands import usage

        sys.stdout.write(usage.render(command) if name in words else _overview())
        return 0
    try:
        return command.run(parsed, environ)
    except UsageError as error:
        raise _with_command_hint(error, name, parsed) from error.__cause__


def _command(name: str) -> Command:
    if name == "build":
        from builder.commands import build

        return build.COMMAND
    if name == "debug":
        from builder.commands import debug

        return debug.COMMAND
    if name == "explain":
        from builder.commands import explain

        return explain.COMMAND
    if name == "bench":
        from builder.commands import bench

        return bench.COMMAND
    if name == "doctor":
        from builder.commands import doctor

        return doctor.COMMAND
    if name in ("push", "pull"):
        from builder.commands import transfers

        return transfers.COMMANDS[name]
    unwind_on_signals()
    if name == "fsck":
        from builder.commands import fsck

        return fsck.COMMAND
    if name in ("login", "logout"):
        from builder.commands import login

        return login.COMMANDS[name]
    if name == "lock":
        from builder.commands import lock

        return lock.COMMAND
    if name == "verify":
        from builder.commands import verify

        return verify.COMMAND
    if name in ("du", "prune"):
        from builder.commands import room

        return room.COMMANDS[name]
    return _image_command(name)


def _image_command(name: str) -> Command:
    if name in ("history", "inspect"):
        from builder.commands import describing

        return describing.COMMANDS[name]
    if name in ("save", "load", "import"):
        from builder.commands import archives

        return archives.COMMANDS[name]
    if name == "diff":
        from builder.commands import diff

        return diff.COMMANDS[name]
    if name == "layers":
        from builder.commands import layers

        return layers.COMMANDS[name]
    from builder.commands import images

    return images.COMMANDS[name]


def _with_command_hint(error: UsageError, name: str, parsed: Parsed) -> UsageError:
    """Where a build was called with a mistyped command's name, say so."""
    if error.hint is None and name == "build" and len(parsed.words) > 1:
        error.hint = nearest(parsed.words[0], COMMANDS)
    return error


def _overview() -> str:
    from builder.commands import usage

    rows = usage.table(COMMANDS.items())
    return (
        "Usage: pybuild [build] [FLAGS] CONTEXT\n       pybuild COMMAND [FLAGS] ...\n\n"
        "Build OCI images from Dockerfiles: in parallel, with a content-addressed cache, and no daemon.\n\n"
        f"Commands:\n{rows}\n\n"
        "  pybuild -t app:1.0 .               build the current folder\n"
        "  pybuild -t app:1.0 -o app.tar .    see `pybuild build --help` for all of it\n"
    )


def _prepare_process(*, debug: bool) -> None:
    """Streams that take any character, a home that is known, defects told in one line."""
    _open_missing_streams()
    os.umask(os.umask(0o077) & 0o077)  # what a build makes it must be able to read
    settle(os.environ)
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)
    if not debug:
        sys.excepthook = _report_defect


def _open_missing_streams() -> None:
    """Where a standard stream was closed, no other file may take its number: output would end up in it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # Takes the lowest free number, which is this one. What is written to it as a file cannot be lost
            # without a word.
            os.open(os.devnull, os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process is
    if sys.stdout is None:
        sys.stdout = _writer(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    if sys.stderr is None:
        sys.stderr = _writer(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))


def _writer(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", closefd=False)


def _wants_debug(words: Sequence[str]) -> bool:
    flags = words[: words.index("--")] if "--" in words else words
    return "--debug" in flags or "-D" in flags


def _report(error: BuildError, *, debug: bool) -> int:
    """Show an error on standard error; returns the exit status that it means."""
    from builder.ui.diagnostics import render
    from builder.ui.stream import Stream, allows_color

    if debug:
        import traceback

        Stream(sys.stderr).write("".join(traceback.format_exception(error)))
    text = render(error, color=allows_color(sys.stderr, os.environ))
    Stream(sys.stderr).write(text)
    return error.exit_code


def _report_end(error: Interrupted, *, debug: bool = False) -> int:
    leave_soon(error.exit_code - 128)
    return _report(error, debug=debug)


def _report_defect(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Tell in one line of something that no code raised on purpose (a `sys.excepthook`)."""
    if issubclass(kind, KeyboardInterrupt):  # one that came before another was told of, or behind all work
        status = _report_end(Interrupted(SIGINT))
        _is_flushed()
        os._exit(status)
    summary = f"{kind.__name__}: {error}" if str(error) else kind.__name__
    hint = "this is a defect of pybuild; --debug shows where it is"
    _report(BuildError(f"pybuild itself went wrong: {summary}", code="internal", hint=hint), debug=False)


def _no_threads(error: RuntimeError) -> BuildError:
    told = BuildError(
        "no more threads can be started",
        code="too-many-processes",
        hint=raising_limit(EAGAIN),
    )
    told.__cause__ = error
    return told


def _drop(stream: TextIO) -> None:
    """Nobody can take what is still held back for this stream: let nothing try at the end."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # not a stream of the system
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
    except OSError:  # no more files, or a root without devices: then it cannot be helped
        return
    os.dup2(null, fd)
    os.close(null)
