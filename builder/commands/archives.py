"""`pybuild save, load, import`: images out of the store into archives, and back."""

from __future__ import annotations

import sys

from builder.commands import values
from builder.commands.arguments import (
    DEFAULT_PLATFORM,
    PLATFORM,
    WHAT,
    Environ,
    expect,
    open_store_of,
    platform_of,
)
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS
from builder.commands.tables import FORMAT, print_json, wants_json
from builder.errors import UsageError
from builder.ui.words import one_line

STDOUT = "-"


def save(parsed: Parsed, environ: Environ) -> int:
    """`pybuild save [-o FILE] IMAGE...`."""
    expect(parsed, "pybuild save", 1, None)
    dest = parsed.text("output") or STDOUT
    if dest == STDOUT and sys.stdout.isatty():
        raise UsageError(
            "an archive is not written to a terminal", hint="name a file with -o, or redirect standard output"
        )
    platform = platform_of(parsed)
    from builder.images.saving import save as save_images

    save_images(open_store_of(parsed, environ), parsed.words, dest, platform)
    return 0


def load(parsed: Parsed, environ: Environ) -> int:
    """`pybuild load [-i FILE]`."""
    as_json = wants_json(parsed)
    from builder import images

    expect(parsed, "pybuild load", 0, 1)
    if "input" in parsed and parsed.words:
        raise UsageError("pybuild load takes one archive", hint="leave out --input or the word")
    archive = parsed.text("input") or next(iter(parsed.words), "-")
    for image in images.load(open_store_of(parsed, environ), archive, platform_of(parsed)):
        if as_json:
            print_json({"Digest": image.digest, "ID": image.id, "Names": list(image.names)})
        elif not image.names:
            print(f"Loaded image ID: {image.id}")
        for name in image.names if not as_json else ():
            print(f"Loaded image: {one_line(name)}")
    return 0


def import_image(parsed: Parsed, environ: Environ) -> int:
    """`pybuild import FILE|URL|- [NAME[:TAG]]`: prints the image's id."""
    expect(parsed, "pybuild import", 1, 2, "a file, an address, or -")
    source, *names = parsed.words
    name = values.image_name(names[0], "pybuild import") if names else None
    platform = platform_of(parsed, environ.get(DEFAULT_PLATFORM, ""))
    message = parsed.text("message") if "message" in parsed else None
    created = _epoch(environ)
    from builder.images.importing import import_image as make_image

    ident = make_image(
        open_store_of(parsed, environ),
        source,
        name,
        changes=parsed.all("change"),
        message=message,
        platform=platform,
        created=created,
    )
    print(ident)
    return 0


def _epoch(environ: Environ) -> int | None:
    """SOURCE_DATE_EPOCH, where it is set. Raises UsageError."""
    text = environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise UsageError(f"SOURCE_DATE_EPOCH={text} is no number of seconds")
    return int(text)


COMMANDS = {
    "save": Command(
        flags=(
            Flag(name="output", short="o", metavar="FILE", group=WHAT,
                 help="the archive (default: standard output)"),
            PLATFORM.but(help="of images of several platforms, the one alone (default: all of it)"),
            *GLOBAL_FLAGS,
        ),
        run=save, usage="pybuild save [FLAGS] IMAGE...",
        about="Write images into one archive, which docker load, podman load and skopeo read. A repository "
              "without a tag stands for all its tags.",
    ),
    "load": Command(
        flags=(
            Flag(name="input", short="i", metavar="FILE", group=WHAT,
                 help="the archive (default: standard input)"),
            PLATFORM.but(help="of images of several platforms, the one alone (default: all that is there)"),
            FORMAT, Flag(name="quiet", short="q", kind="switch"),
            *GLOBAL_FLAGS,
        ),
        run=load, usage="pybuild load [FLAGS] [FILE]",
        about="Take the images of an archive (docker save, or an OCI layout as a tar; compressed or not), or "
              "of an OCI layout's folder, into the store.",
    ),
    "import": Command(
        flags=(
            Flag(name="change", short="c", kind="list", metavar="INSTRUCTION", group=WHAT,
                 help="an instruction for the image's config, as in a Dockerfile: 'CMD [\"/app\"]'"),
            Flag(name="message", short="m", metavar="TEXT", group=WHAT, help="the history's comment"),
            PLATFORM.but(help="what the image is for (default: this machine's)"), *GLOBAL_FLAGS,
        ),
        run=import_image, usage="pybuild import [FLAGS] FILE|URL|- [NAME[:TAG]]",
        about="Make an image of one layer from a tarball, compressed or not, and print its id.",
    ),
}  # fmt: skip
