"""Weights to 16, 8 or 4 bits, chosen so that what is computed changes least.

In go float32 weights or an ONNX graph that holds them, out come smaller ones. Linear layers of the decoder become
`MatMulNBits`: blocks of weights share a scale, activations are quantised row by row, so a token's scores do not
depend on how many tokens go through in one pass (per-tensor dynamic quantisation fails there, and saturates on
processors without VNNI). So do those of a vision tower; its convolutions are only stored small: onnxruntime unpacks
them once while loading.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCK = 128
BLOCKS = {8: BLOCK, 4: 32}
"""Weights that share a scale, by bits."""
_ROWS = 4096  # of a weight that are packed at a time: bounds memory
_TIGHTER = (1.0, 0.95, 0.9, 0.85, 0.8)  # scales tried for 4 bits: clipping the largest weight may help all others
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


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of convolutions and linear layers to float16, computed in float32."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type not in _OUTPUT_AXES or name not in weights:
            continue
        tensor = weights.pop(name)
        half = numpy_helper.to_array(tensor).astype(np.float16)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(half, name + "_half"))
        graph.node.insert(0, helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    return model


def pack_blocks(weight_NK: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A linear layer's weight as `MatMulNBits` reads it: `[N, blocks, bytes]`, and scales `[N * blocks]`."""
    block = BLOCKS[bits]
    packed, scales = [], []
    for start in range(0, len(weight_NK), _ROWS):
        rows_NK = weight_NK[start : start + _ROWS].astype(np.float32)
        rows_NK = np.pad(rows_NK, ((0, 0), (0, -rows_NK.shape[1] % block)))
        blocks = rows_NK.reshape(len(rows_NK), -1, block)
        scale, values = _block_scales(blocks, bits)
        whole = (values + (1 << (bits - 1))).astype(np.uint8)
        packed.append(whole if bits == 8 else whole[..., ::2] | (whole[..., 1::2] << 4))
        scales.append(scale.ravel())
    return np.concatenate(packed), np.concatenate(scales).astype(np.float32)


def _block_scales(blocks: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale of each block and the rounded values, as near to the block as the tried scales come."""
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    places = np.abs(blocks).argmax(-1, keepdims=True)
    largest = np.take_along_axis(blocks, places, -1)  # with its sign: it takes the end that reaches further
    largest = np.where(largest == 0, np.float32(1), largest)
    best_scale = best_values = best_error = None
    for share in _TIGHTER if bits == 4 else (1.0,):
        scale = largest * np.float32(share / lowest)
        values = np.rint(blocks / scale).clip(lowest, highest)
        error = np.square(values * scale - blocks).sum(-1, keepdims=True)
        if best_scale is None or best_values is None or best_error is None:
            best_scale, best_values, best_error = scale, values, error
        else:
            better = error < best_error
            best_scale = np.where(better, scale, best_scale)
            best_values = np.where(better, values, best_values)
            best_error = np.where(better, error, best_error)
    assert best_scale is not None and best_values is not None
    return best_scale[..., 0], best_values


def embedding_graph(table_VH: NDArray[Any], int8: bool) -> onnx.ModelProto:
    """A graph from `input_ids` to `inputs_embeds`; with `int8`, every row of the table has its own scale.

    A table in float16 stays so and is read as float32.
    """
    vocab, hidden = table_VH.shape
    half = table_VH.dtype == np.float16 and not int8
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows" if int8 or half else "inputs_embeds"])]
    tensors: dict[str, NDArray[Any]] = {"table": table_VH}
    if int8:
        tensors["table"], tensors["scale"] = _pack(table_VH, 0)
        nodes += [
            helper.make_node("Cast", ["rows"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["scale", "input_ids"], ["scales"]),
            helper.make_node("Mul", ["floats", "scales"], ["inputs_embeds"]),
        ]
    if half:
        nodes.append(helper.make_node("Cast", ["rows"], ["inputs_embeds"], to=TensorProto.FLOAT))
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


__all__ = ["BLOCKS", "OPSET", "embedding_graph", "pack_blocks", "quantize_linear", "store_half", "store_int8"]
