"""What hands an image out: one `--output`, understood.

`parse` turns what was typed into an `Export` and refuses what no exporter knows; the modules beside this
one each take a finished image (or tree) and an Export, and make exactly its destination: under another
name first, so that a failed export leaves what was there. They read the store and never write to it.
On the path of a fully cached build.
"""

from __future__ import annotations

from builder.errors import UsageError
from builder.oci import reference
from builder.oci.compressed import Compression
from builder.oci.reference import InvalidReference, Reference
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.oci.compressed import Kind
    from builder.request import OutputSpec

STDOUT = "-"
_IMAGE = frozenset(
    {"name", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"}
)
_TREE = frozenset({"platform-split"})
ATTRIBUTES = {
    "image": _IMAGE | {"push", "store", "unpack"},
    "oci": _IMAGE | {"tar"},
    "docker": _IMAGE | {"tar"},
    "tar": _TREE,
    "local": _TREE,
}
_ANNOTATION = "annotation"
_KINDS: dict[str, Kind] = {"uncompressed": "none", "none": "none", "gzip": "gzip", "zstd": "zstd"}
_BOOLEANS = {"true": True, "1": True, "": True, "false": False, "0": False}


class Export(Value):
    """One output as understood.

    kind: image (the store), oci, docker, tar or local; dest: a path, "-" for standard output, None for
    the store. names: what the image is called there. folder: an image layout as a folder, not an archive.
    force_compression: layers that have another compression, the base's too, are made again.
    """

    kind: str
    dest: str | None
    names: tuple[Reference, ...] = ()
    compression: Compression = Compression()
    force_compression: bool = False
    rewrite_timestamp: bool = False
    folder: bool = False
    annotations: Mapping[str, str] = {}

    @property
    def way(self) -> tuple[object, ...]:
        """What tells two images of one filesystem and config apart, as plain data."""
        return (
            self.compression.kind, self.compression.level, self.force_compression, self.rewrite_timestamp,
            tuple(sorted(self.annotations.items())),
        )  # fmt: skip

    def __str__(self) -> str:
        match self.kind:
            case "image":
                return "image in the store"
            case "local":
                return f"folder {self.dest}"
            case "tar":
                return f"tar {self._shown()}"
            case _:
                return f"{self.kind} {'layout' if self.folder else 'archive'} {self._shown()}"

    def _shown(self) -> str:
        return "on standard output" if self.dest == STDOUT else str(self.dest)


def parse(spec: OutputSpec, tags: Sequence[str] = ()) -> Export:
    """Understand an `--output`; `tags` are the names of `-t`, which its own `name=` replaces.

    Raises UsageError that names the attribute at fault.
    """
    known = ATTRIBUTES.get(spec.type)
    if known is None:
        raise UsageError(
            f"output type {spec.type!r} is not known", hint=f"the types are {', '.join(sorted(ATTRIBUTES))}"
        )
    attrs = dict(spec.attrs)
    annotations = _annotations(spec.type, attrs)
    for name in attrs:
        if name not in known:
            raise UsageError(
                f"output type {spec.type} has no attribute {name!r}",
                hint=f"it has {', '.join(sorted({*known, 'dest'}))}",
            )
    if not _boolean(attrs, "oci-mediatypes", default=True):
        raise UsageError("oci-mediatypes=false is not available: images have OCI's media types")
    if _boolean(attrs, "push", default=False):
        raise UsageError("push=true is not available in this version")
    folder = not _boolean(attrs, "tar", default=True)
    dest = _dest(spec, folder)
    typed = [name for name in attrs.get("name", "").split(",") if name] or list(tags)
    return Export(
        kind="image" if spec.type == "docker" and dest is None else spec.type,
        dest=dest,
        names=tuple(dict.fromkeys(parse_name(name) for name in typed)),
        compression=_compression(attrs),
        force_compression=_boolean(attrs, "force-compression", default=False),
        rewrite_timestamp=_boolean(attrs, "rewrite-timestamp", default=False),
        folder=folder,
        annotations=annotations,
    )


def parse_name(text: str) -> Reference:
    """A name to give to an image. Raises UsageError."""
    try:
        name = reference.parse(text)
    except InvalidReference as error:
        raise UsageError(error.message, hint=error.hint) from error
    if name.digest is not None:
        raise UsageError(f"{text} cannot be given as a name: a digest is not chosen")
    return name


def _dest(spec: OutputSpec, folder: bool) -> str | None:
    if spec.type == "image":
        if spec.dest is not None:
            raise UsageError("output type image goes to the store and has no dest")
        return None
    if spec.type == "docker" and spec.dest is None and not folder:
        return None
    if spec.type == "local" or folder:
        if not spec.dest or spec.dest == STDOUT:
            raise UsageError(f"output type {spec.type} needs dest=FOLDER here")
        return spec.dest
    return spec.dest or STDOUT


def _annotations(kind: str, attrs: dict[str, str]) -> dict[str, str]:
    """Take the `annotation.KEY` and `annotation-manifest.KEY` attributes out: those of the manifest."""
    found: dict[str, str] = {}
    for name in list(attrs):
        prefix, dot, key = name.partition(".")
        if not dot or not prefix.startswith(_ANNOTATION) or not key:
            continue
        if prefix not in (_ANNOTATION, "annotation-manifest") or kind in ("tar", "local"):
            raise UsageError(f"output type {kind} has no attribute {name!r}")
        found[key] = attrs.pop(name)
    return found


def _compression(attrs: dict[str, str]) -> Compression:
    typed = attrs.get("compression", "gzip")
    if typed not in _KINDS:
        raise UsageError(f"compression={typed} is not known", hint="use gzip, zstd or uncompressed")
    level = attrs.get("compression-level")
    if level is not None and not (level.isascii() and level.isdecimal() and len(level) < 4):
        raise UsageError(f"compression-level={level} is no number")
    return Compression(_KINDS[typed], int(level) if level is not None else None)


def _boolean(attrs: dict[str, str], name: str, *, default: bool) -> bool:
    typed = attrs.get(name)
    if typed is None:
        return default
    if typed.lower() not in _BOOLEANS:
        raise UsageError(f"{name}={typed} is neither true nor false")
    return _BOOLEANS[typed.lower()]
