"""Programs that keep logins: `docker-credential-NAME get|store|erase` (docker/docker-credential-helpers).

A name is a word, never a path or a command line; the program is started without a shell, with a limit of time
and of what it may say. What is kept goes through its standard streams, never through arguments.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping

from builder.oci.auth import Login
from builder.oci.credentialfiles import CredentialError

SECONDS = 60.0  # a program may ask a person for a password of its own
MAX_ANSWER = 1 << 20
TOKEN_USER = "<token>"  # the user name that goes with an identity token
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOTHING = (
    "credentials not found in native keychain",
    "no credentials server url",
    "no credentials username",
)


def get(name: str, server: str, environ: Mapping[str, str]) -> Login | None:
    """The login that a program keeps for a server, None where it keeps none. Raises CredentialError."""
    status, answer = _run(name, "get", server.encode(), environ)
    if status:
        if answer.strip().lower().startswith(_NOTHING):
            return None
        raise _failed(name, "get", status, answer)
    try:
        kept = json.loads(answer)
    except (ValueError, RecursionError):
        raise CredentialError(f"docker-credential-{name} gives no JSON") from None
    user, secret = (kept.get("Username"), kept.get("Secret")) if isinstance(kept, dict) else (None, None)
    if not isinstance(user, str) or not isinstance(secret, str):
        raise CredentialError(f"docker-credential-{name} gives no user name and secret")
    try:
        login = Login(identity_token=secret) if user == TOKEN_USER else Login(user, secret)
    except ValueError:
        raise CredentialError(f"docker-credential-{name} gives a login that is no text") from None
    return login if login != Login() else None


def store(name: str, server: str, login: Login, environ: Mapping[str, str]) -> None:
    """Have a program keep a login. Raises CredentialError."""
    secret = login.identity_token or login.password
    user = TOKEN_USER if login.identity_token else login.user
    text = json.dumps({"ServerURL": server, "Username": user, "Secret": secret})
    status, answer = _run(name, "store", text.encode(), environ)
    if status:
        raise _failed(name, "store", status, answer)


def erase(name: str, server: str, environ: Mapping[str, str]) -> bool:
    """Have a program forget a server's login; whether there was one. Raises CredentialError."""
    status, answer = _run(name, "erase", server.encode(), environ)
    if status and not answer.strip().lower().startswith(_NOTHING):
        raise _failed(name, "erase", status, answer)
    return status == 0


def _run(name: str, verb: str, given: bytes, environ: Mapping[str, str]) -> tuple[int, str]:
    """Exit status and standard output, where programs tell their errors, too."""
    if not _NAME.fullmatch(name):
        raise CredentialError(f"{name[:80]!r} is no name of a credential helper")
    program = shutil.which(f"docker-credential-{name}", path=environ.get("PATH", ""))
    if program is None:
        raise CredentialError(
            f"docker-credential-{name} is not installed",
            hint="install it, or take it out of credsStore and credHelpers of the file with logins",
        )
    try:
        done = subprocess.run(
            [program, verb],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CredentialError(f"docker-credential-{name} did not answer within {SECONDS:.0f} s") from None
    except OSError as error:
        raise CredentialError(f"docker-credential-{name} cannot be run: {error.strerror}") from error
    if len(done.stdout) > MAX_ANSWER:
        raise CredentialError(f"docker-credential-{name} says more than {MAX_ANSWER >> 20} MiB")
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _failed(name: str, verb: str, status: int, answer: str) -> CredentialError:
    """What the program says of its failure is for people; it is none of what it keeps."""
    line = next(iter(answer.strip().splitlines()), "")
    told = "".join(c if c.isprintable() else " " for c in line)[:200]
    return CredentialError(
        f"docker-credential-{name} {verb} failed with status {status}: {told or 'no reason'}"
    )
