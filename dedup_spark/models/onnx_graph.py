"""ONNX graphs as data: SSCD's int8 graph back in fp32, and its weights by the names that torchvision uses.

This happens in memory, from the installed file. It needs the package `onnx` (a parser), which the extras `gpu` and
`torch` bring.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from dedup_spark.errors import ArtifactError

_BLOCK = re.compile(r"/backbone/blocks/(\d)/block\d-(\d)/(convolutional_block/([036])|downsample/0)/Conv")


def parsed(graph: bytes) -> onnx.ModelProto:
    """Raises ArtifactError when the bytes are no ONNX model."""
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as e:  # protobuf's DecodeError, whose module differs between its implementations
        raise ArtifactError(f"model weights cannot be parsed as ONNX: {e}") from e
    if not model.graph.node:
        raise ArtifactError("model weights cannot be parsed as ONNX: there is no graph")
    return model


def dequantised(graph: bytes) -> onnx.ModelProto:
    """The same network without quantisers: weights are floats, activations are not rounded.

    A quantiser of activations to uint8 with zero point 0 is also the ReLU (it cannot express less than 0), so it
    becomes one; other quantisers are left out. The graph is a static QDQ one of opset 17; the cosine of the output to
    that of int8 is 0.97 on average.
    """
    model = parsed(graph)
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    renamed: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            values[node.output[0]] = _dequantised_weight(node, values)
        elif node.op_type == "DequantizeLinear":
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
        elif node.op_type == "QuantizeLinear" and _is_relu(values[node.input[2]]):
            nodes.append(helper.make_node("Relu", [renamed.get(node.input[0], node.input[0])], [node.output[0]]))
        elif node.op_type == "QuantizeLinear":
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
        else:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    floats = [numpy_helper.from_array(value, name) for name, value in values.items() if name in used]
    network = helper.make_graph(nodes, "dequantised", model.graph.input, model.graph.output, floats)
    return helper.make_model(network, opset_imports=model.opset_import, ir_version=model.ir_version)


def resnet_weights(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    """SSCD's weights by torchvision's names for a ResNet-50 whose BatchNorm is folded into `conv.weight` and `.bias`.

    Raises:
        ArtifactError: the graph is not SSCD's.
    """
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for node in model.graph.node:
        name = _torchvision_name(node.name) if node.op_type == "Conv" else "fc" if node.op_type == "Gemm" else None
        if name and len(node.input) == 3:
            weights[f"{name}.weight"], weights[f"{name}.bias"] = (values[i] for i in node.input[1:3])
    if len(weights) != 2 * 54:
        raise ArtifactError(
            f"the graph has {len(weights) // 2} of the 54 layers of SSCD's ResNet-50: it is another model"
        )
    return weights


def _torchvision_name(node_name: str) -> str | None:
    if node_name.startswith("/backbone/initial_block/"):
        return "conv1"
    found = _BLOCK.fullmatch(node_name)
    if not found:
        return None
    layer, block, part = int(found[1]) + 1, found[2], found[4]
    return f"layer{layer}.{block}." + (f"conv{int(part) // 3 + 1}" if part else "downsample.0")


def _dequantised_weight(node: onnx.NodeProto, values: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    quantised, scale, zero_point = (values[name] for name in node.input)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if scale.ndim:
        shape = [1] * quantised.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    difference = quantised.astype(np.int64) - zero_point.astype(np.int64)
    return (difference.astype(np.float64) * scale).astype(np.float32)


def _is_relu(zero_point: npt.NDArray[np.float32]) -> bool:
    return zero_point.dtype == np.uint8 and not zero_point.any()
