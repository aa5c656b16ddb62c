"""Which names of ARG and ENV sound like a secret's, by the words that docker's checks look for. Pure."""

from __future__ import annotations

import re

SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


def sounds_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold what nobody should read."""
    return SECRET.search(name) is not None and NO_SECRET.search(name) is None
