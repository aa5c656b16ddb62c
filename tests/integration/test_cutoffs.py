"""Where a rebuild stops: at content that is the same, whoever made it again. Runs are counted in a cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import needs, needs_root
from tests.support.web import Answer, Repository, Web
from tests.support.workshop import Workshop, finish

pytestmark = [pytest.mark.root, needs_root()]

CACHE = "--mount=type=cache,target=/c"
IMAGE = "docker.io/library/busybox:latest"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "repositories").running() as web:
        yield web


def count(name: str, then: str = "true") -> str:
    """A RUN whose runs are counted under `name`."""
    return f"RUN {CACHE} echo {name} >> /c/ran; {then}\n"


def counted(workshop: Workshop, name: str) -> int:
    files = (workshop.root / "cache/mounts").glob("*/ran")
    return sum(file.read_text().split().count(name) for file in files)


# ── who selects content ──────────────────────────────────────────────────────────────────────────────────

MADE = f"FROM busybox AS made\nCOPY src /src\n{count('made', 'grep -v ^# /src/code > /out')}"
CONSUMERS = {
    "COPY --from": "FROM busybox\nCOPY --from=made /out /out\n" + count("above"),
    "COPY --from --link": "FROM busybox\nCOPY --link --from=made /out /out\n" + count("above"),
    "bind mount": "FROM busybox\n" + count("above").replace(
        "RUN", "RUN --mount=from=made,source=/out,target=/out"
    ),
    "cache mount that begins with it": "FROM busybox\n" + count("above").replace(
        "RUN", "RUN --mount=type=cache,id=x,from=made,source=/etc,target=/x"
    ),
    "stage above a stage": (
        "FROM busybox AS middle\nCOPY --from=made /out /out\nFROM middle\n" + count("above")
    ),
}  # fmt: skip


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_who_selects_what_is_the_same_does_not_run_again(workshop: Workshop, consumer: str) -> None:
    workshop.write("src/code", "# a comment\ncode\n")
    first = workshop.build(dockerfile=MADE + CONSUMERS[consumer])

    workshop.write("src/code", "# another\ncode\n")
    second = workshop.build()

    assert (counted(workshop, "made"), counted(workshop, "above")) == (2, 1)
    assert second.digest == first.digest


@pytest.mark.parametrize("consumer", [name for name in CONSUMERS if "cache" not in name])
def test_who_selects_what_has_changed_runs_again(workshop: Workshop, consumer: str) -> None:
    workshop.write("src/code", "# a comment\ncode\n")
    workshop.build(dockerfile=MADE + CONSUMERS[consumer])

    workshop.write("src/code", "# a comment\nother code\n")
    workshop.build()

    assert (counted(workshop, "made"), counted(workshop, "above")) == (2, 2)


@pytest.mark.parametrize("flag", ["source=/tool,", ""])
def test_an_image_whose_digest_has_changed_counts_by_the_files_that_are_mounted(
    workshop: Workshop, flag: str
) -> None:
    tools = workshop.folder / "tools"
    tools.write_text("FROM busybox\nCOPY tool /tool\n")
    workshop.write("tool", "a tool")
    text = "FROM busybox\n" + count("above").replace("RUN", f"RUN --mount=from=tools:1,{flag}target=/t")
    workshop.build("-f", tools, "-t", "tools:1")
    workshop.build(dockerfile=text)

    workshop.build("-f", tools, "-t", "tools:1", "--label", "another=image")
    workshop.build(dockerfile=text)
    assert counted(workshop, "above") == 1

    workshop.write("tool", "another tool")
    workshop.build("-f", tools, "-t", "tools:1")
    workshop.build(dockerfile=text)
    assert counted(workshop, "above") == 2


def test_a_copy_from_an_image_whose_digest_has_changed_is_spared_too(workshop: Workshop) -> None:
    tools = workshop.folder / "tools"
    tools.write_text("FROM busybox\nCOPY tool /tool\nCOPY other /other\n")
    workshop.write("tool", "a tool")
    workshop.write("other", "something")
    text = "FROM busybox\nCOPY --from=tools:1 /tool /t\n" + count("above")
    workshop.build("-f", tools, "-t", "tools:1")
    first = workshop.build(dockerfile=text)

    workshop.write("other", "something else")
    workshop.build("-f", tools, "-t", "tools:1")

    assert workshop.build(dockerfile=text).digest == first.digest
    assert counted(workshop, "above") == 1


@needs("git")
def test_a_commit_that_changed_what_is_not_taken_runs_nothing(workshop: Workshop, web: Web) -> None:
    repository = Repository(web, workshop.folder / "work")
    repository.commit({"taken/file": "one", "other/file": "one"})
    text = f"FROM busybox\nADD {repository.url}#main:taken /taken\n" + count("above")
    workshop.build(dockerfile=text)

    repository.commit({"other/file": "two"})
    workshop.build()
    assert counted(workshop, "above") == 1

    repository.commit({"taken/file": "two"})
    workshop.build()
    assert counted(workshop, "above") == 2


def test_a_file_of_the_web_that_was_written_anew_and_is_the_same_runs_nothing(
    workshop: Workshop, web: Web
) -> None:
    def give(text: bytes, day: int) -> None:
        when = f"Wed, {day} Nov 2023 00:00:00 GMT"
        web.answers["/file"] = Answer(text, headers={"Last-Modified": when, "ETag": f'"{day}"'})

    give(b"one", 15)
    workshop.build(dockerfile=f"FROM busybox\nADD {web.url}/file /file\n" + count("above"))

    give(b"one", 16)
    workshop.build()
    assert counted(workshop, "above") == 1

    give(b"two", 16)
    workshop.build()
    assert counted(workshop, "above") == 1  # by the server's word it is the same

    give(b"two", 17)
    workshop.build()
    assert counted(workshop, "above") == 2


def test_a_stage_whose_records_are_gone_is_not_built_again_for_what_was_taken_from_it(
    workshop: Workshop,
) -> None:
    text = f"FROM busybox AS made\n{count('made', 'echo x > /out')}FROM busybox\nCOPY --from=made /out /\n"
    first = workshop.build(dockerfile=text)
    for record in (workshop.root / "cache/records").glob("*/*"):
        if "RUN" in record.read_text():
            record.unlink()

    again = workshop.build("--label", "a=b")  # so that it is no build of which all is remembered
    workshop.build()

    assert counted(workshop, "made") == 1
    assert len({first.digest, again.digest}) == 2


# ── equal output: --reproducible ─────────────────────────────────────────────────────────────────────────


def two_steps(first: str) -> str:
    """A step whose source is bound, so that what it was made of is in no layer; and one on it."""
    bound = "--mount=type=bind,source=src,target=/src"
    return "FROM busybox\n" + count("first", first).replace("RUN", f"RUN {bound}") + count("above")


SAME = {
    "files": "cat /src/code > /out",
    "nothing": "cat /src/code",
    "folders": "mkdir -p /a/b/c; touch /a/b/x; rm /a/b/x",
    "a symlink": "ln -s /etc/hosts /link",
    "hard links": "echo x > /one; ln /one /two; ln /one /three",
    "modes and owners": "echo x > /out; chmod 4711 /out; chown 7:8 /out; chown -h 5:6 /out",
    "whiteouts": "rm /etc/group; rm -r /home; mkdir /home",
    "a fifo and a device": "mkfifo /fifo; mknod /null c 1 3",
    "a file written twice": "echo y > /out; sleep 0.01; echo x > /out",
    "an old time": "echo x > /out; touch -d '1970-02-03 04:05:06' /out",
}


@pytest.mark.parametrize("what", SAME)
def test_a_step_of_the_same_output_stops_the_rebuild(workshop: Workshop, what: str) -> None:
    workshop.write("src/code", "code")
    workshop.write("src/other", "one")
    first = workshop.build("--reproducible", dockerfile=two_steps(SAME[what]))

    workshop.write("src/other", "two")
    second = workshop.build("--reproducible")
    third = workshop.build("--reproducible")

    assert (counted(workshop, "first"), counted(workshop, "above")) == (2, 1)
    assert first.digest == second.digest == third.digest
    assert third.ran == []


OTHER = {
    "a byte": "cp /src/other /out",
    "a mode": "echo x > /out; chmod $(cat /src/mode) /out",
    "the mode of a folder": "mkdir /out; chmod $(cat /src/mode) /out",
    "an owner": "echo x > /out; chown $(cat /src/owner) /out",
    "the owner of a symlink": "ln -s x /out; chown -h $(cat /src/owner) /out",
    "a symlink's target": "ln -s $(cat /src/other) /out",
    "a name": "echo x > /$(cat /src/other)",
    "a time of its own": "echo x > /out; touch -d \"1970-01-0$(cat /src/day) 00:00:00\" /out",
    "a hard link or not": "echo x > /a; if grep -q one /src/other; then ln /a /b; else cp /a /b; fi",
    "what is gone": "rm /etc/$(grep -q one /src/other && echo group || echo passwd)",
    "a folder that is new, or what was in it": "rm -r /home; grep -q one /src/other && mkdir /home; true",
    "a device": "mknod /dev0 c 1 $(cat /src/day)",
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER)
def test_another_output_stops_nothing(workshop: Workshop, what: str) -> None:
    sources = {"other": "one two", "mode": "600 640", "owner": "1:0 0:1", "day": "3 4"}
    for name, values in sources.items():
        workshop.write(f"src/{name}", values.split()[0])
    workshop.build("--reproducible", dockerfile=two_steps(OTHER[what]))

    for name, values in sources.items():
        workshop.write(f"src/{name}", values.split()[1])
    changed = workshop.build("--reproducible")

    assert (counted(workshop, "first"), counted(workshop, "above")) == (2, 2)
    assert changed.digest == workshop.build("--reproducible", "--no-cache").digest


def test_two_stores_come_to_the_same_image(workshop: Workshop) -> None:
    workshop.write("src/code", "code")
    text = two_steps("cat /src/code > /out; mkdir -p /x/y") + "WORKDIR /srv/app\nCOPY src /copied\n"
    text += "COPY <<END /heredoc\nx\nEND\nRUN mkdir /srv/app/z; echo $RANDOM > /dev/null\n"
    first = workshop.build("--reproducible", dockerfile=text)

    for path in (workshop.context / "src/code", workshop.context / "src"):
        path.touch()
    second = workshop.build("--reproducible", "--no-cache")

    assert second.digest == first.digest


def test_the_time_that_is_asked_for_is_that_of_the_files(workshop: Workshop) -> None:
    look = "RUN stat -c '%n=%Y' /out /old /home\n"
    text = "FROM busybox\nRUN echo x > /out; touch -d @99 /old; touch /home/new\n" + look

    given = workshop.build("--reproducible", dockerfile=text, env={"SOURCE_DATE_EPOCH": "1700000000"})
    default = workshop.build("--reproducible")
    plain = workshop.build()

    assert "/out=1700000000" in given.err
    assert "/old=99" in given.err
    assert "/home=1700000000" in given.err
    assert "/out=315532800" in default.err
    assert "/out=1700000000" not in plain.err
    assert "/out=315532800" not in plain.err


def test_a_time_yet_to_come_is_everybodys_too(workshop: Workshop) -> None:
    text = "FROM busybox\nRUN echo x > /out\nRUN stat -c '%n=%Y' /out\n"

    outcome = workshop.build("--reproducible", dockerfile=text, env={"SOURCE_DATE_EPOCH": "7700000000"})

    assert "/out=7700000000" in outcome.err


def test_builds_with_and_without_the_flag_take_nothing_from_each_other(workshop: Workshop) -> None:
    text = "FROM busybox\n" + count("first", "echo x > /out") + count("above")
    plain = workshop.build(dockerfile=text)

    exact = workshop.build("--reproducible")
    assert (counted(workshop, "first"), counted(workshop, "above")) == (2, 2)

    assert workshop.build().digest == plain.digest
    assert workshop.build("--reproducible").digest == exact.digest
    assert counted(workshop, "first") == 2


def test_a_filter_runs_its_stage_and_spares_what_stands_on_it_if_that_is_the_same(workshop: Workshop) -> None:
    text = "FROM busybox AS one\n" + count("first", "echo x > /out") + "FROM one\n" + count("above")
    workshop.build("--reproducible", dockerfile=text)

    workshop.build("--reproducible", "--no-cache-filter", "one")

    assert (counted(workshop, "first"), counted(workshop, "above")) == (2, 1)


def test_a_base_whose_filesystem_is_the_same_stops_the_rebuild(workshop: Workshop) -> None:
    base = workshop.folder / "base"
    base.write_text("FROM busybox\nRUN echo base > /base\n")
    workshop.build("-f", base, "-t", "base:1")
    text = "FROM base:1\n" + count("above")
    workshop.build("--reproducible", dockerfile=text)

    workshop.build("-f", base, "-t", "base:1", "--label", "another=image")
    workshop.build("--reproducible", dockerfile=text)

    assert counted(workshop, "above") == 1


# ── equal work ───────────────────────────────────────────────────────────────────────────────────────────


def test_equal_steps_of_several_stages_and_processes_run_once(workshop: Workshop) -> None:
    same = count("same", "sleep 0.2; echo same > /same")
    stages = [f"FROM busybox AS s{number}\n{same}RUN echo {number} > /own\n" for number in range(3)]
    copies = [f"COPY --from=s{number} /own /own{number}\n" for number in range(3)]
    workshop.dockerfile("".join([*stages, "FROM scratch\n", *copies]))

    builds = [workshop.start(workshop.context) for _ in range(3)]

    assert [finish(build).status for build in builds] == [0, 0, 0]
    assert counted(workshop, "same") == 1


def test_steps_on_equal_output_run_once_whoever_made_that(workshop: Workshop) -> None:
    stages = [
        f"FROM busybox AS s{number}\nRUN echo {number}; echo same > /same\n{count('above', 'echo x > /own')}"
        for number in range(3)
    ]
    copies = [f"COPY --from=s{number} /own /own{number}\n" for number in range(3)]

    workshop.build("--reproducible", dockerfile="".join([*stages, "FROM scratch\n", *copies]))

    assert counted(workshop, "above") == 1
