from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogue.tei.document import (
    MAX_IDENTIFIER_CHARS,
    PROLOG_STEP_BYTES,
    DoctypeRefused,
    MalformedXml,
    NoIdentifier,
    NotTei,
    parse,
    read,
)
from winnow import PermanentError

ROOT = '<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:id="MS_1">'
GOOD = f"{ROOT}<teiHeader>Café</teiHeader></TEI>"


def test_a_good_file_is_read_with_its_identifier_and_text() -> None:
    description = read(GOOD.encode())
    assert (description.identifier, description.text) == ("MS_1", GOOD)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_text_is_decoded_as_the_file_declares_and_can_be_parsed_again(encoding: str) -> None:
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{GOOD}'
    description = read(declared.encode(encoding))
    assert description.text == declared
    assert parse(description.text).findtext("teiHeader") == "Café"


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("declaration", ['<?xml version="1.0" encoding="UTF-16"?>', ""])
def test_utf_16_without_a_byte_order_mark_is_told_by_how_it_begins(order: str, declaration: str) -> None:
    text = f"{declaration}{GOOD}"
    description = read(text.encode(order))
    assert (description.identifier, description.text) == ("MS_1", text)
    assert parse(description.text).findtext("teiHeader") == "Café"


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read(GOOD.encode("utf-8-sig")).text == GOOD


def test_a_root_outside_any_namespace_is_taken_for_tei() -> None:
    bare = '<TEI xml:id="MS_1"><teiHeader/></TEI>'
    assert read(bare.encode()).identifier == "MS_1"
    assert parse(bare).find("teiHeader") is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "no element found: line 1, column 0", id="empty"),
        pytest.param(b"manuscript", "syntax error: line 1, column 0", id="not markup"),
        pytest.param(
            f"{ROOT}\n<p></q></TEI>".encode(), "mismatched tag: line 2, column 5", id="mismatched tag"
        ),
        pytest.param(f"{ROOT}salt & water</TEI>".encode(), "line 1, column 61", id="bare ampersand"),
        pytest.param(f"{ROOT}<p>".encode(), "no element found: line 1, column 58", id="broken off"),
        pytest.param(f"{GOOD}<p/>".encode(), "junk after document element", id="two roots"),
        pytest.param(
            f"\n<?xml version='1.0'?>{GOOD}".encode(), "declaration not at start", id="late declaration"
        ),
        pytest.param(ROOT.encode() + b"Caf\xe9</TEI>", "invalid token", id="wrong bytes"),
        pytest.param(f"{ROOT}\x01</TEI>".encode(), "invalid token", id="control character"),
        pytest.param(f"{ROOT}&nbsp;</TEI>".encode(), "undefined entity", id="undeclared entity"),
        pytest.param(f"{ROOT}<x:p/></TEI>".encode(), "unbound prefix", id="unbound prefix"),
        pytest.param(
            f"<?xml version='1.0' encoding='klingon'?>{GOOD}".encode(),
            "save the file as UTF-8",
            id="encoding",
        ),
        pytest.param(
            f"<?xml version='1.0' encoding='shift_jis'?>{GOOD}".encode("shift_jis", "ignore"),
            "UTF-8",
            id="multi-byte",
        ),
    ],
)
def test_malformed_xml_is_permanent_and_the_message_says_where(content: bytes, message: str) -> None:
    with pytest.raises(MalformedXml, match=message):
        read(content)


@pytest.mark.parametrize("attribute", ["", 'xml:id=""', 'xml:id="  "', 'id="MS_1"'])
def test_no_identifier_is_permanent_and_the_message_says_what_to_do(attribute: str) -> None:
    with pytest.raises(NoIdentifier, match="give <TEI> one that no other description has"):
        read(f'<TEI xmlns="http://www.tei-c.org/ns/1.0" {attribute}/>'.encode())


def test_an_identifier_that_no_table_could_hold_is_permanent() -> None:
    with pytest.raises(NoIdentifier, match=f"at most {MAX_IDENTIFIER_CHARS} characters, got: 300"):
        read(f'<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:id="{"x" * 300}"/>'.encode())


@pytest.mark.parametrize(
    "content", ["<html/>", '<tei xml:id="a"/>', '<TEI xmlns="http://example.com" xml:id="a"/>']
)
def test_another_root_element_is_permanent(content: str) -> None:
    with pytest.raises(NotTei, match="root element must be `TEI`"):
        read(content.encode())


def test_what_is_malformed_and_something_else_is_called_malformed() -> None:
    with pytest.raises(MalformedXml):
        read(b"<html><p></html>")


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))


@pytest.mark.parametrize(
    "doctype",
    [
        pytest.param("<!DOCTYPE TEI>", id="harmless"),
        pytest.param(f'<!DOCTYPE TEI [<!ENTITY e0 "ha">{BOMB}]>', id="billion laughs"),
        pytest.param('<!DOCTYPE TEI [<!ENTITY x SYSTEM "file:///etc/passwd">]>', id="local file"),
        pytest.param('<!DOCTYPE TEI SYSTEM "http://example.com/tei.dtd">', id="remote"),
        pytest.param(
            '<!DOCTYPE TEI [<!ENTITY % p SYSTEM "http://example.com/p"> %p;]>', id="parameter entity"
        ),
        pytest.param('<!DOCTYPE TEI [<!ATTLIST TEI xml:id CDATA "forged">]>', id="attribute default"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_before_anything_is_expanded(doctype: str, encoding: str) -> None:
    content = f"{doctype}{ROOT}&e8;&x;</TEI>"
    began = time.process_time()
    with pytest.raises(DoctypeRefused, match=r"remove <!DOCTYPE TEI …>"):
        read(content.encode(encoding))
    with pytest.raises(DoctypeRefused):
        parse(content)
    assert time.process_time() - began < 1


def test_a_document_type_in_a_comment_is_none() -> None:
    assert read(f"<!-- <!DOCTYPE TEI> -->{GOOD}".encode()).identifier == "MS_1"


@pytest.mark.parametrize("padding", range(PROLOG_STEP_BYTES - 80, PROLOG_STEP_BYTES + 10, 9))
def test_a_root_element_may_begin_anywhere(padding: int) -> None:
    content = f"<!--{' ' * padding}-->{GOOD}"
    assert read(content.encode()).identifier == "MS_1"
    assert parse(content).findtext("teiHeader") == "Café"


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="<>/&;!?TEI xml:id=\"'[]a", max_size=80).map(str.encode)
    )
)
def test_whatever_the_bytes_a_file_is_read_or_permanently_refused(content: bytes) -> None:
    try:
        description = read(content)
    except PermanentError as error:
        assert "\n" not in str(error)  # noqa: PT017  either outcome is right
    else:
        assert parse(description.text) is not None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=3))
def test_a_file_damaged_anywhere_is_read_or_permanently_refused(position: int, damage: bytes) -> None:
    content = GOOD.encode()
    try:
        read(content[:position] + damage + content[position + len(damage) :])
    except PermanentError:
        return
