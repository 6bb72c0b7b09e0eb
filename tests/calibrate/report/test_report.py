"""Reports: the numbers are those of the rows, and the page needs nothing but itself."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from calibrate import FeatureCache, OperatingPoint, feature_cache, fit
from calibrate.errors import BadReport
from calibrate.report.held_out import held_out_report
from tests.problems import draw


def rows(k: int = 2, seed: int = 3) -> tuple[FeatureCache, OperatingPoint]:
    """A cache and a point that alerts more than the model does."""
    prior = (0.9, 0.1) if k == 2 else (0.6, 0.3, 0.1)
    problem = draw(prior, 400, seed, lead=1.5)
    cache = feature_cache(logits=problem.logits, labels=problem.labels, classes=["clear", "<ill>", "odd & even"][:k])
    return cache, OperatingPoint(cache.classes, np.ones(k), np.arange(k) * 1.5)


def test_cases_are_the_confusion_matrix_per_hundred_thousand() -> None:
    """By hand, for the plain model and for the point; intervals hold their numbers."""
    cache, point = rows()
    content = held_out_report(cache, {"mine": point}).content
    for name, rule in {"plain model": OperatingPoint.argmax(cache.classes), "mine": point}.items():
        alert, ill = rule.decide(cache.logits) == 1, cache.labels == 1
        wanted = {
            "alerts": alert.mean(),
            "caught": (alert & ill).mean(),
            "missed": (~alert & ill).mean(),
            "false alarms": (alert & ~ill).mean(),
        }
        assert content.cases[name].keys() == wanted.keys()
        for what, share in wanted.items():
            found = content.cases[name][what]
            assert found.value == pytest.approx(1e5 * share)
            assert found.low <= found.value <= found.high


def test_costs_are_counted_where_the_metric_is_one() -> None:
    """The mean cost of a case, times 100,000."""
    cache, point = rows()
    content = held_out_report(cache, {"mine": point}, metrics=["cost(fp=1, fn=30)"]).content
    alert, ill = point.decide(cache.logits) == 1, cache.labels == 1
    assert content.cases["mine"]["cost"].value == pytest.approx(
        1e5 * ((alert & ~ill).mean() + 30 * (~alert & ill).mean())
    )


def test_neighbours_catch_one_more_or_one_fewer() -> None:
    """The chosen cut has the point's own counts; beside it the caught rows change."""
    cache, point = rows()
    content = held_out_report(cache, {"mine": point}).content
    alert = point.decide(cache.logits) == 1
    (chosen,) = [row for row in content.neighbours if row["chosen"]]
    assert chosen["alerts"] == alert.sum()
    assert chosen["caught"] == (alert & (cache.labels == 1)).sum()
    caught = [row["caught"] for row in content.neighbours]
    assert caught == sorted(caught)
    assert len(set(caught)) == len(caught) == 7


def test_more_classes_are_counted_one_by_one() -> None:
    """Alerts, caught, missed and false alarms of each class, and no curve."""
    cache, point = rows(3)
    report = held_out_report(cache, {"mine": point}, metrics=["f1_macro"])
    decided = point.decide(cache.logits)
    for index, name in enumerate(cache.classes):
        assert report.content.cases["mine"][f"alerts: {name}"].value == pytest.approx(1e5 * (decided == index).mean())
    assert report.content.curve is None
    assert "odd &amp; even" in report.to_html()


class Page(HTMLParser):
    """Collects what a page would load or run, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Everything that names another place."""
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.loads += [tag] if tag in ("script", "link", "iframe", "object") else []

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        self.words.append(data)


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    """No script and no address outside the page; a class name with a tag in it stays a name."""
    cache, point = rows()
    html = held_out_report(cache, {"mine": point}, title="Fraud <script>alert(1)</script>").to_html()
    page = Page()
    page.feed(html)
    assert all(place.startswith("#") for place in page.loads), page.loads
    assert "<script" not in html
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    text = " ".join(" ".join(page.words).split())
    assert "Fraud <script>alert(1)</script>" in text
    assert "rows that had no part in choosing" in text
    assert "approve" in text
    assert html.count("<svg") == 5
    assert html == held_out_report(cache, {"mine": point}, title="Fraud <script>alert(1)</script>").to_html()


def test_a_report_is_written_as_its_name_ends(tmp_path: Path) -> None:
    """JSON holds every number of the page."""
    cache, point = rows()
    report = held_out_report(cache, {"mine": point})
    for name in ("a.html", "a.png", "a.json"):
        report.write(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["per_100000"]["mine"]["alerts"]["value"] == report.content.cases["mine"]["alerts"].value
    assert read["evidence"]["mine"]["f1"]["kind"] == "held_out"
    assert len(read["curve"]) > 50
    with pytest.raises(BadReport, match=r"\.html, \.png, \.json; got '.*a\.pdf'"):
        report.write(tmp_path / "a.pdf")


def test_a_point_lies_on_its_own_curve_and_its_intervals_hold_its_place() -> None:
    """The mark has the precision, recall and false positive rate of the curve at the point's cut."""
    cache, _ = rows()
    for constraints in ([], ["recall >= 0.6 @ 90%"]):
        result = fit(cache, metric="precision" if constraints else "f1", constraints=constraints)
        content = result.report().content
        alert, ill = result.point.decide(cache.logits) == 1, cache.labels == 1
        mark = content.points["this point"]
        assert mark["recall"].value == pytest.approx((alert & ill).sum() / ill.sum())
        assert mark["precision"].value == pytest.approx((alert & ill).sum() / alert.sum())
        assert mark["fpr"].value == pytest.approx((alert & ~ill).sum() / (~ill).sum())
        for one in mark.values():
            assert one.low <= one.value <= one.high


def test_a_report_from_simultaneous_bands_has_their_intervals() -> None:
    """59 positives, all of which the promise needs: no fold can be fitted."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [181, 59])
    cache = feature_cache(logits=rng.normal(labels * 2.0), labels=labels)
    result = fit(cache, metric="precision", constraints="recall >= 0.95 @ 95%")
    content = result.report().content
    for name in ("recall", "precision", "f1"):
        assert content.evidence["this point"][name] == result.evidence[name]
    for one in content.cases["this point"].values():
        assert one.low <= one.value <= one.high
    assert "simultaneous bands" in result.report().to_html()


def test_a_fit_reports_its_evidence_and_says_what_it_scores() -> None:
    """The evidence about this point; the promises; the gain over the plain model."""
    cache, _ = rows()
    result = fit(cache, metric="precision", constraints=["recall >= 0.6 @ 90%"])
    content = result.report("To be signed").content
    for column, found in {"plain model": result.before, "this point": result.evidence}.items():
        assert content.cases[column]["alerts"].value == pytest.approx(1e5 * found["alert_rate"].value)
        assert content.evidence[column]["precision"].value == pytest.approx(found["precision"].value)
    html = result.report("To be signed").to_html()
    assert "The numbers are about this operating point, on the rows that chose it" in html
    assert "recall &gt;= 0.6 @ 90%: holds for new cases" in html
    assert content.gain.keys() == result.gain.keys()
    held_out = fit(cache, metric="f1", evidence=rows(seed=9)[0]).report().to_html()
    assert "rows that had no part in choosing" in held_out
    assert "score the procedure" not in held_out


def test_a_report_at_another_prevalence_is_of_that_prevalence() -> None:
    """The curve and the cases are those of the prevalence, and the page says so."""
    cache, _ = rows()
    result = fit(cache, metric="f1", prevalence=0.02, prior=[0.9, 0.1])
    content = result.report().content
    assert content.curve is not None
    assert content.curve.prevalence == pytest.approx(0.02)
    caught, missed = (content.cases["this point"][what].value for what in ("caught", "missed"))
    assert caught + missed == pytest.approx(0.02 * 1e5)
    assert "clear 0.98, &lt;ill&gt; 0.02" in result.report().to_html()


def test_no_evidence_is_no_report() -> None:
    """It would have nothing to rest on."""
    cache, _ = rows()
    with pytest.raises(BadReport, match="rests on evidence, and there is none: fit with evidence"):
        fit(cache, metric="f1", evidence=False).report()


def test_a_cost_matrix_is_drawn_against_the_cut_too() -> None:
    """The cost of the chosen cut on the curve is that of the decisions, also at another prevalence."""
    cache, _ = rows()
    costs = np.array([[0.0, 30.0], [1.0, 0.0]])
    result = fit(cache, metric="mean_cost", cost_matrix=costs, search="exact")
    content = result.report().content
    (chosen,) = [row for row in content.neighbours if row["chosen"]]
    decided = result.point.decide(cache.logits)
    assert chosen["mean_cost"] == pytest.approx(costs[decided, cache.labels].mean())
    elsewhere = result.at_prevalence(0.01).report().content
    (there,) = [row for row in elsewhere.neighbours if row["chosen"]]
    missed, alarmed = (decided == 0)[cache.labels == 1].mean(), (decided == 1)[cache.labels == 0].mean()
    assert there["mean_cost"] == pytest.approx(0.01 * 30 * missed + 0.99 * alarmed)
