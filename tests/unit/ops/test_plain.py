"""An op's plain data holds all that its result depends on: whoever changes one field has another op."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from builder.digest import Digest, of_value
from builder.ops.exec import BindMount, CacheMount, Device, Exec, SecretMount, SshMount, TmpfsMount
from builder.ops.files import Copy, InlineItem, MakeDir, PathItem
from builder.ops.source import Image, Local
from builder.solver.keys import combine

BIND = BindMount(1, "/s", "/t")
CACHE = CacheMount("id", "/t")
TMPFS = TmpfsMount("/t")
SECRET = SecretMount("id", "/t")
SSH = SshMount("id", "/t")
EXEC = Exec(("true",), (("A", "1"), ("B", "2")), "/")
COPY = Copy((PathItem(1, "/a"), InlineItem("n", "text")), "/d")

# What another value of each field is. Of a COPY's sources the content counts, which its inputs' digests hold.
OTHERS: list[tuple[Any, dict[str, list[Any]]]] = [
    (
        EXEC,
        {
            "argv": [("false",), ("true", ""), ("tr", "ue")],
            "env": [(), (("A", "1"), ("B", "3")), (("B", "2"), ("A", "1")), (("A", "1B"), ("", "2"))],
            "cwd": ["/x"],
            "user": ["0"],
            "mounts": [(BIND,), (CACHE,), (TMPFS,), (SECRET,), (SSH,), (BIND, TMPFS), (TMPFS, BIND)],
            "network": ["none", "host"],
            "security": ["insecure"],
            "hosts": [(("a", "1.2.3.4"),)],
            "ulimits": [("nofile=1:2",)],
            "shm_size": [1],
            "hostname": ["h"],
            "platform": ["linux/arm64"],
            "devices": [(Device("a"),), (Device("a", required=True),), (Device("a"), Device("a"))],
        },
    ),
    (
        COPY,
        {
            "items": [
                COPY.items[:1],
                COPY.items[1:],
                COPY.items[::-1],
                (PathItem(2, "/a"), COPY.items[1]),
                (COPY.items[0], InlineItem("m", "text")),
                (COPY.items[0], InlineItem("n", "other")),
            ],
            "dest": ["/d/"],
            "chown": ["1"],
            "chmod": ["755"],
            "unpack": [True],
            "parents": [True],
            "link": [True],
        },
    ),
    (MakeDir("/d"), {"path": ["/e"], "user": ["1"]}),
    (Image("a", "sha256:1"), {"digest": ["sha256:2"]}),
]
MOUNTS: list[tuple[Any, dict[str, list[Any]]]] = [
    (BIND, {"input": [2], "source": ["/"], "target": ["/u"], "readonly": [False]}),
    (
        CACHE,
        {
            "id": ["other"],
            "target": ["/u"],
            "sharing": ["locked", "private"],
            "mode": [0o700],
            "uid": [1],
            "gid": [1],
            "input": [1],
            "source": ["/s"],
            "readonly": [True],
        },
    ),
    (TMPFS, {"target": ["/u"], "size": [1], "readonly": [True]}),
    (
        SECRET,
        {
            "id": ["other"],
            "target": ["/u", None],
            "env": ["E"],
            "mode": [0],
            "uid": [1],
            "gid": [1],
            "required": [True],
        },
    ),
    (
        SSH,
        {"id": ["other"], "target": ["/u"], "mode": [0], "uid": [1], "gid": [1], "required": [True]},
    ),
]
# Fields that are in no key, each for its reason.
FREE = {
    (Exec, "proxy"): "proxies are this machine's (design: keys)",
    (Copy, "excludes"): "what is left out is not in the content that counts",
    (Image, "locator"): "tells only where to get it",
}


def shown(op: Any) -> str:
    return json.dumps(op.plain())


def cases(table: list[tuple[Any, dict[str, list[Any]]]]) -> list[Any]:
    return [
        pytest.param(base, name, value, id=f"{type(base).__name__}-{name}-{number}")
        for base, fields in table
        for name, values in fields.items()
        for number, value in enumerate(values)
    ]


@pytest.mark.hostile("CVE-2024-24557")
@pytest.mark.parametrize(("base", "name", "value"), cases(OTHERS))
def test_another_value_of_a_field_makes_another_op(base: Any, name: str, value: Any) -> None:
    assert shown(msgspec.structs.replace(base, **{name: value})) != shown(base)


@pytest.mark.hostile("CVE-2024-24557")
@pytest.mark.parametrize(("mount", "name", "value"), cases(MOUNTS))
def test_another_value_of_a_mount_makes_another_run(mount: Any, name: str, value: Any) -> None:
    other = msgspec.structs.replace(mount, **{name: value})

    assert shown(msgspec.structs.replace(EXEC, mounts=(mount,))) != shown(
        msgspec.structs.replace(EXEC, mounts=(other,))
    )


@pytest.mark.parametrize(
    ("base", "fields"), [pytest.param(b, f, id=type(b).__name__) for b, f in OTHERS + MOUNTS]
)
def test_no_field_is_forgotten(base: Any, fields: dict[str, list[Any]]) -> None:
    free = {name for kind, name in FREE if kind is type(base)}

    assert {field.name for field in msgspec.structs.fields(base)} - free == set(fields)


def test_what_is_in_no_key_makes_no_other_op() -> None:
    assert shown(msgspec.structs.replace(EXEC, proxy=(("http_proxy", "x"),))) == shown(EXEC)
    assert shown(msgspec.structs.replace(EXEC, devices=(Device("a", granted=True),))) == shown(
        msgspec.structs.replace(EXEC, devices=(Device("a"),))
    )
    assert shown(msgspec.structs.replace(COPY, excludes=("x",))) == shown(COPY)
    assert shown(Image("b", "sha256:1")) == shown(Image("a", "sha256:1"))


def test_mounts_of_different_kinds_are_never_the_same() -> None:
    runs = [shown(msgspec.structs.replace(EXEC, mounts=(mount,))) for mount, _ in MOUNTS]

    assert len(set(runs)) == len(runs)


def test_a_context_has_no_plain_data() -> None:
    assert Local("context").plain() is None


@pytest.mark.hostile("CVE-2024-24557")
def test_a_base_that_looks_the_same_has_other_keys_all_the_way_up() -> None:
    """What an image says of itself counts for nothing, its name neither: the digest of its manifest does."""

    def key_of(digest: str, locator: str) -> Digest | None:
        key = combine(of_value(Image(locator, digest).plain()), ())
        for op in (EXEC, COPY, MakeDir("/d")):
            key = combine(of_value(op.plain()), (key,))
        return key

    real, other = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert key_of(real, "docker.io/library/a:1") != key_of(other, "docker.io/library/a:1")
    assert key_of(real, "docker.io/library/a:1") == key_of(real, "evil.example/b:2")
