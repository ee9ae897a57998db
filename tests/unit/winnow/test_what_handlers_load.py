"""A cold start pays for every module: each handler loads what it needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

CORE = {"core.contract", "core.errors", "core.probe", "settings", "metrics.metric", "metrics.watch"}
LEDGER = CORE | {"core.keys", "storage.ledger", "storage.ranged", "storage.store", "storage.tries"}
ALERTS = {
    "core.document",
    "core.ranges",
    "core.repetitions",
    "alerts.shown_ids",
    "alerts.console",
    "alerts.content",
    "alerts.wording",
}
STATE = {"storage.items", "storage.state_table"}
STARTING = LEDGER | STATE | {"runs.request", "storage.clients", "storage.executions", "storage.listing"}
BATCH = LEDGER | {"batch.plan", "batch.rows", "core.document", "core.ranges"}
REPORTS = {"journal.reports", "storage.jsonlines"}
SETTLEMENT = BATCH | {"core.repetitions", "journal.successes", "settlement.settlement"}
READERS = {
    "core.record", "batch.lines", "batch.ndjson", "batch.opening", "batch.parquet", "batch.selection", "batch.successes", "storage.formats",
}  # fmt: skip
EVIDENCE = {"journal.evidence", "journal.segment"}
SETTLE = (
    SETTLEMENT
    | EVIDENCE
    | REPORTS
    | {
        "core.sfn_errors",
        "settlement.conclusion",
        "settlement.derive",
        "settlement.ended_attempt",
        "settlement.explanation",
        "settlement.failure_records",
        "settlement.result",
        "settlement.settle",
        "settlement.verdict",
    }
)
REGISTER = (
    SETTLEMENT
    | REPORTS
    | {
        "alerts.content",
        "register.entry",
        "register.item",
        "register.pace",
        "register.registering",
        "register.table",
        "settlement.failure_records",
        "settlement.result",
        "storage.clients",
    }
)
PROOF = {
    "proof.feed",
    "proof.output_lines",
    "proof.prove",
    "proof.result",
    "proof.settlement_chain",
    "proof.stage_audit",
    "core.repeats",
    "settlement.clashes",
}

MAY_LOAD = {
    "alert": LEDGER | ALERTS | {"alerts.announcer", "storage.clients"},
    "close_run": REGISTER
    | EVIDENCE
    | READERS
    | PROOF
    | ALERTS
    | {
        "alerts.announcer",
        "core.run_document",
        "core.sfn_errors",
        "planning.claim",
        "publish.documents",
        "publish.published_set",
        "runs.closer",
        "runs.published_by_run",
        "runs.run_alerts",
        "runs.run_ended",
        "runs.steps",
        "storage.published_store",
        *STATE,
    },
    "close_window": STARTING
    | {
        "runs.gathering",
        "runs.object_events",
        "runs.window_closer",
        "storage.arrival_windows",
        "storage.upload_claims",
        "storage.window_queue",
    },
    "plan": SETTLEMENT
    | REPORTS
    | READERS
    | {
        "core.run_document",
        "journal.segment",
        "planning.batch_list",
        "planning.claim",
        "planning.stage_planner",
        "core.repeats",
    },
    "plan_run": STARTING | {"core.document", "core.ranges", "core.run_document", "runs.run_planner"},
    "publish": LEDGER
    | {
        "core.document",
        "core.ranges",
        "publish.documents",
        "publish.published_set",
        "publish.publisher",
        "storage.published_store",
    },
    "register": REGISTER,
    "settle": SETTLE,
    "slack": CORE | ALERTS | {"alerts.slack", "alerts.slack_blocks", "storage.clients"},
    "start_run": STARTING
    | {
        "runs.gathering",
        "runs.object_events",
        "runs.starter",
        "storage.arrival_windows",
        "storage.window_queue",
    },
}

LOADED = """
import sys
import winnow.handlers.{}
print(*(name for name, module in sys.modules.items() if name.startswith("winnow.") and not hasattr(module, "__path__")))
"""


@pytest.mark.parametrize("handler", MAY_LOAD)
def test_a_handler_loads_what_it_needs_and_no_more(handler: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(handler)], capture_output=True, text=True, check=True
    )
    loaded = {name.removeprefix("winnow.") for name in done.stdout.split()}
    assert loaded - {f"handlers.{handler}"} == MAY_LOAD[handler]
