"""What is in a manuscript: its texts, their titles and their languages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from catalogue.languages import Language, by_code, by_names
from catalogue.tei.names import Form, forms_of
from catalogue.tei.people import own_contributors
from catalogue.tei.text import XML_ID, attribute, text_of
from catalogue.work import Part, Title

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Warn = Callable[[str], None]


def titles(forms: Iterable[Form]) -> tuple[Title, ...]:
    """Wordings, as a work holds them."""
    return tuple(Title(label=form.text, language=form.language) for form in forms)


def languages(elements: Iterable[Element], warn: Warn) -> tuple[Language, ...]:
    """The languages that `textLang` elements name, each once; warns of unknown codes."""
    found: dict[str, Language] = {}
    for element in elements:
        for language in _languages(element, warn):
            found.setdefault(language.label, language)
    return tuple(found.values())


def _languages(element: Element, warn: Warn) -> Iterator[Language]:
    codes = f"{element.get('mainLang', '')} {element.get('otherLangs', '')}".split()
    label = text_of(element)
    for code in codes:
        language = by_code(code)
        if language:
            yield language
            continue
        warn(f"unknown language code {code!r} ({label or 'no name given'})")
        if label and len(codes) == 1:
            yield from by_names(label)
    if label and not codes:
        for language in by_names(label):
            if language.code is None:
                warn(f"unknown language {language.label!r} without a code")
            yield language


def parts(unit: Element, warn: Warn) -> tuple[Part, ...]:
    """The texts (`msItem`) and physical parts (`msPart`, `msFrag`) of a manuscript, nested as they are."""
    return tuple(_parts(unit, warn))


def _parts(unit: Element, warn: Warn) -> Iterator[Part]:
    for child in unit:
        if child.tag == "msContents":
            yield from _parts(child, warn)
        elif child.tag == "msItem":
            yield from _filled(_item(child, warn))
        elif child.tag in {"msPart", "msFrag"}:
            yield from _filled(_physical_part(child, warn))


def _filled(part: Part) -> Iterator[Part]:
    """Nothing for the blank items that templates leave behind."""
    if part.identifier or part.title or part.locus or part.summary or part.parts:
        yield part


def _item(item: Element, warn: Warn) -> Part:
    forms = forms_of(item.findall("title"))
    return Part(
        identifier=attribute(item, XML_ID),
        number=attribute(item, "n"),
        title=forms[0].text if forms else None,
        alternative_titles=titles(forms[1:]),
        summary=None,
        locus=text_of(item.find("locus")) or None,
        languages=languages(item.findall("textLang"), warn),
        contributors=own_contributors(item),
        parts=parts(item, warn),
    )


def _physical_part(part: Element, warn: Warn) -> Part:
    within = parts(part, warn)
    return Part(
        identifier=attribute(part, XML_ID),
        number=attribute(part, "n"),
        title=within[0].title if len(within) == 1 else None,
        alternative_titles=(),
        summary=text_of(part.find("msContents/summary")) or None,
        locus=None,
        languages=languages(part.findall("msContents/textLang"), warn),
        contributors=(),
        parts=within,
    )
