"""Class labels are read from graphs as exporters write them."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from calibrate.errors import BadModel
from calibrate.io.graph import read_model
from tests.models import body, build, exported, network, weights

node = helper.make_node
MODELS: list[Any] = [
    RandomForestClassifier(n_estimators=3, max_depth=3, random_state=0),
    GradientBoostingClassifier(n_estimators=3, random_state=0),
    LogisticRegression(),
    GaussianNB(),
    MLPClassifier((3,), tol=1.0, n_iter_no_change=1, random_state=0),
    SVC(),
]


@pytest.mark.parametrize("labels", [(1, 2), ("clear", "fraud"), (30, 10, 20)], ids=["numbers", "texts", "three"])
@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_the_labels_of_every_export_are_found(model: Any, zipmap: bool, labels: tuple[Any, ...]) -> None:
    """Attributes of classifiers and ZipMaps, and lists that a decision is looked up in; in the order of the columns."""
    data, fitted = exported(model, labels=labels, zipmap=zipmap)
    output = "output_probability" if zipmap else "probabilities"
    assert read_model(data, output=output, output_kind="probabilities").labels == tuple(map(str, fitted.classes_))


def test_a_graph_that_names_no_classes_has_no_labels() -> None:
    """As torch exports them."""
    assert read_model(network(3)).labels is None


def behind_a_head(*last: onnx.NodeProto, **constants: np.ndarray) -> bytes:
    """A network whose last nodes make `label` of its logits."""
    nodes = [*body(), node("Gemm", ["features", "w2", "b2"], ["logits"], transB=1)]
    return build([*nodes, node("ArgMax", ["logits"], ["index"], axis=1), *last], {**weights(2), **constants}, ["label"])


def test_labels_that_are_not_text_are_refused() -> None:
    """They could not be shown."""
    zipmap = node("ZipMap", ["logits"], ["label"], domain="ai.onnx.ml", classlabels_strings=[b"a", b"\xff"])
    with pytest.raises(BadModel, match=r"class label b'\\xff' is not text"):
        read_model(behind_a_head(zipmap))


def test_labels_in_a_constant_node_are_read() -> None:
    """Not only those in initializers."""
    held = numpy_helper.from_array(np.array([7, 9], np.int32))
    look_up = node("ArrayFeatureExtractor", ["names", "index"], ["label"], domain="ai.onnx.ml")
    data = behind_a_head(node("Constant", [], ["names"], value=held), look_up)
    assert read_model(data, output="logits").labels == ("7", "9")
