"""Layers made blobs while later steps run: the image's only, early, and without a word of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from builder.digest import Digest
from builder.errors import StoreError
from builder.graph.definition import Definition, Vertex
from builder.oci.inorder import NICER, InOrder
from builder.packing import Packing, layers_of
from builder.snapshots.snapshot import LayerId, Snapshot
from tests.support.compiling import compile_text

TEXT = """\
FROM scratch AS other
COPY a /a
FROM scratch
COPY a /a
WORKDIR /w
COPY --from=other /a /b
"""


@pytest.fixture(scope="module")
def built() -> tuple[Definition, list[Digest]]:
    program = compile_text(TEXT)
    return program.definition, [program.target]


def vertices(built: tuple[Definition, Any]) -> dict[str, Vertex]:
    return {f"{v.about.stage} {v.about.label}": v for v in built[0].reached(*built[1])}


def test_the_layers_of_the_image_are_those_that_its_stage_makes(built: tuple[Definition, Any]) -> None:
    found = layers_of(*built)

    labels = sorted(v.about.label for v in vertices(built).values() if v.digest in found)
    assert len(labels) == 3
    assert [label.split("] ")[-1] for label in labels] == [
        "COPY a /a",
        "WORKDIR /w",
        "COPY --from=other /a /b",
    ]


async def run(
    built: tuple[Definition, Any], *makers: Callable[[LayerId], object], settle: bool = True
) -> None:
    async with Packing(*built, makers) as packing:
        for number, vertex in enumerate(vertices(built).values()):
            packing.begin(vertex, cast(Snapshot, (LayerId("below"), LayerId(f"layer-{number}"))))
        if settle:
            await packing.settle()


async def test_each_of_them_is_made_in_each_way(built: tuple[Definition, Any]) -> None:
    one: list[str] = []
    other: list[str] = []

    await run(built, one.append, other.append)

    assert len(one) == 3
    assert sorted(one) == sorted(other)


async def test_what_goes_wrong_is_told_nobody(built: tuple[Definition, Any]) -> None:
    tried: list[object] = []

    def fail(layer: object) -> None:
        tried.append(layer)
        raise StoreError("no space left")

    await run(built, fail)

    assert len(tried) == 3


async def test_what_is_not_done_at_the_end_is_stopped(built: tuple[Definition, Any]) -> None:
    from builder import stop

    begun, stopped = threading.Event(), threading.Event()

    def forever(_: object) -> None:
        begun.set()
        try:
            while True:
                stop.check()
                threading.Event().wait(0.001)
        except stop.Stopped:
            stopped.set()
            raise

    async with Packing(*built, [forever]) as packing:
        for vertex in vertices(built).values():
            packing.begin(vertex, (LayerId("layer"),))
        assert await asyncio.to_thread(begun.wait, 60)

    assert stopped.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pack")]


async def test_compressing_gives_way_until_nothing_else_is_left(built: tuple[Definition, Any]) -> None:
    steps_are_over = threading.Event()
    seen: list[int] = []
    nice = os.getpriority(os.PRIO_PROCESS, 0)

    def make(_: object) -> None:
        blocks = InOrder(lambda _data: None, 2)
        blocks.put(lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0)) or b"")
        assert steps_are_over.wait(60)
        blocks.close()
        again = InOrder(lambda _data: None, 2)
        again.put(lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0)) or b"")
        again.close()
        assert os.getpriority(os.PRIO_PROCESS, 0) == nice

    last = list(vertices(built).values())[-1]
    async with Packing(*built, [make]) as packing:
        packing.begin(last, (LayerId("layer"),))
        while not seen:  # noqa: ASYNC110 - told by a thread
            await asyncio.sleep(0.001)
        settling = asyncio.create_task(packing.settle())
        await asyncio.sleep(0)
        steps_are_over.set()
        await settling

    assert seen == [min(19, nice + NICER), nice]
