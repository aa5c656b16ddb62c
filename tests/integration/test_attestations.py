"""Attestations and signatures of images, by the whole command: how they are stored, read and kept."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import lay
from tests.support.machine import Pybuild, needs, needs_root, run
from tests.support.peers import Podman
from tests.support.registry import running_registry
from tests.support.web import Answer, Repository, Web

pytestmark = [
    pytest.mark.root,
    pytest.mark.peers,
    needs_root(),
    needs("busybox", "skopeo", "umoci", "openssl"),
]
CANARY = "canary-of-a-secret"
SLSA, SPDX = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"
PLAIN = "FROM busybox\nRUN echo made > /made\nCOPY status /var/lib/dpkg/status\n"
STATUS = "Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\n"
FILES = {"status": STATUS}
BOTH = ("--provenance=true", "--sbom=true")
Json = dict[str, Any]


class Layout:
    """A folder with blobs and an index.json: the store itself, or an output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self) -> list[Json]:
        found: list[Json] = json.loads((self.folder / "index.json").read_text())["manifests"]
        return found

    def names(self) -> list[str]:
        key = "org.opencontainers.image.ref.name"
        return [row["annotations"][key] for row in self.rows() if key in row.get("annotations", {})]

    def row(self, name: str) -> Json:
        key = "org.opencontainers.image.ref.name"
        return next(row for row in self.rows() if row.get("annotations", {}).get(key) == name)

    def blob(self, digest: str) -> bytes:
        return (self.folder / "blobs" / digest.replace(":", "/")).read_bytes()

    def document(self, digest: str) -> Json:
        found: Json = json.loads(self.blob(digest))
        return found

    def statements(self, manifest: Json) -> dict[str, Json]:
        """Predicate type -> statement, of an attestation manifest or a referrer."""
        told = [self.document(layer["digest"]) for layer in manifest["layers"]]
        return {statement["predicateType"]: statement for statement in told}

    def attested(self, name: str) -> tuple[list[Json], list[Json]]:
        """The rows of an index that are images, and those that are attestations."""
        rows = self.document(self.row(name)["digest"])["manifests"]
        told = [row for row in rows if row["platform"]["os"] == "unknown"]
        return [row for row in rows if row not in told], told


@pytest.fixture
def store(pybuild: Pybuild) -> Layout:
    return Layout(pybuild.root)


@pytest.fixture
def plain(context: Path) -> Path:
    return lay(context, PLAIN, FILES)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "cosign.key"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
    return path


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "repositories").running() as web:
        yield web


def verify(layout: Layout, manifest: Json, key: Path) -> Json:
    """Verify the first signature of a manifest by openssl, as the README tells; the payload."""
    layer = manifest["layers"][0]
    folder = key.parent
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    (folder / "signature").write_bytes(signature)
    (folder / "payload").write_bytes(layout.blob(layer["digest"]))
    run(["openssl", "ec", "-in", key, "-pubout", "-out", folder / "cosign.pub"])
    words = ["-sha256", "-verify", folder / "cosign.pub", "-signature", folder / "signature"]
    assert "Verified OK" in run(["openssl", "dgst", *words, folder / "payload"]).stdout
    payload: Json = json.loads((folder / "payload").read_bytes())
    return payload


# ── in an index ──────────────────────────────────────────────────────────────────────────────────────────


def test_without_being_asked_there_is_none(pybuild: Pybuild, store: Layout, plain: Path) -> None:
    pybuild.build(plain, "-t", "app:1")
    pybuild.build(plain, "-t", "app:2", "--provenance=false", "--sbom=false")

    kinds = {store.row(name)["mediaType"] for name in ("app:1", "app:2")}
    assert kinds == {"application/vnd.oci.image.manifest.v1+json"}


def test_they_are_stored_as_buildkit_stores_them(pybuild: Pybuild, store: Layout, plain: Path) -> None:
    pybuild.build(plain, "-t", "app:1", *BOTH)

    (image,), (told,) = store.attested("app:1")
    assert told["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert told["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = store.document(told["digest"])
    assert manifest["subject"]["digest"] == image["digest"]
    statements = store.statements(manifest)
    assert list(statements) == [SPDX, SLSA]
    subject = {"sha256": image["digest"].removeprefix("sha256:")}
    for layer, statement in zip(manifest["layers"], statements.values(), strict=True):
        assert layer["annotations"] == {"in-toto.io/predicate-type": statement["predicateType"]}
        assert statement["subject"] == [
            {"name": "pkg:docker/app@1?platform=linux%2Famd64", "digest": subject},
        ]
    packages = statements[SPDX]["predicate"]["packages"]
    assert [package["name"] for package in packages] == ["app:1", "libc6"]
    (evidence,) = statements[SPDX]["predicate"]["files"]
    layers = [layer["digest"] for layer in store.document(image["digest"])["layers"]]
    assert evidence["comment"] == f"layerID: {layers[-1]}"
    base = store.row("busybox:latest")["digest"].removeprefix("sha256:")
    (material,) = statements[SLSA]["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert material["digest"] == {"sha256": base}


def test_an_images_config_can_be_in_place_of_an_artifact(
    pybuild: Pybuild, plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "layout"
    output = f"type=oci,tar=false,oci-artifact=false,dest={out}"
    pybuild.build(plain, "-t", "app:1", "--provenance=mode=min", "-o", output)

    _, (told,) = Layout(out).attested("1")
    manifest = Layout(out).document(told["digest"])
    config = Layout(out).document(manifest["config"]["digest"])
    assert "subject" not in manifest
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]


@needs("podman", "runc")
def test_such_an_image_is_read_as_before(
    pybuild: Pybuild, plain: Path, podman: Podman, tmp_path: Path
) -> None:
    archives = {kind: tmp_path / f"{kind}.tar" for kind in ("oci", "docker")}
    pybuild.build(plain, "-t", "app:1", *BOTH)
    for kind, dest in archives.items():
        pybuild.build(plain, "-t", "app:1", *BOTH, "-o", f"type={kind},dest={dest}")
    assert json.loads(run(["skopeo", "inspect", f"oci:{pybuild.root}:app:1"]).stdout)["Os"] == "linux"
    assert podman.run(podman.pull(pybuild.root, "app:1"), "cat", "/made") == "made\n"
    for archive in archives.values():
        podman("load", "-i", str(archive))
        assert podman.run("docker.io/library/app:1", "cat", "/made") == "made\n"
    run(["skopeo", "copy", "--all", f"oci-archive:{archives['oci']}", f"oci:{tmp_path}/copy:app"])
    assert len(Layout(tmp_path / "copy").attested("app")[1]) == 1


def test_it_is_a_base_image_and_listed_inspected_pruned_and_checked_as_before(
    pybuild: Pybuild, store: Layout, plain: Path, tmp_path: Path
) -> None:
    pybuild.build(plain, "-t", "app:1", *BOTH)
    pybuild.build(lay(tmp_path / "child", "FROM app:1\nRUN test -e /made\n"), "-t", "child:1")

    assert pybuild("images", "-q", "app").stdout.count("\n") == 1
    assert json.loads(pybuild("inspect", "app:1").stdout)[0]["Os"] == "linux"
    pybuild("prune", "-f")
    pybuild("fsck")
    assert len(store.statements(store.document(store.attested("app:1")[1][0]["digest"]))) == 2


def test_a_build_of_which_all_is_cached_tells_of_the_very_same_image(
    pybuild: Pybuild, store: Layout, plain: Path
) -> None:
    pybuild.build(plain, "-t", "plain:1")
    pybuild.build(plain, "-t", "app:1", *BOTH)
    first = store.attested("app:1")
    again = pybuild.build(plain, "-t", "app:1", *BOTH).stderr
    second = store.attested("app:1")

    assert again.count("CACHED") == 3
    assert first[0] == second[0]
    assert first[0][0]["digest"] == store.row("plain:1")["digest"]
    sboms = [store.statements(store.document(rows[1][0]["digest"]))[SPDX] for rows in (first, second)]
    assert sboms[0] == sboms[1]


def test_each_platform_has_its_own(pybuild: Pybuild, store: Layout, context: Path) -> None:
    lay(context, "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /own\n", {"amd64": "a", "arm64": "b"})
    pybuild.build(context, "-t", "app:1", "--platform=linux/amd64,linux/arm64", *BOTH)

    rows = store.document(store.row("app:1")["digest"])["manifests"]
    images, told = store.attested("app:1")
    assert rows == images + told
    for image, row in zip(images, told, strict=True):
        assert row["annotations"]["vnd.docker.reference.digest"] == image["digest"]
        statement = store.statements(store.document(row["digest"]))[SLSA]
        architecture = image["platform"]["architecture"]
        (subject,) = statement["subject"]
        assert subject["name"] == f"pkg:docker/app@1?platform=linux%2F{architecture}"
        assert subject["digest"]["sha256"] == image["digest"].removeprefix("sha256:")


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hostile("CVE-2023-26054")
def test_no_secret_and_no_credential_is_in_any_of_them(
    pybuild: Pybuild, store: Layout, web: Web, context: Path
) -> None:
    web.answers["/file"] = Answer(b"data")
    web.answers[f"/signed?token={CANARY}"] = Answer(b"data")
    host = web.url.removeprefix("http://")
    text = f"""\
FROM busybox
ARG API_TOKEN
ARG OTHER_KEY={CANARY}-2
ADD http://user:{CANARY}@{host}/file http://{host}/signed?token={CANARY} /
RUN --mount=type=secret,id=pass,env=PASS test $PASS = {CANARY}-3
ENV COPIED=$API_TOKEN
RUN echo {CANARY} > /dev/null
"""
    lay(context, text)
    flags = ["--build-arg", f"API_TOKEN={CANARY}-1", "--secret", "id=pass,env=PASS"]
    done = pybuild.build(context, "-t", "app:1", *BOTH, *flags, env={"PASS": f"{CANARY}-3"}, check=False)
    assert done.returncode == 0, done.stderr

    _, (told,) = store.attested("app:1")
    (provenance,) = [
        s for kind, s in store.statements(store.document(told["digest"])).items() if kind == SLSA
    ]
    data = provenance["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"][0][
        "data"
    ]
    shown = json.dumps(provenance) + base64.b64decode(data).decode()
    for number in (1, 2, 3):
        assert f"{CANARY}-{number}" not in shown
    assert f"user:{CANARY}" not in shown
    assert f"token={CANARY}" not in shown
    request = provenance["predicate"]["buildDefinition"]["externalParameters"]["request"]
    assert request["secrets"] == [{"id": "pass", "optional": True}]
    uris = [one["uri"] for one in provenance["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert f"http://***@{host}/file" in uris


def test_what_is_fetched_is_told_by_what_was_there(
    pybuild: Pybuild, web: Web, tmp_path: Path, context: Path
) -> None:
    repository = Repository(web, tmp_path / "work")
    commit = repository.commit({"Dockerfile": f"FROM scratch\nADD {web.url}/file /\n"}, branch="main")
    web.answers["/file"] = Answer(b"data")
    address = f"{repository.url}#main"
    out = tmp_path / "out"
    pybuild.build(address, "--provenance=true", "-o", str(out))

    predicate = json.loads((out / "provenance.json").read_text())["predicate"]
    definition = predicate["buildDefinition"]
    source = definition["externalParameters"]["configSource"]
    assert source == {"uri": address, "digest": {"sha1": commit}, "path": "Dockerfile"}
    sha256 = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    assert definition["resolvedDependencies"] == [
        {"uri": f"{web.url}/file", "digest": {"sha256": sha256}},
        {"uri": address, "digest": {"sha1": commit}},
    ]
    assert "locals" not in definition["externalParameters"]["request"]
    assert predicate["runDetails"]["metadata"]["buildkit_hermetic"] is True


def test_a_repository_is_told_in_one_form_and_as_a_material_without_the_folder(
    pybuild: Pybuild, web: Web, tmp_path: Path
) -> None:
    repository = Repository(web, tmp_path / "work")
    text = f"FROM scratch\nADD {repository.url}#main:sub /\n"
    commit = repository.commit({"sub/Dockerfile": text}, branch="main")
    out = tmp_path / "out"
    pybuild.build(f"{repository.url}?ref=main&subdir=sub", "--provenance=true", "-o", str(out))

    definition = json.loads((out / "provenance.json").read_text())["predicate"]["buildDefinition"]
    source = definition["externalParameters"]["configSource"]
    assert source["uri"] == f"{repository.url}#main:sub"
    assert definition["resolvedDependencies"] == [
        {"uri": f"{repository.url}#main", "digest": {"sha1": commit}}
    ]


def test_what_the_sbom_cannot_read_is_said(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nCOPY Packages /var/lib/rpm/\n", {"Packages": "no database"})
    out = tmp_path / "out"
    done = pybuild.build(context, "--sbom=true", "-o", str(out))

    said = "the packages of rpm could not be read: it is no Berkeley DB"
    assert f"SBOM: {said}" in done.stderr
    told = json.loads((out / "sbom.spdx.json").read_text())["predicate"]
    assert said in told["comment"]


def test_the_metadata_file_has_the_provenance_without_steps_and_times(
    pybuild: Pybuild, plain: Path, tmp_path: Path
) -> None:
    told = tmp_path / "metadata.json"
    for version in ("v1", "v0.2"):
        pybuild.build(plain, "-t", "app:1", f"--provenance=version={version}", "--metadata-file", str(told))

        found = json.loads(told.read_text())
        assert found["containerimage.descriptor"]["mediaType"].endswith("index.v1+json")
        provenance = found["buildx.build.provenance"]
        assert sorted(provenance) == ["buildType", "builder", "invocation", "materials"]  # SLSA's v0.2
        assert provenance["materials"][0]["uri"].startswith("pkg:docker/busybox@latest")
        assert provenance["invocation"]["configSource"]["entryPoint"] == "Dockerfile"


# ── as files ─────────────────────────────────────────────────────────────────────────────────────────────


def test_tar_and_local_outputs_have_them_as_files_about_all_others(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    lay(context, "FROM scratch\nCOPY a /dir/a\n", {"a": "data"})
    out, archive = tmp_path / "out", tmp_path / "out.tar"
    prefixed = f"type=tar,dest={archive},attestation-prefix=about-"
    pybuild.build(context, *BOTH, "-o", str(out), "-o", prefixed)

    assert sorted(path.name for path in out.iterdir()) == ["dir", "provenance.json", "sbom.spdx.json"]
    for name, kind in (("provenance.json", SLSA), ("sbom.spdx.json", SPDX)):
        told = json.loads((out / name).read_text())
        assert told["predicateType"] == kind
        sha256 = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
        assert told["subject"] == [{"name": "dir/a", "digest": {"sha256": sha256}}]
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["about-provenance.json", "about-sbom.spdx.json", "dir", "dir/a"]


def test_a_file_of_the_image_is_not_replaced_by_one(pybuild: Pybuild, context: Path, tmp_path: Path) -> None:
    lay(context, "FROM scratch\nCOPY a /provenance.json\n", {"a": "mine"})
    out = tmp_path / "out"

    refused = pybuild.build(context, "--provenance=true", "-o", str(out), check=False)
    pybuild.build(context, "--provenance=inline-only=true", "-o", str(out))

    assert refused.returncode == 1
    assert "/provenance.json" in refused.stderr
    assert "attestation-prefix" in refused.stderr
    assert (out / "provenance.json").read_text() == "mine"


@pytest.mark.parametrize(("split", "names"), [
    ("", ["linux_amd64/provenance.json", "linux_arm64/provenance.json"]),
    (",platform-split=false", ["provenance.linux_amd64.json", "provenance.linux_arm64.json"]),
])  # fmt: skip
def test_files_of_several_platforms_stay_apart(
    pybuild: Pybuild, context: Path, tmp_path: Path, split: str, names: list[str]
) -> None:
    lay(context, "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH/a\n", {"a": "data"})
    out = tmp_path / "out"
    words = ["--provenance=mode=min", "--platform=linux/amd64,linux/arm64"]
    pybuild.build(context, *words, "-o", f"type=local,dest={out}{split}")

    found = sorted(str(path.relative_to(out)) for path in out.rglob("provenance*"))
    assert found == names


# ── referrers and signatures ─────────────────────────────────────────────────────────────────────────────


def test_referrers_stand_beside_the_image_which_is_no_index(
    pybuild: Pybuild, store: Layout, plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "layout"
    words = ["-t", "app:1", *BOTH, "--attest-as=referrers"]
    pybuild.build(plain, *words, "-o", f"type=oci,tar=false,dest={out}")
    pybuild.build(plain, *words)

    layout = Layout(out)
    image, *others = layout.rows()
    assert image["platform"]["os"] == "linux"
    assert [row["annotations"]["in-toto.io/predicate-type"] for row in others] == [SPDX, SLSA]
    for row in others:
        referrer = layout.document(row["digest"])
        assert referrer["subject"]["digest"] == image["digest"]
        assert row["artifactType"] == referrer["artifactType"] == "application/vnd.in-toto+json"
    run(["umoci", "unpack", "--image", f"{out}:1", tmp_path / "bundle"])
    assert (tmp_path / "bundle/rootfs/made").read_text() == "made\n"
    tag = image["digest"].replace(":", "-")
    listed = store.document(store.row(f"app:{tag}")["digest"])["manifests"]
    assert [row["artifactType"] for row in listed] == ["application/vnd.in-toto+json"] * 2


def test_a_signature_is_verified_by_openssl(
    pybuild: Pybuild, store: Layout, plain: Path, key: Path, tmp_path: Path
) -> None:
    pybuild.build(plain, "-t", "host.x/me/app:1", "--sign", str(key))

    digest = store.row("host.x/me/app:1")["digest"]
    manifest = store.document(store.row(f"host.x/me/app:{digest.replace(':', '-')}.sig")["digest"])
    payload = verify(store, manifest, key)
    assert payload["critical"]["image"]["docker-manifest-digest"] == digest
    assert payload["critical"]["identity"]["docker-reference"] == "host.x/me/app"


def test_what_is_beside_an_image_is_not_listed_and_goes_with_it(
    pybuild: Pybuild, store: Layout, plain: Path, key: Path
) -> None:
    words = [*BOTH, "--attest-as=referrers", "--sign", str(key)]
    pybuild.build(plain, "-t", "app:1", "-t", "app:2", *words)
    assert len(store.names()) == 5
    assert pybuild("images", "app").stdout.count("\napp ") == 2

    pybuild("rmi", "app:2")
    assert len(store.names()) == 4
    pybuild("rmi", "app:1")
    assert store.names() == ["busybox:latest"]
    pybuild("fsck")


def test_what_is_beside_an_image_that_lost_its_name_is_pruned_with_it(
    pybuild: Pybuild, store: Layout, plain: Path, key: Path
) -> None:
    pybuild.build(plain, "-t", "app:1", "--sign", str(key))
    pybuild("prune", "-f")
    assert len(store.names()) == 3

    lay(plain, PLAIN + "RUN echo more > /more\n")
    pybuild.build(plain, "-t", "app:1")
    pybuild("prune", "-f", "-a")

    assert sorted(store.names()) == ["app:1", "busybox:latest"]


@pytest.mark.parametrize(("words", "message"), [
    (["-t", "app:1", "--sign", "KEY", "-o", "OUT"], "--sign needs an image"),
    (["--sign", "KEY"], "needs a name"),
    (["-t", "app:1", "--sign", "KEY", "-o", "type=docker,dest=OUT"], "docker archive has no place"),
    (["-t", "app:1", "--sign", "OUT"], "cannot be read"),
    (["-t", "app:1", "--sbom=true", "-o", "type=oci,dest=OUT,oci-mediatypes=false"], "do not go together"),
])  # fmt: skip
def test_what_cannot_be_signed_or_attested_is_told_before_a_step_runs(
    pybuild: Pybuild, context: Path, tmp_path: Path, key: Path, words: list[str], message: str
) -> None:
    lay(context, "FROM busybox\nRUN echo ran && false\n")
    out = str(tmp_path / "out")
    done = pybuild.build(
        context, *(word.replace("KEY", str(key)).replace("OUT", out) for word in words), check=False
    )

    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "ran" not in done.stderr.replace("echo ran", "")


def test_an_encrypted_key_is_opened_by_its_password(
    pybuild: Pybuild, store: Layout, plain: Path, key: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed.key"
    run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", closed, "-passout", "pass:open sesame"])

    without = pybuild.build(plain, "-t", "app:1", "--sign", str(closed), check=False)
    pybuild.build(plain, "-t", "app:1", "--sign", str(closed), env={"COSIGN_PASSWORD": "open sesame"})

    assert without.returncode == 1
    assert "$COSIGN_PASSWORD" in without.stderr
    tag = store.row("app:1")["digest"].replace(":", "-") + ".sig"
    verify(store, store.document(store.row(f"app:{tag}")["digest"]), key)


# ── in a registry ────────────────────────────────────────────────────────────────────────────────────────


@needs("docker-registry")
def test_a_registry_gets_all_of_it_and_what_others_have_put_there_stays(
    pybuild: Pybuild, plain: Path, key: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", other])
    with running_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/me/app:1"

        def raw(tag: str) -> Json:
            words = ["skopeo", "inspect", "--raw", "--tls-verify=false"]
            found: Json = json.loads(run([*words, f"docker://{registry.host}/me/app:{tag}"]).stdout)
            return found

        pybuild.build(plain, "-t", f"{registry.host}/me/app:index", *BOTH, "--push")
        pulled = Layout(tmp_path / "pulled")
        words = ["skopeo", "copy", "--all", "--src-tls-verify=false"]
        run([*words, f"docker://{registry.host}/me/app:index", f"oci:{pulled.folder}:app"])
        assert len(pulled.statements(pulled.document(pulled.attested("app")[1][0]["digest"]))) == 2

        referring = ["--attest-as=referrers", "--push"]
        pybuild.build(plain, "-t", name, "--sbom=true", *referring, "--sign", str(key))
        digest = "sha256-" + subprocess.run(["sha256sum"], input=run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
        ).stdout.encode(), capture_output=True, check=True).stdout.decode().split()[0]  # fmt: skip
        assert len(raw(digest)["manifests"]) == 1
        pybuild.build(plain, "-t", name, "--provenance=true", *referring, "--sign", str(other))
        assert [row["annotations"] for row in raw(digest)["manifests"]] == [
            {"in-toto.io/predicate-type": kind} for kind in (SPDX, SLSA)
        ]
        assert len(raw(f"{digest}.sig")["layers"]) == 2


@needs("docker-registry")
def test_what_the_store_has_beside_an_image_is_pushed_with_it(
    pybuild: Pybuild, plain: Path, key: Path, tmp_path: Path
) -> None:
    with running_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/me/app:1"
        pybuild.build(plain, "-t", name, "--sbom=true", "--attest-as=referrers", "--sign", str(key))
        pybuild("push", name)

        words = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/me/app"]
        tags = json.loads(run(words).stdout)["Tags"]
    assert len(tags) == 3
    assert sorted(tag[71:] for tag in tags if tag != "1") == ["", ".sig"]
