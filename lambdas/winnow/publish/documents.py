"""The documents of a publication, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from winnow.core.document import listed, member, nested, nullable, required


class Mode(StrEnum):
    """What a version is made of."""

    REPLACE = "replace"
    """What the run made, and nothing else."""
    MERGE = "merge"
    """The version before, with what the run made laid over it by id."""


class Format(StrEnum):
    """How the files of a version are written."""

    PARQUET = "parquet"
    NDJSON = "ndjson"

    @property
    def suffix(self) -> str:
        return "parquet" if self is Format.PARQUET else "ndjson.zst"


class MoveKind(StrEnum):
    """What is done to a publication."""

    PUBLISH = "publish"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    HOLD = "hold"
    RELEASE = "release"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a version."""

    key: str
    rows: int
    bytes: int
    digest: str
    """Of the file's body."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            key=required(value, "key", str),
            rows=required(value, "rows", int),
            bytes=required(value, "bytes", int),
            digest=required(value, "digest", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "rows": self.rows, "bytes": self.bytes, "digest": self.digest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How a version differs from the one that it was built on, in rows. All but `removed` add up to the version's rows."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    """The run made them again, and they are as before."""
    removed: int = 0
    kept: int = 0
    """The run did not make them, or a newer run had."""

    @property
    def rows(self) -> int:
        return self.added + self.changed + self.unchanged + self.kept

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(**{name: required(value, name, int) for name in cls.__slots__})

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionColumn:
    """A column of a Parquet version: its name and its type in Arrow's words."""

    name: str
    type: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(name=required(value, "name", str), type=required(value, "type", str))

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "type": self.type}


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionClaim:
    """Who builds a version. Written once, before anything else of it."""

    run_id: str
    attempt: int
    """How many candidates the run had built before: another run published meanwhile as often."""
    base: int | None
    """The version that it is built on; None for the first."""
    claimed_at: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            run_id=required(value, "run_id", str),
            attempt=required(value, "attempt", int),
            base=nullable(value, "base", int),
            claimed_at=required(value, "claimed_at", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "attempt": self.attempt,
            "base": self.base,
            "claimed_at": self.claimed_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole version. Written once, after all its files: a version without it is no version."""

    publication: str
    version: int
    format: Format
    files: tuple[DataFile, ...]
    origins: tuple[DataFile, ...]
    """Beside the files, for the next merge: which run wrote each row."""
    rows: int
    schema: tuple[VersionColumn, ...] | None
    """None for ndjson."""
    run_id: str
    run_began: str
    base: int | None
    mode: Mode
    counts: Counts
    created_at: str
    """When its number was claimed, so that a version that is built again is the same."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            publication=required(value, "publication", str),
            version=required(value, "version", int),
            format=member(value, "format", Format),
            files=listed(value, "files", DataFile.from_json),
            origins=listed(value, "origins", DataFile.from_json),
            rows=required(value, "rows", int),
            schema=None if value.get("schema") is None else listed(value, "schema", VersionColumn.from_json),
            run_id=required(value, "run_id", str),
            run_began=required(value, "run_began", str),
            base=nullable(value, "base", int),
            mode=member(value, "mode", Mode),
            counts=nested(value, "counts", Counts.from_json),
            created_at=required(value, "created_at", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "publication": self.publication,
            "version": self.version,
            "format": self.format,
            "files": [each.to_json() for each in self.files],
            "origins": [each.to_json() for each in self.origins],
            "rows": self.rows,
            "schema": None if self.schema is None else [each.to_json() for each in self.schema],
            "run_id": self.run_id,
            "run_began": self.run_began,
            "base": self.base,
            "mode": self.mode,
            "counts": self.counts.to_json(),
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One entry of the history. Written once."""

    at: str
    kind: MoveKind
    before: int | None
    """The version that was current; None before the first."""
    after: int | None
    """The version that is current since; for `prune`, the version that was deleted."""
    who: str
    why: str
    token: str
    """Nanoseconds within the millisecond, and something random: puts moves of the same moment in order and tells them apart."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            at=required(value, "at", str),
            kind=member(value, "kind", MoveKind),
            before=nullable(value, "from", int),
            after=nullable(value, "to", int),
            who=required(value, "who", str),
            why=required(value, "why", str),
            token=required(value, "token", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "kind": self.kind,
            "from": self.before,
            "to": self.after,
            "who": self.who,
            "why": self.why,
            "token": self.token,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentVersion:
    """The pointer: which version consumers read, and how it came to be that one."""

    publication: str
    version: int
    run_id: str
    run_began: str
    rows: int
    format: Format
    manifest: str
    """Key of the version's manifest."""
    files: tuple[str, ...]
    """Keys of the version's files."""
    move: Move
    """The last. Whoever moves the pointer next writes it to the history, if its mover died before that."""
    fence: str = ""
    """Changed by whoever is about to delete versions, so that nobody moves the pointer who looked at it before."""

    @property
    def previous(self) -> int | None:
        """The version that was current before."""
        return self.move.before

    @classmethod
    def of(cls, manifest: Manifest, move: Move, manifest_key: str) -> Self:
        """A pointer to a version."""
        return cls(
            publication=manifest.publication,
            version=manifest.version,
            run_id=manifest.run_id,
            run_began=manifest.run_began,
            rows=manifest.rows,
            format=manifest.format,
            manifest=manifest_key,
            files=tuple(file.key for file in manifest.files),
            move=move,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        files = required(value, "files", list)
        for key in files:
            if type(key) is not str:
                raise ValueError(f"`files` must be keys, got: {key!r}")
        return cls(
            publication=required(value, "publication", str),
            version=required(value, "version", int),
            run_id=required(value, "run_id", str),
            run_began=required(value, "run_began", str),
            rows=required(value, "rows", int),
            format=member(value, "format", Format),
            manifest=required(value, "manifest", str),
            files=tuple(files),
            move=nested(value, "move", Move.from_json),
            fence=nullable(value, "fence", str) or "",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "publication": self.publication,
            "version": self.version,
            "run_id": self.run_id,
            "run_began": self.run_began,
            "published_at": self.move.at,
            "rows": self.rows,
            "format": self.format,
            "manifest": self.manifest,
            "files": list(self.files),
            "previous": self.previous,
            "move": self.move.to_json(),
            **({"fence": self.fence} if self.fence else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationHold:
    """No run moves the pointer; people still may."""

    move: Move
    """The entry of the history. Whoever looks at the hold next writes it, if its writer died before that."""

    @property
    def version(self) -> int | None:
        """The version that was current; it is not pruned."""
        return self.move.after

    def __str__(self) -> str:
        return f"held by {self.move.who} since {self.move.at}: {self.move.why}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(move=Move.from_json(value))

    def to_json(self) -> dict[str, Any]:
        return self.move.to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A run has published: it does not publish again."""

    run_id: str
    version: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(run_id=required(value, "run_id", str), version=required(value, "version", int))

    def to_json(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "version": self.version}
