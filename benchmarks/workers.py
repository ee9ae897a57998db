"""Three functions of a record that do next to nothing, and workers made of them."""

from __future__ import annotations

from typing import Any

from winnow import Record, worker

PIPELINE = "weather"
STAGES = ("check", "convert", "label")

Data = dict[str, Any]


def checked(data: Data) -> Data:
    """A reading of a weather station, as it came."""
    if not -200 < data["fahrenheit"] < 200:
        raise ValueError(f"{data['fahrenheit']} °F is no weather")
    return data


def converted(data: Data) -> Data:
    return {"station": data["station"], "celsius": round((data["fahrenheit"] - 32) / 1.8, 1)}


def labelled(data: Data) -> Data:
    return {**data, "label": "frost" if data["celsius"] < 0 else "mild" if data["celsius"] < 20 else "warm"}


FUNCTIONS = (checked, converted, labelled)


@worker
def check(record: Record) -> Data:
    return checked(record.data)


@worker
def convert(record: Record) -> Data:
    return converted(record.data)


@worker
def label(record: Record) -> Data:
    return labelled(record.data)
