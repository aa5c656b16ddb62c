"""Errors as values: what is wrong, where, and what to do.

    BuildError            a build cannot go on: exit 1
      DockerfileError     the Dockerfile is at fault (has a location)
      StepFailed          a RUN ended with another status than 0
      MissingPath         a COPY source or the like is not there
      ImageError          a base image, layout, archive or registry is at fault
      StoreError          the local store is at fault (permission, format, full disk)
      SandboxError        the kernel does not give what RUN needs
    UsageError            the command line is at fault: exit 2

Messages are lower case, name the thing, and have no full stop. Rendering is for `ui.diagnostics`.
Nothing here prints, and nothing that raises one of these has logged it.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.text import Location


class BuildError(Exception):
    """A failure with a stable kebab-case `code`, and where known a place, a hint, and notes."""

    exit_code = 1
    code = "build-failed"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        location: Location | None = None,
        hint: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.location = location
        self.hint = hint
        self.notes = notes

    def at(self, location: Location | None) -> BuildError:
        """The same error, placed at `location` if it had no place yet."""
        if self.location is None:
            self.location = location
        return self


class DockerfileError(BuildError):
    """The Dockerfile (or a `.dockerignore`) is at fault."""

    code = "dockerfile-error"


class StepFailed(BuildError):
    """A RUN failed: `status` is its exit code, or 128 + the signal that killed it; `errno` says why a command
    could not even be started, 0 of one that was."""

    code = "step-failed"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        tail: tuple[str, ...] = (),
        hint: str | None = None,
        errno: int = 0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.tail = tail
        self.errno = errno


class MissingPath(BuildError):
    """A path that an instruction names is not in its source."""

    code = "path-not-found"


class ImageError(BuildError):
    """A base image, an image layout, an archive or a registry is at fault."""

    code = "image-error"


class StoreError(BuildError):
    """The local store cannot be used or written."""

    code = "store-error"


class SandboxError(BuildError):
    """The kernel or the machine does not give what a RUN step needs."""

    code = "sandbox-error"


class UsageError(BuildError):
    """The command line is at fault."""

    exit_code = 2
    code = "usage"


class Interrupted(BuildError):
    """A signal ended the build: exit 128 + its number."""

    code = "interrupted"

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal_number


_MORE_FILES = (
    "raise the limit of open files (ulimit -n 1024), or run fewer steps at the same time with --jobs"
)
_MORE_PROCESSES = (
    "raise the limit of processes (ulimit -u, or pids.max of the cgroup), or of memory (ulimit -v)"
)
_LIMITS = {
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.EAGAIN: _MORE_PROCESSES,  # of who starts a process or a thread, see fork(2)
    errno.ENOMEM: _MORE_PROCESSES,
    errno.EFBIG: "raise the limit of the size of files (ulimit -f unlimited)",
}


def raising_limit(number: int | None) -> str | None:
    """What raises the limit that an errno is about, as a hint; None for others."""
    return _LIMITS.get(number or 0)


def reason_of(error: OSError) -> str:
    """What the system says of an error, in lower case."""
    return (error.strerror or str(error) or type(error).__name__).lower()
