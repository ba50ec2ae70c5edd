from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset.table import (
    Lighting,
    check_classes,
    check_images,
    is_pass,
    lighting_of,
    normalised_label,
    read_table,
)
from tasks.errors import InputError


def test_all_columns_are_text_so_digits_keep_their_zeros(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(
        "\ufeffinput_path,golden_path,label,object_name,boardname\r\n007,g,PASS,00,é\r\n".encode()
    )
    table = read_table(file)
    assert table.iloc[0].tolist() == ["007", "g", "PASS", "00", "é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("input_path,label\na,PASS\n", "lacks the columns golden_path, object_name"),
        ("input_path,golden_path,label,object_name\n", "contains no rows"),
        ("", "cannot be read as CSV"),
    ],
)
def test_malformed_csv_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(file)


def test_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("given_label", "label"),
    [(" pass ", "PASS"), ("Pass", "PASS"), ("Missing ", "missing"), ("PASS", "PASS")],
)
def test_label_repair(given_label: str, label: str) -> None:
    assert normalised_label(given_label) == label


@given(st.text())
def test_label_repair_is_stable_and_agrees_with_is_pass(label: str) -> None:
    once = normalised_label(label)
    assert normalised_label(once) == once
    assert (once == "PASS") == is_pass([label])[0]


@pytest.mark.parametrize(
    ("section", "names", "ext"),
    [
        ("{input_map: {Z: 0, A: 1}, image_ext: .jpg}", ("Z", "A"), ".jpg"),
        ("{input_map: [Z, a, M], image_ext: .png}", ("Z", "a", "M"), ".png"),
        ("{input_map: null, image_ext: .jpg}", (), ".jpg"),
        ("{input_map: {}, image_ext: '${ext}'}", (), ".bmp"),
    ],
)
def test_lighting_of_a_train_yaml(tmp_path: Path, section: str, names: tuple[str, ...], ext: str) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(f"ext: .bmp\ndataset:\n  classify: {section}\n")
    assert lighting_of(file) == Lighting(names, ext)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: {classify: {image_ext: .jpg}}", "lacks dataset.classify.input_map;"),
        ("dataset: {classify: {input_map: null}}", "lacks dataset.classify.image_ext;"),
        ("", "lacks dataset.classify.input_map and dataset.classify.image_ext"),
        ("dataset: {classify: {input_map: 3, image_ext: .jpg}}", "input_map must map or list"),
        ("dataset: {classify: {input_map: null, image_ext: 3}}", "image_ext must be an extension"),
        ("dataset: [", "cannot be read"),
    ],
)
def test_train_yaml_without_lightings_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        lighting_of(file)


def test_missing_train_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.yaml: No such file"):
        lighting_of(tmp_path / "train.yaml")


def test_file_names_of_a_sample() -> None:
    assert Lighting((), ".jpg").file_names("C1@1") == ["C1@1.jpg"]
    assert Lighting(("A", "B"), ".png").files(Path("/i"), "b/", "x") == [
        Path("/i/b/x_A.png"),
        Path("/i/b/x_B.png"),
    ]


def test_missing_images_are_counted_and_named(workspace) -> None:
    table = read_table(workspace.training_csv)
    (workspace.images_dir / "t/t1@1_SideLight.jpg").unlink()
    with pytest.raises(InputError, match=r"set: 1 images do not exist .*row 3: .*t1@1_SideLight\.jpg"):
        check_images(table, workspace.images_dir, workspace.lighting, "set")


@pytest.mark.parametrize(("labels", "kind"), [(["PASS", " pass"], "PASS"), (["missing", "shift"], "defect")])
def test_label_set_with_one_class(labels: list[str], kind: str) -> None:
    with pytest.raises(InputError, match=f"label set with one class: all 2 rows are {kind}"):
        check_classes(labels, "training set")
