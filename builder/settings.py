"""The configuration file: what a user sets once for all builds. TOML, in tables that each have their owner.

Where it is, `configfile` knows. `[gc]` says when the store makes room by itself:

    [gc]
    enabled = true
    max-used-space = "100GB"     # the most that the cache may take; or "80%" of the disk
    reserved-space = "10GB"      # what it may always keep
    min-free-space = "10%"       # what is to stay free on the disk
    max-age = "60d"              # drop what nobody used for so long, beyond the reserved space

`[registries."host"]` says how a registry is reached; files are looked for beside this one, `~` is the home:

    [registries."docker.io"]
    mirrors = ["mirror.example:5000", "http://10.0.0.5:5000/hub"]    # asked first, for what is read

    [registries."registry.example:5000"]
    http = true                  # plain HTTP
    insecure = true              # its certificate is not looked at; plain HTTP where it has no TLS
    ca = ["ca.pem"]              # authorities that are believed beside the system's
    cert = "client.pem"          # what is shown to it, and the key for that
    key = "client.key"

What is not known is an error, so that a slip of the pen is seen. A file that is not there is all defaults.
Knows the file and the forms of values, not what is done with them. tomllib is loaded where there is a file.
"""

from __future__ import annotations

import os

from builder.configfile import MAX_FILE, VARIABLE, find
from builder.errors import UsageError, reason_of
from builder.home import find_home
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DAY = 86400
TABLES = ("gc", "registries")
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}


class Space(Value):
    """An amount of a disk: bytes, and percent of the whole; of both the smaller one, 0 meaning not given."""

    size: int = 0
    percent: int = 0

    def of(self, disk: int) -> int:
        """In bytes, on a disk of so many."""
        shares = [share for share in (self.size, disk * self.percent // 100) if share]
        return min(shares, default=0)


class RoomSettings(Value):
    """When a store makes room by itself; see the module. max_age: seconds, 0 for never."""

    enabled: bool = True
    max_used: Space = Space(size=100 << 30, percent=80)
    reserved: Space = Space(size=10 << 30, percent=10)
    min_free: Space = Space(size=20 << 30, percent=10)
    max_age: int = 60 * DAY


class RegistrySettings(Value):
    """How a registry is reached; see the module. Files are whole paths."""

    host: str
    mirrors: tuple[str, ...] = ()
    http: bool = False
    insecure: bool = False
    authorities: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""


class Settings(Value):
    """All of the file. path: where it is, "" where there is none."""

    room: RoomSettings
    registries: tuple[RegistrySettings, ...] = ()
    path: str = ""


def load(environment: Mapping[str, str]) -> Settings:
    """What the file says, defaults where there is none. Raises UsageError that names file and key."""
    path = find(environment)
    if not path:
        return Settings(room=RoomSettings())
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}", hint=f"see {VARIABLE}") from error
    return parse(path, data, environment)


def parse(path: str, data: bytes, environment: Mapping[str, str]) -> Settings:
    """What the bytes of the file say. Raises UsageError that names file and key."""
    import tomllib

    if len(data) > MAX_FILE:
        raise UsageError(f"{path} has more than {MAX_FILE >> 20} MiB")
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # tomllib has no error of its own for endless numbers
        raise UsageError(f"{path} is no TOML: {error}") from error
    _check_names(path, "", table, TABLES)
    registries = _registries(path, table.get("registries", {}), environment)
    return Settings(room=_room(path, table.get("gc", {})), registries=registries, path=path)


def _room(path: str, table: Any) -> RoomSettings:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: gc is no table", hint="write [gc] on a line of its own")
    known = ("enabled", "max-used-space", "reserved-space", "min-free-space", "max-age")
    _check_names(path, "gc.", table, known)
    default = RoomSettings()
    enabled = table.get("enabled", True)
    if not isinstance(enabled, bool):
        raise UsageError(f"{path}: gc.enabled is neither true nor false")

    def space(name: str, otherwise: Space) -> Space:
        return parse_space(table[name], f"{path}: gc.{name}") if name in table else otherwise

    return RoomSettings(
        enabled=enabled,
        max_used=space("max-used-space", default.max_used),
        reserved=space("reserved-space", default.reserved),
        min_free=space("min-free-space", default.min_free),
        max_age=parse_age(table["max-age"], f"{path}: gc.max-age") if "max-age" in table else default.max_age,
    )


def _registries(path: str, tables: Any, environment: Mapping[str, str]) -> tuple[RegistrySettings, ...]:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(
            f"{path}: registries has something that is no table", hint='write [registries."host"] on a line'
        )
    home = find_home(environment)
    return tuple(_registry(path, host, table, home) for host, table in tables.items())


def _registry(path: str, host: str, table: Mapping[str, Any], home: str) -> RegistrySettings:
    where = f'registries."{host}".'
    _check_names(path, where, table, ("mirrors", "http", "insecure", "ca", "cert", "key"))
    if not _is_host(host):
        raise UsageError(f"{path}: {host!r} is no registry", hint="registries are HOST or HOST:PORT")

    def text(name: str) -> str:
        return _texts(path, where + name, table.get(name, ""), most=1)[0]

    def file(name: str) -> str:
        if name.startswith("~/"):
            if not home:
                raise UsageError(
                    f"{path}: {where[:-1]} names {name}, and there is no home folder", hint="set HOME"
                )
            return os.path.join(home, name[2:])
        return os.path.join(os.path.dirname(os.path.abspath(path)), name)

    def switch(name: str) -> bool:
        value = table.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{path}: {where}{name} is neither true nor false")
        return value

    certificate, key = text("cert"), text("key")
    if key and not certificate:
        raise UsageError(f"{path}: {where}key is there without cert")
    return RegistrySettings(
        host=host,
        mirrors=_mirrors(path, f"{where}mirrors", table.get("mirrors", [])),
        http=switch("http"),
        insecure=switch("insecure"),
        authorities=tuple(file(name) for name in _texts(path, f"{where}ca", table.get("ca", []))),
        certificate=file(certificate) if certificate else "",
        key=file(key) if key else "",
    )


def _mirrors(path: str, name: str, value: object) -> tuple[str, ...]:
    mirrors = _texts(path, name, value)
    for mirror in mirrors:
        scheme, mark, rest = mirror.rpartition("://")
        is_place = _is_host(rest.partition("/")[0]) and mirror.isprintable()
        if not is_place or (mark and scheme not in ("http", "https")):
            raise UsageError(f"{path}: {name}: {mirror!r} is no place", hint="write HOST[:PORT][/PATH]")
    return mirrors


def _texts(path: str, name: str, value: object, most: int | None = None) -> tuple[str, ...]:
    """A text or a list of texts, as texts; `most` of them at most."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts) or (most is not None and len(texts) != most):
        raise UsageError(f"{path}: {name} is not {'a text' if most == 1 else 'a list of texts'}")
    if any("\0" in text for text in texts if isinstance(text, str)):
        raise UsageError(f"{path}: {name} has a NUL character in it")
    return tuple(texts)


def _is_host(text: str) -> bool:
    """Whether a text has the form HOST, HOST:PORT, or [ADDRESS]:PORT."""
    import re

    return re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", text) is not None


def _check_names(path: str, where: str, table: Mapping[str, object], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise UsageError(f"{path}: {where}{name} is not known", hint=f"known are {', '.join(known)}")


def parse_space(value: object, name: str) -> Space:
    """An amount of room: bytes as a number, or text as "512MB" (powers of 1024) or "10%". Raises UsageError.

    name: what to call it in the error.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62:
        return Space(size=value)
    if isinstance(value, str):
        text = value.strip().lower()
        number = text.rstrip("bikmgtp% ")
        unit = text[len(number) :].strip()
        if unit == "%" and number.isascii() and number.isdecimal() and len(number) < 4 and int(number) <= 100:
            return Space(percent=int(number))
        power = _UNITS.get(unit[:1])
        if power is not None and unit[1:] in ("", "b", "ib") and unit[:2] not in ("bb", "bi"):
            try:
                size = float(number) * (1 << power)
            except ValueError:
                size = -1.0
            if 0 <= size < 1 << 62:
                return Space(size=int(size))
    raise UsageError(f"{name} {_shown(value)}: not an amount of room", hint="for example 512MB, 20g or 10%")


def parse_age(value: object, name: str) -> int:
    """Seconds: a number of them, or text as "90s", "48h", "2h30m", "60d". Raises UsageError.

    name: what to call it in the error.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return value
    if isinstance(value, str) and (text := value.strip().lower()):
        total, number = 0.0, ""
        for mark in text if text != "0" else "0s":
            if mark in _SPANS and number.replace(".", "", 1).isdecimal() and number.isascii():
                total, number = total + float(number) * _SPANS[mark], ""
            else:
                number += mark
        if not number and total < 1 << 40:
            return int(total)
    raise UsageError(f"{name} {_shown(value)}: not a duration", hint="for example 90m, 48h or 30d")


def _shown(value: object) -> str:
    """A value as it can stand in a message."""
    try:
        return str(value)
    except ValueError:  # hexadecimal ones have no bound, and Python writes none so long in decimal
        return "with a number of thousands of digits"
