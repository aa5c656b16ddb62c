"""The flags about attestations: --attest type=…, and --provenance and --sbom, which are short for it.

As docker buildx has them, but for what is not asked for: without a flag there is none. BuildKit's build args
BUILDKIT_ATTEST_PROVENANCE and BUILDKIT_ATTEST_SBOM mean the same. Raises UsageError throughout.
"""

from __future__ import annotations

from collections.abc import Mapping

from builder.commands.flags import FALSE, TRUE, Parsed, nearest
from builder.commands.values import LATER, split_csv
from builder.errors import UsageError
from builder.request import AttestSpec

TYPES = ("provenance", "sbom")
MODES = {"min": "min", "max": "max", "full": "max"}
VERSIONS = ("v1", "v0.2")
FORMS = ("index", "referrers")
ATTRIBUTES = {
    "provenance": (
        "mode", "version", "builder-id", "filename", "reproducible", "inline-only", "complete-materials",
        "capture-usage", "disabled",
    ),
    "sbom": ("generator", "disabled"),
}  # fmt: skip
ARGS = {"provenance": "BUILDKIT_ATTEST_PROVENANCE", "sbom": "BUILDKIT_ATTEST_SBOM"}


def attests(parsed: Parsed, args: Mapping[str, str | None]) -> AttestSpec:
    """What the flags, and build args, ask for."""
    asked: dict[str, dict[str, str]] = {}
    for text in parsed.all("attest"):
        _take(asked, f"--attest {text}", _fields(text, "--attest"))
    for kind in TYPES:
        if kind in parsed:
            flag = f"--{kind}={parsed.text(kind)}"
            _take(asked, flag, {"type": kind, **_short(parsed.text(kind), f"--{kind}")})
        elif kind not in asked and args.get(ARGS[kind]) is not None:
            value = args[ARGS[kind]] or ""
            _take(asked, ARGS[kind], {"type": kind, **_short(value, ARGS[kind])})
    wanted = {kind: attrs for kind, attrs in asked.items() if not _boolean(attrs, "disabled", kind)}
    form = parsed.text("attest-as", "index")
    if form not in FORMS:
        hint = nearest(form, FORMS) or f"the forms are {', '.join(FORMS)}"
        raise UsageError(f"--attest-as {form}: no such form", hint=hint)
    if "attest-as" in parsed and not wanted:
        raise UsageError("--attest-as: there is nothing to be attested", hint="add --provenance or --sbom")
    return _spec(wanted, referrers=form == "referrers")


def _spec(wanted: Mapping[str, Mapping[str, str]], *, referrers: bool) -> AttestSpec:
    provenance = wanted.get("provenance", {})
    mode, version = provenance.get("mode") or "max", provenance.get("version") or "v1"
    if mode not in MODES:
        raise UsageError(f"provenance: no mode {mode!r}", hint="the modes are min and max")
    if version not in VERSIONS:
        raise UsageError(f"provenance: no version {version!r}", hint="the versions are v1 and v0.2")
    filename = provenance.get("filename") or "provenance.json"
    if "/" in filename or filename in (".", "..") or "\0" in filename:
        raise UsageError(f"provenance: filename={filename} is no name of a file")
    builder = provenance.get("builder-id", "")
    try:
        builder.encode()
    except UnicodeEncodeError:
        raise UsageError(f"provenance: builder-id={builder} is no text (UTF-8)") from None
    if _boolean(provenance, "capture-usage", "provenance"):
        raise UsageError(f"provenance: capture-usage is {LATER}")
    if generator := wanted.get("sbom", {}).get("generator"):
        raise UsageError(
            f"sbom: generator={generator} is not run: pybuild reads what is in an image by itself",
            hint="leave the generator out",
        )
    return AttestSpec(
        sbom="sbom" in wanted,
        provenance="provenance" in wanted,
        mode=MODES[mode],
        version=version,
        builder_id=builder,
        filename=filename,
        reproducible=_boolean(provenance, "reproducible", "provenance"),
        inline_only=_boolean(provenance, "inline-only", "provenance"),
        complete_materials=_boolean(provenance, "complete-materials", "provenance"),
        referrers=referrers,
    )


def _take(asked: dict[str, dict[str, str]], flag: str, fields: dict[str, str]) -> None:
    kind = fields.pop("type", "")
    if not kind:
        raise UsageError(f"{flag}: type is missing", hint="write --attest type=provenance or type=sbom")
    if kind not in TYPES:
        raise UsageError(f"{flag}: no attestation {kind!r}", hint=f"there are {' and '.join(TYPES)}")
    if kind in asked:
        raise UsageError(f"{flag}: {kind} is asked for more than once")
    for name in fields:
        if name not in ATTRIBUTES[kind]:
            hint = nearest(name, ATTRIBUTES[kind]) or f"it has {', '.join(ATTRIBUTES[kind])}"
            raise UsageError(f"{flag}: {kind} has no attribute {name!r}", hint=hint)
    asked[kind] = fields


def _short(text: str, flag: str) -> dict[str, str]:
    """What stands behind --provenance or --sbom: true or false, or attributes."""
    if text in TRUE or not text:
        return {}
    if text in FALSE:
        return {"disabled": "true"}
    return _fields(text, flag)


def _fields(text: str, flag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in split_csv(text, flag):
        name, has_value, value = field.partition("=")
        if not has_value:
            hint = f"write {flag}=true, or {flag}=KEY=VALUE" if flag != "--attest" else None
            raise UsageError(f"{flag}: {field!r} is not KEY=VALUE", hint=hint)
        found[name.strip().lower()] = value
    return found


def _boolean(attrs: Mapping[str, str], name: str, kind: str) -> bool:
    value = attrs.get(name, "false")
    if value in TRUE or value == "":
        return True
    if value in FALSE:
        return False
    raise UsageError(f"{kind}: {name}={value} is neither true nor false")
