"""`POST /models/{m}/evaluate`: do saved points still hold on new rows? Compared with the library on the same rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from calibrate import FeatureCache, OperatingPoint, feature_cache, write_cache
from calibrate.evidence import held_out
from calibrate.io.origin import read_origin
from calibrate.logits import softmax
from calibrate.naming import parse_metric
from calibrate.samples import sample_of
from calibrate.uncertainty import clopper_pearson
from service.evaluation import holds
from service.identity import UNKNOWN
from tests.models import WIDTH, forward, network, weights
from tests.servers import Server
from tests.service.conftest import Start, alive, publish, refused, register
from tests.service.test_calibrate import npz
from tests.service.test_cli import setpoint
from tests.service.test_identity import rows as extracted

RNG = np.random.default_rng(21)
PATH = "/models/fraud/evaluate"


def drawn(n: int, shift: float = 2.5) -> tuple[Any, Any, Any]:
    """Inputs, logits and labels; fewer frauds the larger the shift."""
    inputs = RNG.normal(size=(n, WIDTH)).astype(np.float32)
    _, logits = forward(weights(2), inputs)
    return inputs, logits, (RNG.random(n) < softmax(logits - [0, shift])[:, 1]).astype(int)


X, LOGITS, Y = drawn(600)
NEW_X, NEW_LOGITS, NEW_Y = drawn(500)
NEW = {"logits": NEW_LOGITS.tolist(), "labels": NEW_Y.tolist()}


def calibrated(client: TestClient, name: str, **spec: Any) -> dict[str, Any]:
    """A point that is fitted on the first rows."""
    data = {"logits": LOGITS.tolist(), "labels": Y.tolist()}
    response = client.post("/calibrate", json={"model": "fraud", "name": name, **spec, "data": data})
    assert response.status_code == 201, response.text
    return dict(response.json())


def new_rows() -> FeatureCache:
    """The new rows as the library has them."""
    return feature_cache(logits=NEW_LOGITS.astype(np.float64), labels=NEW_Y, classes=["clear", "fraud"])


def test_the_answer_is_the_librarys_for_every_point_that_is_not_retired(fraud: TestClient) -> None:
    """Measured, gain, counts and shares; drafts and shadows too, and the model's own rule."""
    made = calibrated(fraud, "screen", metric="precision", constraints=["recall >= 0.5"])
    publish(fraud, "by-hand", 1.0)
    publish(fraud, "gone", 2.0)
    fraud.post("/models/fraud/operating-points/gone@1/retire", json={"reason": "x"})
    fraud.post("/models/fraud/operating-points/by-hand@1/shadow", json={"reason": "x"})
    response = fraud.post(PATH, json={"data": NEW})
    assert response.status_code == 200, response.text
    reply = response.json()
    assert (reply["model"], reply["model_version"], reply["rows"]) == ("fraud", 1, 500)
    assert reply["data_digest"] == new_rows().digest
    assert reply["warnings"] == [UNKNOWN]
    count = int(NEW_Y.sum())
    low, high = clopper_pearson(count, 500)
    assert reply["classes"][1] == {"name": "fraud", "rows": count, "share": count / 500, "low": low, "high": high}
    by_label = {each["operating_point"]: each for each in reply["points"]}
    assert {label: each["state"] for label, each in by_label.items()} == {
        "argmax@1": "approved", "screen@1": "approved", "by-hand@1": "shadow",
    }  # fmt: skip
    screen = by_label["screen@1"]
    point = OperatingPoint.from_dict(made["point"])
    decided = point.decide(NEW_LOGITS.astype(np.float64))
    hits, alarms = int((decided & NEW_Y).sum()), int(decided.sum())
    assert screen["measured"]["recall"]["value"] == hits / count
    assert screen["measured"]["precision"]["value"] == hits / alarms
    cache = new_rows()
    metrics = [parse_metric(name, cache.classes) for name in screen["measured"]]
    expected = held_out(point, sample_of(cache, []), metrics)
    assert screen["measured"] == {name: each.to_dict() for name, each in expected.point.items()}
    assert screen["gain"] == {name: each.to_dict() for name, each in expected.gain.items()}
    assert screen["at_fit"] == made["evidence"]["precision"]
    assert screen["fitted_for"] == "precision with recall >= 0.5"
    (bound,) = screen["bounds"]
    assert (bound["constraint"], bound["bound"], bound["at_least"]) == ("recall >= 0.5", 0.5, True)
    assert bound["measured"]["value"] == hits / count
    assert bound["at_fit"] == made["evidence"]["recall"]
    assert by_label["argmax@1"]["holds"] is None
    assert by_label["argmax@1"]["is_default"]
    assert len(fraud.get("/models/fraud/operating-points").json()) == 4
    alive(fraud)


def test_a_bound_holds_is_broken_or_is_unsure_by_its_interval(fraud: TestClient) -> None:
    """Where the whole interval keeps it, none of it, or some."""
    details = {"metric": "precision", "positive": "fraud"}
    shares = {}
    for name, bias in (("all", 50.0), ("none", -50.0), ("some", 0.0)):
        publish(fraud, name, bias, details={**details, "constraints": ["recall >= 0.5"]})
        decided = NEW_LOGITS[:, 1] + bias > NEW_LOGITS[:, 0]
        shares[name] = float(decided[NEW_Y == 1].mean())
    share = f"{shares['some']:.6f}"
    publish(fraud, "near", 0.0, details={**details, "constraints": [f"recall >= {share}", "alert_rate <= 1"]})
    reply = fraud.post(PATH, json={"data": NEW, "points": ["all", "none@1", "near"]}).json()
    assert [each["holds"] for each in reply["points"]] == ["yes", "no", "unsure"]
    assert [bound["holds"] for bound in reply["points"][2]["bounds"]] == ["unsure", "yes"]
    assert reply["points"][1]["bounds"][0]["measured"]["value"] == 0


def test_rows_that_fitted_a_point_are_marked(fraud: TestClient) -> None:
    """They flatter it, so it is not said to hold; others are judged on them."""
    calibrated(fraud, "p", metric="precision", constraints=["alert_rate <= 1"])
    publish(fraud, "q", 1.0, details={"metric": "f1", "constraints": ["alert_rate <= 1"]})
    data = {"logits": LOGITS.tolist(), "labels": Y.tolist()}
    p, q = fraud.post(PATH, json={"data": data, "points": ["p", "q"]}).json()["points"]
    assert (p["fitted_on_these_rows"], p["holds"]) == (True, "unsure")
    assert "fitted on these very rows" in p["warnings"][-1]
    assert (q["fitted_on_these_rows"], q["holds"]) == (False, "yes")


def test_inputs_and_files_are_read_as_calibrate_reads_them(fraud: TestClient, tmp_path: Path) -> None:
    """Rows that the server runs, and uploads; those of another model file are refused unless that is allowed."""
    expected = fraud.post(PATH, json={"data": NEW}).json()["points"][0]["measured"]["f1"]
    run = fraud.post(PATH, json={"data": {"inputs": NEW_X.tolist(), "labels": NEW_Y.tolist()}}).json()
    assert run["points"][0]["measured"]["f1"] == expected
    assert run["warnings"] == []
    files = {"data": ("new.npz", npz(logits=NEW_LOGITS, labels=NEW_Y))}
    sent = fraud.post(PATH, data={"spec": '{"points": ["argmax"]}'}, files=files)
    assert sent.json()["points"][0]["measured"]["f1"] == expected
    theirs = extracted(tmp_path, 1)
    files = {"data": ("theirs.npz", theirs.read_bytes())}
    origin = read_origin(theirs)
    assert origin is not None
    assert str(origin.file_digest) in refused(fraud.post(PATH, data={"spec": "{}"}, files=files), 422, "other-model")
    let = fraud.post(PATH, data={"spec": '{"allow_other_model": true}'}, files=files)
    assert str(origin.file_digest) in let.json()["warnings"][0]


def test_a_page_to_keep(fraud: TestClient) -> None:
    """By `Accept` or `format`: self-contained, with every point named and whether it holds."""
    publish(fraud, "p", -50.0, details={"metric": "f1", "constraints": ["recall >= 0.9"]})
    for call in ({"headers": {"accept": "text/html"}}, {"params": {"format": "html"}}):
        page = fraud.post(PATH, json={"data": NEW}, **call)  # type: ignore[arg-type]
        assert page.status_code == 200, page.text
        assert page.headers["content-type"].startswith("text/html")
        assert "p@1" in page.text
        assert "argmax@1" in page.text
        assert "a constraint is broken" in page.text
        assert "<script" not in page.text
        assert 'src="http' not in page.text


@pytest.mark.parametrize(
    ("body", "status", "kind", "part"),
    [
        ({"data": NEW, "points": ["nope"]}, 404, "unknown-point", "nope"),
        ({"data": NEW, "points": []}, 400, "bad-request", "points"),
        ({"data": NEW, "model_version": 9}, 404, "unknown-version", "9"),
        ({"data": NEW, "metrics": ["nonsense"]}, 422, "unknown-metric", "nonsense"),
        ({"data": {"logits": [[0.0, 1.0]]}}, 422, "bad-cache", "labels"),
        ({"data": NEW, "name": "p"}, 400, "bad-request", "name"),
        ({}, 400, "bad-request", "data"),
    ],
)
def test_what_is_refused(standing: TestClient, body: dict[str, Any], status: int, kind: str, part: str) -> None:
    """By name."""
    assert part in refused(standing.post(PATH, json=body), status, kind)


def test_more_rows_than_are_answered_at_once_are_refused(start: Start) -> None:
    """With the limit and what to do; a point of another version is named."""
    client = start(async_rows=499)
    register(client, network(2), classes='["clear", "fraud"]')
    detail = refused(client.post(PATH, json={"data": NEW}), 413, "too-large")
    assert "at most 499 rows, got 500" in detail
    register(client, network(2, seed=1), classes='["clear", "fraud"]')
    asked = {"data": {"logits": NEW["logits"][:9], "labels": NEW["labels"][:9]}, "points": ["argmax@1", "argmax@2"]}
    assert "argmax@2 is of version 2" in refused(client.post(PATH, json=asked), 400, "bad-request")


def test_a_class_without_rows_is_told(fraud: TestClient) -> None:
    """Nothing of it is known, and nothing is said to hold."""
    publish(fraud, "p", 1.0, details={"metric": "f1", "constraints": ["recall >= 0.5"]})
    data = {"logits": [[1.0, 0.0], [0.5, 0.0]], "labels": ["clear", "clear"]}
    reply = fraud.post(PATH, json={"data": data, "points": ["p"]}).json()
    assert "there is no row of class 'fraud'" in reply["warnings"][-1]
    assert reply["points"][0]["measured"]["recall"]["value"] is None
    assert reply["points"][0]["holds"] == "unsure"


def test_holds_is_about_the_whole_interval() -> None:
    """Both directions, and what is undefined."""
    from calibrate.objective import parse_constraint
    from calibrate.uncertainty import Interval

    def between(low: float, high: float) -> Interval:
        return Interval((low + high) / 2, low, high, 0.95, 50, "held_out")

    least, most = (parse_constraint(text, ["a", "b"]) for text in ("recall >= 0.8", "alert_rate <= 0.1"))
    assert [holds(least, between(*ends)) for ends in ((0.8, 0.9), (0.7, 0.85), (0.6, 0.79))] == ["yes", "unsure", "no"]
    assert [holds(most, between(*ends)) for ends in ((0.0, 0.1), (0.05, 0.2), (0.11, 0.2))] == ["yes", "unsure", "no"]
    assert holds(least, between(float("nan"), float("nan"))) == "unsure"


def test_the_command_marks_broken_bounds(server: Server, tmp_path: Path) -> None:
    """A line for each point and bound, JSON for programs, a page to keep; without --model it needs --point."""
    (tmp_path / "m.onnx").write_bytes(network(2))
    setpoint(
        "publish", tmp_path / "m.onnx", "--model", "monthly", "--classes", "clear,fraud", "--server", server.address
    )
    point = {"classes": ["clear", "fraud"], "scale": [1.0, 1.0], "bias": [0.0, -50.0]}
    details = {"metric": "f1", "constraints": ["recall >= 0.9"]}
    server.post("/models/monthly/operating-points", {"name": "p", "point": point, "details": details})
    write_cache(tmp_path / "new.npz", new_rows())
    common = ("evaluate", tmp_path / "new.npz", "--model", "monthly", "--server", server.address)
    lines = setpoint(*common, "--html", tmp_path / "page.html").stdout.splitlines()
    assert lines[0].startswith("500 rows for version 1 of model 'monthly': clear ")
    (broken,) = [line for line in lines if "recall >= 0.9" in line and "fitted" not in line and "f1 with" not in line]
    assert broken.split()[:5] == ["p@1", "recall", ">=", "0.9", "BROKEN"]
    assert "p@1" in (tmp_path / "page.html").read_text()
    reply = json.loads(setpoint(*common, "--point", "p", "--json").stdout)
    assert [(each["operating_point"], each["holds"]) for each in reply["points"]] == [("p@1", "no")]
    margins = (NEW_LOGITS[:, 1].astype(float) - NEW_LOGITS[:, 0]).tolist()
    lines = [f"{margin!r},{label}" for margin, label in zip(margins, NEW_Y.tolist(), strict=True)]
    (tmp_path / "scores.csv").write_text("\n".join(["risk,died", *lines]))
    table = ("evaluate", tmp_path / "scores.csv", "--scores", "risk", "--labels", "died", "--scores-are", "margins")
    named = (*table, "--classes", "clear,fraud", "--model", "monthly", "--server", server.address, "--json")
    again = json.loads(setpoint(*named, "--point", "p").stdout)
    assert again["points"][0]["measured"] == reply["points"][0]["measured"]
    assert "needs --point" in setpoint("evaluate", tmp_path / "new.npz", code=1).stderr


def test_a_table_of_any_columns_is_evaluated(fraud: TestClient) -> None:
    """As `/calibrate` reads it: named columns with a decimal comma, or columns that are named by class."""
    publish(fraud, "by-hand", 1.0)
    risks = softmax(NEW_LOGITS.astype(np.float64))
    lines = [f"{risk:.12f};{label}".replace(".", ",") for risk, label in zip(risks[:, 1], NEW_Y, strict=True)]
    by_name = "\n".join(["probability;outcome", *lines]).encode()
    lines = [f"{b:.12f},{a:.12f},{['clear', 'fraud'][y]}" for (a, b), y in zip(risks, NEW_Y, strict=True)]
    by_class = "\n".join(["probabilities_fraud,probabilities_clear,labels", *lines]).encode()
    columns = {"scores": "probability", "labels": "outcome", "scores_are": "probabilities"}
    expected = fraud.post(PATH, json={"points": ["by-hand"], "data": NEW}).json()
    for data, spec in ((by_name, {"columns": columns}), (by_class, {})):
        form = {"spec": json.dumps({"points": ["by-hand"], **spec})}
        reply = fraud.post(PATH, data=form, files={"data": ("new.csv", data)})
        assert reply.status_code == 200, reply.text
        for name in ("recall", "precision", "f1"):
            assert reply.json()["points"][0]["measured"][name] == expected["points"][0]["measured"][name]
