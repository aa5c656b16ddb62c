"""The command as people type it: its flags one by one, its exit statuses, where its store is."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.contexts import events_of, lay, said, steps_run
from tests.support.images import read_image
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run

pytestmark = [pytest.mark.root, needs_root(), needs("busybox", "setpriv")]

NOBODY = 65534
# A plain user who may still read the interpreter, wherever that is.
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
STAGES = """\
FROM busybox AS one
RUN echo one > /made
FROM busybox AS two
RUN echo two > /made
FROM busybox AS three
COPY --from=one /made /one
COPY --from=two /made /two
RUN cat /one /two
"""


def names_of(pybuild: Pybuild) -> dict[str, str]:
    rows = [json.loads(line) for line in pybuild("images", "--format=json").stdout.splitlines()]
    return {f"{row['Repository']}:{row['Tag']}": row["Digest"] for row in rows}


# ── what to build ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", [["build"], [], ["--progress", "plain"]])
def test_a_first_word_that_is_no_command_belongs_to_the_build(
    pybuild: Pybuild, context: Path, words: list[str]
) -> None:
    lay(context, "FROM scratch\nCOPY a /\n", {"a": "a"})

    pybuild(*words, "-t", "app:1", context)

    assert read_image(pybuild.root, "app:1").text("a") == "a"


def test_a_folder_called_as_a_command_is_written_with_a_dot(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "images", "FROM scratch\nLABEL from=folder\n")

    pybuild("./images", "-t", "app:1", cwd=tmp_path)

    assert read_image(pybuild.root, "app:1").run["Labels"] == {"from": "folder"}


def test_every_tag_names_the_image(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")

    pybuild(
        "-t", "app", "-t", "app:1.0", "--tag=docker.io/library/app:2", "-tlocalhost:5000/x/app:3", context
    )

    names = names_of(pybuild)
    assert set(names) - {"busybox:latest"} == {"app:latest", "app:1.0", "app:2", "localhost:5000/x/app:3"}
    assert len(set(names.values())) == 2


def test_without_a_tag_the_image_is_dangling(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")

    digest = pybuild("-q", context).stdout.strip()

    assert names_of(pybuild)["<none>:<none>"] == digest


def test_the_dockerfile_is_named_from_the_working_folder(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "context", "FROM scratch\nLABEL is=default\n", {"a": "a"})
    lay(tmp_path, None, {"other/My.dockerfile": "FROM scratch\nCOPY a /\nLABEL is=mine\n"})

    pybuild("-f", "other/My.dockerfile", "-t", "mine", "context", cwd=tmp_path)
    pybuild("-t", "default", "context", cwd=tmp_path)

    assert read_image(pybuild.root, "mine:latest").run["Labels"] == {"is": "mine"}
    assert read_image(pybuild.root, "default:latest").run["Labels"] == {"is": "default"}


def test_the_dockerfile_comes_on_standard_input_with_a_context(pybuild: Pybuild, context: Path) -> None:
    lay(context, None, {"a": "from the context"})

    pybuild("-f", "-", "-t", "app", context, stdin=b"FROM scratch\nCOPY a /\n")

    assert read_image(pybuild.root, "app:latest").text("a") == "from the context"


def test_a_dockerfile_alone_comes_on_standard_input(pybuild: Pybuild) -> None:
    pybuild("-t", "app", "-", stdin=b"FROM busybox\nRUN echo alone > /made\n")

    assert read_image(pybuild.root, "app:latest").text("made") == "alone\n"


def test_a_dockerfile_alone_has_nothing_to_copy(pybuild: Pybuild) -> None:
    done = pybuild("-t", "app", "-", stdin=b"FROM busybox\nCOPY a /\n", check=False)

    assert done.returncode == 1
    assert "/a" in done.stderr or "'a'" in done.stderr or " a " in done.stderr


def test_target_chooses_the_stage_and_the_others_are_not_built(pybuild: Pybuild, context: Path) -> None:
    lay(context, STAGES)

    ran = steps_run(pybuild, context, "--target=two", "-t", "app")

    assert [label for label in ran if "RUN" in label] == ["[two 2/2] RUN echo two > /made"]
    assert read_image(pybuild.root, "app:latest").text("made") == "two\n"


def test_labels_are_added_and_win_over_the_dockerfile(pybuild: Pybuild, context: Path) -> None:
    lay(context, 'FROM scratch\nLABEL a="in the file" b=stays\n')

    pybuild("--label", "a=from the line", "--label=c=x=y", "--label", "d", "-t", "app", context)

    labels = read_image(pybuild.root, "app:latest").run["Labels"]
    assert labels == {"a": "from the line", "b": "stays", "c": "x=y", "d": ""}


def test_a_copy_only_build_for_another_platform(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nARG TARGETARCH TARGETPLATFORM BUILDPLATFORM\nCOPY a /$TARGETARCH\n"
                 "ENV FOR=$TARGETPLATFORM ON=$BUILDPLATFORM\n", {"a": "a"})  # fmt: skip

    pybuild("--platform=linux/arm64", "-t", "app", context)
    pybuild("--platform", "linux/arm/v6", "-t", "app:arm", context)

    image, arm = read_image(pybuild.root, "app:latest"), read_image(pybuild.root, "app:arm")
    assert (image.config["architecture"], image.config.get("variant")) == ("arm64", None)
    assert image.env["FOR"] == "linux/arm64"
    assert image.env["ON"] != "linux/arm64" or os.uname().machine == "aarch64"
    assert list(image.tree()) == ["arm64"]
    assert (arm.config["architecture"], arm.config["variant"]) == ("arm", "v6")


# ── what it is given ─────────────────────────────────────────────────────────────────────────────────────


def test_build_args_come_from_the_line_or_the_environment(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nARG A=default B=default C=default\nENV A=$A B=$B C=$C\n")

    pybuild("--build-arg", "A=line=1", "--build-arg", "B", "--build-arg", "C", "-t", "app", context,
            env={"A": "environment", "B": "environment"})  # fmt: skip

    env = read_image(pybuild.root, "app:latest").env
    assert (env["A"], env["B"], env["C"]) == ("line=1", "environment", "default")


def test_a_named_folder_is_copied_from(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nCOPY --from=assets sub /sub\n")
    lay(tmp_path / "assets", None, {"sub/a": "asset", "sub/skipped": "no", ".dockerignore": "**/skipped\n"})

    pybuild(f"--build-context=assets={tmp_path}/assets", "-t", "app", context)

    tree = read_image(pybuild.root, "app:latest").tree()
    assert {path: member.data for path, member in tree.items() if member.kind == "file"} == {
        "sub/a": b"asset"
    }


def test_a_named_folder_stands_in_for_a_stage(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM busybox AS made\nRUN exit 1\nFROM scratch\nCOPY --from=made /a /\n")
    lay(tmp_path / "instead", None, {"a": "instead"})

    pybuild("--build-context", f"made={tmp_path}/instead", "-t", "app", context)

    assert read_image(pybuild.root, "app:latest").text("a") == "instead"


@pytest.fixture
def layout(pybuild: Pybuild, tmp_path: Path) -> Path:
    """An image layout with two images: `latest` has /is = latest, `old` has /is = old."""
    folder = tmp_path / "layout"
    for tag in ("old", "latest"):
        lay(tmp_path / tag, "FROM scratch\nCOPY is /\nENV TAG=" + tag, {"is": tag})
        pybuild("-o", f"type=oci,tar=false,dest={folder}", "-t", f"x:{tag}", tmp_path / tag)
    return folder


@pytest.mark.parametrize(("suffix", "expected"), [("", "latest"), (":old", "old"), ("@", "old")])
def test_a_named_image_layout_is_a_base_and_a_source(
    pybuild: Pybuild, context: Path, layout: Path, suffix: str, expected: str
) -> None:
    lay(context, "FROM base\nCOPY --from=base /is /copied\n")
    suffix = "@" + read_image(layout, "old").digest if suffix == "@" else suffix

    pybuild("--build-context", f"base=oci-layout://{layout}{suffix}", "-t", "app", context)

    image = read_image(pybuild.root, "app:latest")
    assert (image.text("is"), image.text("copied"), image.env["TAG"]) == (expected, expected, expected)


def test_a_layout_without_that_name_tells_the_names_it_has(
    pybuild: Pybuild, context: Path, layout: Path
) -> None:
    lay(context, "FROM base\n")

    done = pybuild("--build-context", f"base=oci-layout://{layout}:odl", context, check=False)

    assert done.returncode == 1
    assert "odl" in done.stderr
    assert "old" in done.stderr.replace("odl", "")


def test_a_named_image_stands_in_for_a_base(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM debian:12\nRUN busybox true\n")

    pybuild("--build-context", "debian:12=docker-image://busybox:latest", "-t", "app", context)

    assert "bin/busybox" in read_image(pybuild.root, "app:latest").tree()


# ── what runs again ──────────────────────────────────────────────────────────────────────────────────────


def test_a_second_build_runs_nothing_and_gives_the_same_image(pybuild: Pybuild, context: Path) -> None:
    lay(context, STAGES)
    first = pybuild("-q", "-t", "app", context).stdout

    assert steps_run(pybuild, context, "-t", "app") == []
    assert pybuild("-q", "-t", "app", context).stdout == first


def test_no_cache_runs_every_step_and_remembers_what_it_made(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN cp /id /id2\n")
    pybuild("-t", "first", context)

    ran = steps_run(pybuild, context, "--no-cache", "-t", "second")
    again = steps_run(pybuild, context, "-t", "third")

    ids = [read_image(pybuild.root, f"{name}:latest").text("id2") for name in ("first", "second", "third")]
    assert sum("RUN" in label for label in ran) == 2
    assert again == []
    assert ids[0] != ids[1] == ids[2]


def test_no_cache_filter_runs_the_steps_of_these_stages(pybuild: Pybuild, context: Path) -> None:
    lay(context, STAGES)
    pybuild("-t", "app", context)

    ran = steps_run(pybuild, context, "--no-cache-filter=two", "-t", "app")

    assert [label for label in ran if "RUN" in label] == ["[two 2/2] RUN echo two > /made"]


def test_one_job_runs_one_step_at_a_time(pybuild: Pybuild, context: Path) -> None:
    stages = [f"FROM busybox AS s{n}\nRUN sleep 0.1 && echo {n} > /made\n" for n in range(4)]
    copies = [f"COPY --from=s{n} /made /{n}\n" for n in range(4)]
    lay(context, "".join([*stages, "FROM scratch\n", *copies]))

    def most_at_once(*flags: str) -> int:
        found = events_of(pybuild("--progress=rawjson", "--no-cache", *flags, context).stderr)
        runs = {row["digest"] for row in found[1]["vertices"] if "RUN" in row["label"]}
        running = most = 0
        for event in found:
            if event.get("vertex") in runs:
                running += {"started": 1, "finished": -1}.get(event["event"], 0)
                most = max(most, running)
        return most

    assert most_at_once("--jobs=1") == 1
    assert most_at_once() > 1


# ── what is shown, and what scripts read ─────────────────────────────────────────────────────────────────


def test_quiet_prints_the_digest_and_nothing_else(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo noise\n")

    for flags in (["-q"], ["--progress=quiet"], ["-q"]):
        done = pybuild(*flags, "-t", "app", context)
        assert done.stderr == ""
        assert done.stdout == read_image(pybuild.root, "app:latest").digest + "\n"


def test_a_quiet_build_that_fails_still_says_why(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo the reason && exit 3\n")

    done = pybuild("-q", context, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "the reason" in done.stderr
    assert "exit code: 3" in done.stderr


def test_plain_progress_numbers_its_lines_and_closes_with_the_image(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo visible\n")

    done = pybuild("--progress=plain", "-t", "app:1", context)

    assert done.stdout == ""
    assert re.search(r"^#\d+ \[2/2\] RUN echo visible$", done.stderr, re.M)
    assert re.search(r"^#\d+ \d+\.\d+ visible$", done.stderr, re.M)
    digest = read_image(pybuild.root, "app:1").digest
    closing = rf"built app:1 {digest} \(.* [kM]?B\) in \d+\.\ds, \d of 2 steps cached"
    assert re.fullmatch(closing, done.stderr.splitlines()[-1])
    assert "\x1b" not in done.stderr


def test_auto_is_plain_where_there_is_no_terminal(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo visible\n")

    done = pybuild(context)

    assert re.search(r"^#\d+ \d+\.\d+ visible$", done.stderr, re.M)


def test_raw_json_is_one_event_a_line(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo out; echo err >&2\n")

    done = pybuild("--progress=rawjson", "-t", "app", context)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    again = [
        json.loads(line) for line in pybuild("--progress=rawjson", "-t", "app", context).stderr.splitlines()
    ]

    kinds = [event["event"] for event in found]
    assert (kinds[0], kinds[1], kinds[-1]) == ("build-started", "planned", "build-finished")
    logs = {(event["stream"], event["line"]) for event in found if event["event"] == "log"}
    assert logs == {(1, "out"), (2, "err")}
    assert found[-1]["image"] == read_image(pybuild.root, "app:latest").digest
    assert again[-1]["cached"] == again[-1]["steps"] == 2
    assert {"started", "log"}.isdisjoint(event["event"] for event in again)


def test_the_terminal_view_shows_steps_and_leaves_the_closing_line(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo first\nRUN echo second; sleep 0.3\n")

    shown = in_terminal(pybuild, "-t", "app:1", str(context))

    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "[2/3] RUN echo first" in plain
    assert "[3/3] RUN echo second; sleep 0.3" in plain
    assert re.search(r"built app:1 sha256:[0-9a-f]+", plain)
    assert "\x1b[?25l" not in shown.rpartition("\x1b[?25h")[2], "the cursor is shown again"


def in_terminal(pybuild: Pybuild, *words: str) -> str:
    """What a build writes to a terminal of 100 columns that is its standard error."""
    master, slave = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(pybuild.root),
           "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "builder", *words], stdin=slave, stdout=slave, stderr=slave, env=env
    )
    os.close(slave)
    chunks = []
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(master)
    text = b"".join(chunks).decode()
    assert process.wait() == 0, text
    return text


def test_the_image_id_file_holds_the_digest(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")
    (tmp_path / "iid").write_text("sha256:stale")

    pybuild("--iidfile", tmp_path / "iid", "-t", "app", context)

    assert (tmp_path / "iid").read_text() == read_image(pybuild.root, "app:latest").digest


def test_the_image_id_file_of_a_failed_build_is_gone(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM busybox\nRUN false\n")
    (tmp_path / "iid").write_text("sha256:stale")

    done = pybuild("--iidfile", tmp_path / "iid", context, check=False)

    assert done.returncode == 1
    assert not (tmp_path / "iid").exists()


@pytest.mark.parametrize("flag", ["--iidfile", "--metadata-file"])
def test_a_file_for_scripts_that_cannot_be_written_is_told_before_the_build(
    pybuild: Pybuild, context: Path, tmp_path: Path, flag: str
) -> None:
    lay(context, "FROM busybox\nRUN echo built\n")

    done = pybuild(flag, tmp_path / "none" / "file", context, check=False)

    assert done.returncode == 1
    assert done.stderr.endswith("none/file cannot be written: no such file or directory\n")
    assert "RUN echo built" not in done.stderr


def test_a_file_for_scripts_may_be_a_link_or_a_stream(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")
    (tmp_path / "behind").write_text("sha256:stale")
    (tmp_path / "link").symlink_to("behind")
    (tmp_path / "stream").symlink_to("/proc/self/fd/1")

    digest = pybuild("-q", "--iidfile", tmp_path / "link", context).stdout.strip()
    shown = pybuild("--iidfile", tmp_path / "stream", context).stdout

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "behind").read_text() == shown == digest
    assert (tmp_path / "stream").is_symlink()


def test_the_metadata_file_has_buildx_names(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")

    for _ in range(2):  # the second time from the cache
        (tmp_path / "meta.json").unlink(missing_ok=True)
        pybuild("--metadata-file", tmp_path / "meta.json", "-t", "app:1", "-t", "app:2", context)
        data = json.loads((tmp_path / "meta.json").read_text())
        image = read_image(pybuild.root, "app:1")
        assert data["containerimage.digest"] == image.digest
        assert data["containerimage.config.digest"] == image.manifest["config"]["digest"]
        assert data["containerimage.descriptor"]["digest"] == image.digest
        assert data["containerimage.descriptor"]["size"] > 100
        assert data["containerimage.descriptor"]["mediaType"] == image.manifest["mediaType"]
        assert data["image.name"].split(",") == ["docker.io/library/app:1", "docker.io/library/app:2"]


@pytest.mark.parametrize("place", ["nowhere/meta.json", "folder"])
def test_a_metadata_file_that_cannot_be_written_is_told_before_anything_is_built(
    pybuild: Pybuild, context: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    lay(context, "FROM scratch\nLABEL a=b\n")

    done = pybuild.build(context, "--metadata-file", str(tmp_path / place), "-t", "new", check=False)

    assert done.returncode == 1
    assert f"{tmp_path / place} cannot be written" in done.stderr
    assert "#1" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == []


def test_an_output_on_a_closed_standard_output_is_an_error_and_other_builds_do_without_one(
    pybuild: Pybuild, context: Path
) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")
    command = f"{sys.executable} -m builder --root {pybuild.root} {context}"
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}

    def closed(flags: str) -> subprocess.CompletedProcess[str]:
        line = f"exec {command} {flags} >&-"
        return subprocess.run(["sh", "-c", line], env=env, stderr=subprocess.PIPE, text=True, check=False)

    for flags in ("-o type=tar,dest=-", "-o type=oci"):
        done = closed(flags)
        assert done.returncode == 2
        assert "standard output is closed, and an output goes there" in done.stderr
    assert closed("-q").returncode == 0
    assert closed("--check").returncode == 0


# ── where the store is ───────────────────────────────────────────────────────────────────────────────────


def test_the_store_is_where_the_flag_or_the_environment_says(pybuild: Pybuild, tmp_path: Path) -> None:
    lay(tmp_path / "context", "FROM scratch\nLABEL a=b\n")

    pybuild("--root", tmp_path / "by-flag", "-t", "flag", tmp_path / "context")
    pybuild("build", "--root=by-word", "-t", "word", "context", cwd=tmp_path)
    pybuild("-t", "environment", tmp_path / "context", env={"PYBUILD_ROOT": str(tmp_path / "by-environment")})

    assert read_image(tmp_path / "by-flag", "flag:latest")
    assert read_image(tmp_path / "by-word", "word:latest")
    assert read_image(tmp_path / "by-environment", "environment:latest")
    assert (tmp_path / "by-flag").stat().st_mode & 0o777 == 0o700
    listed = pybuild("--root", tmp_path / "by-flag", "images", "--format=json").stdout
    assert json.loads(listed)["Repository"] == "flag"


@pytest.mark.parametrize(("data", "store"), [("", ".local/share/pybuild"), ("data", "data/pybuild")])
def test_without_either_it_is_in_the_user_s_data_folder(data: str, store: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # open to all, unlike pytest's
        home = Path(folder)
        lay(home / "context", "FROM scratch\nCOPY a /\n", {"a": "a"})
        for path in (home, home / "context"):
            path.chmod(0o755)
            os.chown(path, NOBODY, NOBODY)
        env = {"HOME": folder, "XDG_DATA_HOME": data and f"{folder}/{data}", "PYTHONPATH": str(CHECKOUT)}

        run([*AS_NOBODY, sys.executable, "-m", "builder", "-t", "app", home / "context"], env=env)

        assert read_image(home / store, "app:latest").text("a") == "a"


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_exit_status_tells_failure_from_bad_usage(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN exit 7\n")

    assert pybuild(context, check=False).returncode == 1
    assert pybuild("--nonsense", context, check=False).returncode == 2
    assert pybuild(check=False).returncode == 2
    assert pybuild("--version").returncode == 0
    assert pybuild("--help").returncode == 0
    assert pybuild("build", "--help").returncode == 0


@pytest.mark.parametrize(
    ("words", "said_of"),
    [
        (["--tagg", "x"], "--tag"),
        (["-o", "type=ocii,dest=x"], "ocii"),
        (["--platform", "linux//x"], "linux//x"),
        (["--network", "bridge"], "bridge"),
        (["--ulimit", "nofiles=1"], "nofile"),
        (["--shm-size", "many"], "many"),
        (["--add-host", "name:here"], "here"),
        (["--secret", "id=x,src=/not/there"], "/not/there"),
        (["--allow", "everything"], "everything"),
        (["--build-context", "x=/not/there"], "/not/there"),
        (["--progress", "fancy"], "fancy"),
        (["-t", "UPPER case"], "UPPER case"),
        (["--jobs", "0"], "--jobs 0"),
        (["--push"], "an image that is pushed needs a name"),
        (["--call", "nothing"], "nothing"),
    ],
)
def test_bad_usage_is_one_clear_message(
    pybuild: Pybuild, context: Path, words: list[str], said_of: str
) -> None:
    lay(context, "FROM scratch\n")

    done = pybuild(*words, context, check=False)

    assert done.returncode == 2
    assert said_of in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert done.stdout == ""


@pytest.mark.parametrize(
    "flags", [["--rm"], ["--force-rm"], ["--compress"], ["--provenance=false"], ["--sbom=false"]]
)
def test_flags_of_docker_that_mean_nothing_here_are_taken(
    pybuild: Pybuild, context: Path, flags: list[str]
) -> None:
    lay(context, "FROM scratch\nLABEL a=b\n")

    pybuild(*flags, "-t", "app", context)

    assert read_image(pybuild.root, "app:latest").run["Labels"] == {"a": "b"}


def test_docker_s_syntax_line_is_taken_and_another_frontend_is_not(pybuild: Pybuild, context: Path) -> None:
    lay(context, "# syntax=docker/dockerfile:1\nFROM scratch\nLABEL a=b\n")
    pybuild(context)

    lay(context, "# syntax=example.com/other/frontend:1\nFROM scratch\nLABEL a=b\n")
    done = pybuild(context, check=False)

    assert done.returncode == 1
    assert "example.com/other/frontend:1" in done.stderr


def test_said_is_empty_where_all_is_cached(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN echo once\n")

    assert said(pybuild, context) == ["once"]
    assert said(pybuild, context) == []
