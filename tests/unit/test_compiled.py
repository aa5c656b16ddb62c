"""Programs on disk: what is read back is what was compiled; what may not be kept, and damage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from builder import compiled
from builder.compiler.program import NamedContext, Program, Programs, Warning, together
from builder.digest import of_bytes
from builder.graph.definition import About, Definition, Input, Vertex
from builder.oci.spec import Platform
from builder.ops.source import Git, Http
from builder.prepare import Texts
from builder.solver.cache import Cache
from builder.text import Location, SourceText, Span
from tests.support.compiling import compile_text, image
from tests.support.machine import CHECKOUT

FIXTURES = sorted((CHECKOUT / "fixtures" / "dockerfiles").rglob("Dockerfile"))
NAMED = {
    f"docker.io/library/{name}": image(name.partition(":")[0])
    for name in ("node:18", "onbuild-parent:1", "machine:latest", "debian:12", "busybox:latest")
} | {"docker.io/library/triggers:latest": image("triggers", on_build=("RUN made", "COPY a /a"))}
COMMIT = "1" * 40
PLACE = re.compile(r" at 0x[0-9a-f]+")  # in memory
LINES = [
    "ENV A=1 B=$A PATH=/x:$PATH", "ARG C=2", "RUN make $C", "RUN <<E\necho $A\nE", 'RUN ["a", "b\\u00e9"]',
    "RUN --mount=type=cache,target=/c,id=k,mode=0700 --mount=type=tmpfs,target=/t,size=1m true",
    "RUN --mount=type=secret,id=s,env=S --mount=type=ssh,required=true true",
    "RUN --mount=target=/src,rw --mount=from=first,source=/x,target=/y --network=none true",
    "RUN --mount=type=cache,target=/d,from=first,source=/z true",
    "COPY a b* /to/", "COPY --from=first --chown=1:2 --chmod=0755 /x /y", "COPY --link --from=first / /all",
    "COPY --parents --exclude=*.o a/./b /p/", "COPY <<one <<two /h/\n$A\none\nünïcode\ntwo",
    f"ADD https://h.example/f.tar#x /f\nADD https://h.example/r.git#{COMMIT} /r",
    f"ADD --checksum=sha256:{'0' * 64} https://h.example/g /g",
    "ADD --keep-git-dir https://h.example/r.git#v1 /q",
    "WORKDIR w", "USER nobody", "SHELL [\"/bin/bash\", \"-c\"]", "EXPOSE 80/udp 90-92", "VOLUME /v",
    "LABEL l=$A", "HEALTHCHECK --interval=3s CMD true", "HEALTHCHECK NONE", "STOPSIGNAL 9",
    "ENTRYPOINT [\"e\"]", "CMD c", "ONBUILD RUN later", "MAINTAINER who", "ENTRYPOINT []",
    "RUN --security=sandbox x",
]  # fmt: skip
ALONE = [line for line in LINES if "from=first" not in line]


def read_back(programs: Programs, text: str) -> Programs | None:
    source = SourceText("Dockerfile", text)
    dumped = compiled.dump(programs, source)
    assert dumped is not None
    assert text not in dumped or len(text) < 20
    return compiled.parse(dumped, source)


def assert_same(read: Programs | None, programs: Programs) -> None:
    """Equal in all that there is, the order of vertices and the classes of values too."""
    assert read is not None
    assert read == programs
    assert PLACE.sub("", repr(read)) == PLACE.sub("", repr(programs))


def warned(program: Program) -> Program:
    found = Warning("Rule", "a finding", Span(2, 3, 4, 5), ("line", "\tanother"))
    return replace(program, warnings=(found, replace(found, rule="", excerpt=())))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: str(path.relative_to(FIXTURES[0].parents[2])))
def test_what_is_read_back_is_what_was_compiled(path: Path) -> None:
    text = path.read_text()
    programs = together([warned(compile_text(text, bases=NAMED))])

    assert_same(read_back(programs, text), programs)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(ALONE), max_size=8), st.lists(st.sampled_from(LINES), max_size=8), st.booleans()
)
def test_so_is_whatever_lines_a_dockerfile_has(first: list[str], second: list[str], several: bool) -> None:
    text = "\n".join(
        ["FROM triggers AS first", *first, "FROM busybox", *second, "COPY --from=first /l /l", ""]
    )
    options = {"bases": NAMED, "contexts": {"named": NamedContext("local", "/n")}, "labels": {"l": "m"}}
    platforms = [Platform("amd64", "linux"), Platform("arm", "linux", "v7")][: 1 + several]
    given_date = {"build_args": {"SOURCE_DATE_EPOCH": "12"}} if several else {}
    programs = together([
        warned(compile_text(text, platform=platform, several_platforms=several, **options, **given_date))
        for platform in platforms
    ])  # fmt: skip

    assert_same(read_back(programs, text), programs)


def test_what_people_are_told_of_a_vertex_and_what_no_compile_gives_here_is_kept_too() -> None:
    text = "FROM busybox\nRUN true\n"
    program = compile_text(text)
    elsewhere = Location(SourceText("ONBUILD", "RUN it"), Span(1, 2, 3, 4), begins=1)
    about = About("label", "stage", elsewhere, no_cache=True, internal=True, shell="/bin/bash")
    vertices = {
        digest: replace(vertex, about=about) for digest, vertex in program.definition.vertices.items()
    }
    program = replace(
        program, definition=Definition(vertices, latest=3), source_date_epoch=4, epoch_fetched=True,
        base_layers=5, base_entries=6,
        addresses={Http("https://h/f", "f"): elsewhere, Git("https://h/r"): None},
    )  # fmt: skip
    programs = together([program])

    assert_same(read_back(programs, text), programs)


def test_no_field_of_what_is_kept_is_left_out() -> None:
    placed = {"location": "place", "of": "of", "select": "select"}
    assert set(compiled._About.__struct_fields__) == {
        placed.get(name, name) for name in About.__struct_fields__
    }
    assert compiled._Vertex.__struct_fields__ == ("digest", "op", "op_digest", "inputs", "about")
    assert Vertex.__struct_fields__ == compiled._Vertex.__struct_fields__
    assert Input.__struct_fields__ == ("of", "select")
    assert Definition.__struct_fields__ == ("vertices", "latest")
    assert set(compiled._Program.__struct_fields__) - {"vertices", "latest"} == set(
        Program.__struct_fields__
    ) - {"definition"}
    assert set(compiled._Programs.__struct_fields__) - {"sources", "rows", "vertices", "latest"} == set(
        Programs.__struct_fields__
    ) - {"definition"}


def test_the_text_of_the_dockerfile_is_given_and_not_kept() -> None:
    text = "FROM busybox\n# a comment that nothing is made of\nRUN true\n"
    programs = together([compile_text(text)])

    dumped = compiled.dump(programs, SourceText("Dockerfile", text))

    assert dumped is not None
    assert "a comment" not in dumped


def test_a_name_stands_for_the_text_and_for_the_states_of_bases(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), lambda _snapshot: True)
    texts = Texts("Dockerfile", "FROM busybox\nRUN true\n", "/context", None)
    programs = together([compile_text(texts.dockerfile)])
    given_digest = of_bytes(b"given")
    name = compiled.name_of(given_digest, [("busybox", "linux/amd64", "named 1")])

    compiled.save(cache, name, texts, programs)

    assert compiled.load(cache, name, texts) == programs
    assert compiled.load(cache, given_digest, texts) is None
    moved = compiled.name_of(given_digest, [("busybox", "linux/amd64", "named 2")])
    assert compiled.load(cache, moved, texts) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "another's"])
def test_what_is_damaged_is_not_there(tmp_path: Path, damage: str) -> None:
    cache = Cache(str(tmp_path), lambda _snapshot: True)
    texts = Texts("Dockerfile", "FROM busybox\nRUN true\n", "/context", None)
    name, other = of_bytes(b"given"), of_bytes(b"other")
    compiled.save(cache, name, texts, together([compile_text(texts.dockerfile)]))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    raw = path.read_text()
    if damage == "flipped":
        path.write_text(raw.replace("true", "trul"))
    elif damage == "cut":
        path.write_text(raw[:-20])
    else:
        place = tmp_path / "programs" / other[7:9] / other[7:]
        place.parent.mkdir(exist_ok=True)
        path.rename(place)

    assert compiled.load(cache, name, texts) is None
    assert compiled.load(cache, other, texts) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[[],[],[],[0],null,[]]", "[1,2,3,4,5,6]"])
def test_another_text_is_no_program(text: str) -> None:
    assert compiled.parse(text, SourceText("Dockerfile", "")) is None


def test_bytes_that_are_no_characters_are_not_kept() -> None:
    text = "FROM busybox\nRUN echo \udcff\n"

    assert compiled.dump(together([compile_text(text)]), SourceText("Dockerfile", text)) is None


@pytest.mark.parametrize(("text", "args", "contexts", "kept"), [
    ("FROM busybox\nARG A=1\nRUN $A\n", {"A": "2"}, {"n": "/folder"}, True),
    ("FROM busybox\nRUN true\n", {"NPM_TOKEN": "x"}, {}, False),
    ("FROM busybox\nENV DB_PASSWORD=x\nRUN true\n", {}, {}, False),
    ("FROM busybox\nRUN true\n", {"http_proxy": "http://me:word@proxy:1"}, {}, False),
    ("FROM busybox\nRUN true\n", {}, {"n": "https://me:word@host/r.git"}, False),
    ("FROM busybox\nADD https://me:word@host/f /f\n", {}, {}, False),
    ("FROM busybox\n" + "WORKDIR a\n" * compiled.MOST_STEPS, {}, {}, False),
    (f"FROM busybox\nENV A={'x' * (compiled.MOST_ENVIRONMENT // 300)}\n" + "RUN a\n" * 300, {}, {}, False),
])  # fmt: skip
def test_what_sounds_secret_and_what_is_large_is_not_kept(
    text: str, args: dict[str, str], contexts: dict[str, str], kept: bool
) -> None:
    programs = together([compile_text(text, build_args=args)])

    assert compiled.may_be_kept(programs, args, contexts) is kept
