"""What `compare.py` builds: contexts, Dockerfiles, what the images must hold, and the goals.

The contexts are the same bytes wherever they are made. In a Dockerfile `{base}` is the small busybox image
as the builder knows it, `{registry}` the local registry, and `{nonce}` a word that is new for each timed
build of a cold scenario.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MB = 1 << 20
WORDS = [b"the", b"quick", b"stone", b"house", b"of", b"seven", b"rivers", b"and", b"a", b"lantern", b"kept"]


@dataclass(frozen=True)
class Scenario:
    """of_buildkit, of_buildah: the goals, as ratios of wall time; expect: path -> how the file begins.

    cold: each timed build has a nonce of its own; empty: its store is emptied first, and holds the base again
    unless that is `pulled` in the build; export: how the layers of an archive are compressed, "" for none;
    touch: the file of the context that holds the nonce.
    """

    name: str
    about: str
    of_buildkit: float
    of_buildah: float
    dockerfile: str
    fill: Callable[[Path], None]
    expect: dict[str, str]
    cold: bool = False
    empty: bool = False
    pulled: bool = False
    export: str = ""
    touch: str = ""


# ── contexts ─────────────────────────────────────────────────────────────────────────────────────────────


def prose(rng: random.Random, size: int) -> bytes:
    """Text that compresses about as well as source code."""
    return b" ".join(rng.choices(WORDS, k=size // 4 + 1))[: size - 1] + b"\n"


def write_files(folder: Path, count: int, size: int, *, ignored_half: bool = False) -> None:
    """`count` files of `size` bytes, half prose and half noise, 128 to a folder; every other one a .log."""
    rng = random.Random(count)
    noise, text = rng.randbytes(MB), prose(rng, MB)
    for number in range(count):
        place = folder / f"part{number // 128:04}"
        if number % 128 == 0:
            place.mkdir(parents=True)
        suffix = ".log" if ignored_half and number % 2 else ".txt"
        start = number * 4057 % (MB - size)
        head = b"number %d\n" % number
        body = text[start : start + size // 2 - len(head)] + noise[start : start + size - size // 2]
        (place / f"file{number:06}{suffix}").write_bytes(head + body)


def lay_nothing(folder: Path) -> None:
    (folder / "empty").write_text("")


def lay_app(sources: int) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "requirements.txt").write_text("first==1.0\nsecond==2.0\n")
        write_files(folder / "src", sources, 2000)

    return fill


def lay_half_ignored(count: int) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / ".dockerignore").write_text("**/*.log\n")
        write_files(folder / "data", count, 5000, ignored_half=True)

    return fill


def lay_tree(count: int, size: int) -> Callable[[Path], None]:
    return lambda folder: write_files(folder / "tree", count, size)


def lay_seed(folder: Path) -> None:
    """20 MB: noise, prose, and bytes of which six bits are noise."""
    rng = random.Random(5)
    with open(folder / "seed", "wb") as file:
        for _ in range(7):
            file.write(rng.randbytes(MB))
            file.write(prose(rng, MB))
            file.write(bytes(byte & 0x3F for byte in rng.randbytes(MB - MB // 7)))


# ── Dockerfiles ──────────────────────────────────────────────────────────────────────────────────────────

TWELVE = """\
FROM {base} AS make
ARG KEY={nonce}
WORKDIR /work
COPY requirements.txt .
RUN mkdir /lib.d && cp requirements.txt /lib.d/
COPY src src
RUN cat src/*/*.txt > /work/program
FROM {base}
ENV STAGE=final
WORKDIR /srv
COPY --from=make /lib.d /lib.d
COPY --from=make /work/program /srv/program
RUN wc -c < program > length
RUN echo {nonce} > /nonce
"""
TOUCH = """\
FROM {base}
WORKDIR /srv
COPY requirements.txt .
RUN mkdir /lib.d && seq 20000 > /lib.d/all
COPY src src
RUN head -n 1 src/part0000/file000000.txt > /nonce
"""
CONTEXT = """\
FROM {base}
WORKDIR /srv
COPY . .
RUN (find data -name '*.txt'; echo; find data -name '*.log') | sort | uniq -c | wc -l > /lines
"""
BIG = """\
FROM {base}
COPY seed /seed
RUN mkdir /big && for n in $(seq 20); do cp /seed /big/$n; done && echo {nonce} > /nonce
"""
BETWEEN = """\
FROM {base} AS held
COPY tree /tree
FROM {base}
RUN echo {nonce} > /nonce
COPY --from=held /tree /tree
"""
PULL = "FROM {registry}/large:1\nRUN head -n 1 /tree/part0000/file000000.txt > /first\n"


def steps(count: int) -> str:
    """One step with the nonce behind as many others."""
    others = "".join(f"RUN echo {number} > /n{number}\n" for number in range(count))
    return "FROM {base}\nENV KEY={nonce}\n" + others + "RUN echo {nonce} > /nonce\n"


def sleepers(count: int) -> str:
    stages = [
        f"FROM {{base}} AS stage{n}\nENV KEY={{nonce}}\nRUN sleep 1; echo {{nonce}} > /n{n}\n"
        for n in range(count)
    ]
    return "".join([*stages, "FROM {base}\n", *(f"COPY --from=stage{n} /n{n} /\n" for n in range(count))])


def diamond(count: int) -> str:
    top = "FROM {base} AS top\nENV KEY={nonce}\nRUN echo {nonce} > /nonce\n"
    stages = [f"FROM top AS stage{n}\nRUN : {n}\n" for n in range(count)]
    return "".join(
        [top, *stages, "FROM {base}\n", *(f"COPY --from=stage{n} /nonce /n{n}\n" for n in range(count))]
    )


def deep(count: int) -> str:
    kinds = (
        "COPY requirements.txt /r{n}", "RUN echo {n} > /n{n}", "ENV V{n}={n}", "WORKDIR /w{n}",
        "RUN echo {n} >> /all", "LABEL l{n}={n}",
    )  # fmt: skip
    rest = [kinds[n % len(kinds)].replace("{n}", str(n)) for n in range(count - 2)]
    return "\n".join(["FROM {base}", "RUN echo {nonce} > /nonce", *rest]) + "\n"


NONCE = {"nonce": "{nonce}\n"}
APP = NONCE | {"srv/length": "80000\n"}

SCENARIOS = [
    Scenario("warm", "12 steps in two stages, all cached", 0.6, 0.056, TWELVE, lay_app(40), APP),
    Scenario("warm-export", "the same, and an OCI archive written", 0.7, 0.068, TWELVE, lay_app(40), APP,
             export="gzip"),
    Scenario("touch", "one of 2,000 source files changed, dependencies cached", 0.4, 0.113, TOUCH,
             lay_app(2000), NONCE | {"srv/src/part0015/file001999.txt": "number 1999\n"}, cold=True,
             touch="src/part0000/file000000.txt"),
    Scenario("run-1", "one cheap RUN, cold", 1.2, 0.53, steps(0), lay_nothing, NONCE, cold=True),
    Scenario("run-31", "31 cheap RUN steps, cold", 0.3, 0.077, steps(30), lay_nothing,
             NONCE | {"n29": "29\n"}, cold=True),
    Scenario("wide-16", "16 independent stages of sleep 1, joined", 0.75, 0.054, sleepers(16), lay_nothing,
             {"n0": "{nonce}\n", "n15": "{nonce}\n"}, cold=True),
    Scenario("diamond-98", "98 stages of one different RUN each, joined", 0.35, 0.024, diamond(98),
             lay_nothing, {"n0": "{nonce}\n", "n97": "{nonce}\n"}, cold=True),
    Scenario("context-20k-cold", "20,000 files, half ignored, empty store", 0.3, 0.499, CONTEXT,
             lay_half_ignored(20_000), {"lines": "10001\n"}, empty=True),
    Scenario("context-20k", "the same, nothing changed", 0.5, 0.091, CONTEXT, lay_half_ignored(20_000),
             {"lines": "10001\n"}),
    Scenario("context-100k", "100,000 files (500 MB), half ignored, nothing changed", 0.4, 0.019, CONTEXT,
             lay_half_ignored(100_000), {"lines": "50001\n"}),
    Scenario("big-gzip", "a RUN that writes 400 MB, exported with gzip", 0.4, 0.227, BIG, lay_seed, NONCE,
             cold=True, export="gzip"),
    Scenario("big-zstd", "the same with zstd", 0.5, 0.197, BIG, lay_seed, NONCE, cold=True, export="zstd"),
    Scenario("copy-from", "10,000 files, 300 MB, copied between stages", 0.4, 0.061, BETWEEN,
             lay_tree(10_000, 30_000), NONCE | {"tree/part0078/file009999.txt": "number 9999\n"}, cold=True),
    Scenario("deep-120", "120 instructions, all cached", 0.4, 0.012, deep(120), lay_app(40),
             NONCE | {"n115": "115\n"}),
    Scenario("pull", "a 170 MB base pulled from a local registry into an empty store, and one RUN", 0.5, 0.73,
             PULL, lay_nothing, {"first": "number 0\n"}, empty=True, pulled=True),
]  # fmt: skip

# The base of `pull`: 170 MB in files of 20 kB.
LARGE = "FROM busybox\nCOPY tree /tree\n"
lay_large = lay_tree(8_500, 20_000)
