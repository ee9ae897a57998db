"""The sample records through all three workers in the real runtime, as tests/data/README.md promises."""

from __future__ import annotations

from typing import Any

import pytest

from catalogue.adapt import adapt
from catalogue.mint import mint
from catalogue.transform import transform
from tests.unit.catalogue.fakes import FakeS3
from winnow.testing import BatchResult, run_worker

pytestmark = pytest.mark.usefixtures("dynamodb")


class Run:
    """The three stages, one after the other, over files."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes], keys: dict[str, bytes]
    ) -> None:
        s3 = FakeS3(dict(objects))
        monkeypatch.setattr("catalogue.adapt.client", lambda _service: s3)
        self.adapt = run_worker(
            adapt, [{"id": key, "data": {"bucket": "source", "key": key}} for key in keys]
        )
        self.transform = run_worker(transform, _handed_on(self.adapt))
        self.mint = run_worker(mint, _handed_on(self.transform))

    def table(self) -> list[tuple[int, int, int, int, int]]:
        """In, succeeded, skipped, failed and with warnings, a stage a row."""
        names = ("in", "succeeded", "skipped", "failed", "warnings")
        first, second, third = (
            tuple(stage.counts[name] for name in names) for stage in (self.adapt, self.transform, self.mint)
        )
        return [first, second, third]  # type: ignore[list-item]

    def failures(self) -> dict[str, str]:
        return {
            key: failure.error_type
            for stage in (self.adapt, self.transform, self.mint)
            for key, failure in stage.failures.items()
        }


def _handed_on(result: BatchResult) -> list[dict[str, Any]]:
    return [{"id": key, "data": _as_json(data)} for key, data in result.outputs.items()]


def _as_json(data: dict[str, Any]) -> dict[str, Any]:
    """A Parquet row holds a time, which an inline record cannot."""
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in data.items()}


def test_the_samples_fare_as_their_readme_says_and_recover_once_corrected(
    monkeypatch: pytest.MonkeyPatch, samples: dict[str, bytes], corrections: dict[str, bytes]
) -> None:
    first = Run(monkeypatch, samples, samples)
    assert first.table() == [(60, 53, 0, 7, 0), (53, 51, 2, 0, 2), (51, 50, 0, 1, 0)]
    assert first.failures() == {
        "Arabic/MS_Arabic_4.xml": "MalformedXml",
        "Greek/MS_Greek_2.xml": "MalformedXml",
        "Hebrew/MS_Hebrew_3.xml": "NoIdentifier",
        "Indic/MS_Indic_6.xml": "DoctypeRefused",
        "Latin/MS_Latin_3.xml": "MalformedXml",
        "Recipe books/MS 5.xml": "MalformedXml",
        "Recipe books/index.xml": "NotTei",
        "Arabic/MS_Arabic_9.xml": "IdentifierTaken",
    }
    assert all(stage.tries == 1 for stage in (first.adapt, first.transform, first.mint)), (
        "nothing permanent is tried again"
    )

    second = Run(monkeypatch, samples | corrections, samples)
    assert second.table() == [(60, 60, 0, 0, 0), (60, 58, 2, 0, 2), (58, 58, 0, 0, 0)]
    assert set(corrections) == set(first.failures())
    before, after = (
        {work["sourceIdentifier"]: canonical for canonical, work in run.mint.outputs.items()}
        for run in (first, second)
    )
    assert before.items() < after.items(), "who had a canonical id has kept it"
    assert len(set(after.values())) == 58


def test_the_corrected_files_alone_recover(
    monkeypatch: pytest.MonkeyPatch, samples: dict[str, bytes], corrections: dict[str, bytes]
) -> None:
    Run(monkeypatch, samples, samples)
    assert Run(monkeypatch, samples | corrections, corrections).table() == [(8, 8, 0, 0, 0)] * 3


def test_every_sample_that_becomes_a_work_says_enough(
    monkeypatch: pytest.MonkeyPatch, samples: dict[str, bytes]
) -> None:
    works = Run(monkeypatch, samples, samples).mint.outputs
    assert all(work["canonicalId"] == canonical for canonical, work in works.items())
    assert all(work["title"] and work["languages"] and work["parts"] for work in works.values())


def test_a_canonical_id_is_traced_to_the_file_it_came_from(
    monkeypatch: pytest.MonkeyPatch, samples: dict[str, bytes]
) -> None:
    run = Run(monkeypatch, samples, samples)
    files = {work["source"]["key"]: canonical for canonical, work in run.mint.outputs.items()}
    assert run.mint.lineage[files["Hebrew/כתב יד 4.xml"]] == "Hebrew/כתב יד 4.xml"
