"""How large a Dockerfile may become: bounds on what variables make of few lines. Pure.

The kernel gives no program a variable of more than MAX_VARIABLE, nor variables of more than MAX_VARIABLES, so
no image that has them runs. Other texts (labels, paths, heredocs) have no bound of their own, only one
together: what lookups give and what comes of them, over all instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.compiler.variables import Variables
from builder.dockerfile.words import WordError

MAX_VARIABLE = 128 * 1024  # bytes of NAME=VALUE and its end: MAX_ARG_STRLEN of execve(2)
MAX_VARIABLES = 6 * 2**20  # characters of all of them: three quarters of the usual 8 MiB, see execve(2)
MAX_ADDED = 128 * 2**20  # characters that variables add to one Dockerfile
MAX_LISTED = 64 * 2**20  # variables in the environments of all RUNs, each environment that differs counted


class Growth:
    """What one compile has come to so far. All methods raise WordError beyond a bound."""

    __slots__ = ("_added", "_listed", "_variables")

    def __init__(self) -> None:
        self._added = self._listed = 0
        self._variables: Variables | None = None

    def add(self, length: int) -> None:
        """Count characters that variables made."""
        self._added += length
        if self._added > MAX_ADDED:
            raise WordError(f"variables add more than {MAX_ADDED >> 20} MiB to this Dockerfile")

    def list(self, variables: Variables) -> None:
        """Count the environment of a RUN, unless it is that of the RUN before."""
        if variables is not self._variables:
            self._variables = variables
            self._listed += len(variables)
        if self._listed > MAX_LISTED:
            raise WordError(
                f"the environments of this Dockerfile's RUNs hold more than {MAX_LISTED} variables"
            )


class Counted(Mapping[str, str]):
    """Variables, of which each value that is looked up is counted."""

    __slots__ = ("_growth", "_variables")

    def __init__(self, variables: Mapping[str, str], growth: Growth) -> None:
        self._variables, self._growth = variables, growth

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default. Raises WordError where it is too much."""
        value = self._variables.get(name, default)
        self._growth.add(len(value or ""))
        return value

    def __getitem__(self, name: str) -> str:
        self._growth.add(len(self._variables[name]))
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def check_variable(name: str, value: str) -> None:
    """Raise WordError for a variable that no program can be given."""
    if (len(name) + len(value)) * 4 < MAX_VARIABLE:  # characters have up to four bytes
        return
    length = len(f"{name}={value}".encode("utf-8", "surrogatepass")) + 1
    if length > MAX_VARIABLE:
        raise WordError(
            f"variable {name} is longer than {MAX_VARIABLE >> 10} KiB, which no program can be given"
        )


def check_variables(variables: Variables) -> None:
    """Raise WordError for variables that no program can be given together."""
    if variables.size > MAX_VARIABLES:
        raise WordError(
            f"the variables are longer than {MAX_VARIABLES >> 20} MiB, which no program can be given"
        )
