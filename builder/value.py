"""Values: frozen records that cost nothing to define.

A class whose fields are annotated gets an `__init__`, equality, a hash and a repr, as a frozen dataclass
does. It is here because the path of a fully cached build makes events and a request, and the import of
dataclasses or msgspec alone would double the start of the interpreter, and each dataclass takes half a
millisecond more. It knows only names of fields: types are for the type checker.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        """Tell type checkers only."""
        return lambda made: made


@dataclass_transform(frozen_default=True, eq_default=True)
class Value:
    """What all values have. A default must be immutable, or never be changed."""

    fields: ClassVar[dict[str, str]] = {}
    defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        own = {name: str(kind) for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)}
        cls.fields = {**cls.fields, **own}
        cls.defaults = {**cls.defaults, **{n: cls.__dict__[n] for n in own if n in cls.__dict__}}

    if not TYPE_CHECKING:

        def __init__(self, *ordered, **named):
            if ordered:
                named = self._named(ordered, named)
            values = {**self.defaults, **named}
            if values.keys() != self.fields.keys():
                wrong = sorted(values.keys() ^ self.fields.keys())
                raise TypeError(f"{type(self).__name__}: missing or unknown fields {', '.join(wrong)}")
            self.__dict__.update({name: values[name] for name in self.fields})

        def _named(self, ordered, named):
            first = dict(zip(self.fields, ordered, strict=False))
            if len(first) < len(ordered) or first.keys() & named.keys():
                raise TypeError(f"{type(self).__name__}: too many values")
            return {**first, **named}

        def __setattr__(self, name, value):
            raise AttributeError(f"{type(self).__name__} is frozen")

    def but(self, **changes: Any) -> Self:
        """The same value with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({inside})"
