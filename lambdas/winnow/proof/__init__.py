"""Whether a run adds up, and what became of a record."""
