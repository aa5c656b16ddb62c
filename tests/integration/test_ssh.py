"""`--ssh` and `RUN --mount=type=ssh`, with OpenSSH's own agent and its own client inside the step."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.contexts import lay, said, steps_run
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.rungs import RUNGS

pytestmark = [pytest.mark.root, needs_root(), needs("busybox", "ssh-agent", "ssh-add", "ssh-keygen")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ssh-add and all that it links."""
    folder = tmp_path_factory.mktemp("client")
    program = shutil.which("ssh-add") or ""
    links = re.findall(r"(/\S+)", run(["ldd", program]).stdout)
    for path in (program, *links):
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    lay(folder, files={"etc/passwd": "root:x:0:0::/root:/bin/sh\n"})
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    """Files with private keys of two kinds."""
    files = [tmp_path / "ed25519", tmp_path / "rsa"]
    for file in files:
        run(["ssh-keygen", "-q", "-t", file.name, "-N", "", "-C", f"name of {file.name}", "-f", file])
    return files


@pytest.fixture
def agent(tmp_path: Path, keys: list[Path]) -> Iterator[dict[str, str]]:
    """The environment by which an agent that holds the first key is found."""
    place = tmp_path / "the-user-s-own"
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
        )
        stack.callback(process.send_signal, signal.SIGTERM)
        environment = {"SSH_AUTH_SOCK": str(place)}
        while not listens(place):
            assert process.poll() is None
        run(["ssh-add", "-q", keys[0]], env=environment)
        yield environment


def listens(path: Path) -> bool:
    """Whether somebody takes connections there: a socket is in its place a while before that."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fspath(path)) == 0


def lay_step(context: Path, step: str, *, base: str = "FROM busybox\nCOPY --from=client . /") -> None:
    lay(context, f"{base}\n{step}\n")


def public(key: Path) -> str:
    """The type and the public key."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


ASK = "ssh-add -L > /known; cat /known; ssh-add -T /known && echo signed"


def test_a_step_signs_by_the_users_agent_and_can_do_nothing_else_with_it(
    pybuild: Pybuild, context: Path, client: Path, agent: dict[str, str], keys: list[Path]
) -> None:
    change = "ssh-add -D; ssh-add -d /known; echo w | ssh-add -x; env; cat /proc/self/mountinfo"
    lay_step(context, f"RUN --mount=type=ssh {ASK}; ({change}) 2>&1")

    lines = said(pybuild, context, "--ssh=default", f"--build-context=client={client}", env=agent)

    assert lines[:2] == [f"{public(keys[0])} name of ed25519", "signed"]
    assert "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0" in lines
    assert agent["SSH_AUTH_SOCK"] not in "\n".join(lines)
    assert public(keys[0]) in run(["ssh-add", "-L"], env=agent).stdout, "it is still there, and unlocked"


def test_keys_from_files_sign_and_are_written_nowhere(
    pybuild: Pybuild, context: Path, client: Path, keys: list[Path], tmp_path: Path
) -> None:
    lay_step(context, f"RUN --mount=type=ssh,id=deploy,required {ASK}")

    flags = [f"--ssh=deploy={keys[0]},{keys[1]}", f"--build-context=client={client}", "-t", "made"]
    lines = said(pybuild, context, *flags)

    assert [line.strip() for line in lines] == [public(keys[0]), public(keys[1]), "signed"]
    middle = keys[0].read_text().splitlines()[2].encode()
    for folder, _, names in os.walk(pybuild.root):
        for file in (Path(folder, name) for name in names):
            assert file.is_symlink() or middle not in file.read_bytes(), file
    assert os.listdir(pybuild.root / "ingest") == []


@pytest.mark.parametrize("rung", RUNGS)
def test_the_socket_has_owner_mode_and_place_and_is_in_no_layer(
    pybuild: Pybuild, context: Path, keys: list[Path], rung: str
) -> None:
    options = "type=ssh,target=sub/agent,uid=7,gid=8,mode=0640"
    step = f"WORKDIR /w\nRUN --mount={options} --mount=type=ssh,id=k stat -c '%F %u %g %a' /w/sub/agent; "
    lay_step(context, step + "echo $SSH_AUTH_SOCK; ls /run/buildkit\nRUN ls -A / /w", base="FROM busybox")

    lines = said(pybuild, context, f"--isolation={rung}", f"--ssh=default={keys[0]}", f"--ssh=k={keys[1]}")

    assert lines[:3] == ["socket 7 8 640", "/w/sub/agent", "ssh_agent.1"]
    assert "run" not in lines
    assert "sub" not in lines


def test_without_an_agent_a_step_runs_unless_it_requires_one(
    pybuild: Pybuild, context: Path, keys: list[Path]
) -> None:
    step = "RUN --mount=type=ssh,id=other echo $SSH_AUTH_SOCK; ls /run/buildkit 2>&1; true"
    lay_step(context, step, base="FROM busybox")
    assert said(pybuild, context, f"--ssh=default={keys[0]}") == [
        "/run/buildkit/ssh_agent.0",
        "ls: /run/buildkit: No such file or directory",
    ]

    lay_step(context, "RUN --mount=type=ssh,id=other,required true", base="FROM busybox")
    done = pybuild.build(context, f"--ssh=default={keys[0]}", check=False)
    assert done.returncode == 1
    assert "ssh agent other is required and was not given" in done.stderr
    assert "--ssh other=KEY" in done.stderr


def test_which_agent_answers_is_no_part_of_what_a_step_is(
    pybuild: Pybuild, context: Path, keys: list[Path]
) -> None:
    lay_step(context, "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK", base="FROM busybox")
    assert "RUN --mount=type=ssh" in steps_run(pybuild, context, f"--ssh=default={keys[0]}")[-1]

    assert steps_run(pybuild, context, f"--ssh=default={keys[1]}") == []
    assert steps_run(pybuild, context) == []


@pytest.mark.parametrize("where", ["ADD", "context"])
def test_git_asks_the_agent_called_default(
    pybuild: Pybuild, context: Path, keys: list[Path], where: str
) -> None:
    """`ssh` is one that tells what it finds, as the address leads nowhere."""
    told, program = context / "told", context / "bin" / "ssh"
    lay(context, "FROM busybox\nADD git@host.invalid:a/b.git /b\n")
    lay(context, files={"bin/ssh": f"#!/bin/sh\nssh-add -L > {told} 2>&1\nexit 1\n"})
    program.chmod(0o755)
    source = "git@host.invalid:a/b.git" if where == "context" else context
    path = {"PATH": f"{program.parent}:{os.environ['PATH']}", "SSH_AUTH_SOCK": ""}

    done = pybuild.build(source, f"--ssh=default={keys[0]},{keys[1]}", env=path, check=False)

    assert done.returncode == 1
    assert [line.strip() for line in told.read_text().splitlines()] == [public(key) for key in keys]
    assert os.listdir(pybuild.root / "ingest") == []


def test_what_is_no_key_is_told(pybuild: Pybuild, context: Path) -> None:
    lay_step(context, "RUN --mount=type=ssh true", base="FROM busybox")

    done = pybuild.build(context, "--ssh=default=/etc/passwd", check=False)

    assert done.returncode == 1
    assert "/etc/passwd is no private key that can be read" in done.stderr
    assert "root:" not in done.stderr
