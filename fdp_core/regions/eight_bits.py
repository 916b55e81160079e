"""A network of OpenVINO in eight bits: what flows between its layers, and the weights of its convolutions.

Whole numbers of eight bits take half the memory of bfloat16 and less than half the time of float32 on any processor.
A weight has seven bits, so that a sum of two products fits into sixteen: older processors would cut it off. So the
numbers are the same on all.

Source: post-training quantisation with the ranges seen on examples; weights by output channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

RARE = 1e-5  # share of the numbers at either end of a range that may be cut off
WEIGHT = 63  # the largest whole number of a weight: seven bits with its sign
Ranges = list[list[float]]  # of each point of a network, in the order of its graph: least, largest


def measure(model: openvino.Model, examples: Iterable[np.ndarray], core: openvino.Core) -> Ranges:
    """Return the ranges of all that is to be rounded, over examples: each an input of the network."""
    import openvino

    copy, found = model.clone(), []
    points = [source for source, _ in _points(copy)]
    seen = openvino.Model(points, copy.get_parameters())
    request = core.compile_model(seen, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    for example in examples:
        request.infer([example])
        values = (request.get_output_tensor(i).data.ravel() for i in range(len(points)))
        found.append([_ends(value) for value in values])
    low, high = np.min(found, 0)[:, 0], np.max(found, 0)[:, 1]
    return np.column_stack([low, high]).tolist()


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest of numbers but for the rarest."""
    rest = max(1, int(len(values) * RARE))
    parted = np.partition(values, (rest - 1, len(values) - rest))
    return float(parted[rest - 1]), float(parted[-rest])


def round_network(model: openvino.Model, ranges: Ranges) -> None:
    """Make a network compute in eight bits, in place, with ranges as :func:`measure` gives them.

    Raises:
        ValueError: the ranges are those of another network.
    """
    points = _points(model)
    if len(points) != len(ranges):
        raise ValueError(f"The network has {len(points)} places to round; there are {len(ranges)} ranges.")
    for (source, readers), (low, high) in zip(points, ranges):
        largest = max(high, -low, 1e-6)
        signed = low < 0
        rounded = _round(source, -largest * 128 / 127 if signed else 0.0, largest, 256)
        for reader in readers:
            reader.replace_source_output(rounded)
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "MatMul") and _constant(node, 1):
            weight = node.input_value(1)
            values = weight.get_node().data
            rows = np.abs(values).reshape(len(values), -1).max(1).reshape(-1, *[1] * (values.ndim - 1))
            largest = np.maximum(rows, 1e-9) * 127 / WEIGHT
            node.input(1).replace_source_output(_round(weight, -largest, largest, 255))


def _points(model: openvino.Model) -> list[tuple[openvino.Output, list[openvino.Input]]]:
    """Return what is rounded, with those who read it: inputs of convolutions, of pools, and of sums of two branches."""
    found: dict[tuple[str, int], tuple] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        reads = {"Convolution": 0, "AvgPool": 0, "Add": 1}.get(kind)
        if kind == "MatMul" and _constant(node, 1):
            reads = 0
        if reads is None or (kind == "Add" and (_constant(node, 0) or _constant(node, 1) or _rank(node) != 4)):
            continue
        source = node.input_value(reads)
        key = source.get_node().get_friendly_name(), source.get_index()
        found.setdefault(key, (source, []))[1].append(node.input(reads))
    return list(found.values())


def _constant(node: openvino.Node, number: int) -> bool:
    return node.input_value(number).get_node().get_type_name() == "Constant"


def _rank(node: openvino.Node) -> int:
    return node.get_output_partial_shape(0).rank.get_length()


def _round(source: openvino.Output, low: float | np.ndarray, high: float | np.ndarray, levels: int) -> openvino.Output:
    """Round to so many levels between two ends, and let larger numbers be cut off."""
    from openvino import opset13 as ops

    ends = [ops.constant(np.asarray(end, np.float32)) for end in (low, high)]
    return ops.fake_quantize(source, *ends, *ends, levels).output(0)
