"""Paths of images for Windows, and that those of others stay what they are."""

from __future__ import annotations

import msgspec
import pytest

from builder.compiler import systems
from builder.oci.image import platform_of
from builder.oci.spec import ImageConfig
from tests.support.compiling import compile_text, image


@pytest.mark.parametrize(
    ("current", "path", "leads"),
    [
        ("", "app", "/app"),
        ("\\app", "sub\\x", "/app/sub/x"),
        ("\\app", "/x/../y/", "/y"),
        ("C:\\w", "sub", "/w/sub"),
        ("\\w", "c:/x", "/x"),
        ("\\w", "C:rel", "/w/rel"),
        ("\\w", "", "/w"),
        ("w", "w", "/w/w"),
    ],
)
def test_a_working_folder_of_windows_has_no_drive_and_either_separator(
    current: str, path: str, leads: str
) -> None:
    assert systems.working_folder(current, path, "windows") == leads


@pytest.mark.parametrize(
    ("current", "path", "leads"),
    [
        ("/a", "b\\c", "/a/b\\c"),
        ("/a", "C:/x", "/a/C:/x"),
        ("/a", "/b/../c/", "/b/../c/"),
        ("", "", "/"),
        ("/a/../b", "", "/a/../b"),
        ("rel", "rel", "/rel/rel"),
    ],
)
def test_a_working_folder_elsewhere_is_what_is_written(current: str, path: str, leads: str) -> None:
    assert systems.working_folder(current, path, "linux") == leads
    assert systems.slashed(path, "linux") == path
    assert systems.native(leads, "linux") == leads


@pytest.mark.parametrize("path", ["D:\\x", "C:", "\\\\host\\share", "//host/share"])
def test_another_drive_or_machine_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match=r"C:|drive|UNC"):
        systems.slashed(path, "windows")


def test_windows_writes_backslashes() -> None:
    assert systems.native("/app/x", "windows") == "\\app\\x"


def test_an_image_for_windows_is_for_the_version_and_has_the_features_of_its_base() -> None:
    told = {"architecture": "amd64", "os": "windows", "os.version": "10.0.1", "os.features": ["win32k"]}
    config = msgspec.convert({**told, "rootfs": {"type": "layers", "diff_ids": []}}, ImageConfig)
    base = msgspec.structs.replace(image("win"), config=config)

    program = compile_text("FROM win\nLABEL a=b\n", bases={"docker.io/library/win:latest": base})

    assert msgspec.json.decode(msgspec.json.encode(platform_of(program.config))) == told
    assert program.config.os_features == ("win32k",)
