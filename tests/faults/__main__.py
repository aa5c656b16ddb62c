"""`python -m tests.faults`: tries points and keeps a record; see `--help`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults import running
from tests.faults.points import KINDS
from tests.faults.scenes import SCENES


def main(words: Sequence[str] | None = None) -> int:
    parsed = _parser().parse_args(words)
    if parsed.verb == "summary":
        return running.summarise(Path(parsed.record))
    names = parsed.scene.split(",") if parsed.scene else [scene.name for scene in SCENES]
    if unknown := set(names) - {scene.name for scene in SCENES}:
        sys.exit(f"no such scene: {', '.join(sorted(unknown))}")
    plan = running.Plan(
        scenes=tuple(names), kinds=tuple(parsed.kind.split(",")), match=parsed.match, count=parsed.count,
        first=parsed.first, last=parsed.last, jobs=parsed.jobs, record=Path(parsed.record),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that all is put away
    return running.run(plan, listing=parsed.verb == "list")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Builds that meet faults.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, about in (("run", "try points, and go on where the record ends"), ("list", "show the points")):
        sub = verbs.add_parser(verb, help=about)
        sub.add_argument("--kind", default=",".join(KINDS), help=f"any of {','.join(KINDS)}")
        sub.add_argument("--scene", default="", help="names, by commas; all without")
        sub.add_argument("--match", default="", help="only points with this text in their name")
        sub.add_argument("--count", type=int, default=0, help="only so many, spread evenly")
        sub.add_argument("--first", type=int, default=0, help="number of the first point")
        sub.add_argument("--last", type=int, default=0, help="number after the last point; 0: no end")
        sub.add_argument("-j", "--jobs", type=int, default=2)
        sub.add_argument("--record", default="faults.jsonl")
    sub = verbs.add_parser("summary", help="what a record says")
    sub.add_argument("record")
    return parser


if __name__ == "__main__":
    sys.exit(main())
