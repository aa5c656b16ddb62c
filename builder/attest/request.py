"""What a build was asked for, as provenance tells it: options in BuildKit's words, its contexts, its texts.

No path of this machine is in it, and no address with credentials.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from builder import prepare
from builder.attest.materials import Choices, Chosen, Material, Materials, address_of, digest_set
from builder.attest.provenance import Invocation
from builder.attest.redaction import Redactor
from builder.compiler.remotes import WEB, read_context
from builder.ops.source import Git, Http

if TYPE_CHECKING:
    from builder.compiler.program import BaseImage, ImageRequest
    from builder.prepare import Texts
    from builder.request import BuildRequest


class Asked(msgspec.Struct, frozen=True):
    """One build's request. id: of the build's record; began: seconds; choices: see `materials`.

    context, origin: the address of a context that was fetched and what was there; file: the Dockerfile's
    address, where it has one of its own. locals: as of provenance.Invocation.
    """

    id: str
    began: float
    dockerfile_name: str
    dockerfile: str
    context: Git | Http | None
    origin: str
    file: str
    args: Mapping[str, str]
    build_args: Mapping[str, str]
    locals: tuple[str, ...]
    choices: Choices
    multi_platform: bool

    def invocation(self, ended: float) -> Invocation:
        """As the predicate tells of it."""
        architecture, variant = prepare.machine_platform()
        return Invocation(
            id=self.id,
            began=self.began,
            ended=ended,
            dockerfile_name=self.dockerfile_name,
            dockerfile=self.dockerfile,
            context=address_of(self.context) if self.context else "",
            context_digest=digest_set(self.origin),
            args=self.args,
            locals=self.locals,
            builder_platform="/".join(part for part in ("linux", architecture, variant) if part),
        )

    def completed(self, materials: Materials, redactor: Redactor) -> Materials:
        """The materials with what was fetched before there was a program."""
        fetched = []
        names = materials.locals
        if self.context:
            address = redactor.text(address_of(self.context, folder=False))
            fetched.append(Material(address, digest_set(self.origin)))
            names = tuple(name for name in names if name != "context")
        if self.file:
            fetched.append(Material(redactor.text(self.file), {}))
        known = {material.uri for material in materials.dependencies}
        added = [material for material in fetched if material.uri not in known]
        return msgspec.structs.replace(
            materials, dependencies=(*materials.dependencies, *added), locals=names
        )


def asked_of(
    request: BuildRequest,
    texts: Texts,
    bases: Mapping[ImageRequest, BaseImage],
    build_id: str,
    began: float,
) -> Asked:
    """What a request asks for. bases: what the compile was told of base images."""
    fetched = texts.layer is not None and request.context != "-"
    args = prepare.build_args(request, os.environ)
    by_address = (request.dockerfile or "").startswith(WEB)
    own = request.dockerfile is not None and (request.dockerfile == "-" or os.path.isabs(request.dockerfile))
    if not fetched:
        names: tuple[str, ...] = ("context",) if by_address else ("context", "dockerfile")
    else:
        names = ("dockerfile",) if own else ()
    return Asked(
        id=build_id,
        began=began,
        dockerfile_name=os.path.basename(texts.name) if os.path.isabs(texts.name) else texts.name,
        dockerfile=texts.dockerfile,
        context=read_context(request.context) if fetched else None,
        origin=texts.origin,
        file=request.dockerfile or "" if by_address else "",
        args=_options(request, args),
        build_args=args,
        locals=names,
        choices={
            (base.locator, told.digest): Chosen(str(base.platform), told.named)
            for base, told in bases.items()
        },
        multi_platform=request.multi_platform,
    )


def _options(request: BuildRequest, args: Mapping[str, str]) -> dict[str, str]:
    """The options as BuildKit's frontend has them; folders are told by their contexts' names."""
    found = {f"build-arg:{name}": value for name, value in args.items()}
    found |= {f"label:{name}": value for name, value in request.labels.items()}
    for name, source in request.contexts.items():
        found[f"context:{name}"] = source if is_address(source) else f"local:{name}"
    if request.no_cache or request.no_cache_filter:
        found["no-cache"] = ",".join(request.no_cache_filter)
    several = {
        "add-hosts": ",".join(f"{name}={address}" for name, address in request.add_hosts),
        "ulimit": ",".join(request.ulimits),
        "shm-size": str(request.shm_size or ""),
        "target": request.target,
        "hostname": request.hostname,
        "force-network-mode": request.network if request.network != "default" else "",
    }
    return found | {name: value for name, value in several.items() if value}


def is_address(source: str) -> bool:
    """Whether a named context is an address, and not a folder or a layout of this machine."""
    from builder.compiler.remotes import is_remote

    return source.startswith("docker-image://") or is_remote(source)
