"""`pybuild login, logout`: who the user is to registries, asked for, tried and kept as docker does it.

What a login is, how it is tried and where it is kept is `oci.login`'s and `oci.credentials`'; here are flags,
prompts and words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS
from builder.errors import BuildError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.oci.auth import Login

Environ = Mapping[str, str]
WHO = "Who"
WHERE = "Where"
MAX_PASSWORD = 1 << 20
PLAIN_TEXT = """
WARNING! Your credentials are stored unencrypted in '{path}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/

"""


def log_in(parsed: Parsed, environ: Environ) -> int:
    """`pybuild login [SERVER]`."""
    registry = _registry(parsed, "pybuild login")
    user, password = _given(parsed)
    insecure = (registry,) if "tls-verify" in parsed and not parsed.switch("tls-verify") else ()
    from builder import loops
    from builder.oci import login as logins
    from builder.undumped import without_dumps

    with without_dumps(True):
        known = logins.known_login(environ, registry) if not password else None
        if known is None or user not in ("", known.user) or not _tried(environ, registry, known, insecure):
            login = _asked(user or (known.user if known else ""), password, is_given=bool(user))
            kept = loops.run(logins.log_in(environ, registry, login, insecure))
            if not kept.helper:
                sys.stderr.write(PLAIN_TEXT.format(path=kept.path))
    print("Login Succeeded")
    return 0


def _tried(environ: Environ, registry: str, known: Login, insecure: tuple[str, ...]) -> bool:
    """Whether a login that is kept is still good."""
    from builder import loops
    from builder.oci import login as logins

    sys.stderr.write(f"Authenticating with existing credentials... [Username: {known.user}]\n")
    try:
        loops.run(logins.try_login(environ, registry, known, insecure))
    except BuildError as error:
        if error.code != "registry-denied":
            raise
        sys.stderr.write(f"Login did not succeed, error: {error.message}\n")
        return False
    other = "to log in as somebody else, run `pybuild logout` and then `pybuild login`"
    sys.stderr.write(f"note: {other}\n")
    return True


def log_out(parsed: Parsed, environ: Environ) -> int:
    """`pybuild logout [SERVER]`."""
    from builder.oci import credentials
    from builder.oci.credentialfiles import server_key

    if parsed.switch("all"):
        if parsed.words:
            raise UsageError("pybuild logout --all takes no registry")
        registries = credentials.all_registries(environ)
    else:
        registries = [_registry(parsed, "pybuild logout")]
    for registry in registries:
        if credentials.forget(environ, registry):
            print(f"Removing login credentials for {server_key(registry)}")
        else:
            print(f"Not logged in to {server_key(registry)}")
        for place in credentials.find_others(environ, registry):
            sys.stderr.write(f"note: {place} has a login for {server_key(registry)}, which stays there\n")
    return 0


def _registry(parsed: Parsed, command: str) -> str:
    """The registry that is meant: docker.io where none is named. Raises UsageError."""
    if len(parsed.words) > 1:
        raise UsageError(f"{command} takes one registry at most", hint=f"see `{command} --help`")
    from builder.oci import reference
    from builder.oci.credentialfiles import host_of

    host = host_of(parsed.words[0]) if parsed.words else reference.DOCKER_HUB
    if not reference.is_host(host):
        raise UsageError(f"{parsed.words[0]!r} is no registry", hint="a registry is HOST or HOST:PORT")
    return host


def _given(parsed: Parsed) -> tuple[str, str]:
    """User and password of the command line and standard input, "" where there is none. Raises UsageError."""
    user = parsed.text("username").strip()
    if not parsed.switch("password-stdin"):
        if "password" in parsed:
            if not parsed.text("password"):
                raise UsageError("--password is empty")
            sys.stderr.write("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
        return user, parsed.text("password")
    if "password" in parsed:
        raise UsageError("--password and --password-stdin are mutually exclusive")
    if not user:
        raise UsageError("--password-stdin needs --username")
    data = sys.stdin.buffer.read(MAX_PASSWORD + 1) if sys.stdin is not None else b""
    if len(data) > MAX_PASSWORD:
        raise UsageError(f"the password on standard input has more than {MAX_PASSWORD >> 20} MiB")
    try:
        password = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input is no text") from None
    if not password:
        raise UsageError("there is no password on standard input")
    return user, password


def _asked(user: str, password: str, *, is_given: bool) -> Login:
    """A whole login; what is missing is asked for at the terminal. is_given: the user name is settled."""
    from builder.oci.auth import Login

    if not (user and is_given and password) and (sys.stdin is None or not sys.stdin.isatty()):
        raise UsageError(
            "a login cannot be asked for: standard input is no terminal",
            hint="give --username, and the password with --password-stdin",
        )
    if not is_given:
        shown = f" ({user})" if user else ""
        sys.stderr.write(f"Username{shown}: ")
        sys.stderr.flush()
        user = sys.stdin.readline().strip() or user
    if not user:
        raise UsageError("a user name is needed")
    if not password:
        from getpass import getpass

        try:
            password = getpass("Password: ", sys.stderr)
        except EOFError:  # Ctrl-D
            sys.stderr.write("\n")
    if not password:
        raise UsageError("a password is needed")
    if ":" in user:
        raise UsageError(f"user name {user!r} has a colon, which a login cannot have")
    try:
        return Login(user, password)
    except ValueError:
        raise UsageError("user name and password have to be text (UTF-8)") from None


COMMANDS = {
    "login": Command(
        flags=(
            Flag(name="username", short="u", metavar="NAME", group=WHO, help="the user name"),
            Flag(name="password", short="p", metavar="PASSWORD", group=WHO,
                 help="the password or access token; others on this machine may see it"),
            Flag(name="password-stdin", kind="switch", group=WHO,
                 help="take the password or access token from standard input"),
            Flag(name="tls-verify", kind="switch", group=WHERE,
                 help="false: do not look at the registry's certificate, and take plain HTTP"),
            *GLOBAL_FLAGS,
        ),
        run=log_in,
        usage="pybuild login [FLAGS] [REGISTRY]",
        about="Log in at a registry (default: docker.io). The login is tried, and kept where docker does: "
        "by the credential helper that ~/.docker/config.json names, else in that file ($DOCKER_CONFIG, "
        "$REGISTRY_AUTH_FILE).",
        closing="Without flags it is asked for at the terminal; one that is kept already is tried first.",
    ),
    "logout": Command(
        flags=(
            Flag(name="all", short="a", kind="switch", group=WHERE, help="forget all logins"),
            *GLOBAL_FLAGS,
        ),
        run=log_out,
        usage="pybuild logout [FLAGS] [REGISTRY]",
        about="Forget the login for a registry (default: docker.io).",
    ),
}  # fmt: skip
