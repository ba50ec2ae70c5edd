import numpy as np
import pytest
import torch
from PIL import Image

from tasks.changenet.files import image_files
from tasks.changenet.pairs import PairImages, joined, load_images, normalised, read_pairs
from tasks.errors import InputError


def test_rows_keep_their_order_and_labels_are_normalised(spec_of, data, tmp_path):
    text = (data / "kpi.csv").read_text().replace(",PASS,", ", pass ,")
    (tmp_path / "kpi.csv").write_text(text)
    pairs = read_pairs(
        spec_of(f"dataset.classify.infer_dataset.csv_path={tmp_path}/kpi.csv"), "infer_dataset"
    )
    names = [line.rsplit(",", 1)[1] for line in text.splitlines()[1:]]
    assert pairs.table["object_name"].tolist() == names
    assert pairs.defect.sum() == 5


def test_files_of_several_lightings_follow_the_key_order(spec_of, values, write, tmp_path):
    write(tmp_path, "two", 1, 1, lights=("A", "B"))
    classify = values["dataset"]["classify"]
    classify.update({"input_map": {"B": 0, "A": 1}, "num_input": 2})
    # A trailing slash changes nothing.
    classify["infer_dataset"] = {"csv_path": str(tmp_path / "two.csv"), "images_dir": f"{tmp_path}/images/"}
    pairs = read_pairs(spec_of(), "infer_dataset")
    name = pairs.table["object_name"][0]
    assert pairs.tests[0] == [tmp_path / "images/two/test" / f"{name}_{light}.png" for light in "BA"]
    assert pairs.goldens[0] == [tmp_path / "images/two/golden" / f"{name}_{light}.png" for light in "BA"]


def test_unset_csv_is_named(spec_of):
    with pytest.raises(InputError, match=r"dataset.classify.test_dataset.csv_path is not set"):
        read_pairs(spec_of("dataset.classify.test_dataset.csv_path="), "test_dataset")


def test_unset_images_dir_is_named(spec_of):
    with pytest.raises(InputError, match=r"dataset.classify.test_dataset.images_dir is not set"):
        read_pairs(spec_of("dataset.classify.test_dataset.images_dir="), "test_dataset")


def test_missing_images_are_all_reported(spec_of):
    with pytest.raises(InputError, match=r"infer_dataset .*: 26 images do not exist .*image_ext"):
        read_pairs(spec_of("dataset.classify.image_ext=.jpg"), "infer_dataset")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: f"/abs/{line}", "absolute input_path in row 2"),
        (lambda line: line.replace(",PASS,", ",pass,"), "label must read exactly PASS"),
    ],
)
def test_strict_mode_refuses_what_the_container_misreads(spec_of, data, tmp_path, change, reason):
    header, *lines = (data / "kpi.csv").read_text().splitlines()
    (tmp_path / "kpi.csv").write_text("\n".join([header, *map(change, lines)]))
    words = [f"dataset.classify.infer_dataset.csv_path={tmp_path}/kpi.csv", "native.strict=true"]
    with pytest.raises(InputError, match=reason):
        read_pairs(spec_of(*words), "infer_dataset")


def test_strict_mode_refuses_fewer_rows_than_a_batch(spec_of):
    with pytest.raises(InputError, match=r"13 rows are not enough data for dataset.classify.batch_size 16"):
        read_pairs(spec_of("dataset.classify.batch_size=16", "native.strict=true"), "infer_dataset")


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png cannot be read"):
        load_images([tmp_path / "bad.png"], (8, 8))


def test_images_are_resized_and_grey_becomes_rgb(tmp_path):
    Image.fromarray(np.full((10, 20), 77, np.uint8)).save(tmp_path / "grey.png")
    images = load_images([tmp_path / "grey.png"], (8, 4))
    assert images.shape == (1, 3, 4, 8)
    assert (images == 77).all()


def test_cached_and_uncached_batches_are_equal(spec_of):
    spec = spec_of()
    pairs = read_pairs(spec, "infer_dataset")
    rows = torch.tensor([3, 3, 0, 12])
    cached = PairImages(pairs, spec.data, cache=True).batch(rows)
    assert cached.shape == (4, 2, 1, 3, 32, 32)
    assert torch.equal(cached, PairImages(pairs, spec.data, cache=False).batch(rows))
    with Image.open(pairs.goldens[3][0]) as image:
        assert np.array_equal(cached[0, 1, 0].permute(1, 2, 0).numpy(), np.asarray(image))


def _data(spec_of, **changes):
    lights = {"input_map": {f"L{n}": n for n in range(4)}, "num_input": 4}
    return spec_of().data.model_copy(update={**lights, **changes})


def test_linear_stacks_lightings_below_each_other(spec_of):
    images = torch.arange(4.0).view(1, 1, 4, 1, 1, 1).expand(2, 2, 4, 3, 128, 128)
    out = joined(images, _data(spec_of))
    assert out.shape == (2, 2, 3, 512, 128)
    assert out[0, 0, 0, ::128, 0].tolist() == [0, 1, 2, 3]


def test_grid_fills_row_by_row(spec_of):
    images = torch.arange(4.0).view(1, 1, 4, 1, 1, 1).expand(2, 2, 4, 3, 128, 128)
    out = joined(images, _data(spec_of, concat_type="grid"))
    assert out.shape == (2, 2, 3, 256, 256)
    assert out[0, 0, 0, ::128, ::128].tolist() == [[0, 1], [2, 3]]


def test_normalisation_is_per_channel():
    out = normalised(torch.full((2, 3, 1, 1), 0.5), (0.5, 0.25, 0.0), (1.0, 0.25, 0.5))
    assert out[1].flatten().tolist() == [0.0, 1.0, 1.0]


def test_every_image_counts_for_the_cache_key(spec_of, data):
    files = list(image_files(spec_of(), "train_dataset", "validation_dataset"))
    assert len(set(files)) == 2 * (37 + 14)
    assert all(file.is_file() and file.is_relative_to(data) for file in files)
