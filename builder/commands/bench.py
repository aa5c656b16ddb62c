"""`pybuild bench`: how cache-friendly a Dockerfile is, by builds that are timed; which order would do better.

Its flags are the build's, but for what names, hands out or shows an image; they go to each build as typed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.commands import build, outputfiles, values
from builder.commands.build_flags import FLAGS as BUILD_FLAGS
from builder.commands.build_flags import OUT, SHOW, WHAT
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS
from builder.commands.tables import FORMAT, print_json, print_table, wants_json
from builder.commands.termination import unwind_on_signals
from builder.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from builder.bench.run import Bench
    from builder.bench.values import Result

SIGINT = 2
UNKNOWN_SECONDS = 1.0
LEFT_OUT = (
    "tag", "label", "call", "check", "on-failure", "no-cache", "no-cache-filter", "pull", "cache-from",
    "cache-to", "plan", "assume",
)  # fmt: skip
BENCH = "What is measured"
OWN_FLAGS = (
    Flag(name="file", short="f", metavar="FILE", group=WHAT,
         help="the Dockerfile (default CONTEXT/Dockerfile; - is standard input)"),
    Flag(name="rounds", metavar="N", group=BENCH, help="measure all of it so many times, and tell medians"),
    Flag(name="parts", metavar="N", group=BENCH,
         help="measure changes in at most so many parts of the context, and work out the rest (default 20)"),
    Flag(name="dry-run", kind="switch", group=BENCH,
         help="build nothing: work out what would run again, with the times of earlier builds"),
    Flag(name="keep", metavar="DIR", group=BENCH, help="leave the copy of the context and the store there"),
    FORMAT,
    Flag(name="plot", metavar="FILE.svg", group=SHOW, help="draw time and hits of each case into that file"),
)  # fmt: skip
_OTHERS = {*LEFT_OUT, *(flag.name for flag in (*OWN_FLAGS, *GLOBAL_FLAGS))}
PASSED = tuple(
    flag for flag in BUILD_FLAGS if flag.group and flag.group not in (OUT, SHOW) and flag.name not in _OTHERS
)
FLAGS = (*PASSED, *OWN_FLAGS, *GLOBAL_FLAGS)


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Measure, and tell what was found. Raises BuildError; Interrupted after telling what there is."""
    as_json = wants_json(parsed)
    plot = parsed.text("plot")
    _check_plot(plot)
    bench = _open(parsed, environ)
    unwind_on_signals()
    bench.prepare()
    if parsed.switch("dry-run"):
        _show(bench.result(known=_known(bench)), as_json=as_json, plot=plot)
        return 0
    try:
        bench.measure()
    except KeyboardInterrupt:
        if bench.timings:
            _show(bench.result(whole=False), as_json=as_json, plot=plot)
        raise Interrupted(SIGINT) from None
    _show(bench.result(), as_json=as_json, plot=plot)
    return 0


def _open(parsed: Parsed, environ: Mapping[str, str]) -> Bench:
    from builder.bench.run import Bench, Options

    rounds = values.whole_number(parsed.text("rounds", "1"), "--rounds")
    parts = values.whole_number(parsed.text("parts", "20"), "--parts")
    if rounds < 1:
        raise UsageError("--rounds 0: at least one round is measured")
    request = build.request_of(parsed, environ)
    options = Options(rounds, parts, parsed.text("keep"))
    return Bench(request, _passed(parsed), options, _tell)


def _passed(parsed: Parsed) -> list[str]:
    """The build's flags as they were typed, for each build."""
    names = {flag.name for flag in PASSED}
    return [f"--{name}={value}" for name, given in parsed.given.items() if name in names for value in given]


def _tell(line: str) -> None:
    from builder.ui.words import one_line

    print(one_line(line), file=sys.stderr, flush=True)


def _known(bench: Bench) -> dict[tuple[str, str], float]:
    """How long the steps took in the user's own builds, as far as these are recorded."""
    from builder.bench.model import text_of
    from builder.commands.graph import last_seconds

    program = bench.subject.program
    wanted = {vertex.digest: vertex for vertex in program.definition.reached(program.target)}
    found = last_seconds(os.path.join(bench.request.root, "builds"), wanted)
    steps = [v for v in wanted.values() if v.op_digest is not None and not v.about.internal]
    missing = [vertex for vertex in steps if vertex.digest not in found]
    if missing:
        told = f"{len(missing)} of {len(steps)} steps have none: a RUN counts as {UNKNOWN_SECONDS:.0f} s then"
        bench.notes.append(f"times are those of earlier builds; {told}")
        found |= {vertex.digest: UNKNOWN_SECONDS for vertex in missing if text_of(vertex).startswith("RUN")}
    return {(v.about.stage, text_of(v)): found[d] for d, v in wanted.items() if d in found}


def _check_plot(path: str) -> None:
    """Whether a plot can be written at the end is better known before."""
    if not path:
        return
    if not path.endswith(".svg"):
        raise UsageError(f"--plot {path}: plots are SVG files", hint="give a name that ends with .svg")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise UsageError(f"--plot {path}: the folder is not there")


def _show(result: Result, *, as_json: bool, plot: str) -> None:
    from builder.bench import report
    from builder.bench.plot import to_svg

    if plot:
        outputfiles.write(plot, to_svg(result))
    if as_json:
        print_json(report.to_json(result))
        return
    print_table(report.HEADINGS, report.rows(result))
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    lines = ["", *report.bars(result, ascii_only=ascii_only), "", *report.sentences(result)]
    sys.stdout.write("\n".join(lines).rstrip("\n") + "\n")


COMMAND = Command(
    flags=FLAGS,
    run=run,
    usage="pybuild bench [FLAGS] CONTEXT",
    about=(
        "Tell how cache-friendly a Dockerfile is. The context is built from nothing, again, and with one "
        "file changed in each of its top-level parts, on a copy and in a store of its own; then the order of "
        "instructions that would do better is told, as far as one is known to mean the same."
    ),
    closing="The context and your cache are not touched.\n"
    "Exit status: 0 measured, 1 the build fails, 2 bad usage, 130 interrupted.",
)
