"""Measure a checkpoint: `python run_eval.py --config config.yaml --checkpoint checkpoints/final`.

With the model's own id as checkpoint this gives the baseline: labels of the data set, a head that is drawn
anew where it does not fit. Weights are float32; `--autocast` computes in bfloat16 on a GPU.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import datasets
import torch
import transformers

import common
import task


def main(arguments: list[str] | None = None) -> int:
    """Evaluate and write the figures."""
    options = _parser().parse_args(arguments)
    config = common.read_config(options.config)
    figures = measured(config, options)
    common.write_json(options.output, figures)
    primary = figures["primary_metric"]
    print(f"EVAL: {primary['name']}={primary['value']} on {figures['n_eval']} rows -> {options.output}")
    return 0


def measured(config: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The task's metrics, with the checkpoint and the seconds that it took."""
    transformers.set_seed(config["seed"])  # a head that is drawn anew is the same one each time
    begun = time.monotonic()
    processor = task.load_processor(config, options.checkpoint)
    model = task.load_model(config, options.checkpoint, for_training=False).to(common.device()).eval()
    rows = task.dataset(config, processor, "eval").with_format(None)
    given = {name: getattr(options, name) for name in ("threshold", "max_new_tokens")}
    given = {name: value for name, value in given.items() if value is not None}
    autocast = options.autocast and torch.cuda.is_available()
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        metrics = task.evaluate(config, model, processor, rows, limit=options.limit, **given)
    facts = {"checkpoint": options.checkpoint, "model_id": config["model_id"], "task": config["task"]}
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "datasets": datasets.__version__,
    }
    return {**metrics, **facts, "versions": versions, "seconds": round(time.monotonic() - begun, 3)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure a checkpoint on data/eval.")
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--checkpoint", required=True, help="a folder, or the model id for the baseline")
    parser.add_argument("--output", default="reports/eval_results.json")
    parser.add_argument("--threshold", type=float, help="detection: keep boxes from this score on")
    parser.add_argument("--max_new_tokens", type=int, help="generation: length of an answer")
    parser.add_argument("--limit", type=int, help="the first rows only")
    parser.add_argument("--autocast", action="store_true", help="compute in bfloat16 on a GPU")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
