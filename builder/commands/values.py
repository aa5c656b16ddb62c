"""The values of flags: texts as docker buildx takes them, to checked data.

Every function raises UsageError with a message that names the flag. On the path of a fully cached build:
whatever is heavy is imported where it is needed.
"""

from __future__ import annotations

import os

from builder.commands.flags import FALSE, TRUE, nearest
from builder.errors import BuildError, UsageError
from builder.request import OutputSpec, SecretSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.request import SshSpec

LATER = "not available in this version"
OUTPUT_TYPES = ("cacheonly", "docker", "image", "local", "oci", "registry", "tar")
DELETES = "buildx.local.delete"
ENTITLEMENTS = ("network.host", "security.insecure", "device")
NETWORKS = ("default", "host", "none")
NETWORK_HELPERS = ("pasta", "slirp4netns")
ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
TRUTH = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}


def split_csv(text: str, flag: str) -> list[str]:
    """The fields of one line of CSV (RFC 4180: a field in double quotes may hold commas)."""
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise UsageError(f"{flag} {text}: {error}") from None


def pairs(values: Iterable[str], flag: str) -> dict[str, str | None]:
    """`KEY=VALUE` texts as a dict; a key alone maps to None."""
    found: dict[str, str | None] = {}
    for text in values:
        key, has_value, value = text.partition("=")
        if not key:
            raise UsageError(f"{flag} {text}: the name before = is empty")
        found[key] = value if has_value else None
    return found


def output(text: str) -> OutputSpec:
    """One `--output`: `type=…,dest=…,…`, a bare folder (local), or `-` (a tar on standard output)."""
    fields = split_csv(text, "--output")
    if text == "-":
        return OutputSpec(type="tar", dest="-")
    if fields == [text] and not text.startswith("type="):
        return OutputSpec(type="local", dest=text)
    given = {key.strip().lower(): value for key, value in _fields(fields, f"--output {text}")}
    kind, dest = given.pop("type", ""), given.pop("dest", None)
    if not kind:
        raise UsageError(
            f"--output {text}: type is missing", hint="for example --output type=oci,dest=app.tar"
        )
    if kind not in OUTPUT_TYPES:
        hint = nearest(kind, OUTPUT_TYPES) or f"the types are {', '.join(OUTPUT_TYPES)}"
        raise UsageError(f"--output {text}: no output type {kind!r}", hint=hint)
    return _placed(text, kind, dest or None, given)


def _placed(text: str, kind: str, dest: str | None, attrs: Mapping[str, str]) -> OutputSpec:
    """An output whose destination fits its type; the archives' default is standard output."""
    folder = kind == "local" or (kind in ("oci", "docker") and not _is_true(text, attrs, "tar", default=True))
    if folder and not dest:
        raise UsageError(f"--output {text}: dest is missing", hint="add dest=FOLDER")
    if folder and dest == "-":
        raise UsageError(f"--output {text}: a folder cannot go to standard output")
    if kind in ("image", "registry") and dest:
        raise UsageError(f"--output {text}: an image goes under its names, and has no dest")
    if kind == "cacheonly" and (dest or attrs):
        raise UsageError(f"--output {text}: a cacheonly output has neither dest nor attributes")
    if kind in ("oci", "tar"):
        dest = dest or "-"
    return OutputSpec(type=kind, dest=dest, attrs=attrs)


def check_outputs(outputs: Iterable[OutputSpec], *, stdout_is_terminal: bool) -> None:
    """Refuse early what could not be written at the end. Raises UsageError."""
    outputs = list(outputs)
    if sum(spec.dest == "-" for spec in outputs) > 1:
        raise UsageError("several outputs go to standard output", hint="give all but one of them dest=FILE")
    for spec in outputs:
        if spec.dest == "-" and stdout_is_terminal:
            raise UsageError(f"the {spec.type} output would go to the terminal", hint="add dest=FILE")
        if spec.dest is None or spec.dest == "-":
            continue
        wants_folder = spec.type == "local" or spec.attrs.get("tar", "true") in FALSE
        if wants_folder and os.path.exists(spec.dest) and not os.path.isdir(spec.dest):
            raise UsageError(f"the destination {spec.dest} is a file, but {spec.type} writes a folder")
        if not wants_folder and os.path.isdir(spec.dest):
            raise UsageError(f"the destination {spec.dest} is a folder, but {spec.type} writes a file")


def annotation_attributes(texts: Iterable[str]) -> Mapping[str, str]:
    """The `--annotation` values, as the attributes of an output that say the same."""
    texts = tuple(texts)
    if not texts:
        return {}
    from builder.exporters.annotation import parse_flag

    return parse_flag(texts)


def allowed_deletes(allowed: Iterable[str], outputs: Iterable[OutputSpec]) -> list[str]:
    """The `--allow` values without the one for folders that mode=delete empties, if it is not missing.

    As buildx has it: it must be there unless the folder is below the working one. Raises UsageError.
    """
    allowed = list(allowed)
    for spec in outputs:
        deletes = spec.type == "local" and spec.attrs.get("mode") == "delete"
        if deletes and DELETES not in allowed and not _is_below_here(spec.dest or "."):
            raise UsageError(
                f"mode=delete removes what is in {spec.dest}, which is not below the working folder",
                hint=f"if that is meant, add --allow {DELETES}",
            )
    return [text for text in allowed if text != DELETES]


def _is_below_here(folder: str) -> bool:
    here = os.path.realpath(".")
    return os.path.realpath(folder).startswith(os.path.join(here, ""))


def secret(text: str, environ: Mapping[str, str]) -> SecretSpec:
    """One `--secret`: `id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]`.

    With an id alone, the value is that of the variable of this name, else of the file of this name.
    """
    fields = split_csv(text, "--secret")
    if fields == [text] and "=" not in text:
        raise UsageError(f"--secret {text}: fields are KEY=VALUE", hint=f"write --secret id={text}")
    name = file = env = kind = ""
    for key, value in _fields(fields, "--secret"):
        match key.lower():
            case "id":
                name = value
            case "src" | "source":
                file = value
            case "env":
                env = value
            case "type" if value in ("file", "env"):
                kind = value
            case "type":
                raise UsageError(f"--secret: no type {value!r}", hint="the types are file and env")
            case _:
                raise UsageError(
                    f"--secret: no field {key!r}", hint=nearest(key, ("id", "src", "env", "type"))
                )
    if not name:
        raise UsageError("--secret: id is missing", hint="write --secret id=NAME,src=FILE")
    if kind == "env" and not env:
        env, file = file, ""
    if not env and not file:
        env, file = (name, "") if name in environ and kind != "file" else ("", name)
    if env:
        return SecretSpec(id=name, env=env)
    _check_secret_file(name, file)
    return SecretSpec(id=name, file=file)


def _check_secret_file(name: str, path: str) -> None:
    try:
        is_file = not os.path.isdir(path) and os.access(path, os.R_OK)
    except ValueError:  # a NUL byte
        is_file = False
    if not is_file:
        why = "is not there" if not os.path.lexists(path) else "cannot be read as a file"
        raise UsageError(f"the file {path} of secret {name!r} {why}")


def ssh(values: Iterable[str], environ: Mapping[str, str]) -> tuple[SshSpec, ...]:
    """The `--ssh` values. Raises UsageError."""
    values = tuple(values)
    if not values:
        return ()
    from builder.commands.agents import agents

    return agents(values, environ)


def add_hosts(values: Iterable[str], helper: str = "") -> tuple[tuple[str, str], ...]:
    """`NAME:IP` or `NAME=IP` texts (several by commas) as pairs; `host-gateway` is this machine.

    RUN steps that share the machine's network have it as 127.0.0.1; by a `helper` (pasta, slirp4netns) they
    have one of their own, from which the machine is not to be reached.
    """
    import ipaddress

    found: list[tuple[str, str]] = []
    for text in (part for value in values for part in split_csv(value, "--add-host")):
        name, _, address = text.partition("=") if "=" in text else text.partition(":")
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        if address == "host-gateway":
            if helper:
                message = f"--add-host {text}: by {helper} steps do not reach this machine"
                raise UsageError(message, hint="without --network they share its network")
            address = "127.0.0.1"
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise UsageError(
                f"--add-host {text}: {address or 'nothing'} is not an IP address",
                hint="write --add-host NAME:IP",
            ) from None
        if not name or any(mark.isspace() for mark in name):
            raise UsageError(f"--add-host {text}: the name is empty or has blanks in it")
        if not text.isprintable():  # as bytes that are no text are not
            raise UsageError(f"--add-host {text}: there are characters in it that no name or address has")
        found.append((name, address))
    return tuple(found)


def byte_size(text: str, flag: str) -> int:
    """A size in bytes with docker's units (64m, 1.5GB, 100kib; powers of 1024)."""
    number = text.strip().rstrip("bBiIkKmMgGtTpP ")
    unit = text.strip()[len(number) :].strip().lower()
    power = UNITS.get(unit[:1])
    try:
        if power is None or unit[1:] not in ("", "b", "ib") or unit[:2] in ("bb", "bi"):
            raise ValueError
        size = float(number) * (1 << power)
        if not 0 <= size < 1 << 62:
            raise ValueError
    except ValueError:
        raise UsageError(f"{flag} {text}: not a size", hint="for example 64m or 1g") from None
    return int(size)


def ulimit(text: str) -> str:
    """One `--ulimit NAME=SOFT[:HARD]`, normalised to both; -1 is unlimited."""
    name, _, limits = text.partition("=")
    if name not in ULIMITS:
        raise UsageError(
            f"--ulimit {text}: no limit {name!r}", hint=nearest(name, ULIMITS) or "write NAME=SOFT:HARD"
        )
    soft, has_hard, hard = limits.partition(":")
    hard = hard if has_hard else soft
    try:
        low, high = int(soft), int(hard)
        if max(low, high) >= 1 << 63:  # the kernel would take what is left of it in 64 bits
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--ulimit {text}: the limits are whole numbers", hint="write NAME=SOFT:HARD"
        ) from None
    if low < -1 or high < -1 or (high != -1 and (low > high or low == -1)):
        raise UsageError(f"--ulimit {text}: the soft limit is above the hard one")
    return f"{name}={low}:{high}"


def entitlements(values: Iterable[str], network: str) -> tuple[str, ...]:
    """`--allow` values, with what `--network host` grants."""
    found = ["network.host"] if network == "host" else []
    for text in values:
        if text.partition("=")[0] == "device":
            from builder.compiler.entitlements import device_grants

            device_grants([text])
        elif text not in ENTITLEMENTS:
            known = (*ENTITLEMENTS, DELETES)
            hint = nearest(text, known) or f"these are known: {', '.join(known)}"
            raise UsageError(f"--allow {text}: no such entitlement", hint=hint)
        if text not in found:
            found.append(text)
    return tuple(found)


def network(text: str) -> tuple[str, str]:
    """A `--network` mode, and the helper that gives steps of that mode a network of their own, or ""."""
    if text in NETWORK_HELPERS:
        return "default", text
    if text and text not in NETWORKS:
        modes = ", ".join((*NETWORKS, *NETWORK_HELPERS))
        raise UsageError(f"--network {text}: no such mode", hint=f"the modes are {modes}")
    return text or "default", ""


def platform(values: Iterable[str]) -> str:
    """All of `--platform`, each once, normalised as containerd does, with commas between them; "" where none
    was given."""
    from builder.prepare import platform_name

    found = [part.strip() for value in values for part in value.split(",") if part.strip()]
    return ",".join(dict.fromkeys(platform_name(text) for text in found))


def one_as_several(args: Mapping[str, str | None], environ: Mapping[str, str], platforms: str) -> bool:
    """Whether the build args ask for the form of several platforms. Raises UsageError where they deny it."""
    from builder.prepare import MULTI_PLATFORM

    if MULTI_PLATFORM not in args:
        return False
    typed = args[MULTI_PLATFORM]
    typed = environ.get(MULTI_PLATFORM, "") if typed is None else typed
    wanted = TRUTH.get(typed or "false")
    if wanted is None:
        raise UsageError(f"--build-arg {MULTI_PLATFORM}={typed} is neither true nor false")
    if typed and not wanted and "," in platforms:
        raise UsageError(f"--build-arg {MULTI_PLATFORM}={typed}: but there are several, {platforms}")
    return wanted


def whole_number(text: str, flag: str) -> int:
    """A number from 1 on, of no more than nine digits."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise UsageError(f"{flag} {text}: not a number from 1 to 999999999")
    return int(text)


def _is_true(text: str, attrs: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = TRUTH.get(attrs.get(name, str(default)))
    if value is None:
        raise UsageError(f"--output {text}: {name} is true or false")
    return value


def _fields(fields: Iterable[str], flag: str) -> list[tuple[str, str]]:
    """The `key=value` fields of a CSV; of a secret nothing but the key is ever shown."""
    found = []
    for field in fields:
        key, has_value, value = field.partition("=")
        if not has_value:
            raise UsageError(f"{flag}: {field!r} is not KEY=VALUE")
        found.append((key, value))
    return found


def image_name(text: str, flag: str, *, digests: bool = False) -> str:
    """A name as docker writes it in short (`app` is `app:latest`); with a digest only where that can be."""
    from builder.oci import reference

    try:
        name = reference.parse(text)
    except BuildError as error:
        raise UsageError(f"{flag} {text}: {error.message}", hint=error.hint) from error
    if name.digest and not digests:
        raise UsageError(f"{flag} {text}: a name that is given cannot hold a digest")
    return name.familiar()


def named_contexts(values: Iterable[str]) -> dict[str, str]:
    """`--build-context NAME=SOURCE` texts; names as docker normalises them, kinds of sources checked.

    `NAME::PLATFORM` stands in for NAME where that platform is asked for.
    """
    found: dict[str, str] = {}
    for text in values:
        name, has_value, source = text.partition("=")
        if not has_value or not name or not source:
            raise UsageError(f"--build-context {text}: it is written NAME=SOURCE")
        name, for_platform, platform = name.partition("::")
        short = image_name(name, "--build-context", digests=True).removesuffix(":latest")
        found[short + for_platform + platform] = _context_source(text, source)
    return found


def _context_source(text: str, source: str) -> str:
    """A source whose kind this version has; a local folder must be there."""
    scheme, is_url, rest = source.partition("://")
    if is_url and scheme in ("oci-layout", "docker-image"):
        if not rest:
            raise UsageError(f"--build-context {text}: nothing comes after {scheme}://")
        return source
    if source.startswith("target:"):
        raise UsageError(f"--build-context {text}: the target of another build is {LATER}")
    if "://" in source or "@" in source or source.startswith("github.com/"):
        from builder.compiler.remotes import is_remote

        if is_remote(source):
            return source
    if is_url:
        raise UsageError(
            f"--build-context {text}: no kind of context begins with {scheme}://",
            hint="a source is a folder, oci-layout://DIR[:TAG|@DIGEST], docker-image://NAME, or the URL of a "
            "git repository or of a file",
        )
    if not os.path.isdir(source):
        why = "is not a folder" if os.path.lexists(source) else "is not there"
        raise UsageError(f"--build-context {text}: {source} {why}")
    return source


def isolation(text: str) -> str:
    """--isolation; docker's "default" is what is chosen by itself. Raises UsageError."""
    if text in ("", "default", "auto"):
        return "auto"
    from builder.isolation.rungs import CHOICES

    if text not in CHOICES:
        hint = nearest(text, CHOICES) or f"the rungs are {', '.join(CHOICES)}"
        raise UsageError(f"--isolation {text}: no such rung", hint=hint)
    return text


def required_isolation(text: str) -> str:
    """--require-isolation: "full" is all that can be asked for. Raises UsageError."""
    if text not in ("", "full"):
        raise UsageError(f"--require-isolation {text}: only full can be required")
    return text
