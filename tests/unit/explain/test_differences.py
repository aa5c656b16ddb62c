"""From named parts and listings to reasons: the texts, word by word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.explain.differences import differences
from builder.explain.paths import compare, tell
from builder.explain.reason import contrast, listed
from builder.keyparts.rows import Listing, Row
from builder.keyparts.veil import veiled
from builder.ops.exec import CacheMount, Exec, SecretMount
from builder.ops.files import Copy, InlineItem, MakeDir
from builder.ops.named import parts_of
from builder.ops.source import Git, Image

SHELL = ("/bin/sh", "-c")
RUN = Exec((*SHELL, "make"), (("PATH", "/bin"), ("KIND", "production")), "/")


def told(kind: str, was: Any, now: Any, /, **more: Any) -> list[str]:
    before, after = (
        {**veiled(parts_of(op)), **more.get(name, {})} for name, op in (("was", was), ("now", now))
    )
    return [reason.text for reason in differences(kind, before, after)]


def run(**fields: Any) -> Exec:
    return Exec(**{**{name: getattr(RUN, name) for name in RUN.__struct_fields__}, **fields})


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (run(env=(("PATH", "/bin"), ("KIND", "test"))), "RUN: env KIND was production, is test"),
        (run(env=(("PATH", "/bin"),)), "RUN: env KIND was production, is not set"),
        (run(env=(*RUN.env, ("NEW", ""))), "RUN: env NEW was not set, is empty"),
        (run(env=RUN.env[::-1]), "RUN: the order of the environment changed"),
        (run(env=(*RUN.env, ("NPM_TOKEN", "x"))), "RUN: env NPM_TOKEN is new (its value is not shown)"),
        (run(argv=(*SHELL, "make all")), "RUN: command was make, is make all"),
        (run(argv=("make",)), 'RUN: command was ["/bin/sh", "-c", "make"], is ["make"]'),
        (run(argv=("/bin/bash", "-c", "make")), 'RUN: shell was ["/bin/sh", "-c"], is ["/bin/bash", "-c"]'),
        (run(cwd="/srv"), "RUN: working folder was /, is /srv"),
        (run(user="app"), "RUN: user was none, is app"),
        (run(network="none"), "RUN: network was default, is none"),
        (run(hosts=(("db", "10.0.0.1"),)), "RUN: hosts was none, is db=10.0.0.1"),
        (run(shm_size=64), "RUN: shm size was 0, is 64"),
        (run(mounts=(CacheMount("c", "/c"),)), "RUN: --mount type=cache,target=/c is new"),
        (run(mounts=(SecretMount("s", None, env="S"),)), "RUN: --mount type=secret,id=s is new"),
    ],
)
def test_what_differs_of_a_run(now: Exec, text: str) -> None:
    assert told("RUN", RUN, now) == [text]


def test_a_mount_that_changed_names_its_field() -> None:
    was, now = run(mounts=(CacheMount("c", "/c"),)), run(mounts=(CacheMount("c", "/c", sharing="locked"),))

    assert told("RUN", was, now) == ["RUN: --mount type=cache,target=/c: sharing was shared, is locked"]


def test_many_variables_are_counted() -> None:
    now = run(env=(*RUN.env, *((f"V{n}", "") for n in range(20))))

    texts = told("RUN", RUN, now)

    assert len(texts) == 9
    assert texts[-1] == "RUN: 12 more variables changed: V8, V9, V10, V11, V12 and 7 more"


def test_a_secret_in_a_command_is_not_told() -> None:
    texts = told("RUN", run(argv=(*SHELL, "TOKEN=one make")), run(argv=(*SHELL, "TOKEN=two make")))

    assert texts == ["RUN: command changed (what differs is not shown)"]


def test_long_commands_are_told_where_they_begin_to_differ() -> None:
    same = "apt-get install -y " + " ".join(f"package-{n}" for n in range(50))
    (text,) = told("RUN", run(argv=(*SHELL, same + " one two")), run(argv=(*SHELL, same + " one three")))

    assert text == "RUN: command was …kage-48 package-49 one two, is …kage-48 package-49 one three"


@pytest.mark.parametrize(
    ("was", "now", "text"),
    [
        (Copy((), "/a"), Copy((), "/b"), "COPY: destination was /a, is /b"),
        (Copy((), "/a"), Copy((), "/a", link=True), "COPY: --link is on, was off"),
        (Copy((InlineItem("f", "1"),), "/a"), Copy((InlineItem("f", "2"),), "/a"), "COPY: heredoc f changed"),
        (MakeDir("/a"), MakeDir("/b"), "COPY: path was /a, is /b"),
        (Git("u", "a" * 40), Git("u", "b" * 40), f"COPY: commit was {'a' * 40}, is {'b' * 40}"),
    ],
)
def test_what_differs_of_others(was: Any, now: Any, text: str) -> None:
    assert told("COPY", was, now) == [text]


def test_a_base_image_is_told_by_digest_or_by_name() -> None:
    was, now = Image("debian:12", "sha256:" + "a" * 64), Image("debian:12", "sha256:" + "b" * 64)
    named = {"was": {"(from)": "debian:12"}, "now": {"(from)": "debian:13"}}

    assert told("FROM", was, now) == [
        "base image digest changed from sha256:aaaaaaaaaaaa… to sha256:bbbbbbbbbbbb…"
    ]
    assert told("FROM", was, now, **named) == ["base image was debian:12, is debian:13"]


def test_another_version_of_an_op_is_told() -> None:
    was = {**parts_of(RUN), "version": 1}

    assert [reason.kind for reason in differences("RUN", was, parts_of(RUN))] == ["version"]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "a", "b"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)
PARTS = st.dictionaries(st.sampled_from(["user", "path", "--chown", "x"]), JSON, max_size=4)


@given(PARTS, PARTS)
def test_there_is_a_reason_just_where_parts_differ(was: dict[str, Any], now: dict[str, Any]) -> None:
    equal = all(was.get(name) == now.get(name) for name in {**was, **now})

    assert (differences("RUN", was, now) == []) == equal
    assert differences("RUN", was, was) == []


# ── listings ─────────────────────────────────────────────────────────────────────────────────────────────


def listing(**files: str) -> Listing:
    """path -> `kind mode content`; `_` stands for a slash in names."""
    rows = {}
    for name, text in files.items():
        kind, mode, content = text.split()
        rows[name.replace("_", "/")] = Row(kind, mode, "0:0", content, "", "")
    return Listing(rows, len(rows))


def test_each_thing_that_happens_to_files_is_told_apart() -> None:
    was = listing(
        src="d 755 -", src_a="f 644 1", src_b="f 644 1", src_c="f 644 1", src_d="f 644 1", src_e="f 644 1"
    )
    now = listing(
        src="d 755 -", src_a="f 644 2", src_b="f 755 1", src_c="l 777 d", src_d="f 644 1", src_f="f 644 1"
    )

    assert [reason.text for reason in tell("COPY src", was, now)] == [
        "COPY src: 1 of 5 files changed: src/a",
        "COPY src: 1 of 5 files added: src/f",
        "COPY src: 1 of 5 files removed: src/e",
        "COPY src: kind of src/c was file, is symlink",
        "COPY src: mode of src/b was 644, is 755",
    ]


def test_long_lists_are_cut_with_a_count() -> None:
    was = listing(**{f"f{n}": "f 644 1" for n in range(431)})
    now = Listing({p: Row("f", "600", "7:7", "2", "", "") for p in was.rows}, 431)

    texts = [reason.text for reason in tell("COPY .", was, now)]

    assert texts[0] == "COPY .: 431 of 431 files changed: f0, f1, f2, f3, f4 and 426 more"
    assert texts[1].startswith("COPY .: mode of f0 was 644, is 600, f1 was")
    assert texts[1].endswith(" and 426 more")
    assert texts[2].startswith("COPY .: owner of f0 was 0:0, is 7:7, ")


def test_a_folder_that_came_is_told_by_its_files_or_where_it_is_empty_itself() -> None:
    was = listing(a="f 644 1")
    now = listing(a="f 644 1", new="d 755 -", new_x="f 644 1", empty="d 755 -")

    assert [reason.text for reason in tell("COPY .", was, now)] == [
        "COPY .: 2 of 2 files added: new/x, empty"
    ]


def test_hidden_files_are_told_with_their_line() -> None:
    was = listing(a="f 644 1", b="f 644 1", x="f 644 1")
    now = listing(a="f 644 1", c="f 644 1", d="f 644 1")

    texts = [
        reason.text
        for reason in tell(
            "COPY .", was, now,
            hidden=lambda path: ".dockerignore:3" if path == "b" else None,
            was_hidden=lambda path: ".dockerignore:1",
        )
    ]  # fmt: skip

    assert texts == [
        "COPY .: 1 of 3 files removed: x",
        "COPY .: file b hidden by .dockerignore:3",
        "COPY .: 2 files (c, d) no longer hidden by .dockerignore:1",
    ]


ROWS = st.dictionaries(
    st.sampled_from(["a", "b", "d", "d/x", "d/y"]),
    st.builds(
        Row,
        kind=st.sampled_from("fdl"),
        mode=st.sampled_from(["644", "755"]),
        owner=st.sampled_from(["0:0", "1:1"]),
        content=st.sampled_from("12"),
        capability=st.sampled_from(["", "c"]),
        first=st.sampled_from(["", "a"]),
    ),
)


@given(ROWS, ROWS)
def test_listings_that_differ_have_a_reason_and_equal_ones_have_none(
    was: dict[str, Row], now: dict[str, Row]
) -> None:
    old, new = Listing(was, len(was)), Listing(now, len(now))

    assert (tell("COPY .", old, new) == []) == (was == now)
    assert (compare(old, new).count == 0) == (was == now)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(max_size=300), st.text(max_size=300))
def test_contrasted_texts_are_short(was: str, now: str) -> None:
    for text in contrast(was, now):
        assert 0 < len(text) <= 103
        assert "\n" not in text


def test_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(8)]) == "0, 1, 2, 3, 4 and 3 more"
