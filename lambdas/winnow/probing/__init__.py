"""What `winnow doctor --probe` runs in Lambda: faults on purpose, and facts about where it runs."""
