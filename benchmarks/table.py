"""Put measured figures into benchmarks/README.md.

    python benchmarks/table.py FILE...

Each FILE is what `compare.py --json` or `pytest --benchmark-json` wrote; the table between the README's two
marks is replaced by theirs.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def table_of(data: dict[str, Any]) -> str:
    """The lines of one file's figures."""
    if "commands" in data:
        return _commands(data)
    if any("start" in row["extra_info"] for row in data["benchmarks"]):
        return _start(data)
    is_language = any("parse_ratio" in row["extra_info"] for row in data["benchmarks"])
    return _language(data) if is_language else _parts(data)


def _commands(data: dict[str, Any]) -> str:
    machine = data["machine"]
    peers = sorted({name for row in data["commands"] for name in row["builders"]} - {"pybuild"})
    lines = [
        f"Whole commands at {data['commit'][:12]}: {machine['cpus']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}, whose bare start takes {_ms(data['bare_start'])}. Medians; a ratio is "
        "pybuild's share of the peer's time, and of its CPU time.\n",
        "| scenario | pybuild | CPU | memory | " + " | ".join(f"{p} | ratio | goal" for p in peers) + " |",
        "| --- | ---: | ---: | ---: | " + " | ".join("---: | ---: | ---:" for _ in peers) + " |",
    ]
    for row in data["commands"]:
        ours = row["builders"]["pybuild"]
        peak = max(cost["peak_mb"] for cost in ours)
        cells = [row["about"], _ms(_median(ours, "seconds")), _ms(_median(ours, "cpu")), f"{peak:.0f} MB"]
        for peer in peers:
            theirs = row["builders"].get(peer, "")
            if isinstance(theirs, str):
                cells += ["", "", ""]
                continue
            wall, cpu = (_median(ours, what) / _median(theirs, what) for what in ("seconds", "cpu"))
            goal = row["goals"].get(peer)
            cells += [_ms(_median(theirs, "seconds")), f"{wall:.3f}, {cpu:.3f}", f"{goal:g}" if goal else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _median(costs: list[dict[str, float]], what: str) -> float:
    return statistics.median(cost[what] for cost in costs)


def _parts(data: dict[str, Any]) -> str:
    lines = [
        f"Inner parts at {data['commit_info']['id'][:12]}.\n",
        "| part | goal | best | ratio to the floor | floor |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in data["benchmarks"]:
        name, more = row["name"].removeprefix("test_"), row["extra_info"]
        lines.append(
            f"| {name} | {more['goal']:g} × floor | {_ms(row['stats']['min'])} | {more['ratio']:.1f} | "
            f"{_ms(more['floor'])} |"
        )
    return "\n".join(lines) + "\n"


def _language(data: dict[str, Any]) -> str:
    lines = [
        f"The Dockerfile language at {data['commit_info']['id'][:12]}, CPU time; "
        "the other parsers do not compile.\n",
        "| texts | other parser | parse and compile | parse | theirs | ratio | of parses |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in data["benchmarks"]:
        more, cells = row["extra_info"], ["", "", "", ""]
        if more:
            parsed = more["parse_ratio"] * more["theirs"]
            cells = [_ms(parsed), _ms(more["theirs"]), f"{more['ratio']:.1f}", f"{more['parse_ratio']:.1f}"]
        name = row["name"].removeprefix("test_").partition("[")[0].replace("_", " ")
        other = (row["params"] or {}).get("name", "").replace("_", "-")
        lines.append(f"| {name} | {other} | {_ms(row['stats']['min'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _start(data: dict[str, Any]) -> str:
    lines = [
        f"The start of a step on a root of 30 layers, and back, at {data['commit_info']['id'][:12]}.\n",
        "| by | goal | best | median | of runc's best | of its median |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in data["benchmarks"]:
        more = row["extra_info"]
        runc = more.get("start", {}).get("runc")
        for name, found in more.get("start", {}).items():
            cells = [f"{found[what] / runc[what]:.2f}" if runc else "" for what in ("best", "median")]
            goal = f"{more['goal']} of runc" if name.startswith("pybuild") else ""
            lines.append(
                f"| {name} | {goal} | {_ms(found['best'])} | {_ms(found['median'])} | {' | '.join(cells)} |"
            )
        if found := more.get("step"):
            lines.append(
                f"| a whole cheap RUN step | {_ms(more['goal'])} | {_ms(found['best'])} | "
                f"{_ms(found['median'])} |  |  |"
            )
    return "\n".join(lines) + "\n"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def main() -> int:
    tables = "\n".join(table_of(json.loads(Path(name).read_text())) for name in sys.argv[1:])
    head, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{head}{BEGIN}{tables}{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
