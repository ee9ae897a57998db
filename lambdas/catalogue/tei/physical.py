"""A manuscript as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalogue.tei.text import attribute, text_of
from catalogue.work import Dimensions, PhysicalDescription

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

MATERIALS = {
    "chart": "paper",
    "leaf": "palm leaf",
    "palm": "palm leaf",
    "palm-leaf": "palm leaf",
    "palm-leaves": "palm leaf",
    "palm_leaf": "palm leaf",
    "parchmentr": "parchment",
    "perg": "parchment",
}
"""TEI's abbreviations of Latin words, and spellings that occur."""

_UNKNOWN = {"", "other", "unknown", "unkown"}


def physical_description(unit: Element) -> PhysicalDescription:
    """Of the manuscript itself, or of its first part that is described."""
    described = next(unit.iter("objectDesc"), None)
    if described is None:
        return PhysicalDescription(form=None, material=None, extent=None, dimensions=())
    support = described.find("supportDesc")
    extent = None if support is None else support.find("extent")
    material = _known(None if support is None else support.get("material"))
    return PhysicalDescription(
        form=_known(described.get("form")),
        material=MATERIALS.get(material, material) if material else None,
        extent=text_of(extent, {"dimensions", "note", "measure", "stamp"}) or None,
        dimensions=tuple(_dimensions([] if extent is None else extent.findall("dimensions"))),
    )


def _known(value: str | None) -> str | None:
    word = (value or "").strip().casefold()
    return None if word in _UNKNOWN else word


def _dimensions(elements: Iterable[Element]) -> Iterable[Dimensions]:
    for element in elements:
        measures: dict[str, str] = {}
        for child in element:
            name = attribute(child, "type") or child.tag if child.tag == "dim" else child.tag
            value = text_of(child) or attribute(child, "quantity")
            if value:
                measures.setdefault(name, value)
        if measures:
            yield Dimensions(
                of=attribute(element, "type"),
                unit=attribute(element, "unit"),
                height=measures.pop("height", None),
                width=measures.pop("width", None),
                depth=measures.pop("depth", None),
                other=tuple(f"{name} {value}" for name, value in measures.items()),
            )
