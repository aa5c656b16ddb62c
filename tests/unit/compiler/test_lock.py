"""Lock files: what is in them, and what goes by them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builder.compiler.lock import Commit, Lock, LockFile, changes, is_lockable, merged, parse, pinned, render
from builder.compiler.remotes import read_source
from builder.errors import BuildError, DockerfileError
from builder.oci.spec import Platform
from builder.ops.source import Git, Http
from tests.support.compiling import compile_text, ops

AMD64 = Platform("amd64", "linux")
ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
COMMIT, TAG = "c" * 40, "a" * 40
DEBIAN = "docker.io/library/debian:12"
FILE, REPOSITORY = "https://host/file", "https://host/repo.git"
LOCK = Lock(
    ("linux/arm64", "linux/amd64"),
    {DEBIAN: {"linux/arm64": TWO, "linux/amd64": ONE}},
    {FILE: ONE},
    {f"{REPOSITORY}#v1": Commit(COMMIT, "refs/tags/v1", TAG)},
)


def file_of(lock: Lock | None, *, required: bool = False) -> LockFile:
    return LockFile("Dockerfile.lock", lock, required)


def compiled(text: str, lock: Lock | None, *, required: bool = False) -> Any:
    return compile_text(text, lock_file=file_of(lock, required=required))


def repository(address: str) -> Git:
    found = read_source(address)
    assert found is not None
    assert not isinstance(found, Http)
    return found.op


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_is_read_as_it_was_written_and_the_same_lock_is_the_same_bytes() -> None:
    text = render(LOCK)

    assert render(parse(text, "lock")) == text
    assert parse(text, "lock").entries() == LOCK.entries()
    shuffled = Lock(tuple(reversed(LOCK.platforms)), {DEBIAN: {"linux/amd64": ONE, "linux/arm64": TWO}},
                    LOCK.urls, LOCK.git)  # fmt: skip
    assert render(shuffled) == text
    assert text.endswith("}\n")


def test_what_is_written_is_json_by_reference_and_platform() -> None:
    document = msgspec.json.decode(render(LOCK))

    assert document["version"] == 1
    assert document["platforms"] == ["linux/amd64", "linux/arm64"]
    assert document["images"][DEBIAN] == {"linux/amd64": ONE, "linux/arm64": TWO}
    assert document["urls"] == {FILE: ONE}
    assert document["git"] == {f"{REPOSITORY}#v1": {"commit": COMMIT, "ref": "refs/tags/v1", "tag": TAG}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no lock file"),
        ("[]", "no lock file"),
        ('{"version": 2, "platforms": []}', "version 2"),
        ('{"version": 1}', "platforms"),
        ('{"version": 1, "platforms": [], "more": {}}', "more"),
        ('{"version": 1, "platforms": ["linux/amd64/v1/.."]}', "platform"),
        ('{"version": 1, "platforms": ["linux/\\u001b[31m"]}', "platform"),
        ('{"version": 1, "platforms": [], "urls": {"https://host/file": "sha256:../../etc"}}', "no digest"),
        ('{"version": 1, "platforms": [], "images": {"a": {"linux/amd64": "sha256:1"}}}', "no digest"),
        ('{"version": 1, "platforms": [], "git": {"a": {"commit": "--upload-pack=x"}}}', "no commit"),
        (
            f'{{"version": 1, "platforms": [], "git": {{"a": {{"commit": "{COMMIT}", "tag": "-x"}}}}}}',
            "no commit",
        ),
        (
            f'{{"version": 1, "platforms": [], "git": {{"a": {{"commit": "{COMMIT}", "ref": "-x"}}}}}}',
            "no ref",
        ),
        (
            f'{{"version": 1, "platforms": [], "git": {{"a": {{"commit": "{COMMIT}", '
            '"ref": "refs/heads/a:refs/heads/b"}}}',
            "no ref",
        ),
        ("[" * 100_000, "no lock file"),
    ],
)
def test_what_is_no_lock_file_is_refused_by_its_name(text: str, said: str) -> None:
    with pytest.raises(BuildError, match=r"Dockerfile\.lock") as caught:
        parse(text, "Dockerfile.lock")

    assert said in caught.value.message
    assert caught.value.code == "bad-lock"


def test_changes_tell_what_came_what_went_and_what_is_another() -> None:
    after = Lock((), {DEBIAN: {"linux/amd64": TWO}, "b": {"linux/amd64": ONE}}, {}, LOCK.git)

    assert [tuple(change) for change in changes(LOCK, after)] == [
        ("image", "b", "linux/amd64", "", ONE),
        ("image", DEBIAN, "linux/amd64", ONE, TWO),
        ("image", DEBIAN, "linux/arm64", TWO, ""),
        ("url", FILE, "", ONE, ""),
    ]
    assert changes(LOCK, LOCK) == []


def test_what_is_kept_stands_beside_what_is_new() -> None:
    new = Lock(("linux/amd64",), {DEBIAN: {"linux/amd64": TWO}, "b": {"linux/amd64": ONE}})

    both = merged(LOCK, new)

    assert both.images[DEBIAN] == {"linux/amd64": TWO, "linux/arm64": TWO}
    assert both.images["b"] == {"linux/amd64": ONE}
    assert (both.urls, both.git) == (LOCK.urls, LOCK.git)
    assert set(both.platforms) == {"linux/amd64", "linux/arm64"}


# ── what goes by it ──────────────────────────────────────────────────────────────────────────────────────


def test_only_what_may_be_another_tomorrow_is_locked() -> None:
    assert is_lockable(DEBIAN)
    assert not is_lockable(f"{DEBIAN}@{ONE}")
    assert not is_lockable("oci-layout://base")


def test_a_locked_file_has_the_key_that_a_checksum_gives() -> None:
    locked, pinned_by_hand, free = (
        ops(compiled(text, lock))
        for text, lock in (
            (f"FROM scratch\nADD {FILE} /\n", LOCK),
            (f"FROM scratch\nADD --checksum={ONE} {FILE} /\n", None),
            (f"FROM scratch\nADD {FILE} /\n", None),
        )
    )

    def key(found: list[object]) -> object:
        (op,) = [op for op in found if isinstance(op, Http)]
        return op.plain()

    assert key(locked) == key(pinned_by_hand) is not None
    assert key(free) is None


def test_a_locked_ref_has_the_key_that_what_it_led_to_had() -> None:
    op = repository(f"{REPOSITORY}#v1")

    found = pinned(LOCK, op)

    assert isinstance(found, Git)
    assert found.plain() == op.plain_at(COMMIT, "refs/tags/v1")
    assert (found.found_tag, found.found_ref) == (TAG, "refs/tags/v1")


def test_a_kept_git_folder_is_the_one_that_the_free_ref_gave() -> None:
    op = msgspec.structs.replace(repository(f"{REPOSITORY}#v1"), keep_git_dir=True)

    assert pinned(LOCK, op).plain() == op.plain_at(COMMIT, "refs/tags/v1")


def test_what_the_dockerfile_pins_is_not_for_the_lock_to_say() -> None:
    by_hand = repository(f"{REPOSITORY}#{'d' * 40}")

    assert pinned(LOCK, by_hand) is by_hand
    assert compiled(f"FROM scratch\nADD --checksum={TWO} {FILE} /\n", LOCK, required=True)


@pytest.mark.parametrize("checksum", ["c", "aaaa"], ids=["of the commit", "of the tag"])
def test_a_lock_that_fits_the_beginning_of_an_id_is_gone_by(checksum: str) -> None:
    op = msgspec.structs.replace(repository(f"{REPOSITORY}#v1"), checksum=checksum)

    assert pinned(LOCK, op).plain() is not None


def test_a_lock_that_contradicts_the_dockerfile_is_an_error_at_the_line() -> None:
    with pytest.raises(DockerfileError) as caught:
        compiled(f"FROM scratch\n\nADD --checksum=dddd {REPOSITORY}#v1 /\n", LOCK)

    assert caught.value.code == "lock-differs"
    assert caught.value.location is not None
    assert caught.value.location.span.line == 3
    assert "pybuild lock" in (caught.value.hint or "")


@pytest.mark.parametrize("lock", [None, Lock()], ids=["no file", "an empty one"])
@pytest.mark.parametrize("address", [FILE, f"{REPOSITORY}#v1"])
def test_what_must_be_locked_and_is_not_is_an_error_at_the_line(lock: Lock | None, address: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        compiled(f"FROM scratch\n\nADD {address} /\n", lock, required=True)

    assert caught.value.code == "not-locked"
    assert caught.value.location is not None
    assert caught.value.location.span.line == 3
    assert address in caught.value.message
    assert "pybuild lock" in (caught.value.hint or "")


def test_a_program_tells_the_addresses_that_its_dockerfile_does_not_pin() -> None:
    text = f"FROM scratch\nADD {FILE} /\nADD --checksum={ONE} https://host/other /\nADD {REPOSITORY}#v1 /r\n"

    program = compiled(text, LOCK)

    assert [getattr(op, "url", None) or getattr(op, "remote", None) for op in program.addresses] == [
        FILE,
        REPOSITORY,
    ]
    assert [at.span.line for at in program.addresses.values() if at] == [2, 4]


def test_credentials_are_no_part_of_a_name() -> None:
    found = read_source("https://user:canary@host/file")
    assert isinstance(found, Http)

    from builder.compiler.lock import address_name

    assert "canary" not in address_name(found)


def test_an_images_digest_is_found_by_name_and_platform() -> None:
    assert LOCK.image(DEBIAN, AMD64) == ONE
    assert LOCK.image(DEBIAN, Platform("s390x", "linux")) is None
    assert LOCK.image("docker.io/library/debian:13", AMD64) is None
