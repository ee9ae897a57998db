"""The example as emulators get it, but with runs that arrivals start.

cdk deploy --app "python -m tests.integration.arriving" -c environment=local
"""

from __future__ import annotations

from dataclasses import replace

import aws_cdk as cdk

from stacks.catalogue_stack import CatalogueStack
from stacks.settings import EnvironmentSettings

WINDOW_SECONDS = 5


def main() -> None:
    app = cdk.App()
    settings = EnvironmentSettings.from_context(app.node)
    arriving = replace(settings, arrivals_window_seconds=WINDOW_SECONDS)
    CatalogueStack(app, f"catalogue-{settings.environment}", settings=arriving)
    app.synth()


if __name__ == "__main__":
    main()
