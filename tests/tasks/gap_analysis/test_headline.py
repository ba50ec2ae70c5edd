import json

from PIL import Image

from tasks.gap_analysis.action import VCN_AOI, VLM_BCQ
from tasks.spec import load_spec


def told_of_answers(folder, items):
    predictions = folder / "predictions.json"
    predictions.write_text(json.dumps(items))
    values = {"predictions_json": predictions, "results_dir": folder / "out", "videos_dir": folder}
    spec = load_spec(VLM_BCQ.spec, values)
    VLM_BCQ.run(spec)
    return VLM_BCQ.headline(spec)


def item(response, truth, video="a.mp4"):
    return {"video_id": video, "response": response, "gt": truth}


def test_vcn_says_what_the_threshold_does_and_ranks_labels_by_what_is_wrong(inference):
    rows = [(0.1, "PASS"), (0.2, "PASS"), (0.3, "a|b"), (0.4, "PASS"), (0.9, "SHORT")]
    spec = inference.write(rows).spec()
    VCN_AOI.run(spec)
    told = VCN_AOI.headline(spec)
    assert told.sentence.startswith("At threshold 0.2 the model finds 2 of 2 (100.0 %) defects")
    assert "a false alarm on 1 of 3 (33.3 %) good samples; the 5 weakest samples" in told.sentence
    assert [row[:3] for row in told.rows] == [("PASS", 3, 1), ("A|B", 1, 0), ("SHORT", 1, 0)]


def test_vcn_shows_the_weakest_samples_first(inference, tmp_path):
    names = [f"{number}" for number in range(5)]
    rows = [(0.1, "PASS"), (0.2, "PASS"), (0.3, "X"), (0.4, "PASS"), (0.9, "X")]
    spec = inference.write(rows, names).spec(kpi_media_path=tmp_path)
    VCN_AOI.run(spec)
    Image.new("RGB", (8, 8)).save(tmp_path / "first.png")
    pictures = VCN_AOI.headline(spec).pictures
    assert [path.name for path in pictures[:2]] == ["3_Top.jpg", "1_Top.jpg"]


def test_bcq_counts_and_shows_the_first_ten_failures(tmp_path):
    items = [item("yes", "no", f"{number}.mp4") for number in range(12)]
    told = told_of_answers(tmp_path, [*items, item("no", "yes"), item("no", "no"), item("perhaps", "no")])
    assert told.sentence == (
        "1 of 14 (7.1 %) answers are right; 12 say yes where the truth is no (FP), 1 say no where it is yes "
        "(FN); skipped, as no clear yes or no: 1 of 15 (6.7 %) items. The first 10 wrong ones:"
    )
    assert len(told.rows) == 10
    assert told.rows[0][1:] == ["FP", "", "no", "yes"]


def test_bcq_of_nothing_invents_no_share(tmp_path):
    told = told_of_answers(tmp_path, [])
    assert told.sentence.startswith("0 of 0 answers are right")
    assert told.sentence.endswith("0 of 0 items.")
    assert not told.rows
