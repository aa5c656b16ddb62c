import pytest

from builder import events

EVERY = [
    events.BuildStarted(time=1.5, name="app:1.0", dockerfile="Dockerfile", context="."),
    events.Planned(
        time=2,
        vertices=(
            events.VertexInfo(digest="a", label="[1/2] FROM x", stage="s", line=1),
            events.VertexInfo(digest="b", label="[2/2] RUN y", stage="s", line=2, inputs=("a",)),
        ),
        target="b",
    ),
    events.Started(time=3, vertex="a"),
    events.Cached(time=3, vertex="a"),
    events.Waiting(time=3, vertex="a"),
    events.Log(time=3, vertex="b", stream=2, line='odd \udcff "line"'),
    events.Progress(time=3, vertex="a", item="x", done=1, total=2),
    events.Finished(time=4, vertex="a", seconds=1.0),
    events.Failed(time=4, vertex="b", seconds=1.0, error="exit 2", cancelled=True),
    events.ExportStarted(time=4, name="oci archive"),
    events.ExportFinished(time=4, name="oci archive", seconds=0.5),
    events.Warned(time=4, message="m", rule="R", line=3),
    events.Removed(
        time=4, id="i", kind="regular", description="d", form="tree", size=1, reason="unused", had=0, bound=9
    ),
    events.BuildFinished(time=5, names=("a", "b"), image="sha256:0", size=1, seconds=1, steps=2, cached=1),
    events.BuildFailed(time=5, error="no", code="c", seconds=1),
]


@pytest.mark.parametrize("event", EVERY, ids=lambda event: event.tag)
def test_an_event_survives_being_written_down(event: events.AnyEvent) -> None:
    line = events.encode(event)

    assert b"\n" not in line
    assert events.decode(line) == event


def test_every_kind_of_event_has_a_tag_of_its_own() -> None:
    assert {type(event) for event in EVERY} == set(events.KINDS.values())


def test_a_newer_versions_field_is_dropped() -> None:
    assert events.decode(b'{"event":"started","time":1,"vertex":"a","more":[1]}') == events.Started(
        time=1, vertex="a"
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"event":"nothing","time":1}',
        b'{"event":[],"time":1}',
        b'{"event":"started","time":1e308,"vertex":"a"}',
        b'{"event":"started","time":-1e308,"vertex":"a"}',
        b'{"event":"started","time":NaN,"vertex":"a"}',
        b'{"event":"started","time":' + b"9" * 400 + b',"vertex":"a"}',
        b'{"event":{},"time":1}',
        b"[" * 100_000,
        b'{"event":"started","time":1}',
        b'{"event":"started","time":"soon","vertex":"a"}',
        b'{"event":"planned","time":1,"target":"b","vertices":[3]}',
    ],
)
def test_what_is_no_event_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a|missing|Expecting|recursion"):
        events.decode(line)
