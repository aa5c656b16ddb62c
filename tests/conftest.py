"""On CI every skipped test is in skips.txt, with its reason: nothing is left out unnoticed.

Holds for root with CI=true in the environment; elsewhere a test that cannot run is skipped as usual.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SKIPS = Path(__file__).with_name("skips.txt")
ON_CI = os.environ.get("CI") == "true" and os.geteuid() == 0

# How long an example takes says more about the machine than about the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def read_skips(text: str) -> dict[str, str]:
    """Node id (of a test, a class or a file) -> why it is skipped on CI."""
    rows = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    skips = {}
    for row in rows:
        name, separator, reason = row.partition("  ")
        if not separator or not reason.strip():
            raise pytest.UsageError(f"{SKIPS.name}: no reason behind {row!r}")
        skips[name] = reason.strip()
    return skips


def listed(nodeid: str, skips: dict[str, str]) -> str | None:
    """The row that means this test, if any: its own name, or that of what it belongs to."""
    return next(
        (name for name in skips if nodeid == name or nodeid.startswith((f"{name}[", f"{name}::"))), None
    )


def pytest_configure() -> None:
    """Tests interrupt what they start: it must not inherit what nohup or a background shell ignores."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A row that means no test is out of date. Only where all tests were collected."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not ON_CI or not whole or config.option.keyword or config.option.markexpr:
        return
    skips = read_skips(SKIPS.read_text())
    meant = {listed(item.nodeid, skips) for item in items}
    if unknown := skips.keys() - meant:
        raise pytest.UsageError(f"{SKIPS.name} names tests that are not there: {', '.join(sorted(unknown))}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if ON_CI and not hasattr(report, "wasxfail"):
        _judge(report, listed(item.nodeid, read_skips(SKIPS.read_text())))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield  # a whole file can be skipped too
    if ON_CI and report.skipped:
        _judge(report, listed(collector.nodeid, read_skips(SKIPS.read_text())))
    return report


def _judge(report: pytest.TestReport | pytest.CollectReport, row: str | None) -> None:
    """Fail a test that was skipped unlisted, or that ran in spite of its row."""
    if report.skipped and row is None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"not in {SKIPS.name}: {reason}"
    elif report.passed and report.when == "call" and row is not None:
        report.outcome = "failed"
        report.longrepr = f"in {SKIPS.name} as {row}, and not skipped"
