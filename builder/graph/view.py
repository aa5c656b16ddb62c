"""The view of a definition: what people and programs are shown of a build before it is done.

The one place where networkx lives: it finds the generations (what can run side by side), the critical
path (the chain that the build cannot be shorter than), and the vertices that several others share.
Nothing that a build does depends on it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

import networkx as nx

from builder.digest import Digest, hex_of
from builder.graph.definition import Definition, Vertex

DEFAULT_SECONDS = 1.0
TINY_SECONDS = 1e-6


class View:
    """The part of a definition that the targets reach: one, or one for each platform.

    seconds: how long vertices take, by digest (of an earlier build); where nothing is known, 1 s.
    """

    def __init__(
        self, definition: Definition, targets: Sequence[Digest], seconds: Mapping[str, float] | None = None
    ) -> None:
        self.targets = tuple(targets)
        self.seconds = dict(seconds or {})
        self.vertices = {vertex.digest: vertex for vertex in definition.reached(*targets)}
        self.order = {digest: number for number, digest in enumerate(self.vertices)}
        self.graph: nx.DiGraph[Digest] = nx.DiGraph()
        self.graph.add_nodes_from(self.vertices)
        for vertex in self.vertices.values():
            for item in vertex.inputs:
                selects = item.select is not None
                if self.graph.has_edge(item.of, vertex.digest):  # once selected, once whole: whole
                    selects = selects and self.graph[item.of][vertex.digest]["selects"]
                # An edge weighs what its source takes, and never nothing: so the longest path ends at the
                # target, or at one of them: no other vertex is without an edge.
                weight = self.length(item.of) + TINY_SECONDS
                self.graph.add_edge(item.of, vertex.digest, selects=selects, weight=weight)

    def length(self, digest: Digest) -> float:
        """How long a vertex takes, or is taken to."""
        return self.seconds.get(digest, DEFAULT_SECONDS)

    def generations(self) -> list[list[Vertex]]:
        """Vertices by how many steps lie below them: those of one generation can run side by side."""
        return [
            [self.vertices[digest] for digest in sorted(generation, key=self.order.__getitem__)]
            for generation in nx.topological_generations(self.graph)
        ]

    def critical_path(self) -> list[Vertex]:
        """The chain of vertices that takes longest, first to last; it ends at a target."""
        if len(self.graph) == 0:
            return []
        path = nx.dag_longest_path(self.graph, topo_order=list(self.vertices))
        return [self.vertices[digest] for digest in path]

    def shared(self) -> list[Vertex]:
        """The vertices that more than one other is made from."""
        return [vertex for digest, vertex in self.vertices.items() if self.graph.out_degree(digest) > 1]

    def consumers(self, digest: Digest) -> list[Vertex]:
        """The vertices made from this one."""
        return [self.vertices[d] for d in sorted(self.graph.successors(digest), key=self.order.__getitem__)]


def to_text(view: View) -> str:
    """For people: generations, critical path, shared vertices; a vertex is known by its number."""
    numbers = _numbers(view)
    path = view.critical_path()
    on_path = {vertex.digest for vertex in path}
    lines = [_counts(view)]
    for depth, generation in enumerate(view.generations(), 1):
        lines += ["", f"generation {depth}"]
        for vertex in generation:
            mark = "*" if vertex.digest in on_path else " "
            inputs = ", ".join(str(numbers[i]) for i in view.graph.predecessors(vertex.digest))
            lines.append(
                f" {mark}{numbers[vertex.digest]:4}  {_label(vertex)}"
                + (f"  <- {inputs}" if inputs else "")
                + (f"  {view.seconds[vertex.digest]:.1f}s" if vertex.digest in view.seconds else "")
            )
    lines += ["", f"critical path (*): {_length_text(view, path)}"]
    lines.append("  " + " -> ".join(str(numbers[vertex.digest]) for vertex in path))
    if shared := view.shared():
        lines += ["", "shared"]
        for vertex in shared:
            users = ", ".join(str(numbers[user.digest]) for user in view.consumers(vertex.digest))
            lines.append(f"  {numbers[vertex.digest]:4}  {_label(vertex)}  -> {users}")
    return "\n".join(lines) + "\n"


def to_dot(view: View) -> str:
    """For graphviz: stages as clusters, the critical path in bold, selected content dashed."""
    numbers = _numbers(view)
    path = [vertex.digest for vertex in view.critical_path()]
    bold, steps = set(path), set(itertools.pairwise(path))
    lines = ["digraph build {", "  rankdir=LR;", '  node [shape=box, fontname="monospace"];']
    stages: dict[str, list[Vertex]] = {}
    for vertex in view.vertices.values():
        stages.setdefault(vertex.about.stage, []).append(vertex)
    for index, (stage, members) in enumerate(stages.items()):
        if stage:
            lines += [f"  subgraph cluster_{index} {{", f"    label={_quote(stage)};"]
        for vertex in members:
            style = ", style=bold" if vertex.digest in bold else ""
            took = f"\n{view.seconds[vertex.digest]:.1f}s" if vertex.digest in view.seconds else ""
            name = _quote(_label(vertex) + took)
            lines.append(f"  {'  ' if stage else ''}n{numbers[vertex.digest]} [label={name}{style}];")
        if stage:
            lines.append("  }")
    for source, consumer in view.graph.edges:
        styles = ["dashed"] * view.graph[source][consumer]["selects"] + ["bold"] * (
            (source, consumer) in steps
        )
        style = f' [style="{",".join(styles)}"]' if styles else ""
        lines.append(f"  n{numbers[source]} -> n{numbers[consumer]}{style};")
    return "\n".join([*lines, "}"]) + "\n"


def to_json(view: View) -> str:
    """For programs: vertices in topological order, generations, critical path and shared ones by digest."""
    path = view.critical_path()
    data = {
        "target": view.targets[-1],
        **({"targets": list(view.targets)} if len(view.targets) > 1 else {}),
        "vertices": [
            {
                "digest": vertex.digest,
                "label": vertex.about.label,
                "stage": vertex.about.stage,
                "line": vertex.about.location.span.line if vertex.about.location else None,
                "inputs": [{"digest": i.of, "selects": i.select is not None} for i in vertex.inputs],
                "seconds": view.seconds.get(vertex.digest),
            }
            for vertex in view.vertices.values()
        ],
        "generations": [[vertex.digest for vertex in generation] for generation in view.generations()],
        "criticalPath": [vertex.digest for vertex in path],
        "criticalSeconds": sum(view.length(v.digest) for v in path) if _is_known(view, path) else None,
        "shared": [vertex.digest for vertex in view.shared()],
    }
    return json.dumps(data, indent=2) + "\n"


FORMATS = {"text": to_text, "dot": to_dot, "json": to_json}


def _numbers(view: View) -> dict[Digest, int]:
    return {digest: number for number, digest in enumerate(view.vertices, 1)}


def _counts(view: View) -> str:
    steps, edges = len(view.vertices), view.graph.number_of_edges()
    widest = max((len(generation) for generation in view.generations()), default=0)
    return f"{steps} vertices, {edges} edges, at most {widest} side by side"


def _length_text(view: View, path: Sequence[Vertex]) -> str:
    known = [vertex for vertex in path if vertex.digest in view.seconds]
    if not known:
        return f"{len(path)} of {len(view.vertices)} vertices"
    total = sum(view.length(vertex.digest) for vertex in known)
    unknown = len(path) - len(known)
    rest = f", {unknown} of unknown length" if unknown else ""
    return f"{len(path)} of {len(view.vertices)} vertices, {total:.1f}s in the last build{rest}"


def _is_known(view: View, path: Iterable[Vertex]) -> bool:
    return all(vertex.digest in view.seconds for vertex in path)


def _label(vertex: Vertex) -> str:
    """The label on one line, with nothing that a terminal would obey."""
    text = " ".join(vertex.about.label.split()) or hex_of(vertex.digest)[:12]
    return text if text.isprintable() else "".join(mark if mark.isprintable() else "?" for mark in text)


def _quote(text: str) -> str:
    """A string of the DOT language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
