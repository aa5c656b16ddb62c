"""`pybuild images, tag, rmi, history, inspect, load`: the local store's images, as docker shows them.

What an image is and how it is found is `builder.images`'s; here are words, columns and formats.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.commands import values
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.tables import FORMAT, ago, print_json, print_table, wants_json
from builder.errors import BuildError, UsageError
from builder.ui.words import one_line, size

if TYPE_CHECKING:
    from builder.images import Listed
    from builder.store.root import Store

Environ = Mapping[str, str]
SHOWN = "What is shown"
NO_TRUNC = Flag(name="no-trunc", kind="switch", group=SHOWN, help="show everything in full length")
QUIET = Flag(name="quiet", short="q", kind="switch", group=SHOWN, help="show only ids")
NONE = "<none>"


def list_images(parsed: Parsed, environ: Environ) -> int:
    """`pybuild images [NAME]`."""
    as_json, full = wants_json(parsed), parsed.switch("no-trunc")
    from builder import images

    _expect(parsed, "pybuild images", 0, 1)
    found = images.list_images(_store(parsed, environ), *parsed.words)
    if parsed.switch("quiet"):
        for ident in dict.fromkeys(_short(image.id or image.digest, full=full) for image in found):
            print(ident)
        return 0
    if as_json:
        for image in found:
            print_json(_image_object(image))
        return 0
    digests = parsed.switch("digests")
    headings = ["REPOSITORY", "TAG", *(["DIGEST"] if digests else []), "IMAGE ID", "CREATED", "SIZE"]
    rows = []
    for image in found:
        row = [image.repository or NONE, image.tag or NONE, *([image.digest] if digests else [])]
        created = "damaged" if image.damaged else ago(image.created)
        rows.append([*row, _short(image.id, full=full) or NONE, created, size(image.size)])
    print_table(headings, rows)
    return 0


def tag(parsed: Parsed, environ: Environ) -> int:
    """`pybuild tag IMAGE NAME...`."""
    as_json = wants_json(parsed)
    from builder import images

    _expect(parsed, "pybuild tag", 2, None)
    source, *targets = parsed.words
    names = [values.image_name(text, "pybuild tag") for text in targets]
    images.tag(_store(parsed, environ), source, names)
    if as_json:
        print_json({"Source": source, "Tagged": names})
    return 0


def remove(parsed: Parsed, environ: Environ) -> int:
    """`pybuild rmi IMAGE...`: every one is tried, the first failure is told at the end."""
    as_json = wants_json(parsed)
    from builder import images

    _expect(parsed, "pybuild rmi", 1, None)
    store = _store(parsed, environ)
    failures: list[BuildError] = []
    for wanted in parsed.words:
        try:
            done = images.remove(store, [wanted], force=parsed.switch("force"))
        except BuildError as error:
            failures.append(error)
            continue
        for entry in done:
            if as_json:
                print_json(entry)
            else:
                print(*(f"{verb}: {what}" for verb, what in entry.items()))
    if len(failures) < len(parsed.words):  # a sweep was made
        _tell_of_rest(store)
    return _finish(failures)


def _tell_of_rest(store: Store) -> None:
    """Say so where unfinished work of a user namespace is in the way of a sweep."""
    from builder.store.ingest import count_left

    if left := count_left(store.folder):
        word = "folder" if left == 1 else "folders"
        what = f"{left} unfinished {word} in {store.folder}/ingest"
        print(
            f"note: {what} cannot be removed by this user; the next build with a RUN does it", file=sys.stderr
        )


def history(parsed: Parsed, environ: Environ) -> int:
    """`pybuild history IMAGE`."""
    as_json, full = wants_json(parsed), parsed.switch("no-trunc")
    from builder import images

    _expect(parsed, "pybuild history", 1, 1)
    found = images.history(_store(parsed, environ), parsed.words[0])
    if parsed.switch("quiet"):
        for line in found:
            print(_short(line["Id"], full=full))
    elif as_json:
        for line in found:
            print_json(line)
    else:
        rows = [
            [
                _short(line["Id"], full=full),
                ago(line["Created"]),
                _cut(line["CreatedBy"], 45, full=full),
                size(line["Size"]),
                _cut(line["Comment"], 45, full=full),
            ]
            for line in found
        ]
        print_table(["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], rows)
    return 0


def inspect(parsed: Parsed, environ: Environ) -> int:
    """`pybuild inspect IMAGE...`: a JSON array of those that are there; `--format json`: one a line."""
    lines = "format" in parsed and wants_json(parsed)
    from builder import images

    _expect(parsed, "pybuild inspect", 1, None)
    store = _store(parsed, environ)
    found, failures = [], []
    for wanted in parsed.words:
        try:
            found.append(images.inspect(store, wanted))
        except BuildError as error:
            failures.append(error)
    if lines:
        for image in found:
            print_json(image)
    else:
        sys.stdout.write(json.dumps(found, indent=4) + "\n")
    return _finish(failures)


def load(parsed: Parsed, environ: Environ) -> int:
    """`pybuild load [-i FILE]`."""
    as_json = wants_json(parsed)
    from builder import images
    from builder.oci.spec import Platform
    from builder.prepare import parse_platform

    _expect(parsed, "pybuild load", 0, 1)
    if "input" in parsed and parsed.words:
        raise UsageError("pybuild load takes one archive", hint="leave out --input or the word")
    archive = parsed.text("input") or next(iter(parsed.words), "-")
    system, architecture, variant = parse_platform(values.platform(parsed.all("platform")))
    platform = Platform(architecture=architecture, os=system, variant=variant)
    for image in images.load(_store(parsed, environ), archive, platform):
        if as_json:
            print_json({"Digest": image.digest, "Names": list(image.names)})
        elif not image.names:
            print(f"Loaded image: {image.digest}")
        for name in image.names if not as_json else ():
            print(f"Loaded image: {one_line(name)}")
    return 0


def _store(parsed: Parsed, environ: Environ) -> Store:
    from builder.store.root import open_store

    return open_store(root_of(parsed, environ))


def _expect(parsed: Parsed, command: str, least: int, most: int | None) -> None:
    """Check how many words were given."""
    count = len(parsed.words)
    if count < least:
        wanted = "an image and a name" if least == 2 else "an image"
        raise UsageError(f"{command} needs {wanted}", hint=f"see `{command} --help`")
    if most is not None and count > most:
        raise UsageError(f"{command} takes one argument at most, not {count}", hint=f"see `{command} --help`")


def _finish(failures: list[BuildError]) -> int:
    """Raise the first failure, the others as its notes."""
    if not failures:
        return 0
    first, *others = failures
    first.notes = (*first.notes, *(error.message for error in others))
    raise first


def _image_object(image: Listed) -> dict[str, object]:
    """docker's names of the columns; the size is a number of bytes."""
    return {
        "Repository": image.repository or NONE,
        "Tag": image.tag or NONE,
        "ID": image.id,
        "Digest": image.digest,
        "CreatedAt": image.created,
        "Size": image.size,
        "Platform": image.platform,
        "Damaged": image.damaged,
    }


def _short(ident: str, *, full: bool) -> str:
    return ident if full else ident.removeprefix("sha256:")[:12]


def _cut(text: str, width: int, *, full: bool) -> str:
    text = one_line(text)
    return text if full or len(text) <= width else text[: width - 1] + "…"


COMMANDS = {
    "images": Command(
        flags=(
            FORMAT, QUIET, NO_TRUNC,
            Flag(name="digests", kind="switch", group=SHOWN, help="show the digests of manifests"),
            Flag(name="all", short="a", kind="switch"), *GLOBAL_FLAGS,
        ),
        run=list_images,
        usage="pybuild images [FLAGS] [NAME[:TAG]]",
        about="List the images of the local store, the newest first.",
    ),
    "tag": Command(
        flags=(FORMAT, *GLOBAL_FLAGS), run=tag, usage="pybuild tag [FLAGS] IMAGE NAME[:TAG]...",
        about="Give an image more names. IMAGE is a name, an id or a digest.",
    ),
    "rmi": Command(
        flags=(
            FORMAT, Flag(name="force", short="f", kind="switch", group="How",
                         help="remove an image with all its names"), *GLOBAL_FLAGS,
        ),
        run=remove, usage="pybuild rmi [FLAGS] IMAGE...",
        about="Remove names, and images that lose their last one, with what nothing else needs.",
    ),
    "history": Command(
        flags=(FORMAT, QUIET, NO_TRUNC, *GLOBAL_FLAGS), run=history,
        usage="pybuild history [FLAGS] IMAGE", about="Show the steps that made an image, the newest first.",
    ),
    "inspect": Command(
        flags=(FORMAT.but(help="json: one object a line, not an indented array"), *GLOBAL_FLAGS),
        run=inspect, usage="pybuild inspect [FLAGS] IMAGE...",
        about="Show images as JSON: names, digests, platform, configuration, layers.",
    ),
    "load": Command(
        flags=(
            Flag(name="input", short="i", metavar="FILE", group="What",
                 help="the archive (default: standard input)"),
            Flag(name="platform", kind="list", metavar="OS/ARCH", group="What",
                 help="which of several platforms' images to take (default: this machine's)"),
            FORMAT, Flag(name="quiet", short="q", kind="switch"), *GLOBAL_FLAGS,
        ),
        run=load, usage="pybuild load [FLAGS] [FILE]",
        about="Take the images of an archive (docker save, or an OCI layout as a tar) into the store.",
    ),
}  # fmt: skip
