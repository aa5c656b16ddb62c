"""Attestations as files of tar and local outputs: provenance.json and sbom.spdx.json, at the top.

Each is a statement about all files beside it. A file of the image is never replaced by one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from builder import stop
from builder.attest.statement import Statement
from builder.errors import BuildError
from builder.exporters.merged import Files
from builder.snapshots.snapshot import FILE, Entry, order

CHUNK = 1 << 20


class Attested:
    """Files, and attestations of them beside. Raises BuildError where one has the name of another file.

    platform: part of the names, "" where they tell none; time: of the added files, in nanoseconds.
    """

    def __init__(
        self, files: Files, statements: Sequence[Statement], prefix: str, platform: str, time: int
    ) -> None:
        self._files = files
        subjects = digests_of(files)
        self._extra = {
            prefix + _marked(one.filename, platform): _encoded(one, subjects) for one in statements
        }
        _refuse_taken(files, self._extra)
        added = [Entry(name, FILE, 0o600, size=len(data), mtime=time) for name, data in self._extra.items()]
        self.entries = sorted([*files.entries, *added], key=lambda entry: order(entry.path))

    def content(self, entry: Entry) -> BinaryIO:
        """See Files."""
        data = self._extra.get(entry.path)
        return io.BytesIO(data) if data is not None else self._files.content(entry)


def digests_of(files: Files) -> list[tuple[str, str]]:
    """(path, hex digits of the sha256) of all files, read where nobody has hashed them yet."""
    found: dict[str, str] = {}
    later: list[Entry] = []
    for entry in files.entries:
        if entry.kind != FILE:
            continue
        if entry.hardlink is not None:
            later.append(entry)
        elif entry.digest is not None:
            found[entry.path] = entry.digest.partition(":")[2]
        else:
            found[entry.path] = _hashed(files, entry)
    for entry in later:
        assert entry.hardlink is not None
        found[entry.path] = found[entry.hardlink]
    return sorted(found.items())


def _marked(name: str, platform: str) -> str:
    """A file's name with its platform in it, before the ending, where files of several lie side by side."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{platform}{dot}{ending}" if platform and dot else name + platform


def _hashed(files: Files, entry: Entry) -> str:
    sha256 = hashlib.sha256()
    with files.content(entry) as file:
        while data := file.read(CHUNK):
            stop.check()
            sha256.update(data)
    return sha256.hexdigest()


def _encoded(statement: Statement, subjects: Sequence[tuple[str, str]]) -> bytes:
    shown = [
        (name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), hexed)
        for name, hexed in subjects
    ]
    return json.dumps(statement.about(shown), indent=2, ensure_ascii=False).encode()


def _refuse_taken(files: Files, extra: Mapping[str, bytes]) -> None:
    for entry in files.entries:
        if entry.path in extra:
            raise BuildError(
                f"the image has a file /{entry.path}, where an attestation would go",
                code="export-failed",
                hint="add attestation-prefix=TEXT to the output",
            )
