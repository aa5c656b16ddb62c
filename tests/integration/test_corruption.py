"""Damaged files of a store: detected or harmless, never a wrong image; and what fsck finds and mends.

A few trials, drawn by a seed; PYBUILD_CORRUPTIONS is how many. scripts/corrupt makes 500.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.support.contexts import lay, steps_run
from tests.support.corruptions import Trials
from tests.support.images import read_image
from tests.support.machine import Pybuild, needs, needs_root
from tests.support.storecheck import wrong_in

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

COUNT = int(os.environ.get("PYBUILD_CORRUPTIONS", "6"))
SEED = os.environ.get("PYBUILD_CORRUPTIONS_SEED", "1")
DOCKERFILE = "FROM busybox\nCOPY a /a\nRUN cat /a > /b\n"


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Trials:
    return Trials(tmp_path_factory.mktemp("corruptions"), busybox_seed)


@pytest.mark.parametrize("number", range(COUNT))
def test_damage_is_detected_or_harmless_and_repaired(trials: Trials, number: int) -> None:
    damage, came_of_it = trials.try_one(random.Random(f"{SEED}:{number}"))  # asserts on the way

    assert came_of_it, damage


@pytest.fixture
def app(pybuild: Pybuild, context: Path) -> Pybuild:
    lay(context, DOCKERFILE, {"a": "a" * 1000})
    pybuild("-t", "app:1", context)
    return pybuild


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file, and nothing that stat(2) tells but its ctime."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.write(data)
    path.chmod(status.st_mode & 0o7777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def findings(pybuild: Pybuild, *words: str) -> list[tuple[str, str]]:
    done = pybuild("fsck", "--format=json", *words, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == int(any(not row["Repaired"] for row in rows))
    return [(row["Kind"], row["Object"]) for row in rows]


def layer_blob(pybuild: Pybuild) -> Path:
    digest = read_image(pybuild.root, "app:1").manifest["layers"][-1]["digest"]
    return Path(pybuild.root, "blobs", digest.replace(":", "/"))


def test_a_sound_store_is_clean(app: Pybuild) -> None:
    done = app("fsck")

    assert done.stdout.startswith("checked ")
    assert done.stdout.endswith(": nothing is damaged\n")
    assert findings(app) == []


@pytest.mark.parametrize("kind", ["type=oci,dest={}", "type=docker,dest={}", "type=oci,tar=false,dest={}"])
def test_a_damaged_blob_never_leaves_the_store(
    app: Pybuild, context: Path, tmp_path: Path, kind: str
) -> None:
    blob = layer_blob(app)
    flip(blob)

    done = app("build", "-t", "app:1", "-o", kind.format(tmp_path / "out"), context, check=False)

    assert (done.returncode, "is damaged" in done.stderr) == (1, True), done.stderr
    assert "it was removed" in done.stderr
    assert not blob.exists()
    app("build", "-t", "app:1", context)
    assert blob.exists()
    assert wrong_in(app.root) == []


def test_fsck_tells_what_it_would_do_and_does_nothing_unasked(app: Pybuild) -> None:
    blob = layer_blob(app)
    flip(blob)

    told = app("fsck", check=False)

    assert told.returncode == 1
    assert f"blob blobs/sha256/{blob.name}: its bytes are not what its digest says" in told.stdout
    assert "image index.json app:1: " in told.stdout
    assert "--repair" in told.stdout
    assert blob.exists()


def test_after_a_repair_the_next_build_makes_what_was_lost(app: Pybuild, context: Path) -> None:
    before = read_image(app.root, "app:1").diff_ids
    flip(layer_blob(app))

    mended = app("fsck", "--repair")

    assert mended.stdout.endswith(": 2 findings, all repaired\n")
    assert findings(app) == []
    assert steps_run(app, context, "-t", "app:1") == []  # the folder of the layer is still there
    assert read_image(app.root, "app:1").diff_ids == before
    assert wrong_in(app.root) == []


def test_a_damaged_file_of_a_folder_that_steps_run_on_is_found_and_made_again(
    app: Pybuild, context: Path
) -> None:
    """No build looks at it: that would be to hash the whole base for each step."""
    (file,) = app.root.glob("layers/*/tree/a")
    flip(file)
    assert steps_run(app, context, "-t", "app:2") == []

    (found,) = findings(app, "--repair")

    assert found == ("layer", str(file.parent.relative_to(app.root)))
    lay(context, DOCKERFILE + "RUN cat /a > /c\n", {"a": "a" * 1000})
    steps_run(app, context, "-t", "app:3")
    assert read_image(app.root, "app:3").text("c") == "a" * 1000


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.json", "names"), ("oci-layout", "store"), ("VERSION", "store"),
        ("cache/pulled.json", "references"),
    ],
)  # fmt: skip
def test_the_store_s_own_files_are_mended(app: Pybuild, context: Path, path: str, kind: str) -> None:
    before = read_image(app.root, "app:1").digest
    (app.root / path).write_bytes(b"{")

    assert findings(app) == [(kind, path)]
    assert findings(app, "--repair") == [(kind, path)]

    assert findings(app) == []
    assert read_image(app.root, "app:1").digest == before
    assert steps_run(app, context, "-t", "app:1") == []


def test_a_name_that_was_changed_by_damage_is_given_back(app: Pybuild) -> None:
    index = app.root / "index.json"
    index.write_text(index.read_text().replace("app:1", "apq:1"))

    assert findings(app, "--repair")

    assert "app" in app("images").stdout.split()


def test_names_that_another_tool_gave_are_no_damage_to_a_sound_image(app: Pybuild) -> None:
    app("tag", "app:1", "app:2")

    assert findings(app) == []


def test_fsck_where_there_is_no_store_says_so(tmp_path: Path) -> None:
    done = Pybuild(tmp_path / "none")("fsck", check=False)

    assert done.returncode == 1
    assert "there is no store in" in done.stderr
    assert not (tmp_path / "none").exists()
    assert Pybuild(tmp_path)("fsck", "x", check=False).returncode == 2


def test_a_damaged_base_is_dropped_by_the_build_that_meets_it_and_the_next_one_says_what_is_missing(
    app: Pybuild, context: Path
) -> None:
    base = read_image(app.root, "busybox:latest").manifest["layers"][0]["digest"]
    pruned = app("prune", "--force", "--all")
    flip(Path(app.root, "blobs", base.replace(":", "/")), 5000)

    first = app("build", "-t", "app:2", context, check=False)

    assert pruned.returncode == 0
    assert (first.returncode, "is damaged" in first.stderr, "it was removed" in first.stderr) == (
        1,
        True,
        True,
    )
    assert findings(app, "--repair")
    assert findings(app) == []
