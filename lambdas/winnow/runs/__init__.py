"""From a request to a run, and from its end to its report."""
