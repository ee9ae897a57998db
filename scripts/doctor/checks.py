"""All checks, in the order of the report: what another one needs comes before it."""

from scripts.doctor.account import credentials
from scripts.doctor.check import Check
from scripts.doctor.clone import environment_settings

CHECKS: tuple[Check, ...] = (
    environment_settings,
    credentials,
)
"""They read, and change nothing."""

PROBES: tuple[Check, ...] = ()
"""They start or send something, and run only with `--probe`."""
