"""The grammar's analysis is kept, and what was kept parses as what was made."""

from __future__ import annotations

import pytest

from builder.digest import Digest
from builder.dockerfile import grammar
from builder.dockerfile.parser import KEYWORDS

LINES = {
    "from": "FROM --platform=linux/arm64 debian:12 AS base",
    "run": "RUN --mount=type=cache,target=/c make",
    "copy": 'COPY --chown=1:1 ["a b", "/c"]',
    "healthcheck": "HEALTHCHECK --interval=5s CMD true",
}


class Kept:
    """Texts in a dict; `recalled` are the names asked for."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, Digest], str] = {}

    def recall(self, kind: str, name: Digest) -> str | None:
        return self.texts.get((kind, name))

    def remember(self, kind: str, name: Digest, text: str) -> str:
        return self.texts.setdefault((kind, name), text)


@pytest.mark.parametrize("escape", ["\\", "`"])
def test_a_kept_analysis_parses_as_a_new_one(escape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    made = grammar._recalled(escape, KEYWORDS, kept)

    monkeypatch.setattr(grammar, "_make", lambda *_: pytest.fail("analysed again"))
    recalled = grammar._recalled(escape, KEYWORDS, kept)

    for start, line in LINES.items():
        assert recalled.parse(line, start=start) == made.parse(line, start=start)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"data": {}, "memo": {}}', '{"data": 1, "memo": {"0": 2}}']
)
def test_a_damaged_analysis_is_made_anew(text: str) -> None:
    kept = Kept()
    name = grammar._name("\\", KEYWORDS)
    kept.texts[grammar.KIND, name] = text

    made = grammar._recalled("\\", KEYWORDS, kept)

    assert made.parse(LINES["run"], start="run").children


def test_each_escape_has_an_analysis_of_its_own() -> None:
    assert grammar._name("\\", KEYWORDS) != grammar._name("`", KEYWORDS)
