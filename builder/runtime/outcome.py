"""How a command ended, where it was not the step's own process, told by who waited for it: one JSON object
through the pipe that is for failures. Numbers as the zygote has them.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from typing import Any

_NAME = "outcome"


def encode(status: int, usage: resource.struct_rusage) -> bytes:
    """`status` as waitpid(2) has it."""
    told = {
        "status": status,
        "maxrss": usage.ru_maxrss,
        "cpu": usage.ru_utime + usage.ru_stime,
        "read": usage.ru_inblock,
        "written": usage.ru_oublock,
    }
    return json.dumps({_NAME: told}).encode()


def decode(document: bytes) -> dict[str, Any] | None:
    """What was told; None where it is something else, as a failure is."""
    try:
        told = json.loads(document)
        return dict(told[_NAME])
    except (ValueError, LookupError, TypeError):
        return None
