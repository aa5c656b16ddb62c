"""Labels of security modules, as a machine that has them shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.isolation.labels import Labels, detect

CONTEXTS = """\
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
"""
SELINUX = Labels("", "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0")


def machine(folder: Path, files: dict[str, str]) -> str:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return str(folder)


def apparmor(profiles: str, own: str = "unconfined\n", enabled: str = "Y\n") -> dict[str, str]:
    return {
        "sys/module/apparmor/parameters/enabled": enabled,
        "sys/kernel/security/apparmor/profiles": profiles,
        "proc/self/attr/apparmor/current": own,
    }


def selinux(own: str = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0") -> dict[str, str]:
    return {
        "sys/fs/selinux/enforce": "1",
        "etc/selinux/config": "# which\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
        "etc/selinux/targeted/contexts/lxc_contexts": CONTEXTS,
        "proc/self/attr/current": own,
    }


def test_a_machine_without_modules_has_no_labels(tmp_path: Path) -> None:
    assert detect(str(tmp_path)) == Labels()


@pytest.mark.parametrize(
    ("profiles", "taken"),
    [
        ("docker-default (enforce)\n/usr/sbin/ntpd (enforce)\n", "docker-default"),
        ("docker-default (enforce)\npybuild-default (enforce)\n", "pybuild-default"),
        ("containers-default-0.57.4 (enforce)\n", "containers-default-0.57.4"),
        ("docker-default (complain)\n", ""),
        ("my docker-default (enforce)\nnot-docker-default (enforce)\n", ""),
        ("", ""),
    ],
)
def test_a_profile_for_containers_is_taken_where_it_is_enforced(
    tmp_path: Path, profiles: str, taken: str
) -> None:
    assert detect(machine(tmp_path, apparmor(profiles))) == Labels(apparmor=taken)


@pytest.mark.parametrize(
    "files",
    [
        apparmor("docker-default (enforce)\n", own="docker-default (enforce)\n"),
        apparmor("docker-default (enforce)\n", enabled="N\n"),
        selinux(own="system_u:system_r:container_t:s0:c1,c2"),
        selinux() | {"etc/selinux/targeted/contexts/lxc_contexts": ""},
        selinux() | {"sys/fs/selinux/enforce": ""},
        selinux() | {"etc/selinux/config": "SELINUXTYPE=../../../tmp\n"},
    ],
)
def test_who_is_confined_or_has_nothing_for_containers_gives_no_label(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert detect(machine(tmp_path, files)) == Labels()


def test_the_policys_contexts_for_containers_are_taken(tmp_path: Path) -> None:
    assert detect(machine(tmp_path, selinux())) == SELINUX
