"""When a manuscript was made."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from catalogue.tei.text import attribute, text_of
from catalogue.work import Date

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_YEAR = re.compile(r"(-?\d{4})(?:-\d\d(?:-\d\d)?)?")
_BARE_YEAR = re.compile(r"[0-9]{4}\.?")
_NUMBERS = re.compile(r"\d+")
_WESTERN = {None, "gregorian", "julian"}
"""Calendars in which a year is the year that TEI's attributes hold."""


def dates(unit: Element, warn: Callable[[str], None]) -> tuple[Date, ...]:
    """Dates of origin, each once, of the whole and of its parts; warns of years that are none."""
    found = (_date(element, warn) for element in unit.iter("origDate"))
    return tuple(dict.fromkeys(date for date in found if date))


def _date(element: Element, warn: Callable[[str], None]) -> Date | None:
    label = text_of(element, {"note"})
    calendar = _calendar(attribute(element, "calendar") or "")
    start = _year(element, ("when", "from", "notBefore"), warn)
    end = _year(element, ("when", "to", "notAfter"), warn)
    if calendar in _WESTERN:
        if start is None and end is None and _BARE_YEAR.fullmatch(label):
            start = end = int(label[:4])
    elif _repeats_label(label, (start, end)):
        start = end = None
    if not label and start is None and end is None:
        return None
    return Date(label=label or _span(start, end), calendar=calendar, from_year=start, to_year=end)


def _calendar(name: str) -> str | None:
    """One spelling for `#Gregorian`, `Gregorian `, `Georgian` and `Greogian`; any other calendar as it is called."""
    folded = name.lstrip("#").casefold().replace("_", " ")
    return "gregorian" if folded.startswith(("gre", "geo")) else folded or None


def _year(element: Element, names: tuple[str, ...], warn: Callable[[str], None]) -> int | None:
    value = next(filter(None, (attribute(element, name) for name in names)), None)
    if value is None:
        return None
    year = _YEAR.fullmatch(value)
    if not year:
        warn(f"date {value!r} is no year and no ISO date")
        return None
    return int(year[1])


def _repeats_label(label: str, years: tuple[int | None, int | None]) -> bool:
    """The attribute holds the year of the other calendar ("21 Ramaḍān 1090", `when="1090"`), where TEI wants the Gregorian."""
    written = {int(number) for number in _NUMBERS.findall(label)}
    return any(year in written for year in years)


def _span(start: int | None, end: int | None) -> str:
    if start == end:
        return str(start)
    if start is None:
        return f"before {end}"
    return f"after {start}" if end is None else f"{start}-{end}"
