"""What runs and what does not, seen from the command line; and that secrets are in none of it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from tests.support.machine import needs_root
from tests.support.workshop import Outcome, Workshop

pytestmark = [pytest.mark.root, needs_root()]

CACHE = "--mount=type=cache,target=/c"


def ran(outcome: Outcome) -> list[str]:
    """The instructions that were done, in their order of appearance, without the numbers before them."""
    return sorted(line.partition("] ")[2] for line in outcome.ran if not line.endswith("load build context"))


def test_a_second_build_runs_nothing_and_is_the_same_image(workshop: Workshop) -> None:
    workshop.write("a", "a")
    first = workshop.build(
        "-t", "one:1", dockerfile="FROM busybox\nCOPY a /\nRUN cat /a > /b\nWORKDIR /srv\n"
    )

    second = workshop.build("-t", "two:1")

    assert ran(first) == [
        "COPY a /",
        "FROM docker.io/library/busybox:latest",
        "RUN cat /a > /b",
        "WORKDIR /srv",
    ]
    assert ran(second) == []
    assert second.digest == first.digest
    assert "all 4 steps cached" in second.err


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────


def test_stages_that_the_target_does_not_reach_are_not_built(workshop: Workshop) -> None:
    text = (
        "FROM busybox AS unused\nRUN exit 1\nFROM nowhere.invalid/x AS unreachable\nRUN exit 1\n"
        "FROM busybox AS wanted\nRUN echo wanted\nFROM unused AS last\nRUN exit 1\n"
    )

    outcome = workshop.build("--target", "wanted", dockerfile=text)

    assert ran(outcome) == ["FROM docker.io/library/busybox:latest", "RUN echo wanted"]


def test_stages_run_at_the_same_time(workshop: Workshop) -> None:
    """Each stage waits until all have come: one after the other, they would wait for ever."""
    meet = f"RUN {CACHE} touch /c/$ME; until [ $(ls /c | wc -l) = 5 ]; do sleep 0.02; done; echo $ME > /$ME\n"
    stages = [f"FROM busybox AS s{number}\nENV ME={number}\n{meet}" for number in range(4)]
    copies = [f"COPY --from=s{number} /{number} /\n" for number in range(4)]

    workshop.build(dockerfile="".join([*stages, f"FROM busybox\nENV ME=4\n{meet}", *copies]))


def test_no_more_steps_run_at_once_than_jobs_allow(workshop: Workshop) -> None:
    alone = f"RUN {CACHE} mkdir /c/alone || exit 9; sleep 0.1; rmdir /c/alone; echo $ME > /$ME\n"
    stages = [f"FROM busybox AS s{number}\nENV ME={number}\n{alone}" for number in range(3)]
    copies = [f"COPY --from=s{number} /{number} /\n" for number in range(3)]

    workshop.build("--jobs", "1", dockerfile="".join([*stages, "FROM scratch\n", *copies]))


def test_equal_steps_of_several_stages_run_once(workshop: Workshop) -> None:
    count = f"RUN {CACHE} echo ran >> /c/ran; echo same > /same\n"
    stages = [f"FROM busybox AS s{number}\n{count}RUN echo {number} > /own\n" for number in range(3)]
    copies = [f"COPY --from=s{number} /own /own{number}\n" for number in range(3)]

    workshop.build(dockerfile="".join([*stages, "FROM scratch\n", *copies]))

    assert counted(workshop) == ["ran"]


def counted(workshop: Workshop) -> list[str]:
    files = list((workshop.root / "cache/mounts").glob("*/ran"))
    return sorted(line for file in files for line in file.read_text().splitlines())


# ── what a COPY depends on ───────────────────────────────────────────────────────────────────────────────


def test_a_copy_is_known_by_the_content_that_it_selects(workshop: Workshop) -> None:
    workshop.write("src/main.c", "int main;")
    workshop.write("notes", "old")
    workshop.build(dockerfile="FROM busybox\nCOPY src /src\nRUN echo made\n")

    workshop.write("notes", "new")
    workshop.write("more/notes", "new")
    os.utime(workshop.context / "src/main.c", (1, 1))
    os.utime(workshop.context / "src", (1, 1))
    unrelated = workshop.build()
    (workshop.context / "src/main.c").unlink()
    workshop.write("src/main.c", "int main;")
    written_anew = workshop.build()
    workshop.write("src/main.c", "int Main;")
    changed = workshop.build()
    (workshop.context / "src/main.c").chmod(0o755)
    made_executable = workshop.build()

    assert [ran(unrelated), ran(written_anew)] == [[], []]
    assert ran(changed) == ran(made_executable) == ["COPY src /src", "RUN echo made"]


def test_a_copy_of_the_dockerfile_notices_no_change_of_what_is_not_in_the_context(workshop: Workshop) -> None:
    workshop.write(".dockerignore", "*.log\n")
    workshop.write("a", "a")
    workshop.build(dockerfile="FROM busybox\nCOPY . /all\n")

    workshop.write("x.log", "x")
    ignored = workshop.build()
    workshop.write("b", "b")
    more = workshop.build()

    assert (ran(ignored), ran(more)) == ([], ["COPY . /all"])


def test_a_copy_from_a_stage_is_spared_where_that_stage_made_the_same(workshop: Workshop) -> None:
    text = (
        "FROM busybox AS made\nCOPY src /src\nRUN grep -v '^#' /src/code > /out; cat /src/code > /other\n"
        "FROM busybox\nCOPY --from=made /out /out\nRUN cat /out\n"
    )
    workshop.write("src/code", "# a comment\ncode\n")
    first = workshop.build(dockerfile=text)

    workshop.write("src/code", "# another\ncode\n")
    second = workshop.build()
    workshop.write("src/code", "# another\nother code\n")
    third = workshop.build()

    made = ["COPY src /src", "RUN grep -v '^#' /src/code > /out; cat /src/code > /other"]
    assert ran(second) == made
    assert second.digest == first.digest
    assert ran(third) == sorted([*made, "COPY --from=made /out /out", "RUN cat /out"])


# ── what makes a step run again ──────────────────────────────────────────────────────────────────────────

COUNTED = (
    f"FROM busybox AS one\nRUN {CACHE} echo one >> /c/ran; cat /proc/sys/kernel/random/uuid > /one\n"
    f"RUN {CACHE} echo built-on-one >> /c/ran\n"
    f"FROM busybox AS two\nRUN {CACHE} echo two >> /c/ran\n"
    "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /etc/group /\n"
)


def test_no_cache_runs_everything_and_what_it_makes_is_kept(workshop: Workshop) -> None:
    workshop.build(dockerfile=COUNTED)
    workshop.build("--no-cache")
    assert counted(workshop) == ["built-on-one"] * 2 + ["one"] * 2 + ["two"] * 2

    again = workshop.build("--no-cache")
    kept = workshop.build()

    assert ran(kept) == []
    assert kept.digest == again.digest


def test_no_cache_filter_runs_the_stages_that_it_names(workshop: Workshop) -> None:
    workshop.build(dockerfile=COUNTED)

    workshop.build("--no-cache-filter", "one")

    assert counted(workshop) == ["built-on-one"] * 2 + ["one"] * 2 + ["two"]


def test_a_build_arg_counts_from_where_it_is_declared(workshop: Workshop) -> None:
    text = "FROM busybox\nRUN echo before\nARG V=1\nRUN echo after $V\nRUN echo last\n"
    workshop.build(dockerfile=text)

    same = workshop.build("--build-arg", "V=1")
    other = workshop.build("--build-arg", "V=2")
    unused = workshop.build("--build-arg", "OTHER=2")

    assert (ran(same), ran(unused)) == ([], [])
    assert ran(other) == ["RUN echo after $V", "RUN echo last"]


def test_an_arg_that_a_copy_does_not_use_does_not_make_it_run(workshop: Workshop) -> None:
    workshop.write("a", "a")
    workshop.build(dockerfile="FROM busybox\nARG V=1\nCOPY a /\nLABEL v=$V\n")

    other = workshop.build("--build-arg", "V=2")

    assert ran(other) == []


def test_what_only_the_image_is_told_of_runs_nothing(workshop: Workshop) -> None:
    first = workshop.build(dockerfile='FROM busybox\nRUN echo made > /it\nCMD ["a"]\n')

    second = workshop.build(
        "--label", "x=y", dockerfile='FROM busybox\nRUN echo made > /it\nCMD ["b"]\nEXPOSE 1\n'
    )

    assert ran(second) == []
    assert second.digest != first.digest


def test_an_earlier_state_is_a_hit_again(workshop: Workshop) -> None:
    workshop.write("a", "one")
    first = workshop.build(dockerfile="FROM busybox\nCOPY a /\nRUN cat /a > /b\n")
    workshop.write("a", "two")
    workshop.build()

    workshop.write("a", "one")
    back = workshop.build()

    assert (ran(back), back.digest) == ([], first.digest)


def test_the_place_of_a_context_does_not_count(workshop: Workshop) -> None:
    workshop.write("a", "a")
    first = workshop.build(dockerfile="FROM busybox\nCOPY a /\nRUN cat /a\n")
    workshop.context.rename(workshop.folder / "elsewhere")

    workshop.context = workshop.folder / "elsewhere"
    second = workshop.build()

    assert (ran(second), second.digest) == ([], first.digest)


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "correct-horse-battery-staple-4723"


def test_a_secret_is_in_no_key_and_nowhere_in_the_store(workshop: Workshop) -> None:
    key = workshop.folder / "key"
    key.write_text(SECRET)
    text = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=key,required=true grep -q horse /run/secrets/key && "
        "cat /run/secrets/key | md5sum > /seen\n"
        "RUN --mount=type=secret,id=key,target=/root/.netrc,mode=0440,uid=7 stat -c '%a %u' /root/.netrc\n"
        "RUN --mount=type=secret,id=word,env=WORD test ${#WORD} -gt 20\n"
    )
    flags = ["--secret", f"id=key,src={key}", "--secret", "id=word,env=PASS"]
    first = workshop.build(*flags, "-t", "made:1", dockerfile=text, env={"PASS": SECRET})

    key.write_text("another " + SECRET)
    second = workshop.build(*flags, env={"PASS": "another " + SECRET})

    assert "440 7" in first.err
    assert ran(second) == []
    assert second.digest == first.digest
    assert places_of(SECRET.encode(), workshop.root) == []
    assert places_of(SECRET.encode(), workshop.context) == []


def test_a_secret_of_a_step_that_fails_is_nowhere_either(workshop: Workshop) -> None:
    key = workshop.folder / "key"
    key.write_text(SECRET)
    text = "FROM busybox\nRUN --mount=type=secret,id=key cp /run/secrets/key /tmp/copy; exit 1\n"

    outcome = workshop.fail("--secret", f"id=key,src={key}", dockerfile=text)

    assert SECRET not in outcome.err
    assert places_of(SECRET.encode(), workshop.root) == []


def test_a_build_arg_of_the_record_is_named_and_not_told(workshop: Workshop) -> None:
    workshop.build("--build-arg", f"TOKEN={SECRET}", dockerfile="FROM busybox\nARG TOKEN\nRUN echo made\n")

    requests = [json.loads(path.read_bytes()) for path in workshop.root.glob("builds/*/request.json")]

    assert any(request["build_args"] == ["TOKEN"] for request in requests)
    assert not any(SECRET in json.dumps(request) for request in requests)


def places_of(needle: bytes, folder: Path) -> list[str]:
    """The files, names and links below a folder that hold the bytes, compressed or not."""
    found = []
    for path in folder.rglob("*"):
        if needle in os.fsencode(path):
            found.append(str(path))
        elif path.is_symlink():
            if needle in os.fsencode(os.readlink(path)):
                found.append(str(path))
        elif path.is_file():
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data += gzip.decompress(data)
            if needle in data:
                found.append(str(path))
    return found
