import pickle
import threading

import pytest
import torch

from tasks.changenet.checkpoint import CheckpointFolder, network_of, read_checkpoint
from tasks.changenet.device import SEEDING
from tasks.changenet.files import LATEST
from tasks.changenet.spec import Checkpointer
from tasks.errors import InputError

KEY = "inference.checkpoint"


def folder(tmp_path, **settings):
    return CheckpointFolder(tmp_path, Checkpointer(enable_topk=True, **settings))


def names(tmp_path):
    return sorted(file.name for file in tmp_path.iterdir())


def fill(checkpoints, values):
    for epoch, value in enumerate(values):
        if checkpoints.is_best(value):
            checkpoints.save_best(epoch, value, 0.0, {"epoch": epoch})


def test_only_the_best_epoch_is_kept_and_ties_go_to_the_earlier(tmp_path):
    fill(folder(tmp_path), [3.0, 1.0, 1.0, 2.0])
    assert names(tmp_path) == ["model_best_001.pth"]


def test_of_equal_metrics_the_lower_loss_is_kept(tmp_path):
    checkpoints = folder(tmp_path, monitor="val_far")
    for epoch, reached in enumerate([(5.0, 0.3), (5.0, 0.2), (5.0, 0.2), (6.0, 0.1)]):
        if checkpoints.is_best(*reached):
            checkpoints.save_best(epoch, *reached, {})
    assert names(tmp_path) == ["model_best_001.pth"]


def test_the_metric_decides_what_best_means(tmp_path):
    fill(folder(tmp_path, monitor="val_auc"), [0.2, 0.9, float("nan"), 0.5])
    assert names(tmp_path) == ["model_best_001.pth"]
    fill(folder(tmp_path / "min", monitor="val_auc", mode="min"), [0.2, 0.9])
    assert names(tmp_path / "min") == ["model_best_000.pth"]


def test_several_best_ones_may_be_kept(tmp_path):
    fill(folder(tmp_path, save_top_k=2), [3.0, 1.0, 2.0, 5.0])
    assert names(tmp_path) == ["model_best_001.pth", "model_best_002.pth"]


def test_latest_follows_the_newest_periodic_checkpoint(tmp_path):
    checkpoints = folder(tmp_path)
    checkpoints.save(4, 10, {"epoch": 4})
    checkpoints.save(9, 20, {"epoch": 9})
    assert (tmp_path / LATEST).readlink().name == "model_epoch_009_step_00020.pth"
    assert names(tmp_path) == [LATEST, "model_epoch_004_step_00010.pth", "model_epoch_009_step_00020.pth"]


def test_best_ones_may_replace_the_periodic(tmp_path):
    checkpoints = folder(tmp_path, replace_periodic=True)
    checkpoints.save(0, 2, {"epoch": 0})
    fill(checkpoints, [2.0, 1.0])
    assert names(tmp_path) == [LATEST, "model_best_001.pth"]
    assert (tmp_path / LATEST).readlink().name == "model_best_001.pth"


def test_clearing_removes_checkpoints_alone(tmp_path):
    checkpoints = folder(tmp_path)
    checkpoints.save(0, 1, {})
    checkpoints.save_best(0, 1.0, 1.0, {})
    (tmp_path / "notes.txt").touch()
    checkpoints.clear()
    assert names(tmp_path) == ["notes.txt"]


def test_a_checkpoint_holds_what_tells_its_origin(trained, spec_of):
    content = read_checkpoint(trained / "train" / LATEST, spec_of(), KEY)
    assert content["tao_model"] == "visual_changenet_classify"
    assert (content["epoch"], content["global_step"]) == (1, 8)
    assert all(name.startswith("model.") for name in content["state_dict"])
    assert content["architecture"]["model.backbone.type"] == "resnet_micro"
    network_of(content, spec_of())


def test_reading_a_checkpoint_draws_nothing_between_seed_and_weights_of_another_trial(trained, spec_of):
    content = read_checkpoint(trained / "train" / LATEST, spec_of(), KEY)
    reader = threading.Thread(target=network_of, args=(content, spec_of()))
    with SEEDING, torch.random.fork_rng():
        torch.manual_seed(1234)
        seeded = torch.get_rng_state()
        reader.start()
        reader.join(1)
        assert torch.equal(torch.get_rng_state(), seeded)
    reader.join()


@pytest.mark.parametrize(
    ("word", "difference"),
    [
        ("model.decode_head.decoder_params.embed_dim=16", "embed_dim = 8, the spec has 16"),
        ("model.classify.embed_dec=9", "embed_dec = 8, the spec has 9"),
        ("model.classify.learnable_difference_modules=2", "learnable_difference_modules = 4, the spec has 2"),
        ("model.backbone.type=resnet18", "backbone.type = resnet_micro, the spec has resnet18"),
        ("dataset.classify.image_width=64", r"image width \(lightings joined\) = 32, the spec has 64"),
        ("native.head=flatten", "native.head = pool, the spec has flatten"),
        ("dataset.classify.concat_type=grid", "concat_type = linear, the spec has grid"),
        ("dataset.classify.augmentation_config.rgb_input_std=[1,1,1]", "normalisation std"),
    ],
)
def test_the_first_difference_from_the_spec_is_named(trained, spec_of, word, difference):
    with pytest.raises(InputError, match=rf"{KEY} .* was trained with .*{difference}"):
        read_checkpoint(trained / "train" / LATEST, spec_of(word), KEY)


def test_unset_and_missing_checkpoints_are_named(spec_of, tmp_path):
    with pytest.raises(InputError, match=rf"{KEY} is not set"):
        read_checkpoint(None, spec_of(), KEY)
    with pytest.raises(InputError, match=rf"{KEY} .*gone.pth: No such file"):
        read_checkpoint(tmp_path / "gone.pth", spec_of(), KEY)


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_never_executes_code(tmp_path, spec_of, capsys):
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save(Malicious(), tmp_path / "evil.pth")
        with pytest.raises(InputError, match=r"is not a checkpoint of plain tensors"):
            read_checkpoint(tmp_path / "evil.pth", spec_of(), KEY)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_damaged_files_are_refused(tmp_path, spec_of, content):
    (tmp_path / "torn.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"torn.pth is not a checkpoint of plain tensors"):
        read_checkpoint(tmp_path / "torn.pth", spec_of(), KEY)


def test_checkpoints_of_the_container_are_refused(tmp_path, spec_of):
    torch.save({"state_dict": {}, "tao_model": "visual_changenet_classify"}, tmp_path / "tao.pth")
    with pytest.raises(InputError, match=r"was not written by this engine"):
        read_checkpoint(tmp_path / "tao.pth", spec_of(), KEY)
