"""A hospital has a table of risks and outcomes and no model: from its file to decisions, with independent numbers.

The truth is simulated: risks are calibrated, so a patient with a risk of 0.3 dies with probability 0.3.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, recall_score, roc_auc_score

from service.client import Client
from tests.servers import Server, running
from tests.service.test_cli import setpoint

COLUMNS = {"scores": "risk", "labels": "died", "scores_are": "probabilities"}


def patients(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Risks as a spreadsheet shows them, to four digits, and who died."""
    rng = np.random.default_rng(seed)
    risks = np.clip(rng.beta(0.8, 5, rows), 0.0001, 0.9999).round(4)
    return risks, (rng.random(rows) < risks).astype(int)


RISKS, DIED = patients(1500, 0)


def spreadsheet(risks: np.ndarray, died: np.ndarray) -> bytes:
    """The table as a German Excel saves it: a byte order mark, semicolons, decimal commas, CRLF, a column of texts."""
    lines = ["Fall;risk;Station;died"]
    for i, (risk, dead) in enumerate(zip(risks.tolist(), died.tolist(), strict=True)):
        lines.append(f'{i};{risk:.4f};"Station; {i % 3}";{dead}'.replace(".", ","))
    return ("\r\n".join(lines) + "\r\n").encode("utf-8-sig")


def best_f1(risks: np.ndarray, died: np.ndarray) -> float:
    """The largest F1 that any threshold has, by scikit-learn."""
    precision, recall, _ = precision_recall_curve(died, risks)
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(2 * precision * recall / (precision + recall)))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server on which the model `risk` is registered by its classes, and the folder with the hospital's file."""
    folder = tmp_path_factory.mktemp("hospital")
    (folder / "risks.csv").write_bytes(spreadsheet(RISKS, DIED))
    with running(folder) as server:
        made = server.post("/models", {"name": "risk", "classes": ["alive", "died"]})
        assert made["kind"] == "scores"
        yield server, folder


def calibrate(server: Server, data: bytes, name: str, columns: dict[str, Any] | None = None, **spec: Any) -> Any:
    """The answer to a table that is uploaded, with the columns that hold what."""
    asked = {"model": "risk", "name": name, "metric": "f1", "columns": columns or COLUMNS, **spec}
    parts: Any = {"spec": (None, json.dumps(asked)), "data": ("risks.csv", data)}
    with Client(server.address) as client:
        return client._http.post("/calibrate", files=parts)


def test_from_the_hospitals_table_to_decisions(hospital: tuple[Server, Path]) -> None:
    """The exact cut has scikit-learn's best F1; new patients are decided by it; curve and scores agree."""
    server, folder = hospital
    response = calibrate(server, (folder / "risks.csv").read_bytes(), "f1", search="exact")
    assert response.status_code == 201, response.text
    point = response.json()
    threshold = point["threshold"]
    assert f1_score(DIED, threshold < RISKS) == pytest.approx(best_f1(RISKS, DIED), abs=1e-12)
    assert point["model_scores"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(DIED, RISKS), abs=1e-9)
    average = point["model_scores"]["average_precision"]["value"]
    assert average == pytest.approx(average_precision_score(DIED, RISKS), abs=1e-9)
    listed = server.get("/models/risk/operating-points")
    assert [each["operating_point"] for each in listed] == ["argmax@1", "f1@1"]
    curve = server.get("/models/risk/operating-points/f1/curve")
    assert curve["rows"] == len(RISKS)
    assert curve["positive"] == "died"
    best = curve["columns"]["f1"][curve["best"]["f1"]]
    assert best == pytest.approx(best_f1(RISKS, DIED), abs=1e-12)

    new, dead = patients(400, 1)
    asked = {"model": "risk", "operating_point": "f1", "compare": ["argmax"], "probabilities": new.tolist()}
    reply = server.post("/predict", asked)
    decided = np.array([row["label"] == "died" for row in reply["predictions"]])
    np.testing.assert_array_equal(decided, new > threshold)
    np.testing.assert_allclose([row["probabilities"][1] for row in reply["predictions"]], new, rtol=1e-9)
    assert reply["compare"]["argmax"] == ["died" if risk > 0.5 else "alive" for risk in new]
    low, high = (point["evidence"]["recall"][end] for end in ("low", "high"))
    assert low <= recall_score(dead, decided) + 0.1
    assert high >= recall_score(dead, decided) - 0.1


def test_the_command_line_does_the_same(hospital: tuple[Server, Path]) -> None:
    """The same point as over REST; what is missing among the options is named."""
    server, folder = hospital
    asked = ("calibrate", folder / "risks.csv", "--model", "risk", "--metric", "f1", "--name", "cli")
    named = ("--scores", "risk", "--labels", "died", "--scores-are", "probabilities")
    to = ("--server", server.address)
    assert "published cli@1 for version 1 of model 'risk'" in setpoint(*asked, *named, *to).stdout
    response = calibrate(server, (folder / "risks.csv").read_bytes(), "rest")
    by_hand = server.get("/models/risk/operating-points/cli")
    assert by_hand["point"] == response.json()["point"]
    said = setpoint(*asked, "--scores", "risk", *to, code=1).stderr
    assert "--labels is missing" in said.replace("\n", " ")


@pytest.mark.parametrize(
    ("data", "columns", "text"),
    [
        (spreadsheet(RISKS, DIED), {**COLUMNS, "scores": "Risiko"}, "Risiko"),
        (spreadsheet(RISKS * 100, DIED), COLUMNS, "divide percentages by 100"),
        (spreadsheet(RISKS, DIED + 1), COLUMNS, "must be"),
        (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0[Content_Types].xml", COLUMNS, "save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", COLUMNS, "save it as CSV"),
        (b"", COLUMNS, "empty"),
    ],
    ids=["unknown column", "percent", "labels 1 and 2", "xlsx", "xls", "empty"],
)
def test_what_is_not_as_it_was_said_is_refused(
    hospital: tuple[Server, Path], data: bytes, columns: dict[str, Any], text: str
) -> None:
    """With what was wanted, by column and row."""
    response = calibrate(hospital[0], data, "bad", columns)
    assert response.status_code == 422, response.text
    assert text in response.json()["detail"]


def test_columns_are_of_a_table(hospital: tuple[Server, Path]) -> None:
    """JSON data has names of its own; of the spec's columns each is checked."""
    server, _ = hospital
    data = {"probabilities": [0.1, 0.9], "labels": [0, 1]}
    for columns, text in ((COLUMNS, "columns name those of an uploaded table"), ({"scores": "x"}, "columns.labels")):
        body = {"model": "risk", "name": "p", "metric": "f1", "columns": columns, "data": data}
        with pytest.raises(urllib.error.HTTPError) as error:
            server.post("/calibrate", body)
        assert error.value.code == 400
        assert text in json.load(error.value)["detail"]


def test_probabilities_sent_as_logits_are_warned_of(hospital: tuple[Server, Path]) -> None:
    """The answer's warnings say so; so does nothing where they are sent as what they are."""
    server, _ = hospital
    pairs = np.column_stack([1 - RISKS, RISKS]).tolist()
    for kind, scores, warns in (
        ("logits", pairs, True),
        ("logits", RISKS.tolist(), True),
        ("probabilities", pairs, False),
    ):
        data = {kind: scores, "labels": DIED.tolist()}
        reply = server.post("/calibrate", {"model": "risk", "name": kind, "metric": "f1", "data": data})
        assert any("probabilities" in text for text in reply["warnings"]) is warns, reply["warnings"]
