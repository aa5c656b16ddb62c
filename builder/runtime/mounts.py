"""The mounts of an OCI spec as detached trees: made here, and attached by whoever knows where.

The one idea: nothing is ever mounted by a path inside the container. A mount is a descriptor of a tree
that hangs nowhere (fsmount, open_tree), a target is a descriptor of a place, resolved by the kernel
inside the root, and move_mount puts one on the other. So neither a symlink nor a rename in an image, a
stage or a cache can make a mount land, or come from, somewhere else.

Runs in the step's process, in its own mount namespace; knows no builder. Invariant: whatever a path of
the spec says, only host paths named as sources, layers or `root.path` are looked up on the host.
"""

from __future__ import annotations

import errno
import os
import stat

from builder import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IN_ROOT = libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO in linux/proc_ns.h
MAX_LAYERS = 500  # lower folders of one overlay, by the kernel's fs/overlayfs (OVL_MAX_STACK)

_ATTRIBUTES = {
    "ro": libc.MOUNT_ATTR_RDONLY,
    "nosuid": libc.MOUNT_ATTR_NOSUID,
    "nodev": libc.MOUNT_ATTR_NODEV,
    "noexec": libc.MOUNT_ATTR_NOEXEC,
    "noatime": libc.MOUNT_ATTR_NOATIME,
    "strictatime": libc.MOUNT_ATTR_STRICTATIME,
    "nodiratime": libc.MOUNT_ATTR_NODIRATIME,
    **dict.fromkeys(("rw", "suid", "dev", "exec", "relatime", "defaults", "bind", "rbind"), 0),
    **dict.fromkeys(("private", "rprivate", "slave", "rslave"), 0),  # all mounts here are private
}


class Options:
    """The options of one mount: flags of the mount, and parameters of the filesystem.

    `parameters` keeps the order; one without a value has None. `named` looks the last one up.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self.attributes = 0
        self.recursive = "bind" not in options
        self.parameters: list[tuple[str, str | None]] = []
        for option in options:
            if option in _ATTRIBUTES:
                self.attributes |= _ATTRIBUTES[option]
            else:
                name, equals, value = option.partition("=")
                self.parameters.append((name, value if equals else None))

    def named(self, name: str) -> str:
        """The parameter's value, or ""."""
        values = [value for key, value in self.parameters if key == name]
        return values[-1] or "" if values else ""


class Stage:
    """A private tmpfs, visible to this process only, that holds what mounts are made of.

    It lies over `place`, a folder of the host, in this mount namespace; it goes when the old root goes.
    """

    def __init__(self, place: str, label: str = "") -> None:
        self.place = place
        self.label = label
        self.tree = new_filesystem("tmpfs", [("mode", "700"), *labelled(label)], libc.MOUNT_ATTR_NOSUID)
        attach(self.tree, libc.openat2(libc.AT_FDCWD, place, os.O_PATH))
        self._made = 0

    def new_name(self, kind: str) -> str:
        """A name that is not taken."""
        self._made += 1
        return f"{kind}-{self._made}"

    def make_folder(self, kind: str) -> str:
        """A new folder's path on the host side."""
        name = self.new_name(kind)
        os.mkdir(name, 0o755, dir_fd=self.tree)
        return f"{self.place}/{name}"

    def make_file(self, content: bytes, mode: int, uid: int, gid: int) -> int:
        """A detached mount of a new file."""
        name = self.new_name("file")
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.tree)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(file, view) :]
            os.fchown(file, uid, gid)
            os.fchmod(file, mode)
        finally:
            os.close(file)
        return libc.clone_tree(self.tree, name)

    def attach(self, tree: int) -> str:
        """Attach a tree here, as only trees that hang somewhere can be cloned (before Linux 6.15)."""
        path = self.make_folder("tree")
        attach(tree, libc.openat2(libc.AT_FDCWD, path, os.O_PATH))
        return path


def labelled(label: str) -> list[tuple[str, str | None]]:
    """The parameter that gives all files of a filesystem this SELinux label; none for ""."""
    return [("context", label)] if label else []


def attach(tree: int, place: int) -> None:
    """Attach `tree` on `place`, and close `place`."""
    try:
        libc.move_mount(tree, place)
    finally:
        os.close(place)


def new_filesystem(kind: str, parameters: Sequence[tuple[str, str | None]], attributes: int) -> int:
    """A detached mount of a new filesystem."""
    configuration = libc.fsopen(kind)
    try:
        libc.fsconfig_string(configuration, "source", kind)
        for name, value in parameters:
            if value is None:
                libc.fsconfig_flag(configuration, name)
            else:
                libc.fsconfig_string(configuration, name, value)
        libc.fsconfig_create(configuration)
        return libc.fsmount(configuration, attributes)
    finally:
        os.close(configuration)


def kernel_filesystem(kind: str, options: Options) -> int:
    """A detached mount of a new filesystem, or what comes nearest to it in a user namespace.

    There, sysfs belongs to who has the network namespace: with the host's network, /sys is the host's. A
    group that a namespace of one id has not is left out. "x-outer" asks for the host's mount itself.
    """
    parameters = [(name, value) for name, value in options.parameters if name != "x-outer"]
    if len(parameters) < len(options.parameters):
        return _outer(f"/{kind}", options)
    try:
        return new_filesystem(kind, parameters, options.attributes)
    except OSError as error:
        if kind == "sysfs" and error.errno == errno.EPERM:
            return _outer("/sys", options)
        without = [(name, value) for name, value in parameters if name != "gid"]
        if error.errno != errno.EINVAL or len(without) == len(parameters):
            raise
    return new_filesystem(kind, without, options.attributes)


def _outer(path: str, options: Options) -> int:
    """The host's own mount, with the restrictions asked for on top of those it has."""
    place = libc.openat2(libc.AT_FDCWD, path, os.O_PATH)
    try:
        tree = libc.clone_tree(place, recursive=True)
    finally:
        os.close(place)
    libc.mount_setattr(tree, options.attributes, recursive=True)
    return tree


def bind_tree(source: str, options: Options) -> int:
    """A detached bind mount of a host path, or of `x-subpath` inside it."""
    place = libc.openat2(libc.AT_FDCWD, source, os.O_PATH)
    try:
        subpath = options.named("x-subpath")
        if not subpath:
            return _clone(place, options)
        return _clone_below(place, subpath, options)
    finally:
        os.close(place)


def _clone_below(folder: int, subpath: str, options: Options) -> int:
    place = libc.openat2(folder, subpath, os.O_PATH, resolve=IN_ROOT)
    try:
        return _clone(place, options)
    finally:
        os.close(place)


def _clone(place: int, options: Options) -> int:
    tree = libc.clone_tree(place, recursive=options.recursive)
    clear = libc.MOUNT_ATTR_ATIME if options.attributes & libc.MOUNT_ATTR_ATIME else 0
    libc.mount_setattr(tree, options.attributes, clear=clear, recursive=options.recursive)
    return tree


def overlay_mount(stage: Stage, options: Options) -> int:
    """A detached mount of a snapshot, or of `x-subpath` inside it."""
    lower = [value for name, value in options.parameters if name == "lowerdir+" and value]
    upper, work = options.named("upperdir"), options.named("workdir")
    if not options.attributes & libc.MOUNT_ATTR_RDONLY and not upper:
        upper, work = stage.make_folder("upper"), stage.make_folder("work")
    while len(lower) < (1 if upper else 2):  # as many as overlayfs insists on
        lower.append(stage.make_folder("empty"))
    tree = overlay_tree(lower, upper, work, options.attributes, stage.make_folder("overlay"), stage.label)
    subpath = options.named("x-subpath")
    if not subpath:
        return tree
    stage.attach(tree)
    try:
        return _clone_below(tree, subpath, options)
    finally:
        os.close(tree)


def overlay_tree(
    lower: Sequence[str], upper: str, work: str, attributes: int, place: str, label: str = ""
) -> int:
    """A detached overlay of folders, top first. `place`: where an older kernel may mount it on the way;
    `label`: the SELinux label of all its files.

    Layers are foreign: redirects and metacopies in them are not followed. What goes to `upper` is not
    synced (volatile): it has no meaning until the builder has committed it and synced that. In a user
    namespace what overlayfs notes is in xattrs that its root may set (userxattr, since Linux 5.11).
    """
    if len(lower) > MAX_LAYERS:
        raise OSError(
            errno.E2BIG, f"{len(lower)} layers are too many for overlayfs, which takes {MAX_LAYERS}"
        )
    with _Folders() as folders:
        given = _overlay_rules()
        given += [("lowerdir+", folders.name(folder)) for folder in lower]
        if upper:
            given += [("upperdir", folders.name(upper)), ("workdir", folders.name(work)), ("volatile", "")]
        given += [(name, value or "") for name, value in labelled(label)]
        try:
            return new_filesystem("overlay", [(name, value or None) for name, value in given], attributes)
        except OSError as error:
            if error.errno != errno.EINVAL or "lowerdir+" not in str(error.strerror):
                raise
    return _overlay_of_old(lower, upper, work, attributes, place, label)


def _overlay_rules() -> list[tuple[str, str]]:
    """What holds for every overlay; a parameter without a value is a flag."""
    rules = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")]
    if os.stat("/proc/self/ns/user").st_ino != _INITIAL_USER_NAMESPACE:
        rules.append(("userxattr", ""))
    return rules


class _Folders:
    """Names for folders that fsconfig can take: it has 255 bytes, and overlayfs unescapes backslashes."""

    def __init__(self) -> None:
        self._open: list[int] = []

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._open:
            os.close(folder)

    def name(self, folder: str) -> str:
        if len(os.fsencode(folder)) < 256 and "\\" not in folder:
            return folder
        return f"/proc/self/fd/{self.open(folder)}"

    def open(self, folder: str) -> int:
        self._open.append(libc.openat2(libc.AT_FDCWD, folder, os.O_PATH | os.O_DIRECTORY))
        return self._open[-1]


def _overlay_of_old(
    lower: Sequence[str], upper: str, work: str, attributes: int, place: str, label: str
) -> int:
    """The same by mount(2), before Linux 6.8.

    All options must fit into a page; from inside /proc/self/fd a folder is just a number.
    """
    with _Folders() as folders:
        numbers = [str(folders.open(folder)) for folder in lower]
        data = ",".join(f"{name}={value}" if value else name for name, value in _overlay_rules())
        data += ",lowerdir=" + ":".join(numbers)
        if upper:
            data += f",upperdir={folders.open(upper)},workdir={folders.open(work)},volatile"
        if label:
            data += f',context="{label}"'
        if len(data) >= os.sysconf("SC_PAGESIZE"):
            raise OSError(errno.E2BIG, f"{len(lower)} layers are too many for this kernel's overlayfs")
        os.chdir("/proc/self/fd")
        try:
            libc.mount("overlay", place, "overlay", 0, data)
        finally:
            os.chdir("/")
    top = libc.openat2(libc.AT_FDCWD, place, os.O_PATH | os.O_DIRECTORY)
    try:
        tree = libc.clone_tree(top)
    finally:
        os.close(top)
    libc.mount_setattr(tree, attributes)
    return tree


def file_tree(stage: Stage, options: Options, files: Mapping[str, bytes]) -> int:
    """A detached mount of one file in memory, with the bytes that came under its `x-file` name."""
    content = files.get(options.named("x-file"))
    if content is None:
        raise OSError(errno.ENODATA, "no bytes came with the spec")
    mode, uid, gid = options.named("mode"), options.named("uid"), options.named("gid")
    tree = stage.make_file(content, int(mode or "400", 8), int(uid or "0"), int(gid or "0"))
    libc.mount_setattr(tree, options.attributes)
    return tree


def cgroup_tree(options: Options) -> int:
    """What lies on /sys/fs/cgroup: this process's part of cgroup v2, and nothing where v1 is in use."""
    try:
        if libc.filesystem_type("/sys/fs/cgroup") == libc.CGROUP2_MAGIC:
            return new_filesystem("cgroup2", [], options.attributes)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPERM, errno.ENODEV):
            raise
    return new_filesystem("tmpfs", [("mode", "755"), ("size", "4k")], options.attributes)


def is_folder(place: int) -> bool:
    """Whether a descriptor (O_PATH or a tree) is of a folder."""
    return stat.S_ISDIR(os.fstat(place).st_mode)


def open_target(root: int, path: str, *, folder: bool, plain: bool = False) -> int:
    """The place `path` inside `root`, as an O_PATH descriptor; what is missing of it is made.

    Symlinks (and "..") are followed inside the root; with `plain` a symlink is an error (ELOOP). Missing
    parents are folders of mode 0755, the last name is a folder or an empty file of mode 0755 or 0644.
    """
    resolve = IN_ROOT | (libc.RESOLVE_NO_SYMLINKS if plain else 0)
    todo, done, links = _names(path), "", 0
    current = os.dup(root)
    while todo:
        name, *todo = todo
        try:
            following = libc.openat2(root, f"{done}/{name}", os.O_PATH, resolve=resolve)
        except FileNotFoundError:
            link = _read_link(current, name)
            links += 1
            if link is None:
                following = _make(current, name, folder=folder or bool(todo))
            elif links > 40:
                raise OSError(errno.ELOOP, "too many symbolic links", path) from None
            else:  # a dangling link: go on where it points, and make that
                todo = _names(link) + todo
                if link.startswith("/"):
                    done, following = "", os.dup(root)
                else:
                    following = os.dup(current)
                name = ""
        os.close(current)
        current = following
        done = f"{done}/{name}" if name else done
    return current


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _read_link(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise


def _make(parent: int, name: str, *, folder: bool) -> int:
    """Make `name` in `parent`, or take what another step made there in this moment (a shared cache)."""
    try:
        if folder:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        pass
    return libc.openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, resolve=libc.RESOLVE_BENEATH)
