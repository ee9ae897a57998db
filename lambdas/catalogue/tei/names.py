"""Titles and names: the same thing in several scripts and forms, and which of them to show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalogue.tei.text import XML_LANG, attribute, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ASIDES = frozenset({"note", "foreign"})
"""In a title or a name: remarks about it, and the same name once more in another script."""

_RANK = {"display": 0, "standard": 0, "uniform": 1, "normalised": 1, "main": 1, "": 2, "desc": 3}
_LAST = 4
"""`original` (in its own script), `variant`, `alt` and whatever cataloguers come up with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One wording of a title or name."""

    text: str
    type: str
    language: str | None

    @property
    def rank(self) -> int:
        """Place among the forms of one name; the lowest is shown."""
        return _RANK.get(self.type, _LAST)


def forms_of(elements: Iterable[Element]) -> list[Form]:
    """The distinct wordings that elements hold, the one to show first, otherwise in the order of the file."""
    found: dict[str, Form] = {}
    for element in elements:
        for form in _forms(element):
            if form.text:
                found.setdefault(form.text, form)
    return sorted(found.values(), key=lambda form: form.rank)


def _forms(element: Element) -> Iterable[Form]:
    kind = (attribute(element, "type") or "").casefold()
    yield Form(text=text_of(element, ASIDES), type=kind, language=attribute(element, XML_LANG))
    for foreign in element.iter("foreign"):
        language = attribute(foreign, XML_LANG)
        romanised = "latn" in (language or "").casefold()
        yield Form(text=text_of(foreign), type="standard" if romanised else "original", language=language)
