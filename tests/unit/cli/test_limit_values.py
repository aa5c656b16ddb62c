"""The flags that limit RUN steps, as docker has them."""

from __future__ import annotations

import os

import pytest

from builder.commands import build
from builder.commands.flags import parse
from builder.commands.limit_values import duration
from builder.errors import UsageError
from builder.request import StepLimits
from builder.value import Value

MIB = 1 << 20


def limits_of(*words: str) -> StepLimits:
    return build.request_of(parse(build.FLAGS, [*words, "."]), {"PYBUILD_ROOT": "/store"}).limits


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ([], {}),
        (["-m", "64m"], {"memory": 64 * MIB}),
        (["--memory=1.5g"], {"memory": 1536 * MIB}),
        (["--memory=0"], {}),
        (["-m64m", "--memory-swap=64m"], {"memory": 64 * MIB, "memory_swap": 64 * MIB}),
        (["-m64m", "--memory-swap=-1"], {"memory": 64 * MIB, "memory_swap": -1}),
        (["--cpus=0.5"], {"cpu_period": 100000, "cpu_quota": 50000}),
        (["--cpus=.01"], {"cpu_period": 100000, "cpu_quota": 1000}),
        (["--cpus=0"], {}),
        (["--cpu-period=50000", "--cpu-quota=25000"], {"cpu_period": 50000, "cpu_quota": 25000}),
        (["--cpu-quota=-1"], {}),
        (["-c", "512"], {"cpu_shares": 512}),
        (["--cpuset-cpus=0", "--cpuset-mems=0"], {"cpuset_cpus": "0", "cpuset_mems": "0"}),
        (["--pids-limit=50"], {"pids": 50}),
        (["--pids-limit=-1"], {}),
        (["--cgroup-parent=/a//b/"], {"cgroup_parent": "/a/b"}),
        (["--cgroup-parent=a.slice"], {"cgroup_parent": "a.slice"}),
        (["--step-timeout=1m30s"], {"timeout": 90.0}),
    ],
)
def test_what_is_asked_for_is_a_limit(words: list[str], limits: dict[str, object]) -> None:
    assert limits_of(*words) == StepLimits(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory=much"], "--memory much: not a size"),
        (["--memory=4m"], "--memory 4m: the least is 6m"),
        (["--memory-swap=1g"], "--memory-swap needs --memory"),
        (["--memory=1g", "--memory-swap=512m"], "--memory-swap 512m: less than --memory 1g"),
        (["--cpus=two"], "--cpus two: not a number of processors"),
        (["--cpus=1e1"], "--cpus 1e1: not a number of processors"),
        (["--cpus=nan"], "--cpus nan: not a number"),
        (["--cpus=0.001"], "--cpus 0.001: it can be from 0.01 to"),
        (["--cpus=100000"], "--cpus 100000: it can be from 0.01 to"),
        (["--cpus=1", "--cpu-quota=2000"], "--cpus cannot be used together with --cpu-period or --cpu-quota"),
        (["--cpu-period=999"], "--cpu-period 999: not a number from 1000 to 1000000"),
        (["--cpu-quota=12"], "--cpu-quota 12: not a number from 1000"),
        (["--cpu-shares=1"], "--cpu-shares 1: not a number from 2 to 262144"),
        (["--cpu-shares=-1"], "--cpu-shares -1: not a number"),
        (["--cpuset-cpus=a"], "--cpuset-cpus a: not a list of numbers"),
        (["--cpuset-cpus=0-99999999999"], "--cpuset-cpus 0-99999999999: this machine has 0"),
        (["--cpuset-cpus=1-0"], "--cpuset-cpus 1-0: this machine has 0"),
        (["--cpuset-mems=4095"], "--cpuset-mems 4095: this machine has 0"),
        (["--pids-limit=-2"], "--pids-limit -2: not a number"),
        (["--cgroup-parent=../up"], "--cgroup-parent ../up: not the path of a cgroup"),
        (["--cgroup-parent=/"], "--cgroup-parent /: not the path of a cgroup"),
        (["--cgroup-parent=a\nb"], "not the path of a cgroup"),
        (["--step-timeout=90"], "--step-timeout 90: not a duration"),
        (["--step-timeout=-1s"], "--step-timeout -1s: not a duration"),
        (["--step-timeout=9999999h"], "--step-timeout 9999999h: more than a year"),
    ],
)
def test_what_means_nothing_is_told_with_its_flag(words: list[str], message: str) -> None:
    if not os.path.exists("/sys/devices/system/node/online") and "cpuset-mems" in words[0]:
        pytest.skip("this kernel tells of no memory nodes")
    with pytest.raises(UsageError) as caught:
        limits_of(*words)

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("0", 0.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("1h30m", 5400.0),
        ("2m", 120.0),
        ("1000us", 1e-3),
    ],
)
def test_durations_are_go_s(text: str, seconds: float) -> None:
    assert duration(text, "--step-timeout") == pytest.approx(seconds)


def test_no_limit_is_in_the_name_that_a_compile_is_remembered_under() -> None:
    from builder import memo
    from builder.prepare import read_texts

    plain = build.request_of(parse(build.FLAGS, ["."]), {"PYBUILD_ROOT": "/store"})
    limited = build.request_of(
        parse(build.FLAGS, ["-m64m", "--cpus=1", "--pids-limit=9", "--step-timeout=9s", "."]), {}
    )
    assert isinstance(plain, Value)
    assert plain != limited
    texts = read_texts(plain.but(context="fixtures/dockerfiles/hello"))
    assert memo.name_of(plain, texts, {}) == memo.name_of(limited, texts, {})


@pytest.mark.parametrize("flag", ["cpuset-cpus", "cpuset-mems", "cpus", "cpu-shares", "pids-limit", "jobs"])
def test_a_number_without_end_is_no_number(flag: str) -> None:
    """Python reads none of more than 4300 digits."""
    for value in ("9" * 5000, "0-" + "9" * 5000):
        with pytest.raises(UsageError, match=rf"^--{flag} "):
            limits_of(f"--{flag}={value}")
