"""`setpoint calibrate` and `setpoint jobs` on a real server."""

import json
from pathlib import Path

from calibrate import OperatingPoint, feature_cache, fit, write_cache
from tests.journeys.test_jobs import register
from tests.servers import Server
from tests.service.jobs import LABELS, LOGITS, LONG
from tests.service.test_cli import setpoint


def test_a_point_is_fitted_on_the_server_and_its_job_looked_up(server: Server, tmp_path: Path) -> None:
    """As the library fits it; under the same key once; what fails says why in one line."""
    register(server, 2)
    cache = feature_cache(logits=LOGITS, labels=LABELS, classes=["0", "1"])
    write_cache(tmp_path / "val.npz", cache)
    to = ("--server", server.address)
    asked = ("calibrate", tmp_path / "val.npz", "--model", "m", "--metric", "f1", "--name", "best", "--key", "k", *to)
    said = setpoint(*asked).stdout
    expected = fit(cache, metric="f1")
    assert said.splitlines()[0] == (
        "published best@1 for version 1 of model 'm'; it answers requests that name it. "
        "'setpoint points default m best@1 --reason ...' makes it the default"
    )
    assert f"f1 {expected.evidence['f1'].value:.4f} (" in said
    again = json.loads(setpoint(*asked, "--json").stdout)
    assert again["operating_point"] == "best@1"
    shown = json.loads(setpoint("jobs", "show", again["id"], "--json", *to).stdout)
    assert OperatingPoint.from_dict(shown["result"]["point"]) == expected.point
    for columns in ("20", "80"):  # an id that is cut is of no use
        titles, line, *rest = setpoint("jobs", "list", *to, COLUMNS=columns).stdout.splitlines()
        assert titles.split()[:4] == ["job", "state", "model", "point"]
        assert line.split()[:5] == [again["id"], "done", "m", "best@1", "f1"]
        assert not rest
    failed = setpoint(*asked[:-4], *to, "--constraint", "recall >= 0.999 @ 95%", code=1).stderr
    assert "the calibration failed: " in failed
    assert "needs 2995 rows" in failed.replace("\n", " ")


def test_a_job_that_is_not_waited_for_is_cancelled_by_its_id(server: Server, tmp_path: Path) -> None:
    """And cannot be cancelled where there is none."""
    register(server, 5)
    (tmp_path / "five.npz").write_bytes(LONG)
    to = ("--server", server.address)
    asked = ("calibrate", tmp_path / "five.npz", "--model", "m", "--metric", "f1", "--no-wait", "--json", *to)
    made = json.loads(setpoint(*asked).stdout)
    assert made["name"] == "five"
    assert setpoint("jobs", "cancel", made["id"], *to).stdout.strip() == f"job {made['id']} is cancelled"
    assert setpoint("jobs", "show", made["id"], *to).stdout.strip() == "cancelled"
    assert "there is no job 'nope'" in setpoint("jobs", "cancel", "nope", *to, code=1).stderr
