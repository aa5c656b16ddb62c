"""COPY of what was copied before: nothing is done twice, and nobody can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import needs_root
from tests.support.workshop import Outcome, Workshop

pytestmark = [pytest.mark.root, needs_root()]

LOOK = "find /src -type f | sort | xargs stat -c '%n %a %u:%g %h %s %Y' > /told"
APP = f"FROM busybox\nWORKDIR /src\nCOPY src .\nRUN {LOOK}; sha256sum /src/*/* | sort > /sums\n"


def fill(workshop: Workshop, count: int = 200) -> None:
    """A context of many files, each as old as the other."""
    for number in range(count):
        file = workshop.write(f"src/d{number // 20}/f{number:03}", f"file {number}\n" * (number + 1))
        os.utime(file, (1_600_000_000, 1_600_000_000))
    for folder in [*(workshop.context / "src").iterdir(), workshop.context / "src"]:
        os.utime(folder, (1_600_000_000, 1_600_000_000))


def change(workshop: Workshop, path: str, data: str) -> None:
    """Write a file, in a folder that does not show it by its time."""
    parent = (workshop.context / path).parent
    before = os.stat(parent)
    os.utime(workshop.write(path, data), (1_600_000_001, 1_600_000_001))
    os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def layers_of(root: Path, image: str) -> list[str]:
    """The digests of an image's layers."""
    blobs = root / "blobs" / "sha256"
    manifest = json.loads((blobs / image.removeprefix("sha256:")).read_bytes())
    return [layer["digest"] for layer in manifest["layers"]]


def deltas(root: Path) -> list[Path]:
    return sorted((root / "layers").glob("*/delta"))


def exported(workshop: Workshop, name: str, *words: str, root: Path | None = None) -> Path:
    """The files of the image, as a folder."""
    out = workshop.folder / name
    done = workshop.run("-o", f"type=local,dest={out}", *words, workshop.context, root=root)
    assert done.status == 0, done.err
    return out


def fresh_root(workshop: Workshop, name: str) -> Path:
    """Another store with the base, where nothing was built."""
    root = workshop.folder / name
    subprocess.run(["cp", "-a", workshop.root, root], check=True)
    return root


def build_in(workshop: Workshop, root: Path, *words: str) -> Outcome:
    outcome = workshop.run(*words, workshop.context, root=root)
    assert outcome.status == 0, outcome.err
    return outcome


def same_files(one: Path, other: Path) -> bool:
    done = subprocess.run(["diff", "-r", "--no-dereference", one, other], check=False)
    return done.returncode == 0


def test_a_changed_file_among_many_gives_the_layer_that_a_fresh_store_gives(workshop: Workshop) -> None:
    fill(workshop)
    other = fresh_root(workshop, "other")
    workshop.build("-t", "app", dockerfile=APP)

    for number, (path, data) in enumerate(
        [("src/d0/f003", "one\n"), ("src/d0/f003", "two\n"), ("src/d5/f100", "x")]
    ):
        change(workshop, path, data)
        again = workshop.build("-t", "app")
        fresh = build_in(workshop, other, "--no-cache", "-t", "app")

        assert len(deltas(workshop.root)) == number + 1
        assert layers_of(workshop.root, again.digest)[-2] == layers_of(other, fresh.digest)[-2]
        assert same_files(exported(workshop, f"a{number}"), exported(workshop, f"b{number}", root=other))
    assert not deltas(other)


@pytest.mark.parametrize("words", [(), ("--isolation", "chroot")])
def test_what_a_step_sees_is_what_is_there(workshop: Workshop, words: tuple[str, ...]) -> None:
    """Added, changed and removed files, a file of two names and a link, on what can be had here."""
    fill(workshop)
    workshop.dockerfile(APP)
    outcome = workshop.run(*words, "-t", "app", workshop.context)
    if outcome.status:
        pytest.skip(f"not to be had here: {outcome.message}")
    src = workshop.context / "src"
    (src / "d0/f001").unlink()
    (src / "d0/added").write_text("added\n")
    (src / "d1/f021").write_text("changed\n")
    os.link(src / "d2/f041", src / "d2/again")
    os.symlink("f060", src / "d3/link")

    build_in(workshop, workshop.root, *words, "-t", "app")

    assert deltas(workshop.root) or [*(workshop.root / "layers").glob("*/delta-*")]
    out = exported(workshop, "out", *words)
    told = (out / "told").read_text().splitlines()
    names = sorted(
        f"/src/{path.relative_to(src)}" for path in src.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert [line.split(" ")[0] for line in told] == names
    links = {line.split(" ")[0]: line.split(" ")[3] for line in told}
    assert {path for path, count in links.items() if count == "2"} == {"/src/d2/f041", "/src/d2/again"}
    assert same_files(src, out / "src")


def test_the_same_content_over_another_layer_is_the_same_layer(workshop: Workshop) -> None:
    """What is below changed, so the COPY is done anew; but what it makes is there."""
    fill(workshop)
    text = "FROM busybox\nARG WHEN\nRUN echo $WHEN > /when\nCOPY src /some/where/src\nRUN true\n"

    first = workshop.build("--build-arg", "WHEN=1", dockerfile=text)
    before = len(os.listdir(workshop.root / "layers"))
    second = workshop.build("--build-arg", "WHEN=2")

    assert any("COPY" in line for line in second.ran)
    assert layers_of(workshop.root, first.digest)[-2] == layers_of(workshop.root, second.digest)[-2]
    assert len(os.listdir(workshop.root / "layers")) == before + 2  # of the two RUNs


def test_files_from_another_stage_are_not_written_again_either(workshop: Workshop) -> None:
    text = (
        "FROM busybox AS made\nARG WHEN\n"
        "RUN mkdir /out && for i in $(seq 100); do echo $i > /out/$i; done; echo $WHEN > /out/1;\\\n"
        "  touch -d @1 /out/* /out\n"
        "FROM busybox\nCOPY --from=made /out /out\nRUN cat /out/* | sort | sha256sum > /sum\n"
    )
    workshop.build("--build-arg", "WHEN=x", dockerfile=text)

    workshop.build("--build-arg", "WHEN=y")

    (delta,) = deltas(workshop.root)
    assert [path.name for path in delta.rglob("*") if path.is_file()] == ["1"]


def test_a_copy_with_link_outlives_a_change_of_its_base(workshop: Workshop) -> None:
    """Neither is it done again, nor are its layers others, whatever happens below."""
    fill(workshop, 20)
    copies = "COPY --link src /src\nCOPY --link --chown=7:8 src/d0/f001 /own\n"
    text = f"FROM busybox\nARG WHEN\nRUN echo $WHEN > /when\n{copies}"

    first = workshop.build("--build-arg", "WHEN=1", dockerfile=text)
    second = workshop.build("--build-arg", "WHEN=2")

    assert any("] COPY --link" in line for line in first.ran)
    assert not any("] COPY --link" in line for line in second.ran)
    assert layers_of(workshop.root, first.digest)[-2:] == layers_of(workshop.root, second.digest)[-2:]
    assert layers_of(workshop.root, first.digest)[-3] != layers_of(workshop.root, second.digest)[-3]
    other = workshop.build(dockerfile=f"FROM scratch\n{copies}")
    assert layers_of(workshop.root, other.digest)[-2:] == layers_of(workshop.root, second.digest)[-2:]


def test_a_copy_that_no_step_looks_at_is_never_unpacked(workshop: Workshop) -> None:
    fill(workshop, 100)
    workshop.build(dockerfile="FROM busybox\nRUN echo > /a\nCOPY src /src\n")
    whole = sorted(workshop.root.glob("layers/*/tree/src"))

    change(workshop, "src/d0/f003", "new\n")
    workshop.build()
    assert sorted(workshop.root.glob("layers/*/tree/src")) == whole == []

    workshop.build(
        dockerfile="FROM busybox\nRUN echo > /a\nCOPY src /src\nRUN sha256sum /src/d0/f003 > /sum\n"
    )
    assert len(sorted(workshop.root.glob("layers/*/tree/src"))) == 1


def test_a_failed_step_over_two_folders_can_be_gone_into(workshop: Workshop) -> None:
    fill(workshop)
    workshop.build("-t", "app", dockerfile=APP)
    change(workshop, "src/d0/f003", "new\n")
    outcome = workshop.run(workshop.context, "-f", str(workshop.write("Bad", APP + "RUN exit 3\n")))
    assert outcome.status == 1

    command = [
        *workshop.command()[:3],
        "debug",
        "--root",
        str(workshop.root),
        "--",
        "cat",
        "/src/d0/f003",
        "/src/d9/f199",
    ]
    done = subprocess.run(
        command,
        check=False,
        env=workshop.environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("new\nfile 199\n")


def test_a_damaged_hint_costs_nothing_but_time(workshop: Workshop) -> None:
    fill(workshop)
    workshop.build("-t", "app", dockerfile=APP)
    hints = [path for path in (workshop.root / "cache" / "models").rglob("*") if path.is_file()]
    for number, text in enumerate(
        [b"", b"\xff\0", b'{"text": "../../../etc"}', b'{"text": "aaaaaaaaaaaaaaaa"}', b'{"text": 7}']
    ):
        for hint in hints:
            hint.write_bytes(text)
        change(workshop, "src/d0/f003", f"{number}\n")
        workshop.build("-t", "app")
        assert (exported(workshop, f"out{number}") / "src/d0/f003").read_text() == f"{number}\n"


def test_a_file_that_changes_after_the_context_was_read_is_not_taken_for_what_it_was(
    workshop: Workshop,
) -> None:
    """The context is read before the build's modules are loaded, its files when they are copied."""
    fill(workshop)
    workshop.build("-t", "app", dockerfile=APP)
    change(workshop, "src/d0/f003", "one\n")
    late = workshop.folder / "late.py"
    late.write_text(
        "import sys\nfrom builder import outset\nset_out = outset.set_out\n"
        "def changing(*given):\n"
        f"    open({str(workshop.context / 'src/d0/f003')!r}, 'w').write('another\\n')\n"
        "    return set_out(*given)\n"
        "outset.set_out = changing\nfrom builder.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    words = ["build", "--root", str(workshop.root), "--progress=plain", "-t", "app", str(workshop.context)]
    done = subprocess.run(
        [sys.executable, str(late), *words],
        check=False,
        env=workshop.environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 1, done.stderr
    assert "'src/d0/f003' changed during the build" in done.stderr
    workshop.build("-t", "app")
    assert (exported(workshop, "out") / "src/d0/f003").read_text() == "another\n"
