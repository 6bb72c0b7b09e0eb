"""A report on a fit: the point beside the plain model, on the decisions that its evidence rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from calibrate.cache import FeatureCache
from calibrate.certify import Guarantee
from calibrate.errors import BadReport
from calibrate.evidence import Evidence
from calibrate.operating_point import OperatingPoint
from calibrate.purpose import Purpose, described
from calibrate.report import Report
from calibrate.report.content import PLAIN, Column, content_of

POINT = "this point"


def fitted_report(
    found: Evidence,
    rows: FeatureCache | None,
    point: OperatingPoint,
    *,
    metric: str,
    title: str,
    positive: str | None,
    facts: Mapping[str, str],
    states: Mapping[str, Float64[np.ndarray, "k"]],
    model_scores: Mapping[str, Any],
    guarantees: Sequence[Guarantee],
    notes: Sequence[str],
    warnings: Sequence[str],
    prevalence: Float64[np.ndarray, "k"] | None = None,
    purpose: Purpose | None = None,
) -> Report:
    """The plain model and the point as `found` has them; the curve is that of `rows`.

    Raises: `BadReport` where there is no evidence, or the rows are gone.
    """
    if rows is None and found.paired is not None:
        raise BadReport("a report draws the curve of the rows, and those of a stream are not kept: evaluate the point")
    if found.paired is None or rows is None:
        why = "; ".join(found.warnings) or "fit with evidence"
        raise BadReport(f"a report rests on evidence, and there is none: {why}")
    if not np.bincount(rows.labels, minlength=len(rows.classes)).all():
        raise BadReport(f"a report needs rows of each class, these are {rows.rows} rows that lack one")
    by_name = {each.name: each for each in found.metrics}
    columns = [
        Column(PLAIN, OperatingPoint.argmax(rows.classes), found.paired.table("plain"), "held_out"),
        Column(POINT, point, found.paired.table("point"), found.kind),
    ]
    content = content_of(
        rows,
        columns,
        metric=by_name[metric],
        standard=found.metrics,
        title=title,
        positive=positive,
        facts=facts,
        states=states,
        model_scores=model_scores,
        notes=notes,
        warnings=warnings,
        prevalence=prevalence,
    )
    signed = {PLAIN: found.argmax, POINT: found.point}  # the very numbers of the result
    evidence = {name: {**content.evidence[name], **of_it} for name, of_it in signed.items()}
    promises = tuple(_promise(each) for each in guarantees)
    purposes = {} if purpose is None else {POINT: described(purpose, purpose.bounds(found.point))}
    return Report(replace(content, evidence=evidence, guarantees=promises, gain=dict(found.gain), purposes=purposes))


def _promise(each: Guarantee) -> str:
    with_what = f"on average over fits like this one, of which up to {each.risk:.0%} break it,"
    if each.confidence is not None:
        with_what = f"with a confidence of {each.confidence:.4g}"
    return (
        f"{each.constraint}: holds for new cases from the same source {with_what}, by {each.rule} on {each.rows} "
        f"{each.unit} ({each.errors_seen} errors, {each.errors_allowed} allowed)."
    )
