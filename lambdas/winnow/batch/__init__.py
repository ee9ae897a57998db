"""The batch of a stage as documents: its plan, its rows, and the lists that it is read from."""
