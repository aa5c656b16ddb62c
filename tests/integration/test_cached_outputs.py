"""A build that finds everything in the cache hands out the very bytes that the one before it did.

Which path was taken is seen from ROOT/builds: a build that had something to do has a folder there.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.machine import CHECKOUT, needs, needs_root

DOCKERFILE = """\
FROM scratch AS files
COPY data /data
FROM scratch
COPY --from=files /data/a /srv/a
COPY big /big
LABEL v=1
"""


class Bench:
    """A store and a context; `build` gives (exit status, standard output, standard error)."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.context = folder / "context"
        (self.context / "data").mkdir(parents=True)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        (self.context / "data" / "a").write_text("a")
        (self.context / "big").write_bytes(os.urandom(1 << 20))

    def build(self, *words: str, env: dict[str, str] | None = None) -> tuple[int, bytes, str]:
        command = [sys.executable, "-m", "builder", "--root", str(self.root), *words, str(self.context)]
        environ = os.environ | {"PYTHONPATH": str(CHECKOUT)} | (env or {})
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    def built(self, *words: str, env: dict[str, str] | None = None) -> bytes:
        status, out, err = self.build(*words, env=env)
        assert status == 0, err
        return out

    @property
    def recorded(self) -> int:
        return len(set(os.listdir(self.root / "builds")) - {"cached"})

    def blobs(self) -> list[Path]:
        return sorted((self.root / "blobs" / "sha256").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("attributes", [
    "type=oci",
    "type=docker",
    "type=oci,name=host.x/app:2",
    "type=oci,compression=zstd,force-compression=true",
    "type=docker,compression=uncompressed",
    "type=oci,compression-level=6",
    "type=oci,annotation.note=one",
])  # fmt: skip
def test_an_archive_is_the_same_and_nothing_is_done(bench: Bench, tmp_path: Path, attributes: str) -> None:
    bench.built("-t", "app:1", "-t", "b.io/app", "-o", f"{attributes},dest={tmp_path}/first.tar")

    told = bench.build("-t", "app:1", "-t", "b.io/app", "-o", f"{attributes},dest={tmp_path}/second.tar")[2]

    assert bench.recorded == 1
    assert "exporting" in told
    assert "3 of 3 steps cached" in told or "all 3 steps cached" in told
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_what_was_only_stored_is_written_to_an_archive_by_the_cache(bench: Bench, tmp_path: Path) -> None:
    bench.built("-t", "app:1")

    archive = bench.built("-t", "app:1", "-o", "type=oci,dest=-")

    assert bench.recorded == 1
    (tmp_path / "a.tar").write_bytes(archive)
    with tarfile.open(tmp_path / "a.tar") as opened:
        index = json.load(opened.extractfile("index.json"))  # type: ignore[arg-type]
    stored = json.loads((bench.root / "index.json").read_text())
    assert index["manifests"][0]["digest"] == stored["manifests"][0]["digest"]


def test_another_way_of_packing_is_another_image(bench: Bench, tmp_path: Path) -> None:
    bench.built("-o", f"type=oci,dest={tmp_path}/gzip.tar")

    bench.built("-o", f"type=oci,compression=zstd,dest={tmp_path}/zstd.tar")

    assert bench.recorded == 2
    assert (tmp_path / "gzip.tar").read_bytes() != (tmp_path / "zstd.tar").read_bytes()


def test_several_outputs_are_done_in_turn(bench: Bench, tmp_path: Path) -> None:
    words = ["-t", "app:1", "--load", "-o", f"type=oci,dest={tmp_path}/a.tar"]
    words += ["-o", f"type=oci,tar=false,dest={tmp_path}/layout", "-o", f"type=docker,dest={tmp_path}/d.tar"]
    bench.built(*words)
    whole = {name: (tmp_path / name).read_bytes() for name in ("a.tar", "d.tar", "layout/index.json")}
    for name in whole:
        (tmp_path / name).unlink()

    bench.built(*words)

    assert bench.recorded == 1
    assert whole == {name: (tmp_path / name).read_bytes() for name in whole}
    for path in (tmp_path / "layout" / "blobs" / "sha256").iterdir():
        assert path.read_bytes() == (bench.root / "blobs" / "sha256" / path.name).read_bytes()


def test_scripts_are_told_the_same(bench: Bench, tmp_path: Path) -> None:
    told, records = [], []
    for _ in range(2):
        files = ["--metadata-file", f"{tmp_path}/m.json", "--iidfile", f"{tmp_path}/id"]
        out = bench.built("-q", "-t", "app:1", *files, "-o", f"type=oci,dest={tmp_path}/a.tar")
        metadata = json.loads((tmp_path / "m.json").read_text())
        records.append(metadata.pop("buildx.build.ref", ""))
        told.append((out, metadata, (tmp_path / "id").read_text()))

    assert bench.recorded == 1
    whole, cached = (record.removeprefix("pybuild/pybuild/") for record in records)
    assert (bench.root / "builds" / whole).is_dir()
    assert (bench.root / "builds" / "cached" / cached).is_file()
    assert told[0] == told[1]
    assert told[0][1]["image.name"] == "docker.io/library/app:1"


@needs_root()
@pytest.mark.root
def test_a_filesystem_is_handed_out_again(bench: Bench, tmp_path: Path) -> None:
    for name in ("first", "second"):
        bench.built("-o", f"type=tar,dest={tmp_path}/{name}.tar", "-o", f"type=local,dest={tmp_path}/{name}")

    assert bench.recorded == 1
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
    assert (tmp_path / "second" / "srv" / "a").read_text() == "a"
    assert (tmp_path / "second" / "big").read_bytes() == (bench.context / "big").read_bytes()


def test_times_that_are_rewritten_are_part_of_the_way(bench: Bench, tmp_path: Path) -> None:
    words = ["-o", f"type=oci,rewrite-timestamp=true,dest={tmp_path}/a.tar"]
    bench.built(*words, env={"SOURCE_DATE_EPOCH": "100000"})
    first = (tmp_path / "a.tar").read_bytes()

    bench.built(*words, env={"SOURCE_DATE_EPOCH": "100000"})
    assert bench.recorded == 1
    assert (tmp_path / "a.tar").read_bytes() == first
    bench.built(*words, env={"SOURCE_DATE_EPOCH": "200000"})
    assert (tmp_path / "a.tar").read_bytes() != first
    status, _, err = bench.build(*words)
    assert status == 1
    assert "rewrite-timestamp=true needs SOURCE_DATE_EPOCH" in err


def test_a_blob_that_is_gone_is_made_again(bench: Bench, tmp_path: Path) -> None:
    bench.built("-o", f"type=oci,dest={tmp_path}/first.tar")
    max(bench.blobs(), key=lambda path: path.stat().st_size).unlink()

    bench.built("-o", f"type=oci,dest={tmp_path}/second.tar")

    with tarfile.open(tmp_path / "second.tar") as archive:
        assert "oci-layout" in archive.getnames()


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_memory_is_none(bench: Bench, tmp_path: Path, damage: str) -> None:
    bench.built("-o", f"type=oci,dest={tmp_path}/first.tar")
    (kept,) = [path for path in (bench.root / "cache" / "images").rglob("*") if path.is_file()]
    text = kept.read_text()
    kept.write_text(text.replace("amd64", "amd65") if damage == "flipped" else text[:-9])

    bench.built("-o", f"type=oci,dest={tmp_path}/second.tar")

    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_a_place_that_cannot_be_written_is_told_once(bench: Bench, tmp_path: Path) -> None:
    bench.built("-o", f"type=oci,dest={tmp_path}/a.tar")

    status, _, err = bench.build("-o", f"type=oci,dest={tmp_path}/nowhere/a.tar")

    assert status == 1
    assert err.count("nowhere/a.tar failed: no such file or directory") == 1
    assert bench.recorded == 1


def test_a_full_disk_leaves_what_was_there(bench: Bench, tmp_path: Path) -> None:
    dest = tmp_path / "a.tar"
    bench.built("-o", f"type=oci,dest={dest}")
    dest.write_text("precious")

    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000,) * 2); {MAIN}"
    command = [sys.executable, "-c", limited, "--root", str(bench.root), "-o", f"type=oci,dest={dest}"]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [*command, str(bench.context)], env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "a.tar failed: file too large" in done.stderr
    assert dest.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "context", "store"]


MAIN = "import sys; from builder.cli import script; script()"


# ── what a cached build looks at ─────────────────────────────────────────────────────────────────────────


@needs("strace")
def test_an_unchanged_context_costs_one_walk_and_no_reads(bench: Bench, tmp_path: Path) -> None:
    for folder in ("src/one", "src/two/deep", "src/hidden/deep", "elsewhere"):
        (bench.context / folder).mkdir(parents=True)
        for number in range(10):
            (bench.context / folder / f"f{number}").write_text(f"{folder} {number}")
    (bench.context / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
    (bench.context / ".dockerignore").write_text("**/hidden\n*/two/**/f9\n")
    old = time.time() - 100  # what was just changed is not taken for known
    for path in bench.context.rglob("*"):
        os.utime(path, (old, old), follow_symlinks=False)
    time.sleep(0.1)  # the change of the times was a change itself
    bench.built("-t", "app:1")

    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-o", str(trace), sys.executable, "-m", "builder"]
    command += ["--root", str(bench.root), "-q", "-t", "app:1", str(bench.context)]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    subprocess.run(command, env=env, check=True, capture_output=True)

    opened = re.findall(r"openat\(.*\) = \d+<(.*)>$", trace.read_text(), re.MULTILINE)
    inside = [os.path.relpath(path, bench.context) for path in opened if path.startswith(f"{bench.context}")]
    files = {path for path in inside if os.path.isfile(bench.context / path)}
    entered = re.findall(r"getdents64\(\d+<(.*?)>.*\) = [1-9]", trace.read_text())
    walked = [os.path.relpath(path, bench.context) for path in entered if path.startswith(f"{bench.context}")]
    assert bench.recorded == 1
    assert files == {"Dockerfile", ".dockerignore"}
    assert sorted(walked) == [".", "src", "src/one", "src/two", "src/two/deep"]


# ---- only files have changed ----


def test_a_remembered_program_gives_what_a_compiled_one_does(bench: Bench, tmp_path: Path) -> None:
    (bench.context / "Dockerfile").write_text("from scratch AS One\nCOPY data /d\nLABEL a=$NO\n")
    fixed = {"SOURCE_DATE_EPOCH": "1000000000", "BUILDKIT_PROGRESS": "plain"}
    bench.built(env=fixed)
    (bench.context / "data" / "a").write_text("changed")

    _, _, remembered = bench.build("-o", f"type=oci,dest={tmp_path}/a.tar", env=fixed)
    bench.root = tmp_path / "another"
    _, _, compiled = bench.build("-o", f"type=oci,dest={tmp_path}/b.tar", env=fixed)

    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    findings = [[line for line in told.splitlines() if "Var" in line] for told in (remembered, compiled)]
    assert findings[0] == findings[1] != []


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_programs_are_compiled_anew(bench: Bench, tmp_path: Path, damage: str) -> None:
    fixed = {"SOURCE_DATE_EPOCH": "1000000000"}
    bench.built(env=fixed)
    kept = [path for path in (bench.root / "cache" / "programs").rglob("*") if path.is_file()]
    (program,) = (path for path in kept if "Scratch" in path.read_text())
    text = program.read_text()
    if damage == "gone":
        program.unlink()
    else:
        program.write_text(text.replace("/srv", "/srw") if damage == "flipped" else text[:-9])
    (bench.context / "data" / "a").write_text("changed")

    bench.built("-o", f"type=oci,dest={tmp_path}/a.tar", env=fixed)

    with tarfile.open(tmp_path / "a.tar") as archive:
        blobs = [archive.extractfile(member) for member in archive if member.isfile()]
        names = [gzip.decompress(data) for blob in blobs if blob and (data := blob.read())[:2] == b"\x1f\x8b"]
    assert any(b"srv/a" in data for data in names)
    assert program.read_text() == text


def test_a_secret_build_arg_is_in_no_remembered_program(bench: Bench) -> None:
    (bench.context / "Dockerfile").write_text("FROM scratch\nARG API_TOKEN\nCOPY <<E /x\nno\nE\n")

    bench.built("--build-arg", "API_TOKEN=correct-horse")

    kept = [path for path in (bench.root / "cache" / "programs").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"correct-horse" in path.read_bytes()]
