"""Builds a candidate: a version that consumers do not read yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from winnow.batch.successes import read_manifest
from winnow.core import keys
from winnow.core.contract import Pointer, now
from winnow.core.errors import LedgerConflict, PublishContended, UnpublishableRows
from winnow.core.run_document import RunDocument
from winnow.publish.documents import Counts, Format, Manifest, Mode, VersionClaim
from winnow.publish.laying_over import Before, Made, Overlay, RowOrigin, origin_line, origin_of
from winnow.publish.outputs import made_by
from winnow.publish.reading import VersionRow, lines_of, parquet_schema, rows_of
from winnow.publish.writing import PartLimits, VersionWriter

if TYPE_CHECKING:
    from winnow.journal.successes import SuccessManifest
    from winnow.publish.columns import ColumnTypes
    from winnow.publish.documents import CurrentVersion
    from winnow.publish.published_set import PublishedSet
    from winnow.storage.ledger import Ledger

MOST_CANDIDATES = 10
"""Of one run: after so many other runs that published meanwhile it gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The candidate of a run."""

    run_id: str
    version: int
    base: int | None
    rows: int
    counts: Counts | None
    """None where the run has published before, and its version was pruned since."""

    def to_payload(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "version": self.version,
            "base": self.base,
            "rows": self.rows,
            "counts": self.counts.to_json() if self.counts else None,
        }


class VersionBuilder:
    """Builds candidates of one publication. Memory does not grow with the rows."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        published: PublishedSet,
        mode: Mode,
        form: Format,
        limits: PartLimits | None = None,
    ) -> None:
        self._ledger = ledger
        self._published = published
        self._mode = mode
        self._form = form
        self._limits = limits or PartLimits()

    def build(self, run_id: str) -> Built:
        """Build the candidate of a run on the current version. Built again on the same version it is the same, byte by byte.

        Raises:
            UnpublishableRows: the run's rows cannot be one data set.
            PublishContended: too many other runs published meanwhile.
            LedgerObjectMissing: the run is unknown, or its last stage is not done.
            DamagedDocument: an object is not what was written.
        """
        run = self._ledger.read(keys.run(run_id), RunDocument.from_json)
        current, _ = self._published.current()
        version = self._published_before(run_id, current)
        if version is not None:
            found = self._published.manifest(version)
            if found:
                return _built(found)
            return Built(run_id=run_id, version=version, base=None, rows=0, counts=None)
        base = self._published.need_manifest(current.version) if current else None
        if base is None and self._mode is Mode.REPLACE and _is_partial(run):
            raise UnpublishableRows(
                f"run: it made only some of the records, and no version is published that they could be laid over; promote that of "
                f"the run that it replays, or run all records, got: {run.run_id}"
            )
        number, claim = self._claim(run, base)
        manifest = self._published.manifest(number)
        if manifest is None:
            with TemporaryDirectory(prefix="winnow-publish-") as scratch:
                manifest = self._write(run, base, number, claim, Path(scratch))
        return _built(manifest)

    def _published_before(self, run_id: str, current: CurrentVersion | None) -> int | None:
        """The version that this run has published. Its mark may be missing as long as nobody has moved the pointer since."""
        if current and current.run_id == run_id:
            return current.version
        mark = self._published.published_by(run_id)
        return mark.version if mark else None

    def _claim(self, run: RunDocument, base: Manifest | None) -> tuple[int, VersionClaim]:
        """A number for the candidate: the next that is free, or the one that this run has taken on this base before."""
        base_version = base.version if base else None
        number = (base_version or 0) + 1
        mine = VersionClaim(run_id=run.run_id, attempt=0, base=base_version, claimed_at=now())
        while (taken := self._published.claim(number)) is not None:
            is_mine = taken.run_id == run.run_id and taken.base == base_version
            if is_mine and not self._published.is_pruned(number):
                return number, taken
            number += 1
        mine = replace(mine, attempt=self._built_before(run, number))
        if mine.attempt >= MOST_CANDIDATES:
            raise PublishContended(
                f"run {run.run_id}: {mine.attempt} candidates were each overtaken by another run; start fewer runs of the "
                "pipeline at once, and run its records again"
            )
        while True:
            taken = self._published.take(number, mine)
            if taken.run_id == run.run_id and taken.base == base_version:
                return number, taken
            number += 1

    def _built_before(self, run: RunDocument, number: int) -> int:
        """How many candidates this run has claimed below a number."""
        found = 0
        for each in range(number - 1, 0, -1):
            claim = self._published.claim(each)
            if claim is None or claim.claimed_at < run.started_at:
                break
            found += claim.run_id == run.run_id
        return found

    def _write(
        self, run: RunDocument, base: Manifest | None, number: int, claim: VersionClaim, scratch: Path
    ) -> Manifest:
        successes = self._successes(run)
        overlay = Overlay(self._mode_of(run), RowOrigin(began=run.started_at, run_id=run.run_id))
        columns = self._columns(base if overlay.mode is Mode.MERGE else None, scratch)
        made = made_by(self._ledger.store, successes, columns, scratch)
        schema = columns.schema() if columns else None
        writer = VersionWriter(
            self._published.store,
            self._published.keys.version(number),
            form=self._form,
            schema=schema,
            scratch=scratch,
            limits=self._limits,
        )
        try:
            self._lay_over(overlay, base, made, writer, scratch)
        except BaseException:
            writer.discard()
            raise
        manifest = Manifest(
            publication=self._published.name,
            version=number,
            format=self._form,
            files=tuple(writer.files),
            origins=tuple(writer.origins),
            rows=overlay.counts.rows,
            schema=_described(schema),
            run_id=run.run_id,
            run_began=run.started_at,
            base=base.version if base else None,
            mode=overlay.mode,
            counts=overlay.counts,
            created_at=claim.claimed_at,
        )
        try:
            self._published.write_once(self._published.keys.version(number).manifest, manifest.to_json())
        except LedgerConflict:  # a second builder of this candidate, with other code, was first
            return self._published.need_manifest(number)
        return manifest

    def _lay_over(
        self,
        overlay: Overlay,
        base: Manifest | None,
        made: Iterator[Made],
        writer: VersionWriter,
        scratch: Path,
    ) -> None:
        for row in overlay.rows(self._before(base, scratch), made):
            line = origin_line(row.id, row.origin, deleted=row.values is None)
            if row.values is None:
                writer.add_deletion(line)
            else:
                writer.add(row.id, row.values, line, row.size)
        writer.close()

    def _mode_of(self, run: RunDocument) -> Mode:
        """The version of a run that makes only some of the records is never what it made alone."""
        return Mode.MERGE if _is_partial(run) else self._mode

    def _successes(self, run: RunDocument) -> SuccessManifest:
        key = keys.StageKeys(run.run_id, run.stages[-1]).successes
        return read_manifest(self._ledger.store, Pointer(bucket=self._ledger.bucket, key=key))

    def _columns(self, base: Manifest | None, scratch: Path) -> ColumnTypes | None:
        """Those of the version whose rows are kept, to begin with."""
        if self._form is not Format.PARQUET:
            return None
        from winnow.publish.columns import ColumnTypes  # noqa: PLC0415  ndjson needs no pyarrow

        columns = ColumnTypes()
        if base is None:
            return columns
        where = f"version {base.version}"
        if base.format is Format.PARQUET:
            columns.add_schema(parquet_schema(self._published, base, scratch), where)
        else:
            for some in _some(rows_of(self._published, base, scratch)):
                columns.add([row.id for row in some], [row.values for row in some])
        return columns

    def _before(self, base: Manifest | None, scratch: Path) -> Iterator[Before]:
        """The version before with its deletions, in order of id."""
        if base is None:
            return
        rows = rows_of(self._published, base, scratch)
        for line in lines_of(self._published, base.origins, scratch):
            with self._published.naming(base.origins[0].key):
                identifier, origin, deleted = origin_of(line)
            if deleted:
                yield Before(identifier, None, origin, 0)
                continue
            row = next(rows, None)
            with self._published.naming(base.origins[0].key):
                if row is None or row.id != identifier:
                    raise ValueError(f"its ids must be those of the rows, got: {identifier!r}")
            yield Before(identifier, row.values, origin, row.size)


def _is_partial(run: RunDocument) -> bool:
    return run.replay_id is not None or run.records.only is not None


def _built(manifest: Manifest) -> Built:
    return Built(
        run_id=manifest.run_id,
        version=manifest.version,
        base=manifest.base,
        rows=manifest.rows,
        counts=manifest.counts,
    )


def _described(schema: Any) -> Any:
    if schema is None:
        return None
    from winnow.publish.columns import described  # noqa: PLC0415  ndjson needs no pyarrow

    return described(schema)


SOME_ROWS = 2_000


def _some(rows: Iterable[VersionRow]) -> Iterator[list[VersionRow]]:
    some: list[VersionRow] = []
    for row in rows:
        some.append(row)
        if len(some) == SOME_ROWS:
            yield some
            some = []
    if some:
        yield some
