"""The oracle: what has to be true after a schedule, from the lists that were drawn and from the bodies of outputs.

It computes again what each worker makes of each record, and reads the objects that consumers read: manifests, output bodies and
lists of failures. It reads no sidecar of ids and no settlement; only what was claimed about a run is compared with it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.machines import PIPELINE
from tests.simulation.schedule import HARMLESS, Shape, StagePlan, Way
from tests.simulation.simulation import Simulation
from tests.simulation.workers import RETRY_SECONDS, MayPass, Seen, joined, may_succeed, outputs_of
from tests.simulation.world import SKEW_SECONDS, Call, CallRefused, Execution
from winnow.core import keys
from winnow.core.contract import MAX_INLINE_BYTES
from winnow.core.errors import DuplicateAttempt, EveryRecordFailed, StageInputError
from winnow.core.keys import StageKeys
from winnow.proof.prove import prove
from winnow.register.entry import Status
from winnow.register.table import RegisterUnavailable
from winnow.runs.closer import CloseRunIncomplete
from winnow.runtime.careful import MIN_RECORD_SECONDS, RECORD_SHARE_OF_TIMEOUT, WorkerNotStarted
from winnow.runtime.flusher import JournalUnavailable

Batch = dict[str, Seen | None]
"""What a stage is given, in order: records by id; None for a row that cannot be read."""

OF_RECORDS: tuple[type[Exception], ...] = (EveryRecordFailed, MayPass, WorkerNotStarted)
"""What a worker's Lambda may raise because of its records and what they depend on."""
OF_FAULTS: tuple[type[Exception], ...] = (
    *(CallRefused, JournalUnavailable, RegisterUnavailable, CloseRunIncomplete, DuplicateAttempt),
    StageInputError,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that does not hold, and how that shows."""

    law: str
    text: str

    def __str__(self) -> str:
        return f"{self.law}: {self.text}"


@dataclass(slots=True, kw_only=True)
class StageView:
    """A stage run, as the oracle sees it."""

    run_id: str
    stage: StagePlan
    execution: Execution
    batch: Batch
    finished: bool
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    hands_on: Batch = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"stage {self.stage.name} of run {self.run_id}"


class Oracle:
    """Looks at one simulation that has come to its end."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._objects = simulation.store.objects
        self.violations: list[Violation] = []
        self._views: dict[tuple[str, str], StageView] = {}
        self._endings: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        for call in self._world.calls:
            self._endings[call.run_id, call.stage, call.record_id].add(call.ending)

    def look(self) -> list[Violation]:
        for execution in self._simulation.runs:
            self._check_run(execution)
        self._check_alerts()
        self._check_register()
        self._check_conduct()
        return self.violations

    def _broken(self, law: str, text: str) -> None:
        self.violations.append(Violation(law, text))

    # Runs and their stages

    def _check_run(self, execution: Execution) -> None:
        run_id = self._simulation.run_id(execution)
        children = {
            each.machine: each
            for each in self._simulation.machines.executions.values()
            if each.parent is execution
        }
        given = self._simulation.given[execution.arn]
        batch = self._first_batch(execution)
        lost = 0
        names = list(self._simulation.stages)
        for name in names[names.index(given.start_at) :]:
            child = children.get(name)
            if child is None:
                break
            view = self._view(run_id, self._simulation.stages[name], child, batch)
            self._views[run_id, name] = view
            if not view.finished:
                break
            lost += len(view.failures)
            if child.output and child.output["lost"] != {"stage": len(view.failures), "run": lost}:
                self._broken(
                    "5 never green with silent loss",
                    f"{view.name} lost {len(view.failures)}, and {lost} so far, and says {child.output['lost']}",
                )
            batch = view.hands_on
        went_ahead = execution.status == "SUCCEEDED" and execution.output.get("proceed", True)
        if went_ahead and execution.output["lost"] != lost:
            self._broken(
                "5 never green with silent loss",
                f"run {run_id} lost {lost} and says {execution.output['lost']}",
            )
        self._check_proof(run_id, execution, lost)

    def _first_batch(self, execution: Execution) -> Batch:
        given = self._simulation.given[execution.arn]
        batch: Batch = {}
        if given.plan is None:
            for run_id, stage, _, record_id in sorted(given.rows, key=lambda row: row[2]):
                batch.setdefault(record_id, self._views[run_id, stage].batch[record_id])
            return batch
        for line, row in enumerate(given.rows, start=1):
            if row is None:
                batch[self._row_name(execution, line)] = None
            else:
                batch.setdefault(row["id"], Seen.of(row["id"], row["data"]))
        return batch

    def _row_name(self, execution: Execution, line: int) -> str:
        """What a row without an id is called: the list, the line, and the list's version."""
        pointer = execution.given["records"]
        body = self._objects[pointer["bucket"], pointer["key"]]
        return f"s3://{pointer['bucket']}/{pointer['key']}:{line}@{zlib.crc32(body):08x}"

    def _view(self, run_id: str, stage: StagePlan, execution: Execution, batch: Batch) -> StageView:
        total = execution.status == "FAILED" and execution.error == "StageTotalFailure"
        finished = execution.status == "SUCCEEDED" or total
        view = StageView(run_id=run_id, stage=stage, execution=execution, batch=batch, finished=finished)
        if not finished:
            return view
        where = StageKeys(run_id, stage.name)
        self._read_failures(view, where.failures)
        lines = list(self._lines(view, where.successes))
        for identifier, count in Counter(line["id"] for line in lines).items():
            if count > 1:
                self._broken("4 conservation", f"{view.name} hands {identifier} on {count} times")
        view.hands_on = {line["id"]: Seen.of(line["id"], line["data"]) for line in lines}
        done = (
            self._check_joined(view, lines) if stage.shape is Shape.JOIN else self._check_lines(view, lines)
        )
        self._check_reasons(view)
        self._check_tries(view)
        self._check_counts(view, done, total=total)
        return view

    def _read_failures(self, view: StageView, key: str) -> None:
        body = self._objects.get((self._simulation.store.bucket, key))
        for line in gzip.decompress(body).splitlines() if body else ():
            failure = json.loads(line)
            record_id = failure["record_id"]
            if record_id in view.failures:
                self._broken("4 conservation", f"{view.name} names {record_id} twice among its failures")
            if record_id not in view.batch:
                self._broken(
                    "4 conservation", f"{view.name} names {record_id} as failed, and was not given it"
                )
            view.failures[record_id] = failure

    def _lines(self, view: StageView, key: str) -> Iterator[dict[str, Any]]:
        """The lines that the next stage reads, in order: from the bodies that the list of successes names."""
        ordinals = {record_id: ordinal for ordinal, record_id in enumerate(view.batch)}
        for entry in json.loads(self._objects[self._simulation.store.bucket, key])["entries"]:
            bounds = entry.get("accept")
            accepted = None
            if bounds is not None:
                pairs = zip(bounds[::2], bounds[1::2], strict=True)
                accepted = {ordinal for start, stop in pairs for ordinal in range(start, stop)}
            body = self._objects.get((self._simulation.store.bucket, entry["key"]))
            if body is None:
                self._broken(
                    "2 evidence before progress", f"{view.name} hands on {entry['key']}, which is not there"
                )
                continue
            for text in gzip.decompress(body).splitlines():
                line = json.loads(text)
                origins = [line["from"]] if isinstance(line["from"], str) else line["from"]
                strangers = [origin for origin in origins if origin not in ordinals]
                if strangers:
                    self._broken(
                        "4 conservation",
                        f"{view.name} hands on an output of {strangers[0]}, which it was not given",
                    )
                elif accepted is None or ordinals[origins[0]] in accepted:
                    yield {**line, "from": origins}

    def _check_lines(self, view: StageView, lines: list[dict[str, Any]]) -> Counter[str]:
        """Each record is its outputs, or skipped, or failed; returns how many of each."""
        outputs: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
        for line in lines:
            outputs[line["from"][0]].append((line["id"], line["data"]))
        done: Counter[str] = Counter()
        for record_id, seen in view.batch.items():
            found = outputs.get(record_id, [])
            if record_id in view.failures:
                if found:
                    self._broken("4 conservation", f"{record_id} failed in {view.name}, and has outputs, too")
                continue
            if seen is None or not self._may_succeed(view, seen):
                self._broken(
                    "1 failure is the absence of success", f"{record_id} is done in {view.name}: it cannot be"
                )
                continue
            expected = outputs_of(view.stage.name, seen)
            done["skipped" if expected is None else "succeeded"] += 1
            if found != (expected or []):
                self._broken(
                    "4 conservation",
                    f"the outputs of {record_id} in {view.name} are {_shown(found)}, and must be {_shown(expected or [])}",
                )
            if "returned" not in self._endings[view.run_id, view.stage.name, record_id]:
                self._broken(
                    "2 evidence before progress",
                    f"{record_id} is done in {view.name}, whose worker never did it",
                )
        return done

    def _check_joined(self, view: StageView, lines: list[dict[str, Any]]) -> Counter[str]:
        """The same where outputs join records: which were joined is chance, what that makes is not."""
        done: Counter[str] = Counter()
        origins: Counter[str] = Counter(origin for line in lines for origin in line["from"])
        for line in lines:
            members = [seen for origin in line["from"] if (seen := view.batch[origin])]
            identifier, data = joined(view.stage.name, members)
            if (line["id"], line["data"]) != (identifier, data):
                self._broken(
                    "4 conservation",
                    f"{view.name} made {_shown([(line['id'], line['data'])])} of {line['from']}, "
                    f"and must have made {_shown([(identifier, data)])}",
                )
        for record_id in view.batch:
            failed = record_id in view.failures
            if origins[record_id] + failed != 1:
                self._broken(
                    "4 conservation",
                    f"{record_id} is in {origins[record_id]} outputs of {view.name}, and {'named' if failed else 'not'} among its failures",
                )
            done["succeeded"] += not failed
        return done

    def _may_succeed(self, view: StageView, seen: Seen) -> bool:
        way, _ = seen.manner(view.stage.name)
        if way is Way.FIXABLE:
            return self._world.version > 1
        return may_succeed(view.stage.name, seen)

    def _check_reasons(self, view: StageView) -> None:
        for record_id, failure in view.failures.items():
            endings = self._endings[view.run_id, view.stage.name, record_id]
            seen = view.batch.get(record_id)
            kind = failure["kind"]
            if seen is None:
                if kind != "permanent":
                    self._broken(
                        "3 isolation", f"{record_id} cannot be read, and failed as {kind} in {view.name}"
                    )
                continue
            if kind == "permanent" and not endings & {"permanent", "unusable"}:
                self._broken(
                    "1 failure is the absence of success",
                    f"{record_id} is given up in {view.name} as permanent, and the worker never said so",
                )
            if kind == "crashed" and not endings & {"exit", "hang"}:
                self._broken(
                    "3 isolation", f"{record_id} is said to have killed its worker in {view.name}: it did not"
                )
            if self._has_to_succeed(view, seen):
                self._broken(
                    "3 isolation",
                    f"nothing is wrong with {record_id}, nor around it, and it failed in {view.name}: {failure['message']}",
                )

    def _check_tries(self, view: StageView) -> None:
        """Where tries were left, and no execution died, only what the worker called permanent is given up."""
        attempts = [
            each
            for each in self._simulation.machines.executions.values()
            if each.machine == view.stage.name and view.execution in (each, *each.parents)
        ]
        total_at_once = view.execution.error and len(attempts) == 1
        if len(attempts) >= view.stage.max_tries or total_at_once:
            return
        if any(each.status != "SUCCEEDED" and each.error != "StageTotalFailure" for each in attempts):
            return
        for record_id in view.failures:
            endings = self._endings[view.run_id, view.stage.name, record_id]
            if view.batch.get(record_id) and not endings & {"permanent", "unusable"}:
                self._broken(
                    "3 isolation",
                    f"{record_id} is given up after {len(attempts)} of {view.stage.max_tries} tries in {view.name}",
                )

    def _has_to_succeed(self, view: StageView, seen: Seen) -> bool:
        """Whether only neighbours can be why the record failed."""
        stage = view.stage
        healthy = not (stage.down_for or stage.setup_fails or _is_slow(stage)) and stage.give_up_after >= 100
        healthy = healthy and stage.max_tries >= 3
        way, _ = seen.manner(stage.name)
        return self._simulation.schedule.calm and healthy and way in HARMLESS

    def _check_counts(self, view: StageView, done: Counter[str], *, total: bool) -> None:
        if total:
            if done["succeeded"]:
                self._broken(
                    "5 never green with silent loss",
                    f"{view.name} failed as a whole, and did {done['succeeded']}",
                )
            return
        output = view.execution.output
        failures = output["failures"]["count"] if output["failures"] else 0
        said = (output["successes"]["count"], output["skipped"]["count"], failures)
        found = (done["succeeded"], done["skipped"], len(view.failures))
        if said != found:
            self._broken(
                "4 conservation",
                f"{view.name} says {said} succeeded, were skipped and failed, and its objects say {found}",
            )
        if view.failures and not done["succeeded"]:
            self._broken(
                "5 never green with silent loss", f"nothing succeeded in {view.name}, and it did not fail"
            )

    def _check_proof(self, run_id: str, execution: Execution, lost: int) -> None:
        document = self._objects.get((self._simulation.store.bucket, keys.run(run_id)))
        if document is None or json.loads(document)["execution"] != execution.arn:
            return
        proof = prove(self._simulation.ledger, run_id, status=execution.status)
        for problem in proof.all_problems:
            self._broken("4 conservation", f"run {run_id} is not proved: {problem}")
        if execution.status == "SUCCEEDED" and proof.lost != lost:
            self._broken(
                "4 conservation", f"the proof of run {run_id} says that {proof.lost} are lost, not {lost}"
            )

    # What people are told

    def _check_alerts(self) -> None:
        for view in self._views.values():
            if view.failures and not self._is_told(view):
                self._broken(
                    "5 never green with silent loss",
                    f"{view.name} lost {', '.join(view.failures)}, and nobody is told",
                )
        for execution in self._simulation.runs:
            run_id = self._simulation.run_id(execution)
            # A run that was never planned is alerted under its execution's name.
            if execution.status == "SUCCEEDED" or any(
                alert["run_id"] in {run_id, execution.name} for alert in self._alerts
            ):
                continue
            views = [view for (run, _), view in self._views.items() if run == run_id]
            if not any(view.failures or self._is_known(view.stage.name, view.batch) for view in views):
                self._broken(
                    "5 never green with silent loss",
                    f"run {run_id} ended {execution.status}, and nobody is told",
                )

    @property
    def _alerts(self) -> list[dict[str, Any]]:
        return self._simulation.topic.published

    @property
    def _told(self) -> set[tuple[str, str]]:
        return {(alert["run_id"], alert["stage"]) for alert in self._alerts}

    def _is_told(self, view: StageView) -> bool:
        """Whether an alert tells of the stage run's losses, or people know all of them from other runs."""
        if (view.run_id, view.stage.name) in self._told:
            return True
        return self._is_known(view.stage.name, view.failures)

    def _is_known(self, stage: str, record_ids: Iterable[str]) -> bool:
        """Whether alerts of other runs tell of all of these."""
        known: set[str] = set()
        for (_, name), other in self._views.items():
            if name == stage and (other.run_id, stage) in self._told:
                known.update(other.failures or other.batch)
        return known.issuperset(record_ids)

    # The register

    def _check_register(self) -> None:
        margin = 2 * SKEW_SECONDS + 30 if self._simulation.schedule.skewed else 1.0
        histories: defaultdict[tuple[str, str], list[tuple[StageView, str]]] = defaultdict(list)
        for view in self._views.values():
            for record_id in view.batch:
                ending = "open"
                if view.finished:
                    ending = "failed" if record_id in view.failures else "done"
                histories[view.stage.name, record_id].append((view, ending))
        for (stage, record_id), history in histories.items():
            entry = self._simulation.register.entries.get((PIPELINE, stage), {}).get(record_id)
            failed = [view for view, ending in history if ending == "failed"]
            done = [view for view, ending in history if ending == "done"]
            unclear = [view for view, ending in history if ending != "done"]
            if entry is None:
                if failed:
                    self._broken(
                        "5 never green with silent loss",
                        f"{record_id} failed in {failed[0].name}, and is not on record",
                    )
                continue
            if entry.status is Status.REPLAYING:
                self._broken(
                    "8 nothing runs twice by accident",
                    f"{record_id} is still held by a replay, and all have ended",
                )
            resolved = entry.status is Status.RESOLVED
            if resolved and self._failed_last(record_id, history, margin):
                self._broken(
                    "5 never green with silent loss",
                    f"the failure of {record_id} in {stage} is resolved on record, and its worker failed in it last",
                )
            last = max((view.execution.started_at for view in failed), default=None)
            # What a stopped run did may have been settled by a Settle that went on.
            perhaps = any(
                "returned" in self._endings[view.run_id, stage, record_id]
                for view, ending in history
                if ending == "open"
            )
            if (
                resolved
                and not perhaps
                and last is not None
                and all(_end(view) + margin < last for view in done)
            ):
                self._broken(
                    "5 never green with silent loss",
                    f"the failure of {record_id} in {stage} is resolved on record, and the record failed last",
                )
            first = max((view.execution.started_at for view in done), default=None)
            # A Settle that goes on counts what a worker did that went on, too.
            undone = [call.at for view in unclear for call in self._calls(view, record_id)]
            over = all(moment + margin < (first or 0.0) for moment in (*map(_end, unclear), *undone))
            if not resolved and first is not None and over:
                self._broken(
                    "4 conservation",
                    f"the failure of {record_id} in {stage} is {entry.status} on record, and the record succeeded last",
                )

    def _failed_last(self, record_id: str, history: list[tuple[StageView, str]], margin: float) -> bool:
        """Whether the worker last did the record in a run that failed in it, by when its function was called."""
        moments: dict[str, float] = {}
        for view, ending in history:
            for call in self._calls(view, record_id):
                in_time = call.awaited and call.at <= (view.execution.ended_at or call.at)
                # A Settle that goes on may have counted what a stopped run did.
                outcome = "done" if ending == "open" and call.ending == "returned" else ending
                if in_time or outcome == "done":
                    moments[outcome] = max(moments.get(outcome, 0.0), call.at)
        return "done" in moments and moments.get("failed", 0.0) > moments["done"] + margin

    def _calls(self, view: StageView, record_id: str) -> Iterator[Call]:
        """Calls of a worker's function with a record in a stage run."""
        where = (view.run_id, view.stage.name, record_id)
        return (call for call in self._world.calls if (call.run_id, call.stage, call.record_id) == where)

    # How it went

    def _check_conduct(self) -> None:
        world = self._world
        for (run_id, stage, attempt), executions in world.claims.items():
            if len(executions) > 1:
                self._broken(
                    "8 nothing runs twice by accident",
                    f"attempt {attempt} of {stage} in run {run_id} was run by {len(executions)} executions",
                )
        for name in world.refused_names:
            self._broken(
                "8 nothing runs twice by accident", f"an execution of its own is refused its name: {name}"
            )
        if world.payloads > MAX_INLINE_BYTES:
            self._broken("7 pointers only", f"a payload has {world.payloads} bytes")
        for text in self._simulation.closed_badly:
            self._broken("6 watching cannot break the run", text)
        duplicated = any(run.again_after is not None for run in self._simulation.schedule.runs)
        for who, error in world.raised:
            expected = OF_RECORDS + (OF_FAULTS if self._simulation.schedule.faults else ())
            if isinstance(error, StageInputError) and duplicated:
                continue
            if not isinstance(error, expected):
                self._broken("unexpected", f"{who} raised {type(error).__name__}: {error}")
        self._check_statuses()

    def _check_statuses(self) -> None:
        for execution in self._simulation.machines.executions.values():
            if execution.error in {"States.Runtime", "UnknownVerdict", "UnknownStage"}:
                self._broken(
                    "unexpected", f"{execution.name} failed with {execution.error}: {execution.cause}"
                )


def _end(view: StageView) -> float:
    return view.execution.ended_at or view.execution.started_at


def _is_slow(stage: StagePlan) -> bool:
    """Whether its records take so long that a careful attempt takes them for hanging."""
    seconds = 2 * stage.record_seconds + RETRY_SECONDS if stage.shape is Shape.RETRY else stage.record_seconds
    return seconds > max(MIN_RECORD_SECONDS, RECORD_SHARE_OF_TIMEOUT * stage.lambda_seconds)


def _shown(outputs: list[tuple[str, Any]]) -> str:
    return ", ".join(f"{identifier} = {data.get('value')}" for identifier, data in outputs) or "none"


def look(simulation: Simulation) -> list[Violation]:
    """What is not as it should be."""
    return Oracle(simulation).look()
