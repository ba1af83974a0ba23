"""Weights to 8 bits, chosen so that what is computed changes least.

In goes an ONNX graph in float32, out comes the same graph with int8 weights. Linear layers of the decoder become
`MatMulNBits`: blocks of 128 weights share a scale, activations are quantised row by row, so a token's scores do not
depend on how many tokens go through in one pass (per-tensor dynamic quantisation fails there, and saturates on
processors without VNNI). Vision weights are only stored in int8: onnxruntime unpacks them once while loading.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCK = 128
OPSET = 18
_OUTPUT_AXES = {"Conv": 0, "Gemm": 0, "MatMul": -1}  # of the weight; Gemm as the exporter writes it, with transB=1


def quantize_linear(model: onnx.ModelProto) -> onnx.ModelProto:
    """Linear layers to block-wise int8 that is also computed in int8."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    root.setLevel(level)  # that import turns on logging for the whole process, and then reports every node
    root.handlers[:] = handlers
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(model, bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def store_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of convolutions and linear layers to int8 with one scale per output channel, computed in float32."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    unpack: list[onnx.NodeProto] = []
    for node in graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type not in _OUTPUT_AXES or name not in weights:
            continue
        if node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute):
            continue
        tensor = weights.pop(name)
        packed, scale = _pack(numpy_helper.to_array(tensor), _OUTPUT_AXES[node.op_type])
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(packed, name + "_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, name + "_scale"))
        unpack.append(helper.make_node("Cast", [name + "_int8"], [name + "_float"], to=TensorProto.FLOAT))
        unpack.append(helper.make_node("Mul", [name + "_float", name + "_scale"], [name]))
    for node in reversed(unpack):
        graph.node.insert(0, node)
    return model


def embedding_graph(table_VH: NDArray[np.float32], int8: bool) -> onnx.ModelProto:
    """A graph from `input_ids` to `inputs_embeds`; with `int8`, every row of the table has its own scale."""
    vocab, hidden = table_VH.shape
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows" if int8 else "inputs_embeds"])]
    tensors: dict[str, NDArray[Any]] = {"table": table_VH}
    if int8:
        tensors["table"], tensors["scale"] = _pack(table_VH, 0)
        nodes += [
            helper.make_node("Cast", ["rows"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["scale", "input_ids"], ["scales"]),
            helper.make_node("Mul", ["floats", "scales"], ["inputs_embeds"]),
        ]
    graph = helper.make_graph(
        nodes,
        f"embed_{vocab}_tokens",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("inputs_embeds", TensorProto.FLOAT, ["batch", "length", hidden])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _pack(weight: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values and a scale per index of `axis`, shaped to multiply with them."""
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    scale = np.abs(weight).max(axis=others, keepdims=True).astype(np.float32) / 127
    scale = np.where(scale == 0, np.float32(1), scale)
    return np.rint(weight / scale).astype(np.int8), scale


__all__ = ["OPSET", "embedding_graph", "quantize_linear", "store_int8"]
