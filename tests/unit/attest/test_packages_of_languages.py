"""Packages of languages: Python, Node.js, Go."""

from __future__ import annotations

import json

import pytest

from tests.support.packages import found_in, go_program

MODULES = """\
path\texample.org/tool/cmd/tool
mod\texample.org/tool\t(devel)\t
dep\tgithub.com/some/lib\tv1.2.3\th1:abc=
dep\tgithub.com/old/name\tv0.1.0
=>\tgithub.com/new/name/v2\tv2.0.1\th1:def=
build\t-compiler=gc
"""


def purls(files: dict[str, bytes | str]) -> list[str]:
    return [package.purl for package in found_in(files).packages]


def test_python_packages_are_told_by_their_metadata_under_their_normal_names() -> None:
    text = "Metadata-Version: 2.1\nName: Zope.Interface\nVersion: 6.0\nLicense: MIT\nAuthor: A\n\nName: no\n"
    files = {
        "usr/lib/python3/site-packages/zope-6.dist-info/METADATA": text,
        "usr/lib/python3/dist-packages/six-1.16.egg-info/PKG-INFO": "Name: six\nVersion: 1.16\n",
        "usr/lib/python3/dist-packages/old.egg-info": "Name: old_one\nVersion: 2\n",
        "usr/share/doc/METADATA": "Name: none\nVersion: 1\n",
    }

    assert purls(files) == ["pkg:pypi/zope-interface@6.0", "pkg:pypi/old-one@2", "pkg:pypi/six@1.16"]
    assert found_in(files).packages[0].license == "MIT"


def test_metadata_of_python_is_read_as_utf_8() -> None:
    text = "Name: black\nVersion: 24\nAuthor: Łukasz Müller\nSummary: naïve\n\nbody\n"

    (package,) = found_in({"lib/black-24.dist-info/METADATA": text}).packages

    assert (package.supplier, package.summary) == ("Łukasz Müller", "naïve")


def test_npm_packages_are_those_in_node_modules_and_no_folder_inside_of_one() -> None:
    def package(name: str, version: str = "1.0.0") -> str:
        return json.dumps({"name": name, "version": version, "author": {"name": "A B"}, "license": "ISC"})

    files = {
        "app/package.json": package("the-app"),
        "app/node_modules/left-pad/package.json": package("left-pad"),
        "app/node_modules/@scope/name/package.json": package("@scope/name", "2.0.0"),
        "app/node_modules/left-pad/test/package.json": package("no"),
        "app/node_modules/left-pad/node_modules/inner/package.json": package("inner", "3.0.0"),
    }

    assert purls(files) == ["pkg:npm/%40scope/name@2.0.0", "pkg:npm/inner@3.0.0", "pkg:npm/left-pad@1.0.0"]
    assert found_in(files).packages[0].supplier == "A B"


def test_a_lock_file_tells_of_packages_that_are_not_of_development() -> None:
    new = {
        "lockfileVersion": 3,
        "packages": {
            "": {"name": "app", "version": "1"},
            "node_modules/a": {"version": "1.0.0"},
            "node_modules/@s/b": {"version": "2.0.0"},
            "node_modules/dev": {"version": "9", "dev": True},
            "lib": {"link": True},
        },
    }
    old = {"dependencies": {"c": {"version": "3", "dependencies": {"d": {"version": "4"}}}}}
    files = {
        "app/package-lock.json": json.dumps(new),
        "old/npm-shrinkwrap.json": json.dumps(old),
        "app/node_modules/x/package-lock.json": json.dumps(old),
    }

    assert purls(files) == ["pkg:npm/%40s/b@2.0.0", "pkg:npm/a@1.0.0", "pkg:npm/c@3", "pkg:npm/d@4"]


@pytest.mark.parametrize("form", [{}, {"old": True}, {"sections": False}, {"sections": False, "old": True}])
def test_programs_of_go_tell_of_their_modules(form: dict[str, bool]) -> None:
    assert purls({"usr/bin/tool": go_program("go1.22.1", MODULES, **form)}) == [
        "pkg:golang/example.org/tool",
        "pkg:golang/github.com/new/name/v2@v2.0.1",
        "pkg:golang/github.com/some/lib@v1.2.3",
        "pkg:golang/stdlib@1.22.1",
    ]


def test_a_program_that_was_built_without_modules_is_told_by_its_path() -> None:
    program = go_program("go1.19.8 X:flag", "path\tgithub.com/some/tool\nbuild\t-trimpath=true\n")

    assert purls({"bin/tool": program}) == ["pkg:golang/github.com/some/tool", "pkg:golang/stdlib@1.19.8"]
