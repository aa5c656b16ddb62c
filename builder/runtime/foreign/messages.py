"""What a runtime said when it failed: out of its log, and whose fault it is.

Runtimes say it in prose; what a Dockerfile can be at fault for is told from that, as Docker does. It imports
json only: it is part of what a step is forked with.
"""

from __future__ import annotations

import errno
import json

from builder.runtime.failure import Failure

_LAST = 400  # characters of a log that is no JSON
_FRAMES = (  # of no use to a reader
    *("runc create failed: ", "runc start failed: "),
    *("unable to start container process: ", "error during container init: "),
)
# A message that has all the words is about the step. What runc says, then what crun does.
_FAULTS = (
    (("executable file", "not found"), "exec", errno.ENOENT),
    (('exec: "', "no such file"), "exec", errno.ENOENT),
    (('exec: "', "permission denied"), "exec", errno.EACCES),
    (("open executable: ",), "exec", errno.EACCES),
    (("rlimit",), "limit", errno.EPERM),
    (("chdir",), "cwd", errno.ENOENT),
)


def failure_of(runtime: str, doing: str, log: bytes, code: int) -> Failure:
    """The failure of a runtime that ended with `code`; `log`: what it wrote with --log-format json."""
    message = last_error(log)
    text = f"{runtime} {doing}: {message or f'it ended with exit code {code} and said nothing'}"
    for words, step, number in _FAULTS:
        if all(word in message.lower() for word in words):
            return Failure(step, number, text)
    return Failure("runtime", 0, text)


def last_error(log: bytes) -> str:
    """The last error of the log; where no line is JSON, its end."""
    found = ""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
            if entry["level"] in ("error", "fatal", "panic"):
                found = str(entry["msg"]).strip()
        except (ValueError, LookupError, TypeError):
            continue
    if not found:
        return log.decode(errors="replace").strip()[-_LAST:]
    for frame in _FRAMES:
        found = found.removeprefix(frame)
    return found
