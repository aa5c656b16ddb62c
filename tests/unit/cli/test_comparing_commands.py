"""`pybuild diff, layers, save, import` as people call them: texts, JSON and exit statuses."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from builder import cli
from builder.store.root import open_store
from tests.support.archives import Member, add_image, image_of_tars, tar_of
from tests.support.layouts import LayoutMaker

ONE: list[list[Member]] = [
    [("etc", {"type": tarfile.DIRTYPE, "mode": 0o755}), ("etc/conf", {"data": b"1" * 2000})],
    [("app", {"data": b"a" * 500, "mode": 0o755})],
]
OTHER: list[list[Member]] = [ONE[0], [("etc/conf", {"data": b"2" * 1000}), ("\x1b[31mred", {"data": b""})]]


@pytest.fixture(autouse=True)
def _two_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """app:1 and app:2 in the store."""
    monkeypatch.setattr(cli, "_prepare_process", lambda *, debug: None)
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    store, layout = open_store(tmp_path / "root"), LayoutMaker(tmp_path / "layout")
    for name, layers, env in (("app:1", ONE, "A=1"), ("app:2", OTHER, "A=2")):
        tars = [tar_of(*members) for members in layers]
        add_image(store, layout, image_of_tars(layout, tars, steps=["COPY etc", name], Env=[env]), name)


def run(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(words) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 or not captured.err else captured.err


def test_a_difference_is_told_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "diff", "app:1", "app:2").splitlines()

    assert lines[0].startswith("--- app:1  ")
    assert lines[1].startswith("+++ app:2  ")
    assert lines[3:7] == [
        "Files: 1 added, 1 deleted, 1 modified",
        "A /red       0B",
        "D /app       500B",
        "C /etc/conf  content (2kB -> 1kB)",
    ]
    assert lines[8:13] == ["Config:", 'C Env A: "1" -> "2"', "C History:", "    -app:1", "    +app:2"]
    assert lines[14] == "Layers: 1 of 2 and 2 are the same"


def test_histories_of_the_same_steps_are_not_told_without_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "app.tar").write_bytes(tar_of(*ONE[1]))
    for epoch in ("1", "2"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        run(capsys, "import", str(tmp_path / "app.tar"), f"imported:{epoch}")

    told = run(capsys, "diff", "imported:1", "imported:2")

    assert "C History: the same steps; times, comments or layers differ\n" in told


def test_a_difference_as_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "diff", "--format", "json", "app:1", "app:2"))

    assert [image["Name"] for image in told["Images"]] == ["app:1", "app:2"]
    assert not told["Equal"]
    conf = next(change for change in told["Files"] if change["Path"] == "/etc/conf")
    assert (conf["Change"], conf["What"]) == ("modified", ["content"])
    assert (conf["Before"]["Size"], conf["After"]["Size"]) == (2000, 1000)
    assert conf["Before"]["Digest"] != conf["After"]["Digest"]
    assert told["Layers"]["Shared"] == 1
    assert {"Field": "Env A", "Before": "1", "After": "2"} in told["Config"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["app:1", "app:2"], 0),
        (["--exit-code", "app:1", "app:2"], 1),
        (["--exit-code", "app:1", "app:1"], 0),
        (["--exit-code=false", "app:1", "app:2"], 0),
    ],
)
def test_the_exit_status_tells_a_difference_only_where_it_is_asked_to(words: list[str], status: int) -> None:
    assert cli.main(["diff", *words]) == status


def test_equal_images_have_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "diff", "app:1", "app:1").splitlines()[-1] == "nothing differs"


def test_layers_are_shown_as_trees_with_what_is_wasted(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "layers", "app:2")

    lines = text.splitlines()
    assert lines[2].startswith("Layer 1  ")
    assert lines[2].endswith(", 2kB in 2 paths, 2kB wasted")
    assert lines[3] == "  COPY etc"
    assert [line.split() for line in lines[4:6]] == [["+", "etc/", "2kB"], ["+", "conf", "2kB"]]
    assert ["~", "conf", "1kB", "hides", "2kB"] in [line.split() for line in lines]
    assert lines[-2:] == [
        "Wasted: 2kB of 3kB in files, efficiency 33.3 %",
        "       2kB  /etc/conf  in layer 1, changed by layer 2",
    ]
    assert "\x1b" not in text


def test_layers_as_json_and_one_alone(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "layers", "--format", "json", "--depth", "1", "app:2"))
    digest = told["Layers"][1]["Digest"]

    assert (told["FileBytes"], told["WastedBytes"], told["Efficiency"]) == (3000, 2000, 0.333333)
    assert told["Wasted"] == [
        {"Path": "/etc/conf", "Bytes": 2000, "Files": 1, "Layer": 1, "By": 2, "How": "changed"}
    ]
    assert [branch["Name"] for branch in told["Layers"][0]["Tree"]] == ["etc"]
    assert told["Layers"][0]["Tree"][0]["Children"] == []
    for chosen in ("2", digest, digest[7:15]):
        (layer,) = json.loads(run(capsys, "layers", "--format", "json", "--layer", chosen, "app:2"))["Layers"]
        assert (layer["Number"], layer["CreatedBy"]) == (2, "app:2")
    assert "no such layer" in run(capsys, "layers", "--layer", "3", "app:2", status=2)
    assert "+" not in run(capsys, "layers", "--depth", "0", "app:2")


@pytest.mark.parametrize(
    "words", [("layers", "odd"), ("diff", "odd", "app:1"), ("history", "odd"), ("images",)]
)
def test_what_an_image_says_of_itself_cannot_move_the_cursor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    store, layout = open_store(tmp_path / "root"), LayoutMaker(tmp_path / "odd")
    odd = "\x1b[31mred\x07"
    row = image_of_tars(layout, [tar_of((odd, {"data": b""}))], steps=[odd], Env=[f"{odd}={odd}"])
    manifest = layout.manifest(row)
    config = json.loads(layout.path(manifest["config"]["digest"]).read_text())
    told = layout.document({**config, "variant": odd, "author": odd}, manifest["config"]["mediaType"])
    add_image(store, layout, layout.document({**manifest, "config": told}, row["mediaType"]), "odd")

    text = run(capsys, *words)

    assert len(text.splitlines()) > 1
    assert not {"\x1b", "\x07"} & set(text)


def test_layers_as_json_tell_kinds_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store, layout = open_store(tmp_path / "root"), LayoutMaker(tmp_path / "kinds")
    members: list[Member] = [
        ("f", {"data": b""}),
        ("l", {"type": tarfile.SYMTYPE, "linkname": "f"}),
        ("p", {"type": tarfile.FIFOTYPE}),
    ]
    add_image(store, layout, image_of_tars(layout, [tar_of(*members)]), "kinds")

    (layer,) = json.loads(run(capsys, "layers", "--format", "json", "kinds"))["Layers"]

    assert [branch["Type"] for branch in layer["Tree"]] == ["file", "symlink", "fifo"]


def test_saving_to_a_terminal_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    assert "an archive is not written to a terminal" in run(capsys, "save", "app:1", status=2)


def test_saving_and_loading_over_a_pipe(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["save", "app:1", "app:2"]) == 0
    saved = capfd.readouterr().out

    assert "manifest.json" in saved
    assert cli.main(["save", "-o", str(tmp_path / "app.tar"), "app"]) == 0
    assert cli.main(["load", "-q", "-i", str(tmp_path / "app.tar"), "--root", str(tmp_path / "other")]) == 0
    assert capfd.readouterr().out == "Loaded image: app:1\nLoaded image: app:2\n"


def test_an_image_without_a_name_is_loaded_by_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ident = run(capsys, "images", "--no-trunc", "-q", "app:1").strip()
    run(capsys, "save", "-o", str(tmp_path / "one.tar"), ident)

    assert run(capsys, "load", "-i", str(tmp_path / "one.tar")) == f"Loaded image ID: {ident}\n"


def test_importing_prints_the_id_and_takes_the_builds_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rootfs.tar").write_bytes(tar_of(("a", {"data": b"a"})))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")

    ident = run(capsys, "import", "-c", "ENV A=1", "-m", "m", str(tmp_path / "rootfs.tar"), "new:1").strip()

    told = run(capsys, "inspect", "-f", "{{.Id}} {{.Created}} {{json .Config.Env}} {{.Comment}}", "new:1")
    assert told == f'{ident} 1970-01-01T00:00:00Z ["A=1"] m\n'
    assert os.listdir(tmp_path / "root" / "ingest") == []
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert "is no number of seconds" in run(capsys, "import", str(tmp_path / "rootfs.tar"), status=2)


def test_history_and_inspect_in_dockers_ways(capsys: pytest.CaptureFixture[str]) -> None:
    heading, line, *_ = run(capsys, "history", "--human=false", "--no-trunc", "app:1").splitlines()

    assert heading.split()[:3] == ["IMAGE", "CREATED", "AT"]
    assert line.split()[0].startswith("sha256:")
    assert run(capsys, "history", "--format", "{{.CreatedBy}}", "app:1") == "app:1\nCOPY etc\n"
    assert run(capsys, "history", "-q", "app:1").split()[1] == "<missing>"
    [told] = json.loads(run(capsys, "inspect", "--size", "app:2"))
    assert told["SizeRootFs"] == 1000
    assert "there is no field .Nope" in run(capsys, "inspect", "-f", "{{.Nope}}", "app:1", status=2)
    assert "is not in the store for linux/s390x" in run(
        capsys, "inspect", "--platform", "linux/s390x", "app:1", status=1
    )
