"""What the ledger and the source say about failures that are to be replayed."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from scripts.replay.rules import EntryFacts
from scripts.replay.runs import documents
from winnow.batch.plan import find_ids, find_plan, ids_of
from winnow.core.contract import iso
from winnow.core.errors import LedgerObjectMissing, SourceChanged
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.proof.lineage import Lineage, Place, rows_of

if TYPE_CHECKING:
    from winnow.register.item import Summary
    from winnow.storage.ledger import Ledger

HEADS_AT_ONCE = 32
HEADS_AT_MOST = 1_000
"""More objects than this are looked up by listing, a thousand to a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A source object as a run listed it."""

    bucket: str
    key: str
    etag: str
    """Empty where the run was given a list that does not tell."""
    listed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """A source object as it is now."""

    etag: str
    last_modified: str

    def is_other_than(self, listed: Listed) -> bool:
        return self.etag != listed.etag if listed.etag else self.last_modified > listed.listed_at

    def was_known(self, listed: Listed) -> bool:
        """Whether a run that listed it was given it as it is now."""
        return not self.is_other_than(listed)


class SourceObjects:
    """Source objects as they are now."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def now(self, bucket: str, keys: Sequence[str]) -> dict[str, Current]:
        """By key; no entry for an object that is gone."""
        if len(keys) > HEADS_AT_MOST:
            return self._by_listing(bucket, keys)
        with ThreadPoolExecutor(max_workers=HEADS_AT_ONCE) as pool:
            found = pool.map(lambda key: self._head(bucket, key), keys)
            return {key: current for key, current in zip(keys, found, strict=True) if current}

    def _head(self, bucket: str, key: str) -> Current | None:
        try:
            return _current(self._s3.head_object(Bucket=bucket, Key=key))
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                return None
            raise

    def _by_listing(self, bucket: str, keys: Sequence[str]) -> dict[str, Current]:
        wanted = set(keys)
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket,
            Prefix=os.path.commonprefix(keys),  # noqa: RUF071  keys are text, not paths
        )
        return {
            item["Key"]: _current(item)
            for page in pages
            for item in page.get("Contents", ())
            if item["Key"] in wanted
        }


def _current(answer: Mapping[str, Any]) -> Current:
    return Current(etag=answer["ETag"].strip('"'), last_modified=iso(answer["LastModified"]))


class FactFinder:
    """Gathers facts about entries; reads each piece once."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        first_stage: str,
        objects: SourceObjects,
        source_bucket: str,
        runs: Callable[[], Iterable[str]],
    ) -> None:
        """Open the evidence.

        Args:
            ledger: of the pipeline.
            first_stage: of the pipeline.
            objects: what the source is like now.
            source_bucket: where a record is that a list gives as an id and nothing else.
            runs: ids of all runs in the ledger; asked only when a source object turns out to have changed.
        """
        self._ledger = ledger
        self._first_stage = first_stage
        self._objects = objects
        self._source_bucket = source_bucket
        self._runs = runs
        self._lineage = Lineage(ledger)

    def facts(self, entries: Sequence[Summary], start_at: str) -> list[EntryFacts]:
        """What is known of entries of one stage, to be replayed from that or an earlier one; in their order."""
        here = [Place(entry.run_id, entry.stage, entry.ordinal) for entry in entries]
        origins = self._lineage.origins(here, start_at)
        found = [
            EntryFacts(
                places=origins[place].places,
                lineage_problem=origins[place].problem,
                rejected=any(self._is_rejected(each) for each in origins[place].places),
            )
            for place in here
        ]
        return self._with_source(here, found)

    def _is_rejected(self, place: Place) -> bool:
        return place.ordinal in self._lineage.plan(place.run_id, place.stage).rejected

    def _with_source(self, here: Sequence[Place], found: list[EntryFacts]) -> list[EntryFacts]:
        """What became of the source objects since; nothing where the first stage was not given any."""
        origins = self._lineage.origins(here, self._first_stage)
        listed = self._listed({place for origin in origins.values() for place in origin.places})
        changed = self._changed(listed)
        newer = self._newer_runs(listed, changed)
        told: list[EntryFacts] = []
        for place, facts in zip(here, found, strict=True):
            roots = [root for root in origins[place].places if root in listed]
            later = next((newer[root] for root in roots if root in newer), "")
            is_changed = any(root in changed for root in roots) if roots else None
            told.append(replace(facts, source_changed=is_changed, newer_run=later))
        return told

    def _listed(self, roots: set[Place]) -> dict[Place, Listed]:
        by_run: dict[str, list[int]] = {}
        for place in roots:
            by_run.setdefault(place.run_id, []).append(place.ordinal)
        found: dict[Place, Listed] = {}
        for run_id, ordinals in by_run.items():
            plan = self._lineage.plan(run_id, self._first_stage)
            readable = Ranges.of(ordinals) - plan.rejected
            try:
                for ordinal, record_id, data in rows_of(self._ledger, plan, readable):
                    item = self._item(record_id, data, plan.created_at)
                    if item:
                        found[Place(run_id, self._first_stage, ordinal)] = item
            except (LedgerObjectMissing, SourceChanged):
                continue  # an operator's own list, which is gone or has changed: it tells of no objects
        return found

    def _item(self, record_id: str, data: object, at: str) -> Listed | None:
        if data is None:
            return Listed(bucket=self._source_bucket, key=record_id, etag="", listed_at=at)
        if not isinstance(data, Mapping) or not {"bucket", "key"} <= data.keys():
            return None
        etag = str(data.get("etag") or "").strip('"')
        return Listed(bucket=data["bucket"], key=data["key"], etag=etag, listed_at=at)

    def _changed(self, listed: Mapping[Place, Listed]) -> dict[Place, Current]:
        """Those whose object is another now; one that is gone is not: no run has anything newer of it."""
        keys: dict[str, set[str]] = {}
        for item in listed.values():
            keys.setdefault(item.bucket, set()).add(item.key)
        objects = {bucket: self._objects.now(bucket, sorted(some)) for bucket, some in keys.items()}
        return {
            place: current
            for place, item in listed.items()
            if (current := objects[item.bucket].get(item.key)) and current.is_other_than(item)
        }

    def _newer_runs(
        self, listed: Mapping[Place, Listed], changed: Mapping[Place, Current]
    ) -> dict[Place, str]:
        """For records whose source object changed: a later run that listed it as something else."""
        by_run: dict[str, set[Place]] = {}
        for place in changed:
            by_run.setdefault(place.run_id, set()).add(place)
        found: dict[Place, str] = {}
        later = sorted(self._started(), reverse=True) if changed else []
        for run_id, places in by_run.items():
            mine = self._lineage.plan(run_id, self._first_stage)
            ordinals = Ranges.of(place.ordinal for place in places)
            wanted = {
                record_id: Place(run_id, self._first_stage, ordinal)
                for ordinal, record_id in ids_of(self._ledger, mine, ordinals)
            }
            for at, run in later:
                if at <= mine.created_at or not wanted:
                    break
                if run == run_id:
                    continue
                for record_id, item in self._given(run, wanted).items():
                    mine_then = listed[wanted[record_id]]
                    differs = bool(item.etag and mine_then.etag) and item.etag != mine_then.etag
                    if differs or changed[wanted[record_id]].was_known(item):
                        found[wanted.pop(record_id)] = run
        return found

    def _started(self) -> list[tuple[str, str]]:
        return [
            (run.started_at, run.run_id)
            for run in documents(self._ledger, self._runs())
            if run.start_at == self._first_stage
        ]

    def _given(self, run_id: str, wanted: Iterable[str]) -> dict[str, Listed]:
        """Those of some ids that a run's first stage was given, as it listed them."""
        plan = find_plan(self._ledger, StageKeys(run_id, self._first_stage))
        if plan is None:
            return {}
        found = dict(find_ids(self._ledger, plan, set(wanted)))
        places = {Place(run_id, self._first_stage, ordinal) for ordinal in found}
        return {found[place.ordinal]: item for place, item in self._listed(places).items()}
