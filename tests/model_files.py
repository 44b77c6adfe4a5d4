"""Makes small weights files of every kind that a user may have. Their numbers are random, with a seed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper


def a_graph(*, planes: bool = False, keep_dimensions: bool = False) -> onnx.ModelProto:
    """Mean colour times a (3, 6) matrix; input uint8 (n, h, w, 3), or with `planes` float (n, 3, h, w)."""
    matrix = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    shape = ["n", 3, "h", "w"] if planes else ["n", "h", "w", 3]
    kind = TensorProto.FLOAT if planes else TensorProto.UINT8
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["colour"], axes=[2, 3] if planes else [1, 2],
                         keepdims=int(keep_dimensions)),
        helper.make_node("Identity", ["colour"], ["vector"]) if keep_dimensions
        else helper.make_node("Gemm", ["colour", "matrix"], ["vector"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def an_onnx_file(path: Path, *, planes: bool = False, keep_dimensions: bool = False) -> Path:
    path.write_bytes(a_graph(planes=planes, keep_dimensions=keep_dimensions).SerializeToString())
    return path


def a_resnet(n_outputs: int = 1000) -> torchvision.models.ResNet:
    """torchvision's ResNet-50 with drawn weights and BatchNorm statistics that differ from its start."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None, num_classes=n_outputs)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    return network.eval()


def a_resnet_file(path: Path, n_outputs: int = 1000, prefix: str = "") -> Path:
    torch.save({prefix + name: value for name, value in a_resnet(n_outputs).state_dict().items()}, path)
    return path


def a_torchscript_file(path: Path) -> Path:
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network.eval()), buffer)
    path.write_bytes(buffer.getvalue())
    return path
