"""Whether the configuration file is in order: told by each build, also by those that ask nothing of it.

What was found of a text is remembered (ROOT/cache/settings), so that TOML is read when it has changed, and
not by each build. On the path of a fully cached build.
"""

from __future__ import annotations

from builder import __version__, configfile
from builder.digest import of_bytes, of_value
from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.solver.cache import Cache

KIND = "settings"  # of the cache's answers


def slip_of(environment: Mapping[str, str], cache: Cache) -> str:
    """What is wrong with the file, as a warning; "" where nothing is, or there is none."""
    path = configfile.find(environment)
    if not path:
        return ""
    try:
        with open(path, "rb") as file:
            data = file.read(configfile.MAX_FILE + 1)
    except OSError:
        return _look(path, None, environment)
    name = of_value([__version__, path, of_bytes(data)])
    known = cache.recall(KIND, name)
    if known is not None:
        return known
    slip = _look(path, data, environment)
    try:
        cache.remember(KIND, name, slip)
    except OSError:  # it is looked at again by the next build
        return slip
    return slip


def _look(path: str, data: bytes | None, environment: Mapping[str, str]) -> str:
    """What reading it as `settings` do gives; data: None where it cannot be read."""
    from builder import settings

    try:
        if data is None:
            settings.load(environment)
        else:
            settings.parse(path, data, environment)
    except UsageError as error:
        hint = f" ({error.hint})" if error.hint else ""
        cost = "until that is right, no room is made in the store, and no registry is asked"
        return f"{error.message}{hint}; {cost}"
    return ""
