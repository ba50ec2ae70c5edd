import csv
import json
import string

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from tasks.errors import InputError
from tasks.gap_analysis.spot_check import OF_EACH, SpotCheck, picture_names, shortfall, spot_check, weakest
from tasks.gap_analysis.spot_check.inputs import embeddings_beside
from tasks.gap_analysis.spot_check.judges import PENDING, VERDICTS
from tasks.gap_analysis.spot_check.rules import Embeddings, Rules, is_unusual

NOISE = np.random.default_rng(0)
ROWS = [(0.1 * number, "PASS") for number in range(7)] + [
    (0.3 + 0.05 * number, "bridge") for number in range(7)
]
MANUAL = SpotCheck(judge="manual")


def draw(path, mean=120, deviation=40, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.clip(NOISE.normal(mean, deviation, size[::-1]), 0, 255).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save(path)


@pytest.fixture
def folder(inference, tmp_path):
    """An rca folder of 14 samples with noise as pictures, each with a golden picture."""
    inference.write(ROWS).run(kpi_media_path=tmp_path / "images")
    for number in range(len(ROWS)):
        draw(tmp_path / "images" / "board" / f"{number:03d}_Top.jpg")
        draw(tmp_path / "images" / "golden" / f"{number:03d}_Top.jpg")
    return inference.results


def looked(folder, settings=None, **more):
    return json.loads(spot_check(folder, settings or SpotCheck(), **more).read_text())


def table(*rows):
    names = ["input_path", "object_name", "label", "weakness"]
    return pd.DataFrame(rows, columns=names).assign(first_filepath=[f"/i/{row[1]}_Top.png" for row in rows])


# --- which samples ------------------------------------------------------------------------------------


def test_five_weakest_of_pass_and_five_others_with_pictures_and_goldens(folder):
    found = looked(folder)
    rows = found["rows"]
    assert [row["label"] for row in rows] == ["PASS"] * 5 + ["bridge"] * 5
    for group in (rows[:5], rows[5:]):
        assert [row["weakness"] for row in group] == sorted((row["weakness"] for row in group), reverse=True)
    assert found["shortfall"] is None
    assert rows[0]["image"] == "rca_images/01_PASS_006_Top.png"
    for row in rows:
        for name in ("image", "golden_image"):
            with Image.open(folder / row[name]) as picture:
                assert picture.size == (128, 128)
    assert len(list((folder / "rca_images").iterdir())) == 20


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from("123456"),
            st.sampled_from(["PASS", " pass ", "spur", "a|b"]),
            st.floats(-1, 1),
        ),
        max_size=40,
    )
)
def test_selection(rows):
    frame = table(*rows)
    chosen = weakest(frame)
    keys = list(zip(chosen["input_path"], chosen["object_name"], strict=True))
    assert len(set(keys)) == len(keys)
    passes = [label.strip().upper() == "PASS" for label in chosen["label"]]
    assert passes == sorted(passes, reverse=True)
    best = frame.sort_values("weakness", ascending=False, kind="stable").drop_duplicates(
        ["input_path", "object_name"]
    )
    for wanted in (True, False):
        of_kind = [
            weakness
            for weakness, label in zip(best["weakness"], best["label"], strict=True)
            if (label.strip().upper() == "PASS") == wanted
        ]
        taken = [
            weakness for weakness, is_it in zip(chosen["weakness"], passes, strict=True) if is_it == wanted
        ]
        assert taken == of_kind[:OF_EACH]
    assert (shortfall(chosen) is None) == (len(chosen) == 2 * OF_EACH)


def test_shortfall_is_told_and_no_failure(inference, tmp_path):
    inference.write([(0.1, "PASS"), (0.4, "PASS"), (0.9, "spur")]).run(kpi_media_path=tmp_path)
    found = looked(inference.results)
    assert found["shortfall"] == "there were only 2 of 5 PASS samples and 1 of 5 NO_PASS samples"
    assert [row["image"] for row in found["rows"]] == [None] * 3
    assert {row["verdict"] for row in found["rows"]} == {"data quality"}


@given(
    st.lists(st.tuples(st.text(max_size=60), st.text(string.printable, max_size=60)), min_size=1, max_size=10)
)
def test_names_of_pictures_suit_every_file_system(parts):
    chosen = table(*(("x", name, label, 0.0) for label, name in parts))
    names = picture_names(chosen)
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert set(name) <= set(string.ascii_letters + string.digits + "_.-")
        assert len(name) < 150


def test_name_says_rank_label_object_and_lighting():
    rows = table(("x", "C5", "a|b <c>", 0.0), ("x", "../../etc", "PASS", 0.0))
    rows["first_filepath"] = ["/i/C5_Solder Light.png", "/i/../../etc.png"]
    assert picture_names(rows)[0] == "01_A_B_C__C5_Solder_Light.png"
    assert "/" not in picture_names(rows)[1]


def test_pictures_of_an_earlier_look_go(folder):
    looked(folder)
    (folder / "rca_images" / "11_OLD.png").touch()
    looked(folder)
    assert len(list((folder / "rca_images").iterdir())) == 20


def test_unreachable_target_has_nothing_to_look_at(inference):
    (inference.root / "results").mkdir()
    (inference.results / "unreachable_kpi.txt").write_text("No threshold achieves recall >= 1.0")
    found = looked(inference.results)
    assert found["rows"] == []
    assert "no threshold" in found["note"]


def test_folder_without_an_analysis_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"weak samples .*weak_samples\.parquet"):
        spot_check(tmp_path, SpotCheck())
    assert list(tmp_path.iterdir()) == []


# --- rules --------------------------------------------------------------------------------------------


def judged(path, weakness=-0.5, **fields):
    sides = np.log2(np.full((9, 2), 40.0))
    rules = Rules(**{"sides": sides, "score_range": 1.0, **fields})
    return rules({"first_filepath": str(path), "weakness": weakness, "label": "PASS"})


@pytest.mark.parametrize(
    ("drawn", "reason"),
    [
        ({"deviation": 0}, "almost nothing on it: grey values differ by 0.0 of 255"),
        ({"mean": 5, "deviation": 12}, "too dark: mean grey value"),
        ({"mean": 250, "deviation": 12}, "too bright: mean grey value"),
        ({"size": (200, 40)}, "unusual size: 200 x 40 pixels"),
        ({"size": (40, 12)}, "unusual size: 40 x 12 pixels"),
    ],
)
def test_bad_pictures(tmp_path, drawn, reason):
    draw(tmp_path / "p.png", **drawn)
    found = judged(tmp_path / "p.png", weakness=0.0)
    assert (found.verdict, found.origin) == ("data quality", "rules, no embeddings")
    assert reason in found.reason


@pytest.mark.parametrize("content", [b"", b"no picture", None, "half"])
def test_picture_that_cannot_be_read(tmp_path, content):
    file = tmp_path / "p.png"
    if content == "half":
        draw(file)
        content = file.read_bytes()[:200]
    if content is not None:
        file.write_bytes(content)
    assert judged(file)[::2] == ("data quality", "the picture cannot be read")


@pytest.mark.parametrize(
    ("weakness", "against", "verdict"),
    [
        (0.0, 5, "edge case"),
        (0.0199, 0, "edge case"),
        (-0.0199, 0, "edge case"),
        (0.02, 0, "systematic"),
        (-0.02, 3, "systematic"),
        (0.5, 4, "mislabeled"),
        (-0.5, 5, "mislabeled"),
    ],
)
def test_rules_on_a_good_picture(tmp_path, weakness, against, verdict):
    file = tmp_path / "p.png"
    draw(file)
    found = judged(file, weakness=weakness, against={str(file): against})
    assert (found.verdict, found.origin) == (verdict, "rules")


def test_unusual_only_beside_equal_sizes():
    equal = np.log2(np.full((9, 2), 40.0))
    mixed = np.log2(np.array([[20, 20], [40, 40], [80, 80], [160, 160]], dtype=float))
    assert is_unusual((100, 100), equal)
    assert not is_unusual((80, 20), equal)
    assert not is_unusual((300, 300), mixed)
    assert not is_unusual((300, 300), np.empty((0, 2)))


@pytest.fixture
def embedded(tmp_path):
    """Writes target and source embeddings from (file, label, vector) rows."""

    def write(target, source):
        paths = []
        for name, rows in (("target", target), ("source", source)):
            files, labels, vectors = zip(*rows, strict=True)
            columns = {
                "filepath": list(files),
                "label": list(labels),
                "embedding": [list(v) for v in vectors],
            }
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
            paths.append(tmp_path / f"{name}.parquet")
        return Embeddings(*paths)

    return write


def test_neighbours_of_another_label_make_it_mislabeled(folder, embedded):
    rows = pq.read_table(folder / "weak_samples.parquet").to_pylist()
    files = {row["object_name"]: row["first_filepath"] for row in rows}
    # 000 is PASS among defects; 013, a bridge, is among spurs, which are defects too, and once itself.
    target = [(files["000"], "PASS", (1, 0)), (files["013"], "bridge", (0, 1))]
    source = [(f"/pool/{n}", "Bridge ", (1, 0.01 * n)) for n in range(5)]
    source += [(files["013"], "PASS", (0, 1)), *((f"/good/{n}", "spur", (0.01 * n, 1)) for n in range(4))]
    source += [("/other", "pass", (0.05, 1))]
    pd.DataFrame(rows).query("object_name in ['000', '013']").to_parquet(folder / "weak_samples.parquet")
    found = {row["object_name"]: row for row in looked(folder, embeddings=embedded(target, source))["rows"]}
    assert found["000"]["verdict"] == "mislabeled"
    assert found["000"]["reason"] == "5 of its 5 nearest images are defects"
    assert (found["013"]["verdict"], found["013"]["origin"]) == ("systematic", "rules")


def test_samples_whose_label_or_vector_is_absent_are_not_compared(folder, embedded):
    rows = pq.read_table(folder / "weak_samples.parquet").to_pylist()
    target = [(row["first_filepath"], "x", (1, 0)) for row in rows[:-1]]
    source = [(f"/pool/{n}", "bridge", (1, 0.01 * n)) for n in range(6)]
    found = looked(folder, embeddings=embedded(target, source))
    origins = {row["label"]: row["origin"] for row in found["rows"] if "score" not in row["reason"]}
    assert origins == {"PASS": "rules, no embeddings", "bridge": "rules"}


@pytest.mark.parametrize("damage", ["missing", "zero", "dimension"])
def test_embeddings_that_cannot_be_used_are_a_warning(folder, embedded, damage, caplog):
    rows = pq.read_table(folder / "weak_samples.parquet").to_pylist()
    target = [(row["first_filepath"], "x", (0, 0) if damage == "zero" else (1, 0)) for row in rows]
    wide = (1, 0, 0) if damage == "dimension" else (1, 0)
    given = embedded(target, [(f"/pool/{n}", name, wide) for n in range(6) for name in ("PASS", "bridge")])
    if damage == "missing":
        given.source.unlink()
    found = looked(folder, embeddings=given)
    assert {row["origin"] for row in found["rows"]} == {"rules, no embeddings"}
    assert "labels are not compared" in caplog.text


def test_range_of_scores_is_that_of_the_whole_csv(folder, inference):
    near = [row for row in looked(folder)["rows"] if row["verdict"] == "edge case"]
    assert near
    rows = list(csv.DictReader(inference.csv.open()))
    inference.write([*((float(row["siamese_score"]), row["label"]) for row in rows), (100.0, "bridge")])
    assert {row["verdict"] for row in looked(folder)["rows"]} == {"edge case"}


def test_without_the_csv_the_kept_scores_and_no_golden(folder, inference, caplog):
    inference.csv.unlink()
    rows = looked(folder)["rows"]
    assert {row["golden_image"] for row in rows} == {None}
    assert {row["verdict"] for row in rows} <= {"edge case", "systematic"}
    assert "are not known" in caplog.text


# --- nobody, a person, a table --------------------------------------------------------------------------


def test_nobody(folder):
    found = looked(folder, SpotCheck(judge="none"))
    assert found["note"] == "nobody looked at these pictures"
    assert {(row["verdict"], row["origin"]) for row in found["rows"]} == {(None, "none")}


def test_a_person_comes_later(folder):
    found = looked(folder, MANUAL)
    assert found["note"] == "10 of 10 pictures wait for a person"
    assert {(row["verdict"], row["origin"]) for row in found["rows"]} == {(PENDING, "manual")}


def filled(folder, words, **changed):
    """Fill the verdicts from the top."""
    file = folder / "spot_check_verdicts.csv"
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    for number, word in enumerate(words):
        frame.loc[number, "verdict"] = word
    for name, value in changed.items():
        frame.loc[: len(words) - 1, name] = value
    frame.to_csv(file, index=False)
    return file


@pytest.mark.parametrize("judge", ["rules", "manual", "none"])
def test_what_a_person_wrote_wins_and_stays(folder, judge):
    looked(folder, MANUAL)
    filled(folder, ["mislabeled", " Edge_Case ", "pending review"], by="Anna")
    for _ in range(2):
        rows = looked(folder, SpotCheck(judge=judge))["rows"]
        assert [(row["verdict"], row["origin"]) for row in rows[:2]] == [
            ("mislabeled", "person: Anna"),
            ("edge case", "person: Anna"),
        ]
        assert not any(row["origin"].startswith("person") for row in rows[2:])
    table = list(csv.DictReader((folder / "spot_check_verdicts.csv").open()))
    assert [row["verdict"] for row in table] == ["mislabeled", "edge case", *[""] * 8]


def test_a_spreadsheet_may_have_spoiled_the_names(folder):
    looked(folder, MANUAL)
    file = filled(folder, ["systematic"], object_name="6")
    file.write_text("\ufeff" + file.read_text().replace(",", ";"), encoding="utf-8")
    row = looked(folder, MANUAL)["rows"][0]
    assert (row["object_name"], row["verdict"], row["origin"]) == ("006", "systematic", "person")
    assert file.read_text().count("systematic") == 1


def test_verdict_on_a_sample_that_is_no_longer_shown_stays(folder):
    looked(folder, MANUAL)
    file = filled(folder, ["mislabeled"])
    samples = pd.read_parquet(folder / "weak_samples.parquet")
    samples[samples["object_name"] != "006"].to_parquet(folder / "weak_samples.parquet")
    rows = looked(folder, MANUAL)["rows"]
    assert {row["verdict"] for row in rows} == {PENDING}
    last = list(csv.DictReader(file.open()))[-1]
    assert (last["object_name"], last["verdict"]) == ("006", "mislabeled")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace(",,\n", ",perhaps,\n", 1),
            r"row 2: 'perhaps' is no verdict; write one of",
        ),
        (lambda text: text.replace("verdict", "opinion"), "lacks the columns verdict"),
        (lambda text: "", "lacks the columns label"),
    ],
)
def test_unusable_table_is_refused_and_left_alone(folder, change, message):
    before = looked(folder, MANUAL)
    file = folder / "spot_check_verdicts.csv"
    file.write_text(change(file.read_text()))
    text = file.read_text()
    with pytest.raises(InputError, match=message) as caught:
        looked(folder)
    assert str(file) in str(caught.value)
    assert file.read_text() == text
    assert json.loads((folder / "spot_check.json").read_text()) == before


def test_table_in_another_encoding_is_refused(folder):
    looked(folder, MANUAL)
    file = folder / "spot_check_verdicts.csv"
    file.write_bytes(file.read_bytes() + "\nJörg".encode("latin-1"))
    with pytest.raises(InputError, match="save it as CSV UTF-8"):
        looked(folder)


def test_labels_of_any_text_survive_the_table(inference, tmp_path):
    labels = ["<script>alert(1)</script>", "a|b", 'a "quoted", one', "zwei\nZeilen", "=1+1"]
    inference.write([(0.1, "PASS"), *((0.5, label) for label in labels)]).run(kpi_media_path=tmp_path)
    looked(inference.results, MANUAL)
    filled(inference.results, ["edge case"] * 6)
    rows = looked(inference.results, MANUAL)["rows"]
    assert {row["verdict"] for row in rows} == {"edge case"}
    assert {row["label"] for row in rows} == {"PASS", *labels}


def test_settings():
    assert SpotCheck().judge == "rules"
    with pytest.raises(ValidationError, match=r"needs spot_check\.endpoint and spot_check\.model"):
        SpotCheck(judge="vlm", endpoint="http://localhost/v1")
    with pytest.raises(ValidationError):
        SpotCheck(judge="somebody")
    assert set(VERDICTS) == {"mislabeled", "edge case", "data quality", "systematic"}


def test_embeddings_of_the_latest_mining_of_the_run(tmp_path):
    rca = tmp_path / "iter1" / "rca_results" / "2026-01-02_000000"
    assert embeddings_beside(rca) is None
    for phase, clock, names in (
        ("iter1", "2026-01-01_000000", ("target", "source")),
        ("iter2", "2026-01-03_000000", ("target", "source")),
        ("iter3", "2026-01-04_000000", ("target",)),
    ):
        folder = tmp_path / phase / "mining_results" / clock
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}_embeddings.parquet").touch()
    mining = tmp_path / "iter2" / "mining_results" / "2026-01-03_000000"
    found = embeddings_beside(rca)
    assert found == Embeddings(mining / "target_embeddings.parquet", mining / "source_embeddings.parquet")
    assert embeddings_beside(tmp_path) is None
