"""The build's flags: docker buildx's names and meanings. On the path of a fully cached build."""

from __future__ import annotations

from builder.commands.flags import Flag
from builder.commands.store import GLOBAL_FLAGS

WHAT, WITH, OUT, SHOW, HOW = "What to build", "What it is given", "Where it goes", "What is shown", "How"
LIMIT = "What each RUN step may use"
FLAGS = (
    Flag(name="tag", short="t", kind="list", metavar="NAME[:TAG]", group=WHAT,
         help="name of the image (several)"),
    Flag(name="file", short="f", metavar="FILE", group=WHAT,
         help="the Dockerfile (default CONTEXT/Dockerfile; - is standard input)"),
    Flag(name="target", metavar="STAGE", group=WHAT, help="the stage to build (default: the last)"),
    Flag(name="platform", kind="list", metavar="OS/ARCH,...", group=WHAT,
         help="platforms of the image, as linux/amd64,linux/arm64 (several): an index, if there are several"),
    Flag(name="label", kind="list", metavar="KEY=VALUE", group=WHAT, help="add a label to the image"),
    Flag(name="call", metavar="METHOD", group=WHAT,
         help="do this instead of building, as text or with ,format=json: check (also as sarif), outline "
         "(what the target can be given), targets, graph (the steps, also as dot), ast"),
    Flag(name="check", kind="switch", group=WHAT, help="the same as --call=check"),
    Flag(name="plan", kind="switch", group=WHAT,
         help="build nothing: tell of each step whether it would run, why, and how long it took before"),
    Flag(name="assume", kind="list", metavar="PATH", group=WHAT,
         help="for --plan: as if this path or pattern of the context were changed, or added (several)"),
    Flag(name="format", metavar="FORMAT", group=WHAT, help="of --plan: text (default) or json"),
    Flag(name="build-arg", kind="list", metavar="NAME[=VALUE]", group=WITH,
         help="value of an ARG; without = the environment's"),
    Flag(name="build-context", kind="list", metavar="NAME=SOURCE", group=WITH,
         help="a further context: a folder, an address, oci-layout://DIR[:TAG|@DIGEST] or docker-image://NAME"),
    Flag(name="secret", kind="list", metavar="id=NAME,...", group=WITH,
         help="a secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]"),
    Flag(name="ssh", kind="list", metavar="ID[=SOCKET|KEY]", group=WITH,
         help="an ssh agent for RUN --mount=type=ssh and git: default is $SSH_AUTH_SOCK's; ID=SOCKET; or "
         "ID=KEY[,KEY...] for files with private keys"),
    Flag(name="allow", kind="list", metavar="ENTITLEMENT", group=WITH,
         help="grant network.host, security.insecure or device[=NAME[,alias=NAME]] to the steps that ask "
         "for it; buildx.local.delete to an output with mode=delete (several)"),
    Flag(name="cdi-spec-dir", kind="list", metavar="DIR", group=WITH,
         help="look for CDI specifications of devices there (default /etc/cdi, /var/run/cdi, "
         "/etc/buildkit/cdi)"),
    Flag(name="network", metavar="MODE", group=WITH,
         help="network of RUN: default, host, none, or one of its own: pasta, slirp4netns"),
    Flag(name="add-host", kind="list", metavar="NAME:IP", group=WITH, help="add a line to /etc/hosts of RUN"),
    Flag(name="shm-size", metavar="SIZE", group=WITH, help="size of /dev/shm in RUN (default 64m)"),
    Flag(name="ulimit", kind="list", metavar="NAME=SOFT[:HARD]", group=WITH, help="a resource limit of RUN"),
    Flag(name="memory", short="m", metavar="SIZE", group=LIMIT, help="memory of a step, as 512m or 2g"),
    Flag(name="memory-swap", metavar="SIZE", group=LIMIT,
         help="memory and swap together; -1 is unlimited swap (default: twice --memory)"),
    Flag(name="cpus", metavar="NUMBER", group=LIMIT, help="processors' time, as 1.5"),
    Flag(name="cpu-period", metavar="MICROSECONDS", group=LIMIT, help="of the quota (default 100000)"),
    Flag(name="cpu-quota", metavar="MICROSECONDS", group=LIMIT, help="processors' time in each period"),
    Flag(name="cpu-shares", short="c", metavar="NUMBER", group=LIMIT,
         help="weight beside others that want processors (1024 is usual)"),
    Flag(name="cpuset-cpus", metavar="LIST", group=LIMIT, help="processors that may be used, as 0-2,4"),
    Flag(name="cpuset-mems", metavar="LIST", group=LIMIT, help="memory nodes that may be used"),
    Flag(name="pids-limit", metavar="NUMBER", group=LIMIT, help="processes and threads"),
    Flag(name="cgroup-parent", metavar="PATH", group=LIMIT,
         help="make the steps' cgroups below this one"),
    Flag(name="step-timeout", metavar="DURATION", group=LIMIT,
         help="stop a step that takes longer, as 90s or 1h30m"),
    Flag(name="on-failure", metavar="shell", group=HOW,
         help="open a shell where a RUN step has failed (see also `pybuild debug`)"),
    Flag(name="isolation", metavar="RUNG", group=HOW,
         help="how RUN is isolated: auto (default), root, userns, single-uid, or chroot, "
         "which is no isolation; see `pybuild doctor`"),
    Flag(name="runtime", metavar="NAME|PATH", group=HOW,
         help="have steps carried out by an OCI runtime: runc, crun or a path (default: pybuild itself)"),
    Flag(name="require-isolation", metavar="full", group=HOW,
         help="fail rather than run a step with anything less than full isolation"),
    Flag(name="output", short="o", kind="list", metavar="type=...,...", group=OUT,
         help="type=oci|docker|tar|local,dest=PATH, or type=registry, instead of the store; a bare folder is "
         "local, dest=- is standard output (several)"),
    Flag(name="annotation", kind="list", metavar="[TYPE:]KEY=VALUE", group=OUT,
         help="annotate the image; TYPE is manifest (default), manifest-descriptor, index or "
         "index-descriptor, or several with commas, each for one platform with [OS/ARCH] behind (several)"),
    Flag(name="squash", kind="switch", group=OUT,
         help="make one layer of all that are above the base image"),
    Flag(name="load", kind="switch", group=OUT, help="put it into the local store too"),
    Flag(name="push", kind="switch", group=OUT,
         help="bring it to the registries of its names: the same as --output type=registry"),
    Flag(name="provenance", metavar="true|mode=...", group=OUT,
         help="tell beside the image how it was built, as SLSA provenance: mode=min or max (default), "
         "version=v1 (default) or v0.2"),
    Flag(name="sbom", metavar="true", group=OUT,
         help="tell beside the image which packages are in it, as SPDX"),
    Flag(name="attest", kind="list", metavar="type=...,...", group=OUT,
         help="the same: type=provenance or type=sbom, with what these take (several)"),
    Flag(name="attest-as", metavar="FORM", group=OUT,
         help="index (default): in an index with the image; referrers: artifacts that refer to it"),
    Flag(name="sign", metavar="KEY", group=OUT,
         help="sign the image as cosign does, with an ECDSA key in PEM form ($COSIGN_PASSWORD opens it)"),
    Flag(name="iidfile", metavar="FILE", group=OUT, help="write the digest of the image's manifest there"),
    Flag(name="metadata-file", metavar="FILE", group=OUT, help="write the result there, as JSON"),
    Flag(name="progress", metavar="MODE", group=SHOW, help="auto, tty, plain, rawjson, quiet or none"),
    Flag(name="quiet", short="q", kind="switch", group=SHOW, help="print only the digest of the image"),
    Flag(name="no-cache", kind="switch", group=HOW, help="run every step again"),
    Flag(name="no-cache-filter", kind="list", metavar="STAGE", group=HOW,
         help="run these stages' steps again"),
    Flag(name="reproducible", kind="switch", group=HOW,
         help="give files times no later than SOURCE_DATE_EPOCH (default 1980-01-01), and do not run what "
         "stands on a step that gives the same again"),
    Flag(name="pull", kind="switch", group=HOW, help="ask the registries for newer base images"),
    Flag(name="locked", kind="switch", group=HOW,
         help="fail where <Dockerfile>.lock does not say what is meant (`pybuild lock` writes it)"),
    Flag(name="offline", kind="switch", group=HOW,
         help="open no connection to registries, servers and caches: use what the store has (the network of "
         "RUN is --network's)"),
    Flag(name="cache-from", kind="list", metavar="NAME|type=...", group=HOW,
         help="take steps from a cache elsewhere: NAME in a registry, type=registry,ref=NAME or "
         "type=local,src=DIR (several)"),
    Flag(name="cache-to", kind="list", metavar="NAME|type=...", group=HOW,
         help="put the steps there: NAME in a registry, type=registry,ref=NAME[,mode=max], "
         "type=local,dest=DIR or type=inline, in the image (several)"),
    Flag(name="jobs", metavar="N", group=HOW, help="run at most so many steps at the same time"),
    *GLOBAL_FLAGS,
    # Accepted, and without a meaning here.
    *(Flag(name=name, kind="switch") for name in ("rm", "force-rm", "compress")),
    Flag(name="builder"),
    Flag(name="security-opt", kind="list"),
    Flag(name="print"),  # what --call was called first
    # What docker has and this version does not must not be taken for mistyped.
    *(Flag(name=name, kind="list") for name in (
        "policy", "resource")),
)  # fmt: skip
LIMITS = tuple(flag.name for flag in FLAGS if flag.group == LIMIT)
UNAVAILABLE = (
    "policy", "resource",
)  # fmt: skip
