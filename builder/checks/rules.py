"""The rules: their names, which are docker's, and what each asks for. Pure data.

The functions that apply them are in `writing` (how the file is written), `froms` (its FROM lines) and `steps`
(what its instructions do), by when they can be applied.
"""

from __future__ import annotations

import msgspec

PAGES = "https://docs.docker.com/go/dockerfile/rule/"


class Rule(msgspec.Struct, frozen=True):
    """A rule. `page`: its name in the web pages that docker has on it, "" for none.

    An experimental rule applies only where somebody asks for it.
    """

    name: str
    page: str
    description: str
    experimental: bool = False

    @property
    def url(self) -> str:
        """Where docker explains it, "" for nowhere."""
        return f"{PAGES}{self.page}/" if self.page else ""


STAGE_NAME_CASING = Rule(
    "StageNameCasing", "stage-name-casing", "the names of stages are in lower case, however they are written"
)
FROM_AS_CASING = Rule(
    "FromAsCasing", "from-as-casing", "FROM and its AS are both in upper case, or both in lower case"
)
NO_EMPTY_CONTINUATION = Rule(
    "NoEmptyContinuation",
    "no-empty-continuation",
    "an instruction that is continued holds no empty lines; later versions of the language may refuse them",
)
CONSISTENT_INSTRUCTION_CASING = Rule(
    "ConsistentInstructionCasing",
    "consistent-instruction-casing",
    "all instructions are in upper case, or all in lower case",
)
DUPLICATE_STAGE_NAME = Rule("DuplicateStageName", "duplicate-stage-name", "no two stages have the same name")
RESERVED_STAGE_NAME = Rule(
    "ReservedStageName", "reserved-stage-name", "no stage has a name that means something else already"
)
JSON_ARGS_RECOMMENDED = Rule(
    "JSONArgsRecommended",
    "json-args-recommended",
    "CMD and ENTRYPOINT are JSON arrays: a shell in between keeps signals from the program",
)
MAINTAINER_DEPRECATED = Rule(
    "MaintainerDeprecated", "maintainer-deprecated", "the author is named by a label; MAINTAINER is outdated"
)
UNDEFINED_ARG_IN_FROM = Rule(
    "UndefinedArgInFrom", "undefined-arg-in-from", "FROM uses only variables that an ARG above it declares"
)
WORKDIR_RELATIVE_PATH = Rule(
    "WorkdirRelativePath",
    "workdir-relative-path",
    "the first WORKDIR is absolute, so that the base image does not decide where it leads",
)
UNDEFINED_VAR = Rule("UndefinedVar", "undefined-var", "a variable is declared or set before it is used")
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    "MultipleInstructionsDisallowed",
    "multiple-instructions-disallowed",
    "a stage has one CMD, one ENTRYPOINT and one HEALTHCHECK at most: the last one is all that counts",
)
LEGACY_KEY_VALUE_FORMAT = Rule(
    "LegacyKeyValueFormat",
    "legacy-key-value-format",
    "ENV and LABEL have an equals sign between a name and its value",
)
INVALID_BASE_IMAGE_PLATFORM = Rule(
    "InvalidBaseImagePlatform", "", "the base image is for the platform that is built for"
)
REDUNDANT_TARGET_PLATFORM = Rule(
    "RedundantTargetPlatform",
    "redundant-target-platform",
    "FROM does not ask for the target's platform, which it takes anyway",
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    "SecretsUsedInArgOrEnv",
    "secrets-used-in-arg-or-env",
    "secrets are not handed over by ARG or ENV: whoever has the image can read them",
)
INVALID_DEFAULT_ARG_IN_FROM = Rule(
    "InvalidDefaultArgInFrom",
    "invalid-default-arg-in-from",
    "FROM names a possible image also when no build argument is given",
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule(
    "FromPlatformFlagConstDisallowed",
    "from-platform-flag-const-disallowed",
    "the platform in FROM comes from a variable, or the stage's name tells of it",
)
COPY_IGNORED_FILE = Rule(
    "CopyIgnoredFile", "copy-ignored-file", "COPY and ADD name nothing that the ignore file leaves out"
)
INVALID_DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription",
    "invalid-definition-description",
    "a comment right above an ARG or a stage begins with its name; an empty comment keeps others apart",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule(
    "ExposeProtoCasing", "expose-proto-casing", "the protocols in EXPOSE are in lower case"
)
EXPOSE_INVALID_FORMAT = Rule(
    "ExposeInvalidFormat",
    "expose-invalid-format",
    "EXPOSE names ports of the container alone; later versions of the language may refuse hosts there",
)

RULES = {
    rule.name: rule
    for rule in (
        CONSISTENT_INSTRUCTION_CASING, COPY_IGNORED_FILE, DUPLICATE_STAGE_NAME, EXPOSE_INVALID_FORMAT,
        EXPOSE_PROTO_CASING, FROM_AS_CASING, FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_BASE_IMAGE_PLATFORM,
        INVALID_DEFAULT_ARG_IN_FROM, INVALID_DEFINITION_DESCRIPTION, JSON_ARGS_RECOMMENDED,
        LEGACY_KEY_VALUE_FORMAT, MAINTAINER_DEPRECATED, MULTIPLE_INSTRUCTIONS_DISALLOWED,
        NO_EMPTY_CONTINUATION, REDUNDANT_TARGET_PLATFORM, RESERVED_STAGE_NAME, SECRETS_USED_IN_ARG_OR_ENV,
        STAGE_NAME_CASING, UNDEFINED_ARG_IN_FROM, UNDEFINED_VAR, WORKDIR_RELATIVE_PATH,
    )
}  # fmt: skip
