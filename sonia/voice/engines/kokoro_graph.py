"""Kokoro's graph, made quicker: the same numbers by other operators, in two halves.

The official int8 graph spends two thirds of its time in `ConvInteger`, which has no fast kernel.
Its weights are 7-bit, so each convolution is a matrix product of int8: the windows of a row are
gathered (im2col) and multiplied by `MatMulIntegerToFloat`. Normalisations written out in seven
operators become one `InstanceNormalization`, and squares become products.

The first half (`before`) gives how many frames each phoneme lasts, and what the second half
(`after`) needs of each frame; so only frames that are spoken are made into sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sonia.types import Value

# What crosses from one half to the other: features [1, 512, frames], pitch and energy
# [1, 2 x frames], and how many frames each token lasts [tokens].
FEATURES = "/encoder/MatMul_1_output_0"
PITCH = "/encoder/Reshape_output_0"
ENERGY = "/encoder/Reshape_1_output_0"
DURATIONS = "/encoder/Gather_output_0"


class UnknownGraph(Exception):
    """The graph is not built as the official one is; it can still be run as it stands."""


class Halves(Value):
    """Two serialised ONNX models."""

    before: bytes
    after: bytes


def halves(path: Path) -> Halves:
    """Rewrite the model at `path` and cut it in two: about a second. Raises `UnknownGraph`."""
    import onnx

    model = onnx.load(str(path))
    if len(model.graph.input) != 3 or len(model.graph.output) != 1:
        raise UnknownGraph("It has other inputs or outputs.")
    try:
        _Rewriting(model.graph).run()
        taken = [item.name for item in model.graph.input]
        (sound,) = (item.name for item in model.graph.output)
        style = taken[1]
        before = _part(model, taken, [FEATURES, PITCH, ENERGY, DURATIONS])
        after = _part(model, [FEATURES, PITCH, ENERGY, style], [sound])
    except (KeyError, ValueError, IndexError) as error:
        raise UnknownGraph(f"{type(error).__name__}: {error}") from error
    return Halves(before=before.SerializeToString(), after=after.SerializeToString())


def _part(model: Any, takes: list[str], gives: list[str]) -> Any:
    """The nodes between `takes` and `gives`."""
    from onnx import TensorProto, helper

    needed, kept = set(gives), []
    for node in reversed(model.graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(node.input)
            needed.difference_update(takes)
    if missing := set(gives) - {name for node in kept for name in node.output}:
        raise KeyError(*missing)
    own = {item.name: item for item in (*model.graph.input, *model.graph.output)}
    shapes = {FEATURES: [1, 512, None], PITCH: [1, None], ENERGY: [1, None], DURATIONS: [None]}

    def described(name: str) -> Any:
        if name in own:
            return own[name]
        kind = TensorProto.INT64 if name == DURATIONS else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shapes[name])

    graph = helper.make_graph(
        kept[::-1],
        "half",
        [described(name) for name in takes],
        [described(name) for name in gives],
        [item for item in model.graph.initializer if item.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


class _Rewriting:
    """Replaces chains of nodes of one graph by quicker ones that give the same output names."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.values = {item.name: item for item in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.gone: set[int] = set()
        self.instead: dict[int, list[Any]] = {}
        self.shared: dict[tuple[Any, ...], str] = {}

    def run(self) -> None:
        for node in self.graph.node:
            if node.op_type == "ConvInteger":
                self._convolution(node)
            elif node.op_type == "Div":
                self._normalisation(node)
        nodes: list[Any] = []
        for node in self.graph.node:
            nodes.extend(self.instead.get(id(node), ()))
            if id(node) not in self.gone:
                nodes.append(self._squared(node))
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    # --- reading -------------------------------------------------------------------------

    def value(self, name: str) -> Any:
        """The constant of this name, None when it is computed."""
        from onnx import numpy_helper

        found = self.values.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def only_user(self, name: str, kind: str) -> Any:
        """The one node that takes `name`. Raises `ValueError` when it is not of this kind."""
        (user,) = self.users[name]
        if user.op_type != kind:
            raise ValueError(f"{name} goes to {user.op_type}, not {kind}")
        return user

    # --- writing -------------------------------------------------------------------------

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        if name not in self.values:
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
            self.values[name] = tensor
            self.graph.initializer.append(tensor)
        return name

    def node(self, kind: str, takes: list[str], gives: str, **attributes: Any) -> Any:
        from onnx import helper

        domain = "com.microsoft" if kind == "MatMulIntegerToFloat" else ""
        return helper.make_node(kind, takes, [gives], name=gives, domain=domain, **attributes)

    # --- convolutions --------------------------------------------------------------------

    def _convolution(self, node: Any) -> None:
        from onnx import helper

        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        weights = self.value(node.input[1]).astype(np.int16) - int(self.value(node.input[3]))
        if weights.min() < -128 or weights.max() > 127 or given["group"] != 1:
            raise ValueError(f"{node.name}: its weights don't fit int8")
        chain, bias = self._scaling(node)
        last = chain[-1]
        scaled = next(name for name in last.input if name != chain[-2].output[0])
        quantised = self.maker[node.input[0]]
        scale = quantised.output[1]
        weight_scale = next(name for name in self.maker[scaled].input if name != scale)
        outputs, channels, taps = weights.shape
        made: list[Any] = []
        rows = self._windows(node, made, taps, channels, given)
        takes = [
            rows,
            self.constant(
                f"{node.name}/weights",
                weights.astype(np.int8).transpose(2, 1, 0).reshape(taps * channels, outputs),
            ),
            scale,
            self.constant(f"{node.name}/scale", self.value(weight_scale).reshape(())),
            node.input[2],
            self.constant("quick/zero", np.zeros((), np.int8)),
        ]
        if bias is not None:
            takes.append(self.constant(f"{node.name}/bias", bias.astype(np.float32)))
        product, turned = f"{node.name}/product", f"{node.name}/turned"
        made.append(self.node("MatMulIntegerToFloat", takes, product))
        made.append(self.node("Transpose", [product], turned, perm=[1, 0]))
        made.append(self.node("Unsqueeze", [turned, self._axis(0)], last.output[0]))
        self._replace(chain, made)

    def _scaling(self, node: Any) -> tuple[list[Any], Any]:
        """The nodes from the convolution to its scaled output, and its bias in float."""
        chain, bias = [node], None
        (after,) = self.users[node.output[0]]
        if after.op_type == "Add":
            chain.append(after)
            name = next(name for name in after.input if name != node.output[0])
            while name in self.maker:  # it was divided by the scale and rounded
                name = self.maker[name].input[0]
            bias = self.value(name)
        chain.append(self.only_user(chain[-1].output[0], "Cast"))
        chain.append(self.only_user(chain[-1].output[0], "Mul"))
        return chain, bias

    def _windows(
        self, node: Any, made: list[Any], taps: int, channels: int, given: dict[str, Any]
    ) -> str:
        """Name a matrix whose rows are what each output sees: [length, taps x channels]."""
        source, zero = node.input[0], node.input[2]
        before, after = given["pads"]
        (stride,), (spread,) = given["strides"], given["dilations"]

        def once(key: tuple[Any, ...], make: Callable[[str], Iterator[Any]]) -> str:
            if key not in self.shared:
                self.shared[key] = "/".join(map(str, ("quick", *key)))
                made.extend(make(self.shared[key]))
            return self.shared[key]

        def turned(name: str) -> Iterator[Any]:
            yield self.node("Squeeze", [source, self._axis(0)], f"{name}/flat")
            yield self.node("Transpose", [f"{name}/flat"], name, perm=[1, 0])

        rows = once((source, "rows"), turned)
        if (taps, stride, before, after) == (1, 1, 0, 0):
            return rows

        def padded(name: str) -> Iterator[Any]:
            around = self.constant(f"quick/pads/{before}/{after}", _longs([before, 0, after, 0]))
            yield self.node("Pad", [rows, around, zero], name)

        wide = once((source, "padded", before, after), padded)

        def gathered(name: str) -> Iterator[Any]:
            span = self.constant(f"quick/span/{spread * (taps - 1)}", _longs(spread * (taps - 1)))
            step = self.constant(f"quick/step/{stride}", _longs(stride))
            seen = self.constant(f"quick/taps/{taps}/{spread}", _longs([np.arange(taps) * spread]))
            width = self.constant(f"quick/width/{taps * channels}", _longs([-1, taps * channels]))
            yield self.node("Shape", [wide], f"{name}/shape", start=0, end=1)
            yield self.node("Squeeze", [f"{name}/shape", self._axis(0)], f"{name}/length")
            yield self.node("Sub", [f"{name}/length", span], f"{name}/end")
            start = self.constant("quick/start", _longs(0))
            yield self.node("Range", [start, f"{name}/end", step], f"{name}/starts")
            yield self.node("Unsqueeze", [f"{name}/starts", self._axis(1)], f"{name}/column")
            yield self.node("Add", [f"{name}/column", seen], f"{name}/places")
            yield self.node("Gather", [wide, f"{name}/places"], f"{name}/windows", axis=0)
            yield self.node("Reshape", [f"{name}/windows", width], name)

        return once((source, "windows", before, after, taps, spread, stride), gathered)

    # --- the rest ------------------------------------------------------------------------

    def _normalisation(self, division: Any) -> None:
        """(x - mean) / sqrt(variance + eps) * scale + shift, over time, as one node."""
        try:
            subtraction, root = (self.maker[name] for name in division.input)
            added = self.maker[root.input[0]]
            variance = self.maker[added.input[0]]
            mean = self.maker[subtraction.input[1]]
            scaling = self.only_user(division.output[0], "Mul")
            shifting = self.only_user(scaling.output[0], "Add")
        except (KeyError, ValueError, IndexError):
            return  # another division
        epsilon, axes = self.value(added.input[1]), self.value(mean.input[1])
        kinds = [node.op_type for node in (subtraction, root, added, variance, mean)]
        if kinds != ["Sub", "Sqrt", "Add", "ReduceMean", "ReduceMean"] or epsilon is None:
            return
        scale = next(name for name in scaling.input if name != division.output[0])
        shift = next(name for name in shifting.input if name != scaling.output[0])
        if axes is None or list(axes) != [2] or {scale, shift} & self.values.keys():
            return
        flat = self.constant("quick/flat", _longs([-1]))
        scales, shifts = f"{division.name}/scales", f"{division.name}/shifts"
        made = [
            self.node("Reshape", [scale, flat], scales),
            self.node("Reshape", [shift, flat], shifts),
            self.node(
                "InstanceNormalization",
                [subtraction.input[0], scales, shifts],
                shifting.output[0],
                epsilon=float(epsilon),
            ),
        ]
        self._replace([division, scaling, shifting], made)

    def _squared(self, node: Any) -> Any:
        if node.op_type != "Pow":
            return node
        power = self.value(node.input[1])
        if power is None or power.size != 1 or float(power) != 2.0:
            return node
        return self.node("Mul", [node.input[0], node.input[0]], node.output[0])

    def _axis(self, axis: int) -> str:
        return self.constant(f"quick/axis/{axis}", _longs([axis]))

    def _replace(self, chain: list[Any], made: list[Any]) -> None:
        self.gone.update(id(node) for node in chain)
        self.instead[id(chain[-1])] = made


def _longs(value: Any) -> Any:
    return np.array(value, np.int64)
