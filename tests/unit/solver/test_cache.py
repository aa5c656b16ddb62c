"""What the cache keeps is what was put in, or is not there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from builder import digest as digests
from builder.snapshots.snapshot import LayerId
from builder.solver.cache import Cache, Record, sealed, unsealed

KEY, OTHER = digests.of_bytes(b"key"), digests.of_bytes(b"other")
RECORD = Record((LayerId("a" * 16), LayerId("b" * 16)), 1.5, "[1/2] RUN true")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), lambda _snapshot: True)


def file_of(cache: Cache, kind: str = "records", key: str = KEY) -> Path:
    return Path(cache.root, kind, key[7:9], key[7:])


def test_a_record_is_json_that_comes_back(cache: Cache) -> None:
    cache.put(KEY, RECORD)

    found = cache.get(KEY)

    assert found is not None
    assert (found.snapshot, found.seconds, found.label) == (RECORD.snapshot, 1.5, RECORD.label)
    assert json.loads(file_of(cache).read_bytes())["layers"] == list(RECORD.snapshot)


def test_any_flipped_or_missing_byte_makes_a_miss(cache: Cache) -> None:
    cache.put(KEY, RECORD)
    sound = file_of(cache).read_bytes()
    for at in range(len(sound)):
        file_of(cache).write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        assert cache.get(KEY) is None, at
        file_of(cache).write_bytes(sound[:at])
        assert cache.get(KEY) is None, at


def test_a_record_under_another_key_is_none(cache: Cache) -> None:
    cache.put(KEY, RECORD)
    file_of(cache, key=OTHER).parent.mkdir(exist_ok=True)
    os.rename(file_of(cache), file_of(cache, key=OTHER))

    assert cache.get(OTHER) is None


@pytest.mark.parametrize("data", [{"text": ""}, {"text": 'a", "sum": "x"}', "of": ["b"]}, {"n": [1, {}]}])
def test_what_was_sealed_is_unsealed(data: dict[str, object]) -> None:
    raw = sealed("name", data)

    assert unsealed("name", raw) == data
    assert unsealed("names", raw) is None
    assert json.loads(raw).items() >= data.items()


def test_a_use_is_noted_once_an_hour(cache: Cache) -> None:
    cache.put(KEY, RECORD)
    file = file_of(cache)
    now = time.time()
    os.utime(file, (now - 1000, now - 1000))
    cache.get(KEY)
    assert not cache.aged
    assert file.stat().st_mtime < now - 900

    os.utime(file, (now - 4000, now - 4000))
    cache.get(KEY)

    assert cache.aged
    assert file.stat().st_mtime > now - 100


def test_many_records_are_used_at_once_and_those_that_are_gone_are_none(cache: Cache) -> None:
    cache.put(KEY, RECORD)
    os.utime(file_of(cache), (1, 1))

    cache.use([KEY, OTHER])

    assert file_of(cache).stat().st_mtime > time.time() - 100
    assert not file_of(cache, key=OTHER).exists()


def test_who_looks_at_all_records_uses_none(cache: Cache) -> None:
    cache.put(KEY, RECORD)
    os.utime(file_of(cache), (1, 1))

    assert [(key, data["label"]) for key, data in cache.records()] == [(KEY, RECORD.label)]

    assert file_of(cache).stat().st_mtime == 1
    assert not cache.aged
