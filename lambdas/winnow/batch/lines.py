"""The rows of a text list as texts: decompressed, decoded, and cut at line ends or at the elements of a JSON array.

A list that is not what it should be is refused as a whole, because each of its thousands of lines would be reported as a bad record.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import NoReturn

from winnow.core.contract import Pointer
from winnow.core.errors import StageInputError
from winnow.storage.ledger import MAX_UNPACKED_BYTES, gunzip


class TooLong(bytes):
    """Stands for a row that is too long: it would cost the worker its memory, and with it the other records. Holds only its beginning."""


Row = str | bytes
"""A row's text; bytes where it is not UTF-8, and `TooLong`."""


def read_rows(pieces: Iterator[bytes], pointer: Pointer, *, max_row_bytes: int) -> Iterator[list[Row]]:
    """The rows of a list, some at a time.

    Args:
        pieces: of the object, as it is stored.
        pointer: to it, for errors.
        max_row_bytes: of a row, unpacked.

    Raises:
        StageInputError: the object is no such list, or is damaged.
    """
    start, rest = _beginning(_decoded(pieces, pointer))
    start, rest = _beginning(_as_utf8(start, rest, pointer))
    if start.lstrip(_BLANK).startswith(b"<"):
        _refuse(pointer, "looks like HTML or XML; write JSON Lines, a JSON array or Parquet")
    whole = chain((start,), rest)
    if _is_array(start.lstrip(_BLANK)):
        yield from _elements(whole, _Array(pointer, max_row_bytes))
    else:
        for lines in split_bounded(whole, max_row_bytes):
            yield _texts(lines)


_BLANK = b" \t\r\n"


def _beginning(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Enough of the first pieces to tell what the text is, and the other pieces."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= len(codecs.BOM_UTF32_LE) and start.strip(_BLANK):
            break
    return start, pieces


def _is_array(start: bytes) -> bool:
    """Whether a text is one JSON array, rather than lines of which the first is one."""
    if not start.startswith(b"["):
        return False
    line, _, others = start.partition(b"\n")
    if not others.strip(_BLANK):
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


# What the object is, by its first bytes


_PACKED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_OTHER_FORMATS = {b"Obj\x01": "Avro", b"ORC": "ORC", b"SQLite format 3": "SQLite"}
_MAGIC_BYTES = max(map(len, (*_PACKED, *_OTHER_FORMATS)))


def _refuse(pointer: Pointer, remedy: str) -> NoReturn:
    raise StageInputError("records", str(pointer), remedy)


def _decoded(pieces: Iterator[bytes], pointer: Pointer) -> Iterator[bytes]:
    """Decompress by the first bytes. The name may be wrong."""
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= _MAGIC_BYTES:
            break
    rest = chain((first,), pieces)
    for magic, name in _PACKED.items():
        if first.startswith(magic):
            _refuse(pointer, f"is compressed with {name}; use gzip or zstd, or do not compress it")
    for magic, name in _OTHER_FORMATS.items():
        if first.startswith(magic):
            _refuse(pointer, f"is {name}; write JSON Lines, a JSON array or Parquet")
    try:
        if first[:2] == b"\x1f\x8b":
            yield from gunzip(rest)
        elif first[:4] == b"\x28\xb5\x2f\xfd":
            yield from _unzstd(rest)
        else:
            yield from rest
    except (zlib.error, EOFError) as error:
        raise StageInputError(
            "records", str(pointer), f"cannot be decompressed ({error}); write it again"
        ) from error


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # noqa: PLC0415  Python 3.14, which runs in Lambda
    except ImportError:
        from backports import zstd  # noqa: PLC0415  only lists that are zstd need either
    unpacker, begun = zstd.ZstdDecompressor(), False
    for piece in pieces:
        data = piece
        while data or not unpacker.needs_input:
            begun = True
            try:
                yield unpacker.decompress(data, MAX_UNPACKED_BYTES)
            except zstd.ZstdError as error:
                raise EOFError(str(error)) from error
            data = b""
            if unpacker.eof:
                data = unpacker.unused_data
                unpacker, begun = zstd.ZstdDecompressor(), False
    if begun:
        raise EOFError("it ends too early")


def _as_utf8(start: bytes, pieces: Iterator[bytes], pointer: Pointer) -> Iterator[bytes]:
    """The text in UTF-8, without a byte order mark."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        _refuse(pointer, "is UTF-32; write it as UTF-8")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from _from_utf16(chain((start,), pieces))
        return
    if b"\x00" in start[:4]:
        _refuse(pointer, "looks like UTF-16 or UTF-32 without a byte order mark; write it as UTF-8")
    yield start.removeprefix(codecs.BOM_UTF8)
    yield from pieces


def _from_utf16(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lone surrogates stay what they are, so that only their rows turn out not to be UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "surrogatepass")
    try:
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # half a character at the end
        yield b"\xff"


# Lines


def split_bounded(pieces: Iterable[bytes], longest: int) -> Iterator[list[bytes]]:
    """Lines without their line ends, as many at once as a piece holds. Of a line that is too long only the beginning is kept, in a list of its own."""
    rest = b""
    for piece in pieces:
        text = rest + piece
        lines = text.split(b"\n")
        # What is cut off is not needed to find the line too long when its end comes.
        rest = lines.pop()[: longest + 1]
        if len(text) > longest:
            yield from _apart(lines, longest)
        elif lines:
            yield lines
    if rest:
        yield from _apart([rest], longest)


def _apart(lines: Iterable[bytes], longest: int) -> Iterator[list[bytes]]:
    """The lines, each that is too long in a list of its own."""
    for is_long, some in groupby(lines, lambda line: len(line) > longest):
        if not is_long:
            yield list(some)
            continue
        for line in some:
            yield [TooLong(line[:100])]


def _texts(lines: list[bytes]) -> list[Row]:
    if not isinstance(lines[0], TooLong):
        try:
            return [*b"\n".join(lines).decode().split("\n")]
        except UnicodeDecodeError:  # some line is not UTF-8; the others are still read
            pass
    return [_text(line) for line in lines]


def _text(line: bytes) -> Row:
    if isinstance(line, TooLong):
        return line
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


# Elements of a JSON array


_scan = json.JSONDecoder().raw_decode
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\[\]{},]', re.DOTALL)
"""A string, a quotation mark whose string has no end yet, or what elements are made of."""
_GAP = re.compile(r"[ \t\r\n]*")
_AFTER_ELEMENT = frozenset(" \t\r\n,]")


class _Array:
    """The elements of a JSON array while its text arrives. Holds one piece of the text, or one element if that is longer."""

    def __init__(self, pointer: Pointer, max_row_bytes: int) -> None:
        self._pointer = pointer
        self._longest = max_row_bytes
        self._text = ""
        self._found = 0
        self._state = "["
        """What is to come: `[`, `1` (an element or the end), `,` (or the end), `e` (an element), `]` (nothing more)."""

    def feed(self, more: str, *, last: bool) -> list[Row]:
        """The elements that are complete now."""
        text = self._text + more
        elements: list[Row] = []
        at = 0
        while True:
            gap = _GAP.match(text, at)
            at = gap.end() if gap else at
            if at == len(text):
                break
            if self._state in "1e" and not (text[at] == "]" and self._state == "1"):
                end = _end_of_element(text, at)
                if end is None:
                    break
                if end == at:
                    self._broken(f"there is {text[at]!r} where element {self._found + 1} should be")
                self._found += 1
                if end - at > self._longest:
                    self._too_long(self._found)
                elements.append(_row(text[at:end]))
                self._state = ","
                at = end
                continue
            at += 1
            self._step(text[at - 1])
        self._text = text[at:]
        if len(self._text) > self._longest:
            self._too_long(self._found + 1)
        if last and self._state != "]":
            self._broken(f"it ends within element {self._found + 1}")
        if last and not self._found:
            _refuse(self._pointer, 'is an empty array, and that is not "all"; list at least one record')
        return elements

    def _step(self, character: str) -> None:
        following = {"[[": "1", "1]": "]", ",]": "]", ",,": "e"}.get(self._state + character)
        if following is None:
            self._broken(f"there is {character!r} after element {self._found}")
        self._state = str(following)

    def _too_long(self, number: int) -> NoReturn:
        self._broken(f"element {number} is longer than {self._longest:,} characters")

    def _broken(self, problem: str) -> NoReturn:
        _refuse(
            self._pointer,
            f"is a JSON array that cannot be read: {problem}; write it again, or write JSON Lines",
        )


def _end_of_element(text: str, at: int) -> int | None:
    """Where the element ends that begins at a place; None while the text does not have its end. It need not be JSON."""
    try:
        _, end = _scan(text, at)
    except (ValueError, RecursionError):
        pass
    else:
        if text[end : end + 1] in _AFTER_ELEMENT:  # a number could go on
            return end
    depth = 0
    for token in _TOKEN.finditer(text, at):
        if token[0] == '"':
            return None
        character = token[0][0]
        if depth == 0 and character in ",]":
            return token.start()
        depth += (character in "[{") - (character in "]}")
        if depth == 0 and character in "]}":
            return token.end()
    return None


def _row(element: str) -> Row:
    if element.isascii():
        return element
    body = element.encode("utf-8", "surrogateescape")
    return _text(body)


def _elements(pieces: Iterable[bytes], array: _Array) -> Iterator[list[Row]]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for piece in pieces:
        if elements := array.feed(decoder.decode(piece), last=False):
            yield elements
    if elements := array.feed(decoder.decode(b"", final=True), last=True):
        yield elements
