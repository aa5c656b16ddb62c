"""Whole commands, side by side: pybuild and the peers found here, in one run, as ratios.

    python benchmarks/compare.py [--rounds N] [--json FILE] [--builders A,B] [SCENARIO ...]

Every builder builds the same Dockerfiles from the same busybox base, taking turns in each round. Before its
time counts, each one's image is written to an archive and its files are compared with what the scenario
expects. A line for each scenario and builder tells the median, the ratio to each peer beside the goal, the
CPU seconds (the command's, all that it started, and its daemon's) and the peak memory of the largest process,
which cannot be told below that of this script. The interpreter's bare start is printed first: what no Python
program can go below. On a busy machine trust the CPU time. Needs root, for the peers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from builders import KINDS, Builder, Job, Missing, Pybuild, output
from scenarios import LARGE, SCENARIOS, Scenario, lay_large

CHECKOUT = Path(__file__).resolve().parents[1]
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 20  # seconds for a registry to answer


@dataclass(frozen=True)
class Cost:
    """What commands took, with all that they started and waited for, and their daemon."""

    seconds: float
    cpu: float
    peak_mb: float


@dataclass
class Timing:
    """The timed builds of one builder, or why there are none."""

    scenario: str
    builder: str
    costs: list[Cost] = field(default_factory=list)
    missing: str = ""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(cost.seconds for cost in self.costs)

    @property
    def cpu(self) -> float:
        """Seconds, the median."""
        return statistics.median(cost.cpu for cost in self.costs)

    @property
    def peak_mb(self) -> float:
        """The most of all."""
        return max(cost.peak_mb for cost in self.costs)


# ── one scenario with one builder ────────────────────────────────────────────────────────────────────────


class Case:
    """A scenario's folder, its Dockerfile for this builder, and the nonce that it has now."""

    def __init__(self, scenario: Scenario, builder: Builder, context: Path) -> None:
        self.scenario = scenario
        self.builder = builder
        self.context = context
        self.dockerfile = builder.folder / "files" / "Dockerfile"
        self.archive = builder.folder / "files" / "image.tar"
        self.dockerfile.parent.mkdir(exist_ok=True)
        self.timing = Timing(scenario.name, builder.name)
        self.nonce = ""
        self._rounds = 0

    def prepare(self) -> None:
        """Build once, and look at the image. Raises Missing for what the builder cannot do."""
        self._renew()
        self.builder.prepare()
        run(self.builder, self._job())
        self._check()

    def time(self) -> None:
        """One timed build."""
        scenario = self.scenario
        if scenario.empty:
            self.builder.empty()
            if not scenario.pulled:
                self.builder.prepare()
                self._prime()
        if scenario.cold:
            self._renew()
        self.timing.costs.append(run(self.builder, self._job()))

    def _renew(self) -> None:
        self._rounds += 1
        self.nonce = f"{self.builder.name}-{os.getpid()}-{self._rounds}"
        text = self.scenario.dockerfile.replace("{base}", self.builder.base)
        text = text.replace("{registry}", self.builder.registry)
        self.dockerfile.write_text(text.replace("{nonce}", self.nonce))
        self._touch()

    def _touch(self) -> None:
        if self.scenario.touch:
            (self.context / self.scenario.touch).write_text(self.nonce + "\n")

    def _job(self) -> Job:
        self._touch()  # which another builder's turn has overwritten
        self.archive.unlink(missing_ok=True)
        archive = self.archive if self.scenario.export else None
        return Job(self.context, self.dockerfile, archive, self.scenario.export)

    def _check(self) -> None:
        """Compare the image's files. Ends the script where they are not right."""
        if not self.scenario.export:
            run(self.builder, Job(self.context, self.dockerfile, self.archive, "gzip"))
        apart(self._compare_files)

    def _compare_files(self) -> None:
        from images import read_files

        wanted = {name: text.replace("{nonce}", self.nonce) for name, text in self.scenario.expect.items()}
        found = read_files(self.archive, wanted)
        for name, start in wanted.items():
            if not found.get(name, "").startswith(start):
                raise SystemExit(
                    f"{self.scenario.name}: {self.builder.name}'s image has {found.get(name)!r} in {name}, "
                    f"and not {start!r}"
                )

    def _prime(self) -> None:
        """Have the base unpacked, as in a store that has built something from it."""
        folder = self.builder.folder / "prime"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(f"FROM {self.builder.base}\nRUN true\n")
        run(self.builder, Job(folder, folder / "Dockerfile"))


def run(builder: Builder, job: Job) -> Cost:
    """Do a job; its cost. Ends the script where it fails. Raises Missing."""
    commands, daemon = builder.commands(job), builder.daemon()
    cpu = -_daemon_cpu(daemon)
    if daemon:
        Path(f"/proc/{daemon}/clear_refs").write_text("5")  # begins the high-water mark anew (proc(5))
    peak, begun = 0.0, time.perf_counter()
    for command in commands:
        used = run_one(command)
        cpu += used.cpu
        peak = max(peak, used.peak_mb)
    seconds = time.perf_counter() - begun
    return Cost(seconds, cpu + _daemon_cpu(daemon), max(peak, _daemon_peak(daemon)))


def run_one(command: list[str]) -> Cost:
    """Run a command; its cost. Ends the script where it fails."""
    with tempfile.TemporaryFile() as told:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            told.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{told.read().decode(errors='replace')[-3000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _daemon_cpu(pid: int) -> float:
    """Seconds of a process and of those that it has waited for (proc_pid_stat(5))."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def _daemon_peak(pid: int) -> float:
    if not pid:
        return 0.0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def apart(work: Callable[[], None]) -> None:
    """Do something in a process of its own, as what this one has in memory counts for all that it starts."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(error if isinstance(error, SystemExit) else repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(1)


def measure(scenario: Scenario, builders: list[Builder], rounds: int, context: Path) -> list[Timing]:
    """Check every image, then time the rounds; who begins changes from one to the next."""
    context.mkdir()
    apart(lambda: scenario.fill(context))
    timings, cases = [], []
    for builder in builders:
        case = Case(scenario, builder, context)
        timings.append(case.timing)
        try:
            if scenario.pulled and not builder.registry:
                raise Missing("there is no registry (docker-registry on PATH, or PYBUILD_COMPARE_REGISTRY)")
            case.prepare()
            cases.append(case)
        except Missing as reason:
            case.timing.missing = str(reason)
    for number in range(rounds):
        turn = number % max(len(cases), 1)
        for case in cases[turn:] + cases[:turn]:
            case.time()
    shutil.rmtree(context)
    return timings


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────


def lines(scenario: Scenario, timings: list[Timing]) -> Iterator[str]:
    """What a person reads of a scenario."""
    yield f"{scenario.name}: {scenario.about}"
    ours = timings[0]
    for timing in timings:
        if timing.missing:
            yield f"  {timing.builder:9} left out: {timing.missing}"
            continue
        ratio = ""
        if timing is not ours and ours.costs:
            ratio = f"; pybuild takes {ours.median / timing.median:.3f} of it{_goal(scenario, timing)}"
            ratio += f", {ours.cpu / timing.cpu:.3f} of its CPU time"
        yield (
            f"  {timing.builder:9} {timing.median:8.3f} s  cpu {timing.cpu:7.3f} s  "
            f"peak {timing.peak_mb:5.0f} MB{ratio}"
        )


def _goal(scenario: Scenario, timing: Timing) -> str:
    goals = {"buildkit": scenario.of_buildkit, "buildah": scenario.of_buildah}
    return f" (goal {goals[timing.builder]:g})" if timing.builder in goals else ""


def bare_start() -> float:
    """The time of this interpreter doing nothing."""
    return min(run_one([sys.executable, "-c", "pass"]).seconds for _ in range(5))


def save(path: Path, results: list[tuple[Scenario, list[Timing]]], start: float) -> None:
    """Write what was measured so far, with the machine and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    machine = {"cpus": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]}
    rows = [
        {
            "scenario": scenario.name,
            "about": scenario.about,
            "goals": {"buildkit": scenario.of_buildkit, "buildah": scenario.of_buildah},
            "builders": {t.builder: t.missing or [asdict(cost) for cost in t.costs] for t in timings},
        }
        for scenario, timings in results
    ]
    document = {"commit": commit.stdout.strip(), "machine": machine, "bare_start": start, "commands": rows}
    path.write_text(json.dumps(document, indent=1))


# ── what is needed ───────────────────────────────────────────────────────────────────────────────────────


def busybox_layout(work: Path) -> Path:
    """An OCI layout of a busybox image, tagged `latest`; needs busybox-static."""
    sys.path.insert(0, str(CHECKOUT / "fixtures"))
    import bases

    context, layout = bases.busybox_context(work), work / "base"
    words = [
        sys.executable,
        "-m",
        "builder",
        "--root",
        str(work / "base-store"),
        "-q",
        "-t",
        "busybox:latest",
    ]
    words += ["-f", str(bases.BASES / "busybox/Dockerfile"), "-o", f"type=oci,tar=false,dest={layout}"]
    output([*words, str(context)])
    return layout


@contextlib.contextmanager
def opened_registry(work: Path) -> Iterator[str]:
    """host:port of a registry without TLS: the one that is named, or our own; "" where there is none."""
    if named := os.environ.get("PYBUILD_COMPARE_REGISTRY"):
        yield named
        return
    program = shutil.which("docker-registry")
    if program is None:
        yield ""
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = work / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(work / "registry")}}
    http = {"addr": f"127.0.0.1:{port}"}
    document = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": http}
    settings.write_text(json.dumps(document))  # which is YAML, too
    with open(work / "registry.log", "wb") as log:
        process = subprocess.Popen([program, "serve", str(settings)], stdout=log, stderr=log)
    try:
        _wait_for(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("docker-registry does not answer")


def fill_registry(work: Path, layout: Path, registry: str) -> None:
    """Put the bases into the registry: busybox, and the large one of `pull`."""
    context, large = work / "large", work / "large-layout"
    context.mkdir()
    apart(lambda: lay_large(context))
    (context / "Dockerfile").write_text(LARGE)
    words = [sys.executable, "-m", "builder", "--root", str(work / "base-store"), "-q", "-t", "large:latest"]
    words += ["--build-context", f"busybox=oci-layout://{layout}:latest"]
    output([*words, "-o", f"type=oci,tar=false,dest={large}", str(context)])
    for source, name in ((layout, "busybox:latest"), (large, "large:1")):
        target = f"docker://{registry}/{name}"
        output(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{source}:latest", target])
    shutil.rmtree(context)


def found_builders(wanted: list[str], work: Path, layout: Path, registry: str) -> list[Builder]:
    """pybuild, and those of the wanted that are here; told on standard error why others are not."""
    found: list[Builder] = []
    for kind in KINDS:
        if wanted and kind is not Pybuild and kind.name not in wanted:
            continue
        folder = work / kind.name
        folder.mkdir()
        try:
            found.append(kind(folder, layout, registry))
        except Missing as reason:
            print(f"{kind.name} is left out: {reason}", file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--builders", default="", help="comma-separated; pybuild is always there")
    parser.add_argument(
        "--work", type=Path, help="where to put stores and contexts (default: a temporary folder)"
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(s.name for s in SCENARIOS))
    args = parser.parse_args()
    unknown = set(args.scenarios) - {scenario.name for scenario in SCENARIOS}
    if unknown:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    chosen = [s for s in SCENARIOS if not args.scenarios or s.name in args.scenarios]
    start = bare_start()
    print(f"the interpreter's bare start: {start * 1000:.1f} ms", flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="pybuild-compare-", dir=args.work) as folder:
        work = Path(folder)
        layout = busybox_layout(work)
        needs_registry = any(scenario.pulled for scenario in chosen) or "PYBUILD_COMPARE_KANIKO" in os.environ
        opened = opened_registry(work) if needs_registry else contextlib.nullcontext("")
        with opened as registry:
            if registry:
                fill_registry(work, layout, registry)
            builders = found_builders([n for n in args.builders.split(",") if n], work, layout, registry)
            for scenario in chosen:
                timings = measure(scenario, builders, args.rounds, work / "context")
                print("\n".join(lines(scenario, timings)), flush=True)
                results.append((scenario, timings))
                if args.json:
                    save(args.json, results, start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
