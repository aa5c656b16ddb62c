"""RPM's packages, from whichever database rpm of that image keeps."""

from __future__ import annotations

from collections.abc import Iterator

from builder.attest.packages import rpmheader
from builder.attest.packages.package import Files, Package, System, Unreadable
from builder.attest.packages.rpmheader import (
    ARCH,
    EPOCH,
    LICENSE,
    NAME,
    RELEASE,
    SOURCE,
    SUMMARY,
    URL,
    VENDOR,
    VERSION,
)
from builder.attest.packages.rpmstores import READERS
from builder.attest.purl import package_url

FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm")
MANIFEST = "var/lib/rpmmanifest/container-manifest-2"  # of images without rpm: a line for each package
MAX_MANIFEST = 16 << 20
MAX_PACKAGES = 200_000
MAX_HEADERS = 1 << 30  # bytes of all of them
KEYS = "gpg-pubkey"  # keys are kept as if they were packages


def read(files: Files, system: System) -> Iterator[Package]:
    """The packages that are installed, of the first database there is. Raises Unreadable."""
    for folder in FOLDERS:
        for name, reader in READERS.items():
            path = f"{folder}/{name}"
            file = files.open(path)
            if file is None:
                continue
            with file:
                for header in _bounded(reader(file)):
                    yield from _package(rpmheader.parse(header), system, path)
            return
    if (data := files.read(MANIFEST, MAX_MANIFEST)) is not None:
        yield from _listed(data, system)


def _bounded(headers: Iterator[bytes]) -> Iterator[bytes]:
    """The headers, as many as can be: entries of a database may lead to the same bytes again and again."""
    size = 0
    for number, header in enumerate(headers):
        size += len(header)
        if number >= MAX_PACKAGES or size > MAX_HEADERS:
            raise Unreadable("it has more packages than are read")
        yield header


def _package(header: dict[int, str], system: System, found: str) -> Iterator[Package]:
    name, version = header.get(NAME, ""), header.get(VERSION, "")
    if not name or not version or name == KEYS:
        return
    if release := header.get(RELEASE, ""):
        version += f"-{release}"
    epoch = header.get(EPOCH, "")
    qualifiers = {
        "arch": header.get(ARCH, ""),
        "distro": system.distro,
        "epoch": epoch,
        "upstream": header.get(SOURCE, ""),
    }
    yield Package(
        kind="rpm",
        name=name,
        version=f"{epoch}:{version}" if epoch not in ("", "0") else version,
        purl=package_url("rpm", name, version, namespace=system.id, qualifiers=qualifiers),
        found=found,
        license=header.get(LICENSE, ""),
        supplier=header.get(VENDOR, ""),
        homepage=header.get(URL, ""),
        summary=header.get(SUMMARY, ""),
    )


def _listed(data: bytes, system: System) -> Iterator[Package]:
    """`name version-release time time vendor epoch size arch source` lines, parted by tabs (Azure Linux)."""
    for line in data.decode("utf-8", "replace").splitlines():
        row = line.split("\t")
        if len(row) >= 9:
            name, version, arch = row[0], row[1], row[7]
            qualifiers = {"arch": arch, "distro": system.distro, "upstream": row[8]}
            url = package_url("rpm", name, version, namespace=system.id, qualifiers=qualifiers)
            yield Package(kind="rpm", name=name, version=version, purl=url, found=MANIFEST, supplier=row[4])
