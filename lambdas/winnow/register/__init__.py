"""The failures on record over all runs, by record."""
