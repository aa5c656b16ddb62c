"""A home is an absolute folder; who has none has no configuration, and no store in the working folder."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from builder import configfile, home
from builder.dockerproxies import find_proxies
from builder.errors import StoreError, UsageError
from builder.oci.credentialfiles import find_places
from builder.oci.hosts import SYSTEM_FOLDERS, certificate_folders
from builder.settings import load
from builder.store.root import default_root

NOBODY = 4_000_000_123


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"HOME": "/home/me"}, "/home/me"),
        ({"HOME": "me"}, ""),
        ({"HOME": "~"}, ""),
        ({"HOME": ""}, ""),
        ({}, ""),
    ],
)
def test_a_home_is_an_absolute_folder(environment: dict[str, str], found: str) -> None:
    assert home.find_home(environment) == found
    assert home.in_home(environment, ".config", "x") == (f"{found}/.config/x" if found else "")


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}])
def test_where_no_variable_tells_it_the_user_database_does(environment: dict[str, str]) -> None:
    home.settle(environment)

    assert environment == {"HOME": pwd.getpwuid(os.getuid()).pw_dir}


def test_a_number_without_a_name_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    environment: dict[str, str] = {}

    home.settle(environment)

    assert environment == {}


def test_the_command_knows_its_users_home_before_it_can_become_another(tmp_path: Path) -> None:
    script = (
        "import os; from builder import cli; cli._prepare_process(debug=False); print(os.environ['HOME'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}

    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.parametrize("environment", [{}, {"HOME": "~"}])
def test_without_a_home_the_working_folder_is_nobodys_configuration(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("~/.docker/config.json", '{"proxies": {"default": {"httpProxy": "theirs"}}}'),
        (".docker/config.json", '{"proxies": {"default": {"httpProxy": "theirs"}}}'),
        ("~/.config/pybuild/config.toml", "[gc]\nenabled = false\n"),
        (".config/pybuild/config.toml", "[gc]\nenabled = false\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configfile, "SYSTEM_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert find_proxies(environment) == {}
    assert configfile.find(environment) == ""
    assert certificate_folders(environment) == SYSTEM_FOLDERS
    assert find_places(environment, 7).read == ("/run/containers/7/auth.json",)
    with pytest.raises(StoreError, match=r"there is no home folder .* to keep a store in") as caught:
        default_root(environment)
    assert "PYBUILD_ROOT" in str(caught.value.hint)
    assert default_root({**environment, "XDG_DATA_HOME": "/data"}) == "/data/pybuild"


def test_a_certificate_in_a_home_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[registries."a.example"]\nca = "~/ca.pem"\n')

    with pytest.raises(UsageError, match=r"names ~/ca\.pem, and there is no home folder"):
        load({"PYBUILD_CONFIG": str(tmp_path / "config.toml")})
