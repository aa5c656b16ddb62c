"""Logging in at a real registry, and using it: over HTTP and TLS, with passwords, tokens and certificates."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.connectproxy import connect_proxy
from tests.support.layouts import LayoutMaker
from tests.support.machine import CHECKOUT, Pybuild, needs, run
from tests.support.registry import PASSWORD, USER, RunningRegistry, running_registry
from tests.support.terminals import at_terminal
from tests.support.tokenserver import IDENTITY, TokenServer, token_server

pytestmark = [pytest.mark.peers, needs("docker-registry", "skopeo", "openssl")]

GOOD = ("-u", USER, "--password-stdin")


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry with TLS that wants a password."""
    with running_registry(tmp_path_factory.mktemp("basic"), tls=True, basic=True) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningRegistry, TokenServer]]:
    """A registry without TLS whose token service is another server."""
    folder = tmp_path_factory.mktemp("tokens")
    with token_server(folder) as service, running_registry(folder / "registry", auth=service.auth) as running:
        yield running, service


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/run").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """A user of whom nothing is kept yet."""
    config = home / ".config/pybuild/config.toml"
    return {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "PYBUILD_CONFIG": str(config) if config.exists() else "",
    }


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


def trust(environ: dict[str, str], registry: RunningRegistry, more: str = "") -> None:
    """Set the registry's authority in the user's configuration file."""
    config = Path(environ["HOME"]) / "config.toml"
    config.write_text(f'[registries."{registry.host}"]\nca = "{registry.ca}"\n{more}')
    environ["PYBUILD_CONFIG"] = str(config)


def kept(home: Path) -> dict[str, dict[str, str]]:
    auths: dict[str, dict[str, str]] = json.loads((home / ".docker/config.json").read_text())["auths"]
    return auths


def push(layout: LayoutMaker, registry: RunningRegistry, name: str) -> None:
    row = layout.image([{"file": b"1"}])
    layout.name(row, "pushed")
    words = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}"]
    run([*words, f"oci:{layout.folder}:pushed", f"docker://{registry.host}/{name}"])


def build_from(
    pybuild: Pybuild, name: str, tmp_path: Path, environ: dict[str, str], *, check: bool = True
) -> str:
    """Build FROM an image; what was told."""
    context = tmp_path / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(f"FROM {name}\nLABEL a=b\n")
    return pybuild.build(context, "--pull", check=check, env=environ).stderr


def test_a_login_is_tried_kept_and_used_and_forgotten(
    basic: RunningRegistry, pybuild: Pybuild, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    push(LayoutMaker(tmp_path / "layout"), basic, "app:1")
    trust(environ, basic)
    refused = build_from(pybuild, f"{basic.host}/app:1", tmp_path, environ, check=False)
    assert "denies access" in refused
    assert f"pybuild login {basic.host}" in refused

    done = pybuild("login", *GOOD, basic.host, stdin=PASSWORD.encode() + b"\n", env=environ)

    file = home / ".docker/config.json"
    assert done.stdout == "Login Succeeded\n"
    assert f"WARNING! Your credentials are stored unencrypted in '{file}'." in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = build_from(pybuild, f"{basic.host}/app:1", tmp_path, environ)
    assert "built " in told
    assert PASSWORD not in told
    out = pybuild("logout", basic.host, env=environ)
    assert out.stdout == f"Removing login credentials for {basic.host}\n"
    assert pybuild("logout", basic.host, env=environ).stdout == f"Not logged in to {basic.host}\n"
    assert "denies access" in build_from(pybuild, f"{basic.host}/app:1", tmp_path, environ, check=False)


def test_docker_and_podman_read_what_is_kept_and_the_other_way_round(
    basic: RunningRegistry, pybuild: Pybuild, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    push(LayoutMaker(tmp_path / "layout"), basic, "shared:1")
    trust(environ, basic)
    pybuild("login", *GOOD, basic.host, stdin=PASSWORD.encode(), env=environ)
    where = f"docker://{basic.host}/shared:1"
    run(["skopeo", "inspect", "--tls-verify=false", where], env=environ)
    pybuild("logout", basic.host, env=environ)

    words = ["skopeo", "login", "--tls-verify=false", "-u", USER, "--password-stdin", basic.host]
    run(words, stdin=PASSWORD.encode(), env=environ)

    assert kept(home) == {}
    assert (home / "run/containers/auth.json").exists()
    assert "built " in build_from(pybuild, f"{basic.host}/shared:1", tmp_path, environ)


@pytest.mark.parametrize("tls", [True, False])
def test_a_wrong_password_is_not_kept(
    basic: RunningRegistry,
    tokens: tuple[RunningRegistry, TokenServer],
    pybuild: Pybuild,
    home: Path,
    environ: dict[str, str],
    tls: bool,
) -> None:
    registry = basic if tls else tokens[0]
    if tls:
        trust(environ, registry)

    done = pybuild("login", *GOOD, registry.host, stdin=b"canary-wrong", env=environ, check=False)

    assert done.returncode == 1
    assert "denies access" in done.stderr
    assert "canary-wrong" not in done.stderr + done.stdout
    assert not (home / ".docker").exists()


def test_a_login_is_kept_by_the_helper_that_the_file_names(
    basic: RunningRegistry, pybuild: Pybuild, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    trust(environ, basic)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    helper = bin_folder / "docker-credential-keeper"
    helper.write_text(f"#!/bin/sh\ncat > {tmp_path}/$1\n")
    helper.chmod(0o755)
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text('{"credsStore": "keeper"}')
    environ["PATH"] = f"{bin_folder}:{os.environ['PATH']}"

    done = pybuild("login", *GOOD, basic.host, stdin=PASSWORD.encode(), env=environ)

    assert done.stdout == "Login Succeeded\n"
    assert "unencrypted" not in done.stderr
    assert PASSWORD not in (home / ".docker/config.json").read_text()
    stored = json.loads((tmp_path / "store").read_text())
    assert stored == {"ServerURL": basic.host, "Username": USER, "Secret": PASSWORD}


def test_a_login_is_asked_for_at_a_terminal(
    basic: RunningRegistry, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    trust(environ, basic)

    told = _typed(["login", basic.host], [("Username: ", USER), ("Password: ", PASSWORD)], environ, tmp_path)

    assert "Login Succeeded" in told
    assert PASSWORD not in told
    assert basic.host in kept(home)


def test_at_a_terminal_the_end_of_input_is_no_password(environ: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "builder", "login", "-u", USER, "registry.example"]
    env = {**os.environ, **environ, "PYTHONPATH": str(CHECKOUT), "NO_COLOR": "1"}

    with at_terminal(command, env=env, cwd=tmp_path) as terminal:
        terminal.expect("Password: ")
        terminal.type("\x04")

        assert terminal.end() == 2
        assert terminal.shown.splitlines()[1:] == ["pybuild: a password is needed"]
        assert terminal.is_as_it_was()


def test_a_login_that_is_kept_is_tried_first(
    basic: RunningRegistry, pybuild: Pybuild, environ: dict[str, str]
) -> None:
    trust(environ, basic)
    pybuild("login", *GOOD, basic.host, stdin=PASSWORD.encode(), env=environ)

    done = pybuild("login", basic.host, env=environ)

    assert "Authenticating with existing credentials" in done.stderr
    assert done.stdout.endswith("Login Succeeded\n")


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        ((), None, "standard input is no terminal"), (("-u", "me"), None, "standard input is no terminal"),
        (("--password-stdin",), b"x", "--password-stdin needs --username"),
        (("-u", "me", "-p", "x", "--password-stdin"), b"x", "mutually exclusive"),
        (("-u", "me", "--password-stdin"), b"\n", "no password on standard input"),
        (("-u", "me", "-p", ""), None, "--password is empty"), (("-u", "a:b", "-p", "x"), None, "a colon"),
        (("-u", "me", "-p", "x", "extra"), None, "one registry at most"),
    ],
)  # fmt: skip
def test_what_is_missing_or_too_much_is_told(
    pybuild: Pybuild, environ: dict[str, str], words: tuple[str, ...], stdin: bytes | None, message: str
) -> None:
    done = pybuild("login", *words, "127.0.0.1:1", stdin=stdin, env=environ, check=False)

    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("words", [(), ("-u", "me", "--password-stdin")])
def test_who_has_no_standard_input_is_told(environ: dict[str, str], words: tuple[str, ...]) -> None:
    command = [
        "sh",
        "-c",
        'exec "$@" <&-',
        "sh",
        sys.executable,
        "-m",
        "builder",
        "login",
        *words,
        "127.0.0.1:1",
    ]

    done = run(command, env={**environ, "PYTHONPATH": str(CHECKOUT)}, check=False)

    assert done.returncode == 2
    assert "standard input" in done.stderr
    assert "pybuild itself" not in done.stderr


@pytest.mark.parametrize("name", ["a_b c", "-x", "http://", "a b", "../x"])
def test_what_is_no_registry_is_told(pybuild: Pybuild, environ: dict[str, str], name: str) -> None:
    done = pybuild("login", "-u", "me", "-p", "x", "--", name, env=environ, check=False)

    assert done.returncode == 2


def test_a_token_server_is_asked_with_the_login(
    tokens: tuple[RunningRegistry, TokenServer], pybuild: Pybuild, environ: dict[str, str], tmp_path: Path
) -> None:
    registry, service = tokens
    push(LayoutMaker(tmp_path / "layout"), registry, "team/app:1")
    pybuild("login", *GOOD, registry.host, stdin=PASSWORD.encode(), env=environ)
    service.asked.clear()

    build_from(pybuild, f"{registry.host}/team/app:1", tmp_path, environ)

    assert {(method, *given["scope"]) for method, _, given in service.asked} == {
        ("GET", "repository:team/app:pull")
    }
    assert all(authorization.startswith("Basic ") for _, authorization, _ in service.asked)


def test_an_identity_token_is_kept_in_place_of_the_password(
    tokens: tuple[RunningRegistry, TokenServer],
    pybuild: Pybuild,
    home: Path,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, service = tokens
    push(LayoutMaker(tmp_path / "layout"), registry, "team/other:1")
    monkeypatch.setattr(service, "identities", True)

    pybuild("login", *GOOD, registry.host, stdin=PASSWORD.encode(), env=environ)

    assert kept(home)[registry.host]["identitytoken"] == IDENTITY
    assert PASSWORD not in (home / ".docker/config.json").read_text()
    service.asked.clear()
    build_from(pybuild, f"{registry.host}/team/other:1", tmp_path, environ)
    assert {method for method, _, _ in service.asked} == {"POST"}


def test_a_push_asks_for_what_it_does_and_for_where_it_mounts_from(
    tokens: tuple[RunningRegistry, TokenServer], pybuild: Pybuild, environ: dict[str, str], tmp_path: Path
) -> None:
    registry, service = tokens
    push(LayoutMaker(tmp_path / "layout"), registry, "team/below:1")
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/team/below:1\nLABEL a=b\n")
    pybuild("login", *GOOD, registry.host, stdin=PASSWORD.encode(), env=environ)
    pybuild.build(tmp_path, "--pull", "-t", f"{registry.host}/team/above:1", env=environ)
    service.asked.clear()

    pybuild("push", f"{registry.host}/team/above:1", env=environ)

    scopes = {scope for _, _, given in service.asked for scope in given["scope"]}
    assert scopes == {"repository:team/above:pull,push", "repository:team/below:pull"}
    where = f"docker://{registry.host}/team/above:1"
    run(["skopeo", "inspect", "--tls-verify=false", where], env=environ)
    pybuild("logout", registry.host, env=environ)
    refused = pybuild("push", f"{registry.host}/team/above:1", env=environ, check=False)
    assert "denies access" in refused.stderr


def test_what_everybody_may_pull_needs_no_login(
    tokens: tuple[RunningRegistry, TokenServer],
    pybuild: Pybuild,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, service = tokens
    push(LayoutMaker(tmp_path / "layout"), registry, "open:1")
    monkeypatch.setattr(service, "anonymous", True)

    assert "built " in build_from(pybuild, f"{registry.host}/open:1", tmp_path, environ)


def test_a_client_certificate_is_shown_to_who_wants_one(
    pybuild: Pybuild, environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    with running_registry(tmp_path / "mutual", tls=True, client_certificates=True) as registry:
        folder = tmp_path / "mutual"
        layout = LayoutMaker(tmp_path / "layout")
        layout.name(layout.image([{"file": b"1"}]), "pushed")
        certificates = home / "certs"
        certificates.mkdir()
        for source, name in {"ca.pem": "ca.crt", "client.pem": "x.cert", "client.key": "x.key"}.items():
            (certificates / name).write_bytes((folder / source).read_bytes())
        target = f"docker://{registry.host}/app:1"
        words = ["skopeo", "copy", "--quiet", "--dest-cert-dir", certificates]
        run([*words, f"oci:{layout.folder}:pushed", target])
        trust(environ, registry)

        refused = build_from(pybuild, f"{registry.host}/app:1", tmp_path, environ, check=False)
        trust(environ, registry, f'cert = "{folder}/client.pem"\nkey = "{folder}/client.key"\n')
        by_table = build_from(pybuild, f"{registry.host}/app:1", tmp_path, environ)
        environ["PYBUILD_CONFIG"] = ""
        (home / ".config/containers/certs.d").mkdir(parents=True)
        certificates.rename(home / ".config/containers/certs.d" / registry.host)
        by_folder = build_from(pybuild, f"{registry.host}/app:1", tmp_path, environ)

    assert "TLS with registry" in refused
    assert "set `cert` and `key`" in refused
    assert "built " in by_table
    assert "built " in by_folder


def test_an_insecure_registry_is_believed_where_that_is_said(
    basic: RunningRegistry, pybuild: Pybuild, environ: dict[str, str]
) -> None:
    refused = pybuild("login", *GOOD, basic.host, stdin=PASSWORD.encode(), env=environ, check=False)
    done = pybuild("login", *GOOD, "--tls-verify=false", basic.host, stdin=PASSWORD.encode(), env=environ)

    assert "is not trusted" in refused.stderr
    assert f'`ca` in [registries."{basic.host}"]' in refused.stderr
    assert done.stdout == "Login Succeeded\n"


def test_https_goes_through_a_proxy_which_learns_no_login(
    basic: RunningRegistry, pybuild: Pybuild, environ: dict[str, str], tmp_path: Path
) -> None:
    """The proxy alone knows where registry.example is."""
    push(LayoutMaker(tmp_path / "layout"), basic, "far:1")
    config = tmp_path / "config.toml"
    config.write_text(f'[registries."registry.example"]\nca = "{basic.ca}"\n')
    environ["PYBUILD_CONFIG"] = str(config)
    words = ["login", *GOOD, "registry.example"]

    with connect_proxy(basic.host) as proxy:
        environ["HTTPS_PROXY"] = f"http://someone:known@{proxy.host}"
        done = pybuild(*words, stdin=PASSWORD.encode(), env=environ)
        told = build_from(pybuild, "registry.example/far:1", tmp_path, environ)
        proxy.status = 407
        refused = pybuild(*words, stdin=PASSWORD.encode(), env=environ, check=False)

    assert done.stdout == "Login Succeeded\n"
    assert "built " in told
    assert "the proxy refuses registry registry.example" in refused.stderr
    basic_text = b64encode(b"someone:known").decode()
    assert all(head.startswith("CONNECT registry.example:443 ") for head in proxy.heads)
    assert all(f"Basic {basic_text}" in head for head in proxy.heads)
    assert not any(b64encode(f"{USER}:{PASSWORD}".encode()).decode() in head for head in proxy.heads)
    assert "known@" not in done.stderr + told + refused.stderr


def test_a_mirror_serves_what_the_registry_has_lost(
    basic: RunningRegistry, pybuild: Pybuild, environ: dict[str, str], tmp_path: Path
) -> None:
    push(LayoutMaker(tmp_path / "layout"), basic, "library/debian:1")
    trust(environ, basic, f'[registries."docker.io"]\nmirrors = ["{basic.host}"]\n')
    pybuild("login", *GOOD, basic.host, stdin=PASSWORD.encode(), env=environ)

    assert "built " in build_from(pybuild, "debian:1", tmp_path, environ)


def test_all_logins_are_forgotten_at_once(pybuild: Pybuild, home: Path, environ: dict[str, str]) -> None:
    (home / ".docker").mkdir()
    document = {
        "auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "a.example": {"auth": "YTpi"}},
        "x": 1,
    }
    (home / ".docker/config.json").write_text(json.dumps(document))

    done = pybuild("logout", "--all", env=environ)

    hub = "Removing login credentials for https://index.docker.io/v1/"
    assert done.stdout.splitlines() == [hub, "Removing login credentials for a.example"]
    assert json.loads((home / ".docker/config.json").read_text()) == {"auths": {}, "x": 1}
    assert pybuild("logout", "--all", "a.example", env=environ, check=False).returncode == 2


def test_a_login_that_stays_elsewhere_is_told(pybuild: Pybuild, home: Path, environ: dict[str, str]) -> None:
    (home / "containers").mkdir()
    (home / "containers/auth.json").write_text(json.dumps({"auths": {"a.example": {"auth": "YTpi"}}}))

    done = pybuild("logout", "a.example", env={**environ, "XDG_RUNTIME_DIR": str(home)})

    assert done.stdout == "Not logged in to a.example\n"
    assert "containers/auth.json has a login for a.example" in done.stderr


def test_a_configuration_file_with_a_slip_is_told(
    pybuild: Pybuild, environ: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[registries."a.example"]\nmirror = "b"\n')

    done = pybuild(
        "login",
        "-u",
        "me",
        "-p",
        "x",
        "a.example",
        env={**environ, "PYBUILD_CONFIG": str(config)},
        check=False,
    )

    assert done.returncode == 2
    assert 'registries."a.example".mirror is not known' in done.stderr


def _typed(words: list[str], dialogue: list[tuple[str, str]], environ: dict[str, str], cwd: Path) -> str:
    """Run the command at a terminal; answer each prompt as it comes; all that the terminal showed."""
    master, slave = pty.openpty()
    env = {**os.environ, **environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "builder", *words]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, start_new_session=True
    )
    os.close(slave)
    shown = ""
    try:
        for prompt, answer in dialogue:
            while not shown.endswith(prompt):
                shown += os.read(master, 4096).decode()
            os.write(master, answer.encode() + b"\n")
        while True:
            try:
                shown += os.read(master, 4096).decode()
            except OSError:  # EIO: nobody has the other end any more
                break
        assert process.wait(60) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown
