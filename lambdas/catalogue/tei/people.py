"""Who had a part in a manuscript: authors, scribes, owners and others, with their roles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from catalogue.tei.names import forms_of
from catalogue.tei.text import attribute, text_of
from catalogue.work import Contributor

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ROLES = {
    "ann": "annotator",
    "ant": "bibliographic antecedent",
    "asn": "associated name",
    "att": "attributed name",
    "aut": "author",
    "bnd": "binder",
    "cmm": "commentator",
    "com": "compiler",
    "copyist": "scribe",
    "cre": "creator",
    "dte": "dedicatee",
    "edt": "editor",
    "exp": "expert",
    "fmo": "former owner",
    "ill": "illustrator",
    "owner": "former owner",
    "pat": "patron",
    "scr": "scribe",
    "trl": "translator",
}
"""MARC relator codes, which the descriptions use, and two words that they use instead. Any other word is a role itself."""

_OTHER_SCRIPT = {"original", "variant"}
_VIAF = re.compile(r"(?:person|personal)_\s*(\d+)")
"""`person_88345215`. Keys such as `person_f5114` are Fihrist's, not VIAF's."""


def contributors(unit: Element) -> tuple[Contributor, ...]:
    """All people that a description, or a part of one, names with a role; each once, authors of literature not at all."""
    return _distinct(_everybody(unit))


def own_contributors(item: Element) -> tuple[Contributor, ...]:
    """The contributors to one text, without those to the texts within it."""
    return _distinct(contributor for child in item for contributor in _responsible(child))


def _distinct(found: Iterable[Contributor]) -> tuple[Contributor, ...]:
    distinct: dict[tuple[str, str], Contributor] = {}
    for contributor in found:
        distinct.setdefault((contributor.name.casefold(), contributor.role), contributor)
    return tuple(distinct.values())


def _everybody(element: Element) -> Iterator[Contributor]:
    for child in element:
        if child.tag in {"bibl", "biblStruct"}:
            continue
        if child.tag in {"author", "editor", "respStmt"}:
            yield from _responsible(child)
        else:
            yield from _everybody(child)
    yield from _named_in_passing(element)


def _responsible(element: Element) -> Iterator[Contributor]:
    """From the elements that name people."""
    if element.tag == "respStmt":
        names = [child for child in element if child.tag in {"persName", "orgName", "name"}]
        for role in filter(None, (text_of(resp) for resp in element.iter("resp"))):
            yield from _contributor(names, role=role.casefold(), key=None)
    elif element.tag in {"author", "editor"}:
        names = list(element.iter("persName")) or [element]
        role = next(filter(None, (attribute(name, "role") for name in (element, *names))), element.tag)
        yield from _contributor(names, role=role, key=attribute(element, "key"))


def _named_in_passing(element: Element) -> Iterator[Contributor]:
    """From `persName`s with a role, in prose; those that follow in another script are the same person's."""
    group: list[Element] = []
    for name in element:
        if name.tag != "persName":
            continue
        if group and name.get("type", "").casefold() in _OTHER_SCRIPT:
            group.append(name)
            continue
        yield from _grouped(group)
        group = [name]
    yield from _grouped(group)


def _grouped(group: list[Element]) -> Iterator[Contributor]:
    role = next(filter(None, (attribute(name, "role") for name in group)), None)
    if role:
        yield from _contributor(group, role=role, key=attribute(group[0], "key"))


def _contributor(names: Iterable[Element], *, role: str, key: str | None) -> Iterator[Contributor]:
    """None or one: templates leave names blank."""
    forms = forms_of(names)
    if forms:
        viaf = _VIAF.fullmatch(key or "")
        yield Contributor(
            name=forms[0].text,
            other_names=tuple(form.text for form in forms[1:]),
            role=ROLES.get(role, role),
            viaf_id=viaf[1] if viaf else None,
        )
