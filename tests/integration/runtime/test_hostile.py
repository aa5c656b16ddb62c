"""Images, stages and mounts that try to reach the host (SAFETY.md, "Mounts and RUN flags", "Runtime")."""

from __future__ import annotations

import contextlib
import ctypes
import encodings
import os
import signal
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.runtime.spec import Bind, Overlay, SecretFile, Tmpfs
from tests.support.machine import CHECKOUT
from tests.support.processes import children, open_files

from .conftest import Sandbox

pytestmark = pytest.mark.root


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    folder = tmp_path / "layer"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    """Swap two names for each other, all the while, by a process of its own (renameat2(2))."""
    rename, here, exchange = ctypes.CDLL(None).renameat2, -100, 2
    names = os.fsencode(one), os.fsencode(other)
    child = os.fork()
    if child == 0:
        try:
            while os.getppid() != 1:
                rename(here, names[0], here, names[1], exchange)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def on(sandbox: Sandbox, layer: Path) -> list[str]:
    return [str(sandbox.base), str(layer)]


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", ["/etc", "/root/none", "../../../etc"])
@pytest.mark.hostile("CVE-2026-41579", "CVE-2026-42306")
async def test_kernel_folders_that_are_symlinks_are_refused(
    sandbox: Sandbox, layer: Path, name: str, target: str
) -> None:
    os.symlink(target, layer / name)
    before = sorted(os.listdir("/etc"))
    with pytest.raises(BuildError, match=rf"at /{name}: .*symbolic links"):
        await sandbox.run("true", lower=on(sandbox, layer))
    assert sorted(os.listdir("/etc")) == before


@pytest.mark.parametrize("link", ["/etc", "../../../../etc", "/proc/../etc", "loop/../../etc"])
@pytest.mark.hostile("CVE-2021-30465")
async def test_a_target_behind_a_symlink_lies_in_the_image(sandbox: Sandbox, layer: Path, link: str) -> None:
    os.symlink(link, layer / "link")
    os.symlink("/root", layer / "loop")
    name = "pybuild-must-not-be-here"
    mounts = [Tmpfs(f"/link/{name}/deep"), SecretFile(f"/link/{name}.file", "s")]
    said = await sandbox.says(
        f"ls -d /etc/{name}*; stat -c %F /etc/{name}/deep; cat /etc/{name}.file",
        lower=on(sandbox, layer),
        mounts=mounts,
        files={"s": b"secret\n"},
    )
    assert said == [f"/etc/{name}", f"/etc/{name}.file", "directory", "secret"]
    assert not Path(f"/etc/{name}").exists()


async def test_a_file_target_that_links_to_a_host_file_covers_the_images(
    sandbox: Sandbox, layer: Path, tmp_path: Path
) -> None:
    os.symlink("/../../etc/passwd", layer / "link")
    (tmp_path / "f").write_text("mine\n")
    said = await sandbox.says(
        "cat /etc/passwd", lower=on(sandbox, layer), mounts=[Bind("/link", str(tmp_path / "f"))]
    )
    assert said == ["mine"]


async def test_dangling_links_are_made_inside_the_image(sandbox: Sandbox, layer: Path) -> None:
    os.symlink("/made/by/link", layer / "dangling")
    os.symlink("beside", layer / "relative")
    mounts = [Tmpfs("/dangling/x"), Tmpfs("/relative")]
    said = await sandbox.says(
        "grep -c -E ' (/made/by/link/x|/beside) ' /proc/self/mountinfo",
        lower=on(sandbox, layer),
        mounts=mounts,
    )
    assert said == ["2"]
    assert not Path("/made").exists()


async def test_a_circle_of_links_ends_with_an_error(sandbox: Sandbox, layer: Path) -> None:
    os.symlink("b", layer / "a")
    os.symlink("a", layer / "b")
    os.symlink("grow/grow", layer / "grow")
    for target in ("/a", "/a/x", "/grow"):
        with pytest.raises(BuildError, match=rf"at {target}: .*symbolic links"):
            await sandbox.run("true", lower=on(sandbox, layer), mounts=[Tmpfs(target)])


async def test_a_file_on_the_way_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(BuildError, match=r"at /etc/passwd/x: .*Not a directory"):
        await sandbox.run("true", mounts=[Tmpfs("/etc/passwd/x")])


@pytest.mark.parametrize("link", ["/", "/../..", "."])
async def test_the_root_is_no_target_under_any_name(sandbox: Sandbox, layer: Path, link: str) -> None:
    os.symlink(link, layer / "link")
    for target in ("/", "/etc/..", "/link"):
        with pytest.raises(BuildError, match="it is the root"):
            await sandbox.run("true", lower=on(sandbox, layer), mounts=[Tmpfs(target)])


@pytest.mark.hostile("CVE-2019-19921", "CVE-2023-27561", "CVE-2023-28642")
async def test_nothing_is_mounted_in_proc(sandbox: Sandbox, layer: Path) -> None:
    os.symlink("/proc/sys", layer / "link")
    os.symlink("/proc/self/root", layer / "magic")
    for target in ("/proc", "/proc/sys", "/link", "/link/kernel", "/proc/self/attr"):
        with pytest.raises(BuildError, match="lies in /proc"):
            await sandbox.run("true", lower=on(sandbox, layer), mounts=[Tmpfs(target)])
    for target in ("/magic/x", "/proc/1/cwd/x"):
        with pytest.raises(BuildError, match="cannot mount"):
            await sandbox.run("true", lower=on(sandbox, layer), mounts=[Tmpfs(target)])


@pytest.mark.parametrize("link", ["/", "../../../../..", "/proc/self/root", "/etc"])
@pytest.mark.hostile("CVE-2024-1753", "CVE-2024-23651", "CVE-2024-11218")
async def test_a_subpath_that_is_a_symlink_stays_in_its_stage(
    sandbox: Sandbox, tmp_path: Path, link: str
) -> None:
    stage = tmp_path / "stage"
    (stage / "etc").mkdir(parents=True)
    (stage / "etc/mark").write_text("stage\n")
    os.symlink(link, stage / "link")
    for mount in (Overlay("/m", (str(stage),), subpath="link"), Bind("/m", str(stage), subpath="/link")):
        if link == "/proc/self/root":
            with pytest.raises(BuildError, match=r"from /?link at /m"):
                await sandbox.run("true", mounts=[mount])
        else:
            said = await sandbox.says("cat /m/etc/mark /m/mark 2>/dev/null; true", mounts=[mount])
            assert said == ["stage"]


async def test_a_subpath_with_dots_stays_in_its_stage(sandbox: Sandbox, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "mark").write_text("stage\n")
    for subpath in ("../../../..", "/../.."):
        said = await sandbox.says("cat /m/mark", mounts=[Overlay("/m", (str(stage),), subpath=subpath)])
        assert said == ["stage"]


@pytest.mark.hostile("CVE-2021-30465", "CVE-2024-45310", "CVE-2024-23651")
async def test_a_target_that_becomes_a_link_meanwhile_is_not_made_outside(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Another step, which has the same cache, swaps a folder for a link to one of the machine's."""
    canary, cache = tmp_path / "canary", tmp_path / "cache"
    canary.mkdir()
    (cache / "a").mkdir(parents=True)
    (cache / "b").symlink_to(canary)

    with swapped(cache / "a", cache / "b"):
        for number in range(30):
            mounts = [Bind("/c", str(cache), readonly=False), Tmpfs(f"/c/a/made{number}/deep")]
            with contextlib.suppress(BuildError):
                await sandbox.run("true", mounts=mounts)

    assert os.listdir(canary) == []


@pytest.mark.hostile("CVE-2024-23651", "CVE-2024-11218", "CVE-2021-30465")
async def test_a_subpath_that_becomes_a_link_meanwhile_shows_nothing_outside(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    canary, stage = tmp_path / "canary", tmp_path / "stage"
    (canary / "inside").mkdir(parents=True)
    (stage / "a/inside").mkdir(parents=True)
    (canary / "inside/theirs").write_text("")
    (stage / "b").symlink_to(canary)
    seen: set[str] = set()

    with swapped(stage / "a", stage / "b"):
        for _ in range(30):
            mounts = [Bind("/m", str(stage), subpath="a/inside", readonly=False)]
            with contextlib.suppress(BuildError):
                seen.update((await sandbox.run("ls /m; touch /m/mine", mounts=mounts)).out)

    assert seen <= {"mine"}
    assert os.listdir(canary / "inside") == ["theirs"]


@pytest.mark.hostile("CVE-2025-64329")
async def test_steps_leave_nothing_open_in_what_starts_them(sandbox: Sandbox, tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    (tmp_path / "file").write_text("")
    mounts = [Bind("/m", str(tmp_path / "file")), Tmpfs("/t"), SecretFile("/s", "s")]
    counts = []
    for _ in range(3):
        for command in ("true", "exit 3"):
            await sandbox.run(command, mounts=mounts, files={"s": b"x"})
        with pytest.raises(BuildError):
            await sandbox.run("true", mounts=[Tmpfs("/proc/x")])
        counts.append((descriptors(), sorted(open_files(pid) for pid in children())))

    assert counts[0] == counts[-1]


@pytest.mark.hostile("CVE-2024-21626")
async def test_a_working_folder_is_no_way_out(sandbox: Sandbox) -> None:
    for number in range(64):
        with pytest.raises(BuildError, match="cannot enter the working folder"):
            await sandbox.run(["/bin/pwd"], cwd=f"/proc/self/fd/{number}")
    assert await sandbox.says(["/bin/ls"], cwd="/proc/1/root/proc/self/root/etc") == ["group", "passwd"]


@pytest.mark.hostile("overlay xattrs")
async def test_redirects_smuggled_into_a_layer_are_not_followed(sandbox: Sandbox, layer: Path) -> None:
    low = layer.parent / "low"
    (low / "hidden").mkdir(parents=True)
    (low / "hidden/f").write_text("")
    (layer / "d").mkdir()
    os.setxattr(layer / "d", "trusted.overlay.redirect", b"/hidden")
    lower = [str(sandbox.base), str(low), str(layer)]
    for where in ("/d", "/m/d"):
        said = await sandbox.run(f"ls {where}", lower=lower, mounts=[Overlay("/m", tuple(lower))])
        assert said.out == []


@pytest.mark.hostile("CVE-2019-5736")
async def test_the_python_that_starts_a_step_cannot_be_changed_by_it(sandbox: Sandbox, layer: Path) -> None:
    """CVE-2019-5736: a command that is /proc/self/exe runs the host's Python inside the container."""
    script = (
        "import os\n"
        "for call in (lambda f: os.fchmod(f, 0o4755), lambda f: os.fchown(f, 1, 1),\n"
        "             lambda f: os.setxattr(f, 'security.capability', bytes.fromhex('01' + '00' * 19)),\n"
        "             lambda f: os.utime(f), lambda f: os.open('/proc/self/exe', os.O_RDWR)):\n"
        "    try: call(os.open('/proc/self/exe', os.O_RDONLY)); print('changed')\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    (layer / "interpreted").write_text(f"#!/proc/self/exe\n{script}")
    (layer / "interpreted").chmod(0o755)
    before = os.stat("/proc/self/exe")
    settings = {"lower": on(sandbox, layer), "mounts": python_mounts()}
    for argv in (["/proc/self/exe", "-I", "-S", "-c", script], ["/interpreted"]):
        said = await sandbox.says(argv, **settings)
        assert set(said) <= {"Read-only file system", "Text file busy"}, said
        assert len(said) == 5
    assert os.stat("/proc/self/exe") == before


def python_mounts() -> list[Bind]:
    """What the host's Python needs in a container."""
    folders = dict.fromkeys(["/usr", sys.base_prefix])
    return [Bind(folder, folder) for folder in folders if not folder.startswith("/usr/") or folder == "/usr"]


def poison(layer: Path) -> None:
    """Put a file that tells when it is loaded wherever this Python looks for modules."""
    names = {f"{name}.py" for name in sys.stdlib_module_names}
    (layer / "told.py").write_text("import posix\nposix.mkdir('/poisoned')\nraise OSError(99, 'poisoned')\n")
    encodings_folder = os.path.dirname(encodings.__file__)
    packages = {
        sysconfig.get_path("stdlib"): names,
        encodings_folder: {name for name in os.listdir(encodings_folder) if name.endswith(".py")},
        str(CHECKOUT / "builder"): {path.name for path in (CHECKOUT / "builder").glob("*.py")},
        str(CHECKOUT / "builder/runtime"): {
            path.name for path in (CHECKOUT / "builder/runtime").glob("*.py")
        },
    }
    for folder, files in packages.items():
        here = layer / folder.lstrip("/")
        here.mkdir(parents=True, exist_ok=True)
        for name in files:
            os.link(layer / "told.py", here / name)


@pytest.mark.hostile("CVE-2019-14271")
async def test_nothing_of_the_image_is_loaded_by_what_starts_the_command(
    sandbox: Sandbox, layer: Path
) -> None:
    """A helper that has changed its root and then imports a module gets the image's."""
    poison(layer)
    settings = {"lower": on(sandbox, layer)}
    failing = [
        ("cannot run none: not found", {"command": ["none"]}),
        ("cannot run /bin: it is a folder", {"command": ["/bin"]}),
        ("cannot enter the working folder /sys/none/a", {"command": ["ls"], "cwd": "/sys/none/a"}),
        ("cannot become user 4294967296", {"command": ["ls"], "uid": 1 << 32}),
        ("cannot mount", {"command": ["ls"], "mounts": [Tmpfs("/proc/x")]}),
    ]

    assert await sandbox.says("echo fine", **settings, uid=7, gid=8, groups=(8, 9)) == ["fine"]
    assert not (sandbox.upper / "poisoned").exists()
    for message, changes in failing:
        with pytest.raises(BuildError, match=message):
            await sandbox.run(**changes, **settings)
        assert not (sandbox.upper / "poisoned").exists()
