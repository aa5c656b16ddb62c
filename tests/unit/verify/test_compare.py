"""Images of one build beside each other, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.snapshots.snapshot import FILE, Entry
from builder.verify import told
from builder.verify.compare import Layer, Picture, Step, Verdict, compare


def unread() -> Sequence[Entry]:
    raise AssertionError("equal layers are not looked into")


def layer(name: str, *entries: Entry, blob: str = "") -> Layer:
    return Layer(f"diff:{name}", blob or f"blob:{name}", lambda: entries)


def step(label: str, made: Layer | None = None, created: str = "1970") -> Step:
    history: dict[str, Any] = {"created_by": label, "created": created}
    return Step(history if made else {**history, "empty_layer": True}, made)


def picture(*steps: Step, **config: Any) -> Picture:
    return Picture("sha256:" + "0" * 64, {"architecture": "amd64", **config}, steps)


def stamp(digest: str) -> Entry:
    return Entry("stamp", FILE, 0o644, digest=digest)


BASE = step("base", Layer("diff:base", "blob:base", unread))


def verdict(*pictures: Picture) -> Verdict:
    names = ("image", "first", "second")[: len(pictures)]
    report = compare("linux/amd64", dict(zip(names, pictures, strict=True)))
    return Verdict("app:1", names, (report,))


def test_images_that_are_equal_are_not_looked_into() -> None:
    found = verdict(*[picture(BASE, step("ENV a=b"))] * 3)

    assert found.is_same
    assert told.text_of(found) == "app:1 is reproduced: 2 rebuilds from nothing gave the same\n"


def test_a_step_that_gives_another_file_each_time_is_told_with_the_file() -> None:
    images = [picture(BASE, step("RUN date", layer(n, stamp(f"sha256:{n * 64}")))) for n in "123"]

    found = verdict(*images)

    (report,) = found.reports
    (differing,) = report.differing
    assert (differing.number, differing.label, report.steps) == (2, "RUN date", 2)
    assert [(one.path, one.kinds) for one in differing.files] == [("stamp", ("content",))]
    assert not found.is_same
    assert not found.only_times
    text = told.text_of(found)
    assert (
        "step 2/2: RUN date\n  differs from one rebuild to the next\n    /stamp: content (image sha256:1"
        in text
    )
    assert "1 step gave something else" in text


def test_rebuilds_that_agree_against_the_image_are_told_as_such() -> None:
    old = picture(BASE, step("COPY . /", layer("old", stamp("sha256:old"))))
    new = picture(BASE, step("COPY . /", layer("new", stamp("sha256:new"))))

    text = told.text_of(verdict(old, new, new))
    document = told.document_of(verdict(old, new, new))

    assert "the rebuilds are equal, and differ from the image" in text
    assert document["platforms"][0]["steps"][0]["betweenRebuilds"] is False
    assert document["reproduced"] is False


def test_a_layer_that_no_history_tells_of_lacks_only_what_the_others_have() -> None:
    found = verdict(picture(Step({}, layer("a", stamp("1")))), picture(step("a", layer("a"), "1971")))

    assert [each.path for each in found.reports[0].differing[0].about] == ["created", "created_by"]


def test_times_alone_are_told_apart_from_all_else() -> None:
    images = [picture(step("RUN true", layer(n, Entry("a", FILE, mtime=int(n))), created=n)) for n in "12"]

    found = verdict(*images)

    assert found.only_times
    assert "gave other times, and nothing else" in told.text_of(found)
    assert not verdict(*images, picture(step("RUN true", layer("1")), author="me")).only_times


def test_configs_differ_by_field() -> None:
    one = picture(BASE, config={"Env": ["a=1"], "Cmd": ["x"]})
    other = picture(BASE, config={"Env": ["a=2", "b=1"]})

    (report,) = verdict(one, other).reports

    assert [(found.path, found.kinds) for found in report.config] == [
        ("config.Cmd", ("missing",)),
        ("config.Env.a", ("content",)),
        ("config.Env.b", ("missing",)),
    ]


def test_a_step_that_only_one_has_does_not_shift_the_rest() -> None:
    last = step("RUN last", Layer("diff:last", "blob:last", unread))
    more = step("RUN more", layer("more", stamp("sha256:1")))

    (report,) = verdict(picture(BASE, last), picture(BASE, more, last), picture(BASE, more, last)).reports

    assert [(one.number, one.label) for one in report.differing] == [(2, "RUN more")]
    assert report.differing[0].about[0].values == {
        "missing": {"image": "", "first": "step", "second": "step"}
    }


def test_layers_of_the_same_entries_written_otherwise_differ_all_the_same() -> None:
    one, other = (picture(step("RUN x", layer(n, stamp("sha256:1")))) for n in "12")

    (report,) = verdict(one, other).reports

    assert report.differing[0].files[0].kinds == ("writing",)


def test_equal_layers_that_are_compressed_otherwise_are_no_difference() -> None:
    one, other = (picture(step("RUN x", Layer("diff:x", blob, unread))) for blob in ("gzip", "zstd"))

    found = verdict(one, other)

    assert found.is_same
    assert found.reports[0].repacked == 1


def test_a_layer_with_many_files_shows_some_as_text_and_all_in_the_document() -> None:
    files = [Entry(f"f{number:03}", FILE, digest="sha256:1") for number in range(50)]
    others = [file.replace(digest="sha256:2") for file in files]

    found = verdict(picture(step("RUN x", layer("1", *files))), picture(step("RUN x", layer("2", *others))))

    assert "and 30 more" in told.text_of(found)
    assert len(told.document_of(found)["platforms"][0]["steps"][0]["files"]) == 50


def test_a_name_that_would_write_to_the_terminal_is_shown_harmless() -> None:
    one, other = (picture(step("RUN x", layer(n, Entry("\x1b[2J", FILE, digest=n)))) for n in "12")

    assert "\x1b" not in told.text_of(verdict(one, other))
