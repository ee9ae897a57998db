"""Languages of the catalogue: codes as cataloguers write them, and the label readers see."""

from __future__ import annotations

import re
from dataclasses import dataclass

LABELS = {
    "ang": "Old English",
    "ar": "Arabic",
    "arc": "Aramaic",
    "bbc": "Toba Batak",
    "bo": "Tibetan",
    "btd": "Dairi Batak",
    "btk": "Batak languages",
    "btx": "Karo Batak",
    "cop": "Coptic",
    "de": "German",
    "egy": "Ancient Egyptian",
    "el": "Modern Greek",
    "en": "English",
    "enm": "Middle English",
    "es": "Spanish",
    "fa": "Persian",
    "fr": "French",
    "frm": "Middle French",
    "fro": "Old French",
    "gez": "Ge'ez",
    "gn": "Guaraní",
    "grc": "Ancient Greek",
    "gu": "Gujarati",
    "he": "Hebrew",
    "hi": "Hindi",
    "hy": "Armenian",
    "it": "Italian",
    "itk": "Judeo-Italian",
    "ja": "Japanese",
    "jpr": "Judeo-Persian",
    "jv": "Javanese",
    "la": "Latin",
    "lzh": "Literary Chinese",
    "ms": "Malay",
    "nl": "Dutch",
    "ota": "Ottoman Turkish",
    "pi": "Pali",
    "pka": "Ardhamagadhi Prakrit",
    "pra": "Prakrit languages",
    "pt": "Portuguese",
    "sa": "Sanskrit",
    "si": "Sinhala",
    "spq": "Loreto-Ucayali Spanish",
    "syr": "Syriac",
    "ta": "Tamil",
    "tr": "Turkish",
    "xno": "Anglo-Norman",
    "yi": "Yiddish",
    "zh": "Chinese",
}
"""By IANA language subtag (BCP 47), which is what the descriptions say they use."""

ALIASES = {
    "ara": "ar",
    "arb": "ar",
    "deu": "de",
    "eng": "en",
    "fre": "fr",
    "ger": "de",
    "heb": "he",
    "iw": "he",
    "ji": "yi",
    "jpn": "ja",
    "lat": "la",
    "per": "fa",
    "san": "sa",
    "spa": "es",
}
"""Deprecated subtags, and ISO 639-2 and 639-3 codes of languages that have a shorter subtag."""

SYNONYMS = {
    "anglo-saxon": "ang",
    "flemish": "nl",
    "greek": "grc",
    "norman-french": "xno",
    "turkish": "tr",
}
"""Names in use for a language, beside its label. Greek manuscripts are in Ancient Greek unless a code says otherwise."""

_BY_NAME = {label.casefold(): code for code, label in LABELS.items()} | SYNONYMS
_SEPARATORS = re.compile(r"\s*(?:[;,/&+]|\band\b)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language of a work."""

    code: str | None
    """None when only a name is known."""
    label: str


def by_code(code: str) -> Language | None:
    """The language of a code, whatever its case and whichever region or script follows it; None if unknown."""
    subtag = re.split("[-_]", code.strip().casefold(), maxsplit=1)[0]
    known = ALIASES.get(subtag, subtag)
    return Language(code=known, label=LABELS[known]) if known in LABELS else None


def by_names(text: str) -> list[Language]:
    """The languages that a text without codes names ("Latin", "English; Latin").

    A name that is not in the table comes back without a code.
    """
    found: list[Language] = []
    for name in _SEPARATORS.split(text.strip(" .")):
        code = _BY_NAME.get(name.casefold())
        words = [_BY_NAME.get(word) for word in name.casefold().split()]
        if code:
            found.append(Language(code=code, label=LABELS[code]))
        elif all(words):  # "English Latin"
            found += [Language(code=word, label=LABELS[word]) for word in words if word]
        else:
            found.append(Language(code=None, label=name))
    return found
