from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from catalogue.tei.document import MalformedXml
from catalogue.transform import transform
from tests.unit.catalogue.fakes import tei
from winnow import PermanentError, Record, Skip


def row(content: str, **more: Any) -> Record:
    data = {
        "id": "MS_1",
        "content": content,
        "source": "Arabic/MS_1.xml",
        "last_modified": datetime(2026, 8, 18, tzinfo=UTC),
        "deleted": False,
    }
    return Record("Arabic/MS_1.xml", data | more)


def work(body: str = "") -> dict[str, Any]:
    document: dict[str, Any] = transform(row(tei(body)))
    return document


def item(inner: str) -> str:
    return f"<msContents><msItem>{inner}</msItem></msContents>"


def test_a_description_becomes_a_work(samples: dict[str, bytes]) -> None:
    content = samples["Arabic/MS_Arabic_1.xml"].decode()
    document = transform(row(content, id="MS_Arabic_1", source="Arabic/MS_Arabic_1.xml"))
    by_author = {
        "name": "Yaʿqūb ibn Sālim",
        "otherNames": ["يعقوب بن سالم"],
        "role": "author",
        "viafId": "90000001",
    }
    other_titles = [
        {"label": "The key of remedies", "language": "en"},
        {"label": "مفتاح الأدوية", "language": "ar"},
    ]
    assert document == {
        "sourceIdentifier": "MS_Arabic_1",
        "source": {"key": "Arabic/MS_Arabic_1.xml", "lastModified": "2026-08-18T00:00:00Z"},
        "title": "Miftāḥ al-adwiyah",
        "alternativeTitles": [*other_titles, {"label": "MS Arabic 1", "language": None}],
        "summary": "1 copy of Miftāḥ al-adwiyah by Yaʿqūb ibn Sālim",
        "languages": [{"code": "ar", "label": "Arabic"}],
        "dates": [
            {"label": "1102 AH", "calendar": "hijri-qamari", "fromYear": 1691, "toYear": 1691},
            {"label": "1691", "calendar": "gregorian", "fromYear": 1691, "toYear": 1691},
        ],
        "contributors": [
            by_author,
            {
                "name": "ʿAlī ibn Mūsá al-Nāsikh",
                "otherNames": ["علي بن موسى الناسخ"],
                "role": "scribe",
                "viafId": None,
            },
        ],
        "physicalDescription": {
            "form": "codex",
            "material": "paper",
            "extent": "120 ff.",
            "dimensions": [
                {"of": "leaf", "unit": "mm", "height": "201", "width": "141", "depth": None, "other": []},
                {"of": "written", "unit": "mm", "height": "151", "width": "91", "depth": None, "other": []},
            ],
        },
        "subjects": [
            {"label": "Medicine", "scheme": "lcsh", "identifier": "sh85083064"},
            {"label": "Medicine, Arab", "scheme": "lcsh", "identifier": "sh85083116"},
        ],
        "shelfmark": "MS Arabic 1",
        "identifiers": [{"type": "sierra", "value": "b14800001"}, {"type": "former", "value": "NL.Or.1"}],
        "repository": {
            "institution": "Northgate Library",
            "name": "Northgate Library",
            "collection": "Manuscripts in Arabic",
            "settlement": "Northgate",
            "country": "United Kingdom",
        },
        "parts": [
            {
                "identifier": "MS_Arabic_1_1",
                "number": "1",
                "title": "Miftāḥ al-adwiyah",
                "alternativeTitles": other_titles,
                "summary": None,
                "locus": None,
                "languages": [],
                "contributors": [by_author],
                "parts": [],
            }
        ],
    }


def test_a_deleted_row_is_skipped() -> None:
    assert transform(row(tei(), deleted=True)) == Skip("deleted at the source")


@pytest.mark.parametrize(
    "more",
    [
        {"source": "Templates/MS.xml"},
        {"source": "tei/templates/MS.xml"},
        {"source": "Greek/Greek_MS_Template.xml"},
        {"id": "MS_Template"},
    ],
    ids=str,
)
def test_a_template_is_skipped(more: dict[str, str]) -> None:
    assert transform(row(tei(), **more)) == Skip("template")


@pytest.mark.parametrize("name", ["Latin/Contemplations.xml", "Latin/Templar_rule.xml"])
def test_a_name_that_only_looks_like_template_makes_no_template(name: str) -> None:
    assert isinstance(transform(row(tei(), source=name)), dict)


def test_an_unknown_language_code_is_warned_of_once_and_the_record_succeeds() -> None:
    gran = '<textLang otherLangs="gran">Grantha</textLang>'
    record = row(
        tei(f'<msContents><textLang mainLang="ta">Tamil</textLang>{gran}<msItem>{gran}</msItem></msContents>')
    )
    document = transform(record)
    assert record.warnings == ("unknown language code 'gran' (Grantha)",)
    assert document["languages"] == [{"code": "ta", "label": "Tamil"}, {"code": None, "label": "Grantha"}]


def test_a_mistaken_code_does_not_hide_the_language_that_is_named() -> None:
    record = row(tei('<msContents><textLang mainLang="js">Japanese</textLang></msContents>'))
    assert transform(record)["languages"] == [{"code": "ja", "label": "Japanese"}]
    assert record.warnings == ("unknown language code 'js' (Japanese)",)


def test_a_language_without_a_code_is_found_by_its_name() -> None:
    record = row(tei('<msContents><textLang mainLang="">Latin</textLang></msContents>'))
    assert transform(record)["languages"] == [{"code": "la", "label": "Latin"}]
    assert record.warnings == ()


def test_the_languages_of_all_texts_are_the_works_each_once() -> None:
    greek = '<textLang mainLang="grc">Ancient Greek</textLang>'
    body = f'<msContents>{greek}<msItem>{greek}</msItem><msItem><textLang otherLangs="la ar"/></msItem></msContents>'
    assert [language["code"] for language in work(body)["languages"]] == ["grc", "la", "ar"]


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ('<origDate calendar="Gregorian" when="1830-05-01">1 May 1830</origDate>', ("gregorian", 1830, 1830)),
        (
            '<origDate calendar="#Gregorian" notBefore="1700" notAfter="1799">18th century</origDate>',
            ("gregorian", 1700, 1799),
        ),
        ('<origDate from="1767" to="1867">Edo</origDate>', (None, 1767, 1867)),
        ('<origDate notAfter="0900">before 900</origDate>', (None, None, 900)),
        ("<origDate>1819.</origDate>", (None, 1819, 1819)),
        ("<origDate>c. 1819</origDate>", (None, None, None)),
        ('<origDate calendar="Hijri" when="1850">1266 AH</origDate>', ("hijri", 1850, 1850)),
        ('<origDate calendar="Hijri" when="1276">Rajab 1276</origDate>', ("hijri", None, None)),
        ('<origDate calendar="#Hijri-shamsi" when="1130">١١٣٠</origDate>', ("hijri-shamsi", None, None)),
        (
            '<origDate calendar="Vikram_Samvat" when="1850">2 September 1850</origDate>',
            ("vikram samvat", None, None),
        ),
        ('<origDate calendar="nengō" when="1814">文化11</origDate>', ("nengō", 1814, 1814)),
        ('<origDate calendar="Greogian" when="1600">1600</origDate>', ("gregorian", 1600, 1600)),
    ],
)
def test_years_are_gregorian_or_absent(
    element: str, expected: tuple[str | None, int | None, int | None]
) -> None:
    (date,) = work(f"<history><origin>{element}</origin></history>")["dates"]
    assert (date["calendar"], date["fromYear"], date["toYear"]) == expected


def test_a_date_without_words_is_worded_from_its_years() -> None:
    origin = '<origDate notBefore="1500" notAfter="1599"/><origDate notAfter="1700"/><origDate notBefore="1800"/><origDate/>'
    dates = work(f"<history><origin>{origin}</origin></history>")["dates"]
    assert [date["label"] for date in dates] == ["1500-1599", "before 1700", "after 1800"]


def test_a_year_that_is_none_is_warned_of_once_and_left_out() -> None:
    record = row(tei('<history><origin><origDate when="19355">1935</origDate></origin></history>'))
    assert transform(record)["dates"][0]["label"] == "1935"
    assert record.warnings == ("date '19355' is no year and no ISO date",)


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (
            '<title type="original" xml:lang="ar">ب</title><title type="standard" xml:lang="ar-Latn">A</title>',
            ["A", "ب"],
        ),
        ('<title type="standard"/><title type="original">Kept</title>', ["Kept"]),
        (
            '<title type="uniform">U</title><title>Plain</title><title type="display">D</title>',
            ["D", "U", "Plain"],
        ),
        (
            "<title>One <hi>and</hi>\n  the same<note>aside</note></title><title>One and the same</title>",
            ["One and the same"],
        ),
    ],
)
def test_the_readable_title_comes_first(titles: str, expected: list[str]) -> None:
    document = work(item(titles))
    assert [document["title"], *(title["label"] for title in document["alternativeTitles"])] == expected


def test_a_manuscript_of_several_texts_is_called_by_its_own_name_not_by_one_of_theirs() -> None:
    several = "<msIdentifier><idno>MS 7</idno></msIdentifier><msContents><msItem><title>A</title></msItem><msItem><title>B</title></msItem></msContents>"
    document = work(several)
    assert (document["title"], document["shelfmark"]) == ("MS 7", "MS 7")
    assert [part["title"] for part in document["parts"]] == ["A", "B"]


def test_a_manuscript_of_one_part_is_that_part(samples: dict[str, bytes]) -> None:
    document = transform(row(samples["Malay/MS_Malay_3.xml"].decode()))
    assert document["title"] == "Kitab alamat"
    assert document["alternativeTitles"] == [], "the keeper's name is no title"
    assert document["summary"] == "A treatise on omens."
    assert [part["title"] for part in document["parts"]] == ["Kitab alamat"]


def test_the_parts_of_a_manuscript_nest_as_described(samples: dict[str, bytes]) -> None:
    by_part = transform(row(samples["Malay/MS_Malay_1.xml"].decode()))["parts"]
    assert [(part["title"], [text["title"] for text in part["parts"]]) for part in by_part] == [
        ("Senarai tumbuhan", ["Senarai tumbuhan"]),
        ("Names of snakes", ["Names of snakes"]),
    ]
    by_text = transform(row(samples["Arabic/MS_Arabic_7 & 7a.xml"].decode()))["parts"]
    assert [len(text["parts"]) for text in by_text] == [2, 0, 0]
    assert by_text[0]["parts"][1]["locus"] == "ff. 9v-40r"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(item("<author>Anonymous</author>"), [("Anonymous", [], "author")], id="plain"),
        pytest.param(
            item(
                '<author><persName type="original">أ</persName><persName type="standard">A</persName></author>'
            ),
            [("A", ["أ"], "author")],
            id="in two scripts",
        ),
        pytest.param(
            item(
                '<author><persName xml:lang="ar">أ (<foreign xml:lang="ar-Latn-x-lc">A</foreign>)</persName></author>'
            ),
            [("A", ["أ"], "author")],
            id="with the other script inside",
        ),
        pytest.param(
            item('<editor role="trl">T</editor>'), [("T", [], "translator")], id="an editor with another role"
        ),
        pytest.param(
            item("<respStmt><persName>B</persName><resp>Publisher</resp><resp/></respStmt>"),
            [("B", [], "publisher")],
            id="respStmt",
        ),
        pytest.param(
            "<physDesc><handDesc><handNote>By <persName role='scr' type='display'>S</persName>"
            "<persName type='original'>س</persName></handNote></handDesc></physDesc>",
            [("S", ["س"], "scribe")],
            id="a scribe in prose",
        ),
        pytest.param(
            "<history><provenance><persName role='fmo'>O</persName>, <persName role='owner'>P</persName></provenance></history>",
            [("O", [], "former owner"), ("P", [], "former owner")],
            id="two owners",
        ),
        pytest.param(
            item("<author>Same</author>") + "<msPart>" + item("<author>same</author>") + "</msPart>",
            [("Same", [], "author")],
            id="twice the same",
        ),
        pytest.param(
            "<additional><listBibl><bibl><author>Scholar</author></bibl></listBibl></additional>",
            [],
            id="literature",
        ),
        pytest.param(item("<author key='person_'><persName/></author>"), [], id="blank"),
        pytest.param(item("<note>Sold by <persName>Nobody</persName></note>"), [], id="without a role"),
    ],
)
def test_contributors_have_one_name_to_show_and_a_role_in_words(
    body: str, expected: list[tuple[str, list[str], str]]
) -> None:
    found = [(person["name"], person["otherNames"], person["role"]) for person in work(body)["contributors"]]
    assert found == expected


@pytest.mark.parametrize(
    ("key", "viaf"),
    [
        ("person_88345215", "88345215"),
        ("personal_1", "1"),
        ("person_ 5", "5"),
        ("person_f511", None),
        ("", None),
    ],
)
def test_only_keys_of_viaf_are_viaf_ids(key: str, viaf: str | None) -> None:
    (person,) = work(item(f'<author key="{key}">A</author>'))["contributors"]
    assert person["viafId"] == viaf


def test_subjects_know_their_scheme_by_their_identifier() -> None:
    terms = "".join(
        f'<item><term ref="{ref}">{label}</term></item>'
        for ref, label in [
            ("subject_sh85083064", "Medicine"),
            ("subject_D015671", "[p]Acupuncture"),
            ("subject_", ""),
            ("", "Sleep"),
        ]
    )
    content = tei().replace(
        "</fileDesc>",
        f'</fileDesc><profileDesc><textClass><keywords scheme="#LCSH"><list>{terms}</list></keywords></textClass></profileDesc>',
    )
    assert transform(row(content))["subjects"] == [
        {"label": "Medicine", "scheme": "lcsh", "identifier": "sh85083064"},
        {"label": "Acupuncture", "scheme": "mesh", "identifier": "D015671"},
        {"label": "Sleep", "scheme": "lcsh", "identifier": None},
    ]


def test_measures_are_kept_as_written() -> None:
    document = work(
        '<physDesc><objectDesc form="Codex"><supportDesc material="perg"><extent>ff. 12 <note>wanting</note>'
        '<dimensions type="leaf" unit="cm"><dim type="width">20.5 cm</dim><dim type="length">15</dim></dimensions><dimensions/>'
        "</extent></supportDesc></objectDesc></physDesc>"
    )
    assert document["physicalDescription"] == {
        "form": "codex",
        "material": "parchment",
        "extent": "ff. 12",
        "dimensions": [
            {
                "of": "leaf",
                "unit": "cm",
                "height": None,
                "width": "20.5 cm",
                "depth": None,
                "other": ["length 15"],
            }
        ],
    }


def test_markers_of_an_older_catalogue_are_not_shown() -> None:
    body = "<msContents><summary>[p]On [i]fevers[/i], and [sic] more.[/p]</summary></msContents>"
    assert work(body)["summary"] == "On fevers, and [sic] more."


def test_a_description_of_nothing_still_becomes_a_work_with_every_field() -> None:
    record = row('<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:id="MS_1"><teiHeader/></TEI>')
    document = transform(record)
    assert document["title"] == "MS_1"
    assert set(document) == set(work())
    assert record.warnings == ("no manuscript description (msDesc); the work has little more than a title",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "not a row of a changeset, got: None"),
        (
            {"id": "MS_1", "source": "a.xml"},
            "`content` of a changeset row must be a non-empty string, got: None",
        ),
        ({"id": "", "content": "<a/>", "source": "a.xml"}, "`id` of a changeset row"),
        (
            {"id": "MS_1", "content": "<a/>", "source": "a.xml", "last_modified": "yesterday"},
            "must be an ISO 8601 time, got: 'yesterday'",
        ),
    ],
)
def test_a_record_that_is_no_row_is_permanent_and_names_the_field(data: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        transform(Record("a.xml", data))


def test_a_row_may_come_from_json_with_its_time_as_text() -> None:
    document = transform(row(tei(), last_modified="2026-08-18T10:00:00+02:00"))
    assert document["source"]["lastModified"] == "2026-08-18T08:00:00Z"


def test_a_row_with_bad_content_is_permanent() -> None:
    with pytest.raises(MalformedXml):
        transform(row("<TEI>"))


def test_bottomless_nesting_is_permanent() -> None:
    with pytest.raises(PermanentError, match="nested too deeply"):
        transform(row(tei("<msItem>" * 5000 + "</msItem>" * 5000)))
