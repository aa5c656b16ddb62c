import socket
from pathlib import Path

import pytest

from builder.commands import values
from builder.errors import UsageError
from builder.request import OutputSpec, SecretSpec, SshSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("out", OutputSpec(type="local", dest="out")),
        ("-", OutputSpec(type="tar", dest="-")),
        ("type=local,dest=out", OutputSpec(type="local", dest="out")),
        ("type=oci,dest=a.tar", OutputSpec(type="oci", dest="a.tar")),
        ("type=oci", OutputSpec(type="oci", dest="-")),
        ("type=tar", OutputSpec(type="tar", dest="-")),
        ("type=docker", OutputSpec(type="docker")),
        ("type=docker,dest=-", OutputSpec(type="docker", dest="-")),
        ("type=image", OutputSpec(type="image")),
        ("type=image,push=false", OutputSpec(type="image", attrs={"push": "false"})),
        ("type=registry", OutputSpec(type="registry")),
        ("type=image,push=true", OutputSpec(type="image", attrs={"push": "true"})),
        ("type=oci,tar=false,dest=d", OutputSpec(type="oci", dest="d", attrs={"tar": "false"})),
        (
            "type=oci,dest=a.tar,name=x,rewrite-timestamp=true,Compression=zstd",
            OutputSpec(
                type="oci",
                dest="a.tar",
                attrs={"name": "x", "rewrite-timestamp": "true", "compression": "zstd"},
            ),
        ),
        ('type=oci,"dest=a,b.tar"', OutputSpec(type="oci", dest="a,b.tar")),
    ],
)
def test_outputs_are_read_as_buildx_reads_them(text: str, spec: OutputSpec) -> None:
    assert values.output(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dest=a.tar,type", "KEY=VALUE"),
        ("a,b", "KEY=VALUE"),
        ("dest=x,name=y", "type is missing"),
        ("type=ocii,dest=x", "no output type 'ocii'"),
        ("type=local", "dest is missing"),
        ("type=oci,tar=false", "dest is missing"),
        ("type=local,dest=-", "standard output"),
        ("type=oci,tar=perhaps,dest=x", "tar is true or false"),
        ("type=registry,dest=x", "no dest"),
        ("type=image,dest=x", "no dest"),
        ('type=oci,"dest=x', "unexpected end"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        values.output(text)


def test_outputs_are_checked_against_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    def check(*texts: str, terminal: bool = False) -> None:
        values.check_outputs([values.output(text) for text in texts], stdout_is_terminal=terminal)

    check(f"type=oci,dest={file}", str(tmp_path), "-")
    with pytest.raises(UsageError, match="is a file"):
        check(str(file))
    with pytest.raises(UsageError, match="is a folder"):
        check(f"type=oci,dest={tmp_path}")
    with pytest.raises(UsageError, match="several outputs"):
        check("-", "type=oci")
    with pytest.raises(UsageError, match="terminal"):
        check("type=oci", terminal=True)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("id=a,env=VAR", SecretSpec(id="a", env="VAR")),
        ("id=a,type=env,src=VAR", SecretSpec(id="a", env="VAR")),
        ("type=env,id=a,env=VAR", SecretSpec(id="a", env="VAR")),
        ("id=HERE", SecretSpec(id="HERE", env="HERE")),
        ("id=a,src=file", SecretSpec(id="a", file="file")),
        ("id=a,source=file,type=file", SecretSpec(id="a", file="file")),
        ("ID=a,SRC=file", SecretSpec(id="a", file="file")),
        ("id=file", SecretSpec(id="file", file="file")),
        ('id=a,"src=with,comma"', SecretSpec(id="a", file="with,comma")),
    ],
)
def test_secrets_are_read_as_buildx_reads_them(
    text: str, spec: SecretSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "with,comma"):
        (tmp_path / name).write_text("s3cr3t")

    assert values.secret(text, {"HERE": "s3cr3t"}) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name", "KEY=VALUE"),
        ("src=x", "id is missing"),
        ("id=a,type=vault", "no type 'vault'"),
        ("id=a,sorce=x", "no field 'sorce'"),
        ("id=a,src=/not/there", "secret 'a' is not there"),
        ("id=a,src=/", "cannot be read as a file"),
    ],
)
def test_secrets_that_make_no_sense_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        values.secret(text, {})


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a:10.0.0.1", [("a", "10.0.0.1")]),
        ("a=10.0.0.1", [("a", "10.0.0.1")]),
        ("a:::1", [("a", "::1")]),
        ("a=::1", [("a", "::1")]),
        ("a:[::1]", [("a", "::1")]),
        ("a=10.0.0.1,b=10.0.0.2", [("a", "10.0.0.1"), ("b", "10.0.0.2")]),
        ("a:host-gateway", [("a", "127.0.0.1")]),
    ],
)
def test_hosts_take_a_colon_or_an_equals_sign(text: str, pairs: list[tuple[str, str]]) -> None:
    assert values.add_hosts([text]) == tuple(pairs)


@pytest.mark.parametrize("text", ["a", "a:", ":1.1.1.1", "a:1.1.1", "a:b", "a b:1.1.1.1", "a:1.1.1.1\nx"])
def test_hosts_without_a_name_or_an_address_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        values.add_hosts([text])


def test_this_machine_is_reached_in_its_own_network_alone() -> None:
    assert values.add_hosts(["a:host-gateway"]) == (("a", "127.0.0.1"),)
    assert values.add_hosts(["a:10.0.0.1"], "pasta") == (("a", "10.0.0.1"),)
    with pytest.raises(UsageError, match="pasta"):
        values.add_hosts(["a:host-gateway"], "pasta")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("64", 64), ("64b", 64), ("1k", 1024), ("1K", 1024), ("1kb", 1024), ("1KiB", 1024),
        ("128m", 128 << 20), ("1.5g", 3 << 29), ("2 GB", 2 << 30), ("1t", 1 << 40),
    ],
)  # fmt: skip
def test_sizes_have_dockers_units(text: str, size: int) -> None:
    assert values.byte_size(text, "--shm-size") == size


@pytest.mark.parametrize("text", ["x", "1x", "-1", "1mm", "1bb", "1bib", "m", "nan", "inf", "1e30g", "1 2m"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        values.byte_size(text, "--shm-size")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=100:200", "nofile=100:200"),
        ("nofile=100", "nofile=100:100"),
        ("core=-1", "core=-1:-1"),
        ("stack=8:-1", "stack=8:-1"),
    ],
)
def test_limits_have_a_soft_and_a_hard_value(text: str, limit: str) -> None:
    assert values.ulimit(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "nofile", "nofile=", "nofile=a", "nofiles=1", "nofile=2:1", "nofile=-1:1", "nofile=-2",
        f"nofile={1 << 63}", f"nofile={1 << 64}", f"nofile=1:{1 << 64}", "nofile=" + "9" * 5000,
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--ulimit"):
        values.ulimit(text)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("app", "app:latest"),
        ("app:1.0", "app:1.0"),
        ("docker.io/library/app:1.0", "app:1.0"),
        ("127.0.0.1:5000/app:1.0", "127.0.0.1:5000/app:1.0"),
    ],
)
def test_names_are_normalised_as_docker_does(typed: str, name: str) -> None:
    assert values.image_name(typed, "-t") == name


@pytest.mark.parametrize("typed", ["App", "a:", "a b", "app@sha256:" + "0" * 64, "app:1.0:2"])
def test_names_that_are_none_are_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="-t "):
        values.image_name(typed, "-t")


def test_named_contexts_have_the_sources_of_this_version(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    found = values.named_contexts(
        [
            f"a={tmp_path}",
            "b:latest=oci-layout:///x:1",
            f"docker.io/library/c=docker-image://d@{digest}",
            f"docker.io/library/e@{digest}={tmp_path}",
        ]
    )

    assert found == {
        "a": str(tmp_path),
        "b": "oci-layout:///x:1",
        "c": f"docker-image://d@{digest}",
        f"e@{digest}": str(tmp_path),
    }


def test_a_named_context_may_be_for_one_platform_alone(tmp_path: Path) -> None:
    texts = [f"docker.io/library/deps:latest::linux/arm64={tmp_path}", f"deps={tmp_path}"]

    assert set(values.named_contexts(texts)) == {"deps::linux/arm64", "deps"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "NAME=SOURCE"),
        ("a=", "NAME=SOURCE"),
        ("=x", "NAME=SOURCE"),
        ("A=.", "lower case"),
        ("a=/not/there", "is not there"),
        ("a=/dev/null", "is not a folder"),
        ("a=oci-layout://", "nothing comes after"),
        ("a=ftp://x/y.tar", "no kind of context begins with ftp://"),
        ("a=file:///x/y.git", "no kind of context begins with file://"),
        ("a=target:b", "not available in this version"),
    ],
)
def test_named_contexts_of_other_kinds_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        values.named_contexts([text])


def test_platforms_are_normalised_and_each_is_there_once() -> None:
    assert values.platform(["linux/x86_64"]) == "linux/amd64"
    assert values.platform(["linux/arm"]) == "linux/arm/v7"
    assert values.platform(["linux/arm64", "linux/arm64"]) == "linux/arm64"
    assert values.platform([]) == ""
    several = ["linux/amd64, linux/aarch64", "linux/arm/v7", "linux/arm64/v8,linux/amd64"]
    assert values.platform(several) == "linux/amd64,linux/arm64,linux/arm/v7"
    with pytest.raises(UsageError, match="platform"):
        values.platform(["linux/a/b/c"])


def test_a_platform_that_nothing_is_built_for_is_refused() -> None:
    with pytest.raises(UsageError, match="neither a known operating system nor a known architecture"):
        values.platform(["nonsense"])
    with pytest.raises(UsageError, match="version"):
        values.platform(["windows(10.0.17763)/amd64"])


def test_entitlements_include_what_the_network_grants() -> None:
    assert values.entitlements(["security.insecure"], "host") == ("network.host", "security.insecure")
    assert values.entitlements([], "none") == ()
    with pytest.raises(UsageError, match="no such entitlement") as caught:
        values.entitlements(["network.hosts"], "default")
    assert caught.value.hint == "did you mean network.host?"


def test_agents_are_sockets_or_keys_by_their_ids(tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    key.touch()
    other.touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        own = str(tmp_path / "agent")

        found = values.ssh(["default", f"keys={key},{other}", f"own={own}"], {"SSH_AUTH_SOCK": own})

        assert found == (
            SshSpec(id="default", paths=(own,)),
            SshSpec(id="keys", paths=(str(key), str(other))),
            SshSpec(id="own", paths=(own,)),
        )
        assert values.ssh([f"={key}"], {}) == (SshSpec(id="default", paths=(str(key),)),)
        with pytest.raises(UsageError, match="an agent's socket stands alone"):
            values.ssh([f"a={key},{own}"], {})


@pytest.mark.parametrize("text", ["\udcff=1.2.3.4", "a\x01:1.2.3.4", "a=fe80::1%\n1.2.3.4 b"])
def test_a_host_of_characters_that_no_file_of_hosts_can_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        values.add_hosts([text])
