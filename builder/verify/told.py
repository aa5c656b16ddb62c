"""What a verification found, as text for people and as a document for scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.ui.words import one_line
from builder.verify.compare import STEP, Report, StepReport, Verdict
from builder.verify.trees import CONTENT, MISSING, TIME, WRITING, Difference

MOST = 20  # paths of a step that are shown as text
SHORT = 19  # characters of a digest: sha256: and twelve
LONG = 60  # characters of a value that are shown
CREATED = "created"


def text_of(verdict: Verdict) -> str:
    """What differs, platform by platform and step by step, and a last line that sums it up."""
    lines: list[str] = []
    for platform, names in verdict.absent.items():
        lines += [f"platform {platform} is only in {_and(names)}", ""]
    for report in verdict.reports:
        lines += _report(report, verdict)
    return "\n".join([*lines, _summary(verdict)]) + "\n"


def _report(report: Report, verdict: Verdict) -> Iterator[str]:
    several = len(verdict.reports) + len(verdict.absent) > 1
    if report.all() and several:
        yield f"{report.platform}"
    for step in map(_without_its_time, report.differing):
        if not step.all():
            continue
        yield f"step {step.number}/{report.steps}: {one_line(step.label)}"
        yield f"  {_who(step.all(), verdict.names)}"
        yield from _differences(step)
        yield ""
    if report.config:
        yield "config"
        yield f"  {_who(report.config, verdict.names)}"
        yield from (f"    {_line(found)}" for found in report.config)
        yield ""
    if report.repacked:
        what = "layer is" if report.repacked == 1 else "layers are"
        yield f"{report.repacked} equal {what} compressed otherwise"
        yield ""


def _without_its_time(step: StepReport) -> StepReport:
    """A step without the time of its entry in the history, which is the image's, and told as the config's."""
    about = tuple(found for found in step.about if found.path != CREATED)
    return StepReport(step.number, step.label, step.files, about)


def _differences(step: StepReport) -> Iterator[str]:
    for found in step.files[:MOST]:
        yield f"    {_line(found, file=True)}"
    if len(step.files) > MOST:
        yield f"    and {len(step.files) - MOST} more (--format json has all)"
    for found in step.about:
        told = _kind(*next(iter(found.values.items()))) if found.path == STEP else f"history: {_line(found)}"
        yield f"    {told}"


def _line(found: Difference, *, file: bool = False) -> str:
    path = _shown(found.path) if file else found.path
    return f"{one_line(path)}: " + "; ".join(_kind(kind, values) for kind, values in found.values.items())


def _shown(path: str) -> str:
    """A path of a layer as it is in the image."""
    return "/" if path == "." else f"/{path}"


def _kind(kind: str, values: Mapping[str, str]) -> str:
    if kind == MISSING:
        return f"missing in {_and([name for name, value in values.items() if not value])}"
    if kind == WRITING:
        return "the same entries, written otherwise"
    shown = ", ".join(f"{name} {_value(kind, value)}" for name, value in values.items())
    return f"{kind} ({shown})"


def _value(kind: str, value: str) -> str:
    if not value:
        return "none"
    if kind == CONTENT and value.startswith("sha256:"):
        return value[:SHORT]
    text = one_line(value)
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def _who(differences: Sequence[Difference], names: Sequence[str]) -> str:
    """Which of the images differ from each other."""
    rebuilds = names[1:]
    if len(rebuilds) < 2:
        return f"{names[0]} and its rebuild differ"
    if any(_differ(found, rebuilds) for found in differences):
        return "differs from one rebuild to the next"
    return f"the rebuilds are equal, and differ from the {names[0]}"


def _differ(found: Difference, names: Sequence[str]) -> bool:
    return any(len({values.get(name) for name in names}) > 1 for values in found.values.values())


def _summary(verdict: Verdict) -> str:
    count = len(verdict.names) - 1
    built = "a rebuild from nothing" if count == 1 else f"{count} rebuilds from nothing"
    if verdict.is_same:
        return f"{verdict.image} is reproduced: {built} gave the same"
    if verdict.only_times:
        hint = "SOURCE_DATE_EPOCH and rewrite-timestamp=true, or --reproducible, make them the same"
        return f"{verdict.image} is not reproduced: {built} gave other times, and nothing else ({hint})"
    differing = [step for report in verdict.reports for step in report.differing]
    steps = sum(any(set(found.kinds) - {TIME} for found in step.all()) for step in differing)
    what = f"{steps} step{'s' if steps != 1 else ''} gave something else" if steps else "another image"
    return f"{verdict.image} is not reproduced: {built}, {what}"


def document_of(verdict: Verdict) -> dict[str, Any]:
    """All that was found."""
    return {
        "image": verdict.image,
        "reproduced": verdict.is_same,
        "onlyTimes": verdict.only_times,
        "compared": list(verdict.names),
        "absent": [{"platform": p, "in": list(names)} for p, names in verdict.absent.items()],
        "platforms": [_document(report, verdict.names) for report in verdict.reports],
    }


def _document(report: Report, names: Sequence[str]) -> dict[str, Any]:
    return {
        "platform": report.platform,
        "digests": dict(report.digests),
        "stepCount": report.steps,
        "repackedLayers": report.repacked,
        "steps": [
            {
                "number": step.number,
                "step": step.label,
                "betweenRebuilds": any(_differ(found, names[1:]) for found in step.all()),
                "files": [_plain(found, _shown(found.path)) for found in step.files],
                "history": [_plain(found, found.path) for found in step.about],
            }
            for step in report.differing
        ],
        "config": [_plain(found, found.path) for found in report.config],
    }


def _plain(found: Difference, path: str) -> dict[str, Any]:
    values = {kind: dict(values) for kind, values in found.values.items()}
    return {"path": path, "kinds": list(found.kinds), "values": values}


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)
