"""Cost as work grows: stages, instructions, files, and bytes of a layer, each in three sizes.

    python benchmarks/growth.py [--work FOLDER] [--json FILE] [--readme] [--sizes N] [CASE ...]

Every case is built into a store of its own. Told are the time, the CPU time and the peak memory of the
largest process of the command, and the exponent: by which power of the size the CPU time grows from the
smallest to the largest (1 is in proportion). `--readme` puts the table into README.md beside this file. Cases
of layers need two to three times their size on the disk; one that finds too little is left out, and says
so. On a busy machine trust the CPU time. Needs root; `layer pulled` also skopeo and docker-registry.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- growth: begin -->\n", "<!-- growth: end -->\n"
MB = 1 << 20
PIECE = 8 * MB
ROOM = 3.5  # times the bytes of a layer that must be free


@dataclass(frozen=True)
class Figures:
    """What one command took."""

    case: str
    size: float
    seconds: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True)
class Case:
    """What is built. prepare(folder, size) makes the context with its Dockerfile; words: further arguments;
    first: whether a build that is not timed comes before."""

    name: str
    about: str
    sizes: tuple[float, ...]
    unit: str
    prepare: Callable[[Path, float], None]
    words: tuple[str, ...] = ()
    first: bool = False
    room: bool = False
    pulled: bool = False


# ── what is built ────────────────────────────────────────────────────────────────────────────────────────


def stages(folder: Path, count: float) -> None:
    lines = [f"FROM scratch AS s{n}\nCOPY f /f{n}\nENV N={n}\nCOPY f /g{n}\n" for n in range(int(count))]
    joined = "".join(f"COPY --from=s{n} /f{n} /\n" for n in range(int(count)))
    _write(folder, "".join(lines) + "FROM busybox\n" + joined)
    (folder / "f").write_text("f")


def instructions(folder: Path, count: float) -> None:
    kinds = ("ENV E{n}={n}", "COPY f /f{n}", "LABEL l{n}={n}", "WORKDIR /w{n}", "ARG A{n}={n}", "EXPOSE {n}")
    lines = [kinds[n % len(kinds)].format(n=n + 1) for n in range(int(count) - 1)]
    _write(folder, "\n".join(["FROM busybox", *lines]) + "\n")
    (folder / "f").write_text("f")


def files(folder: Path, count: float) -> None:
    noise = random.Random(1).randbytes(MB)
    for number in range(int(count)):
        place = folder / "tree" / f"d{number // 100:04}"
        if number % 100 == 0:
            place.mkdir(parents=True)
        start = number * 997 % (MB - 5000)
        (place / f"f{number:06}").write_bytes(noise[start : start + 5000])
    _write(folder, "FROM busybox\nCOPY tree /tree\nRUN ls /tree > /list\n")


def by_run(folder: Path, gigabytes: float) -> None:
    _seed(folder)
    times = int(gigabytes * 1024 * MB / PIECE)
    _write(
        folder, f"FROM busybox\nRUN --mount=target=/c for i in $(seq {times}); do cat /c/seed; done > /big\n"
    )


def by_copy(folder: Path, gigabytes: float) -> None:
    _seed(folder)
    data = (folder / "seed").read_bytes()
    with open(folder / "big", "wb") as file:
        for _ in range(int(gigabytes * 1024 * MB / PIECE)):
            file.write(data)
    _write(folder, "FROM scratch\nCOPY big /big\n")


def a_base(folder: Path, _: float) -> None:
    _write(folder, "FROM {registry}/big\nRUN ls -l /big > /size\n")


def _seed(folder: Path) -> None:
    """A quarter that does not compress, the rest words."""
    noise, words = random.Random(3), random.Random(2)
    with open(folder / "seed", "wb") as file:
        for _ in range(PIECE // MB):
            file.write(noise.randbytes(MB // 4))
            file.write(b" ".join(b"%x" % words.getrandbits(24) for _ in range(160_000))[: MB - MB // 4])


def _write(folder: Path, text: str) -> None:
    (folder / "Dockerfile").write_text(text)


LAYERS = (0.1, 1.0, 5.0)
ARCHIVE = "--output=type=oci,dest={out},compression={kind}"
CASES = [
    Case("stages", "stages, joined by a COPY each", (10, 100, 1000), "stages", stages),
    Case("instructions", "instructions", (120, 1000, 2000), "instructions", instructions),
    Case("instructions, again", "the same, unchanged", (120, 1000, 2000), "instructions", instructions,
         first=True),
    Case("files", "files in a COPY and a RUN on it", (1_000, 10_000, 100_000), "files", files),
    Case("files, again", "the same, unchanged", (1_000, 10_000, 100_000), "files", files, first=True),
    Case("layer by RUN", "one file that a RUN writes", LAYERS, "GB", by_run, room=True),
    Case("layer by COPY", "one file that is copied", LAYERS, "GB", by_copy, room=True),
    Case("layer, exported with gzip", "the first, as an archive", LAYERS, "GB", by_run,
         (ARCHIVE.replace("{kind}", "gzip"),), room=True),
    Case("layer, exported with zstd", "the first, as an archive", LAYERS, "GB", by_run,
         (ARCHIVE.replace("{kind}", "zstd") + ",force-compression=true",), room=True),
    Case("layer pulled", "a base image of one such layer, and a RUN", LAYERS, "GB", a_base, room=True,
         pulled=True),
]  # fmt: skip


# ── building and measuring ───────────────────────────────────────────────────────────────────────────────


def measure(case: Case, size: float, work: Path, base: Path) -> Figures | None:
    """Build it in a folder of its own. Raises SystemExit where the build fails."""
    room = shutil.disk_usage(work).free
    if case.room and room < size * 1024 * MB * ROOM:
        print(f"{case.name} {size:g}: left out, there are only {room >> 30} GB of room", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory(dir=work) as folder:
        context = Path(folder, "context")
        context.mkdir()
        registry = _registry(Path(folder), size, base) if case.pulled else nullcontext("")
        with registry as host:
            case.prepare(context, size)
            dockerfile = context / "Dockerfile"
            dockerfile.write_text(dockerfile.read_text().replace("{registry}", host))
            words = [word.replace("{out}", f"{folder}/out.tar") for word in case.words]
            command = [
                *_pybuild(Path(folder)),
                f"--build-context=busybox=oci-layout://{base}",
                *words,
                str(context),
            ]
            if case.first:
                _run(command)
            seconds, cpu, peak = _run(command)
    return Figures(case.name, size, seconds, cpu, peak)


def _pybuild(folder: Path) -> list[str]:
    return [sys.executable, "-m", "builder", "build", "-q", "-t", "grown", "--root", f"{folder}/store"]


def _run(command: list[str]) -> tuple[float, float, float]:
    """Wall and CPU seconds, and the peak memory in MB."""
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@contextmanager
def _registry(folder: Path, size: float, base: Path) -> Iterator[str]:
    """A registry with an image `big` of one layer."""
    maker = folder / "maker"
    maker.mkdir()
    by_run(maker, size)
    layout = folder / "big.tar"
    command = [
        *_pybuild(folder / "made"),
        f"--build-context=busybox=oci-layout://{base}",
        f"--output=type=oci,dest={layout}",
    ]
    _run([*command, str(maker)])
    shutil.rmtree(maker)
    shutil.rmtree(folder / "made")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    config = folder / "registry.yml"
    config.write_text(json.dumps({
        "version": 0.1, "log": {"level": "error"}, "http": {"addr": host},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
    }))  # fmt: skip
    server = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--retry-times=5", f"oci-archive:{layout}"]
        subprocess.run([*copy, f"docker://{host}/big:latest"], check=True)
        layout.unlink()
        yield host
    finally:
        server.terminate()
        server.wait()


def make_base(folder: Path) -> Path:
    """A layout with an image of busybox alone."""
    context = folder / "base-context"
    context.mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox is not on PATH: apt-get install busybox-static")
    shutil.copy2(busybox, context / "busybox")
    _write(context, 'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "--install", "/bin"]\n')
    layout = folder / "base"
    output = f"--output=type=oci,tar=false,dest={layout},name=docker.io/library/busybox:latest"
    _run([*_pybuild(folder), output, str(context)])
    return layout


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────


def exponent(rows: list[Figures]) -> float | None:
    """By which power the CPU time grows with the size, from the smallest to the largest."""
    if len(rows) < 2:
        return None
    first, last = rows[0], rows[-1]
    return math.log(last.cpu / first.cpu) / math.log(last.size / first.size)


def table_of(found: list[Figures]) -> str:
    """The table as Markdown."""
    lines = [
        f"On {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}.\n",
        "| what grows | sizes | seconds | CPU seconds | peak memory, MB | exponent |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for case in CASES:
        rows = [row for row in found if row.case == case.name]
        if rows:
            power = exponent(rows)
            columns = (
                " / ".join(f"{row.size:,g}" for row in rows) + f" {case.unit}",
                " / ".join(f"{row.seconds:.2f}" for row in rows),
                " / ".join(f"{row.cpu:.2f}" for row in rows),
                " / ".join(f"{row.peak_mb:.0f}" for row in rows),
                "" if power is None else f"{power:.2f}",
            )
            lines.append(f"| {case.name} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def put_into_readme(table: str) -> None:
    """Replace the table between the README's marks."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    README.write_text(head + BEGIN + table + END + rest.split(END)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all unless given")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sizes", type=int, default=3, help="so many of the sizes, smallest first")
    parser.add_argument("--readme", action="store_true")
    asked = parser.parse_args()
    found: list[Figures] = []
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        base = make_base(Path(folder))
        for case in CASES:
            for size in case.sizes[: asked.sizes] if case.name in asked.cases or not asked.cases else ():
                if (row := measure(case, size, Path(folder), base)) is not None:
                    found.append(row)
                    what = f"{case.name:28} {size:>9,g} {case.unit:13}"
                    cost = f"{row.seconds:8.2f} s, CPU {row.cpu:7.2f} s, {row.peak_mb:5.0f} MB"
                    print(f"{what} {cost}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    if asked.readme:
        put_into_readme(table_of(found))
    print(table_of(found))


if __name__ == "__main__":
    main()
