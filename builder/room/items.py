"""What people see of a store, and choose from: items, in the words of `docker buildx du`. Pure.

An item is a layer (with its folder and its blobs, two forms of one thing), an image without a name or one
that a reference is remembered to mean, an image with a name (which nobody removes here), a cache that steps
write into, a git repository, a stat cache of a context, or what the cache remembers besides.

Needed are what running builds hold (see store.leases) and what a kept failed step stands on; shared is what
an image with a name has, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.room.facts import Facts, FolderFacts, ImageFacts, LayerFacts, RecordFacts

LAYER, IMAGE, MOUNT, GIT, CONTEXT, ANSWERS, FAILED, BLOB = (
    "layer", "image", "mount", "git", "context", "answers", "failed", "blob",
)  # fmt: skip
TYPES = {
    LAYER: "regular", IMAGE: "image", MOUNT: "exec.cachemount", GIT: "source.git.checkout",
    CONTEXT: "source.local", ANSWERS: "internal", FAILED: "failed", BLOB: "internal",
}  # fmt: skip
ABOUT = {
    GIT: "git repository", CONTEXT: "local source for context", MOUNT: "cache mount",
    ANSWERS: "what the cache remembers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """Something that takes room.

    kind: of the above; type: buildx's word for it; times in seconds; size: all its bytes; freed: those that
    would be free if this alone were removed; parents: ids of what it lies on; uses: how many records and
    images stand on it; folder: its place below ROOT, of what is no layer and no image.
    """

    id: str
    kind: str
    description: str
    created: float
    used: float
    size: int
    freed: int
    parents: tuple[str, ...] = ()
    in_use: bool = False
    shared: bool = False
    mutable: bool = False
    uses: int = 0
    folder: str = ""

    @property
    def type(self) -> str:
        """What buildx calls such things."""
        return TYPES[self.kind]


class World:
    """Facts, and what follows from them: who holds what, and what is needed. `folders`: by their kinds."""

    def __init__(self, facts: Facts, folders: Mapping[str, Iterable[FolderFacts]] | None = None) -> None:
        self.facts = facts
        self.folders = {kind: list(found) for kind, found in (folders or {}).items()}
        self.records_of: dict[str, list[RecordFacts]] = {}
        self.shortest: dict[str, RecordFacts] = {}
        for record in facts.records:
            for layer in record.layers:
                self.records_of.setdefault(layer, []).append(record)
                known = self.shortest.get(layer)
                if known is None or len(record.layers) < len(known.layers):
                    self.shortest[layer] = record
        self.users_of: dict[str, set[str]] = {}
        for user in facts.layers.values():
            if user.base is not None:
                self.users_of.setdefault(user.base, set()).add(user.id)
        self.needed = _needed(facts)
        self.named = {blob for image in facts.images.values() if image.names for blob in image.blobs}
        self.holders = _holders(facts)

    def layer_used(self, layer: LayerFacts) -> float:
        """When a layer was last of use."""
        uses = [self._own_use(self.facts.layers[user]) for user in self.users_of.get(layer.id, ())]
        return max([self._own_use(layer), *uses])

    def _own_use(self, layer: LayerFacts) -> float:
        return max((record.used for record in self.records_of.get(layer.id, ())), default=layer.created)

    def is_shared(self, blobs: Iterable[str]) -> bool:
        """Whether some of these blobs belong to an image with a name."""
        return any(blob in self.named for blob in blobs)

    def owner(self, blob: str) -> str:
        """Of the layers that have a blob the one that it is counted for."""
        layers = [holder for holder in self.holders.get(blob, ()) if holder in self.facts.layers]
        return min(layers, key=lambda layer: (layer not in self.records_of, layer), default="")

    def freed_blobs(self, holder: str, blobs: Iterable[str]) -> list[str]:
        """Those of the blobs that nobody else holds, and no build uses."""
        held = self.facts.held
        return [blob for blob in blobs if self.holders.get(blob, set()) <= {holder} and blob not in held]

    def used_space(self) -> int:
        """The bytes of all that no image with a name needs."""
        shared = sum(self.facts.blobs.get(blob, 0) for blob in self.named)
        return self.facts.total - shared + sum(f.size for found in self.folders.values() for f in found)


def _needed(facts: Facts) -> set[str]:
    """The layers, blobs and images that may not be touched."""
    needed = set(facts.held)
    for step in facts.failed:
        needed.update((*step.below, step.layer, *step.adopted, *(name for s in step.inputs for name in s)))
    for layer in facts.layers.values():
        if layer.id in needed and layer.base is not None:
            needed.add(layer.base)
    for layer in facts.layers.values():
        if layer.id in needed:
            needed.update(layer.blobs)
    return needed


def _holders(facts: Facts) -> dict[str, set[str]]:
    """Blob -> the layers and images that have it."""
    holders: dict[str, set[str]] = {}
    for layer in facts.layers.values():
        for blob in layer.blobs:
            holders.setdefault(blob, set()).add(layer.id)
    for image in facts.images.values():
        for blob in image.blobs:
            holders.setdefault(blob, set()).add(image.digest)
    return holders


# ── what people see ──────────────────────────────────────────────────────────────────────────────────────


def items_of(world: World) -> list[Item]:
    """All items of a store, the last used first."""
    facts = world.facts
    own = {step.layer for step in facts.failed} | {name for step in facts.failed for name in step.adopted}
    found = [layer_item(world, layer, own) for layer in facts.layers.values()]
    found += [image_item(world, image) for image in facts.images.values()]
    for kind, folders in world.folders.items():
        found += [folder_item(kind, folder) for folder in folders]
    return sorted(found, key=lambda item: (-item.used, item.id))


def layer_item(world: World, layer: LayerFacts, failed: Set[str] = frozenset()) -> Item:
    """A layer as an item. failed: the layers that are a kept failed step's own."""
    record = world.shortest.get(layer.id)
    at = record.layers.index(layer.id) if record else 0
    folder = layer.rest + sum(layer.trees.values())
    gone = world.freed_blobs(layer.id, layer.blobs)
    kind = FAILED if layer.id in failed else LAYER
    if kind == FAILED:
        label = next((s.label for s in world.facts.failed if layer.id in (s.layer, *s.adopted)), "")
        label = f"kept of the failed step {label}"
    else:
        label = record.label if record else "layer without a record"
    return Item(
        id=layer.id,
        kind=kind,
        description=label,
        created=layer.created,
        used=world.layer_used(layer),
        size=folder + sum(size for blob, size in layer.blobs.items() if world.owner(blob) == layer.id),
        freed=folder + sum(layer.blobs[blob] for blob in gone),
        parents=record.layers[at - 1 : at] if record and at else (),
        in_use=layer.id in world.needed,
        shared=world.is_shared(layer.blobs),
        uses=len(world.records_of.get(layer.id, ())),
    )


def image_item(world: World, image: ImageFacts) -> Item:
    """An image as an item; its size is without the blobs that are some layer's."""
    layers = {blob for blob in image.blobs if blob not in image.documents}
    of_layers = {blob for blob in layers if world.owner(blob)}
    gone = world.freed_blobs(image.digest, image.blobs)
    told = ", ".join(image.names) or ", ".join(_reference(key) for key in image.remembered)
    if image.names:
        what = f"image {told}"
    else:
        what = f"pulled {told}" if told else "image without a name"
    used = max((world.layer_used(layer) for layer in world.facts.layers.values()
                if layers & layer.blobs.keys()), default=0.0) if image.remembered else 0.0  # fmt: skip
    return Item(
        id=image.digest.removeprefix("sha256:")[:12],
        kind=IMAGE,
        description=what,
        created=image.created,
        used=max(image.used, used),
        size=sum(size for blob, size in image.blobs.items() if blob not in of_layers),
        freed=sum(image.blobs[blob] for blob in gone),
        in_use=bool(image.names) or image.digest in world.needed,
        shared=bool(image.names) or (bool(layers) and layers <= world.named),
        uses=len(image.names) + len(image.remembered),
        folder=image.digest,
    )


def folder_item(kind: str, folder: FolderFacts) -> Item:
    """A cache, a repository or the like as an item."""
    return Item(
        id=folder.path.rpartition("/")[2],
        kind=kind,
        description=folder.about or ABOUT[kind],
        created=folder.created,
        used=folder.used,
        size=folder.size,
        freed=folder.size,
        in_use=folder.busy,
        mutable=True,
        folder=folder.path,
    )


def _reference(key: str) -> str:
    """The reference in a key of the table of those that are remembered."""
    return key.rpartition(" ")[0] or key
