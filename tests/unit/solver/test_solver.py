"""The solver, with fakes: ops are names, snapshots are tuples of what made them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from builder.digest import Digest, of_value
from builder.errors import BuildError
from builder.events import Cached, Failed, Finished, Started, Waiting
from builder.graph.definition import About, Definition, Input
from builder.graph.selection import Selection
from builder.snapshots.snapshot import LayerId, Snapshot
from builder.solver.cache import Cache, Record
from builder.solver.solver import Elsewhere, Solver, Told


@dataclass(frozen=True)
class FakeOp:
    name: str
    keyed: bool = True
    limited: bool = False

    def plain(self) -> list[Any] | None:
        return ["fake", self.name] if self.keyed else None

    async def run(self, worker: Any, inputs: Any) -> Any:
        raise AssertionError("the fake world runs ops itself")


@dataclass
class World:
    """Runs fake ops and remembers what happened."""

    cache: Cache
    definition: Definition = field(default_factory=Definition)
    ran: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    most: int = 0
    contents: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    seconds: float = 0.0
    events: list[Any] = field(default_factory=list)
    serial: int = 0

    def add(self, name: str, *inputs: Digest | Input, no_cache: bool = False, keyed: bool = True,
            limited: bool = False) -> Digest:  # fmt: skip
        given = tuple(i if isinstance(i, Input) else Input(i) for i in inputs)
        return self.definition.add(FakeOp(name, keyed, limited), given, About(name, no_cache=no_cache))

    async def run(self, vertex: Any, inputs: Any) -> Snapshot:
        name = vertex.op.name
        self.ran.append(name)
        self.running.add(name)
        self.most = max(self.most, len(self.running))
        try:
            await asyncio.sleep(self.seconds)
            if name in self.failing:
                raise BuildError(f"{name} failed")
        finally:
            self.running.discard(name)
        self.serial += 1
        below = inputs[0] if inputs else ()
        return (*below, LayerId(f"{name}-{self.serial}"))

    async def content(self, vertex: Any, snapshot: Snapshot, selection: Selection) -> Digest:
        name = snapshot[-1].partition("-")[0]
        return of_value([self.contents.get(name, "same"), selection.plain()])

    async def whole(self, vertex: Any, snapshot: Snapshot) -> Digest:
        names = [layer.partition("-")[0] for layer in snapshot]
        return of_value([[name, self.contents.get(name, "same " + name)] for name in names])

    async def solve(self, target: Digest, slots: int = 16, *, whole: bool = False,
                    elsewhere: Elsewhere | None = None, told: Told | None = None) -> Snapshot:  # fmt: skip
        self.ran.clear()
        self.events.clear()
        solver = Solver(
            self.definition, self.cache, self.run, self.content, self.events.append, slots,
            whole=self.whole if whole else None, elsewhere=elsewhere, told=told,
        )  # fmt: skip
        return await solver.solve(target)

    def forget(self, *labels: str) -> None:
        """Drop the records of the vertices with these labels."""
        for key, record in list(self.cache.records()):
            if record["label"] in labels:
                self.cache.forget(key)

    def names(self, kind: type) -> list[str]:
        return [self.definition[e.vertex].op.name for e in self.events if isinstance(e, kind)]


@pytest.fixture
def world(tmp_path: Any) -> World:
    return World(Cache(str(tmp_path), exists=lambda snapshot: True))


def all_of(name: str = "/") -> Selection:
    return Selection((name,))


async def test_a_second_solve_runs_nothing_and_calls_every_vertex_cached(world: World) -> None:
    a = world.add("a")
    b = world.add("b", a)
    first = await world.solve(b)
    assert world.ran == ["a", "b"]

    second = await world.solve(b)

    assert (second, world.ran) == (first, [])
    assert world.names(Cached) == ["a", "b"]


async def test_a_cached_vertex_never_asks_for_its_inputs(world: World) -> None:
    b = world.add("b", world.add("a"))
    await world.solve(b)
    for key, record in list(world.cache.records()):
        if record["label"] == "a":
            world.cache.forget(key)

    await world.solve(b)

    assert world.ran == []


async def test_independent_vertices_run_at_the_same_time(world: World) -> None:
    world.seconds = 0.02
    target = world.add("join", *[world.add(f"s{i}") for i in range(8)])

    await world.solve(target)

    assert world.most == 8


async def test_what_a_copy_stands_on_is_made_while_its_source_is(world: World) -> None:
    world.seconds = 0.02
    chain = world.add("final", world.add("base"))
    deep = world.add("copy", world.add("middle"), Input(world.add("source"), all_of()))
    target = world.add("copy again", chain, Input(world.add("build", deep), all_of()))

    await world.solve(target)

    assert world.most >= 3
    assert world.ran.index("final") < world.ran.index("build")


async def test_a_copy_whose_source_is_cached_asks_for_nothing_else_though_others_work(world: World) -> None:
    below = world.add("below")
    copy = world.add("copy", below, Input(world.add("source"), all_of()))
    await world.solve(world.add("join", copy))
    for key, record in list(world.cache.records()):
        if record["label"] == "below":
            world.cache.forget(key)

    await world.solve(world.add("other join", copy, world.add("slow", world.add("work"))))

    assert world.ran == ["work", "slow", "other join"]


async def test_no_more_limited_ops_run_at_once_than_there_are_slots(world: World) -> None:
    world.seconds = 0.01
    target = world.add("join", *[world.add(f"s{i}", limited=True) for i in range(6)])

    await world.solve(target, slots=2)

    assert world.most == 2


async def test_a_diamond_runs_its_top_once(world: World) -> None:
    top = world.add("top")
    target = world.add("join", world.add("left", top), world.add("right", top))

    await world.solve(target)

    assert sorted(world.ran) == ["join", "left", "right", "top"]


async def test_an_unchanged_selection_is_a_hit_though_its_source_ran_again(world: World) -> None:
    source = world.add("source", no_cache=True)
    target = world.add("copy", Input(source, all_of()))
    await world.solve(target)

    await world.solve(target)

    assert world.ran == ["source"]


async def test_a_changed_selection_is_a_miss(world: World) -> None:
    context = world.add("context", keyed=False)
    target = world.add("run", world.add("copy", world.add("base"), Input(context, all_of())))
    await world.solve(target)
    world.contents["context"] = "other"

    await world.solve(target)

    assert world.ran == ["context", "copy", "run"]


async def test_no_cache_runs_all_that_is_built_on_it_and_renews_the_records(world: World) -> None:
    a = world.add("a")
    b = world.add("b", a)
    await world.solve(b)
    forced = World(world.cache, serial=world.serial)
    target = forced.add("b", forced.add("a", no_cache=True))

    renewed = await forced.solve(target)

    assert forced.ran == ["a", "b"]
    assert await world.solve(b) == renewed
    assert world.ran == []


async def test_vertices_with_the_same_key_run_once(world: World) -> None:
    world.seconds = 0.01
    one = world.add("one", keyed=False)
    two = world.add("two", keyed=False)
    base = world.add("base")
    copies = [world.add("copy", base, Input(source, all_of())) for source in (one, two)]
    target = world.add("join", *copies)

    await world.solve(target)

    assert world.ran.count("copy") == 1


# ── assumed content ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_source_whose_record_is_gone_is_not_made_again_for_who_has_one(world: World) -> None:
    target = world.add("copy", Input(world.add("source", world.add("base")), all_of()))
    first = await world.solve(target)
    world.forget("source", "base")

    assert await world.solve(target) == first

    assert world.ran == []
    assert sorted(world.names(Cached)) == ["base", "copy", "source"]


async def test_a_source_that_has_a_record_is_asked_and_not_its_past(world: World) -> None:
    source = world.add("source")
    target = world.add("copy", Input(source, all_of()))
    await world.solve(target)
    other = World(world.cache, contents={"source": "other"}, serial=7)
    await other.solve(other.add("source", no_cache=True))
    world.contents["source"] = "other"

    await world.solve(target)

    assert world.ran == ["copy"]


async def test_what_has_to_be_made_is_made_of_the_real_thing_where_an_assumption_does_not_hold(
    world: World,
) -> None:
    source = world.add("source")
    taken = world.add("taken", Input(source, all_of()))
    target = world.add("join", taken, world.add("also taken", Input(source, all_of("/other"))))
    await world.solve(target)
    world.forget("source", "also taken", "join")
    world.contents["source"] = "other"  # it is one that makes something else each time

    result = await world.solve(target)

    assert (world.ran[0], sorted(world.ran)) == ("source", ["also taken", "join", "source", "taken"])
    assert await world.solve(target) == result
    assert world.ran == []


async def test_what_was_taken_stays_where_the_source_is_made_again_and_gives_the_same(world: World) -> None:
    source = world.add("source")
    taken = world.add("taken", Input(source, all_of()))
    target = world.add("join", taken, world.add("also taken", Input(source, all_of("/other"))))
    await world.solve(target)
    world.forget("source", "also taken", "join")

    await world.solve(target)

    assert world.ran == ["source", "also taken", "join"]


async def test_nothing_is_assumed_of_what_must_run(world: World) -> None:
    target = world.add("copy", Input(world.add("source", no_cache=True), all_of()))
    await world.solve(target)
    world.forget("source")

    await world.solve(target)

    assert world.ran == ["source"]


# ── late keys ────────────────────────────────────────────────────────────────────────────────────────────


def chain(world: World, first: str) -> Digest:
    """`first` on a base, whose result is called `made` whatever `first` is, and two steps on that."""
    return world.add("last", world.add("next", world.add(first, world.add("base"))))


async def test_the_same_output_of_another_step_stops_the_rebuild(world: World) -> None:
    """The fake's digests of a whole look at the part of a layer's name before the dash."""
    first = await world.solve(chain(world, "made"), whole=True)

    second = await world.solve(chain(world, "made-otherwise"), whole=True)

    assert world.ran == ["made-otherwise"]
    assert second == first
    assert sorted(world.names(Cached)) == ["base", "last", "next"]


async def test_what_was_found_late_is_found_at_once_the_next_time(world: World) -> None:
    await world.solve(chain(world, "made"), whole=True)
    target = chain(world, "made-otherwise")
    await world.solve(target, whole=True)
    world.forget("made", "made-otherwise", "base")

    await world.solve(target, whole=True)

    assert world.ran == []


async def test_another_output_runs_all_that_is_built_on_it(world: World) -> None:
    await world.solve(chain(world, "made"), whole=True)

    await world.solve(chain(world, "other"), whole=True)

    assert world.ran == ["other", "next", "last"]


async def test_without_late_keys_the_same_output_stops_nothing(world: World) -> None:
    await world.solve(chain(world, "made"))

    await world.solve(chain(world, "made-otherwise"))

    assert world.ran == ["made-otherwise", "next", "last"]


async def test_who_must_run_runs_and_those_on_it_are_spared_where_it_gives_the_same(world: World) -> None:
    target = world.add("last", world.add("made", world.add("base")))
    first = await world.solve(target, whole=True)
    forced = World(world.cache, serial=world.serial)
    same = forced.add("last", forced.add("made", forced.add("base"), no_cache=True))

    assert await forced.solve(same, whole=True) == first
    assert forced.ran == ["made"]

    forced.contents["made"] = "other"
    renewed = await forced.solve(same, whole=True)
    assert forced.ran == ["made", "last"]
    assert await world.solve(target, whole=True) == renewed


async def test_two_steps_that_come_to_the_same_share_what_is_built_on_them(world: World) -> None:
    world.seconds = 0.01
    ends = [world.add("last", world.add(name, world.add("base"))) for name in ("made-1", "made-2", "made-3")]
    target = world.add("join", *ends)

    await world.solve(target, whole=True)

    assert world.ran.count("last") == 1
    assert world.names(Waiting) == []


async def test_two_processes_do_what_comes_to_the_same_once(world: World) -> None:
    other = World(Cache(world.cache.root, exists=lambda snapshot: True), seconds=0.15)
    targets = [w.add("last", w.add(f"made-{n}")) for n, w in enumerate((world, other))]
    world.seconds = 0.1

    results = await asyncio.gather(world.solve(targets[0], whole=True), other.solve(targets[1], whole=True))

    assert results[0] == results[1]
    assert sorted(world.ran + other.ran) == ["last", "made-0", "made-1"]


# ── records of elsewhere ─────────────────────────────────────────────────────────────────────────────────


async def test_a_record_that_is_elsewhere_is_taken_where_the_cache_has_none(world: World) -> None:
    target = world.add("b", world.add("a"))
    found = (LayerId("from afar"),)
    asked = []

    async def elsewhere(vertex: Any, key: Digest) -> Record | None:
        asked.append(vertex.op.name)
        return Record(found, 1.0, "b")

    assert await world.solve(target, elsewhere=elsewhere) == found

    assert (asked, world.ran) == (["b"], [])


async def test_what_was_taken_from_elsewhere_has_a_record_then(world: World) -> None:
    target = world.add("b", world.add("a"))

    async def elsewhere(vertex: Any, key: Digest) -> Record | None:
        return Record((LayerId("from afar"),), 1.0, "b")

    await world.solve(target, elsewhere=elsewhere)

    assert await world.solve(target) == (LayerId("from afar"),)
    assert world.ran == []


async def test_a_source_whose_content_is_told_need_not_be_made_where_its_user_is_elsewhere(
    world: World,
) -> None:
    source = world.add("source")
    target = world.add("copy", world.add("below"), Input(source, all_of()))
    await world.solve(target)
    known = {record["label"]: key for key, record in world.cache.records()}
    other = World(Cache(world.cache.root + "-other", exists=lambda snapshot: True), world.definition)
    asked: list[Digest] = []

    async def elsewhere(vertex: Any, key: Digest) -> Record | None:
        return Record((LayerId("copied"),), 1.0, "copy") if key == known["copy"] else None

    async def told(key: Digest, selection: Selection) -> Digest | None:
        asked.append(key)
        return await world.content(None, (LayerId("source-1"),), selection)

    found = await other.solve(target, elsewhere=elsewhere, told=told)

    assert (found, other.ran, asked) == ((LayerId("copied"),), [], [known["source"]])


async def test_content_that_is_told_falsely_is_found_out_before_anything_is_made_of_it(world: World) -> None:
    source = world.add("source")
    target = world.add("user", world.add("copy", world.add("below"), Input(source, all_of())))

    async def told(key: Digest, selection: Selection) -> Digest | None:
        return of_value("a lie")

    await world.solve(target, told=told)
    records = {record["label"]: key for key, record in world.cache.records()}
    honest = World(Cache(world.cache.root + "-other", exists=lambda snapshot: True), world.definition)
    await honest.solve(target)

    assert sorted(world.ran) == ["below", "copy", "source", "user"]
    assert records == {record["label"]: key for key, record in honest.cache.records()}


# ── failures and claims ──────────────────────────────────────────────────────────────────────────────────


async def test_a_failure_cancels_the_others_and_is_the_error_that_comes_out(world: World) -> None:
    slow = world.add("slow")
    bad = world.add("bad")
    target = world.add("join", slow, bad)
    world.failing.add("bad")
    original = world.run

    async def run(vertex: Any, inputs: Any) -> Snapshot:
        if vertex.op.name == "slow":
            await asyncio.sleep(60)
        return await original(vertex, inputs)

    solver = Solver(world.definition, world.cache, run, world.content, world.events.append, 4)
    with pytest.raises(BuildError, match="bad failed"):
        await solver.solve(target)

    assert {
        (world.definition[e.vertex].op.name, e.cancelled) for e in world.events if isinstance(e, Failed)
    } == {
        ("slow", True),
        ("bad", False),
    }


async def test_a_failed_vertex_leaves_no_record_and_no_claim(world: World) -> None:
    target = world.add("bad")
    world.failing.add("bad")
    with pytest.raises(BuildError):
        await world.solve(target)
    world.failing.clear()

    await world.solve(target)

    assert world.ran == ["bad"]


async def test_a_claim_of_another_process_is_waited_for_and_its_result_taken(world: World) -> None:
    target = world.add("a")
    other = World(Cache(world.cache.root, exists=lambda snapshot: True), seconds=0.15)
    other.add("a")

    results = await asyncio.gather(other.solve(target), _later(world, target))

    assert results[0] == results[1]
    assert (other.ran, world.ran) == (["a"], [])


async def test_what_another_process_makes_while_inputs_are_made_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = world.add("target", world.add("input"))
    await world.solve(target)
    ((key, record),) = [(k, world.cache.get(k)) for k, r in world.cache.records() if r["label"] == "target"]
    assert record is not None
    for other, _ in list(world.cache.records()):
        world.cache.forget(other)
    original = world.run

    async def run(vertex: Any, inputs: Any) -> Snapshot:
        if vertex.op.name == "input":  # target was looked up before it ran, and is claimed after it
            world.cache.put(key, record)
        return await original(vertex, inputs)

    monkeypatch.setattr(world, "run", run)

    assert await world.solve(target) == record.snapshot

    assert world.ran == ["input"]
    assert world.names(Cached) == ["target"]


async def _later(world: World, target: Digest) -> Snapshot:
    await asyncio.sleep(0.05)
    return await world.solve(target)


async def test_a_record_whose_layers_are_gone_is_a_miss(tmp_path: Any) -> None:
    there = True
    world = World(Cache(str(tmp_path), exists=lambda snapshot: there))
    target = world.add("a")
    await world.solve(target)
    there = False

    await world.solve(target)

    assert world.ran == ["a"]


async def test_a_damaged_record_is_a_miss(world: World, tmp_path: Any) -> None:
    target = world.add("a")
    await world.solve(target)
    for path in (tmp_path / "records").rglob("*"):
        if path.is_file():
            path.write_bytes(b'{"layers": 7')

    await world.solve(target)

    assert world.ran == ["a"]


async def test_a_record_of_another_boot_counts_only_when_promoted(world: World, tmp_path: Any) -> None:
    target = world.add("a")
    await world.solve(target)
    (key, _record), *_ = world.cache.records()
    later = Cache(str(tmp_path), exists=lambda snapshot: True)
    later.boot = "another boot"
    assert later.get(key) is None

    world.cache.promote(key)

    assert later.get(key) is not None


async def test_a_chain_of_three_thousand_builds_and_comes_back_warm(world: World) -> None:
    target = world.add("v0")
    for number in range(1, 3000):
        target = world.add(f"v{number}", target)
    await world.solve(target)
    assert len(world.names(Finished)) == 3000

    await world.solve(target)

    assert world.names(Started) == []
    assert len(world.names(Cached)) == 3000


def test_what_people_are_told_is_no_part_of_a_digest() -> None:
    one, two = Definition(), Definition()
    first = one.add(FakeOp("a"), (), About("a label", stage="x", no_cache=True))

    assert first == two.add(FakeOp("a"), (), About("another label"))


def test_a_vertex_cannot_come_before_its_inputs() -> None:
    with pytest.raises(KeyError):
        Definition().add(FakeOp("a"), (Input(of_value("nothing")),), About("a"))


async def test_what_several_targets_share_is_made_once(world: World) -> None:
    shared = world.add("shared", limited=True)
    targets = [world.add(name, shared) for name in ("amd64", "arm64")]
    solver = Solver(world.definition, world.cache, world.run, world.content, world.events.append, 16)

    results = await solver.solve_all(targets)

    assert sorted(world.ran) == ["amd64", "arm64", "shared"]
    assert [[layer.partition("-")[0] for layer in result] for result in results] == [
        ["shared", "amd64"],
        ["shared", "arm64"],
    ]


async def test_the_first_failure_of_one_target_ends_the_others(world: World) -> None:
    world.failing = {"bad"}
    targets = [world.add("bad"), world.add("after", world.add("slow"))]
    solver = Solver(world.definition, world.cache, world.run, world.content, world.events.append, 16)

    with pytest.raises(BuildError, match="bad failed"):
        await solver.solve_all(targets)

    assert "after" not in world.ran
