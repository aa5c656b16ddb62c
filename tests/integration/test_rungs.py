"""The same Dockerfile comes to the same image on each rung, over overlays and on copies."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from tests.support.contexts import lay
from tests.support.images import ReadImage, read_only_image
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.namespaces import has_user_namespaces

pytestmark = [
    pytest.mark.root,
    needs_root(),
    needs("busybox", "unshare"),
    pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here"),
]

DOCKERFILE = """
FROM busybox AS base
RUN mkdir -p /home/u /gone /again /sg /dd && echo 'u:x:1000:1000::/home/u:/bin/sh' > /etc/passwd \
    && chown 1000:1000 /home/u && chmod 2775 /sg && chown 0:50 /sg && echo a > /again/a && echo x > /dd/x \
    && chown 9:9 /dd/x && ln /etc/passwd /etc/second && ln -s x /home/u/l && chown -h 7:8 /home/u/l \
    && mkfifo -m 600 /p && chown 3:4 /p
RUN rm -r /gone /again && mkdir /again && echo b > /again/b && touch -h -d @77 /home/u/l /p && chmod 700 /sg
COPY --chown=70:71 Dockerfile /d/e
FROM base
RUN --mount=type=bind,from=base,source=/dd,target=/m --mount=type=bind,from=base,source=/dd/x,target=/f \
    --mount=type=bind,target=/ctx --mount=type=bind,from=base,target=/rw,rw \
    --mount=type=cache,target=/c,from=base,source=/dd --mount=type=cache,target=/c2,uid=5,gid=6,mode=0750 \
    ls -ln /m /f /c | grep -c ' 9 .* 9 ' > /owners && stat -c '%u:%g %a' /c2 >> /owners && touch /c2/x /c/y \
    && echo z > /rw/new && rm /rw/bin/busybox && cmp /ctx/Dockerfile /d/e && ! touch /m/x && ! touch /ctx/x \
    && test ! -e /again/a -a -e /again/b && echo >> /d/e
USER u
RUN touch /home/u/f && ln -s y /home/u/y && mkfifo /home/u/q && id > /home/u/id
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay(tmp_path_factory.mktemp("context"), DOCKERFILE)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, context: Path, busybox_layout: Path) -> ReadImage:
    """As the machine's root has it, over overlays."""
    folder = tmp_path_factory.mktemp("root")
    named = ("--build-context", f"busybox=oci-layout://{busybox_layout}:1")
    Pybuild(folder / "store").build(context, *named, "-o", f"type=oci,tar=false,dest={folder / 'out'}")
    return read_only_image(folder / "out")


def layers_of(image: ReadImage) -> list[list[object]]:
    """What the layers hold, but times."""
    return [
        sorted((path, dataclasses.replace(member, mtime=0)) for path, member in layer.items())  # type: ignore[type-var]
        for layer in image.layers
    ]


@pytest.mark.parametrize(
    ("rung", "snapshotter"),
    [
        ("root", "copy"),
        ("userns", "overlay"),
        ("userns", "copy"),
        ("single-uid", "overlay"),
        ("single-uid", "copy"),
    ],
)
def test_an_image_is_the_same_on_every_rung(
    tmp_path: Path, context: Path, busybox_layout: Path, expected: ReadImage, rung: str, snapshotter: str
) -> None:
    root = tmp_path / "merged"
    for name in ("l", "u", "w", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/l,upperdir={tmp_path}/u,workdir={tmp_path}/w"
    mount = f"mount -t overlay overlay -o {options} {root} && " if snapshotter == "copy" else ""
    build = [
        *(sys.executable, "-m", "builder", "--root", str(root), "--isolation", rung, "--progress=plain"),
        *("--build-context", f"busybox=oci-layout://{busybox_layout}:1", str(context)),
        *("-o", f"type=oci,tar=false,dest={tmp_path / 'out'}"),
    ]

    done = run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{mount}exec "$@"', "sh", *build],
        env={"PYTHONPATH": str(CHECKOUT)},
    )

    assert ("works on a copy" in done.stderr) == (snapshotter == "copy"), done.stderr
    assert layers_of(read_only_image(tmp_path / "out")) == layers_of(expected)
    held = tmp_path / "u" if snapshotter == "copy" else root
    assert list((held / "ingest").iterdir()) == []


def test_what_is_kept_for_one_rung_is_made_again_for_another(
    tmp_path: Path, context: Path, busybox_layout: Path, expected: ReadImage
) -> None:
    """Layers that are in the store only as folders with other owners are no reason to fail."""
    store = Pybuild(tmp_path / "store")
    named = ("--build-context", f"busybox=oci-layout://{busybox_layout}:1")
    for number, rung in enumerate(("single-uid", "userns", "root")):
        out = tmp_path / str(number)
        store.build(context, *named, "--isolation", rung, "-o", f"type=oci,tar=false,dest={out}")
        assert layers_of(read_only_image(out)) == layers_of(expected)
        for blob in (store.root / "blobs/sha256").iterdir():
            blob.unlink()
