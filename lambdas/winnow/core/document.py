"""Fields of stored documents: each is of exactly the type it should have, or the document is damaged.

All functions raise `ValueError`, which names the field and the value. `Ledger.read` adds the name of the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from winnow.core.errors import shorten
from winnow.core.ranges import Ranges

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def fields_of(value: object) -> dict[str, Any]:
    """A document's fields, if it is one."""
    if type(value) is not dict:
        raise ValueError(f"it must be an object, got: {shorten(value)}")
    return value


def required(value: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A field that must be there. Numbers are counts, so they are not negative."""
    found: Any = value.get(name)
    is_negative = type(found) is int and found < 0
    if is_negative or type(found) is not kind:
        raise ValueError(f"`{name}` must be of type {kind.__name__}, got: {shorten(found)}")
    return found


def nullable(value: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """A field that may be null or left out."""
    return None if value.get(name) is None else required(value, name, kind)


def nested(value: Mapping[str, Any], name: str, decode: Callable[[dict[str, Any]], T]) -> T:
    """A document within the document."""
    found = required(value, name, dict)
    try:
        return decode(found)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error


def listed(value: Mapping[str, Any], name: str, decode: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    """A list of documents within the document."""
    found = required(value, name, list)
    try:
        return tuple(decode(fields_of(each)) for each in found)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error


def member(value: Mapping[str, Any], name: str, enum: type[E]) -> E:
    """One of a few words."""
    found: Any = value.get(name)
    try:
        return enum(found)
    except ValueError:
        raise ValueError(f"`{name}` must be one of {', '.join(enum)}, got: {shorten(found)}") from None


def tally(value: Mapping[str, Any], name: str) -> dict[str, int]:
    """Counts by text."""
    found = required(value, name, dict)
    for text in found:
        required(found, text, int)
    return found


def ranges(value: Mapping[str, Any], name: str) -> Ranges:
    """Ordinals in the flat encoding."""
    try:
        return Ranges.from_json(value.get(name))
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error
