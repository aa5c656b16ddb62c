"""The images of the store as a list, and the conditions that choose among them: `pybuild images`.

The conditions are docker's: dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE,
until=TIME; any reference does, and so does the name that is asked for, all others have to hold. What is known
by its digest alone is dangling, and is not: either way it is listed. Nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from builder.errors import ImageError, StoreError, UsageError
from builder.images.find import every_image_of, find_image, id_of, image_of, size_of
from builder.oci import reference
from builder.oci.beside import subject_of
from builder.oci.names import Names, Row, name_of, stored_name
from builder.store.root import Store

FILTERS = ("before", "dangling", "label", "reference", "since", "until")
WILDCARDS = re.compile(r"[*?\[\\]")
_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `pybuild images`. name, repository and tag are None for a dangling image.

    id is the config's digest, digest the manifest's (of an image of several platforms both are the index's,
    size is of all that are there, and platform names them all); size is compressed bytes; created is RFC
    3339, "" if not known. damaged: its documents are not all there, and id, created and platform are empty.
    """

    name: str | None
    repository: str | None
    tag: str | None
    id: str
    digest: str
    created: str
    size: int
    platform: str
    damaged: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


def list_images(
    store: Store, wanted: str | None = None, conditions: Sequence[tuple[str, str]] = ()
) -> list[Listed]:
    """All images, newest first; with `wanted` those of that repository, or that name or pattern.

    conditions: (kind, value). Raises UsageError for one that cannot be, ImageError for an image that it names
    and that is not there.
    """
    listed = [_listed(store, row) for row in _shown(Names(store).rows())]
    patterns = [_pattern(value) for kind, value in conditions if kind == "reference"]
    if wanted is not None or patterns:
        listed = [image for image in listed if _is_asked_for(image, wanted, patterns)]
    for kind in dict.fromkeys(kind for kind, _ in conditions if kind != "reference"):
        values = [value for known, value in conditions if known == kind]
        listed = _narrow(store, listed, kind, values)
    return sorted(listed, key=lambda image: image.created, reverse=True)


def _shown(rows: Sequence[Row]) -> list[Row]:
    """The entries that are lines of their own: no name by digest, where its repository has a tag for it."""
    named = [(row, *_split(name_of(row))) for row in rows if not _is_beside(row)]
    tagged = {(row["digest"], repository) for row, repository, tag in named if tag is not None}
    return [
        row for row, repository, tag in named if tag is not None or (row["digest"], repository) not in tagged
    ]


def _is_beside(row: Row) -> bool:
    """Whether it is no image, but signatures or the like of one."""
    return subject_of(name_of(row) or "") is not None


def _is_asked_for(image: Listed, wanted: str | None, patterns: Sequence[re.Pattern[str]]) -> bool:
    """Whether the name or any of the patterns of reference= mean an image, as docker has it."""
    if any(_matches_pattern(image, pattern) for pattern in patterns):
        return True
    return wanted is not None and _is_wanted(image, wanted)


def _is_wanted(image: Listed, wanted: str) -> bool:
    if WILDCARDS.search(wanted):
        return _matches_pattern(image, _pattern(wanted))
    name = reference.parse(wanted)
    if name.digest is not None:
        return image.digest == name.digest
    if ":" in wanted.rpartition("/")[2]:
        return image.name == stored_name(name)
    return image.repository == name.familiar_name()


# ── conditions ───────────────────────────────────────────────────────────────────────────────────────────


def _narrow(store: Store, listed: Iterable[Listed], kind: str, values: Sequence[str]) -> list[Listed]:
    match kind:
        case "dangling":
            if _truth(values[-1]):
                return [image for image in listed if image.tag is None]
            return [image for image in listed if image.name is not None]
        case "label":
            return [image for image in listed if all(_has_label(image, value) for value in values)]
        case "before" | "since":
            times = [_moment(find_image(store, value).config.created) for value in values]
            return [image for image in listed if all(_is_on_side(image, kind, time) for time in times)]
        case "until":
            times = [_until(value) for value in values]
            return [image for image in listed if all(_is_on_side(image, "before", time) for time in times)]
    raise UsageError(f"--filter {kind}=… is not known", hint=f"the filters are {', '.join(FILTERS)}")


def _has_label(image: Listed, wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return key in image.labels and (not has_value or image.labels[key] == value)


def _matches_pattern(image: Listed, pattern: re.Pattern[str]) -> bool:
    names = (image.name, image.repository)
    return any(name is not None and pattern.fullmatch(name) for name in names)


def _pattern(text: str) -> re.Pattern[str]:
    """A pattern of Go's path.Match: `*` and `?` do not reach over a slash. Raises UsageError."""
    if not text:
        raise UsageError("--filter reference= has no pattern")
    parts, index = [], 0
    while index < len(text):
        mark = text[index]
        index += 1
        if mark == "*":
            parts.append("[^/]*")
        elif mark == "?":
            parts.append("[^/]")
        elif mark == "[":
            end = text.find("]", index + 1)
            if end < 0:
                raise UsageError(f"pattern {text!r} has a [ without a ]")
            inside = re.sub(r"([\\[&|~]|(?<=-)-)", r"\\\1", text[index:end])  # re warns of such pairs
            parts.append(f"[{inside}]")
            index = end + 1
        elif mark == "\\" and index < len(text):
            parts.append(re.escape(text[index]))
            index += 1
        else:
            parts.append(re.escape(mark))
    try:
        return re.compile("".join(parts))
    except re.error:
        raise UsageError(f"pattern {text!r} is not valid") from None


def _is_on_side(image: Listed, side: str, time: datetime | None) -> bool:
    own = _moment(image.created)
    if own is None or time is None:
        return False
    return own < time if side == "before" else own > time


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _until(text: str) -> datetime:
    """A time: RFC 3339, seconds since the epoch, or how long ago (`1h30m`). Raises UsageError."""
    spans = _SPAN.findall(text)
    try:
        if spans and "".join(number + unit for number, unit in spans) == text:
            ago = sum(float(number) * _SECONDS[unit] for number, unit in spans)
            return datetime.now(UTC) - timedelta(seconds=ago)
        if text.isascii() and text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
    except (OverflowError, ValueError, OSError):
        raise UsageError(f"--filter until={text}: that is no time on a calendar") from None
    found = _moment(text)
    if found is None:
        raise UsageError(
            f"--filter until={text} is no time", hint="write 2026-01-31, 2026-01-31T12:00:00Z, or 1h30m"
        )
    return found


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise UsageError(f"--filter dangling={text} is neither true nor false")
    return _TRUTH[text.lower()]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def _listed(store: Store, row: Row) -> Listed:
    name = name_of(row)
    named = _split(name)
    shown = name or str(row["digest"])
    try:
        found = image_of(store, row, shown)
        every = every_image_of(store, row, shown) if found.is_in_index else [found]
    except (ImageError, StoreError):
        return Listed(name, *named, "", row["digest"], "", row["size"], "", damaged=True)
    sizes = {
        blob.digest: blob.size for image in every for blob in (image.manifest.config, *image.manifest.layers)
    }
    return Listed(
        name,
        *named,
        id_of(found),
        row["digest"],
        found.config.created,
        sum(sizes.values()) if found.is_in_index else size_of(found.manifest),
        ",".join(str(image.descriptor.platform) for image in every),
        labels=found.config.config.labels or {},
    )


def _split(name: str | None) -> tuple[str | None, str | None]:
    if name is None:
        return None, None
    if "@" in name:  # of a digest, and no tag
        return name.partition("@")[0], None
    repository, _, found = name.rpartition(":")
    return repository, found
