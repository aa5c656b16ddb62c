"""Ways into registries, and that no login goes where it was not meant for."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import ImageError
from builder.oci import access, answers, reference
from builder.oci.auth import Credentials, Found, Login, check_realm
from builder.oci.hosts import Hosts
from builder.oci.registry import Registry
from builder.oci.spec import OCI_LAYER, OCI_MANIFEST, Descriptor
from builder.oci.transport import Transport
from builder.settings import RegistrySettings
from builder.store.blobs import BlobStore
from tests.support.fakeregistry import Answer, Asked, FakeRegistry, fake_registry
from tests.support.layouts import digest_of

CANARY = "canary-5e1f"
BASIC = "Basic " + b64encode(f"me:{CANARY}".encode()).decode()
MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
ME = Login("me", CANARY)
GOOD = Answer(200, MANIFEST, {"content-type": OCI_MANIFEST})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FIRST_PAUSE", 0.001)


def only(host: str, login: Login = ME) -> Credentials:
    """Credentials for one registry."""
    return lambda registry, _repository: Found(login if registry == host else None)


async def ask(fake: FakeRegistry, login: Login | None = ME, text: str = "team/app:1") -> bytes:
    credentials = only(fake.host, login) if login else only("")
    async with Registry(Transport(credentials)) as registry:
        return (await registry.manifest(reference.parse(f"{fake.host}/{text}"))).data


def wants_basic(asked: Asked) -> Answer:
    if asked.headers.get("authorization") == BASIC:
        return GOOD
    return Answer(401, headers={"www-authenticate": 'Basic realm="all"'})


def wants_token(
    give: Callable[[Asked], Answer] = lambda _asked: Answer(200, b'{"token":"abc"}'), realm: str = ""
) -> Callable[[Asked], Answer]:
    """A registry whose token service is at its own /token."""

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return give(asked)
        if asked.headers.get("authorization") == "Bearer abc":
            return GOOD
        where = realm or f"http://{asked.headers['host']}/token"
        return Answer(401, headers={"www-authenticate": f'Bearer realm="{where}",service="s"'})

    return answer


def sent_to(fake: FakeRegistry) -> str:
    """All that a server was sent, as one text."""
    return " ".join(f"{a.path} {a.headers} {a.body.decode('latin-1')}" for a in fake.asked)


def knows_canary(fake: FakeRegistry) -> bool:
    return any(secret in sent_to(fake) for secret in (CANARY, BASIC.removeprefix("Basic ")))


# ── what a registry asks for ─────────────────────────────────────────────────────────────────────────────


async def test_a_password_is_given_to_who_asks_for_it_and_then_at_once() -> None:
    async with fake_registry(wants_basic) as fake, Registry(Transport(only(fake.host))) as registry:
        for _ in range(2):
            await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert [asked.headers.get("authorization") for asked in fake.asked] == [None, BASIC, BASIC]


async def test_who_is_not_asked_gives_nothing() -> None:
    async with fake_registry(lambda _asked: GOOD) as fake:
        await ask(fake)

    assert not knows_canary(fake)


async def test_a_wrong_password_is_tried_once() -> None:
    refusing = Answer(401, headers={"www-authenticate": 'Basic realm="all"'})

    async with (
        fake_registry(lambda _asked: refusing) as fake,
        Registry(Transport(only(fake.host))) as registry,
    ):
        for _ in range(2):
            with pytest.raises(ImageError, match="denies access") as caught:
                await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert [asked.headers.get("authorization") for asked in fake.asked] == [None, BASIC, BASIC]
    assert f"asked as 'me', who is logged in at {fake.host}" in caught.value.notes
    assert CANARY not in str(caught.value)


async def test_who_has_no_login_is_told_how_to_get_one() -> None:
    async with fake_registry(wants_basic) as fake:
        with pytest.raises(ImageError, match="denies access") as caught:
            await ask(fake, None)

    assert f"pybuild login {fake.host}" in (caught.value.hint or "")


async def test_what_went_wrong_with_logins_is_told_to_who_is_refused() -> None:
    def trouble(_registry: str, _repository: str) -> Found:
        return Found(None, ("docker-credential-x is not installed",))

    async with fake_registry(wants_basic) as fake, Registry(Transport(trouble)) as registry:
        with pytest.raises(ImageError, match="denies access") as caught:
            await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert caught.value.notes == ("docker-credential-x is not installed",)


async def test_a_token_is_got_with_the_password_and_the_registry_sees_only_the_token() -> None:
    async with fake_registry(wants_token()) as fake:
        assert await ask(fake) == MANIFEST

    (token,) = [asked for asked in fake.asked if asked.path.startswith("/token")]
    assert token.headers["authorization"] == BASIC
    assert token.path == "/token?scope=repository%3Ateam%2Fapp%3Apull&service=s&account=me"
    rest = [asked.headers.get("authorization") for asked in fake.asked if asked is not token]
    assert rest == [None, "Bearer abc"]


async def test_an_identity_token_is_exchanged_by_post() -> None:
    async with fake_registry(wants_token()) as fake:
        assert await ask(fake, Login(identity_token=CANARY)) == MANIFEST

    (token,) = [asked for asked in fake.asked if asked.path.startswith("/token")]
    assert (token.method, token.path) == ("POST", "/token")
    assert token.body.decode() == (
        "service=s&grant_type=refresh_token&client_id=pybuild&scope=repository%3Ateam%2Fapp%3Apull"
        f"&refresh_token={CANARY}"
    )
    assert "authorization" not in token.headers


async def test_a_registrys_own_token_is_given_as_it_is() -> None:
    async with fake_registry(wants_token()) as fake:
        assert await ask(fake, Login(registry_token="abc")) == MANIFEST

    assert not any(path.startswith("/token") for path in fake.paths())


async def test_a_token_service_that_refuses_says_why() -> None:
    refusing = Answer(401, b'{"details":"incorrect username or password"}')

    async with fake_registry(wants_token(lambda _asked: refusing)) as fake:
        with pytest.raises(ImageError, match="denies access: incorrect username or password"):
            await ask(fake)

    assert len([path for path in fake.paths() if path.startswith("/token")]) == 1


async def test_a_busy_token_service_is_asked_again() -> None:
    replies = iter([Answer(503), Answer(429, headers={"retry-after": "0"}), Answer(200, b'{"token":"abc"}')])

    async with fake_registry(wants_token(lambda _asked: next(replies))) as fake:
        assert await ask(fake) == MANIFEST


async def test_a_token_service_that_stays_busy_is_no_refusal() -> None:
    busy = Answer(429, headers={"retry-after": "9999"})

    async with fake_registry(wants_token(lambda _asked: busy)) as fake:
        with pytest.raises(ImageError, match=r"token service of registry .* answers 429") as caught:
            await ask(fake)

    assert caught.value.code == "registry-busy"


async def test_many_that_want_the_same_token_get_it_once_between_them() -> None:
    async with fake_registry(wants_token()) as fake, Registry(Transport(only(fake.host))) as registry:
        name = reference.parse(f"{fake.host}/app:1")
        await asyncio.gather(*(registry.manifest(name) for _ in range(5)))

    assert len([path for path in fake.paths() if path.startswith("/token")]) == 1


async def test_a_token_that_has_ended_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(["one", "two"])
    valid = {"Bearer one"}

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return Answer(200, json.dumps({"token": next(given), "expires_in": 300}).encode())
        if asked.headers.get("authorization") in valid:
            return GOOD
        realm = f'Bearer realm="http://{asked.headers["host"]}/token"'
        return Answer(401, headers={"www-authenticate": realm})

    async with fake_registry(answer) as fake, Registry(Transport(only(fake.host))) as registry:
        name = reference.parse(f"{fake.host}/app:1")
        await registry.manifest(name)
        valid = {"Bearer two"}
        await registry.manifest(name)

    sent = [asked.headers.get("authorization") for asked in fake.asked if asked.path.startswith("/v2")]
    assert sent == [None, "Bearer one", "Bearer one", "Bearer two"]


async def test_a_token_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "EARLY", 0.0)

    async with fake_registry(wants_token()) as fake, Registry(Transport(only(fake.host))) as registry:
        for _ in range(2):
            await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert [path.partition("?")[0] for path in fake.paths()] == [
        "/v2/app/manifests/1", "/token", "/v2/app/manifests/1", "/token", "/v2/app/manifests/1",
    ]  # fmt: skip


async def test_a_token_is_never_taken_for_another_registry_or_scope() -> None:
    async with (
        fake_registry(wants_token()) as one,
        fake_registry(wants_token()) as other,
        Registry(Transport(only(one.host))) as registry,
    ):
        for fake, name in ((one, "a"), (one, "b"), (other, "a")):
            await registry.manifest(reference.parse(f"{fake.host}/{name}:1"))

    tokens = [path for fake in (one, other) for path in fake.paths() if path.startswith("/token")]
    assert len(tokens) == 3
    assert "Bearer" not in str(other.asked[0].headers)
    assert not knows_canary(other)


async def test_several_scopes_are_asked_for_in_one_request() -> None:
    scope = "repository:a:pull,push repository:b:pull"

    path = "a/blobs/uploads/?mount=x&from=b"

    async with (
        fake_registry(wants_token()) as fake,
        Transport(only(fake.host)) as transport,
        transport.open(fake.host, "POST", path, scope, body=b"") as response,
    ):
        assert response.status_code == 200

    assert (
        "/token?scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull&service=s&account=me"
        in fake.paths()
    )


async def test_a_login_for_a_part_of_a_registry_is_asked_for_by_repository() -> None:
    wanted: list[tuple[str, str]] = []

    def credentials(registry: str, repository: str) -> Found:
        wanted.append((registry, repository))
        return Found(Login("me", CANARY))

    async with fake_registry(wants_basic) as fake, Registry(Transport(credentials)) as registry:
        for name in ("team/app:1", "team/app:2", "other:1"):
            await registry.manifest(reference.parse(f"{fake.host}/{name}"))

    assert wanted == [(fake.host, "team/app"), (fake.host, "other")]


# ── where a login does not go ────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("CVE-2018-18074", "CVE-2023-32681", "CVE-2023-43804")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_does_not_take_a_password_to_another_origin(status: int) -> None:
    async with fake_registry(lambda _asked: GOOD) as elsewhere:

        def answer(asked: Asked) -> Answer:
            if asked.headers.get("authorization") != BASIC:
                return wants_basic(asked)
            return Answer(status, headers={"location": f"http://{elsewhere.host}/data"})

        async with fake_registry(answer) as fake:
            assert await ask(fake) == MANIFEST

    assert elsewhere.paths() == ["/data"]
    assert not knows_canary(elsewhere)
    assert {"authorization", "cookie", "proxy-authorization"}.isdisjoint(elsewhere.asked[0].headers)


@pytest.mark.hostile("CVE-2018-18074")
async def test_another_host_that_asks_for_a_password_after_a_redirect_gets_none() -> None:
    asking = Answer(401, headers={"www-authenticate": 'Basic realm="all"'})

    async with fake_registry(lambda _asked: asking) as elsewhere:

        def answer(asked: Asked) -> Answer:
            if asked.headers.get("authorization") != BASIC:
                return wants_basic(asked)
            return Answer(307, headers={"location": f"http://{elsewhere.host}/data"})

        async with fake_registry(answer) as fake:
            with pytest.raises(ImageError, match="denies access"):
                await ask(fake)

    assert len(elsewhere.asked) == 1
    assert not knows_canary(elsewhere)


@pytest.mark.hostile("CVE-2018-18074", "dotnet #54225")
async def test_another_host_that_names_a_realm_after_a_redirect_gets_no_login() -> None:
    async with fake_registry(wants_token()) as elsewhere:
        away = Answer(307, headers={"location": f"http://{elsewhere.host}/data"})
        async with fake_registry(lambda _asked: away) as fake:
            with pytest.raises(ImageError, match="denies access"):
                await ask(fake)

    assert elsewhere.paths() == ["/data"]
    assert not knows_canary(elsewhere)


@pytest.mark.hostile("CVE-2018-18074")
async def test_a_redirect_within_the_registry_keeps_the_password() -> None:
    def answer(asked: Asked) -> Answer:
        if asked.headers.get("authorization") != BASIC:
            return wants_basic(asked)
        return GOOD if asked.path == "/moved" else Answer(307, headers={"location": "/moved"})

    async with fake_registry(answer) as fake:
        assert await ask(fake) == MANIFEST


@pytest.mark.hostile("dotnet #54225")
async def test_a_realm_gets_the_login_of_its_registry_and_of_no_other() -> None:
    """Who serves a FROM names a realm: even that of a registry where the user is known."""
    async with fake_registry(lambda _asked: Answer(200, b'{"token":"abc"}')) as trusted:
        attacker = wants_token(realm=f"http://{trusted.host}/token")
        async with fake_registry(attacker) as fake, Registry(Transport(only(trusted.host))) as registry:
            await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert len(trusted.asked) == 1
    assert not knows_canary(trusted)
    assert not knows_canary(fake)


@pytest.mark.hostile("dotnet #54225", "CVE-2018-18074")
@pytest.mark.parametrize("login", [Login("me", CANARY), Login(identity_token=CANARY)])
async def test_a_realm_cannot_send_a_login_on_to_another_host(login: Login) -> None:
    async with fake_registry(lambda _asked: Answer(200, b'{"token":"abc"}')) as elsewhere:
        away = Answer(307, headers={"location": f"http://{elsewhere.host}/token"})
        async with fake_registry(wants_token(lambda _asked: away)) as fake:
            try:
                await ask(fake, login)
            except ImageError as error:
                assert error.code == "registry-denied"  # noqa: PT017 - both ends are good

    assert not knows_canary(elsewhere)


@pytest.mark.hostile("dotnet #54225")
@pytest.mark.parametrize(
    "host", ["127.0.0.1:2375", "localhost", "169.254.169.254", "[::1]", "2130706433", "[fe80::1]"]
)
def test_a_realm_of_another_machines_registry_does_not_lead_inward(host: str) -> None:
    for scheme in ("http", "https"):
        realm = f"{scheme}://{host}/latest/meta-data"
        with pytest.raises(ImageError, match="which is not allowed"):
            check_realm(realm, f"{scheme}://registry.example/v2/")
        check_realm(realm, f"{scheme}://registry.example/v2/", is_known=lambda known: known == host)
        check_realm(realm, f"{scheme}://127.0.0.1:5000/v2/")


@pytest.mark.hostile("dotnet #54225")
@pytest.mark.parametrize("realm", ["http://a b/", "http://a:99999/", "http://\x01/", "http://a\x7f/"])
async def test_a_realm_that_is_no_url_is_an_error(realm: str) -> None:
    async with fake_registry(wants_token(realm=realm)) as fake:
        with pytest.raises(ImageError) as caught:
            await ask(fake)

    assert caught.value.code in ("registry-auth", "registry-unreachable")
    assert len(fake.asked) == 1


@pytest.mark.hostile("dotnet #54225")
@pytest.mark.parametrize("way", ["realm", "redirect"])
async def test_a_registry_elsewhere_sends_nobody_to_this_machine(way: str) -> None:
    """A proxy stands for the network, so that the registry can have any name."""
    async with fake_registry(lambda _asked: GOOD) as inside:

        def answer(asked: Asked) -> Answer:
            assert asked.path.startswith("http://registry.example/")
            if way == "redirect":
                return Answer(307, headers={"location": f"http://{inside.host}/secret"})
            realm = f'Bearer realm="http://{inside.host}/secret"'
            return Answer(401, headers={"www-authenticate": realm})

        async with fake_registry(answer) as proxy:
            hosts = Hosts([RegistrySettings(host="registry.example", http=True)])
            environ = {"HTTP_PROXY": f"http://{proxy.host}"}
            async with Registry(Transport(only("registry.example"), hosts, environ)) as registry:
                with pytest.raises(ImageError, match=r"not allowed|this machine or its link"):
                    await registry.manifest(reference.parse("registry.example/app:1"))

    assert inside.asked == []


@pytest.mark.hostile("CVE-2020-15157")
async def test_a_foreign_layers_address_is_not_asked_and_gets_no_login(tmp_path: Path) -> None:
    layer = b"foreign"

    async with fake_registry(lambda _asked: Answer(200, layer)) as elsewhere:
        urls = (f"http://{elsewhere.host}/layer",)
        descriptor = Descriptor(OCI_LAYER, digest_of(layer), len(layer), urls=urls)

        def answer(asked: Asked) -> Answer:
            if asked.headers.get("authorization") != BASIC:
                return wants_basic(asked)
            return Answer(404)

        async with fake_registry(answer) as fake, Registry(Transport(only(fake.host))) as registry:
            name = reference.parse(f"{fake.host}/app:1")
            with pytest.raises(ImageError, match="is not in registry"):
                await registry.blob(name, descriptor, BlobStore(tmp_path), lambda *_: None)

    assert not knows_canary(elsewhere)
    assert elsewhere.asked == []


@pytest.mark.hostile("CVE-2018-18074")
async def test_an_upload_that_goes_on_elsewhere_has_no_login() -> None:
    scope = "repository:app:pull,push"

    async with (
        fake_registry(lambda _asked: Answer(202)) as elsewhere,
        fake_registry(wants_basic) as fake,
        Transport(only(fake.host)) as transport,
    ):
        async with transport.open(fake.host, "POST", "app/blobs/uploads/", scope, body=b"") as response:
            assert response.status_code == 200
        url = f"http://{elsewhere.host}/upload"
        async with transport.open(fake.host, "PATCH", url, scope, body=b"data") as response:
            assert response.status_code == 202

    assert not knows_canary(elsewhere)


async def test_a_401_without_end_is_asked_twice() -> None:
    async with fake_registry(wants_token(lambda _asked: Answer(200, b'{"token":"other"}'))) as fake:
        with pytest.raises(ImageError, match="denies access"):
            await ask(fake)

    assert len(fake.asked) == 3


# ── proxies and mirrors ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("CVE-2023-32681")
async def test_a_proxys_password_goes_to_the_proxy_alone() -> None:
    async with fake_registry(lambda _asked: GOOD) as direct:
        away = Answer(307, headers={"location": f"http://{direct.host}/data"})
        async with fake_registry(lambda _asked: away) as proxy:
            known = [RegistrySettings(host="registry.example", http=True), RegistrySettings(host=direct.host)]
            environ = {"HTTP_PROXY": f"http://me:{CANARY}@{proxy.host}"}
            async with Registry(Transport(hosts=Hosts(known), environ=environ)) as registry:
                await registry.manifest(reference.parse("registry.example/app:1"))

    assert proxy.asked[0].headers["proxy-authorization"] == BASIC
    assert direct.paths() == ["/data"]
    assert not knows_canary(direct)


@pytest.mark.hostile("CVE-2018-18074")
async def test_a_proxy_of_https_sees_the_name_and_not_the_login() -> None:
    async with fake_registry(lambda _asked: Answer(403)) as proxy:
        environ = {"HTTPS_PROXY": f"http://{proxy.host}"}
        async with Registry(Transport(only("registry.example"), environ=environ)) as registry:
            with pytest.raises(ImageError, match="the proxy refuses registry"):
                await registry.manifest(reference.parse("registry.example/app:1"))

    assert [(asked.method, asked.path) for asked in proxy.asked] == [("CONNECT", "registry.example:443")]
    assert not knows_canary(proxy)


async def test_a_mirror_is_asked_first_for_what_is_read_by_its_own_login() -> None:
    async with fake_registry(wants_basic) as mirror, fake_registry(lambda _asked: GOOD) as fake:
        hosts = Hosts([RegistrySettings(host=fake.host, mirrors=(f"{mirror.host}/hub",))])
        async with Transport(only(mirror.host), hosts) as transport:
            for method, path, scope in (
                ("GET", "app/manifests/1", "repository:app:pull"),
                ("HEAD", "app/blobs/x", "repository:app:pull,push"),
                ("PUT", "app/manifests/1", "repository:app:pull,push"),
            ):
                async with transport.open(fake.host, method, path, scope) as response:
                    assert response.status_code == 200

    assert mirror.paths() == [f"/v2/hub/app/manifests/1?ns={fake.host}"] * 2
    assert [asked.method for asked in fake.asked] == ["HEAD", "PUT"]
    assert not knows_canary(fake)


async def test_a_mirror_that_lacks_something_or_is_not_there_is_passed_over() -> None:
    async with (
        fake_registry(lambda _asked: Answer(404)) as mirror,
        fake_registry(lambda _asked: GOOD) as fake,
    ):
        mirrors = ("127.0.0.1:1", mirror.host)
        hosts = Hosts([RegistrySettings(host=fake.host, mirrors=mirrors)])
        async with Registry(Transport(hosts=hosts)) as registry:
            for _ in range(2):
                assert (await registry.manifest(reference.parse(f"{fake.host}/app:1"))).data == MANIFEST

    assert len(mirror.asked) == 2
    assert len(fake.asked) == 2


async def test_mirrors_that_were_of_no_use_are_told_when_the_registry_is_not_either() -> None:
    async with (
        fake_registry(lambda _asked: Answer(403)) as refuses,
        fake_registry(lambda _asked: Answer(404)) as fake,
    ):
        mirrors = ("127.0.0.1:1", refuses.host)
        hosts = Hosts([RegistrySettings(host=fake.host, mirrors=mirrors)])
        async with Registry(Transport(hosts=hosts)) as registry:
            with pytest.raises(ImageError, match="is not in registry") as caught:
                await registry.manifest(reference.parse(f"{fake.host}/app:1"))

    assert any("mirror 127.0.0.1:1 is of no use" in note for note in caught.value.notes)
    assert f"mirror {refuses.host} is of no use: it answers 403" in caught.value.notes


@pytest.mark.parametrize("location", ["http://xn--/", "http://localhost:99999/", "http://[::::]/"])
async def test_a_redirect_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    monkeypatch.setattr(answers, "FIRST_PAUSE", 0.001)
    async with fake_registry(lambda _asked: Answer(307, headers={"location": location})) as fake:
        with pytest.raises(ImageError, match=r"to no valid URL|Invalid URL in location"):
            await ask(fake)


@pytest.mark.parametrize("told", [10**400, 1e308, -(10**400), 0])
def test_a_token_lasts_no_longer_than_any_does(told: float) -> None:
    assert access.LEAST_SECONDS <= access._seconds(told) <= access.MOST_SECONDS
