"""Names and options of a Dockerfile that mean to be more than they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from builder.cachemounts import CacheMounts
from builder.dockerfile import patterns
from builder.dockerfile.mounts import MountError, parse_mount
from builder.errors import BuildError, DockerfileError
from tests.support.compiling import compile_once, compile_text, config_of, image, ops


@pytest.mark.hostile("CVE-2024-9675", "CVE-2026-33747")
@pytest.mark.parametrize(
    "name", ["../../out", "/etc", "..", ".", "a/b", "a\nb", "x" * 5000, "é/\udcff", ".lock"]
)
async def test_the_id_of_a_cache_is_no_path(tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    mounts = CacheMounts(str(store))

    async with mounts.hold(mounts.name(name, []), "shared") as folder:
        mounts.make(folder, lambda path: None)

    assert os.path.dirname(folder) == mounts.folder
    assert set(os.path.basename(folder)) <= set("0123456789abcdef")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.hostile("CVE-2024-9407")
@pytest.mark.parametrize(
    "key", ["bind-propagation=rshared", "propagation=shared", "options=suid", "o=dev", "bind-recursive=x"]
)
def test_no_option_of_a_mount_goes_to_the_kernel_as_it_is(key: str) -> None:
    with pytest.raises(MountError, match=key.partition("=")[0]):
        parse_mount(f"type=bind,target=/m,{key}", lambda text: text)


@pytest.mark.hostile("CVE-2024-1753")
@pytest.mark.parametrize("source", ["../../..", "/../../etc", "a/../../../b"])
def test_a_source_with_dots_stays_in_what_it_is_of(source: str) -> None:
    program = compile_text(
        f"FROM busybox AS a\nFROM busybox\nRUN --mount=from=a,source={source},target=/m x\n"
    )

    assert all(
        ".." not in path.split("/")
        for vertex in program.definition
        for taken in vertex.inputs
        if taken.select is not None
        for path in taken.select.patterns
    )


@pytest.mark.hostile("CVE-2024-23653", "BuildKit 64bbec89c")
@pytest.mark.parametrize("value", ["insecur", "INSECURE", "insecure ", "1", "unconfined", ""])
def test_a_kind_of_security_that_there_is_not_is_refused(value: str) -> None:
    with pytest.raises(DockerfileError):
        compile_text(f'FROM busybox\nRUN --security="{value}" true\n')


@pytest.mark.hostile("CVE-2024-23653")
def test_no_trigger_of_an_image_is_granted_more_than_the_dockerfile() -> None:
    base = image("busybox", on_build=("RUN --security=insecure true",))

    with pytest.raises(BuildError, match=r"security\.insecure"):
        compile_text("FROM busybox\n", bases={"docker.io/library/busybox:latest": base})


@pytest.mark.hostile("CVE-2014-9356", "CVE-2014-9358", "CVE-2024-3727")
@pytest.mark.parametrize("name", [
    "a@sha256:../../../etc/passwd", "a@sha256:" + "0" * 63, "a@sha256:" + "0" * 64 + "/..", "a@../x:0",
    "../../etc", "a/../b", "a:..", "a:-x/..", "-x/a", "--x", "\x1b[2Ja", "a@sha256:" + "٠" * 64,
    "../etc", ".host/a", "a..b/c", "-host.x/a", "h_.x/a", "[..]/a", "host:/a", "host:1a/b",
])  # fmt: skip
def test_a_name_of_an_image_is_no_path_and_no_option(name: str) -> None:
    with pytest.raises(DockerfileError):
        compile_once(f"FROM {name}\n")
    with pytest.raises(DockerfileError):
        compile_once(f"FROM scratch\nCOPY --from={name} a b\n")


@pytest.mark.hostile("Dockerfile", ".dockerignore/patterns")
def test_patterns_of_variables_do_not_backtrack() -> None:
    value, pattern = "a" * 400, "*a" * 100 + "b"

    assert patterns.cut_prefix(value, pattern, longest=True) == value
    assert patterns.cut_suffix(value, pattern[::-1], longest=False) == value
    assert patterns.part(value, pattern, every=True) == [value]


@pytest.mark.hostile("terminal escapes")
def test_an_error_of_a_hostile_name_is_printable_where_it_is_shown() -> None:
    from builder.ui.diagnostics import render

    for text in ("FROM a AS \x1b[2J\n", "RUM\x1b]0;x\x07 a\n", "FROM busybox\nCOPY --fr\u202eom=x a b\n"):
        with pytest.raises(DockerfileError) as caught:
            compile_text(text)
        assert all(line.isprintable() for line in render(caught.value, color=False).split("\n"))


@pytest.mark.hostile("CVE-2026-53488")
def test_labels_decide_nothing() -> None:
    labels = {
        "org.pybuild.rootfs": '{"lower": [], "upper": "/"}', "hostname": "evil", "network": "host",
        "PATH": "/evil",
        "io.containerd.image.name": "$(touch /tmp/x)", "security.insecure": "1", "moby.frontend": "evil",
    }  # fmt: skip
    steps = "COPY a /b\nWORKDIR /w\nRUN --mount=type=cache,target=/c x\n"
    text = "".join(f"LABEL {name}={json.dumps(value)}\n" for name, value in labels.items()).replace(
        "$", "\\$"
    )
    plain = compile_text(f"FROM busybox\n{steps}")

    written = compile_text(f"FROM busybox\n{text}{steps}")
    inherited = compile_text(
        f"FROM busybox\n{steps}", bases={"docker.io/library/busybox:latest": image("busybox", labels=labels)}
    )

    for program in (written, inherited):
        assert ops(program) == ops(plain)
        assert config_of(program)["Labels"] == labels
