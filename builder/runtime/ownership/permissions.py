"""What an emulated user may not do with files, where programs ask or find out by trying.

Handlers as in `identity`. The kernel would let the step's one id do everything. But programs look before
they leap: pip writes to a user's home where the system's folders cannot be written, scripts ask `test -w`.
So access(2), making files, and opening them for writing are refused to who could not do that with real
owners. Reading, removing, renaming and changing modes are not: no build relies on being refused those.

Only files of the step's root file system count, and of mounts that show the store's or a layer's: of others
(/proc, memory) not all owners may be known. Folders on the way are taken to be searchable. See
path_resolution(7), access(2).
"""

from __future__ import annotations

import errno
import os
import stat

from builder.fs.ownership import Record
from builder.runtime.ownership import credentials
from builder.runtime.ownership.credentials import CAP_DAC_OVERRIDE
from builder.runtime.ownership.targets import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.runtime.ownership.credentials import Credentials
    from builder.runtime.ownership.identity import Handler, Identity
    from builder.runtime.ownership.records import Records
    from builder.runtime.ownership.targets import Call, Targets

_AT_EACCESS = 0x200


class Permissions:
    """Answers for files of one step."""

    def __init__(
        self, targets: Targets, identity: Identity, records: Records, mounts: Iterable[str] = ()
    ) -> None:
        self._targets = targets
        self._identity = identity
        self._records = records
        self._devices = {os.stat(path).st_dev for path in ("/", *filter(os.path.exists, mounts))}

    def handlers(self) -> dict[str, Handler]:
        """By name; the same for every architecture."""
        return {
            "access": lambda call: self._access(call, AT_FDCWD, call.args[0], call.args[1], 0),
            "faccessat": lambda call: self._access(call, call.folder(0), call.args[1], call.args[2], 0),
            "faccessat2": lambda call: self._access(
                call, call.folder(0), call.args[1], call.args[2], call.args[3]
            ),
        }

    def demand(self, held: Credentials, path: bytes, wanted: int, *, follow: bool = True) -> None:
        """Raise EACCES where the file does not grant `wanted` (os.R_OK and so on)."""
        if held.effective & CAP_DAC_OVERRIDE:
            return
        status = os.stat(path, follow_symlinks=follow)
        kind = stat.S_IFMT(status.st_mode)
        if status.st_dev not in self._devices or kind not in (stat.S_IFREG, stat.S_IFDIR):
            return
        record = self._records.of(path, follow=follow) or Record(0, 0)
        if not credentials.grants(held, status.st_mode, record.uid, record.gid, wanted):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def _access(self, call: Call, folder: int, address: int, wanted: int, flags: int) -> None:
        held = self._identity.of(call)
        if not flags & _AT_EACCESS:  # by the real ids, as access(2) has it
            effective = held.permitted if held.ruid == 0 else 0
            held = held._replace(fsuid=held.ruid, fsgid=held.rgid, effective=effective)
        if wanted & 7 and not held.effective & CAP_DAC_OVERRIDE:
            path, follow = self._targets.find_at(call, folder, address, flags)
            self.demand(held, path, wanted & 7, follow=follow)
