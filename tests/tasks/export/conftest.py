"""A loop's run on disk with weak and mined samples, names and labels as awkward as they come."""

from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from tasks.artifacts import write_csv, write_json, write_parquet

LABELS = ("PASS", 'a|b, "c"', "<script>alert(1)</script>", "=1+1", "Lötbrücke\nzwei")


def picture(path: Path, size=(8, 6)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "#446688").save(path)
    return str(path)


def weak_rows(root: Path, labels) -> list[dict]:
    rows = []
    for number, label in enumerate(labels):
        folder, name = f"board #{number} ü", f"x 0{number}"
        image = picture(root / folder / f"{name}_Solder Light.PNG")
        picture(root / "golden" / folder / f"{name}_Solder Light.PNG")
        rows.append(
            {"input_path": folder, "object_name": name, "label": label, "siamese_score": 0.5 - number / 10,
             "weakness": number / 10 - 0.2, "misclassified": number > 2, "first_filepath": image}
        )  # fmt: skip
    return rows


def write_rows(path: Path, rows) -> Path:
    return write_parquet(path, pa.Table.from_pylist(rows))


@pytest.fixture
def run(tmp_path):
    """Weak samples after the baseline and iteration 1; mined ones in iterations 1 and 2."""
    root, folder = tmp_path / "images of line 1", tmp_path / "run_1"
    weak = weak_rows(root, LABELS)
    for label, rows in (("baseline", weak[:2]), ("iter1", weak)):
        write_rows(folder / label / "rca_results" / "2026-01-01_000000" / "weak_samples.parquet", rows)
        scored = [{**row, "golden_path": f"golden/{row['input_path']}"} for row in rows]
        columns = ["input_path", "golden_path", "label", "object_name"]
        lines = [{name: row[name] for name in columns} for row in scored]
        write_csv(folder / label / "inference" / "best_val" / "inference.csv", columns, lines)
    pool, mined, close = [], [], []
    for number in range(3):
        for light in ("A", "B"):
            path = picture(root / "pool" / f"p0{number}_{light}.png", (4, 4))
            golden = picture(root / "golden" / "pool" / f"p0{number}_{light}.png", (4, 4))
            pool.append(
                {"filepath": path, "input_path": "pool", "object_name": f"p0{number}", "label": "short",
                 "golden_filepath": golden if number else None}
            )  # fmt: skip
            mined.append({"filepath": path, "label": "short"})
            close.append(
                {"filepath": path, "label": "short", "max_cosine_similarity": 0.9 if light == "B" else 0.5,
                 "nearest_target_filepath": weak[0]["first_filepath"], "nearest_target_label": "PASS"}
            )  # fmt: skip
    write_rows(folder / "inputs" / "mining_pool.resolved.parquet", pool)
    for label, upto in (("iter1", 2), ("iter2", 6)):
        write_rows(folder / label / "mining_filter" / "mined.parquet", mined[:upto])
        write_rows(folder / label / "mining_filter" / "mined_candidates.parquet", close[:4])
    write_json(folder / "deft_state.json", {"config": {"images_dir": str(root)}})
    return folder
