"""A program's definition as BuildKit's provenance tells it: steps of LLB in JSON, and where they are written.

Steps are called step0, step1, … in topological order; the last has no op and names the target. An empty
filesystem is no step there: who stands on it has the input -1. What must not be told is taken out of every
text on the way. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from builder.attest.materials import address_of
from builder.attest.redaction import Redactor
from builder.digest import Digest
from builder.graph.definition import Vertex
from builder.ops.exec import BindMount, CacheMount, Exec, Mount, SecretMount, SshMount, TmpfsMount
from builder.ops.files import Copy, InlineItem, MakeDir, Merge
from builder.ops.source import Git, Http, Image, Local, Scratch

MOUNT_TYPES = {SecretMount: 1, SshMount: 2, CacheMount: 3, TmpfsMount: 4}
SHARING = {"shared": 0, "private": 1, "locked": 2}
NETWORK = {"default": 0, "host": 1, "none": 2}

Json = dict[str, Any]


class Steps:
    """The steps of what a target needs, `reached` being in topological order."""

    def __init__(self, reached: Sequence[Vertex], redactor: Redactor) -> None:
        self._redactor = redactor
        self._vertices = [vertex for vertex in reached if not isinstance(vertex.op, Scratch)]
        self._target = reached[-1].digest
        self._names = {vertex.digest: f"step{n}" for n, vertex in enumerate(self._vertices)}

    def config(self) -> Json:
        """`buildConfig`: the steps, and which vertex each of them is."""
        steps = [self._step(vertex) for vertex in self._vertices]
        steps.append({"id": f"step{len(steps)}", "inputs": self._inputs([self._target])})
        return {"llbDefinition": steps, "digestMapping": {str(d): name for d, name in self._names.items()}}

    def source(self, filename: str, dockerfile: str) -> Json:
        """`source`: the Dockerfile's text, and the line of each step."""
        text = self._redactor.text(dockerfile)
        data = base64.b64encode(text.encode()).decode("ascii")
        locations = {}
        for vertex in self._vertices:
            if (place := vertex.about.location) is not None:
                edge = {"line": place.span.line}
                locations[self._names[vertex.digest]] = {
                    "locations": [{"ranges": [{"start": edge, "end": edge}]}]
                }
        return {
            "locations": locations,
            "infos": [{"filename": self._redactor.text(filename), "language": "Dockerfile", "data": data}],
        }

    def layers(self, layers: Sequence[Json]) -> Json:
        """`layers`: of each step that the image stands on, the descriptors of its layers so far."""
        known = {vertex.digest: vertex for vertex in self._vertices}
        found: Json = {}
        here, count = known.get(self._target), len(layers)
        while here is not None and count > 0:
            found[f"{self._names[here.digest]}:0"] = [list(layers[:count])]
            if not isinstance(here.op, Exec | Copy | MakeDir):
                break
            count -= 1
            here = known.get(here.inputs[0].of) if here.inputs else None
        return found

    def _inputs(self, digests: Sequence[Digest]) -> list[str]:
        return [f"{self._names[digest]}:0" for digest in digests if digest in self._names]

    def _step(self, vertex: Vertex) -> Json:
        step: Json = {"id": self._names[vertex.digest], "op": self._op(vertex)}
        if inputs := self._inputs([item.of for item in vertex.inputs]):
            step["inputs"] = inputs
        return step

    def _op(self, vertex: Vertex) -> Json:
        told: Json = {"Op": self._kind(vertex)}
        platform = getattr(vertex.op, "platform", "")
        if platform:
            system, _, rest = platform.partition("/")
            architecture, _, variant = rest.partition("/")
            told["platform"] = {"Architecture": architecture, "OS": system}
            if variant:
                told["platform"]["Variant"] = variant
        return told

    def _kind(self, vertex: Vertex) -> Json:
        text = self._redactor.text
        match vertex.op:
            case Exec() as op:
                return {"exec": self._exec(op, self._numbers(vertex))}
            case Copy() as op:
                return {"file": {"actions": self._copies(op, self._numbers(vertex))}}
            case MakeDir() as op:
                made = {"path": text(op.path), "mode": 0o755, "makeParents": True, "timestamp": -1}
                return {"file": {"actions": [{"input": self._numbers(vertex)[0], "Action": {"mkdir": made}}]}}
            case Merge():
                return {"merge": {"inputs": [{"input": number} for number in self._numbers(vertex)]}}
            case Image() as op:
                return {"source": {"identifier": _image_identifier(op)}}
            case Local() as op:
                return {"source": {"identifier": f"local://{op.name}"}}
            case Git() as op:
                scheme, _, rest = text(address_of(op)).partition("://")
                return {"source": {"identifier": f"git://{rest or scheme}"}}
            case Http() as op:
                source: Json = {"identifier": text(address_of(op))}
                if op.checksum:
                    source["attrs"] = {"http.checksum": op.checksum}
                return {"source": source}
            case other:
                return {type(other).__name__.lower(): {}}

    def _numbers(self, vertex: Vertex) -> list[int]:
        """For each input its place among those that are steps; -1 for an empty filesystem."""
        numbers, count = [], 0
        for item in vertex.inputs:
            known = item.of in self._names
            numbers.append(count if known else -1)
            count += known
        return numbers

    def _exec(self, op: Exec, numbers: Sequence[int]) -> Json:
        text = self._redactor.text
        env = [f"{name}={self._redactor.variable(name, value)}" for name, value in op.env]
        meta: Json = {"args": [text(word) for word in op.argv], "env": env, "cwd": text(op.cwd)}
        if op.user:
            meta["user"] = text(op.user)
        if op.hostname:
            meta["hostname"] = op.hostname
        if op.hosts:
            meta["extraHosts"] = [{"Host": host, "IP": address} for host, address in op.hosts]
        if op.ulimits:
            meta["ulimit"] = [_ulimit(limit) for limit in op.ulimits]
        root = {"input": numbers[0] if numbers else -1, "dest": "/", "output": 0}
        told: Json = {"meta": meta, "mounts": [root, *(self._mount(mount, numbers) for mount in op.mounts)]}
        told["network"] = NETWORK.get(op.network, 0)
        if op.security == "insecure":
            told["security"] = 1
        if secret := [mount for mount in op.mounts if isinstance(mount, SecretMount) and mount.env]:
            told["secretenv"] = [
                {"ID": mount.id, "name": mount.env, "optional": not mount.required} for mount in secret
            ]
        if op.devices:
            told["cdiDevices"] = [
                {"name": device.name, "optional": not device.required} for device in op.devices
            ]
        return told

    def _mount(self, mount: Mount, numbers: Sequence[int]) -> Json:
        told: Json = {"input": -1, "dest": self._redactor.text(mount.target or ""), "output": -1}
        if kind := MOUNT_TYPES.get(type(mount)):
            told["mountType"] = kind
        match mount:
            case BindMount():
                told |= {"input": numbers[mount.input], "selector": self._redactor.text(mount.source)}
            case CacheMount():
                if mount.input is not None:
                    told["input"] = numbers[mount.input]
                told["cacheOpt"] = {"ID": self._redactor.text(mount.id), "sharing": SHARING[mount.sharing]}
            case TmpfsMount():
                told["TmpfsOpt"] = {"size": mount.size}
            case SecretMount():
                told["secretOpt"] = _access(mount)
            case SshMount():
                told["SSHOpt"] = _access(mount)
        if getattr(mount, "readonly", False):
            told["readonly"] = True
        return told

    def _copies(self, op: Copy, numbers: Sequence[int]) -> list[Json]:
        text = self._redactor.text
        actions: list[Json] = []
        for item in op.items:
            if isinstance(item, InlineItem):
                data = base64.b64encode(text(item.content).encode()).decode("ascii")
                made = {
                    "path": text(_inside(op.dest, item.name)),
                    "mode": 0o644,
                    "data": data,
                    "timestamp": -1,
                }
                actions.append({"input": numbers[0], "secondaryInput": -1, "Action": {"mkfile": made}})
                continue
            copied: Json = {
                "src": text(item.pattern),
                "dest": text(op.dest),
                "mode": int(op.chmod, 8) if _is_octal(op.chmod) else -1,
                "allowWildcard": item.wildcards,
                "createDestPath": True,
                "timestamp": -1,
            }
            for name, value in (("modeStr", "" if _is_octal(op.chmod) else op.chmod), ("owner", op.chown)):
                if value:
                    copied[name] = text(value)
            if op.unpack and item.unpack:
                copied["attemptUnpackDockerCompatibility"] = True
            if op.excludes:
                copied["exclude_patterns"] = [text(pattern) for pattern in op.excludes]
            secondary = numbers[item.input] if item.input < len(numbers) else -1
            actions.append({"input": numbers[0], "secondaryInput": secondary, "Action": {"copy": copied}})
        return actions


def _image_identifier(op: Image) -> str:
    if "://" in op.locator:
        return f"{op.locator}@{op.digest}"
    return f"docker-image://{op.locator.partition('@')[0]}@{op.digest}"


def _access(mount: SecretMount | SshMount) -> Mapping[str, object]:
    return {
        "ID": mount.id,
        "uid": mount.uid,
        "gid": mount.gid,
        "mode": mount.mode,
        "optional": not mount.required,
    }


def _ulimit(text: str) -> Json:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}


def _inside(dest: str, name: str) -> str:
    return dest + name if dest.endswith("/") else dest


def _is_octal(text: str) -> bool:
    return bool(text) and all(digit in "01234567" for digit in text)
