"""Files on the web, asked of a real server on this machine."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.compiler.remotes import read_file
from builder.errors import BuildError
from builder.oci import answers, patience
from builder.ops.source import Http
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import FILE, Entry, LayerId
from builder.solver.cache import Cache
from builder.sources import http
from builder.sources.shelf import Shelf
from builder.store.root import open_store
from tests.support.hostileregistry import Asked as HostileAsked
from tests.support.hostileregistry import Wire, hostile_registry
from tests.support.web import Answer, Asked, Web

HELLO = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "repositories").running() as web:
        yield web


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(answers, "FIRST_PAUSE", 0.001)
    store = open_store(tmp_path / "root")
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs)
    return Shelf(store.folder, layers, Cache(os.path.join(store.folder, "cache"), layers.exists))


def with_etag(body: bytes, etag: str) -> Answer:
    return Answer(body, headers={"ETag": etag})


async def get(shelf: Shelf, url: str, checksum: str = "") -> tuple[Entry, bytes]:
    """The one entry of the layer, and its bytes."""
    layer = await fetch(shelf, url, checksum)
    (entry,) = shelf.layers.entries(layer)
    with shelf.layers.open(layer, entry) as file:
        return entry, file.read()


async def fetch(shelf: Shelf, url: str, checksum: str = "") -> LayerId:
    found = read_file(url)
    return await http.fetch(shelf, Http(found.url, found.filename, checksum))


async def test_a_file_is_roots_has_mode_0600_and_the_servers_time(web: Web, shelf: Shelf) -> None:
    web.answers["/dl/a%20b.txt?v=1"] = Answer(
        b"hello",
        headers={
            "Last-Modified": "Wed, 15 Nov 2023 00:00:00 GMT",
            "Content-Disposition": "inline; filename=x",
        },
    )

    entry, data = await get(shelf, f"{web.url}/dl/a%20b.txt?v=1#part")

    assert data == b"hello"
    expected = Entry("a b.txt", FILE, 0o600, 0, 0, 5, 1_700_006_400_000_000_000, digest=HELLO)
    assert entry == expected


async def test_without_a_time_it_is_that_of_the_epoch(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = Answer(b"hello", headers={"Last-Modified": "yesterday"})

    entry, _ = await get(shelf, f"{web.url}/a")

    assert entry.mtime == 0


async def test_an_unchanged_file_is_asked_for_and_not_sent_again(web: Web, shelf: Shelf) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(status=304) if asked.headers["If-None-Match"] == '"1"' else with_etag(b"hello", '"1"')

    web.answers["/a"] = answer

    first, second = await fetch(shelf, f"{web.url}/a"), await fetch(shelf, f"{web.url}/a")

    assert first == second
    assert [asked.headers["If-None-Match"] for asked in web.asked] == [None, '"1"']


async def test_a_server_that_sends_it_again_with_its_etag_is_not_listened_to(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = with_etag(b"hello", 'W/"1"')
    first = await fetch(shelf, f"{web.url}/a")
    web.answers["/a"] = with_etag(b"lies!", '"1"')

    assert await fetch(shelf, f"{web.url}/a") == first


async def test_a_changed_file_is_another_layer_though_its_time_is_the_same(web: Web, shelf: Shelf) -> None:
    same = {"Last-Modified": "Wed, 15 Nov 2023 00:00:00 GMT"}
    web.answers["/a"] = Answer(b"hello", headers=same)
    first = await fetch(shelf, f"{web.url}/a")
    web.answers["/a"] = Answer(b"olleh", headers=same)

    assert await fetch(shelf, f"{web.url}/a") != first
    assert web.asked[1].headers["If-Modified-Since"] is None


async def test_what_proves_to_be_the_same_is_the_layer_that_was_there(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = Answer(b"hello")

    assert await fetch(shelf, f"{web.url}/a") == await fetch(shelf, f"{web.url}/a")
    assert os.listdir(os.path.join(shelf.root, "ingest")) == []


async def test_a_layer_that_is_gone_is_fetched_without_conditions(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = with_etag(b"hello", '"1"')
    shelf.layers.delete(await fetch(shelf, f"{web.url}/a"))

    _, data = await get(shelf, f"{web.url}/a")

    assert data == b"hello"
    assert web.asked[1].headers["If-None-Match"] is None


async def test_the_checksum_is_held_against_what_came_and_nothing_else_is_kept(
    web: Web, shelf: Shelf
) -> None:
    web.answers["/a"] = Answer(b"hello")
    web.answers["/b"] = with_etag(b"other", '"1"')

    assert (await get(shelf, f"{web.url}/a", HELLO))[1] == b"hello"
    with pytest.raises(BuildError, match=rf"/b has the checksum sha256:\w+, not {HELLO}"):
        await fetch(shelf, f"{web.url}/b", HELLO)
    await fetch(shelf, f"{web.url}/b")
    with pytest.raises(BuildError, match=r"has the checksum"):  # also what is here already
        await fetch(shelf, f"{web.url}/b", HELLO)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 501])
async def test_an_error_is_told_with_its_number(web: Web, shelf: Shelf, status: int) -> None:
    web.answers["/a"] = Answer(b"no", status)

    with pytest.raises(BuildError, match=f"/a: the server answers {status}"):
        await fetch(shelf, f"{web.url}/a")
    assert len(web.asked) == 1


async def test_what_may_pass_is_tried_again(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = lambda _: Answer(status=503) if len(web.asked) < 3 else Answer(b"hello")
    web.answers["/b"] = lambda _: Answer(b"hel", cut=2) if len(web.asked) < 6 else Answer(b"hello")

    assert (await get(shelf, f"{web.url}/a"))[1] == b"hello"
    assert (await get(shelf, f"{web.url}/b"))[1] == b"hello"


async def test_a_body_that_is_always_cut_off_is_an_error(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = Answer(b"hel", cut=2)

    with pytest.raises(BuildError, match="/a cannot be fetched"):
        await fetch(shelf, f"{web.url}/a")
    assert list(shelf.layers.all()) == []


async def test_redirects_are_followed_and_the_name_is_the_first_ones(web: Web, shelf: Shelf) -> None:
    web.answers["/old"] = Answer(status=302, headers={"Location": "/x/new"})
    web.answers["/x/new"] = Answer(status=307, headers={"Location": "newer"})
    web.answers["/x/newer"] = Answer(b"hello")

    entry, data = await get(shelf, f"{web.url}/old")

    assert (entry.path, data) == ("old", b"hello")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "gopher://x", "http://[::1"])
@pytest.mark.hostile("dotnet #54225")
async def test_a_redirect_to_anything_else_is_refused(web: Web, shelf: Shelf, location: str) -> None:
    web.answers["/a"] = Answer(status=302, headers={"Location": location})

    with pytest.raises(BuildError, match=r"/a (redirects to|cannot be fetched: Invalid URL)"):
        await fetch(shelf, f"{web.url}/a")


@pytest.mark.hostile("DoS")
async def test_redirects_without_end_are_refused(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = Answer(status=302, headers={"Location": "/a"})

    with pytest.raises(BuildError, match="redirects more than 10 times"):
        await fetch(shelf, f"{web.url}/a")


@pytest.mark.hostile("CVE-2018-18074", "CVE-2023-32681", "CVE-2023-43804")
async def test_credentials_go_to_their_origin_alone(web: Web, shelf: Shelf, tmp_path: Path) -> None:
    """CVE-2018-18074, CVE-2023-32681."""
    with Web(tmp_path).running() as other:
        web.answers["/a"] = Answer(status=302, headers={"Location": f"{other.url}/b"})
        other.answers["/b"] = Answer(status=302, headers={"Location": f"{web.url}/c"})
        web.answers["/c"] = Answer(b"hello")

        await fetch(shelf, web.url.replace("//", "//user:p%40ss@") + "/a")

    assert [asked.headers["Authorization"] for asked in web.asked] == ["Basic dXNlcjpwQHNz"] * 2
    assert [asked.headers["Authorization"] for asked in other.asked] == [None]


async def test_credentials_in_a_redirect_are_not_used(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = Answer(status=302, headers={"Location": web.url.replace("//", "//u:p@") + "/b"})
    web.answers["/b"] = Answer(b"hello")

    await fetch(shelf, f"{web.url}/a")

    assert web.asked[1].headers["Authorization"] is None


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ({"HTTP_AUTH_HEADER_127.0.0.1": b"Basic abc\n"}, "Basic abc"),
        ({"HTTP_AUTH_TOKEN_127.0.0.1": b"t0ken"}, "Bearer t0ken"),
        ({"HTTP_AUTH_TOKEN_example.com": b"t0ken"}, None),
    ],
)
async def test_secrets_are_credentials_of_their_host(
    web: Web, shelf: Shelf, secrets: dict[str, bytes], expected: str | None
) -> None:
    web.answers["/a"] = Answer(b"hello")
    shelf.secret_of = secrets.get

    await fetch(shelf, f"{web.url}/a")

    assert web.asked[0].headers["Authorization"] == expected


@pytest.mark.hostile("CVE-2023-26054")
async def test_a_password_is_in_no_error(web: Web, shelf: Shelf) -> None:
    with pytest.raises(BuildError) as caught:
        await fetch(shelf, web.url.replace("//", "//user:hunter2@") + "/none")
    assert "hunter2" not in str(caught.value)
    assert "***@" in str(caught.value)


async def test_an_encoding_that_was_not_asked_for_is_taken_off(web: Web, shelf: Shelf) -> None:
    packed = gzip.compress(b"hello")
    web.answers["/a"] = Answer(packed, headers={"Content-Encoding": "gzip"})
    web.answers["/b.gz"] = Answer(packed, headers={"Content-Type": "application/gzip"})
    web.answers["/c"] = Answer(packed, headers={"Content-Encoding": "x-gzip"})

    assert (await get(shelf, f"{web.url}/a", HELLO))[1] == b"hello"
    assert (await get(shelf, f"{web.url}/b.gz"))[1] == packed
    assert (await get(shelf, f"{web.url}/c"))[1] == packed
    assert {asked.headers["Accept-Encoding"] for asked in web.asked} == {"identity"}


@pytest.mark.hostile("CVE-2025-66418", "CVE-2025-66471")
async def test_an_encoding_that_grows_beyond_measure_is_refused(web: Web, shelf: Shelf) -> None:
    """CVE-2025-66418, CVE-2025-66471."""
    bomb = gzip.compress(bytes(64 << 20))
    web.answers["/a"] = Answer(bomb, headers={"Content-Encoding": "gzip"})
    web.answers["/b"] = Answer(gzip.compress(b"hello")[:-4], headers={"Content-Encoding": "gzip"})

    for path in ("/a", "/b"):
        with pytest.raises(BuildError, match=f"{path} comes damaged"):
            await fetch(shelf, web.url + path)
    assert list(shelf.layers.all()) == []
    assert os.listdir(os.path.join(shelf.root, "ingest")) == []


@pytest.mark.hostile("CVE-2025-66418")
async def test_a_chain_of_encodings_is_not_taken_apart(web: Web, shelf: Shelf) -> None:
    """Each link of it would multiply what the one before allows."""
    chained = gzip.compress(gzip.compress(b"hello"))
    web.answers["/a"] = Answer(chained, headers={"Content-Encoding": "gzip, gzip"})

    assert (await get(shelf, f"{web.url}/a"))[1] == chained


@pytest.mark.hostile("DoS")
async def test_a_server_that_is_busy_for_ages_is_not_waited_for(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = Answer(status=503, headers={"Retry-After": "9999999999"})

    with pytest.raises(BuildError, match="answers 503"):
        await fetch(shelf, f"{web.url}/a")
    assert web.paths() == ["/a"]


@pytest.mark.hostile("DoS")
async def test_an_answer_that_grows_without_end_is_refused(
    web: Web, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_SIZE", 1000)
    web.answers["/a"] = Answer(bytes(1001))

    with pytest.raises(BuildError, match="/a does not end"):
        await fetch(shelf, f"{web.url}/a")


@pytest.mark.hostile("DoS")
@pytest.mark.parametrize(
    ("limit", "head", "piece", "message"),
    [
        ("SLOW_SECONDS", b"HTTP/1.1 200 OK\r\n\r\n", b"x", "/a is too slow: [0-9]+ bytes in"),
        (
            "HEAD_SECONDS",
            b"",
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            "/a cannot be fetched: the server does not answer",
        ),
    ],
    ids=["body", "head"],
)
async def test_a_server_that_trickles_is_not_waited_for(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, limit: str, head: bytes, piece: bytes, message: str
) -> None:
    monkeypatch.setattr(patience, limit, 0.2)

    def trickle(_asked: HostileAsked, wire: Wire) -> None:
        wire.send(head)
        wire.drip(piece, 0.02)

    with hostile_registry(b"") as server:
        server.on("/a", trickle)
        with pytest.raises(BuildError, match=message):
            await fetch(shelf, f"http://{server.host}/a")


async def test_nobody_there_is_told_in_words(shelf: Shelf) -> None:
    with pytest.raises(BuildError, match="cannot be fetched: the connection is refused"):
        await fetch(shelf, "http://127.0.0.1:1/a")


@pytest.mark.parametrize("path", ["/", "", "/..", "/%00", "/a/%2e%2e", "/x%2F..", "/%0a"])
@pytest.mark.hostile("CVE-2025-62725")
def test_a_url_without_a_usable_name_gives_a_name_of_ours(path: str) -> None:
    """CVE-2025-62725: no address says where a file goes."""
    assert read_file(f"http://host{path}").filename == "__unnamed__"


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/b.txt/", "b.txt"), ("/x%2Fy", "y"), ("/%ff", "\udcff"), ("/a?b/c", "a"), ("/.wh.a", ".wh.a")],
)
def test_the_name_is_the_last_one_of_the_path(path: str, name: str) -> None:
    assert read_file(f"http://host{path}").filename == name


async def test_remembered_text_that_is_damaged_is_as_none(web: Web, shelf: Shelf) -> None:
    web.answers["/a"] = with_etag(b"hello", '"1"')
    await fetch(shelf, f"{web.url}/a")
    for file in Path(shelf.root, "cache", "http").rglob("*"):
        if file.is_file():
            file.write_text('{"text": "[1]"}')

    await fetch(shelf, f"{web.url}/a")

    assert web.asked[1].headers["If-None-Match"] is None


@pytest.mark.parametrize("url", ["http://xn--/a", "http://\udcff/a", "http://256.1.1.1/a"])
async def test_an_address_whose_host_can_be_none_is_told(shelf: Shelf, url: str) -> None:
    with pytest.raises(BuildError, match="is not a URL") as caught:
        await fetch(shelf, url)

    assert caught.value.code == "bad-address"


@pytest.mark.parametrize("location", ["http://localhost:99999/", "http://xn--/", "http://[::::]/"])
async def test_a_redirect_that_leads_nowhere_is_told(web: Web, shelf: Shelf, location: str) -> None:
    web.answers["/a"] = Answer(status=302, headers={"Location": location})

    with pytest.raises(BuildError, match=r"redirects to no valid URL|Invalid URL in location"):
        await fetch(shelf, f"{web.url}/a")
