"""The scenes: commands over small stores that have between them every way of writing to a store.

Steps are chains of `&&`: a program of theirs that meets the fault has to be the step's failure.

In a scene's words `{context}`, `{out}` (a folder that is empty), `{layout}` (the base as an image layout),
`{archive}` (an image to load), `{kept}` (a folder that all points of the scene share) and `{registry}` (its
host) are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Words = tuple[str, ...]

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
PLAIN = ("build", "--progress=plain")
TOOLS = ("sh", "cat", "echo", "mkdir", "ln", "rm", "chmod", "true", "touch", "ls", "test", "sleep", "dd")
TAGGED = (*PLAIN, "-t", "made:1", "{context}")
AGAIN = (*PLAIN, "--no-cache", "-t", "made:1", "{context}")
FROM_LAYOUT = ("--build-context", "base=oci-layout://{layout}")

STEPS = """FROM base AS one
COPY files /files
RUN cat /files/a /files/b > /all && mkdir -p /d/e && ln /all /d/l && chmod 700 /d
FROM base
WORKDIR /srv
COPY --from=one /all /d /srv/
RUN rm /bin/ls && echo two > /srv/two
"""
COPIES = "FROM base\nWORKDIR /srv\nCOPY files /srv/files\nCOPY --chmod=600 files/a /srv/again\n"
ONE_RUN = "FROM base\nRUN echo one > /one\n"
MOUNTS = """FROM base AS other
COPY files /files
FROM base
RUN --mount=type=cache,target=/c --mount=type=bind,from=other,source=/files,target=/b \\
    --mount=type=tmpfs,target=/t --mount=type=bind,target=/ctx \\
    cat /b/a /ctx/files/a > /both && echo kept >> /c/kept
"""
FAILING = "FROM base\nCOPY files /files\nRUN echo begun > /begun && test -e /never\n"
WIDE = "\n".join(
    [f"FROM base AS s{n}\nRUN echo {n} > /s{n}\n" for n in range(3)]
    + ["FROM base", *(f"COPY --from=s{n} /s{n} /" for n in range(3)), ""]
)
FILES = {"files/a": "a\n", "files/b": "bb\n" * 40, "files/deep/c": "c" * 5000}


@dataclass(frozen=True)
class Scene:
    """One command and what is around it.

    files: of the context while the store is made ready by `before`; `changed` are written over them then.
    command: what meets the fault; `after`: normal commands that must go well then, by default the command
    itself. names: the images that they leave in the store, `made` what they write into {out}. `fails`: the
    command ends with an error of its own. `empty`: `before` begins without a store, not even with one that
    has the base; `bare`: and the store that it made is taken away again.
    """

    name: str
    dockerfile: str
    command: Words = TAGGED
    before: tuple[Words, ...] = ()
    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    changed: Mapping[str, str] = field(default_factory=dict)
    after: tuple[Words, ...] = ()
    names: tuple[str, ...] = ("made:1",)
    made: str = ""
    fails: bool = False
    empty: bool = False
    bare: bool = False
    needs: str = ""

    @property
    def then(self) -> tuple[Words, ...]:
        """The normal commands."""
        return self.after or (self.command,)


def _export(name: str, output: str, made: str, **more: str) -> Scene:
    words = (*PLAIN, "-t", "made:1", "-o", output, "{context}")
    return Scene(name, COPIES, words, before=(TAGGED,), names=(), made=made, changed=more)


STUBBORN = """FROM base AS one
RUN trap '' INT TERM HUP; sleep 0.4 & sleep 0.4; wait && dd if=/dev/zero of=/big bs=1M count=4
FROM base
COPY --from=one /big /big
RUN trap '' INT TERM HUP; sleep 0.3 && echo done > /done
"""

SCENES = (
    Scene("cold", STEPS, (*PLAIN, *FROM_LAYOUT, "-t", "made:1", "{context}"), empty=True),
    Scene("steps", STEPS),
    Scene("touch", STEPS, before=(TAGGED,), changed={"files/a": "changed\n"}),
    Scene("cached", STEPS, before=(TAGGED,)),
    Scene("renamed", STEPS, (*PLAIN, "-t", "other:1", "{context}"), before=(TAGGED,),
          names=("made:1", "other:1")),
    Scene("copies", COPIES),
    Scene("run", ONE_RUN),
    Scene("mounts", MOUNTS),
    Scene("wide", WIDE),
    Scene("limited", ONE_RUN, (*PLAIN, "-m", "64m", "-t", "made:1", "{context}")),
    Scene("stubborn", STUBBORN, (*PLAIN, "-m", "64m", "-t", "made:1", "{context}")),
    Scene("again", STEPS, AGAIN, before=(TAGGED,)),
    Scene("failing", FAILING, after=((*PLAIN, "-t", "made:1", "-f", "{context}/good", "{context}"),),
          files={**FILES, "good": ONE_RUN}, fails=True),
    Scene("layout", "FROM base\nCOPY files /f\n", (*PLAIN, *FROM_LAYOUT, "-t", "made:1", "{context}"),
          empty=True),
    Scene("pull", "ARG REGISTRY\nFROM $REGISTRY/base:1\nRUN echo pulled > /pulled\n",
          (*PLAIN, "--build-arg", "REGISTRY={registry}", "-t", "made:1", "{context}"), empty=True,
          needs="docker-registry"),
    _export("to-oci", "type=oci,dest={out}/made.tar", "made.tar"),
    _export("to-docker", "type=docker,dest={out}/made.tar", "made.tar"),
    _export("to-tar", "type=tar,dest={out}/made.tar", "made.tar"),
    _export("to-folder", "type=local,dest={out}/made", "made"),
    _export("to-zstd", "type=oci,dest={out}/made.tar,compression=zstd,force-compression=true", "made.tar",
            **{"files/a": "other\n"}),
    Scene("load", ONE_RUN, ("load", "-i", "{archive}"), after=(("load", "-i", "{archive}"), TAGGED),
          names=("made:1", "loaded:1")),
    Scene("tag", ONE_RUN, ("tag", "made:1", "other:1"), before=(TAGGED,), names=("made:1", "other:1")),
    Scene("rmi", ONE_RUN, ("rmi", "made:1"), before=(TAGGED,), after=(TAGGED,)),
    Scene("prune", STEPS, ("prune", "-f"), before=(TAGGED, AGAIN), after=(TAGGED,)),
    Scene("prune-all", STEPS, ("prune", "-a", "-f"), before=(TAGGED, ("rmi", "made:1")), after=(TAGGED,)),
    Scene("du", STEPS, ("du",), before=(TAGGED,), after=(TAGGED,)),
    Scene("cache-to", STEPS, (*TAGGED, "--cache-to", "type=local,dest={out}/cache,mode=max"),
          before=(TAGGED,)),
    Scene("cache-from", STEPS, (*TAGGED, *FROM_LAYOUT, "--cache-from", "type=local,src={kept}/cache"),
          before=((*TAGGED, *FROM_LAYOUT, "--cache-to", "type=local,dest={kept}/cache,mode=max"),),
          empty=True, bare=True),
    Scene("cache-in-registry", STEPS,
          (*TAGGED, "--cache-to", "type=registry,ref={registry}/cache:1,mode=max",
           "--cache-from", "type=registry,ref={registry}/cache:1"),
          needs="docker-registry"),
)  # fmt: skip
