"""The example on the whole real catalogue, worker by worker. Skipped where the data is not there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from catalogue.adapt import adapt
from catalogue.mint import mint
from catalogue.transform import transform
from tests.unit.catalogue.fakes import FakeS3, unzip
from winnow import Output, PermanentError, Record, Skip


@dataclass
class Outcome:
    """What became of a set of files in adapt and transform."""

    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    warned: dict[str, tuple[str, ...]] = field(default_factory=dict)
    works: dict[str, dict[str, Any]] = field(default_factory=dict)


def through_adapt_and_transform(objects: dict[str, bytes]) -> Outcome:
    outcome = Outcome()
    s3 = FakeS3(dict(objects))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("catalogue.adapt.client", lambda _service: s3)
        for key in objects:
            _one(key, outcome)
    return outcome


def _one(key: str, outcome: Outcome) -> None:
    try:
        row = adapt(Record(key, {"bucket": "source", "key": key}))
    except PermanentError as error:
        outcome.failed[key] = type(error).__name__
        return
    record = Record(key, row)
    document = transform(record)
    if isinstance(document, Skip):
        outcome.skipped.append(key)
        return
    outcome.works[key] = document
    if record.warnings:
        outcome.warned[key] = record.warnings


@pytest.fixture(scope="module")
def snapshot(real_data: Path) -> Outcome:
    return through_adapt_and_transform(unzip(real_data / "snapshot.zip"))


def test_the_whole_catalogue_loses_its_bad_files_and_no_other(snapshot: Outcome) -> None:
    assert Counter(snapshot.failed.values()) == {"MalformedXml": 14, "NoIdentifier": 16}
    assert len(snapshot.works) == 1606
    assert Counter(warning for warnings in snapshot.warned.values() for warning in warnings) == {
        "unknown language code 'js' (Japanese)": 1,
        "unknown language code 'gran' (Grantha)": 1,
        "date '17770824' is no year and no ISO date": 1,
        "date '18430708' is no year and no ISO date": 1,
        "date '19355' is no year and no ISO date": 1,
    }

    said = Counter(
        name for work in snapshot.works.values() for name, value in work.items() if value not in (None, [])
    )
    assert said["title"] == said["shelfmark"] == said["repository"] == 1606
    assert said["languages"] > 1580
    assert said["summary"] > 1570
    assert said["parts"] > 1600
    assert said["dates"] > 1100
    assert said["contributors"] > 1000
    assert said["subjects"] > 850


@pytest.mark.usefixtures("dynamodb")
def test_of_files_that_share_an_identifier_the_first_is_minted_and_every_other_refused(
    snapshot: Outcome,
) -> None:
    claims = Counter(work["sourceIdentifier"] for work in snapshot.works.values())
    records = [
        Record(key, work) for key, work in snapshot.works.items() if claims[work["sourceIdentifier"]] > 1
    ]
    minted = [
        outcome for start in range(0, len(records), 100) for outcome in mint(records[start : start + 100])
    ]
    outputs = [outcome for outcome in minted if isinstance(outcome, Output)]
    refused = [outcome for outcome in minted if isinstance(outcome, PermanentError)]
    assert len(refused) == 113
    assert (
        len(outputs)
        == len({output.id for output in outputs})
        == len({output.data["sourceIdentifier"] for output in outputs})
    )


@pytest.mark.parametrize(
    ("changeset", "files", "failed"),
    [
        ("2021-04-14-bee7847e", 64, {"MalformedXml": 3, "NoIdentifier": 1}),
        ("2021-05-13-83f5770c", 62, {"MalformedXml": 4, "NoIdentifier": 1}),
        ("2021-12-08-a01ade06", 27, {"MalformedXml": 1}),
        ("2026-07-25-ad8baaeb", 5, {"MalformedXml": 2}),
        ("2026-08-18-12ad8427", 1, {}),
        ("2026-08-18-2efbf31", 1, {"MalformedXml": 1}),
    ],
)
def test_a_real_changeset_loses_its_bad_files_and_no_other(
    real_data: Path, changeset: str, files: int, failed: dict[str, int]
) -> None:
    outcome = through_adapt_and_transform(unzip(real_data / "changesets" / f"{changeset}.zip"))
    assert Counter(outcome.failed.values()) == failed
    assert len(outcome.failed) + len(outcome.skipped) + len(outcome.works) == files
