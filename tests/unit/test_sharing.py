"""A store beside the user's: what it knows of base images is what that one knows."""

from __future__ import annotations

import json
from pathlib import Path

from builder import digest as digests
from builder.compiler.program import BaseImage, ImageRequest
from builder.oci import documents, reference
from builder.oci.names import Names
from builder.oci.spec import Platform
from builder.sharing import make_store
from builder.store.root import Store, open_store
from tests.support.archives import add_image
from tests.support.layouts import LayoutMaker, Row

NAME = "docker.io/library/base:1"
ARM = Platform("arm64", "linux")


def base_of(store: Store, row: Row) -> BaseImage:
    """An image of the store, as it was resolved."""
    manifest = json.loads(store.blobs.read(digests.parse(row["digest"]), 1 << 20))
    config = store.blobs.read(digests.parse(manifest["config"]["digest"]), 1 << 20)
    return BaseImage(digests.parse(row["digest"]), documents.parse_config(config, NAME))


def test_what_a_registry_said_for_another_platform_goes_along_with_a_name_of_the_stores_own(
    tmp_path: Path,
) -> None:
    own, layout = open_store(tmp_path / "own"), LayoutMaker(tmp_path / "layout")
    here = layout.image([{"a": b"here"}])
    there = layout.image([{"a": b"there"}], platform="linux/arm64")
    add_image(own, layout, {**here, "platform": {"architecture": "amd64", "os": "linux"}}, "base:1")
    Names(own).remember(NAME, "linux/arm64", there)

    make_store(str(tmp_path / "new"), own, [(ImageRequest(NAME, ARM), base_of(own, there))])

    new = open_store(tmp_path / "new")
    found = Names(new).find(reference.parse(NAME))
    remembered = Names(new).recall(NAME, "linux/arm64")
    assert found is not None
    assert remembered is not None
    assert (found["digest"], remembered["digest"]) == (here["digest"], there["digest"])
    assert new.blobs.stat(digests.parse(there["digest"])) == there["size"]
