"""What can be wrong with a CDI specification."""

from __future__ import annotations


class CdiError(ValueError):
    """A text is no CDI specification; the message does not name the file."""
