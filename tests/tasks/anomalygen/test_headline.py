from PIL import Image

from tasks.anomalygen.tree import GeneratedTree
from tasks.artifacts import write_json
from tasks.registry import find_action

GENERATE = find_action("anomalygen", "generate")
INGEST = find_action("anomalygen", "ingest")


def generated(folder):
    values = {"gaps_parquet": folder / "gaps.parquet", "dataset_dir": folder, "results_dir": folder / "out"}
    return GENERATE.code.headline(GENERATE.spec(values | {"num_SDG": 6}))


def ingested(folder, **facts):
    write_json(folder / "ingest_summary.json", facts)
    values = {"sdg_dir": folder, "workspace": folder, "train_yaml": folder / "t.yaml", "name": "iter1"}
    return INGEST.code.headline(INGEST.spec(values | {"images_out": folder, "results_dir": folder}))


def test_generation_says_how_many_of_each_defect_and_shows_each_kind_in_turn(tmp_path):
    tree = GeneratedTree(tmp_path / "out")
    write_json(tree.allocation, {"board+a": 3})
    write_json(tree.request, {"board+a": 3, "board+b": 3})
    folder = tree.pictures("reconstructed_image")
    folder.mkdir(parents=True)
    for name in ("board+a_00000", "board+a_00001", "board+b_00002"):
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    told = generated(tmp_path)
    assert told.sentence == (
        "3 of 6 (50.0 %) samples that were asked for are generated, of 1 kind of defect."
    )
    assert told.rows == [("board+a", 3, 3), ("board+b", 3, 0)]
    assert [path.stem[-5:] for path in told.pictures] == ["00000", "00002", "00001"]


def test_generation_of_a_container_has_no_request(tmp_path):
    write_json(GeneratedTree(tmp_path / "out").allocation, {})
    told = generated(tmp_path)
    assert told.sentence.startswith("0 of 6 (0.0 %) samples")
    assert not told.rows
    assert not told.pictures


def test_ingestion_counts_rows_by_label_and_what_was_blocked(tmp_path):
    told = ingested(tmp_path, labels={"a|b": 3}, input_count=4, guardrail_blocked=1)
    assert told.sentence == (
        "3 of 4 (75.0 %) generated pairs are training rows; the guardrail blocked 1 pair."
    )
    assert told.rows == [("a|b", 3)]


def test_ingestion_of_nothing(tmp_path):
    told = ingested(tmp_path, labels={}, input_count=0, guardrail_blocked=0)
    assert told.sentence == "0 of 0 generated pairs are training rows."
