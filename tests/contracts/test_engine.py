"""What every engine computes."""

import threading

import numpy as np
import pytest

from calibrate.errors import BadModel, NotFinite, WrongShape
from calibrate.io.graph import read_model
from calibrate.logits import logits_from_probabilities
from service.domain import ModelFailed
from service.engine.onnx import OnnxEngine
from service.ports import Engine, Session
from tests.models import WIDTH, body, build, forest, forward, network, weights

X = np.random.default_rng(2).normal(size=(9, WIDTH)).astype(np.float32)


@pytest.fixture
def engine() -> Engine:
    """An engine of one thread."""
    return OnnxEngine(threads=1)


def endless_loop() -> bytes:
    """A model that turns in place, over and over."""
    from onnx import TensorProto, helper

    node, info = helper.make_node, helper.make_tensor_value_info
    turn = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Identity", ["v"], ["w"])], "turn",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("go_on", TensorProto.BOOL, []), info("w", TensorProto.FLOAT, None)],
    )  # fmt: skip
    loop = [node("Loop", ["turns", "", "x"], ["q"], body=turn), node("MatMul", ["q", "head"], ["y"])]
    return build(loop, {"head": np.ones((WIDTH, 2), np.float32), "turns": np.array(2**62)}, ["y"])


def load(engine: Engine, data: bytes, **options: str) -> Session:
    """A session of a model file."""
    graph = read_model(data, **options)
    return engine.load(graph.data, graph.output, graph.kind)


@pytest.mark.parametrize("k", [2, 4])
def test_logits_are_the_networks(engine: Engine, k: int) -> None:
    """As numpy computes them, on any number of rows."""
    session = load(engine, network(k))
    for rows in (X, X[:1]):
        assert np.allclose(session.run({"x": rows}), forward(weights(k), rows)[1], atol=1e-5)
    assert session.provider in ("CPUExecutionProvider", "CUDAExecutionProvider")


def test_one_logit_is_two_columns(engine: Engine) -> None:
    """(0, x)."""
    made = load(engine, network(1)).run({"x": X})
    assert not made[:, 0].any()
    assert np.allclose(made[:, 1:], forward(weights(1), X)[1], atol=1e-5)


def test_probabilities_become_logits(engine: Engine) -> None:
    """Those of trees, zeros among them."""
    data, trees = forest()
    made = load(engine, data, output="probabilities", output_kind="probabilities").run({"X": X})
    assert np.allclose(made, logits_from_probabilities(trees.predict_proba(X)), atol=1e-4)


def test_a_run_that_fails_says_so_and_the_session_goes_on(engine: Engine) -> None:
    """The runtime's own words stay in the log."""
    session = load(engine, network(2))
    with pytest.raises(ModelFailed, match="could not be run on these rows; the server's log says why"):
        session.run({"x": X[:, :2]})
    with pytest.raises(
        NotFinite, match=r"the model's logits\[0, 0\] must be finite, got nan; it may not take a missing"
    ):
        session.run({"x": X * np.float32(np.nan)})
    assert session.run({"x": X}).shape == (9, 2)


def test_a_run_without_end_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    """A loop of 2^62 turns is stopped when its time is up; the session and others go on."""
    session = load(OnnxEngine(threads=1, run_s=0.2), endless_loop())
    for _ in range(2):
        with pytest.raises(ModelFailed, match=r"stopped after 0\.2 s"):
            session.run({"x": X})
    capfd.readouterr()  # the runtime says so too


def test_an_output_that_is_not_a_row_per_row_is_refused(engine: Engine) -> None:
    """Three axes, which reading the file did not tell, or rows summed up."""
    from onnx import helper

    stacked = build([*body(), helper.make_node("Unsqueeze", ["features", "axes"], ["z"])],
                    {**weights(2), "axes": np.array([1])}, ["z"])  # fmt: skip
    with pytest.raises(WrongShape, match="1 or 2 axes"):
        engine.load(stacked, "z", "logits").run({"x": X})
    summed = build([*body(), helper.make_node("ReduceSum", ["features", "axes"], ["z"])],
                   {**weights(2), "axes": np.array([0])}, ["z"])  # fmt: skip
    with pytest.raises(ModelFailed, match="1 rows for 9"):
        load(engine, summed, output="z", output_kind="logits").run({"x": X})


def test_a_graph_that_the_runtime_refuses_is_a_bad_model(engine: Engine) -> None:
    """An operator that nobody knows."""
    from onnx import helper

    graph = read_model(build([helper.make_node("Nonsense", ["x"], ["z"])], {}, ["z"]), output="z", output_kind="logits")
    with pytest.raises(BadModel, match="ONNX Runtime refuses the model"):
        engine.load(graph.data, graph.output, graph.kind)


def test_a_session_may_be_run_from_many_threads(engine: Engine) -> None:
    """Each gets its own rows back."""
    session, wrong = load(engine, network(3)), []

    def check(seed: int) -> None:
        for i in range(50):
            rows = np.random.default_rng((seed, i)).normal(size=(1 + i % 7, WIDTH)).astype(np.float32)
            if not np.allclose(session.run({"x": rows}), forward(weights(3), rows)[1], atol=1e-4):
                wrong.append((seed, i))

    threads = [threading.Thread(target=check, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
