"""Reports in a real browser: every table fits the page, whatever the names are."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from calibrate.cache import feature_cache
from calibrate.fit import fit
from calibrate.operating_point import OperatingPoint
from calibrate.purpose import Purpose
from calibrate.report.held_out import held_out_report

LONG = "a-class-name-of-which-nobody-knows-where-it-may-be-broken-" * 2
WIDER = """[...document.querySelectorAll("table, dl, p, h1, .scroll")]
    .filter((each) => each.scrollWidth > each.clientWidth + 1 || each.getBoundingClientRect().right > 1280)
    .map((each) => each.textContent.slice(0, 80))"""


@pytest.mark.parametrize("k", [2, 12])
def test_tables_fit_the_page(page: Page, tmp_path: Path, k: int) -> None:
    """Nine points with long names, long class names with two $, and a prevalence: nothing is beyond 1,280 pixels."""
    rng = np.random.default_rng(0)
    classes = [f"{LONG}$5-$10 {i}" for i in range(k)]
    labels = np.arange(40 * k) % k
    rows = feature_cache(logits=rng.normal(size=(40 * k, k)) + 2 * np.eye(k)[labels], labels=labels, classes=classes)
    names = [f"{LONG}point-{i}" for i in range(9)]
    purpose = Purpose.of(
        {"metric": f"precision[{classes[1]}]", "constraints": [f"recall[{classes[1]}] >= 0.999"],
         "prevalence": [1 / k] * k}, classes
    )  # fmt: skip
    points = dict.fromkeys(names, OperatingPoint.argmax(classes))
    report = held_out_report(rows, points, title=LONG, purposes=dict.fromkeys(names, purpose))
    report.write(tmp_path / "held-out.html")
    result = fit(rows, metric=f"f1[{classes[1]}]", constraints=f"recall[{classes[1]}] >= 0.3", search="exact")
    result.report().write(tmp_path / "fitted.html")
    page.set_viewport_size({"width": 1280, "height": 900})
    for name in ("held-out", "fitted"):
        page.goto(f"file://{tmp_path}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert page.evaluate(WIDER) == []
        text = page.locator("body").inner_text()
        assert "fitted for" in text
        assert f"recall[{classes[1]}] >= 0." in text
    page.goto(f"file://{tmp_path}/held-out.html")
    text = page.locator("body").inner_text()
    assert all(name in text for name in names)
    assert text.count("is broken") == len(names)
