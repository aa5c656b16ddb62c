"""From a request to what a compile is given: texts read, names checked, defaults taken.

All reading that happens before a build is data happens here: the Dockerfile, the ignore files, the
environment. Nothing is resolved, hashed or run. On the path of a fully cached build: light imports only.
"""

from __future__ import annotations

import os
import stat

from builder.errors import BuildError, DockerfileError, UsageError, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.request import BuildRequest
    from builder.snapshots.snapshot import LayerId

MAX_DOCKERFILE = 16 << 20
EPOCH = "SOURCE_DATE_EPOCH"
MULTI_PLATFORM = "BUILDKIT_MULTI_PLATFORM"
LOCK_SUFFIX = ".lock"
ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


class Texts:
    """What was read: the Dockerfile under the name people know it by, and the contexts' ignore files.

    context: the absolute folder, or None where it is none. ignore: (name, text) of the ignore file, or None.
    layer: the context as a layer of the store, where it is no folder; epoch: its time in seconds, if any.
    origin: the digest, or the commit, of a context that was fetched, "" for others.
    lock: the text of the lock file that goes with the Dockerfile, None where there is none, or none is
    wanted.
    """

    __slots__ = ("context", "dockerfile", "epoch", "ignore", "layer", "lock", "name", "origin")

    def __init__(
        self,
        name: str,
        dockerfile: str,
        context: str | None,
        ignore: tuple[str, str] | None,
        layer: LayerId | None = None,
        epoch: int | None = None,
        lock: str | None = None,
    ) -> None:
        self.name = name
        self.dockerfile = dockerfile
        self.context = context
        self.ignore = ignore
        self.layer = layer
        self.epoch = epoch
        self.lock = lock
        self.origin = ""

    @property
    def lock_name(self) -> str:
        """The lock file's name, be it there or not."""
        return self.name + LOCK_SUFFIX


def is_fetched(request: BuildRequest) -> bool:
    """Whether the context or the Dockerfile must be fetched, or the context is on standard input.

    Then it is `remote` that reads the texts.
    """
    return not has_folder(request) or (request.dockerfile or "").startswith(("http://", "https://"))


def has_folder(request: BuildRequest) -> bool:
    """Whether the context is a folder, be it one that is not there."""
    context = request.context
    if context == "-":
        return False
    marked = "://" in context or "@" in context or context.startswith("github.com/")
    if not marked or os.path.isdir(context):
        return True
    from builder.compiler.remotes import is_remote

    return not is_remote(context)


def read_texts(request: BuildRequest, stdin: int = 0) -> Texts:
    """Read the Dockerfile and the ignore file that go with a context that is a folder.

    Raises BuildError where the context or the Dockerfile is not there or cannot be read.
    """
    context = context_folder(request.context)
    name, text = read_dockerfile(request, stdin)
    if request.dockerfile == "-":
        return Texts(name, text, context, ignore_of(context, None))
    lock = lock_of(request, name)
    return Texts(_shown(name, context), text, context, ignore_of(context, name), lock=lock)


def lock_of(request: BuildRequest, dockerfile: str) -> str | None:
    """The text of the lock file beside a Dockerfile, where there is one and the request goes by it."""
    return None if request.pull or request.unlocked else read_lock(dockerfile + LOCK_SUFFIX)


def read_lock(path: str) -> str | None:
    """The text of a lock file, None where there is none. Raises BuildError where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {reason_of(error)}", code="bad-lock") from error
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise BuildError(f"{path} is a folder, and no lock file", code="bad-lock")
        return decode_lock(_read_fd(fd, path))
    finally:
        os.close(fd)


def decode_lock(data: bytes) -> str:
    """The text of a lock file; whether it is one is told when it is parsed."""
    return data.decode("utf-8", "surrogateescape")


def read_dockerfile(request: BuildRequest, stdin: int = 0) -> tuple[str, str]:
    """The path and the text of the Dockerfile: what `-f` names, standard input, or the context's own.

    In a folder without a `Dockerfile` the file `dockerfile` is it. Raises BuildError.
    """
    if request.dockerfile == "-":
        return "Dockerfile", decode(_read_fd(stdin, "standard input"), "standard input")
    path = dockerfile_path(request)
    return path, _read_dockerfile(path)


def dockerfile_path(request: BuildRequest) -> str:
    """The path of a Dockerfile that is a file, be it there or not."""
    path = request.dockerfile or os.path.join(request.context, "Dockerfile")
    folder, name = os.path.split(path)
    if name == "Dockerfile" and not os.path.lexists(path):
        lower = os.path.join(folder, "dockerfile")
        path = lower if os.path.lexists(lower) else path
    return path


def ignore_of_named(folder: str) -> tuple[str, str] | None:
    """The ignore file of a named context, which is its own."""
    return ignore_of(folder, None)


def build_args(request: BuildRequest, environ: Mapping[str, str]) -> dict[str, str]:
    """The build args, those without a value taken from the environment (and dropped where unset).

    SOURCE_DATE_EPOCH of the environment counts as one, as buildx has it, and so do docker's proxies.
    """
    args: dict[str, str] = {}
    if EPOCH in environ and not request.own_epoch:
        args[EPOCH] = environ[EPOCH]
    for name, value in request.build_args.items():
        if value is not None:
            args[name] = value
        elif name in environ:
            args[name] = environ[name]
    given = {name.upper() for name in args}
    proxies = {name: value for name, value in request.proxies.items() if name.upper() not in given}
    return {**proxies, **args}


def machine_platform() -> tuple[str, str]:
    """The (architecture, variant) of this machine, in OCI's words."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, (machine, ""))


def parse_platform(text: str) -> tuple[str, str, str]:
    """`os/architecture[/variant]`, "" for the machine's, in the names that images use. Raises UsageError."""
    from builder.oci.platform import parse

    machine = ("linux", *machine_platform())
    if text in ("local", ""):
        return machine
    try:
        system, architecture, variant, version = parse(text, machine)
    except ValueError as error:
        raise UsageError(str(error), hint="for example linux/arm64") from error
    if version:
        raise UsageError(f"platform {text!r}: a system's version cannot be asked for", hint="leave it out")
    return system, architecture, variant


def platform_name(text: str) -> str:
    """A platform as it is called, in one spelling, "" being the machine's. Raises UsageError."""
    return "/".join(part for part in parse_platform(text) if part)


def context_folder(context: str) -> str:
    """The absolute path of a context that is a folder. Raises BuildError where it is none."""
    folder = os.path.abspath(context)
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise BuildError(
                f"context {context} is not a folder", code="context", hint="to name a Dockerfile use -f FILE"
            )
    except FileNotFoundError:
        raise BuildError(
            f"context {context} is not there",
            code="context",
            hint=_nearest(os.path.basename(folder), os.path.dirname(folder)),
        ) from None
    except OSError as error:
        raise BuildError(f"context {context} cannot be read: {reason_of(error)}", code="context") from error
    return folder


def _read_dockerfile(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        near = _nearest(os.path.basename(path), os.path.dirname(path) or ".")
        hint = near or "name the file with -f FILE, or - for standard input"
        raise BuildError(f"Dockerfile {path} is not there", code="dockerfile-not-found", hint=hint) from None
    except OSError as error:
        raise BuildError(
            f"Dockerfile {path} cannot be read: {reason_of(error)}", code="dockerfile"
        ) from error
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise BuildError(f"Dockerfile {path} is a folder", code="dockerfile", hint="name a file with -f")
        return decode(_read_fd(fd, path), path)
    finally:
        os.close(fd)


def _read_fd(fd: int, name: str) -> bytes:
    chunks, size = [], 0
    while chunk := os.read(fd, 1 << 20):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_DOCKERFILE:
            raise BuildError(f"{name} is larger than {MAX_DOCKERFILE >> 20} MiB", code="dockerfile")
    return b"".join(chunks)


def decode(data: bytes, name: str) -> str:
    """The text of a Dockerfile; bytes that are no UTF-8 are kept. Raises DockerfileError for UTF-16."""
    if b"\0" in data[:4096] and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DockerfileError(f"{name} is UTF-16", hint="save it as UTF-8")
    if b"\0" in data[:4096]:
        raise DockerfileError(f"{name} is no text", hint="name the Dockerfile with -f FILE")
    return data.decode("utf-8", "surrogateescape")


def ignore_of(context: str, dockerfile: str | None) -> tuple[str, str] | None:
    """The ignore file: `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's own."""
    candidates = [(".dockerignore", os.path.join(context, ".dockerignore"))]
    if dockerfile is not None:
        candidates.insert(0, (os.path.basename(dockerfile) + ".dockerignore", dockerfile + ".dockerignore"))
    for name, path in candidates:
        try:
            with open(path, "rb") as file:
                return name, file.read(MAX_DOCKERFILE).decode("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as error:
            raise BuildError(f"{path} cannot be read: {reason_of(error)}", code="dockerignore") from error
    return None


def _shown(path: str, context: str) -> str:
    """The Dockerfile's path as people know it: inside the context, from there; else as typed."""
    absolute = os.path.abspath(path)
    if absolute.startswith(context.rstrip("/") + "/"):
        return os.path.relpath(absolute, context)
    return path


def _nearest(name: str, folder: str) -> str | None:
    import difflib

    try:
        names = os.listdir(folder or ".")
    except OSError:
        return None
    near = difflib.get_close_matches(name, names, 3, 0.6)
    return "did you mean " + " or ".join(near) + "?" if near else None
