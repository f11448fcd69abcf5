"""The noise of a voice as an input of its model: what came from a generator in there comes from us, in any shape."""

from itertools import islice
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from graph_voice_livekit.offline.piper_noise import draw_noise, expose_noise, noise_inputs


def drawing(**attributes: Any) -> onnx.ModelProto:
    """A model that draws noise twice, in the shapes of its two inputs."""
    kinds = {"first": ["a"], "second": ["b", "c", "d"]}
    nodes = [
        helper.make_node("RandomNormalLike", [name], [f"{name}_noise"], name=f"/{name}/RandomNormalLike", **attributes)
        for name in kinds
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in kinds.items()]
    outputs = [helper.make_tensor_value_info(f"{n}_noise", TensorProto.FLOAT, shape) for n, shape in kinds.items()]
    graph = helper.make_graph(nodes, "drawing", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model: onnx.ModelProto, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    drawn: list[NDArray[np.float32]] = session.run(None, inputs)
    return drawn


def test_each_draw_gives_the_noise_that_it_was_given_in_the_shape_that_was_wanted() -> None:
    model = drawing(dtype=TensorProto.FLOAT)
    expose_noise(onnx, model)
    one, other = noise_inputs(model.graph.input)
    noise = np.arange(1, 8, dtype=np.float32)
    first, second = run(
        model,
        {
            "first": np.zeros(3, np.float32),
            "second": np.zeros((2, 1, 5), np.float32),
            one: noise,
            other: -noise,
        },
    )
    assert first.tolist() == [1, 2, 3]
    # More is wanted than there is: it begins again.
    assert second.tolist() == [[[-1, -2, -3, -4, -5]], [[-6, -7, -1, -2, -3]]]


@pytest.mark.parametrize("attributes", [{"scale": 2.0}, {"mean": 1.0}, {"seed": 1.0}])
def test_noise_of_another_kind_stays_in_the_model(attributes: dict[str, float]) -> None:
    model = drawing(dtype=TensorProto.FLOAT, **attributes)
    expose_noise(onnx, model)
    assert noise_inputs(model.graph.input) == []
    first, _ = run(model, {"first": np.zeros(100, np.float32), "second": np.zeros((1, 1, 1), np.float32)})
    assert np.std(first) > 0


def test_a_seed_draws_the_same_and_each_time_anew_and_none_draws_another() -> None:
    one, again, other, unknown = (list(islice(draw_noise(seed), 2)) for seed in (3, 3, 4, None))
    assert np.array_equal(one, again)
    for different in (other, unknown):
        assert not np.array_equal(one[0], different[0])
    assert not np.array_equal(one[0], one[1])
    # Standard normal: what the voice was trained with.
    assert np.mean(one[0]) == pytest.approx(0, abs=0.02)
    assert np.std(one[0]) == pytest.approx(1, abs=0.02)
