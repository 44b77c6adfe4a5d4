"""ONNX graphs in PyTorch, so that models that exist only as ONNX files run on CUDA too.

It knows the operators of convolutional embedding networks, and refuses a graph with another one by its name.

Why these 150 lines are our own (packages as of November 2026):

- onnx2torch (Apache-2.0, 0.1 MB) has had no release since 1.5.15 of August 2024, and converts none of our graphs:
  it stops at fp16 weights that a Cast makes fp32 (`sscd_distilled`), at QuantizeLinear (`sscd`), and at a Clip with one
  bound (`sscd` in fp32; its issues 191 and 232 are open).
- onnxruntime-gpu (MIT) is alive, but 1.31 asks for CUDA 13 beside the CUDA 12 of our PyTorch and FAISS, is a download
  of 256 MB more, and puts its files where `onnxruntime` has its own: with both installed the CPU one may win, and CUDA
  is gone without a word (microsoft/onnxruntime issue 26996). Batches that memory does not hold, deterministic
  algorithms and the numbers fp16 and bf16 would need a second implementation beside torch_runtime.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
import torch.nn.functional as nnf
from onnx import helper, numpy_helper
from torch import nn

from dedup_spark.errors import ArtifactError
from dedup_spark.models.base import SCALING, ModelSettings
from dedup_spark.models.onnx_graph import parsed
from dedup_spark.models.torch_resnet import Scaled
from dedup_spark.models.torch_runtime import TorchEmbedder
from dedup_spark.models.weights import read_weights

Attributes = dict[str, Any]
_TO_TORCH = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.FLOAT16: torch.float16}


def load(settings: ModelSettings, device: str) -> TorchEmbedder:
    """Raises ArtifactError: weights missing, damaged, or a graph with an operator that is not known here."""
    graph = parsed(read_weights(settings.name, settings.weights, settings.sha256)).graph
    network: nn.Module = GraphNetwork(graph)
    if graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        network = nn.Sequential(Scaled(*SCALING[settings.normalisation]), network)
    return TorchEmbedder(network, settings, device)


class GraphNetwork(nn.Module):
    """Runs the nodes of a graph one after the other; weights are buffers, so that they move with the module."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__()
        unknown = sorted({node.op_type for node in graph.node} - set(_OPERATORS) - {"Constant"})
        if unknown:
            raise ArtifactError(
                f"the ONNX graph has operators that are not known in PyTorch here: {', '.join(unknown)}; "
                "use extract.runtime=onnx, or a TorchScript file"
            )
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._buffer_of: dict[str, str] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, tensor)
        self._steps: list[tuple[str, list[str], str, Attributes]] = []
        for node in graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._keep(node.output[0], attributes["value"])
            elif node.op_type == "Cast" and node.input[0] in self._buffer_of:  # fp16 weights of an fp32 network
                value = self.get_buffer(self._buffer_of[node.input[0]])
                self._register(node.output[0], value.to(_TO_TORCH[attributes["to"]]))
            else:
                self._steps.append((node.op_type, list(node.input), node.output[0], attributes))

    def _keep(self, name: str, tensor: onnx.TensorProto) -> None:
        self._register(name, torch.from_numpy(numpy_helper.to_array(tensor).copy()))

    def _register(self, name: str, value: torch.Tensor) -> None:
        self._buffer_of[name] = f"value_{len(self._buffer_of)}"
        self.register_buffer(self._buffer_of[name], value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {name: self.get_buffer(buffer) for name, buffer in self._buffer_of.items()}
        values[self._input] = x
        for operator, inputs, output, attributes in self._steps:
            arguments = [values[name] if name else None for name in inputs]
            values[output] = _OPERATORS[operator](arguments, attributes)
        return values[self._output]


def _pads(attributes: Attributes) -> list[int]:
    """Padding of each dimension, equal on both sides. Raises ArtifactError for what PyTorch does not do in one call."""
    pads = attributes.get("pads", [0, 0, 0, 0])
    half = len(pads) // 2
    if pads[:half] != pads[half:] or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ArtifactError("the ONNX graph pads its sides differently: not known in PyTorch here; use another runtime")
    return list(pads[:half])


def _conv(x: list[Any], a: Attributes) -> torch.Tensor:
    bias = x[2] if len(x) > 2 else None
    return nnf.conv2d(x[0], x[1], bias, a.get("strides", 1), _pads(a), a.get("dilations", 1), a.get("group", 1))


def _gemm(x: list[Any], a: Attributes) -> torch.Tensor:
    with torch.autocast(x[0].device.type, enabled=False):  # the head: as in torch_resnet
        left = x[0].float().T if a.get("transA") else x[0].float()
        right = x[1].float().T if a.get("transB") else x[1].float()
        product: torch.Tensor = a.get("alpha", 1.0) * (left @ right)
        return product + a.get("beta", 1.0) * x[2] if len(x) > 2 else product


def _clip(x: list[Any], a: Attributes) -> torch.Tensor:
    low, high = ([*x[1:], None, None])[:2]
    result: torch.Tensor = x[0] if low is None else torch.maximum(x[0], low.to(x[0].dtype))
    return result if high is None else torch.minimum(result, high.to(result.dtype))


def _pow(x: list[Any], a: Attributes) -> torch.Tensor:
    return torch.pow(x[0].float(), x[1].float())  # third powers leave the range of fp16


def _reshape(x: list[Any], a: Attributes) -> torch.Tensor:
    shape = [int(size) or x[0].shape[i] for i, size in enumerate(x[1].tolist())]
    return torch.reshape(x[0], shape)


def _reduce(x: list[Any], a: Attributes, how: Callable[..., torch.Tensor]) -> torch.Tensor:
    axes = x[1].tolist() if len(x) > 1 else a["axes"]
    return how(x[0].float(), dim=tuple(axes), keepdim=bool(a.get("keepdims", 1)))


def _max_pool(x: list[Any], a: Attributes) -> torch.Tensor:
    strides = a.get("strides", [1] * len(a["kernel_shape"]))  # ONNX's default; PyTorch's is the kernel's shape
    return nnf.max_pool2d(x[0], a["kernel_shape"], strides, _pads(a), ceil_mode=bool(a.get("ceil_mode", 0)))


_OPERATORS: dict[str, Callable[[list[Any], Attributes], torch.Tensor]] = {
    "Add": lambda x, a: x[0] + x[1],
    "Cast": lambda x, a: x[0].to(_TO_TORCH[a["to"]]),
    "Clip": _clip,
    "Conv": _conv,
    "Div": lambda x, a: x[0] / x[1],
    "Expand": lambda x, a: x[0] * torch.ones(x[1].tolist(), dtype=x[0].dtype, device=x[0].device),
    "Flatten": lambda x, a: x[0].flatten(a.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, a: x[0].mean((2, 3), keepdim=True),
    "Identity": lambda x, a: x[0],
    "MaxPool": _max_pool,
    "Mul": lambda x, a: x[0] * x[1],
    "Pow": _pow,
    "ReduceL2": lambda x, a: _reduce(x, a, torch.linalg.vector_norm),
    "ReduceMean": lambda x, a: _reduce(x, a, torch.mean),
    "Relu": lambda x, a: nnf.relu(x[0]),
    "Reshape": _reshape,
    "Shape": lambda x, a: torch.tensor(x[0].shape),
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "Sub": lambda x, a: x[0] - x[1],
    "Transpose": lambda x, a: x[0].permute(a["perm"]),
}
