"""A request built again from nothing: in a store of its own, which begins with the base images and no more.

The base images are the ones that the user's store has for their names, and are shared by hard links; contexts
are read where they are. All else is made anew: no record, no layer, no cache mount and no file from the web
of an earlier build is there. The stores lie in a folder of the user's `ingest/`, which goes with the process.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from builder import digest as digests
from builder import images, loops
from builder.delivery import TREES
from builder.errors import UsageError
from builder.exporters import ATTRIBUTES
from builder.ops.source import Image
from builder.programs import open_attempts, open_images, read_texts
from builder.request import OutputSpec
from builder.sharing import make_store
from builder.sources.shelf import no_progress
from builder.store import locks
from builder.store.ingest import IngestFolder, sweep_ingest
from builder.store.leases import leased
from builder.store.root import Store, open_store
from builder.verify.compare import Picture, Report, Verdict, compare
from builder.verify.pictures import pictures_of

if TYPE_CHECKING:
    from builder.compiler.program import BaseImage, ImageRequest
    from builder.oci.names import Row
    from builder.request import BuildRequest
    from builder.result import BuildResult

IMAGE = "image"
# Of an output's attributes, those that say where an image goes and not what it is.
PLACES = frozenset((
    "name", "push", "push-by-digest", "name-canonical", "dangling-name-prefix", "registry.insecure", "store",
    "unpack", "tar", "dest",
))  # fmt: skip
# Of a request, what has no part in what an image is, or would make a build ask another cache.
LEFT_OUT = (
    "tags", "iidfile", "metadata_file", "load", "push", "pull", "cache_from", "cache_to", "no_cache",
    "no_cache_filter", "root_flag", "attests", "sign",
)  # fmt: skip


class Verification:
    """One image that is verified, and its rebuilds as they come. Leaving the block removes their stores."""

    def __init__(self, store: Store, wanted: str) -> None:
        """wanted: as people name images. Raises ImageError where the store has no such image."""
        self.store = store
        self.wanted = wanted
        self.row: Row = images.find(store, wanted)[0]
        self.pictures: dict[str, dict[str, Picture]] = {IMAGE: pictures_of(store.blobs, self.row, wanted)}
        self._bases: dict[ImageRequest, BaseImage] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Verification:
        with ExitStack() as stack:
            stack.enter_context(locks.shared(self.store.folder, locks.BUILDS))
            stack.enter_context(leased(self.store))
            sweep_ingest(self.store.folder)
            self.folder = stack.enter_context(IngestFolder(self.store.folder)).path
            self._hold()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _hold(self) -> None:
        """Keep the image's layers, which are read at the end, from being removed meanwhile."""
        for picture in self.pictures[IMAGE].values():
            for step in picture.steps:
                if step.layer is not None:
                    self.store.blobs.stat(digests.parse(step.layer.blob))

    def prepare(self, request: BuildRequest) -> None:
        """Bring the base images into the user's store, whole. Raises BuildError."""
        if request.dockerfile == "-" or request.context == "-":
            raise UsageError(
                "standard input can be read once, and an image is verified by building it again",
                hint="name a file with -f FILE, and a CONTEXT that is a folder or an address",
            )
        self._bases = loops.run(_bring_bases(request, self.store))

    def begin(self, request: BuildRequest, name: str) -> BuildRequest:
        """What is to be built for a rebuild of this name, in a new store. Raises StoreError."""
        folder = os.path.join(self.folder, name)
        make_store(folder, self.store, self._bases.items())
        return again(request, folder)

    def take(self, name: str, result: BuildResult) -> None:
        """What was built is what is compared under this name. Raises ImageError, StoreError."""
        store = open_store(os.path.join(self.folder, name))
        row = images.find(store, result.image or "")[0]
        self.pictures[name] = pictures_of(store.blobs, row, name)

    def verdict(self) -> Verdict:
        """What differs among the image and its rebuilds. Raises ImageError, StoreError."""
        platforms = list(dict.fromkeys(platform for found in self.pictures.values() for platform in found))
        everywhere = [p for p in platforms if all(p in found for found in self.pictures.values())]
        return Verdict(
            self.wanted,
            tuple(self.pictures),
            tuple(self._report(platform) for platform in everywhere),
            {
                platform: tuple(name for name, found in self.pictures.items() if platform in found)
                for platform in platforms
                if platform not in everywhere
            },
        )

    def _report(self, platform: str) -> Report:
        return compare(platform, {name: found[platform] for name, found in self.pictures.items()})


def again(request: BuildRequest, root: str) -> BuildRequest:
    """The request in another store, for an image there as the first one that it asks for."""
    left = {name: request.defaults[name] for name in LEFT_OUT if name in request.defaults}
    return request.but(**{**left, "root": root, "outputs": (_output_of(request),)})


def _output_of(request: BuildRequest) -> OutputSpec:
    for spec in request.outputs:
        if spec.type not in TREES:
            kept = {key: value for key, value in spec.attrs.items() if _is_of_image(key)}
            return OutputSpec(IMAGE, None, kept)
    return OutputSpec(IMAGE)


def _is_of_image(attribute: str) -> bool:
    known = attribute in ATTRIBUTES[IMAGE] or attribute.startswith("annotation")
    return known and attribute not in PLACES


async def _bring_bases(request: BuildRequest, store: Store) -> dict[ImageRequest, BaseImage]:
    source = open_images(request, store)
    try:
        texts = await read_texts(request, store)
        attempts = open_attempts(request, store, texts)
        await attempts.compile(source)
        for wanted, base in attempts.known.items():
            op = Image(wanted.locator, base.digest)
            for layer in (await source.contents(op)).manifest.layers:
                await source.fetch(op, layer, no_progress)
        return attempts.known
    finally:
        await source.close()
