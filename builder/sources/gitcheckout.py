"""The files of a commit, laid down by git in a folder of their own, and read as the entries of a layer.

Every checkout has a repository of its own, whose objects are borrowed from the one that they were fetched to
(or copied, where `.git` stays), so that no setting and no submodule of one commit is there for another. The
folder that is meant is reached name by name, and no name on the way may be a link (CVE-2026-33748).

Must never know: where the objects came from.
"""

from __future__ import annotations

import os
import shutil
import stat

from builder.errors import BuildError, MissingPath
from builder.fs.remove import remove_tree
from builder.oci.layer import canonical
from builder.snapshots.snapshot import Entry
from builder.sources import context
from builder.sources.gitcommand import GitCommand


class Checkout:
    """A work tree at `tree`, which must not be there yet, over the objects of the bare repository `objects`.

    keeps: `.git` is in it to stay; what: told in errors.
    """

    def __init__(self, git: GitCommand, tree: str, objects: str, *, keeps: bool, what: str) -> None:
        self.git = git
        self.tree = tree
        self.objects = objects
        self.keeps = keeps
        self.what = what
        self.git_dir = os.path.join(tree, ".git") if keeps else tree + ".git"

    async def open(self, remote: str, target: str, kept_ref: str, name: str) -> None:
        """Make the repository. target: the id of a commit or tag, which `kept_ref` is in the bare one.

        name: the ref that led to it, which a kept `.git` has too; "" for none.
        """
        os.mkdir(self.tree)
        os.chmod(self.tree, 0o755)
        form = ["--object-format=sha256"] if len(target) == 64 else []
        await self._run("init", "--quiet", "--template=", *form)
        await self._run("remote", "add", "origin", remote)
        if self.keeps:
            await self._copy_objects(kept_ref, name)
        else:
            self._borrow_objects()

    async def write(self, commit: str, *, submodules: bool) -> None:
        """Lay down the files."""
        await self._run("checkout", "--quiet", "--force", "--detach", commit)
        if submodules and _is_file(os.path.join(self.tree, ".gitmodules")):
            await self._run("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")

    async def _copy_objects(self, kept_ref: str, name: str) -> None:
        spec = f"+{kept_ref}:{name}" if name.startswith(("refs/heads/", "refs/tags/")) else kept_ref
        flags = ("--quiet", "--depth=1", "--no-tags", "--update-head-ok")
        await self._run("fetch", *flags, "--", "file://" + self.objects, spec, local=True)
        os.unlink(os.path.join(self.git_dir, "FETCH_HEAD"))

    def _borrow_objects(self) -> None:
        """See gitrepository-layout(5): alternates."""
        os.makedirs(os.path.join(self.git_dir, "objects", "info"), exist_ok=True)
        with open(os.path.join(self.git_dir, "objects", "info", "alternates"), "xb") as file:
            file.write(os.fsencode(os.path.join(self.objects, "objects")) + b"\n")
        shallow = os.path.join(self.objects, "shallow")
        if os.path.exists(shallow):
            shutil.copyfile(shallow, os.path.join(self.git_dir, "shallow"))

    async def _run(self, *arguments: str, local: bool = False) -> None:
        await self.git.run(
            self.what,
            *arguments,
            folder=self.tree,
            git_dir=self.git_dir,
            work_tree=self.tree,
            local=local,
        )


def find_folder(top: str, subdir: str, shown: str) -> str:
    """A folder of a checkout, by its clean relative path. Raises MissingPath, BuildError for a link."""
    path = top
    for name in subdir.split("/") if subdir else ():
        path = os.path.join(path, name)
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise MissingPath(f"{shown} has no folder {subdir}") from None
        except ValueError as error:
            raise MissingPath(f"{shown} cannot have a folder {subdir!r}") from error
        if not stat.S_ISDIR(mode):
            what = "a link" if stat.S_ISLNK(mode) else "a file"
            raise BuildError(
                f"{subdir} in {shown} is no folder: there is {what} on the way", code="bad-subdir"
            )
    return path


def read_tree(tree: str, *, keep: bool, seconds: int | None) -> list[Entry]:
    """The entries of a checkout; submodules lose the `.git` that would name folders of this machine."""
    entries = context.read(tree, None)
    left = [] if keep else [entry.path for entry in entries if entry.path.rpartition("/")[2] == ".git"]
    if left:
        for path in reversed(left):
            _drop(os.path.join(tree, path))
        entries = context.read(tree, None)
    if seconds is not None:
        when = seconds * 1_000_000_000
        for entry in reversed(entries):  # a folder after what it holds
            os.utime(os.path.join(tree, entry.path), ns=(when, when), follow_symlinks=False)
            entry.mtime = when
    return canonical(entries)


def _drop(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
    else:
        os.unlink(path)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
