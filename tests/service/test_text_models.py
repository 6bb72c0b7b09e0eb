"""Text models as scikit-learn exports them: they need a locale, and where it is missing the error names the remedy."""

import locale
from typing import Any

import numpy as np
import pytest
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from starlette.testclient import TestClient

from calibrate import extract
from calibrate.errors import BadModel

TEXTS = ["Good film", "BAD film", "good day", "awful bad", "GOOD", "no film"] * 5
LABELS = np.array([1, 0, 1, 0, 1, 0] * 5)
COLUMN = np.array([[text] for text in TEXTS], dtype=object)


def exported(vectorizer: Any, **options: str) -> tuple[Any, bytes]:
    """A fitted pipeline, and its graph, which lowers the letters itself."""
    model = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, LABELS)
    wanted = {type(vectorizer): options, LogisticRegression: {"zipmap": False}}
    graph = convert_sklearn(model, initial_types=[("text", StringTensorType([None, 1]))], options=wanted)
    return model, graph.SerializeToString()


def has_locale(name: str) -> bool:
    """Whether this machine has it."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), CountVectorizer()], ids=lambda each: type(each).__name__)
def test_a_locale_that_is_missing_is_named_with_the_remedy(vectorizer: Any, client: TestClient) -> None:
    """At a registration and in extract; the runtime's own words name a file of its sources."""
    if has_locale("en_US.UTF-8"):
        pytest.skip("this machine has the locale en_US.UTF-8, so nothing is refused")
    _, graph = exported(vectorizer)
    remedy = r"needs the locale en_US\.UTF-8, which this machine lacks.*locale-gen.*'locale': 'C'"
    with pytest.raises(BadModel, match=remedy):
        extract(graph, (COLUMN, LABELS))
    form = {"name": "text", "output": "probabilities", "output_kind": "probabilities"}
    response = client.post("/models", data=form, files={"file": graph})
    assert response.status_code == 422
    assert "needs the locale en_US.UTF-8, which this machine lacks" in response.json()["detail"]


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), CountVectorizer()], ids=lambda each: type(each).__name__)
def test_the_remedy_helps(vectorizer: Any, client: TestClient) -> None:
    """With the locale C the graph gives scikit-learn's probabilities, in extract and from the server."""
    model, graph = exported(vectorizer, locale="C")
    assert np.allclose(extract(graph, (COLUMN, LABELS)).logits[:, 1], model.decision_function(TEXTS), atol=1e-5)
    form = {"name": "text", "output": "probabilities", "output_kind": "probabilities"}
    response = client.post("/models", data=form, files={"file": graph})
    assert response.status_code == 201, response.text
    reply = client.post("/predict", json={"model": "text", "inputs": COLUMN.tolist()}).json()
    served = [row["probabilities"] for row in reply["predictions"]]
    assert np.allclose(served, model.predict_proba(TEXTS), atol=1e-6)
