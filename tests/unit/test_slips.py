"""What is wrong with the configuration file, for who reads nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import settings
from builder.slips import slip_of
from builder.solver.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), lambda _snapshot: True)


@pytest.mark.parametrize(("text", "said"), [
    ("", ""),
    ("[gc]\nenabled = true\n", ""),
    ("[gc]\nenabld = true\n", "gc.enabld is not known (known are enabled, "),
    ("[registries.x]\nca = 1\n", "ca is not a list of texts; until that is right, no room is made"),
    ("[gc\n", "is no TOML"),
    ("\xff", "is no TOML"),
])  # fmt: skip
def test_a_slip_is_told_with_the_file_and_the_key(tmp_path: Path, cache: Cache, text: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode("latin-1"))

    for _ in range(2):
        slip = slip_of({"PYBUILD_CONFIG": str(file)}, cache)
        assert said in slip
        assert slip.startswith(str(file)) == bool(said)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, cache: Cache) -> None:
    assert "cannot be read" in slip_of({"PYBUILD_CONFIG": str(tmp_path / "none")}, cache)
    assert slip_of({"PYBUILD_CONFIG": ""}, cache) == ""


def test_a_file_is_read_as_toml_when_it_has_changed_and_not_again(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    environ = {"PYBUILD_CONFIG": str(file)}
    parsed: list[bytes] = []
    parse = settings.parse
    monkeypatch.setattr(settings, "parse", lambda *asked: (parsed.append(asked[1]), parse(*asked)))

    for text in ("[gc]\n", "[gc]\n", "[gcc]\n", "[gcc]\n", "[gc]\n"):
        file.write_text(text)
        assert ("gcc is not known" in slip_of(environ, cache)) == ("gcc" in text)

    assert parsed == [b"[gc]\n", b"[gcc]\n"]
