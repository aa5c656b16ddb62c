"""What is told about a failed step that was kept."""

import pytest

from builder.aftermath import hint
from builder.isolation.rungs import ROOT


@pytest.mark.parametrize(
    ("flag", "command"),
    [
        ("", "pybuild debug"),
        ("store", "pybuild debug --root store"),
        ("/my stores/a", "pybuild debug --root '/my stores/a'"),
    ],
)
def test_the_hint_is_a_command_that_finds_the_store(flag: str, command: str) -> None:
    assert hint(flag, ROOT) == f"`{command}` opens a shell where it failed"
