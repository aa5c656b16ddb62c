"""Whether a registry has an image is told by the plainest answers only, and by no other server than it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.oci import present, reference
from builder.oci.parcel import Parcel, pack
from builder.oci.present import has_all, may_ask
from tests.support.fakeregistry import Answer, Asked, FakeRegistry, fake_registry
from tests.support.layouts import LayoutMaker, Row


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


def packed(layout: LayoutMaker, row: Row) -> Parcel:
    return pack(row, lambda digest: layout.path(digest).read_bytes())


def full(parcel: Parcel) -> Callable[[Asked], Answer]:
    """A registry that has it all, under the tag 1."""
    blobs = {blob.digest: blob.size for blob in parcel.blobs}
    manifests = {document.digest for document in parcel.documents()}

    def answer(asked: Asked) -> Answer:
        kind, name = asked.path.split("/")[-2:]
        if kind == "manifests":
            digest = parcel.root.digest if name == "1" else name
            return (
                Answer(200, headers={"docker-content-digest": digest}) if digest in manifests else Answer(404)
            )
        return Answer(200, bytes(blobs[name])) if name in blobs else Answer(404)

    return answer


async def ask(fake: FakeRegistry, parcel: Parcel, *tags: str) -> bool:
    names = [reference.parse(f"{fake.host}/app:{tag}") for tag in tags or ("1",)]
    return await asyncio.to_thread(has_all, names, parcel)


async def test_a_registry_that_has_all_has_all(layout: LayoutMaker) -> None:
    images = {p: layout.image([{p: b"1"}], platform=p) for p in ("linux/amd64", "linux/arm64")}
    parcel = packed(layout, layout.index(images))
    async with fake_registry(full(parcel)) as fake:
        assert await ask(fake, parcel)

    assert {asked.method for asked in fake.asked} == {"HEAD"}
    assert fake.paths()[0] == "/v2/app/manifests/1"
    assert len(fake.asked) == 1 + 2 + 4  # the index, its manifests, their configs and layers
    assert all("authorization" not in asked.headers for asked in fake.asked)


async def test_more_questions_than_go_at_once_are_asked_in_turn(
    layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "AT_ONCE", 2)
    parcel = packed(layout, layout.image([{str(n): b"1"} for n in range(6)]))
    async with fake_registry(full(parcel)) as fake:
        assert await ask(fake, parcel)

    assert len(fake.asked) == 1 + 7


@pytest.mark.parametrize("missing", ["the tag", "a blob", "a tag of two"])
async def test_what_lacks_anything_lacks_it(layout: LayoutMaker, missing: str) -> None:
    parcel = packed(layout, layout.image([{"a": b"1"}]))
    whole = full(parcel)

    def answer(asked: Asked) -> Answer:
        lost = {"the tag": "manifests/1", "a blob": parcel.blobs[1].digest, "a tag of two": "manifests/2"}
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


async def test_a_blob_of_another_size_is_another(layout: LayoutMaker) -> None:
    parcel = packed(layout, layout.image())
    whole = full(parcel)
    async with fake_registry(
        lambda asked: whole(asked) if "manifests" in asked.path else Answer(200)
    ) as fake:
        assert not await ask(fake, parcel)


@pytest.mark.parametrize("registry", ["registry.example", "10.0.0.1:5000", "docker.io", "[::1]:5000"])
def test_no_other_machine_is_asked(
    layout: LayoutMaker, monkeypatch: pytest.MonkeyPatch, registry: str
) -> None:
    monkeypatch.delattr(present, "_socket")  # whatever would connect fails
    parcel = packed(layout, layout.image())

    assert not has_all([reference.Reference(registry, "app", "1", None)], parcel)


def test_where_nobody_listens_nothing_is_there(layout: LayoutMaker) -> None:
    assert not has_all([reference.parse("127.0.0.1:1/app:1")], packed(layout, layout.image()))


def test_settings_for_registries_are_for_who_knows_them(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"

    config.write_text("[gc]\nenabled = false\n")
    assert may_ask({"PYBUILD_CONFIG": str(config)})
    config.write_text('[registries."127.0.0.1:5000"]\ninsecure = true\n')
    assert not may_ask({"PYBUILD_CONFIG": str(config)})
    assert not may_ask({"PYBUILD_CONFIG": str(tmp_path / "gone")})
