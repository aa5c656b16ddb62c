"""Several builds on one store at the same time: equal work is done once, and nobody gets in another's way."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.machine import needs_root
from tests.support.workshop import Outcome, Workshop, find_process, finish, stop

pytestmark = [pytest.mark.root, needs_root()]

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
# Each run of a step adds a line to a file of a cache, which outlives the build.
COUNT = "--mount=type=cache,target=/count"
SHARED = f"""
FROM busybox AS one
RUN {COUNT} echo one >> /count/ran; sleep 0.2; echo one > /one
FROM busybox AS two
COPY files /files
RUN {COUNT} echo two >> /count/ran; sleep 0.2; cat /files/* > /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
RUN {COUNT} echo three >> /count/ran; sleep 0.1; cat /one /two > /three
"""


def counted(workshop: Workshop, name: str = "ran") -> list[str]:
    """The lines of a file in the only cache of the store."""
    files = list((workshop.root / "cache/mounts").glob(f"*/{name}"))
    return sorted(line for file in files for line in file.read_text().splitlines())


def run_all(workshop: Workshop, commands: Sequence[Sequence[str | Path]]) -> list[Outcome]:
    """Run builds at the same time, which must all go well."""
    processes = [workshop.start(*words, env=EPOCH) for words in commands]
    outcomes = [finish(process) for process in processes]
    for outcome in outcomes:
        assert outcome.status == 0, outcome.err
    workshop.check_clean()
    return outcomes


def make_files(workshop: Workshop) -> None:
    for number in range(30):
        workshop.write(f"files/{number}", f"{number}\n" * 100)


def test_equal_builds_do_equal_work_once(workshop: Workshop) -> None:
    make_files(workshop)
    workshop.dockerfile(SHARED)

    outcomes = run_all(workshop, [["-t", f"made:{number}", workshop.context] for number in range(4)])

    assert counted(workshop) == ["one", "three", "two"]
    assert len({outcome.digest for outcome in outcomes}) == 1
    digest = outcomes[0].digest
    assert {f"made:{number}": digest for number in range(4)}.items() <= workshop.names().items()
    assert workshop.build("-t", "made:5", env=EPOCH).digest == digest
    assert counted(workshop) == ["one", "three", "two"]


def test_equal_builds_from_a_store_that_has_to_be_made(
    empty_workshop: Workshop, busybox_layout: Path
) -> None:
    workshop = empty_workshop
    make_files(workshop)
    workshop.dockerfile(SHARED)
    base = ["--build-context", f"busybox=oci-layout://{busybox_layout}"]

    outcomes = run_all(workshop, [[*base, workshop.context] for _ in range(4)])

    assert counted(workshop) == ["one", "three", "two"]
    assert len({outcome.digest for outcome in outcomes}) == 1


def test_what_different_builds_have_in_common_is_done_once(workshop: Workshop) -> None:
    common = f"FROM busybox\nRUN {COUNT} echo common >> /count/ran; sleep 0.3\n"
    commands = []
    for number in range(4):
        name = workshop.folder / f"Dockerfile.{number}"
        name.write_text(f"{common}RUN {COUNT} echo {number} >> /count/ran\nENV NUMBER={number}\n")
        commands.append(["-f", name, "-t", f"made:{number}", workshop.context])

    outcomes = run_all(workshop, commands)

    assert counted(workshop) == ["0", "1", "2", "3", "common"]
    assert len({outcome.digest for outcome in outcomes}) == 4
    assert len(workshop.names()) == 5


def test_builds_without_cache_do_not_wait_for_each_other(workshop: Workshop) -> None:
    """Each runs the step: they meet in the middle of it, or never end."""
    workshop.dockerfile(
        "FROM busybox\n"
        f"RUN {COUNT} echo met >> /count/ran; until [ $(wc -l < /count/ran) = 2 ]; do sleep 0.02; done\n"
    )

    run_all(workshop, [["--no-cache", workshop.context] for _ in range(2)])

    assert counted(workshop) == ["met", "met"]


def test_who_waits_for_a_build_that_fails_does_the_work_itself(workshop: Workshop) -> None:
    workshop.dockerfile(
        f"FROM busybox\nRUN {COUNT} echo ran >> /count/ran; times=$(wc -l < /count/ran); "
        "until test -e /count/go; do sleep 0.02; done; test $times = 2\n"
    )
    first = workshop.start(workshop.context)
    workshop.wait_until(lambda: counted(workshop) == ["ran"])
    second = workshop.start(workshop.context)
    workshop.wait_until(lambda: any('"waiting"' in path.read_text() for path in events(workshop)))
    cache = next(path.parent for path in (workshop.root / "cache/mounts").glob("*/ran"))

    (cache / "go").touch()

    assert finish(first).status == 1
    assert finish(second).status == 0
    assert counted(workshop) == ["ran", "ran"]
    workshop.check_clean()


def events(workshop: Workshop) -> list[Path]:
    return list(workshop.root.glob("builds/*/events.jsonl"))


def test_one_that_is_killed_does_not_hold_up_the_others(workshop: Workshop) -> None:
    workshop.dockerfile(
        f"FROM busybox\nRUN {COUNT} echo ran >> /count/ran; test $(wc -l < /count/ran) = 2 || sleep 4721.5\n"
    )
    first = workshop.start(workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4721.5") and counted(workshop) == ["ran"])
    others = [workshop.start(workshop.context, env=EPOCH) for _ in range(3)]
    workshop.wait_until(lambda: sum('"waiting"' in path.read_text() for path in events(workshop)) == 3)

    first.kill()
    first.communicate()
    outcomes = [finish(process) for process in others]

    assert [outcome.status for outcome in outcomes] == [0, 0, 0]
    assert len({outcome.digest for outcome in outcomes}) == 1
    assert counted(workshop) == ["ran", "ran"]
    workshop.check_usable()


# mkdir fails where somebody else is at work.
HELD = (
    "RUN --mount=type=cache,target=/c,sharing=locked "
    "mkdir /c/held || exit 9; echo $WHO >> /c/ran; sleep 0.1; rmdir /c/held\n"
)


def test_a_locked_cache_is_held_by_one_step_at_a_time(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nARG WHO\n" + HELD)

    run_all(workshop, [["--build-arg", f"WHO={number}", workshop.context] for number in range(4)])

    assert counted(workshop) == ["0", "1", "2", "3"]


def test_a_locked_cache_is_held_by_one_step_at_a_time_in_one_build_too(workshop: Workshop) -> None:
    stages = [f"FROM busybox AS s{number}\nENV WHO={number}\n{HELD}" for number in range(4)]
    copies = [f"COPY --from=s{number} /etc/group /g{number}\n" for number in range(4)]

    workshop.build(dockerfile="".join([*stages, "FROM scratch\n", *copies]))

    assert counted(workshop) == ["0", "1", "2", "3"]


def test_a_private_cache_is_another_one_for_each_who_comes_meanwhile(workshop: Workshop) -> None:
    """A step of each build waits until the other one runs: were it one folder, it would see its file."""
    workshop.dockerfile(
        "FROM busybox\nARG WHO\n"
        "RUN --mount=type=cache,target=/c,sharing=private --mount=type=cache,target=/met,id=met \\\n"
        "    test ! -e /c/here || exit 9; touch /c/here; touch /met/$WHO; \\\n"
        "    until [ $(ls /met | wc -l) = 2 ]; do sleep 0.02; done\n"
    )

    run_all(workshop, [["--build-arg", f"WHO={number}", workshop.context] for number in range(2)])


def test_names_given_at_the_same_time_are_all_there(workshop: Workshop) -> None:
    commands = []
    for number in range(6):
        folder = workshop.folder / f"context{number}"
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY Dockerfile /\nLABEL number={number}\n")
        commands.append(["-t", f"made:{number}", "-t", "last:1", folder])

    outcomes = run_all(workshop, commands)

    names = workshop.names()
    assert [names[f"made:{number}"] for number in range(6)] == [outcome.digest for outcome in outcomes]
    assert names["last:1"] in {outcome.digest for outcome in outcomes}


def test_a_stopped_build_does_not_disturb_the_one_beside_it(workshop: Workshop) -> None:
    """Above all, sweeping and cleaning up keeps to what is one's own."""
    make_files(workshop)
    workshop.dockerfile(
        f"FROM busybox\nCOPY files /files\nRUN {COUNT} touch /count/on; sleep 1; cat /files/*\n"
    )
    (workshop.folder / "other").write_text("FROM busybox\nRUN sleep 4722.5\n")
    stopped = workshop.start("-f", workshop.folder / "other", workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4722.5"))
    beside = workshop.start(workshop.context)
    workshop.wait_until(lambda: list((workshop.root / "cache/mounts").glob("*/on")))

    assert stop(stopped, signal.SIGINT, 60).status == 130
    third = workshop.run("-f", os.devnull, workshop.context)  # comes, sweeps, fails

    assert third.status == 1
    assert finish(beside).status == 0
    workshop.check_clean()
