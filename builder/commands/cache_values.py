"""The values of --cache-from and --cache-to, as docker buildx takes them, to checked data.

Loaded only where one of them is given; a fully cached build may have a --cache-from. Raises UsageError with
a message that names flag and attribute.
"""

from __future__ import annotations

from builder import digest as digests
from builder.commands import values
from builder.commands.flags import nearest
from builder.errors import UsageError
from builder.oci import reference
from builder.oci.compressed import Compression
from builder.oci.reference import InvalidReference, Reference, is_tag
from builder.request import CacheFrom, CacheTo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INLINE_ARG = "BUILDKIT_INLINE_CACHE"  # docker's older way to say type=inline
DEFAULT_TAG = "latest"
MOUNTS_MAX = 1 << 30
ELSEWHERE = ("azblob", "gha", "s3")
_COMPRESSIONS = {"gzip": "gzip", "zstd": "zstd", "uncompressed": "none", "none": "none"}
_MOUNTS = ("mounts", "mounts-max")
_PACKED = ("mode", "compression", "compression-level", "force-compression", "ignore-error", *_MOUNTS)
_ALWAYS = ("oci-mediatypes", "image-manifest")  # true, and nothing else
FROM = {
    "registry": ("ref", "trust-mounts", *_MOUNTS),
    "local": ("src", "tag", "digest", "trust-mounts", *_MOUNTS),
}
TO = {
    "registry": ("ref", *_PACKED, *_ALWAYS),
    "local": ("dest", "tag", "reset", *_PACKED, *_ALWAYS),
    "inline": ("mode", "ignore-error"),
}


def cache_from(texts: Iterable[str]) -> tuple[CacheFrom, ...]:
    """The `--cache-from` values, each once: `user/app:cache`, or `type=registry|local,...`."""
    return tuple(dict.fromkeys(_from(given) for given in _entries(texts, "--cache-from", FROM)))


def cache_to(texts: Iterable[str], build_args: Mapping[str, str | None]) -> tuple[CacheTo, ...]:
    """The `--cache-to` values, each once: `user/app:cache`, or `type=registry|local|inline,...`.

    The build argument BUILDKIT_INLINE_CACHE asks for an inline one, too.
    """
    found = [_to(given) for given in _entries(texts, "--cache-to", TO)]
    if values.TRUTH.get((build_args.get(INLINE_ARG) or "false").lower(), False):
        found.append(CacheTo(type="inline"))
    return tuple(dict.fromkeys(found))


class _Given:
    """One value of a flag: its type, its attributes, and the ids of its `mounts`."""

    def __init__(self, flag: str, text: str, fields: list[tuple[str, str]]) -> None:
        self.where = f"{flag} {text}"
        self.attrs = {key: value for key, value in fields if key != "mounts"}
        typed = [name.strip() for key, value in fields if key == "mounts" for name in value.split(",")]
        self.mounts = tuple(dict.fromkeys(name for name in typed if name))
        self.type = self.attrs.pop("type", "")
        if any(key == "mounts" for key, _ in fields) and not self.mounts:
            raise UsageError(f"{self.where}: mounts names no cache mount", hint="write mounts=ID")

    def check(self, known: Mapping[str, tuple[str, ...]]) -> None:
        """Refuse a type or an attribute that is not known."""
        if self.type in ELSEWHERE:
            raise UsageError(
                f"{self.where}: caches of type {self.type} are {values.LATER}",
                hint="use type=registry, or type=local with a folder that is kept elsewhere",
            )
        if self.type not in known:
            what = f"no cache type {self.type!r}" if self.type else "type is missing"
            hint = nearest(self.type, known) or f"the types are {', '.join(sorted(known))}"
            raise UsageError(f"{self.where}: {what}", hint=hint)
        for name in [*self.attrs, *(["mounts"] if self.mounts else [])]:
            if name not in known[self.type]:
                raise UsageError(
                    f"{self.where}: a cache of type {self.type} has no {name!r}",
                    hint=nearest(name, known[self.type]) or f"it has {', '.join(sorted(known[self.type]))}",
                )

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """The value of an attribute that is true or false."""
        typed = self.attrs.get(name, "true" if default else "false")
        if typed.lower() not in values.TRUTH:
            raise UsageError(f"{self.where}: {name}={typed} is neither true nor false")
        return values.TRUTH[typed.lower()]

    def reference(self) -> Reference:
        """`ref`, normalised."""
        if not self.attrs.get("ref"):
            raise UsageError(f"{self.where}: ref is missing", hint="write ref=USER/APP:TAG")
        try:
            return reference.parse(self.attrs["ref"])
        except InvalidReference as error:
            raise UsageError(f"{self.where}: {error.message}", hint=error.hint) from error

    def tag(self) -> str:
        """`tag` of a folder's cache."""
        tag = self.attrs.get("tag") or DEFAULT_TAG
        if not is_tag(tag):
            raise UsageError(f"{self.where}: tag {tag!r} is not valid")
        return tag

    def folder(self, name: str) -> str:
        """`src` or `dest`."""
        folder = self.attrs.get(name, "")
        if not folder or "\0" in folder:
            raise UsageError(f"{self.where}: {name} is missing", hint=f"write {name}=FOLDER")
        return folder

    def mounts_max(self) -> int:
        """How many bytes one cache mount may have."""
        typed = self.attrs.get("mounts-max")
        if not self.mounts:
            if typed is not None:
                raise UsageError(f"{self.where}: mounts-max is for mounts, and none is named")
            return 0
        return values.byte_size(typed, f"{self.where}: mounts-max") if typed else MOUNTS_MAX


def _entries(texts: Iterable[str], flag: str, known: Mapping[str, tuple[str, ...]]) -> list[_Given]:
    found: list[_Given] = []
    for text in texts:
        fields = values.split_csv(text, flag)
        if "=" not in text:  # references alone, of which there may be several
            found += [_Given(flag, ref, [("type", "registry"), ("ref", ref)]) for ref in fields if ref]
            continue
        pairs = []
        for field in fields:
            key, has_value, value = field.partition("=")
            if not has_value:
                raise UsageError(f"{flag} {text}: {field!r} is no KEY=VALUE")
            pairs.append((key.strip().lower(), value))
        found.append(_Given(flag, text, pairs))
    for given in found:
        given.check(known)
    return found


def _from(given: _Given) -> CacheFrom:
    trusted = given.boolean("trust-mounts")
    if given.type == "registry":
        name = given.reference()
        _check_trust(given, pinned=name.digest is not None, trusted=trusted, hint="ref=NAME@sha256:...")
        return CacheFrom(type="registry", ref=str(name), mounts=given.mounts, mounts_max=given.mounts_max())
    digest = given.attrs.get("digest", "")
    if digest:
        try:
            digests.parse(digest)
        except ValueError:
            raise UsageError(f"{given.where}: {digest!r} is no sha256 digest") from None
    _check_trust(given, pinned=bool(digest), trusted=trusted, hint="digest=sha256:...")
    return CacheFrom(
        type="local",
        src=given.folder("src"),
        tag=given.tag(),
        digest=digest,
        mounts=given.mounts,
        mounts_max=given.mounts_max(),
    )


def _check_trust(given: _Given, *, pinned: bool, trusted: bool, hint: str) -> None:
    """No key says what is in a cache mount, so whose it is has to be said."""
    if given.mounts and not (pinned or trusted):
        raise UsageError(
            f"{given.where}: cache mounts are only taken from a cache that is named by its digest or trusted",
            hint=f"write {hint}, or trust-mounts=true if nobody else can write there",
        )


def _to(given: _Given) -> CacheTo:
    mode = given.attrs.get("mode", "min").lower()
    if mode not in ("min", "max"):
        raise UsageError(f"{given.where}: no mode {mode!r}", hint="the modes are min and max")
    if given.type == "inline":
        if mode != "min":
            raise UsageError(
                f"{given.where}: a cache in the image has mode=min", hint="use type=registry for mode=max"
            )
        return CacheTo(type="inline", ignore_error=given.boolean("ignore-error"))
    for name in _ALWAYS:
        if not given.boolean(name, default=True):
            raise UsageError(
                f"{given.where}: {name}=false is not available: a cache is an OCI image manifest"
            )
    ref = dest = tag = ""
    if given.type == "registry":
        where = given.reference()
        if where.digest is not None:
            raise UsageError(f"{given.where}: a digest is not chosen", hint="write ref=USER/APP:TAG")
        ref = str(where)
    else:
        dest, tag = given.folder("dest"), given.tag()
    compression = _compression(given)
    return CacheTo(
        type=given.type,
        ref=ref,
        dest=dest,
        tag=tag,
        mode=mode,
        compression=compression.kind,
        level=compression.level,
        force=given.boolean("force-compression"),
        ignore_error=given.boolean("ignore-error"),
        reset=given.boolean("reset"),
        mounts=given.mounts,
        mounts_max=given.mounts_max(),
    )


def _compression(given: _Given) -> Compression:
    typed = given.attrs.get("compression", "gzip")
    if typed not in _COMPRESSIONS:
        raise UsageError(
            f"{given.where}: compression={typed} is not known", hint="use gzip, zstd or uncompressed"
        )
    level = given.attrs.get("compression-level")
    if level is not None and not (level.isascii() and level.isdecimal() and len(level) < 4):
        raise UsageError(f"{given.where}: compression-level={level} is no number")
    try:
        return Compression(_COMPRESSIONS[typed], int(level) if level is not None else None)  # type: ignore[arg-type]
    except UsageError as error:
        raise UsageError(f"{given.where}: {error.message}") from error
