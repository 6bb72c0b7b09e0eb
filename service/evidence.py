"""What a point's own evidence says against letting it answer.

A point carries what it was fitted for, its metric and constraints, and what it then achieved on rows that did not fit
it. Decided here, what *speaks against* it and what is only a *doubt*:

- A constraint that the evidence falls short of speaks against it: `recall >= 0.9` was asked for, and 0.88 was measured.
  The measured value counts, as in the constraint itself, however wide its interval. (A cut that just meets a bound on
  its own rows falls short of it on others about every other time: who wants the bound kept asks for a confidence.)
- A constraint with a confidence speaks against it unless a guarantee for it is among the evidence.
- Worse than the plain model on its own metric speaks against it only where that is beyond chance: the whole interval
  of the paired gain lies below 0, or the two intervals lie apart. And only where the plain model keeps the constraints
  too: what keeps a bound that the plain model breaks may well pay for it in its metric.
- Fitted on the rows of another model file speaks against it; where it does not say which, that is a doubt.
- No evidence at all is a doubt; whoever asks for four eyes takes it to speak against the point.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibrate.errors import SetpointError
from calibrate.naming import parse_metric
from calibrate.objective import Constraint, parse_constraint
from service.domain import ARGMAX, PointRecord

UNKNOWN_MODEL = "it does not say which model file made the rows that it was fitted on"


@dataclass(frozen=True)
class Findings:
    """What speaks against a point, and what leaves it in doubt, each with what was wanted and what was found."""

    against: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def examine(record: PointRecord) -> Findings:
    """What the evidence of a point says against it; the plain model's own rule needs none."""
    if record.name == ARGMAX:
        return Findings()
    details = record.details
    other = () if record.other_model is None else (record.other_model,)
    unknown = () if isinstance(details.get("model_digest"), str) or not record.is_of_a_file else (UNKNOWN_MODEL,)
    evidence = _intervals(details, "evidence")
    texts = details.get("constraints")
    texts = [text for text in texts if isinstance(text, str)] if isinstance(texts, list | tuple) else []
    if not evidence:
        return Findings(other, unknown, missing=("it has no evidence",))
    against: list[str] = [*other]
    doubts: list[str] = [*unknown]
    plain_keeps_them = True
    for text in texts:
        try:
            constraint = parse_constraint(text, record.point.classes, _positive(details))
        except (SetpointError, ValueError) as error:
            doubts.append(f"its constraint {text[:200]!r} cannot be read: {error}")
            continue
        fault, sure = _broken(constraint, details, evidence)
        if fault is not None:
            (against if sure else doubts).append(fault)
        plain_keeps_them &= _keeps(constraint, _intervals(details, "before"))
    if plain_keeps_them:
        worse, sure = _worse(record, evidence)
        if worse is not None:
            (against if sure else doubts).append(worse)
    return Findings(tuple(against), tuple(doubts))


def _broken(
    constraint: Constraint, details: Mapping[str, Any], evidence: Mapping[str, Mapping[str, Any]]
) -> tuple[str | None, bool]:
    """In what a constraint is not kept, if it is not, and whether that is certain."""
    if constraint.kind != "measured":
        promised = details.get("guarantees")
        kept = [each for each in promised if isinstance(each, dict)] if isinstance(promised, list) else []
        if any(each.get("constraint") == constraint.text for each in kept):
            return None, True
        return f"wanted {constraint.text}, found no guarantee for it", True
    found = evidence.get(constraint.metric.name)
    if found is None:
        return f"wanted {constraint.text}, its evidence does not tell {constraint.metric.name}", False
    return (None, True) if _keeps(constraint, evidence) else (f"wanted {constraint.text}, found {_told(found)}", True)


def _keeps(constraint: Constraint, told: Mapping[str, Mapping[str, Any]]) -> bool:
    value = _number(told.get(constraint.metric.name, {}), "value")
    return bool(constraint.shortfall_of(np.asarray(value)) == 0)


def _worse(record: PointRecord, evidence: Mapping[str, Mapping[str, Any]]) -> tuple[str | None, bool]:
    """Whether it is worse than the plain model on its own metric, and whether that is beyond chance."""
    text = record.details.get("metric")
    if not isinstance(text, str):
        return None, False
    try:
        metric = parse_metric(text, record.point.classes, _positive(record.details))
    except (SetpointError, ValueError):
        return None, False
    ours, plain = evidence.get(metric.name), _intervals(record.details, "before").get(metric.name)
    if ours is None or plain is None:
        return None, False
    said = f"its {metric.name} is {_told(ours)}, the plain model's on the same rows {_told(plain)}"
    gain = _intervals(record.details, "gain").get(metric.name)
    if gain is not None:
        if not _number(gain, "value") < 0:
            return None, False
        return f"{said}: {_told(gain)} less is gained", _number(gain, "high") < 0
    turn = 1 if metric.larger_is_better else -1
    if not turn * _number(ours, "value") < turn * _number(plain, "value"):
        return None, False
    apart = (
        _number(ours, "high") < _number(plain, "low")
        if metric.larger_is_better
        else _number(ours, "low") > _number(plain, "high")
    )
    return said, apart


def _intervals(details: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    told = details.get(name)
    return {key: value for key, value in told.items() if isinstance(value, dict)} if isinstance(told, dict) else {}


def _positive(details: Mapping[str, Any]) -> str | None:
    positive = details.get("positive")
    return positive if isinstance(positive, str) else None


def _number(interval: Mapping[str, Any], name: str) -> float:
    """NaN where there is none, which keeps no bound and is worse than nothing."""
    value = interval.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _told(interval: Mapping[str, Any]) -> str:
    value, low, high = (_number(interval, name) for name in ("value", "low", "high"))
    shown = "undefined" if math.isnan(value) else f"{value:.4g}"
    around = "" if math.isnan(low) or math.isnan(high) else f" [{low:.4g}, {high:.4g}]"
    kind, rows = interval.get("kind"), interval.get("rows")
    return shown + around + (f" ({str(kind).replace('_', '-')}, {rows} rows)" if rows and kind else "")
