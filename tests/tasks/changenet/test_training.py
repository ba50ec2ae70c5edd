import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml

from tasks.changenet import work
from tasks.changenet.files import LATEST
from tasks.changenet.spec import Optim
from tasks.changenet.training import learning_rate, move_average
from tasks.errors import InputError, StageFailed
from tasks.registry import find_action
from tasks.status import STATUS_FILE, STOP_FILE, status_lines, validation_losses


def lines(folder):
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def weights(file):
    return torch.load(file, weights_only=True)["state_dict"]


def test_learning_rates():
    linear, step = Optim(lr=1.0), Optim(lr=1.0, policy="step")
    assert [learning_rate(linear, epoch, 3) for epoch in range(3)] == [1, 0.75, 0.5]
    assert [learning_rate(step, epoch, 6) for epoch in range(6)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_status_says_what_happened_in_order(trained):
    found = lines(trained / "train")
    epoch = ["Eval metrics generated.", "Training loop in progress", "Train metrics generated."]
    assert [line["message"] for line in found] == [
        "Starting Visual ChangeNet train.",
        "Starting Training Loop.",
        *epoch,
        *epoch,
        "Training loop complete.",
        "Train finished successfully.",
    ]
    assert all(line["status"] in ("STARTED", "RUNNING") for line in found)
    evaluated, progress, losses = found[5:8]
    assert evaluated["kpi"]["epoch"] == progress["epoch"] == progress["max_epoch"] == 1
    assert (progress["step"], progress["max_step"]) == (8, 8)
    assert progress["kpi"] == evaluated["kpi"]
    assert evaluated["kpi"].keys() == {
        "val_loss", "val_acc", "val_fpr", "val_far", "val_recall", "val_auc", "val_pred_pos", "epoch",
    }  # fmt: skip
    assert losses["kpi"].keys() == {"train_loss", "train_acc", "train_fpr"}
    assert {"time_per_epoch", "time_per_step", "eta"} <= progress.keys()


def test_checkpoints_are_named_by_epoch_and_step(spec_of):
    # 37 rows, batch 16: two steps an epoch.
    spec = spec_of("dataset.classify.batch_size=16", "train.num_epochs=4", "train.checkpoint_interval=2")
    work.train(spec)
    files = sorted(file.name for file in spec.results_dir.glob("model_epoch_*"))
    assert files == ["model_epoch_001_step_00004.pth", "model_epoch_003_step_00008.pth"]
    assert (spec.results_dir / LATEST).readlink().name == files[1]


def test_checkpoints_may_come_by_steps(spec_of):
    spec = spec_of("train.checkpoint_interval=3", "train.checkpoint_interval_unit=step")
    work.train(spec)
    files = sorted(file.name for file in spec.results_dir.glob("model_epoch_*"))
    assert files == ["model_epoch_000_step_00003.pth", "model_epoch_001_step_00006.pth"]


def test_one_line_of_progress_per_epoch(spec_of, caplog):
    with caplog.at_level(logging.INFO, "deft"):
        work.train(spec_of())
    progress = [message for message in caplog.messages if message.startswith("epoch ")]
    assert len(progress) == 2
    parts = progress[1].split(" · ")
    assert [part.split()[0] for part in parts[:4]] == ["epoch", "loss", "val_loss", "val_far"]
    assert parts[0] == "epoch 2/2"


def test_two_runs_of_a_seed_are_byte_equal(spec_of, trained):
    spec = spec_of()
    work.train(spec)
    for name in ("model_epoch_001_step_00008.pth", LATEST):
        assert (spec.results_dir / name).read_bytes() == (trained / "train" / name).read_bytes()


def test_trainings_in_threads_give_what_one_alone_gives(values, trained, tmp_path):
    specs = [
        find_action("visual_changenet", "train").spec(values, [f"results_dir={tmp_path / name}"])
        for name in ("a", "b", "c")
    ]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work.train, specs))
    expected = (trained / "train" / LATEST).read_bytes()
    assert all((spec.results_dir / LATEST).read_bytes() == expected for spec in specs)


def test_a_training_that_is_asked_to_stop_ends_after_its_epoch(spec_of):
    spec = spec_of("train.num_epochs=5")
    spec.results_dir.mkdir(parents=True)
    (spec.results_dir / STOP_FILE).touch()
    with pytest.raises(StageFailed, match="stopped on request after epoch 1"):
        work.train(spec)
    assert set(validation_losses(status_lines(spec.results_dir / STATUS_FILE))) == {0}


def test_another_seed_gives_other_weights(spec_of, trained):
    spec = spec_of("train.seed=7")
    work.train(spec)
    ours, theirs = weights(spec.results_dir / LATEST), weights(trained / "train" / LATEST)
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_callers_random_state_and_threads_stay(spec_of):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    work.train(spec_of("native.threads=2"))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_the_spec_without_placeholders_is_left(trained):
    spec = yaml.safe_load((trained / "train" / "experiment.yaml").read_text())
    assert spec["results_dir"] == str(trained / "train")
    assert spec["dataset"]["classify"]["input_map"] == {"SolderLight": 0}


def test_a_warm_start_takes_the_weights_and_counts_from_epoch_zero(spec_of, trained):
    start = trained / "train" / LATEST
    spec = spec_of(
        f"train.pretrained_model_path={start}", "train.optim.lr=1e-12", "train.optim.weight_decay=0",
        "train.classify.cls_weight=[1,3]", "train.num_epochs=1",
    )  # fmt: skip
    work.train(spec)
    assert lines(spec.results_dir)[3]["epoch"] == 0
    ours, theirs = weights(spec.results_dir / LATEST), weights(start)
    learnt = [name for name in ours if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in learnt)


def test_resuming_gives_what_an_unbroken_training_gives(spec_of, tmp_path):
    whole = spec_of("train.num_epochs=4")
    work.train(whole)
    half = whole.results_dir / "model_epoch_001_step_00008.pth"
    resumed = spec_of(
        "train.num_epochs=4",
        f"train.resume_training_checkpoint_path={half}",
        f"train.results_dir={tmp_path}/r",
    )
    work.train(resumed)
    name = "model_epoch_003_step_00016.pth"
    ours, theirs = weights(resumed.results_dir / name), weights(whole.results_dir / name)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_resuming_in_the_same_folder_keeps_what_is_there(spec_of):
    spec = spec_of()
    work.train(spec)
    work.train(
        spec_of("train.num_epochs=3", f"train.resume_training_checkpoint_path={spec.results_dir / LATEST}")
    )
    assert len(list(spec.results_dir.glob("model_epoch_*"))) == 3


def test_resuming_a_finished_training_is_refused(spec_of, trained):
    with pytest.raises(InputError, match=r"has 2 epochs behind it and train.num_epochs is 2"):
        work.train(spec_of(f"train.resume_training_checkpoint_path={trained / 'train' / LATEST}"))


def test_starting_again_in_a_used_folder_starts_over(spec_of):
    work.train(spec_of("train.num_epochs=3"))
    again = spec_of()
    work.train(again)
    files = sorted(file.name for file in again.results_dir.glob("model_epoch_*"))
    assert files == ["model_epoch_000_step_00004.pth", "model_epoch_001_step_00008.pth"]


def test_strict_mode_refuses_a_used_folder(spec_of):
    spec = spec_of("native.strict=true")
    work.train(spec)
    with pytest.raises(InputError, match=r"auto-resume is refused"):
        work.train(spec)
    assert lines(spec.results_dir)[-1]["status"] == "FAILURE"
    assert (spec.results_dir / LATEST).is_file()


def test_a_start_among_the_files_to_clear_is_refused(spec_of):
    spec = spec_of()
    work.train(spec)
    with pytest.raises(InputError, match=r"lies in the results folder that this training clears"):
        work.train(spec_of(f"train.pretrained_model_path={spec.results_dir / LATEST}"))
    assert (spec.results_dir / LATEST).is_file()


@pytest.mark.parametrize("label", ["PASS", "blob"])
def test_one_class_alone_is_refused(spec_of, data, tmp_path, label):
    rows = [
        line
        for line in (data / "train.csv").read_text().splitlines()
        if f",{label}," in line or "input" in line
    ]
    (tmp_path / "one.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match=r"label set with one class"):
        work.train(spec_of(f"dataset.classify.train_dataset.csv_path={tmp_path}/one.csv"))


def test_batches_of_one_are_refused(spec_of):
    with pytest.raises(InputError, match=r"batch_size must be above 1"):
        work.train(spec_of("dataset.classify.batch_size=1"))


def test_fewer_rows_than_a_batch_train_unless_strict(spec_of):
    spec = spec_of("dataset.classify.batch_size=64", "train.num_epochs=1")
    work.train(spec)
    assert (spec.results_dir / "model_epoch_000_step_00001.pth").is_file()


def test_a_refused_training_leaves_a_failure_line_and_nothing_else(spec_of):
    spec = spec_of("dataset.classify.image_ext=.bmp")
    with pytest.raises(InputError):
        work.train(spec)
    last = lines(spec.results_dir)[-1]
    assert last["status"] == "FAILURE"
    assert last["message"].startswith("InputError: train_dataset")
    assert [file.name for file in spec.results_dir.iterdir()] == ["status.json"]


def test_a_diverging_training_fails(spec_of):
    with pytest.raises(StageFailed, match=r"lower train.optim.lr"):
        work.train(spec_of("train.optim.lr=1e30", "train.optim.optim=sgd"))


@pytest.mark.parametrize(
    "words",
    [
        ["train.optim.optim=sgd"],
        ["train.optim.optim=adam", "train.optim.policy=step", "train.num_epochs=3"],
        ["train.precision=bf16-mixed"],
        ["native.cache=false"],
        ["native.head=flatten"],
        ["model.classify.difference_module=euclidean", "train.classify.loss=contrastive"],
    ],
)
def test_every_way_to_train_leaves_a_model(spec_of, words):
    spec = spec_of(*words)
    work.train(spec)
    assert (spec.results_dir / LATEST).is_file()


def test_a_small_training_finds_the_defects(spec_of, values, write, tmp_path):
    for name, seed in (("train", 1), ("validation", 2)):
        write(tmp_path, name, 64, 16, side=64, seed=seed)
    classify = values["dataset"]["classify"]
    for name in ("train", "validation"):
        classify[f"{name}_dataset"] = {
            "csv_path": str(tmp_path / f"{name}.csv"),
            "images_dir": str(tmp_path / "images"),
        }
    spec = spec_of(
        "dataset.classify.image_width=64", "dataset.classify.image_height=64", "train.num_epochs=12",
        "model.decode_head.decoder_params.embed_dim=16", "train.optim.lr=0.004",
    )  # fmt: skip
    work.train(spec)
    kpis = [line["kpi"] for line in lines(spec.results_dir) if line["message"].startswith("Eval")]
    assert kpis[-1]["val_far"] < 20
    assert kpis[-1]["val_loss"] < kpis[0]["val_loss"]


@pytest.mark.slow
def test_a_killed_training_leaves_whole_checkpoints_only(values, tmp_path):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(values))
    argv = ["train", "train.num_epochs=500", "-e", str(tmp_path / "spec.yaml")]
    code = f"from tasks.registry import run_in_process; run_in_process('visual_changenet', {argv})"
    process = subprocess.Popen([sys.executable, "-c", code])
    folder = tmp_path / "results" / "train"
    deadline = time.monotonic() + 120
    while not (folder / LATEST).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for file in folder.glob("*.pth"):
        assert weights(file)


def test_averages_move_faster_at_the_beginning():
    for steps, share in ((1, 1 - 2 / 11), (10_000, 0.01)):
        average, value = [torch.zeros(2)], [torch.ones(2)]
        move_average(0.99, average, value, torch.tensor(steps))
        assert average[0].tolist() == pytest.approx([share] * 2)


def test_counters_are_copied_into_the_average():
    average = [torch.tensor(3)]
    move_average(0.99, average, [torch.tensor(7)], torch.tensor(50))
    assert average[0].item() == 7


def test_without_averaging_the_last_weights_are_kept(spec_of, trained):
    spec = spec_of("native.weight_average=0")
    work.train(spec)
    content = torch.load(spec.results_dir / LATEST, weights_only=True)
    kept, last = content["state_dict"], content["last_state_dict"]
    assert all(torch.equal(kept[f"model.{name}"], last[name]) for name in last)
    content = torch.load(trained / "train" / LATEST, weights_only=True)
    name = "branch.norm.weight"
    assert not torch.equal(content["state_dict"][f"model.{name}"], content["last_state_dict"][name])
