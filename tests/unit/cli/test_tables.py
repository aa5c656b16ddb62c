from datetime import UTC, datetime

import pytest

from builder.commands.tables import ago, print_table

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2026-01-01T00:00:00Z", "less than a minute ago"),
        ("2025-12-31T23:58:30Z", "1 minute ago"),
        ("2025-12-31T22:30:00.123456789Z", "1 hour ago"),
        ("2025-12-31T00:00:00+00:00", "24 hours ago"),
        ("2025-12-29T00:00:00Z", "3 days ago"),
        ("2025-12-01T00:00:00Z", "4 weeks ago"),
        ("2025-06-01T00:00:00Z", "7 months ago"),
        ("1970-01-01T00:00:00Z", "56 years ago"),
        ("2027-01-01T00:00:00Z", "in the future"),
        ("", "unknown"),
        ("soon", "soon"),
    ],
)
def test_times_are_told_as_how_long_ago(created: str, text: str) -> None:
    assert ago(created, NOW) == text


def test_columns_are_aligned_and_foreign_text_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["A", "LONG"], [["wide cell", "x"], ["\x1b[31mred", ""]])

    assert capsys.readouterr().out == "A           LONG\nwide cell   x\nred\n"
