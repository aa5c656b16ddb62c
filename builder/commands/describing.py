"""`pybuild inspect, history`: what an image is and how it came to be, as docker shows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from builder.commands.arguments import PLATFORM, Environ, expect, finish, open_store_of, platform_of
from builder.commands.flags import FALSE, TRUE, Command, Flag, Parsed
from builder.commands.formats import FORMAT, SHOWN, UNKNOWN, cut, local_moment, short_id, show, since, size
from builder.commands.gotemplate import Template
from builder.commands.govalues import Nil, Struct, json_of
from builder.commands.images import NO_TRUNC, QUIET
from builder.commands.store import GLOBAL_FLAGS
from builder.errors import BuildError, UsageError
from builder.ui.words import clean

COLUMNS = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
EXACT_COLUMNS = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
HEADINGS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
    "Size": "SIZE", "Comment": "COMMENT",
}  # fmt: skip
ZERO_TIME = "0001-01-01T00:00:00Z"  # as docker tells a time that is not known
WIDEST = 45  # characters of a step
# Fields of docker's images that are not written here, or not always; templates may ask for them.
NIL = Nil("<nil>")
IMAGE_ABSENT = {
    "Variant": "", "OsVersion": "", "Container": "", "ContainerConfig": NIL, "Annotations": Nil("map[]"),
    "Manifests": Nil("[]"),
}  # fmt: skip
CONFIG_ABSENT = {
    "Hostname": "", "Domainname": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "ArgsEscaped": False, "Healthcheck": NIL,
    "Image": "", "NetworkDisabled": False, "MacAddress": "", "StopTimeout": NIL, "Shell": Nil("[]"),
}  # fmt: skip


def history(parsed: Parsed, environ: Environ) -> int:
    """`pybuild history IMAGE`."""
    from builder import images

    expect(parsed, "pybuild history", 1, 1)
    form, full, human = parsed.text("format"), parsed.switch("no-trunc"), _is_human(parsed)
    found = images.history(open_store_of(parsed, environ), parsed.words[0], platform_of(parsed))
    rows = [_history_row(line, full=full, human=human) for line in found]
    if parsed.switch("quiet") and form in ("", "table"):
        for row in rows:
            print(row["ID"])
        return 0
    show(rows, form, COLUMNS if human else EXACT_COLUMNS, HEADINGS)
    return 0


def _is_human(parsed: Parsed) -> bool:
    value = parsed.text("human", "true")
    if value not in TRUE | FALSE:
        raise UsageError(f"--human={value}: a switch is true or false")
    return value in TRUE


def _history_row(line: Mapping[str, Any], *, full: bool, human: bool) -> dict[str, object]:
    when = local_moment(line["Created"])
    exact = when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else ZERO_TIME
    return {
        "ID": line["Id"] if line["Id"] == "<missing>" else short_id(line["Id"], full=full),
        "CreatedSince": (since(line["Created"]) if _is_told(when) else UNKNOWN) if human else exact,
        "CreatedAt": exact,
        "CreatedBy": cut(line["CreatedBy"], WIDEST, full=full),
        "Size": size(line["Size"]) if human else str(line["Size"]),
        "Comment": line["Comment"],
    }


def _is_told(when: datetime | None) -> bool:
    """Whether a step's time says anything: the epoch is what is written where it is to say nothing."""
    return when is not None and when.timestamp() > 0


def inspect(parsed: Parsed, environ: Environ) -> int:
    """`pybuild inspect IMAGE...`: a JSON array of those that are there, or a template's text for each."""
    from builder import images

    expect(parsed, "pybuild inspect", 1, None)
    form, kind, platform = parsed.text("format"), parsed.text("type", "image"), platform_of(parsed)
    if kind != "image":
        raise UsageError(f"--type {kind}: there are images only")
    template = Template(form) if form not in ("", "json") else None
    store = open_store_of(parsed, environ)
    found: list[dict[str, Any]] = []
    failures: list[BuildError] = []
    for wanted in parsed.words:
        try:
            described = images.inspect(store, wanted, platform)
            if parsed.switch("size"):
                from builder.images.contents import shown_size

                described["SizeRootFs"] = shown_size(store, wanted, platform)
            found.append(described)
        except BuildError as error:
            failures.append(error)
    if template is not None:
        for image in found:
            sys.stdout.write(_shown(template.render(_whole(image))) + "\n")
    elif form == "json":
        sys.stdout.write(json_of(found) + "\n")
    else:
        sys.stdout.write(json.dumps(found, indent=4) + "\n")
    return finish(failures)


def _whole(image: Mapping[str, Any]) -> Struct:
    """What is told of an image, with the fields besides that docker's templates have."""
    driver = Struct({"Name": "", "Data": None}, {})
    times = Struct({"LastTagTime": ZERO_TIME}, {})
    absent = {**IMAGE_ABSENT, "ID": image["Id"], "GraphDriver": driver, "Metadata": times}
    return Struct({**image, "Config": Struct(image["Config"], CONFIG_ABSENT)}, absent)


def _shown(text: str) -> str:
    """What an image says, as it is; where a terminal would act on it, made harmless."""
    return "\n".join(map(clean, text.split("\n"))) if sys.stdout.isatty() else text


COMMANDS = {
    "history": Command(
        flags=(
            FORMAT, QUIET, NO_TRUNC,
            Flag(name="human", short="H", kind="switch", group=SHOWN,
                 help="sizes and times for people (default: true; --human=false shows bytes and dates)"),
            PLATFORM, *GLOBAL_FLAGS,
        ),
        run=history, usage="pybuild history [FLAGS] IMAGE",
        about="Show the steps that made an image, the newest first.",
        closing="Fields of templates: " + ", ".join(f".{field}" for field in HEADINGS),
    ),
    "inspect": Command(
        flags=(
            FORMAT.but(short="f", help="json (one line), or a template: '{{.Id}}', '{{json .Config.Env}}'"),
            Flag(name="size", short="s", kind="switch", group=SHOWN,
                 help="add SizeRootFs: the bytes of all files that a container of it sees"),
            Flag(name="type", metavar="TYPE"), PLATFORM, *GLOBAL_FLAGS,
        ),
        run=inspect, usage="pybuild inspect [FLAGS] IMAGE...",
        about="Show images as JSON: names, digests, platform, configuration, layers.",
    ),
}  # fmt: skip
