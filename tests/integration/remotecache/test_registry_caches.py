"""--cache-to and --cache-from with a real registry, and machines that have nothing in common."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.layouts import make_tar
from tests.support.machine import needs, needs_root, run
from tests.support.registry import RunningRegistry, free_port, running_registry
from tests.support.remotecaches import Machine, steps_of, warnings_of

pytestmark = [pytest.mark.root, pytest.mark.peers, needs_root(), needs("docker-registry", "skopeo")]

Make = Callable[[str], Machine]


def manifest_of(registry: RunningRegistry, name: str, tag: str = "cache") -> dict[str, object]:
    accept = {"accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"http://{registry.host}/v2/{name}/manifests/{tag}", headers=accept)
    with urllib.request.urlopen(request) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def digests_of(manifest: dict[str, object]) -> list[str]:
    return [layer["digest"] for layer in manifest["layers"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_another_machine_takes_the_image_and_no_layer_that_is_not_in_it(
    machine: Make, registry: RunningRegistry, mode: str
) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/app-{mode}:cache"
    made = here.app("--cache-to", f"type=registry,ref={ref},mode={mode}")

    taken = there.app("--cache-from", ref)

    assert taken.ran == []
    assert taken.digest == made.digest
    stored = digests_of(manifest_of(registry, f"app-{mode}"))
    assert set(there.layers()) < set(stored) if mode == "max" else set(there.layers()) == set(stored)
    assert not any(there.has(digest) for digest in set(stored) - set(there.layers()))
    there.check_clean()


def test_a_stage_goes_on_where_its_source_was_changed(machine: Make, registry: RunningRegistry) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/stages:cache"
    here.app("--cache-to", f"type=registry,ref={ref},mode=max")
    there.write("src/a", "changed\n")

    taken = there.app("--cache-from", f"type=registry,ref={ref}")

    assert [name.split()[0] for name in steps_of(taken)] == ["COPY", "RUN", "COPY", "RUN"]
    tool = here.build("--target", "build", "-o", f"type=local,dest={here.folder}/out")
    assert tool.ran == []
    there.build("--target", "build", "-o", f"type=local,dest={there.folder}/out")
    ours, theirs = (place.folder / "out/out/tool" for place in (here, there))
    assert ours.read_text() == theirs.read_text()


def test_a_min_cache_has_no_stage_to_go_on_from(machine: Make, registry: RunningRegistry) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/min:cache"
    here.app("--cache-to", ref)
    there.write("src/a", "changed\n")

    taken = there.app("--cache-from", ref)

    assert len(steps_of(taken)) == 5
    assert warnings_of(taken) == []


def test_a_cached_build_fills_a_cache_all_the_same(machine: Make, registry: RunningRegistry) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/cached:cache"
    here.app()

    again = here.app("--cache-to", f"type=registry,ref={ref},mode=max")

    assert again.ran == []
    assert there.app("--cache-from", ref).ran == []


def test_what_nothing_needed_goes_on_to_the_next_cache(machine: Make, registry: RunningRegistry) -> None:
    here, there, third = machine("here"), machine("there"), machine("third")
    first, second = f"{registry.host}/first:cache", f"{registry.host}/second:cache"
    here.app("--cache-to", f"type=registry,ref={first},mode=max")

    there.app("--cache-from", first, "--cache-to", f"type=registry,ref={second},mode=max")

    had, has = (digests_of(manifest_of(registry, name)) for name in ("first", "second"))
    assert sorted(had) == sorted(has)
    assert not any(there.has(digest) for digest in set(had) - set(there.layers()))  # nothing came and went
    third.write("src/a", "changed\n")
    assert len(steps_of(third.app("--cache-from", second))) == 4


def test_all_that_is_here_is_found_without_the_registry(machine: Make, tmp_path: Path) -> None:
    here, there = machine("here"), machine("there")
    with running_registry(tmp_path / "registry") as registry:
        ref = f"{registry.host}/local:cache"
        here.app("--cache-to", ref)
        there.app("--cache-from", ref)

    again = there.app("--cache-from", ref)

    assert (again.ran, warnings_of(again)) == ([], [])
    assert "exporting" not in again.err  # nothing was made


def test_a_cache_in_the_image_is_read_wherever_the_image_was_copied(
    machine: Make, registry: RunningRegistry
) -> None:
    here, there = machine("here"), machine("there")
    archive = here.folder / "app.tar"
    here.app("--cache-to", "type=inline", "-o", f"type=oci,dest={archive}")
    name = f"{registry.host}/inline:1"
    run(["skopeo", "copy", "--dest-tls-verify=false", f"oci-archive:{archive}", f"docker://{name}"])

    taken = there.app("--cache-from", name)

    assert (taken.ran, warnings_of(taken)) == ([], [])
    config = there.blob(there.blob(taken.digest)["config"]["digest"])
    assert "org.pybuild.cache.v1" not in config


def test_an_image_with_a_cache_in_it_is_the_same_image_besides(machine: Make) -> None:
    here = machine("here")
    plain = here.app()

    with_cache = here.app("--build-arg", "BUILDKIT_INLINE_CACHE=1")
    again = here.app()

    assert again.digest == plain.digest != with_cache.digest
    configs = [here.blob(here.blob(one.digest)["config"]["digest"]) for one in (plain, with_cache)]
    assert configs[1].pop("org.pybuild.cache.v1")["format"] == 1
    assert configs[0] == configs[1]


def test_a_cache_that_is_not_there_is_a_warning(machine: Make, registry: RunningRegistry) -> None:
    here = machine("here")
    words = ["--cache-from", f"{registry.host}/no/such:1", "--cache-from", f"127.0.0.1:{free_port()}/x"]

    made = here.app(*words, "--cache-from", "type=local,src=/no/such/folder")

    told = sorted(warnings_of(made))
    assert len(told) == 3
    assert any("the image layout /no/such/folder is not there" in line for line in told)
    assert any("no/such:1 is not in registry" in line for line in told)
    assert any("nothing listens there" in line for line in told)


def test_an_image_without_a_cache_is_a_warning(machine: Make, registry: RunningRegistry) -> None:
    here = machine("here")
    archive = here.folder / "app.tar"
    here.app("-o", f"type=oci,dest={archive}")
    name = f"{registry.host}/plain:1"
    run(["skopeo", "copy", "--dest-tls-verify=false", f"oci-archive:{archive}", f"docker://{name}"])

    (told,) = warnings_of(machine("there").app("--cache-from", name))

    assert told == f"cache from {name}: {name} is an image without a cache"


def test_a_cache_that_cannot_be_written_fails_the_build_after_the_image_is_made(machine: Make) -> None:
    here = machine("here")
    nowhere = f"127.0.0.1:{free_port()}/x"

    failed = here.fail("-t", "app", "--cache-to", nowhere)
    ignored = here.app("--cache-to", f"type=registry,ref={nowhere},ignore-error=true")

    assert failed.message.startswith(f"exporting cache to {nowhere}:latest failed: registry 127.0.0.1:")
    assert "app:latest" in here.names()
    assert "nothing listens there" in warnings_of(ignored)[0]


def test_no_cache_takes_nothing_and_gives_what_it_made(machine: Make, registry: RunningRegistry) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/nocache:cache"
    first = here.app("--cache-to", ref)

    forced = there.app("--no-cache", "--cache-from", ref, "--cache-to", ref)

    assert len(steps_of(forced)) == 6
    assert forced.digest != first.digest
    third = machine("third").app("--cache-from", ref)
    assert (third.ran, third.digest) == ([], forced.digest)


def test_a_target_comes_for_every_kind_of_output(machine: Make, registry: RunningRegistry) -> None:
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/outputs:cache"
    here.app("--cache-to", f"type=registry,ref={ref},compression=zstd")
    ours, theirs = here.folder / "out", there.folder / "out"

    here.build("-o", f"type=local,dest={ours}", "-o", f"type=tar,dest={here.folder}/app.tar")
    taken = there.build(
        "--cache-from", ref, "-o", f"type=local,dest={theirs}", "-o", f"type=tar,dest={there.folder}/app.tar"
    )

    assert taken.ran == []
    assert (ours / "made").read_bytes() == (theirs / "made").read_bytes()
    assert run(["diff", "-r", "--no-dereference", ours, theirs]).stdout == ""


ODD = r"""
FROM busybox AS odd
RUN mkdir -p /d/sub /e && echo 1 > /d/a && ln /d/a /d/b && ln -s a /d/link && mkfifo /d/pipe
RUN rm -rf /d/sub && mkdir /d/sub && echo 2 > /d/sub/new && rm /e -r && chmod 4755 /d/a
RUN chown 5:6 /d/link -h && mknod /d/null c 1 3
COPY --link --chmod=600 src /d/linked/deep/
RUN mv /d/b /d/c && rm /d/a && touch -d "1990-01-01 00:00:00" /d/c && echo "$(ls /d/linked/deep)" > /listing
FROM busybox
COPY --from=odd /d /d/
COPY --link --from=odd /d/sub /bin/more/
ADD archive.tar /
RUN rm -rf /bin/more && mkdir -p /bin/more && echo 3 > /bin/more/x
"""


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_comes_is_what_was_made(machine: Make, registry: RunningRegistry, compression: str) -> None:
    """Links, fifos, devices, owners, removals, folders that were made anew."""
    here, there = machine("here"), machine("there")
    ref = f"{registry.host}/odd-{compression}:cache"
    for one in (here, there):
        one.dockerfile(ODD)
        one.write("archive.tar", make_tar({"packed/f": b"4"}))
    archives = [one.folder / "app.tar" for one in (here, there)]
    made = here.app("--cache-to", f"type=registry,ref={ref},mode=max,compression={compression}")
    here.build("-o", f"type=tar,dest={archives[0]}")

    taken = there.app("--cache-from", ref)
    there.build("-o", f"type=tar,dest={archives[1]}")

    assert (taken.ran, warnings_of(taken)) == ([], [])
    assert taken.digest == made.digest or compression != "gzip"
    listed = [run(["tar", "-tvf", path, "--numeric-owner"]).stdout for path in archives]
    assert listed[0] == listed[1]
    there.write("Dockerfile", ODD.replace("echo 3", "echo 5"))
    again = there.app("--cache-from", ref, "--target", "odd")
    assert steps_of(again) == []
