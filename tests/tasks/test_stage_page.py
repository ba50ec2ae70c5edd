from pathlib import Path

import pytest
from PIL import Image

from tasks.action import Headline
from tasks.artifacts import Artifact
from tasks.registry import find_action
from tasks.stage_page import computed_here, files_read, stage_key, stage_page, taken_from_cache

TRAIN = find_action("visual_changenet", "train")
EMBED = find_action("embedding", "image_embeddings")


@pytest.mark.parametrize(
    ("folder", "label", "key"),
    [
        ("/ws/results/run_20261121_100026/iter1/train", None, "visual_changenet train iter1"),
        ("/ws/results/run_1/iter1/inference/best_val", "train", "visual_changenet train iter1 best_val"),
        (
            "/ws/results/run_1/automl_phase1/recs/rec_003/train",
            None,
            "visual_changenet train automl_phase1 recs rec_003",
        ),
        ("/anywhere/else", None, "visual_changenet train"),
        ("/ws/run_1", None, "visual_changenet train"),
        ("/ws/running/out", "mine", "visual_changenet train mine"),
    ],
)
def test_the_key_says_which_of_its_kind_it_is(folder, label, key):
    assert stage_key(TRAIN, Path(folder), label) == key


def test_everything_from_outside_is_text(tmp_path):
    file = tmp_path / "a|b `c` <i>.csv"
    file.write_text("x")
    told = Headline("", ("a|b",), [("<b>",), (None,)])
    text = stage_page(told, "origin", {"pool|x": file}, tmp_path, [Artifact.of(file)])
    assert "| a\\|b |\n| --- |\n| &lt;b&gt; |\n| — |" in text
    assert "| `pool\\|x` | `2d711642b726` | ``" in text
    assert "| `2d711642b726` | ``a\\|b `c` <i>.csv`` |" in text


def test_long_lists_say_how_much_is_left_out(tmp_path):
    files = []
    for number in range(30):
        file = tmp_path / f"{number}.txt"
        file.write_text(str(number))
        files.append(Artifact.of(file))
    text = stage_page(Headline("x", ("n",), [(number,) for number in range(23)]), "o", {}, tmp_path, files)
    assert "… and 3 more." in text
    assert "… and 18 more." in text


def test_an_action_without_a_sentence_still_says_where_it_comes_from():
    text = stage_page(Headline(""), computed_here(12.34, "docker-runtime/gpu"), {}, Path("/out"), [])
    assert text.startswith("#### Where it comes from\n\nComputed in 12.3 s on `docker-runtime/gpu`.\n")


def test_a_cached_stage_names_run_folder_and_time():
    text = taken_from_cache("bold-eagle", Path("/ws/a"), "2026-11-21T10:00:00+00:00", 9.0)
    assert (
        "Computed by the run `bold-eagle` on 2026-11-21 10:00:00 UTC in 9.0 s, in the folder `/ws/a`." in text
    )
    assert "bold-eagle` in 9.0 s" in taken_from_cache("bold-eagle", Path("/ws/a"), None, 9.0)


def test_one_picture_is_shown_as_it_is_several_as_one_sheet_and_unreadable_ones_not(tmp_path):
    for name in ("a.png", "b.png"):
        Image.effect_noise((600, 600), 90).save(tmp_path / name)
    (tmp_path / "bad.png").write_text("no picture")
    paths = [tmp_path / name for name in ("a.png", "b.png", "bad.png", "absent.png")]
    one = stage_page(Headline("x", pictures=paths[:1], caption="A chart:"), "o", {}, tmp_path, [])
    sheet = stage_page(Headline("x", pictures=paths * 9, caption="Samples:"), "o", {}, tmp_path, [])
    assert "A chart:\n\n![A chart:](data:image/" in one
    assert sheet.count("data:image/jpeg") == 1
    assert len(one) < 300_500
    assert len(sheet) < 300_500
    assert "data:" not in stage_page(Headline("x", pictures=paths[2:]), "o", {}, tmp_path, [])


def test_only_files_that_are_read_and_there_are_inputs(tmp_path):
    (tmp_path / "in.parquet").write_text("x")
    spec = EMBED.spec(
        {
            "input_parquet": tmp_path / "in.parquet",
            "output_parquet": tmp_path / "out.parquet",
            "model_config_path": tmp_path / "absent.yaml",
            "model": "ChangeNet",
            "model_path": "weights.pth",
        }
    )
    assert files_read(spec) == {"input_parquet": tmp_path / "in.parquet"}
