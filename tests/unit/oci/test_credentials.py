"""Logins: in docker's and podman's files, and kept by programs."""

from __future__ import annotations

import json
import os
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.oci import credentialhelpers, credentials
from builder.oci.auth import Login
from builder.oci.credentialfiles import CredentialError
from builder.oci.credentials import Keyring, find_others, forget, keep

HELPER = """#!/bin/sh
# keeps logins in files beside itself; says what it was called with
server=$(cat)
echo "$# $1 $server" >> "$KEPT/calls"
case $1 in
store) echo "$server" > "$KEPT/stored" ;;
get) cat "$KEPT/stored" 2> /dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
erase) rm -f "$KEPT/stored" ;;
esac
"""


def auth(text: str) -> dict[str, str]:
    return {"auth": b64encode(text.encode()).decode()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path, tmp_path: Path) -> dict[str, str]:
    home.mkdir()
    return {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
    }


def write(path: Path, **document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def helper(tmp_path: Path, environ: dict[str, str], script: str = HELPER, name: str = "test") -> Path:
    """Install a program that keeps logins; where it keeps them."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    program = tmp_path / f"bin/docker-credential-{name}"
    program.write_text(script)
    program.chmod(0o755)
    environ["KEPT"] = str(tmp_path)
    return tmp_path


def find(environ: dict[str, str], registry: str, repository: str = "") -> Login | None:
    return Keyring(environ).find(registry, repository).login


def test_where_nothing_is_kept_there_is_nobody(environ: dict[str, str]) -> None:
    found = Keyring(environ).find("docker.io", "library/debian")

    assert (found.login, found.troubles) == (None, ())


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("registry.example:5000", "registry.example:5000"), ("https://registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"), ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"), ("index.docker.io", "docker.io"),
    ],
)  # fmt: skip
def test_a_registry_is_found_by_the_names_that_docker_gives_it(
    home: Path, environ: dict[str, str], key: str, registry: str
) -> None:
    write(home / ".docker/config.json", auths={key: auth("me:pass:word")})

    assert find(environ, registry) == Login("me", "pass:word")


@pytest.mark.parametrize(
    "key",
    ["example", "other.example", "registry.example:5000", "registry.example.evil", "x/registry.example"],
)
def test_a_login_is_for_its_registry_alone(home: Path, environ: dict[str, str], key: str) -> None:
    write(home / ".docker/config.json", auths={key: auth("me:canary")})

    assert find(environ, "registry.example") is None


def test_the_kinds_of_logins_are_told_apart(home: Path, environ: dict[str, str]) -> None:
    entries = {
        "a.example": {"username": "me", "password": "p"}, "b.example": {**auth("me:"), "identitytoken": "i"},
        "c.example": {"registrytoken": "r"}, "d.example": {}, "e.example": "odd",
    }  # fmt: skip
    write(home / ".docker/config.json", auths=entries)

    found = [find(environ, f"{name}.example") for name in "abcde"]

    assert found == [Login("me", "p"), Login("me", "", "i"), Login(registry_token="r"), None, None]
    assert [login.basic is not None for login in found if login] == [True, False, False]


def test_variables_say_where_the_files_are(home: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json", auths={"a.example": auth("home:1")})
    write(tmp_path / "elsewhere/config.json", auths={"a.example": auth("docker:1")})
    write(
        tmp_path / "run/containers/auth.json", auths={"a.example": auth("run:1"), "b.example": auth("run:2")}
    )
    write(
        home / ".config/containers/auth.json",
        auths={"b.example": auth("config:2"), "c.example": auth("config:3")},
    )
    write(tmp_path / "file.json", auths={"a.example": auth("file:1")})

    def users() -> list[str | None]:
        found = [find(environ, f"{name}.example") for name in "abc"]
        return [login.user if login else None for login in found]

    assert users() == ["home", "run", "config"]
    environ["DOCKER_CONFIG"] = str(tmp_path / "elsewhere")
    assert users() == ["docker", "run", "config"]
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "file.json")
    assert users() == ["file", "run", "config"]
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"a.example": auth("text:1")}})
    assert users() == ["text", "run", "config"]


def test_podmans_logins_may_be_for_a_part_of_a_registry(home: Path, environ: dict[str, str]) -> None:
    entries = {
        "a.example": auth("all:1"),
        "a.example/team": auth("team:1"),
        "a.example/team/app": auth("app:1"),
    }
    write(home / ".config/containers/auth.json", auths=entries)

    users = [
        login.user
        for name in ("", "team", "team/app", "team/other", "tea")
        if (login := find(environ, "a.example", name))
    ]

    assert users == ["all", "team", "app", "team", "all"]


def test_a_file_that_is_damaged_is_told_and_hides_no_other(home: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json").write_text('{"auths": {"a.example": {"auth": "canary')
    write(home / ".config/containers/auth.json", auths={"a.example": auth("me:1")})

    found = Keyring(environ).find("a.example", "")

    assert found.login == Login("me", "1")
    assert found.troubles == (f"{home}/.docker/config.json is no JSON",)


def test_an_entry_that_is_damaged_is_told_without_what_it_says(home: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json", auths={"a.example": {"auth": "canary!"}})

    found = Keyring(environ).find("a.example", "")

    assert found.login is None
    assert found.troubles == ("the login for a.example is damaged: it is no base64",)


def test_a_login_does_not_show_what_is_secret() -> None:
    assert "canary" not in repr(Login("me", "canary", "canary", "canary"))


@pytest.mark.parametrize(
    "document", [{"credsStore": "test"}, {"credHelpers": {"a.example": "test"}, "credsStore": "none"}]
)
def test_a_program_that_a_file_names_is_asked(
    home: Path, tmp_path: Path, environ: dict[str, str], document: dict[str, object]
) -> None:
    kept = helper(tmp_path, environ)
    write(home / ".docker/config.json", **document)
    (kept / "stored").write_text('{"ServerURL":"a.example","Username":"me","Secret":"s"}')

    assert find(environ, "a.example") == Login("me", "s")
    assert (kept / "calls").read_text() == "1 get a.example\n"


def test_a_program_is_asked_once_for_all_repositories_of_a_registry(
    home: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    kept = helper(tmp_path, environ)
    write(home / ".docker/config.json", credsStore="test")
    (kept / "stored").write_text('{"Username":"me","Secret":"s"}')
    keyring = Keyring(environ)

    found = [keyring.find("a.example", name).login for name in ("app", "other")]

    assert found == [Login("me", "s")] * 2
    assert (kept / "calls").read_text() == "1 get a.example\n"


def test_the_hub_has_dockers_name_at_programs(home: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    kept = helper(tmp_path, environ)
    write(home / ".docker/config.json", credsStore="test")

    assert find(environ, "docker.io") is None
    assert (kept / "calls").read_text() == "1 get https://index.docker.io/v1/\n"


def test_a_programs_token_is_an_identity_token(home: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    kept = helper(tmp_path, environ)
    write(home / ".docker/config.json", credsStore="test")
    (kept / "stored").write_text('{"Username":"<token>","Secret":"s"}')

    assert find(environ, "a.example") == Login(identity_token="s")


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        ("#!/bin/sh\necho 'keychain is locked'\nexit 3\n", "get failed with status 3: keychain is locked"),
        ("#!/bin/sh\necho '{'\n", "gives no JSON"),
        ("#!/bin/sh\necho '[]'\n", "gives no user name and secret"),
        ("#!/bin/sh\nexec sleep 60\n", "did not answer within"), ("odd", "cannot be run"),
        ("#!/bin/sh\nexec head -c 3000000 /dev/zero\n", "says more than 1 MiB"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_told_and_the_file_counts(
    home: Path,
    tmp_path: Path,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    trouble: str,
) -> None:
    helper(tmp_path, environ, script)
    if "sleep" in script:
        monkeypatch.setattr(credentialhelpers, "SECONDS", 0.3)
    write(home / ".docker/config.json", credsStore="test", auths={"a.example": auth("me:1")})

    found = Keyring(environ).find("a.example", "")

    assert found.login == Login("me", "1")
    assert len(found.troubles) == 1
    assert trouble in found.troubles[0]


def test_a_program_that_is_not_installed_is_told(home: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json", credsStore="desktop")

    assert Keyring(environ).find("a.example", "").troubles == ("docker-credential-desktop is not installed",)


@pytest.mark.parametrize("name", ["../../tmp/x", "a b", "x;touch /tmp/y", "", ".x", "-x", "x\n", "a/b"])
def test_only_a_word_names_a_program(tmp_path: Path, environ: dict[str, str], name: str) -> None:
    with pytest.raises(CredentialError, match="is no name of a credential helper"):
        credentialhelpers.get(name, "a.example", environ)


def test_a_login_is_kept_in_dockers_file_which_nobody_else_can_read(
    home: Path, environ: dict[str, str]
) -> None:
    kept = keep(environ, "a.example", Login("me", "pä:ss"))

    file = home / ".docker/config.json"
    assert (kept.path, kept.helper) == (str(file), "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert json.loads(file.read_text()) == {"auths": {"a.example": auth("me:pä:ss")}}
    assert find(environ, "a.example") == Login("me", "pä:ss")
    assert os.listdir(file.parent) == ["config.json"]


def test_keeping_a_login_changes_nothing_else_of_the_file(
    home: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    real = write(
        tmp_path / "real.json",
        auths={"https://a.example/v2/": auth("old:1"), "b.example": auth("b:1")},
        psFormat="x",
    )
    real.chmod(0o644)
    (home / ".docker").mkdir()
    (home / ".docker/config.json").symlink_to(real)

    keep(environ, "a.example", Login("me", identity_token="i"))

    assert (home / ".docker/config.json").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    entry = {**auth("me:"), "identitytoken": "i"}
    assert json.loads(real.read_text()) == {
        "auths": {"b.example": auth("b:1"), "a.example": entry},
        "psFormat": "x",
    }


def test_logins_that_are_kept_at_the_same_time_are_all_kept(home: Path, environ: dict[str, str]) -> None:
    names = [f"r{number}.example" for number in range(16)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: keep(environ, name, Login("me", name)), names))

    assert [find(environ, name) for name in names] == [Login("me", name) for name in names]
    assert os.listdir(home / ".docker") == ["config.json"]


def test_podmans_folder_is_that_of_the_user_outside_of_namespaces(environ: dict[str, str]) -> None:
    del environ["XDG_RUNTIME_DIR"]

    assert f"/run/containers/{os.getuid()}/auth.json" in Keyring(environ).places.read


def test_a_login_goes_to_the_program_that_the_file_names(
    home: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    kept = helper(tmp_path, environ)
    file = write(home / ".docker/config.json", credsStore="test")

    done = keep(environ, "docker.io", Login("me", "secret"))

    assert done.helper == "test"
    stored = json.loads((kept / "stored").read_text())
    assert stored == {"ServerURL": "https://index.docker.io/v1/", "Username": "me", "Secret": "secret"}
    assert json.loads(file.read_text()) == {
        "credsStore": "test",
        "auths": {"https://index.docker.io/v1/": {}},
    }
    assert find(environ, "docker.io") == Login("me", "secret")


def test_a_login_is_forgotten_everywhere(home: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    kept = helper(tmp_path, environ)
    file = write(home / ".docker/config.json", credsStore="test")
    keep(environ, "a.example", Login("me", "secret"))

    assert forget(environ, "a.example")

    assert not (kept / "stored").exists()
    assert json.loads(file.read_text())["auths"] == {}
    assert not forget(environ, "a.example")


def test_forgetting_what_is_not_kept_writes_nothing(home: Path, environ: dict[str, str]) -> None:
    assert not forget(environ, "a.example")
    assert list(home.iterdir()) == []


def test_logins_that_forgetting_leaves_are_known(home: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json", auths={"a.example": auth("me:1")})
    podman = write(tmp_path / "run/containers/auth.json", auths={"a.example": auth("me:2")})
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"b.example": auth("me:3")}})

    assert forget(environ, "a.example")

    assert find_others(environ, "a.example") == [str(podman)]
    assert find_others(environ, "b.example") == ["DOCKER_AUTH_CONFIG"]
    assert find_others(environ, "c.example") == []


def test_a_damaged_file_is_not_written_over(home: Path, environ: dict[str, str]) -> None:
    file = write(home / ".docker/config.json")
    file.write_text("{")

    with pytest.raises(CredentialError, match="is no JSON"):
        keep(environ, "a.example", Login("me", "1"))

    assert file.read_text() == "{"


def test_registries_that_a_file_names_are_listed(home: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json", auths={"https://index.docker.io/v1/": {}, "a.example:5000": {}})

    assert credentials.all_registries(environ) == ["docker.io", "a.example:5000"]


@pytest.mark.parametrize("field", ["username", "password", "identitytoken", "registrytoken"])
def test_a_login_that_is_no_text_is_told(home: Path, environ: dict[str, str], field: str) -> None:
    """JSON may hold half a character, which nothing can be sent of."""
    write(home / ".docker/config.json", auths={"a.example": {"username": "me", field: "canary\ud800"}})

    found = Keyring(environ).find("a.example", "")

    assert found.login is None
    assert found.troubles == ("the login for a.example is damaged: it is no text",)


def test_a_program_that_gives_no_text_is_told(home: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    write(home / ".docker/config.json", credsStore="test")
    helper(
        tmp_path, environ, '#!/bin/sh\ncat > /dev/null\necho \'{"Username": "me", "Secret": "\\ud800"}\'\n'
    )

    found = Keyring(environ).find("a.example", "")

    assert found.login is None
    assert found.troubles == ("docker-credential-test gives a login that is no text",)


def test_keeping_a_login_keeps_what_is_no_text_elsewhere_in_the_file(
    home: Path, environ: dict[str, str]
) -> None:
    file = write(home / ".docker/config.json", psFormat="\ud800é")

    keep(environ, "a.example", Login("me", "1"))

    assert json.loads(file.read_text()) == {"auths": {"a.example": auth("me:1")}, "psFormat": "\ud800é"}
