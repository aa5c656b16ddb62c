"""A plain user builds: what programs do with owners on the rungs of such a user, and what becomes of it."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import rootless
from tests.support.contexts import lay
from tests.support.images import Member, ReadImage, read_image, read_only_image
from tests.support.machine import FIXTURES, Pybuild, needs, needs_root, run
from tests.support.namespaces import has_user_namespaces
from tests.support.processes import descendants, status
from tests.support.rootless import Rootless

sys.path.insert(0, str(FIXTURES.parent))

import bases

pytestmark = [
    pytest.mark.root,
    needs_root(),
    needs("busybox", "unshare", "setpriv", "newuidmap", "skopeo"),
    pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here"),
]

needs_packages = [
    pytest.mark.network,
    needs("mmdebstrap"),
    pytest.mark.skipif(not bases.apt_sources(), reason="this machine has no Debian package sources"),
]

RUNGS = ["userns", "single-uid"]
EPOCH = "1700000000"

SYSTEM = """
FROM debian AS system
RUN --mount=type=secret,id=apt-sources,target=/etc/apt/sources.list.d/machine.sources \
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    cron dbus python3-pip && rm -rf /var/lib/apt/lists/*
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,mode=0444 \
    pip install --no-cache-dir --disable-pip-version-check --break-system-packages --root-user-action=ignore \
    six && python3 -c 'import six'
RUN stat -c '%n %u:%U %G %a' /usr/bin/crontab /var/spool/cron/crontabs /usr/bin/passwd \
    /usr/lib/dbus-1.0/dbus-daemon-launch-helper
"""

OWNERS = """
FROM debian
ENV SOURCE_DATE_EPOCH=1700000000
RUN groupadd -g 4321 crew && useradd -m -u 1234 -G crew -s /bin/sh app && rm -f /etc/*-
COPY --chown=app:crew hello /home/app/hello
RUN stat -c 'copied %u:%g' /home/app/hello && id app
USER app
WORKDIR /srv/work
RUN id && touch /home/app/mine && stat -c 'made %U:%G' /home/app/mine
USER root
WORKDIR /root
RUN mkdir d && echo a > d/a && echo b > d/b && ln -s a d/l && mkfifo d/p && chown 7:8 d/a \
    && chown -h 9:10 d/l && chown 11:12 d/p && chown 1000:2000 d/b && chmod 4755 d/b \
    && tar -cf d.tar d && rm -r d && tar -xpf d.tar && stat -c '%n %u:%g %a' d/* && rm d.tar
RUN cp -a d copy && install -o app -g crew -m 640 d/a /etc/app.conf && chown -R --from=7:8 app: copy \
    && stat -c '%n %U:%G %a' copy/a /etc/app.conf && runuser -u app -- id -un
"""


@pytest.fixture
def user() -> Iterator[Rootless]:
    with closing(Rootless()) as user:
        yield user


@pytest.fixture(scope="module")
def busybox_user(busybox_layout: Path) -> Iterator[Rootless]:
    """A user who may read a layout with busybox, `self.folder / "busybox"`."""
    with closing(Rootless()) as user:
        run(["cp", "-a", busybox_layout, user.folder / "busybox"])
        yield user


@pytest.fixture(scope="module")
def debian_user(debian_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rootless]:
    """The same with Debian."""
    with closing(Rootless()) as user:
        run(["cp", "-a", debian_layout, user.folder / "debian"])
        yield user


def base_flag(user: Rootless, name: str) -> tuple[str, str]:
    return "--build-context", f"{name}=oci-layout://{user.folder / name}:1"


def lines_of(text: str) -> list[str]:
    """What steps said, of --progress=plain."""
    return re.findall(r"^#\d+ \d+\.\d+ (.*)$", text, re.MULTILINE)


def looks(image: ReadImage) -> dict[str, tuple[object, ...]]:
    """The image's paths without what a clock or a log may change in them."""

    def look(member: Member) -> tuple[object, ...]:
        return (
            member.kind,
            member.mode,
            member.uid,
            member.gid,
            member.link,
            member.device,
            member.capability,
        )

    return {
        path: look(member) for path, member in image.tree().items()
        if not path.endswith((".pyc", "__pycache__")) and not path.startswith("var/cache/ldconfig")
    }  # fmt: skip


# ── real programs ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def secrets(debian_user: Rootless) -> list[str]:
    folder = debian_user.folder / "secrets"
    folder.mkdir()
    return bases.machine_secrets(folder)


@pytest.fixture(scope="module")
def system_of_root(
    debian_user: Rootless, secrets: list[str], tmp_path_factory: pytest.TempPathFactory
) -> ReadImage:
    folder = tmp_path_factory.mktemp("system")
    lay(folder / "context", SYSTEM)
    flags = [*base_flag(debian_user, "debian"), *secrets, "-o", f"type=oci,tar=false,dest={folder / 'out'}"]
    Pybuild(folder / "store").build(folder / "context", *flags)
    return read_only_image(folder / "out")


@pytest.mark.parametrize("rung", RUNGS)
class TestRealPrograms:
    pytestmark = needs_packages

    def test_apt_get_and_pip_give_what_they_give_to_root(
        self, debian_user: Rootless, secrets: list[str], system_of_root: ReadImage, rung: str
    ) -> None:
        lay(debian_user.context, SYSTEM)
        debian_user.root = debian_user.home / f"store-{rung}"  # else one rung has made all
        out = debian_user.home / f"system-{rung}"

        done = debian_user.build(
            rung, *base_flag(debian_user, "debian"), *secrets, "-o", f"type=oci,tar=false,dest={out}"
        )

        assert lines_of(done.stderr)[-4:] == [
            "/usr/bin/crontab 0:root crontab 2755",
            "/var/spool/cron/crontabs 0:root crontab 1730",
            "/usr/bin/passwd 0:root root 4755",
            "/usr/lib/dbus-1.0/dbus-daemon-launch-helper 0:root messagebus 4754",
        ]
        assert looks(read_only_image(out)) == looks(system_of_root)

    def test_owners_are_as_root_s_build_has_them_to_the_last_byte(
        self, debian_user: Rootless, tmp_path: Path, rung: str
    ) -> None:
        lay(debian_user.context, OWNERS, {"hello": "hello\n"})
        debian_user.root = debian_user.home / f"store-{rung}"
        out = debian_user.home / f"owners-{rung}"
        flags = [*base_flag(debian_user, "debian"), "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}"]
        pinned = "type=oci,tar=false,rewrite-timestamp=true,dest="

        done = debian_user.build(rung, *flags, "-o", f"{pinned}{out}")
        Pybuild(tmp_path / "store").build(debian_user.context, *flags, "-o", f"{pinned}{tmp_path / 'out'}")

        assert {
            "copied 1234:4321",
            "uid=1234(app) gid=1234(app) groups=1234(app),4321(crew)",
            "made app:app",
            "d/a 7:8 644",
            "d/b 1000:2000 4755",
            "d/l 9:10 777",
            "d/p 11:12 644",
            "copy/a app:app 644",
            "/etc/app.conf app:crew 640",
            "app",
        } <= set(lines_of(done.stderr)), done.stderr
        assert read_only_image(out).diff_ids == read_only_image(tmp_path / "out").diff_ids


# ── the store of a user ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rung", RUNGS)
def test_images_of_steps_can_be_listed_removed_and_loaded(
    busybox_user: Rootless, tmp_path: Path, rung: str
) -> None:
    user = busybox_user
    user.root = user.home / f"commands-{rung}"
    lay(user.context, "FROM busybox\nRUN mkdir -m 700 /d && echo x > /d/f && chown -R 5:6 /d\n")
    archive = user.home / f"{rung}.tar"
    user.build(rung, *base_flag(user, "busybox"), "-t", "one", "-o", f"type=oci,dest={archive}", "--load")

    removed = user.run("rmi", "one")
    loaded = user.run("load", "-i", archive)
    lay(user.context, "FROM one\nRUN stat -c '%u:%g' /d /d/f\n")
    again = user.build(rung, "-t", "two")

    assert "one" in removed.stdout
    assert "one" in loaded.stdout
    assert lines_of(again.stderr) == ["5:6", "5:6"] or "cached" in again.stderr
    member = read_image(user.root, "two:latest").tree()["d/f"]
    assert (member.uid, member.gid) == (5, 6)
    assert list((user.root / "ingest").iterdir()) == []


@pytest.mark.parametrize("rung", RUNGS)
def test_what_a_killed_build_leaves_is_swept_by_the_next(busybox_user: Rootless, rung: str) -> None:
    """Its folders hold files of other ids, which only root of a namespace with these ids can remove."""
    user = busybox_user
    user.root = user.home / f"killed-{rung}"
    steps = "RUN mkdir -m 700 /d && touch /d/f && chown -R 5:6 /d && echo ready && sleep 60"
    lay(user.context, f"FROM busybox\n{steps}\n")
    words = ["build", "--isolation", rung, "--progress=plain", *base_flag(user, "busybox"), str(user.context)]
    building = user.start(*words)
    try:
        assert building.stderr is not None
        assert any(re.search(r"^#\d+ \d+\.\d+ ready", line) for line in building.stderr)
    finally:
        building.send_signal(signal.SIGKILL)
        building.communicate()
    assert list((user.root / "ingest").iterdir()) != []

    lay(user.context, "FROM busybox\nRUN echo next\n")
    user.build(rung, *base_flag(user, "busybox"))

    assert list((user.root / "ingest").iterdir()) == []
    deadline = time.monotonic() + 30
    while (left := [pid for pid in descendants() if is_users(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def is_users(pid: int) -> bool:
    """Whether a process is the user's, or of their range."""
    uid = int(status(pid).get("Uid", "0").split()[0])
    return uid == rootless.UID or rootless.FIRST <= uid < rootless.FIRST + rootless.COUNT


# ── without any namespaces ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "condition",
    [
        rootless.NAMESPACES_LIMITED,
        rootless.NAMESPACES_FILTERED,
        rootless.MOUNTS_FILTERED,
        rootless.READ_ONLY_PROC,
    ],
)
def test_dockerfiles_without_run_need_no_rights(
    busybox_user: Rootless, tmp_path: Path, condition: str
) -> None:
    user = busybox_user
    lay(
        user.context,
        "FROM busybox AS a\nWORKDIR /w\nCOPY --chown=7:8 hello .\nADD x.tar /x\n"
        "FROM a\nCOPY --from=a /w /z\n",
        {"hello": "x"},
    )
    run(["tar", "-C", user.context, "--owner=99", "--group=98", "-cf", user.context / "x.tar", "hello"])
    out = user.home / f"without-{len(condition)}"
    words = ["--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", *base_flag(user, "busybox")]
    pinned = "type=oci,tar=false,rewrite-timestamp=true,dest="

    user.run("build", *words, "-o", f"{pinned}{out}", user.context, conditions=[condition])
    Pybuild(tmp_path / "store").build(user.context, *words, "-o", f"{pinned}{tmp_path / 'out'}")

    image = read_only_image(out)
    owners = {path: (image.tree()[path].uid, image.tree()[path].gid) for path in ("z/hello", "x/hello")}
    assert owners == {"z/hello": (7, 8), "x/hello": (99, 98)}
    assert image.digest == read_only_image(tmp_path / "out").digest


@pytest.mark.parametrize(
    ("condition", "reason", "remedy"),
    [
        (rootless.NAMESPACES_LIMITED, "No space left on device", "sysctl -w user.max_user_namespaces"),
        (rootless.NAMESPACES_FILTERED, "Operation not permitted", "--security-opt seccomp=unconfined"),
        (rootless.MOUNTS_FILTERED, "Permission denied", "--security-opt seccomp=unconfined"),
        (rootless.READ_ONLY_PROC, "Read-only file system", "/proc must be mounted, and not read-only"),
    ],
)
def test_a_run_without_namespaces_is_refused_with_advice(
    busybox_user: Rootless, condition: str, reason: str, remedy: str
) -> None:
    user = busybox_user
    lay(user.context, "FROM busybox\nCOPY . /c\nRUN true\n")

    done = user.run("build", *base_flag(user, "busybox"), user.context, conditions=[condition], check=False)

    assert done.returncode == 1
    (error,) = re.findall(r"^error: (.*)$", done.stderr, re.MULTILINE)
    (hint,) = re.findall(r"^hint: (.*)$", done.stderr, re.MULTILINE)
    assert error == f"RUN cannot be run here: the kernel refuses user namespaces ({reason})"
    assert remedy in hint


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (rootless.FEW_DEVICES, "cannot mount tmpfs at /dev: this machine has no /dev/zero"),
        (rootless.NO_DEVICES, "/dev/null: no such file or directory"),
    ],
)
def test_a_device_that_is_not_there_is_named(busybox_user: Rootless, condition: str, said: str) -> None:
    user = busybox_user
    lay(user.context, "FROM busybox\nRUN true\n")

    done = user.run("build", *base_flag(user, "busybox"), user.context, conditions=[condition], check=False)

    assert done.returncode == 1
    assert re.findall(r"^error: (.*)$", done.stderr, re.MULTILINE) == [said]


# ── what the doctor says ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("condition", "rung", "row", "remedy"),
    [
        (rootless.NO_RANGE, "single-uid", "/etc/subuid has no range of ids for rootless",
         "as root: usermod --add-subuids 100000-165535 rootless"),
        (rootless.NO_NEWUIDMAP, "single-uid", "newuidmap is not installed", "apt-get install uidmap"),
        (rootless.PLAIN_NEWUIDMAP, "single-uid",
         "newuidmap: write to uid_map failed: Operation not permitted",
         "setcap cap_setuid+ep $(command -v newuidmap)"),
        (rootless.NO_NEW_PRIVILEGES, "single-uid", "no_new_privs is set", "allowPrivilegeEscalation: true"),
        (rootless.NAMESPACES_LIMITED, "", "the kernel refuses user namespaces (No space left on device)",
         "as root: sysctl -w user.max_user_namespaces=15000"),
        (rootless.NAMESPACES_FILTERED, "", "the kernel refuses user namespaces (Operation not permitted)",
         "--security-opt seccomp=unconfined"),
        (rootless.MOUNTS_FILTERED, "", "the kernel refuses user namespaces (Permission denied)",
         "--security-opt seccomp=unconfined"),
        (rootless.MASKED_PROC, "userns", "a new /proc is refused here", "procMount: Unmasked"),
    ],
)  # fmt: skip
def test_the_doctor_tells_what_is_in_the_way_and_what_would_change_that(
    user: Rootless, condition: str, rung: str, row: str, remedy: str
) -> None:
    done = user.run("doctor", conditions=[condition], check=False)

    assert done.returncode == (0 if rung else 1)
    lines = done.stdout.splitlines()
    assert lines[0] == (
        f"RUN steps work here; --isolation auto takes: {rung}" if rung
        else "RUN steps do not work here; Dockerfiles without RUN build all the same"
    )  # fmt: skip
    told = next(number for number, line in enumerate(lines) if row in line)
    assert lines[told + 1].strip().startswith("to change that: ")
    assert remedy in lines[told + 1]
