"""A trained network as ONNX (spec changenet 7.3)."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from tasks.artifacts import write_atomically
from tasks.changenet.files import onnx_file
from tasks.changenet.network import ChangeNet
from tasks.changenet.spec import ChangeNetSpec
from tasks.errors import InputError

logger = logging.getLogger("deft")

INPUTS = ("input_1", "input_2")
OUTPUT = "output"
LEAST_OPSET = 18
"""The exporter writes no older operator set, whatever `export.opset_version` says."""


def check_export(spec: ChangeNetSpec) -> None:
    """Check what can be wrong before a model is loaded.

    Raises:
        InputError: the file exists already, or the input size is not the one that the network sees.
    """
    path = onnx_file(spec)
    if path.exists():
        raise InputError(f"export.onnx_file {path} exists already; remove it or name another file")
    wanted = (spec.export.input_height, spec.export.input_width)
    if wanted != spec.data.shape:
        raise InputError(
            f"export.input_height x input_width is {wanted[0]} x {wanted[1]}, but the images of the spec "
            f"(lightings joined) are {spec.data.shape[0]} x {spec.data.shape[1]}; make them agree"
        )


def write_onnx(network: ChangeNet, spec: ChangeNetSpec) -> Path:
    """Write the network with inputs `input_1` (test) and `input_2` (golden) and output `output`.

    The output is raw: logits [B, 2], or distances [B]. `export.batch_size` -1 leaves the batch open.
    """
    height, width = spec.data.shape
    rows = 2 if spec.export.batch_size < 1 else spec.export.batch_size
    example = (torch.zeros(rows, 3, height, width), torch.zeros(rows, 3, height, width))
    batch = {0: torch.export.Dim("batch")} if spec.export.batch_size < 1 else None
    opset = max(spec.export.opset_version, LEAST_OPSET)
    # The exporter warns of packages that it could do without.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.cpu().eval(), example, input_names=list(INPUTS), output_names=[OUTPUT],
            opset_version=opset, verbose=False, dynamic_shapes=(batch, batch) if batch else None,
        )  # fmt: skip
    assert program is not None
    content = program.model_proto.SerializeToString()
    path = write_atomically(onnx_file(spec), lambda stream: stream.write(content))
    shape = f"{'batch' if batch else rows} x 3 x {height} x {width}"
    logger.info("%s: inputs %s of %s, opset %d", path, " and ".join(INPUTS), shape, opset)
    return path
