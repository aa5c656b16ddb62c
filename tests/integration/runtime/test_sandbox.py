"""What a command finds in the default sandbox (SAFETY baseline), asked of the command itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.errors import BuildError, SandboxError, StepFailed
from builder.runtime.launch import Runtime
from builder.runtime.spec import Bind, Overlay, SecretFile, Tmpfs, parse_ulimit

from .conftest import Sandbox

pytestmark = pytest.mark.root


@contextlib.asynccontextmanager
async def started(base: Path, folder: Path) -> AsyncIterator[Sandbox]:
    """A sandbox that is started now."""
    runtime = Runtime.start()
    try:
        yield Sandbox(runtime, base, folder)
    finally:
        await runtime.close()


async def test_the_command_is_process_1_and_alone(sandbox: Sandbox) -> None:
    assert await sandbox.says("echo $$; set -- /proc/[0-9]*; echo $*") == ["1", "/proc/1"]


async def test_process_1_ignores_its_own_signals(sandbox: Sandbox) -> None:
    assert await sandbox.says("kill -TERM $$; kill -KILL $$; echo alive") == ["alive"]


@pytest.mark.hostile("CVE-2021-3602")
async def test_the_environment_is_the_specs_alone(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder's own is not even known to what starts the steps: it is started without."""
    monkeypatch.setenv("LEAK", "1")
    async with started(base, tmp_path) as sandbox:
        said = await sandbox.says(["/bin/env"], env=[("PATH", "/bin"), ("A", "b=c"), ("EMPTY", "")])
    assert sorted(said) == ["A=b=c", "EMPTY=", "PATH=/bin"]


async def test_it_starts_in_its_working_folder_with_umask_022(sandbox: Sandbox) -> None:
    assert await sandbox.says("pwd; umask", cwd="/etc") == ["/etc", "0022"]


async def test_a_working_folder_that_cannot_be_made_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(BuildError, match="cannot enter the working folder /sys/none: read-only") as caught:
        await sandbox.run("true", cwd="/sys/none")
    assert caught.value.code == "workdir"


async def test_a_working_folder_is_made_in_a_mount_that_hides_it(sandbox: Sandbox, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    mounts = [Bind(target="/opt", source=str(cache), readonly=False)]
    said = await sandbox.says("pwd; stat -c '%a %u' .", cwd="/opt/a/b", uid=1000, mounts=mounts)
    assert said == ["/opt/a/b", "755 0"]
    assert (cache / "a/b").is_dir()


async def test_a_user_starts_in_a_folder_that_only_root_may_enter(sandbox: Sandbox, tmp_path: Path) -> None:
    private = tmp_path / "layer"
    (private / "private").mkdir(parents=True, mode=0o700)
    lower = [str(sandbox.base), str(private)]
    assert await sandbox.says("/bin/pwd", uid=1000, gid=1000, cwd="/private", lower=lower) == ["/private"]


async def test_standard_input_is_empty_and_no_terminal(sandbox: Sandbox) -> None:
    assert await sandbox.says("wc -c; tty || true; readlink /proc/self/fd/0") == [
        "0",
        "not a tty",
        "/dev/null",
    ]


@pytest.mark.hostile("CVE-2024-21626")
async def test_no_descriptor_is_inherited(base: Path, tmp_path: Path) -> None:
    """Neither one that the builder had when it started the sandbox, nor one that the sandbox has."""
    leak = os.open("/etc", os.O_RDONLY)
    try:
        os.set_inheritable(leak, True)
        async with started(base, tmp_path) as sandbox:
            # descriptor 3 is that of the listing itself
            assert await sandbox.says(["/bin/ls", "/proc/self/fd"]) == ["0", "1", "2", "3"]
    finally:
        os.close(leak)


async def test_the_host_name_is_buildkits_or_the_specs(sandbox: Sandbox) -> None:
    assert await sandbox.says("hostname") == ["buildkitsandbox"]
    assert await sandbox.says("hostname", hostname="kit") == ["kit"]


async def test_root_has_the_14_capabilities_a_filter_and_no_no_new_privileges(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        ["grep", "-E", "^(Cap|NoNew|Seccomp:|SigIgn|SigBlk|Groups)", "/proc/self/status"]
    )
    assert [line.split() for line in said] == [
        ["Groups:"],
        ["SigBlk:", "0" * 16],
        ["SigIgn:", "0" * 16],
        ["CapInh:", "0" * 16],
        ["CapPrm:", "00000000a80425fb"],
        ["CapEff:", "00000000a80425fb"],
        ["CapBnd:", "00000000a80425fb"],
        ["CapAmb:", "0" * 16],
        ["NoNewPrivs:", "0"],
        ["Seccomp:", "2"],
    ]


async def test_a_plain_user_has_no_capabilities_but_the_same_bound(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "grep -E '^(Uid|Gid|Groups|Cap)' /proc/self/status", uid=1000, gid=1001, groups=[5, 6]
    )
    found = {line.split()[0]: line.split()[1:] for line in said}
    assert found["Uid:"] == ["1000"] * 4
    assert found["Gid:"] == ["1001"] * 4
    assert found["Groups:"] == ["5", "6"]
    assert found["CapPrm:"] == found["CapEff:"] == found["CapInh:"] == ["0" * 16]
    assert found["CapBnd:"] == ["00000000a80425fb"]


@pytest.mark.hostile("CVE-2024-40635")
async def test_an_ill_user_id_is_an_error_and_no_other_user(sandbox: Sandbox) -> None:
    with pytest.raises(BuildError, match="cannot become user 4294967296"):
        await sandbox.run("id", uid=1 << 32)


async def test_a_user_may_write_to_the_devices_of_its_streams(sandbox: Sandbox) -> None:
    output = await sandbox.run("echo out > /dev/stdout; echo err > /dev/stderr", uid=1000, gid=1000)
    assert (output.out, output.err) == (["out"], ["err"])


async def test_insecure_gives_what_the_builder_has(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "grep -E '^(CapEff|Seccomp:)' /proc/self/status; mount -t tmpfs none /tmp && echo mounted; "
        "mknod /zero c 1 5 && head -c 1 /zero | wc -c; ls -d /proc/sys/kernel && touch /sys/kernel/x || true",
        insecure=True,
    )
    own = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
    )
    assert said[:2] == [own, "Seccomp:\t0"]
    assert "mounted" in said
    assert "1" in said


async def test_an_insecure_step_of_a_user_has_what_the_builder_has_too(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "grep -E '^Cap(Eff|Amb|Inh)' /proc/self/status; unshare -m true && echo unshared",
        insecure=True,
        uid=1000,
    )
    own = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
    )
    assert {line.split()[1] for line in said[:3]} == {own.split()[1]}
    assert said[3:] == ["unshared"]


async def test_devices_are_six_nodes_and_links(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "cd /dev; echo $(ls); stat -c '%n %a %t:%T' null zero full random urandom tty; "
        "for l in fd stdin stdout stderr ptmx; do readlink $l; done; stat -c %a shm mqueue pts"
    )
    assert said[0] == "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero", (
        "as runc makes them"
    )
    assert said[1:7] == [
        "null 666 1:3",
        "zero 666 1:5",
        "full 666 1:7",
        "random 666 1:8",
        "urandom 666 1:9",
        "tty 666 5:0",
    ]
    assert said[7:12] == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]
    assert said[12:] == ["1777", "1777", "755"]


async def test_device_nodes_work_but_a_new_one_cannot_be_opened(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo written; "
        "for d in /made /tmp/made /dev/made /dev/shm/made; do "
        "mknod $d c 1 5 && (head -c 1 $d 2>/dev/null || echo refused); done",
        mounts=[Tmpfs("/tmp")],
    )
    assert said == ["3", "written"] + ["refused"] * 4


async def test_a_made_device_node_is_among_the_changes(sandbox: Sandbox) -> None:
    await sandbox.says("mknod /made b 7 8")
    assert (sandbox.upper / "made").stat().st_rdev == os.makedev(7, 8)


async def test_shared_memory_has_the_size_asked_for(sandbox: Sandbox) -> None:
    size = "df -k /dev/shm | awk 'END { print $2 }'"
    assert await sandbox.says(size) == ["65536"]
    assert await sandbox.says(size, shm_size=1 << 20) == ["1024"]


async def test_masked_paths_are_empty(sandbox: Sandbox) -> None:
    masked = "/proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/acpi /proc/scsi /sys/firmware"
    said = await sandbox.says(
        f"for p in {masked}; do [ -d $p ] && ls -A $p || cat $p 2>/dev/null; done; echo end"
    )
    assert said == ["end"]


async def test_kernel_settings_and_sysfs_are_read_only(sandbox: Sandbox) -> None:
    paths = "/proc/sys/kernel/domainname /proc/sys/vm/drop_caches /proc/irq/0/x /proc/bus/x /sys/kernel/x"
    said = await sandbox.says(f"for p in {paths} /sys/fs/cgroup/x; do (echo 1 > $p) 2>&1; done; echo end")
    assert said[-1] == "end"
    assert all("Read-only" in line or "nonexistent" in line or "No such" in line for line in said[:-1]), said


async def test_host_mounts_and_processes_are_out_of_sight(sandbox: Sandbox, tmp_path: Path) -> None:
    said = "\n".join(await sandbox.says("cat /proc/self/mountinfo | awk '{ print $4, $5 }'; ls /"))
    assert "/old" not in said
    lines = [line.split()[1] for line in said.splitlines() if line.startswith("/ /")]
    assert lines[0] == "/"
    assert not any("pytest" in line for line in lines)


async def test_only_the_layers_files_are_there_and_changes_go_to_the_upper_folder(sandbox: Sandbox) -> None:
    await sandbox.says("rm /etc/group; echo new > /etc/new; mkdir -m 700 /made")
    assert (sandbox.upper / "etc/new").read_text() == "new\n"
    assert (sandbox.upper / "etc/group").is_char_device()
    assert (sandbox.upper / "made").stat().st_mode & 0o7777 == 0o700
    assert (sandbox.base / "etc/group").exists()


async def test_an_empty_snapshot_is_an_empty_root(sandbox: Sandbox) -> None:
    with pytest.raises(StepFailed, match="cannot run /bin/sh") as caught:
        await sandbox.run("true", lower=[])
    assert caught.value.status == 127
    assert sorted(os.listdir(sandbox.upper)) == ["dev", "proc", "sys"]
    tools = Bind("/tools", str(sandbox.base / "bin"))
    assert await sandbox.says(["/tools/busybox", "ls", "/"], lower=[], mounts=[tools]) == [
        "dev",
        "proc",
        "sys",
        "tools",
    ]


async def test_500_layers_are_one_root(sandbox: Sandbox, tmp_path: Path) -> None:
    lower = [str(sandbox.base)]
    for number in range(499):
        layer = tmp_path / "layers" / f"a-long-name-of-a-layer-as-digests-have-it-{number:030}"
        layer.mkdir(parents=True)
        (layer / f"f{number}").write_text("")
        (layer / "last").write_text(str(number))
        lower.append(str(layer))
    assert await sandbox.says("ls /f* | wc -l; cat /last", lower=lower) == ["499", "498"]


async def test_a_path_beyond_255_bytes_or_with_odd_letters_is_a_layer_too(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    lower = [str(sandbox.base)]
    for number, name in enumerate(("x" * 200 + "/" + "y" * 200, "co:lon,com\\ma", "sp ace\nline")):
        layer = tmp_path / name
        layer.mkdir(parents=True)
        (layer / f"f{number}").write_text("")
        lower.append(str(layer))
    assert await sandbox.says("ls -d /f*", lower=lower) == ["/f0", "/f1", "/f2"]


async def test_a_read_only_root_refuses_writes_but_not_to_its_mounts(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "(touch /x) 2>/dev/null || echo refused; touch /tmp/x && echo ok",
        readonly_root=True,
        mounts=[Tmpfs("/tmp")],
    )
    assert said == ["refused", "ok"]


async def test_network_none_has_only_loopback_and_it_is_up(sandbox: Sandbox) -> None:
    said = await sandbox.says(
        "ls /sys/class/net; ip -o addr | awk '{ print $2, $4 }'; ip route", network="none"
    )
    assert said[:2] == ["lo", "lo 127.0.0.1/8"]
    assert all(line.startswith("lo ") for line in said[1:])


async def test_network_host_is_the_hosts(sandbox: Sandbox) -> None:
    said = await sandbox.says("readlink /proc/self/ns/net")
    assert said == [os.readlink("/proc/self/ns/net")]


async def test_namespaces_are_new_but_user_network_and_time(sandbox: Sandbox) -> None:
    kinds = ["mnt", "pid", "ipc", "uts", "net", "user", "time"]
    said = await sandbox.says(f"for n in {' '.join(kinds)}; do readlink /proc/self/ns/$n; done")
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert [kind for kind, a, b in zip(kinds, own, said, strict=True) if a == b] == ["net", "user", "time"]


async def test_limits_are_set_or_refused_by_name(sandbox: Sandbox) -> None:
    assert await sandbox.says("ulimit -n; ulimit -Hn", rlimits=[parse_ulimit("nofile=100:200")]) == [
        "100",
        "200",
    ]
    with pytest.raises(BuildError, match="ulimit nofile") as caught:
        await sandbox.run("true", rlimits=[parse_ulimit("nofile=2000000000")])
    assert caught.value.code == "ulimit"


async def test_keyrings_of_the_builder_are_not_the_steps(sandbox: Sandbox) -> None:
    assert await sandbox.says("cat /proc/keys | wc -l") == ["0"]


# --- the command ---


async def test_the_command_is_found_through_the_specs_path(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = tmp_path / "layer/opt/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\necho "$0" "$@"\n')
    tool.chmod(0o755)
    lower = [str(sandbox.base), str(tmp_path / "layer")]
    said = await sandbox.says(["tool", "a b"], lower=lower, env=[("PATH", "/none:/opt:/bin")])
    assert said == ["/opt/tool a b"]


async def test_a_user_starts_a_program_that_only_root_may_execute(sandbox: Sandbox, tmp_path: Path) -> None:
    tool = tmp_path / "layer/opt/busybox"
    tool.parent.mkdir(parents=True, mode=0o700)
    tool.write_bytes((sandbox.base / "bin/busybox").read_bytes())
    tool.chmod(0o700)
    lower = [str(sandbox.base), str(tmp_path / "layer")]
    command = ["/opt/busybox", "grep", "CapEff", "/proc/self/status"]
    caps = await sandbox.says(command, lower=lower, uid=1000)
    assert caps == ["CapEff:\t0000000000000000"]
    path = [("PATH", "/none:/opt")]
    assert await sandbox.says(["busybox", "echo", "a"], lower=lower, uid=1000, env=path) == ["a"]


@pytest.mark.parametrize("search", ["bin:/bin", ":/bin", "../bin"])
async def test_a_command_is_not_found_by_way_of_the_working_folder(sandbox: Sandbox, search: str) -> None:
    cwd = "/bin" if search.startswith(":") else "/"
    with pytest.raises(StepFailed, match="in a folder that is not absolute"):
        await sandbox.run(["sh", "-c", "true"], cwd=cwd, env=[("PATH", search)])
    assert await sandbox.says(["sh", "-c", "pwd"], env=[("PATH", f"/bin:{search}")]) == ["/"]


@pytest.mark.parametrize(
    ("argv", "status", "told"),
    [
        (["no-such-command"], 127, "cannot run no-such-command: not found in PATH"),
        (["/none"], 127, "no such file"),
        (["plain"], 126, "/opt/plain is not executable"),
        (["/opt/plain"], 126, "permission denied"),
        (["/opt/headless"], 126, "no #! line"),
        (["/opt/orphan"], 127, "its interpreter"),
        (["/etc"], 126, "it is a folder"),
        ([""], 127, "no command"),
    ],
)
async def test_a_command_that_cannot_be_run_is_told_apart(
    sandbox: Sandbox, tmp_path: Path, argv: list[str], status: int, told: str
) -> None:
    folder = tmp_path / "layer/opt"
    folder.mkdir(parents=True)
    for name, mode, text in (
        ("plain", 0o644, "echo\n"),
        ("headless", 0o755, "echo\n"),
        ("orphan", 0o755, "#!/none\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    with pytest.raises(StepFailed, match=told) as caught:
        await sandbox.run(
            argv, lower=[str(sandbox.base), str(tmp_path / "layer")], env=[("PATH", "/bin:/opt")]
        )
    assert caught.value.status == status


async def test_exit_codes_and_signals_are_told(sandbox: Sandbox) -> None:
    assert (await sandbox.run("exit 37")).status.code == 37
    assert (await sandbox.run("exit 125")).status.code == 125
    # process 1 cannot kill itself, but the kernel can: a limit it runs into
    killed = await sandbox.run("while :; do :; done", rlimits=[parse_ulimit("cpu=1")])
    assert (killed.status.signal, killed.status.code) == (9, 137)
    assert killed.status.cpu_seconds > 0.5
    assert killed.status.max_rss > 100_000


# --- mounts ---


async def test_a_bind_is_read_only_unless_told(sandbox: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("content")
    touch = "cat /m/f; (touch /m/new) 2>/dev/null || echo refused"
    assert await sandbox.says(touch, mounts=[Bind("/m", str(source))]) == ["contentrefused"]
    assert await sandbox.says(touch, mounts=[Bind("/m", str(source), readonly=False)]) == ["content"]
    assert (source / "new").exists()


async def test_hosts_is_a_read_only_file_over_the_images(sandbox: Sandbox, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.1 here\n")
    mount = Bind("/etc/hosts", str(hosts), options=("nosuid", "noexec", "nodev"))
    said = await sandbox.says("cat /etc/hosts; (echo >> /etc/hosts) 2>/dev/null || echo no", mounts=[mount])
    assert said == ["10.0.0.1 here", "no"]
    assert (sandbox.upper / "etc/hosts").read_bytes() == b"", "the stub that a commit drops"


async def test_tmpfs_has_size_and_mode(sandbox: Sandbox) -> None:
    mount = Tmpfs("/a/b", size=1 << 20, mode=0o1777)
    said = await sandbox.says(
        "stat -c %a /a/b; df -k /a/b | awk 'END { print $2 }'; stat -c %a /a", mounts=[mount]
    )
    assert said == ["1777", "1024", "755"]


async def test_tmpfs_has_the_mode_of_the_folder_that_it_hides(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "layer/old").mkdir(parents=True)
    (tmp_path / "layer/old").chmod(0o2750)
    lower = [str(sandbox.base), str(tmp_path / "layer")]
    tmpfs = [Tmpfs("/old", options=("ro",)), Tmpfs("/new"), Tmpfs("/old2", mode=0o700)]
    assert await sandbox.says("stat -c '%a %u' /old /new /old2", mounts=tmpfs, lower=lower) == [
        "2750 0",
        "1777 0",
        "700 0",
    ]


async def test_a_snapshot_is_mounted_from_its_layers(sandbox: Sandbox, tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    for layer, text in ((low, "low"), (high, "high")):
        (layer / "d").mkdir(parents=True)
        (layer / "d/f").write_text(f"{text}\n")
    (low / "d/only").write_text("")
    both = (str(low), str(high))
    assert await sandbox.says("cat /m/d/f; ls /m/d", mounts=[Overlay("/m", both)]) == ["high", "f", "only"]
    assert await sandbox.says("cat /m/f", mounts=[Overlay("/m", both, subpath="/d")]) == ["high"]
    assert await sandbox.says("cat /m", mounts=[Overlay("/m", both, subpath="d/f")]) == ["high"]
    assert await sandbox.says("cat /m/d/f", mounts=[Overlay("/m", (str(low),))]) == ["low"]
    assert await sandbox.says("ls -A /m", mounts=[Overlay("/m", ())]) == []


async def test_writes_to_a_mounted_snapshot_are_thrown_away(sandbox: Sandbox, tmp_path: Path) -> None:
    layer, upper, work = tmp_path / "layer", tmp_path / "thrown", tmp_path / "w"
    for folder in (layer, upper, work):
        folder.mkdir()
    (layer / "f").write_text("old\n")
    write = "(echo new > /m/f) 2>/dev/null; cat /m/f"
    assert await sandbox.says(write, mounts=[Overlay("/m", (str(layer),))]) == ["old"]
    in_memory = Overlay("/m", (str(layer),), readonly=False)
    assert await sandbox.says(write, mounts=[in_memory]) == ["new"]
    on_disk = Overlay("/m", (str(layer),), readonly=False, upper=str(upper), work=str(work))
    assert await sandbox.says(write, mounts=[on_disk]) == ["new"]
    assert (upper / "f").read_text() == "new\n"
    assert (layer / "f").read_text() == "old\n"


async def test_a_missing_subpath_is_named(sandbox: Sandbox) -> None:
    for mount in (
        Overlay("/m", (str(sandbox.base),), subpath="/none"),
        Bind("/m", str(sandbox.base), subpath="none"),
    ):
        with pytest.raises(BuildError, match=r"from /?none at /m") as caught:
            await sandbox.run("true", mounts=[mount])
        assert caught.value.code == "mount-failed"


async def test_later_mounts_lie_on_earlier_ones(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("file\n")
    mounts = [Tmpfs("/a"), Tmpfs("/a/b"), Bind("/a/b/f", str(tmp_path / "f"))]
    said = await sandbox.says("cat /a/b/f; find /a | sort", mounts=mounts)
    assert said == ["file", "/a", "/a/b", "/a/b/f"]


async def test_a_secret_is_a_file_in_memory_and_on_no_disk(sandbox: Sandbox, tmp_path: Path) -> None:
    value = b"hush-\x00\xff-" + os.urandom(8).hex().encode()
    mount = SecretFile("/run/secrets/key", "key", mode=0o440, uid=1000, gid=7)
    said = await sandbox.says(
        "stat -c '%a %u %g' /run/secrets/key; sha256sum < /run/secrets/key; "
        "(echo > /run/secrets/key) 2>/dev/null || echo read-only; "
        "(rm /run/secrets/key) 2>/dev/null || echo kept; "
        "grep -c ' /run/secrets/key .*tmpfs' /proc/self/mountinfo",
        mounts=[mount],
        files={"key": value},
    )
    assert said == ["440 1000 7", f"{hashlib.sha256(value).hexdigest()}  -", "read-only", "kept", "1"]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert value not in path.read_bytes()
    assert value.decode(errors="replace") not in str(sandbox.spec("true", mounts=[mount]))


async def test_a_secret_without_its_bytes_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(BuildError, match="at /s"):
        await sandbox.run("true", mounts=[SecretFile("/s", "absent")])


async def test_the_cgroup_folder_is_there_and_read_only(sandbox: Sandbox) -> None:
    assert await sandbox.says("[ -d /sys/fs/cgroup ] && (mkdir /sys/fs/cgroup/x) 2>/dev/null || echo ro") == [
        "ro"
    ]


async def test_sandbox_errors_have_advice(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="root filesystem") as caught:
        await sandbox.run("true", lower=["/none/at/all"])
    assert caught.value.hint


def test_this_machine_is_one_that_the_profile_knows() -> None:
    assert platform.machine() in ("x86_64", "aarch64")
