"""A registry that takes images and means harm: every push ends in one clear error, and tells no secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.oci.upload import MAX_SILENCES
from tests.support.hostileregistry import Asked, HostileRegistry, Wire, digest_of, hostile_registry
from tests.support.surroundings import BASIC, HASTY, PASSWORD, PATIENT, Surroundings, surroundings

ANY, BEGIN, CHUNK, PUT = r"^(POST|PATCH|PUT) ", r"^POST .*/blobs/uploads", "^PATCH ", r"^PUT .*/blobs/"
STATUS, MANIFEST, NAME = r"^GET .*/blobs/uploads", r"^PUT .*/manifests/", "image"
HEAD_OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"

Script = Callable[[Asked, Wire], None]
Arrange = Callable[[HostileRegistry], None]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """A store with one image."""
    with with_image(tmp_path_factory.mktemp("hostile"), PATIENT) as place:
        yield place


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """The same where nothing is waited for longer than a second."""
    with with_image(tmp_path_factory.mktemp("hasty"), HASTY) as place:
        yield place


@contextmanager
def with_image(folder: Path, clock: float) -> Iterator[Surroundings]:
    with surroundings(folder, clock) as place:
        context = place.folder / "work/context"
        (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
        (context / "file").write_bytes(bytes(range(256)) * 4000)
        built = place.run("build", "-t", NAME, "context")
        assert built.status == 0, built.err
        yield place


@pytest.fixture
def registry(place: Surroundings) -> Iterator[HostileRegistry]:
    with hostile_registry(b"") as registry:
        place.log_in(registry.host)
        yield registry


def answers(status: int, body: bytes = b"", **headers: str) -> Script:
    told = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda _asked, wire: wire.answer(status, body, *told)


def on(*pairs: tuple[str, Script]) -> Arrange:
    def arrange(registry: HostileRegistry) -> None:
        for pattern, script in pairs:
            registry.on(pattern, script)

    return arrange


def begin_at(location: str | Callable[[HostileRegistry], str]) -> Arrange:
    def arrange(registry: HostileRegistry) -> None:
        where = location if isinstance(location, str) else location(registry)
        registry.on(BEGIN, answers(202, location=where, range="0-0"))

    return arrange


def log_in_first(registry: HostileRegistry) -> None:
    """Who is known here is to send the bytes next door."""

    def script(asked: Asked, wire: Wire) -> None:
        if "authorization" not in asked.headers:
            challenged(asked, wire)
        else:
            wire.answer(202, b"", ("location", f"http://{registry.other}/take/it"), ("range", "0-0"))

    registry.on(BEGIN, script)


def silence(_asked: Asked, wire: Wire) -> None:
    wire.wait()


def endless(head: bytes, piece: bytes) -> Script:
    def script(_asked: Asked, wire: Wire) -> None:
        wire.send(head)
        wire.repeat(piece)

    return script


def again(asked: Asked, wire: Wire) -> None:
    """Whatever is asked: that was well, and it goes on at the same place."""
    wire.answer(202, b"", ("location", asked.path.partition("?")[0]), ("range", "0-0"))


def challenged(_asked: Asked, wire: Wire) -> None:
    wire.answer(401, b"", ("www-authenticate", 'Basic realm="x"'))


def standing_at(told: str) -> Arrange:
    """Nothing gets through at once, and asked how far it is, the registry says that."""
    return on(
        (PUT, answers(500)),
        (CHUNK, answers(500)),
        (STATUS, answers(204, range=told, location="/v2/app/blobs/uploads/x")),
    )


CASES: dict[str, tuple[Arrange, str]] = {
    "202 without end": (on((f"{ANY}|{STATUS}", again)), "answers 202"),
    "202 for what is whole": (on((PUT, answers(202, location="/v2/app/blobs/uploads/x"))), "answers 202"),
    "no place": (on((BEGIN, answers(202))), "does not say where"),
    "a place that is a file": (begin_at("file:///etc/passwd"), "redirects|place"),
    "a place that is none": (begin_at("http://[::1"), "redirects|valid"),
    "a place with a password": (begin_at(lambda r: f"http://u:p@{r.other}/x"), "redirects|password|answers"),
    "a place elsewhere": (begin_at(lambda r: f"http://{r.other}/take/it"), "answers 200"),
    "a place elsewhere for who is known": (log_in_first, "answers 200"),
    "sent around": (on((PUT, answers(307, location="/v2/app/blobs/uploads/x?again"))), "redirects more than"),
    "standing beyond the end": (standing_at("0-99999999999999"), "answers 500"),
    "standing at no number": (standing_at("0-" + "9" * 5000), "answers 500"),
    "standing behind the start": (standing_at("5-1"), "answers 500"),
    "standing at a sign": (standing_at("0--1"), "answers 500"),
    "chunks of an exabyte": (
        on(
            (BEGIN, answers(202, location="/v2/app/blobs/uploads/x", oci_chunk_min_length="9" * 18)),
            (PUT, answers(413)),
            (CHUNK, answers(400)),
        ),
        "answers 400",
    ),
    "401 without end": (on((f"{ANY}|^HEAD", challenged)), "denies access"),
    "429 for ages": (on((BEGIN, answers(429, retry_after="1000000000"))), "too many requests"),
    "429 for a chunk for ages": (
        on((PUT, answers(413)), (CHUNK, answers(429, retry_after="1000000000"))),
        "too many requests",
    ),
    "headers": (on((BEGIN, endless(HEAD_OK, b"x-a: b\r\n"))), "broke"),
    "an error without end": (
        on((BEGIN, endless(HEAD_OK.replace(b"200", b"400") + b"\r\n", b"x"))),
        "answers 400",
    ),
    "another manifest": (
        on((MANIFEST, answers(201, docker_content_digest=digest_of(b"evil")))),
        "not what it was given",
    ),
    "garbage": (on((BEGIN, lambda _, wire: wire.send(b"\x16\x03\x01" * 99))), "broke"),
}


SILENT: dict[str, tuple[Arrange, str]] = {
    "silence": (on((PUT, silence), (CHUNK, silence)), "does not answer|slow"),
    "silence at the end": (on((MANIFEST, silence)), "does not answer|slow"),
    "promises": (
        on((PUT, endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")), (CHUNK, silence)),
        "does not answer|broke|slow",
    ),
}


@pytest.mark.hostile("DoS", "CVE-2018-18074", "CVE-2023-32681")
@pytest.mark.parametrize("case", CASES)
def test_a_push_to_who_means_harm_ends(place: Surroundings, registry: HostileRegistry, case: str) -> None:
    push(place, registry, case, *CASES[case])


@pytest.mark.hostile("DoS")
@pytest.mark.parametrize("case", SILENT)
def test_a_push_to_who_says_nothing_ends(hasty: Surroundings, registry: HostileRegistry, case: str) -> None:
    push(hasty, registry, case, *SILENT[case])

    sent = [asked for asked in registry.asked if asked.method in ("PUT", "PATCH") and "/blobs/" in asked.path]
    assert len(sent) <= 2 * MAX_SILENCES, "each of two blobs is sent so often"


def push(place: Surroundings, registry: HostileRegistry, case: str, arrange: Arrange, message: str) -> None:
    name = f"{registry.host}/app:1"
    assert place.run("tag", NAME, name).status == 0
    arrange(registry)

    ended = place.attack("push", name)
    untagged = place.run("rmi", name)

    assert re.search(message, ended.message), ended.message
    assert untagged.status == 0
    assert bool(registry.elsewhere) == ("place elsewhere" in case or "with a password" in case)
    for asked in registry.elsewhere:
        told = " ".join(asked.headers.values())
        assert "authorization" not in asked.headers
        assert BASIC not in told
        assert PASSWORD not in told


def test_what_is_pushed_after_all_of_it_is_whole(place: Surroundings, registry: HostileRegistry) -> None:
    name = f"{registry.host}/app:1"
    place.run("tag", NAME, name)

    pushed = place.run("push", name)

    assert pushed.status == 0, pushed.err
    assert "1" in registry.manifests
