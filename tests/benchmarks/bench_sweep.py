"""Gap analysis of a large inference CSV against merely reading it with pandas.

    python tests/benchmarks/bench_sweep.py [rows]

Each is measured in a process of its own: wall seconds of the work (imports of the module left out) and the
peak memory of the whole process. The floor is what importing pandas and pyarrow alone takes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

TRAIN_YAML = "dataset:\n  classify:\n    input_map: {top: 0, side: 1}\n    image_ext: .jpg\n"
LABELS = np.array(["PASS", "missing", "shift", "bridge", "tombstone"])


def make_inputs(folder: Path, rows: int) -> None:
    """A CSV of `rows` samples, 95 % PASS, scores as float32 in 17 digits, and a train YAML."""
    rng = np.random.default_rng(0)
    number = np.arange(rows)
    label = np.where(rng.random(rows) < 0.95, 0, rng.integers(1, len(LABELS), rows))
    score = rng.beta(2, 8, rows) + np.where(label > 0, 0.3, 0.0)
    table = pd.DataFrame(
        {
            "input_path": [f"board_{n // 500:05d}/top" for n in number],
            "golden_path": "golden/board",
            "label": LABELS[label],
            "object_name": [f"C{n % 500:04d}@{n}" for n in number],
            "siamese_score": score.astype(np.float32).astype(np.float64),
        }
    )
    table.to_csv(folder / "inference.csv", index=False)
    (folder / "train.yaml").write_text(TRAIN_YAML)


def read_with_pandas(folder: Path) -> None:
    pd.read_csv(folder / "inference.csv")


def read_as_text(folder: Path) -> None:
    pd.read_csv(folder / "inference.csv", dtype=str, keep_default_na=False)


def analyse_gaps(folder: Path) -> None:
    values = {
        "inference_results_dir": folder,
        "train_config": folder / "train.yaml",
        "results_dir": folder / "out",
        "kpi_media_path": "/data",
    }
    spec = VCN_AOI.spec.model_validate(values)
    VCN_AOI.run(spec)


def evaluate(folder: Path) -> None:
    values = {"inference_csv": folder / "inference.csv", "results_dir": folder / "kpi"}
    FAR_AT_RECALL.run(FAR_AT_RECALL.spec.model_validate(values))


def nothing(_: Path) -> None:
    """What the interpreter and the imports take alone."""


WORK = {work.__name__: work for work in (nothing, read_with_pandas, read_as_text, analyse_gaps, evaluate)}


def measure(name: str, folder: Path) -> tuple[float, float]:
    """Wall seconds and peak MiB of one piece of work; the best of three processes."""
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, __file__, "--child", name, str(folder)],
            check=True,
            capture_output=True,
            text=True,
        )
        runs.append(tuple(map(float, done.stdout.split())))
    return min(run[0] for run in runs), min(run[1] for run in runs)


def peak_mib() -> float:
    """Peak resident memory of this process image; getrusage would count what stood before exec as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_inputs(folder, rows)
        print(f"{rows} rows, {(folder / 'inference.csv').stat().st_size / 2**20:.0f} MiB")
        taken = {name: measure(name, folder) for name in WORK}
    seconds, memory = taken["read_with_pandas"]
    for name, (wall, peak) in taken.items():
        ratios = f"{wall / seconds:5.2f} x time  {peak / memory:5.2f} x memory"
        print(f"{name:18} {wall:6.2f} s {peak:6.0f} MiB  {ratios}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        # The measured package is imported here, so that making the inputs does not need it.
        from tasks.evaluation.action import FAR_AT_RECALL
        from tasks.gap_analysis.action import VCN_AOI

        started = time.perf_counter()
        WORK[sys.argv[2]](Path(sys.argv[3]))
        wall = time.perf_counter() - started
        print(wall, peak_mib())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
