"""The wheel holds all that the command needs, and works away from a checkout."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.machine import CHECKOUT, run

DOCKERFILE = 'FROM scratch\nCOPY <<note /\nhello\nnote\nLABEL made="by wheel"\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    run([*command, "--wheel-dir", folder, CHECKOUT])
    (found,) = folder.glob("pybuild-*.whl")
    return found


def test_the_wheel_holds_the_package_the_grammar_and_the_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "builder").rglob("*.py")}
    grammar = {f"builder/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "grammar").rglob("*.lark")}
    packaged = {name for name in names if name.startswith("builder/")}
    assert packaged == modules | grammar | {"builder/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_installs_one_command_that_loads_nothing_but_the_package(
    wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if "/scripts/" in name)
        first, _, rest = archive.read(name).decode().partition("\n")
        archive.extractall(tmp_path)
    assert (Path(name).name, first) == ("pybuild", "#!python")  # which installers make the environment's
    command = tmp_path / "pybuild"
    command.write_text(f"#!{sys.executable}\n{rest}")
    command.chmod(0o755)

    told = run([command, "--version"], env={"PYTHONPATH": str(tmp_path), "PYTHONPROFILEIMPORTTIME": "1"})

    assert told.stdout.startswith("pybuild ")
    loaded = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "builder.cli" in loaded
    assert not loaded & {"re", "importlib.metadata", "pkg_resources"}


def test_what_is_in_the_wheel_builds_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    installed, context = tmp_path / "installed", tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    environment = {
        "PYTHONPATH": str(installed),
        "PYBUILD_ROOT": str(tmp_path / "store"),
        "PYTHONSAFEPATH": "1",
    }

    where = run(
        [sys.executable, "-c", "import builder; print(builder.__file__)"], env=environment, cwd=tmp_path
    ).stdout.strip()
    built = run([sys.executable, "-m", "builder", "-t", "a:1", "context"], env=environment, cwd=tmp_path)
    again = run([sys.executable, "-m", "builder", "-t", "a:1", os.curdir], env=environment, cwd=context)

    assert Path(where).is_relative_to(installed)
    assert "built a:1 sha256:" in built.stderr
    assert "its 1 step cached" in again.stderr


def others(folder: Path, *names: str) -> Path:
    """A folder with modules of other people, which are called as these and end whoever loads them."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(f"raise SystemExit('this is another {name}')\n")
    return folder


def test_what_pythonpath_leads_to_is_not_taken_for_the_package_or_for_python_s_own(
    wheel: Path, tmp_path: Path
) -> None:
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"])
    (packages,) = (tmp_path / "env").glob("lib/python3.*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for path in sys.path:
        if path.endswith("-packages"):  # what it stands on is installed here
            (packages / f"{len(path)}.pth").write_text(path + "\n")
    (script,) = packages.glob("*/scripts/pybuild")
    command = tmp_path / "env/bin/pybuild"
    command.write_text(f"#!{tmp_path}/env/bin/python\n" + script.read_text().partition("\n")[2])
    command.chmod(0o755)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    environment = {
        "PYTHONPATH": str(others(tmp_path / "theirs", "builder", "re", "json", "typing", "msgspec")),
        "PYBUILD_ROOT": str(tmp_path / "store"),
    }

    built = run([command, "-t", "a:1", tmp_path], env=environment)

    assert "built a:1 sha256:" in built.stderr


def test_modules_of_the_working_folder_are_not_loaded(tmp_path: Path) -> None:
    folder = others(tmp_path / "project", "re", "json", "typing", "msgspec", "secrets", "queue")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    environment = {"PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(tmp_path / "store")}

    built = run([sys.executable, "-m", "builder", "-t", "a:1", "."], env=environment, cwd=folder)

    assert "built a:1 sha256:" in built.stderr


def test_what_pythonpath_alone_has_is_found(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (script,) = tmp_path.glob("*/scripts/pybuild")

    told = run([sys.executable, "-S", script, "--version"], env={"PYTHONPATH": str(tmp_path)})

    assert told.stdout.startswith("pybuild ")
