"""--cache-from and --cache-to as they are typed."""

from __future__ import annotations

import pytest

from builder.commands.cache_values import MOUNTS_MAX, cache_from, cache_to
from builder.errors import UsageError
from builder.request import CacheFrom, CacheTo

DIGEST = "sha256:" + "a" * 64


def test_a_name_alone_is_a_reference_in_a_registry() -> None:
    wanted = CacheFrom(type="registry", ref="docker.io/user/app:cache")

    assert cache_from(["user/app:cache"]) == (wanted,)
    assert cache_from(["type=registry,ref=user/app:cache"]) == (wanted,)
    assert cache_to(["user/app:cache"], {}) == (CacheTo(type="registry", ref="docker.io/user/app:cache"),)


def test_several_names_are_several_caches_and_what_is_named_twice_counts_once() -> None:
    found = cache_from(["app:1,app:2", "type=registry,ref=app:1"])

    assert [one.ref for one in found] == ["docker.io/library/app:1", "docker.io/library/app:2"]


def test_a_folder_has_its_tags() -> None:
    assert cache_from(["type=local,src=/c,tag=x"]) == (CacheFrom(type="local", src="/c", tag="x"),)
    assert cache_from([f"type=local,src=c,digest={DIGEST}"])[0].digest == DIGEST
    assert cache_to(["type=local,dest=c"], {}) == (CacheTo(type="local", dest="c", tag="latest"),)


def test_what_buildx_can_say_is_understood() -> None:
    text = (
        "type=registry,ref=h:5000/a/b,mode=max,compression=zstd,compression-level=3,force-compression=true,"
        "oci-mediatypes=true,image-manifest=true,ignore-error=1"
    )

    assert cache_to([text], {}) == (
        CacheTo(
            type="registry", ref="h:5000/a/b:latest", mode="max", compression="zstd", level=3, force=True,
            ignore_error=True,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("value", ["1", "true", "TRUE"])
def test_dockers_build_argument_asks_for_a_cache_in_the_image(value: str) -> None:
    assert cache_to([], {"BUILDKIT_INLINE_CACHE": value}) == (CacheTo(type="inline"),)
    assert cache_to(["type=inline"], {"BUILDKIT_INLINE_CACHE": value}) == (CacheTo(type="inline"),)


@pytest.mark.parametrize("value", ["0", "false", None, "perhaps"])
def test_the_build_argument_may_say_no(value: str | None) -> None:
    assert cache_to([], {"BUILDKIT_INLINE_CACHE": value}) == ()


def test_cache_mounts_are_named_and_have_a_limit() -> None:
    (wanted,) = cache_to(['type=local,dest=c,"mounts=go,npm",mounts=pip,mounts-max=10m'], {})
    assert (wanted.mounts, wanted.mounts_max) == (("go", "npm", "pip"), 10 << 20)
    (plain,) = cache_from([f"type=registry,ref=app@{DIGEST},mounts=go"])
    assert (plain.mounts, plain.mounts_max) == (("go",), MOUNTS_MAX)
    assert cache_from(["type=local,src=c,mounts=go,trust-mounts=true"])[0].mounts == ("go",)


@pytest.mark.parametrize("text", ["type=registry,ref=app:1,mounts=go", "type=local,src=c,mounts=go"])
def test_cache_mounts_are_not_taken_from_what_anybody_may_have_written(text: str) -> None:
    with pytest.raises(UsageError, match="named by its digest or trusted") as caught:
        cache_from([text])

    assert "trust-mounts=true" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=gha", "caches of type gha are not available"),
        ("type=s3,bucket=b", "caches of type s3 are not available"),
        ("type=azblob", "caches of type azblob are not available"),
        ("type=regisry,ref=a", "no cache type 'regisry'"),
        ("ref=a", "type is missing"),
        ("type=registry", "ref is missing"),
        ("type=registry,ref=A B", "--cache-[a-z]+ type=registry,ref=A B"),
        ("type=local", "is missing"),
        ("type=local,x", "'x' is no KEY=VALUE"),
        ("type=local,dest=c,src=c,tag=/", "tag '/' is not valid|has no '(src|dest)'"),
        ("type=registry,ref=a,mounts=", "mounts names no cache mount"),
        ("type=registry,ref=a,mounts-max=1g", "mounts-max is for mounts"),
        ('type=registry,"ref=a', "--cache-"),
    ],
)
def test_what_is_wrong_is_told_in_one_message(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cache_from([text])
    with pytest.raises(UsageError, match=message):
        cache_to([text], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=registry,ref=a,mode=most", "no mode 'most'"),
        ("type=inline,mode=max", "has mode=min"),
        ("type=inline,ref=a", "has no 'ref'"),
        ("type=registry,ref=a,compression=estargz", "compression=estargz is not known"),
        ("type=registry,ref=a,compression-level=99", "is not in 0-9"),
        ("type=registry,ref=a,compression-level=x", "is no number"),
        ("type=registry,ref=a,image-manifest=false", "image-manifest=false is not available"),
        ("type=registry,ref=a,ignore-error=perhaps", "neither true nor false"),
        (f"a@{DIGEST}", "a digest is not chosen"),
    ],
)
def test_what_cannot_be_written_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cache_to([text], {})


def test_a_digest_is_one() -> None:
    with pytest.raises(UsageError, match="no sha256 digest"):
        cache_from(["type=local,src=c,digest=sha256:../../x"])
