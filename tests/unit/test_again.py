"""Requests as records keep them, and as they are built again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from builder import again, prepare
from builder.errors import BuildError
from builder.request import BuildRequest, OutputSpec, SecretSpec

GIVEN = BuildRequest(context=".", root="/store")


def kept(request: BuildRequest, **environ: str) -> dict[str, object]:
    """What a record has of it, once it was written and read."""
    found: dict[str, object] = json.loads(json.dumps(again.plain_of(request, environ)))
    return found


def test_what_makes_the_image_is_built_again_and_where_it_went_is_not(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.dev").touch()
    asked = BuildRequest(
        context=str(tmp_path),
        root="/elsewhere",
        dockerfile=str(tmp_path / "Dockerfile.dev"),
        tags=("app:1",),
        target="web",
        platform="linux/arm64",
        labels={"a": "b"},
        add_hosts=(("db", "10.0.0.1"),),
        ulimits=("nofile=1:2",),
        outputs=(OutputSpec("docker", "x.tar", {"compression": "zstd"}),),
        iidfile="id",
        reproducible=True,
    )

    found = again.request_of(kept(asked), GIVEN)

    assert found == BuildRequest(
        context=str(tmp_path),
        root="/store",
        dockerfile=str(tmp_path / "Dockerfile.dev"),
        target="web",
        platform="linux/arm64",
        labels={"a": "b"},
        add_hosts=(("db", "10.0.0.1"),),
        ulimits=("nofile=1:2",),
        outputs=(OutputSpec("docker", None, {"compression": "zstd"}),),
        own_epoch=True,
        reproducible=True,
    )


def test_paths_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.chdir(tmp_path)
    contexts = {
        "lib": "lib",
        "base": "docker-image://a",
        "one": "oci-layout://one",
        "two": "oci-layout://./two:1",
    }
    plain = kept(BuildRequest(context=".", root="/", contexts=contexts))

    monkeypatch.chdir("/")
    found = again.request_of(plain, GIVEN)

    assert found.context == str(tmp_path)
    assert found.contexts == {
        "lib": str(tmp_path / "lib"),
        "base": "docker-image://a",
        "one": f"oci-layout://{tmp_path}/one",
        "two": f"oci-layout://{tmp_path}/two:1",
    }


def test_a_file_here_is_not_one_in_a_context_that_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").touch()
    monkeypatch.chdir(tmp_path)
    address = "https://host/repo.git"

    plain = kept(BuildRequest(context=address, root="/", dockerfile="Dockerfile"))

    assert again.request_of(plain, GIVEN).dockerfile == "Dockerfile"


def test_the_time_of_the_build_is_kept_whatever_the_environment_says() -> None:
    plain = kept(BuildRequest(context="/", root="/"), SOURCE_DATE_EPOCH="17")

    assert again.request_of(plain, GIVEN).build_args == {"SOURCE_DATE_EPOCH": "17"}


def test_a_build_without_a_time_has_none_again_whatever_the_environment_says() -> None:
    """An empty one would stand in for what an ARG of the Dockerfile says."""
    found = again.request_of(kept(BuildRequest(context="/", root="/")), GIVEN)

    assert prepare.build_args(found, {"SOURCE_DATE_EPOCH": "18"}) == {}


def test_all_outputs_are_kept_that_a_build_makes(tmp_path: Path) -> None:
    asked = BuildRequest(context="/", root="/", load=True, outputs=(OutputSpec("oci", "x.tar"),))

    assert kept(asked)["outputs"] == [["image", {}], ["oci", {}]]


def test_values_that_may_be_secret_are_not_kept() -> None:
    asked = BuildRequest(
        context="https://user:canary@host/repo.git",
        root="/",
        build_args={"TOKEN": "canary"},
        secrets=(SecretSpec("key", env="CANARY"),),
        contexts={"lib": "https://user:canary@host/lib.git"},
    )

    assert "canary" not in json.dumps(kept(asked))


def test_what_a_record_does_not_keep_is_asked_for_by_name() -> None:
    asked = BuildRequest(
        context="/", root="/", build_args={"TOKEN": "x", "OTHER": "y"}, secrets=(SecretSpec("key", file="f"),)
    )
    given = GIVEN.but(build_args={"OTHER": "y"})

    with pytest.raises(BuildError, match=r"--build-arg TOKEN, --secret key") as caught:
        again.request_of(kept(asked), given)

    assert caught.value.code == "not-recorded"
    whole = GIVEN.but(build_args={"OTHER": "y", "TOKEN": "x"}, secrets=asked.secrets)
    found = again.request_of(kept(asked), whole)
    assert found.build_args["TOKEN"] == "x"
    assert found.secrets == asked.secrets


def test_a_build_argument_that_had_no_value_is_not_asked_for() -> None:
    plain = kept(BuildRequest(context="/", root="/", build_args={"UNSET": None, "SET": None}), SET="1")

    with pytest.raises(BuildError, match=r"keep --build-arg SET$"):
        again.request_of(plain, GIVEN)


def test_an_address_whose_credentials_are_not_kept_is_told() -> None:
    plain = kept(BuildRequest(context="https://user:pass@host/repo.git", root="/"))

    with pytest.raises(BuildError, match="the credentials of the context"):
        again.request_of(plain, GIVEN)


@pytest.mark.parametrize(("context", "dockerfile"), [(os.sep, "-"), ("-", None)])
def test_a_build_from_standard_input_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str, dockerfile: str | None
) -> None:
    (tmp_path / "-").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError, match="standard input"):
        again.request_of(kept(BuildRequest(context=context, root="/", dockerfile=dockerfile)), GIVEN)


@pytest.mark.parametrize("plain", [{}, {"context": 1}, {"context": "/", "contexts": None}])
def test_a_record_that_does_not_tell_is_an_error_in_words(plain: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="does not tell"):
        again.request_of(plain, GIVEN)


def test_a_context_that_has_gone_is_asked_for(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    plain = kept(BuildRequest(context=str(gone), root="/store"))
    gone.rmdir()

    with pytest.raises(BuildError, match="of its build is not there any more") as caught:
        again.request_of(plain, GIVEN)

    assert "name its CONTEXT" in (caught.value.hint or "")
