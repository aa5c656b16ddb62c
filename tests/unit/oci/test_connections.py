"""The one way to registries."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from builder.errors import ImageError, UsageError
from builder.oci import reference
from builder.oci.auth import Login
from builder.oci.connections import open_transport
from builder.oci.registry import Registry
from builder.oci.spec import OCI_MANIFEST
from tests.support.fakeregistry import Answer, Asked, fake_registry
from tests.support.registry import free_port

MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()


def wants_password(asked: Asked) -> Answer:
    if "authorization" in asked.headers:
        return Answer(200, MANIFEST, {"content-type": OCI_MANIFEST})
    return Answer(401, headers={"www-authenticate": 'Basic realm="x"'})


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PYBUILD_CONFIG": str(tmp_path / "config.toml")}


async def test_it_has_the_users_logins_and_settings(tmp_path: Path, environ: dict[str, str]) -> None:
    async with fake_registry(wants_password) as mirror, fake_registry(wants_password) as fake:
        (tmp_path / "config.toml").write_text(f'[registries."{fake.host}"]\nmirrors = ["{mirror.host}"]\n')
        (tmp_path / ".docker").mkdir()
        auths = {
            host: {"auth": b64encode(host.encode() + b":p").decode()} for host in (mirror.host, fake.host)
        }
        (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": auths}))
        name = reference.parse(f"{fake.host}/app:1")

        async with Registry(open_transport(environ)) as registry:
            await registry.manifest(name)
        asked = [len(mirror.asked), len(fake.asked)]
        async with Registry(open_transport(environ, mirrors=False)) as registry:
            await registry.manifest(name)

    assert asked == [2, 0]
    assert [len(mirror.asked), len(fake.asked)] == [2, 2]


async def test_a_login_that_is_given_counts_before_what_is_kept(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "config.toml").touch()
    async with fake_registry(wants_password) as fake:
        transport = open_transport(environ, logins={fake.host: Login("given", "p")})
        async with Registry(transport) as registry:
            await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert fake.asked[-1].headers["authorization"] == "Basic " + b64encode(b"given:p").decode()


def test_a_configuration_file_that_is_no_good_is_an_error_at_once(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        open_transport(environ)


async def test_a_proxy_that_cannot_be_reached_is_told_from_the_registry_behind_it(
    environ: dict[str, str],
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    environ["HTTPS_PROXY"] = f"http://me:secret@{nobody}"

    async with Registry(open_transport({**environ, "PYBUILD_CONFIG": ""})) as registry:
        with pytest.raises(ImageError) as caught:
            await registry.manifest(reference.parse("registry.example/app:1"))

    assert caught.value.message == (
        f"registry registry.example is asked by a proxy, and the proxy {nobody} cannot be reached: "
        "connection refused"
    )
    assert caught.value.hint == "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
