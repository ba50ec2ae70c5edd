"""A trained network as ONNX (spec changenet 7.3)."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from tasks.artifacts import write_atomically
from tasks.changenet.network import ChangeNet
from tasks.changenet.spec import ChangeNetSpec
from tasks.errors import InputError

logger = logging.getLogger("deft")

INPUTS = ("input_1", "input_2")
OUTPUT = "output"
ONNX_FILE = "changenet_classify.onnx"


def onnx_file(spec: ChangeNetSpec) -> Path:
    """Where the ONNX goes: `export.onnx_file`, else a file in the results folder."""
    return spec.export.onnx_file or spec.results_dir / ONNX_FILE


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
    batch = torch.export.Dim("batch") if spec.export.batch_size < 1 else None
    # The exporter speaks through the root logger and warnings about its own inner workings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.cpu().eval(), example, input_names=list(INPUTS), output_names=[OUTPUT],
            opset_version=spec.export.opset_version, verbose=False,
            dynamic_shapes=({0: batch}, {0: batch}) if batch is not None else None,
        )  # fmt: skip
    assert program is not None
    content = program.model_proto.SerializeToString()
    path = write_atomically(onnx_file(spec), lambda stream: stream.write(content))
    logger.info("%s: inputs %s [%s, 3, %d, %d]", path, ", ".join(INPUTS), batch or rows, height, width)
    return path
