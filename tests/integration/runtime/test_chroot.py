"""--isolation chroot: what a step gets, what it cannot have and is told so; nothing is left of it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.support.contexts import lay
from tests.support.images import ReadImage, read_image
from tests.support.machine import Pybuild, needs_root
from tests.support.workshop import Workshop, find_process

pytestmark = [pytest.mark.root, needs_root()]

CHROOT = ("--isolation", "chroot")
STEPS = """
FROM busybox
RUN mkdir -m 700 /d && echo x > /d/f && chown -R 5:6 /d && ln -s f /d/l && rm /usr/bin/wget
WORKDIR /w
USER 33:44
RUN id -u > /tmp/id && id -g >> /tmp/id && ls /etc >> /tmp/id && pwd >> /tmp/id && env | sort >> /tmp/id
"""


def said(text: str) -> list[str]:
    return re.findall(r"^#\d+ \d+\.\d+ (.*)$", text, re.MULTILINE)


def layers_of(image: ReadImage) -> list[dict[str, object]]:
    return [
        {path: dataclasses.replace(member, mtime=0) for path, member in layer.items()}
        for layer in image.layers
    ]


def test_the_image_is_what_other_rungs_make(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    other = Pybuild(tmp_path / "other")
    shutil.copytree(pybuild.root, other.root, symlinks=True)
    lay(context, STEPS)

    pybuild.build(context, *CHROOT, "-t", "one")
    other.build(context, "-t", "one")

    assert layers_of(read_image(pybuild.root, "one:latest")) == layers_of(
        read_image(other.root, "one:latest")
    )


def test_it_is_told_loudly_and_refused_where_full_isolation_is_asked_for(
    pybuild: Pybuild, context: Path
) -> None:
    lay(context, "FROM busybox\nRUN true\n")

    done = pybuild.build(context, *CHROOT)
    refused = pybuild.build(context, *CHROOT, "--no-cache", "--require-isolation=full", check=False)

    assert done.stderr.count("RUN STEPS ARE NOT ISOLATED") == 1
    assert refused.returncode == 1
    assert "--require-isolation=full is not met: RUN STEPS ARE NOT ISOLATED" in refused.stderr


def test_it_is_never_taken_by_itself(pybuild: Pybuild, context: Path) -> None:
    """A root that may do no more than chroot is refused a RUN, until it asks for that."""
    lay(context, "FROM busybox\nRUN echo ran\n")
    bare = ["setpriv", "--bounding-set=-all,+sys_chroot,+mknod,+dac_override,+chown,+fowner"]
    with BareWorkshop(context.parent / "bare", pybuild.root) as workshop:
        workshop.dockerfile("FROM busybox\nRUN echo ran\n")

        refused = workshop.fail(before=bare)
        asked = workshop.run(*CHROOT, workshop.context, before=bare)

    assert "RUN cannot be run here: this root lacks CAP_SETFCAP" in refused.message
    assert asked.status == 0, asked.err
    assert said(asked.err) == ["ran"]


class BareWorkshop:
    """A workshop over a copy of a store, closed at the block's end."""

    def __init__(self, folder: Path, seed: Path) -> None:
        folder.mkdir()
        self.workshop = Workshop(folder, seed)

    def __enter__(self) -> Workshop:
        return self.workshop

    def __exit__(self, *_: object) -> None:
        self.workshop.close()


def test_the_step_may_not_leave_its_root_nor_make_devices_and_is_filtered(
    pybuild: Pybuild, context: Path
) -> None:
    steps = (
        "RUN chroot / true && echo LEFT; mknod /n b 7 0 && echo MADE; unshare -m true && echo UNSHARED; "
        "mount -t tmpfs x /tmp && echo MOUNTED; ls /proc; umask; ulimit -c; env; cat; echo end\n"
    )
    lay(context, f"FROM busybox\n{steps}")

    done = pybuild.build(context, *CHROOT, env={"CANARY": "of the builder"})

    lines = said(done.stderr)
    assert not {"LEFT", "MADE", "UNSHARED", "MOUNTED"} & set(lines), lines
    assert "0022" in lines
    assert "end" in lines
    assert "CANARY" not in done.stderr


def test_devices_and_files_that_were_laid_in_are_not_in_the_image(pybuild: Pybuild, context: Path) -> None:
    lay(
        context, "FROM busybox\nRUN echo x > /dev/null && grep localhost /etc/hosts && cat /etc/resolv.conf\n"
    )

    pybuild.build(context, *CHROOT, "-t", "one")

    tree = read_image(pybuild.root, "one:latest").tree()
    assert not [path for path in tree if path.startswith("dev/")]
    assert "etc/hosts" not in tree
    assert "etc/resolv.conf" not in tree


def test_files_of_the_image_that_were_in_the_way_are_as_they_were(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nCOPY hosts /etc/hosts\nRUN grep localhost /etc/hosts\n", {"hosts": "mine\n"})

    pybuild.build(context, *CHROOT, "-t", "one")

    image = read_image(pybuild.root, "one:latest")
    assert image.text("etc/hosts") == "mine\n"
    assert "etc/hosts" not in image.layers[-1]


@pytest.mark.parametrize(
    ("step", "flags", "named"),
    [
        ("RUN --mount=type=cache,target=/c true", (), "a mount at /c"),
        ("RUN --mount=type=tmpfs,target=/t true", (), "a mount at /t"),
        ("RUN --mount=type=bind,target=/b true", (), "a mount at /b"),
        ("RUN --mount=type=secret,id=s,target=/s true", ("--secret", "id=s,env=PATH"), "a mount at /s"),
        ("RUN --network=none true", (), "a network other than the one around it"),
        ("RUN true", ("--network", "none"), "a network other than the one around it"),
        ("RUN true", ("--network", "pasta"), "--network pasta needs namespaces"),
    ],
)
def test_what_it_cannot_give_is_refused_by_name(
    pybuild: Pybuild, context: Path, step: str, flags: tuple[str, ...], named: str
) -> None:
    done = pybuild.build(lay(context, f"FROM busybox\n{step}\n"), *CHROOT, *flags, check=False)

    assert done.returncode == 1
    (error,) = re.findall(r"^error: (.*)$", done.stderr, re.MULTILINE)
    assert named in error


LEAVES = "RUN (sleep 1001 &) ; setsid sh -c 'sleep 1002 & exec sleep 1003' & sleep 0.2; echo started; "


def test_processes_that_a_step_leaves_behind_are_killed(workshop: Workshop) -> None:
    workshop.build(*CHROOT, dockerfile=f"FROM busybox\n{LEAVES}true\n")
    workshop.check_clean()

    workshop.fail(*CHROOT, dockerfile=f"FROM busybox\n{LEAVES}exit 3\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_build_that_is_ended(workshop: Workshop, number: signal.Signals) -> None:
    workshop.dockerfile(f"FROM busybox\n{LEAVES}sleep 1004\n")
    building = workshop.start(*CHROOT, workshop.context)
    workshop.wait_until(lambda: find_process("sleep 1004"))

    building.send_signal(number)
    building.communicate()

    assert workshop.processes() == []


def test_a_signal_that_kills_the_command_is_told(workshop: Workshop) -> None:
    outcome = workshop.fail(*CHROOT, dockerfile="FROM busybox\nRUN kill -11 $$\n")

    assert "was killed by signal 11 (SIGSEGV)" in outcome.message
