"""A deployed pipeline as commands reach it: where it is, what its stack says, how far its runs are, its source."""
