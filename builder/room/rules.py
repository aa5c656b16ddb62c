"""What goes, in which order, and why: a decision about items, by rules. Pure.

Without bounds a rule takes all that it matches. With bounds it takes what was not used for the longest time,
until what is left is within them. Of a layer that has a blob, its folder can be made again; so that form
alone goes first, as if it had not been used for a week longer than it was. The whole layer takes with it the
records that name it, and those of its blobs that nobody else has.

Never taken: what a running build holds, what a kept failed step stands on (the step itself by `everything`
alone), images with names and their blobs, and a folder in which another layer has its only bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.room.filters import Filter
from builder.room.items import (
    ANSWERS,
    BLOB,
    FAILED,
    IMAGE,
    LAYER,
    Item,
    World,
    folder_item,
    image_item,
    layer_item,
)

if TYPE_CHECKING:
    from builder.room.facts import LayerFacts

BONUS = 7 * 86400  # seconds that a folder which can be made again counts as older
TREE = "tree"


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, with the numbers that belong to it: what there was, and what there is to be.

    kind: asked, unreferenced; unused (bound: seconds); max-used, min-free, reserved (bytes).
    """

    kind: str
    had: int = 0
    bound: int = 0


ASKED, UNREFERENCED = Why("asked"), Why("unreferenced")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be left. keep: bytes; why: what to say of what has to go for it. See `bounds_of`."""

    keep: int
    why: Why


@dataclass(frozen=True, slots=True)
class Rule:
    """What may go: what the filter matches; with `bounds` only as much as it takes.

    everything: shared and internal items, and kept failed steps, too. why: what to say without bounds.
    """

    filter: Filter = field(default_factory=Filter)
    bounds: Bounds | None = None
    everything: bool = False
    why: Why = ASKED


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that goes.

    form: "" for all of the item, TREE for a layer's folder, BLOB for a blob of nobody; size: the bytes that
    this frees; blobs, records: digests and keys that go with it.
    """

    item: Item
    why: Why
    size: int
    form: str = ""
    blobs: tuple[str, ...] = ()
    records: tuple[str, ...] = ()


def bounds_of(
    used: int, free: int, *, max_used: int = 0, min_free: int = 0, reserved: int = 0
) -> Bounds | None:
    """What may be kept of `used` bytes, as `docker buildx prune` reckons, on a disk with `free` ones.

    No more than max_used, and so much less that min_free are free; yet always `reserved`. Each 0: not given;
    None where none is.
    """
    if not (max_used or min_free or reserved):
        return None
    keep, why = used, ASKED
    if max_used and used > max_used:
        keep, why = max_used, Why("max-used", used, max_used)
    if min_free and free < min_free and used - (min_free - free) < keep:
        keep, why = used - (min_free - free), Why("min-free", free, min_free)
    if not max_used and not min_free:
        keep, why = reserved, Why("reserved", used, reserved)
    return Bounds(max(keep, reserved), why)


def choose(world: World, rule: Rule, now: float) -> list[Removal]:
    """What a rule takes, in order; the world is changed as if it were gone."""
    chosen: list[Removal] = []
    left = world.used_space()
    if rule.bounds is not None and left <= rule.bounds.keep:
        return chosen
    while True:
        before = len(chosen)
        for candidate in _in_order(world, rule, now):
            if rule.bounds is not None and left <= rule.bounds.keep:
                return chosen
            removal = _take(world, rule, candidate)
            if removal is not None:
                chosen.append(removal)
                left -= removal.size
        if len(chosen) == before:  # else what was in the way of something may be gone
            return chosen


def unreferenced(world: World) -> list[Removal]:
    """Blobs that neither a layer nor an image has, and no build uses."""
    found = []
    for blob, size in world.facts.blobs.items():
        if blob not in world.holders and blob not in world.facts.held:
            item = Item(blob.removeprefix("sha256:")[:12], BLOB, "blob of nobody", 0.0, 0.0, size, size)
            found.append(Removal(item, UNREFERENCED, size, BLOB, (blob,)))
    for removal in found:
        del world.facts.blobs[removal.blobs[0]]
    return found


@dataclass(frozen=True, slots=True)
class _Candidate:
    item: Item
    form: str = ""


def _in_order(world: World, rule: Rule, now: float) -> list[_Candidate]:
    """What may go, that which is to go first, first: of what was used at the same time, the upper layers."""
    found = [c for c in _candidates(world, rule) if rule.filter.matches(c.item, now)]
    depth = {layer: len(record.layers) for layer, record in world.shortest.items()}

    def key(candidate: _Candidate) -> tuple[float, int, str, str]:
        item = candidate.item
        bonus = BONUS if candidate.form == TREE else 0
        return (item.used - bonus, -depth.get(item.id, 0), item.id, candidate.form)

    return sorted(found, key=key)


def _candidates(world: World, rule: Rule) -> Iterator[_Candidate]:
    own = {name for step in world.facts.failed for name in (step.layer, *step.adopted)}
    for layer in world.facts.layers.values():
        item = layer_item(world, layer, own)
        if item.kind == FAILED:
            continue  # by its step, below
        if rule.bounds is not None and layer.trees and layer.blobs:
            yield _Candidate(item, TREE)
        if rule.everything or not item.shared:
            yield _Candidate(item)
    for image in world.facts.images.values():
        item = image_item(world, image)
        if not image.names and (rule.everything or not item.shared):
            yield _Candidate(item)
    for kind, folders in world.folders.items():
        if kind != ANSWERS or rule.everything:
            yield from (_Candidate(folder_item(kind, folder)) for folder in folders)
    if rule.everything:
        yield from (_Candidate(_step_item(world, step.build)) for step in world.facts.failed)


def _step_item(world: World, build: str) -> Item:
    """A kept failed step as an item of its own."""
    step = next(step for step in world.facts.failed if step.build == build)
    return Item(build, FAILED, f"failed step {step.label}", step.time, step.time, step.size, step.size)


def _take(world: World, rule: Rule, candidate: _Candidate) -> Removal | None:
    """Take a candidate out of the world; None where it has to stay."""
    item = candidate.item
    why = rule.bounds.why if rule.bounds is not None else rule.why
    if item.kind == LAYER:
        layer = world.facts.layers.get(item.id)
        if layer is None or layer.id in world.needed or not _may_lose_folders(world, layer):
            return None
        return _take_tree(layer, item, why) if candidate.form else _take_layer(world, layer, item, why)
    if item.kind == IMAGE:
        return _take_image(world, item, why)
    if item.kind == FAILED:
        world.facts.failed = [step for step in world.facts.failed if step.build != item.id]
        return Removal(item, why, item.size)
    if item.in_use or not any(f.path == item.folder for f in world.folders[item.kind]):
        return None
    world.folders[item.kind] = [f for f in world.folders[item.kind] if f.path != item.folder]
    return Removal(item, why, item.size)


def _may_lose_folders(world: World, layer: LayerFacts) -> bool:
    """Whether no layer that stays has its only bytes by way of this one's folder."""
    return all(
        user not in world.needed and world.facts.layers[user].blobs
        for user in world.users_of.get(layer.id, ())
        if user in world.facts.layers
    )


def _take_tree(layer: LayerFacts, item: Item, why: Why) -> Removal | None:
    if not layer.trees or not layer.blobs:
        return None
    size = sum(layer.trees.values())
    layer.trees.clear()
    return Removal(item, why, size, TREE)


def _take_layer(world: World, layer: LayerFacts, item: Item, why: Why) -> Removal:
    gone = world.freed_blobs(layer.id, layer.blobs)
    size = layer.rest + sum(layer.trees.values()) + _release(world, layer.id, layer.blobs, gone)
    records = tuple(record.key for record in world.records_of.pop(layer.id, ()))
    del world.facts.layers[layer.id]
    for users in world.users_of.values():
        users.discard(layer.id)
    return Removal(item, why, size, "", tuple(gone), records)


def _take_image(world: World, item: Item, why: Why) -> Removal | None:
    image = world.facts.images.get(item.folder)
    if image is None or image.names or image.digest in world.needed:
        return None
    gone = world.freed_blobs(image.digest, image.blobs)
    size = _release(world, image.digest, image.blobs, gone)
    del world.facts.images[image.digest]
    return Removal(item, why, size, "", tuple(gone))


def _release(world: World, holder: str, blobs: dict[str, int], gone: list[str]) -> int:
    """Let go of a holder's blobs; the bytes of those that are gone for it."""
    for blob in blobs:
        world.holders.get(blob, set()).discard(holder)
    return sum(world.facts.blobs.pop(blob, 0) for blob in gone)
