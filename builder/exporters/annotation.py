"""Annotations of what an output makes: where each goes, as BuildKit's attributes say it.

    annotation.KEY=VALUE                    of each image's manifest
    annotation-TYPE[PLATFORM].KEY=VALUE     TYPE: manifest, manifest-descriptor, index or index-descriptor

A manifest's descriptor is the one in the index, or, of a single image, in the layout's index.json, where an
index's is, too. Pure, and on the path of a fully cached build.
"""

from __future__ import annotations

from builder.errors import UsageError
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "annotation"
MANIFEST, MANIFEST_DESCRIPTOR, INDEX, INDEX_DESCRIPTOR = TYPES = (
    "manifest", "manifest-descriptor", "index", "index-descriptor",
)  # fmt: skip


class Annotation(Value):
    """One of them. type: one of TYPES; platform: "os/architecture[/variant]" that it is for, "" is all."""

    type: str
    platform: str
    key: str
    value: str


def take(attrs: dict[str, str]) -> tuple[Annotation, ...]:
    """Take the attributes that are annotations out of an output's. Raises UsageError."""
    found = {}
    for name in [name for name in attrs if name.startswith(PREFIX)]:
        if (annotation := _parse(name, attrs[name])) is not None:
            del attrs[name]
            found[annotation.type, annotation.platform, annotation.key] = annotation
    return tuple(found[place] for place in sorted(found))


def parse_flag(texts: Iterable[str]) -> dict[str, str]:
    """`--annotation [TYPE[[PLATFORM]],...:]KEY=VALUE` as attributes of an output. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        types, colon, key = name.partition(":")
        if not colon:
            types, key = "", name
        if not equals or not key:
            raise UsageError(f"--annotation {text}: it is written [TYPE:]KEY=VALUE")
        for place in types.split(","):
            if colon and not place.partition("[")[0]:
                raise UsageError(
                    f"--annotation {text}: a type is missing", hint=f"the types are {', '.join(TYPES)}"
                )
            attribute = f"{PREFIX}-{place}.{key}" if place else f"{PREFIX}.{key}"
            if _parse(attribute, value, f"--annotation {text}") is None:
                raise UsageError(f"--annotation {text}: {place or key!r} is not valid")
            found[attribute] = value
    return found


def _parse(name: str, value: str, shown: str = "") -> Annotation | None:
    """An attribute's name and value; None if it is another attribute. Raises UsageError."""
    head, dot, key = name.partition(".")
    head, bracket, platform = head.partition("[")
    type_ = head.removeprefix(PREFIX)
    if not dot or not key or (type_ and not type_.startswith("-")) or any(map(str.isspace, key)):
        return None
    shown = shown or f"attribute {name}"
    if type_ and type_[1:] not in TYPES:
        raise UsageError(f"{shown}: there is no type {type_[1:]!r}", hint=f"the types are {', '.join(TYPES)}")
    if bracket and not platform.endswith("]"):
        raise UsageError(f"{shown}: the platform is not in square brackets")
    try:
        f"{key}{value}".encode()
    except UnicodeEncodeError:
        raise UsageError(f"{shown}: it is no text (UTF-8)") from None
    return Annotation(type_[1:] or MANIFEST, _platform(platform[:-1], shown), key, value)


def _platform(text: str, shown: str) -> str:
    """A platform as it is compared: normalised."""
    if not text:
        return ""
    from builder.prepare import parse_platform

    try:
        return "/".join(part for part in parse_platform(text) if part)
    except UsageError as error:
        raise UsageError(f"{shown}: {error.message}", hint=error.hint) from error


def check(
    annotations: Iterable[Annotation], platforms: Iterable[str], *, has_index: bool, docker_types: bool
) -> None:
    """Refuse what has no place in what was built for these platforms. Raises UsageError."""
    known = set(platforms)
    for annotation in annotations:
        if annotation.platform and annotation.platform not in known:
            raise UsageError(
                f"an annotation is for {annotation.platform}, which is not built",
                hint=f"built is {', '.join(sorted(known))}",
            )
        if annotation.type in (INDEX, INDEX_DESCRIPTOR) and not has_index:
            raise UsageError(
                f"annotation {annotation.key} is of type {annotation.type}, and a single image has no index",
                hint="several platforms, BUILDKIT_MULTI_PLATFORM=1, or attestations make one",
            )
        if docker_types and annotation.type != MANIFEST:
            raise UsageError("with oci-mediatypes=false only manifests can have annotations")


def of_type(annotations: Iterable[Annotation], type_: str, platform: str = "") -> Mapping[str, str]:
    """Those of one type: all that are for no platform, then, winning, those for this one.

    An index has those that were given for any platform.
    """
    if type_ in (INDEX, INDEX_DESCRIPTOR):
        return {each.key: each.value for each in annotations if each.type == type_}
    fitting = [each for each in annotations if each.type == type_ and each.platform in ("", platform)]
    return {each.key: each.value for each in sorted(fitting, key=lambda each: each.platform)}
