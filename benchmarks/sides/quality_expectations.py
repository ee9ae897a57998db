"""The same rules by Great Expectations over pandas. Runs in an environment of its own, so it imports nothing of ours."""

import json
import resource
import sys
import time


def main(arguments: list[str]) -> None:
    """Arguments: folder."""
    import great_expectations as gx  # noqa: PLC0415  only in that environment
    import pandas as pd  # noqa: PLC0415  only in that environment

    rules = gx.expectations
    since = time.process_time()
    rows = pd.read_parquet(arguments[0])
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("rows")
        .get_batch(batch_parameters={"dataframe": rows})
    )
    suite = gx.ExpectationSuite(
        name="rules",
        expectations=[
            rules.ExpectColumnValuesToNotBeNull(column="title", meta={"rule": "title"}),
            rules.ExpectColumnValuesToBeInSet(
                column="language", value_set=["ar", "fa", "he", "syr"], meta={"rule": "language"}
            ),
            rules.ExpectColumnValuesToMatchRegex(
                column="shelf", regex="^WMS [0-9]+$", meta={"rule": "shelf"}
            ),
            rules.ExpectColumnValuesToBeBetween(
                column="year", min_value=0, max_value=2100, meta={"rule": "year"}
            ),
            rules.ExpectColumnValuesToBeUnique(column="shelf", meta={"rule": "unique shelf"}),
            rules.ExpectColumnValuesToBeUnique(column="id", meta={"rule": "unique id"}),
        ],
    )
    results = batch.validate(suite).results
    cpu_seconds = time.process_time() - since
    found = {each.expectation_config.meta["rule"]: each.result["unexpected_count"] for each in results}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"found": found, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main(sys.argv[1:])
