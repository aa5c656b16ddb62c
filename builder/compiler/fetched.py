"""What ADD fetches: its sources that are addresses, as ops. Pure.

`--checksum` is for one such source alone: a digest of a file's bytes, or how the id of a commit begins.
`--keep-git-dir` and the query of an address may both speak, and then have to agree.
"""

from __future__ import annotations

import re

import msgspec

from builder.compiler import remotes
from builder.compiler.flags import switch
from builder.compiler.lowering import Lowering
from builder.compiler.remotes import AddressError, Repository
from builder.dockerfile.ast import Add, Copy
from builder.ops.source import Git, Http

SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def read_addresses(
    lowering: Lowering, step: Copy | Add, sources: tuple[str, ...], checksum: str
) -> list[Git | Http | None]:
    """For each source what fetches it, None for a path. Raises DockerfileError."""
    found: list[Git | Http | None] = []
    for source in sources:
        try:
            meant = remotes.read_source(source)
            found.append(_as_op(lowering, step, source, meant, checksum))
        except AddressError as error:
            message = f"{step.keyword} {remotes.redact(source)}: {error}"
            raise lowering.fault(step, message, "bad-address") from error
    if checksum and (len(found) != 1 or found[0] is None):
        message = "--checksum is for one source that is a URL or a git repository"
        raise lowering.fault(step, message, "bad-checksum", flag="checksum")
    return found


def _as_op(
    lowering: Lowering, step: Copy | Add, source: str, meant: Repository | Http | None, checksum: str
) -> Git | Http | None:
    if meant is None:
        return None
    if isinstance(step, Copy):
        hint = "use ADD, or --from with a named context"
        raise lowering.fault(step, f"COPY takes no URL: {remotes.redact(source)}", "copy-of-url", hint)
    if isinstance(meant, Repository):
        return as_git(step, meant, checksum)
    if checksum and not SHA256.fullmatch(checksum):
        raise lowering.fault(
            step,
            f"--checksum={checksum} is not the checksum of a file",
            "bad-checksum",
            "it is sha256: and 64 hexadecimal digits",
            flag="checksum",
        )
    return msgspec.structs.replace(meant, checksum=checksum)


def as_git(step: Add, meant: Repository, checksum: str) -> Git:
    """What fetches a repository with an ADD's flags. Raises AddressError where they contradict it."""
    keep = meant.keep_git_dir
    if step.flag("keep-git-dir") is not None:
        asked = switch(step, "keep-git-dir")
        if keep not in (None, asked):
            raise AddressError("--keep-git-dir and the address do not agree")
        keep = asked
    op = msgspec.structs.replace(meant.op, keep_git_dir=bool(keep))
    if not checksum:
        return op
    checksum = remotes.check_commit_prefix(checksum)
    if op.checksum not in ("", checksum):
        raise AddressError(f"--checksum is {checksum}, and the address has {op.checksum}")
    return msgspec.structs.replace(op, checksum=checksum)
