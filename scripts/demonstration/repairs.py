"""What a cataloguer with a text editor mends in a minute, done by a machine: only for showing how records recover."""

import re
from pathlib import PurePosixPath

from catalogue.tei.document import read
from winnow.core.errors import PermanentError


def mend(key: str, content: bytes) -> bytes | None:
    """A corrected description; None where only an expert on the manuscript can correct it."""
    text = content.decode("utf-8", "replace")
    for each in (_text_before_declaration, _comments_in_attributes, _bare_ampersands, _missing_identifier):
        text = each(key, text)
        try:
            read(text.encode())
        except PermanentError:
            continue
        return text.encode()
    return None


def _text_before_declaration(_: str, text: str) -> str:
    start = text.find("<?xml ")
    return text[start:] if start > 0 else text


def _comments_in_attributes(key: str, text: str) -> str:
    return re.sub(r'="([^"<]*)<!--[^>]*-->([^"]*)"', rf'="\1{_identifier(key)}\2"', text)


def _bare_ampersands(_: str, text: str) -> str:
    return re.sub(r"&(?!#?\w+;)", "&amp;", text)


def _missing_identifier(key: str, text: str) -> str:
    without = re.sub(r'(<TEI\b[^>]*?)\s+xml:id="\s*"', r"\1", text, count=1)
    return re.sub(r"<TEI\b(?![^>]*xml:id)", f'<TEI xml:id="{_identifier(key)}"', without, count=1)


def _identifier(key: str) -> str:
    return re.sub(r"[^\w.-]", "_", PurePosixPath(key).stem)
