from collections import Counter

import pytest

from tasks.errors import InputError
from tasks.gap_analysis.bcq import answer, evaluate, read_predictions, report

ANSWERS = [
    ("Yes.", "yes"),
    ("YES", "yes"),
    ("yes, there is a crack", "yes"),
    ("(yes)", "yes"),
    ("A. Yes", "yes"),
    ("note: yes!", "yes"),
    ("'yes'", "yes"),
    ("yes\n", "yes"),
    ("\tYes\t", "yes"),
    ("Yes-", "yes"),
    ("yes yes", "yes"),
    ("B) no", "no"),
    ("NO!", "no"),
    ("nO", "no"),
    ("no.1", "no"),
    ("no-one", "no"),
    ("no,", "no"),
    ("Answer:No", "no"),
    ("there is no crack", "no"),
    ("no\nno", "no"),
    ("No \N{EM DASH} none", "no"),
    ("", None),
    ("not", None),
    ("know", None),
    ("eyes", None),
    ("nothing to see", None),
    ("yesterday", None),
    ("no_", None),
    ("no1", None),
    ("noël", None),
    ("note", None),
    ("ＮＯ", None),
    ("nope", None),
    ("yes_", None),
    ("maybe", None),
    ("yes and no", None),
    ("Yes, there is no defect", None),
    ("no/yes", None),
    ("yes/maybe", "yes"),
    ("YES or NO?", None),
]


@pytest.mark.parametrize(("text", "expected"), ANSWERS)
def test_answer(text, expected):
    assert answer(text) == expected


def test_response_is_looked_at_before_the_truth(tmp_path):
    answers = evaluate([{"video_id": "a", "response": "?" * 99, "gt": "?"}], tmp_path)
    assert (answers.skipped[0].index, answers.skipped[0].field) == (0, "response")
    assert "?" * 80 in answers.skipped[0].reason
    assert "?" * 81 not in answers.skipped[0].reason


def test_paths_and_question_pass_through(tmp_path):
    items = [
        {"video_id": video, "response": "yes", "gt": "no", **more}
        for video, more in [("a/../b.mp4", {}), ("/x/c.mp4", {"question": None})]
    ]
    failures = evaluate(items, tmp_path).failures
    assert [row["video_id"] for row in failures] == [str(tmp_path / "b.mp4"), "/x/c.mp4"]
    assert [row["question"] for row in failures] == ["", None]


def test_report_grows_with_its_numbers():
    lines = report(Counter(FP=1_234_567)).splitlines()
    assert len({len(line) for line in lines[1:]}) == 1
    assert "| FP         | 1234567 | model said yes, ground truth no |" in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "must be a JSON array"),
        ("[1,", "not valid JSON.*line 1 column"),
        ('["a"]', "item 0 is not an object"),
        ('[{"gt": "no"}]', "item 0 lacks response and video_id"),
        ('[{"gt": "no", "response": null, "video_id": "a"}]', "item 0 has a response that is not text"),
        ('[{"gt": "no", "response": "a", "video_id": "\\u0000"}]', "null character"),
    ],
)
def test_malformed_predictions(tmp_path, text, message):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_predictions(path)


def test_missing_predictions(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_predictions(tmp_path / "p.json")
