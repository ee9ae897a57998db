"""The gate of one publication: reads a version and the numbers of its run, evaluates the rules, and writes down what it found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from winnow.core import keys
from winnow.core.contract import Pointer
from winnow.core.errors import LedgerConflict
from winnow.core.keys import StageKeys
from winnow.core.run_document import RunDocument
from winnow.publish.published_set import PublishedSet
from winnow.publish.reading import digest_of_file
from winnow.quality.database import MEMORY_MB, Database
from winnow.quality.engine import Examination, RowSource
from winnow.quality.facts import CandidateFacts, RunCounts
from winnow.quality.judged import find_gate
from winnow.quality.result import GateResult
from winnow.quality.rules import References, Rule
from winnow.settlement.result import find_result
from winnow.storage.ledger import gzipped
from winnow.storage.published_store import published_store

if TYPE_CHECKING:
    from winnow.publish.documents import Manifest
    from winnow.storage.ledger import Ledger
    from winnow.storage.published_store import PublishedStore


class QualityGate:
    """Judges versions of one publication by some rules."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        published: PublishedSet,
        rules: Sequence[Rule],
        open_bucket: Callable[[str], PublishedStore] = published_store,
        memory_mb: int = MEMORY_MB,
    ) -> None:
        """Define the gate.

        Args:
            ledger: of the runs that built the versions.
            published: the publication.
            rules: what a version has to be.
            open_bucket: opens the bucket that a rule refers to, by its name.
            memory_mb: of DuckDB's buffers; more spills to the disk.
        """
        self._open_bucket = open_bucket
        self._ledger = ledger
        self._published = published
        self._rules = rules
        self._memory_mb = memory_mb

    def judge(self, version: int) -> GateResult:
        """Judge a version, once: what was written down stands, so a repeated step gives the same answer.

        Raises:
            PublishRefused: there is no such version.
            DamagedDocument: an object is not what was written.
        """
        if found := find_gate(self._published, version):
            return found
        result = self.examine(version, keep_ids=True)
        try:
            self._published.write_once(self._published.keys.version(version).gate, result.to_json())
        except LedgerConflict:  # another invocation of this step, of a version with other rules, was first
            return find_gate(self._published, version) or result
        return result

    def examine(self, version: int, *, keep_ids: bool = False) -> GateResult:
        """Evaluate the rules on a version, whatever was written down.

        Args:
            version: a whole one.
            keep_ids: write the ids that violate a rule beside the version.

        Raises:
            PublishRefused: there is no such version.
            DamagedDocument: an object is not what was written.
        """
        manifest = self._published.need_manifest(version)
        facts = self._facts(manifest)
        with (
            TemporaryDirectory(prefix="winnow-gate-") as folder,
            closing(Database(Path(folder), memory_mb=self._memory_mb)) as database,
        ):
            examination = Examination(
                self._rules,
                rows=_rows_of(self._published, manifest),
                facts=facts,
                others=self._find_other,
                database=database,
            )
            examination.measure()
            file = self._keep(version, examination.violating_ids(), write=keep_ids)
            return GateResult(
                publication=self._published.name,
                version=version,
                run_id=manifest.run_id,
                base=manifest.base,
                rows=manifest.rows,
                results=examination.results(),
                violations_file=file,
            )

    def _keep(self, version: int, found: Iterator[tuple[Rule, str]], *, write: bool) -> Pointer | None:
        """Write ids down as they come; None where there are none, or they are not to be kept."""
        first = next(found, None)
        if first is None:
            return None
        lines = (
            json.dumps({"rule": rule.name, "id": identifier}, ensure_ascii=False)
            for rule, identifier in chain((first,), found)
        )
        if not write:
            for _ in lines:  # the results name the first ids, which are known when all were seen
                pass
            return None
        key = self._published.keys.version(version).violations
        self._published.store.put_stream(key, gzipped(lines))
        return Pointer(bucket=self._published.store.bucket, key=key)

    def _facts(self, manifest: Manifest) -> CandidateFacts:
        counts = manifest.counts
        return CandidateFacts(
            rows=manifest.rows,
            changed=counts.changed,
            removed=counts.removed,
            base=manifest.base,
            # Each row of the version before is changed, unchanged, kept or removed.
            base_rows=counts.rows - counts.added + counts.removed,
            began=datetime.fromisoformat(manifest.run_began),
            run=run_counts(self._ledger, manifest.run_id),
        )

    def _find_other(self, rule: References) -> RowSource | None:
        store = self._open_bucket(rule.bucket) if rule.bucket else self._published.store
        other = PublishedSet(store, rule.publication)
        current, _ = other.current()
        return _rows_of(other, other.need_manifest(current.version)) if current else None


def run_counts(ledger: Ledger, run_id: str) -> RunCounts | None:
    """How many records a run was given, and how many failed in any stage; None where the ledger does not have it.

    Raises:
        DamagedDocument: a document of the run cannot be read.
    """
    run = ledger.find(keys.run(run_id), RunDocument.from_json)
    if run is None:
        return None
    first, last = (find_result(ledger, StageKeys(run_id, stage)) for stage in (run.start_at, run.stages[-1]))
    if first is None or last is None:
        return None
    return RunCounts(records_in=first.counts.records_in, failed=last.output.lost_in_run)


def _rows_of(published: PublishedSet, manifest: Manifest) -> RowSource:
    digests = {file.key: file.digest for file in manifest.files}

    def fetch(key: str, path: Path) -> None:
        with published.naming(key):
            with path.open("wb") as target:
                for piece in published.store.stream(key):
                    target.write(piece)
            if digest_of_file(path) != digests[key]:
                raise ValueError("its body is not the one that was written")

    return RowSource(format=manifest.format, keys=tuple(digests), fetch=fetch)
