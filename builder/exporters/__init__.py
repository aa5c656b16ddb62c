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
    from collections.abc import Sequence

    from builder.digest import Digest
    from builder.exporters.annotation import Annotation
    from builder.oci.compressed import Kind
    from builder.request import OutputSpec

STDOUT = "-"
_IMAGE = frozenset((
    "name", "compression", "compression-level", "force-compression", "oci-mediatypes", "oci-artifact",
    "rewrite-timestamp",
))  # fmt: skip
_TREE = frozenset({"platform-split", "attestation-prefix"})
_NAMING = frozenset({"name-canonical", "dangling-name-prefix", "danging-name-empty-only"})
_PUSH = frozenset({"push", "push-by-digest", "registry.insecure"})
ATTRIBUTES = {
    "image": _IMAGE | _NAMING | _PUSH | {"store", "unpack"},
    "registry": _IMAGE | _NAMING | _PUSH | {"store", "unpack"},
    "oci": _IMAGE | {"tar"},
    "docker": _IMAGE | {"tar"},
    "tar": _TREE,
    "local": _TREE | {"mode"},
}
_KINDS: dict[str, Kind] = {
    "uncompressed": "none", "none": "none", "gzip": "gzip", "estargz": "estargz", "zstd": "zstd",
}  # fmt: skip
_BOOLEANS = {"true": True, "t": True, "1": True, "": True, "false": False, "f": False, "0": False}


class Export(Value):
    """One output as understood.

    kind: image (the store), registry (nowhere else), oci, docker, tar or local; dest: a path, "-" for
    standard output, None for the store. names: what the image is called there. folder: an image layout as a
    folder, not an archive. force_compression: layers that have another compression, the base's too, are made
    again. multi_platform: an image is an index, and a tree lies in a folder of its platform's name, unless
    platform_split says otherwise. docker_types: the documents have the media types of Docker's schema 2.
    squash: what is above the base is one layer. dangling_prefix: besides, the image is called this with its
    digest, or (dangling_empty_only) if it has no other name. delete: what else a folder has is removed.

    push: it is brought to the registries of its names, too, or (push_by_digest) to their repositories without
    a tag; insecure: as `oci.connections.open_transport` has it. attested: there are attestations, which tell
    the image's names, or a signature; oci_artifact: those in an index are artifacts with a subject;
    attestation_prefix: of the names of files that have them.
    """

    kind: str
    dest: str | None
    names: tuple[Reference, ...] = ()
    compression: Compression = Compression()
    force_compression: bool = False
    rewrite_timestamp: bool = False
    folder: bool = False
    annotations: tuple[Annotation, ...] = ()
    multi_platform: bool = False
    platform_split: bool | None = None
    docker_types: bool = False
    squash: bool = False
    dangling_prefix: Reference | None = None
    dangling_empty_only: bool = False
    delete: bool = False
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    attested: bool = False
    oci_artifact: bool = True
    attestation_prefix: str = ""

    @property
    def way(self) -> tuple[object, ...]:
        """What tells two images of one filesystem and config apart, as plain data."""
        annotations = [[each.type, each.platform, each.key, each.value] for each in self.annotations]
        return (
            self.compression.kind, self.compression.level, self.force_compression, self.rewrite_timestamp,
            self.docker_types, self.squash, self.multi_platform, repr(annotations),
            repr([self.oci_artifact, *map(str, self.names)]) if self.attested else "",
        )  # fmt: skip

    def names_of(self, digest: Digest) -> tuple[Reference, ...]:
        """What the image of that digest is called."""
        prefix = self.dangling_prefix
        if prefix is None or (self.dangling_empty_only and self.names):
            return self.names
        return (*self.names, Reference(prefix.registry, prefix.repository, None, digest))

    def told_names(self, digest: Digest) -> tuple[str, ...]:
        """The same in full, as who reads them finds it there: without a tag, if it is pushed by digest."""
        if self.push and self.push_by_digest:
            return tuple(name.name for name in self.names)
        return tuple(map(str, self.names_of(digest)))

    def __str__(self) -> str:
        match self.kind:
            case "image":
                return "image in the store"
            case "registry":
                return "image for a registry"
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
    annotations = () if spec.type in ("tar", "local") else _annotations(attrs)
    for name in attrs:
        if name not in known:
            raise UsageError(
                f"output type {spec.type} has no attribute {name!r}",
                hint=f"it has {', '.join(sorted({*known, 'dest'}))}",
            )
    folder = not _boolean(attrs, "tar", default=True)
    dest = _dest(spec, folder)
    typed = [name for name in attrs.get("name", "").split(",") if name] or list(tags)
    push, by_digest = _pushes(spec.type, attrs, typed)
    _boolean(attrs, "unpack", default=True)  # what a build makes is unpacked already
    return Export(
        kind=_kind(spec.type, dest, attrs, push=push),
        dest=dest,
        names=tuple(dict.fromkeys(parse_name(name) for name in typed)),
        compression=_compression(attrs),
        force_compression=_boolean(attrs, "force-compression", default=False),
        rewrite_timestamp=_boolean(attrs, "rewrite-timestamp", default=False),
        folder=folder,
        annotations=annotations,
        platform_split=_boolean(attrs, "platform-split", default=True) if "platform-split" in attrs else None,
        docker_types=_docker_types(attrs),
        dangling_prefix=_dangling_prefix(attrs),
        dangling_empty_only=_boolean(attrs, "danging-name-empty-only", default=False),
        delete=_deletes(attrs),
        push=push,
        push_by_digest=by_digest,
        insecure=_boolean(attrs, "registry.insecure", default=False),
        oci_artifact=_boolean(attrs, "oci-artifact", default=True),
        attestation_prefix=attrs.get("attestation-prefix", ""),
    )


def parse_name(text: str) -> Reference:
    """A name to give to an image. Raises UsageError."""
    try:
        name = reference.parse(text)
    except InvalidReference as error:
        raise UsageError(error.message, hint=error.hint) from error
    if name.digest is not None:
        raise UsageError(f"{text} cannot be given as a name: a digest is not chosen")
    if name.familiar_name() == "sha256":
        raise UsageError(f"{text} cannot be given as a name: it would be read as a digest")
    return name


def names_beside(names: Sequence[Reference], tag: str) -> list[Reference]:
    """What is beside an image of these names is called: by a tag in each of their repositories."""
    found = [Reference(name.registry, name.repository, tag, None) for name in names]
    return list(dict.fromkeys(found))


def _kind(typed: str, dest: str | None, attrs: dict[str, str], *, push: bool) -> str:
    """Where an output goes; an image that is pushed need not be kept here."""
    if typed == "docker" and dest is None:
        return "image"
    kept = _boolean(attrs, "store", default=True)
    return "registry" if typed == "image" and push and not kept else typed


def _pushes(typed: str, attrs: dict[str, str], names: Sequence[str]) -> tuple[bool, bool]:
    """Whether an image is pushed, and whether by its digest alone."""
    push = _boolean(attrs, "push", default=typed == "registry")
    by_digest = _boolean(attrs, "push-by-digest", default=False)
    if typed == "registry" and not push:
        raise UsageError("output type registry is pushed", hint="leave out push=false, or use type=image")
    if push and not names:
        raise UsageError(
            "an image that is pushed needs a name", hint="give it with -t REGISTRY/NAME:TAG, or with name="
        )
    tagged = [name for name in names if parse_name(name).tag != reference.DEFAULT_TAG]
    if push and by_digest and tagged:
        raise UsageError(f"{tagged[0]} has a tag, and is to be pushed by digest", hint="leave out the tag")
    return push, by_digest


def _dest(spec: OutputSpec, folder: bool) -> str | None:
    if spec.type in ("image", "registry"):
        if spec.dest is not None:
            raise UsageError(f"output type {spec.type} goes under its names and has no dest")
        return None
    if spec.type == "docker" and spec.dest is None and not folder:
        return None
    if spec.type == "local" or folder:
        if not spec.dest or spec.dest == STDOUT:
            raise UsageError(f"output type {spec.type} needs dest=FOLDER here")
        return spec.dest
    return spec.dest or STDOUT


def _annotations(attrs: dict[str, str]) -> tuple[Annotation, ...]:
    if not any(name.startswith("annotation") for name in attrs):
        return ()
    from builder.exporters.annotation import take

    return take(attrs)


def _compression(attrs: dict[str, str]) -> Compression:
    typed = attrs.get("compression", "gzip")
    if typed not in _KINDS:
        raise UsageError(f"compression={typed} is not known", hint="use gzip, estargz, zstd or uncompressed")
    level = attrs.get("compression-level")
    if level is not None and not (level.isascii() and level.isdecimal() and len(level) < 4):
        raise UsageError(f"compression-level={level} is no number")
    return Compression(_KINDS[typed], int(level) if level is not None else None)


def _docker_types(attrs: dict[str, str]) -> bool:
    if _boolean(attrs, "oci-mediatypes", default=True):
        return False
    if attrs.get("compression") == "estargz":
        raise UsageError(
            "compression=estargz and oci-mediatypes=false do not go together",
            hint="the digest of an eStargz layer's table is an annotation, which Docker's types do not have",
        )
    return True


def _dangling_prefix(attrs: dict[str, str]) -> Reference | None:
    """The repository of dangling-name-prefix. name-canonical needs none: the store finds NAME@DIGEST."""
    _boolean(attrs, "name-canonical", default=False)
    typed = attrs.get("dangling-name-prefix")
    if not typed:
        return None
    name = parse_name(typed)
    if typed.rpartition("/")[2].count(":"):
        raise UsageError(f"dangling-name-prefix={typed} has a tag", hint="the image's digest comes there")
    return name


def _deletes(attrs: dict[str, str]) -> bool:
    mode = attrs.get("mode", "")
    if mode not in ("", "copy", "delete"):
        raise UsageError(f"mode={mode} is not known", hint="use copy or delete")
    return mode == "delete"


def _boolean(attrs: dict[str, str], name: str, *, default: bool) -> bool:
    typed = attrs.get(name)
    if typed is None:
        return default
    if typed.lower() not in _BOOLEANS:
        raise UsageError(f"{name}={typed} is neither true nor false")
    return _BOOLEANS[typed.lower()]
