"""Named parts: equal parts are equal keys, and the other way round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.graph.definition import About, Definition
from builder.ops.exec import BindMount, CacheMount, Device, Exec, SecretMount, SshMount, TmpfsMount
from builder.ops.files import Copy, InlineItem, MakeDir, Merge, PathItem
from builder.ops.named import kind_of, parts_of
from builder.ops.source import Git, Http, Image, Local, Scratch

WORD = st.sampled_from(["", "a", "b", "/a", "a=b"])
FLAG = st.booleans()
PAIRS = st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), WORD), max_size=3).map(tuple)
WORDS = st.lists(WORD, max_size=2).map(tuple)
MOUNT = st.one_of(
    st.builds(BindMount, input=st.integers(1, 2), source=WORD, target=WORD, readonly=FLAG),
    st.builds(CacheMount, id=WORD, target=WORD, mode=st.sampled_from([0o755, 0o700]), input=st.none()),
    st.builds(TmpfsMount, target=WORD, size=st.integers(0, 1)),
    st.builds(SecretMount, id=WORD, target=WORD, env=WORD, required=FLAG),
    st.builds(SshMount, id=WORD, target=WORD),
)
DEVICE = st.builds(Device, name=WORD, required=FLAG, granted=FLAG)
OPS = st.one_of(
    st.builds(
        Exec, argv=WORDS, env=PAIRS, cwd=WORD, user=WORD, mounts=st.lists(MOUNT, max_size=2).map(tuple),
        network=WORD, security=WORD, hosts=PAIRS, ulimits=WORDS, shm_size=st.integers(0, 1), hostname=WORD,
        platform=WORD, proxy=PAIRS, devices=st.lists(DEVICE, max_size=1).map(tuple),
    ),
    st.builds(
        Copy,
        items=st.lists(
            st.one_of(
                st.builds(PathItem, input=st.integers(1, 2), pattern=WORD, wildcards=FLAG, unpack=FLAG),
                st.builds(InlineItem, name=WORD, content=WORD),
            ),
            max_size=3,
        ).map(tuple),
        dest=WORD, chown=WORD, chmod=WORD, unpack=FLAG, parents=FLAG, excludes=WORDS, link=FLAG,
    ),
    st.builds(MakeDir, path=WORD, user=WORD),
    st.builds(Image, locator=WORD, digest=WORD),
    st.builds(Http, url=WORD, filename=WORD, checksum=st.sampled_from(["sha256:1", "sha256:2"])),
    st.builds(
        Git, remote=WORD, ref=st.sampled_from(["a" * 40, "b" * 40]), subdir=WORD, keep_git_dir=FLAG,
        submodules=FLAG, commit_times=FLAG,
    ),
    st.sampled_from([Merge(), Scratch()]),
)  # fmt: skip


@given(OPS, OPS)
def test_parts_are_equal_just_where_keys_are(one: Any, other: Any) -> None:
    equal = (kind_of(one), one.plain()) == (kind_of(other), other.plain())

    assert ((kind_of(one), parts_of(one)) == (kind_of(other), parts_of(other))) == equal


@given(OPS)
def test_parts_say_what_a_change_of_one_field_is(op: Any) -> None:
    """No field of an op is left out, whichever it is: its digest and its parts go together."""
    definition = Definition()
    digest = definition.add(op, (), About("x"))

    for field in op.__struct_fields__:
        value = getattr(op, field)
        if not isinstance(value, str):
            continue
        changed = type(op)(**{**{f: getattr(op, f) for f in op.__struct_fields__}, field: value + "x"})
        differs = definition.add(changed, (), About("x")) != digest
        assert (parts_of(changed) != parts_of(op)) == differs


@pytest.mark.parametrize(
    ("op", "kind"),
    [(Local("context"), "context"), (Merge(), "LINK"), (Scratch(), "scratch"), (Copy((), "/"), "COPY")],
)
def test_ops_are_called_by_their_instructions(op: object, kind: str) -> None:
    assert kind_of(op) == kind


def test_an_op_that_nobody_described_has_its_plain_data() -> None:
    class Strange:
        def plain(self) -> list[object]:
            return ["strange", 1, "x"]

    assert parts_of(Strange()) == {"version": 1, "op": ["strange", 1, "x"]}
