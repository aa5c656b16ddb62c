"""`pybuild fsck`: whether the store is what it says, and its repair."""

from __future__ import annotations

from collections.abc import Mapping

from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.tables import FORMAT, print_json, wants_json
from builder.errors import UsageError
from builder.ui.words import one_line, plural


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Tell what is damaged, and mend it if asked to; 1 where damage is left."""
    as_json, repair = wants_json(parsed), parsed.switch("repair")
    if parsed.words:
        raise UsageError(f"pybuild fsck takes no words, not {parsed.words[0]!r}")
    from builder.fsck.check import check
    from builder.fsck.finding import TOLD
    from builder.isolation.choose import stand
    from builder.isolation.rungs import AUTO

    root = root_of(parsed, environ)
    stand(AUTO, root)  # files of layers may belong to users of a user namespace
    report = check(root, repair=repair)
    for finding in report.found:
        mended = finding in report.mended
        if as_json:
            print_json(
                {
                    "Kind": finding.kind,
                    "Object": finding.path,
                    "Problem": finding.problem,
                    "Remedy": TOLD[finding.mend],
                    "Repaired": mended,
                }
            )
            continue
        what = f"{finding.kind} {one_line(finding.path)}: {one_line(finding.problem)}"
        print(f"{what}; {TOLD[finding.mend]}" if mended else what)
    if not as_json:
        counts = report.counts
        looked = ", ".join(
            plural(count, noun)
            for count, noun in (
                (counts.blobs, "blob"), (counts.images, "image"), (counts.layers, "layer"),
                (counts.files, "file of layers"), (counts.records, "record"),
            )
        ).replace("file of layerss", "files of layers")  # fmt: skip
        if counts.unproven:
            print(f"{plural(counts.unproven, 'file')} could only be looked at: no digest of them is known")
        print(f"checked {looked}: {_verdict(len(report.found), len(report.mended))}")
    return 0 if report.is_clean else 1


def _verdict(found: int, mended: int) -> str:
    if not found:
        return "nothing is damaged"
    if found == mended:
        return f"{plural(found, 'finding')}, all repaired"
    if mended:
        return f"{plural(found, 'finding')}, {mended} repaired"
    return f"{plural(found, 'finding')}; --repair drops what is damaged, and it is made or fetched again"


COMMAND = Command(
    flags=(
        Flag(name="repair", kind="switch", group="What is done",
             help="drop what is damaged (the default only tells it), so that it is made or fetched again"),
        FORMAT, *GLOBAL_FLAGS,
    ),
    run=run,
    usage="pybuild fsck [FLAGS]",
    about="Check the store: every digest is derived again, of blobs, layers' files, images, records and stat "
    "caches, and what is damaged is told. It can be done while builds run.",
    closing="Exit status: 0 where nothing is damaged, or all of it was repaired; 1 where damage is left.",
)  # fmt: skip
