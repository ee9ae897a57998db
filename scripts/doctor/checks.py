"""All checks, in the order of the report: what another one needs comes before it."""

from scripts.doctor.account import bootstrap, clock, credentials, region
from scripts.doctor.alerting import slack_secret, subscribed
from scripts.doctor.check import Check
from scripts.doctor.clone import environment_settings, tools
from scripts.doctor.code import code
from scripts.doctor.deployment import names, protection, resources, stack
from scripts.doctor.permissions import permissions
from scripts.doctor.probe_alarm import ALARM_PROBES
from scripts.doctor.probe_alert import ALERT_PROBES
from scripts.doctor.probe_arrivals import ARRIVAL_PROBES
from scripts.doctor.probe_errors import ERROR_PROBES
from scripts.doctor.probe_run import RUN_PROBES
from scripts.doctor.probe_runtime import RUNTIME_PROBES
from scripts.doctor.probe_stage import STAGE_PROBES
from scripts.doctor.quotas import concurrency, executions, log_policies
from scripts.doctor.running import alarms, dead_letters, runs, triggers

CHECKS: tuple[Check, ...] = (
    # This clone.
    environment_settings,
    tools,
    region,
    # The account.
    credentials,
    clock,
    bootstrap,
    names,
    slack_secret,
    concurrency,
    executions,
    log_policies,
    # What is deployed.
    stack,
    protection,
    resources,
    code,
    permissions,
    subscribed,
    triggers,
    dead_letters,
    alarms,
    runs,
)
"""They read, and change nothing."""

PROBES: tuple[Check, ...] = (
    *RUNTIME_PROBES,
    *ERROR_PROBES,
    *STAGE_PROBES,
    *RUN_PROBES,
    *ARRIVAL_PROBES,
    *ALARM_PROBES,
    *ALERT_PROBES,
)
"""They start or send something, and run only with `--probe`; at the same time, since most of what they do is wait."""
