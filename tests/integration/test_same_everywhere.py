"""What pybuild itself makes is the same whoever builds, wherever, and under whatever settings.

Each surrounding differs from the usual one in a thing that programs are known to let into what they write;
all outputs are compared to the last byte.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.images import read_image
from tests.support.machine import CHECKOUT, needs, needs_root, run
from tests.support.rootless import Rootless

EPOCH = "1500000000"
DOCKERFILE = """\
FROM scratch AS base
COPY . /all/
ADD some.tar /unpacked/
WORKDIR /made/by/workdir
COPY --chown=7:8 --chmod=640 plain ümlaut /owned/
COPY --link zeros /linked
ENV KEY=wert LÄNGE=ß
LABEL b=2 a=1
FROM base
COPY --from=base /all/deep /again
"""
WITH_STEPS = """\
FROM busybox
COPY . /all/
RUN umask; mkdir -p /a/b && echo text > /a/b/file && ln /a/b/file /a/hard && ln -s b /a/link \\
    && chmod 2775 /a/b && mkfifo /a/fifo && date > /dev/null && rm -r /all/deep
RUN --mount=type=cache,target=/cache touch /cache/x && ls -1 /all > /listing
"""


def context(folder: Path) -> Path:
    """Names and modes that are easily lost, the same bytes wherever the folder is."""
    (folder / "deep/er/folder").mkdir(parents=True)
    (folder / "empty").mkdir()
    names = [
        "plain",
        "ümlaut",
        "deep/B",
        "deep/a",
        "deep/er/ß",
        os.fsdecode(b"deep/er/not-utf-8-\xe9\xff"),
        "deep/Z",
    ]
    for number, name in enumerate(names):
        (folder / name).write_bytes(b"%d\n" % number * (number + 1))
    (folder / "zeros").write_bytes(bytes(3 << 20))
    (folder / "deep/link").symlink_to("er/ß")
    (folder / "plain").chmod(0o755)
    (folder / "deep/er").chmod(0o2775)
    with tarfile.open(folder / "some.tar", "w") as archive:
        member = tarfile.TarInfo("in/ü")
        member.size, member.mtime, member.uid = 2, 1_600_000_000, 12
        archive.addfile(member, io.BytesIO("ü".encode()))
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return folder


@dataclass(frozen=True)
class Surrounding:
    """before: words of a program that starts ours; place: how folders are called."""

    env: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    umask: int = 0o022
    place: str = "a"


SURROUNDINGS = {
    "usual": Surrounding(),
    "umask-077": Surrounding(umask=0o077),
    "umask-000": Surrounding(umask=0),
    "C": Surrounding(env={"LC_ALL": "C", "LANG": "C"}),
    "C-without-utf-8": Surrounding(env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "latin-1": Surrounding(env={"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"}),
    "timezone": Surrounding(env={"TZ": "Pacific/Kiritimati"}),
    "hash-seed": Surrounding(env={"PYTHONHASHSEED": "4711"}),
    "one-processor": Surrounding(before=["taskset", "-c", "0"]),
    "one-job": Surrounding(env={"JOBS": "1"}),
    "other-folders": Surrounding(place="ein anderer/längerer Ort für 'alles'"),
    "other-home": Surrounding(
        env={"HOME": "/nonexistent", "USER": "nobody", "LOGNAME": "nobody", "TMPDIR": "/var/tmp"}
    ),
    "other-host": Surrounding(before=["unshare", "--uts", "sh", "-c", 'hostname other && exec "$@"', "-"]),
}


def outputs(folder: Path) -> list[str]:
    """Each kind of output, with its settings."""
    kinds = {
        "oci.tar": "type=oci", "docker.tar": "type=docker", "zstd.tar": "type=oci,compression=zstd",
        "estargz.tar": "type=oci,compression=estargz", "plain.tar": "type=oci,compression=uncompressed",
        "best.tar": "type=oci,compression-level=9", "files.tar": "type=tar",
    }  # fmt: skip
    more = {name: ",rewrite-timestamp=true" if "type=tar" not in kind else "" for name, kind in kinds.items()}
    return [f"{kind},dest={folder / name}{more[name]}" for name, kind in kinds.items()]


def build(tmp: Path, name: str, dockerfile: str, seed: Path | None, locales: Path) -> Path:
    """Build in a surrounding; the folder with all that was handed out."""
    surrounding = SURROUNDINGS[name]
    place = tmp / name / surrounding.place
    source, out, store = place / "context", place / "out", place / "store"
    if not source.exists():
        context(source)
    (source / "Dockerfile").write_text(dockerfile)
    os.utime(source / "Dockerfile", (1_700_000_000, 1_700_000_000))
    out.mkdir(parents=True, exist_ok=True)
    if seed is not None:
        shutil.copytree(seed, store, symlinks=True)
    flags = [word for output in outputs(out) for word in ("-o", output)]
    jobs = ["--jobs", surrounding.env["JOBS"]] if "JOBS" in surrounding.env else []
    command = [
        sys.executable,
        "-m",
        "builder",
        "build",
        "--root",
        os.fspath(store),
        *flags,
        *jobs,
        "-t",
        "app:1",
    ]
    done = subprocess.run(
        [*surrounding.before, *command, os.fspath(source)],
        env={
            **os.environ, "PYTHONPATH": str(CHECKOUT), "SOURCE_DATE_EPOCH": EPOCH, "LOCPATH": str(locales),
            **surrounding.env,
        },
        cwd=place, umask=surrounding.umask, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a locale that is not of UTF-8."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        place = folder / "de_DE.ISO-8859-1"
        run(["localedef", "-c", "-i", "de_DE", "-f", "ISO-8859-1", place], check=False)
    return folder


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, locales: Path) -> dict[str, bytes]:
    return contents(build(tmp_path_factory.mktemp("usual"), "usual", DOCKERFILE, None, locales))


@pytest.mark.parametrize("name", [name for name in SURROUNDINGS if name not in ("usual", "other-host")])
def test_every_output_is_the_same(name: str, tmp_path: Path, usual: dict[str, bytes], locales: Path) -> None:
    if name == "latin-1" and not (locales / "de_DE.ISO-8859-1").exists():
        pytest.skip("no locales can be made here: localedef and its sources are missing")

    made = contents(build(tmp_path, name, DOCKERFILE, None, locales))

    assert made.keys() == usual.keys()
    assert [key for key in made if made[key] != usual[key]] == []


@pytest.mark.root
@needs_root()
@needs("busybox")
@pytest.mark.parametrize(
    "name", ["umask-077", "C-without-utf-8", "timezone", "one-processor", "other-folders", "other-host"]
)
def test_images_with_steps_are_the_same(name: str, tmp_path: Path, busybox_seed: Path, locales: Path) -> None:
    one = contents(build(tmp_path, "usual", WITH_STEPS, busybox_seed, locales))

    made = contents(build(tmp_path, name, WITH_STEPS, busybox_seed, locales))

    assert [key for key in made if made[key] != one[key]] == []


@pytest.mark.root
@needs_root()
def test_another_user_makes_the_same(tmp_path: Path, usual: dict[str, bytes]) -> None:
    user = Rootless()
    try:
        shutil.rmtree(user.context)
        context(user.context)
        (user.context / "Dockerfile").write_text(DOCKERFILE)
        os.utime(user.context / "Dockerfile", (1_700_000_000, 1_700_000_000))
        out = user.home / "out"
        out.mkdir()
        os.chown(out, *os.stat(user.home)[4:6])
        flags = [word for output in outputs(out) for word in ("-o", output)]

        words = ["build", "--root", str(user.root), *flags, "-t", "app:1", str(user.context)]
        done = user.run(*words, env={"SOURCE_DATE_EPOCH": EPOCH})

        assert done.returncode == 0, done.stderr
        made = contents(out)
    finally:
        user.close()
    assert [key for key in made if made[key] != usual[key]] == []


def test_the_whole_image_has_the_epoch_s_time(tmp_path: Path, locales: Path) -> None:
    out = build(tmp_path, "usual", DOCKERFILE, None, locales)

    (tmp_path / "x").mkdir()
    run(["tar", "-xf", out / "oci.tar", "-C", tmp_path / "x"])
    image = read_image(tmp_path / "x", "1")
    times = {member.mtime for layer in image.layers for member in layer.values()}
    assert times == {int(EPOCH)}
    assert {entry["created"] for entry in image.config["history"]} == {image.config["created"]}
    with tarfile.open(out / "files.tar") as archive:
        assert {member.mtime for member in archive} == {int(EPOCH)}
