"""After a failed RUN: the shell that opens there, `pybuild debug`, and what is kept for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import lay
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.namespaces import has_user_namespaces
from tests.support.rootless import Rootless
from tests.support.terminals import Terminal, at_terminal
from tests.support.workshop import find_process

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

SECRET = "a-secret-that-nobody-keeps"
STEP = "echo new > made; rm /etc/group; echo more >> /etc/passwd; exit 7"


def failing(step: str = STEP, *, flags: str = "", before: str = "") -> str:
    return f"FROM busybox\nENV WORD=said\nWORKDIR /work\n{before}RUN {flags} {step}\n"


def terminal(
    pybuild: Pybuild, *words: str | os.PathLike[str], **more: Any
) -> AbstractContextManager[Terminal]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "PYBUILD_ROOT": str(pybuild.root),
        "TERM": "xterm",
    }
    return at_terminal([sys.executable, "-m", "builder", *map(os.fspath, words)], env=environment, **more)


def failed(pybuild: Pybuild, context: Path, dockerfile: str, *flags: str) -> str:
    """Build what fails; what is said."""
    lay(context, dockerfile)
    done = pybuild("--progress=plain", *flags, context, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr


def layers_with_base(pybuild: Pybuild, folder: Path) -> set[str]:
    """The layers that there are when a step has run on the base."""
    pybuild(lay(folder / "first", "FROM busybox\nRUN true\n"))
    return layers_of(pybuild)


def layers_of(pybuild: Pybuild) -> set[str]:
    return set(os.listdir(pybuild.root / "layers"))


# ── --on-failure=shell ───────────────────────────────────────────────────────────────────────────────────


def test_a_shell_opens_where_the_step_failed(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    flags = (
        "--network=none --mount=type=secret,id=s,mode=0444,target=/s --mount=type=cache,target=/c,mode=777 "
        "--mount=type=bind,target=/ctx --mount=type=tmpfs,target=/t"
    )
    step = "echo cached > /c/x; echo gone > /t/x; mkdir d; echo new > d/made; exit 7"
    lay(context, failing(step, flags=flags, before="RUN chmod 777 .\nUSER 1234:1235\n"))

    with terminal(pybuild, "--on-failure=shell", "--secret", f"id=s,src={tmp_path}/secret", context) as shell:
        shell.expect("/bin/sh where it failed")

        assert shell.answer("pwd; id -u; id -g; echo $WORD; umask") == [
            "/work",
            "1234",
            "1235",
            "said",
            "0022",
        ]
        assert shell.answer("cat d/made /c/x /s; echo; ls /ctx; ls -A /t") == [
            "new", "cached", SECRET, "Dockerfile",
        ]  # fmt: skip
        assert shell.answer("tail -n +3 /proc/net/dev | cut -d: -f1") == ["lo"]
        assert shell.answer("grep Seccomp: /proc/self/status") == ["Seccomp:\t2"]
        assert shell.answer("tty; test -c /dev/console && echo c") == ["/dev/pts/0", "c"]
        assert set(shell.answer("for fd in /proc/1/fd/*; do readlink $fd; done")) == {
            "/dev/pts/0",
            "/dev/tty",
        }
        shell.type("exit 0\n")

        assert shell.end() == 1  # the build's
        assert "exit code: 7" in shell.shown[shell.shown.rindex("exit 0") :]
        assert shell.is_as_it_was()


def test_keys_and_the_window_s_size_are_the_shell_s(pybuild: Pybuild, context: Path) -> None:
    lay(context, failing())

    with terminal(pybuild, "--on-failure", "shell", context, rows=33, columns=77) as shell:
        shell.expect("where it failed")
        assert shell.answer("stty size") == ["33 77"]
        shell.type("sh -c 'trap \"echo re''sized; exit\" WINCH; echo rea''dy; while :; do sleep 0.1; done'\n")
        shell.expect("ready")
        shell.resize(44, 88)
        shell.expect("resized")
        assert shell.answer("stty size") == ["44 88"]
        shell.type("sh -c 'echo sleep''s; exec sleep 4713'\n")
        shell.expect("sleeps")
        shell.type("\x03")
        shell.expect("^C")
        assert shell.answer("echo alive") == ["alive"]
        shell.type("\x04")

        assert shell.end() == 1
        assert shell.is_as_it_was()


def test_what_is_done_in_the_shell_is_thrown_away(pybuild: Pybuild, context: Path) -> None:
    lay(context, failing())
    with terminal(pybuild, "--on-failure=shell", context) as shell:
        shell.expect("where it failed")
        shell.answer("rm made; touch other")
        shell.type("exit\n")
        shell.end()

    assert pybuild("debug", "--", "ls").stdout == "made\n"


def test_a_signal_ends_shell_and_build_and_gives_the_terminal_back(pybuild: Pybuild, context: Path) -> None:
    lay(context, failing())
    with terminal(pybuild, "--on-failure=shell", context) as shell:
        shell.expect("where it failed")
        shell.answer("true")
        shell.process.send_signal(signal.SIGTERM)

        assert shell.end() == 143
        assert shell.is_as_it_was()


def test_steps_beside_it_have_ended_when_the_shell_opens(pybuild: Pybuild, context: Path) -> None:
    (context / "wait").mkdir()
    lay(
        context,
        "FROM busybox AS long\nRUN --mount=type=cache,id=x,target=/c touch /c/begun; sleep 4714\n"
        "FROM busybox\nRUN --mount=type=cache,id=x,target=/c until [ -e /c/begun ]; do sleep 1; done; false\n"
        "COPY --from=long / /\n",
    )
    with terminal(pybuild, "--progress=plain", "--on-failure=shell", context) as shell:
        shell.expect("CANCELED")
        shell.expect("where it failed")
        shell.answer("true")
        assert find_process("sleep 4714") is None
        shell.type("exit\n")

        assert shell.end() == 1


@pytest.mark.hostile("CVE-2025-52565")
def test_a_terminal_is_the_step_s_own_whatever_is_mounted_in_dev(pybuild: Pybuild, context: Path) -> None:
    (context / "pts").mkdir()
    (context / "canary").write_text("untouched")
    for name in ("ptmx", "0"):
        (context / "pts" / name).symlink_to(context / "canary")
    (context / "console").write_text("")
    mounts = [("pts", "/dev/pts,rw"), ("console", "/dev/console")]
    lay(context, failing(flags=" ".join(f"--mount=type=bind,source={s},target={t}" for s, t in mounts)))

    with terminal(pybuild, "--on-failure=shell", context) as shell:
        shell.expect("where it failed")
        assert shell.answer("test -c /dev/console && stty size < /dev/console") == ["40 100"]
        assert shell.answer("test -L /dev/pts/0 && echo covered") == ["covered"]
        shell.type("exit\n")
        assert shell.end() == 1
    assert (context / "canary").read_text() == "untouched"


@pytest.mark.parametrize("runtime", [pytest.param(name, marks=needs(name)) for name in ("runc", "crun")])
def test_a_shell_opens_by_another_runtime_too(pybuild: Pybuild, context: Path, runtime: str) -> None:
    lay(context, failing(before="USER 1234\n", flags="--mount=type=cache,target=/c"))

    with terminal(pybuild, "--on-failure=shell", "--runtime", runtime, context, rows=33, columns=77) as shell:
        shell.expect("where it failed")
        assert shell.answer("pwd; tty; id -u; stty size") == ["/work", "/dev/pts/0", "1234", "33 77"]
        shell.type("exit\n")

        assert shell.end() == 1
        assert shell.is_as_it_was()


def test_a_build_that_succeeds_opens_none(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN true\n")
    with terminal(pybuild, "--on-failure=shell", "-t", "fine", context) as shell:
        assert shell.end() == 0


def test_without_a_terminal_nothing_is_begun(pybuild: Pybuild, context: Path) -> None:
    lay(context, failing())

    done = pybuild("--on-failure=shell", context, check=False)

    assert done.returncode == 2
    assert "--on-failure=shell needs a terminal, and standard input is none" in done.stderr
    assert "#1" not in done.stderr


def test_where_there_is_no_shell_that_is_told(pybuild: Pybuild, context: Path) -> None:
    lay(
        context,
        "FROM scratch\nCOPY --from=busybox /bin/busybox /app/busybox\n"
        'SHELL ["/s", "-c"]\nRUN ["/app/busybox", "false"]\n',
    )

    with terminal(pybuild, "--on-failure=shell", context) as shell:
        assert shell.end() == 1
        assert "no shell could be opened: there is no shell in what the step left" in shell.shown
        assert "/bin/bash, /s, /bin/sh" in shell.shown
    assert pybuild("debug", "--", "/app/busybox", "echo", "here").stdout == "here\n"


# ── on other rungs ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
@pytest.mark.parametrize("rung", ["userns", "single-uid"])
def test_a_plain_user_goes_there_at_once_and_later(rung: str, busybox_layout: Path) -> None:
    with closing(Rootless()) as user:
        shutil.copytree(busybox_layout, user.folder / "busybox")
        run(["chmod", "-R", "a+rX", user.folder / "busybox"])
        step = "id -u > made; exit 7"
        lay(user.context, failing(step, before="RUN chown 1234:1235 .\nUSER 1234:1235\n"))
        base = f"busybox=oci-layout://{user.folder}/busybox:1"
        words = ["--on-failure=shell", "--isolation", rung, "--build-context", base, str(user.context)]

        with at_terminal(user.command(words), env={**user.environment, "TERM": "xterm"}, cwd="/") as shell:
            shell.expect("where it failed")
            assert shell.answer("tty; id -u; id -g; stat -c %u:%g . made") == [
                "/dev/pts/0", "1234", "1235", "1234:1235", "1234:1235",
            ]  # fmt: skip
            shell.answer("touch other")
            shell.type("sh -c 'echo sleep''s; exec sleep 4716'\n")
            shell.expect("sleeps")
            shell.type("\x03")
            shell.expect("^C")
            shell.type("exit\n")
            assert shell.end() == 1
            assert shell.is_as_it_was()

        assert user.run("debug", "--diff").stdout == "C /work\nA /work/made\n"
        done = user.run("debug", "--", "sh", "-c", "id -u; ls; stat -c %u:%g . made")
        assert done.stdout.splitlines() == ["1234", "made", "1234:1235", "1234:1235"]


def test_a_chroot_has_no_terminal_but_takes_commands(pybuild: Pybuild, context: Path) -> None:
    lay(context, failing("echo new > made; exit 7"))
    with terminal(pybuild, "--on-failure=shell", "--isolation", "chroot", context) as shell:
        assert shell.end() == 1
        assert "no shell could be opened: a chroot alone cannot give a terminal" in shell.shown
        assert "`pybuild debug -- COMMAND` runs a command where it failed" in shell.shown

    assert pybuild("debug", "--", "cat", "made").stdout == "new\n"


# ── pybuild debug ────────────────────────────────────────────────────────────────────────────────────────


def test_the_error_says_how_to_go_there(pybuild: Pybuild, context: Path) -> None:
    said = failed(pybuild, context, failing())

    assert said.splitlines()[-1] == "hint: `pybuild debug` opens a shell where it failed"
    assert "pybuild debug" not in failed(pybuild, context, "FROM busybox\nCOPY nothing /\n")


def test_a_command_runs_there_with_its_own_output_and_status(pybuild: Pybuild, context: Path) -> None:
    failed(pybuild, context, failing())

    done = pybuild("debug", "--", "sh", "-c", "pwd; cat made; tty; printf 'no end' >&2; exit 5", check=False)

    assert (done.returncode, done.stdout) == (5, "/work\nnew\nnot a tty\n")
    assert done.stderr == "no end"
    assert pybuild("debug", "--", "nothing-like-it", check=False).returncode == 1


def test_a_shell_opens_there_later(pybuild: Pybuild, context: Path) -> None:
    failed(pybuild, context, failing())

    with terminal(pybuild, "debug") as shell:
        shell.expect("failed here (status 7)")
        assert shell.answer("pwd; cat made; tty") == ["/work", "new", "/dev/pts/0"]
        shell.type("exit 9\n")
        assert shell.end() == 9
        assert shell.is_as_it_was()

    done = pybuild("debug", check=False)
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr


def test_what_the_step_changed_is_told(pybuild: Pybuild, context: Path) -> None:
    failed(pybuild, context, failing(flags="--mount=type=cache,target=/cached/here"))

    assert pybuild("debug", "--diff").stdout.splitlines() == [
        "C /etc", "D /etc/group", "C /etc/passwd", "C /work", "A /work/made",
    ]  # fmt: skip
    rows = [json.loads(line) for line in pybuild("debug", "--diff", "--format=json").stdout.splitlines()]
    assert rows[-1] == {"Kind": "A", "Path": "/work/made", "Size": 4}


def test_all_that_is_in_its_folder_is_there_again(pybuild: Pybuild, context: Path) -> None:
    """Also what a layer would not keep, as the time of a folder that is else the same."""
    failed(pybuild, context, failing("mkfifo p; touch -d @77 /etc; exit 7"))

    assert pybuild("debug", "--", "sh", "-c", "test -p p && stat -c %Y /etc").stdout == "77\n"


def test_values_of_secrets_are_not_kept(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    given = ("--secret", f"id=s,src={tmp_path}/secret")
    flags = "--mount=type=secret,id=s,target=/s,env=S,required=true"
    proxy = "http://user:password-of-a-proxy@127.0.0.1:1/"
    step = "cp /s copy; echo kept > kept; exit 7"
    failed(pybuild, context, failing(step, flags=flags), *given, "--build-arg", f"HTTP_PROXY={proxy}")

    show = ("--", "sh", "-c", "cat /s; echo $S. $HTTP_PROXY; cat kept")
    done = pybuild("debug", *show)
    assert done.stdout == ".\nkept\n"
    assert done.stderr.splitlines() == [
        "secret s (/s) was not kept; --secret id=s,... gives it",
        "/work/copy held a secret, which was taken out",
    ]
    assert pybuild("debug", *given, *show).stdout == f"{SECRET}{SECRET}.\nkept\n"
    assert pybuild("debug", "--", "stat", "-c", "%s", "copy").stdout == "0\n"
    for value in (SECRET, "password-of-a-proxy"):
        assert run(["grep", "-rl", value, str(pybuild.root)], check=False).stdout == ""


def test_contexts_and_caches_are_there_again(pybuild: Pybuild, context: Path) -> None:
    lay(context, files={"folder/file": "of then\n"})
    flags = "--mount=type=bind,source=folder,target=/ctx --mount=type=cache,target=/c"
    failed(pybuild, context, failing("echo cached > /c/x; exit 7", flags=flags))
    (context / "folder/file").write_text("of now\n")

    assert pybuild("debug", "--", "cat", "/ctx/file", "/c/x").stdout == "of then\ncached\n"
    assert pybuild("debug", "--", "touch", "/ctx/file", check=False).returncode == 1


def test_a_command_that_is_not_there_is_a_failure_too(pybuild: Pybuild, context: Path) -> None:
    failed(pybuild, context, 'FROM busybox\nRUN ["/usr/bin/nothing"]\n')

    assert pybuild("debug", "--", "echo", "here").stdout == "here\n"


def test_the_last_failed_build_counts_and_others_have_ids(pybuild: Pybuild, context: Path) -> None:
    failed(pybuild, context, failing("echo one; exit 1"))
    failed(pybuild, context, failing("echo two > two; exit 2"))
    lay(context, "FROM busybox\nRUN true\n")
    pybuild(context)

    rows = [json.loads(line) for line in pybuild("debug", "--list", "--format=json").stdout.splitlines()]

    assert [row["Status"] for row in rows] == [2, 1]
    assert rows[0]["Place"] == "Dockerfile:4"
    assert pybuild("debug", "--diff").stdout == "C /work\nA /work/two\n"
    assert pybuild("debug", "--diff", rows[1]["Build"]).stdout == ""
    assert rows[1]["Build"] in pybuild("debug", "--list").stdout
    done = pybuild("debug", "--diff", "nothing", check=False)
    assert (done.returncode, "build nothing has no failed step that is kept" in done.stderr) == (1, True)


def test_nothing_is_kept_of_a_cancelled_step(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM busybox\nRUN echo begun; touch /x; sleep 4715\n")
    before = layers_with_base(pybuild, tmp_path)
    with terminal(pybuild, "--progress=plain", context) as person:
        person.expect("begun\r\n")
        person.type("\x03")
        assert person.end() == 130

    assert layers_of(pybuild) == before
    assert "no failed step is kept" in pybuild("debug", "--diff", check=False).stderr


def test_nothing_is_kept_of_a_step_that_fails_beside_another(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    lay(
        context,
        "FROM busybox AS a\nRUN echo a > /a; exit 3\nFROM busybox AS b\nRUN echo b > /b; exit 3\n"
        "FROM busybox\nCOPY --from=a / /\nCOPY --from=b / /\n",
    )
    before = layers_with_base(pybuild, tmp_path)

    assert pybuild(context, check=False).returncode == 1

    (row,) = (json.loads(line) for line in pybuild("debug", "--list", "--format=json").stdout.splitlines())
    assert len(layers_of(pybuild) - before) == 1
    assert row["Status"] == 3
