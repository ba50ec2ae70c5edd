import pytest
import torch

from tasks.changenet.device import computing, device_of
from tasks.errors import InputError


def test_threads_and_random_state_are_given_back(spec_of):
    before, state = torch.get_num_threads(), torch.get_rng_state()
    with computing(spec_of("native.threads=3")) as device:
        assert device.type == "cpu"
        assert torch.get_num_threads() == 3
        torch.rand(1)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_that_ends_changes_nothing_for_one_that_still_computes(spec_of):
    before, spec = torch.get_num_threads(), spec_of("native.threads=3")
    first, second = computing(spec), computing(spec)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.get_num_threads() == 3
    assert torch.backends.cudnn.deterministic
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == before
    assert not torch.backends.cudnn.deterministic


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said():
    assert device_of("auto").type == "cpu"
    with pytest.raises(InputError, match=r"native.device cuda: torch sees no CUDA GPU"):
        device_of("cuda")
