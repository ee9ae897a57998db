from __future__ import annotations

import errno
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from scripts.deployed.sources import LocalSource
from scripts.terminal.errors import CommandFailed, Mistake


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


class TestWhatCannotBeTaken:
    """It is named, and the rest is taken."""

    def test_links_that_lead_nowhere(self, folder: Path) -> None:
        (folder / "broken.xml").symlink_to("gone.xml")
        (folder / "loop.xml").symlink_to("loop.xml")
        (folder / "good.xml").symlink_to("a.xml")
        source = LocalSource.open(folder, include="*.xml")
        assert list(source.files) == ["Recipe books/MS 5.xml", "a.xml", "good.xml"]
        assert list(source.told_left_out()) == [
            "left out (a broken link: No such file or directory): broken.xml",
            "left out (a broken link: Too many levels of symbolic links): loop.xml",
        ]

    def test_linked_folders(self, folder: Path) -> None:
        (folder / "Recipe books" / "around").symlink_to(folder, target_is_directory=True)
        source = LocalSource.open(folder, include="*.xml")
        assert list(source.files) == ["Recipe books/MS 5.xml", "a.xml"]
        assert list(source.told_left_out()) == [
            "left out (a linked folder; give it as --source itself): Recipe books/around"
        ]
        linked = LocalSource.open(folder / "Recipe books" / "around", include="*.xml")
        assert list(linked.files) == ["Recipe books/MS 5.xml", "a.xml"]

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            (b"M\xfcnchen.xml", "left out (a name that is not UTF-8; rename it): M\\xfcnchen.xml"),
            (
                b"two\nlines.xml",
                "left out (a name that cannot be a record id, as that must not hold control characters or line breaks; strip them): two\\u000alines.xml",
            ),
        ],
    )
    def test_files_with_odd_names(self, folder: Path, name: bytes, line: str) -> None:
        (folder / os.fsdecode(name)).write_text("x")
        source = LocalSource.open(folder, include="*.xml")
        assert list(source.files) == ["Recipe books/MS 5.xml", "a.xml"]
        assert list(source.told_left_out()) == [line]
        line.encode()

    def test_what_is_no_file(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe.xml")
        source = LocalSource.open(folder, include="*.xml")
        assert list(source.told_left_out()) == ["left out (a device, socket or pipe): pipe.xml"]
        with pytest.raises(Mistake, match="must be something to read, not a device, socket or pipe"):
            LocalSource.open(folder / "pipe.xml")

    def test_what_may_not_be_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, _mode: path.name != "a.xml")
        source = LocalSource.open(folder, include="*.xml")
        assert list(source.files) == ["Recipe books/MS 5.xml"]
        assert list(source.told_left_out()) == [
            "left out (a file that cannot be read: permission denied): a.xml"
        ]

    def test_folders_that_may_not_be_listed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def scandir(path: str, real: Any = os.scandir) -> Any:
            if str(path).endswith("books"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        source = LocalSource.open(folder, include="*.xml")
        assert list(source.files) == ["a.xml"]
        assert list(source.told_left_out()) == [
            "left out (a folder that cannot be read: Permission denied): Recipe books"
        ]

    def test_links_and_repeated_names_in_a_zip(self, tmp_path: Path) -> None:
        path = tmp_path / "odd.zip"
        link = zipfile.ZipInfo("link.xml")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(link, "a.xml")
            made.writestr("a.xml", "first")
            with pytest.warns(UserWarning, match="Duplicate name"):
                made.writestr("a.xml", "second")
        source = LocalSource.open(path, include="*.xml")
        assert [(key, read()) for key, read in source.files.items()] == [("a.xml", b"second")]
        assert list(source.told_left_out()) == [
            "left out (a link): link.xml",
            "left out (another file of the same name comes after it in the zip): a.xml",
        ]

    def test_hidden_and_unwanted_files_are_not_named(self, folder: Path) -> None:
        (folder / ".broken.xml").symlink_to("gone")
        (folder / "broken.txt").symlink_to("gone")
        (folder / ".linked").symlink_to(folder, target_is_directory=True)
        assert list(LocalSource.open(folder, include="*.xml").told_left_out()) == []

    def test_many_are_counted(self, folder: Path) -> None:
        for number in range(5):
            (folder / f"{number}.xml").symlink_to("gone")
        [line] = LocalSource.open(folder).told_left_out()
        assert line.endswith("): 0.xml, 1.xml, 2.xml and 2 more")

    def test_where_nothing_is_left_it_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "a.xml").symlink_to("gone")
        with pytest.raises(Mistake, match=r"at least one file that matches '\*'; left out \(a broken link"):
            LocalSource.open(tmp_path)

    def test_a_file_that_is_gone_when_it_is_uploaded_is_told_in_one_line(self, folder: Path) -> None:
        source = LocalSource.open(folder, include="a.xml")
        (folder / "a.xml").unlink()
        with pytest.raises(CommandFailed, match=r"a\.xml cannot be read: .*; no run was started"):
            list(source.upload(None, bucket="source"))


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
