from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from tasks.errors import InputError, UsageError
from tasks.spec import (
    READS,
    WRITES,
    OptionalReadPath,
    ReadPath,
    SpecModel,
    WritePath,
    content_of,
    defaults_of,
    load_spec,
    merged_spec,
    paths_of,
    read_mapping,
)


class Optim(SpecModel):
    lr: float = 1e-4
    weights: OptionalReadPath = None


class Example(SpecModel):
    ALIASES: ClassVar[dict[str, str]] = {"output_dir": "results_dir"}

    source: ReadPath
    results_dir: WritePath
    topn: int = Field(default=5, ge=1)
    note: str | None = None
    optim: Optim = Optim()


def written(folder: Path, text: str) -> Path:
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


def test_word_wins_over_file_and_file_over_default(tmp_path):
    file = written(tmp_path, "source: /a\nresults_dir: /out\ntopn: 7\noptim: {lr: 0.1}\n")
    assert load_spec(Example, file).topn == 7
    assert load_spec(Example, file, ["topn=9"]).topn == 9
    assert load_spec(Example, file, ["optim.lr=0.5"]).optim.lr == 0.5
    assert load_spec(Example, None, ["source=/a", "results_dir=/out"]).topn == 5


def test_interpolation_resolves(tmp_path):
    file = written(tmp_path, "source: ${results_dir}/pool.parquet\nresults_dir: /out\n")
    assert load_spec(Example, file).source == Path("/out/pool.parquet")


def test_schema_shows_required_keys_as_unset():
    assert defaults_of(Example)["source"] == "???"
    assert merged_spec(Example, None, [])["optim"]["lr"] == 1e-4


def test_all_unset_keys_are_named():
    with pytest.raises(InputError, match="not set: results_dir, source"):
        load_spec(Example)


def test_unset_placeholder_in_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="not set: source"):
        load_spec(Example, written(tmp_path, "source: ???\nresults_dir: /out\n"))


def test_unknown_nested_key_is_named(tmp_path):
    with pytest.raises(InputError, match=r"unknown key optim\.learning_rate"):
        load_spec(Example, None, ["source=/a", "results_dir=/o", "optim.learning_rate=1"])


def test_value_out_of_range_names_key_and_value():
    with pytest.raises(InputError, match=r"topn: .*greater than or equal to 1 \(got 0\)"):
        load_spec(Example, None, ["source=/a", "results_dir=/o", "topn=0"])


def test_word_without_equals_sign_is_a_usage_error():
    with pytest.raises(UsageError, match="'topn' is not key=value"):
        load_spec(Example, None, ["topn"])


def test_missing_spec_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: No such file"):
        load_spec(Example, tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b\n", "just text"])
def test_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"spec\.yaml"):
        load_spec(Example, written(tmp_path, text))


def test_old_key_name_is_accepted_but_not_beside_the_new_one():
    assert load_spec(Example, None, ["source=/a", "output_dir=/o"]).results_dir == Path("/o")
    with pytest.raises(InputError, match="which are one key"):
        load_spec(Example, None, ["source=/a", "output_dir=/o", "results_dir=/p"])


def test_empty_text_means_no_path():
    spec = load_spec(Example, None, ["source=/a", "results_dir=/o", "optim.weights="])
    assert spec.optim.weights is None


def test_content_counts_files_by_what_they_hold_and_not_by_where_they_lie(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("same")
    second.write_text("same")

    def content(source: Path, **more: object) -> dict[str, object]:
        return content_of(Example(source=source, results_dir=tmp_path / "out", **more))

    assert content(first) == content(second)
    assert content(first) != content(first, topn=6)
    before = content(first)
    first.write_text("other")
    assert content(first) != before


def test_every_path_that_is_set_is_found_with_its_role(tmp_path):
    spec = load_spec(Example, {"source": tmp_path / "a", "results_dir": tmp_path, "optim": {"weights": "/w"}})
    assert paths_of(spec) == {
        "source": (tmp_path / "a", READS),
        "results_dir": (tmp_path, WRITES),
        "optim.weights": (Path("/w"), READS),
    }
    without = load_spec(Example, {"source": tmp_path / "a", "results_dir": tmp_path})
    assert set(paths_of(without)) == {"source", "results_dir"}


def test_a_key_called_yes_stays_a_word(tmp_path):
    content = read_mapping(written(tmp_path, "yes: true\nno: 1e-3\n"), "parameters")
    assert content == {"yes": True, "no": 1e-3}
