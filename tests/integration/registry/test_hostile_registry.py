"""A registry that means harm, and the command: every attempt ends in one clear error, and harms nothing."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from builder.oci import spec
from tests.support.hostileregistry import Asked, HostileRegistry, Script, Wire, digest_of, hostile_registry
from tests.support.layouts import make_tar
from tests.support.surroundings import BASIC, HASTY, PASSWORD, Ended, Surroundings, surroundings

PING, MANIFEST, BLOB, TAGS = r"^GET /v2/?$", r"^(GET|HEAD) .*/manifests/", r"^GET .*/blobs/", r"/tags/list"
LAYER, CONFIG = r"^GET .*/blobs/LAYER", r"^GET .*/blobs/(?!LAYER)"

Arrange = Callable[[HostileRegistry], None]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """One store for all of them, so that each finds it usable after the one before."""
    with surroundings(tmp_path_factory.mktemp("hostile")) as place:
        yield place


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """One where nothing is waited for longer than a second."""
    with surroundings(tmp_path_factory.mktemp("hasty"), HASTY) as place:
        yield place


@pytest.fixture
def registry(place: Surroundings) -> Iterator[HostileRegistry]:
    one_of_its_own = {"etc/hello": f"{time.monotonic_ns()}\n".encode() * 1000}
    with hostile_registry(gzip.compress(make_tar(one_of_its_own))) as registry:
        place.log_in(registry.host)
        yield registry


def answers(*args: Any) -> Script:
    return lambda _asked, wire: wire.answer(*args)


def raw(data: bytes) -> Script:
    return lambda _asked, wire: wire.send(data)


def endless(head: bytes, piece: bytes) -> Script:
    def script(_asked: Asked, wire: Wire) -> None:
        wire.send(head)
        wire.repeat(piece)

    return script


def on(pattern: str, script: Script) -> Arrange:
    return lambda registry: registry.on(pattern, script)


OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
A_CHUNK = b"1000\r\n" + b" " * 0x1000 + b"\r\n"


def of_type(media_type: str, head: bytes = CHUNKED) -> bytes:
    return head.replace(b"\r\n\r\n", f"\r\ncontent-type: {media_type}\r\n\r\n".encode())


def cut(_asked: Asked, wire: Wire) -> None:
    """Half of the layer, whatever part is asked for, as if it were all."""
    wire.head(200, ("content-length", str(len(wire.layer))))
    wire.send(wire.layer[: len(wire.layer) // 2])


def resumed(content_range: str | None, times: int = 1) -> Script:
    """Half of the layer, and a lie about the rest; HALF is where that begins."""

    def script(asked: Asked, wire: Wire) -> None:
        if "range" not in asked.headers:
            cut(asked, wire)
            return
        half = str(len(wire.layer) // 2)
        told = [("content-range", content_range.replace("HALF", half))] if content_range is not None else []
        wire.answer(206, wire.layer * times, *told)

    return script


def dripping(head: bytes, piece: bytes) -> Script:
    def script(_asked: Asked, wire: Wire) -> None:
        wire.send(head)
        wire.drip(piece, 0.1)

    return script


def drop_by_drop(asked: Asked, wire: Wire) -> None:
    """A byte of the layer for each time that somebody asks, after a while."""
    start = int(asked.headers.get("range", "bytes=0-")[6:-1])
    rest, told = wire.layer[start:], f"bytes {start}-{len(wire.layer) - 1}/{len(wire.layer)}"
    status = 206 if start else 200
    wire.head(status, ("content-length", str(len(rest))), *([("content-range", told)] if start else []))
    wire.over.wait(0.3)
    wire.send(rest[:1])


def challenge(realm: str) -> Script:
    return answers(401, b"", ("www-authenticate", f'Bearer realm="{realm}",service="s"'))


def token_at_home(token: bytes | Script) -> Arrange:
    """The registry's own token service gives that; whatever is asked with it is 401 again."""

    def arrange(registry: HostileRegistry) -> None:
        give = token if callable(token) else answers(200, token)
        registry.on("^GET /token", give)
        registry.on(f"{MANIFEST}|{BLOB}|{PING}", challenge(f"http://{registry.host}/token"))

    return arrange


def next_door(path: str, scheme: str = "http") -> Callable[[HostileRegistry], str]:
    return lambda registry: f"{scheme}://{registry.other}{path}"


def redirect(pattern: str, to: Callable[[HostileRegistry], str] | str) -> Arrange:
    def arrange(registry: HostileRegistry) -> None:
        location = to if isinstance(to, str) else to(registry)
        registry.on(pattern, answers(307, b"", ("location", location)))

    return arrange


def nested(depth: int) -> Arrange:
    """An index of an index of an index ..."""

    def arrange(registry: HostileRegistry) -> None:
        row: dict[str, Any] = registry.document(registry.image(), spec.OCI_MANIFEST)
        for _ in range(depth):
            row["platform"] = {"os": "linux", "architecture": "amd64"}
            index = {"schemaVersion": 2, "mediaType": spec.OCI_INDEX, "manifests": [row]}
            row = registry.document(index, spec.OCI_INDEX, "1")

    return arrange


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Arrange:
    """The image, its manifest changed."""

    def arrange(registry: HostileRegistry) -> None:
        manifest = registry.image()
        change(manifest)
        registry.document(manifest, spec.OCI_MANIFEST, "1")

    return arrange


def text_for_manifest(data: bytes, media_type: str = spec.OCI_MANIFEST) -> Arrange:
    return lambda registry: registry.document(data, media_type, "1") and None


def layer_digest(text: str) -> Arrange:
    return with_manifest(lambda manifest: manifest["layers"][0].update(digest=text))


OUTSIDE = [
    "sha256:../../../../etc/passwd",
    "../../etc/passwd",
    "sha256:" + "a" * 63 + "/",
    "sha512:" + "a" * 128,
    "sha256:" + "a" * 64 + "\n",
    "sha256:" + "٣" * 64,
]
VALUES = b'{"architecture":"amd64","os":"linux","x":[' + b"{}," * 2_500_000 + b"{}]}"

WRONG_BYTES = {
    "a manifest of another digest": (
        on(MANIFEST, answers(200, b"{}", ("docker-content-digest", digest_of(b"x")))),
        "has the digest",
    ),
    "a config of other bytes": (
        on(CONFIG, lambda _, wire: wire.answer(200, b"x" * 150)),
        "damaged|bytes in registry|longer|digest",
    ),
    "a layer of other bytes": (
        on(LAYER, lambda _, wire: wire.answer(200, bytes(len(wire.layer)))),
        "is damaged",
    ),
    "a layer that is longer": (
        on(LAYER, lambda _, wire: wire.answer(200, wire.layer + b"x")),
        "bytes in registry",
    ),
    "a layer that is cut short, always": (on(LAYER, cut), "is cut short"),
    "a layer that is nothing": (on(LAYER, answers(200, b"")), "bytes in registry"),
    "a layer resumed from its start": (on(LAYER, resumed("bytes 0-99/100")), "at the wrong place"),
    "a layer resumed beyond its end": (
        on(LAYER, resumed("bytes 99999999999-99999999999999/7")),
        "at the wrong place",
    ),
    "a layer resumed nowhere": (on(LAYER, resumed(None)), "at the wrong place"),
    "a layer resumed in words": (on(LAYER, resumed("bytes */*")), "at the wrong place"),
    "a layer resumed with too much": (on(LAYER, resumed("bytes HALF-99999/100000", 9)), "longer"),
}

ENDLESS = {
    "greeting": (on(PING, endless(CHUNKED, A_CHUNK)), None),
    "greeting without a frame": (on(PING, endless(OK + b"\r\n", b" ")), None),
    "manifest": (on(MANIFEST, endless(of_type(spec.OCI_MANIFEST), A_CHUNK)), "has more than"),
    "manifest without a frame": (
        on(MANIFEST, endless(of_type(spec.OCI_MANIFEST, OK + b"\r\n"), b" ")),
        "has more than",
    ),
    "layer": (on(LAYER, endless(CHUNKED, A_CHUNK)), "is longer than"),
    "layer without a frame": (on(LAYER, endless(OK + b"\r\n", b"x")), "is longer than"),
    "error": (on(LAYER, endless(CHUNKED.replace(b"200", b"403"), A_CHUNK)), "denies access"),
    "token": (token_at_home(endless(CHUNKED, A_CHUNK)), "has more than"),
    "list of tags": (on(MANIFEST, answers(404)), "is not in registry"),
    "headers": (on(MANIFEST, endless(OK, b"x-a: b\r\n")), "broke"),
    "header": (on(LAYER, endless(OK + b"x-a: ", b"b")), "is cut short|broke"),
    "trailers": (on(LAYER, endless(CHUNKED + b"0\r\n", b"x-a: b\r\n")), "is cut short|bytes|broke|damaged"),
}

SLOW = {
    "greeting": on(PING, dripping(OK, b"x-a: b\r\n")),
    "manifest": on(MANIFEST, dripping(of_type(spec.OCI_MANIFEST), b"1\r\n \r\n")),
    "head of a manifest": on(MANIFEST, dripping(OK, b"x-a: b\r\n")),
    "promises": on(MANIFEST, dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n")),
    "layer": on(LAYER, dripping(CHUNKED, b"1\r\nx\r\n")),
    "config": on(CONFIG, dripping(OK + b"\r\n", b"x")),
    "head of a layer": on(LAYER, dripping(OK, b"x-a: b\r\n")),
    "layer, resumed": on(LAYER, drop_by_drop),
    "error": on(LAYER, dripping(CHUNKED.replace(b"200", b"403"), b"1\r\nx\r\n")),
    "token": token_at_home(dripping(CHUNKED, b"1\r\n{\r\n")),
    "promises without end": on(MANIFEST, endless(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")),
    "promises for a layer": on(LAYER, endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "silence": on(MANIFEST, lambda _, wire: wire.wait()),
    "silence for a layer": on(LAYER, lambda _, wire: wire.wait()),
}

GARBAGE = {
    "no HTTP": (on(MANIFEST, raw(b"\x16\x03\x01\x00" * 100)), "broke"),
    "nothing": (on(MANIFEST, raw(b"")), "broke"),
    "a chunk of no size": (on(LAYER, raw(CHUNKED + b"zz\r\nab\r\n")), "is cut short"),
    "a chunk of any size": (on(LAYER, raw(CHUNKED + b"f" * 30 + b"\r\nab")), "is cut short"),
    "a negative chunk": (on(LAYER, raw(CHUNKED + b"-5\r\nabcde\r\n")), "is cut short"),
    "chunks that do not end": (on(LAYER, raw(CHUNKED + b"5\r\nabcdefgh")), "is cut short"),
    "two lengths": (on(LAYER, raw(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab")), "broke"),
    "a length below nothing": (on(LAYER, raw(OK + b"content-length: -1\r\n\r\nab")), "broke"),
    "a length without end": (
        on(LAYER, raw(OK + b"content-length: " + b"9" * 5000 + b"\r\n\r\nab")),
        "broke|bytes in",
    ),
    "an encoded manifest": (
        on(MANIFEST, answers(200, gzip.compress(b"{}"), ("content-encoding", "gzip"))),
        "Content-Encoding",
    ),
    "a chain of encodings": (
        on(MANIFEST, answers(200, b"x" * 99, ("content-encoding", ", ".join(["gzip"] * 500)))),
        "Content-Encoding",
    ),
    "an encoded layer": (
        on(
            LAYER,
            lambda a, w: (w.head(200, ("content-encoding", "gzip, br")), w.send(gzip.compress(w.layer))),
        ),
        "damaged|digest|longer|Content-Encoding",
    ),
}

DOCUMENTS = {
    "huge": (text_for_manifest(b" " * ((4 << 20) + 1)), "has more than"),
    "cut": (text_for_manifest(b'{"schemaVersion": 2, "config'), "no JSON"),
    "deep": (text_for_manifest(b"[" * 1_000_000), "values|no JSON"),
    "deep objects": (text_for_manifest(b'{"a":' * 100_000), "no JSON"),
    "no object": (text_for_manifest(b"[]"), "no JSON object"),
    "no UTF-8": (text_for_manifest('{"layers": []}'.encode("utf-16")), "no JSON"),
    "many values": (text_for_manifest(b'{"layers":[' + b"{}," * 1_300_000 + b"{}]}"), "values"),
    "a page of HTML": (text_for_manifest(b"<html>no</html>", "text/html"), "no JSON"),
    "an index that has layers": (
        with_manifest(lambda m: m.update(manifests=[])),
        "both a manifest and an index",
    ),
    "a manifest announced as an index": (
        lambda r: r.document(r.image(), spec.OCI_INDEX, "1") and None,
        "media type",
    ),
    "indexes in indexes": (nested(6), "index of indexes"),
    "many values in a config": (
        with_manifest(
            lambda m: m.update(config={**m["config"], "digest": digest_of(VALUES), "size": len(VALUES)})
        ),
        "values",
    ),
    "a config of 2^60 bytes": (with_manifest(lambda m: m["config"].update(size=1 << 60)), "more than 8 MiB"),
    "a layer of 2^70 bytes": (with_manifest(lambda m: m["layers"][0].update(size=1 << 70)), "not valid|size"),
    "a layer of less than nothing": (with_manifest(lambda m: m["layers"][0].update(size=-1)), "size -1"),
    "a layer of 2^60 bytes": (
        with_manifest(lambda m: m["layers"][0].update(size=1 << 60)),
        "no room for them",
    ),
    **{f"layer {text[:20]!r}": (layer_digest(text), "no sha256 digest") for text in OUTSIDE},
    "a config that is a path": (with_manifest(lambda m: m["config"].update(digest=OUTSIDE[0])), "no sha256"),
    "a diff id that is a path": (lambda r: r.image(diff_ids=[OUTSIDE[0]]) and None, "no sha256 digest"),
    "another diff id": (lambda r: r.image(diff_ids=[digest_of(b"")]) and None, "diff id"),
    "more diff ids than layers": (lambda r: r.image(diff_ids=[digest_of(b"")] * 3) and None, "layers"),
}

WAYS = {
    "401 without end": (token_at_home(b'{"token":"abc"}'), "denies access"),
    "401 and no offer": (on(MANIFEST, answers(401)), "denies access|login"),
    "401 and an offer of a megabyte": (
        on(MANIFEST, answers(401, b"", ("www-authenticate", "Bearer " + 'a="b",' * 10_000))),
        "denies|login|broke",
    ),
    "a token that is a header": (token_at_home(b'{"token":"a\\r\\nx-evil: 1"}'), "token"),
    "a token of a megabyte": (token_at_home(b'{"token":"' + b"a" * (1 << 20) + b'"}'), "has more than"),
    "a token that is none": (token_at_home(b'{"token":["a"]}'), "token"),
    "a redirect without end": (redirect(BLOB, "/v2/app/blobs/again"), "redirects more than"),
    "a redirect to a file": (redirect(LAYER, "file:///etc/passwd"), "redirects"),
    "a redirect to nowhere": (redirect(LAYER, "http://[::1"), "redirects|Invalid URL"),
    "a redirect of a megabyte": (redirect(LAYER, "/" + "a" * 50_000), "redirects|broke|is not in"),
    "a realm that is a file": (on(MANIFEST, challenge("file:///etc/passwd")), "not allowed"),
    "a realm with a password": (on(MANIFEST, challenge("http://u:p@127.0.0.1:1/")), "not allowed"),
    "429 for ages": (on(MANIFEST, answers(429, b"", ("retry-after", "1000000000"))), "too many requests"),
    "503 for ages": (on(LAYER, answers(503, b"", ("retry-after", "1" + "0" * 400))), "answers 503"),
    "429 until a far day": (
        on(LAYER, answers(429, b"", ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"))),
        "too many requests",
    ),
}


def attack(place: Surroundings, registry: HostileRegistry, arrange: Arrange, message: str | None) -> Ended:
    arrange(registry)
    (place.folder / "work/context/Dockerfile").write_text(f"FROM {registry.host}/app:1\nWORKDIR /w\n")
    words = ("pull", f"{registry.host}/app:1")
    if message is None:
        before = place.picture()
        ended = place.run(*words)
        assert ended.status == 0, ended.err  # what is not needed is not read
        place.check(ended, before)
        return ended
    ended = place.attack(*words)
    assert re.search(message, ended.message), ended.message
    return ended


@pytest.mark.parametrize("case", WRONG_BYTES)
def test_bytes_that_are_wrong_are_refused(place: Surroundings, registry: HostileRegistry, case: str) -> None:
    attack(place, registry, *WRONG_BYTES[case])


@pytest.mark.hostile("DoS")
@pytest.mark.parametrize("case", ENDLESS)
def test_what_has_no_end_is_ended(place: Surroundings, registry: HostileRegistry, case: str) -> None:
    attack(place, registry, *ENDLESS[case])


@pytest.mark.hostile("DoS")
@pytest.mark.parametrize("case", SLOW)
def test_what_trickles_is_not_waited_for(hasty: Surroundings, registry: HostileRegistry, case: str) -> None:
    """Of silence the client's own clock tells; a drop now and then keeps that from running down."""
    attack(hasty, registry, SLOW[case], "slow|does not answer|denies access|broke|is cut short")

    asked = [asked for asked in registry.asked if digest_of(registry.layer) in asked.path]
    assert "layer" not in case or "resumed" in case or len(asked) <= 2, "patience ends"


@pytest.mark.hostile("CVE-2025-66418", "CVE-2025-66471")
@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(place: Surroundings, registry: HostileRegistry, case: str) -> None:
    attack(place, registry, *GARBAGE[case])


@pytest.mark.hostile("CVE-2021-21285", "CVE-2021-41190", "CVE-2014-9356")
@pytest.mark.parametrize("case", DOCUMENTS)
def test_documents_that_mean_harm_are_refused(
    place: Surroundings, registry: HostileRegistry, case: str
) -> None:
    if case == "many values in a config":
        registry.blob(VALUES, spec.OCI_CONFIG)
    attack(place, registry, *DOCUMENTS[case])


@pytest.mark.hostile("dotnet #54225", "DoS")
@pytest.mark.parametrize("case", WAYS)
def test_ways_that_lead_nowhere_are_not_gone(
    place: Surroundings, registry: HostileRegistry, case: str
) -> None:
    attack(place, registry, *WAYS[case])

    assert registry.elsewhere == []


def secrets_next_door(registry: HostileRegistry) -> list[str]:
    """What the host next door was told that is none of its business."""
    heads = [(name, value) for asked in registry.elsewhere for name, value in asked.headers.items()]
    paths = [asked.path for asked in registry.elsewhere]
    told = [f"{name}: {value}" for name, value in heads if name in ("authorization", "cookie")]
    return told + [text for text in (*paths, *dict(heads).values()) if BASIC in text or PASSWORD in text]


def build(place: Surroundings, registry: HostileRegistry) -> Ended:
    (place.folder / "work/context/Dockerfile").write_text(f"FROM {registry.host}/app:1\nWORKDIR /w\n")
    before = place.picture()
    ended = place.run("build", "--progress=plain", "--no-cache", "context")
    place.check(ended, before)
    return ended


@pytest.mark.hostile("CVE-2018-18074", "CVE-2023-32681", "CVE-2023-43804")
@pytest.mark.parametrize("offer", ['Basic realm="x"', 'Bearer realm="http://HOST/token"'])
def test_who_is_sent_elsewhere_takes_no_credential_along(
    place: Surroundings, registry: HostileRegistry, offer: str
) -> None:
    """The layer lies next door, as with most large registries; who asks there is nobody."""
    told = offer.replace("HOST", registry.host)

    def guarded(asked: Asked, wire: Wire) -> None:
        if "authorization" not in asked.headers:
            wire.answer(401, b"", ("www-authenticate", told), ("set-cookie", "session=canary"))
        elif "/blobs/" in asked.path:
            where = f"http://{registry.other}/storage/{asked.path.rpartition('/')[2]}"
            wire.answer(307, b"", ("location", where), ("set-cookie", "session=canary"))
        else:
            registry._give(asked, wire)

    registry.on("^GET /token", answers(200, b'{"token":"of-the-registry"}'))
    registry.on(f"{MANIFEST}|{BLOB}", guarded)

    ended = build(place, registry)

    assert ended.status == 0, ended.err
    assert any("/storage/sha256:" in asked.path for asked in registry.elsewhere)
    assert secrets_next_door(registry) == []


@pytest.mark.hostile("CVE-2020-15157")
@pytest.mark.parametrize("foreign", [True, False])
def test_what_a_layer_says_of_where_else_it_is_asks_nobody_there(
    place: Surroundings, registry: HostileRegistry, foreign: bool
) -> None:
    """Not even without credentials: an image could have this machine ask whomever it likes."""
    manifest = registry.image()
    manifest["layers"][0]["urls"] = [f"http://{registry.other}/layer", f"http://u:p@{registry.other}/layer"]
    if foreign:
        manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    registry.document(manifest, spec.OCI_MANIFEST, "1")
    registry.on(LAYER, answers(404))

    ended = build(place, registry)

    assert ended.status == 1
    assert "is not in registry" in ended.message
    assert registry.elsewhere == []


@pytest.mark.hostile("dotnet #54225", "CVE-2024-3727")
def test_a_token_is_asked_for_elsewhere_only_for_what_was_asked(
    place: Surroundings, registry: HostileRegistry
) -> None:
    """A realm may be another host's, as with most registries; it learns of this repository and no more."""
    registry.on(f"{MANIFEST}|{BLOB}", challenge(f"http://{registry.other}/token?scope=repository:x:push"))

    build(place, registry)

    assert registry.elsewhere
    assert all(
        "push" not in asked.path.partition("?")[2].replace("x:push", "") for asked in registry.elsewhere
    )


@pytest.mark.hostile("CVE-2014-9358", "CVE-2024-3727")
def test_tags_that_are_paths_or_options_name_nothing(place: Surroundings, registry: HostileRegistry) -> None:
    odd = ["../../etc", "1/../../x", "--root=/", "\x1b[2J", "a b", "1@sha256:" + "a" * 64, "", "x" * 200, "٣"]
    registry.on(TAGS, answers(200, json.dumps({"tags": [*odd, "1"]}).encode()))
    before = place.picture()

    ended = place.run("pull", "--all-tags", f"{registry.host}/app")

    assert ended.status == 0, ended.err
    place.check(ended, before)
    named = [row.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for row in place.names()]
    assert [name for name in named if name.startswith(f"{registry.host}/")] == [f"{registry.host}/app:1"]


@pytest.mark.hostile("DoS")
@pytest.mark.parametrize("where", ["", "http://OTHER"])
def test_pages_of_tags_without_end_are_not_turned_for_ever(
    place: Surroundings, registry: HostileRegistry, where: str
) -> None:
    link = f'<{where.replace("OTHER", registry.other)}/v2/app/tags/list?n=1>; rel="next"'
    registry.on(TAGS, answers(200, b'{"tags":["1"]}', ("link", link)))

    ended = place.attack("pull", "--all-tags", f"{registry.host}/app")

    assert "too many tags" in ended.message
    assert registry.elsewhere == []


def test_the_store_is_usable_after_all_of_it(place: Surroundings, registry: HostileRegistry) -> None:
    built, checked = build(place, registry), place.run("fsck")

    assert built.status == 0, built.err
    assert checked.status == 0, checked.out + checked.err
