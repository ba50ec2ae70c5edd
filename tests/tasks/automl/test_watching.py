import time

import pytest

from tasks.automl.trial import Stopped
from tasks.automl.watching import EVERY_SECONDS, watched
from tasks.errors import InputError, StageFailed
from tasks.status import STATUS_FILE, STOP_FILE, Status, check_not_stopped

FAR = "val_far"


def train(folder, values, wait=0.0, last=None):
    """A training that writes its status as the engine does, and looks for the file `stop`."""
    status = Status(folder)
    status.write("Starting Visual ChangeNet train.", "STARTED")
    for epoch, value in enumerate(values):
        kpi = {"val_loss": 0.5, FAR: value, "epoch": epoch}
        status.write("Eval metrics generated.", kpi=kpi)
        status.write("Training loop in progress", kpi=kpi, epoch=epoch)
        status.write("Train metrics generated.", kpi={"train_loss": 0.1})
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and not (folder / STOP_FILE).exists():
            time.sleep(0.01)
        if wait:
            check_not_stopped(folder, epoch)


class Reports:
    def __init__(self, stop_at=None):
        self.seen, self.stop_at = [], stop_at

    def __call__(self, epoch, value):
        self.seen.append((epoch, value))
        return epoch == self.stop_at


def test_every_epoch_is_reported_once_and_in_order(tmp_path):
    reports = Reports()
    with watched(tmp_path, FAR, reports):
        train(tmp_path, [9.0, 5.0, 7.0], wait=1.5 * EVERY_SECONDS)
    assert reports.seen == [(0, 9.0), (1, 5.0), (2, 7.0)]


def test_epochs_are_reported_while_it_trains(tmp_path):
    reports = Reports()
    with watched(tmp_path, FAR, reports):
        train(tmp_path, [9.0])
        deadline = time.monotonic() + 10
        while not reports.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert reports.seen == [(0, 9.0)]


def test_a_training_faster_than_the_watch_is_reported_whole(tmp_path):
    reports = Reports()
    with watched(tmp_path, "val_loss", reports):
        train(tmp_path, [9.0] * 5)
    assert reports.seen == [(epoch, 0.5) for epoch in range(5)]


def test_the_training_is_asked_to_stop(tmp_path):
    reports = Reports(stop_at=1)
    with pytest.raises(Stopped, match="clearly behind"), watched(tmp_path, FAR, reports):
        train(tmp_path, [9.0, 8.0, 7.0], wait=1.0)
    assert reports.seen == [(0, 9.0), (1, 8.0)]


def test_one_that_does_not_listen_counts_as_stopped_where_it_should_have_been(tmp_path):
    reports = Reports(stop_at=1)
    with pytest.raises(Stopped), watched(tmp_path, FAR, reports):
        train(tmp_path, [9.0, 8.0, 7.0, 6.0])
    assert reports.seen == [(0, 9.0), (1, 8.0)]


@pytest.mark.parametrize(
    "error", [StageFailed("the loss is nan"), InputError("no such row"), OSError("disk")]
)
def test_a_failure_stays_what_it_was(tmp_path, error):
    def fail():
        raise error

    with pytest.raises(type(error), match=str(error)), watched(tmp_path, FAR, Reports()):
        fail()


def test_lines_of_an_earlier_start_do_not_count(tmp_path):
    reports = Reports()
    train(tmp_path, [1.0, 2.0])
    with watched(tmp_path, FAR, reports):
        train(tmp_path, [9.0])
    assert reports.seen[-1] == (0, 9.0)


def test_without_a_status_file_nothing_is_reported(tmp_path):
    reports = Reports()
    with watched(tmp_path / "train", FAR, reports):
        pass
    assert reports.seen == []


def test_a_line_cut_short_and_a_value_that_is_no_number_are_passed_over(tmp_path):
    reports = Reports()
    with watched(tmp_path, FAR, reports):
        train(tmp_path, [9.0, float("nan"), 7.0])
        with (tmp_path / STATUS_FILE).open("a") as stream:
            stream.write('{"kpi": {"epoch": 3, "val_far": 1')
    assert reports.seen == [(0, 9.0), (2, 7.0)]


def test_what_a_report_raises_is_not_lost(tmp_path):
    def report(epoch, value):
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"), watched(tmp_path, FAR, report):
        train(tmp_path, [9.0])
