"""The attestations of one build, as it was asked for: made for each image that is handed out.

What an image has in its index (BuildKit's way) are `manifests`; what goes beside it, found by its digest
(referrers, signatures), is put there by `accompany`. A filesystem is looked through once for all outputs.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from builder.attest import provenance, spdx
from builder.attest.files import Attested
from builder.attest.materials import gather
from builder.attest.packages.find import Inventory, find_packages
from builder.attest.purl import image_url
from builder.attest.redaction import Redactor, secrets_in, secrets_written
from builder.attest.request import asked_of
from builder.attest.signing import signed
from builder.attest.statement import Carried, Statement, attestation_manifest, referrer
from builder.errors import BuildError
from builder.events import Warned
from builder.oci.beside import SIGNATURES, tag_of
from builder.oci.image import index_of, platform_of
from builder.ops.exec import Exec

if TYPE_CHECKING:
    from builder.attest.keys import SigningKey
    from builder.attest.request import Asked
    from builder.compiler.program import BaseImage, ImageRequest, Program
    from builder.exporters import Export
    from builder.exporters.merged import Files, Wrap
    from builder.graph.definition import Vertex
    from builder.oci.finished import Finished
    from builder.parts import Parts
    from builder.prepare import Texts
    from builder.request import AttestSpec, BuildRequest
    from builder.snapshots.snapshot import Snapshot
    from builder.snapshots.tree import Tree

SECOND = 1_000_000_000
SBOM_FILE = "sbom.spdx.json"
CHUNK = 1 << 20


class Attesting:
    """What is told of a build. wanted: which attestations; asked: what the build was asked for; key: what
    signs, or None."""

    def __init__(self, wanted: AttestSpec, asked: Asked, parts: Parts, key: SigningKey | None) -> None:
        self._wanted = wanted
        self._asked = asked
        self._parts = parts
        self._key = key
        self._inventories: dict[Snapshot, Inventory] = {}
        self._told: dict[str, dict[str, Any]] = {}

    async def manifests(
        self,
        export: Export,
        images: Sequence[Finished],
        programs: Sequence[Program],
        snapshots: Sequence[Snapshot],
    ) -> list[Finished]:
        """The attestation manifests that go into the index of these images; none where they go elsewhere."""
        if self._wanted.referrers or not self._wanted.is_any:
            return []
        found = []
        for image, program, snapshot in zip(images, programs, snapshots, strict=True):
            told = await self._encoded(export, image, program, snapshot)
            found.append(await self._kept(attestation_manifest(image, told, artifact=export.oci_artifact)))
        return found

    async def accompany(
        self,
        export: Export,
        whole: Finished,
        images: Sequence[Finished],
        programs: Sequence[Program],
        snapshots: Sequence[Snapshot],
    ) -> None:
        """Put beside what is handed out as a whole what refers to it, and to its images, from elsewhere."""
        beside: list[tuple[str, Finished]] = []
        if self._wanted.referrers:
            for image, program, snapshot in zip(images, programs, snapshots, strict=True):
                told = await self._encoded(export, image, program, snapshot)
                carried = [await self._kept(referrer(image, kind, data)) for kind, data in told]
                if carried:
                    beside.append((tag_of(image.digest), index_of(carried)))
        if self._key is not None:
            signature = signed(whole.digest, export.names, self._key)
            beside.append((tag_of(whole.digest, SIGNATURES), await self._kept(signature)))
        whole.beside = tuple(beside)

    async def wrapping(
        self, export: Export, programs: Sequence[Program], snapshots: Sequence[Snapshot]
    ) -> Wrap:
        """What puts attestations beside the files of each platform: (number of the platform, its files)."""
        told = []
        for program, snapshot in zip(programs, snapshots, strict=True):
            statements = await self._statements(None, "", "", program, snapshot)
            told.append(
                [one for one in statements if one.type == spdx.PREDICATE_TYPE or not self._wanted.inline_only]
            )

        def wrap(number: int, platform: str, files: Files) -> Files:
            if not told[number]:
                return files
            epoch = programs[number].source_date_epoch
            moment = epoch * SECOND if epoch is not None else time.time_ns()
            together = export.multi_platform and export.platform_split is False
            marked = platform.replace("/", "_") if together else ""
            return Attested(files, told[number], export.attestation_prefix, marked, moment)

        return wrap

    def metadata(self) -> dict[str, object]:
        """What --metadata-file has of provenance, as buildx has it: v0.2, without steps and times."""
        key = "buildx.build.provenance"
        found = {name: provenance.for_metadata(told) for name, told in self._told.items()}
        if self._asked.multi_platform or not found:
            return {f"{key}/{name}": told for name, told in found.items()}
        return {key: next(iter(found.values()))}

    async def _encoded(
        self, export: Export, image: Finished, program: Program, snapshot: Snapshot
    ) -> list[tuple[str, bytes]]:
        """(predicate type, statement) of each attestation of an image."""
        platform = _platform(image)
        urls = [image_url(name, platform) for name in export.names]
        subjects = [(url, image.digest.partition(":")[2]) for url in urls or ["_"]]
        name, url = (export.names[0].familiar(), urls[0]) if urls else ("", "")
        statements = await self._statements(image, name, url, program, snapshot)
        return [(one.type, msgspec.json.encode(one.about(subjects))) for one in statements]

    async def _statements(
        self, image: Finished | None, name: str, purl: str, program: Program, snapshot: Snapshot
    ) -> list[Statement]:
        found = []
        if self._wanted.sbom:
            told = await self._parts.thread(self._sbom, image, name, purl, snapshot)
            found.append(Statement(spdx.PREDICATE_TYPE, told, SBOM_FILE))
        if self._wanted.provenance:
            wanted = provenance.Wanted(
                self._wanted.mode, self._wanted.version, self._wanted.builder_id, self._wanted.reproducible
            )
            told = self._provenance(wanted, image, program, snapshot)
            self._told[str(platform_of(program.config))] = told
            found.append(Statement(provenance.predicate_type(wanted), told, self._wanted.filename))
        return found

    async def _kept(self, carried: Carried) -> Finished:
        """The manifest of what is carried, whose blobs are in the store then."""
        for data in carried.blobs.values():
            await self._parts.thread(self._parts.store.blobs.put, data)
        return carried.manifest

    # ── how it was built ─────────────────────────────────────────────────────────────────────────────────

    def _provenance(
        self, wanted: provenance.Wanted, image: Finished | None, program: Program, snapshot: Snapshot
    ) -> dict[str, Any]:
        reached = program.definition.reached(program.target)
        redactor = self._redactor(reached)
        materials = self._asked.completed(
            gather(reached, self._parts.fetched, self._asked.choices, redactor), redactor
        )
        if self._wanted.complete_materials and not (materials.is_complete and not self._asked.locals):
            raise BuildError(
                "not all that the build is made of can be told by its digest",
                code="incomplete-provenance",
                hint="complete-materials=true refuses contexts that are folders, as nothing pins them",
            )
        return provenance.predicate(
            wanted,
            self._asked.invocation(time.time()),
            materials,
            reached,
            _layers(image, snapshot),
            redactor,
        )

    def _redactor(self, reached: Sequence[Vertex]) -> Redactor:
        values = [value.decode("utf-8", "surrogateescape") for value in self._parts.secrets.values()]
        values += secrets_in(self._asked.build_args)
        values += secrets_written(self._asked.dockerfile)
        for vertex in reached:
            if isinstance(vertex.op, Exec):
                values += secrets_in(dict(vertex.op.env))
        return Redactor(values)

    # ── what is in it ────────────────────────────────────────────────────────────────────────────────────

    def _sbom(self, image: Finished | None, name: str, purl: str, snapshot: Snapshot) -> dict[str, Any]:
        layers = self._parts.layers
        tree = layers.tree(snapshot)
        inventory = self._inventories.get(snapshot)
        if inventory is None:
            inventory = self._inventories[snapshot] = find_packages(tree, layers.open)
            for note in inventory.notes:
                self._parts.emit(Warned(time=time.time(), message=f"SBOM: {note}"))
        evidence = self._evidence(tree, inventory, _by_layer(image, snapshot))
        created = image.created if image else ""
        digest = str(image.digest) if image else f"sha256:{_digest_of(snapshot)}"
        return spdx.document(spdx.Image(name, digest, purl, created), inventory, evidence)

    def _evidence(
        self, tree: Tree, inventory: Inventory, layers: Mapping[str, str]
    ) -> dict[str, spdx.Evidence]:
        """The sums of the files that tell of packages."""
        found = {}
        for path in sorted({package.found for package in inventory.packages}):
            node = tree.nodes.get(tree.resolve(path))
            if node is None:
                continue
            sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
            with self._parts.layers.open(node.layer, node.entry) as file:
                while data := file.read(CHUNK):
                    sha1.update(data)
                    sha256.update(data)
            layer = layers.get(node.layer, "")
            found[path] = spdx.Evidence(sha1.hexdigest(), sha256.hexdigest(), layer)
        return found


def open_attesting(
    request: BuildRequest,
    texts: Texts,
    bases: Mapping[ImageRequest, BaseImage],
    build_id: str,
    began: float,
    parts: Parts,
) -> Attesting:
    """What makes the attestations of a request. Raises BuildError for a key that cannot sign."""
    key = None
    if request.sign:
        from builder.attest.keys import read_key

        key = read_key(request.sign, os.environ)
    return Attesting(request.attests, asked_of(request, texts, bases, build_id, began), parts, key)


def _platform(image: Finished) -> str:
    platform = image.row.get("platform") or {}
    return "/".join(str(platform[key]) for key in ("os", "architecture", "variant") if platform.get(key))


def _layers(image: Finished | None, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The descriptors of an image's layers, where each stands for one of the snapshot."""
    if image is None:
        return []
    rows: list[dict[str, Any]] = msgspec.json.decode(image.manifest_bytes)["layers"]
    return rows if len(rows) == len(snapshot) else []


def _by_layer(image: Finished | None, snapshot: Snapshot) -> dict[str, str]:
    """Layer of the store -> digest of its blob."""
    rows = _layers(image, snapshot)
    return {str(layer): row["digest"] for layer, row in zip(snapshot, rows, strict=False)}


def _digest_of(snapshot: Snapshot) -> str:
    """A name for a filesystem that is no image."""
    return hashlib.sha256("\0".join(snapshot).encode()).hexdigest()
