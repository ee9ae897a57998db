"""The one command line: `winnow COMMAND`."""

from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from scripts.commands.aim import target_options
from scripts.commands.alert import alert
from scripts.commands.doctor import doctor
from scripts.commands.gate import gate
from scripts.commands.local import local
from scripts.commands.publish import publish
from scripts.commands.replay import replay
from scripts.commands.run import run
from scripts.commands.verify import verify
from scripts.doctor.examination import DENIED, error_code, missing_permission, one_line
from scripts.terminal.errors import CommandFailed, Mistake
from scripts.terminal.interrupts import closing_first
from winnow.core.errors import DamagedDocument, LedgerObjectMissing


class _Group(click.Group):
    """Reports Ctrl-C, an error of AWS and a damaged ledger in one line, whatever the command."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with closing_first():
                return super().invoke(ctx)
        except NoRegionError as error:
            raise Mistake(
                "AWS_REGION",
                "",
                "must name the region that was deployed to (where nothing names one, cdk takes us-east-1): "
                "export it, or put a region into your AWS profile",
            ) from error
        except ClientError as error:
            raise CommandFailed(_told(error)) from error
        except NoCredentialsError as error:
            raise CommandFailed(
                f"AWS: {one_line(error)}; name a profile that has them (AWS_PROFILE), or log in"
            ) from error
        except BotoCoreError as error:
            raise CommandFailed(f"AWS: {one_line(error)}") from error
        except (DamagedDocument, LedgerObjectMissing) as error:
            raise CommandFailed(str(error)) from error


def _told(error: ClientError) -> str:
    if error_code(error) in DENIED | {"403"}:
        return (
            f"you lack the permission {missing_permission(error)}; to look on takes the policies that the stack's output "
            "ViewerPolicyArns names, to change something those of OperatorPolicyArns"
        )
    return f"AWS: {one_line(error)}"


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""
\b
Examples:
  winnow local up                                       the whole system on this machine
  winnow run catalogue --source ./manuscripts --local   run it over a folder
  winnow replay list                                    failures that are still open
  winnow replay run --run RUN --execute                 replay the failures of one run
  winnow verify RUN --local                             prove that nothing was lost
  winnow verify RUN --id Arabic/WMS_1.xml               what became of one record
  winnow gate RUN --explain                             what the quality gate says of what it built
  winnow publish list                                   what consumers read, and how it came to be that
  winnow doctor                                         is everything as it should be?

\b
Completion, for this shell (or put the line into its start-up file):
  bash   eval "$(_WINNOW_COMPLETE=bash_source winnow)"
  zsh    eval "$(_WINNOW_COMPLETE=zsh_source winnow)"
  fish   _WINNOW_COMPLETE=fish_source winnow | source
""",
)
@click.version_option(package_name="winnow")
@target_options
def main() -> None:
    """Batch pipelines in which one bad record never sinks a batch.

    Commands use the AWS account of your credentials (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, …), and there what is
    deployed in the environment that --environment or WINNOW_ENVIRONMENT names. With --local they use the emulator that
    `winnow local up` runs.
    """


main.add_command(run)
main.add_command(replay)
main.add_command(publish)
main.add_command(verify)
main.add_command(gate)
main.add_command(doctor)
main.add_command(alert)
main.add_command(local)
