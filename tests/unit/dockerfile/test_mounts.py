"""RUN --mount: CSV to typed values."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.mounts import (
    KEYS,
    MountError,
    MountOptions,
    parse_mount,
    parse_size,
    source_name,
    split_fields,
)


def plain(value: str) -> str:
    return value


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/ctx", MountOptions(target="/ctx", readonly=True)),
        ("type=bind,src=d,dst=/one", MountOptions(source="d", target="/one", readonly=True)),
        ("TYPE=BIND,Source=d,destination=/two", MountOptions(source="d", target="/two", readonly=True)),
        ("target=/m,rw", MountOptions(target="/m", readonly=False)),
        ("target=/m,rw,ro", MountOptions(target="/m", readonly=True)),
        ("target=/m,readonly=0", MountOptions(target="/m", readonly=False)),
        ("target=/m,readwrite=false", MountOptions(target="/m", readonly=True)),
        (
            "type=cache,target=/c,id=x,sharing=Locked,mode=0710,uid=1000,gid=12",
            MountOptions(
                "cache", target="/c", id="x", sharing="locked", mode=0o710, uid=1000, gid=12, readonly=False
            ),
        ),
        ("type=tmpfs,target=/t,size=2m", MountOptions("tmpfs", target="/t", size=2 << 20, readonly=False)),
        ("type=secret,id=s,required", MountOptions("secret", id="s", required=True, readonly=True)),
        ("type=secret,id=s,env=TOKEN", MountOptions("secret", id="s", env="TOKEN", readonly=True)),
        ("type=ssh,id=a,required=true", MountOptions("ssh", id="a", required=True, readonly=True)),
        ('type=bind,"source=a,b",target=/x', MountOptions(source="a,b", target="/x", readonly=True)),
    ],
)
def test_a_mount_is_read(text: str, mount: MountOptions) -> None:
    assert parse_mount(text, plain) == mount


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("type=tape,target=/x", "tape"),
        ("type=bind,target=/m,colour=red", "colour"),
        ("type=bind,target", "target"),
        ("type=bind,colour", "colour"),
        ("type=cache,target=/c,size=1m", "size"),
        ("type=cache,target=/c,sharing=mine", "mine"),
        ("type=bind,target=/c,sharing=shared", "sharing"),
        ("type=bind,target=/c,mode=755", "mode"),
        ("type=tmpfs,target=/c,uid=0", "uid"),
        ("type=tmpfs,target=/c,size=lots", "lots"),
        ("type=secret", "secret"),
        ("type=secret,id=a,from=s", "from"),
        ("type=secret,id=a,source=s", "not both"),
        ("type=bind,required,target=/x", "required"),
        ("type=ssh,source=x", "source"),
        ("type=cache,target=/c,mode=9", "mode"),
        ("type=cache,target=/c,uid=4294967296", "uid"),
        ("target=/c,ro=yes", "yes"),
        ("required,type=secret,id=a", "required"),
        ('type=bind,"source=a', "quote"),
        ('type=bind,a"b', "quote"),
    ],
)
def test_a_wrong_mount_is_named(text: str, word: str) -> None:
    with pytest.raises(MountError, match=word):
        parse_mount(text, plain)


def test_an_unknown_key_is_told_apart() -> None:
    with pytest.raises(MountError) as caught:
        parse_mount("tragte=/x", plain)

    assert (caught.value.word, caught.value.known) == ("tragte", KEYS)


def test_values_are_expanded_and_keys_are_not() -> None:
    seen: list[str] = []

    parse_mount("type=cache,target=$T,ro", lambda value: seen.append(value) or value)

    assert seen == ["cache", "$T"]


def test_from_is_known_before_anything_is_expanded() -> None:
    assert source_name("type=$KIND,from=stage,nonsense") == "stage"
    assert source_name("target=/x") == ""


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("2m", 2 << 20), ("1.5KiB", 1536), ("1 g", 1 << 30), ("3B", 3), (".5k", 512)],
)
def test_sizes_count_in_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1ib", "1 2", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(MountError):
        parse_size(text)


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r"), max_size=8), min_size=1))
def test_fields_come_back_as_they_were_quoted(fields: list[str]) -> None:
    text = ",".join('"' + field.replace('"', '""') + '"' for field in fields)

    assert list(split_fields(text)) == fields


@given(st.text(alphabet='a=,"\\$ ', max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(MountError):
        assert parse_mount(text, plain).kind == "bind"
