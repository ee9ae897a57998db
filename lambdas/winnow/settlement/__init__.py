"""After an attempt: what is outstanding, the verdict, and the records of what failed."""
