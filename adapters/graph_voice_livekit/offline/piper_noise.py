"""Takes the random noise of a piper voice out of the model, so that a seed can choose it.

A piper model (VITS) draws noise twice per sentence: for the length of each phoneme, and for the sound itself. ONNX
Runtime draws it from one generator per loaded model, which can be seeded only when the model is loaded: what a sentence
sounds like then depends on everything that was said before it, in any voice. Here the noise becomes an input of the
model, so that a sentence with a seed sounds the same whenever it is said.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_noise", "expose_noise", "noise_inputs"]

_PREFIX = "graph_voice_noise_"

# A longer sentence uses its noise again from the start. A prime, so that the lines of the model's matrices, each as
# long as the sentence, do not begin at the same place again. About 6 s of speech with 192 channels.
_LENGTH = 100_003


def expose_noise(onnx: Any, model: Any) -> None:
    """Let an ONNX model (`onnx.ModelProto`, changed in place) read its standard normal noise from inputs.

    Args:
        onnx: The module `onnx`, which is an optional dependency.
        model: A piper voice.
    """
    nodes: list[Any] = []
    for node in model.graph.node:
        if _is_standard_noise(onnx, node):
            nodes.extend(_read_instead(onnx, model, node, f"{_PREFIX}{len(noise_inputs(model.graph.input))}"))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def noise_inputs(inputs: Any) -> list[str]:
    """The names of a model's inputs that are noise; `inputs` have a `name` each, as in a graph or a session."""
    return [given.name for given in inputs if given.name.startswith(_PREFIX)]


def draw_noise(seed: int | None) -> Iterator[NDArray[np.float32]]:
    """The noise of one text, without end: one array per input and sentence. The same for the same seed."""
    generator = np.random.default_rng(seed)
    while True:
        yield generator.standard_normal(_LENGTH, dtype=np.float32)


def _is_standard_noise(onnx: Any, node: Any) -> bool:
    # Attributes: dtype alone, as 32-bit floats. A mean, a scale or a seed of its own has to stay as it is.
    return node.op_type == "RandomNormalLike" and all(
        attribute.name == "dtype" and attribute.i == onnx.TensorProto.FLOAT for attribute in node.attribute
    )


def _read_instead(onnx: Any, model: Any, node: Any, name: str) -> list[Any]:
    """Nodes that give what `node` gave, from the input `name`: as many values, in the same shape."""
    helper = onnx.helper
    model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["noise"]))
    for constant, value in (("zero", 0), ("one", 1)):
        model.graph.initializer.append(helper.make_tensor(f"{name}/{constant}", onnx.TensorProto.INT64, [], [value]))

    def step(kind: str, inputs: list[str], output: str) -> Any:
        return helper.make_node(kind, inputs, [output], name=f"{name} to {output}")

    return [
        step("Shape", [node.input[0]], f"{name}/shape"),
        step("Size", [node.input[0]], f"{name}/wanted"),
        step("Size", [name], f"{name}/given"),
        step("Range", [f"{name}/zero", f"{name}/wanted", f"{name}/one"], f"{name}/count"),
        step("Mod", [f"{name}/count", f"{name}/given"], f"{name}/index"),
        step("Gather", [name, f"{name}/index"], f"{name}/values"),
        step("Reshape", [f"{name}/values", f"{name}/shape"], node.output[0]),
    ]
