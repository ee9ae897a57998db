"""What a manuscript is called by, who keeps it and what it is filed under."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from catalogue.tei.text import attribute, text_of
from catalogue.work import OtherIdentifier, Repository, Subject

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

IDENTIFIER_TYPES = {
    "old": "former",
    "oldnumber": "former",
    "previous": "former",
    "ragavan": "raghavan",
    "refno": "calmref",
    "ref_no": "calmref",
    "sierra_b_number": "sierra",
}
"""Spellings that occur, and what they mean."""

_SUBJECT_ID = re.compile(r"(sh|n|D)[A-Za-z]*(\d+)")
_SUBJECT_SCHEMES = {"sh": "lcsh", "n": "lcnames", "D": "mesh"}
_MARKER = re.compile(r"^\[\w\]\s*")
"""`[p]`, which cataloguers put before preferred terms."""


def shelfmark(root: Element) -> str | None:
    """Of the whole manuscript; the description's own number of it where there is none."""
    direct = root.findall("teiHeader/fileDesc/sourceDesc/msDesc/msIdentifier/idno")
    numbers = [
        idno for idno in root.findall("teiHeader/fileDesc/publicationStmt/idno") if idno.get("type") == "msID"
    ]
    return next(filter(None, map(text_of, (*direct, *numbers))), None)


def other_identifiers(ms_desc: Element) -> tuple[OtherIdentifier, ...]:
    """The manuscript's numbers in other systems, each once."""
    found = []
    for alternative in ms_desc.iterfind("msIdentifier/altIdentifier"):
        for idno in alternative.iter("idno"):
            value = text_of(idno)
            kind = (attribute(alternative, "type") or attribute(idno, "type") or "other").casefold()
            if value:
                found.append(OtherIdentifier(type=IDENTIFIER_TYPES.get(kind, kind), value=value))
    return tuple(dict.fromkeys(found))


def repository(ms_desc: Element) -> Repository:
    """The keeper, as far as it is named."""

    def named(tag: str) -> str | None:
        return text_of(ms_desc.find(f"msIdentifier/{tag}")) or None

    return Repository(
        institution=named("institution"),
        name=named("repository"),
        collection=named("collection"),
        settlement=named("settlement"),
        country=named("country"),
    )


def subjects(root: Element) -> tuple[Subject, ...]:
    """The terms that the description is indexed with; those left blank in a template are none."""
    found: dict[str, Subject] = {}
    for keywords in root.iterfind("teiHeader/profileDesc/textClass/keywords"):
        scheme = (attribute(keywords, "scheme") or "").lstrip("#").casefold() or None
        for term in keywords.iter("term"):
            label = _MARKER.sub("", text_of(term))
            if label:
                found.setdefault(
                    label, _subject(label, scheme, attribute(term, "ref") or attribute(term, "key") or "")
                )
    return tuple(found.values())


def _subject(label: str, scheme: str | None, reference: str) -> Subject:
    """The identifier knows its scheme better than the list that contains it."""
    identifier = _SUBJECT_ID.search(reference)
    if not identifier:
        return Subject(label=label, scheme=scheme, identifier=None)
    return Subject(label=label, scheme=_SUBJECT_SCHEMES[identifier[1]], identifier=identifier[0])
