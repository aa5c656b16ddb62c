"""`--runtime`: builds whose steps another runtime carries out, beside those by our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.contexts import lay, said, steps_run
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.namespaces import has_user_namespaces
from tests.support.rootless import Rootless

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
