"""`python -m service.demo`: trains, caches, fits, publishes, serves, predicts, and shows each step.

Everything it makes is in `setpoint-demo/`: the model, the caches, the fitted points, the server's data and log. Run
again it writes all of them anew but the server's data: what was registered there stays, and the demo's own model and
points are published again only where they are not those that are there.
"""

import argparse
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibrate.cache import FeatureCache
from calibrate.fit import fit
from calibrate.io.files import write_cache
from calibrate.result import FitResult
from calibrate.uncertainty import Interval
from service.demo import picture
from service.demo.network import to_cache, to_onnx, train
from service.demo.patients import CLASSES, Patients, read_patients, split

FOLDER = Path("setpoint-demo")
RUNNING = FOLDER / "server.address"  # there while the server runs
MODEL = "thyroid"
POINTS = {"best-f1": "f1", "screening": "fbeta(2)", "balanced": "g_mean"}
WAYS: dict[str, dict[str, Any]] = {
    "bias adjustment": {"method": "bias_adjustment"},
    "bias adjustment (decimal)": {"method": "bias_adjustment", "search": "decimal"},
    "bias adjustment (exact)": {"method": "bias_adjustment", "search": "exact"},
    "logit adjustment": {"method": "logit_adjustment"},
    "prior threshold": {"method": "prior_threshold"},
}
out = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """The whole path, from patients to served decisions."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the server is stopped then too
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--once", action="store_true", help="stop the server after the last answer")
    options = parser.parse_args()
    refuse_while_running()
    FOLDER.mkdir(exist_ok=True)
    parts, caches, model = make_model()
    results = fit_points(caches)
    picture.draw(FOLDER / "points.png", caches["test"].logits, caches["test"].labels,
                 {name: result.point for name, result in results.items()})  # fmt: skip
    out.print(f"   the points on the precision-recall curve: {FOLDER / 'points.png'}")
    port = _free_port(options.port)
    with serving(port) as (client, process):
        version = publish(client, model, results)
        predict(client, parts, caches, results, version)
        if options.once:
            out.print("\nThe server is stopped, as ONCE=1 asks; without it the demo leaves it running.")
            return
        hand_over(port, options.port, parts["test"].rows[0])
        _wait(process)


def make_model() -> tuple[dict[str, Patients], dict[str, FeatureCache], bytes]:
    """Trains the network, exports it, and caches the last-layer features of each part."""
    patients = read_patients()
    out.print(f"[bold]1. Data[/bold]  {len(patients.labels)} patients, {patients.labels.sum()} of them hypothyroid")
    split_up = split(patients, (0.5, 0.25, 0.25), np.random.default_rng(0))
    parts = dict(zip(("train", "validation", "test"), split_up, strict=True))
    for name, part in parts.items():
        out.print(f"   {name}: {len(part.labels)} patients, {part.labels.sum()} hypothyroid")
    prior = (np.bincount(parts["train"].labels) / len(parts["train"].labels)).astype(np.float32)
    out.print("[bold]2. Model[/bold]  a small torch network, its preprocessing inside")

    def follow(epochs: range) -> Iterable[int]:
        return track(epochs, description="   training", console=out)

    network = train(parts["train"], follow)
    caches = {name: to_cache(network, part, prior) for name, part in parts.items()}
    for name, cache in caches.items():
        write_cache(FOLDER / f"{name}.npz", cache)
    model = to_onnx(network, prior)
    (FOLDER / "model.onnx").write_bytes(model)
    out.print(f"   {FOLDER / 'model.onnx'} ({len(model):,} bytes), features cached in {', '.join(caches)}.npz")
    return parts, caches, model


def fit_points(caches: dict[str, FeatureCache]) -> dict[str, FitResult]:
    """Compares the methods on the paper's question, and fits the points to publish."""
    train_, validation, test = caches["train"], caches["validation"], caches["test"]
    out.print("[bold]3. Calibrate[/bold]  fitted on the validation rows, scored on the test rows, which fitted nothing")
    table = Table("method", "F1, fitted for F1", "G-mean, fitted for G-mean")
    found = {
        way: {
            metric: fit(validation, train=train_, metric=metric, evidence=test, **options)
            for metric in ("f1", "g_mean")
        }
        for way, options in WAYS.items()
    }
    plain = next(iter(found.values()))
    table.add_row("plain model", *(_shown(plain[metric].before[metric]) for metric in ("f1", "g_mean")))
    for way, by_metric in found.items():
        table.add_row(way, *(_shown(result.evidence[metric]) for metric, result in by_metric.items()))
    out.print(table)
    out.print(
        "   each column is a point of its own, fitted for that metric; the plain model is near its best F1 already, so "
        "what\n   there is to gain is in the G-mean (in brackets: 95 % intervals)"
    )
    state = found["bias adjustment (decimal)"]["g_mean"]
    out.print(
        f"   model imbalance state on the training rows: {_state(state.mis_before)} before, {_state(state.mis_after)} "
        "adjusted for the G-mean"
    )
    results = {}
    for name, metric in POINTS.items():
        results[name] = fit(validation, train=train_, metric=metric, evidence=test)
        results[name].save(FOLDER / f"{name}.json")
    page = FOLDER / "screening.html"
    results["screening"].report("Screening for hypothyroidism").write(page)
    out.print(f"   a page to sign, of what the screening point does to 100,000 patients: {page}")
    return results


@contextmanager
def serving(port: int) -> Iterator[tuple[httpx2.Client, subprocess.Popen[bytes]]]:
    """A server of its own process on the demo's folder, and a client of it; stopped at the end."""
    out.print(f"[bold]4. Serve[/bold]  http://127.0.0.1:{port}, log in {FOLDER / 'server.log'}")
    command = [sys.executable, "-m", "service", "serve", "--port", str(port), "--data", str(FOLDER / "server")]
    started = time.monotonic()
    with (FOLDER / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    RUNNING.write_text(f"http://127.0.0.1:{port}")
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while not _ready(client):
                if process.poll() is not None or time.monotonic() - started > 60:
                    sys.exit(f"the server did not start; see {FOLDER / 'server.log'}")
                time.sleep(0.02)
            out.print(f"   ready after {time.monotonic() - started:.1f} s")
            yield client, process
    finally:
        process.terminate()
        process.wait(20)
        RUNNING.unlink(missing_ok=True)


def publish(client: httpx2.Client, model: bytes, results: dict[str, FitResult]) -> int:
    """Registers the model; publishes two points fitted here, has the server fit the third, and sets the default.

    What an earlier run published and is the same stays as it is. Gives the number of the model's version.
    """
    digest = hashlib.sha256(model).hexdigest()
    known = [shown for shown in _good(client.get("/models")) if shown["name"] == MODEL]
    same_model = [version for shown in known for version in shown["versions"] if version["digest"] == digest]
    done = "kept" if same_model else "registered"
    if not same_model:
        same_model = [_good(client.post("/models", data={"name": MODEL}, files={"file": ("model.onnx", model)}))]
    said = same_model[-1]
    version, head = int(said["model_version"]), said["head"]
    out.print(
        f"   {done} '{MODEL}' as version {version}, head of {head['width']} features found, runs on "
        f"{said['provider'] or 'nothing yet'}"
    )
    points = _good(client.get(f"/models/{MODEL}/operating-points", params={"model_version": version}))
    latest = {point["name"]: point for point in sorted(points, key=lambda point: int(point["version"]))}
    missing = [
        name for name, result in results.items() if name not in latest or latest[name]["digest"] != result.point.digest
    ]
    for name in [name for name in results if name not in missing]:
        out.print(f"   kept {latest[name]['operating_point']} of an earlier run, which is the same")
    *here, there = results
    for name in [name for name in here if name in missing]:
        details = {key: value for key, value in results[name].to_dict().items() if key not in ("point", "threshold")}
        point = results[name].point.to_dict()
        said = _good(
            client.post(
                f"/models/{MODEL}/operating-points",
                json={"name": name, "point": point, "details": details, "model_version": version},
            )
        )
        out.print(f"   published {said['operating_point']}, fitted in Python for {said['fitted_for']}")
    if there in missing:
        spec = json.dumps({"model": MODEL, "model_version": version, "name": there, "metric": POINTS[there]})
        data = (FOLDER / "validation.npz").read_bytes()
        said = _good(client.post("/calibrate", data={"spec": spec}, files={"data": ("validation.npz", data)}))
        same = said["digest"] == results[there].point.digest
        out.print(
            f"   published {said['operating_point']}, fitted for {said['fitted_for']} by POST /calibrate; the same as "
            f"in Python: {same}"
        )
    default = _good(client.get(f"/models/{MODEL}"))["default"]
    if done == "registered" or default["model_version"] != version:
        body = {"model_version": version, "operating_point": here[0], "reason": "the demo's choice"}
        default = _good(client.put(f"/models/{MODEL}/default", json=body))
    out.print(f"   default: version {default['model_version']}, {default['operating_point']}")
    return version


def predict(
    client: httpx2.Client,
    parts: dict[str, Patients],
    caches: dict[str, FeatureCache],
    results: dict[str, FitResult],
    version: int,
) -> None:
    """Asks for all points at once, and holds the served decisions to the library's."""
    out.print("[bold]5. Predict[/bold]  raw rows over REST, every point from one run of the model")
    for name in ("validation", "test"):
        rows = [[None if np.isnan(value) else value for value in row] for row in parts[name].rows.tolist()]
        body = {"model": MODEL, "model_version": version, "inputs": rows, "compare": list(POINTS)}
        said = _good(client.post("/predict", json=body))
        wrong = sum(
            label != CLASSES[decided]
            for point, result in results.items()
            for label, decided in zip(said["compare"][point], result.point.decide(caches[name].logits), strict=True)
        )
        decisions = len(rows) * len(results)
        out.print(f"   {name}: {decisions - wrong} of {decisions} served decisions are those made in Python")
    table = Table("patient", "truth", "probability", *POINTS)
    split_rows = [i for i in range(len(rows)) if len({said["compare"][point][i] for point in POINTS}) > 1]
    for i in (split_rows + list(range(len(rows))))[:5]:
        probability = said["predictions"][i]["probabilities"][1]
        labels = [said["compare"][point][i] for point in POINTS]
        table.add_row(str(i), CLASSES[parts["test"].labels[i]], f"{probability:.3f}", *labels)
    out.print(table)


def hand_over(port: int, wanted: int, patient: np.ndarray) -> None:
    """What to open and what to paste, with the port that it really is."""
    address = f"http://127.0.0.1:{port}"
    out.print(f"\n[bold]6. Yours[/bold]  pages: {address}/console, the API: {address}/docs, and to paste:\n")
    row = ", ".join("null" if np.isnan(value) else f"{value:g}" for value in patient.tolist())
    body = f'{{"model": "{MODEL}", "inputs": [[{row}]], "operating_point": "balanced"}}'
    print(f"curl -s {address}/predict -d '{body}'\n")
    taken = "" if wanted in (0, port) else f" (not {wanted}, which was taken)"
    out.print(f"The server runs on port {port}{taken} until you press Ctrl-C.")


def refuse_while_running() -> None:
    """Ends where an earlier demo's server answers: two on one folder would not see each other's changes."""
    if not RUNNING.exists():
        return
    address = RUNNING.read_text().strip()
    try:
        httpx2.get(f"{address}/health/live", timeout=5)
    except (httpx2.TransportError, httpx2.InvalidURL):
        return  # it ended without a word
    sys.exit(f"an earlier demo is still running on {address} and uses {FOLDER}: use that one, or stop it with Ctrl-C")


def _good(response: httpx2.Response) -> Any:
    if response.is_error:
        sys.exit(f"the server refused it: {response.text}")
    return response.json()


def _ready(client: httpx2.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait()
    except KeyboardInterrupt:
        out.print("stopped")


def _free_port(wanted: int) -> int:
    """The wanted port, or where it is taken another."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                out.print(f"   port {wanted} is taken")
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _state(shares: np.ndarray) -> str:
    return ", ".join(f"{name} {share:.3f}" for name, share in zip(CLASSES, shares.tolist(), strict=True))


if __name__ == "__main__":
    main()
