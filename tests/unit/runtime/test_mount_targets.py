"""Finding and making the place of a mount inside a root, whatever links lie there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.runtime.mounts import Options, open_target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def resolve(root: Path, path: str, *, folder: bool = True, plain: bool = False) -> str:
    """The place as a path on the host."""
    top = os.open(root, os.O_PATH)
    try:
        place = open_target(top, path, folder=folder, plain=plain)
        try:
            return os.readlink(f"/proc/self/fd/{place}")
        finally:
            os.close(place)
    finally:
        os.close(top)


def test_missing_parents_are_folders_and_the_last_name_is_as_asked(root: Path) -> None:
    assert resolve(root, "/a/b/c") == f"{root}/a/b/c"
    assert (root / "a/b/c").is_dir()
    assert resolve(root, "/a/f", folder=False) == f"{root}/a/f"
    assert (root / "a/f").is_file()
    assert (root / "a").stat().st_mode & 0o777 == 0o755


def test_dots_do_not_leave_the_root(root: Path) -> None:
    assert resolve(root, "/../../a/./../b") == f"{root}/b"


def test_links_are_followed_inside_the_root(root: Path) -> None:
    (root / "real").mkdir()
    for name, target in (("abs", "/real"), ("rel", "real"), ("up", "../../real"), ("twice", "abs")):
        os.symlink(target, root / name)
        assert resolve(root, f"/{name}/x/{name}") == f"{root}/real/x/{name}"


def test_dangling_links_are_made_where_they_point(root: Path) -> None:
    (root / "d").mkdir()
    os.symlink("/made/here", root / "d/abs")
    os.symlink("../beside", root / "d/rel")
    assert resolve(root, "/d/abs/x") == f"{root}/made/here/x"
    assert resolve(root, "/d/rel", folder=False) == f"{root}/beside"


def test_a_plain_place_may_not_be_a_link(root: Path) -> None:
    os.symlink("/etc", root / "link")
    os.symlink("/none", root / "dangling")
    for name in ("link", "dangling"):
        with pytest.raises(OSError, match="symbolic links"):
            resolve(root, f"/{name}", plain=True)
    assert sorted(os.listdir(root)) == ["dangling", "link"]


_NAMES = st.sampled_from(["a", "b", "c", "..", ".", ""])
_PATHS = st.lists(_NAMES, min_size=1, max_size=5).map("/".join)


@settings(max_examples=150, deadline=None)
@given(links=st.lists(st.tuples(_PATHS, _PATHS, st.booleans()), max_size=5), wanted=_PATHS)
@pytest.mark.hostile("CVE-2024-45310")
def test_no_tree_of_links_leads_out(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str, bool]], wanted: str
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    root = outer / "root"
    root.mkdir()
    for place, target, absolute in links:
        name = place.replace("/", "-").strip("-.") or "a"
        if not (root / name).is_symlink():
            os.symlink(("/" if absolute else "") + (target or "a"), root / name)
    try:
        found = resolve(root, wanted)
    except OSError:
        found = str(root)
    assert found == str(root) or found.startswith(f"{root}/")
    assert os.listdir(outer) == ["root"]


def test_options_are_flags_of_the_mount_or_parameters_of_the_filesystem() -> None:
    options = Options(["nosuid", "ro", "size=5", "lowerdir+=/a=b", "lowerdir+=/c", "volatile", "rw"])
    assert options.attributes == 3
    assert options.parameters == [
        ("size", "5"),
        ("lowerdir+", "/a=b"),
        ("lowerdir+", "/c"),
        ("volatile", None),
    ]
    assert options.named("lowerdir+") == "/c"
    assert options.named("none") == ""
