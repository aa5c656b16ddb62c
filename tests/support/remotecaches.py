"""A machine, with a store and a context of its own; a folder with a cache, to be looked into and broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder import digest as digests
from tests.support.layouts import digest_of
from tests.support.machine import run
from tests.support.workshop import Outcome, Workshop

Json = dict[str, Any]

# Two stages; the first has a large file that the image does not need.
DOCKERFILE = """\
FROM busybox AS build
RUN mkdir /out && head -c 300000 /dev/urandom > /large && date +%s%N > /out/tool
COPY src /src
RUN cat /src/* > /out/all
FROM busybox
WORKDIR /app
COPY --from=build /out/ /app/
RUN date +%s%N > /made
"""


class Machine(Workshop):
    """A store with the small base, and a context with DOCKERFILE."""

    def __init__(self, folder: Path, seed: Path) -> None:
        folder.mkdir()
        super().__init__(folder, seed)
        self.dockerfile(DOCKERFILE)
        self.write("src/a", "a\n")

    def app(self, *words: str) -> Outcome:
        """Build the context as app, which must go well."""
        return self.build("-t", "app", *words)

    def has(self, digest: str) -> bool:
        """Whether the store has a blob."""
        return (self.root / "blobs/sha256" / digest.removeprefix("sha256:")).exists()

    def layers(self, name: str = "app:latest") -> list[str]:
        """The digests of an image's layers."""
        manifest = self.blob(self.names()[name])
        return [layer["digest"] for layer in manifest["layers"]]

    def blob(self, digest: str) -> Json:
        found: Json = json.loads((self.root / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())
        return found


def steps_of(outcome: Outcome) -> list[str]:
    """The instructions that were carried out, but for FROM."""
    return [step for name in outcome.ran if not (step := name.partition("] ")[2]).startswith("FROM")]


def warnings_of(outcome: Outcome) -> list[str]:
    lines = outcome.err.splitlines()
    return [line[2:] for line in lines if line.startswith("- ")]


class CacheFolder:
    """A cache in an image layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        return self.folder / "blobs/sha256" / digest.removeprefix("sha256:")

    @property
    def index(self) -> Json:
        found: Json = json.loads((self.folder / "index.json").read_bytes())
        return found

    @property
    def manifest_digest(self) -> str:
        return str(self.index["manifests"][0]["digest"])

    @property
    def manifest(self) -> Json:
        found: Json = json.loads(self.path(self.manifest_digest).read_bytes())
        return found

    @property
    def document(self) -> Json:
        found: Json = json.loads(self.path(self.manifest["config"]["digest"]).read_bytes())
        return found

    def put(self, data: bytes) -> Json:
        digest = digest_of(data)
        self.path(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def set_manifest(self, manifest: Json | bytes) -> None:
        """Make this the manifest of the only tag."""
        index = self.index
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        index["manifests"][0].update(self.put(data))
        (self.folder / "index.json").write_text(json.dumps(index))

    def set_document(self, document: Json | bytes) -> None:
        """Make this the document, digests all right."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        manifest = self.manifest
        manifest["config"].update(self.put(data))
        self.set_manifest(manifest)

    def change(self, edit: Callable[[Json], object]) -> None:
        """Change the document."""
        document = self.document
        edit(document)
        self.set_document(document)

    def copy(self, folder: Path) -> CacheFolder:
        shutil.copytree(self.folder, folder)
        return CacheFolder(folder)

    def mangled(self, digest: str) -> None:
        """Flip a byte of a blob in its middle."""
        data = bytearray(self.path(digest).read_bytes())
        data[len(data) // 2] ^= 0xFF
        self.path(digest).write_bytes(data)


def contents_of(machine: Machine, path: str) -> str:
    """A file of the image app."""
    out = machine.folder / "out"
    machine.build("-t", "app", "-o", f"type=local,dest={out}")
    text = (out / path).read_text()
    run(["rm", "-rf", out])
    return text


def another(digest: str) -> str:
    """A digest that is none of the cache's."""
    return str(digests.of_value(["another", digest]))
