"""docker's proxies: what its configuration says becomes build arguments, as `docker build` has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder import prepare
from builder.dockerproxies import SOCKET, find_proxies, read_proxies
from builder.request import BuildRequest

ALL = {
    "httpProxy": "http://p:1",
    "httpsProxy": "http://p:2",
    "ftpProxy": "http://p:3",
    "noProxy": "localhost,.x",
    "allProxy": "socks5://p:4",
}


def text(**proxies: object) -> bytes:
    return json.dumps({"auths": {}, "proxies": proxies}).encode()


def test_each_proxy_is_an_argument_in_both_spellings() -> None:
    assert read_proxies(text(default=ALL), SOCKET) == {
        "HTTP_PROXY": "http://p:1", "http_proxy": "http://p:1",
        "HTTPS_PROXY": "http://p:2", "https_proxy": "http://p:2",
        "FTP_PROXY": "http://p:3", "ftp_proxy": "http://p:3",
        "NO_PROXY": "localhost,.x", "no_proxy": "localhost,.x",
        "ALL_PROXY": "socks5://p:4", "all_proxy": "socks5://p:4",
    }  # fmt: skip


def test_a_hosts_own_go_before_the_default_and_replace_them() -> None:
    both = text(default=ALL, **{SOCKET: {"noProxy": "a"}, "tcp://h:2376": {}})

    assert read_proxies(both, SOCKET) == {"NO_PROXY": "a", "no_proxy": "a"}
    assert read_proxies(both, "tcp://h:2376") == {}
    assert len(read_proxies(both, "tcp://other:2376")) == 10


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"proxies": null}',
        b'{"proxies": {"default": []}}',
        b'{"proxies": {"default": null}}',
        b'{"proxies": {"default": {"httpProxy": 7, "noProxy": ""}}}',
        b'{"proxies": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_says_nothing_of_proxies_makes_no_arguments(data: bytes) -> None:
    assert read_proxies(data, SOCKET) == {}


def test_the_file_is_dockers(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_bytes(
        text(default={"httpProxy": "home"}, here={"httpProxy": "h"})
    )
    (tmp_path / "config.json").write_bytes(text(default={"httpProxy": "told"}))
    home = {"HOME": str(tmp_path)}

    assert find_proxies(home)["HTTP_PROXY"] == "home"
    assert find_proxies({**home, "DOCKER_HOST": "here"})["HTTP_PROXY"] == "h"
    assert find_proxies({**home, "DOCKER_CONFIG": str(tmp_path)})["HTTP_PROXY"] == "told"
    assert find_proxies({"HOME": str(tmp_path / "other")}) == {}
    assert find_proxies({"DOCKER_CONFIG": str(tmp_path / ".docker/config.json")}) == {}


def test_what_is_given_on_the_command_line_wins_in_either_spelling() -> None:
    request = BuildRequest(
        context=".",
        root="/r",
        build_args={"http_proxy": "", "NO_PROXY": "mine", "A": "1"},
        proxies=read_proxies(text(default=ALL), SOCKET),
    )

    args = prepare.build_args(request, {})

    assert args["http_proxy"] == ""
    assert args["NO_PROXY"] == "mine"
    assert "HTTP_PROXY" not in args
    assert "no_proxy" not in args
    assert args["https_proxy"] == args["HTTPS_PROXY"] == "http://p:2"


def test_an_argument_that_the_environment_has_no_value_for_leaves_the_configurations() -> None:
    request = BuildRequest(
        context=".",
        root="/r",
        build_args={"HTTP_PROXY": None, "HTTPS_PROXY": None},
        proxies=read_proxies(text(default=ALL), SOCKET),
    )

    args = prepare.build_args(request, {"HTTPS_PROXY": "mine"})

    assert args["HTTP_PROXY"] == args["http_proxy"] == ALL["httpProxy"]
    assert args["HTTPS_PROXY"] == "mine"
    assert "https_proxy" not in args


def test_a_configuration_without_proxies_is_not_even_parsed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {')
    code = (
        "import sys; from builder.dockerproxies import find_proxies; import os;"
        "print(find_proxies(os.environ), 'builder.plainjson' in sys.modules)"
    )
    environ = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "{} False"


@pytest.mark.parametrize("odd", ["http://\ud800", "http://a\0b", "http://a\nB=c", 5, None, [], {}])
def test_a_value_that_no_environment_can_hold_makes_no_argument(odd: object) -> None:
    assert read_proxies(text(default={"httpProxy": odd, "noProxy": "a"}), SOCKET) == {
        "NO_PROXY": "a",
        "no_proxy": "a",
    }
