"""Python's packages: the core metadata of what is installed (dist-info, egg-info)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.errors import MessageError
from email.parser import HeaderParser

from builder.attest.packages.package import Files, Package, Unreadable
from builder.attest.purl import package_url

MAX_METADATA = 4 << 20
ENDS = (".dist-info/METADATA", ".egg-info/PKG-INFO", "EGG-INFO/PKG-INFO", ".egg-info")
FIELDS = (
    "Name", "Version", "License-Expression", "License", "Author", "Author-email", "Home-page", "Summary",
)  # fmt: skip
_RUNS = re.compile(r"[-_.]+")


def is_metadata(path: str) -> bool:
    """Whether a file of this path tells of an installed package."""
    return path.endswith(ENDS)


def read(files: Files, path: str) -> Iterator[Package]:
    """The package. Raises Unreadable."""
    data = files.read(path, MAX_METADATA)
    if data is None:
        return
    text = data.partition(b"\n\n")[0].decode("utf-8", "replace")  # as bytes, only ASCII would be read
    try:
        fields = HeaderParser().parsestr(text, headersonly=True)
    except (MessageError, ValueError) as error:
        raise Unreadable("its metadata cannot be read") from error
    told = {name: str(fields.get(name) or "") for name in FIELDS}
    name, version = told["Name"].strip(), told["Version"].strip()
    if not name:
        return
    yield Package(
        kind="pypi",
        name=name,
        version=version,
        purl=package_url("pypi", _RUNS.sub("-", name).lower(), version),
        found=path,
        license=told["License-Expression"] or told["License"],
        supplier=told["Author"] or told["Author-email"],
        homepage=told["Home-page"],
        summary=told["Summary"],
    )
