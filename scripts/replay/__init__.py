"""Replaying what failed, from the operator's side: what is chosen, what is left out and why, and how it is started."""
