"""Uploads to a registry that keeps what it is sent, and to ones that misbehave."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from builder.errors import ImageError
from builder.oci import answers, reference, upload
from builder.oci.hosts import Hosts
from builder.oci.spec import OCI_LAYER, OCI_MANIFEST, Descriptor
from builder.oci.transport import Transport
from builder.oci.upload import Outcome, Uploader
from builder.settings import RegistrySettings
from tests.support.fakeregistry import Answer, Asked, FakeRegistry, fake_registry
from tests.support.layouts import digest_of

BODY = bytes(range(256)) * 400
BLOB = Descriptor(OCI_LAYER, digest_of(BODY), len(BODY))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(upload, "CHUNK", 30_000)


@dataclass
class Keeper:
    """A registry by the specification. `odd`: answers that it gives instead, first come first served."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    session: bytes = b""
    sessions: int = 0
    odd: list[Callable[[Asked], Answer | None]] = field(default_factory=list)
    location: str = "/v2/app/blobs/uploads/{n}?state=x"

    def answer(self, asked: Asked) -> Answer:
        for odd in self.odd:
            if (given := odd(asked)) is not None:
                self.odd.remove(odd)
                return given
        path, _, query = asked.path.partition("?")
        match asked.method, path.split("/")[3:]:
            case "HEAD", ["blobs", digest]:
                return Answer(200, self.blobs[digest]) if digest in self.blobs else Answer(404)
            case "POST", ["blobs", "uploads", ""]:
                if "mount=" in query and "from=team/base" in query:
                    return Answer(201)
                self.sessions, self.session = self.sessions + 1, b""
                return Answer(202, headers=self.state())
            case "PATCH", ["blobs", "uploads", _]:
                start = int(asked.headers["content-range"].partition("-")[0])
                if start != len(self.session):
                    return Answer(416)
                self.session += asked.body
                return Answer(202, headers=self.state())
            case "GET", ["blobs", "uploads", _]:
                return Answer(204, headers=self.state())
            case "PUT", ["blobs", "uploads", _]:
                whole = self.session + asked.body
                wanted = query.rpartition("digest=")[2].replace("%3A", ":")
                self.blobs[wanted] = whole
                return Answer(201 if digest_of(whole) == wanted else 400)
            case "PUT", ["manifests", tag]:
                self.manifests[tag] = asked.body
                return Answer(201, headers={"docker-content-digest": digest_of(asked.body)})
        raise AssertionError(asked)

    def state(self) -> dict[str, str]:
        return {
            "location": self.location.format(n=self.sessions),
            "range": f"0-{max(len(self.session) - 1, 0)}",
        }


async def send(fake: FakeRegistry, *, blob: Descriptor = BLOB, mount_from: str = "") -> Outcome:
    async with Transport() as sender:
        where = reference.parse(f"{fake.host}/app:1")
        uploader = Uploader(sender)
        return await uploader.blob(
            where, blob, lambda: io.BytesIO(BODY), lambda *_: None, mount_from=mount_from
        )


def methods(fake: FakeRegistry) -> list[str]:
    return [asked.method for asked in fake.asked]


async def test_a_small_blob_goes_in_one_request() -> None:
    keeper = Keeper()
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert methods(fake) == ["HEAD", "POST", "PUT"]
    assert keeper.blobs == {BLOB.digest: BODY}


async def test_a_blob_that_is_there_is_not_sent() -> None:
    keeper = Keeper({BLOB.digest: BODY})
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.THERE

    assert methods(fake) == ["HEAD"]


async def test_a_blob_of_another_repository_is_mounted() -> None:
    keeper = Keeper()
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake, mount_from="team/base") is Outcome.MOUNTED
        assert await send(fake, mount_from="team/other") is Outcome.SENT

    assert keeper.blobs == {BLOB.digest: BODY}


async def test_bytes_are_got_only_where_they_have_to_be_sent() -> None:
    keeper, got = Keeper(), list[str]()

    async def get() -> None:
        got.append("got")

    async with fake_registry(keeper.answer) as fake, Transport() as sender:
        where, uploader = reference.parse(f"{fake.host}/app:1"), Uploader(sender)
        for source in ("team/base", "team/other", ""):
            await uploader.blob(
                where, BLOB, lambda: io.BytesIO(BODY), lambda *_: None, mount_from=source, prepare=get
            )

    assert got == ["got"]


async def test_a_large_blob_goes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert methods(fake) == ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]
    assert keeper.blobs == {BLOB.digest: BODY}


async def test_a_registry_may_ask_for_larger_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()

    def begin(asked: Asked) -> Answer | None:
        if asked.method != "POST":
            return None
        return Answer(202, headers={**keeper.state(), "oci-chunk-min-length": "60000"})

    keeper.odd.append(begin)
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert [len(asked.body) for asked in fake.asked if asked.method == "PATCH"] == [
        60_000,
        len(BODY) - 60_000,
    ]
    assert keeper.blobs == {BLOB.digest: BODY}


async def test_chunks_go_on_where_the_registry_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()

    def lose(asked: Asked) -> Answer | None:  # it takes half of the second chunk, and hangs up
        if asked.method != "PATCH" or not asked.headers["content-range"].startswith("30000-"):
            return None
        keeper.session += asked.body[:15_000]
        return Answer(cut=-1)

    keeper.odd.append(lose)
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert keeper.blobs == {BLOB.digest: BODY}
    assert (keeper.sessions, methods(fake).count("GET")) == (1, 1)


@pytest.mark.parametrize("status", [404, 416, 500])
async def test_a_session_that_is_lost_begins_anew(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()
    keeper.odd += [
        lambda asked: Answer(status) if asked.method == "PATCH" and keeper.session else None,
        lambda asked: Answer(404) if asked.method == "GET" else None,
    ]
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert (keeper.sessions, keeper.blobs) == (2, {BLOB.digest: BODY})


@pytest.mark.parametrize("odd", [Answer(413), Answer(502), Answer(cut=-1)])
async def test_what_does_not_get_through_whole_goes_in_chunks(odd: Answer) -> None:
    keeper = Keeper()
    keeper.odd.append(lambda asked: odd if asked.method == "PUT" else None)
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert keeper.blobs == {BLOB.digest: BODY}


async def test_a_registry_that_always_fails_ends_the_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()

    def answer(asked: Asked) -> Answer:
        return Answer(500) if asked.method == "PATCH" else keeper.answer(asked)

    async with fake_registry(answer) as fake:
        with pytest.raises(ImageError, match="answers 500 to blob"):
            await send(fake)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "denies access"), (403, "denies access"), (405, "answers 405"), (429, "too many requests")],
)
async def test_a_registry_that_takes_nothing_says_so(status: int, message: str) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(404) if asked.method == "HEAD" else Answer(status)

    async with fake_registry(answer) as fake:
        with pytest.raises(ImageError, match=message):
            await send(fake)


async def test_where_a_blob_goes_may_be_elsewhere_and_no_token_goes_there() -> None:
    there = Keeper()
    async with fake_registry(there.answer) as storage:
        here = Keeper(location=f"http://{storage.host}/v2/app/blobs/uploads/1?signed=yes")

        def answer(asked: Asked) -> Answer:
            if asked.path.startswith("/token"):
                return Answer(200, b'{"token": "secret"}')
            if "authorization" not in asked.headers:
                realm = f'Bearer realm="http://{fake.host}/token",service="s"'
                return Answer(401, headers={"www-authenticate": realm})
            return here.answer(asked)

        async with fake_registry(answer) as fake:
            assert await send(fake) is Outcome.SENT

    assert there.blobs == {BLOB.digest: BODY}
    assert ["authorization" in asked.headers for asked in storage.asked] == [False]
    assert any("scope=repository%3Aapp%3Apull%2Cpush" in asked.path for asked in fake.asked)


@pytest.mark.parametrize("whole", [1000, len(BODY)])
@pytest.mark.parametrize("location", ["/v2/app/blobs/uploads/{n}?state=x#y", "/v2/app/blobs/uploads/{n}#y"])
async def test_a_place_with_a_fragment_is_the_place(
    monkeypatch: pytest.MonkeyPatch, location: str, whole: int
) -> None:
    monkeypatch.setattr(upload, "WHOLE", whole)
    keeper = Keeper(location=location)
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert keeper.blobs == {BLOB.digest: BODY}


async def test_headers_that_come_twice_are_read_once() -> None:
    """Servers behind each other add the same headers."""
    keeper = Keeper()

    def answer(asked: Asked) -> Answer:
        given = keeper.answer(asked)
        again = {name.title(): value for name, value in given.headers.items()}
        return Answer(given.status, given.body, {**given.headers, **again})

    async with fake_registry(answer) as fake, Transport() as sender:
        assert await send(fake) is Outcome.SENT
        await Uploader(sender).manifest(reference.parse(f"{fake.host}/app:1"), b"{}", OCI_MANIFEST)

    assert [asked.path.count("/v2/") for asked in fake.asked] == [1] * len(fake.asked)


@pytest.mark.hostile("dotnet #54225")
async def test_a_registry_elsewhere_has_nothing_sent_to_this_machine() -> None:
    """A proxy stands for the network, so that the registry can have any name."""
    inside = Keeper()
    async with fake_registry(inside.answer) as fake_inside:
        outside = Keeper(location=f"http://{fake_inside.host}/v2/app/blobs/uploads/1")

        def answer(asked: Asked) -> Answer:
            path = asked.path.removeprefix("http://registry.example")
            return outside.answer(Asked(asked.method, path, asked.headers, asked.body))

        async with fake_registry(answer) as proxy:
            hosts = Hosts([RegistrySettings(host="registry.example", http=True)])
            environ = {"HTTP_PROXY": f"http://{proxy.host}"}
            async with Transport(hosts=hosts, environ=environ) as sender:
                where = reference.parse("registry.example/app:1")
                with pytest.raises(ImageError, match="this machine or its link"):
                    await Uploader(sender).blob(where, BLOB, lambda: io.BytesIO(BODY), lambda *_: None)

    assert fake_inside.asked == []


@pytest.mark.parametrize("lost", [Answer(cut=-1), Answer(504)])
async def test_an_upload_whose_last_answer_is_lost_has_arrived(
    monkeypatch: pytest.MonkeyPatch, lost: Answer
) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()
    ends: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        if asked.method != "PUT":
            return keeper.answer(asked)
        ends.append(asked)
        if len(ends) > 1:
            return Answer(404)
        keeper.answer(asked)
        return lost

    async with fake_registry(answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert len(ends) == 2


async def test_an_upload_that_nobody_knows_at_its_end_has_not_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000)
    keeper = Keeper()

    def answer(asked: Asked) -> Answer:
        return Answer(404) if asked.method == "PUT" else keeper.answer(asked)

    async with fake_registry(answer) as fake:
        with pytest.raises(ImageError, match="answers 404"):
            await send(fake)


async def test_a_place_that_is_no_url_is_an_error() -> None:
    keeper = Keeper(location="ftp://x/")
    async with fake_registry(keeper.answer) as fake:
        with pytest.raises(ImageError, match="redirects"):
            await send(fake)


async def test_no_place_is_an_error() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(404) if asked.method == "HEAD" else Answer(202)

    async with fake_registry(answer) as fake:
        with pytest.raises(ImageError, match="does not say where"):
            await send(fake)


async def test_a_blob_that_is_cut_short_here_is_an_error() -> None:
    keeper = Keeper()
    long = Descriptor(OCI_LAYER, BLOB.digest, BLOB.size + 1)
    async with fake_registry(keeper.answer) as fake:
        with pytest.raises(ImageError, match="is cut short"):
            await send(fake, blob=long)


async def test_a_manifest_goes_under_its_tag() -> None:
    keeper = Keeper()
    async with fake_registry(keeper.answer) as fake, Transport() as sender:
        await Uploader(sender).manifest(reference.parse(f"{fake.host}/app:1"), b"{}", OCI_MANIFEST)

    assert keeper.manifests == {"1": b"{}"}
    assert fake.asked[0].headers["content-type"] == OCI_MANIFEST


async def test_a_manifest_that_arrives_as_another_is_an_error() -> None:
    other = Answer(201, headers={"docker-content-digest": digest_of(b"other")})
    async with fake_registry(lambda _asked: other) as fake, Transport() as sender:
        with pytest.raises(ImageError, match="not what it was given"):
            await Uploader(sender).manifest(reference.parse(f"{fake.host}/app:1"), b"{}", OCI_MANIFEST)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_who_may_not_mount_sends_the_bytes(status: int) -> None:
    keeper = Keeper()
    keeper.odd.append(lambda asked: Answer(status) if "mount=" in asked.path else None)
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake, mount_from="team/base") is Outcome.SENT

    assert keeper.blobs == {BLOB.digest: BODY}


async def test_a_session_that_a_mount_opened_is_used() -> None:
    keeper = Keeper()
    async with fake_registry(keeper.answer) as fake:
        await send(fake, mount_from="team/other")

    assert methods(fake) == ["HEAD", "POST", "PUT"]


async def test_a_mount_is_asked_for_with_the_right_to_read_the_other_repository() -> None:
    keeper, scopes = Keeper(), list[str]()

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            scopes.append(asked.path)
            return Answer(200, b'{"token": "secret"}')
        if "authorization" not in asked.headers:
            return Answer(401, headers={"www-authenticate": f'Bearer realm="http://{fake.host}/token"'})
        return keeper.answer(asked)

    async with fake_registry(answer) as fake:
        assert await send(fake, mount_from="team/base") is Outcome.MOUNTED

    assert any("team%2Fbase%3Apull" in scope and "app%3Apull%2Cpush" in scope for scope in scopes)


@pytest.mark.parametrize("large", [True, False], ids=["in chunks", "whole"])
async def test_who_is_told_to_come_later_comes_later(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(upload, "WHOLE", 1000 if large else 1 << 20)
    monkeypatch.setattr(upload.asyncio, "sleep", sleep)
    keeper = Keeper()
    busy = Answer(429, headers={"retry-after": "7"})
    keeper.odd.append(lambda asked: busy if asked.method in ("PATCH", "PUT") else None)
    async with fake_registry(keeper.answer) as fake:
        assert await send(fake) is Outcome.SENT

    assert 7 in waits
    assert keeper.blobs == {BLOB.digest: BODY}


@pytest.mark.parametrize("large", [True, False], ids=["in chunks", "whole"])
async def test_a_registry_that_wants_to_be_left_alone_for_long_is(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    monkeypatch.setattr(upload, "WHOLE", 1000 if large else 1 << 20)
    keeper = Keeper()
    busy = Answer(429, headers={"retry-after": "3600"})

    def answer(asked: Asked) -> Answer:
        return busy if asked.method in ("PATCH", "PUT") else keeper.answer(asked)

    async with fake_registry(answer) as fake:
        with pytest.raises(ImageError, match="too many requests"):
            await send(fake)

    assert len([asked for asked in fake.asked if asked.method in ("PATCH", "PUT")]) == 1


async def test_whether_a_name_means_a_manifest_is_asked_with_head() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(200, headers={"docker-content-digest": digest_of(b"{}")})

    async with fake_registry(answer) as fake, Transport() as sender:
        where, uploader = reference.parse(f"{fake.host}/app:1"), Uploader(sender)
        assert await uploader.means(where, digest_of(b"{}"), OCI_MANIFEST)
        assert not await uploader.means(where, digest_of(b"other"), OCI_MANIFEST)

    assert [asked.method for asked in fake.asked] == ["HEAD", "HEAD"]
    assert fake.asked[0].headers["accept"] == OCI_MANIFEST
