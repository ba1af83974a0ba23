"""An ONNX graph that is written while it is made: large weights go to a file beside it at once, so memory stays small.

In: operators by name, weights as arrays, in the precision that is wanted. Out: `NAME.onnx`, and `NAME.onnx.data` when
there is much to keep. It knows nothing of language models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from octopus.export.quantize import BLOCKS, OPSET, pack_blocks

MICROSOFT = "com.microsoft"
_BITS = {"int8": 8, "int4": 4}
_INLINE = 1024  # bytes; smaller weights stay in the graph


class Graph:
    """One graph under construction. Methods that add an operator return the name of its (first) output."""

    def __init__(self, path: Path, quant: str, *, beside: bool) -> None:
        """`beside`: weights go into a second file, which onnxruntime maps into memory instead of copying it."""
        self.path = path
        self.quant = quant
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._data: BinaryIO | None = path.with_name(path.name + ".data").open("wb") if beside else None
        self._names: set[str] = set()

    def add(
        self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", name: str = "", **attributes: Any
    ) -> Any:
        """Add an operator; the name of its output, or a list of them."""
        stem = self._unique(name or kind)
        produced = [stem] if outputs == 1 else [f"{stem}.{n}" for n in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), produced, name=stem, domain=domain, **attributes))
        return stem if outputs == 1 else produced

    def node(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> None:
        """Add an operator whose outputs have names already; "" leaves one out."""
        name = self._unique(kind)
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))

    def weight(self, array: NDArray[Any], name: str) -> str:
        """Keep an array as it is."""
        name = self._unique(name)
        array = np.ascontiguousarray(array)
        if self._data is None or array.nbytes <= _INLINE:
            self._weights.append(numpy_helper.from_array(array, name))
            return name
        self._data.write(b"\0" * (-self._data.tell() % 4096))  # mapped pages begin here
        tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self.path.name + ".data", "offset": self._data.tell(), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(array.data)
        self._weights.append(tensor)
        return name

    def linear(self, x: str, weight_NK: NDArray[np.float32], bias_N: NDArray[np.float32] | None, name: str) -> str:
        """`x @ weight.T + bias` with the weight in the graph's precision."""
        count, width = weight_NK.shape
        bias = "" if bias_N is None else self.weight(bias_N, f"{name}.bias")
        bits = _BITS.get(self.quant)
        if bits is not None:
            packed, scales = pack_blocks(weight_NK, bits)
            inputs = [x, self.weight(packed, f"{name}.weight"), self.weight(scales, f"{name}.scale")]
            inputs += ["", "", bias] if bias else []
            shape = {"K": width, "N": count, "bits": bits, "block_size": BLOCKS[bits], "accuracy_level": 4}
            result: str = self.add("MatMulNBits", *inputs, domain=MICROSOFT, name=name, **shape)
            return result
        weight_KN = weight_NK.T
        if self.quant == "fp16":
            half = self.weight(weight_KN.astype(np.float16), f"{name}.half")
            weight = self.add("Cast", half, name=f"{name}.weight", to=TensorProto.FLOAT)
        else:
            weight = self.weight(weight_KN, f"{name}.weight")
        product: str = self.add("MatMul", x, weight, name=name)
        return self.add("Add", product, bias, name=f"{name}.sum") if bias else product

    def save(self, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, tuple[int, list[Any]]]) -> list[str]:
        """Write the graph; its ends by name, with element type and shape. Names of the files."""
        ends = [
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in given.items()]
            for given in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, self.path.stem, ends[0], ends[1], self._weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(self.path))
        if self._data is None:
            return [self.path.name]
        self._data.close()
        return [self.path.name, self.path.name + ".data"]

    def _unique(self, name: str) -> str:
        found, count = name, 1
        while found in self._names:
            found, count = f"{name}.{count}", count + 1
        self._names.add(found)
        return found


__all__ = ["MICROSOFT", "Graph"]
