"""A probe of the whole pipeline: a run over an empty list, which touches no record."""

from datetime import datetime

from scripts.doctor.finding import Finding
from scripts.doctor.probe import ProbeSite, describe_command, probe
from winnow.core import keys
from winnow.core.contract import SUCCEEDED
from winnow.core.keys import StageKeys
from winnow.core.probe import new_probe_id

SECONDS_PER_STAGE = 120.0
"""Of an empty run: five functions, at worst all of them cold."""
REPORT_SECONDS = 60.0
"""From the end of the run until its report should be there."""
REPORT_PATIENCE_SECONDS = 180.0


def look_at_empty_run(site: ProbeSite) -> Finding:
    """A run over no record goes through every stage, and is proved and reported within a minute."""
    pipeline = site.pipeline
    run_id = new_probe_id("empty")
    key = StageKeys(run_id, pipeline.stages[0]).input
    site.ledger.store.put(key, b"")
    given = {
        "run_id": run_id,
        "trigger": {"kind": "manual", "by": "winnow doctor --probe"},
        "records": site.ledger.pointer(key),
    }
    ended = site.run(pipeline.arn, run_id, given, within=SECONDS_PER_STAGE * (len(pipeline.stages) + 1))
    if ended.status != SUCCEEDED:
        return Finding.failed(
            f"a run over an empty list ended as {ended.status}: {ended.error} {ended.cause[:200]}".strip(),
            "See it:",
            describe_command(ended.arn),
        )
    report = site.wait_for(
        f"the report of run {run_id}",
        lambda: site.ledger.find_json(keys.run_report(run_id)),
        within=REPORT_PATIENCE_SECONDS,
        command=describe_command(ended.arn),
    )
    proof = report["proof"]
    if not proof["holds"]:
        problems = "; ".join(
            [*proof["problems"], *(each for stage in proof["stages"] for each in stage["problems"])]
        )
        return Finding.failed(
            f"the proof of a run over an empty list does not hold: {problems}", "See it:", _verify(run_id)
        )
    took = _moment(report["closed_at"]) - _moment(report["stopped_at"])
    said = f"a run over an empty list went through {', '.join(pipeline.stages)}; its proof holds, reported after {took:.0f} s"
    if took > REPORT_SECONDS:
        return Finding.warning(
            said,
            f"More than {REPORT_SECONDS:.0f} s is late: is CloseRun throttled, or EventBridge slow? The sweep closes what is missed.",
        )
    return Finding.ok(said)


def _verify(run_id: str) -> str:
    return f"./scripts/winnow verify {run_id}"


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


RUN_PROBES = (probe("empty run", look_at_empty_run),)
