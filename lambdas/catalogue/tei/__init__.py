"""Reading TEI manuscript descriptions (the `msDesc` module of TEI P5)."""
