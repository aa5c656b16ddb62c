"""Which names of ARG and ENV sound like a secret's, by the words that docker's checks look for. Pure."""

from __future__ import annotations

SECRET = frozenset(
    (
        "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret",
        "token",
    )
)  # fmt: skip
NO_SECRET = frozenset(("public", "file", "version"))


def sounds_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold what nobody should read."""
    words = name.lower().split("_")
    return not SECRET.isdisjoint(words) and NO_SECRET.isdisjoint(words)
