"""What every engine computes."""

import threading

import numpy as np
import pytest

from calibrate.errors import BadModel, NotFinite, WrongShape
from calibrate.io.graph import read_model
from calibrate.io.model import Port
from calibrate.logits import logits_from_probabilities
from service.engine.bound import padded_rows
from service.engine.onnx import OnnxEngine
from service.errors import ModelFailed, NoGpu, OutOfMemory
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


@pytest.mark.parametrize("k", [2, 4])
def test_rows_that_are_filled_up_in_kept_buffers_are_answered_alike(k: int) -> None:
    """As on a device of its own: any number of rows, in any order, from several threads."""
    from concurrent.futures import ThreadPoolExecutor

    session = load(OnnxEngine(bound=True), network(k))
    assert [padded_rows(n) for n in (1, 2, 3, 4, 5, 9, 64, 65)] == [1, 2, 4, 4, 8, 16, 64, 128]
    sizes = [*range(1, 18), 1, 5, 3, 64, 33, 2] * 3

    def run(i: int) -> bool:
        rows = np.random.default_rng(i).normal(size=(sizes[i], WIDTH)).astype(np.float32)
        before = rows.copy()
        made = session.run({"x": rows})
        return np.array_equal(rows, before) and np.allclose(made, forward(weights(k), rows)[1], atol=1e-5)

    assert run(0)
    session.warm((Port("x", "float32", (None, WIDTH)),))
    assert session.is_batchable
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(len(sizes))))


def test_a_model_that_mixes_its_rows_is_run_row_by_row_once_that_is_known() -> None:
    """Known from the first runs, or from before; rows that are run together are never filled up with others."""
    from onnx import helper

    node = helper.make_node
    mixing = [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["c"]),
              node("MatMul", ["c", "w"], ["z"])]  # fmt: skip
    data = build(mixing, {"w": np.eye(WIDTH, 2, dtype=np.float32)}, ["z"])
    session = OnnxEngine(bound=True).load(data, "z", "logits")
    assert np.allclose(session.run({"x": X}), (X - X.mean(axis=0))[:, :2], atol=1e-6)
    session.warm((Port("x", "float32", (None, WIDTH)),))
    assert not session.is_batchable
    if session.provider == "CPUExecutionProvider":
        assert not session.run({"x": X}).any()  # each row less itself
    assert not OnnxEngine(bound=True).load(data, "z", "logits", rows_apart=True).run({"x": X}).any()
    beside = OnnxEngine(bound=True).load(data, "z", "logits", rows_apart=False)
    beside.warm((Port("x", "float32", (None, WIDTH)),))
    assert np.allclose(beside.run({"x": X}), (X - X.mean(axis=0))[:, :2], atol=1e-6)


def test_a_device_without_memory_is_told_and_the_session_is_new() -> None:
    """A row asks for far more than there is; others are answered before and after."""
    from onnx import helper

    node = helper.make_node
    greedy = [
        node("ReduceMax", ["x"], ["largest"], keepdims=0), node("Cast", ["largest"], ["n"], to=7),
        node("Unsqueeze", ["n", "first"], ["shape"]), node("ConstantOfShape", ["shape"], ["zeros"]),
        node("ReduceSum", ["zeros"], ["none"], keepdims=0), node("Add", ["x", "none"], ["y"]),
        node("MatMul", ["y", "w"], ["z"]),
    ]  # fmt: skip
    data = build(greedy, {"w": np.eye(WIDTH, 2, dtype=np.float32), "first": np.array([0])}, ["z"])
    session = OnnxEngine(bound=True).load(data, "z", "logits")
    first = session._session
    fine = np.full((2, WIDTH), 3, dtype=np.float32)
    for _ in range(2):
        assert np.array_equal(session.run({"x": fine}), fine[:, :2])
        with pytest.raises(OutOfMemory, match="send fewer rows"):
            session.run({"x": np.full((2, WIDTH), 1e15, dtype=np.float32)})
    assert session._session is not first
    assert np.array_equal(session.run({"x": fine}), fine[:, :2])


@pytest.mark.skipif(OnnxEngine()._providers != ["CPUExecutionProvider"], reason="there is a GPU")
def test_a_required_gpu_that_is_not_there_is_refused() -> None:
    """Before anything is served."""
    with pytest.raises(NoGpu, match="this machine, or this build of ONNX Runtime, has none"):
        OnnxEngine(require_gpu=True)


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
