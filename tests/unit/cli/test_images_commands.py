import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder import cli
from tests.support.layouts import LayoutMaker


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "_prepare_process", lambda *, debug: None)
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What `docker save hello:1.0` writes, of an image with one empty layer."""
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()
    diff_id = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": {"Cmd": ["/hello"], "Env": ["A=1"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [
                {"created": "2020-01-01T00:00:00Z", "created_by": "COPY hello /hello"},
                {"created": "2020-01-01T00:00:00Z", "created_by": 'CMD ["/hello"]', "empty_layer": True},
            ],
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": ["hello:1.0"], "Layers": ["layer.tar"]}]
    path = tmp_path / "hello.tar"
    with tarfile.open(path, "w") as tar:
        for member, data in (
            ("manifest.json", json.dumps(manifest).encode()),
            (name, config),
            ("layer.tar", layer.getvalue()),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert cli.main(words) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_empty_store_lists_a_heading_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "images") == "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    assert run(capsys, "images", "--format", "json") == ""


def test_an_image_goes_through_its_life(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "load", "-i", str(archive)) == "Loaded image: hello:1.0\n"

    heading, line = run(capsys, "images").splitlines()
    assert heading.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert line.split()[:2] == ["hello", "1.0"]
    assert " years ago " in line

    [listed] = objects(run(capsys, "images", "--format", "json"))
    assert (listed["Repository"], listed["Tag"], listed["Platform"]) == ("hello", "1.0", "linux/amd64")
    assert run(capsys, "images", "-q").strip() == listed["ID"]
    [whole] = objects(run(capsys, "images", "--no-trunc", "--format", "json"))
    assert run(capsys, "images", "-q", "--no-trunc").strip() == whole["ID"]
    assert whole["ID"].startswith(f"sha256:{listed['ID']}")
    assert listed["Digest"] in run(capsys, "images", "--digests")

    assert run(capsys, "tag", "hello:1.0", "third:3", "other") == ""
    assert len(objects(run(capsys, "images", "--format=json"))) == 3
    assert len(run(capsys, "images", "-q").split()) == 1

    steps = objects(run(capsys, "history", "hello:1.0", "--format", "json"))
    assert [step["CreatedBy"] for step in steps] == ['CMD ["/hello"]', "COPY hello /hello"]
    assert run(capsys, "history", "other").splitlines()[0].split()[0] == "IMAGE"

    [described] = json.loads(run(capsys, "inspect", "third:3"))
    assert described["Config"]["Cmd"] == ["/hello"]
    assert described["RepoTags"] == ["hello:1.0", "other:latest", "third:3"]
    assert json.loads(run(capsys, "inspect", "--format=json", "third:3")) == [described]

    assert run(capsys, "rmi", "other", "third:3") == "Untagged: other:latest\nUntagged: third:3\n"
    assert objects(run(capsys, "rmi", "--format=json", "hello:1.0"))[0] == {"Untagged": "hello:1.0"}
    assert run(capsys, "images", "-q") == ""


def test_the_environment_says_what_an_import_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tarfile.open(tmp_path / "empty.tar", mode="w").close()
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    run(capsys, "import", str(tmp_path / "empty.tar"), "arm:1")
    run(capsys, "import", "--platform=linux/s390x", str(tmp_path / "empty.tar"), "other:1")

    assert run(capsys, "inspect", "-f", "{{.Architecture}}", "arm:1", "other:1").split() == ["arm64", "s390x"]


def test_a_tree_tells_the_platforms_of_each_image(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    rows = {
        platform: layout.image([{platform: b"x" * 2000}], platform=platform)
        for platform in ("linux/amd64", "linux/arm/v7")
    }
    several = layout.index({**rows, "unknown/unknown": layout.image([{"s": b""}])}, tag="several:1")
    missing = layout.manifest(rows["linux/arm/v7"])["layers"][0]
    run(capsys, "load", str(layout.folder))
    run(capsys, "load", str(archive))
    run(capsys, "tag", "hello:1.0", "other")
    (tmp_path / "root/blobs/sha256" / missing["digest"][7:]).unlink()

    told = run(capsys, "images", "--tree").splitlines()

    def fields(line: str) -> list[str]:
        return line.split()

    assert fields(told[0]) == ["IMAGE", "ID", "CONTENT", "SIZE"]
    at = next(number for number, line in enumerate(told) if line.startswith("several:1"))
    assert fields(told[at])[1] == several["digest"][7:19]
    assert fields(told[at + 1])[:3] == ["├─", "linux/amd64", rows["linux/amd64"]["digest"][7:19]]
    assert fields(told[at + 2]) == ["└─", "linux/arm/v7", rows["linux/arm/v7"]["digest"][7:19], "0B"]
    at = told.index("hello:1.0")
    assert fields(told[at + 1])[0] == "other:latest"
    assert fields(told[at + 2])[:2] == ["└─", "linux/amd64"]
    assert run(capsys, "images", "--tree", "--quiet=false", "other").count("─") == 1
    for flag in ("-q", "--no-trunc", "--digests", "--format=json"):
        assert "do not go together" in run(capsys, "images", "--tree", flag, status=2)


def test_lists_have_dockers_raw_form(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "load", str(archive))
    [image] = objects(run(capsys, "images", "--format", "json"))

    told = run(capsys, "images", "--format", "raw", "--digests")
    keys = ("Repository", "Tag", "Digest", "ID", "CreatedAt", "Size")
    names = ("repository", "tag", "digest", "image_id", "created_at", "virtual_size")
    assert told.splitlines() == [
        *(f"{name}: {image[key]}" for name, key in zip(names, keys, strict=True)),
        "",
    ]
    assert "digest" not in run(capsys, "images", "--format", "raw")
    assert run(capsys, "images", "-q", "--format", "raw") == f"image_id: {image['ID']}\n"
    assert run(capsys, "images", "--format", "table{{.Tag}}") == "TAG\n1.0\n"


def test_templates_have_the_fields_that_docker_has(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "load", str(archive))

    def told(template: str) -> str:
        return run(capsys, "inspect", "-f", template, "hello:1.0").rstrip("\n")

    assert told("{{.Os}}/{{.Architecture}}{{with .Variant}}/{{.}}{{end}}") == "linux/amd64"
    assert told("{{if .Config.Healthcheck}}y{{else}}n{{end}} {{.Config.Healthcheck}}") == "n <nil>"
    assert told("{{.Config.Hostname}}|{{.Config.Tty}}|{{.Config.Shell}}|{{.OsVersion}}") == "|false|[]|"
    assert told("{{.ID}}") == told("{{.Id}}")
    assert told("{{.Metadata.LastTagTime}} {{.GraphDriver.Name}}") == "0001-01-01T00:00:00Z "
    assert "Hostname" not in told("{{json .}}")
    assert run(capsys, "inspect", "-f", "{{.Config.Nope}}", "hello:1.0", status=2).startswith(
        "pybuild: --format {{.Config.Nope}}: there is no field .Nope"
    )


def test_a_step_of_the_epoch_has_no_age(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tarfile.open(tmp_path / "empty.tar", mode="w").close()
    for seconds, age in (("0", "N/A"), ("1", "years ago")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
        run(capsys, "import", str(tmp_path / "empty.tar"), "old:1")
        (line,) = objects(run(capsys, "history", "old:1", "--format", "json"))
        assert line["CreatedSince"].endswith(age)


def test_what_is_not_there_is_exit_1_with_the_nearest_name(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "load", str(archive))

    assert run(capsys, "rmi", "-f", "nothing", "nowhere:1") == ""
    for command in ("inspect", "history", "rmi"):
        assert run(capsys, command, "helo:1.0", status=1) == (
            "error: image helo:1.0 is not in the store\nhint: did you mean hello:1.0?\n"
        )
    assert run(capsys, "tag", "nothing", "x", status=1).startswith("error: image nothing is not in the store")
    assert run(capsys, "load", "-i", "/not/there", status=1).startswith("error: archive /not/there")


def test_what_is_there_is_shown_before_what_is_not_is_told(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "load", str(archive))

    assert cli.main(["inspect", "nothing", "hello:1.0"]) == 1

    captured = capsys.readouterr()
    assert [image["RepoTags"] for image in json.loads(captured.out)] == [["hello:1.0"]]
    assert "nothing is not in the store" in captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tag", "a"], "pybuild tag needs an image and a name"),
        (["rmi"], "pybuild rmi needs an image"),
        (["inspect"], "pybuild inspect needs an image"),
        (["history", "a", "b"], "takes one argument at most, not 2"),
        (["images", "a", "b"], "takes one argument at most, not 2"),
        (["images", "--format", "{{.Id}}"], "there is no field .Id"),
        (["images", "--format", "{{.ID"], "a {{ has no }}"),
        (["images", "--filter", "size=1"], "--filter size=… is not known"),
        (["images", "--filter", "dangling=perhaps"], "neither true nor false"),
        (["history", "a", "--human=perhaps"], "a switch is true or false"),
        (["inspect", "a", "--type", "volume"], "there are images only"),
        (["save"], "pybuild save needs an image"),
        (["import"], "pybuild import needs a file, an address, or -"),
        (["import", "a", "b", "c"], "takes 2 arguments at most, not 3"),
        (["diff", "a"], "pybuild diff needs two images"),
        (["diff", "a", "b", "--format", "table"], "the formats are text and json"),
        (["layers", "a", "--depth", "deep"], "not a number of folders"),
        (["images", "--format", "yaml"], "no such format"),
        (["load", "-i", "a", "b"], "takes one archive"),
        (["tag", "a", "Upper"], "lower case"),
    ],
)
def test_bad_usage_is_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in run(capsys, *words, status=2)


@pytest.mark.parametrize(
    "command",
    ["images", "tag", "rmi", "history", "inspect", "save", "load", "import", "diff", "layers"],
)
def test_every_command_has_a_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, command, "--help").startswith(f"Usage: pybuild {command} [FLAGS]")
