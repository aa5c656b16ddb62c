"""--filter, in buildx's words."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.room.filters import parse
from builder.room.items import LAYER, MOUNT, Item

NOW = 1_000_000.0
LAYER_ITEM = Item(
    "abcdef", LAYER, "[2/3] RUN make", 0.0, NOW - 7200, 10, 10, parents=("p1", "p2"), shared=True
)
MOUNT_ITEM = Item("99", MOUNT, "cache mount go", 0.0, NOW, 5, 5, in_use=True, mutable=True)


@pytest.mark.parametrize(
    ("text", "layer", "mount"),
    [
        ("id=bcd", True, False), ("id!=bcd", False, True), ("id~=^a.*f$", True, False),
        ("type=regular", True, False), ("type==exec.cachemount", False, True), ("type!=regular", False, True),
        ("type~=^exec", False, True), ("description=RUN", True, False), ("description~=go$", False, True),
        ("inuse", False, True), ("inuse=true", False, True), ("inuse=false", True, False),
        ("inuse!=true", True, False), ("mutable", False, True), ("immutable", True, False),
        ("shared=1", True, False), ("private", False, True), ("parents=x;p2", True, False),
        ("parents!=p1", False, True), ("until=1h", True, False), ("until=3h", False, False),
        ("unused-for=90m", True, False), ("until=0", True, True),
    ],
)  # fmt: skip
def test_a_filter_means_what_buildx_says(text: str, layer: bool, mount: bool) -> None:
    chosen = parse([text])

    assert (chosen.matches(LAYER_ITEM, NOW), chosen.matches(MOUNT_ITEM, NOW)) == (layer, mount)


def test_several_must_all_match_and_none_matches_all() -> None:
    assert not parse(["type=regular", "inuse"]).matches(LAYER_ITEM, NOW)
    assert parse(["type=regular", "shared"]).matches(LAYER_ITEM, NOW)
    assert parse([]).matches(LAYER_ITEM, NOW)
    assert parse([]).is_empty
    assert not parse(["until=1s"]).is_empty


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["nonsense=1"], "no key 'nonsense'"), ([""], "no key ''"), (["=x"], "no key ''"),
        (["until"], "takes a duration"), (["until=tomorrow"], "not a duration"),
        (["until=1h", "unused-for=2h"], "one duration"), (["id"], "a value is missing"),
        (["id~=("], "missing )"), (["type=layer"], "no type 'layer'"), (["inuse=maybe"], "true or false"),
        (["description~=" + "a" * 1001], "1,000"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_told(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(texts)

    assert message in str(caught.value)
