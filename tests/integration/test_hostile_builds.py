"""Dockerfiles and images that attack the machine through RUN, built whole; each with its row's id.

A canary lies outside of all that a build has business with. Whatever becomes of the build, the canary is as
it was, what it holds is told to nobody, and nothing of the build is left.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import needs, needs_root
from tests.support.machinecode import address_of_data, program
from tests.support.processes import descendants
from tests.support.workshop import Outcome, Workshop, find_process

pytestmark = [pytest.mark.root, needs_root(), needs("busybox", "setpriv")]

SECRET = "canary-4711"  # in no message, layer or output
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"


@pytest.fixture
def canary(workshop: Workshop) -> Iterator[Path]:
    """A folder of the machine: files, a user database, an empty folder called as a stub."""
    folder = workshop.folder / "canary"
    (folder / "stub").mkdir(parents=True)
    (folder / "secret").write_text(SECRET)
    (folder / "passwd").write_text("app:x:0:0::/:/bin/sh\n")
    before = picture(folder)
    yield folder
    assert picture(folder) == before


def picture(folder: Path) -> list[tuple[object, ...]]:
    """All that there is to see of a tree."""
    seen: list[tuple[object, ...]] = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else sorted(os.listdir(path))
        seen.append((str(path), status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content))
    return seen


def attack(workshop: Workshop, dockerfile: str, *flags: str) -> Outcome:
    """Build it, however that ends: well or with one message, without a word of the canary, and clean."""
    workshop.dockerfile(dockerfile)
    outcome = workshop.run("--no-cache", *flags, workshop.context)
    assert outcome.status in (0, 1), outcome.err
    assert SECRET not in outcome.out + outcome.err
    workshop.check_clean()
    return outcome


def lines(outcome: Outcome) -> list[str]:
    """What the steps wrote."""
    return re.findall(r"^#\d+ \d+\.\d+ (.*)$", outcome.err, re.MULTILINE)


# --- image config ---


@pytest.mark.hostile("CVE-2024-21626")
@pytest.mark.parametrize("folder", ["/proc/self/fd/9", "/proc/self/fd/12", "/link"])
def test_a_working_folder_in_the_builders_descriptors_is_an_error(
    workshop: Workshop, canary: Path, folder: str
) -> None:
    workshop.write("tree/keep")
    (workshop.context / "tree/link").symlink_to("/proc/self/fd/13")

    outcome = attack(workshop, f'FROM busybox\nCOPY tree /\nWORKDIR {folder}\nRUN ["/bin/ls", "-l"]\n')

    assert f"cannot enter the working folder {folder}" in outcome.message


@pytest.mark.hostile("CVE-2024-40635", "CVE-2026-46680")
@pytest.mark.parametrize("user", ["4294967296", "4294967295", "-1", "1000:4294967296"])
def test_a_user_beyond_the_ids_is_refused_and_never_root(workshop: Workshop, canary: Path, user: str) -> None:
    outcome = attack(workshop, f"FROM busybox\nUSER {user}\nRUN id -u\n")

    assert outcome.status == 1
    assert "0" not in lines(outcome)
    assert user.partition(":")[0] in outcome.message or user.partition(":")[2] in outcome.message


@pytest.mark.hostile("CVE-2026-46680")
def test_a_number_is_no_name_of_a_user(workshop: Workshop, canary: Path) -> None:
    """An image may call root by the number that an operator allows."""
    outcome = attack(
        workshop, "FROM busybox\nRUN echo '1001:x:0:0::/:/bin/sh' >> /etc/passwd\nUSER 1001\nRUN id -u\n"
    )

    assert lines(outcome) == ["1001"]


@pytest.mark.hostile("CVE-2026-47262", "GHSA-mjcv-p78q-w5fw", "BuildKit 408266e4b", "CVE-2024-9676")
@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("/etc/passwd", "mkfifo {path}"),
        ("/etc/group", "mknod {path} c 1 5"),
        ("/etc/passwd", "truncate -s 64M {path}"),
        ("/etc/group", "ln -s {path} {path}"),
    ],
)
def test_what_is_no_file_of_users_is_not_read(workshop: Workshop, canary: Path, path: str, make: str) -> None:
    """A fifo would hold the build up, a device or a huge file would fill the memory."""
    outcome = attack(
        workshop,
        f"FROM busybox\nRUN rm {path}; {make.format(path=path)}\nUSER nobody:nogroup\nRUN id -u\n",
    )

    assert outcome.status == 1
    assert path in outcome.message
    assert re.search("regular file|is larger than|symbolic links", outcome.message)


@pytest.mark.hostile("CVE-2024-9676")
@pytest.mark.parametrize("up", ["", "../../../../../../../../../.."])
def test_users_are_those_of_the_image_behind_whatever_link(workshop: Workshop, canary: Path, up: str) -> None:
    """The machine's file, to which the link leads outside, has an `app` that is root."""
    workshop.write("tree/etc/keep")
    (workshop.context / "tree/etc/passwd").symlink_to(f"{up}{canary}/passwd")
    text = "FROM busybox\nRUN rm /etc/passwd\nCOPY tree /\nUSER app\nRUN id -u\n"

    assert "app" in attack(workshop, text).message
    workshop.write(f"tree{canary}/passwd", PASSWD)
    assert lines(attack(workshop, text)) == ["1000"]


@pytest.mark.hostile("CVE-2022-36109", "CVE-2022-2990", "CVE-2023-25173")
def test_groups_are_the_users_with_its_own_and_not_the_builders(workshop: Workshop, canary: Path) -> None:
    """What a group is denied must be denied to its members, and the builder's groups are nobody else's."""
    workshop.write("etc/passwd", PASSWD)
    workshop.write("etc/group", "app:x:1000:\nextra:x:33:app\n")
    workshop.dockerfile(
        "FROM busybox\nCOPY etc /etc\n"
        "RUN echo no > /denied && chgrp 33 /denied && chmod 604 /denied"
        " && echo no > /builders && chgrp 27 /builders && chmod 640 /builders\n"
        "USER app\nRUN grep Groups /proc/self/status; cat /denied /builders || true\n"
        "USER 4242\nRUN grep Groups /proc/self/status\n"
    )
    outcome = workshop.run("--no-cache", workshop.context, before=["setpriv", "--groups=4,24,27"])

    said = [line.split() for line in lines(outcome)]
    assert said[0] == ["Groups:", "33", "1000"]
    assert [line[-2:] for line in said[1:3]] == [["Permission", "denied"]] * 2
    assert said[3] == ["Groups:", "0"]


@pytest.mark.hostile("CVE-2022-24769", "CVE-2022-27651")
@pytest.mark.parametrize("user", ["root", "1000"])
def test_no_capability_is_inheritable_whatever_the_builder_has(
    workshop: Workshop, canary: Path, user: str
) -> None:
    workshop.dockerfile(f"FROM busybox\nUSER {user}\nRUN grep -E 'CapInh|CapAmb' /proc/self/status\n")
    some = "+chown,+sys_admin,+net_raw,+setuid"
    flags = ["setpriv", f"--inh-caps={some}", f"--ambient-caps={some}"]
    outcome = workshop.run("--no-cache", workshop.context, before=flags)

    assert [line.split() for line in lines(outcome)] == [["CapInh:", "0" * 16], ["CapAmb:", "0" * 16]]


@pytest.mark.hostile("CVE-2026-53488")
def test_labels_reach_no_command_of_the_machine(workshop: Workshop, canary: Path) -> None:
    touch = f"$(touch {canary}/made)"
    rootfs = f'{{"lower": [], "upper": "{canary}", "work": "{canary}/stub"}}'.replace('"', '\\"')
    attack(
        workshop,
        f'FROM busybox\nLABEL org.pybuild.rootfs="{rootfs}" run="\\{touch}" image.name="; \\{touch}"\n'
        "RUN touch /inside\n",
        "-t",
        "labelled:1",
    )

    for words in (["images"], ["history", "labelled:1"], ["inspect", "labelled:1"]):
        done = subprocess.run(
            [sys.executable, "-m", "builder", *words, "--root", str(workshop.root)],
            env=workshop.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout
    assert "sha256:" in attack(workshop, "FROM labelled:1\nRUN ls /inside\n").digest


@pytest.mark.hostile("CVE-2026-41579", "CVE-2026-42306", "CVE-2023-27561", "CVE-2023-28642", "CVE-2025-54867")
@pytest.mark.parametrize(("name", "up"), [("dev", ""), ("proc", "../../../../../.."), ("sys", "")])
def test_a_kernels_folder_that_is_a_link_is_an_error(
    workshop: Workshop, canary: Path, name: str, up: str
) -> None:
    workshop.write("tree/keep")
    (workshop.context / "tree" / name).symlink_to(f"{up}{canary}")

    outcome = attack(workshop, "FROM scratch\nCOPY --from=busybox /bin /bin\nCOPY tree /\nRUN true\n")

    assert f"at /{name}" in outcome.message


@pytest.mark.hostile("CVE-2026-41579")
@pytest.mark.parametrize("name", ["dev", "proc", "etc/hosts/"])
def test_a_place_of_another_kind_is_named(workshop: Workshop, canary: Path, name: str) -> None:
    workshop.write("file")

    outcome = attack(
        workshop,
        f"FROM scratch\nCOPY --from=busybox /bin /bin\nCOPY file /{name}\nRUN true\n",
    )

    kind = "folder" if name.endswith("/") else "file"
    assert f" at /{name.rstrip('/')}: a {kind} is there" in outcome.message


# --- mounts and flags of RUN ---


@pytest.mark.hostile("CVE-2024-23652")
@pytest.mark.parametrize("up", ["", "/../../../../../../../../.."])
def test_mount_points_are_cleared_up_in_the_layer_alone(workshop: Workshop, canary: Path, up: str) -> None:
    """The folder above a mount point is swapped for a link to one that has such a folder, too."""
    outcome = attack(
        workshop,
        f"FROM busybox\nRUN --mount=type=tmpfs,target=/x/stub mv /x /y && ln -s {up}{canary} /x\n"
        "RUN readlink /x && ls /y\n",
    )

    assert lines(outcome)[0] == f"{up}{canary}"


@pytest.mark.hostile("CVE-2024-23653", "BuildKit 64bbec89c")
@pytest.mark.parametrize(
    ("through", "security"), [("RUN", "insecure"), ("RUN", "2"), ("ONBUILD RUN", "insecure")]
)
def test_no_step_gets_rights_that_were_not_granted(
    workshop: Workshop, canary: Path, through: str, security: str
) -> None:
    step = f"{through} --security={security} mkdir /m; mount -t tmpfs none /m && echo mounted"
    text = f"FROM busybox AS base\n{step}\nFROM base\nRUN true\n"

    outcome = attack(workshop, text)

    assert outcome.status == 1
    assert "security" in outcome.message
    assert "mounted" not in lines(outcome)


@pytest.mark.hostile("CVE-2024-23650")
@pytest.mark.parametrize(
    "flags",
    [
        "--mount", "--mount=type=cache", "--mount=type=bind,from=", "--mount=type=secret,id=", "--mount=,,,=",
        "--mount=type=ssh,id=,target=", "--device=", "--network=", "--mount=type=tmpfs,target=/x,size=-1",
    ],
)  # fmt: skip
def test_flags_without_what_they_need_are_one_message(workshop: Workshop, canary: Path, flags: str) -> None:
    outcome = attack(workshop, f"FROM busybox\nRUN {flags} true\n")

    assert outcome.status == 0 or outcome.message


@pytest.mark.hostile("CVE-2024-1753", "CVE-2024-23651", "CVE-2024-11218")
@pytest.mark.parametrize(("kind", "up"), [("bind", ""), ("cache", "../../../../../../../../../..")])
def test_a_source_that_is_a_link_stays_in_its_stage(
    workshop: Workshop, canary: Path, kind: str, up: str
) -> None:
    workshop.write("tree/keep")
    (workshop.context / "tree/link").symlink_to(f"{up}{canary}")
    text = (
        "FROM scratch AS evil\nCOPY tree /\n{inside}FROM busybox\n"
        f"RUN --mount=type={kind},from=evil,source=/link,target=/m,rw ls -A /m; cat /m/secret; touch /m/x\n"
    )

    assert "/link" in attack(workshop, text.format(inside="")).message
    workshop.write("inside/innocent")
    outcome = attack(workshop, text.format(inside=f"COPY inside {canary}/\n"))
    assert lines(outcome)[0] == "innocent"


@pytest.mark.hostile("CVE-2024-9407")
@pytest.mark.parametrize("option", ["bind-propagation=rshared", "rshared", "options=rw\\,dev", "suid"])
def test_no_option_reaches_the_kernel_as_it_is(workshop: Workshop, canary: Path, option: str) -> None:
    workshop.write("tree/keep")

    outcome = attack(workshop, f"FROM busybox\nRUN --mount=type=bind,target=/m,{option} mount\n")

    assert outcome.status == 1
    assert option.partition("=")[0] in outcome.message


@pytest.mark.hostile("CVE-2024-9675", "CVE-2026-33747")
@pytest.mark.parametrize("up", ["", "../../../../../../../../../.."])
def test_the_id_of_a_cache_is_no_path_to_the_machine(workshop: Workshop, canary: Path, up: str) -> None:
    outcome = attack(
        workshop,
        f"FROM busybox\nRUN --mount=type=cache,id={up}{canary},target=/c cat /c/secret; touch /c/x; ls /c\n",
    )

    assert lines(outcome)[-1] == "x"


@pytest.mark.hostile("CVE-2021-3602")
def test_no_variable_of_the_builder_is_in_the_step(workshop: Workshop, canary: Path) -> None:
    workshop.dockerfile("FROM busybox\nRUN cat /proc/*/environ | tr '\\0' '\\n'; env; set\n")
    outcome = workshop.run("--no-cache", workshop.context, env={"LEAK": SECRET})

    assert outcome.status == 0
    assert any(line.startswith("PATH=") for line in lines(outcome))
    assert not any("LEAK" in line or SECRET in line or "PYTHONPATH" in line for line in lines(outcome))


@pytest.mark.hostile("BuildKit 4ed7a2ff3")
@pytest.mark.parametrize("up", ["../../../../../../../../..", "/../../../../../../../.."])
def test_dots_leave_no_root_whatever_is_removed_or_written(workshop: Workshop, canary: Path, up: str) -> None:
    workshop.write("a", "a")
    attack(
        workshop,
        f"FROM busybox AS one\nRUN mkdir -p {canary}/secret/x\n"
        f"FROM busybox\nWORKDIR {up}{canary}\n"
        f"COPY a {up}{canary}/secret\nCOPY --from=one {canary} {up}{canary}/\n"
        f"RUN --mount=type=tmpfs,target={up}{canary}/stub/x rm -rf {up}{canary} || true\n",
    )


@pytest.mark.hostile("CVE-2020-15257", "CVE-2021-41103", "CVE-2024-25621", "CVE-2025-64329")
def test_nothing_of_the_builder_is_open_to_other_users_or_to_a_step(workshop: Workshop, canary: Path) -> None:
    """No abstract socket, no folder of the store that others may enter, and nothing is left of a step."""
    name = f"\0canary-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        before = abstract_sockets()
        assert f"@{name[1:]}" in before
        workshop.dockerfile(
            "FROM busybox\nRUN --network=none cat /proc/net/unix\n"
            "RUN touch /ready; while :; do sleep 1; done\n"
        )
        process = workshop.start("--no-cache", workshop.context)
        workshop.wait_until(lambda: find_process("touch /ready"))
        during = abstract_sockets()
        process.terminate()
        _, err = process.communicate(timeout=60)

    assert during - before == set(), "the builder's or the step's"
    assert name[1:] not in err, "without a network there is none of the machine's"
    assert (workshop.root.stat().st_mode & 0o777, workshop.root.stat().st_uid) == (0o700, os.getuid())
    workshop.check_clean()
    for user in (["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"],):
        done = subprocess.run([*user, "ls", str(workshop.root / "layers")], capture_output=True, check=False)
        assert done.returncode != 0


def abstract_sockets() -> set[str]:
    """Those that this process, or one below it, has open; others of the machine come and go."""
    held = {link for pid in (os.getpid(), *descendants()) for link in links_of(pid)}
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    return {row[-1] for row in rows if row[-1].startswith("@") and f"socket:[{row[-2]}]" in held}


def links_of(pid: int) -> list[str]:
    """What the descriptors of a process lead to, as far as it has not ended."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(os.readlink(entry.path))
    return found


# --- the runtime ---


@pytest.mark.hostile("CVE-2019-5736")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the loader of this test is x86-64's")
@pytest.mark.parametrize("command", ["/proc/self/exe", "/script"])
def test_a_loader_in_the_image_cannot_change_the_builders_own_program(
    workshop: Workshop, canary: Path, command: str
) -> None:
    """The command is the builder's Python, and what loads its libraries is the image's: a program that then
    has the machine's file as /proc/self/exe, and sets its times and its mode (to what that is)."""
    python = Path(sys.executable).resolve()
    before = python.stat()
    loader = re.search(rb"/lib(64)?/ld-linux[^\0]*", python.read_bytes())
    assert loader is not None
    place = address_of_data("x86_64")
    calls = [(132, (place, 0)), (90, (place, before.st_mode & 0o7777))]  # utime, chmod
    evil = program("x86_64", calls, b"/proc/self/exe\0")
    workshop.write(f"tree{os.fsdecode(loader[0])}", evil).chmod(0o755)
    workshop.write("tree/script", "#!/proc/self/exe\n").chmod(0o755)

    outcome = attack(workshop, f'FROM busybox\nCOPY tree /\nRUN ["{command}"]\n')

    assert outcome.status == 0, "the loader did run"
    assert (python.stat().st_mtime_ns, python.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.hostile("CVE-2021-30465", "CVE-2019-19921", "CVE-2023-27561", "CVE-2023-28642")
@pytest.mark.parametrize(
    ("target", "kind"),
    [("/proc", "bind,from=evil,source=/"), ("/link", "cache"), ("/proc/sys/kernel", "tmpfs")],
)
def test_nothing_is_mounted_on_proc_or_in_it(
    workshop: Workshop, canary: Path, target: str, kind: str
) -> None:
    """What is read-only or masked there would be so in a copy of it alone."""
    workshop.write("evil/sys/kernel/core_pattern", "evil")
    workshop.write("tree/keep")
    (workshop.context / "tree/link").symlink_to("/proc")

    outcome = attack(
        workshop,
        "FROM scratch AS evil\nCOPY evil /\nFROM busybox\nCOPY tree /\n"
        f"RUN --mount=type={kind},target={target} echo run\n",
    )

    assert "proc" in outcome.message
    assert lines(outcome) == []


@pytest.mark.hostile("CVE-2025-31133", "CVE-2025-62161")
def test_what_masks_a_file_is_no_link_of_the_image(workshop: Workshop, canary: Path) -> None:
    """/dev/null of the image, or of a mount on /dev, is a link to a file that would be shown."""
    workshop.write("tree/dev/keep")
    (workshop.context / "tree/dev/null").symlink_to(canary / "secret")
    show = "cat /proc/keys /proc/timer_list; (echo > /proc/keys); (echo > /proc/timer_list); echo run"

    for flags in ("", "--mount=type=bind,from=evil,source=/dev,target=/dev,rw "):
        outcome = attack(
            workshop,
            "FROM scratch AS evil\nCOPY tree /\nFROM busybox\nCOPY tree /\n"
            f"RUN {flags}{show}\n"
            f"RUN --mount=type=tmpfs,target=/dev ln -s {canary}/secret /dev/null; {show}\n",
        )
        assert [line for line in lines(outcome) if "nonexistent" not in line] == ["run", "run"]


@pytest.mark.hostile("CVE-2025-52565")
def test_a_console_in_the_image_is_neither_mounted_on_nor_given_away(
    workshop: Workshop, canary: Path
) -> None:
    workshop.write("tree/dev/keep")
    for name in ("console", "pts", "ptmx", "tty"):
        (workshop.context / "tree/dev" / name).symlink_to(canary / "secret")

    outcome = attack(
        workshop,
        "FROM busybox\nCOPY tree /\n"
        "RUN ls /dev; ls -l /dev/pts; stat -c %F /dev/tty; (echo x > /dev/console) 2>&1\n",
    )

    assert "console" not in lines(outcome)
    assert "character special file" in lines(outcome)


@pytest.mark.hostile("CVE-2023-25809", "CVE-2022-0492")
def test_no_cgroup_can_be_written_to_nor_mounted(workshop: Workshop, canary: Path) -> None:
    outcome = attack(
        workshop,
        "FROM busybox\n"
        "RUN cd /sys/fs/cgroup; mkdir made && echo written; mkdir /c; "
        "mount -t cgroup -o memory c /c; mount -t cgroup2 c /c; "
        "find . -name release_agent -o -name cgroup.procs | while read -r f; do echo 1 > $f; done; "
        "mount -o remount,rw /sys/fs/cgroup; unshare -Urm true || echo denied; ls -A /c\n",
    )

    said = lines(outcome)
    assert said
    assert all("Read-only" in line or "ermi" in line or "denied" in line for line in said), said


@pytest.mark.hostile("CVE-2022-0185", "AF_ALG")
def test_user_namespaces_and_their_mounts_are_refused(workshop: Workshop, canary: Path) -> None:
    """The calls one by one are in test_baseline, also those of sockets that no step may have."""
    outcome = attack(
        workshop,
        "FROM busybox\nRUN unshare -Ur true || echo refused; unshare -m true || echo refused\nUSER 1000\n"
        "RUN unshare -Ur true || echo refused\n",
    )

    assert lines(outcome).count("refused") == 3


@pytest.mark.hostile("CVE-2024-52005", "terminal escapes")
def test_what_a_step_writes_does_nothing_to_a_terminal(workshop: Workshop, canary: Path) -> None:
    outcome = attack(
        workshop,
        "FROM busybox\nRUN printf '\\033]0;title\\007\\033[2J\\033P$q\\033\\134 end\\n'; exit 3 # \x1b[2J\n",
    )

    assert "end" in outcome.err
    assert not any(ord(mark) < 32 and mark not in "\n\t" for mark in outcome.err)
