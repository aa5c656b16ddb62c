"""`pybuild du` and `pybuild prune`: what takes room in the store, and its removal, as docker buildx has it.

What there is, and what goes, is `builder.room`'s; here are words, columns and formats.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.commands import values
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.tables import FORMAT, ago, print_json, print_table
from builder.errors import BuildError, UsageError
from builder.ui.report import reason_words
from builder.ui.words import one_line, plural, size

if TYPE_CHECKING:
    from builder.room.items import Item, World
    from builder.room.removal import Outcome
    from builder.room.rules import Removal, Rule
    from builder.store.root import Store

    Environ = Mapping[str, str]

SHOWN, WHAT = "What is shown", "What goes"
HEADINGS = ("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED")
FORMATS = ("table", "pretty", "json")
YES = ("y", "yes")
QUESTIONS = {
    False: "WARNING! This removes all that the cache has and no image with a name needs.",
    True: "WARNING! This removes all of the cache, and failed steps that are kept.",
}


def show_usage(parsed: Parsed, environ: Environ) -> int:
    """`pybuild du`: every item, the last used first, and sums."""
    form = _form(parsed)
    _expect_no_words(parsed, "pybuild du")
    from builder.room import facts, filters
    from builder.room.folders import read_folders
    from builder.room.items import World, items_of
    from builder.store.root import open_store

    chosen = filters.parse(parsed.all("filter"))
    store = open_store(root_of(parsed, environ))
    world = World(facts.read(store), read_folders(store.folder))
    now = time.time()
    items = [item for item in items_of(world) if chosen.matches(item, now)]
    _print_items(items, form)
    if chosen.is_empty and form != "json":
        shared = sum(world.facts.blobs.get(blob, 0) for blob in world.named)
        used = world.used_space()
        kept = sum(item.size for item in items if item.in_use and not item.shared)
        _print_sums(shared, used + shared, max(0, used - kept))
    return 0


def prune(parsed: Parsed, environ: Environ) -> int:
    """`pybuild prune`: what was removed, and the sum. Exit status 1 where a build was in the way."""
    form = _form(parsed)
    _expect_no_words(parsed, "pybuild prune")
    from builder.room import filters

    chosen = filters.parse(parsed.all("filter"))
    bounds = _bounds(parsed)
    everything = parsed.switch("all")
    if not parsed.switch("force") and not _confirm(everything):
        return 0
    from builder.isolation.choose import stand
    from builder.isolation.rungs import AUTO
    from builder.room.rules import Rule
    from builder.room.stale import sweep
    from builder.store.root import open_store

    root = root_of(parsed, environ)
    stand(AUTO, root)  # where trees belong to users of a user namespace, only its root can remove them
    store = open_store(root)
    outcome = _remove(store, Rule(filter=chosen, everything=everything), bounds)
    swept = sweep(store)
    _print_removed(outcome.removals, form)
    if form != "json":
        print(f"Total:\t{size(outcome.size)}")
        if swept.dead:
            verb = "was" if swept.dead == 1 else "were"
            left = plural(swept.dead, "leftover")
            print(f"({left} of builds that were killed {verb} swept)", file=sys.stderr)
    if outcome.busy:
        raise BuildError(
            "a build does not let go of the store, so nothing was removed",
            code="store-busy",
            hint="try again when it has ended",
        )
    return 0


def _remove(store: Store, rule: Rule, wanted: Mapping[str, int]) -> Outcome:
    from dataclasses import replace

    from builder.room.budget import free
    from builder.room.folders import read_folders
    from builder.room.removal import remove
    from builder.room.rules import bounds_of, choose, unreferenced

    if wanted and not any(wanted.values()):
        wanted = {}

    def decide(world: World) -> list[Removal]:
        found = unreferenced(world) if rule.filter.is_empty else []
        bounds = bounds_of(world.used_space(), free(store), **wanted)
        return found + choose(world, replace(rule, bounds=bounds), time.time())

    return remove(store, decide, read_folders(store.folder))


def _bounds(parsed: Parsed) -> dict[str, int]:
    """The flags that say how much may be left, as `rules.bounds_of` takes them. Raises UsageError."""
    names = {
        "max-used-space": "max_used", "min-free-space": "min_free", "reserved-space": "reserved",
        "keep-storage": "reserved",
    }  # fmt: skip
    return {
        names[flag]: values.byte_size(parsed.text(flag), f"--{flag}") for flag in names if parsed.text(flag)
    }


def _confirm(everything: bool) -> bool:
    """Ask whether to go on. Raises UsageError where nobody answers."""
    sys.stdout.flush()
    print(f"{QUESTIONS[everything]} Are you sure you want to continue? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        print(file=sys.stderr)
        raise UsageError("nobody answered whether to go on", hint="--force removes without asking")
    return answer.strip().lower() in YES


def _form(parsed: Parsed) -> str:
    """How to show items: table, pretty or json. Raises UsageError."""
    verbose = parsed.switch("verbose")
    form = parsed.text("format")
    if verbose and form:
        raise UsageError("--format and --verbose cannot be used together")
    if form and form not in FORMATS:
        what = "templates are not available in this version" if "{{" in form else "no such format"
        raise UsageError(f"--format {form}: {what}", hint=f"the formats are {', '.join(FORMATS)}")
    return form or ("pretty" if verbose else "table")


def _expect_no_words(parsed: Parsed, command: str) -> None:
    if parsed.words:
        raise UsageError(f"{command} takes no words, not {parsed.words[0]!r}")


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────


def _print_items(items: Sequence[Item], form: str) -> None:
    if form == "table":
        print_table(HEADINGS, [_row(item, item.size) for item in items])
    for item in items if form != "table" else ():
        if form == "json":
            print_json(as_object(item, item.size))
        else:
            print("\n".join(_paragraph(item, item.size)) + "\n")


def _print_removed(removals: Sequence[Removal], form: str) -> None:
    if form == "table" and removals:
        rows = [[*_row(r.item, r.size), _reason(r)] for r in removals]
        print_table([*HEADINGS, "WHY"], rows)
    for removal in removals if form != "table" else ():
        if form == "json":
            form_of = removal.form or "all"
            reason = _reason(removal)
            print_json({**as_object(removal.item, removal.size), "Form": form_of, "Reason": reason})
        else:
            print("\n".join([*_paragraph(removal.item, removal.size), f"Why:\t\t{_reason(removal)}"]) + "\n")


def _reason(removal: Removal) -> str:
    what = "its folder, which its blob can make again: " if removal.form == "tree" else ""
    return what + reason_words(removal.why.kind, removal.why.had, removal.why.bound)


def _row(item: Item, count: int) -> list[str]:
    """A line of the table; a star marks what may change, and what an image with a name needs, too."""
    ident = item.id + ("*" if item.mutable else "")
    amount = size(count) + ("*" if item.shared else "")
    return [ident, str(not item.in_use).lower(), amount, ago(_time(item.used)) if item.used else ""]


def _paragraph(item: Item, count: int) -> list[str]:
    lines = [f"ID:\t\t{item.id}"]
    if item.parents:
        lines += ["Parents:", *(f" - {parent}" for parent in item.parents)]
    lines += [
        f"Created at:\t{_time(item.created) if item.created else ''}",
        f"Mutable:\t{str(item.mutable).lower()}",
        f"Reclaimable:\t{str(not item.in_use).lower()}",
        f"Shared:\t\t{str(item.shared).lower()}",
        f"Size:\t\t{size(count)}",
        f"Description:\t{one_line(item.description)}",
        f"Usage count:\t{item.uses}",
    ]
    if item.used:
        lines.append(f"Last used:\t{ago(_time(item.used))}")
    return [*lines, f"Type:\t\t{item.type}"]


def as_object(item: Item, count: int) -> dict[str, object]:
    """buildx's names; the size is text, as there."""
    return {
        "CreatedAt": _time(item.created) if item.created else "",
        "Description": item.description,
        "ID": item.id,
        "LastUsedAt": _time(item.used) if item.used else "",
        "Mutable": item.mutable,
        "Parents": list(item.parents),
        "Reclaimable": not item.in_use,
        "Shared": item.shared,
        "Size": str(count),
        "Type": item.type,
        "UsageCount": item.uses,
    }


def _print_sums(shared: int, total: int, reclaimable: int) -> None:
    if shared:
        print(f"Shared:\t\t{size(shared)}\nPrivate:\t{size(total - shared)}")
    print(f"Reclaimable:\t{size(reclaimable)}\nTotal:\t\t{size(total)}")


def _time(seconds: float) -> str:
    """RFC 3339, in whole seconds, UTC."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


FILTER = Flag(
    name="filter", kind="list", metavar="KEY=VALUE", group=WHAT,
    help="only what matches (several: all of them): id, type, description, parents, until=48h, inuse, "
    "mutable, immutable, shared, private; != and ~= too",
)  # fmt: skip
VERBOSE = Flag(name="verbose", kind="switch", group=SHOWN, help="the same as --format=pretty")
FORM = FORMAT.but(help="table, pretty, or json (one object a line)")
IGNORED = (Flag(name="builder"), Flag(name="timeout"))
COMMANDS = {
    "du": Command(
        flags=(FILTER.but(group=SHOWN), VERBOSE, FORM, *IGNORED, *GLOBAL_FLAGS),
        run=show_usage,
        usage="pybuild du [FLAGS]",
        about="Show what takes room in the store: layers of the cache and of images, caches of RUN steps, "
        "git repositories, and what the cache remembers besides.",
        closing="A star after an id: it may change. A star after a size: an image with a name needs it, too.",
    ),
    "prune": Command(
        flags=(
            FILTER,
            Flag(name="all", short="a", kind="switch", group=WHAT,
                 help="also what images with names share (the images stay), what the cache remembers, and "
                 "kept failed steps"),
            Flag(name="max-used-space", metavar="SIZE", group=WHAT,
                 help="only the least recently used, until the cache has so much"),
            Flag(name="min-free-space", metavar="SIZE", group=WHAT,
                 help="only the least recently used, until so much of the disk is free"),
            Flag(name="reserved-space", metavar="SIZE", group=WHAT, help="always leave the cache so much"),
            Flag(name="keep-storage", metavar="SIZE", group=WHAT, help="the same as --reserved-space"),
            Flag(name="force", short="f", kind="switch", group=WHAT, help="do not ask"),
            VERBOSE, FORM, *IGNORED, *GLOBAL_FLAGS,
        ),
        run=prune,
        usage="pybuild prune [FLAGS]",
        about="Remove what the cache has. Images with names, what running builds use, and (without --all) "
        "failed steps that are kept stay.",
        closing="Builds make room by themselves, too: see [gc] in the configuration file.",
    ),
}  # fmt: skip
