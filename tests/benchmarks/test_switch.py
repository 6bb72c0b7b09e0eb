"""The study of the switch: its shapes are the distributions that they say, and its page holds what it says."""

from pathlib import Path

import numpy as np
import pytest

from calibrate.objective import parse_objective
from calibrate.sweep import Rows
from tests.benchmarks.shapes import SHAPES, Shape
from tests.benchmarks.switch import CUTS, held_out, main, real_cells
from tests.benchmarks.tabular import RealTable


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_population_of_a_shape_is_the_limit_of_its_draws(shape: Shape) -> None:
    """Shares below a cut within four standard errors, and F1 from the cells; half steps avoid the atoms."""
    population = shape.population(0.25)
    rows = population.draw(20_000, np.random.default_rng(1))
    cuts = [float(np.quantile(rows.margins, q)) + 1e-7 for q in (0.2, 0.6, 0.9)]
    below = population.shares_below(cuts)
    for side, of_side in enumerate((rows.is_positive, ~rows.is_positive)):
        share = [(rows.margins[of_side] <= cut).mean() for cut in cuts]
        error = np.sqrt(below[:, side] * (1 - below[:, side]) / of_side.sum())
        assert (np.abs(share - below[:, side]) < 4 * error + 1e-3).all()
    tp, fp = 0.25 * (1 - below[:, 0]), 0.75 * (1 - below[:, 1])
    values = population.values(parse_objective("f1", None, ["0", "1"]), cuts)
    assert values == pytest.approx(2 * tp / (tp + fp + 0.25))


def test_the_probability_that_a_population_decides_nobody_is_that_of_its_draws() -> None:
    """By simulation, three positives and 27 negatives."""
    population = SHAPES[0].population(0.1)
    cut = population.slope * 2.5 + population.intercept
    none = [not (population.draw(3, np.random.default_rng(i)).margins > cut).any() for i in range(3000)]
    assert np.mean(none) == pytest.approx(population.decides_none(cut, 3), abs=0.04)


def test_held_out_values_are_those_of_the_decisions() -> None:
    """Row by row, a cut on a margin included: such a row is not above it."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=50).round(1), rng.random(50) < 0.3)
    cuts = [-0.5, 0.03, float(rows.margins[4])]
    for cut, value in zip(cuts, held_out(rows, parse_objective("f1", None, ["0", "1"]), cuts), strict=True):
        above = rows.margins > cut
        assert value == pytest.approx(2 * (above & rows.is_positive).sum() / (above.sum() + rows.is_positive.sum()))


def test_the_page_has_a_line_for_each_metric_and_size(tmp_path: Path) -> None:
    """Drawn scores alone, in the smallest run there is."""
    out = tmp_path / "page.md"
    main(["--draws", "0.01", "--most", "3", "--jobs", "1", "--out", str(out)])
    text = out.read_text()
    assert "| f1 | 3 | 0.483 |" in text
    assert "--draws 0.01 --most 3 --seeds 5" in text
    assert text.count("of 24 |") == 4
    assert "## Real sets" not in text


def test_validation_sets_are_drawn_in_each_size_that_a_set_has() -> None:
    """Both models on a set of 150 positives: 60 of them can be drawn, so 50 are."""
    rng = np.random.default_rng(3)
    labels = (np.arange(900) < 150).astype(np.int64)
    inputs = rng.normal(labels[:, np.newaxis], size=(900, 2))
    table = RealTable("drawn", inputs, np.zeros((900, 0), dtype=np.int32), labels, np.arange(900))
    cells = real_cells((table, 0, ["f1"]))
    assert [(cell.source, cell.metric, cell.positives) for cell in cells] == [("drawn", "f1", 50)] * 2
    assert all(cell.values.shape == (5, len(CUTS)) and (cell.values > 0.3).all() for cell in cells)
