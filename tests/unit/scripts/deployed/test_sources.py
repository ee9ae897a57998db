from __future__ import annotations

import zipfile
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from scripts.deployed.sources import LocalSource
from scripts.terminal.errors import Mistake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.xml", "Recipe books/MS 5.xml", "notes.txt", ".git/config.xml", ".hidden.xml"):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "source"


@pytest.fixture
def archive(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as made:
        made.mkdir("Recipe books")
        for file in folder.rglob("*"):
            if file.is_file():
                made.write(file, file.relative_to(folder))
        made.writestr("__MACOSX/a.xml", "resource fork")
    return path


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_keys_are_paths_relative_to_the_folder_or_inside_the_zip(
    kind: str, request: pytest.FixtureRequest
) -> None:
    source = LocalSource.open(request.getfixturevalue(kind), include="*.xml")
    assert list(source.files) == ["Recipe books/MS 5.xml", "a.xml"]
    assert source.files["Recipe books/MS 5.xml"]() == b"Recipe books/MS 5.xml"


def test_takes_everything_but_hidden_files_unless_told_otherwise(folder: Path) -> None:
    assert list(LocalSource.open(folder).files) == ["Recipe books/MS 5.xml", "a.xml", "notes.txt"]


def test_takes_a_single_file(folder: Path) -> None:
    assert list(LocalSource.open(folder / "a.xml").files) == ["a.xml"]


def test_uploads_under_the_prefix_of_the_source(folder: Path) -> None:
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="source")
        uploaded = list(LocalSource.open(folder).upload(s3, bucket="source", prefix="in/"))
        assert uploaded == ["in/Recipe books/MS 5.xml", "in/a.xml", "in/notes.txt"]
        assert s3.get_object(Bucket="source", Key="in/a.xml")["Body"].read() == b"a.xml"


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"../escaped.xml": ""}, "paths stay inside"),
        ({"/absolute.xml": ""}, "paths stay inside"),
        ({"only.txt": ""}, "at least one file that matches"),
        ({"a\nb.xml": ""}, "cannot be a record id"),
        ({"long" * 300 + ".xml": ""}, "cannot be a record id"),
    ],
)
def test_refuses_a_zip_that_cannot_become_records(
    members: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name, text in members.items():
            made.writestr(name, text)
    with pytest.raises(Mistake, match=complaint):
        LocalSource.open(path, include="*.xml")


def test_refuses_what_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        Mistake, match=r"--source must be a folder, a zip, a file or an s3:// address that exists"
    ):
        LocalSource.open(tmp_path / "nothing")
