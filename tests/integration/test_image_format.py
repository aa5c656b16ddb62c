"""Images as documents and trees: read by skopeo and umoci, checked by a reader of our own, the same twice."""

from __future__ import annotations

import calendar
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import OLD, lay
from tests.support.images import ReadImage, read_image
from tests.support.machine import CHECKOUT, Pybuild, needs, needs_root, run
from tests.support.peers import Podman, skopeo_inspect, umoci_unpack

pytestmark = [
    pytest.mark.root,
    pytest.mark.peers,
    needs_root(),
    needs("busybox", "skopeo", "umoci", "runc", "podman", "setcap"),
]

EVERYTHING = """\
FROM busybox
COPY --chown=1000:2000 --chmod=4750 prog /opt/prog
COPY tree /opt/tree
RUN ln /opt/prog /opt/second && ln -s ../opt/prog /opt/link && mkdir -m 3775 /opt/sticky \\
    && chown 7:8 /opt/sticky && mknod /opt/zero c 1 5 && mknod /opt/disk b 7 200 && mkfifo /opt/pipe \\
    && chmod 640 /etc/group && touch -d '2001-02-03 04:05:06' /opt/tree/a && rm /opt/tree/gone \\
    && rm -r /opt/tree/away && mkdir /opt/tree/away && echo back > /opt/tree/away/new
WORKDIR /srv/app
USER 1000:2000
ENV A=1 B="two words"
ENTRYPOINT ["/opt/prog", "x"]
CMD ["y"]
LABEL org.example=value
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
SHELL ["/bin/sh", "-ec"]
ONBUILD RUN echo child
"""
FILES = {
    "prog": "#!/bin/sh\necho $@\n", "tree/a": "a", "tree/gone": "x", "tree/away/old": "x",
    "tree/ümläut ☃": "u", "tree/" + "long" * 40 + "/" + "name" * 30: "deep",
}  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Pybuild:
    """A store with `all:1`, an image that has one of each."""
    folder = tmp_path_factory.mktemp("everything")
    run(["cp", "-a", busybox_seed, folder / "store"])
    pybuild = Pybuild(folder / "store")
    pybuild.build(lay(folder / "context", EVERYTHING, FILES), "-t", "all:1")
    return pybuild


@pytest.fixture(scope="module")
def image(everything: Pybuild) -> ReadImage:
    return read_image(everything.root, "all:1")


def test_every_digest_size_and_diff_id_is_right(everything: Pybuild, image: ReadImage) -> None:
    assert len(image.layers) == 5
    assert image.manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert image.manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    kinds = {layer["mediaType"] for layer in image.manifest["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_the_history_tells_every_instruction(image: ReadImage) -> None:
    rows = [(row["created_by"].split()[0], row.get("empty_layer", False)) for row in image.config["history"]]

    steps = [("COPY", False), ("COPY", False), ("RUN", False), ("WORKDIR", False)]
    words = "USER ENV ENTRYPOINT CMD LABEL EXPOSE VOLUME STOPSIGNAL HEALTHCHECK SHELL"  # ONBUILD leaves none
    assert rows[-14:] == steps + [(word, True) for word in words.split(" ")]


def test_the_config_is_what_the_dockerfile_says(image: ReadImage) -> None:
    run_config = image.run
    assert (image.env["A"], image.env["B"]) == ("1", "two words")
    assert image.env["PATH"].startswith("/")
    expected = {
        "User": "1000:2000", "WorkingDir": "/srv/app", "Entrypoint": ["/opt/prog", "x"], "Cmd": ["y"],
        "Labels": {"org.example": "value"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}}, "StopSignal": "SIGINT", "OnBuild": ["RUN echo child"],
        "Shell": ["/bin/sh", "-ec"],
    }  # fmt: skip
    assert {key: run_config.get(key) for key in expected} == expected
    assert run_config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}


def test_skopeo_reads_the_store_with_no_export(everything: Pybuild, image: ReadImage) -> None:
    told = skopeo_inspect(everything.root, "all:1")

    assert told["Digest"] == image.digest
    assert told["Layers"] == [layer["digest"] for layer in image.manifest["layers"]]
    assert told["Labels"] == {"org.example": "value"}


def test_skopeo_reads_the_store_while_a_build_runs(pybuild: Pybuild, context: Path) -> None:
    wait = "touch /c/begun; until [ -e /c/on ]; do sleep 0.1; done"
    lay(context, f"FROM busybox\nRUN --mount=type=cache,target=/c {wait}\n")
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(pybuild.root)}
    command = [sys.executable, "-m", "builder", "-t", "busybox:new", str(context)]
    build = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asked = 0
    try:
        while build.poll() is None:
            assert skopeo_inspect(pybuild.root, "busybox:latest")["Os"] == "linux"
            asked += 1
            for begun in (pybuild.root / "cache/mounts").glob("*/begun") if asked > 2 else ():
                (begun.parent / "on").touch()
    finally:
        build.kill()
        build.wait()

    assert build.returncode == 0
    assert asked > 2
    assert skopeo_inspect(pybuild.root, "busybox:new")


@pytest.fixture(scope="module")
def rootfs(everything: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return umoci_unpack(everything.root, "all:1", tmp_path_factory.mktemp("umoci") / "bundle")


def test_umoci_unpacks_what_the_dockerfile_says(rootfs: Path) -> None:
    opt = rootfs / "opt"
    rows = {path.name: shown(path) for path in opt.iterdir()}

    assert rows == {
        "prog": "file 4750 1000:2000 1", "second": "file 4750 1000:2000 1", "link": "link ../opt/prog",
        "tree": "folder 755 0:0", "sticky": "folder 3775 7:8", "zero": "char 644 0:0 1,5",
        "disk": "block 644 0:0 7,200", "pipe": "fifo 644 0:0",
    }  # fmt: skip
    assert (opt / "prog").read_bytes() == (opt / "second").read_bytes(), "names of two layers are two files"
    assert (opt / "prog").stat().st_mtime == OLD
    assert (opt / "tree/a").stat().st_mtime == calendar.timegm((2001, 2, 3, 4, 5, 6))
    assert shown(rootfs / "etc/group") == "file 640 0:0 1"
    assert shown(rootfs / "srv/app") == "folder 755 0:0"
    found = {str(path.relative_to(opt / "tree")) for path in (opt / "tree").rglob("*") if path.is_file()}
    assert found == {"a", "away/new", "ümläut ☃", "long" * 40 + "/" + "name" * 30}


def shown(path: Path) -> str:
    """Kind, mode, owner, and links or numbers, on one line."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"link {os.readlink(path)}"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
             stat.S_IFIFO: "fifo"}  # fmt: skip
    kind = kinds[stat.S_IFMT(status.st_mode)]
    more = {"file": f" {status.st_nlink}",
            "char": f" {os.major(status.st_rdev)},{os.minor(status.st_rdev)}",
            "block": f" {os.major(status.st_rdev)},{os.minor(status.st_rdev)}"}.get(kind, "")  # fmt: skip
    return f"{kind} {stat.S_IMODE(status.st_mode):o} {status.st_uid}:{status.st_gid}{more}"


def test_the_run_s_layer_holds_what_it_changed_and_nothing_else(image: ReadImage) -> None:
    copies, changed = image.layers[2], image.layers[3]

    assert "opt/tree/.wh.gone" in changed
    assert "opt/tree/away/.wh.old" in changed
    assert not [path for path in changed if path.endswith(".wh..wh..opq")]
    assert set(changed) == {
        "etc", "etc/group", "opt", "opt/second", "opt/link", "opt/sticky", "opt/zero", "opt/disk",
        "opt/pipe", "opt/tree", "opt/tree/a", "opt/tree/.wh.gone", "opt/tree/away", "opt/tree/away/.wh.old",
        "opt/tree/away/new",
    }  # fmt: skip
    assert "opt/tree/gone" in copies


def test_file_capabilities_live_through_copy_and_run(pybuild: Pybuild, tmp_path: Path) -> None:
    """A context's are dropped; what a RUN or an image's layer has stays."""
    lay(tmp_path / "c", "FROM scratch AS tools\nCOPY --from=host . /\n"
                        "FROM busybox\nCOPY --from=tools / /\nCOPY marked /context\n"
                        "RUN cp /bin/busybox /made && /usr/sbin/setcap cap_net_raw+ep /made\n"
                        "RUN cp /made /plain; chmod 700 /made\n"
                        "FROM scratch\nCOPY --from=1 /made /made\nCOPY --from=1 /plain /context /\n",
        {"marked": "x"})  # fmt: skip
    run(["setcap", "cap_net_admin+ep", tmp_path / "c/marked"])
    tools = machine_program("setcap", tmp_path / "host")

    pybuild("--build-context", f"host={tools}", "-t", "caps", tmp_path / "c")

    root = umoci_unpack(pybuild.root, "caps:latest", tmp_path / "bundle")
    assert run(["getcap", root / "made"]).stdout.strip().endswith("cap_net_raw=ep")
    assert run(["getcap", root / "plain", root / "context"]).stdout == ""
    assert stat.S_IMODE((root / "made").stat().st_mode) == 0o700


def machine_program(name: str, folder: Path) -> Path:
    """A context with a program of this machine and the libraries that it needs."""
    program = shutil.which(name)
    assert program is not None
    listed = run(["ldd", program]).stdout
    for path in [f"/usr/sbin/{name}", *re.findall(r"(/\S+) \(0x", listed)]:
        source = program if path.endswith(f"/{name}") else path
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(os.path.realpath(source), target)
        target.chmod(0o755)
    return folder


# ── the same twice ───────────────────────────────────────────────────────────────────────────────────────

TWICE = """\
FROM busybox AS made
RUN for n in 3 1 2; do echo $n > /made-$n; done && mkdir -p /d/e && date > /d/e/../date-is-not-kept \\
    && rm /d/date-is-not-kept && ln /made-1 /d/linked
FROM busybox
COPY --from=made /made-1 /made-2 /d /in/
COPY . /context
RUN cat /in/made-1 /context/a > /both && touch /in/made-2
WORKDIR /new/work
"""


def store_of_its_own(folder: Path, seed: Path) -> Pybuild:
    """A store as another machine would have it, with the base taken from an archive."""
    archive = f"{folder}/base.tar"
    run(["skopeo", "copy", "--quiet", f"oci:{seed}:busybox:latest", f"oci-archive:{archive}:busybox:latest"])
    pybuild = Pybuild(folder / "store")
    pybuild("load", archive)
    return pybuild


def test_the_same_twice_from_empty_stores_is_the_same_image(tmp_path: Path, busybox_seed: Path) -> None:
    digests, diff_ids, files = set(), set(), set()
    for number in range(2):
        folder = tmp_path / f"machine{number}"
        context = lay(folder / "somewhere" / str(number), TWICE, {"a": "a", "b/c": "c"})
        for path in context.rglob("*"):
            os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
        time.sleep(number * (1.1 - time.time() % 1))  # a later second
        pybuild = store_of_its_own(folder, busybox_seed)
        archive = folder / "app.tar"
        pybuild("-o", f"type=oci,dest={archive},rewrite-timestamp=true", "-t", "app:1", context,
                env={"SOURCE_DATE_EPOCH": "1500000000"})  # fmt: skip
        pybuild("-t", "app:1", context, env={"SOURCE_DATE_EPOCH": "1500000000"})
        data = archive.read_bytes()
        files.add(hash(data))
        digests.add(json.loads(run(["skopeo", "inspect", f"oci-archive:{archive}:1"]).stdout)["Digest"])
        copied = folder / "copied"
        run(["skopeo", "copy", "--quiet", f"oci-archive:{archive}:1", f"oci:{copied}:1"])
        image = read_image(copied, "1")
        diff_ids.add(tuple(image.diff_ids))
        times = {member.mtime for layer in image.layers[1:] for member in layer.values()}
        assert max(times) <= 1_500_000_000
        assert image.config["created"] == "2017-07-14T02:40:00Z"

    assert len(digests) == len(diff_ids) == len(files) == 1


def test_without_an_epoch_files_keep_their_times_and_a_rebuild_its_image(
    pybuild: Pybuild, context: Path
) -> None:
    lay(
        context, "FROM busybox\nCOPY a /a\nRUN touch -d '2010-01-01 00:00:00' /b && echo x > /c\n", {"a": "a"}
    )
    before = time.time()
    first = pybuild("-q", "-t", "app", context).stdout

    tree = read_image(pybuild.root, "app:latest").tree()
    assert tree["a"].mtime == OLD
    assert tree["b"].mtime == 1_262_304_000
    assert before - 1 <= tree["c"].mtime <= time.time() + 1
    assert pybuild("-q", "-t", "app", context).stdout == first


def test_equal_steps_give_equal_layers(pybuild: Pybuild, context: Path) -> None:
    """Diff ids depend on what is written, not on who wrote it, in which order, or in how many steps."""
    touch = "touch -d '2015-01-01 00:00:00'"
    lay(context, f"FROM busybox\nRUN mkdir /d && echo 1 > /d/b && echo 2 > /d/a && {touch} /d/a /d/b /d\n")
    pybuild("-t", "one", context)
    lay(
        context,
        f"FROM busybox\nRUN mkdir /d && echo 2 > /d/a; echo 1 > /d/b; {touch} /d/b /d/a; {touch} /d\n",
    )
    pybuild("-t", "two", context)

    one, two = (read_image(pybuild.root, f"{name}:latest") for name in ("one", "two"))
    assert one.diff_ids == two.diff_ids


def test_a_heredoc_that_is_copied_again_to_one_place_changes_nothing(pybuild: Pybuild, context: Path) -> None:
    first = "COPY <<A /x/\n1\nA\n"
    lay(
        context,
        f"FROM scratch AS low\n{first}FROM low\n{first}"
        "COPY --chmod=600 <<A /x/\n1\nA\nCOPY <<B /x/A\n1\nB\nADD --chmod=644 <<-B /x/A\n\t1\n\tB\n",
    )
    pybuild("-t", "again", context)

    layers = read_image(pybuild.root, "again:latest").layers
    assert [sorted(layer) for layer in layers] == [["x", "x/A"], [], ["x", "x/A"], ["x", "x/A"], []]


# ── running it ───────────────────────────────────────────────────────────────────────────────────────────


def test_podman_runs_the_image_as_its_config_says(pybuild: Pybuild, context: Path, podman: Podman) -> None:
    lay(context, 'FROM busybox\nCOPY --chmod=755 prog /prog\nENV WORD=env\nUSER 1000:2000\nWORKDIR /w\n'
                 'ENTRYPOINT ["/prog"]\nCMD ["default"]\n',
        {"prog": '#!/bin/sh\necho "$WORD $PWD $(id -u):$(id -g) $*"; exit 3\n'})  # fmt: skip
    pybuild("-t", "podman-runs", context)
    ident = podman.pull(pybuild.root, "podman-runs:latest")

    assert podman.run_status(ident)[:2] == (3, "env /w 1000:2000 default\n")
    assert podman.run_status(ident, "a", "b")[1] == "env /w 1000:2000 a b\n"


def test_runc_runs_a_bundle_that_umoci_made(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, 'FROM busybox\nENV WORD=bundle\nCMD ["/bin/sh", "-c", "echo $WORD; exit 5"]\n')
    pybuild("-t", "app", context)
    umoci_unpack(pybuild.root, "app:latest", tmp_path / "bundle")
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    config["process"]["terminal"] = False
    config["process"].pop("rlimits", None)
    config["linux"].pop("resources", None)
    (tmp_path / "bundle/config.json").write_text(json.dumps(config))

    done = run(["runc", "--root", tmp_path / "runc", "run", "-b", tmp_path / "bundle", f"pb-{os.getpid()}"],
               check=False)  # fmt: skip

    assert (done.returncode, done.stdout) == (5, "bundle\n"), done.stderr


def test_what_only_says_more_of_a_base_image_is_as_old_as_that_is(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nLABEL a=b\nCMD x\n")
    pybuild("-t", "said", context)
    lay(context, "FROM busybox\nLABEL a=b\nRUN true\n")
    pybuild("-t", "made", context)

    base = read_image(pybuild.root, "busybox:latest").config["created"]
    image, made = read_image(pybuild.root, "said:latest"), read_image(pybuild.root, "made:latest")
    assert image.config["created"] == base
    assert {row["created"] for row in image.config["history"]} == {base}
    assert made.config["created"] > base
    assert {row["created"] for row in made.config["history"][-2:]} == {made.config["created"]}


def test_an_image_without_layers_is_valid(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nLABEL only=config\n")

    pybuild("-t", "empty", context)

    assert read_image(pybuild.root, "empty:latest").manifest["layers"] == []
    assert list(umoci_unpack(pybuild.root, "empty:latest", tmp_path / "bundle").iterdir()) == []


def test_a_large_sparse_and_an_empty_file(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(
        context,
        "FROM busybox\nRUN dd if=/dev/zero of=/hole bs=1 count=1 seek=40000000 2>/dev/null; : > /none\n",
    )

    pybuild("-t", "app", context)

    root = umoci_unpack(pybuild.root, "app:latest", tmp_path / "bundle")
    assert (root / "hole").stat().st_size == 40_000_001
    assert (root / "none").stat().st_size == 0
    layers: list[Any] = read_image(pybuild.root, "app:latest").manifest["layers"]
    assert layers[-1]["size"] < 1_000_000


def test_the_time_that_a_dockerfile_defaults_to_is_the_image_s_whatever_is_cached(
    pybuild: Pybuild, context: Path
) -> None:
    built = []
    for seconds in (100, 200, 100, 200):
        lay(context, f"ARG SOURCE_DATE_EPOCH={seconds}\nFROM scratch\nLABEL a=b\n")
        built.append(pybuild("-q", "-t", "app", context).stdout)

    assert built[0] == built[2] != built[1] == built[3]
