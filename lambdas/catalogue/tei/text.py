"""Text out of elements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from xml.etree.ElementTree import Element

XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"

_MARKERS = re.compile(r"\[/?[bipu]\]")
_EMPTY_BRACKETS = re.compile(r"\s*\(\s*\)")


def text_of(element: Element | None, without: Collection[str] = ()) -> str:
    """All text in an element, runs of white space as one blank; `without` names descendants to leave out.

    Markers such as `[p]` and `[/i]`, which an export of an older catalogue left in the text, go.
    """
    if element is None:
        return ""
    text = "".join(_pieces(element, without) if without else element.itertext())
    if "[/" in text:
        text = _MARKERS.sub("", text)
    text = " ".join(text.split())
    return (
        _EMPTY_BRACKETS.sub("", text) if without else text
    )  # "Avicenna ()", where the brackets held what was left out


def attribute(element: Element, name: str) -> str | None:
    """An attribute without the blanks around it; None if it is blank or absent."""
    return element.get(name, "").strip() or None


def _pieces(element: Element, without: Collection[str]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag not in without:
            yield from _pieces(child, without)
        yield child.tail or ""
