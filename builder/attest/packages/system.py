"""Which distribution a filesystem is: os-release(5)."""

from __future__ import annotations

from builder.attest.packages.package import Files, System, Unreadable, tidy

PLACES = ("etc/os-release", "usr/lib/os-release")
MAX_RELEASE = 64 << 10
LONGEST = 128


def read_system(files: Files) -> System:
    """The system; an empty one where nothing tells."""
    for path in PLACES:
        try:
            data = files.read(path, MAX_RELEASE)
        except Unreadable:
            continue
        if data is not None:
            return _parse(data)
    return System()


def _parse(data: bytes) -> System:
    fields: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, has_value, value = line.partition("=")
        if has_value:
            fields[name.strip()] = value.strip().strip("\"'")
    return System(
        id=tidy(fields.get("ID", ""), LONGEST).lower(),
        version=tidy(fields.get("VERSION_ID", ""), LONGEST),
        name=tidy(fields.get("PRETTY_NAME", ""), LONGEST),
    )
