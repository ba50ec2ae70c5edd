from tasks.registry import find_action

INFERENCE = find_action("image_classifier", "inference")


def test_inference_says_how_many_rows_are_told_right_the_worst_label_first(tmp_path):
    values = {"results_dir": tmp_path}
    spec = INFERENCE.spec(values)
    spec.results_dir.mkdir(parents=True, exist_ok=True)
    rows = "f,ok,ok\nf,ok,ok\nf,NA,ok\nf,NA,NA\n"
    (spec.results_dir / "inference.csv").write_text("filepath,label,predicted\n" + rows)
    told = INFERENCE.code.headline(spec)
    assert told.sentence == "3 of 4 (75.0 %) rows are told right."
    assert told.rows == [("NA", 2, 1, 50.0), ("ok", 2, 2, 100.0)]
