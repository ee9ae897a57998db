"""The words of Winnow: what goes over the wire, where it lies, and its errors."""
