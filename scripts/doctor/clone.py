"""Checks of this clone and this machine. They need no account."""

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding
from scripts.doctor.settings import read_settings
from stacks.settings import EnvironmentSettingsError


@check("settings", CheckGroup.CLONE)
def environment_settings(context: DoctorContext) -> Finding:
    """What cdk.json says of the environment can be deployed."""
    try:
        settings = read_settings(context.root, context.environment)
    except EnvironmentSettingsError as error:
        return Finding.failed(f"cdk.json: {error}", "Correct this field of cdk.json.")
    removal = f"removal: {settings.removal}"
    return Finding.ok(f"environment {context.environment} of cdk.json is valid ({removal})")
