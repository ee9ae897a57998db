"""The work document: what transform makes of a description and mint gives a canonical id.

Immutable and complete: every field is there in every work, empty where the description says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalogue.languages import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """A title as the description words it."""

    label: str
    language: str | None
    """BCP 47 tag, with script and transliteration where given, such as `ar-Latn-x-lc`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributor:
    """A person or body that had a part in the manuscript or in a text in it."""

    name: str
    other_names: tuple[str, ...] = ()
    """The same name in other scripts and forms."""
    role: str
    """In words, such as `author` or `scribe`."""
    viaf_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Date:
    """When a manuscript, or a part of it, was made."""

    label: str
    calendar: str | None
    """Of the label. The years are always Gregorian."""
    from_year: int | None
    to_year: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """Measures of one thing, as written ("20.5 cm", "Up to 6 inches")."""

    of: str | None
    """`leaf`, `written`, `binding` …"""
    unit: str | None
    height: str | None
    width: str | None
    depth: str | None
    other: tuple[str, ...]
    """Measures with any other name, such as "length 15"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysicalDescription:
    """What the manuscript is as an object."""

    form: str | None
    material: str | None
    extent: str | None
    dimensions: tuple[Dimensions, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the manuscript is about."""

    label: str
    scheme: str | None
    """`lcsh`, `mesh` …"""
    identifier: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherIdentifier:
    """A name of the manuscript in some system, today or formerly."""

    type: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Who keeps the manuscript, and where."""

    institution: str | None
    name: str | None
    collection: str | None
    settlement: str | None
    country: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A text in the manuscript, a physical part of it, or a section of a text."""

    identifier: str | None
    number: str | None
    title: str | None
    alternative_titles: tuple[Title, ...]
    summary: str | None
    locus: str | None
    languages: tuple[Language, ...]
    contributors: tuple[Contributor, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """The file that the work was made from."""

    key: str
    last_modified: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A manuscript, as the catalogue shows it."""

    source_identifier: str
    source: SourceFile
    title: str
    alternative_titles: tuple[Title, ...]
    summary: str | None
    languages: tuple[Language, ...]
    dates: tuple[Date, ...]
    contributors: tuple[Contributor, ...]
    physical_description: PhysicalDescription
    subjects: tuple[Subject, ...]
    shelfmark: str | None
    identifiers: tuple[OtherIdentifier, ...]
    repository: Repository
    parts: tuple[Part, ...]

    def to_document(self) -> dict[str, Any]:
        """JSON, with names in camel case."""
        document: dict[str, Any] = _to_json(self)
        return document


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if is_dataclass(value):
        return {_camel_case(field.name): _to_json(getattr(value, field.name)) for field in fields(value)}
    return value


@cache
def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
