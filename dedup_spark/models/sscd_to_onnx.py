"""Meta's file of SSCD as an ONNX graph, made once, so that nodes without PyTorch embed with it.

    python -m dedup_spark.models.sscd_to_onnx sscd_disc_mixup.torchvision.pt sscd_disc_mixup.onnx

It prints the settings that name the graph. The numbers stay fp32; the graph takes pixels, (n, h, w, 3) uint8, and
scales them itself. Both files may be passed on, as Meta's weights are under the MIT licence.
It needs the extra `torch`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import torch

from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.models.torch_resnet import sscd_network
from dedup_spark.models.weights import read_weights, sha256_of
from dedup_spark.store import files

_OPSET = 17
"""Known to ONNX Runtime since 1.12."""


def onnx_of(state: bytes, origin: str) -> bytes:
    """The graph of a state dict; `origin` names it in errors. Equal bytes for equal versions of PyTorch.

    Raises:
        ArtifactError: the state dict is damaged, or of another network.
    """
    network, out = sscd_network(state, origin).eval(), io.BytesIO()
    with torch.inference_mode():
        torch.onnx.export(  # dynamo=False: the other exporter needs one more package, and fixes the number of images
            network, (torch.zeros(1, 224, 224, 3, dtype=torch.uint8),),
            out,  # type: ignore[arg-type]  # this exporter takes a stream too
            dynamo=False, opset_version=_OPSET,
            input_names=["pixels"], output_names=["vector"],
            dynamic_axes={"pixels": {0: "n", 1: "h", 2: "w"}, "vector": {0: "n"}},
        )  # fmt: skip
    return out.getvalue()


def export(weights: str, to: str, sha256: str = "") -> str:
    """Write the graph of the state dict at `weights` to `to`, both paths or URIs. Returns the graph's SHA-256.

    Args:
        sha256: The expected one of `weights`, in hex; empty accepts any.

    Raises:
        ConfigError: `to` does not end with `.onnx`, by which the graph is told from the state dict.
        ArtifactError: `weights` are missing, damaged, not the expected ones, or of another network.
    """
    if not to.lower().endswith(".onnx"):
        raise ConfigError(f"{to}: the name of the graph must end with .onnx, as it is known by that")
    graph = onnx_of(read_weights("sscd", weights, sha256), weights)
    files.write_atomically(to, graph)
    return sha256_of(graph)


def main(arguments: Sequence[str]) -> int:
    """The command line: weights, graph, and the SHA-256 of the weights, where it is to be checked. The exit code."""
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: python -m dedup_spark.models.sscd_to_onnx WEIGHTS.pt GRAPH.onnx [SHA-256]\n")
        return 2
    try:
        digest = export(*arguments)
    except DedupError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    sys.stdout.write(f'[extract]\nembedding = "sscd"\nweights = "{arguments[1]}"\nweights_sha256 = "{digest}"\n')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
