"""Bad input: one clear message, exit 1 or 2, nothing half-written, and a store that goes on working."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.oci import spec
from tests.support.layouts import LayoutMaker, make_tar
from tests.support.machine import CHECKOUT, needs, needs_root, run
from tests.support.processes import running
from tests.support.registry import RunningRegistry, free_port, running_registry
from tests.support.workshop import GOOD, NO_INTERNET, Outcome, Workshop, finish

pytestmark = [pytest.mark.root, needs_root()]

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
WITHOUT_ADMIN = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
FREE_SPACE = "free some space there, or choose another folder with --root or PYBUILD_ROOT"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Workshop:
    """One for all tests that only write other Dockerfiles; its context has a few files."""
    shop = Workshop(tmp_path_factory.mktemp("bad"), busybox_seed)
    shop.write("src/main.c", "int main;")
    shop.write("app.txt", "text\n")
    shop.write("settings.env", "hidden\n")
    shop.write(".dockerignore", "# none of these\n*.env\n")
    shop.write("cut.tar.gz", gzip.compress(make_tar({"a": os.urandom(9000)}))[:-3000])
    return shop


# ── the command line's files ─────────────────────────────────────────────────────────────────────────────


def test_a_dockerfile_that_is_not_there_is_named_with_the_nearest_name(workshop: Workshop) -> None:
    workshop.write("Dockerfil", "FROM busybox\n")

    outcome = workshop.fail()

    assert outcome.message == f"Dockerfile {workshop.context}/Dockerfile is not there"
    assert outcome.hint == "did you mean Dockerfil?"


BAD_WORDS = {
    "nowhere": "context nowhere is not there",
    "context/app.txt": "context context/app.txt is not a folder",
    "-f context/src context": "Dockerfile context/src is a folder",
    "-f context/nothing context": "Dockerfile context/nothing is not there",
    "-f - -": "context and Dockerfile cannot both come from standard input",
    "file:///x/y.git": "context file:///x/y.git is not there",
    "--no-such-flag context": "unknown flag --no-such-flag",
    "--secret id=key,src=nothing context": "the file nothing of secret 'key' is not there",
    "--secret id=key,env=NOT_SET context": "secret key: the variable NOT_SET is not set",
    "--ulimit files=1 context": "--ulimit files=1: no limit 'files'",
    "-o type=oci,dest=context context": "the destination context is a folder, but oci writes a file",
    "-o context/app.txt context": "the destination context/app.txt is a file, but local writes a folder",
    "--build-context x=nothing -f context/uses-x context": "--build-context x=nothing: nothing is not there",
    "--target buildr -f context/stages context": "target 'buildr' is not a stage of stages",
    "-f context/binary context": "context/binary is no text",
    "--platform a/b/c/d context": "platform 'a/b/c/d' is not of the form os/architecture[/variant]",
    "-t Not:A:Name context": "-t Not:A:Name: image reference Not:A:Name must be in lower case",
}


@pytest.mark.parametrize("words", BAD_WORDS)
def test_bad_words_on_the_command_line_are_refused(shop: Workshop, words: str) -> None:
    shop.dockerfile("FROM scratch\nCOPY app.txt /\n")
    shop.write("uses-x", "FROM scratch\nCOPY --from=x a /\n")
    shop.write("binary", b"\x7fELF\x02\0\0")
    shop.write("stages", "FROM scratch AS builder\nCOPY app.txt /\n")

    outcome = shop.run(*words.split())

    assert outcome.status in (1, 2)
    assert outcome.message == BAD_WORDS[words]
    shop.check_clean()


# ── the Dockerfile, and what it asks for ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Bad:
    """A Dockerfile, and what is said of it. line: the one that the error is about."""

    text: str
    message: str
    hint: str = ""
    line: int = -1


ENTER = "`pybuild debug --root ROOT` opens a shell where it failed"
BAD_DOCKERFILES = [
    Bad(
        "FROM busybox\nRUNN true",
        "'RUNN' is no instruction",
        hint="did you mean RUN?",
    ),
    Bad(
        "FROM busybox\nRUN --mout=x true",
        "RUN has no flag --mout",
        hint="did you mean --mount?",
    ),
    Bad(
        "FROM busybox\nCOPY --chon=1 a b",
        "COPY has no flag --chon",
        hint="did you mean --chown?",
    ),
    Bad(
        "",
        "the Dockerfile has no instructions",
    ),
    Bad(
        "RUN true",
        "RUN stands before the first FROM",
        hint="only ARG may stand there",
    ),
    Bad(
        "FROM busybox\nRUN <<EOF\ntrue",
        "the heredoc <<EOF is not ended",
        hint="it ends at a line that is 'EOF' and nothing else",
        line=1,
    ),
    Bad(
        "FROM busybox AS one\nFROM busybox\nCOPY --from=7 / /",
        "--from=7: there is no stage number 7",
        hint="stages are numbered from 0 to 1",
    ),
    Bad(
        "FROM busybox AS one\nFROM busybox\nCOPY --from=On! / /",
        "'On!' is neither a stage nor a valid image name",
        hint="did you mean one?",
    ),
    Bad(
        "FROM https://me:secret@host.example/image",
        "'https://***@host.example/image' is neither a stage nor a valid image name",
        hint="image names are in lower case, for example debian:12",
    ),
    Bad(
        "FROM busybox\nCOPY src/mian.c /",
        "source '/src/mian.c' not found",
        hint="did you mean 'src/main.c'?",
    ),
    Bad(
        "FROM busybox\nCOPY settings.env /",
        "source '/settings.env' not found: it is left out by .dockerignore:2",
        hint="add '!settings.env' behind that line to take it back in",
    ),
    Bad(
        "FROM busybox AS one\nRUN touch /outpt\nFROM busybox\nCOPY --from=one /output /",
        "source '/output' not found",
        hint="did you mean 'outpt'?",
    ),
    Bad(
        "FROM busybox\nCOPY src /etc/passwd",
        "cannot make a folder of '/etc/passwd': it is a file",
    ),
    Bad(
        "FROM busybox\nRUN touch /f\nWORKDIR /f",
        "cannot make a folder of '/f': it is a file",
    ),
    Bad(
        "FROM busybox\nUSER nosuch\nRUN true",
        "user 'nosuch' is not in /etc/passwd of the image",
    ),
    Bad(
        'FROM busybox\nENV PATH=/bin\nRUN ["nothing", "x"]',
        "cannot run nothing: not found in PATH (/bin)",
        hint=ENTER,
    ),
    Bad(
        'FROM busybox\nCOPY app.txt /a\nRUN ["/a"]',
        "cannot run /a: permission denied",
        hint=ENTER,
    ),
    Bad(
        'FROM busybox\nCOPY --chmod=755 app.txt /a\nRUN ["/a"]',
        "cannot run /a: it has no #! line, or is a program for another platform",
        hint=ENTER,
    ),
    Bad(
        "FROM scratch\nRUN true",
        "cannot run /bin/sh: no such file or directory",
        hint=ENTER,
    ),
    Bad(
        "FROM busybox\nRUN --mount=type=secret,id=key,required=true true",
        "secret key is required and was not given",
        hint="pass it with --secret id=key,src=FILE or --secret id=key,env=NAME",
    ),
    Bad(
        "FROM busybox\nRUN --mount=type=bind,source=nothing,target=/x true",
        "source '/nothing' not found",
    ),
    Bad(
        "FROM busybox\nRUN --mount=type=cache,target=/etc/passwd true",
        "cannot mount a folder at /etc/passwd: a file is there",
    ),
    Bad(
        "FROM busybox\nADD cut.tar.gz /",
        "cut.tar.gz: the archive is damaged: the gzip stream is cut off",
    ),
    Bad(
        "FROM scratch\nUSER x\nWORKDIR /a",
        "cannot look up 'x' of 'x': there are no files yet to look names up in",
        hint="use numbers, such as 1000:1000",
    ),
]


@pytest.mark.parametrize(
    "bad", BAD_DOCKERFILES, ids=lambda bad: bad.text.splitlines()[-1] if bad.text else ""
)
def test_a_dockerfile_that_cannot_be_built_is_told_so_at_the_line(shop: Workshop, bad: Bad) -> None:
    outcome = shop.fail(dockerfile=bad.text)

    assert outcome.status == 1
    assert (outcome.message, outcome.hint) == (bad.message, bad.hint.replace("ROOT", str(shop.root)))
    assert outcome.marked == bad.text.split("\n")[bad.line]
    shop.check_usable()


def test_a_ulimit_above_the_hard_limit_is_refused_with_advice(shop: Workshop) -> None:
    outcome = shop.fail("--ulimit", "nofile=2000000000", dockerfile=GOOD)

    assert outcome.message.startswith("cannot set the ulimit nofile to 2000000000:2000000000")
    assert "hard limit" in outcome.hint
    shop.check_usable()


def test_a_step_that_fails_shows_where_what_it_said_and_its_exit_code(shop: Workshop) -> None:
    lines = "RUN printf 'line %s\\n' $(seq 40); echo last >&2; exit 7"  # by one write(2), and another

    outcome = shop.fail("-t", "never:1", dockerfile=f"FROM busybox\n{lines}\nRUN echo not reached\n")

    assert outcome.message.endswith("did not complete successfully: exit code: 7")
    assert lines.removeprefix("RUN ") in outcome.message
    assert outcome.marked == lines
    tail = [line[4:] for line in outcome.err.splitlines() if line.startswith("  | ")]
    assert len(tail) == 20
    assert {"line 40", "last"} <= set(tail)
    assert "never:1" not in shop.names()
    shop.check_usable()


def test_a_step_that_is_killed_names_the_signal(workshop: Workshop) -> None:
    workshop.dockerfile("FROM busybox\nRUN echo begun; exec sleep 4711.5\n")
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: running(b"sleep", b"4711.5"))  # not before: a shell has not said it yet

    (step,) = running(b"sleep", b"4711.5")
    os.kill(step, signal.SIGKILL)
    outcome = finish(process)

    assert outcome.status == 1
    assert outcome.message.endswith("was killed by signal 9 (SIGKILL)")
    assert "  | begun" in outcome.err
    workshop.check_clean()


def test_a_step_that_fails_stops_its_siblings(workshop: Workshop) -> None:
    outcome = workshop.fail(
        dockerfile="FROM busybox AS slow\nRUN sleep 600\nFROM busybox AS bad\nRUN sleep 0.3; exit 4\n"
        "FROM scratch\nCOPY --from=slow / /a\nCOPY --from=bad / /b\n"
    )

    assert outcome.message.endswith("exit code: 4")
    assert outcome.marked == "RUN sleep 0.3; exit 4"
    workshop.check_usable()


# ── what may not be read, written or done ────────────────────────────────────────────────────────────────


def test_a_root_without_the_capability_for_namespaces_is_told_so_before_anything_runs(
    workshop: Workshop,
) -> None:
    outcome = workshop.fail("--isolation", "root", dockerfile=GOOD, before=WITHOUT_ADMIN)

    assert outcome.status == 1
    assert outcome.message == "--isolation root: this process is not root, or lacks CAP_SYS_ADMIN"
    assert "--privileged" in outcome.hint
    workshop.check_usable()


class Nobody:
    """Another user than root, with a workshop of that user's."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        for folder in (workshop.folder, *workshop.folder.parents[:2]):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o055)
        shutil.rmtree(workshop.root)
        home = workshop.folder / "home"
        home.mkdir()
        os.chown(home, 65534, 65534)
        workshop.root = home / "store"

    def run(self, *words: str | Path) -> Outcome:
        return self.workshop.run(*words, self.workshop.context, before=AS_NOBODY)

    def build(self, *words: str | Path) -> None:
        outcome = self.run(*words)
        assert outcome.status == 0, outcome.err

    def fail(self, *words: str | Path) -> Outcome:
        """Fail as that user; the same user's next build goes well."""
        outcome = self.run(*words)
        assert outcome.status in (1, 2)
        assert outcome.message
        self.workshop.write("fine/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        fine = self.workshop.run(self.workshop.context / "fine", before=AS_NOBODY)
        assert fine.status == 0, fine.err
        self.workshop.check_clean()
        return outcome


@pytest.fixture
def nobody(workshop: Workshop) -> Nobody:
    words = [*AS_NOBODY, sys.executable, "-c", "import builder.cli, msgspec"]
    if run(words, check=False, env={"PYTHONPATH": str(CHECKOUT)}).returncode != 0:
        pytest.skip("another user cannot start this interpreter")
    return Nobody(workshop)


def test_a_plain_user_builds_all_but_run_and_is_told_what_that_needs(
    nobody: Nobody, busybox_layout: Path
) -> None:
    shop = nobody.workshop
    shutil.copytree(busybox_layout, shop.folder / "base")
    base = ["--build-context", f"busybox=oci-layout://{shop.folder}/base"]
    shop.dockerfile("FROM busybox\nCOPY Dockerfile /\nWORKDIR /srv\n")
    nobody.build(*base)
    shop.dockerfile(GOOD)

    outcome = nobody.fail("--isolation", "root", *base)

    assert outcome.message == "--isolation root: this process is not root, or lacks CAP_SYS_ADMIN"
    assert "as root (sudo)" in outcome.hint


def test_what_a_user_may_not_read_is_named(nobody: Nobody) -> None:
    shop = nobody.workshop
    shop.dockerfile("FROM scratch\nCOPY src /\n")
    shop.write("src/locked.c", "int x;").chmod(0)

    outcome = nobody.fail()

    assert outcome.message == f"cannot read 'src/locked.c' in {shop.context}: permission denied"
    assert outcome.hint == "list it in .dockerignore to leave it out"
    assert outcome.marked == "COPY src /"


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "key"])
def test_an_unreadable_file_of_the_command_is_named(nobody: Nobody, name: str) -> None:
    shop = nobody.workshop
    shop.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    shop.write(".dockerignore", "x\n")
    shop.write("key", "x\n")
    (shop.context / name).chmod(0)

    outcome = nobody.run("--secret", f"id=k,src={shop.context}/key")

    assert outcome.status in (1, 2)
    assert name in outcome.message
    assert "cannot be read" in outcome.message


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "type=oci,dest=locked/image.tar"],
        ["-o", "type=docker,dest=locked/image.tar"],
        ["-o", "type=tar,dest=locked/tree.tar"],
        ["-o", "locked/tree"],
        ["--iidfile", "locked/id"],
        ["--metadata-file", "locked/metadata"],
        ["-o", "type=oci,dest=nowhere/deep/image.tar"],
    ],
)
def test_a_destination_that_cannot_be_written_is_named(nobody: Nobody, words: list[str]) -> None:
    shop = nobody.workshop
    shop.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    (shop.folder / "locked").mkdir()

    outcome = nobody.fail(*words)

    assert words[-1].rpartition("=")[2] in outcome.message
    assert list((shop.folder / "locked").iterdir()) == []
    assert not (shop.folder / "nowhere").exists()


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────


def change_version(root: Path, **values: object) -> None:
    file = root / "VERSION"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_store_of_a_newer_format_or_another_user_is_left_alone(workshop: Workshop) -> None:
    workshop.dockerfile(GOOD)
    change_version(workshop.root, format=99)
    before = tree_of(workshop.root)

    newer = workshop.fail()
    change_version(workshop.root, format=1, uid=4242)
    os.chown(workshop.root / "VERSION", 4242, 4242)
    foreign = workshop.fail()
    os.chown(workshop.root / "VERSION", 0, 0)

    assert newer.message.endswith("has format 99; this pybuild knows up to 1")
    assert foreign.message.endswith("belongs to uid 4242, and this is uid 0")
    assert tree_of(workshop.root) == before
    change_version(workshop.root, uid=0)
    workshop.check_usable()


def test_what_is_no_store_is_not_made_one(workshop: Workshop) -> None:
    workshop.dockerfile(GOOD)
    mine = workshop.folder / "mine"
    (mine / "thesis").mkdir(parents=True)
    file = workshop.write("app.txt")

    occupied = workshop.fail(root=mine)
    is_file = workshop.fail(root=file)

    assert "is no store of pybuild and is not empty" in occupied.message
    assert is_file.message == f"the store {file} is no folder"
    assert os.listdir(mine) == ["thesis"]


def test_a_damaged_store_says_what_to_do(workshop: Workshop) -> None:
    workshop.dockerfile(GOOD)
    index = (workshop.root / "index.json").read_bytes()
    (workshop.root / "index.json").write_text("{")

    outcome = workshop.fail()

    assert outcome.message == f"{workshop.root}/index.json is damaged"
    assert outcome.hint == "`pybuild fsck --repair` mends it"
    (workshop.root / "index.json").write_bytes(index)
    workshop.check_usable()


def test_a_store_on_a_read_only_disk_is_told_so(workshop: Workshop) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    before = ["unshare", "-m", "sh", "-c", script, str(workshop.root)]

    outcome = workshop.fail(dockerfile=GOOD, before=before)

    assert outcome.message.endswith(f"in {workshop.root} failed: the file system is read-only")
    workshop.check_usable()


def tree_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ── a full disk ──────────────────────────────────────────────────────────────────────────────────────────

DISK = """
mount -t tmpfs -o size="$1"k tmpfs "$2" && cp -a "$3/." "$2" || exit 99
shift 3
"$@" >&2
status=$?
printf 'FROM scratch\nCOPY Dockerfile /\n' > "$FINE"
set -- "$PYTHON" -m builder build --root "$DISK" --progress=none
"$@" -f "$FINE" "$CONTEXT" || echo "not usable afterwards" >&2
ls -A "$DISK/ingest"
exit $status
"""


class SmallDisk:
    """The store on a small file system, in a mount namespace of its own."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.disk = workshop.folder / "disk"
        self.disk.mkdir(exist_ok=True)
        self.seed = workshop.root
        workshop.write("big", os.urandom(2 << 20))

    def fail(self, kilobytes: int, *words: str | Path) -> Outcome:
        """Fail on a disk of that size; a build of little goes well on it right after, and nothing is left."""
        shop = self.workshop
        values = [str(kilobytes), str(self.disk), str(self.seed)]
        env = {
            "FINE": str(shop.folder / "fine"),
            "PYTHON": sys.executable,
            "DISK": str(self.disk),
            "CONTEXT": str(shop.context),
        }
        before = ["unshare", "-m", "sh", "-c", DISK, "sh", *values]
        outcome = shop.run(*words, shop.context, before=before, env=env, root=self.disk)
        assert outcome.status == 1, (outcome.status, outcome.err)
        assert "not usable afterwards" not in outcome.err
        assert outcome.out == ""
        shop.check_clean()
        return outcome


@pytest.fixture
def small_disk(workshop: Workshop) -> SmallDisk:
    return SmallDisk(workshop)


BASE_KB = 1500  # what the seed takes, and a little more


def test_a_disk_too_small_for_the_base_says_so(empty_workshop: Workshop, busybox_layout: Path) -> None:
    empty_workshop.root.mkdir()
    empty_workshop.dockerfile(GOOD)

    for kilobytes in (900, 2000):  # its blob does not fit; its files do not
        outcome = SmallDisk(empty_workshop).fail(
            kilobytes, "--build-context", f"busybox=oci-layout://{busybox_layout}"
        )
        assert outcome.message.endswith("failed: no space left on the device")
        assert (outcome.hint, outcome.marked) == (FREE_SPACE, "FROM busybox")


def test_a_disk_too_small_for_a_copy_says_so(small_disk: SmallDisk) -> None:
    small_disk.workshop.dockerfile("FROM busybox\nCOPY big /\n")

    outcome = small_disk.fail(BASE_KB + 1024)

    assert outcome.message.endswith("failed: no space left on the device")
    assert (outcome.hint, outcome.marked) == (FREE_SPACE, "COPY big /")


def test_a_step_that_fills_the_disk_fails_with_advice(small_disk: SmallDisk) -> None:
    small_disk.workshop.dockerfile("FROM busybox\nCOPY big /\nRUN cat /big /big /big > /more\n")

    outcome = small_disk.fail(BASE_KB + 7 * 1024)

    assert outcome.message.endswith("exit code: 1")
    assert outcome.hint == f"the disk of {small_disk.disk} is full: {FREE_SPACE}"


def test_a_disk_too_small_for_the_image_says_so(small_disk: SmallDisk) -> None:
    text = "FROM busybox\nRUN head -c 2097152 /dev/urandom > /more\n"
    small_disk.workshop.dockerfile(text)

    outcome = small_disk.fail(BASE_KB + 4 * 1024, "-t", "never:1")

    assert outcome.message.endswith("failed: no space left on the device")
    assert outcome.hint == FREE_SPACE


def test_a_full_disk_is_told_with_what_prune_would_free(small_disk: SmallDisk) -> None:
    shop = small_disk.workshop
    shop.write("garbage", os.urandom(12 << 20))
    shop.build(dockerfile="FROM busybox\nCOPY garbage /\n")
    taken = sum(path.lstat().st_blocks // 2 for path in shop.root.rglob("*"))

    suspected = f"the disk of {small_disk.disk} is full: {FREE_SPACE}"
    for text, room, hint in (
        ("FROM busybox\nCOPY big /\n", 1500, FREE_SPACE),
        ("FROM busybox\nRUN cat /dev/zero > /more\n", 5000, suspected),
    ):
        shop.dockerfile(text)
        outcome = small_disk.fail(taken + room)

        assert outcome.hint is not None
        told, _, offer = outcome.hint.partition("; ")
        assert told == hint
        found = re.fullmatch(r"`pybuild prune --root (\S+)` would free at least ([\d.]+) MB", offer)
        assert found is not None, outcome.hint
        assert found[1] == str(small_disk.disk)
        assert 12.5 <= float(found[2]) <= 16


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local"])
def test_a_disk_too_small_for_an_export_keeps_none_of_it(workshop: Workshop, kind: str) -> None:
    target = workshop.folder / "out"
    target.mkdir()
    workshop.write("big", os.urandom(2 << 20))
    workshop.dockerfile("FROM scratch\nCOPY big /\n")
    script = 'mount -t tmpfs -o size=1m tmpfs "$0" && "$@"; status=$?; ls -A "$0"; exit $status'
    before = ["unshare", "-m", "sh", "-c", script, str(target)]

    outcome = workshop.fail("-o", f"type={kind},dest={target}/it", before=before)

    assert "no space left on" in outcome.message
    assert str(target) in outcome.message
    assert outcome.out == ""
    workshop.check_usable()


# ── base images ──────────────────────────────────────────────────────────────────────────────────────────


def blobs_of(layout: Path) -> dict[str, Path]:
    """The files of the only image of a layout, by what they are."""

    def path(row: dict[str, Any]) -> Path:
        return layout / "blobs/sha256" / str(row["digest"]).removeprefix("sha256:")

    manifest = path(json.loads((layout / "index.json").read_bytes())["manifests"][0])
    document = json.loads(manifest.read_bytes())
    return {"manifest": manifest, "config": path(document["config"]), "layer": path(document["layers"][0])}


@pytest.mark.parametrize("damage", ["changed", "short", "gone"])
@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_a_base_image_that_is_damaged_is_refused(
    empty_workshop: Workshop, busybox_layout: Path, part: str, damage: str
) -> None:
    workshop = empty_workshop
    layout = workshop.folder / "broken"
    shutil.copytree(busybox_layout, layout)
    file = blobs_of(layout)[part]
    break_file(file, damage)
    workshop.dockerfile("FROM base\nRUN true\n")

    outcome = workshop.fail("--build-context", f"base=oci-layout://{layout}")

    assert f"sha256:{file.name} of the image layout {layout} is" in outcome.message
    assert outcome.marked == "FROM base"
    assert not (workshop.root / "blobs/sha256" / file.name).exists()
    shutil.rmtree(layout)
    shutil.copytree(busybox_layout, layout)
    workshop.build("--build-context", f"base=oci-layout://{layout}")


def break_file(file: Path, damage: str) -> None:
    data = bytearray(file.read_bytes())
    file.unlink()
    match damage:
        case "changed":
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "short":
            file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["no gzip", "cut gzip", "no tar", "other diff id"])
def test_a_layer_that_is_no_layer_is_refused(workshop: Workshop, kind: str) -> None:
    layout = LayoutMaker(workshop.folder / "made")
    row, _ = layout.layer({"file": b"x" * 5000})
    good = layout.path(row["digest"]).read_bytes()
    data = {"no gzip": b"neither", "cut gzip": good[:-20], "no tar": gzip.compress(b"no tar" * 500)}.get(
        kind, good
    )
    diff_id = "sha256:" + hashlib.sha256(kind.encode()).hexdigest()
    row = layout.blob(data, row["mediaType"])
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": spec.OCI_MANIFEST,
        "config": layout.document(config, spec.OCI_CONFIG),
        "layers": [row],
    }
    layout.name(layout.document(manifest, spec.OCI_MANIFEST), "1")
    workshop.dockerfile("FROM base\nWORKDIR /srv\n")

    outcome = workshop.fail("--build-context", f"base=oci-layout://{layout.folder}")

    assert row["digest"][:19] in outcome.message
    assert outcome.marked == "FROM base"
    workshop.check_usable()


def test_a_registry_that_is_not_there_is_named(workshop: Workshop) -> None:
    host = f"127.0.0.1:{free_port()}"

    outcome = workshop.fail(dockerfile=f"FROM {host}/app:1\nRUN true\n")

    assert outcome.message == (
        f"image {host}/app:1: registry {host} refuses the connection: nothing listens there"
    )
    assert outcome.hint == "check the port, and that the registry runs"
    assert outcome.marked == f"FROM {host}/app:1"
    workshop.check_usable()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, busybox_layout: Path) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        running.push(busybox_layout, "1", "base:1")
        yield running


@pytest.mark.peers
@needs("docker-registry", "skopeo")
def test_an_image_that_its_registry_does_not_have_is_named(
    registry: RunningRegistry, workshop: Workshop
) -> None:
    no_tag = workshop.fail(dockerfile=f"FROM {registry.host}/base:2\n")
    no_repository = workshop.fail(dockerfile=f"FROM {registry.host}/bose:1\n")

    assert f"{registry.host}/base:2" in no_tag.message
    assert f"{registry.host}/bose:1" in no_repository.message
    workshop.build(dockerfile=f"FROM {registry.host}/base:1\nRUN true\n")


@pytest.mark.peers
@needs("docker-registry", "skopeo")
def test_a_name_that_is_almost_a_stage_is_told_as_that(registry: RunningRegistry, workshop: Workshop) -> None:
    """What is no stage is an image; when there is no such image either, the stage may have been meant."""
    text = "FROM busybox AS builder\nRUN true\nFROM scratch\nCOPY --from=buildr /a /b\n"

    outcome = workshop.fail(dockerfile=text, env=NO_INTERNET)

    assert outcome.message.startswith("image buildr:latest: registry docker.io ")
    assert outcome.hint == "no stage or context is named buildr; did you mean builder?"
    assert outcome.marked == "COPY --from=buildr /a /b"


@pytest.mark.peers
@needs("docker-registry", "skopeo")
def test_a_blob_that_its_registry_lost_or_changed_is_refused(
    registry: RunningRegistry, empty_workshop: Workshop, busybox_layout: Path
) -> None:
    workshop = empty_workshop
    layer = blobs_of(busybox_layout)["layer"]
    stored = registry.blob(f"sha256:{layer.name}")
    stored.write_bytes(layer.read_bytes()[:-1] + b"x")

    changed = workshop.fail(dockerfile=f"FROM {registry.host}/base:1\nRUN true\n")

    stored.write_bytes(layer.read_bytes())
    assert layer.name in changed.message
    assert changed.marked == f"FROM {registry.host}/base:1"
    workshop.build()
