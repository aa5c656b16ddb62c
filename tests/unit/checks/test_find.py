"""Findings of any text."""

from __future__ import annotations

import time

from hypothesis import event, given, settings
from hypothesis import strategies as st

from builder.checks.find import find
from builder.errors import BuildError
from tests.support.checking import findings, look_at

WORDS = [
    "FROM", "from", "AS", "scratch", "busybox", "a", "One", "ARG", "A=1", "$A", "${B:-c}", "${C!d}", "ENV",
    "LABEL", "'", '"', "\\", "#", "RUN", "<<E", "E", "CMD", "ONBUILD", "EXPOSE", "80/TCP", "1:2", "WORKDIR",
    "COPY", "--from=One", "--platform=$TARGETPLATFORM", "ADD", "--mount=type=secret,id=$Q", "HEALTHCHECK",
    "MAINTAINER", "[1]", '["a"]', "STOPSIGNAL", "VOLUME", "USER", "SHELL",
]  # fmt: skip
LINES = ["\n", "\n\n", "\\\n", "\nE\n", "# check=skip=all\n", "# A b\n", "x y", "\udcff", "\ufeff"]


@given(st.lists(st.sampled_from(WORDS + LINES), max_size=40).map(" ".join) | st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_every_text_gives_findings_inside_it(text: str) -> None:
    subject, _ = look_at(text, ignore="a\n")

    try:
        found = find(subject)
    except BuildError as error:
        event(f"the settings are wrong: {error.code}")
        return

    lines = text.count("\n") + 1
    assert all(1 <= finding.span.line <= finding.span.last_line <= lines for finding in found)
    assert [finding.span.line for finding in found] == sorted(finding.span.line for finding in found)


def test_a_finding_shows_a_few_lines_of_its_place() -> None:
    text = "FROM scratch\nLABEL a=$NO \\\n b=c \\\n d=e \\\n f=g\nLABEL a=$NO" + "x" * 300 + "\n"

    first, second = findings(text)

    assert first.excerpt == ("LABEL a=$NO \\", " b=c \\", " d=e \\", "…")
    assert len(second.excerpt[0]) == 160
    assert second.excerpt[0].endswith("…")


def test_passwords_in_addresses_are_not_shown() -> None:
    (finding,) = findings("FROM scratch\nADD https://me:secret@example.com/a$NO /a\n")

    assert "secret" not in str(finding)
    assert "example.com/a$NO /a" in finding.excerpt[0]


def test_names_and_findings_without_number_take_no_long_time() -> None:
    count = 3000
    text = "FROM scratch\n" + "".join(f"ARG NAME_{n:05}=1\nLABEL a=$NAME_{n:04}x\n" for n in range(count))
    subject, _ = look_at(text)

    begun = time.process_time()
    found = find(subject)

    assert len(found) == count
    assert time.process_time() - begun < 20  # seconds; comparing all the names would take an hour
