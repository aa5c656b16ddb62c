"""What is set for registries, by host."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.oci.clients import PLAIN, Trust, tls_context
from builder.oci.hosts import Endpoint, Hosts, certificate_folders
from builder.settings import RegistrySettings


def test_a_registry_is_spoken_to_by_https_unless_it_is_here_or_set_otherwise() -> None:
    hosts = Hosts([RegistrySettings(host="plain.example:5000", http=True)], insecure=["Odd.example"])

    assert hosts.schemes("registry.example") == ("https",)
    assert hosts.schemes("plain.example:5000") == ("http",)
    assert hosts.schemes("odd.example") == ("https", "http")
    assert hosts.schemes("127.0.0.1:5000") == ("http", "https")


def test_a_registry_here_whose_authority_is_set_is_never_asked_without_tls() -> None:
    hosts = Hosts([RegistrySettings(host="localhost:5000", authorities=("/ca.pem",))])

    assert hosts.schemes("localhost:5000") == ("https",)


def test_one_registry_has_one_table() -> None:
    tables = [RegistrySettings(host=host) for host in ("docker.io", "index.docker.io")]

    with pytest.raises(UsageError, match=r"tables for docker\.io and index\.docker\.io"):
        Hosts(tables)


def test_mirrors_have_a_scheme_and_a_path_where_they_are_written_with_them() -> None:
    texts = ("mirror.example", "http://10.0.0.5:5000/hub/", "harbor.example/proxy/docker.io")
    hosts = Hosts([RegistrySettings(host="index.docker.io", mirrors=texts)])

    assert hosts.mirrors("docker.io") == (
        Endpoint("mirror.example"), Endpoint("10.0.0.5:5000", "hub", "http"),
        Endpoint("harbor.example", "proxy/docker.io"),
    )  # fmt: skip
    assert hosts.mirrors("quay.io") == ()


def test_folders_of_certificates_are_read_as_docker_and_podman_lay_them_out(tmp_path: Path) -> None:
    first, second = tmp_path / "first/registry.example:5000", tmp_path / "second/registry.example:5000"
    for folder, names in (
        (first, ("a.crt", "me.cert", "me.key", "lone.cert")),
        (second, ("b.crt", "x.cert", "x.key")),
    ):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    folders = [str(first.parent), str(tmp_path / "none"), str(second.parent)]

    trust = Hosts(folders=folders).trust("registry.example:5000")

    assert trust.authorities == (str(first / "a.crt"), str(second / "b.crt"))
    assert (trust.certificate, trust.key) == (str(first / "me.cert"), str(first / "me.key"))
    assert Hosts(folders=folders).trust("registry.example") == PLAIN


def test_folders_of_certificates_are_the_users_and_the_systems() -> None:
    assert certificate_folders({"HOME": "/home/me"}) == (
        "/home/me/.config/containers/certs.d", "/home/me/.config/docker/certs.d",
        "/etc/containers/certs.d", "/etc/docker/certs.d",
    )  # fmt: skip


@pytest.mark.hostile("CVE-2018-18074")
def test_what_is_shown_to_a_registry_is_shown_to_no_other_host() -> None:
    own = RegistrySettings(
        host="registry.example", authorities=("/ca",), certificate="/cert", key="/key", insecure=True
    )
    hosts = Hosts([own])

    assert hosts.trust_by("registry.example", "registry.example") == Trust(("/ca",), "/cert", "/key", False)
    assert hosts.trust_by("registry.example", "registry.example:5001") == Trust(("/ca",), checked=False)
    assert hosts.trust_by("registry.example", "elsewhere.example") == Trust(("/ca",))
    assert hosts.trust_by("docker.io", "elsewhere.example") == PLAIN


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    odd = tmp_path / "ca.pem"
    odd.write_text("no certificate")

    for trust in (Trust((str(odd),)), Trust((), str(odd), str(odd)), Trust((str(tmp_path / "none"),))):
        with pytest.raises(UsageError, match="cannot be used"):
            tls_context(trust)
