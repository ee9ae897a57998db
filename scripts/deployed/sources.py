"""Local files on their way into a source bucket."""

import fnmatch
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.terminal.errors import Mistake
from winnow.core.contract import record_id_problem

UPLOADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Files of a folder, of a zip, or just one."""

    path: Path
    files: Mapping[str, Callable[[], bytes]]
    """How to read each, by its key: its path relative to the folder or inside the zip."""

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
            found = {
                file.relative_to(path).as_posix(): file.read_bytes
                for file in path.rglob("*")
                if file.is_file()
            }
        elif zipfile.is_zipfile(path):
            found = _in_zip(path)
        else:
            found = {path.name: path.read_bytes}
        files = {key: found[key] for key in sorted(found) if _is_wanted(key, include)}
        if not files:
            raise Mistake("--source", path, f"must hold at least one file that matches {include!r}")
        for key in files:
            problem = record_id_problem(key)
            if problem:
                raise Mistake(
                    "--source", key, f"has a file whose name cannot be a record id, as that {problem}"
                )
        return cls(path=path, files=files)

    def upload(self, s3: Any, *, bucket: str, prefix: str = "") -> Iterator[str]:
        """Upload everything, several files at once; yields each key when it is there."""

        def put(key: str) -> str:
            s3.put_object(Bucket=bucket, Key=prefix + key, Body=self.files[key]())
            return prefix + key

        with ThreadPoolExecutor(max_workers=UPLOADS_AT_ONCE) as pool:
            yield from pool.map(put, self.files)


def _in_zip(path: Path) -> dict[str, Callable[[], bytes]]:
    archive = zipfile.ZipFile(path)
    members = [info for info in archive.infolist() if not info.is_dir()]
    for info in members:
        if info.flag_bits & 1:
            raise Mistake("--source", path, "must be a zip without a password")
        if ".." in PurePosixPath(info.filename).parts or info.filename.startswith("/"):
            raise Mistake("--source", info.filename, "must be a zip whose paths stay inside it")
    # A ZipFile locks around each read, so that threads may share it.
    return {info.filename: lambda info=info: archive.read(info) for info in members}  # type: ignore[misc]


def _is_wanted(key: str, include: str) -> bool:
    parts = PurePosixPath(key).parts
    hidden = any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX"
    return not hidden and fnmatch.fnmatch(parts[-1], include)
