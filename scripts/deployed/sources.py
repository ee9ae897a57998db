"""Local files on their way into a source bucket."""

import fnmatch
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.deployed.run_uploads import RunUploads
from scripts.terminal.errors import CommandFailed, Mistake
from winnow.alerts.shown_ids import shown_id
from winnow.core.contract import record_id_problem

UPLOADS_AT_ONCE = 16
UNREADABLE = (OSError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What reading a file, or a file in a zip, raises."""
MAX_NAMED = 3
"""Names of files that are left out for one reason, as far as they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Files of a folder, of a zip, or just one."""

    path: Path
    files: Mapping[str, Callable[[], bytes]]
    """How to read each, by its key: its path relative to the folder or inside the zip."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of files and folders that were meant and cannot be taken, by reason."""

    @classmethod
    def open(cls, path: Path, *, include: str = "*") -> "LocalSource":
        """Look what is there.

        Args:
            path: a folder, a zip or a single file.
            include: pattern that a file's name must match, such as `*.xml`. Hidden files never do.

        Raises:
            Mistake: there is nothing that could be uploaded.
        """
        if not path.exists():
            raise Mistake("--source", path, "must be a folder, a zip, a file or an s3:// address that exists")
        if path.is_dir():
            finding = _in_folder(path, include)
        elif problem := _problem_of(path):
            raise Mistake("--source", path, f"must be something to read, not {problem}")
        elif zipfile.is_zipfile(path):
            finding = _in_zip(path, include)
        else:
            finding = _Finding(include)
            finding.add(path.name, path.read_bytes)
        source = cls(path=path, files=dict(sorted(finding.files.items())), left_out=finding.by_reason())
        if not source.files:
            why = "; ".join(("", *source.told_left_out()))
            raise Mistake("--source", path, f"must hold at least one file that matches {include!r}{why}")
        return source

    def told_left_out(self) -> Iterator[str]:
        """What is left out, in a line for each reason."""
        for reason, names in self.left_out.items():
            more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
            yield f"left out ({reason}): {', '.join(map(_shown, names[:MAX_NAMED]))}{more}"

    def upload(
        self, s3: Any, *, bucket: str, prefix: str = "", uploads: RunUploads | None = None
    ) -> Iterator[str]:
        """Upload everything, several files at once; yields each key when it is there.

        Args:
            s3: client of S3.
            bucket: where to.
            prefix: of all keys.
            uploads: claims each object for the run that is about to start.

        Raises:
            CommandFailed: a file cannot be read any more.
            CommandRefused: `uploads` does.
        """

        def put(key: str) -> str:
            try:
                body = self.files[key]()
            except UNREADABLE as error:
                raise CommandFailed(f"{shown_id(key)} cannot be read: {error}; no run was started") from error
            claimed = uploads.about_to_upload(bucket, prefix + key, body) if uploads else None
            answer = s3.put_object(Bucket=bucket, Key=prefix + key, Body=body)
            if uploads:
                uploads.uploaded(claimed, answer["ETag"])
            return prefix + key

        with ThreadPoolExecutor(max_workers=UPLOADS_AT_ONCE) as pool:
            yield from pool.map(put, self.files)


class _Finding:
    """What is found, and what of it cannot be taken."""

    def __init__(self, include: str) -> None:
        self._include = include
        self._left_out: dict[str, list[str]] = {}
        self.files: dict[str, Callable[[], bytes]] = {}

    def add(self, key: str, read: Callable[[], bytes], problem: str = "") -> None:
        """Take a file if it is wanted; `problem` says why it cannot be taken."""
        if not _is_visible(key) or not fnmatch.fnmatch(PurePosixPath(key).name, self._include):
            return
        problem = problem or _problem_of_name(key)
        if problem:
            self.leave_out(key, problem)
        else:
            self.files[key] = read

    def leave_out(self, key: str, problem: str) -> None:
        if _is_visible(key):
            self._left_out.setdefault(problem, []).append(key)

    def by_reason(self) -> dict[str, tuple[str, ...]]:
        return {reason: tuple(sorted(names)) for reason, names in sorted(self._left_out.items())}


def _in_folder(path: Path, include: str) -> _Finding:
    finding = _Finding(include)

    def key_of(file: Path) -> str:
        return file.relative_to(path).as_posix()

    def cannot_be_listed(error: OSError) -> None:
        finding.leave_out(key_of(Path(error.filename)), f"a folder that cannot be read: {error.strerror}")

    for here, folders, files in os.walk(path, onerror=cannot_be_listed):
        for folder in (Path(here, name) for name in folders):
            if folder.is_symlink():  # it may lead back to where we came from
                finding.leave_out(key_of(folder), "a linked folder; give it as --source itself")
        for file in (Path(here, name) for name in files):
            finding.add(key_of(file), file.read_bytes, _problem_of(file))
    return finding


def _problem_of(file: Path) -> str:
    """Why a file cannot be read; empty where it can."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        kind = "a broken link" if file.is_symlink() else "a file that cannot be read"
        return f"{kind}: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "a device, socket or pipe"
    return "" if os.access(file, os.R_OK) else "a file that cannot be read: permission denied"


def _problem_of_name(key: str) -> str:
    """Why a file's name cannot become a record's id; empty where it can."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8; rename it"
    problem = record_id_problem(key)
    return f"a name that cannot be a record id, as that {problem}" if problem else ""


def _in_zip(path: Path, include: str) -> _Finding:
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise Mistake("--source", path, f"must be a zip that can be read ({error})") from error
    members = [info for info in archive.infolist() if not info.is_dir()]
    last = {info.filename: info for info in members}
    finding = _Finding(include)
    for info in members:
        if info.flag_bits & 1:
            raise Mistake("--source", path, "must be a zip without a password")
        if ".." in PurePosixPath(info.filename).parts or info.filename.startswith("/"):
            raise Mistake("--source", info.filename, "must be a zip whose paths stay inside it")
        problem = ""
        if stat.S_ISLNK(info.external_attr >> 16):
            problem = "a link"
        elif last[info.filename] is not info:
            problem = "another file of the same name comes after it in the zip"
        # A ZipFile locks around each read, so that threads may share it.
        finding.add(info.filename, partial(archive.read, info), problem)
    return finding


def _is_visible(key: str) -> bool:
    parts = PurePosixPath(key).parts
    return not any(part.startswith(".") for part in parts) and parts[:1] != ("__MACOSX",)


def _shown(name: str) -> str:
    """A name for people; bytes that are no UTF-8 as escapes."""
    return shown_id(os.fsencode(name).decode("utf-8", "backslashreplace"))
