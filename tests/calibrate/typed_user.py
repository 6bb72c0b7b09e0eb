"""A user's own script, which type checkers in their strictest mode must accept without a cast."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

import calibrate

Rows = npt.NDArray[np.float64]


def score(rows: Rows) -> Rows:
    """Return two logits for each row: a model of the user's own."""
    return np.column_stack([np.zeros(len(rows)), rows @ np.array([2.0, 1.0]) - 1.5])


def main(folder: Path) -> list[str]:
    """Extract, fit, look at, keep and use an operating point; return the decided labels."""
    rng = np.random.default_rng(0)
    rows: Rows = rng.normal(size=(300, 2))
    labels: npt.NDArray[np.int64] = (rows @ np.array([2.0, 1.0]) + rng.normal(size=300) > 1.5).astype(np.int64)

    made = calibrate.extract(score, rows, labels=labels, output_kind="logits", classes=["ok", "sick"])
    cache: calibrate.FeatureCache = made  # in memory, as nothing else was asked for
    calibrate.write_cache(folder / "rows.parquet", cache)
    cache = calibrate.read_cache(folder / "rows.parquet")
    file = folder / "streamed.parquet"
    stream: calibrate.CacheStream = calibrate.extract(
        score, rows, labels=labels, output_kind="logits", classes=["ok", "sick"], out=file, in_memory=False
    )
    streamed: calibrate.FitResult = calibrate.fit_stream(stream, metric="f1")

    result: calibrate.FitResult = calibrate.fit(
        cache, metric="precision", constraints=["recall >= 0.8"], prior=[0.7, 0.3], rng=rng, evidence=True
    )
    direct = calibrate.fit(
        calibrate.extract(score, (rows, labels), output_kind="logits", classes=["ok", "sick"]), metric="f1"
    )
    arrays = calibrate.fit(logits=cache.logits, labels=cache.labels, classes=cache.classes, metric="fbeta(2)")
    assert arrays.point.classes == direct.point.classes == streamed.point.classes

    recall: calibrate.Interval = result.evidence["recall"]
    low: float = recall.low
    threshold: float | None = result.point.threshold
    if threshold is not None:
        print(f"alert above {threshold:.3f}; recall {recall.value:.2f}, at least {low:.2f}")
    result.report("Today").write(folder / "report.html")
    rarer = result.at_prevalence(0.01).evidence["precision"].value
    print(f"precision where 1 % are sick: {rarer:.3f}; {result.mis_before.tolist()} before")

    curve: calibrate.Curve = calibrate.curve(cache, ["precision", "recall"], positive="sick", confidence=0.9)
    curve.at_prevalence(0.01).write(folder / "curve.csv")
    best: int = curve.best["precision"]
    print(curve.threshold[best], curve.bands["recall"][0][best])

    result.save(folder / "point.json")
    point = calibrate.OperatingPoint.load(folder / "point.json")
    decided = point.decide(score(rows))
    return [point.classes[i] for i in decided.tolist()]
