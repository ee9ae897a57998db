"""A pipeline with everything that replaying its failures takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from scripts.deployed import pipelines
from scripts.deployed.runs import find_run
from scripts.replay.criteria import Criteria
from scripts.terminal.errors import CommandRefused
from winnow.alerts.shown_ids import typed_id
from winnow.core.contract import now
from winnow.register.item import Summary
from winnow.register.table import BATCH, RegisterTable
from winnow.storage.executions import StepFunctions
from winnow.storage.ledger import Ledger
from winnow.storage.state_table import DynamoStateTable
from winnow.storage.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scripts.deployed.pipelines import DeployedPipeline
    from scripts.deployed.target import Target
    from winnow.register.entry import Entry
    from winnow.storage.executions import Executions
    from winnow.storage.state_table import StateTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One pipeline, its register, its ledger and its executions."""

    target: Target
    pipeline: DeployedPipeline
    register: RegisterTable
    ledger: Ledger
    executions: Executions
    state: StateTable
    clock: Callable[[], str] = now

    @classmethod
    def open(cls, target: Target, name: str | None) -> Self:
        """The site of a pipeline; without a name, of the only one.

        Raises:
            Mistake: there is no such pipeline.
            CommandRefused: it has no register.
        """
        pipeline = pipelines.find(target, name, field="--pipeline") if name else pipelines.only_one(target)
        if not pipeline.register_table:
            raise CommandRefused(
                f"pipeline {pipeline.name} was deployed without a failure register; deploy it again: cdk deploy"
            )
        dynamodb = target.client("dynamodb")
        return cls(
            target=target,
            pipeline=pipeline,
            register=RegisterTable(pipeline.register_table, dynamodb),
            ledger=Ledger(S3Store(pipeline.ledger_bucket, target.client("s3"))),
            executions=StepFunctions(machine_arn=pipeline.arn, stepfunctions=target.client("stepfunctions")),
            state=DynamoStateTable(pipeline.state_table, dynamodb),
        )

    @property
    def s3(self) -> Any:
        return self.target.client("s3")

    def criteria(self, options: dict[str, Any]) -> Criteria:
        """What was typed, checked against this pipeline."""
        criteria = Criteria.from_options(options, stages=self.pipeline.stages, moment=datetime.now(UTC))
        return replace(criteria, runs=tuple(map(self._run_id, criteria.runs)))

    def _run_id(self, run: str) -> str:
        """The run id of what was typed, which may name an execution; as typed where the ledger has no such run any more."""
        found = find_run(self.target, run, [self.pipeline])
        return found.run_id if found else run

    def stages(self, criteria: Criteria) -> tuple[str, ...]:
        """The stages to look in, in order."""
        return (criteria.stage,) if criteria.stage else self.pipeline.stages

    def entries(self, criteria: Criteria) -> list[Summary]:
        """What matches, in the order of stages and ids. Resolved entries only where they are asked for."""
        now = self.clock()
        found: list[Summary] = []
        for stage in self.stages(criteria):
            here = [entry for entry in self._stage(stage, criteria) if criteria.match(entry, now)]
            found += sorted(here, key=lambda entry: entry.record_id)
        return found

    def _stage(self, stage: str, criteria: Criteria) -> Iterable[Summary]:
        name = self.pipeline.name
        if criteria.ids:
            return map(Summary.of_entry, self.entries_typed(stage, criteria.ids))
        return (
            self.register.all(name, stage)
            if criteria.ask_for_resolved
            else self.register.unresolved(name, stage)
        )

    def entries_of(self, stage: str, ids: Iterable[str]) -> Iterator[Entry]:
        """Whole entries of some records, where they have one."""
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), BATCH):
            yield from self.register.read(self.pipeline.name, stage, wanted[start : start + BATCH]).values()

    def entries_typed(self, stage: str, typed: Sequence[str]) -> Iterator[Entry]:
        """Whole entries of the records that a person means: ids as they are, or as `shown_id` shows them.

        Where there is a record for either reading, the id as it is counts.
        """
        readings = (reading for text in typed for reading in (text, typed_id(text)))
        found = {entry.record_id: entry for entry in self.entries_of(stage, readings)}
        meant = dict.fromkeys(text if text in found else typed_id(text) for text in typed)
        yield from (found[record_id] for record_id in meant if record_id in found)

    def is_new_code(self, entry: Summary) -> bool:
        """Whether its stage has other code now than when it failed for good."""
        deployed = self.pipeline.code_versions.get(entry.stage, "")
        return entry.kind == "permanent" and bool(deployed) and entry.code_version not in {"", deployed}
