from pathlib import Path

import pytest

from builder.commands import build
from builder.commands.build_calls import Call, call_of
from builder.commands.flags import parse
from builder.errors import UsageError
from builder.request import BuildRequest, OutputSpec, SecretSpec

ENVIRON = {"PYBUILD_ROOT": "/store", "FROM_ENV": "x", "DOCKER_CONFIG": "/nowhere"}


def request_of(*words: str, environ: dict[str, str] | None = None) -> BuildRequest:
    return build.request_of(parse(build.FLAGS, words), ENVIRON if environ is None else environ)


def test_a_bare_context_takes_every_default() -> None:
    assert request_of(".") == BuildRequest(context=".", root="/store")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["-t", "app", "--tag=app:1.0", "-tapp"], "tags", ("app:latest", "app:1.0")),
        (["-f", "x/Dockerfile.dev"], "dockerfile", "x/Dockerfile.dev"),
        (["-f", "-"], "dockerfile", "-"),
        (
            ["--build-arg", "A=1", "--build-arg=B==", "--build-arg", "FROM_ENV"],
            "build_args",
            {"A": "1", "B": "=", "FROM_ENV": None},
        ),
        (["--target", "final"], "target", "final"),
        (["--label", "a=b=c", "--label", "d"], "labels", {"a": "b=c", "d": ""}),
        (["--no-cache"], "no_cache", True),
        (["--no-cache=false"], "no_cache", False),
        (["--no-cache-filter", "a,b", "--no-cache-filter=c"], "no_cache_filter", ("a", "b", "c")),
        (["-o", "out"], "outputs", (OutputSpec(type="local", dest="out"),)),
        (["--load"], "load", True),
        (["--platform", "linux/aarch64"], "platform", "linux/arm64"),
        (["--build-arg=BUILDKIT_MULTI_PLATFORM=1"], "multi_platform", True),
        (["--build-arg=BUILDKIT_MULTI_PLATFORM=false"], "multi_platform", False),
        (["--build-arg=BUILDKIT_MULTI_PLATFORM="], "multi_platform", False),
        (["--build-arg=BUILDKIT_MULTI_PLATFORM"], "multi_platform", False),
        (["--pull"], "pull", True),
        (["--network", "none"], "network", "none"),
        (["--network", "host"], "allow", ("network.host",)),
        (["--allow", "security.insecure"], "allow", ("security.insecure",)),
        (
            ["--allow", "device", "--allow=device=v.com/c=a,alias=b"],
            "allow",
            ("device", "device=v.com/c=a,alias=b"),
        ),
        (["--cdi-spec-dir", "/a", "--cdi-spec-dir=/b"], "cdi_spec_dirs", ("/a", "/b")),
        (["--add-host", "a:10.0.0.1"], "add_hosts", (("a", "10.0.0.1"),)),
        (["--shm-size", "128m"], "shm_size", 128 << 20),
        (["--ulimit", "nofile=1:2", "--ulimit=core=0"], "ulimits", ("nofile=1:2", "core=0:0")),
        (
            ["--secret", "id=a,env=A", "--secret", "id=a,env=B"],
            "secrets",
            (SecretSpec(id="a", env="B"),),
        ),
        (["--iidfile", "id"], "iidfile", "id"),
        (["--metadata-file", "m.json"], "metadata_file", "m.json"),
        (["--jobs", "3"], "jobs", 3),
        (["--root", "/elsewhere"], "root", "/elsewhere"),
        (["--root", "else where"], "root_flag", "else where"),
        (["--build-context", "b=docker-image://debian"], "contexts", {"b": "docker-image://debian"}),
    ],
)
def test_every_flag_ends_up_in_its_field(words: list[str], field: str, value: object) -> None:
    assert getattr(request_of(*words, "."), field) == value


@pytest.mark.parametrize(
    "words",
    [
        ["--rm"],
        ["--rm=false"],
        ["--force-rm"],
        ["--compress"],
        ["--provenance=false"],
        ["--sbom=false"],
        ["--builder", "x"],
    ],
)
def test_flags_without_a_meaning_here_are_accepted(words: list[str]) -> None:
    assert request_of(*words, ".") == BuildRequest(context=".", root="/store")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "context is missing"),
        (["a", "b"], "not 2: a b"),
        ([""], "context is empty"),
        (["--jobs", "0", "."], "--jobs 0"),
        (["--jobs", "many", "."], "--jobs many"),
        (["--network", "bridge", "."], "no such mode"),
        (["--cache-from", "X", "."], "--cache-from X: "),
        (["--ssh=default", "."], "--ssh default: SSH_AUTH_SOCK is not set"),
        (["--ssh=own=/no/key", "."], "--ssh own=/no/key: /no/key is not there"),
        (["--ssh=own=/dev/null", "."], "/dev/null is neither an agent's socket nor a file"),
        (["--ssh=own=", "."], "SSH_AUTH_SOCK is not set"),
        (["--ssh=a=/etc/passwd", "--ssh=a=/etc/passwd", "."], "a is given twice"),
        (["-m", "4m", "."], "--memory 4m: the least is 6m"),
        (["--provenance=mode=most", "."], "no mode 'most'"),
        (["--build-arg", "=x", "."], "the name before = is empty"),
        (["--build-arg=BUILDKIT_MULTI_PLATFORM=2", "."], "MULTI_PLATFORM=2 is neither true nor false"),
        (
            ["--build-arg=BUILDKIT_MULTI_PLATFORM=0", "--platform=linux/amd64,linux/arm64", "."],
            "but there are several, linux/amd64,linux/arm64",
        ),
        (["--iidfile", "x", "-o", "out", "."], "--iidfile"),
        (["--no-cache=perhaps", "."], "true or false"),
    ],
)
def test_bad_usage_is_told_in_one_message(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_of(*words)


def test_the_store_lies_where_the_data_of_a_user_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    home = {"HOME": "/home/u"}

    monkeypatch.chdir("/")
    assert request_of("--root", "x", ".").root == "/x"
    assert request_of(".", environ=home).root == "/home/u/.local/share/pybuild"
    assert request_of(".", environ={"XDG_DATA_HOME": "/data"}).root == "/data/pybuild"
    assert (
        request_of(".", environ={**home, "XDG_DATA_HOME": "relative"}).root == "/home/u/.local/share/pybuild"
    )
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert request_of(".", environ={"XDG_DATA_HOME": "/data"}).root == "/var/lib/pybuild"


def test_the_platform_may_come_from_dockers_variable() -> None:
    environ = {**ENVIRON, "DOCKER_DEFAULT_PLATFORM": "linux/arm64"}

    assert request_of(".", environ=environ).platform == "linux/arm64"
    assert request_of("--platform", "linux/amd64", ".", environ=environ).platform == "linux/amd64"


@pytest.mark.parametrize(
    ("words", "environ", "progress", "digest"),
    [
        ([], {}, "auto", False),
        (["--progress", "plain"], {"BUILDKIT_PROGRESS": "tty"}, "plain", False),
        ([], {"BUILDKIT_PROGRESS": "rawjson"}, "rawjson", False),
        (["-q"], {}, "quiet", True),
        (["-q"], {"BUILDKIT_PROGRESS": "plain"}, "quiet", True),
        (["--progress=quiet"], {}, "quiet", True),
        (["--progress=none"], {}, "quiet", False),
    ],
)
def test_what_is_shown_follows_flags_and_environment(
    words: list[str], environ: dict[str, str], progress: str, digest: bool
) -> None:
    assert build.display_of(parse(build.FLAGS, words), environ) == build.Display(
        progress=progress, digest=digest
    )


def test_quiet_and_another_progress_cannot_be_used_together() -> None:
    with pytest.raises(UsageError, match="cannot be used together"):
        build.display_of(parse(build.FLAGS, ["-q", "--progress=plain"]), {})
    with pytest.raises(UsageError, match="BUILDKIT_PROGRESS=plian: no such mode"):
        build.display_of(parse(build.FLAGS, []), {"BUILDKIT_PROGRESS": "plian"})


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("build", None),
        ("graph", Call(name="graph", format="text")),
        ("graph,format=dot", Call(name="graph", format="dot")),
        ("format=json,graph", Call(name="graph", format="json")),
        ("lint,format=sarif", Call(name="check", format="sarif")),
        ("check,ignorestatus", Call(name="check", format="text", ignore_status=True)),
        ("check,ignorestatus=false", Call(name="check", format="text")),
        ("outline,format=json", Call(name="outline", format="json")),
        ("ast", Call(name="ast", format="json")),
        ("subrequests.describe", Call(name="subrequests.describe", format="text")),
    ],
)
def test_call_names_a_method_and_a_format(text: str, call: Call | None) -> None:
    assert call_of(parse(build.FLAGS, [f"--call={text}"])) == call
    assert call_of(parse(build.FLAGS, [f"--print={text}"])) == call


def test_check_is_a_call() -> None:
    assert call_of(parse(build.FLAGS, ["--check"])) == Call(name="check", format="text")
    assert call_of(parse(build.FLAGS, ["--check=false"])) is None


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--call=grap", "no such method"),
        ("--call=outline,format=sarif", "no such format"),
        ("--call=ast,format=text", "no such format"),
        ("--call=check,ignorestatus=maybe", "does not belong there"),
        ("--call=graph,format=svg", "no such format"),
        ("--call=graph,x=1", "does not belong there"),
    ],
)
def test_methods_that_are_not_there_are_refused(flag: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call_of(parse(build.FLAGS, [flag]))


def test_files_for_scripts_hold_the_digest_and_the_metadata(tmp_path: Path) -> None:
    from builder.build import BuildResult

    result = BuildResult(
        image="sha256:1",
        names=("a",),
        size=1,
        seconds=1.0,
        metadata={"containerimage.digest": "sha256:1"},  # type: ignore[arg-type]
    )
    iidfile, metadata = tmp_path / "id", tmp_path / "m"
    metadata.write_text("old")

    build._write_files(
        BuildRequest(context=".", root="/", iidfile=str(iidfile), metadata_file=str(metadata)), result
    )

    assert iidfile.read_text() == "sha256:1"
    assert metadata.read_text() == '{\n  "containerimage.digest": "sha256:1"\n}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["id", "m"]
