"""From the process's copy of the host's mounts to the root filesystem of an OCI spec, with pivot_root.

In order: everything private; the root (an overlay made here, or a folder); the spec's mounts, and its
devices; masked and read-only paths; the old root away. Masks and device nodes are found by descriptors of
the /proc, /sys and /dev mounted here, never by a path that an image or a mount could have bent.

With "nodev" (the default sandbox) the only devices that can be opened are the six of /dev and the spec's
own: they are mounts of their own, and everything else is mounted nodev. That keeps a RUN, which has
CAP_MKNOD, off the machine's disks without a device cgroup.

Runs in the step's process, as root of its new mount namespace; knows no builder.
"""

from __future__ import annotations

import errno
import json
import os
import stat

from builder import libc
from builder.runtime import labels, mounts
from builder.runtime.failure import Failure, because
from builder.runtime.mounts import Options, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ROOTFS_ANNOTATION = "org.pybuild.rootfs"
CHROOT_ANNOTATION = "org.pybuild.chroot"

DEVICES = {
    "null": os.makedev(1, 3),
    "zero": os.makedev(1, 5),
    "full": os.makedev(1, 7),
    "random": os.makedev(1, 8),
    "urandom": os.makedev(1, 9),
    "tty": os.makedev(5, 0),
}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_KERNELS_OWN = {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts"}


def enter(spec: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Make the spec's root filesystem this process's root, with standard input from its /dev/null, or all
    streams from a terminal of its own (`terminals`)."""
    labels.announce(spec["process"])
    if CHROOT_ANNOTATION in spec.get("annotations", {}):
        _enter_chroot(spec["root"]["path"])
    else:
        RootFilesystem(spec, files).enter()


def _enter_chroot(root: str) -> None:
    """By chroot(2) alone; all that is in the root was put there before."""
    try:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.chroot(root)
        os.chdir("/")
    except OSError as error:
        raise because("root", "cannot enter the root filesystem", error) from error


class RootFilesystem:
    """The root filesystem of a spec, as far as it is made; the caller's mount namespace is its own."""

    def __init__(self, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.spec = spec
        self.files = files
        self.label: str = spec.get("linux", {}).get("mountLabel", "")  # SELinux's, of the files made here
        self.closed = False  # nothing but the six devices and the spec's can be opened
        self.kernel: dict[str, int] = {}  # descriptors of the mounts on /proc, /sys, /dev and /dev/pts

    def enter(self) -> None:
        libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
        self.mount_root()
        for mount in self.spec.get("mounts", ()):
            self.lay(mount)
        for number, device in enumerate(self.spec.get("linux", {}).get("devices", ())):
            self.add_device(device, number)
        try:
            self._restrict()
            if self.spec["root"].get("readonly"):
                libc.mount_setattr(self.root, libc.MOUNT_ATTR_RDONLY)
        except OSError as error:
            raise because("root", "cannot mask what a step must not see", error) from error
        if self.spec["process"].get("terminal"):
            self._give_terminal()
        else:
            self._open_null()
        os.fchdir(self.root)
        libc.pivot_root(".", ".")
        libc.umount(".", libc.MNT_DETACH)
        os.chdir("/")

    # --- the root ---

    def mount_root(self) -> None:
        """Mount the root in a stage of its own; `root` and `root_path` are where."""
        place = self.spec["root"]["path"]
        try:
            tree = self._root_tree(place)
            self.stage = Stage(place, self.label)
            self.root_path = self.stage.attach(tree)
            self.root = libc.openat2(libc.AT_FDCWD, self.root_path, os.O_PATH)
            os.close(tree)
        except OSError as error:
            raise because("root", "cannot mount the root filesystem", error) from error

    def _root_tree(self, place: str) -> int:
        annotation = self.spec.get("annotations", {}).get(ROOTFS_ANNOTATION)
        if annotation is None:
            return mounts.bind_tree(place, Options(["rbind"]))
        described = json.loads(annotation)
        self.closed = bool(described.get("nodev"))
        attributes = libc.MOUNT_ATTR_NODEV if self.closed else 0
        if not described["lower"]:
            return mounts.bind_tree(
                described["upper"], Options(["bind", "nodev"] if self.closed else ["bind"])
            )
        lower = described["lower"][::-1]
        return mounts.overlay_tree(
            lower, described["upper"], described["work"], attributes, place, self.label
        )

    # --- the spec's mounts ---

    def lay(self, mount: Mapping[str, Any]) -> None:
        """Mount what the spec wants, where it wants it. Raises Failure."""
        try:
            tree = self.tree_of(mount)
            if tree is not None:
                self._attach(tree, mount)
        except OSError as error:
            raise because("mount", self._describe(mount), error) from error

    def _describe(self, mount: Mapping[str, Any]) -> str:
        subpath = Options(mount.get("options", ())).named("x-subpath")
        source = f" from {subpath}" if subpath else ""
        return f"cannot mount {mount['type']}{source} at {mount['destination']}"

    def tree_of(self, mount: Mapping[str, Any]) -> int | None:
        """A detached mount of what the spec wants there; None where this machine has nothing to show."""
        options = Options(mount.get("options", ()))
        kind = mount["type"]
        if kind == "bind":
            return mounts.bind_tree(mount["source"], options)
        if kind == "overlay":
            return mounts.overlay_mount(self.stage, options)
        if kind == "cgroup":
            return mounts.cgroup_tree(options) if os.path.isdir("/sys/fs/cgroup") else None
        if kind == "tmpfs" and options.named("x-file"):
            return mounts.file_tree(self.stage, options, self.files)
        if mount["destination"] == "/dev" and self.closed:
            options.attributes |= libc.MOUNT_ATTR_NODEV
        if kind == "tmpfs" and not options.named("mode"):
            options.parameters += self._mode_hidden(mount["destination"])
        if kind in ("tmpfs", "devpts"):
            options.parameters += mounts.labelled(self.label)
        return mounts.kernel_filesystem(kind, options)

    def _mode_hidden(self, target: str) -> list[tuple[str, str | None]]:
        """A tmpfs that is given no mode has that of the folder that it hides."""
        try:
            place = libc.openat2(self.root, target, os.O_PATH | os.O_DIRECTORY, resolve=mounts.IN_ROOT)
        except OSError:  # nothing is there, or what it is will be told as it is mounted
            return []
        mode = stat.S_IMODE(os.fstat(place).st_mode)
        os.close(place)
        return [("mode", f"{mode:o}")]

    def _attach(self, tree: int, mount: Mapping[str, Any]) -> None:
        target = mount["destination"]
        own = _KERNELS_OWN.get(target) == mount["type"] and target not in self.kernel
        place = mounts.open_target(self.root, target, folder=mounts.is_folder(tree), plain=own)
        if "/proc" in self.kernel and os.fstat(place).st_dev == os.fstat(self.kernel["/proc"]).st_dev:
            os.close(place)
            raise Failure("mount", errno.EPERM, f"cannot mount at {target}: it lies in /proc")
        if os.path.samestat(os.fstat(place), os.fstat(self.root)):
            os.close(place)
            raise Failure("mount", errno.EBUSY, f"cannot mount at {target}: it is the root")
        if mounts.is_folder(tree) != mounts.is_folder(place):
            given, there = ("folder", "file") if mounts.is_folder(tree) else ("file", "folder")
            os.close(place)
            told = f"cannot mount {_named(given, mount)} at {target}: a {there} is there"
            raise Failure("mount", errno.ENOTDIR, told)
        mounts.attach(tree, place)
        if not own:
            os.close(tree)
            return
        self.kernel[target] = tree
        if target == "/dev":
            self._fill_dev(tree)

    def _fill_dev(self, dev: int) -> None:
        for name, number in DEVICES.items():
            if not self.closed and _makes_node(name, number, dev):
                continue
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=dev))
            node = self._device(name, number)
            mounts.attach(node, libc.openat2(dev, name, os.O_PATH | os.O_NOFOLLOW))
            os.close(node)
        for name, target in _LINKS.items():
            os.symlink(target, name, dir_fd=dev)

    # --- the spec's devices ---

    def add_device(self, device: Mapping[str, Any], number: int) -> None:
        """A node of the spec at its path: a mount of its own, as nothing else there can be opened."""
        try:
            tree = self._node(device, f"device-{number}")
            self._attach(tree, {"destination": device["path"], "type": "device"})
        except OSError as error:
            raise because("mount", f"cannot make the device {device['path']}", error) from error

    def _node(self, device: Mapping[str, Any], name: str) -> int:
        """A detached mount of the node: a new one, or the host's, as it is, where none may be made."""
        number = os.makedev(device.get("major", 0), device.get("minor", 0))
        kind = _NODE_TYPES[device["type"]]
        mode, stage = device.get("fileMode", 0o666), self.stage.tree
        try:
            os.mknod(name, kind | 0o600, 0 if kind == stat.S_IFIFO else number, dir_fd=stage)
        except PermissionError:
            host = device.get("hostPath") or device["path"]
            try:
                node = mounts.bind_tree(host, Options(["bind"]))
            except FileNotFoundError:
                message = f"no device can be made here, and the host has none at {host}"
                raise OSError(errno.ENODEV, message) from None
            status = os.fstat(node)
            if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != number:
                raise OSError(errno.ENODEV, "the host has another device there") from None
            return node
        os.chown(name, device.get("uid", 0), device.get("gid", 0), dir_fd=stage, follow_symlinks=False)
        os.chmod(name, mode, dir_fd=stage)
        return libc.clone_tree(stage, name)

    def _device(self, name: str, number: int) -> int:
        """A detached mount of a device node: a new one, or the host's where none may be made."""
        try:
            os.mknod(f"node-{name}", stat.S_IFCHR | 0o666, number, dir_fd=self.stage.tree)
            return libc.clone_tree(self.stage.tree, f"node-{name}")
        except PermissionError:
            try:
                node = mounts.bind_tree(f"/dev/{name}", Options(["bind", "nosuid"]))
            except FileNotFoundError:
                raise OSError(errno.ENODEV, f"this machine has no /dev/{name}") from None
        if os.fstat(node).st_rdev != number:
            raise OSError(errno.ENODEV, f"the host's /dev/{name} is another device")
        return node

    # --- masked and read-only paths ---

    def _restrict(self) -> None:
        settings = self.spec.get("linux", {})
        empty = -1
        for path in settings.get("maskedPaths", ()):
            place = self._find(path)
            if place is None:
                continue
            if not mounts.is_folder(place):
                tree = self._clone_null()
            else:
                if empty < 0:
                    empty = self._empty_folder()
                tree = libc.clone_tree(empty)
            mounts.attach(tree, place)
            os.close(tree)
        for path in settings.get("readonlyPaths", ()):
            self._make_readonly(path)

    def _find(self, path: str) -> int | None:
        """The place of a masked path; below /proc and /sys it is looked up in the mounts made here."""
        first, _, rest = path.strip("/").partition("/")
        folder, resolve = self.kernel.get(f"/{first}"), libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
        if folder is None or not rest:
            folder, rest, resolve = self.root, path, mounts.IN_ROOT
        try:
            return libc.openat2(folder, rest, os.O_PATH, resolve=resolve)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def _clone_null(self) -> int:
        number = DEVICES["null"]
        try:
            return libc.clone_tree(self.stage.tree, "node-null")
        except FileNotFoundError:
            return self._device("null", number)

    def _empty_folder(self) -> int:
        tree = mounts.new_filesystem(
            "tmpfs",
            [("mode", "755"), ("size", "4k"), *mounts.labelled(self.label)],
            libc.MOUNT_ATTR_RDONLY | libc.MOUNT_ATTR_NODEV | libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC,
        )
        self.stage.attach(tree)
        return tree

    def _make_readonly(self, path: str) -> None:
        place = self._find(path)
        if place is None:
            return
        tree = libc.clone_tree(place, recursive=True)
        libc.mount_setattr(tree, libc.MOUNT_ATTR_RDONLY, recursive=True)
        mounts.attach(tree, place)
        os.close(tree)

    # --- streams ---

    def _give_terminal(self) -> None:
        from builder.runtime import terminals

        if "/dev/pts" not in self.kernel or "/dev" not in self.kernel:
            raise Failure("spec", 0, "a terminal needs a devpts of its own at /dev/pts")
        size = self.spec["process"].get("consoleSize") or {}
        terminals.give(self.kernel["/dev/pts"], self.kernel["/dev"], size)

    def _open_null(self) -> None:
        """Standard input: the container's own /dev/null, or a pipe that nobody writes to."""
        if "/dev" in self.kernel:
            null = os.open("null", os.O_RDONLY, dir_fd=self.kernel["/dev"])
        else:
            null, unused = os.pipe()
            os.close(unused)
        os.dup2(null, 0)
        os.close(null)


def _named(kind: str, mount: Mapping[str, Any]) -> str:
    """A file or folder that is to be mounted, by its name in what it is from if it has one."""
    subpath = Options(mount.get("options", ())).named("x-subpath")
    return f"the {kind} {subpath}" if subpath else f"a {kind}"


def _makes_node(name: str, number: int, folder: int) -> bool:
    """Make a device node; False where the kernel grants none, as in a user namespace."""
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, number, dir_fd=folder)
    except PermissionError:
        return False
    return True
