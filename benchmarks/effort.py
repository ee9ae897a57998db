"""How much is measured."""

from enum import StrEnum


class Effort(StrEnum):
    """Sizes and repetitions; each benchmark says what they mean to it."""

    FULL = "full"
    """What the targets are about."""
    QUICK = "quick"
    """All of it in a minute and a half: shows whether something broke, not how fast it is."""
    TINY = "tiny"
    """For a test that everything runs."""
