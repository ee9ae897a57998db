"""What docs/publishing.md tells readers to do, done on a folder instead of a bucket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from scripts import ROOT
from tests.unit.winnow.publications import DELETED, Publication, numbered
from winnow.publish.documents import Format
from winnow.publish.writing import PartLimits

PAGE = (ROOT / "docs" / "publishing.md").read_text("utf-8")
BUCKET = "s3://PUBLISHED_BUCKET"


def on_disk(publication: Publication, folder: Path) -> None:
    for (_, key), body in publication.store.objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def published_as(form: Format, folder: Path) -> Publication:
    publication = Publication(form=form, limits=PartLimits(part_rows=3, group_rows=2))
    publication.go("01", numbered("abcdefgh"))
    publication.go("02", numbered({"a": DELETED, "b": 2, "x": 2}))
    on_disk(publication, folder)
    return publication


def duckdb_of_the_page(folder: Path) -> tuple[str, str]:
    found = re.search(r"\*\*DuckDB\*\*.*?```sql\n(SET.*?;)\n(SELECT.*?;)\n```", PAGE, re.DOTALL)
    assert found
    return found[1].replace(BUCKET, str(folder)), found[2]


def test_duckdb_reads_a_version_of_parquet_as_the_page_says(tmp_path: Path) -> None:
    publication = published_as(Format.PARQUET, tmp_path)
    setting, counting = duckdb_of_the_page(tmp_path)
    with duckdb.connect() as connection:
        connection.execute(setting)
        assert connection.execute(counting).fetchall() == [(8,)]
        rows = connection.execute(counting.replace("count(*)", "id, n")).fetchall()
    assert dict(rows) == publication.rows()


def test_duckdb_reads_a_version_of_ndjson_as_the_page_says(tmp_path: Path) -> None:
    publication = published_as(Format.NDJSON, tmp_path)
    setting, counting = duckdb_of_the_page(tmp_path)
    other = re.search(r"For ndjson: `(read_ndjson\(.*?\))`", PAGE)
    assert other
    with duckdb.connect() as connection:
        connection.execute(setting)
        query = re.sub(r"count\(\*\) FROM .*;", f"id, n FROM {other[1]}", counting)
        rows: list[Any] = connection.execute(query).fetchall()
    assert dict(rows) == publication.rows()


@pytest.mark.parametrize("form", list(Format))
def test_the_folder_that_athena_reads_holds_the_files_of_the_version_only(
    form: Format, tmp_path: Path
) -> None:
    publication = published_as(form, tmp_path)
    found = re.search(rf"'storage.location.template' = '{BUCKET}/(.*?)'", PAGE)
    assert found
    folder = tmp_path / found[1].replace("${version}", "2")
    there = sorted(path.relative_to(tmp_path).as_posix() for path in folder.iterdir())
    assert there == sorted(publication.current.files)
