"""Show what a checkpoint does: `python infer.py --config config.yaml --checkpoint checkpoints/final`.

Writes `sample_<i>_input.jpg`, `_pred.jpg` and `_meta.json` for the first rows of data/eval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import transformers

import common
import task


def main(arguments: list[str] | None = None) -> int:
    """Predict a few rows and write them out."""
    options = _parser().parse_args(arguments)
    config = common.read_config(options.config)
    transformers.set_seed(config["seed"])
    processor = task.load_processor(config, options.checkpoint)
    model = task.load_model(config, options.checkpoint, for_training=False).to(common.device()).eval()
    rows = task.dataset(config, processor, "eval").with_format(None)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    count = min(options.n_samples, len(rows))
    for index in range(count):
        with torch.inference_mode():
            shown, prediction, meta = task.sample(config, model, processor, rows[index], index)
        for image, what in ((shown, "input"), (prediction, "pred")):
            if image is not None:
                image.convert("RGB").save(folder / f"sample_{index}_{what}.jpg", quality=92)
        common.write_json(folder / f"sample_{index}_meta.json", {"checkpoint": options.checkpoint, **meta})
    print(f"INFER: {count} samples -> {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write a few predictions as pictures.")
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--n_samples", type=int, default=5)
    parser.add_argument("--output", default="reports/inference_samples")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
