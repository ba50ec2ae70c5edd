"""Ask and tell of NVIDIA's AutoML package; bench_search.py starts this in an environment that has it.

Reads one JSON line with the boxes, the base values and the seed; from then on writes one line of values and
reads one with the loss, for as many trials as were asked for; then the next search may follow. The package is
used through its own entry class, with the boxes as its schema.
"""

import json
import logging
import sys
import tempfile

from tao_automl import AutoML


def schema(boxes: dict[str, list], base: dict) -> dict:
    kinds = {"float": "number", "int": "integer"}
    leaves = {
        name: {
            "type": kinds[kind],
            "minimum": low,
            "maximum": high,
            "default": base[name],
            "automl_enabled": True,
        }
        for name, (kind, low, high) in boxes.items()
    }
    return {"default": {"train": base}, "properties": {"train": {"type": "object", "properties": leaves}}}


def search(given: dict) -> None:
    ranges = {
        f"train.{name}": {"valid_min": low, "valid_max": high}
        for name, (_, low, high) in given["boxes"].items()
    }
    with tempfile.TemporaryDirectory() as folder:
        brain = AutoML(
            workspace=folder,
            network="mlp",
            train_specs={"train": given["base"]},
            # The package draws from Python's hash of the session: PYTHONHASHSEED makes it the same again.
            settings={
                "algorithm": "bayesian",
                "metric": "val_loss",
                "direction": "minimize",
                "automl_max_recommendations": given["trials"],
                "session_id": f"seed-{given['seed']}",
            },
            automl_hyperparameters=list(ranges),
            custom_param_ranges=ranges,
            search_schema=schema(given["boxes"], given["base"]),
        )
        while not brain.is_complete():
            (proposal,) = brain.next_recommendation()
            values = {name.removeprefix("train."): value for name, value in proposal.specs.items()}
            print(json.dumps(values), flush=True)
            brain.report_result(proposal.id, json.loads(sys.stdin.readline()))


def main() -> None:
    logging.disable(logging.WARNING)
    for line in sys.stdin:
        search(json.loads(line))


if __name__ == "__main__":
    main()
