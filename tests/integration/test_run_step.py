"""RUN steps as the command line makes them: what they find, what they may, what becomes of what they do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.contexts import events_of, lay, lines_of, said, steps_run
from tests.support.images import read_image
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.processes import running

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

CANARY = "a-value-of-the-builder-s-own"
SECRET = "secret-value-that-nobody-may-keep"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Pybuild:
    """The command with one store for all tests of this module that need none of their own."""
    root = tmp_path_factory.mktemp("shared") / "store"
    run(["cp", "-a", busybox_seed, root])
    return Pybuild(root)


def run_lines(pybuild: Pybuild, context: Path, steps: str, *flags: str, base: str = "busybox",
              env: dict[str, str] | None = None) -> list[str]:  # fmt: skip
    """What these instructions say when run on a base, whatever is cached."""
    lay(context, f"FROM {base}\n{steps}\n")
    return said(pybuild, context, "--no-cache", *flags, env=env)


# ── what a command finds ─────────────────────────────────────────────────────────────────────────────────


def test_privileges_are_docker_s(shared: Pybuild, context: Path) -> None:
    lines = run_lines(shared, context, "RUN grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status")

    found = dict(line.split(":\t") for line in lines)
    assert found == {
        "CapInh": "0000000000000000", "CapPrm": "00000000a80425fb", "CapEff": "00000000a80425fb",
        "CapBnd": "00000000a80425fb", "CapAmb": "0000000000000000", "NoNewPrivs": "0", "Seccomp": "2",
    }  # fmt: skip


def test_a_plain_user_has_no_capabilities(shared: Pybuild, context: Path) -> None:
    lines = run_lines(
        shared, context, "USER 1000\nRUN id -u; id -g; grep -E 'Cap(Eff|Bnd)' /proc/self/status"
    )

    assert lines == ["1000", "0", "CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb"]


def test_a_security_sandbox_is_left_only_where_it_was_allowed(shared: Pybuild, context: Path) -> None:
    step = "RUN --security=insecure grep -E 'CapEff|Seccomp:' /proc/self/status"
    lay(context, f"FROM busybox\n{step}\n")

    refused = shared(context, check=False)
    allowed = run_lines(shared, context, step, "--allow=security.insecure")

    assert refused.returncode == 1
    assert "security.insecure" in refused.stderr
    assert int(allowed[0].split("\t")[1], 16) > 0xA80425FB
    assert allowed[1] == "Seccomp:\t0"


def test_nothing_of_the_builder_is_inherited(shared: Pybuild, context: Path) -> None:
    with (context / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        step = "RUN env | sort; ls /proc/self/fd; wc -c < /dev/stdin; umask; pwd; echo $$; tty; :"
        lines = run_lines(shared, context, step, env={"CANARY": CANARY, "HTTPS_PROXY": ""})

    assert CANARY not in "\n".join(lines)
    assert lines[:4] == ["HOME=/root", lines[1], "PWD=/", "SHLVL=1"]
    assert lines[1].startswith("PATH=/")
    assert lines[4:8] == ["0", "1", "2", "3"], "3 is ls's own"
    assert lines[8:] == ["0", "0022", "/", "1", "not a tty"]


def test_variables_of_the_dockerfile_reach_the_command(shared: Pybuild, context: Path) -> None:
    steps = "ENV E=env OVER=env\nARG A=arg\nARG OVER=arg\nARG GIVEN\nWORKDIR /w/x\nUSER 1000\n"
    lines = run_lines(
        shared, context, steps + 'RUN echo "$E $A $OVER $GIVEN $PWD $HOME"', "--build-arg=GIVEN=given"
    )

    assert lines == ["env arg arg given /w/x /"]


def test_the_home_is_the_users_where_none_or_an_empty_one_is_set(shared: Pybuild, context: Path) -> None:
    steps = (
        "RUN echo 'poor:x:1001:1002:::/bin/sh' >> /etc/passwd; echo app:x:7:7::/home/app: >> /etc/passwd\n"
        'USER poor\nRUN env | grep HOME\nENV HOME=\nUSER app\nRUN env | grep HOME\nUSER 99\nRUN echo "$HOME"'
    )
    assert run_lines(shared, context, steps) == ["HOME=", "HOME=/home/app", "/"]


def test_proxies_given_win_over_the_dockerfiles_variables(shared: Pybuild, context: Path) -> None:
    step = "ENV HTTP_PROXY=env\nARG no_proxy=arg\nRUN echo $HTTP_PROXY $http_proxy $no_proxy $NO_PROXY"
    given = ("--build-arg=http_proxy=http://given:1", "--build-arg=NO_PROXY=given")
    assert run_lines(shared, context, step, *given) == ["http://given:1 http://given:1 given given"]


def test_proxies_reach_the_command_but_neither_image_nor_key(shared: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo $HTTP_PROXY; echo proxied > /proxied\n")

    first = said(
        shared, context, "--build-arg=HTTP_PROXY=http://user:password@proxy.example:1", "-t", "proxied"
    )

    assert first == ["http://user:password@proxy.example:1"]
    image = read_image(shared.root, "proxied:latest")
    assert "proxy.example" not in json.dumps(image.config)
    assert steps_run(shared, context, "--build-arg=HTTP_PROXY=http://other.example:2") == []


def test_proxies_of_dockers_configuration_reach_the_command(
    shared: Pybuild, context: Path, tmp_path: Path
) -> None:
    proxies = {"default": {"httpProxy": "http://user:password@configured.example:1", "noProxy": "a"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
    docker = {"DOCKER_CONFIG": str(tmp_path)}
    lay(context, "FROM busybox\nRUN echo $HTTP_PROXY $http_proxy $NO_PROXY; echo configured > /f\n")

    given = ("--build-arg=no_proxy=b", "-t", "configured")
    first = said(shared, context, *given, env=docker)

    assert first == [" ".join([proxies["default"]["httpProxy"]] * 2) + " b"]
    assert "configured.example" not in json.dumps(read_image(shared.root, "configured:latest").config)
    assert steps_run(shared, context) == [], "a step's key has no proxies"


def test_users_are_looked_up_in_the_image(shared: Pybuild, context: Path) -> None:
    steps = (
        "RUN echo 'app:x:1001:1002::/home/app:/bin/sh' >> /etc/passwd\n"
        "RUN echo 'extra:x:2000:app' >> /etc/group\n"
        "USER app\nRUN id -u; id -g; id -G; echo $HOME\nUSER app:extra\nRUN id -G\nUSER nosuch\n"
    )

    assert run_lines(shared, context, steps) == ["1001", "1002", "1002 2000", "/home/app", "2000"]
    lay(context, f"FROM busybox\n{steps}\nRUN true\n")
    done = shared(context, check=False)
    assert done.returncode == 1
    assert "nosuch" in done.stderr


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ('RUN ["/bin/echo", "a  b", "$HOME"]', ["a  b $HOME"]),
        ('SHELL ["/bin/sh", "-uc"]\nRUN case $- in *u*) echo u;; esac', ["u"]),
        ("RUN <<EOF\necho one\necho two\nEOF", ["one", "two"]),
        ("RUN <<EOF cat\n  in $HOME\nEOF", ["  in /root"]),
        ("RUN <<EOF\n#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }\nEOF", ["42"]),
        ("RUN cat <<-A <<B\n\tfirst\n\tA\nsecond\nB", ["second"]),
        ("RUN echo one \\\n    two && \\\n  # no comment of the shell\n echo three", ["one two", "three"]),
    ],
)
def test_commands_are_written_in_every_form(
    shared: Pybuild, context: Path, steps: str, expected: list[str]
) -> None:
    assert run_lines(shared, context, steps) == expected


# ── network, hosts, limits ───────────────────────────────────────────────────────────────────────────────

LISTED = "ls /sys/class/net | tr '\\n' ' '; readlink /proc/self/ns/net"


def test_the_network_is_the_machine_s_unless_told(shared: Pybuild, context: Path) -> None:
    host = f" {os.readlink('/proc/self/ns/net')}"

    assert run_lines(shared, context, f"RUN {LISTED}")[0].endswith(host)
    assert run_lines(shared, context, f"RUN {LISTED}", "--network=host")[0].endswith(host)
    assert run_lines(shared, context, f"RUN {LISTED}", "--network=default")[0].endswith(host)
    none = run_lines(shared, context, f"RUN {LISTED}", "--network=none")[0]
    assert none.startswith("lo net:")
    assert not none.endswith(host)


def test_a_step_has_a_network_of_its_own_choice(shared: Pybuild, context: Path) -> None:
    assert run_lines(shared, context, f"RUN --network=none {LISTED}")[0].startswith("lo net:")
    assert run_lines(shared, context, f"RUN --network=default {LISTED}", "--network=host")
    lay(context, "FROM busybox\nRUN --network=host true\n")
    refused = shared(context, check=False)
    assert refused.returncode == 1
    assert "network.host" in refused.stderr
    shared("--allow=network.host", context)
    shared("--network=host", context)


def test_a_server_of_the_machine_can_be_reached(shared: Pybuild, context: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        step = f"RUN nc 127.0.0.1 {server.getsockname()[1]} 2>/dev/null || echo closed"
        thread = threading.Thread(target=greet, args=(server,))
        thread.start()

        assert run_lines(shared, context, step) == ["greetings"]
        thread.join()
        assert run_lines(shared, context, step, "--network=none") == ["closed"]


def greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"greetings\n")


def test_hosts_are_added_and_not_in_the_image(shared: Pybuild, context: Path) -> None:
    step = (
        "RUN cat /etc/hosts; echo ---; cat /etc/resolv.conf; "
        "(echo x >> /etc/hosts) 2>&1; (: > /etc/resolv.conf) 2>&1; true"
    )
    hosts = ["--add-host=One.Example:10.0.0.1", "--add-host=six=[fd00::1]"]

    lines = run_lines(shared, context, step, *hosts, "-t", "hosts")

    assert {"10.0.0.1\tone.example", "fd00::1\tsix"} <= set(lines)
    assert "127.0.0.1\tlocalhost buildkitsandbox" in lines
    assert lines[lines.index("---") + 1 : -2] == Path("/etc/resolv.conf").read_text().splitlines()
    assert all("read-only" in line.lower() for line in lines[-2:])
    tree = read_image(shared.root, "hosts:latest").tree()
    assert "etc/hosts" not in tree
    assert "etc/resolv.conf" not in tree


def test_shared_memory_and_limits_are_as_asked(shared: Pybuild, context: Path) -> None:
    steps = "RUN df -k /dev/shm | tail -1; ulimit -n; ulimit -Hn; ulimit -c"

    shm, soft, hard, core = run_lines(
        shared, context, steps, "--shm-size=16m", "--ulimit=nofile=100:200", "--ulimit", "core=0"
    )

    assert int(shm.split()[1]) == 16 * 1024
    assert (soft, hard, core) == ("100", "200", "0")
    assert int(run_lines(shared, context, "RUN df -k /dev/shm | tail -1")[0].split()[1]) == 64 * 1024


def test_these_settings_are_part_of_what_a_step_is(shared: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo keyed > /keyed\n")
    shared(context)

    for flags in (["--add-host=a:10.0.0.1"], ["--shm-size=8m"], ["--ulimit=nofile=50"], ["--network=none"]):
        assert len(steps_run(shared, context, *flags)) == 1, flags
        assert steps_run(shared, context, *flags) == []
    assert steps_run(shared, context) == []


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("exit 42", "exit code: 42"),
        ("nosuchprogram", "exit code: 127"),
        ("kill -9 $$; kill -KILL -1; exit 9", "exit code"),
        ("sleep 9 & kill -SEGV $!; wait $!", "exit code: 139"),
    ],
)
def test_the_exit_code_is_told(shared: Pybuild, context: Path, command: str, expected: str) -> None:
    lay(context, f"FROM busybox\nRUN echo before it && {command}\n")

    done = shared("--progress=plain", context, check=False)

    assert done.returncode == 1
    assert expected in done.stderr
    assert ">>> RUN echo before it" in done.stderr
    assert done.stderr.count("before it") >= 2
    assert "Dockerfile:2" in done.stderr


def test_a_program_that_is_not_there_is_named(shared: Pybuild, context: Path) -> None:
    lay(context, 'FROM busybox\nRUN ["/bin/nosuch", "x"]\n')

    done = shared(context, check=False)

    assert done.returncode == 1
    assert "/bin/nosuch" in done.stderr


def test_a_command_killed_by_a_signal_says_which(shared: Pybuild, context: Path) -> None:
    lay(context, 'FROM busybox\nRUN ["/bin/sleep", "1000.25"]\n')
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(shared.root)}
    build = subprocess.Popen(
        [sys.executable, "-m", "builder", "--progress=plain", str(context)],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.kill(await_process(b"/bin/sleep", b"1000.25"), signal.SIGKILL)

    _, err = build.communicate(timeout=30)

    assert build.returncode == 1
    assert "SIGKILL" in err


def await_process(*line: bytes) -> int:
    """The process with exactly this command line, once it is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := running(*line):
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"no process {line!r}")


def test_a_failed_step_is_not_remembered(shared: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo tried; exit 1\n")

    outputs = [shared("--progress=rawjson", context, check=False).stderr for _ in range(2)]

    assert [lines_of(text) for text in outputs] == [["tried"], ["tried"]]
    (failed,) = [event for event in events_of(outputs[0]) if event["event"] == "failed"]
    assert "exit code: 1" in failed["error"]


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────


def test_output_comes_line_by_line_while_the_command_runs(shared: Pybuild, context: Path) -> None:
    """It goes on when a line was seen here: were lines held back, it would wait until its time is over."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        wait = f"nc 127.0.0.1 {server.getsockname()[1]}"
        lay(context, f"FROM busybox\nRUN for n in 1 2 3; do echo line $n; {wait}; done; echo last >&2\n")
        words = ["--root", shared.root, "--progress=rawjson", "--no-cache", "--step-timeout=60s", context]
        logs = []
        with subprocess.Popen(
            [sys.executable, "-m", "builder", *words],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, stderr=subprocess.PIPE, text=True,
        ) as build:  # fmt: skip
            assert build.stderr is not None
            for log in (event for line in build.stderr for event in events_of(line)):
                if log["event"] != "log":
                    continue
                logs.append((log["stream"], log["line"]))
                if log["stream"] == 1:
                    server.accept()[0].close()

    assert build.returncode == 0
    assert logs == [(1, "line 1"), (1, "line 2"), (1, "line 3"), (2, "last")]


def test_long_output_is_whole(shared: Pybuild, context: Path) -> None:
    lines = run_lines(
        shared, context, "RUN seq 1 20000; printf 'no newline'; head -c 100000 /dev/zero | tr '\\0' x"
    )

    assert lines[:20000] == [str(number) for number in range(1, 20001)]
    assert "".join(lines[20000:]) == "no newline" + "x" * 100000


def test_odd_bytes_of_output_are_shown_harmless(shared: Pybuild, context: Path) -> None:
    odd = r"\033]0;title\007\033[2Jred\033[0m \377 \342\230\203\n10%%\r20%%\n"
    lay(context, f"FROM busybox\nRUN printf '{odd}'\n")

    plain = shared("--progress=plain", "--no-cache", context).stderr
    raw = said(shared, context, "--no-cache")

    assert "\x1b" not in plain
    assert "red" in plain
    assert "☃" in plain
    assert raw[0].startswith("\x1b]0;title")


# ── mounts ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bind_mount_shows_the_context_and_keeps_nothing(shared: Pybuild, context: Path) -> None:
    lay(context, None, {"a": "from the context\n", "sub/b": "b\n"})
    steps = (
        "RUN --mount=type=bind,target=/in cat /in/a; (echo x > /in/new) 2>&1 || true\n"
        "RUN --mount=source=sub,target=/in/deep,rw cd /in/deep && cat b && echo x > new && ls\n"
        "RUN --mount=from=busybox,source=/bin,target=/other ls -d /other/sh\n"
    )

    lines = run_lines(shared, context, steps, "-t", "bound")

    assert lines[0] == "from the context"
    assert "read-only" in lines[1].lower()
    assert lines[2:] == ["b", "b", "new", "/other/sh"]
    tree = read_image(shared.root, "bound:latest").tree()
    assert not {"in", "in/deep", "other"} & set(tree)
    assert not (context / "sub/new").exists()


def test_a_bind_mount_s_content_is_part_of_what_a_step_is(shared: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN --mount=target=/in,source=a cat /in > /copied\n", {"a": "1", "b": "1"})
    shared(context)

    lay(context, None, {"b": "2"})
    assert steps_run(shared, context) == []
    lay(context, None, {"a": "2"})
    assert len(steps_run(shared, context)) == 1


def test_a_cache_mount_outlives_the_build_and_is_not_in_the_image(shared: Pybuild, context: Path) -> None:
    mount = "--mount=type=cache,target=/var/cache/thing,id=outlives,mode=0750,uid=3,gid=4"
    step = f"RUN {mount} cd /var/cache/thing && echo x >> log && wc -l < log && stat -c '%a %u:%g' ."

    first = run_lines(shared, context, step, "-t", "cached")
    second = run_lines(shared, context, step)

    assert first == ["1", "750 3:4"]
    assert second == ["2", "750 3:4"]
    assert "var/cache" not in read_image(shared.root, "cached:latest").tree()


def test_a_locked_cache_is_held_by_one_step_at_a_time(shared: Pybuild, context: Path) -> None:
    mount = "--mount=type=cache,target=/c,sharing=locked,id=locked"
    step = f"RUN {mount} test ! -e /c/held && touch /c/held && sleep 0.2 && rm /c/held"
    stages = [f"FROM busybox AS s{n}\nENV N={n}\n{step}\n" for n in range(3)]
    lay(
        context,
        "".join(stages) + "FROM scratch\n" + "".join(f"COPY --from=s{n} /bin/sh /{n}\n" for n in range(3)),
    )

    shared("--no-cache", "-t", "locked", context)

    assert sorted(read_image(shared.root, "locked:latest").tree()) == ["0", "1", "2"]


def test_a_tmpfs_mount_is_empty_and_gone_afterwards(shared: Pybuild, context: Path) -> None:
    step = "RUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x && df -k /t | tail -1 && ls /t"

    lines = run_lines(shared, context, step, "-t", "tmpfs")

    assert int(lines[0].split()[1]) == 1024
    assert lines[1] == "x"
    assert "t" not in read_image(shared.root, "tmpfs:latest").tree()


def test_a_mount_point_that_a_step_wrote_beside_stays(shared: Pybuild, context: Path) -> None:
    step = "RUN --mount=type=tmpfs,target=/made/t touch /made/kept /made/t/not"

    run_lines(shared, context, step, "-t", "beside")

    tree = read_image(shared.root, "beside:latest").tree()
    assert {path for path in tree if path.startswith("made")} in (
        {"made", "made/kept"},
        {"made", "made/kept", "made/t"},
    )


def test_secrets_are_files_or_variables_and_nowhere_else(
    shared: Pybuild, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SECRET)
    steps = (
        "RUN --mount=type=secret,id=file cd /run/secrets; md5sum < file; stat -c '%a %u:%g' file\n"
        "RUN --mount=type=secret,id=file,target=/etc/t,uid=5,gid=6,mode=0440 stat -c '%a %u:%g' /etc/t\n"
        "RUN --mount=type=secret,id=var,env=TOKEN echo ${#TOKEN}\n"
        "RUN --mount=type=secret,id=missing ls /run/secrets 2>/dev/null | wc -l\n"
    )

    secrets = [f"--secret=id=file,src={tmp_path}/token", "--secret", "id=var,env=MY_VAR"]

    lines = run_lines(shared, context, steps, *secrets, "-t", "secret", env={"MY_VAR": SECRET})

    assert lines[0].split()[0] == hashlib.md5(SECRET.encode()).hexdigest()
    assert lines[1:] == ["400 0:0", "440 5:6", str(len(SECRET)), "0"]
    image = read_image(shared.root, "secret:latest")
    assert not {"run/secrets", "etc/t"} & set(image.tree())
    assert SECRET not in json.dumps(image.config)
    found = run(["grep", "-rlF", SECRET, shared.root], check=False).stdout
    assert found == "", "a secret is nowhere in the store"


def test_a_secret_s_value_is_no_part_of_the_key_but_a_required_one_must_be_there(
    shared: Pybuild, context: Path
) -> None:
    lay(context, "FROM busybox\nRUN --mount=type=secret,id=key,required=true test -s /run/secrets/key\n")

    missing = shared(context, check=False)
    shared("--secret=id=key,env=KEY", context, env={"KEY": "one"})

    assert missing.returncode == 1
    assert "key" in missing.stderr
    assert steps_run(shared, context, "--secret=id=key,env=KEY", env={"KEY": "two"}) == []


# ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────


def test_a_build_of_31_steps(pybuild: Pybuild, context: Path) -> None:
    steps = "".join(f"RUN echo {n} >> /log && echo {n} > /file-{n}\n" for n in range(31))
    lay(context, "FROM busybox\n" + steps)

    done = pybuild("--progress=plain", "-t", "many", context)

    image = read_image(pybuild.root, "many:latest")
    assert image.text("log").split() == [str(n) for n in range(31)]
    assert len(image.layers) == 32
    assert all(set(layer) == {"log", f"file-{n}"} for n, layer in enumerate(image.layers[1:]) if n)
    assert "[32/32] RUN" in done.stderr
    assert steps_run(pybuild, context) == []


def test_steps_see_what_those_before_did(shared: Pybuild, context: Path) -> None:
    steps = "RUN mkdir /d && echo a > /d/a && ln /d/a /d/b && ln -s a /d/c && chmod 2750 /d\n"
    check = "RUN cat /d/c; stat -c '%h' /d/a; stat -c '%a' /d; rm /d/a; ls /d; mkdir /d/a && rmdir /d/a\n"
    check += "RUN rm -r /d\nRUN ls -d /d 2>/dev/null || echo gone\n"

    lines = run_lines(shared, context, steps + check, "-t", "see")

    assert lines == ["a", "2", "2750", "b", "c", "gone"]
    assert "d" not in read_image(shared.root, "see:latest").tree()


def test_a_step_that_changes_nothing_has_an_empty_layer(shared: Pybuild, context: Path) -> None:
    steps = "RUN true\nRUN chmod 700 /etc && chmod 755 /etc; touch /tmp/x && rm /tmp/x; : >> /etc/passwd\n"

    run_lines(shared, context, steps, "-t", "nothing")

    image = read_image(shared.root, "nothing:latest")
    assert [set(layer) for layer in image.layers[1:]] == [set(), set()]


def test_folders_of_the_kernel_are_kept_as_they_are(shared: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, 'FROM scratch\nCOPY --from=busybox /bin /bin\nRUN ["/bin/true"]\n')

    shared("--no-cache", "-t", "bare", context)

    tree = read_image(shared.root, "bare:latest").tree()
    kernel = {
        path: f"{member.kind} {member.mode:o}" for path, member in tree.items() if not path.startswith("bin")
    }
    assert {name: kernel.get(name) for name in ("proc", "sys", "dev")} == dict.fromkeys(
        ("proc", "sys", "dev"), "folder 755"
    )
    assert set(kernel) <= {"proc", "sys", "dev", "etc"}


def test_odd_names_kinds_and_times_are_kept(shared: Pybuild, context: Path) -> None:
    steps = (
        r"""RUN mkdir /o && cd /o && touch "$(printf 'new\nline')" "$(printf 'byte\377')" ' blank ' .wh"""
        "\nRUN cd /o && mkfifo fifo && touch -d @-100 old"
    )

    run_lines(shared, context, steps, "-t", "odd")

    tree = read_image(shared.root, "odd:latest").tree()
    names = {path.removeprefix("o/") for path in tree if path.startswith("o/")}
    assert names == {"new\nline", "byte\udcff", " blank ", ".wh", "fifo", "old"}
    assert (tree["o/fifo"].kind, tree["o/old"].mtime) == ("fifo", -100)


def test_the_working_folder_belongs_to_the_user(shared: Pybuild, context: Path) -> None:
    steps = "USER 1000:1001\nWORKDIR /home/deep/work\nRUN touch mine && stat -c '%u:%g %n' /home/deep . mine"

    assert run_lines(shared, context, steps) == ["1000:1001 /home/deep", "1000:1001 .", "1000:1001 mine"]


def test_large_files_are_changed_in_place(shared: Pybuild, context: Path) -> None:
    steps = (
        "RUN dd if=/dev/urandom of=/big bs=1M count=8 2>/dev/null && md5sum /big\n"
        "RUN printf x | dd of=/big bs=1 seek=5000000 conv=notrunc 2>/dev/null; md5sum /big\n"
        "RUN md5sum /big"
    )

    lines = run_lines(shared, context, steps)

    assert lines[0] != lines[1] == lines[2]


def test_independent_stages_run_side_by_side(shared: Pybuild, context: Path) -> None:
    meet = "RUN --mount=type=cache,target=/c,id=meet touch /c/$N; for i in $(seq 1200); do " \
           "test -e /c/0 -a -e /c/1 -a -e /c/2 && exit 0; sleep 0.05; done; exit 1"  # fmt: skip
    stages = [f"FROM busybox AS s{n}\nENV N={n}\n{meet}\n" for n in range(3)]
    lay(
        context,
        "".join(stages) + "FROM scratch\n" + "".join(f"COPY --from=s{n} /bin/sh /{n}\n" for n in range(3)),
    )

    shared("--no-cache", "-t", "met", context)

    assert sorted(read_image(shared.root, "met:latest").tree()) == ["0", "1", "2"]


def test_nothing_of_a_build_is_left_on_the_machine(shared: Pybuild, context: Path) -> None:
    run_lines(shared, context, "RUN --mount=type=tmpfs,target=/t (sleep 300.125 &) ; echo done")

    assert str(shared.root) not in Path("/proc/self/mountinfo").read_text()
    assert not any(stat.S_ISDIR(entry.stat().st_mode) for entry in os.scandir(shared.root / "ingest"))
    assert running(b"sleep", b"300.125") == []


def test_the_excerpt_of_a_failed_heredoc_marks_its_lines(shared: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN <<EOF\necho one\nfalse\nEOF\n".replace("false", "exit 5"))

    done = shared(context, check=False)

    assert "exit code: 5" in done.stderr
    assert re.search(r"2 \| >>> RUN <<EOF", done.stderr)


def test_few_open_files_make_a_build_slower_and_nothing_else(shared: Pybuild, context: Path) -> None:
    stages = [
        f"FROM busybox AS s{n}\n"
        f"RUN --mount=type=cache,target=/c --mount=type=cache,target=/d{n} ulimit -n >/f{n}\n"
        for n in range(20)
    ]
    copies = "".join(f"COPY --from=s{n} /f{n} /\n" for n in range(20))
    lay(context, "".join(stages) + f"FROM busybox\n{copies}RUN sort -u /f*\n")
    command = f"{sys.executable} -m builder --root {shared.root} --no-cache --progress=rawjson {context}"
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}

    for limit in ("-n 100", "-Sn 90"):
        line = f"ulimit {limit} && exec {command}"
        done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert lines_of(done.stderr) == [limit.split()[1]]
