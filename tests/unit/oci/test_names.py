"""The store's table of names: one name, one image; other tools can read it at any time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.digest import Digest, of_bytes
from builder.errors import StoreError
from builder.oci import names as table_of_names
from builder.oci import reference, spec
from builder.oci.names import Names, Row, name_of, stored_names, with_image
from builder.sources.known import state_of
from builder.store import ingest
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker
from tests.support.machine import needs, run


def row(number: int) -> Row:
    return {"mediaType": "application/x", "digest": of_bytes(bytes([number])), "size": number}


def table(store: Store) -> list[tuple[str | None, str]]:
    return [(name_of(entry), entry["digest"]) for entry in Names(store).rows()]


APP, WEB = reference.parse("app:1"), reference.parse("host.x/web")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def test_annotations_are_those_of_the_documents() -> None:
    assert (table_of_names.REF_NAME, table_of_names.IMAGE_NAME) == (spec.REF_NAME, spec.IMAGE_NAME)


def test_an_image_has_as_many_entries_as_names(store: Store) -> None:
    Names(store).add(row(1), [APP, WEB])

    assert table(store) == [("app:1", row(1)["digest"]), ("host.x/web:latest", row(1)["digest"])]
    found = Names(store).find(reference.parse("docker.io/library/app:1"))
    assert found is not None
    assert found["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"


def test_a_name_that_moves_leaves_its_image_dangling(store: Store) -> None:
    names = Names(store)
    names.add(row(1), [APP])

    names.add(row(2), [APP])

    assert table(store) == [(None, row(1)["digest"]), ("app:1", row(2)["digest"])]


def test_an_image_that_keeps_another_name_does_not_dangle(store: Store) -> None:
    names = Names(store)
    names.add(row(1), [APP, WEB])

    names.add(row(2), [APP])

    assert table(store) == [("host.x/web:latest", row(1)["digest"]), ("app:1", row(2)["digest"])]


def test_a_dangling_image_that_gets_a_name_does_not_dangle_any_more(store: Store) -> None:
    names = Names(store)
    names.add(row(1))
    names.add(row(1))
    assert table(store) == [(None, row(1)["digest"])]

    names.add(row(1), [APP])

    assert table(store) == [("app:1", row(1)["digest"])]


def test_naming_what_is_named_writes_nothing(store: Store) -> None:
    names = Names(store)
    names.add(row(1), [APP, WEB])
    before = os.stat(os.path.join(store.folder, "index.json")).st_ino

    names.add(row(1), [WEB, APP])
    names.add(row(1))

    assert os.stat(os.path.join(store.folder, "index.json")).st_ino == before


def test_a_name_or_an_image_is_taken_away(store: Store) -> None:
    names = Names(store)
    names.add(row(1), [APP, WEB])
    names.add(row(2))

    assert names.untag(reference.parse("none")) is None
    assert names.untag(APP) is not None
    assert names.remove(Digest(row(2)["digest"])) == 1

    assert table(store) == [("host.x/web:latest", row(1)["digest"])]


def test_blobs_are_on_the_disk_before_their_name(store: Store) -> None:
    digest = store.blobs.put(b"manifest")

    Names(store).add({"digest": digest, "size": 8, "mediaType": ""}, [APP])

    assert store.blobs.path(digest).stat().st_mode & 0o777 == 0o400


def test_references_are_remembered_by_platform(store: Store) -> None:
    names = Names(store)
    names.remember(str(WEB), "linux/amd64", row(1))
    names.remember(str(WEB), "linux/arm64", row(2))

    assert names.recall(str(WEB), "linux/arm64") == row(2)
    assert names.recall(str(WEB), "linux/s390x") is None
    assert state_of(store.folder, str(WEB), "linux/amd64", {}) == f"remembered {row(1)['digest']}"
    assert len(names.forget(str(WEB))) == 2
    assert state_of(store.folder, str(WEB), "linux/amd64", {}) is None


def test_a_name_of_ours_goes_before_what_is_remembered(store: Store) -> None:
    Names(store).remember(str(WEB), "linux/amd64", row(1))
    Names(store).add(row(2), [WEB])

    assert state_of(store.folder, str(WEB), "linux/amd64", {}) == f"named {row(2)['digest']}"


def test_an_image_of_ours_for_another_platform_does_not_hide_what_a_registry_says(store: Store) -> None:
    platform = {"architecture": "arm64", "os": "linux"}
    Names(store).add({**row(3), "platform": platform}, [WEB])
    before = state_of(store.folder, str(WEB), "linux/amd64", {})
    Names(store).remember(str(WEB), "linux/amd64", row(1))
    between = state_of(store.folder, str(WEB), "linux/amd64", {})
    Names(store).remember(str(WEB), "linux/amd64", row(2))

    states = [before, between, state_of(store.folder, str(WEB), "linux/amd64", {})]
    assert len(set(states)) == 3
    assert all(state is not None and row(3)["digest"] in state for state in states)


def test_the_state_of_a_layout_changes_with_its_index(tmp_path: Path, store: Store) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    layouts = {"base": f"oci-layout://{layout.folder}:latest"}
    before = state_of(store.folder, "oci-layout://base", "linux/amd64", layouts)

    layout.image(tag="latest")

    after = state_of(store.folder, "oci-layout://base", "linux/amd64", layouts)
    assert None not in (before, after)
    assert before != after
    assert state_of(store.folder, "oci-layout://other", "linux/amd64", layouts) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"manifests":3}', '{"manifests":[{"digest":1}]}', "[" * 99999]
)
def test_a_damaged_table_is_told_with_a_remedy(store: Store, text: str) -> None:
    (store.root / "index.json").write_text(text)
    (store.root / "cache" / "pulled.json").write_text(text)

    with pytest.raises(StoreError, match=r"index\.json is damaged") as caught:
        Names(store).rows()
    assert "fsck --repair" in (caught.value.hint or "")
    assert Names(store).recall("x", "y") is None

    (store.root / "index.json").unlink()
    assert Names(store).rows() == []


def test_a_failed_write_leaves_the_old_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(store).add(row(1), [APP])

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left"):
        Names(store).add(row(2), [APP])

    assert table(store) == [("app:1", row(1)["digest"])]
    assert os.listdir(os.path.join(store.folder, "ingest")) == []


def test_many_processes_may_name_images_at_once(store: Store) -> None:
    script = textwrap.dedent("""
        import sys
        from builder.oci import reference
        from builder.oci.names import Names
        from builder.store.root import open_store
        store = open_store(sys.argv[1])
        for number in range(10):
            digest = store.blobs.put(f"{sys.argv[2]}-{number}".encode())
            row = {"mediaType": "", "digest": digest, "size": 3}
            Names(store).add(row, [reference.parse(f"app{number}:{sys.argv[2]}")])
    """)
    writers = [subprocess.Popen([sys.executable, "-c", script, store.folder, str(n)]) for n in range(4)]

    assert [writer.wait() for writer in writers] == [0] * 4

    assert len(Names(store).rows()) == 40
    assert os.listdir(os.path.join(store.folder, "ingest")) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.sampled_from("abc"), max_size=3))))
def test_a_name_is_had_once_and_no_image_is_lost(steps: list[tuple[int, list[str]]]) -> None:
    rows: list[Row] = []
    last: dict[str, str] = {}

    for number, names in steps:
        named = list(dict.fromkeys(names))
        rows = with_image(rows, row(number), [stored_names(reference.parse(name)) for name in named])
        last.update((f"{name}:latest", row(number)["digest"]) for name in named)

    assert {name: entry["digest"] for entry in rows if (name := name_of(entry))} == last
    assert len([entry for entry in rows if name_of(entry)]) == len(last)
    assert {entry["digest"] for entry in rows} == {row(number)["digest"] for number, _ in steps}
    dangling = [entry["digest"] for entry in rows if name_of(entry) is None]
    assert len(dangling) == len(set(dangling))
    assert not set(dangling) & set(last.values())


@pytest.mark.peers
@needs("skopeo")
def test_skopeo_reads_the_store_by_familiar_names(tmp_path: Path, store: Store) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    image = layout.image(tag="x", platform="linux/amd64")
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(image, [reference.parse("app:1.0"), reference.parse("127.0.0.1:5000/team/app")])
    Names(store).add(layout.image([{"other": b""}]))

    for name in ("app:1.0", "127.0.0.1:5000/team/app:latest"):
        told = json.loads(run(["skopeo", "inspect", f"oci:{store.folder}:{name}"]).stdout)
        assert told["Digest"] == image["digest"]


def test_a_sweep_from_another_pid_namespace_takes_no_table_that_is_being_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_is_alive", lambda _pid: False)
    fsync = os.fsync

    def sweep_first(fd: int) -> None:
        ingest.sweep_ingest(store.folder)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", sweep_first)
    Names(store).add(row(1), [APP])

    assert table(store) == [("app:1", row(1)["digest"])]
    assert os.listdir(os.path.join(store.folder, "ingest")) == []
