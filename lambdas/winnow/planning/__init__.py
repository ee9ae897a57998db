"""Before a stage's first attempt: which records are in the batch."""
