"""What the pickle machine builds instead of objects, and how it says no. Nothing here acts."""

import dataclasses
from collections.abc import Callable
from typing import Any

MAX_TEXT = 65_536  # bytes
MARK = object()


class Refused(ValueError):
    """What is not allowed, without saying where; the machine adds that."""


def require(condition: Any, message: str) -> None:
    """Raise Refused(message) unless the condition holds."""
    if not condition:
        raise Refused(message)


def is_count(value: Any) -> bool:
    """Tell whether a value is a plain int ≥ 0."""
    return type(value) is int and value >= 0


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that the world allows: call makes a record of REDUCE's arguments, new of NEWOBJ's."""

    name: str
    call: Callable | None = None
    new: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Blob:
    """Bytes of the file: a view, and the byte where they begin."""

    view: memoryview
    start: int


@dataclasses.dataclass
class Record:
    """An inert object: takes the state of BUILD, once."""

    state: Any = None
    built: bool = False

    def build(self, state: Any) -> None:
        """Keep the state. Errors: Refused for a second one."""
        require(not self.built, 'BUILD of an object that has its state')
        self.state, self.built = state, True


def decode(view, encoding='utf-8', limit=MAX_TEXT):
    """Text of bytes. Errors: Refused if too long, or none."""
    require(len(view) <= limit, f'a text of {len(view)} bytes; at most {limit}')
    try:
        return str(view, encoding)
    except UnicodeDecodeError:
        raise Refused(f'a text that is not {encoding}') from None


def described(value):
    """What a value is called in errors."""
    return value.name if type(value) is Name else f'a {type(value).__name__}'
