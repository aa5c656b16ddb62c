"""RUN --device, with CDI specifications of this machine's devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import lay, lines_of
from tests.support.images import read_image
from tests.support.machine import Pybuild, needs, needs_root

pytestmark = [pytest.mark.root, needs_root(), needs("busybox")]

MINE = {"path": "/dev/my/zero", "hostPath": "/dev/zero", "fileMode": 0o640, "uid": 12, "gid": 34}


@pytest.fixture
def cdi(tmp_path: Path) -> Path:
    return tmp_path / "cdi"


def tell(cdi: Path, *devices: dict[str, Any], **own: Any) -> None:
    """Write the one specification that there is."""
    cdi.mkdir(exist_ok=True)
    document = {"cdiVersion": "1.1.0", "kind": "v.com/c", "devices": devices, "containerEdits": own}
    (cdi / "v.json").write_text(json.dumps(document))


def device(name: str, **edits: Any) -> dict[str, Any]:
    return {"name": name, "containerEdits": edits}


def lines(pybuild: Pybuild, cdi: Path, context: Path, steps: str, *flags: str) -> list[str]:
    lay(context, f"FROM busybox\n{steps}\n")
    built = pybuild(
        "build", "--progress=rawjson", "--cdi-spec-dir", cdi, "--allow", "device", *flags, context
    )
    return lines_of(built.stderr)


def test_a_device_brings_its_node_variables_mounts_and_groups(
    pybuild: Pybuild, cdi: Path, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent" / "f").write_text("lent")
    mount = {"hostPath": str(tmp_path / "lent"), "containerPath": "/run/lent", "options": ["ro", "rbind"]}
    tell(
        cdi,
        device("a", deviceNodes=[MINE], mounts=[mount], additionalGids=[77], env=["PATH=/bin:/x", "A=a"]),
        env=["OWN=own"],
    )
    steps = (
        "ENV A=image B=image\nUSER 12:5\n"
        "RUN --device=v.com/c=a echo $OWN $A $B $PATH; id -G; stat -c '%a %u %g %t %T' /dev/my/zero;"
        " head -c2 /dev/my/zero | wc -c; cat /run/lent/f; echo; touch /run/lent/g 2>&1"
    )

    said = lines(pybuild, cdi, context, steps + " || true", "-t", "app")

    assert said[:5] == ["own a image /bin:/x", "5 77", "640 12 34 1 5", "2", "lent"]
    assert "Read-only" in said[5]
    image = read_image(pybuild.root, "app:latest")
    assert [path for path in image.tree() if path.startswith(("dev/", "run/lent"))] == []
    assert "A=image" in image.run["Env"]
    assert not [entry for entry in image.run["Env"] if entry.startswith("OWN")]


def test_nothing_but_the_device_can_be_opened(
    pybuild: Pybuild, cdi: Path, context: Path, tmp_path: Path
) -> None:
    """Not a node of the same numbers elsewhere, nor one in what the device mounts, nor another device."""
    (tmp_path / "lent").mkdir()
    mount = {"hostPath": str(tmp_path / "lent"), "containerPath": "/lent", "options": ["dev", "rw"]}
    tell(
        cdi,
        device("a", deviceNodes=[{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5}], mounts=[mount]),
    )
    steps = (
        "RUN --device=v.com/c=a mkdir /t; for p in /x /dev/x /lent/x /t/x; do mknod $p c 1 5; done;"
        " mknod /y c 1 8; for p in /dev/mine /x /dev/x /lent/x /t/x /y; do"
        " head -c1 $p >/t/out 2>/dev/null && echo opened $p; done; rm -rf /x /y /t"
    )

    assert lines(pybuild, cdi, context, steps) == ["opened /dev/mine"]


def test_a_device_is_as_well_in_an_insecure_step_and_in_no_other(
    pybuild: Pybuild, cdi: Path, context: Path
) -> None:
    tell(cdi, device("a", deviceNodes=[MINE]))
    steps = (
        "RUN --device=v.com/c=a --security=insecure head -c2 /dev/my/zero | wc -c\n"
        "RUN ls /dev/my 2>/dev/null || echo none"
    )

    assert lines(pybuild, cdi, context, steps, "--allow", "security.insecure") == ["2", "none"]


def test_a_user_namespace_is_shown_the_machine_s_own_node_and_no_other(
    pybuild: Pybuild, cdi: Path, context: Path
) -> None:
    none = {"path": "/dev/none", "type": "c", "major": 1, "minor": 5}
    tell(cdi, device("a", deviceNodes=[MINE]), device("b", deviceNodes=[none]))
    steps = "RUN --device=v.com/c=a head -c2 /dev/my/zero | wc -c; head -c1 /dev/full >/dev/null && echo full"

    assert lines(pybuild, cdi, context, steps, "--isolation=userns") == ["2", "full"]
    lay(context, "FROM busybox\nRUN --device=v.com/c=b true\n")
    flags = ["--cdi-spec-dir", str(cdi), "--allow=device", "--isolation=userns"]
    refused = pybuild("build", "--progress=plain", *flags, context, check=False)
    assert "/dev/none: no device can be made here, and the host has none at /dev/none" in refused.stderr


def test_links_of_the_image_lead_no_node_out_of_it(
    pybuild: Pybuild, cdi: Path, context: Path, tmp_path: Path
) -> None:
    tell(cdi, device("a", deviceNodes=[{**MINE, "path": "/out/zero"}]))
    (tmp_path / "there").mkdir()
    steps = (
        f"RUN mkdir -p {tmp_path}/there && ln -s {tmp_path}/there /out\n"
        "RUN --device=v.com/c=a head -c2 /out/zero | wc -c"
    )

    assert lines(pybuild, cdi, context, steps) == ["2"]
    assert list((tmp_path / "there").iterdir()) == []


def test_what_is_not_there_is_told_and_what_is_required_is_an_error(
    pybuild: Pybuild, cdi: Path, context: Path
) -> None:
    tell(cdi, device("a", env=["A=a"]))
    lay(context, "FROM busybox\nRUN --device=gpu --device=v.com/c=a echo $A\n")
    without = pybuild("build", "--progress=plain", "--cdi-spec-dir", cdi, "--allow=device=v.com/c", context)
    lay(context, "FROM busybox\nRUN --device=gpu,required true\n")
    needed = pybuild("build", "--progress=plain", "--cdi-spec-dir", cdi, context, check=False)

    assert "device gpu is not there, and not required: the step runs without it (line 2)" in without.stderr
    assert needed.returncode == 1
    assert "error: device gpu is required, and no CDI specification tells of it" in needed.stderr
    assert ">>> RUN --device=gpu,required true" in needed.stderr


def test_devices_need_a_grant_also_when_their_step_is_in_the_cache(
    pybuild: Pybuild, cdi: Path, context: Path
) -> None:
    tell(cdi, device("a", env=["A=a"]))
    steps = "RUN --device=my echo $A"

    assert lines(pybuild, cdi, context, steps, "--allow", "device=v.com/c=a,alias=my") == ["a"]
    lay(context, "FROM busybox\nRUN --device=v.com/c=a echo $A\n")
    for _ in range(2):
        built = pybuild("build", "--progress=plain", "--cdi-spec-dir", cdi, "--allow=device", context)
    assert "CACHED" in built.stderr
    refused = pybuild("build", "--progress=plain", "--cdi-spec-dir", cdi, context, check=False)

    assert refused.returncode == 1
    assert "device v.com/c=a is asked for, and not allowed" in refused.stderr
    assert "--allow device=v.com/c=a" in refused.stderr
