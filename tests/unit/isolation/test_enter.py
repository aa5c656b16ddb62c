"""Entering a user namespace does not hang on how this Python is set up."""

from __future__ import annotations

import subprocess
import sys


def test_newuidmap_is_called_where_python_forbids_what_locales_decide() -> None:
    script = "from builder.isolation.enter import _call; _call('true', 1, [])"
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]

    done = subprocess.run(
        [sys.executable, *strict, "-c", script], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
