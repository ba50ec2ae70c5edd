import pytest

from tasks.errors import InputError
from tasks.gap_analysis.scores import read_scores

HEADER = "input_path,object_name,label,siamese_score\n"


def text_of(inference, text):
    return read_scores(inference.write_text(text).csv)


def test_reads_scores_labels_and_names(inference):
    rows = text_of(inference, HEADER + "b,007, Pass ,0.1\nb,010,Missing,1e-3\n")
    assert rows.scores.tolist() == [0.1, 0.001]
    assert rows.is_pass.tolist() == [True, False]
    assert [rows.labels[i] for i in rows.label_of] == ["PASS", "MISSING"]
    assert rows.table["object_name"].to_pylist() == ["007", "010"]


def test_scores_are_rounded_as_python_rounds(inference):
    texts = ["0.37462455034255981", "0.00010000000149011612", "1.7976931348623157e308", "5e-324"]
    rows = text_of(inference, HEADER + "".join(f"b,x,PASS,{text}\n" for text in texts))
    assert rows.scores.tolist() == [float(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + "b,x,PASS,0.5\n",
        (HEADER + "b,x,PASS,0.5\n").replace("\n", "\r\n"),
        HEADER + "\n\nb,x,PASS, 0.5 \n\n",
        'label,other,siamese_score,object_name,input_path\nPASS,"two\nlines, quoted",0.5,x,b\n',
    ],
    ids=["byte-order mark", "CRLF", "blank lines and spaces", "quoted line end and other order"],
)
def test_forms_of_csv(inference, text):
    rows = text_of(inference, text)
    assert rows.scores.tolist() == [0.5]
    assert rows.table["object_name"].to_pylist() == ["x"]


@pytest.mark.parametrize("label", ["NA", "nan", "None", "null"])
def test_labels_that_look_absent_are_labels(inference, label):
    assert text_of(inference, HEADER + f"b,x,{label},0.5\n").labels == (label.upper(),)


def test_every_column_is_kept_as_text(inference):
    csv = inference.write_text("label,siamese_score,board\nPASS,0.5,0042\n").csv
    assert read_scores(csv, required=(), every_column=True).table["board"].to_pylist() == ["0042"]


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "", "abc", "NA"])
def test_scores_that_are_not_finite_are_named_by_row(inference, score):
    with pytest.raises(InputError, match=r"2 rows have scores that are not finite .*rows 3, 4"):
        text_of(inference, HEADER + f"b,x,PASS,0.5\nb,y,PASS,{score}\nb,z,MISSING,{score}\n")


def test_at_most_twenty_rows_are_named(inference):
    with pytest.raises(InputError, match=r"30 rows .* 21 and 10 more"):
        text_of(inference, HEADER + "b,x,PASS,nan\n" * 30)


def test_blank_labels_are_named_by_row(inference):
    with pytest.raises(InputError, match=r"1 rows have blank labels.*rows 3"):
        text_of(inference, HEADER + "b,x,PASS,0.5\nb,y, ,0.5\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "contains no rows"),
        ("", "lacks the columns input_path, object_name, label, siamese_score"),
        ("object_name,label\nx,PASS\n", "lacks the columns input_path, siamese_score"),
        ("input_path,object_name,label,label,siamese_score\nb,x,P,P,1\n", "columns twice: label"),
        (HEADER + "b,x,PASS\n", "cannot be read as CSV.*Expected 4 columns, got 3"),
        (HEADER + "b,x,PASS,0.5,\n", "cannot be read as CSV.*Expected 4 columns, got 5"),
        (HEADER.encode() + b"b,\xff,PASS,0.5\n", "cannot be read as CSV.*utf-8"),
        (b"\xff\xfe,label\n", "cannot be read as CSV"),
    ],
)
def test_malformed_csv(inference, text, message):
    with pytest.raises(InputError, match=message):
        text_of(inference, text)


def test_missing_csv(tmp_path):
    with pytest.raises(InputError, match=r"inference CSV .*none\.csv: No such file"):
        read_scores(tmp_path / "none.csv")
