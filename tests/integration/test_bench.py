"""`pybuild bench` as a user types it, with a package manager that only sleeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import CHECKOUT, FIXTURES, Pybuild, needs_root
from tests.support.processes import running

pytestmark = [pytest.mark.root, needs_root()]

PIP = "#!/bin/sh\nsleep 0.6\ncat requirements.txt > /installed\n"
GOOD = (
    "FROM pip:1\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
    "COPY src src\nRUN cp -r src /built\n"
)
BAD = "FROM pip:1\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\nRUN cp -r src /built\n"


@pytest.fixture
def project(pybuild: Pybuild, tmp_path: Path) -> Path:
    """A context, and a base image with `pip`."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "pip").write_text(PIP)
    (base / "pip").chmod(0o755)
    (base / "Dockerfile").write_text("FROM busybox\nCOPY pip /bin/pip\n")
    pybuild.build(base, "-t", "pip:1")
    folder = tmp_path / "project"
    for path in ("src/pkg/a.py", "src/b.py", "docs/x", ".git/HEAD", "requirements.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"# {path}\n")
    (folder / ".dockerignore").write_text(".git\n")
    (folder / "Dockerfile").write_text(BAD)
    return folder


def bench(pybuild: Pybuild, *words: str | os.PathLike[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pybuild("bench", "--format=json", *words).stdout)
    return found


def cases(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in found["cases"]}


def look(folder: Path) -> list[tuple[object, ...]]:
    """All that anybody can tell of a folder."""
    found = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        found.append(
            (path, status.st_mode, status.st_ino, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns)
        )
    return found  # fmt: skip


def kept(root: Path) -> list[str]:
    """What a store keeps for later builds."""
    return sorted(
        str(p.relative_to(root)) for kind in ("cache", "layers", "blobs") for p in (root / kind).rglob("*")
    )


def test_a_better_order_is_told_and_was_tried(pybuild: Pybuild, project: Path) -> None:
    before = look(project)

    found = bench(pybuild, project)

    told = cases(found)
    assert told["cold"]["hitRate"] == 0
    assert (told["unchanged"]["ran"], told["unchanged"]["hitRate"]) == (0, 1)
    assert [run["line"] for run in told["src/"]["ranAgain"]] == [3, 4, 5]
    (tried,) = [case for name, case in told.items() if name.startswith("proposed order: ")]
    assert [run["line"] for run in tried["ranAgain"]] == [5, 6]
    assert found["ignored"] == [".git/"]
    (suggestion,) = found["suggestions"]
    assert suggestion["lines"] == [3, 4]
    assert {saving["part"] for saving in suggestion["savings"]} == {"docs/", "src/"}
    assert all(saving["before"] - saving["after"] > 0.5 for saving in suggestion["savings"])
    assert found["proposed"] == (
        "FROM pip:1\nWORKDIR /app\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . .\n"
        "RUN cp -r src /built\n"
    )
    assert any("holds the same" in note for note in found["notes"])
    assert any("Dockerfile run up to" in note for note in found["notes"])
    assert look(project) == before


def test_a_good_order_is_left_as_it_is_and_the_store_too(pybuild: Pybuild, project: Path) -> None:
    (project / "Dockerfile").write_text(GOOD)
    before = kept(pybuild.root)

    found = bench(pybuild, project)

    told = cases(found)
    assert (found["suggestions"], found["proposed"]) == ([], None)
    assert [run["line"] for run in told["src/"]["ranAgain"]] == [5, 6]
    assert told["docs/"]["ran"] == 0
    assert told["requirements.txt"]["ran"] == 4
    assert [path for path in kept(pybuild.root) if path not in before and "grammar" not in path] == []
    assert list((pybuild.root / "ingest").iterdir()) == []


def test_a_project_of_many_stages(pybuild: Pybuild) -> None:
    """What the parts' stages make of a line more is the same, so nobody who takes from them runs again."""
    found = bench(pybuild, FIXTURES / "many-stages")

    told = cases(found)
    assert (told["unchanged"]["ran"], told["cold"]["ran"]) == (0, told["cold"]["steps"])
    assert 0 < told["parts/"]["ran"] < told["cold"]["steps"]
    assert told["Dockerfile"]["ran"] == 0


def test_the_table_the_bars_and_the_plot(pybuild: Pybuild, project: Path, tmp_path: Path) -> None:
    (project / "<&> odd").write_text("x")

    done = pybuild("bench", "--rounds=2", "--parts=3", f"--plot={tmp_path}/plot.svg", project)

    assert "CASE" in done.stdout.splitlines()[0]
    assert "line 3 `COPY . .` stands before line 4" in done.stdout
    assert "left out by the ignore file: .git/" in done.stdout
    assert done.stderr.count("cold:") == 2
    texts = [e.text for e in ElementTree.parse(tmp_path / "plot.svg").iter() if e.tag.endswith("text")]
    assert {"cold", "unchanged", "src/", "<&> odd"} <= set(texts)


def test_a_dry_run_builds_nothing_and_tells_the_times_of_earlier_builds(
    pybuild: Pybuild, project: Path
) -> None:
    before = bench(pybuild, "--dry-run", project)
    assert all(case["predicted"] for case in before["cases"])
    assert cases(before)["src/"]["ran"] == 3
    assert any("5 of 5 steps have none" in note for note in before["notes"])
    pybuild.build(project)

    after = bench(pybuild, "--dry-run", project)

    assert cases(after)["src/"]["seconds"] > 0.5
    assert after["suggestions"] != []


def test_no_more_parts_are_measured_than_asked_for(pybuild: Pybuild, project: Path) -> None:
    (project / "Dockerfile").write_text(GOOD)

    found = bench(pybuild, "--parts=1", project)

    measured = [case["name"] for case in found["cases"] if not case["predicted"]]
    assert measured == ["cold", "unchanged", "requirements.txt"]
    assert cases(found)["src/"]["ran"] == 2


def test_the_flags_of_a_build_count(pybuild: Pybuild, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.Dockerfile"
    other.write_text("FROM busybox AS one\nARG V\nCOPY src /src\nRUN test $V = 7\nFROM one\nRUN exit 1\n")

    found = bench(
        pybuild,
        "-f",
        other,
        "--build-arg",
        "V=7",
        "--target=one",
        "--parts=1",
        f"--keep={tmp_path}/kept",
        project,
    )

    assert cases(found)["cold"]["steps"] == 3
    assert [run["line"] for run in cases(found)["ARG V"]["ranAgain"]] == [4]
    assert (tmp_path / "kept/context/src/b.py").exists()
    assert (tmp_path / "kept/store-1/index.json").exists()


def test_a_step_that_reads_the_project_keeps_its_place(pybuild: Pybuild, project: Path) -> None:
    """This pip reads what no pip reads; the proposal is built, and taken back."""
    pip = project.parent / "base/pip"
    pip.write_text("#!/bin/sh\nsleep 0.6\nls src > /installed; touch /ran-$(ls src | wc -l)\n")
    pybuild.build(project.parent / "base", "-t", "pip:1")

    found = bench(pybuild, "--parts=2", project)

    assert found["proposed"] is None
    assert any("was tried and is not proposed: its image differs in" in note for note in found["notes"])


def test_a_build_that_fails_is_told_with_its_error(pybuild: Pybuild, project: Path) -> None:
    (project / "Dockerfile").write_text(BAD + "RUN echo because >&2; exit 3\n")

    done = pybuild("bench", project, check=False)

    assert done.returncode == 1
    assert "the build fails, so there is nothing to measure" in done.stderr
    assert "exit code: 3" in done.stderr
    assert list((pybuild.root / "ingest").iterdir()) == []


def test_a_change_that_breaks_the_build_is_one_case_that_failed(pybuild: Pybuild, project: Path) -> None:
    (project / "Dockerfile").write_text(
        GOOD + "RUN test $(wc -l < src/pkg/a.py) = 1 && test $(wc -l < src/b.py) = 1\n"
    )

    found = bench(pybuild, project)

    assert "did not complete successfully" in cases(found)["src/"]["error"]
    assert cases(found)["requirements.txt"]["error"] is None


def test_an_interrupt_tells_what_there_is_and_leaves_nothing(pybuild: Pybuild, project: Path) -> None:
    until_told = "RUN test $(wc -l < docs/x) = 1 || sleep 4731.5; cp"  # of the first part that is changed
    (project / "Dockerfile").write_text(BAD.replace("RUN cp", until_told))
    command = [sys.executable, "-m", "builder", "bench", os.fspath(project)]
    env = os.environ | {
        "PYTHONPATH": str(CHECKOUT),
        "PYBUILD_ROOT": str(pybuild.root),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("unchanged:"):
            break
    deadline = time.monotonic() + 60
    while not running(b"sleep", b"4731.5"):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "unchanged" in out
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list((pybuild.root / "ingest").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--plot=x.png", "."], 2, "plots are SVG files"),
        (["--plot=/nowhere/x.svg", "."], 2, "the folder is not there"),
        (["--rounds=0", "."], 2, "--rounds 0"),
        (["--parts=x", "."], 2, "--parts x"),
        (["--format=yaml", "."], 2, "no such format"),
        (["https://example.invalid/repo.git"], 2, "needs a context that is a folder"),
        (["-"], 2, "needs a context that is a folder"),
        (["nowhere"], 1, "nowhere"),
        (["--tag=x", "."], 2, "unknown flag --tag"),
        (["--keep=.", "."], 2, "is not empty"),
        ([], 2, "context is missing"),
    ],
)
def test_what_makes_no_sense_is_said(
    pybuild: Pybuild, project: Path, words: list[str], status: int, said: str
) -> None:
    done = pybuild("bench", *words, check=False, cwd=project)

    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
