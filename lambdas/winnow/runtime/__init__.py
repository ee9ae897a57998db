"""The user's function, run on what is outstanding, and journaled."""
