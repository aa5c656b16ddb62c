"""References are read as docker reads them, and written in the shortest form that means the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from builder.errors import ImageError
from builder.oci import reference

D = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("127.0.0.1:5000/debian:12", "127.0.0.1:5000/debian:12", "127.0.0.1:5000/debian:12"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("Upper/x", "Upper/x:latest", "Upper/x:latest"),
        ("ghcr.io/a/b-c__d.e:T_1", "ghcr.io/a/b-c__d.e:T_1", "ghcr.io/a/b-c__d.e:T_1"),
        (f"debian@{D}", f"docker.io/library/debian@{D}", f"debian@{D}"),
        (f"debian:12@{D}", f"docker.io/library/debian:12@{D}", f"debian:12@{D}"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
        ("docker.io/my.org/x", "docker.io/my.org/x:latest", "docker.io/my.org/x:latest"),
        ("a" * 63 + "f", "docker.io/library/" + "a" * 63 + "f:latest", None),
    ],
)
def test_names_are_normalised_as_docker_does(text: str, full: str, familiar: str | None) -> None:
    if familiar is None:
        with pytest.raises(reference.InvalidReference, match="64 hexadecimal digits"):
            reference.parse(text)
        return
    parsed = reference.parse(text)

    assert str(parsed) == full
    assert parsed.familiar() == familiar
    assert reference.parse(full) == parsed
    assert parsed.target == (parsed.digest or parsed.tag)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "is empty", None),
        ("Debian", "must be in lower case", "write debian"),
        ("docker.io/User/App:X", "must be in lower case", "write docker.io/user/app:X"),
        ("http://host/x", "is a URL", "write host/x"),
        ("a b", "is not valid", None),
        ("a//b", "is not valid", None),
        ("a___b", "is not valid", None),
        ("-a", "is not valid", None),
        ("a:", "tag '' of", None),
        ("a:-x", "tag -x of", None),
        ("a:" + "x" * 129, "tag ", None),
        ("a@sha256:12", "digest sha256:12 of", None),
        ("a@sha512:" + "a" * 128, "digest sha512:", None),
        ("a@", "digest '' of", None),
        ("host_name.x:80/a", "registry host_name.x:80 of", None),
        ("x" * 256, "more than 255", None),
        ("a" * 10_000, "is too long", None),
        ("a\n", "is not valid", None),
        ("\x1b[2J", "is not valid", None),
        ("ａ", "is not valid", None),
        ("a/../b", "is not valid", None),
        ("..", "is not valid", None),
    ],
)  # fmt: skip
def test_what_names_no_image_is_told(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(reference.InvalidReference, match=re.escape(message)) as caught:
        reference.parse(text)

    assert isinstance(caught.value, ImageError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.message.isprintable()
    if hint is not None:
        assert caught.value.hint == hint


component = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
registry = st.sampled_from(["", "docker.io/", "localhost/", "h.example/", "h:80/", "[::1]/", "UP/"])
tag = st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}", fullmatch=True))
digest = st.sampled_from(["", f"@{D}"])


@given(registry, st.lists(component, min_size=1, max_size=3), tag, digest)
def test_the_familiar_name_means_the_same(host: str, path: list[str], tag: str, digest: str) -> None:
    assume(host or not {".", "_"} & set(path[0]))  # `a.b_c/d` is a registry, and not a valid one
    parsed = reference.parse(host + "/".join(path) + tag + digest)

    assert reference.parse(parsed.familiar()) == parsed
    assert reference.parse(str(parsed)) == parsed
    assert len(parsed.familiar()) <= len(str(parsed))
    assert reference.parse(parsed.without_digest().familiar()) == parsed.without_digest()


@given(st.text(max_size=80) | st.text(alphabet="aA0.:/@-_sha256 ", max_size=40))
def test_any_text_is_a_reference_or_an_error_of_ours(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except reference.InvalidReference:
        return
    assert ".." not in parsed.repository.split("/")
    assert reference.parse(str(parsed)) == parsed


def test_no_text_takes_long() -> None:
    for text in (
        "a-" * 110 + "!",
        "a" * 200 + "!" * 40,
        "a" + "-" * 230,
        ("a." * 100) + "/x",
        "h" * 250 + ":x/",
    ):
        with pytest.raises(reference.InvalidReference):
            reference.parse(text + "/!")
