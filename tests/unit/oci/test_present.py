"""Whether a registry has an image is told by the plainest answers only, and by no other server than it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.oci import present, reference
from builder.oci.parcel import Parcel, pack
from builder.oci.present import Asking, have_it, may_ask
from tests.support.fakeregistry import Answer, Asked, FakeRegistry, fake_registry
from tests.support.layouts import LayoutMaker, Row


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks, and who answers, are one process, which may have to wait for a processor."""
    monkeypatch.setattr(present, "SECONDS", 60.0)
    monkeypatch.setattr(present, "MOST_SECONDS", 60.0)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


def packed(layout: LayoutMaker, row: Row) -> Parcel:
    return pack(row, lambda digest: layout.path(digest).read_bytes())


def full(parcel: Parcel) -> Callable[[Asked], Answer]:
    """A registry that has all its manifests, the first under the tag 1."""
    manifests = {document.digest for document in parcel.documents()}

    def answer(asked: Asked) -> Answer:
        name = asked.path.rpartition("/")[2]
        digest = parcel.root.digest if name == "1" else name
        return Answer(200, headers={"docker-content-digest": digest}) if digest in manifests else Answer(404)

    return answer


async def ask(fake: FakeRegistry, parcel: Parcel, *tags: str) -> bool:
    names = [reference.parse(f"{fake.host}/app:{tag}") for tag in tags or ("1",)]
    return await asyncio.to_thread(have_it, names, parcel)


async def test_a_registry_that_have_it_have_it(layout: LayoutMaker) -> None:
    images = {p: layout.image([{p: b"1"}], platform=p) for p in ("linux/amd64", "linux/arm64")}
    parcel = packed(layout, layout.index(images))
    async with fake_registry(full(parcel)) as fake:
        assert await ask(fake, parcel)

    assert {asked.method for asked in fake.asked} == {"HEAD"}
    assert fake.paths()[0] == "/v2/app/manifests/1"
    assert len(fake.asked) == 1 + 2  # the index, and its manifests
    assert all("authorization" not in asked.headers for asked in fake.asked)


async def test_more_questions_than_go_at_once_are_asked_in_turn(
    layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "AT_ONCE", 2)
    platforms = [f"linux/{architecture}" for architecture in ("amd64", "arm64", "riscv64", "s390x", "386")]
    parcel = packed(layout, layout.index({p: layout.image([{p: b"1"}], platform=p) for p in platforms}))
    async with fake_registry(full(parcel)) as fake:
        assert await ask(fake, parcel)

    assert len(fake.asked) == 1 + 5


async def test_what_a_name_means_is_asked_before_anybody_knows_the_image(layout: LayoutMaker) -> None:
    parcel = packed(layout, layout.image([{"a": b"1"}]))
    async with fake_registry(full(parcel)) as fake:

        def begin_and_wait() -> bool:
            with Asking([reference.parse(f"{fake.host}/app:1")]) as asking:
                deadline = time.monotonic() + 60
                while not fake.asked and time.monotonic() < deadline:
                    time.sleep(0.01)
                was_asked = bool(fake.asked)
                return was_asked and asking.have_it(parcel)

        assert await asyncio.to_thread(begin_and_wait)

    assert len(fake.asked) == 1


@pytest.mark.parametrize("missing", ["the tag", "a manifest", "a tag of two"])
async def test_what_lacks_anything_lacks_it(layout: LayoutMaker, missing: str) -> None:
    images = {p: layout.image([{p: b"1"}], platform=p) for p in ("linux/amd64", "linux/arm64")}
    parcel = packed(layout, layout.index(images))
    whole = full(parcel)

    def answer(asked: Asked) -> Answer:
        manifest = parcel.documents()[0].digest
        lost = {"the tag": "manifests/1", "a manifest": manifest, "a tag of two": "manifests/2"}
        return Answer(404) if asked.path.endswith(lost[missing]) else whole(asked)

    async with fake_registry(answer) as fake:
        assert not await ask(fake, parcel, "1", "2")


@pytest.mark.parametrize(
    "odd",
    [
        Answer(401, headers={"www-authenticate": 'Basic realm="x"'}),
        Answer(307, headers={"location": "http://127.0.0.1:1/"}),
        Answer(200),
        Answer(200, headers={"docker-content-digest": "sha256:" + "0" * 64}),
        Answer(500),
        Answer(cut=-1),
        Answer(200, headers={"x": "y" * 70_000}),
    ],
)
async def test_an_odd_answer_is_no_yes(layout: LayoutMaker, odd: Answer) -> None:
    parcel = packed(layout, layout.image())
    async with fake_registry(lambda _asked: odd) as fake:
        assert not await ask(fake, parcel)


@pytest.mark.parametrize(
    "registry",
    [
        "registry.example", "10.0.0.1:5000", "docker.io", "[::1]:5000", "localhost:65536", "localhost:99999",
        "localhost:" + "9" * 5000,
    ],
)  # fmt: skip
def test_no_other_machine_is_asked(
    layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch, registry: str
) -> None:
    monkeypatch.delattr(present, "_socket")  # whatever would connect fails
    parcel = packed(layout, layout.image())

    assert not have_it([reference.Reference(registry, "app", "1", None)], parcel)


def test_where_nobody_listens_nothing_is_there(layout: LayoutMaker) -> None:
    assert not have_it([reference.parse("127.0.0.1:1/app:1")], packed(layout, layout.image()))


def test_settings_for_registries_are_for_who_knows_them(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"

    config.write_text("[gc]\nenabled = false\n")
    assert may_ask({"PYBUILD_CONFIG": str(config)})
    config.write_text('[registries."127.0.0.1:5000"]\ninsecure = true\n')
    assert not may_ask({"PYBUILD_CONFIG": str(config)})
    assert not may_ask({"PYBUILD_CONFIG": str(tmp_path / "gone")})
