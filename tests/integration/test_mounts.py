"""Every mount of RUN with every option, on every rung: what it shows, whose it is, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.contexts import lay, lines_of, steps_run
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.rungs import RUNGS

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

SCRIPT = "#!/bin/sh\necho a secret runs\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Pybuild:
    root = tmp_path_factory.mktemp("shared") / "store"
    run(["cp", "-a", busybox_seed, root])
    return Pybuild(root)


def run_lines(pybuild: Pybuild, context: Path, steps: str, *flags: str, base: str = "") -> list[str]:
    """What these instructions say over busybox, or over the stage `base`, whatever is cached."""
    lay(context, f"FROM busybox AS base\n{base}\nFROM base\n{steps}\n")
    return lines_of(pybuild("build", "--progress=rawjson", "--no-cache", *flags, context).stderr)


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rung", RUNGS)
def test_a_secret_is_a_file_as_it_is_asked_for(shared: Pybuild, context: Path, rung: str) -> None:
    lay(context, files={"script": SCRIPT})
    look = "stat -c '%n %a %u:%g'"
    steps = f"""
WORKDIR /w
RUN mkdir /real && ln -s /real /link && ln -s nowhere/yet /dangling
RUN --mount=type=secret,id=s {look} /run/secrets/s; /run/secrets/s 2>&1; true
RUN --mount=type=secret,id=s,mode=04755,uid=7,gid=8,target=sub/run {look} sub/run && sub/run
RUN --mount=type=secret,id=s,mode=0444,dst=/link/s {look} /real/s
RUN --mount=type=secret,id=s,target=/dangling {look} /w/../nowhere/yet
RUN --mount=type=secret,id=s,env=BOTH,target=/both test -n "$BOTH" -a -s /both && echo both
RUN --mount=type=secret,id=s,env=ALONE test -n "$ALONE" && ls /run 2>&1; true
RUN --mount=type=secret,id=none,env=NONE echo "<$NONE>"
RUN ls -d /run /w/* /real/* /nowhere /both 2>/dev/null; true
"""

    lines = run_lines(shared, context, steps, "--isolation", rung, f"--secret=id=s,src={context}/script")

    assert lines == [
        "/run/secrets/s 400 0:0",
        "/bin/sh: /run/secrets/s: Permission denied",
        "sub/run 755 7:8",
        "a secret runs",
        "/real/s 444 0:0",
        "/w/../nowhere/yet 400 0:0",
        "both",
        "ls: /run: No such file or directory",
        "<>",
    ]  # fmt: skip


def test_a_secret_that_no_variable_can_hold_is_told(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN --mount=type=secret,id=s,env=S true\n", {"key": b"a\0b"})

    done = pybuild.build(context, f"--secret=id=s,src={context}/key", check=False)

    assert done.returncode == 1
    assert "secret s holds a NUL byte, which the variable S cannot" in done.stderr


# ── tmpfs and bind ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rung", RUNGS)
def test_memory_and_binds_are_as_asked_and_leave_nothing(shared: Pybuild, context: Path, rung: str) -> None:
    lay(context, files={"sub/file": "of the context\n", "sub/deep/x": "x"})
    steps = """
RUN mkdir /kept && echo mine > /kept/mine && ln -s /kept /link
RUN --mount=type=tmpfs,target=/t,size=1m --mount=type=tmpfs,target=/ro,ro \
    stat -c '%a' /t; df -k /t | awk 'END {print $2}'; touch /ro/x 2>&1; touch /t/x && ls /t
RUN --mount=target=/in --mount=type=tmpfs,target=/in/sub/deep \
    --mount=source=sub/file,target=/in/sub/deep/over,rw \
    ls /in/sub/deep; cat /in/sub/deep/over; touch /in/x 2>&1; true
RUN --mount=type=bind,from=base,target=/kept,rw rm -r /kept/bin && echo new > /kept/new && ls -d /kept/[bn]*
RUN --mount=source=sub,target=/link cat /kept/file
RUN --mount=source=sub/file,target=/kept/mine,rw echo changed > /kept/mine; cat /kept/mine
RUN --mount=type=tmpfs,target=/a/b/c --mount=type=tmpfs,target=/x/y touch /a/b/kept /a/b/c/not
RUN cat /kept/mine; ls -A /a /a/b /kept; ls -d /t /ro /in /x 2>/dev/null; true
"""

    lines = run_lines(shared, context, steps, "--isolation", rung)

    assert lines == [
        "1777", "1024", "touch: /ro/x: Read-only file system", "x",
        "over", "of the context", "touch: /in/x: Read-only file system",
        "/kept/new",
        "of the context",
        "changed",
        "mine", "/a:", "b", "", "/a/b:", "kept", "", "/kept:", "mine",
    ]  # fmt: skip
    assert (context / "sub" / "file").read_text() == "of the context\n"


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("source=file,target=/etc", "cannot mount the file file at /etc: a folder is there"),
        ("target=/etc/passwd", "cannot mount a folder at /etc/passwd: a file is there"),
        ("type=cache,target=/etc/passwd", "cannot mount a folder at /etc/passwd: a file is there"),
        ("type=tmpfs,target=/etc/passwd", "cannot mount a folder at /etc/passwd: a file is there"),
        ("type=secret,id=s,target=/etc", "cannot mount a file at /etc: a folder is there"),
        ("target=/etc/passwd/x", "at /etc/passwd/x: openat2: Not a directory"),
        ("target=/loop/x", "at /loop/x: openat2: Too many levels"),
        ("target=/toroot", "cannot mount at /toroot: it is the root"),
        ("type=secret,id=s,target=/", "cannot mount at /: it is the root"),
        ("target=/proc/x", "/proc/x"),
        ("target=.", "a bind mount needs a target below /"),
        ("type=tmpfs,target=/..", "a tmpfs mount needs a target below /"),
        ("type=cache,target=./", "a cache mount needs a target below /"),
        ("source=none,target=/x", "source '/none' not found"),
        (
            "type=cache,from=base,source=/etc/passwd,target=/x",
            "/etc/passwd of the cache at /x is not a folder",
        ),
        ("type=cache,from=base,source=/none,target=/x", "source '/none' not found"),
        ("type=tmpfs,target=/in/new --mount=target=/in", "at /in/new: Read-only file system"),
        ("type=secret,id=other,required,target=/x", "secret other is required and was not given"),
    ],
)
def test_a_mount_that_cannot_be_names_what_is_in_its_way(
    shared: Pybuild, context: Path, mount: str, message: str
) -> None:
    setup = "RUN ln -s loop /loop && ln -s . /toroot && touch /etc/passwd"
    lay(context, f"FROM busybox AS base\n{setup}\nFROM base\nRUN --mount={mount} true\n", {"file": "x"})

    done = shared.build(context, f"--secret=id=s,src={context}/file", check=False)

    assert done.returncode == 1
    assert message in done.stderr
    assert "--mount" in next(line for line in done.stderr.splitlines() if ">>>" in line)


# ── caches ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rung", RUNGS)
def test_a_cache_has_owner_and_mode_of_its_first_day_and_keeps_what_steps_do(
    pybuild: Pybuild, context: Path, rung: str
) -> None:
    mount = "--mount=type=cache,id=c,target"
    look = "stat -c '%a %u:%g'"
    base = "RUN mkdir /seed && touch /seed/f && chown 5:6 /seed/f && chmod 700 /seed"
    steps = f"""
RUN {mount}=/c {look} /c; touch /c/of-root && chown 9:9 /c/of-root
RUN {mount}=/d ls /d; {look} /d/of-root
RUN {mount}=/c,uid=7,gid=8,mode=01750 {look} /c; ls /c; touch /c/of-7
USER 7:8
RUN {mount}=/c,uid=7,gid=8,mode=01750 touch /c/by-7 && ls /c
USER 0
RUN {mount}=/c,ro ls /c; touch /c/x 2>&1; true
RUN {mount}=/c,from=base,source=/seed {look} /c /c/f; touch /c/later
RUN {mount}=/c,from=base,source=/seed ls /c
RUN ls /c /d 2>&1; true
"""

    lines = run_lines(pybuild, context, steps, "--isolation", rung, base=base)

    assert lines == [
        "755 0:0", "of-root", "644 9:9", "750 7:8", "by-7", "of-7", "of-root",
        "touch: /c/x: Read-only file system", "700 0:0", "644 5:6", "f", "later",
        "ls: /c: No such file or directory", "ls: /d: No such file or directory",
    ]  # fmt: skip


def test_the_source_of_a_cache_that_starts_with_nothing_is_a_path_in_the_cache(
    pybuild: Pybuild, context: Path
) -> None:
    mount = "--mount=type=cache,id=c,target=/c"
    steps = f"""
RUN {mount} mkdir /c/d && echo seen > /c/d/f && ln -s d/f /c/link
RUN {mount},source=d ls /c; touch /c/new
RUN {mount},source=/link cat /c
RUN {mount} ls /c/d
"""
    assert run_lines(pybuild, context, steps) == ["f", "seen", "f", "new"]


@pytest.mark.parametrize("rung", RUNGS)
def test_a_mount_is_written_by_who_may(pybuild: Pybuild, context: Path, rung: str) -> None:
    """Also where users are emulated."""
    mounts = "--mount=type=cache,target=/c --mount=target=/in,rw --mount=type=cache,target=/own,uid=7"
    tries = (
        "for d in /c /in; do touch $d/x 2>&1; test -w $d || echo none; done; touch /own/x; stat -c %u /own/x"
    )

    lines = run_lines(pybuild, context, f"USER 7\nRUN {mounts} {tries}", "--isolation", rung)

    refused = ["touch: /c/x: Permission denied", "none", "touch: /in/x: Permission denied", "none"]
    assert lines == [*refused, "7"]


def test_the_caches_of_one_rung_are_not_those_of_another(pybuild: Pybuild, context: Path) -> None:
    step = "RUN --mount=type=cache,target=/c ls /c; touch /c/$RUNG && chown 3:4 /c/$RUNG"

    for rung in ("root", "userns", "single-uid"):
        flags = ("--isolation", rung, f"--build-arg=RUNG={rung}")
        assert run_lines(pybuild, context, f"ARG RUNG\n{step}", *flags) == []
        assert run_lines(pybuild, context, f"ARG RUNG\n{step}", *flags) == [rung]


def test_a_cache_that_starts_with_a_stage_starts_anew_when_that_has_changed(
    pybuild: Pybuild, context: Path
) -> None:
    mount = "--mount=type=cache,id=c,target=/c,from=seed,source=/s"
    text = (
        f"FROM busybox AS seed\nRUN mkdir /s && touch /s/SEED\nFROM busybox\nRUN {mount} ls /c; touch /c/used"
    )

    def lines(seed: str) -> list[str]:
        lay(context, text.replace("SEED", seed))
        flags = ("--progress=rawjson", "--no-cache-filter=1")
        return lines_of(pybuild("build", *flags, context).stderr)

    assert lines("one") == ["one"]
    assert lines("two") == ["two"]
    lay(context, text.replace("SEED", "one").replace("touch /c/used", "true"))
    assert lines_of(pybuild("build", "--progress=rawjson", context).stderr) == ["one", "used"]


def start(pybuild: Pybuild, context: Path, name: str) -> subprocess.Popen[str]:
    words = ["build", "--root", pybuild.root, "--progress=rawjson", f"--build-arg=N={name}", context]
    return subprocess.Popen(
        [sys.executable, "-m", "builder", *map(str, words)],
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("sharing", "command", "expected"),
    [
        # none is there beside another, and each finds what those before it did
        ("locked", "mkdir /c/held && echo >> /c/n && sleep 0.1 && rmdir /c/held && wc -l < /c/n", "1234"),
        # all wait for each other in one folder
        ("shared", "touch /c/$N; for i in $(seq 1600); do test $(ls /c | wc -l) = 4 && break; sleep 0.05; "
         "done; ls /c | wc -l", "4444"),
        # each has one that nobody else has meanwhile
        ("private", "touch /c/$N /x/$N; for i in $(seq 1600); do test $(ls /x | wc -l) = 4 && break; "
         "sleep 0.05; done; ls /c | wc -l", "1111"),
    ],
)  # fmt: skip
def test_processes_share_caches_as_told(
    pybuild: Pybuild, context: Path, sharing: str, command: str, expected: str
) -> None:
    mounts = f"--mount=type=cache,id=c,target=/c,sharing={sharing} --mount=type=cache,target=/x"
    lay(context, f"FROM busybox\nARG N\nRUN {mounts} {command}\n")

    builds = [start(pybuild, context, str(number)) for number in range(4)]
    ends = [build.communicate(timeout=120)[1] for build in builds]

    assert [build.returncode for build in builds] == [0] * 4, ends
    assert "".join(sorted(line.strip() for end in ends for line in lines_of(end))) == expected


def test_what_a_cache_holds_is_no_part_of_what_a_step_is(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/x\n")
    steps_run(pybuild, context)

    (found,) = (pybuild.root / "cache" / "mounts").glob("*/x")
    found.with_name("more").touch()

    assert steps_run(pybuild, context) == []
