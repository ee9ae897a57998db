"""The entry point of `winnow`: loads the commands, which takes a moment, so that Ctrl-C ends it in one line meanwhile."""

from scripts.terminal.interrupts import leave_at_once


def main() -> None:
    leave_at_once()
    from scripts.commands.cli import main as winnow  # noqa: PLC0415  only now: it is what takes the moment

    winnow()


if __name__ == "__main__":
    main()
