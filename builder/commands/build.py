"""`pybuild build`: from flags to a BuildRequest, and from a BuildResult to what a script reads.

Its flags have docker buildx's names and meanings. How a build is done is `builder.build`'s; here is only
what was asked for, who watches (`ui`), and what goes to standard output and to files.
On the path of a fully cached build: whatever is heavy is imported where it is needed.
"""

from __future__ import annotations

import os
import sys

from builder.commands import values
from builder.commands.build_flags import FLAGS, LIMITS, UNAVAILABLE
from builder.commands.flags import Command, Parsed, nearest
from builder.commands.store import root_of
from builder.commands.termination import hold_signals, stop_on_signals, unwind_on_signals
from builder.dockerproxies import find_proxies
from builder.errors import BuildError, UsageError
from builder.request import AttestSpec, BuildRequest, StepLimits
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.aftermath import Entrance
    from builder.commands.build_calls import Call
    from builder.contexts import Context
    from builder.request import CacheFrom, CacheTo
    from builder.result import BuildResult
    from builder.ui.reader import Reader

USAGE = "pybuild [build] [FLAGS] CONTEXT"
ABOUT = (
    "Build an image from a Dockerfile. CONTEXT is a folder, the URL of an archive or of a git repository "
    "(#REF:FOLDER), or - to read an archive or a Dockerfile from standard input. "
    "Without --output the image goes to the local store, under the names that -t gives."
)
CLOSING = """\
Environment: PYBUILD_ROOT, PYBUILD_CONFIG, BUILDKIT_PROGRESS, SOURCE_DATE_EPOCH, DOCKER_DEFAULT_PLATFORM,
NO_COLOR, FORCE_COLOR.
Exit status: 0 built, 1 the build failed, or --check found something, 2 bad usage, 130 interrupted,
143 terminated."""

CALLS = ("call", "check", "print")
ATTESTS = ("provenance", "sbom", "attest", "attest-as")
ATTEST_ARG = "BUILDKIT_ATTEST_"  # build args that mean the same
PROGRESS = ("auto", "none", "plain", "quiet", "rawjson", "tty")


class Display(Value):
    """What is to be shown: a progress mode, and whether the digest goes to standard output."""

    progress: str
    digest: bool


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Build as the command line says. Raises BuildError; returns the exit status."""
    request = request_of(parsed, environ)
    if "plan" in parsed or "assume" in parsed or "format" in parsed:
        from builder.commands.plan import is_wanted, show_plan

        if is_wanted(parsed):
            unwind_on_signals()
            return show_plan(parsed, request)
    if (call := _call_of(parsed)) is not None:
        from builder.commands.calls import show

        unwind_on_signals()
        return show(request, call)
    display = display_of(parsed, environ)
    _check_streams(request, display)
    _check_files(request)
    _warn_of_security_options(parsed, display)
    entrance = _entrance_of(parsed, environ)
    result = _build(request, display, environ, entrance)
    _write_files(request, result)
    if display.digest and result.image:
        print(result.image)
    return 0


def request_of(parsed: Parsed, environ: Mapping[str, str]) -> BuildRequest:
    """The request that the flags make. Reads nothing but docker's proxies, and looks for secrets' files."""
    _refuse_unavailable(parsed)
    network, helper = values.network(parsed.text("network"))
    args = values.pairs(parsed.all("build-arg"), "--build-arg")
    outputs = tuple(values.output(text) for text in parsed.all("output"))
    allowed = values.allowed_deletes(parsed.all("allow"), outputs)
    platform = values.platform(parsed.all("platform") or [environ.get("DOCKER_DEFAULT_PLATFORM", "")])
    if parsed.text("iidfile") and any(spec.type in ("local", "tar", "cacheonly") for spec in outputs):
        raise UsageError("--iidfile needs an image, which a local, tar or cacheonly output does not make")
    request = BuildRequest(
        context=_context(parsed.words),
        root=root_of(parsed, environ),
        root_flag=parsed.text("root"),
        dockerfile=parsed.text("file") or None,
        tags=tuple(dict.fromkeys(values.image_name(text, "-t") for text in parsed.all("tag"))),
        build_args=args,
        proxies=find_proxies(environ),
        target=parsed.text("target"),
        labels={key: value or "" for key, value in values.pairs(parsed.all("label"), "--label").items()},
        contexts=values.named_contexts(parsed.all("build-context")),
        no_cache=parsed.switch("no-cache"),
        no_cache_filter=tuple(s for v in parsed.all("no-cache-filter") for s in v.split(",") if s),
        outputs=outputs,
        load=parsed.switch("load"),
        push=parsed.switch("push"),
        platform=platform,
        one_as_several=values.one_as_several(args, environ, platform),
        pull=parsed.switch("pull"),
        network=network,
        network_helper=helper,
        add_hosts=values.add_hosts(parsed.all("add-host"), helper) if "add-host" in parsed else (),
        shm_size=values.byte_size(parsed.text("shm-size"), "--shm-size") if parsed.text("shm-size") else 0,
        ulimits=tuple(values.ulimit(text) for text in parsed.all("ulimit")),
        secrets=tuple({s.id: s for s in (values.secret(t, environ) for t in parsed.all("secret"))}.values()),
        ssh=values.ssh(parsed.all("ssh"), environ),
        allow=values.entitlements(allowed, network),
        cdi_spec_dirs=tuple(parsed.all("cdi-spec-dir")),
        iidfile=parsed.text("iidfile") or None,
        metadata_file=parsed.text("metadata-file") or None,
        limits=_limits_of(parsed),
        reproducible=parsed.switch("reproducible"),
        annotations=values.annotation_attributes(parsed.all("annotation")),
        squash=parsed.switch("squash"),
        attests=_attests(parsed, args),
        sign=parsed.text("sign"),
        isolation=values.isolation(parsed.text("isolation")),
        runtime=parsed.text("runtime"),
        require_isolation=values.required_isolation(parsed.text("require-isolation")),
        jobs=values.whole_number(parsed.text("jobs"), "--jobs") if parsed.text("jobs") else 0,
        cache_from=_cache_from(parsed),
        cache_to=_cache_to(parsed, args),
        locked=parsed.switch("locked"),
        offline=parsed.switch("offline"),
    )
    if request.locked or request.offline:
        from builder.commands import lock_values

        lock_values.check(request)
    return request


def _cache_from(parsed: Parsed) -> tuple[CacheFrom, ...]:
    if "cache-from" not in parsed:
        return ()
    from builder.commands.cache_values import cache_from

    return cache_from(parsed.all("cache-from"))


def _cache_to(parsed: Parsed, args: Mapping[str, str | None]) -> tuple[CacheTo, ...]:
    if "cache-to" not in parsed and "BUILDKIT_INLINE_CACHE" not in args:
        return ()
    from builder.commands.cache_values import cache_to

    return cache_to(parsed.all("cache-to"), args)


def _attests(parsed: Parsed, args: Mapping[str, str | None]) -> AttestSpec:
    if not any(name in parsed for name in ATTESTS) and not any(name.startswith(ATTEST_ARG) for name in args):
        return AttestSpec()
    from builder.commands.attest_values import attests

    return attests(parsed, args)


def _limits_of(parsed: Parsed) -> StepLimits:
    """What RUN steps may use; nothing is loaded for it where nothing is asked for."""
    if not any(name in parsed for name in LIMITS):
        return StepLimits()
    from builder.commands.limit_values import limits_of

    return limits_of(parsed)


def display_of(parsed: Parsed, environ: Mapping[str, str]) -> Display:
    """What to show: -q, --progress, BUILDKIT_PROGRESS; "quiet" prints the digest, "none" does not."""
    mode = parsed.text("progress") or environ.get("BUILDKIT_PROGRESS") or "auto"
    if mode not in PROGRESS:
        hint = nearest(mode, PROGRESS) or f"the modes are {', '.join(PROGRESS)}"
        typed = f"--progress {mode}" if parsed.text("progress") else f"BUILDKIT_PROGRESS={mode}"
        raise UsageError(f"{typed}: no such mode", hint=hint)
    if parsed.switch("quiet"):
        if parsed.text("progress") not in ("", "auto", "quiet", "none"):
            raise UsageError(f"--quiet and --progress {mode} cannot be used together")
        return Display(progress="quiet", digest=True)
    if mode == "none":
        return Display(progress="quiet", digest=False)
    return Display(progress=mode, digest=mode == "quiet")


def _call_of(parsed: Parsed) -> Call | None:
    """What is asked for instead of a build."""
    if not any(name in parsed for name in CALLS):
        return None
    from builder.commands.build_calls import call_of

    return call_of(parsed)


def _entrance_of(parsed: Parsed, environ: Mapping[str, str]) -> Entrance | None:
    """Who goes in where a step fails: nobody, or a person at this terminal. Raises UsageError."""
    if (chosen := parsed.text("on-failure", "none")) == "none":
        return None
    if chosen != "shell":
        raise UsageError(f"--on-failure {chosen}: no such thing", hint="it is shell, or none (the default)")
    from builder.commands.entrance import open_entrance

    return open_entrance(environ)


def _warn_of_security_options(parsed: Parsed, display: Display) -> None:
    if "security-opt" not in parsed:
        return
    from builder.commands.securityoptions import without_effect

    for line in without_effect(parsed.all("security-opt")):
        if display.progress != "quiet":
            print(f"warning: {line}", file=sys.stderr)


def _build(
    request: BuildRequest, display: Display, environ: Mapping[str, str], entrance: Entrance | None
) -> BuildResult:
    """Build, watched by the reader that was asked for."""
    from builder.ui.reader import open_reader

    reader = open_reader(display.progress, sys.stderr, environ)
    try:
        return _solve(request, reader, entrance)
    finally:
        reader.close()


def _solve(request: BuildRequest, reader: Reader, entrance: Entrance | None) -> BuildResult:
    """A build that needs no work, else one that does."""
    from builder.warm import try_warm

    seen: dict[str, Context] = {}

    def without_work() -> BuildResult | None:
        return try_warm(request, reader.emit, seen)

    result = stop_on_signals(without_work) if request.outputs else without_work()
    if result is not None:
        return result
    held = hold_signals()
    from builder.outset import set_out

    outset = set_out(request, seen)  # before there are threads
    from builder.build import build
    from builder.commands.drive import drive

    try:
        return drive(build(request, reader.emit, outset, entrance), reader, held)
    except BuildError as error:
        _offer_room(error, request)
        raise
    finally:
        outset.close()  # of a build that was stopped before it began


def _offer_room(error: BuildError, request: BuildRequest) -> None:
    """Say of a full disk how much could go."""
    from builder.store.failure import is_full_disk

    if is_full_disk(error):
        from builder.commands.offer import add_offer

        add_offer(error, request.root, request.root_flag)


def _refuse_unavailable(parsed: Parsed) -> None:
    for name in UNAVAILABLE:
        if name in parsed and parsed.text(name) not in ("", "false"):
            raise UsageError(f"--{name} is {values.LATER}")


def _context(words: list[str]) -> str:
    if not words:
        raise UsageError("the build context is missing", hint="`pybuild -t NAME .` builds the current folder")
    if len(words) > 1:
        raise UsageError(f"one build context is taken, not {len(words)}: {' '.join(words)}")
    if not words[0]:
        raise UsageError("the build context is empty", hint="write . for the current folder")
    return words[0]


def _check_streams(request: BuildRequest, display: Display) -> None:
    values.check_outputs(request.outputs, stdout_is_terminal=sys.stdout.isatty())
    if any(spec.dest == "-" for spec in request.outputs) and not _is_writable(1):
        raise UsageError("standard output is closed, and an output goes there", hint="give dest=FILE")
    if display.digest and any(spec.dest == "-" for spec in request.outputs):
        raise UsageError("--quiet prints the digest on standard output, where an output goes too")


def _is_writable(fd: int) -> bool:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _check_files(request: BuildRequest) -> None:
    """Raise BuildError for a file that could not be written at the end; an old --iidfile goes."""
    if not (request.iidfile or request.metadata_file):
        return
    from builder.commands import outputfiles

    if request.iidfile:
        outputfiles.remove_stale(request.iidfile)
        outputfiles.check_place(request.iidfile)
    if request.metadata_file:
        outputfiles.check_place(request.metadata_file)


def _write_files(request: BuildRequest, result: BuildResult) -> None:
    """The files for scripts: the manifest's digest, and the metadata with buildx's names."""
    if not (request.iidfile or request.metadata_file):
        return
    from builder.commands import outputfiles

    if request.iidfile:
        outputfiles.write(request.iidfile, result.image or "")
    if request.metadata_file:
        import json

        outputfiles.write(request.metadata_file, json.dumps(result.metadata, indent=2, sort_keys=True))


COMMAND = Command(flags=FLAGS, run=run, usage=USAGE, about=ABOUT, closing=CLOSING)
