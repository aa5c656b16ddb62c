"""Overlays that the kernel would refuse."""

from __future__ import annotations

import errno

import pytest

from builder.runtime.mounts import overlay_tree


def test_more_layers_than_the_kernel_takes_are_told() -> None:
    with pytest.raises(OSError, match="501 layers are too many") as caught:
        overlay_tree(["/layer"] * 501, "/upper", "/work", 0, "/place")

    assert caught.value.errno == errno.E2BIG
