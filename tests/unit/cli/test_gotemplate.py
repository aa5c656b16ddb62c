"""docker's templates: what they give, and that what is not there is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.commands.gofunctions import FUNCTIONS, HEADING_FUNCTIONS
from builder.commands.gotemplate import Template
from builder.commands.govalues import Nil, Struct
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
        "Ports": {"80/tcp": {}},
    },
    "Other": Struct({"Name": "x"}, {"Zero": 0, "Gone": Nil("<nil>")}),
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
        ("{{$x := .Size}}{{$x}} {{with $y := .Id}}{{$y}}{{.}}{{end}}", "1234 sha256:abcsha256:abc"),
        ("{{$n := 0}}{{range $i, $_ := .RepoTags}}{{$n = $i}}{{end}}{{$n}}", "1"),
        ("{{$n := 0}}{{range .RepoTags}}{{$n := .}}{{$n}},{{end}}{{$n}}", "app:1,app:2,0"),
        ("{{if $s := .Size}}{{$s}}{{end}}{{if $s := .Config.Volumes}}a{{else}}b{{end}}", "1234b"),
        ('{{range .RepoTags}}{{if eq . "app:2"}}{{break}}{{end}}{{.}}{{end}}', "app:1"),
        ('{{range .RepoTags}}{{if eq . "app:1"}}{{continue}}{{end}}{{.}}{{end}}', "app:2"),
        ("{{range 3}}{{.}}{{end}} {{range $i := 2}}{{$i}}{{end}}", "012 01"),
        (
            '{{define "t"}}<{{.}}{{$}}>{{end}}{{template "t" .Size}}{{template "t"}}',
            "<12341234><<no value><no value>>",
        ),
        ('{{block "b" .Id}}[{{.}}]{{end}}{{template "b" 1}}', "[sha256:abc][1]"),
        ("{{123456789.5}} {{0.00001}} {{1e22}} {{123456.5}}", "1.234567895e+08 1e-05 1e+22 123456.5"),
        ("{{slice .Id 7 9}} {{slice .Id 7}} {{slice .RepoTags 1}}", "ab abc [app:2]"),
        (
            """{{html "<a&'\\">"}} {{urlquery "a b/é"}} {{js "it's <1>"}}""",
            r"&lt;a&amp;&#39;&#34;&gt; a+b%2F%C3%A9 it\'s \u003C1\u003E",
        ),
        (
            r"{{'a'}} {{'\n'}} {{0x1F}} {{017}} {{0b11}} {{1_000}} {{1e3}} {{-2}}",
            "97 10 31 15 3 1000 1000 -2",
        ),
        (r'{{"\x41\u00e9\101\\\xc3\xa9\xff"}}', "AéA\\é\udcff"),
        (r"""{{'\xff'}} {{'\u00e9'}} {{len "\xff"}}""", "255 233 1"),
        ('{{"}}"}}{{`}}`}}{{/* }} */}}', "}}}}"),
        ("{{if\n.Ready}}{{range\t.RepoTags}}x{{end}}{{else\nif .Id}}{{end}}{{if(eq 1 1)}}y{{end}}", "xxy"),
        ('{{printf "%c%c%q" 55296 -1 97}}', "\ufffd\ufffd'a'"),
        ('{{print 1 2 "a" "b" 3}} {{print "a" 1 2}}', "1 2ab3 a1 2"),
        (
            '{{printf "%5d|%-5d|%05d|%+d|%x|%X|%#x|%o|%b|%c|%U" 7 7 7 7 255 255 255 8 5 97 97}}',
            "    7|7    |00007|+7|ff|FF|0xff|10|101|a|U+0061",
        ),
        (
            '{{printf "%8.3s|%-6s|%q|%v|%t|%%|%x" .Id "a" "b" .RepoTags true "hi"}}',
            '     sha|a     |"b"|[app:1 app:2]|true|%|6869',
        ),
        (
            '{{printf "%.2f|%8.1f|%e|%g|%*d|%.3d|%.*f" 1.5 2.25 1500.0 0.5 4 1 7 1 0.25}}',
            "1.50|     2.2|1.500000e+03|0.5|   1|007|0.2",
        ),
        (
            '{{printf "%q %s" .Config.Cmd .Config.Cmd}}',
            '["/bin/sh" "-c" "echo <hi>"] [/bin/sh -c echo <hi>]',
        ),
        (
            "{{if and .Config.Volumes (index .RepoTags 9)}}a{{else}}b{{end}}{{or .Id (index .RepoTags 9)}}",
            "bsha256:abc",
        ),
        ("{{.Config.Ports}}", "map[80/tcp:{}]"),
        ("{{.Other.Zero}}{{with .Other.Gone}}x{{end}} {{.Other.Gone}} {{json .Other.Gone}}", "0 <nil> null"),
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
        ("{{$x = .Id}}", r"variable \$x is not set"),
        ("{{if .Id}}{{$x := 1}}{{end}}{{$x}}", r"variable \$x is not set"),
        ("{{if $a, $b := .Id}}x{{end}}", "two variables are there in range alone"),
        ("{{break}}", "break stands alone, and in a range"),
        ("{{if .Id}}{{continue}}{{end}}", "continue stands alone, and in a range"),
        ('{{if .Id}}{{define "t"}}{{end}}{{end}}', "defined in no other part"),
        ('{{define "t"}}{{template "t"}}{{end}}{{template "t"}}', "uses itself without end"),
        ("{{" + "(" * 5000 + ".Id" + ")" * 5000 + "}}", "nested too deeply"),
        ("{{" + "(" * 600 + ".Id" + ")" * 600 + "}}", "nested too deeply"),
        ("{{" + "9" * 5000 + "}}", "too long for a number"),
        ("{{09}}", "09 is no number"),
        ("{{0x_}}", "0x_ is no number"),
        ("{{9223372036854775808}}", "too large for a number"),
        ("{{1e400}}", "1e400 is too large for a number"),
        (r'{{"\q"}}', "q, which means nothing"),
        (r'{{"\ud800"}}', "which is no letter"),
        (r'{{"\UFFFFFFFF"}}', "which is no letter"),
        (r'{{template "\777"}}', "which is no byte"),
        (r"{{'\x4142'}}", "is more than a letter"),
        ('{{pad "" 99999999999 0}}', "1000000 blanks are the most"),
        ('{{printf "%.*f" -1 0.5}}', "-1 is no precision"),
        ("{{range 99999999}}{{end}}", "that is too many"),
        ('{{printf "%*d" 99999999 1}}', "99999999 is too wide"),
        ("{{template t}}", "the name of a template is wanted, in quotes"),
        ("{{slice .Id 3 99}}", "slice 3 to 99 is out of range"),
        ("{{slice .Size 1}}", "neither a text nor a list"),
        ("{{call .Id}}", "no function call"),
        ("{{and}}", "and does not take 0 values"),
        ("{{.Other.Nope}}", "there is no field .Nope"),
        ('{{printf "%d" .Id}}', "%d takes a whole number, and not 'sha256:abc'"),
        ('{{printf "%f" .Size}}', "%f takes a fraction"),
        ('{{printf "%d"}}', "printf has no value for %d"),
        ('{{printf "a" 1}}', "more values than its format takes"),
        ('{{printf "50%"}}', "has no verb"),
        ("{{$x}}", r"variable \$x is not set"),
        ('{{template "x"}}', "no template 'x' is defined"),
        ('{{define "x"}}', "has no {{end}}"),
        ('{{printf "%y" .Size}}', "printf knows no %y"),
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


PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{- ", " -}}", "(", ")", "|", ",", ":=", "=", " ", "$", "$x", ".", ".Id", ".Nope"),
        *("if ", "else", "end", "with ", "range ", "break", "define ", "template ", "block ", "and "),
        *("index ", "slice ", "pad ", "len ", "join ", "json ", "urlquery ", "split ", "printf ", "title "),
        *('"%d"', '"%*q"', '"t"', '"\\xff"', '"\\ud800"', "'a'", "'\\x", '"', "`", "0", "-1", "09", "/*"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            ".Id",
            ".RepoTags",
            ".Size",
            ".Config.Labels",
            ".Config.Volumes",
            ".Other",
            ".Other.Gone",
            "nil",
            "true",
        ),
        *("0", "-1", "1.5", "9223372036854775807", "'a'", '""', '"%5.2d"', '"%+08x"', '"%-*.*f"', r'"\xff"'),
    ]
)


@given(st.sampled_from(sorted({*FUNCTIONS, "and", "or"})), st.lists(VALUES, max_size=4))
def test_any_function_gives_a_text_or_a_usage_error_whatever_it_is_given(
    name: str, values: list[str]
) -> None:
    try:
        made = Template(f"{{{{{name} {' '.join(values)}}}}}").render(IMAGE)
    except UsageError:
        return
    assert made.encode(errors="surrogateescape").decode(errors="surrogateescape") == made


@given(st.lists(PIECES, max_size=12), st.booleans())
def test_any_template_gives_a_text_or_a_usage_error(pieces: list[str], whole: bool) -> None:
    text = "".join(pieces)
    try:
        made = Template("{{" + text + "}}" if whole else text).render(IMAGE)
    except UsageError:
        return
    assert made.encode(errors="surrogateescape").decode(errors="surrogateescape") == made
