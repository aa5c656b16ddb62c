"""What `pybuild images` lists, and the conditions that choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import images
from builder.attest.statement import REFERENCE_DIGEST
from builder.digest import Digest
from builder.errors import ImageError, UsageError
from builder.oci import reference, spec
from builder.oci.names import Names
from builder.oci.spec import Platform
from builder.store import locks
from builder.store.root import Store, open_store
from tests.support.layouts import LayoutMaker, Row


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def add(store: Store, layout: LayoutMaker, row: Row, *names: str) -> Row:
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(row, [reference.parse(name) for name in names])
    return row


@pytest.fixture
def three(store: Store, layout: LayoutMaker) -> Store:
    """app:1.0 of 2020, team/web:2.0 of 2022 with a label, and a dangling one of 2024."""
    for year, names, labels in (
        (2020, ["app:1.0"], None),
        (2022, ["team/web:2.0", "app:2.0"], {"stage": "test", "empty": ""}),
        (2024, [], {"stage": "live"}),
    ):
        row = layout.image([{str(year): b""}], config={"created": f"{year}-01-01T00:00:00Z"}, Labels=labels)
        add(store, layout, row, *names)
    return store


def names_of(store: Store, *conditions: str, wanted: str | None = None) -> list[str | None]:
    pairs = [(kind, value) for kind, _, value in (each.partition("=") for each in conditions)]
    return [image.name for image in images.list_images(store, wanted, pairs)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["dangling=true"], [None]),
        (["dangling=false"], ["team/web:2.0", "app:2.0", "app:1.0"]),
        (["reference=app"], ["app:2.0", "app:1.0"]),
        (["reference=*:2.0"], ["app:2.0"]),
        (["reference=team/*"], ["team/web:2.0"]),
        (["reference=app:1*", "reference=team/w[a-f]b"], ["team/web:2.0", "app:1.0"]),
        (["reference=a?p:[^2].0"], ["app:1.0"]),
        (["label=stage"], [None, "team/web:2.0", "app:2.0"]),
        (["label=stage=live"], [None]),
        (["label=stage=test", "label=empty"], ["team/web:2.0", "app:2.0"]),
        (["label=empty=", "reference=app"], ["app:2.0"]),
        (["before=app:2.0"], ["app:1.0"]),
        (["since=app:1.0"], [None, "team/web:2.0", "app:2.0"]),
        (["since=app:1.0", "dangling=false", "reference=team/*"], ["team/web:2.0"]),
        (["until=2021-06-01"], ["app:1.0"]),
        (["until=1h"], [None, "team/web:2.0", "app:2.0", "app:1.0"]),
        (["until=1600000000"], ["app:1.0"]),
    ],
)
def test_conditions_choose_as_dockers_do(
    three: Store, conditions: list[str], expected: list[str | None]
) -> None:
    assert names_of(three, *conditions) == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("dangling=perhaps", "neither true nor false"),
        ("until=soon", "is no time"),
        ("until=99999999999999999999", "no time on a calendar"),
        ("reference=[a", "without a ]"),
        ("reference=", "has no pattern"),
        ("size=1", "is not known"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(three: Store, condition: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        names_of(three, condition)


def test_a_name_is_one_reference_more(three: Store) -> None:
    assert names_of(three, "reference=team/*", wanted="app:1.0") == ["team/web:2.0", "app:1.0"]
    assert names_of(three, "label=stage", wanted="app") == ["app:2.0"]


def test_an_image_that_a_condition_names_has_to_be_there(three: Store) -> None:
    with pytest.raises(ImageError, match="image nothing is not in the store"):
        names_of(three, "before=nothing")


def test_the_name_to_list_may_be_a_pattern_or_have_a_digest(three: Store) -> None:
    digest = Names(three).rows()[0]["digest"]

    assert names_of(three, wanted="app:*") == ["app:2.0", "app:1.0"]
    assert names_of(three, wanted="*") == ["app:2.0", "app:1.0"]
    assert names_of(three, wanted=f"app@{digest}") == ["app:1.0"]


# ── of several platforms ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def several(store: Store, layout: LayoutMaker) -> Row:
    """An index of two images, an attestation of the first, and an image that the store lacks."""
    one = layout.image([{"a": b"1"}], platform="linux/amd64")
    other = layout.image([{"a": b"1"}, {"b": b"22"}], platform="linux/arm64", Labels={"for": "arm"})
    missing = layout.image([{"c": b"3"}], platform="linux/s390x")
    statement = layout.image([{"statement": b"{}"}], platform="unknown/unknown")
    index = layout.document(
        {
            "schemaVersion": 2,
            "mediaType": spec.OCI_INDEX,
            "manifests": [
                {**one, "platform": {"os": "linux", "architecture": "amd64"}},
                {**other, "platform": {"os": "linux", "architecture": "arm64"}},
                {**missing, "platform": {"os": "linux", "architecture": "s390x"}},
                {
                    **statement,
                    "platform": {"os": "unknown", "architecture": "unknown"},
                    "annotations": {REFERENCE_DIGEST: one["digest"]},
                },
            ],
        },
        spec.OCI_INDEX,
    )
    layout.path(missing["digest"]).unlink()
    return add(store, layout, index, "multi:1")


def test_an_image_of_several_platforms_is_one_line(store: Store, several: Row) -> None:
    (listed,) = images.list_images(store)

    assert (listed.name, listed.id, listed.digest) == ("multi:1", several["digest"], several["digest"])
    assert listed.platform == "linux/amd64,linux/arm64"


def test_a_platform_chooses_and_the_machines_is_the_default(store: Store, several: Row) -> None:
    arm = images.inspect(store, "multi:1", Platform("arm64", "linux"))
    whole = images.inspect(store, "multi:1")

    assert (arm["Architecture"], arm["Config"]["Labels"]) == ("arm64", {"for": "arm"})
    assert arm["Descriptor"]["platform"] == {"architecture": "arm64", "os": "linux"}
    assert arm["RepoDigests"] == [f"multi@{several['digest']}"]
    assert (whole["Id"], whole["Descriptor"]["digest"]) == (several["digest"], several["digest"])
    assert len(images.history(store, "multi:1", Platform("arm64", "linux"))) == 2
    with pytest.raises(ImageError, match="not in the store for linux/s390x") as caught:
        images.inspect(store, "multi:1", Platform("s390x", "linux"))
    assert caught.value.hint == "it is there for linux/amd64, linux/arm64"


def test_what_an_index_lists_is_told_with_what_is_there(store: Store, several: Row) -> None:
    told = images.inspect(store, "multi:1")["Manifests"]

    assert [(each["Kind"], each["Available"]) for each in told] == [
        ("image", True), ("image", True), ("unknown", False), ("attestation", True),
    ]  # fmt: skip
    assert told[3]["AttestationData"] == {"For": told[0]["Descriptor"]["digest"]}
    assert told[1]["ImageData"]["Platform"] == {"architecture": "arm64", "os": "linux"}


def test_one_image_of_an_index_is_found_by_its_own_id_and_stays(store: Store, several: Row) -> None:
    arm = images.inspect(store, "multi:1", Platform("arm64", "linux"))

    assert images.inspect(store, arm["Id"][7:20])["Architecture"] == "arm64"
    with pytest.raises(ImageError, match="goes as a whole"):
        images.remove(store, [arm["Id"]])
    assert [image.name for image in images.list_images(store)] == ["multi:1"]


def test_an_attestation_is_never_taken_for_an_image(store: Store, layout: LayoutMaker) -> None:
    statement = layout.image([{"s": b"{}"}], platform="unknown/unknown")
    image = layout.image([{"a": b"1"}], platform="linux/ppc64le")
    index = layout.index({"unknown/unknown": statement, "linux/ppc64le": image})
    add(store, layout, index, "app")

    assert images.inspect(store, "app")["Architecture"] == "ppc64le"


def test_removing_an_index_removes_all_that_it_lists(store: Store, several: Row) -> None:
    done = images.remove(store, ["multi:1"])

    assert done[0] == {"Untagged": "multi:1"}
    # What the image that is lacking would need is nobody's.
    left = set(store.blobs.digests())
    assert Digest(several["digest"]) not in left
    assert {"Deleted": several["digest"]} in done
    assert len(left) == 2, "config and layer of the image that no manifest names"


def test_what_a_forgotten_base_had_for_several_platforms_is_told_once(
    store: Store, layout: LayoutMaker
) -> None:
    shared = [{"a": b"1"}]
    rows = {name: layout.image(shared, platform=name) for name in ("linux/amd64", "linux/arm64")}
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    for platform, row in rows.items():
        Names(store).remember("host.x/base:1", platform, row)

    done = images.remove(store, ["host.x/base:1"])

    deleted = [entry["Deleted"] for entry in done[1:]]
    assert len(deleted) == len(set(deleted)) == 5, "two manifests and configs, and a layer"


def test_one_platform_of_an_index_goes_with_what_tells_of_it(
    store: Store, several: Row, layout: LayoutMaker
) -> None:
    amd, arm, _, statement = layout.manifest(several)["manifests"]

    done = images.remove(store, ["multi:1"], platform=Platform("amd64", "linux"))

    assert done[0] == {"Deleted": amd["digest"]}
    assert {"Deleted": statement["digest"]} in done
    (listed,) = images.list_images(store)
    assert (listed.name, listed.id, listed.platform) == ("multi:1", several["digest"], "linux/arm64")
    for layer in layout.manifest(arm)["layers"]:
        store.blobs.verify(layer["digest"])
    with pytest.raises(ImageError, match="not in the store for linux/amd64"):
        images.remove(store, ["multi:1"], platform=Platform("amd64", "linux"))
    assert images.remove(store, ["multi:1"], platform=Platform("arm64", "linux"))[0] == {
        "Untagged": "multi:1"
    }, "the last image of an index is all of it"


def test_what_a_name_meant_for_a_platform_does_not_keep_it(
    store: Store, several: Row, layout: LayoutMaker
) -> None:
    amd = layout.manifest(several)["manifests"][0]
    Names(store).remember("docker.io/library/multi:1", "linux/amd64", amd)

    done = images.remove(store, ["multi:1"], platform=Platform("amd64", "linux"))

    assert done[0] == {"Deleted": amd["digest"]}


def test_a_platform_that_another_image_needs_stays(store: Store, several: Row, layout: LayoutMaker) -> None:
    amd = layout.manifest(several)["manifests"][0]
    Names(store).add({key: amd[key] for key in ("mediaType", "digest", "size")}, [reference.parse("alone")])
    before = set(store.blobs.digests())

    with pytest.raises(ImageError, match="as another image needs it"):
        images.remove(store, ["multi:1"], platform=Platform("amd64", "linux"))
    with (
        locks.shared(store.folder, locks.BUILDS),
        pytest.raises(ImageError, match="while a build runs"),
    ):
        images.remove(store, ["multi:1"], platform=Platform("arm64", "linux"))

    assert {amd["digest"], *(layer["digest"] for layer in layout.manifest(amd)["layers"])} <= before
    assert amd["digest"] in set(store.blobs.digests())
    assert images.inspect(store, "alone")["Architecture"] == "amd64"


def test_two_marks_that_stand_side_by_side_in_brackets_are_themselves(three: Store) -> None:
    """`re` warns of what may once mean something else to it, and warnings are errors here."""
    assert names_of(three, "reference=[&&a||~~]pp:1.0") == ["app:1.0"]
    assert names_of(three, "reference=app[---:]1.0") == ["app:1.0"]
    with pytest.raises(UsageError, match="is not valid"):
        names_of(three, "reference=[a--b]")
