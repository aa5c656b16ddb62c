"""What an emulated user may not do with files, where programs ask or find out by trying.

Handlers as in `identity`. The kernel would let the step's one id do everything. But programs look before
they leap: pip writes to a user's home where the system's folders cannot be written, and leaves there what
it may not remove; scripts ask `test -w`. So access(2), opening files for writing, making, renaming and
removing them, and changing their modes are refused to who could not do that with real owners; reading,
too, in a step that is a user's from its start. In one of root's each opened file would have to be asked
about, for the few that a daemon may not read.

Only files of the step's root file system count, its secrets, and those of mounts that show the store's or a
layer's: of others (/proc, memory) not all owners may be known. Folders on the way are taken to be
searchable. See path_resolution(7), access(2), unlink(2), chmod(2).
"""

from __future__ import annotations

import errno
import os
import stat

from builder.fs.ownership import Record
from builder.runtime.ownership import credentials
from builder.runtime.ownership.credentials import CAP_DAC_OVERRIDE, CAP_FOWNER
from builder.runtime.ownership.targets import AT_FDCWD, split_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.runtime.ownership.credentials import Credentials
    from builder.runtime.ownership.identity import Handler, Identity
    from builder.runtime.ownership.records import Records
    from builder.runtime.ownership.targets import Call, Targets

_AT_EACCESS = 0x200
# name -> of each entry of a folder that it changes: the index of the descriptor (None: the working folder),
# that of the path, and whether the entry has to be there
_CHANGES: dict[str, tuple[tuple[int | None, int, bool], ...]] = {
    "unlink": ((None, 0, True),),
    "rmdir": ((None, 0, True),),
    "unlinkat": ((0, 1, True),),
    "rename": ((None, 0, True), (None, 1, False)),
    "renameat": ((0, 1, True), (2, 3, False)),
    "renameat2": ((0, 1, True), (2, 3, False)),
    "link": ((None, 1, False),),
    "linkat": ((2, 3, False),),
}


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
        changes = {name: self._changer(entries) for name, entries in _CHANGES.items()}
        return changes | {
            "chmod": lambda call: self._chmod(call, AT_FDCWD, call.args[0], 0),
            "fchmod": self._fchmod,
            "fchmodat": lambda call: self._chmod(call, call.folder(0), call.args[1], 0),
            "fchmodat2": lambda call: self._chmod(call, call.folder(0), call.args[1], call.args[3]),
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
        status, record = self._look(path, follow)
        if record is not None and not credentials.grants(
            held, status.st_mode, record.uid, record.gid, wanted
        ):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def _look(self, path: bytes, follow: bool) -> tuple[os.stat_result, Record | None]:
        """(status, record) of a file; without a record where owners do not count."""
        status = os.stat(path, follow_symlinks=follow)
        kind = stat.S_IFMT(status.st_mode)
        counts = status.st_dev in self._devices or self._records.knows(status)
        if not counts or kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            return status, None
        return status, self._records.of(path, follow=follow) or Record(0, 0)

    # --- entries of folders ---

    def _changer(self, entries: tuple[tuple[int | None, int, bool], ...]) -> Handler:
        def change(call: Call) -> None:
            held = self._identity.of(call)
            if held.effective & CAP_DAC_OVERRIDE:
                return
            for folder, address, there in entries:
                place = AT_FDCWD if folder is None else call.folder(folder)
                self._demand_entry(call, held, place, call.args[address], there=there)

        return change

    def _demand_entry(self, call: Call, held: Credentials, folder: int, address: int, *, there: bool) -> None:
        """Raise what the kernel would where the folder of a path may not be changed.

        FileNotFoundError where the entry has to be there and is not.
        """
        above, name = split_path(self._targets.read_path(call, address))
        parent, _ = self._targets.locate(call, folder, above)
        path = b"%b/%b" % (parent, name)
        is_there = os.path.lexists(path)
        if there and not is_there:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.demand(held, parent + b"/.", os.W_OK | os.X_OK)
        if is_there and not held.effective & CAP_FOWNER:
            status, around = self._look(parent + b"/.", follow=True)
            _, record = self._look(path, follow=False)
            owners = [known.uid for known in (around, record) if known is not None]
            if status.st_mode & stat.S_ISVTX and owners and held.fsuid not in owners:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    # --- modes ---

    def _chmod(self, call: Call, folder: int, address: int, flags: int) -> None:
        held = self._identity.of(call)
        if not held.effective & CAP_FOWNER:
            self._demand_owner(held, *self._targets.find_at(call, folder, address, flags))

    def _fchmod(self, call: Call) -> None:
        held = self._identity.of(call)
        if not held.effective & CAP_FOWNER:
            self._demand_owner(held, self._targets.descriptor(call, call.folder(0)), True)

    def _demand_owner(self, held: Credentials, path: bytes, follow: bool) -> None:
        _, record = self._look(path, follow)
        if record is not None and record.uid != held.fsuid:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    # --- access(2) ---

    def _access(self, call: Call, folder: int, address: int, wanted: int, flags: int) -> None:
        held = self._identity.of(call)
        if not flags & _AT_EACCESS:  # by the real ids, as access(2) has it
            effective = held.permitted if held.ruid == 0 else 0
            held = held._replace(fsuid=held.ruid, fsgid=held.rgid, effective=effective)
        if wanted & 7 and not held.effective & CAP_DAC_OVERRIDE:
            path, follow = self._targets.find_at(call, folder, address, flags)
            self.demand(held, path, wanted & 7, follow=follow)
