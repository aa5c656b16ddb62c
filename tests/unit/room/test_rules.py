"""What goes, in which order, and what never does."""

from __future__ import annotations

from builder.room.facts import Facts, FolderFacts, ImageFacts, LayerFacts, RecordFacts
from builder.room.filters import parse
from builder.room.items import ANSWERS, MOUNT, World, items_of
from builder.room.rules import BONUS, Bounds, Rule, Why, bounds_of, choose, unreferenced

NOW = 100 * 86400.0
WHY = Why("max-used", 2, 1)


def facts(
    layers: dict[str, tuple[int, dict[str, int]]], records: dict[str, tuple[str, float]], **others: object
) -> Facts:
    """layers: id -> (bytes of its folder, blobs); records: ids joined by "/" -> (key, when last used)."""
    blobs = {blob: size for _, own in layers.values() for blob, size in own.items()}
    return Facts(
        layers={
            name: LayerFacts(name, 0.0, {"tree": tree} if tree else {}, dict(own), 0)
            for name, (tree, own) in layers.items()
        },
        records=[
            RecordFacts(key, tuple(names.split("/")), f"step {names}", used)
            for names, (key, used) in records.items()
        ],
        blobs=blobs,
        **others,  # type: ignore[arg-type]
    )


def gone(world: World, rule: Rule) -> list[str]:
    return [f"{r.item.id}{':' + r.form if r.form else ''}" for r in choose(world, rule, NOW)]


def chain() -> Facts:
    """Three steps on each other, and one of another build that was used later."""
    return facts(
        {"a": (10, {}), "b": (20, {}), "c": (30, {}), "z": (5, {})},
        {"a": ("k1", 1.0), "a/b": ("k2", 1.0), "a/b/c": ("k3", 1.0), "z": ("k4", 9.0)},
    )


def test_without_bounds_all_goes_and_the_upper_layers_first() -> None:
    assert gone(World(chain()), Rule()) == ["c", "b", "a", "z"]


def test_with_bounds_goes_what_was_not_used_for_the_longest_until_it_is_enough() -> None:
    world = World(chain())
    assert world.used_space() == 65
    assert gone(world, Rule(bounds=Bounds(40, WHY))) == ["c"]
    assert world.used_space() == 35
    assert gone(world, Rule(bounds=Bounds(40, WHY))) == []
    assert gone(world, Rule(bounds=Bounds(5, WHY))) == ["b", "a"]


def test_a_layer_takes_the_records_that_name_it() -> None:
    (first, *_) = choose(World(chain()), Rule(filter=parse(["id=b"])), NOW)

    assert first.records == ("k2", "k3")


def test_a_use_of_the_top_is_one_of_all_below() -> None:
    found = chain()
    found.records.append(RecordFacts("k5", ("a", "b"), "later", 50.0))

    assert gone(World(found), Rule(bounds=Bounds(30, WHY))) == ["c", "z"]


def test_a_folder_that_a_blob_can_make_again_goes_before_whole_layers_of_the_same_week() -> None:
    layers = {"old": (10, {"1": 4}), "new": (10, {"2": 4})}
    recent = facts(layers, {"old": ("k1", NOW - 100), "new": ("k2", NOW)})
    assert gone(World(recent), Rule(bounds=Bounds(8, WHY))) == ["old:tree", "new:tree"]

    apart = facts(layers, {"old": ("k1", NOW - BONUS - 100), "new": ("k2", NOW)})
    assert gone(World(apart), Rule(bounds=Bounds(8, WHY))) == ["old:tree", "old", "new:tree"]


def test_what_an_image_with_a_name_needs_stays_and_is_not_counted() -> None:
    image = ImageFacts("sha256:i", ("app:1",), blobs={"1": 40, "m": 1}, documents=frozenset({"m"}))
    found = facts({"a": (10, {"1": 40}), "b": (20, {})}, {"a": ("k1", 1.0), "b": ("k2", 2.0)})
    found.blobs["m"] = 1
    found.images = {"sha256:i": image}
    world = World(found)

    assert world.used_space() == 30
    assert gone(world, Rule()) == ["b"]
    (removal,) = choose(world, Rule(everything=True), NOW)
    assert (removal.item.id, removal.blobs, removal.size) == ("a", (), 10)
    assert unreferenced(world) == []


def test_a_blob_goes_with_the_last_that_has_it() -> None:
    world = World(facts({"a": (0, {"1": 7}), "b": (0, {"1": 7})}, {"a": ("k1", 1.0), "b": ("k2", 2.0)}))

    removals = choose(world, Rule(), NOW)

    assert [(r.item.id, r.size, r.blobs) for r in removals] == [("a", 0, ()), ("b", 7, ("1",))]


def test_what_a_build_holds_stays_with_its_blobs_and_its_base() -> None:
    found = facts({"a": (10, {"1": 7}), "b": (20, {}), "c": (1, {"2": 3})}, {})
    found.layers["a"].base = "b"
    found.held = {"a", "2"}
    world = World(found)

    removals = choose(world, Rule(everything=True), NOW)

    assert [(r.item.id, r.blobs) for r in removals] == [("c", ())]


def test_a_base_stays_while_another_layer_has_its_bytes_by_it_alone() -> None:
    found = facts({"base": (10, {}), "user": (1, {})}, {"base": ("k1", 1.0), "user": ("k2", 50.0)})
    found.layers["user"].base = "base"
    assert gone(World(found), Rule(filter=parse(["id=base"]))) == []

    found.layers["user"].blobs = {"1": 5}
    assert gone(World(found), Rule(filter=parse(["id=base"]))) == ["base"]


def test_images_without_a_name_and_remembered_ones_can_go() -> None:
    found = Facts(
        blobs={"1": 5, "2": 6, "m": 1, "n": 1},
        images={
            "sha256:i": ImageFacts("sha256:i", (), (), {"1": 5, "m": 1}, frozenset({"m"})),
            "sha256:j": ImageFacts("sha256:j", (), ("x linux/amd64",), {"2": 6, "n": 1}, frozenset({"n"})),
        },
    )
    removals = choose(World(found), Rule(), NOW)

    assert {(r.item.folder, r.size) for r in removals} == {("sha256:i", 6), ("sha256:j", 7)}
    assert {r.item.description for r in removals} == {"image without a name", "pulled x"}


def test_what_the_cache_remembers_goes_only_if_everything_is_to_go_and_busy_caches_never() -> None:
    folders = {
        MOUNT: [
            FolderFacts("cache/mounts/1", 5, 0, 1.0),
            FolderFacts("cache/mounts/2", 5, 0, 1.0, busy=True),
        ],
        ANSWERS: [FolderFacts("cache/content", 3, 0, 1.0)],
    }
    assert gone(World(Facts(), folders), Rule()) == ["1"]
    assert gone(World(Facts(), folders), Rule(everything=True)) == ["1", "content"]


def test_blobs_of_nobody_go_unless_a_build_has_them() -> None:
    world = World(Facts(blobs={"sha256:1": 5, "sha256:2": 6}, held={"sha256:2"}))

    (removal,) = unreferenced(world)

    assert (removal.blobs, removal.size, removal.why.kind) == (("sha256:1",), 5, "unreferenced")
    assert world.used_space() == 6


def test_bounds_are_reckoned_as_buildx_does() -> None:
    assert bounds_of(100, 50) is None
    assert bounds_of(100, 50, max_used=80) == Bounds(80, Why("max-used", 100, 80))
    assert bounds_of(100, 50, max_used=80, min_free=90) == Bounds(60, Why("min-free", 50, 90))
    assert bounds_of(100, 50, min_free=40).keep == 100  # type: ignore[union-attr]
    assert bounds_of(100, 50, max_used=10, reserved=70).keep == 70  # type: ignore[union-attr]
    assert bounds_of(100, 50, reserved=70) == Bounds(70, Why("reserved", 100, 70))


def test_items_have_buildx_s_words() -> None:
    found = facts({"a": (10, {}), "b": (20, {"1": 3})}, {"a": ("k1", 1.0), "a/b": ("k2", 5.0)})
    items = {item.id: item for item in items_of(World(found, {MOUNT: [FolderFacts("c/m", 1, 0, 0)]}))}

    assert (items["b"].parents, items["b"].description, items["b"].size) == (("a",), "step a/b", 23)
    assert (items["a"].used, items["a"].uses, items["a"].type) == (5.0, 2, "regular")
    assert (items["m"].type, items["m"].mutable) == ("exec.cachemount", True)
