"""Packages of distributions: dpkg, apk, rpm in its three databases."""

from __future__ import annotations

import pytest

from tests.support.packages import found_in, rpm_bdb, rpm_header, rpm_ndb, rpm_package, rpm_sqlite

DEBIAN = 'PRETTY_NAME="Debian 12"\nID=debian\nVERSION_ID="12"\n'
STATUS = """\
Package: libc6
Status: install ok installed
Maintainer: GNU Libc Maintainers <libc@example.org>
Architecture: amd64
Source: glibc (2.36-9)
Version: 2.36-9+deb12u1
Description: GNU C Library
 Package: not-a-field
Homepage: https://www.gnu.org/

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: c++
Status: install ok installed
Architecture: amd64
Version: 4:12.2
"""
ALPINE = "ID=alpine\nVERSION_ID=3.19.1\n"
INSTALLED = """\
C:Q1abc=
P:busybox-binsh
V:1.36.1-r15
A:x86_64
T:busybox ash /bin/sh
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:Some One <one@example.org>
F:bin
R:sh

P:musl
V:1.2.4-r2
A:x86_64
L:MIT
o:musl
"""


def purls(files: dict[str, bytes | str], **links: str) -> list[str]:
    return [package.purl for package in found_in(files, links).packages]


def test_dpkg_tells_of_what_is_installed_and_not_of_what_was() -> None:
    found = found_in({"etc/os-release": DEBIAN, "var/lib/dpkg/status": STATUS})

    assert [package.purl for package in found.packages] == [
        "pkg:deb/debian/c%2B%2B@4:12.2?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=glibc%402.36-9",
    ]
    libc = found.packages[1]
    assert (libc.name, libc.version, libc.summary) == ("libc6", "2.36-9+deb12u1", "GNU C Library")
    assert (found.system.id, found.system.version, found.notes) == ("debian", "12", ())


def test_a_package_of_several_architectures_is_told_once_for_each() -> None:
    both = STATUS + "\n" + STATUS.replace("Architecture: amd64", "Architecture: i386")
    rpms = [rpm_header({1000: "glibc", 1001: "2", 1002: "1", 1022: arch}) for arch in ("i686", "x86_64")]

    arches = [purl.partition("arch=")[2].partition("&")[0] for purl in purls({"var/lib/dpkg/status": both})]

    assert arches == ["amd64", "i386", "amd64", "i386"]
    assert len(purls({"var/lib/rpm/Packages.db": rpm_ndb(rpms)})) == 2


def test_images_without_dpkg_itself_have_a_file_for_each_package() -> None:
    files = {
        "usr/lib/os-release": DEBIAN,
        "var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
        "var/lib/dpkg/status.d/tzdata.md5sums": "abc  usr/share/zoneinfo\n",
    }

    assert purls(files) == ["pkg:deb/debian/tzdata@2024a?arch=all&distro=debian-12"]


@pytest.mark.parametrize("place", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_apk_tells_of_what_is_installed(place: str) -> None:
    found = found_in({"etc/os-release": ALPINE, place: INSTALLED})

    assert [package.purl for package in found.packages] == [
        "pkg:apk/alpine/busybox-binsh@1.36.1-r15?arch=x86_64&distro=alpine-3.19.1&upstream=busybox",
        "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19.1",
    ]
    assert found.packages[0].license == "GPL-2.0-only"


def test_a_database_behind_a_link_is_that_of_the_image() -> None:
    assert (
        len(found_in({"data/apk": INSTALLED}, {"lib/apk/db": "/data", "data/installed": "apk"}).packages) == 2
    )
    assert found_in({"var/lib/dpkg/x": ""}, {"var/lib/dpkg/status": "/../../../../etc/passwd"}).packages == ()
    assert found_in({"a": ""}, {"etc/os-release": "b", "etc/b": "os-release"}).system.id == ""


@pytest.mark.parametrize(
    ("path", "database"),
    [
        ("var/lib/rpm/rpmdb.sqlite", rpm_sqlite),
        ("usr/lib/sysimage/rpm/rpmdb.sqlite", rpm_sqlite),
        ("usr/lib/sysimage/rpm/Packages.db", rpm_ndb),
        ("var/lib/rpm/Packages", rpm_bdb),
        ("var/lib/rpm/Packages", lambda headers: rpm_bdb(headers, ">", 1024)),
    ],
)
def test_rpm_tells_of_what_is_installed_in_each_of_its_databases(path: str, database: object) -> None:
    assert callable(database)
    headers = [rpm_package("bash", "5.2"), rpm_package("glibc", "2.38", epoch=1), rpm_package("gpg-pubkey")]
    found = found_in({"etc/os-release": "ID=fedora\nVERSION_ID=39\n", path: database(headers)})

    assert found.notes == ()
    assert [package.purl for package in found.packages] == [
        "pkg:rpm/fedora/bash@5.2-2?arch=noarch&distro=fedora-39&upstream=bash-5.2-2.src.rpm",
        "pkg:rpm/fedora/glibc@2.38-2?arch=noarch&distro=fedora-39&epoch=1&upstream=glibc-2.38-2.src.rpm",
    ]
    assert [package.version for package in found.packages] == ["5.2-2", "1:2.38-2"]


def test_a_header_of_many_pages_is_read_whole() -> None:
    found = found_in({"var/lib/rpm/Packages": rpm_bdb([rpm_package("n" * 500, "v" * 400)])})

    assert [(len(package.name), len(package.version)) for package in found.packages] == [(500, 402)]


def test_images_with_a_list_in_place_of_a_database_are_read() -> None:
    line = "\t".join(
        ["bash", "5.2-1.azl3", "1", "2", "Microsoft", "(none)", "9", "x86_64", "bash-5.2.src.rpm"]
    )
    files = {"var/lib/rpmmanifest/container-manifest-2": line + "\n", "etc/os-release": "ID=azurelinux\n"}

    expected = "pkg:rpm/azurelinux/bash@5.2-1.azl3?arch=x86_64&distro=azurelinux&upstream=bash-5.2.src.rpm"
    assert purls(files) == [expected]
