"""`--runtime`: builds whose steps another runtime carries out, beside those by our own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.contexts import lay, said, steps_run
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.namespaces import has_user_namespaces
from tests.support.processes import running
from tests.support.rootless import Rootless
from tests.support.workshop import Workshop, stop

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

RUNTIMES = [pytest.param(name, marks=needs(name)) for name in ("runc", "crun")]
DOCKERFILE = """\
FROM busybox
RUN echo app:x:1000:1000::/home/app:/bin/sh >> /etc/passwd
COPY --chown=app src /src
RUN --mount=type=cache,target=/cache --mount=type=secret,id=key,target=/key \\
    --mount=type=bind,source=src,target=/bound,rw --mount=type=tmpfs,target=/memory \\
    cat /key && touch /cache/x /bound/x /memory/x && rm /src/old && mkdir -m 700 /made && ln -s x /made/l
USER app
WORKDIR /home/app
RUN id -un && echo mine > file && chmod 640 file
"""


@pytest.fixture
def sources(context: Path) -> Path:
    return lay(context, DOCKERFILE, {"src/old": "old\n", "src/new": "new\n", "key": "hush"})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_image_is_the_same_by_whichever_runtime(pybuild: Pybuild, sources: Path, runtime: str) -> None:
    flags = ["--no-cache", "--secret", f"id=key,src={sources / 'key'}"]
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    images = {}
    for name in (runtime, ""):
        layout = sources.parent / (name or "own")
        by = ["--runtime", name] if name else []
        to = ["-o", f"type=oci,tar=false,dest={layout},rewrite-timestamp=true"]
        assert "hush" in said(pybuild, sources, *flags, *by, *to, env=epoch)[0]
        images[name] = (layout / "index.json").read_bytes()
    assert images[runtime] == images[""]


@needs("runc")
def test_who_ran_a_step_is_in_no_key(pybuild: Pybuild, sources: Path) -> None:
    flags = ["--secret", f"id=key,src={sources / 'key'}"]
    assert steps_run(pybuild, sources, *flags, "--runtime", "runc")
    assert steps_run(pybuild, sources, *flags) == []
    assert steps_run(pybuild, sources, *flags, "--runtime", "/no/such/program") == [], "nothing is to be run"


def test_a_runtime_that_is_not_there_is_an_error_at_the_step(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM busybox\nRUN true\n")
    done = pybuild.build(context, "--runtime", "nope", check=False)
    assert done.returncode == 1
    assert "--runtime nope: no such program" in done.stderr
    assert "Dockerfile:2" in done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_step_that_fails_does_so_in_the_same_words(pybuild: Pybuild, context: Path, runtime: str) -> None:
    lay(context, "FROM busybox\nRUN echo last words >&2; exit 42\n")
    done = pybuild.build(context, "--runtime", runtime, check=False)
    assert (
        'process "/bin/sh -c echo last words >&2; exit 42" did not complete successfully: exit code: 42'
        in done.stderr
    )
    assert "last words" in done.stderr


SLEEPS = "FROM busybox\nRUN sleep 7654321 & sleep 7654321; true\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_build_that_is_stopped_leaves_nothing_of_its_containers(
    workshop: Workshop, runtime: str, number: signal.Signals
) -> None:
    workshop.dockerfile(SLEEPS)
    build = workshop.start("--runtime", runtime, workshop.context)
    workshop.wait_until(lambda: len(sleepers()) == 2)

    outcome = stop(build, number, 30)

    assert outcome.status != 0
    assert workshop.processes() == []
    assert sleepers() == []
    assert workshop.mounts() == []
    assert containers() == []
    workshop.check_usable("--runtime", runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_step_that_takes_too_long_ends_with_its_container(workshop: Workshop, runtime: str) -> None:
    outcome = workshop.fail("--runtime", runtime, "--step-timeout=1s", dockerfile=SLEEPS)

    assert "1 s" in outcome.message or "1s" in outcome.message
    assert sleepers() == []
    assert containers() == []


ON_V2 = """
umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/$NAME; echo $$ > /sys/fs/cgroup/$NAME/cgroup.procs
"$@"; status=$?
echo $$ > /sys/fs/cgroup/cgroup.procs
for attempt in $(seq 300); do  # it is busy as long as a process in it is ending
    rmdir /sys/fs/cgroup/$NAME && exit $status
    sleep 0.1
done
exit 99
"""


@needs("unshare")
@pytest.mark.skipif("cgroup2" not in Path("/proc/filesystems").read_text(), reason="no v2 of cgroups here")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_of_v2_cgroups_a_step_sees_its_own_alone(workshop: Workshop, runtime: str) -> None:
    workshop.dockerfile("FROM busybox\nRUN cd /sys/fs/cgroup; echo found: * $(tail -n 1 /proc/self/cgroup)\n")
    before = ["unshare", "--mount", "sh", "-c", ON_V2, "sh"]
    name = {"NAME": f"pybuild-test-{os.getpid()}"}
    outcome = workshop.run("--runtime", runtime, workshop.context, before=before, env=name)

    assert outcome.status == 0, outcome.err
    (seen,) = re.findall(r"^#\d+ [\d.]+ found: (.*)$", outcome.err, re.MULTILINE)
    *files, own = seen.split()
    assert own == "0::/"
    assert "cgroup.type" in files, "it is not the machine's root"
    assert [name for name in files if "." not in name] == [], "no other cgroup is in it"


def sleepers() -> list[int]:
    """The sleeping processes of these steps."""
    return running(b"sleep", b"7654321")


def containers() -> list[str]:
    """What a runtime keeps of its containers, and their cgroups."""
    kept = [folder for name in ("runc", "crun") for folder in Path("/run", name).glob("step")]
    groups = [path for path, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(path) == "step"]
    return [*map(str, kept), *groups]


# --- without root ---


@pytest.fixture
def user(busybox_layout: Path) -> Iterator[Rootless]:
    with closing(Rootless()) as user:
        lay(user.context, "FROM busybox\nRUN id -u; touch /x; chown 5:6 /x; stat -c %u:%g /x\n")
        run(["cp", "-a", busybox_layout, user.folder / "busybox"])
        run(["chmod", "-R", "a+rX", user.folder / "busybox"])
        yield user


def build_as(user: Rootless, *flags: str, check: bool = True) -> str:
    named = f"busybox=oci-layout://{user.folder / 'busybox'}:1"
    words = ["build", "--progress=plain", "--build-context", named, *flags, str(user.context)]
    return user.run(*words, check=check).stderr


@needs("newuidmap", "unshare", "setpriv")
@pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_plain_user_with_a_range_of_ids_has_other_runtimes_too(user: Rootless, runtime: str) -> None:
    text = build_as(user, "--isolation=userns", "--runtime", runtime)
    assert " 0\n" in text
    assert " 5:6\n" in text


@needs("newuidmap", "unshare", "setpriv", "runc")
@pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
def test_emulated_owners_are_our_own_runtimes_alone(user: Rootless) -> None:
    text = build_as(user, "--isolation=single-uid", "--runtime", "runc", check=False)
    assert "--runtime runc cannot be used with --isolation single-uid: owners of files are emulated" in text
