"""What a command is known to read of the files that a Dockerfile copies: package managers, mostly. Pure.

Only what is known counts. A command is taken apart as a shell would, and where anything in it could read or
write other files (an unknown program, a pipe, a substitution, a script of the project's own) nothing is known
of it. What the manifests themselves say may widen that, or end it: `objection` and `further`.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from dataclasses import dataclass

SILENCED = re.compile(r"\s*(?:2>\s*&\s*1|&>\s*/dev/null|[12]?>\s*/dev/null)")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
RESTS_ON_NOTHING = frozenset(
    (
        "true",
        ":",
        "sleep",
        "echo",
        "date",
        "groupadd",
        "useradd",
        "addgroup",
        "adduser",
        "locale-gen",
        "ldconfig",
    )
)
LOCAL_PACKAGE = (".deb", ".rpm", ".apk", ".whl", ".gem", ".tgz", ".tar.gz", ".zip")
NODE_FILES = (".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs")
SCRIPTS = frozenset(("preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare"))


@dataclass(frozen=True, slots=True)
class Needs:
    """required: files that the command reads, in its folder; optional: those it reads if they are there.

    tool: the program that is meant, for people.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    tool: str = ""

    def plus(self, other: Needs) -> Needs:
        """Both, one after the other."""
        return Needs(
            (*self.required, *other.required), (*self.optional, *other.optional), self.tool or other.tool
        )


NOTHING = Needs()


def of_shell(text: str) -> Needs | None:
    """What a line for the shell reads; None where that is not known."""
    if any(mark in text for mark in ("`", "$(", "<", "\n")):
        return None
    lexer = shlex.shlex(SILENCED.sub(" ", text), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # a quote without its end
        return None
    total, command = NOTHING, list[str]()
    for word in [*words, ";"]:
        if word in ("&&", ";"):
            found = of_words(command) if command else NOTHING
            if found is None:
                return None
            total, command = total.plus(found), []
        elif set(word) <= set("();<>|&"):
            return None
        else:
            command.append(word)
    return total


def of_words(words: list[str]) -> Needs | None:
    """What one program with its arguments reads."""
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words:
        return NOTHING
    name, rest = posixpath.basename(words[0]), words[1:]
    if name in ("python", "python3") and rest[:2] == ["-m", "pip"]:
        name, rest = "pip", rest[2:]
    if name == "uv" and rest[:1] == ["pip"]:
        name, rest = "pip", rest[1:]
    if name in RESTS_ON_NOTHING:
        return NOTHING
    known = TOOLS.get(name)
    return known(rest) if known is not None else None


def _set(words: list[str]) -> Needs | None:
    return NOTHING if all(word.startswith("-") or word == "pipefail" for word in words) else None


def _packages(words: list[str]) -> Needs | None:
    """apt-get, apk, dnf and their kin: names of packages, never files."""
    verbs = (
        "install",
        "update",
        "upgrade",
        "dist-upgrade",
        "clean",
        "autoremove",
        "remove",
        "purge",
        "makecache",
    )
    plain = [word for word in words if not word.startswith("-")]
    if not plain or plain[0] not in (*verbs, "add", "del", "cache"):
        return None
    if any(word.endswith(LOCAL_PACKAGE) or word.startswith((".", "/")) for word in plain if word != ".deps"):
        return NOTHING if _is_virtual(words) else None
    return NOTHING


def _is_virtual(words: list[str]) -> bool:
    """Whether what begins with a dot is only a name that apk gives to a group of packages."""
    dotted = [number for number, word in enumerate(words) if word.startswith((".", "/"))]
    named = all(words[number - 1] in ("--virtual", "-t", "del") for number in dotted if number)
    return named and not any(word.endswith(LOCAL_PACKAGE) or word.startswith("/") for word in words)


def _rm(words: list[str]) -> Needs | None:
    """What is removed of the system's own caches."""
    paths = [word for word in words if not word.startswith("-")]
    safe = ("/var/lib/apt/", "/var/cache/", "/tmp/", "/var/tmp/", "/root/.cache", "/var/log/", "/root/.npm")
    return NOTHING if all(path.startswith(safe) and ".." not in path for path in paths) else None


def _pip(words: list[str]) -> Needs | None:
    if not words or words[0] != "install":
        return None
    required: list[str] = []
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ("-r", "--requirement", "-c", "--constraint"):
            if not equals and not rest:
                return None
            required.append(value if equals else rest.pop(0))
        elif name in (
            "-e",
            "--editable",
            "-f",
            "--find-links",
            "--target",
            "-t",
            "--root",
            "--prefix",
            "--src",
        ):
            return None
        elif name in ("-i", "--index-url", "--extra-index-url", "--trusted-host", "--timeout", "--retries"):
            rest = rest if equals else rest[1:]
        elif word.startswith("-r") and not word.startswith("--"):
            required.append(word[2:])
        elif not word.startswith("-") and _is_local(word):
            return None
    if any("$" in name or name.startswith("/") for name in required):
        return None
    return Needs(tuple(required), tool="pip install")


def _is_local(word: str) -> bool:
    """Whether pip would take this from a file."""
    is_path = word.startswith((".", "/", "file:", "$")) or "/" in word.partition("@")[0]
    return is_path or word.endswith(LOCAL_PACKAGE)


def _npm(words: list[str]) -> Needs | None:
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    plain = [word for word in words if not word.startswith("-")]
    if not plain or flags & {"--prefix", "-C", "--workspace", "-w", "--workspaces"}:
        return None
    verb, names = plain[0], plain[1:]
    if verb in ("cache", "config"):
        return NOTHING
    if verb not in ("ci", "install", "i", "clean-install"):
        return None
    if flags & {"-g", "--global"}:
        local = any(name.startswith((".", "/", "file:")) for name in names)
        return NOTHING if names and not local else None
    if names:
        return None
    required = ("package.json", "package-lock.json") if verb in ("ci", "clean-install") else ("package.json",)
    return Needs(required, ("package-lock.json", "npm-shrinkwrap.json", *NODE_FILES), f"npm {verb}")


def _yarn(words: list[str]) -> Needs | None:
    plain = [word for word in words if not word.startswith("-")]
    if plain not in ([], ["install"]):
        return None
    return Needs(("package.json",), ("yarn.lock", *NODE_FILES), "yarn install")


def _pnpm(words: list[str]) -> Needs | None:
    plain = [word for word in words if not word.startswith("-")]
    if plain not in (["install"], ["i"]):
        return None
    return Needs(("package.json",), ("pnpm-lock.yaml", *NODE_FILES), "pnpm install")


def _go(words: list[str]) -> Needs | None:
    if words == ["mod", "download"]:
        return Needs(("go.mod",), ("go.sum",), "go mod download")
    pinned = len(words) == 2 and words[0] == "install" and "@" in words[1]
    return NOTHING if pinned and not words[1].startswith(".") else None


def _bundle(words: list[str]) -> Needs | None:
    plain = [word for word in words if not word.startswith("-")]
    if plain[:1] == ["config"]:
        return NOTHING
    if plain[:1] != ["install"]:
        return None
    return Needs(("Gemfile",), ("Gemfile.lock", ".ruby-version", ".tool-versions"), "bundle install")


def _composer(words: list[str]) -> Needs | None:
    plain = [word for word in words if not word.startswith("-")]
    if plain != ["install"] or not {"--no-scripts", "--no-autoloader"} <= set(words):
        return None
    return Needs(("composer.json",), ("composer.lock", "auth.json"), "composer install")


def _poetry(words: list[str]) -> Needs | None:
    if words[:1] == ["config"]:
        return NOTHING
    if words[:1] != ["install"] or "--no-root" not in words:
        return None
    return Needs(("pyproject.toml",), ("poetry.lock", "poetry.toml"), "poetry install")


def _gem(words: list[str]) -> Needs | None:
    local = any(word.endswith(LOCAL_PACKAGE) or word.startswith((".", "/")) for word in words)
    return NOTHING if words[:1] == ["install"] and not local else None


def _corepack(words: list[str]) -> Needs | None:
    return NOTHING if words[:1] == ["enable"] else None


TOOLS = {
    "set": _set, "rm": _rm, "pip": _pip, "pip3": _pip, "npm": _npm, "yarn": _yarn, "pnpm": _pnpm, "go": _go,
    "bundle": _bundle, "composer": _composer, "poetry": _poetry, "gem": _gem, "corepack": _corepack,
    **dict.fromkeys(("apt-get", "apt", "apk", "dnf", "yum", "microdnf"), _packages),
}  # fmt: skip


def objection(path: str, text: str) -> str:
    """Why who reads this manifest may read other files too; "" where it does not say so."""
    name = posixpath.basename(path)
    if name == "package.json":
        return _of_package_json(text)
    marks = {
        "Gemfile": ("gemspec", "path:", "eval_gemfile", "File."),
        "pyproject.toml": ("path =", "path=", "file:"),
        "composer.json": ('"path"',),
        "go.mod": ("=> ./", "=> ../"),
    }
    for mark in marks.get(name, ()):
        if mark in text:
            return f"{name} refers to files of the project ({mark.strip()})"
    if name.endswith((".txt", ".in")):
        for line in text.splitlines():
            line = line.split("#")[0].strip()
            if (
                line.startswith(("-e", "--editable", ".", "/", "file:", "-f", "--find-links"))
                or "@ file:" in line
            ):
                return f"{name} installs from the project itself ({line[:40]})"
    return ""


def _of_package_json(text: str) -> str:
    try:
        data = json.loads(text)
    except ValueError:
        return "package.json cannot be read"
    if not isinstance(data, dict):
        return "package.json cannot be read"
    scripts = data.get("scripts")
    if isinstance(scripts, dict) and (own := sorted(SCRIPTS & scripts.keys())):
        return f"package.json has a script that runs at install ({own[0]})"
    if "workspaces" in data or "patchedDependencies" in text:
        return "package.json has workspaces or patches"
    if re.search(r'"(?:file|link|portal|workspace|patch):', text):
        return "package.json installs from the project itself"
    return ""


def further(path: str, text: str) -> list[str]:
    """The files that a list of requirements names, beside it."""
    if not path.endswith((".txt", ".in")):
        return []
    found = re.findall(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]?\s*(\S+)", text, re.MULTILINE)
    return [posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in found]
