import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from builder import __version__, cli
from builder.errors import UsageError

CHECKOUT = str(Path(cli.__file__).parents[1])
HEAVY = (
    "lark",
    "networkx",
    "rich",
    "httpx",
    "asyncio",
    "msgspec",
    "argparse",
    "dataclasses",
    "typing",
    "pathlib",
)


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` arranges its process; a test's process stays as it is."""
    monkeypatch.setattr(cli, "_prepare_process", lambda *, debug: None)
    for name in ("NO_COLOR", "FORCE_COLOR", "PYBUILD_ROOT", "BUILDKIT_PROGRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        (["."], "build", ["."]),
        (["build", "."], "build", ["."]),
        (["-t", "images", "."], "build", ["-t", "images", "."]),
        (["images"], "images", []),
        (["./images"], "build", ["./images"]),
        (["--root", "/x", "images", "-q"], "images", ["--root", "/x", "-q"]),
        (["--root=/x", "-D", "tag", "a", "b"], "tag", ["--root=/x", "-D", "a", "b"]),
        (["--root", "images", "."], "build", ["--root", "images", "."]),
        (["--help"], "build", ["--help"]),
        (["x", "images"], "build", ["x", "images"]),
    ],
)
def test_only_the_first_word_after_the_global_flags_is_a_command(
    words: list[str], command: str, rest: list[str]
) -> None:
    assert cli.split_command(words) == (command, rest)


@pytest.mark.parametrize("word", cli.RESERVED)
def test_reserved_words_are_refused_until_they_are_there(word: str) -> None:
    with pytest.raises(UsageError, match=f"^{word} is not available in this version$"):
        cli.split_command([word, "x"])


def test_a_folder_named_like_a_reserved_word_can_still_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()

    with pytest.raises(UsageError) as caught:
        cli.split_command(["run"])

    assert caught.value.hint == "a folder of this name is written ./run"


def test_the_version_and_the_help_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pybuild {__version__}\n"

    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert "images" in overview
    assert not any(f"  {word} " in overview for word in cli.RESERVED)

    assert cli.main(["build", "--help"]) == 0
    help_text = capsys.readouterr().out
    assert "--build-context" in help_text
    assert "--force-rm" not in help_text


def test_no_words_at_all_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().err.startswith("Usage: pybuild")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tgs", "x", "."], "pybuild: unknown flag --tgs\nhint: did you mean --tag or --target?\n"),
        (
            ["build"],
            "pybuild: the build context is missing\nhint: `pybuild -t NAME .` builds the current folder\n",
        ),
        (["imges", "x"], "pybuild: one build context is taken, not 2: imges x\nhint: did you mean images?\n"),
        (["push"], "pybuild: an image is missing\nhint: pybuild push IMAGE [NAME]\n"),
    ],
)
def test_bad_usage_is_exit_2_and_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", message)


def test_where_no_thread_can_be_started_no_defect_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_words: list[str], _environ: object) -> int:
        raise RuntimeError("can't start new thread")  # what threading says

    monkeypatch.setattr(cli, "_run", refuse)

    assert cli.main(["."]) == 1
    told, hint = capsys.readouterr().err.splitlines()
    assert told == "error: no more threads can be started"
    assert "ulimit -u" in hint
    assert "ulimit -v" in hint


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = (
        f"import sys, builder.cli, builder.commands.build; print([n for n in {HEAVY!r} if n in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {CHECKOUT!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "[]\n"


def test_the_readers_of_a_cached_build_load_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path.insert(0, {CHECKOUT!r});"
        "import builder.ui.plain, builder.ui.tty, builder.ui.reader, builder.ui.report;"
        f"print([n for n in {HEAVY!r} if n in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "builder", "build", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_under_standard_output_is_told() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "builder", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    said = "error: no space left on device\nhint: free some space there\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_umask_takes_nothing_from_the_user_who_builds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", "images", "--root", str(tmp_path / "store")],
        umask=0o777, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "store/VERSION").stat().st_mode) & 0o600 == 0o600


def test_closed_streams_are_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", "--version"],
        stderr=subprocess.PIPE, text=True, check=False, preexec_fn=lambda: os.close(1),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["load"], ["import", "-"]])
def test_a_closed_standard_input_holds_no_archive(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", *words, "--root", str(tmp_path)],
        stderr=subprocess.PIPE, text=True, check=False, preexec_fn=lambda: os.close(0),
    )  # fmt: skip

    assert done.returncode == 1
    assert re.match(r"error: .*standard input is no (image|tar) archive", done.stderr)


def test_an_answer_that_is_no_text_is_no_yes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", "prune", "--root", str(tmp_path)],
        input=b"y\xff\n", stderr=subprocess.PIPE, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stderr.endswith(b"[y/N] ")
