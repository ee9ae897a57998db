"""A TEI file as a document: well-formed, harmless, and with an identifier; or a reason why not.

Document type declarations are refused altogether. They are where every XML trick begins (entities that expand
for ever, entities that read files or URLs, attributes out of nowhere), no description needs one, and refusing them
is a rule that a cataloguer can follow. Only the start of the file up to the root element can hold one,
so that is read in small pieces: nothing after a declaration is ever expanded.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from xml.etree import ElementTree as ET
from xml.parsers import expat

from winnow import PermanentError

TEI_NAMESPACE = "http://www.tei-c.org/ns/1.0"
XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace"

PROLOG_STEP_BYTES = 2048
MAX_IDENTIFIER_CHARS = 256
"""Far above any shelfmark, far below DynamoDB's longest key."""


class MalformedXml(PermanentError):
    """The file is no well-formed XML; the message holds the parser's position."""


class DoctypeRefused(PermanentError):
    """The file declares a document type, and with it possibly entities."""


class NotTei(PermanentError):
    """The root element is not `TEI`."""


class NoIdentifier(PermanentError):
    """The root element has no usable `xml:id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A checked TEI file."""

    identifier: str
    text: str


def read(content: bytes) -> Description:
    """Check the bytes of a file, parsing them once and building nothing.

    Raises:
        MalformedXml, DoctypeRefused, NotTei, NoIdentifier: what is wrong and what to do.
    """
    opening = _Opening()
    position = opening.feed_prolog(content)
    if position < len(content):
        opening.feed(content[position:], final=True)
    return Description(identifier=opening.identifier(), text=_decode(content, opening.encoding))


def parse(text: str) -> ET.Element:
    """The element tree of a description, tags without TEI's namespace; raises as `read` does."""
    content = text.encode()
    opening = _Opening(encoding="utf-8")
    opening.feed_prolog(content)
    parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 (entities need a DOCTYPE, and the prolog has none)
    try:
        parser.feed(content)
        root: ET.Element = parser.close()
    except ET.ParseError as error:
        raise MalformedXml(f"cannot be parsed as XML: {error}") from None
    opening.identifier()
    prefix = f"{{{TEI_NAMESPACE}}}"
    for element in root.iter():
        element.tag = element.tag.removeprefix(prefix)
    return root


class _Opening:
    """What a file says of itself up to and including the root element's tag."""

    def __init__(self, encoding: str | None = None) -> None:
        self.encoding: str | None = None
        """As the XML declaration has it."""
        self._root: tuple[str, dict[str, str]] | None = None
        self._parser = expat.ParserCreate(encoding, namespace_separator=" ")
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._root_element

    def feed_prolog(self, content: bytes) -> int:
        """Parse until the root element has begun; returns how many bytes that took, all of them in a small file."""
        position = 0
        while self._root is None:
            piece = content[position : position + PROLOG_STEP_BYTES]
            position += len(piece)
            self.feed(piece, final=position == len(content))
        return position

    def feed(self, piece: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(piece, final)
        except expat.ExpatError as error:
            raise MalformedXml(f"cannot be parsed as XML: {error}") from None
        except (LookupError, ValueError) as error:  # an encoding that Python, or expat, does not know
            raise MalformedXml(f"encoding cannot be read ({error}); save the file as UTF-8") from None

    def identifier(self) -> str:
        """The root's `xml:id`; blanks around it are dropped, one of blanks only is none."""
        assert self._root, "expat finds a root element or raises"
        name, attributes = self._root
        if name not in {"TEI", f"{TEI_NAMESPACE} TEI"}:
            raise NotTei(f"root element must be `TEI` in the namespace {TEI_NAMESPACE}, got: {name}")
        identifier = attributes.get(f"{XML_NAMESPACE} id", "").strip()
        if not identifier:
            raise NoIdentifier(
                "no `xml:id` on the root element; give <TEI> one that no other description has"
            )
        if len(identifier) > MAX_IDENTIFIER_CHARS:
            raise NoIdentifier(
                f"`xml:id` must be at most {MAX_IDENTIFIER_CHARS} characters, got: {len(identifier)}"
            )
        return identifier

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self.encoding = encoding

    def _doctype(self, name: str, _system: str | None, _public: str | None, _internal_subset: int) -> None:
        raise DoctypeRefused(
            f"document type declarations are refused; remove <!DOCTYPE {name} …> and write entities out"
        )

    def _root_element(self, name: str, attributes: dict[str, str]) -> None:
        self._root = (name, attributes)
        self._parser.StartElementHandler = None


_UTF16_WITHOUT_MARK = {b"\x00<": "utf-16-be", b"<\x00": "utf-16-le"}
"""By how a file begins. Python takes UTF-16 without a byte order mark for the machine's own order, whatever is declared."""


def _decode(content: bytes, declared: str | None) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif content[:2] in _UTF16_WITHOUT_MARK:
        encoding = _UTF16_WITHOUT_MARK[content[:2]]
    else:
        encoding = declared or "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:  # Python is stricter than expat about a few legacy code pages
        raise MalformedXml(
            f"not {encoding} text: {error.reason} at byte {error.start}; save the file as UTF-8"
        ) from None
