"""From the tree of a TEI description to a work."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from catalogue.tei.contents import Warn, languages, parts, titles
from catalogue.tei.history import dates
from catalogue.tei.identification import other_identifiers, repository, shelfmark, subjects
from catalogue.tei.names import Form, forms_of
from catalogue.tei.people import contributors
from catalogue.tei.physical import physical_description
from catalogue.tei.text import text_of
from catalogue.work import SourceFile, Work

if TYPE_CHECKING:
    from catalogue.changeset import ChangesetRow

_HOUSES = {"Wellcome Library", "Wellcome Collection", "Wellcome Trust"}
"""Names of the keeper, past and present, that some descriptions have where their own title belongs."""


def describe(root: Element, row: ChangesetRow, warn: Warn) -> Work:
    """The work that a description is of. What it does not say stays empty; what it says wrongly is warned of."""
    ms_desc = root.find("teiHeader/fileDesc/sourceDesc/msDesc")
    if ms_desc is None:
        warn("no manuscript description (msDesc); the work has little more than a title")
        ms_desc = Element("msDesc")
    unit = _unit(ms_desc)
    call_number = shelfmark(root)
    keeper = repository(ms_desc)
    forms = _title_forms(
        root, unit, no_titles=_HOUSES | {keeper.institution, keeper.name}, fallback=call_number or row.id
    )
    return Work(
        source_identifier=row.id,
        source=SourceFile(key=row.source, last_modified=row.last_modified.isoformat().replace("+00:00", "Z")),
        title=forms[0].text,
        alternative_titles=titles(forms[1:]),
        summary=text_of(unit.find("msContents/summary")) or None,
        languages=languages(ms_desc.iter("textLang"), warn),
        dates=dates(ms_desc, warn),
        contributors=contributors(ms_desc),
        physical_description=physical_description(unit),
        subjects=subjects(root),
        shelfmark=call_number,
        identifiers=other_identifiers(ms_desc),
        repository=keeper,
        parts=parts(unit, _said_already),
    )


def _unit(ms_desc: Element) -> Element:
    """The element with the contents: a manuscript that consists of one part is that part."""
    only_parts = ms_desc.findall("msPart")
    return only_parts[0] if len(only_parts) == 1 and ms_desc.find("msContents") is None else ms_desc


def _title_forms(
    root: Element, unit: Element, *, no_titles: Collection[str | None], fallback: str
) -> list[Form]:
    """The title of the only text, if it is one; else, and after it, what the description itself is called."""
    items = unit.findall("msContents/msItem")
    of_text = forms_of(items[0].findall("title")) if len(items) == 1 else []
    of_description = forms_of(
        title
        for title in root.iterfind("teiHeader/fileDesc/titleStmt/title")
        if title.get("type") != "collection"
    )
    forms = [*of_text, *(form for form in of_description if form.text not in no_titles)]
    return forms or [Form(text=fallback, type="", language=None)]


def _said_already(_warning: str) -> None:
    """The parts' languages are among the work's, which has warned of them."""
