r"""Record ids as people see them and type them: what cannot be seen or copied stands as an escape, `\u202f`.

One form for alerts, Slack and the command line. It is one line, without double blanks or backticks, so it can be copied from a
terminal, an e-mail or Slack; every command that takes an id reads it back. An id without such characters is shown as it is.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
IGNORABLE = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""First and last of what fonts show as nothing, or as a blank, although Unicode counts them as letters, marks or symbols."""
BACKTICK = "`"
"""Slack ends code at it, and a shell runs what stands between two."""


def shown_id(record_id: str, limit: int | None = None) -> str:
    """A record id as it can be shown and copied.

    Args:
        record_id: the id.
        limit: characters to show at most; one that is cut ends in `…` and cannot be read back.
    """
    shown = "".join(
        _escaped(char) if _is_hidden(record_id, place) else char for place, char in enumerate(record_id)
    )
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def typed_id(text: str) -> str:
    """The record id that a person means who copied what `shown_id` made."""
    return re.sub(r"\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})", _character, text)


def _is_hidden(text: str, place: int) -> bool:
    char = text[place]
    if char == " ":  # one between two words is seen and copied
        return place in {0, len(text) - 1} or text[place - 1] == " "
    if char == "\\":  # where it would be read as the beginning of an escape
        return text[place + 1 : place + 2] in {"u", "U"}
    if char.isascii():
        return char == BACKTICK or not char.isprintable()
    code = ord(char)
    return unicodedata.category(char) in HIDDEN_CATEGORIES or any(
        first <= code <= last for first, last in IGNORABLE
    )


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _character(escape: re.Match[str]) -> str:
    code = int(escape[1] or escape[2], 16)
    is_character = code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_character else escape[0]
