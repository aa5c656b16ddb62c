"""Steps of a single id: whose files are, as they see it and as it is written down."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.fs.ownership import STAT_XATTR, Record
from tests.integration.runtime.recorded import Steps, read_record, write_accounts
from tests.support.namespaces import has_user_namespaces
from tests.support.singleid import OUTER_PROC, SingleId

pytestmark = pytest.mark.skipif(not has_user_namespaces(), reason="no user namespace can be made here")

APP = {"uid": 1000, "gid": 1000, "groups": [8]}


@pytest.fixture(scope="module", params=[(), (OUTER_PROC,)], ids=["own proc", "outer proc"])
def single(request: pytest.FixtureRequest) -> Iterator[SingleId]:
    program = SingleId(*request.param)
    yield program
    program.close()


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("accounts")
    write_accounts(root)
    return root


@pytest.fixture
def steps(single: SingleId, base: Path, accounts: Path, tmp_path: Path) -> Steps:
    return Steps(single, (base, accounts), tmp_path)


# --- chown and stat ---


def test_a_file_is_whose_it_was_given_to(steps: Steps) -> None:
    told = steps.says(
        "echo a > /f; chown 5:6 /f; stat -c '%u %g %a' /f; ls -ln /f | cut -d' ' -f1-10; cat /f"
    )
    assert told[0] == "5 6 644"
    assert told[2] == "a"
    assert steps.record("f") == Record(5, 6)
    assert os.stat(steps.upper / "f").st_uid == os.geteuid()


def test_a_folder_too(steps: Steps) -> None:
    assert steps.says("mkdir -m 750 /d; chown app:mail /d; stat -c '%U %G %a' /d") == ["app mail 750"]
    assert steps.record("d") == Record(1000, 8)


def test_a_half_given_file_keeps_its_other_half(steps: Steps) -> None:
    assert steps.says("touch /f; chown 5:6 /f; chown 7 /f; chgrp 8 /f; stat -c '%u %g' /f") == ["7 8"]


def test_a_file_given_back_to_root_has_no_record(steps: Steps) -> None:
    assert steps.says("touch /f; chown 5:6 /f; chown 0:0 /f; stat -c '%u %g' /f") == ["0 0"]
    assert steps.record("f") is None


def test_a_file_of_a_layer_below_keeps_its_owner_and_can_be_given_away(steps: Steps, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    for name in ("kept", "given"):
        (layer / name).write_text(name)
        os.setxattr(layer / name, STAT_XATTR, b"42:43")
    steps.base = (*steps.base, layer)
    told = steps.says("chown 1:2 /given; echo more >> /kept; stat -c '%u %g' /kept /given")
    assert told == ["42 43", "1 2"]
    assert steps.record("kept") == Record(42, 43)
    assert steps.record("given") == Record(1, 2)
    assert read_record(layer / "given") == Record(42, 43)


def test_a_changed_owner_clears_set_id_bits(steps: Steps) -> None:
    command = "cp /bin/busybox /f; chmod 6755 /f; stat -c %a /f; chown 5 /f; stat -c '%a %u' /f"
    assert steps.says(command) == ["6755", "755 5"]


def test_find_sees_owners(steps: Steps) -> None:
    command = "mkdir /d; touch /d/a /d/b; chown app /d/a; find /d -user app; find /d -group 0 -type f | sort"
    assert steps.says(command) == ["/d/a", "/d/a", "/d/b"]


def test_names_and_links_share_the_owner(steps: Steps) -> None:
    command = "touch /f; ln /f /g; chown 5:6 /g; mv /f /h; stat -c '%u %g' /g /h"
    assert steps.says(command) == ["5 6", "5 6"]


def test_paths_mean_what_the_process_means(steps: Steps) -> None:
    command = """
    mkdir -p /d/e; touch /d/e/f /d/g; cd /d/e; chown 5 f; chown 6 ../g; chown 7 ../../../../../../d
    stat -c %u /d/e/f /d/g /d; exec 5<f; stat -L -c %u /proc/self/fd/5 /dev/fd/5; chown 8 /dev/fd/5
    stat -c %u f; ln -s /d/e/f /l; chown 9 /l; stat -c %u f; stat -c %u /l
    """
    assert steps.says(command) == ["5", "6", "7", "5", "5", "8", "9", "0"]


def test_files_that_are_not_there_are_not_there(steps: Steps) -> None:
    told = steps.run("chown 5 /nothing; chown 5 /etc/passwd/x; stat /nothing/x")
    assert [line.rpartition(": ")[2] for line in told["err"]] == [
        "No such file or directory",
        "Not a directory",
        "No such file or directory",
    ]


def test_a_read_only_mount_refuses_a_new_owner(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    told = steps.run("chown 5 /m; stat -c %u /m", binds=[{"target": "/m", "source": str(tmp_path / "ro")}])
    assert told["err"] == ["chown: /m: Read-only file system"]
    assert told["out"] == ["0"]


def test_a_list_of_attributes_is_without_the_record(steps: Steps) -> None:
    told = steps.says(["/bin/sh", "-c", "touch /f; chown 5 /f; cp -a /f /g; stat -c %u /g"])
    assert told == ["5"]


# --- what holds no attribute ---


def test_owners_of_links_and_fifos_are_handed_back_by_their_last_names(steps: Steps) -> None:
    command = """
    ln -s a /l; chown -h 7:8 /l; mkdir /d; mv /l /d/m; mkfifo /p; chown 5:6 /p; ln -s b /gone
    chown -h 9 /gone; rm /gone; ln -s c /back; chown -h 9 /back; chown -h 0 /back
    stat -c '%u %g' /d/m /p /back; stat -c %F /p
    """
    assert steps.says(command) == ["7 8", "5 6", "0 0", "fifo"]
    assert steps.owners == {"d/m": (7, 8), "p": (5, 6)}


def test_a_new_link_is_roots_where_another_was_removed(steps: Steps) -> None:
    command = "for i in 1 2 3 4 5 6; do ln -s a /l; stat -c %u /l; chown -h 7 /l; rm /l; done"
    assert steps.says(command) == ["0"] * 6


def test_links_of_layers_below_have_the_owners_that_came_with_the_step(steps: Steps, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    for name in ("kept", "given", "moved"):
        os.symlink("x", layer / name)
    steps.base = (*steps.base, layer)
    table = {"kept": (3, 4), "given": (3, 4), "moved": (3, 4), "missing": (1, 1)}
    command = "chown -h 5 /given; mv /moved /away; stat -c '%u %g' /kept /given /away"
    assert steps.says(command, table=table) == ["3 4", "5 4", "3 4"]
    assert steps.owners == {"kept": (3, 4), "given": (5, 4), "away": (3, 4)}
    assert stat.S_ISLNK(os.lstat(steps.upper / "given").st_mode)
    assert not os.path.lexists(steps.upper / "kept")


def test_devices_become_records_and_look_like_devices(steps: Steps) -> None:
    command = """
    mknod -m 640 /null c 1 3; mknod /disk b 8 1; stat -c '%F %t %T %a' /null /disk; chown 5:6 /null
    stat -c '%F %u %g' /null; test -c /null && test -b /disk && echo yes; cat /null; rm /disk; ls /disk
    """
    told = steps.run(command)
    assert told["out"] == [
        "character special file 1 3 640",
        "block special file 8 1 644",
        "character special file 5 6",
        "yes",
    ]
    assert steps.record("null") == Record(5, 6, stat.S_IFCHR, os.makedev(1, 3))
    status = os.stat(steps.upper / "null")
    assert (stat.S_ISREG(status.st_mode), status.st_size) == (True, 0)


# --- other users ---


def test_a_user_is_who_it_was_told_to_be(steps: Steps) -> None:
    assert steps.says("id -u; id -g; id -G; id -un", **APP) == ["1000", "1000", "1000 8", "app"]


def test_what_a_user_makes_is_its_own(steps: Steps) -> None:
    command = """
    cd /home/app; umask 027; echo a > f; mkdir d; ln -s f l; mkfifo p; echo b >> f; cp f d/g
    mktemp -p d > /dev/null; ln f h; stat -c '%n %u %g %a' f d l p d/g h; stat -c '%u %a' d/tmp.*; cat f
    """
    told = steps.says(command, **APP)
    assert told == [
        *("f 1000 1000 640", "d 1000 1000 750", "l 1000 1000 777", "p 1000 1000 640"),
        *("d/g 1000 1000 640", "h 1000 1000 640", "1000 600", "a", "b"),
    ]
    assert steps.record("home/app/f") == Record(1000, 1000)
    assert steps.record("home/app/d") == Record(1000, 1000)
    assert steps.owners == {"home/app/l": (1000, 1000), "home/app/p": (1000, 1000)}


def test_a_user_cannot_give_files_away_nor_make_devices(steps: Steps) -> None:
    command = """
    cd /home/app; touch f; chown 5 f; chgrp 5 f; chgrp 8 f && stat -c %g f; chown 1000:1000 /etc/passwd
    mknod n c 1 3; chown app f && echo mine
    """
    told = steps.run(command, **APP)
    assert told["out"] == ["8", "mine"]
    assert [line.rpartition(": ")[2] for line in told["err"]] == ["Operation not permitted"] * 4


def test_a_folder_hands_on_its_group(steps: Steps) -> None:
    command = """
    mkdir /d; chown 0:8 /d; chmod 2775 /d; cd /d; touch f; mkdir e; ln -s f l; mkfifo p
    stat -c '%u %g %a' f e l p
    """
    assert steps.says(command) == ["0 8 644", "0 8 2755", "0 8 777", "0 8 644"]


def test_su_is_another_user_and_cannot_come_back(steps: Steps) -> None:
    command = "su app -c 'id -u; id -G; touch ~/f; stat -c %u ~/f; su other -c id' ; id -u"
    told = steps.run(command, kept=False)
    assert told["out"][:3] == ["1000", "1000 8", "1000"]
    assert told["out"][-1] == "0"
    assert "uid=2000" not in " ".join(told["out"])


def test_a_set_id_script_is_nobodys(steps: Steps) -> None:
    command = "printf '#!/bin/sh\\nid -u\\n' > /s; chown other /s; chmod 4755 /s; /s"
    assert steps.says(command) == ["0"]


def test_a_daemon_that_outlives_its_parents_keeps_its_user(steps: Steps) -> None:
    until = "until test -e /tmp/{}; do sleep 0.05; done"
    daemon = f"({until.format('go')}; id -u > /tmp/who; touch /tmp/mine; touch /tmp/done) >/dev/null 2>&1 &"
    command = f"su app -c '( {daemon} ) & exit 0'; sleep 0.1; touch /tmp/go; {until.format('done')}"
    assert steps.says(f"{command}; cat /tmp/who; stat -c %u /tmp/mine") == ["1000", "1000"]


def test_limits_show_nothing(steps: Steps) -> None:
    command = "su app -c 'ulimit -a; echo done' | grep -E 'locks|done'"
    assert steps.says(command)[-1] == "done"
    assert all("unlimited" in line for line in steps.last["out"][:-1] if "file locks" in line)


def test_a_mount_in_memory_has_its_owner(steps: Steps) -> None:
    secret = {"target": "/run/s", "name": "secret", "mode": 0o440, "uid": 1000, "gid": 8}
    told = steps.says("cat /run/s; echo; stat -c '%u %g %a' /run/s", secrets=[secret])
    assert told == ["secret", "1000 8 440"]


# --- the sandbox ---


def test_the_command_has_no_descriptor_but_its_streams(steps: Steps) -> None:
    assert steps.says("ls /proc/self/fd | tr '\\n' ' '; echo $$") == [
        "0 1 2 3 1"
    ]  # 3 is the folder that ls reads


def test_a_changed_root_is_followed(steps: Steps) -> None:
    command = """
    mkdir -p /r/bin; cp /bin/busybox /r/bin/sh; touch /r/f; touch /f; ln -s /f /r/l
    chroot /r /bin/sh -c 'chown 5:6 /../../l; mkdir /d; chown 8 /d; cd /d; touch x; chown 9 x'
    stat -c '%u %g' /r/f /f /r/d /r/d/x
    """
    assert steps.says(command) == ["5 6", "0 0", "8 0", "9 0"]


def test_a_command_that_cannot_run_is_told_as_ever(steps: Steps) -> None:
    assert "cannot run nothing: not found in PATH" in steps.run(["nothing"])["error"]


def test_a_user_is_refused_what_is_not_its_own(steps: Steps) -> None:
    command = """
    for path in / /etc /etc/passwd /tmp /home/app; do test -w $path && echo $path; done
    touch /new; mkdir /etc/new; ln -s x /usr; echo a >> /etc/passwd; (: > /etc/group); mknod /p p
    touch /tmp/new && mkdir /home/app/new && echo made; mkdir -p /etc /home/app/new && echo there
    echo a > /dev/null && echo b > /dev/stdout && echo c > /proc/self/comm && cat /proc/self/comm > /tmp/new
    test -r /etc/passwd && test -x /bin/sh && test ! -x /etc/passwd && echo read
    """
    told = steps.run(command, **APP)
    assert told["out"] == ["/tmp", "/home/app", "made", "there", "b", "read"], told
    assert {line.rpartition(": ")[2] for line in told["err"]} == {"Permission denied"}
    assert len(told["err"]) == 6
    assert not {"new", "p", "usr"} & {path.name for path in steps.upper.iterdir()}


def test_a_user_removes_and_renames_only_what_it_may(steps: Steps) -> None:
    prepared = """
    touch /tmp/root /tmp/app /home/app/root /f; chown app /tmp/app; mkdir /d; touch /d/f; chown app /d/f
    """
    command = """
    rm -f /f; mv /f /g; mv /tmp/app /f; rm -f /tmp/root; mv /tmp/root /tmp/new
    rm -f /d/f; ln /d/f /d/g; rmdir /d; chmod 777 /f
    chmod 600 /d/f && rm -f /nothing && mv /tmp/app /tmp/own && rm /tmp/own && echo own
    rm -f /home/app/root && ln /d/f /home/app/f && mv /home/app/f /home/app/g && rm /home/app/g && echo home
    """
    told = steps.run(f"{prepared} su app -c '{command}'; ls /d /f /tmp")
    assert told["out"] == ["own", "home", "/f", "", "/d:", "f", "", "/tmp:", "root"], told
    reasons = [line.rpartition(": ")[2] for line in told["err"]]
    denied, forbidden = "Permission denied", "Operation not permitted"
    assert reasons == [denied] * 3 + [forbidden] * 2 + [denied] * 3 + [forbidden]


def test_a_user_that_is_of_the_group_may_write(steps: Steps) -> None:
    prepared = "mkdir /g; chown 0:8 /g; chmod 0775 /g; touch /g/f; chown 0:8 /g/f; chmod 664 /g/f"
    command = "touch /g/new && echo a > /g/f && test -w /g && echo ok"
    assert steps.says(f"{prepared}; su app -c '{command}'; su other -c 'test -w /g || echo no'") == [
        "ok",
        "no",
    ]


def test_root_may_write_everything(steps: Steps) -> None:
    command = "mkdir -m 0 /d; chown 5 /d; touch /d/f; chmod 0 /d/f; echo a > /d/f; test -w /d/f && echo ok"
    assert steps.says(command) == ["ok"]


def test_a_step_of_a_user_reads_only_what_it_may(steps: Steps) -> None:
    secrets = [
        {"target": "/run/roots", "name": "secret"},
        {"target": "/run/apps", "name": "secret", "uid": 1000},
        {"target": "/run/all", "name": "secret", "mode": 0o444},
    ]
    steps.says("echo a > /private; chmod 600 /private; echo b > /ours; chown 0:8 /ours; chmod 640 /ours")
    command = "cat /private; cat /run/roots; cat /ours /etc/passwd > /dev/null && cat /run/apps /run/all"
    told = steps.run(command, kept=True, secrets=secrets, **APP)
    assert told["out"] == ["secretsecret"], told
    assert told["err"] == [
        f"cat: can't open '{path}': Permission denied" for path in ("/private", "/run/roots")
    ]
