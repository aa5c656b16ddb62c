"""The list of tests that CI may skip is kept: tried on a small suite of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.machine import CHECKOUT, needs_root, run

SUITE = """
import pytest
def test_runs(): pass
@pytest.mark.skip(reason="no tape drive")
def test_waits(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_each(n): pytest.skip("no moon")
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
BOTH = "test_it.py::test_waits  no tape drive\ntest_it.py::test_each  no moon\n"


def judge(folder: Path, skips: str, *, ci: str = "true") -> tuple[int, str]:
    """Exit status and summary of that suite, held to this list."""
    (folder / "conftest.py").write_bytes((CHECKOUT / "tests" / "conftest.py").read_bytes())
    (folder / "skips.txt").write_text(skips)
    (folder / "test_it.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra"]
    done = run(command, check=False, cwd=folder, env={"CI": ci, "PYTEST_ADDOPTS": ""})
    return done.returncode, done.stdout + done.stderr


@needs_root()
def test_listed_skips_pass(tmp_path: Path) -> None:
    status, output = judge(tmp_path, "# a comment\n\n" + BOTH)

    assert status == 0, output
    assert "1 passed, 3 skipped, 1 xfailed" in output


@needs_root()
def test_a_skip_that_is_not_listed_fails(tmp_path: Path) -> None:
    status, output = judge(tmp_path, "test_it.py::test_each  no moon\n")

    assert status == 1
    assert "not in skips.txt: Skipped: no tape drive" in output


@needs_root()
def test_a_file_that_is_skipped_as_a_whole_fails(tmp_path: Path) -> None:
    (tmp_path / "test_all.py").write_text("import pytest\npytest.importorskip('not_there')\n")

    status, output = judge(tmp_path, BOTH)

    assert status != 0
    assert "not in skips.txt: Skipped: could not import 'not_there'" in output


@needs_root()
def test_a_listed_test_that_ran_fails(tmp_path: Path) -> None:
    status, output = judge(tmp_path, BOTH + "test_it.py::test_runs  was slow once\n")

    assert status == 1
    assert "in skips.txt as test_it.py::test_runs, and not skipped" in output


@needs_root()
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("test_it.py::test_gone  it left\n", "names tests that are not there: test_it.py::test_gone"),
        ("test_it.py::test_waits\n", "no reason behind 'test_it.py::test_waits'"),
    ],
)
def test_the_list_is_kept_in_order(tmp_path: Path, row: str, message: str) -> None:
    status, output = judge(tmp_path, BOTH + row)

    assert status != 0
    assert message in output


def test_elsewhere_skips_are_nobodys_business(tmp_path: Path) -> None:
    status, output = judge(tmp_path, "", ci="")

    assert status == 0, output
