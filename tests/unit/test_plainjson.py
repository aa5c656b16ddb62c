"""The JSON of a cached build is JSON: what the package reads and writes, without the package."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import plainjson
from tests.support.machine import CHECKOUT

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BAD = [
    "",
    " ",
    "{",
    "[1,]",
    '{"a":1}x',
    "nul",
    '"\x01"',
    '{"a" 1}',
    "[1 2]",
    '"\\x"',
    "1.",
    "[" * 5 + "]" * 4,
]


@given(PLAIN)
def test_what_is_written_is_what_the_package_writes(value: Any) -> None:
    assert plainjson.dumps(value) == json.dumps(value)
    assert plainjson.dumps(value, compact=True, sort_keys=True) == json.dumps(
        value, separators=(",", ":"), sort_keys=True
    )
    assert plainjson.dumps(value, ascii_only=False) == json.dumps(value, ensure_ascii=False)


@given(PLAIN)
def test_what_is_read_is_what_the_package_reads(value: Any) -> None:
    text = f" \t\n{json.dumps(value, indent=1)}\r\n"

    assert plainjson.loads(text) == value
    assert plainjson.loads(text.encode()) == value


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+ column \d+"):
        plainjson.loads(text)


def test_bytes_that_are_no_text_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        plainjson.loads(b'"\xff"')


def test_what_is_no_plain_data_is_refused() -> None:
    with pytest.raises(TypeError):
        plainjson.dumps({"a": {1, 2}})


@pytest.mark.parametrize("text", BAD)
def test_errors_need_no_package_that_is_there_already(text: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\nfrom builder import plainjson\n"
        "assert 'json' not in sys.modules\ntry: plainjson.loads(sys.argv[1])\n"
        "except ValueError: print('refused')\n"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, text], capture_output=True, text=True, check=True
    )

    assert done.stdout == "refused\n"


def test_without_the_interpreter_s_parts_it_is_the_package() -> None:
    scan, make_encoder = plainjson._load_package()

    assert scan('{"a": [1, "é"]}', 0) == ({"a": [1, "é"]}, 15)
    assert make_encoder((",", ":"), True, True)({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'
