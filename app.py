"""Context → settings → stacks."""

import sys

import aws_cdk as cdk

from stacks.catalogue_stack import CatalogueStack
from stacks.settings import EnvironmentSettings, EnvironmentSettingsError


def main() -> None:
    """Synthesise the stacks of the environment that `-c environment=` names."""
    app = cdk.App()
    try:
        settings = EnvironmentSettings.from_context(app.node)
    except EnvironmentSettingsError as error:
        sys.exit(f"cdk.json: {error}")
    CatalogueStack(app, f"catalogue-{settings.environment}", settings=settings)
    app.synth()


main()
