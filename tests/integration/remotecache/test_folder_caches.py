"""--cache-to and --cache-from with folders: what is in them, who writes at once, who is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine import needs, needs_root, run
from tests.support.remotecaches import CacheFolder, Machine, steps_of, warnings_of
from tests.support.slowregistry import slow_registry
from tests.support.workshop import finish, stop

pytestmark = [pytest.mark.root, needs_root()]

Make = Callable[[str], Machine]

MOUNTS = """\
FROM busybox
RUN --mount=type=cache,id=pkg,target=/pkg echo x >> /pkg/log
RUN --mount=type=cache,id=own,target=/own,uid=7,mode=0700,sharing=locked mkdir -p /own/d && ln -sf a /own/d/b
"""


@pytest.fixture
def folder(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache")


def test_a_folder_is_an_image_layout_with_a_tag_for_each_cache(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    to, source = f"type=local,dest={folder.folder}", f"type=local,src={folder.folder}"
    here.app("--cache-to", f"{to},tag=one", "--cache-to", f"{to},tag=two,mode=max,compression=zstd")

    assert there.app("--cache-from", f"{source},tag=one").ran == []
    other = machine("other")
    digest = folder.index["manifests"][1]["digest"]
    assert other.app("--cache-from", f"{source},digest={digest}").ran == []
    (told,) = warnings_of(machine("last").app("--cache-from", f"{source},tag=three"))
    assert "no image tagged three" in told
    names = [row["annotations"]["org.opencontainers.image.ref.name"] for row in folder.index["manifests"]]
    assert names == ["one", "two"]


@needs("skopeo")
def test_other_tools_can_copy_it(machine: Make, folder: CacheFolder, tmp_path: Path) -> None:
    machine("here").app("--cache-to", f"type=local,dest={folder.folder},mode=max")

    run(["skopeo", "copy", f"oci:{folder.folder}:latest", f"oci:{tmp_path}/copy:latest"])

    assert machine("there").app("--cache-from", f"type=local,src={tmp_path}/copy").ran == []


def test_an_unchanged_cache_is_not_written_again(machine: Make, folder: CacheFolder) -> None:
    here = machine("here")
    to = f"type=local,dest={folder.folder},mode=max"
    here.app("--cache-to", to)
    before = {path: path.stat().st_ino for path in folder.path("").iterdir() if path.stat().st_size > 2000}

    here.app("--cache-to", to)

    assert {path: path.stat().st_ino for path in before} == before


def test_reset_removes_what_no_tag_needs(machine: Make, folder: CacheFolder) -> None:
    here = machine("here")
    here.app("--cache-to", f"type=local,dest={folder.folder},mode=max", "--cache-to",
             f"type=local,dest={folder.folder},tag=kept")  # fmt: skip
    large = max(
        folder.path("").iterdir(), key=lambda path: (path.stat().st_size < 1 << 20, path.stat().st_size)
    )
    assert large.stat().st_size > 300_000
    folder.path("somebody's").write_text("notes")
    folder.path(f"{'a' * 64}.12-ab.part").write_text("half")

    here.app("--cache-to", f"type=local,dest={folder.folder},reset=true")

    assert not large.exists()
    assert [path.name for path in folder.path("").iterdir() if len(path.name) != 64] == ["somebody's"]
    for tag in ("kept", "latest"):
        source = f"type=local,src={folder.folder},tag={tag}"
        assert machine(tag).app("--cache-from", source).ran == []


def test_what_stands_in_the_way_is_one_message(machine: Make, folder: CacheFolder) -> None:
    here = machine("here")
    folder.folder.write_text("a file")

    failed = here.fail("--cache-to", f"type=local,dest={folder.folder}")

    assert failed.message == f"exporting cache to {folder.folder} failed: not a directory"


def test_a_store_is_no_place_for_a_cache(machine: Make) -> None:
    here = machine("here")

    failed = here.fail("-t", "app", "--cache-to", f"type=local,dest={here.root},reset=true")

    assert failed.message == f"exporting cache to {here.root} failed: the folder is a store of pybuild"
    assert here.app().ran == []


def test_two_builds_at_once_keep_each_others_tags(machine: Make, folder: CacheFolder) -> None:
    machines = [machine(f"m{number}") for number in range(2)]
    for number, one in enumerate(machines):
        one.dockerfile(f"FROM busybox\nRUN echo {number} > /n\n")
    started = [
        one.start("--cache-to", f"type=local,dest={folder.folder},tag=t{number}", one.context)
        for number, one in enumerate(machines)
    ]
    assert [finish(process).status for process in started] == [0, 0]

    for number, one in enumerate(machines):
        taker = machine(f"taker{number}")
        taker.dockerfile((one.context / "Dockerfile").read_text())
        assert taker.build("--cache-from", f"type=local,src={folder.folder},tag=t{number}").ran == []


def test_two_builds_of_a_store_take_the_same_at_once(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    made = here.app("--cache-to", f"type=local,dest={folder.folder}")

    words = ["-t", "app", "--cache-from", f"type=local,src={folder.folder}", there.context]
    outcomes = [finish(process) for process in [there.start(*words) for _ in range(3)]]

    assert [(one.status, one.digest, one.ran) for one in outcomes] == [(0, made.digest, [])] * 3
    there.check_clean()


@pytest.mark.parametrize("delay", [0.3, 0.5])
def test_a_build_that_is_killed_leaves_a_cache_and_a_store_that_work(
    machine: Make, folder: CacheFolder, delay: float
) -> None:
    here, there = machine("here"), machine("there")
    words = [f"type=local,dest={folder.folder},mode=max"]
    here.app("--cache-to", *words)
    for one, flag in ((here, "--cache-to"), (there, "--cache-from")):
        one.write("src/a", "later\n")
        value = words[0] if flag == "--cache-to" else f"type=local,src={folder.folder}"
        process = one.start("-t", "app", flag, value, one.context)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    taken = there.app("--cache-from", f"type=local,src={folder.folder}")

    assert warnings_of(taken) == []
    assert "RUN mkdir /out" not in " ".join(steps_of(taken))
    there.check_usable()


def test_layers_that_only_their_index_tells_right_stay_here(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    dockerfile = "FROM busybox\nRUN echo 1 > /one\nRUN echo x > /.wh.one\nRUN echo 3 > /three\n"
    here.build(dockerfile=dockerfile, *["--cache-to", f"type=local,dest={folder.folder},mode=max"])  # noqa: B026

    taken = there.build(dockerfile=dockerfile, *["--cache-from", f"type=local,src={folder.folder}"])  # noqa: B026

    assert steps_of(taken) == ["RUN echo x > /.wh.one", "RUN echo 3 > /three"]


# ── cache mounts ─────────────────────────────────────────────────────────────────────────────────────────


def mounted(machine: Machine) -> list[Path]:
    """The folders of cache mounts."""
    return [path for path in (machine.root / "cache/mounts").iterdir() if path.is_dir()]


def logged(machine: Machine) -> str:
    (found,) = [path / "log" for path in mounted(machine) if (path / "log").exists()]
    return found.read_text()


def test_cache_mounts_go_along_by_id(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    here.build(dockerfile=MOUNTS)
    here.build("--no-cache", "--cache-to", f"type=local,dest={folder.folder},mounts=pkg,mounts=own")
    assert logged(here) == "x\nx\n"
    there.dockerfile(MOUNTS)

    source = f"type=local,src={folder.folder},mounts=pkg,digest={folder.manifest_digest}"
    there.build("--no-cache", "--cache-from", source)

    assert logged(there) == "x\nx\nx\n"
    (own,) = [path for path in mounted(there) if not (path / "log").exists()]
    assert (own.stat().st_uid, own.stat().st_mode & 0o777) == (7, 0o700)

    there.build("--no-cache", "--cache-from", source)  # what is there stays
    assert logged(there) == "x\nx\nx\nx\n"


def test_a_cache_mount_comes_with_its_owner_and_links(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    here.build("--cache-to", f"type=local,dest={folder.folder},mounts=own", dockerfile=MOUNTS)
    there.dockerfile(MOUNTS.replace("mkdir -p /own/d && ", "ls -l /own/d && "))

    source = f"type=local,src={folder.folder},mounts=own,trust-mounts=true"
    taken = there.build("--no-cache", "--cache-from", source)

    assert "b -> a" in taken.err


def test_no_cache_mount_goes_or_comes_unasked(machine: Make, folder: CacheFolder) -> None:
    here, there, third = machine("here"), machine("there"), machine("third")
    here.build("--cache-to", f"type=local,dest={folder.folder},mode=max", dockerfile=MOUNTS)
    assert "mounts" not in folder.document
    here.build("--cache-to", f"type=local,dest={folder.folder},mounts=pkg")
    for one in (there, third):
        one.dockerfile(MOUNTS)

    there.build("--no-cache", "--cache-from", f"type=local,src={folder.folder}")
    third.build(
        "--no-cache", "--cache-from", f"type=local,src={folder.folder},mounts=other,trust-mounts=true"
    )

    assert (logged(there), logged(third)) == ("x\n", "x\n")


def test_a_step_that_does_not_run_needs_no_cache_mount(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    here.build("--cache-to", f"type=local,dest={folder.folder},mounts=pkg", dockerfile=MOUNTS)

    source = f"type=local,src={folder.folder},mounts=pkg,trust-mounts=true"
    taken = there.build("--cache-from", source, dockerfile=MOUNTS)

    assert taken.ran == []
    assert not (there.root / "cache/mounts").exists()


def test_a_cache_mount_is_packed_while_no_step_has_it(machine: Make, folder: CacheFolder) -> None:
    here = machine("here")
    here.build(dockerfile=MOUNTS)
    other = here.folder / "other"
    other.mkdir()
    step = "touch /pkg/begun && sleep 1.5 && touch /pkg/late"
    (other / "Dockerfile").write_text(f"FROM busybox\nRUN --mount=type=cache,id=pkg,target=/pkg {step}\n")
    process = here.start(other)
    here.wait_until(lambda: any((path / "begun").exists() for path in mounted(here)))

    here.build("--cache-to", f"type=local,dest={folder.folder},mounts=pkg")

    assert finish(process).status == 0
    archive = folder.manifest["layers"][folder.document["mounts"][0][2]]["digest"]
    names = run(["tar", "-tzf", folder.path(archive)]).stdout.split()
    assert sorted(names) == ["begun", "late", "log"]


def test_a_cache_mount_that_is_too_large_stays(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    dockerfile = (
        "FROM busybox\nRUN --mount=type=cache,id=pkg,target=/p "
        "echo had $(ls /p); head -c 100000 /dev/zero > /p/large\n"
    )
    to = f"type=local,dest={folder.folder},mounts=pkg,mounts=none"
    told = warnings_of(here.build("--cache-to", f"{to},mounts-max=50k", dockerfile=dockerfile))
    assert sorted(told) == [
        f"cache to {folder.folder}: cache mount pkg stays here: it has 100000 bytes, and may have 51200",
        f"cache to {folder.folder}: no step has a cache mount none that could go along",
    ]
    here.build("--cache-to", f"type=local,dest={folder.folder},mounts=pkg")
    there.dockerfile(dockerfile)

    source = f"type=local,src={folder.folder},mounts=pkg,trust-mounts=true,mounts-max=50k"
    taken = there.build("--no-cache", "--cache-from", source)

    assert "had large" not in taken.err
    assert "more than" in warnings_of(taken)[0]


def test_late_keys_travel_too(machine: Make, folder: CacheFolder) -> None:
    here, there = machine("here"), machine("there")
    dockerfile = "FROM busybox\nRUN echo a > /a\nRUN date +%s%N > /b\n"
    to, source = f"type=local,dest={folder.folder},mode=max", f"type=local,src={folder.folder}"
    here.build("--reproducible", "--cache-to", to, dockerfile=dockerfile)

    words = ["--reproducible", "--cache-from", source]
    taken = there.build(*words, dockerfile=dockerfile.replace("> /a", "> /a # the same"))

    assert steps_of(taken) == ["RUN echo a > /a # the same"]


# ── on the way ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_waits_for_a_cache_can_be_interrupted(
    machine: Make, folder: CacheFolder, number: signal.Signals
) -> None:
    here, there = machine("here"), machine("there")
    here.app("--cache-to", f"type=local,dest={folder.folder},mode=max")
    there.write("src/a", "changed\n")
    with slow_registry(folder.folder, folder.manifest_digest) as registry:
        process = there.start("--cache-from", f"{registry.host}/app:cache", there.context)
        there.wait_until(registry.trickling.is_set)
        outcome = stop(process, number, seconds=60)

    assert outcome.status in (130, 143)
    there.check_clean()
    there.check_usable()
