"""du, prune, and builds that make room: what goes, what stays, and what is said of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from builder.digest import of_bytes
from builder.errors import StoreError
from builder.room import facts as room_facts
from builder.room import removal
from builder.room.rules import Rule, choose
from builder.solver.cache import Cache
from builder.store.root import open_store
from tests.support.contexts import lay, steps_run
from tests.support.images import read_image
from tests.support.machine import Pybuild, needs, needs_root
from tests.support.storecheck import wrong_in
from tests.support.workshop import Workshop

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

DOCKERFILE = """\
FROM busybox AS made
RUN --mount=type=cache,target=/c,id=things echo kept > /c/x; head -c 300000 /dev/zero > /big
FROM busybox
COPY a /a
COPY --from=made /big /big
RUN echo made > /made
"""


@pytest.fixture
def app(pybuild: Pybuild, context: Path) -> Pybuild:
    lay(context, DOCKERFILE, {"a": "a" * 1000})
    pybuild("-t", "app:1", context)
    return pybuild


def items(pybuild: Pybuild, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pybuild("du", "--format=json", *words).stdout.splitlines()]


def pruned(pybuild: Pybuild, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pybuild("prune", "-f", "--format=json", *words).stdout.splitlines()]


def test_du_is_a_table_with_buildx_s_columns_and_sums(app: Pybuild) -> None:
    lines = app("du").stdout.splitlines()

    assert lines[0].split("   ")[0] == "ID"
    assert lines[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert [line.partition(":")[0] for line in lines[-4:]] == ["Shared", "Private", "Reclaimable", "Total"]
    assert any(
        re.fullmatch(r"[a-z2-7]{16} +true +[\d.]+ kB\* +less than a minute ago", line) for line in lines
    )


def test_du_as_objects_has_buildx_s_names(app: Pybuild) -> None:
    (mount,) = items(app, "--filter", "type=exec.cachemount")
    layers = items(app, "--filter", "type=regular")

    assert set(mount) == {
        "CreatedAt", "Description", "ID", "LastUsedAt", "Mutable", "Parents", "Reclaimable", "Shared", "Size",
        "Type", "UsageCount",
    }  # fmt: skip
    assert mount["Description"] == "cache mount things"
    assert (mount["Mutable"], mount["Shared"], mount["Reclaimable"]) == (True, False, True)
    told = {layer["Description"]: layer for layer in layers}
    assert any("RUN echo made" in text for text in told)
    private = next(layer for text, layer in told.items() if "id=things" in text)
    assert int(private["Size"]) > 300000
    assert not private["Shared"]


def test_du_in_full_and_as_buildx_s_pretty(app: Pybuild) -> None:
    pretty = app("du", "--verbose").stdout

    assert app("du", "--format=pretty").stdout == pretty
    assert re.search(r"^Description:\tcache mount things$", pretty, re.MULTILINE)
    assert "Usage count:" in pretty
    refused = app("du", "--verbose", "--format=json", check=False)
    assert (refused.returncode, "cannot be used together" in refused.stderr) == (2, True)


def test_what_du_tells_is_what_the_disk_tells(app: Pybuild) -> None:
    """No layer is doubled: no second copy of a blob's or a folder's bytes, and no hidden link."""
    total = sum(int(i["Size"]) for i in items(app) if i["Type"] != "internal")
    on_disk = 0
    for top in ("blobs", "layers", "cache/mounts", "cache/stat"):
        for folder, folders, names in os.walk(app.root / top):
            for name in (*folders, *names):
                status = os.lstat(os.path.join(folder, name))
                assert status.st_nlink == 1 or name in folders or "tree" in folder
                on_disk += status.st_blocks * 512
    assert abs(total - on_disk) < 0.2 * on_disk


def test_prune_leaves_what_an_image_with_a_name_needs(app: Pybuild, context: Path) -> None:
    before = read_image(app.root, "app:1")

    removed = pruned(app)

    assert any("id=things" in item["Description"] for item in removed)
    assert any(item["Type"] == "exec.cachemount" for item in removed)
    assert {item["Reason"] for item in removed} <= {"asked for", "nothing refers to it"}
    assert read_image(app.root, "app:1").digest == before.digest
    assert wrong_in(app.root) == []
    assert steps_run(app, context, "-t", "app:1") == []


def test_prune_all_leaves_the_images_with_names_alone(app: Pybuild, context: Path) -> None:
    before = read_image(app.root, "app:1")

    pruned(app, "--all")

    assert list((app.root / "layers").iterdir()) == []
    records = [json.loads(path.read_bytes()) for path in (app.root / "cache/records").rglob("?" * 64)]
    assert not [record for record in records if record["layers"]]
    assert read_image(app.root, "app:1").text("made") == "made\n"
    assert wrong_in(app.root) == []
    app("-t", "app:2", context)
    assert read_image(app.root, "app:2").diff_ids[:1] == before.diff_ids[:1]
    assert wrong_in(app.root) == []


def test_prune_by_filter_takes_nothing_else(app: Pybuild) -> None:
    removed = pruned(app, "--filter", "type=exec.cachemount")

    assert [item["Type"] for item in removed] == ["exec.cachemount"]
    assert pruned(app, "--filter", "until=1h") == []
    assert pruned(app, "--filter", "id=nothing") == []
    assert items(app, "--filter", "type=exec.cachemount") == []


def test_prune_to_a_bound_takes_the_least_recently_used(app: Pybuild, context: Path) -> None:
    for record in (app.root / "cache/records").rglob("?" * 64):
        os.utime(record, (1000, 1000))
    lay(context, "FROM busybox\nRUN echo later > /later; head -c 200000 /dev/zero > /more\n")
    app("-t", "later", context)
    layers = {i["ID"] for i in items(app, "--filter", "type=regular") if "later" in i["Description"]}

    removed = pruned(app, "--max-used-space", "2mb")

    assert removed
    assert not layers & {item["ID"] for item in removed if item["Form"] == "all"}
    assert "may have" in removed[0]["Reason"]
    assert wrong_in(app.root) == []
    assert pruned(app, "--min-free-space", "1") == []


def test_a_folder_that_was_dropped_is_made_again(app: Pybuild, context: Path) -> None:
    removed = pruned(app, "--max-used-space", "10kb", "--filter", "shared")
    assert {item["Form"] for item in removed} == {"tree"}
    assert len(list((app.root / "layers").glob("*/tree"))) == 1  # of what no image with a name has
    lay(context, DOCKERFILE + "RUN cat /made /a > /both\n", {"a": "a" * 1000})

    assert len(steps_run(app, context, "-t", "app:2")) == 1

    assert read_image(app.root, "app:2").text("both").startswith("made\naaa")
    assert wrong_in(app.root) == []


def test_prune_asks_and_does_nothing_without_an_answer(app: Pybuild) -> None:
    before = items(app)
    for answer, status in ((b"n\n", 0), (b"", 2), (b"what\n", 0)):
        done = app("prune", stdin=answer, check=False)
        assert done.returncode == status, done.stderr
        assert done.stdout == ""
    assert [i["ID"] for i in items(app)] == [i["ID"] for i in before]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["du", "x"], "takes no words"), (["prune", "x"], "takes no words"),
        (["du", "--filter", "x=y"], "no key 'x'"),
        (["prune", "-f", "--max-used-space", "lots"], "not a size"),
        (["du", "--format={{.ID}}"], "templates"),
        (["prune", "--filter", "until=x", "-f"], "not a duration"),
    ],
)  # fmt: skip
def test_bad_usage_is_told(pybuild: Pybuild, words: list[str], message: str) -> None:
    done = pybuild(*words, check=False)

    assert done.returncode == 2
    assert message in done.stderr


def test_a_build_that_stores_too_much_makes_room_and_says_so(
    app: Pybuild, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(context, "FROM busybox\nRUN head -c 4000000 /dev/zero > /old\n")
    app("-t", "old", context)
    app("rmi", "old")
    config = tmp_path / "config.toml"
    config.write_text('[gc]\nmax-used-space = "1.5mb"\nreserved-space = 1\nmin-free-space = 0\n')
    monkeypatch.setenv("PYBUILD_CONFIG", str(config))
    lay(context, DOCKERFILE + "RUN echo more > /more\n", {"a": "a" * 1000})

    done = app("--progress=plain", "-t", "app:2", context)

    assert re.search(
        r"^room: \d+ items?, [\d.]+ .B, (was|were) removed: the cache had", done.stderr, re.MULTILINE
    )
    assert done.stderr.splitlines()[-1].startswith("built app:2 ")
    assert wrong_in(app.root) == []
    assert read_image(app.root, "app:1").text("made") == read_image(app.root, "app:2").text("made")
    assert read_image(app.root, "app:2").text("more") == "more\n"
    events = max(app.root.glob("builds/*/events.jsonl"), key=os.path.getmtime).read_text().splitlines()
    told = [event for event in map(json.loads, events) if event["event"] == "removed"]
    assert told
    assert {event["reason"] for event in told} <= {"max-used", "unreferenced"}


def test_a_small_build_counts_nothing_once_it_was_counted(app: Pybuild, context: Path) -> None:
    noted = (app.root / "cache/room").read_text()
    lay(context, DOCKERFILE + "RUN echo more > /more\n", {"a": "a" * 1000})

    app("-t", "app:2", context)

    after = (app.root / "cache/room").read_text()
    assert after.startswith(noted)
    assert after[len(noted) :].strip().isdigit()
    steps_run(app, context, "-t", "app:3")
    assert (app.root / "cache/room").read_text() == after


def test_a_wrong_configuration_is_a_warning_and_never_a_failed_build(
    app: Pybuild, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[gc]\nsize = 1\n")
    monkeypatch.setenv("PYBUILD_CONFIG", str(config))
    lay(context, "FROM busybox\nRUN echo more > /more\n")

    whole = app("--progress=plain", "-t", "app:2", context)
    cached = app("--progress=plain", "-t", "app:2", context)

    assert "all 2 steps cached" not in whole.stderr
    assert "all 2 steps cached" in cached.stderr
    for done in (whole, cached):
        assert done.stderr.count("gc.size is not known") == 1


def test_a_use_from_the_cache_keeps_things_young(app: Pybuild, context: Path) -> None:
    records = list((app.root / "cache/records").rglob("?" * 64))
    for record in records:
        os.utime(record, (1000, 1000))

    steps_run(app, context, "-t", "app:1")

    old = [r for r in records if r.stat().st_mtime < time.time() - 1000]
    assert len(old) < len(records) / 2
    labels = [json.loads(record.read_bytes())["label"] for record in old]
    assert not any("id=things" in label for label in labels)


def test_prune_beside_builds_takes_nothing_that_they_need(workshop: Workshop) -> None:
    """Builds that use, and make, what prune would take: none fails, and all images are right."""
    workshop.write("f", "f")
    one, two = "echo 1 > /one; sleep 0.3", "cat /one /f > /two; sleep 0.3"
    workshop.dockerfile(f"FROM busybox\nCOPY f /f\nRUN {one}\nRUN {two}\nRUN cat /two\n")
    building = [workshop.start("-t", f"app:{n}", "--no-cache", workshop.context) for n in range(3)]

    while any(process.poll() is None for process in building):
        done = subprocess.run(
            [*workshop.command()[:3], "prune", "-f", "--all", "--root", str(workshop.root)],
            env=workshop.environment(), cwd=workshop.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    for number, process in enumerate(building):
        _, err = process.communicate()
        assert process.returncode == 0, err
        assert read_image(workshop.root, f"app:{number}").text("two") == "1\nf"
    assert wrong_in(workshop.root) == []


@pytest.mark.parametrize("kind", ["models", "images"])
def test_prune_leaves_what_a_build_is_about_to_rename(
    pybuild: Pybuild, context: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lay(context, "FROM scratch\nCOPY Dockerfile /\n")
    pybuild("-t", "app:1", context)
    cache = Cache(str(pybuild.root / "cache"), lambda _: True)
    rename = os.rename

    def prune_first(old: str, new: str) -> None:
        assert pruned(pybuild, "--all")
        rename(old, new)

    monkeypatch.setattr(os, "rename", prune_first)
    cache.remember(kind, of_bytes(b"name"), "text")

    assert cache.recall(kind, of_bytes(b"name")) == "text"


def test_a_failed_step_that_is_kept_stays_until_everything_is_to_go(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo a > /a\nRUN echo b > /b; false\n")
    pybuild("-t", "app:1", context, check=False)

    assert not any(item["Type"] == "failed" for item in pruned(pybuild))
    assert pybuild("debug", "--", "cat", "/a", "/b").stdout == "a\nb\n"

    assert any(item["Type"] == "failed" for item in pruned(pybuild, "--all"))
    assert pybuild("debug", "--list").stdout.count("\n") == 1
    pruned(pybuild, "--all")
    assert not list((pybuild.root / "layers").iterdir())


def test_what_dead_builds_left_is_swept(app: Pybuild) -> None:
    claim = app.root / "cache/claims" / ("a" * 64)
    claim.touch()
    layer = next((app.root / "layers").iterdir())
    leftovers = [
        app.root / "cache/pulled.json.999999999-0123456789ab.part",
        app.root / "cache/records/ab" / ("ab" * 32 + ".999999999.01234567"),
        layer / "blob.json.999999999-0123456789ab.part",
    ]
    for path in leftovers:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    dead = app.root / "cache/diffs" / ("c" * 64)
    dead.symlink_to("a" * 16)
    fresh = app.root / "cache/pulled.json.999999999-ba9876543210.part"
    fresh.touch()
    subprocess.run(
        ["sh", "-c", 'for f; do touch -d @1000 "$f"; done', "sh", *map(str, leftovers)], check=True
    )

    swept = app("prune", "-f", "--filter", "id=nothing")

    assert not claim.exists()
    assert not dead.is_symlink()
    assert "swept" in swept.stderr
    assert fresh.exists()


def test_prune_works_on_a_full_disk(app: Pybuild, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder to rename things into can be made, they are removed in their places."""
    store = open_store(app.root)

    def full(_root: str) -> None:
        raise StoreError("no space left on the device", code="disk-full")

    monkeypatch.setattr(removal, "IngestFolder", full)
    before = room_facts.read(store)

    outcome = removal.remove(store, lambda world: choose(world, Rule(), time.time()), {})

    assert outcome.removals
    assert room_facts.read(store).total < before.total
    assert wrong_in(app.root) == []
