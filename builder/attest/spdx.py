"""An SPDX 2.3 document (JSON) of what is in an image: https://spdx.github.io/spdx-spec/v2.3/.

One package for the image, which contains the others; one for the distribution; the files that tell of
packages, with their sums and the layer that they are in, as BuildKit notes it. What could not be read is
said in the document's comment. The same image gives the same document. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from builder import __version__
from builder.attest.packages.find import Inventory
from builder.attest.packages.package import Package

PREDICATE_TYPE = "https://spdx.dev/Document"
NAMESPACE = "https://spdx.org/spdxdocs/pybuild"  # the form for who has no place of his own
NOTHING = "NOASSERTION"
DOCUMENT, IMAGE, SYSTEM = "SPDXRef-DOCUMENT", "SPDXRef-Image", "SPDXRef-OperatingSystem"
_IDS = re.compile(r"[^A-Za-z0-9.-]+")
_SPDX_ID = re.compile(r"[A-Za-z0-9.+-]+")

_OPERATORS = frozenset(("AND", "OR", "WITH"))

Json = dict[str, Any]


class Evidence(msgspec.Struct, frozen=True):
    """A file that tells of packages: sums in hex, and the digest of its layer ("" if unknown)."""

    sha1: str
    sha256: str
    layer: str


class Image(msgspec.Struct, frozen=True):
    """The image: its name ("" for none), its manifest's digest, its purl, and its time (RFC 3339)."""

    name: str
    digest: str
    purl: str
    created: str


def document(image: Image, inventory: Inventory, evidence: Mapping[str, Evidence]) -> Json:
    """The document. evidence: by path; a package whose file is not in it has none."""
    ids = _named(inventory.packages)
    files = {path: _file_id(path) for path in sorted(evidence)}
    packages = [_image(image), *_system(inventory)]
    packages += [_package(one, id_) for one, id_ in zip(inventory.packages, ids, strict=True)]
    relations = [_relation(DOCUMENT, "DESCRIBES", IMAGE)]
    relations += [_relation(IMAGE, "CONTAINS", one["SPDXID"]) for one in packages[1:]]
    for one, id_ in zip(inventory.packages, ids, strict=True):
        if one.found in files:
            comment = "evident-by: indicates the package's existence is evident by the given file"
            relations.append(_relation(id_, "OTHER", files[one.found]) | {"comment": comment})
    told: Json = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": image.name or image.digest,
        "creationInfo": {
            "created": _second(image.created),
            "creators": [f"Tool: pybuild-{__version__}"],
        },
        "packages": packages,
        "files": [_file(path, id_, evidence[path]) for path, id_ in files.items()],
        "relationships": relations,
    }
    if inventory.notes:
        told["comment"] = "what is missing here: " + "; ".join(inventory.notes)
    told["documentNamespace"] = f"{NAMESPACE}-{hashlib.sha256(msgspec.json.encode(told)).hexdigest()}"
    return told


def _image(image: Image) -> Json:
    told: Json = {
        "SPDXID": IMAGE,
        "name": image.name or image.digest,
        "versionInfo": image.digest,
        "downloadLocation": NOTHING,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": "SHA256", "checksumValue": image.digest.partition(":")[2]}],
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
    }
    return told | ({"externalRefs": [_locator(image.purl)]} if image.purl else {})


def _system(inventory: Inventory) -> list[Json]:
    system = inventory.system
    if not system.id:
        return []
    return [
        {
            "SPDXID": SYSTEM,
            "name": system.id,
            "versionInfo": system.version or NOTHING,
            "summary": system.name or system.id,
            "downloadLocation": NOTHING,
            "filesAnalyzed": False,
            "primaryPackagePurpose": "OPERATING-SYSTEM",
            "licenseConcluded": NOTHING,
            "licenseDeclared": NOTHING,
            "copyrightText": NOTHING,
        }
    ]


def _package(package: Package, id_: str) -> Json:
    declared = _license(package.license)
    told: Json = {
        "SPDXID": id_,
        "name": package.name,
        "versionInfo": package.version or NOTHING,
        "supplier": _supplier(package.supplier),
        "downloadLocation": NOTHING,
        "filesAnalyzed": False,
        "sourceInfo": f"acquired package info from {_valid(package.found)}",
        "licenseConcluded": NOTHING,
        "licenseDeclared": declared,
        "copyrightText": NOTHING,
        "externalRefs": [_locator(package.purl)],
    }
    if package.license and declared == NOTHING:
        told["licenseComments"] = f"as the package manager has it: {package.license}"
    if package.homepage.startswith(("http://", "https://")) and " " not in package.homepage:
        told["homepage"] = package.homepage
    if package.summary:
        told["summary"] = package.summary
    return told


def _file(path: str, id_: str, evidence: Evidence) -> Json:
    told: Json = {
        "SPDXID": id_,
        "fileName": f"./{_valid(path)}",
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": evidence.sha1},
            {"algorithm": "SHA256", "checksumValue": evidence.sha256},
        ],
        "licenseConcluded": NOTHING,
        "copyrightText": NOTHING,
    }
    return told | ({"comment": f"layerID: {evidence.layer}"} if evidence.layer else {})


def _valid(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _supplier(text: str) -> str:
    """`NAME <MAIL>` is a person in SPDX's words, a name alone an organization."""
    name, mail, rest = text.partition("<")
    if mail and rest.rstrip().endswith(">"):
        return f"Person: {name.strip() or NOTHING} ({rest.rstrip()[:-1]})"
    return f"Organization: {text}" if text else NOTHING


def _license(text: str) -> str:
    """An expression of SPDX terms as it is; anything else is nothing that can be asserted."""
    words = text.replace("(", " ").replace(")", " ").split()
    if not words or len(words) % 2 == 0 or text.count("(") != text.count(")"):
        return NOTHING
    terms, operators = words[::2], words[1::2]
    if not all(word in _OPERATORS for word in operators) or any(word in _OPERATORS for word in terms):
        return NOTHING
    known = all(_SPDX_ID.fullmatch(word) and word in LICENSES for word in terms)
    return text if known else NOTHING


def _relation(one: str, kind: str, other: str) -> Json:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _locator(purl: str) -> Json:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}


def _named(packages: Sequence[Package]) -> list[str]:
    """An id for each package, made of what it is; the same for the same image."""
    ids = []
    for package in packages:
        told = "\0".join((package.kind, package.name, package.version, package.purl, package.found))
        mark = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        ids.append(f"SPDXRef-Package-{package.kind}-{_IDS.sub('-', package.name)[:80]}-{mark}")
    return ids


def _file_id(path: str) -> str:
    return f"SPDXRef-File-{hashlib.sha256(path.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _second(created: str) -> str:
    """A time as SPDX wants it, to the second."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        moment = datetime.fromtimestamp(0, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Of the terms of SPDX's list those that packages use: https://spdx.org/licenses/.
_TERMS = """
0BSD AFL-2.1 AFL-3.0 AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-1.0
Artistic-1.0-Perl Artistic-2.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-Clear
BSD-4-Clause BSD-Source-Code BSL-1.0 BlueOak-1.0.0 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0
CDDL-1.0 CDDL-1.1 CECILL-2.1 CECILL-B CNRI-Python CPL-1.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 FSFAP FSFUL
FSFULLR FTL GFDL-1.2 GFDL-1.2-or-later GFDL-1.3 GFDL-1.3-only GFDL-1.3-or-later GPL-1.0 GPL-1.0-only
GPL-1.0-or-later GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later HPND ICU IJG
IPL-1.0 ISC Info-ZIP LGPL-2.0 LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later
LGPL-3.0 LGPL-3.0-only LGPL-3.0-or-later LPPL-1.3c Libpng MIT MIT-0 MIT-CMU MPL-1.0 MPL-1.1 MPL-2.0 MS-PL
NCSA NTP OFL-1.1 OLDAP-2.8 OSL-3.0 OpenSSL PHP-3.01 PSF-2.0 PostgreSQL Python-2.0 Python-2.0.1 Ruby
SGI-B-2.0 SISSL SMLNJ Sleepycat TCL UPL-1.0 Unicode-3.0 Unicode-DFS-2016 Unicode-TOU Unlicense Vim W3C WTFPL
X11 XFree86-1.1 Xnet ZPL-2.1 Zlib bzip2-1.0.6 curl libpng-2.0 libtiff psfrag psutils zlib-acknowledgement
Autoconf-exception-2.0 Autoconf-exception-3.0 Bison-exception-2.2 Classpath-exception-2.0 Font-exception-2.0
GCC-exception-2.0 GCC-exception-3.1 LLVM-exception Libtool-exception Linux-syscall-note OpenSSL-exception
openvpn-openssl-exception
"""
LICENSES = frozenset(_TERMS.split())
