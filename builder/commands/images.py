"""`pybuild images, tag, rmi`: the local store's images, as docker shows them.

What an image is and how it is found is `builder.images`'s; here are words, columns and formats.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from builder.commands import values
from builder.commands.arguments import (
    PLATFORM,
    Environ,
    conditions_of,
    expect,
    finish,
    open_store_of,
    platform_of,
)
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.formats import FORMAT, NONE, SHOWN, UNKNOWN, local_time, short_id, show, since, size
from builder.commands.store import GLOBAL_FLAGS
from builder.commands.tables import FORMAT as JSON_OR_NOT
from builder.commands.tables import print_json, wants_json
from builder.errors import BuildError, UsageError

if TYPE_CHECKING:
    from builder.images import Listed
    from builder.store.root import Store

NO_TRUNC = Flag(name="no-trunc", kind="switch", group=SHOWN, help="show everything in full length")
QUIET = Flag(name="quiet", short="q", kind="switch", group=SHOWN, help="show only ids")
COLUMNS = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
WITH_DIGESTS = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
NO_TREE = ("quiet", "no-trunc", "digests")
HEADINGS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "VirtualSize": "VIRTUAL SIZE", "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS", "Bytes": "BYTES",
    "Platform": "PLATFORM", "Damaged": "DAMAGED",
}  # fmt: skip


def list_images(parsed: Parsed, environ: Environ) -> int:
    """`pybuild images [NAME]`."""
    from builder import images
    from builder.images.listing import FILTERS

    expect(parsed, "pybuild images", 0, 1)
    form, full = parsed.text("format"), parsed.switch("no-trunc")
    conditions = conditions_of(parsed, FILTERS)
    as_tree = parsed.switch("tree")
    beside = [name for name in NO_TREE if parsed.switch(name)] + (["format"] if form else [])
    if as_tree and beside:
        raise UsageError(f"--tree and --{beside[0]} do not go together")
    form = {"raw": _raw(parsed)}.get(form, form)
    store = open_store_of(parsed, environ)
    found = images.list_images(store, next(iter(parsed.words), None), conditions)
    if as_tree:
        from builder.commands.imagetree import show_tree

        show_tree(store, found)
        return 0
    if parsed.switch("quiet") and form in ("", "table"):
        for ident in dict.fromkeys(short_id(image.id or image.digest, full=full) for image in found):
            print(ident)
        return 0
    columns = WITH_DIGESTS if parsed.switch("digests") else COLUMNS
    show([_row(image, full=full) for image in found], form, columns, HEADINGS)
    return 0


def _raw(parsed: Parsed) -> str:
    """The template that docker has for --format raw."""
    if parsed.switch("quiet"):
        return "image_id: {{.ID}}"
    digest = "digest: {{.Digest}}\n" if parsed.switch("digests") else ""
    return (
        "repository: {{.Repository}}\ntag: {{.Tag}}\n" + digest + "image_id: {{.ID}}\n"
        "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
    )


def _row(image: Listed, *, full: bool) -> dict[str, object]:
    """docker's fields of an image, and Bytes, Platform and Damaged."""
    return {
        "ID": short_id(image.id, full=full) or NONE,
        "Repository": image.repository or NONE,
        "Tag": image.tag or NONE,
        "Digest": image.digest,
        "CreatedSince": "damaged" if image.damaged else since(image.created),
        "CreatedAt": local_time(image.created),
        "Size": size(image.size),
        "VirtualSize": size(image.size),
        "SharedSize": UNKNOWN,
        "UniqueSize": UNKNOWN,
        "Containers": UNKNOWN,
        "Bytes": image.size,
        "Platform": image.platform,
        "Damaged": image.damaged,
    }


def tag(parsed: Parsed, environ: Environ) -> int:
    """`pybuild tag IMAGE NAME...`."""
    as_json = wants_json(parsed)
    from builder import images

    expect(parsed, "pybuild tag", 2, None, "an image and a name")
    source, *targets = parsed.words
    names = [values.image_name(text, "pybuild tag") for text in targets]
    images.tag(open_store_of(parsed, environ), source, names)
    if as_json:
        print_json({"Source": source, "Tagged": names})
    return 0


def remove(parsed: Parsed, environ: Environ) -> int:
    """`pybuild rmi IMAGE...`: every one is tried, the first failure is told at the end.

    With --force what is not there is no failure, as docker has it.
    """
    as_json = wants_json(parsed)
    from builder import images

    expect(parsed, "pybuild rmi", 1, None)
    store, platform = open_store_of(parsed, environ), platform_of(parsed)
    force, missing = parsed.switch("force"), 0
    failures: list[BuildError] = []
    for wanted in parsed.words:
        try:
            done = images.remove(store, [wanted], force=force, platform=platform)
        except BuildError as error:
            if force and error.code == "image-not-found":
                missing += 1
                print(f"note: {error.message}", file=sys.stderr)
            else:
                failures.append(error)
            continue
        for entry in done:
            if as_json:
                print_json(entry)
            else:
                print(*(f"{verb}: {what}" for verb, what in entry.items()))
    if len(failures) + missing < len(parsed.words):  # a sweep was made
        _tell_of_rest(store)
    return finish(failures)


def _tell_of_rest(store: Store) -> None:
    """Say so where unfinished work of a user namespace is in the way of a sweep."""
    from builder.store.ingest import count_left

    if left := count_left(store.folder):
        word = "folder" if left == 1 else "folders"
        what = f"{left} unfinished {word} in {store.folder}/ingest"
        print(
            f"note: {what} cannot be removed by this user; the next build with a RUN does it", file=sys.stderr
        )


COMMANDS = {
    "images": Command(
        flags=(
            FORMAT, QUIET, NO_TRUNC,
            Flag(name="digests", kind="switch", group=SHOWN, help="show the digests of manifests"),
            Flag(name="filter", short="f", kind="list", metavar="KIND=VALUE", group=SHOWN,
                 help="only those with dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, "
                      "since=IMAGE, until=TIME"),
            Flag(name="tree", kind="switch", group=SHOWN,
                 help="each image once, and what it is made of by platform"),
            Flag(name="all", short="a", kind="switch", group=SHOWN,
                 help="all images (there are no intermediate ones that would be hidden)"),
            *GLOBAL_FLAGS,
        ),
        run=list_images,
        usage="pybuild images [FLAGS] [NAME[:TAG]]",
        about="List the images of the local store, the newest first. NAME may be a pattern: 'team/*:1.*'.",
        closing="Fields of templates: " + ", ".join(f".{field}" for field in HEADINGS),
    ),
    "tag": Command(
        flags=(JSON_OR_NOT, *GLOBAL_FLAGS), run=tag, usage="pybuild tag [FLAGS] IMAGE NAME[:TAG]...",
        about="Give an image more names. IMAGE is a name, an id or a digest.",
    ),
    "rmi": Command(
        flags=(
            JSON_OR_NOT, Flag(name="force", short="f", kind="switch", group="How",
                              help="remove an image with all its names; one that is not there is no error"),
            PLATFORM.but(help="of images of several platforms, the one alone (default: all of it)"),
            Flag(name="no-prune", kind="switch"), *GLOBAL_FLAGS,
        ),
        run=remove, usage="pybuild rmi [FLAGS] IMAGE...",
        about="Remove names, and images that lose their last one, with what nothing else needs.",
    ),
}  # fmt: skip
