"""The configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.configfile import find
from builder.errors import UsageError
from builder.settings import DAY, RegistrySettings, RoomSettings, Space, load, parse, parse_age, parse_space


def test_without_a_file_there_are_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.configfile.SYSTEM_FILE", str(tmp_path / "none"))

    assert load({"HOME": str(tmp_path)}).room == RoomSettings()
    assert load({"PYBUILD_CONFIG": ""}).room == RoomSettings()


def test_the_file_is_the_one_named_or_the_user_s_or_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.toml"
    system.touch()
    monkeypatch.setattr("builder.configfile.SYSTEM_FILE", str(system))
    assert find({"HOME": str(tmp_path)}) == str(system)
    (tmp_path / ".config/pybuild").mkdir(parents=True)
    (tmp_path / ".config/pybuild/config.toml").touch()
    assert find({"HOME": str(tmp_path)}) == str(tmp_path / ".config/pybuild/config.toml")
    assert find({"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"}).endswith(
        ".config/pybuild/config.toml"
    )
    assert find({"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == str(system)
    assert find({"PYBUILD_CONFIG": "/some/file"}) == "/some/file"


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[gc]\nenabled = false\nmax-used-space = "80%"\nreserved-space = 5\nmin-free-space = "2GB"\n'
        'max-age = "2h30m"\n'
    )

    settings = load({"PYBUILD_CONFIG": str(file)})

    assert settings.path == str(file)
    assert settings.room == RoomSettings(
        enabled=False,
        max_used=Space(percent=80),
        reserved=Space(size=5),
        min_free=Space(size=2 << 30),
        max_age=9000,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gc = 1", "gc is no table"), ("[gc]\nsize = 1", "gc.size is not known"), ("[other]", "other is not"),
        ('[gc]\nmax-used-space = "lots"', "not an amount of room"),
        ('[gc]\nmax-age = "lots"', "not a duration"),
        ('[gc]\nenabled = "yes"', "neither true nor false"), ("[gc", "is no TOML"), ("\xff", "is no TOML"),
        ("[gc]\nmax-age = -1", "not a duration"), ("[gc]\nmax-used-space = true", "not an amount"),
        ("a=" + "[" * 5000, "is no TOML"), ("#" * (1 << 20) + "#", "more than 1 MiB"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_it_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(UsageError) as caught:
        load({"PYBUILD_CONFIG": str(file)})

    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_named_and_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load({"PYBUILD_CONFIG": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("value", "space"),
    [
        (5, Space(size=5)), ("5", Space(size=5)), ("1k", Space(size=1024)), ("1.5 GB", Space(size=3 << 29)),
        ("2GiB", Space(size=2 << 30)),
        ("10%", Space(size=0, percent=10)), ("0", Space(size=0)),
    ],
)  # fmt: skip
def test_amounts(value: object, space: Space) -> None:
    assert parse_space(value, "x") == space


def test_of_bytes_and_a_share_the_smaller_counts() -> None:
    assert Space(size=100, percent=50).of(1000) == 100
    assert Space(size=100, percent=5).of(1000) == 50
    assert Space(size=0, percent=50).of(1000) == 500
    assert Space().of(1000) == 0


@pytest.mark.parametrize(
    ("value", "seconds"), [(7, 7), ("90s", 90), ("1h30m", 5400), ("2d", 2 * DAY), ("1.5h", 5400), ("0", 0)]
)
def test_durations(value: object, seconds: int) -> None:
    assert parse_age(value, "x") == seconds


@pytest.mark.parametrize("value", ["", "h", "1", "1h2", "1x", "-1h", "1..5h", "٣h", True, 1.5, None])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(UsageError):
        parse_age(value, "x")


def test_registries_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[registries."docker.io"]\nmirrors = ["m.example:5000/hub", "http://10.0.0.5"]\n'
        '[registries."r.example:5000"]\nhttp = true\ninsecure = true\nca = "~/ca.pem"\ncert = "c.pem"\n'
        'key = "/k.pem"\n'
    )

    hub, own = load({"PYBUILD_CONFIG": str(file), "HOME": "/home/me"}).registries

    assert hub == RegistrySettings(host="docker.io", mirrors=("m.example:5000/hub", "http://10.0.0.5"))
    assert own == RegistrySettings(
        host="r.example:5000",
        http=True,
        insecure=True,
        authorities=("/home/me/ca.pem",),
        certificate=str(tmp_path / "c.pem"),
        key="/k.pem",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registries = 1", "no table"), ("[registries]\nmirrors = []", "no table"),
        ('[registries."a"]\nport = 1', 'registries."a".port is not known'),
        ('[registries."a"]\nhttp = 1', "neither true nor false"),
        ('[registries."a"]\nmirrors = [1]', "not a list of texts"),
        ('[registries."a"]\nmirrors = ["ftp://x"]', "is no place"),
        ('[registries."a"]\nmirrors = ["../x"]', "is no place"),
        ('[registries."a"]\ncert = ["a", "b"]', "not a text"),
        ('[registries."a"]\nkey = "k"', "without cert"),
        ('[registries.".."]\nhttp = true', "is no registry"),
        ('[registries."a/b"]\nhttp = true', "is no registry"),
        ('[registries."https://a"]\nhttp = true', "is no registry"),
    ],
)  # fmt: skip
def test_slips_in_registries_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)

    with pytest.raises(UsageError, match=message) as caught:
        load({"PYBUILD_CONFIG": str(file)})

    assert str(file) in caught.value.message


ENDLESS = "9" * 5000  # Python reads and writes numbers of 4300 digits at most


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"x = {ENDLESS}", "is no TOML"),
        (f"[gc]\nmax-age = 0x{ENDLESS}", "gc.max-age with a number of thousands of digits: not a duration"),
        (f"[gc]\nmin-free-space = [0x{ENDLESS}]", "gc.min-free-space with a number of thousands of digits"),
        (f"[gc]\nmin-free-space = '{ENDLESS}%'", "not an amount of room"),
        ('[registries.a]\nca = ["a", "b\\u0000"]', 'registries."a".ca has a NUL character in it'),
        ('[registries.a]\ncert = "b\\u0000"', 'registries."a".cert has a NUL character in it'),
        ('[registries.a]\nmirrors = "b/c\\u0001"', "is no place"),
        ('[registries.a]\nmirrors = "b/c d\\n"', "is no place"),
    ],
)
def test_values_that_no_code_could_take_are_told(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse("config.toml", text.encode(), {"HOME": "/"})

    assert message in caught.value.message
