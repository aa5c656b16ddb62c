"""What a build sets going before its modules are loaded: its place, and the process that starts steps.

A place (`isolation.choose`) is taken while there is a single thread. The process takes as long to start as
the modules to load, so where a step is likely to come it starts beside that. Light imports only.
"""

from __future__ import annotations

from builder import prepare
from builder.errors import BuildError
from builder.isolation.choose import stand
from builder.sandboxes import is_likely, start_early
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.contexts import Context
    from builder.isolation.choose import Standing
    from builder.request import BuildRequest
    from builder.runtime.spawn import Zygote


class Outset(Value):
    """zygote: the process for steps, where it was started; it ends with this process, or as a build's own.
    contexts: those that were read just now, by name."""

    standing: Standing
    zygote: Zygote | None
    contexts: Mapping[str, Context]

    def close(self) -> None:
        """Let go of the process for steps; where a build has made it its own, that has done so already."""
        if self.zygote is not None:
            self.zygote.control.close()
            self.zygote.release()


def set_out(request: BuildRequest, contexts: Mapping[str, Context]) -> Outset:
    """Take the place that the request asks for; call it in the main thread, before there are others.

    Raises SandboxError where that place is refused.
    """
    standing = stand(request.isolation, request.root)
    zygote = start_early(standing.isolation) if _may_run_steps(request) else None
    return Outset(standing, zygote, contexts)


def _may_run_steps(request: BuildRequest) -> bool:
    """Whether the Dockerfile has RUN steps; one that cannot be read now is read, and told, by the build."""
    if request.dockerfile == "-" or prepare.is_fetched(request):
        return False
    try:
        return is_likely(prepare.read_dockerfile(request)[1])
    except BuildError:
        return False
