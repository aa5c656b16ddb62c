"""The distribution client against a registry that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import aiofiles
import pytest

from builder.digest import Digest
from builder.errors import ImageError
from builder.oci import answers, reference
from builder.oci.addresses import is_loopback
from builder.oci.answers import ATTEMPTS
from builder.oci.auth import check_realm
from builder.oci.registry import Registry
from builder.oci.spec import OCI_LAYER, OCI_MANIFEST, Descriptor
from builder.store.blobs import BlobStore, Ingest
from tests.support.fakeregistry import Answer, Asked, FakeRegistry, fake_registry
from tests.support.layouts import digest_of

BODY = bytes(range(256)) * 4000
BLOB = Descriptor(OCI_LAYER, digest_of(BODY), len(BODY))
MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FIRST_PAUSE", 0.001)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


async def fetch(fake: FakeRegistry, blobs: BlobStore, descriptor: Descriptor = BLOB) -> list[int]:
    done: list[int] = []
    async with Registry() as registry:
        name = reference.parse(f"{fake.host}/app:1")
        await registry.blob(name, descriptor, blobs, lambda _item, count, _total: done.append(count))
    return done


async def get_manifest(fake: FakeRegistry, text: str = "app:1") -> bytes:
    async with Registry() as registry:
        return (await registry.manifest(reference.parse(f"{fake.host}/{text}"))).data


async def test_a_transfer_that_breaks_is_resumed_where_it_broke(blobs: BlobStore) -> None:
    def answer(asked: Asked) -> Answer:
        start = int(asked.headers.get("range", "bytes=0-")[6:-1])
        if start == 0:
            return Answer(200, BODY, cut=300_000)
        if start == 300_000:
            return Answer(206, BODY[start:], {"content-range": f"bytes {start}-{len(BODY)}"}, cut=400_000)
        return Answer(206, BODY[start:], {"content-range": f"bytes {start}-{len(BODY)}"})

    async with fake_registry(answer) as fake:
        done = await fetch(fake, blobs)

    assert [asked.headers.get("range") for asked in fake.asked] == [None, "bytes=300000-", "bytes=700000-"]
    assert done == sorted(done)
    blobs.verify(Digest(BLOB.digest))


async def test_a_server_that_cannot_resume_sends_all_again(blobs: BlobStore) -> None:
    answers = iter([Answer(200, BODY, cut=300_000), Answer(200, BODY)])

    async with fake_registry(lambda _asked: next(answers)) as fake:
        await fetch(fake, blobs)

    blobs.verify(Digest(BLOB.digest))


async def test_a_body_of_untold_length_that_breaks_is_resumed(blobs: BlobStore) -> None:
    """As HTTP/1.0 has it: nothing but the blob's size tells that there is more of it."""

    def answer(asked: Asked) -> Answer:
        start = int(asked.headers.get("range", "bytes=0-")[6:-1])
        told = {"content-range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        return Answer(206 if start else 200, BODY[start:], told, sized=False, cut=400_000)

    async with fake_registry(answer) as fake:
        await fetch(fake, blobs)

    assert [asked.headers.get("range") for asked in fake.asked] == [None, "bytes=400000-", "bytes=800000-"]
    blobs.verify(Digest(BLOB.digest))


async def test_a_connection_that_breaks_behind_the_last_byte_does_no_harm(blobs: BlobStore) -> None:
    unended = Answer(
        200, b"%x\r\n%s\r\n" % (len(BODY), BODY), {"transfer-encoding": "chunked"}, cut=len(BODY) + 99
    )

    async with fake_registry(lambda _asked: unended) as fake:
        await fetch(fake, blobs)

    assert len(fake.asked) == 1
    blobs.verify(Digest(BLOB.digest))


async def test_a_server_that_refuses_to_resume_is_asked_for_all(blobs: BlobStore) -> None:
    answers = iter([Answer(200, BODY, cut=300_000), Answer(416), Answer(200, BODY)])

    async with fake_registry(lambda _asked: next(answers)) as fake:
        await fetch(fake, blobs)

    assert [asked.headers.get("range") for asked in fake.asked] == [None, "bytes=300000-", None]
    blobs.verify(Digest(BLOB.digest))


async def test_a_server_that_always_breaks_and_never_resumes_ends_the_download(blobs: BlobStore) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(416) if "range" in asked.headers else Answer(200, BODY, cut=1000)

    async with fake_registry(answer) as fake:
        with pytest.raises(ImageError, match=r"cut short"):
            await fetch(fake, blobs)

    assert len(fake.asked) == ATTEMPTS


async def test_a_manifest_that_breaks_off_is_asked_for_again() -> None:
    given = iter([Answer(200, MANIFEST, cut=9), Answer(200, MANIFEST)])

    async with fake_registry(lambda _asked: next(given)) as fake:
        assert await get_manifest(fake) == MANIFEST


async def test_a_manifest_that_always_breaks_off_is_an_error() -> None:
    async with fake_registry(lambda _asked: Answer(200, MANIFEST, cut=9)) as fake:
        with pytest.raises(ImageError, match="broke"):
            await get_manifest(fake)

    assert len(fake.asked) == ATTEMPTS


@pytest.mark.parametrize("what", ["write", "commit"])
async def test_who_is_cancelled_lets_go_of_the_file_after_the_thread_that_works_with_it(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Else it would write to whatever has the file's number by then."""
    begun, go_on, sound = threading.Event(), threading.Event(), list[bool]()

    def work(fd: int) -> int:
        before = os.fstat(fd)
        begun.set()
        go_on.wait(60)
        sound.append(os.path.samestat(before, os.fstat(fd)))
        return len(BODY)

    class SlowFile:
        def __init__(self, fd: int, *_: object, **__: object) -> None:
            self.fd = fd

        async def __aenter__(self) -> SlowFile:
            return self

        async def __aexit__(self, *_: object) -> None:
            return

        async def write(self, _data: memoryview) -> int:
            return await asyncio.to_thread(work, self.fd)

    if what == "write":
        monkeypatch.setattr(aiofiles, "open", SlowFile)
    else:
        monkeypatch.setattr(Ingest, "commit", lambda ingest, **_: work(ingest.fileno()))
    async with fake_registry(lambda _asked: Answer(200, BODY)) as fake:
        task = asyncio.create_task(fetch(fake, blobs))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)  # where nothing holds it, it has ended by then
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert sound == [True]
    assert list((Path(blobs.folder) / "ingest").iterdir()) == []


async def test_a_blob_that_never_comes_whole_is_an_error(blobs: BlobStore) -> None:
    async with fake_registry(lambda _asked: Answer(200, BODY, cut=1000)) as fake:
        with pytest.raises(ImageError, match=r"cut short: 1000 of 1024000 bytes came"):
            await fetch(fake, blobs)

    assert list((Path(blobs.folder) / "ingest").iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, BODY[:-1]), "1023999 bytes in registry"),
        (Answer(200, BODY + b"x"), "1024001 bytes in registry"),
        (Answer(200, BODY[:-1] + b"x"), "is damaged"),
        (Answer(404), "not in registry"),
        (Answer(403, b'{"errors":[{"code":"DENIED","message":"go\\u001b[2J away"}]}'), r"go \[2j away"),
        (Answer(401, headers={"www-authenticate": 'Basic realm="x"'}), "wants a login"),
        (Answer(418, b"<html>"), "answers 418"),
    ],
)
async def test_wrong_answers_for_a_blob_are_told_apart(
    blobs: BlobStore, answer: Answer, message: str
) -> None:
    async with fake_registry(lambda _asked: answer) as fake:
        with pytest.raises(ImageError, match=message):
            await fetch(fake, blobs)


async def test_a_body_without_length_that_is_too_long_is_stopped(blobs: BlobStore) -> None:
    chunked = b"%x\r\n%s\r\n" % (len(BODY), BODY) * 3 + b"0\r\n\r\n"

    answer = Answer(200, chunked, {"transfer-encoding": "chunked"})

    async with fake_registry(lambda _asked: answer) as fake:
        with pytest.raises(ImageError, match="longer than the 1024000 bytes"):
            await fetch(fake, blobs)


async def test_a_busy_server_is_asked_again(blobs: BlobStore) -> None:
    answers = iter([Answer(503), Answer(429, headers={"retry-after": "0"}), Answer(200, BODY)])

    async with fake_registry(lambda _asked: next(answers)) as fake:
        await fetch(fake, blobs)

    assert len(fake.asked) == 3


async def test_a_server_that_stays_busy_is_an_error() -> None:
    async with fake_registry(lambda _asked: Answer(503)) as fake:
        with pytest.raises(ImageError, match="answers 503"):
            await get_manifest(fake)

    assert len(fake.asked) == answers.ATTEMPTS


@pytest.mark.hostile("DoS")
async def test_an_endless_retry_after_is_not_waited_for() -> None:
    async with fake_registry(lambda _asked: Answer(429, headers={"retry-after": "9999999999"})) as fake:
        with pytest.raises(ImageError, match="too many requests"):
            await get_manifest(fake)

    assert len(fake.asked) == 1


async def test_a_token_is_got_for_the_repository_and_sent() -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return Answer(200, b'{"access_token":"abc"}')
        if asked.headers.get("authorization") == "Bearer abc":
            return Answer(200, MANIFEST, {"content-type": OCI_MANIFEST})
        realm = f'Bearer realm="http://{asked.headers["host"]}/token",service="s",scope="repository:x:push"'
        return Answer(401, headers={"www-authenticate": realm})

    async with fake_registry(answer) as fake:
        assert await get_manifest(fake, "team/app:1") == MANIFEST

    assert "/token?scope=repository%3Ateam%2Fapp%3Apull&service=s" in fake.paths()


async def test_a_redirect_does_not_take_the_token_elsewhere(blobs: BlobStore) -> None:
    async with fake_registry(lambda _asked: Answer(200, BODY)) as elsewhere:

        def answer(asked: Asked) -> Answer:
            if asked.path.startswith("/token"):
                return Answer(200, b'{"token":"abc"}')
            if "authorization" not in asked.headers:
                realm = f'Bearer realm="http://{asked.headers["host"]}/token"'
                return Answer(401, headers={"www-authenticate": realm})
            return Answer(307, headers={"location": f"http://{elsewhere.host}/data"})

        async with fake_registry(answer) as fake:
            await fetch(fake, blobs)

    assert elsewhere.paths() == ["/data"]
    assert "authorization" not in elsewhere.asked[0].headers


@pytest.mark.hostile("dotnet #54225")
@pytest.mark.parametrize("realm", [
    "file:///etc/passwd", "gopher://x/", "//x/token", "token", "http://u:p@127.0.0.1:1/", "http://[::1", "",
])  # fmt: skip
async def test_a_realm_that_is_no_place_for_tokens_is_not_asked(realm: str) -> None:
    """Who serves a FROM says where tokens are had; it must not say what else is asked, nor by whom."""
    away = Answer(401, headers={"www-authenticate": f'Bearer realm="{realm}"'})

    async with fake_registry(lambda _asked: away) as fake:
        with pytest.raises(ImageError, match="which is not allowed"):
            await get_manifest(fake)

    assert all(path.startswith("/v2/") for path in fake.paths())


@pytest.mark.hostile("dotnet #54225")
def test_a_realm_does_not_lead_from_https_to_http() -> None:
    for realm in ("http://169.254.169.254/latest", "http://auth.example/token"):
        with pytest.raises(ImageError, match="which is not allowed"):
            check_realm(realm, "https://registry.example/v2/a")
    check_realm("https://auth.example/token", "https://registry.example/v2/a")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "/again"])
async def test_odd_redirects_are_refused(blobs: BlobStore, location: str) -> None:
    async with fake_registry(lambda _asked: Answer(302, headers={"location": location})) as fake:
        with pytest.raises(ImageError, match="redirects"):
            await fetch(fake, blobs)


async def test_a_host_that_a_registry_sends_us_to_is_named_in_errors(blobs: BlobStore) -> None:
    away = {"location": "http://127.0.0.1:1/blob"}

    async with fake_registry(lambda _asked: Answer(302, headers=away)) as fake:
        with pytest.raises(ImageError, match=r"127\.0\.0\.1:1, named by registry .*, refuses"):
            await fetch(fake, blobs)


async def test_a_manifest_must_have_the_digest_announced_or_asked_for() -> None:
    wrong = {"docker-content-digest": digest_of(b"other")}

    async with fake_registry(lambda _asked: Answer(200, MANIFEST, wrong)) as fake:
        with pytest.raises(ImageError, match="has the digest"):
            await get_manifest(fake)
        with pytest.raises(ImageError, match="has the digest"):
            await get_manifest(fake, f"app@{digest_of(b'another')}")


async def test_a_manifest_without_end_is_refused() -> None:
    huge = b" " * ((4 << 20) + 1)

    async with fake_registry(lambda _asked: Answer(200, huge)) as fake:
        with pytest.raises(ImageError, match="more than"):
            await get_manifest(fake)


@pytest.mark.hostile("CVE-2025-66418", "CVE-2025-66471")
async def test_an_encoded_body_is_refused() -> None:
    async with fake_registry(lambda _asked: Answer(200, MANIFEST, {"content-encoding": "gzip"})) as fake:
        with pytest.raises(ImageError, match="Content-Encoding"):
            await get_manifest(fake)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity, identity"])
async def test_a_body_that_is_said_not_to_be_encoded_is_taken(encoding: str) -> None:
    async with fake_registry(lambda _asked: Answer(200, MANIFEST, {"content-encoding": encoding})) as fake:
        assert await get_manifest(fake) == MANIFEST


async def test_a_digest_that_is_announced_twice_counts() -> None:
    """Servers behind each other add the same headers."""
    wrong = digest_of(b"other")
    twice = Answer(200, MANIFEST, {"docker-content-digest": wrong, "Docker-Content-Digest": wrong})
    async with fake_registry(lambda _asked: twice) as fake:
        with pytest.raises(ImageError, match="has the digest"):
            await get_manifest(fake)


async def test_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async with fake_registry(lambda _asked: Answer(200, MANIFEST)) as fake:
        assert await get_manifest(fake) == MANIFEST


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.8.7", True),
        ("[::1]:5000", True), ("registry.example", False), ("127.0.0.1.example", False),
        ("10.0.0.1:80", False), ("localhost.example", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_asked_without_tls(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(
    ("header", "expected"),
    [("2", 2.0), ("0", 0.001), ("61", None), ("x" * 9999, 0.001), ("Mon, 01 Jan 2001 00:00:00 GMT", 0.001),
     ("Fri, 31 Dec 9999 23:59:59 GMT", None), ("²", 0.001)],
)  # fmt: skip
@pytest.mark.hostile("DoS")
def test_retry_after_is_bounded(header: str, expected: float | None) -> None:
    assert answers.retry_after(header, 1) == expected
