"""docker's templates: what they give, and that what is not there is told."""

from __future__ import annotations

from typing import Any

import pytest

from builder.commands.gofunctions import HEADING_FUNCTIONS
from builder.commands.gotemplate import Template
from builder.errors import UsageError

IMAGE: dict[str, Any] = {
    "Id": "sha256:abc",
    "RepoTags": ["app:1", "app:2"],
    "Size": 1234,
    "Ready": True,
    "Parts": [{"Name": "one", "Of": {"Id": "x"}}, {"Name": "two"}],
    "Config": {
        "Env": ["A=1", "B=2"],
        "Entrypoint": None,
        "Volumes": None,
        "Labels": {"b": "2", "a.x": "1"},
        "Cmd": ["/bin/sh", "-c", "echo <hi>"],
    },
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Id}}", "sha256:abc"),
        ("id={{ .Id }} size={{.Size}}", "id=sha256:abc size=1234"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .Config.Volumes}} {{.Config.Volumes}} {{.Config.Entrypoint}}", "null map[] []"),
        ("{{.Config.Labels}} {{.RepoTags}}", "map[a.x:1 b:2] [app:1 app:2]"),
        ('{{index .Config.Labels "a.x"}}/{{index .Config.Labels "no"}}', "1/"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{(index .Parts 1).Name}} {{(index .Parts 0).Of.Id | upper}}", "two X"),
        ("{{index .RepoTags 1}} {{len .RepoTags}} {{len .Id}}", "app:2 2 10"),
        ('{{join .RepoTags ","}} {{.RepoTags | len}}', "app:1,app:2 2"),
        ('{{(index .RepoTags 0) | upper | printf "%-8s|"}}', "APP:1   |"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a.x=1;b=2;"),
        ("{{range .Config.Entrypoint}}x{{else}}none{{end}}", "none"),
        ("{{if .Ready}}yes{{else}}no{{end}} {{if not .Ready}}a{{else if .Size}}b{{else}}c{{end}}", "yes b"),
        ("{{with .Config.Labels}}{{.b}}{{end}}{{with .Config.Volumes}}x{{end}}", "2"),
        ("{{range .RepoTags}}{{$.Id}} {{end}}", "sha256:abc sha256:abc "),
        ("a {{- .Size -}} b", "a1234b"),
        ("{{/* nothing */}}x", "x"),
        ('{{if and .Ready (gt .Size 1000)}}large{{end}} {{eq .Id "x" "sha256:abc"}}', "large true"),
        ('{{truncate .Id 6}} {{split .Id ":"}} {{pad "x" 1 2}}|', "sha256 [sha256 abc]  x  |"),
        ('{{`raw`}} {{"tab\\tend"}} {{1.5}} {{true}}', "raw tab\tend 1.5 true"),
        ("no action", "no action"),
    ],
)
def test_a_template_gives_what_docker_gives(template: str, expected: str) -> None:
    assert Template(template).render(IMAGE) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nope}}", "there is no field .Nope"),
        ("{{.Config.Enve}}", "there is no field .Enve"),
        ("{{.Id.More}}", "has no fields"),
        ("{{.Id", "has no }}"),
        ("x {{.Id}} {{", "has no }}"),
        ("{{}}", "a value is missing"),
        ("{{jsn .Id}}", "no function jsn"),
        ("{{json}}", "does not take 0 values"),
        ("{{join .Id}}", "it is no list"),
        ("{{index .RepoTags 7}}", "out of range"),
        ("{{index .RepoTags -1}}", "out of range"),
        ("{{.Id .Size}}", "only a function can be given values"),
        ("{{range .Id}}x{{end}}", "neither a list nor a map"),
        ("{{if .Id}}x", "no {{end}}"),
        ("x{{end}}", "nothing that it would end"),
        ("{{$x := .Id}}", "':=' is not expected"),
        ("{{$x}}", r"variable \$x is not set"),
        ('{{template "x"}}', "template is not available"),
        ('{{define "x"}}{{end}}', "define is not available"),
        ('{{printf "%x" .Size}}', "printf knows no %x"),
        ("{{(.Id}}", r"a \( has no \)"),
        ("{{.Id)}}", r"'\)' is not expected"),
        ("{{.Id & .Size}}", "is not understood"),
        ("{{(index .Parts 0) .Id}}", "only a function can be given values"),
        ("{{(index .Parts 0).Nope}}", "there is no field .Nope"),
        ("{{lt .Id .Size}}", "cannot be compared"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_so(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Template(template).render(IMAGE)


def test_a_field_that_is_misspelt_is_told_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        Template("{{.RepoTag}}").render(IMAGE)

    assert caught.value.hint == "did you mean RepoTags?"


def test_headings_are_made_of_names_whatever_is_done_to_the_values() -> None:
    headings = {"ID": "IMAGE ID", "Size": "SIZE"}

    assert Template("{{json .ID}}\t{{lower .Size}}").render(headings, HEADING_FUNCTIONS) == "IMAGE ID\tSIZE"
