from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from winnow import PermanentError, Record, Skip, worker
from winnow.core import keys
from winnow.core.contract import Pointer
from winnow.core.record import Delete
from winnow.core.run_document import RunDocument
from winnow.publish.build import Built, VersionBuilder
from winnow.publish.documents import CurrentVersion, Format, Mode
from winnow.publish.published_set import PublishedSet
from winnow.publish.publisher import Published, Publisher
from winnow.publish.writing import PartLimits
from winnow.published import read
from winnow.runtime.decorator import Worker
from winnow.storage.ledger import Ledger
from winnow.storage.store import ObjectStore
from winnow.testing import run_worker
from winnow.testing.memory_store import MemoryStore

FAILS = "fails"
SKIPPED = "skipped"
DELETED = "deleted"


@worker
def obedient(record: Record) -> Any:
    if record.data == FAILS:
        raise PermanentError("it was told to")
    if record.data == SKIPPED:
        return Skip("it was told to")
    if record.data == DELETED:
        return Delete()
    return record.data


@dataclass
class Publication:
    """A publication, and the ledger of the runs that publish it, in memory."""

    mode: Mode = Mode.MERGE
    form: Format = Format.NDJSON
    limits: PartLimits = field(default_factory=PartLimits)
    store: MemoryStore = field(default_factory=lambda: MemoryStore("published"))
    ledger: Ledger = field(default_factory=lambda: Ledger(MemoryStore("ledger")))

    @property
    def set(self) -> PublishedSet:
        return PublishedSet(self.store, "works")

    def run(
        self, began: str, records: Mapping[str, Any], *, replay: bool = False, made_by: Worker = obedient
    ) -> str:
        """A run whose only stage did what the records say; its id. `began` is a day."""
        run_id = f"run-{began}"
        result = run_worker(
            made_by,
            [{"id": each, "data": data} for each, data in records.items()],
            run_id=run_id,
            max_tries=1,
            stage="last",
        )
        store = self.ledger.store
        assert isinstance(store, MemoryStore)
        made = result.ledger.store
        assert isinstance(made, MemoryStore)
        for (_, key), body in made.objects.items():
            store.objects["ledger", key] = body
        document = RunDocument(
            run_id=run_id,
            pipeline="catalogue",
            stages=("last",),
            start_at="last",
            trigger={"kind": "manual"},
            replay_id="replay-1" if replay else None,
            execution="arn",
            started_at=f"2026-11-{began}T00:00:00.000Z",
            records=Pointer(bucket="ledger", key="somewhere"),
            stepped_aside=None,
        )
        self.ledger.write_json(keys.run(run_id), document.to_json())
        return run_id

    def builder(self) -> VersionBuilder:
        return VersionBuilder(
            ledger=self.ledger, published=self.set, mode=self.mode, form=self.form, limits=self.limits
        )

    def build(self, run_id: str) -> Built:
        return self.builder().build(run_id)

    def publish(self, version: int) -> Published:
        return Publisher(self.set, who="pipeline catalogue").publish(version)

    def go(self, began: str, records: Mapping[str, Any], **options: Any) -> Published:
        """Run, build and publish, again where another run was faster."""
        return self.finish(self.run(began, records, **options))

    def finish(self, run_id: str) -> Published:
        while True:
            done = self.publish(self.build(run_id).version)
            if not done.again:
                return done

    def copied(self) -> Publication:
        """The same with buckets of its own."""
        return replace(self, store=_copied(self.store), ledger=Ledger(_copied(self.ledger.store)))

    @property
    def current(self) -> CurrentVersion:
        current, _ = self.set.current()
        assert current is not None
        return current

    def rows(self, version: int | None = None) -> dict[str, Any]:
        """What a consumer reads, by id; `{"n": 1}` as 1."""
        found = list(read("works", bucket=self.store, version=version))
        assert [row["id"] for row in found] == sorted(row["id"] for row in found)
        return {row["id"]: row["n"] for row in found}


def _copied(store: ObjectStore) -> MemoryStore:
    assert isinstance(store, MemoryStore)
    made = MemoryStore(store.bucket)
    made.objects.update(store.objects)
    return made


def numbered(numbers: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
    """Records: a number becomes the data `{"n": number}`; words say what the worker does."""
    given = numbers if isinstance(numbers, Mapping) else dict.fromkeys(numbers, 1)
    return {each: value if isinstance(value, str) else {"n": value} for each, value in given.items()}
