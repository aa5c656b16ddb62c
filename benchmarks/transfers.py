"""Images from and to registries, side by side: pybuild and the peers found here, in one run, as ratios.

    python benchmarks/transfers.py [--rounds N] [--json FILE] [--megabytes N] [SCENARIO ...]

An image of 300 MB in five layers, some 10,000 files, lies in a registry that this script starts. What is
timed are whole commands, in turn:

    pull        the image, unpacked, into an empty store
    push-again  the image to where it is already
    push        the image to a registry that has nothing of it
    mount       the image to another repository of the registry that it came from

A line for each tells the median, the ratio to each peer, and the goal beside the best of them. skopeo copies
between a registry and a containers-storage, as buildah and podman do; for umoci it copies between a registry
and a layout, which umoci unpacks. That the files are there is looked at once before their time counts. Needs
root, docker-registry and skopeo; buildah, podman and umoci where they are to be compared.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from builders import Missing, output
from compare import CHECKOUT, Cost, Timing, apart, bare_start, opened_registry, run_one
from scenarios import write_files

MB = 1 << 20
LAYERS = ((4000, 15_000), (3000, 20_000), (2000, 30_000), (1000, 60_000), (120, MB // 2))  # files, bytes
WITNESS = "layer0/part0000/file000000.txt"
NAME = "bench/image:1"
KINDS = ("oci.image.layer.v1.tar+gzip", "oci.image.config.v1+json", "oci.image.manifest.v1+json")


# ── the image ────────────────────────────────────────────────────────────────────────────────────────────


def lay_image(folder: Path, megabytes: int) -> None:
    """An OCI layout of the image, tagged `1`."""
    layout, rows, diff_ids = folder / "layout", [], []
    (layout / "blobs/sha256").mkdir(parents=True)
    for number, (count, size) in enumerate(LAYERS):
        files = folder / f"layer{number}"
        write_files(files, max(1, count * megabytes // 300), size)
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(files, f"layer{number}")
        shutil.rmtree(files)
        diff_ids.append(_digest(tar.getvalue()))
        rows.append(_add(layout, gzip.compress(tar.getvalue(), 6, mtime=0), KINDS[0]))
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"architecture": _architecture(), "os": "linux", "config": {}, "rootfs": rootfs}
    described = _add(layout, json.dumps(config).encode(), KINDS[1])
    kind = f"application/vnd.{KINDS[2]}"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": described, "layers": rows}
    named = _add(layout, json.dumps(manifest).encode(), KINDS[2])
    named["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _add(layout: Path, data: bytes, kind: str) -> dict[str, object]:
    digest = _digest(data)
    (layout / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(data)
    return {"mediaType": f"application/vnd.{kind}", "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


# ── the tools ────────────────────────────────────────────────────────────────────────────────────────────


class Tool(ABC):
    """One that is measured. folder: where all that it has lies, below `top`; names are
    host:port/repository:tag."""

    name = "?"

    def __init__(self, top: Path) -> None:
        self.top = top
        self.folder = top / "0"

    @abstractmethod
    def pull(self, name: str) -> list[list[str]]:
        """The commands that get an image and unpack it."""

    @abstractmethod
    def push(self, source: str, target: str) -> list[list[str]]:
        """The commands that bring an image, pulled as `source`, to where `target` says."""

    @abstractmethod
    def places(self) -> Iterator[Path]:
        """Where unpacked files may lie."""

    def empty(self) -> None:
        """Begin anew. What it had stays: file systems are slow for who comes after a great removal."""
        self.folder = self.top / str(int(self.folder.name) + 1)
        self.folder.mkdir(parents=True)

    def end(self) -> None:
        """Remove all that it ever had."""
        _unmount_below(self.top)
        shutil.rmtree(self.top)


class Pybuild(Tool):
    """The one in the environment of the Python that runs this."""

    name = "pybuild"

    def _words(self) -> list[str]:
        program = shutil.which("pybuild", path=str(Path(sys.executable).parent))
        return [program] if program else [sys.executable, "-m", "builder"]

    def pull(self, name: str) -> list[list[str]]:
        return [[*self._words(), "pull", "--root", str(self.folder), name]]

    def push(self, source: str, target: str) -> list[list[str]]:
        return [[*self._words(), "push", "--root", str(self.folder), source, target]]

    def places(self) -> Iterator[Path]:
        return self.folder.glob("layers/*/tree*")


class Skopeo(Tool):
    """skopeo with a containers-storage of its own: it unpacks what it copies there."""

    name = "skopeo"
    words = ("skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false")

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        _need("skopeo")

    def _stored(self, name: str) -> str:
        return f"containers-storage:[overlay@{self.folder}/root+{self.folder}/run]{name}"

    def pull(self, name: str) -> list[list[str]]:
        return [[*self.words, f"docker://{name}", self._stored(name)]]

    def push(self, source: str, target: str) -> list[list[str]]:
        return [[*self.words, self._stored(source), f"docker://{target}"]]

    def places(self) -> Iterator[Path]:
        return self.folder.glob("root/overlay/*/diff")


class Layout(Tool):
    """skopeo with an image layout, which umoci unpacks."""

    name = "umoci"

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        _need("umoci")

    def pull(self, name: str) -> list[list[str]]:
        layout = f"{self.folder}/layout:{name.rpartition(':')[2]}"
        unpack = ["umoci", "unpack", "--image", layout, f"{self.folder}/bundle"]
        return [[*Skopeo.words, f"docker://{name}", f"oci:{layout}"], unpack]

    def push(self, source: str, target: str) -> list[list[str]]:
        return [
            [*Skopeo.words, f"oci:{self.folder}/layout:{source.rpartition(':')[2]}", f"docker://{target}"]
        ]

    def places(self) -> Iterator[Path]:
        yield self.folder / "bundle/rootfs"


class Buildah(Tool):
    """buildah, and podman, which has the same words."""

    name = "buildah"

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        _need(self.name)

    def _words(self) -> list[str]:
        return [self.name, f"--root={self.folder}/root", f"--runroot={self.folder}/run"]

    def pull(self, name: str) -> list[list[str]]:
        return [[*self._words(), "pull", "-q", "--tls-verify=false", name]]

    def push(self, source: str, target: str) -> list[list[str]]:
        return [[*self._words(), "push", "-q", "--tls-verify=false", source, f"docker://{target}"]]

    def places(self) -> Iterator[Path]:
        return self.folder.glob("root/*/*/diff")


class Podman(Buildah):
    """See Buildah."""

    name = "podman"


TOOLS: list[type[Tool]] = [Pybuild, Skopeo, Buildah, Podman, Layout]


def _unmount_below(folder: Path) -> None:
    """A containers-storage is mounted onto itself, for as long as the machine runs."""
    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    places = [row.split()[4] for row in rows if row.split()[4].startswith(f"{folder}/")]
    for place in reversed(places):
        subprocess.run(["umount", "-l", place], check=True)


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise Missing(f"{program} is not on PATH")


# ── what is timed ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Place:
    """The registry that has the image, and one that is emptied, with the folder where it keeps things."""

    full: str
    other: str
    storage: Path


@dataclass(frozen=True)
class Scenario:
    """goal: pybuild's share of the best peer's time, 0 for none. commands: given the place, the tool and the
    number of the round."""

    name: str
    about: str
    goal: float
    commands: Callable[[Place, Tool, int], list[list[str]]]
    empty: bool = False


def _pull(place: Place, tool: Tool, _round: int) -> list[list[str]]:
    return tool.pull(f"{place.full}/{NAME}")


def _push_again(place: Place, tool: Tool, _round: int) -> list[list[str]]:
    return tool.push(f"{place.full}/{NAME}", f"{place.full}/{tool.name}/again:1")


def _push(place: Place, tool: Tool, _round: int) -> list[list[str]]:
    shutil.rmtree(place.storage / "docker", ignore_errors=True)
    return tool.push(f"{place.full}/{NAME}", f"{place.other}/{tool.name}/new:1")


def _mount(place: Place, tool: Tool, number: int) -> list[list[str]]:
    return tool.push(f"{place.full}/{NAME}", f"{place.full}/{tool.name}/round{number}:1")


SCENARIOS = (
    Scenario("pull", "pulled into an empty store, and unpacked", 0.6, _pull, empty=True),
    Scenario("push-again", "pushed to where it is already", 0.5, _push_again),
    Scenario("push", "pushed to a registry that has nothing of it", 0, _push),
    Scenario("mount", "pushed to another repository of its registry", 0, _mount),
)


def measure(scenario: Scenario, tools: list[Tool], place: Place, rounds: int) -> list[Timing]:
    """Time the rounds after one that does not count; who begins changes from one to the next."""
    timings = [Timing(scenario.name, tool.name) for tool in tools]
    pairs = list(zip(tools, timings, strict=True))
    for tool in tools:  # what was there before does not count
        _once(scenario, tool, place, -1)
    for number in range(rounds):
        turn = number % len(pairs)
        for tool, timing in pairs[turn:] + pairs[:turn]:
            timing.costs.append(_once(scenario, tool, place, number))
    return timings


def _once(scenario: Scenario, tool: Tool, place: Place, number: int) -> Cost:
    if scenario.empty:
        tool.empty()
    commands = scenario.commands(place, tool, number + 1)
    os.sync()  # nobody pays for what another has written
    costs = [run_one(command) for command in commands]
    if scenario.empty and not any((found / WITNESS).is_file() for found in tool.places()):
        raise SystemExit(f"{tool.name} has not unpacked {WITNESS}")
    peak = max(cost.peak_mb for cost in costs)
    return Cost(sum(cost.seconds for cost in costs), sum(cost.cpu for cost in costs), peak)


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────


def lines(scenario: Scenario, timings: list[Timing]) -> Iterator[str]:
    """What a person reads of a scenario."""
    yield f"{scenario.name}: {scenario.about}"
    ours, best = timings[0], min(timings[1:], key=lambda t: t.median, default=None)
    for timing in timings:
        ratio = ""
        if timing is not ours:
            ratio = f"; pybuild takes {ours.median / timing.median:.3f} of it"
            ratio += f", {ours.cpu / timing.cpu:.3f} of its CPU time" if timing.cpu else ""
        if timing is best:
            ratio += f"; the best peer{f', goal {scenario.goal:g}' if scenario.goal else ''}"
        yield (
            f"  {timing.builder:8} {timing.median:8.3f} s  cpu {timing.cpu:7.3f} s  "
            f"peak {timing.peak_mb:5.0f} MB{ratio}"
        )


def save(path: Path, results: list[tuple[Scenario, list[Timing]]], start: float) -> None:
    """Write what was measured so far, with the machine and the commit."""
    git = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    machine = {"cpus": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]}
    rows = [
        {
            "scenario": scenario.name,
            "about": scenario.about,
            "goal": scenario.goal,
            "tools": {timing.builder: [asdict(cost) for cost in timing.costs] for timing in timings},
        }
        for scenario, timings in results
    ]
    document = {"commit": commit, "machine": machine, "bare_start": start, "transfers": rows}
    path.write_text(json.dumps(document, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--megabytes", type=int, default=300, help="the image's size (default 300)")
    parser.add_argument("--tools", default="", help="comma-separated; pybuild is always there")
    parser.add_argument("--work", type=Path, help="where to put stores (default: a temporary folder)")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(s.name for s in SCENARIOS))
    args = parser.parse_args()
    if unknown := set(args.scenarios) - {scenario.name for scenario in SCENARIOS}:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    start = bare_start()
    print(f"the interpreter's bare start: {start * 1000:.1f} ms", flush=True)
    with tempfile.TemporaryDirectory(prefix="pybuild-transfers-", dir=args.work) as folder:
        _measure_all(args, Path(folder), start)
    return 0


def _measure_all(args: argparse.Namespace, work: Path, start: float) -> None:
    one, two = work / "one", work / "two"
    one.mkdir()
    two.mkdir()
    with opened_registry(one) as full, opened_registry(two) as other:
        if not full:
            raise SystemExit("docker-registry is not on PATH")
        apart(lambda: lay_image(work, args.megabytes))
        output([*Skopeo.words, f"oci:{work}/layout:1", f"docker://{full}/{NAME}"])
        tools = _found_tools([name for name in args.tools.split(",") if name], work)
        place = Place(full, other, two / "registry")
        results: list[tuple[Scenario, list[Timing]]] = []
        for tool in tools:
            tool.empty()
            for command in tool.pull(f"{full}/{NAME}"):
                run_one(command)
        for scenario in SCENARIOS:
            if args.scenarios and scenario.name not in args.scenarios:
                continue
            timings = measure(scenario, tools, place, args.rounds)
            print("\n".join(lines(scenario, timings)), flush=True)
            results.append((scenario, timings))
            if args.json:
                save(args.json, results, start)
        for tool in tools:
            tool.end()


def _found_tools(wanted: list[str], work: Path) -> list[Tool]:
    """pybuild, and those of the wanted that are here; told on standard error why others are not."""
    found: list[Tool] = []
    for kind in TOOLS:
        if wanted and kind is not Pybuild and kind.name not in wanted:
            continue
        try:
            found.append(kind(work / kind.name))
        except Missing as reason:
            print(f"{kind.name} is left out: {reason}", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
