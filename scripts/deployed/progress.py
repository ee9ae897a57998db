"""How far a run is: read from the ledger, which is the truth, and from Step Functions, which knows whether it ended."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.publications import open_published
from scripts.deployed.target import Target
from winnow.batch.plan import Plan, find_plan
from winnow.core.contract import Kind, Verdict
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.core.repetitions import Repetitions
from winnow.core.sfn_errors import innermost
from winnow.journal.evidence import fold, read_segment
from winnow.journal.segment import Segment
from winnow.publish.published_set import PublishedSet
from winnow.runs.published_by_run import PublishedByRun, published_by
from winnow.runs.run_ended import RunEnded
from winnow.settlement.result import StageResult
from winnow.settlement.settlement import FINAL, Settlement, before_anything, settlements
from winnow.storage.executions import RUNNING
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

LOCAL_PAUSE_SECONDS = 0.2
PAUSE_SECONDS = 2.0
"""Between looks at a run in an account: each costs about six requests."""


class StageState(StrEnum):
    """How far a stage of a run is."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    NOT_RUN = "not run"
    """The run ended before the stage was planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """One stage of a run, in counts that always add up: in = succeeded + skipped + failed + outstanding."""

    stage: str
    state: StageState
    records_in: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    """Lost for good; while the stage runs, those known to be permanent."""
    tries: int = 0
    failures_file: str | None = None
    repetitions: Repetitions = field(default_factory=Repetitions)
    """Rows and outputs that repeat an id."""

    @property
    def outstanding(self) -> int:
        """What may still succeed."""
        return self.records_in - self.succeeded - self.skipped - self.failed

    def to_json(self) -> dict[str, Any]:
        """As `winnow run --json` prints it."""
        return {
            "stage": self.stage,
            "in": self.records_in,
            "succeeded": self.succeeded,
            "skipped": self.skipped,
            "failed": self.failed,
            "tries": self.tries,
            "failures_file": self.failures_file,
            **self.repetitions.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A run at one moment."""

    run_id: str
    status: str
    """Step Functions' own word: RUNNING SUCCEEDED FAILED TIMED_OUT ABORTED."""
    stages: tuple[StageProgress, ...]
    seconds: float
    """Since the run started."""
    cause: str = ""
    """Why it failed."""
    published: PublishedByRun | None = None
    """None before the run has ended, and where its pipeline publishes nothing."""

    @property
    def has_ended(self) -> bool:
        """Whether anything will change any more."""
        return self.status not in RUNNING

    @property
    def lost(self) -> int:
        """Records that did not make it through all stages."""
        return sum(stage.failed for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """As `winnow run --json` prints it."""
        stages = [stage.to_json() for stage in self.stages]
        published = {"published": self.published.to_json()} if self.published else {}
        return {"run_id": self.run_id, "status": self.status, "stages": stages, **published}


class RunWatch:
    """Looks at one run again and again, reading each piece of evidence once."""

    def __init__(
        self,
        stages: Iterable[str],
        *,
        ledger: Ledger,
        stepfunctions: Any,
        execution: str,
        pause_seconds: float,
        published: PublishedSet | None = None,
    ) -> None:
        self._published = published
        self._run_id = execution.rsplit(":", 1)[-1]
        self._execution = execution
        self._stepfunctions = stepfunctions
        self._pause_seconds = pause_seconds
        self._stages = [_StageWatch(ledger, StageKeys(self._run_id, stage)) for stage in stages]

    @classmethod
    def of(cls, target: Target, pipeline: DeployedPipeline, execution: str) -> Self:
        """Watch the run of an execution; we name executions after their runs."""
        return cls(
            pipeline.stages,
            ledger=Ledger(S3Store(pipeline.ledger_bucket, target.client("s3"))),
            stepfunctions=target.client("stepfunctions"),
            execution=execution,
            pause_seconds=LOCAL_PAUSE_SECONDS if target.is_local else PAUSE_SECONDS,
            published=open_published(target, pipeline),
        )

    def until_it_ends(self) -> Iterator[RunProgress]:
        """The run's progress, again and again; what comes last is how it ended."""
        while True:
            progress = self.look()
            yield progress
            if progress.has_ended:
                return
            time.sleep(self._pause_seconds)

    def look(self) -> RunProgress:
        """The run's progress now."""
        # Asked first: what the ledger says after a run has ended is final.
        execution = self._stepfunctions.describe_execution(executionArn=self._execution)
        has_ended = execution["status"] not in RUNNING
        stages: list[StageProgress] = []
        for stage in self._stages:
            stages.append(stage.look(run_has_ended=has_ended))
            if stages[-1].state is not StageState.DONE and not has_ended:
                break
        stages += [
            StageProgress(stage=stage.name, state=StageState.WAITING) for stage in self._stages[len(stages) :]
        ]
        until = execution.get("stopDate")
        cause = execution.get("cause") or ""
        return RunProgress(
            run_id=self._run_id,
            status=execution["status"],
            stages=tuple(stages),
            seconds=(until.timestamp() if until else time.time()) - execution["startDate"].timestamp(),
            cause=innermost("", cause).message or cause,
            published=self._find_published(execution) if has_ended else None,
        )

    def _find_published(self, execution: Mapping[str, Any]) -> PublishedByRun | None:
        if not self._published:
            return None
        return published_by(self._published, self._run_id, RunEnded.from_description(execution))


class _StageWatch:
    """Looks at one stage of a run."""

    def __init__(self, ledger: Ledger, keys: StageKeys) -> None:
        self.name = keys.stage
        self._ledger = ledger
        self._keys = keys
        self._plan: Plan | None = None
        self._settled: Settlement | None = None
        self._segments: dict[str, Segment | None] = {}
        self._final: StageProgress | None = None

    def look(self, *, run_has_ended: bool) -> StageProgress:
        if self._final:
            return self._final
        result = self._ledger.find(self._keys.result, StageResult.from_json)
        if result:
            self._final = self._from_result(result)
            return self._final
        if not self._plan:
            self._plan = find_plan(self._ledger, self._keys)
            if not self._plan:
                state = StageState.NOT_RUN if run_has_ended else StageState.WAITING
                return StageProgress(stage=self.name, state=state)
            self._settled = before_anything(self._plan)
        return self._from_journal(self._plan, run_has_ended=run_has_ended)

    def _from_result(self, result: StageResult) -> StageProgress:
        counts, failures = result.counts, result.output.failures
        return StageProgress(
            stage=self.name,
            state=StageState.FAILED if result.verdict is Verdict.TOTAL_FAILURE else StageState.DONE,
            records_in=counts.records_in,
            succeeded=counts.succeeded,
            skipped=counts.skipped,
            failed=counts.failed,
            tries=result.output.tries,
            failures_file=str(failures) if failures else None,
            repetitions=counts.repetitions,
        )

    def _from_journal(self, plan: Plan, *, run_has_ended: bool) -> StageProgress:
        settled = self._follow_settlements(plan)
        evidence = fold(self._read_segments(settled), digest=plan.digest, order=settled.next)
        retries = settled.attempt >= 0 and settled.verdict is Verdict.RETRY
        succeeded, skipped = settled.succeeded | evidence.succeeded, settled.skipped | evidence.skipped
        permanent = (
            (settled.permanent | evidence.failed.get(Kind.PERMANENT, Ranges.empty())) - succeeded - skipped
        )
        going_on = StageState.RETRYING if retries else StageState.RUNNING
        return StageProgress(
            stage=self.name,
            state=StageState.FAILED if run_has_ended else going_on,
            records_in=plan.count,
            succeeded=len(succeeded),
            skipped=len(skipped),
            failed=len(permanent),
            tries=settled.try_count + 1 + (1 if retries else 0),
            repetitions=settled.repetitions(plan),
        )

    def _follow_settlements(self, plan: Plan) -> Settlement:
        """The latest settlement; each is final once it is there."""
        settled = self._settled or before_anything(plan)
        if settled.verdict not in FINAL:
            for found in settlements(self._ledger, plan, after=settled):
                settled = found
                self._segments.clear()
                if settled.verdict in FINAL:
                    break
        self._settled = settled
        return settled

    def _read_segments(self, settled: Settlement) -> list[Segment | None]:
        """The journal of the attempt under way; a segment is written once, so it is read once."""
        if settled.verdict not in FINAL:
            journal = self._keys.attempt(settled.attempt + 1).journal
            for key in self._ledger.store.keys(journal):
                if key not in self._segments:
                    self._segments[key] = read_segment(
                        self._ledger, key
                    )  # None counts as a lie when it is settled
        return list(self._segments.values())
