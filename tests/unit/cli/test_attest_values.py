"""--provenance, --sbom, --attest and --attest-as: what they ask for, and what is refused."""

from __future__ import annotations

import pytest

from builder.commands.attest_values import attests
from builder.commands.build_flags import FLAGS
from builder.commands.flags import parse
from builder.errors import UsageError
from builder.request import AttestSpec


def asked(*words: str, args: dict[str, str | None] | None = None) -> AttestSpec:
    return attests(parse(FLAGS, words), args or {})


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        ((), AttestSpec()),
        (("--provenance=false", "--sbom=0"), AttestSpec()),
        (("--provenance=true",), AttestSpec(provenance=True)),
        (("--provenance", "1"), AttestSpec(provenance=True)),
        (("--provenance=mode=min",), AttestSpec(provenance=True, mode="min")),
        (("--attest", "type=provenance,mode=max,version=v0.2"), AttestSpec(provenance=True, version="v0.2")),
        (("--attest=type=sbom", "--provenance=true"), AttestSpec(sbom=True, provenance=True)),
        (("--attest=type=sbom,disabled=true",), AttestSpec()),
        (("--sbom=true", "--attest-as=referrers"), AttestSpec(sbom=True, referrers=True)),
        (
            ("--provenance=builder-id=https://ci/1,reproducible=true,filename=p.json,inline-only=true",),
            AttestSpec(
                provenance=True,
                builder_id="https://ci/1",
                reproducible=True,
                filename="p.json",
                inline_only=True,
            ),
        ),
    ],
)
def test_what_is_asked_for(words: tuple[str, ...], spec: AttestSpec) -> None:
    assert asked(*words) == spec


def test_build_args_of_buildkit_ask_for_them_too() -> None:
    args: dict[str, str | None] = {"BUILDKIT_ATTEST_PROVENANCE": "mode=min", "BUILDKIT_ATTEST_SBOM": ""}

    assert asked(args=args) == AttestSpec(provenance=True, mode="min", sbom=True)
    assert asked("--provenance=false", args=args) == AttestSpec(sbom=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--attest=mode=max",), "type is missing"),
        (("--attest=type=vex",), "no attestation 'vex'"),
        (("--attest=type=provenance", "--provenance=true"), "more than once"),
        (("--provenance=mode=most",), "no mode 'most'"),
        (("--provenance=version=v2",), "no version 'v2'"),
        (("--provenance=colour=red",), "no attribute 'colour'"),
        (("--provenance=builder-id=\udcff",), "is no text (UTF-8)"),
        (("--provenance=yes",), "'yes' is not KEY=VALUE"),
        (("--provenance=filename=../x",), "no name of a file"),
        (("--provenance=reproducible=maybe",), "neither true nor false"),
        (("--sbom=generator=some/image",), "is not run"),
        (("--attest-as=referrers",), "nothing to be attested"),
        (("--sbom=true", "--attest-as=tag"), "no such form"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(*words)

    assert message in caught.value.message
