"""No secret and no credential leaves in a text."""

from __future__ import annotations

import pytest

from builder.attest.redaction import HIDDEN, Redactor, secrets_in, secrets_written


def test_a_value_is_taken_out_wherever_it_stands() -> None:
    redactor = Redactor(["hunter22\n", "hunter22-longer"])

    assert redactor.text("RUN login --with hunter22 && x=hunter22-longer") == "RUN login --with *** && x=***"


def test_a_short_value_is_taken_out_where_it_is_all() -> None:
    redactor = Redactor(["abc"])

    assert redactor.text("abc") == HIDDEN
    assert redactor.text("abcdef") == "abcdef"


def test_variables_that_sound_secret_are_told_by_name_alone() -> None:
    redactor = Redactor([])

    assert redactor.variable("API_TOKEN", "x") == HIDDEN
    assert redactor.variable("API_TOKEN", "") == ""
    assert redactor.variable("PATH", "/bin") == "/bin"
    assert secrets_in({"DB_PASSWORD": "one", "PATH": "two"}) == ["one"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/x.git#main", "https://***@host/x.git#main"),
        ("curl https://me@host/ && wget ftp://a", "curl https://***@host/ && wget ftp://a"),
        ("ssh://git:pw@host/x", "ssh://git:***@host/x"),
        ("https://h/f?token=abcdef&v=1", "https://h/f?token=***&v=1"),
        ("https://h/f?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/f?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://h/f?tokens=1", "https://h/f?tokens=1"),
    ],
)
def test_addresses_lose_their_credentials(text: str, shown: str) -> None:
    assert Redactor([]).text(text) == shown


@pytest.mark.parametrize(
    "line",
    [
        "ARG TOKEN=canary-1",
        'ARG A=1 TOKEN="canary-1"',
        "ENV PASSWORD canary-1",
        "env a=b \\\n  db_password='canary-1'",
        "RUN TOKEN=canary-1 ./login",
    ],
)
def test_what_a_dockerfile_gives_to_such_variables_is_a_secret(line: str) -> None:
    text = f"FROM scratch\n{line}\nRUN echo canary-1\n"

    assert "canary-1" in secrets_written(text)
    assert "canary-1" not in Redactor(secrets_written(text)).text(text)


def test_references_to_other_variables_are_no_values() -> None:
    assert secrets_written("ARG TOKEN=$OTHER\nENV KEY=${TOKEN}\nARG TOKEN\n") == []


def test_what_is_no_utf8_becomes_so() -> None:
    assert Redactor([]).text("a\udcffb") == "a\ufffdb"
