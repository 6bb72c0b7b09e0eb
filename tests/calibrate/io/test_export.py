"""An exported graph decides as the points do, row for row, on plain ONNX Runtime."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from jaxtyping import Float, Int
from onnx import TensorProto, helper, numpy_helper

import calibrate
from calibrate import OperatingPoint
from calibrate.errors import BadModel, BadPoint, NoHead
from calibrate.io.export import SavedPoint, export, read_point
from calibrate.logits import logits_from_probabilities, softmax
from tests.calibrate.io.test_heads import convolution, dynamically_quantised, half, made
from tests.models import WIDTH, body, build, forest, network, weights

node = helper.make_node
RNG = np.random.default_rng(11)
X = RNG.normal(size=(700, WIDTH)).astype(np.float32)
EPS = np.finfo(np.float64).eps


def session(data: bytes) -> ort.InferenceSession:
    """A plain session."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, x: Any, index: Any = None) -> dict[str, np.ndarray]:
    """All outputs by name; without an index the default counts."""
    opened = session(data)
    feed = {opened.get_inputs()[0].name: x}
    feed |= {} if index is None else {"operating_point": np.atleast_1d(np.asarray(index, dtype=np.int64))}
    return dict(zip([output.name for output in opened.get_outputs()], opened.run(None, feed), strict=True))


def names(k: int) -> tuple[str, ...]:
    """Class names."""
    return tuple(f"class {i}" for i in range(k))


def points_for(logits: Float[np.ndarray, "n k"]) -> dict[str, OperatingPoint]:
    """Points of every kind; in two classes with cuts that lie exactly on rows."""
    k = logits.shape[1]
    classes = names(k)
    one, zero = np.ones(k), np.zeros(k)
    weight, costs = np.array(RNG.uniform(0, 2, k)), np.array(RNG.uniform(0, 9, (k, k))) * (1 - np.eye(k))
    bias = np.array(RNG.normal(size=k))
    made = {
        "argmax": OperatingPoint.argmax(classes),
        "scaled": OperatingPoint(classes, weight + 0.3, bias),
        "plug_in": OperatingPoint(classes, one, zero, weight, 0.1 * bias),
        "cost": OperatingPoint(classes, one, bias, cost=costs),
    }
    if k == 2:
        for row in range(6):  # a cut on a row: that row is not above it
            cut = float(logits[row, 1] - logits[row, 0])
            made[f"on row {row}"] = OperatingPoint(classes, np.ones(2), np.array([0.0, -cut]))
            made[f"beside row {row}"] = OperatingPoint(classes, np.ones(2), np.array([0.0, np.nextafter(-cut, 9e9)]))
    else:
        made["tied"] = OperatingPoint(classes, np.ones(k), logits[0].max() - logits[0])
    return made


def agree(data: bytes, x: Any, points: dict[str, OperatingPoint], index: Int[np.ndarray, "n"]) -> int:
    """Checks a mixed batch row for row, and gives how many rows lie within a rounding step of their cut."""
    out = run(data, x, index)
    near = 0
    assert out["label"].dtype == np.int64
    assert all(out[name].dtype == np.float64 for name in ("probabilities", "adjusted", "margin", "logits"))
    assert np.allclose(out["probabilities"], softmax(out["logits"]), rtol=1e-12, atol=1e-300)
    for i, point in enumerate(points.values()):
        rows = index == i
        z = out["logits"][rows]
        margin, decided = point.margin(z), point.decide(z)
        assert np.allclose(out["adjusted"][rows], point.adjusted(z), rtol=1e-12, atol=1e-300)
        if point.is_affine:
            assert np.array_equal(out["margin"][rows], margin), "the order of the arithmetic is the same"
            assert np.array_equal(out["label"][rows], decided)
            continue
        size = 1.0 if point.cost is None else float(point.cost.max())
        assert np.allclose(out["margin"][rows], margin, rtol=1e-9, atol=64 * EPS * size)
        close = np.abs(margin) <= 64 * EPS * size
        near += int(close.sum())
        assert np.array_equal(out["label"][rows][~close], decided[~close])
    return near


MODELS: dict[str, tuple[bytes, dict[str, str]]] = {
    "two classes": (network(2), {}),
    "one logit": (network(1), {}),
    "five classes": (network(5), {}),
    "float16, two classes": (half(2), {}),
    "float16, many classes": (half(7), {}),
    "dynamically quantised": (dynamically_quantised(3), {}),
    "convolution": (convolution(pool_first=False), {}),
    "probabilities of trees": (forest()[0], {"output": "probabilities", "output_kind": "probabilities"}),
    "one probability": (
        made([node("MatMul", ["features", "w2"], ["m"]), node("Relu", ["m"], ["r"]), node("Sigmoid", ["r"], ["p"])],
             "p", 1),
        {"output": "p", "output_kind": "probabilities"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_graph_decides_as_the_points_do(name: str) -> None:
    """One batch with a point for each row; the model's logits are those of the file it came from."""
    source, named = MODELS[name]
    plain = [OperatingPoint.argmax(names(k)) for k in (2, 3, 5, 7)]
    for point in plain:  # whichever fits the model
        try:
            bare = export(source, {"argmax": point}, **named)
        except BadPoint:
            continue
    z = run(bare, X)["logits"]
    points = points_for(z)
    data = export(source, points, **named)
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    index = RNG.integers(len(points), size=len(X))
    index[:6] = [list(points).index(f"on row {row}") if z.shape[1] == 2 else 0 for row in range(6)]
    assert agree(data, X, points, index) <= 2
    for i in range(len(points)):  # one index for all rows is the same
        assert np.array_equal(run(data, X, i)["label"][index == i], run(data, X, index)["label"][index == i])


def test_probabilities_are_read_as_everywhere() -> None:
    """Zeros too, which trees give."""
    source, trees = forest()
    point = OperatingPoint(("0", "1"), np.ones(2), np.array([0.0, 0.5]))
    out = run(export(source, {"p": point}, output="probabilities", output_kind="probabilities"), X)
    wanted = logits_from_probabilities(session(source).run(["probabilities"], {"X": X})[0])
    assert np.allclose(out["logits"], wanted, rtol=1e-14)
    assert np.array_equal(out["label"], point.decide(wanted))
    assert (trees.predict_proba(X) == 0).any()


def two() -> dict[str, OperatingPoint]:
    """Two points that decide differently."""
    classes = ("clear", "fraud")
    return {
        name: OperatingPoint(classes, np.ones(2), np.array([0.0, bias]))
        for name, bias in (("low", -2.0), ("high", 2.0))
    }


def test_the_index_may_be_left_out() -> None:
    """Then the default counts, for any number of rows; one row may be asked under several points."""
    points = two()
    for default, i in ((None, 0), ("low", 0), ("high", 1)):
        data = export(network(2), points, default=default)
        for rows in (X, X[:1]):
            assert np.array_equal(run(data, rows)["label"], run(data, rows, i)["label"])
    several = run(data, X[:1], [0, 1, 0])
    assert several["margin"].shape == (3,)
    assert several["margin"][1] - several["margin"][0] == pytest.approx(4)


@pytest.mark.parametrize("k", [2, 4])
def test_what_cannot_be_decided_is_minus_one(k: int) -> None:
    """An index of no point, a missing value, infinity: only that row, the others are decided."""
    points = {"a": OperatingPoint.argmax(names(k)), "b": OperatingPoint(names(k), np.full(k, 2.0), np.zeros(k))}
    x = X[:6].copy()
    x[4, 0], x[5] = np.nan, np.inf
    out = run(export(network(k), points), x, [0, -1, 2, 1, 0, 1])
    assert (out["label"] == -1).tolist() == [False, True, True, False, True, True]
    assert np.isnan(out["margin"]).tolist() == [False, True, True, False, True, True]
    assert np.isnan(out["adjusted"][1]).all()


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    """Names, classes, digests; a server's answer keeps its version; what the model said of itself stays."""
    cache = calibrate.feature_cache(
        logits=X[:, 0], labels=(X[:, 1] + X[:, 0] > 1).astype(int), classes=["clear", "fraud"]
    )
    result = calibrate.fit(cache, metric="f1")
    result.save(tmp_path / "f1.json")
    low = two()["low"]
    answered = {"name": "low", "version": 3, "model": "m", "model_version": 2, "point": low.to_dict(), "evidence": {}}
    (tmp_path / "low.json").write_text(json.dumps(answered))
    low.save(tmp_path / "bare.json")
    source = network(2, metadata={"owner": "risk"})
    points: dict[str, Any] = {
        "f1": result,
        "low": read_point(tmp_path / "low.json"),
        "bare": read_point(tmp_path / "bare.json"),
    }
    metadata = session(calibrate.export(source, points, default="low")).get_modelmeta().custom_metadata_map
    listed = json.loads(metadata["setpoint.points"])
    assert [entry["name"] for entry in listed] == ["f1", "low", "bare"]
    assert [entry["digest"] for entry in listed] == [result.point.digest, low.digest, low.digest]
    evidence = json.dumps(result.to_dict()["evidence"], sort_keys=True, separators=(",", ":"))
    assert listed[0]["evidence_digest"] == hashlib.sha256(evidence.encode()).hexdigest()
    assert (listed[1]["published_as"], listed[1]["version"], listed[1]["model_version"]) == ("low", 3, 2)
    assert listed[1]["evidence_digest"] is None
    assert json.loads(metadata["setpoint.classes"]) == ["clear", "fraud"]
    assert (metadata["setpoint.default"], metadata["owner"]) == ("low", "risk")
    assert metadata["setpoint.source_digest"] == hashlib.sha256(source).hexdigest()
    assert read_point(tmp_path / "f1.json") == SavedPoint(result.point, json.loads((tmp_path / "f1.json").read_text()))


def test_names_of_the_model_give_way() -> None:
    """Tensors named as the outputs are, subgraphs that name them too, and a file that was exported before."""
    nodes = [*body(), node("Gemm", ["features", "w2", "b2"], ["margin"], transB=1)]
    inner = helper.make_graph(
        [node("Identity", ["margin"], ["label"])], "then", [], [onnx.ValueInfoProto(name="label")]
    )
    nodes += [node("ReduceMax", ["margin"], ["top"], keepdims=0), node("Greater", ["top", "zero"], ["yes"]),
              node("If", ["yes"], ["logits"], then_branch=inner, else_branch=inner)]  # fmt: skip
    source = build(nodes, {**weights(2), "zero": np.zeros((), np.float32)}, ["logits"])
    data = export(source, two(), output="logits", output_kind="logits")
    wanted = session(source).run(["logits"], {"x": X})[0]
    assert np.array_equal(run(data, X)["logits"], wanted)
    again = export(data.replace(b"operating_point", b"operating-point"), two(), output="logits", output_kind="logits")
    assert np.array_equal(run(again, X)["logits"], wanted)
    taken = build([node("MatMul", ["x", "w"], ["z"])], {"w": np.ones((WIDTH, 2), np.float32)}, ["z"]).replace(
        b"\x01x", b"\x05label"
    )
    with pytest.raises((BadModel, NoHead)):
        export(taken, two())


def test_what_does_not_belong_together_is_refused() -> None:
    """Classes, their number, their order, the default, nothing at all, and an operator set from long ago."""
    points = two()
    cases: list[tuple[Callable[[], bytes], str]] = [
        (lambda: export(network(3), points), "2 classes, the model puts out 3 columns"),
        (lambda: export(network(2), {}), "at least one operating point"),
        (lambda: export(network(2), points, default="f1"), "default must be one of low, high, got 'f1'"),
        (lambda: export(network(2), {**points, "x": OperatingPoint.argmax(("a", "b"))}), "of the same classes: 'low'"),
        (lambda: export(network(2, metadata={"setpoint": '{"classes": ["fraud", "clear"]}'}), points), "in this order"),
    ]
    for wrong, said in cases:
        with pytest.raises(BadPoint, match=said):
            wrong()
    old = onnx.load_model_from_string(network(2))
    old.opset_import[0].version = 1
    with pytest.raises(BadModel, match="operator set 1 and cannot be converted"):
        export(old.SerializeToString(), points)
    unknown = build(
        [*body(), node("Shape", ["features"], ["s"]), node("Reshape", ["features", "s"], ["z"])], weights(2), ["z"]
    )
    with pytest.raises(BadModel, match="columns of output 'z' is not told"):
        export(unknown, points, output="z", output_kind="logits")


def test_an_older_operator_set_is_converted() -> None:
    """Nine, as some exporters still write."""
    graph = helper.make_graph(
        [node("Gemm", ["x", "w", "b"], ["z"]), node("Softmax", ["z"], ["p"], axis=1)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((WIDTH, 2), np.float32), "w"),
         numpy_helper.from_array(np.ones(2, np.float32), "b")],
    )  # fmt: skip
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    assert run(export(old.SerializeToString(), two()), X)["label"].tolist() == [0] * len(X)
