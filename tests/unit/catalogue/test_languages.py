from __future__ import annotations

import pytest

from catalogue.languages import ALIASES, LABELS, SYNONYMS, Language, by_code, by_names


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("ar", "ar"),
        ("EN", "en"),
        (" Jv ", "jv"),
        ("es-ES", "es"),
        ("ar-Latn-x-lc", "ar"),
        ("deu", "de"),
        ("ji", "yi"),
    ],
)
def test_a_code_is_known_in_any_case_with_any_subtag_and_under_its_other_names(code: str, known: str) -> None:
    assert by_code(code) == Language(code=known, label=LABELS[known])


@pytest.mark.parametrize("code", ["js", "gran", "", "Arabic"])
def test_a_code_that_is_none_is_unknown(code: str) -> None:
    assert by_code(code) is None


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Latin", ["la"]),
        ("English.", ["en"]),
        ("English; Latin", ["en", "la"]),
        ("Latin English", ["la", "en"]),
        ("Arabic and Persian", ["ar", "fa"]),
        ("Ancient Greek", ["grc"]),
        ("Norman-French", ["xno"]),
        ("Quenya", [None]),
    ],
)
def test_names_alone_are_understood(text: str, codes: list[str | None]) -> None:
    assert [language.code for language in by_names(text)] == codes


def test_every_alias_and_synonym_leads_to_a_label() -> None:
    assert {*ALIASES.values(), *SYNONYMS.values()} <= set(LABELS)
    assert not set(ALIASES) & set(LABELS)
