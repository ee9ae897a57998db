"""The vocabulary of Winnow: its contract, S3 keys, ranges of ordinals, records and errors."""
