"""Images and Dockerfiles that mean harm, or that nobody thought of: a clear error, and nothing half-made."""

from __future__ import annotations

import json

import pytest

from tests.support.machine import needs, needs_root
from tests.support.workshop import Workshop

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]


@pytest.mark.parametrize(
    ("links", "run", "said"),
    [
        ({"etc/hosts": "hosts"}, "true", "cannot mount bind at /etc/hosts"),
        ({"m": "m"}, "--mount=type=tmpfs,target=/m/x true", "cannot mount tmpfs at /m/x"),
        ({"m": "m"}, "--mount=from=loops,source=/m/x,target=/x true", "too many symbolic links"),
        ({"m": "m"}, "--mount=type=cache,from=loops,source=/m,target=/x true", "too many symbolic links"),
    ],
)
def test_circles_of_links_where_something_is_mounted_are_errors(
    workshop: Workshop, links: dict[str, str], run: str, said: str
) -> None:
    for path, target in links.items():
        link = workshop.context / "root" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    workshop.build("-t", "loops", dockerfile="FROM busybox\nCOPY root/ /\n")

    outcome = workshop.fail(dockerfile=f"FROM loops\nRUN {run}\n")

    assert said in outcome.message


@pytest.mark.parametrize("run", ["cat /b /c > /d", "--mount=from=twice,target=/m cat /m/b /c > /d"])
def test_an_image_may_have_one_layer_several_times(workshop: Workshop, run: str) -> None:
    again = "COPY b /\nRUN rm /b && echo c > /c\n"
    workshop.write("b", "b\n")
    layout = workshop.folder / "layout"
    workshop.build(
        "-o", f"type=oci,tar=false,dest={layout}",
        dockerfile=f"FROM busybox\n{again}RUN true\nRUN true\n{again}COPY b /\n",
        env={"SOURCE_DATE_EPOCH": "0"},
    )  # fmt: skip

    out = workshop.folder / "out"
    workshop.build(
        "--build-context", f"twice=oci-layout://{layout}", "-o", f"type=local,dest={out}",
        dockerfile=f"FROM twice\nRUN {run}\n",
    )  # fmt: skip

    assert (out / "d").read_text() == "b\nc\n"


def test_a_cached_build_tells_no_names_but_its_own(workshop: Workshop) -> None:
    told = workshop.folder / "told"
    workshop.build("-t", "one:1", dockerfile="FROM busybox\nRUN true\n")

    workshop.build("--metadata-file", told)

    assert "image.name" not in json.loads(told.read_bytes())


@pytest.mark.parametrize(
    ("path", "target", "made"),
    [("etc/resolv.conf", "../run/systemd/stub.conf", "run"), ("etc/hosts", "/elsewhere/hosts", "elsewhere")],
)
def test_what_is_laid_over_a_dangling_link_is_seen_through_it_and_leaves_nothing(
    workshop: Workshop, path: str, target: str, made: str
) -> None:
    link = workshop.context / "root" / path
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    out = workshop.folder / "out"

    workshop.build(
        "-o", f"type=local,dest={out}",
        dockerfile=f"FROM busybox\nCOPY root/ /\nRUN grep -c . /{path} > /lines; hostname > /etc/hostname\n",
    )  # fmt: skip

    assert int((out / "lines").read_text()) > 0
    assert (out / path).readlink().as_posix() == target
    assert not (out / made).exists()
    assert (out / "etc/hostname").read_text() == "buildkitsandbox\n", "a file of the image's, if it wants one"


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("cat /etc/hostname > /seen", None),
        ("cat /etc/hostname > /seen; hostname > /etc/hostname", "buildkitsandbox\n"),
        ("cat /etc/hostname > /seen; echo mine > /etc/hostname", "mine\n"),
        ("cat /etc/hostname > /seen; touch /etc/other", None),
    ],
)
def test_a_host_name_s_file_is_there_and_in_the_image_only_where_it_was_written(
    workshop: Workshop, step: str, kept: str | None
) -> None:
    out = workshop.folder / "out"

    workshop.build("-o", f"type=local,dest={out}", dockerfile=f"FROM busybox\nRUN {step}\n")

    assert (out / "seen").read_text() == "buildkitsandbox\n"
    file = out / "etc/hostname"
    assert (file.read_text() if file.exists() else None) == kept


def test_a_host_name_s_file_of_the_image_stays(workshop: Workshop) -> None:
    workshop.write("hostname", "the-image-s\n")
    out = workshop.folder / "out"

    workshop.build(
        "-o", f"type=local,dest={out}",
        dockerfile="FROM busybox\nCOPY hostname /etc/\nRUN cat /etc/hostname > /seen\n",
    )  # fmt: skip

    assert (out / "seen").read_text() == (out / "etc/hostname").read_text() == "the-image-s\n"
