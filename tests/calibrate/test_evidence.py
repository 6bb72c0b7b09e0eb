"""Evidence on rows that belong together."""

import numpy as np

from calibrate.ascent import Sample
from calibrate.evidence import held_out, table_of
from calibrate.naming import standard_metrics
from calibrate.operating_point import OperatingPoint

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 60)
LOGITS = np.stack([np.zeros(60), RNG.normal(LABELS * 1.5)], axis=1)
POINT = OperatingPoint.argmax(("a", "b"))


def test_copies_of_a_row_are_one_row() -> None:
    """Four copies of every row in a group of their own: the intervals are those of the rows without copies."""
    plain = held_out(POINT, Sample(LOGITS, LABELS), standard_metrics(POINT.classes))
    copies = Sample(np.repeat(LOGITS, 4, axis=0), np.repeat(LABELS, 4), groups=np.repeat(np.arange(60), 4))
    grouped = held_out(POINT, copies, standard_metrics(POINT.classes))
    for name in ("accuracy", "recall", "precision"):
        assert grouped.point[name] == plain.point[name]


def test_groups_of_one_row_change_nothing_and_uneven_ones_count_by_their_squares() -> None:
    """sum(n)^2 / sum(n^2) groups in each class: the other class's rows of a group have no part in it."""
    alone = table_of(LABELS, Sample(LOGITS, LABELS, groups=np.arange(60)))
    assert alone.per_weight is not None
    assert alone.per_weight.tolist() == [1, 1]
    labels, groups = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 3, 3])
    table = table_of(labels, Sample(np.zeros((7, 2)), labels, groups=groups))
    assert table.per_weight is not None
    assert table.per_weight.tolist() == [4 / 6, 3 / 9]
