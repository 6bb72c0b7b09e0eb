"""The life of a point: draft, shadow, approved, retired; the default, aliases, and the way back.

Every function gives the change that is to be made, decided on the model as it stands in the step that makes it: what a
page or another server saw before does not count, and `expected` says what the caller saw. Nothing here writes.

Decided here, of *four eyes*: what a point's author publishes is a draft; somebody else who may approve lets it answer,
makes it the default, points an alias at it, and rolls back to it. Names of API keys tell people apart, so callers
without one are nobody in particular, and can neither publish nor approve. Without four eyes what is published is
approved at once, and all else is the same.

A bare name is answered by its latest approved point, so taking that one out of service may bring back an older one:
that takes what approving the older one would, but for its evidence, as with a rollback: it answered before.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.domain import ARGMAX, Default, Model, PointRecord, PointState, check_name
from service.errors import BadEvidence, BadRequest, Conflict, Forbidden, UnknownAlias
from service.evidence import examine
from service.keys import RESERVED
from service.ports import Change

Approval = Literal["off", "four_eyes"]
Decide = Callable[[Model], Change | None]  # None where it is so already

MOST_REASON = 1000
_DONE: dict[PointState, str] = {"approved": "approve", "shadow": "shadow", "retired": "retire"}
_FROM: dict[PointState, tuple[PointState, ...]] = {
    "approved": ("draft", "shadow"),
    "shadow": ("draft", "approved", "retired"),
    "retired": ("draft", "shadow", "approved"),
}


@dataclass(frozen=True)
class Asked:
    """Who asks for a change, and why; under which rule; whether evidence that speaks against it is overridden; and
    whether who asks has the scope to approve, which is told where the change alone does not take it.
    """

    who: str
    reason: str
    approval: Approval = "off"
    override: bool = False
    may_approve: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason.strip() or len(self.reason) > MOST_REASON:
            raise BadRequest(f"reason must say in 1 to {MOST_REASON} characters why; the audit trail keeps it")


def first_state(approval: Approval, who: str) -> PointState:
    """The state that a point is published in. Raises: `Forbidden`."""
    if approval == "off":
        return "approved"
    _check_somebody(who)
    return "draft"


def check_make_default(approval: Approval) -> None:
    """Raises `Forbidden` where a point must not be the default as soon as it is published."""
    if approval == "four_eyes":
        raise Forbidden(
            "approval is four_eyes: what is published is a draft, which somebody else approves and makes the default; "
            "leave make_default out"
        )


def to_state(label: str, state: PointState, asked: Asked) -> Decide:
    """Approves a point, puts it into the shadow, or retires it.

    The change raises: `UnknownPoint`, `Conflict` where its state does not allow it, where it is the default or an alias
    leads to it, or where it is to be a shadow and its version takes other inputs than the default one; for an approval
    `Forbidden` and `BadEvidence`; `Forbidden` where an older point would answer a bare name then.
    """

    def decide(model: Model) -> Change:
        record = model.exact(label)
        if record.name == ARGMAX and state != "approved":
            raise Conflict(f"{label} is the model's own rule, which every version has: it cannot be made '{state}'")
        if record.state not in _FROM[state]:
            raise Conflict(f"{record.stated}: it cannot be made '{state}' from there")
        said: dict[str, Any] = {"from": record.state, "to": state}
        if state == "approved":
            said |= _allow(record, asked)
        else:
            _check_unused(model, record, state)
            if state == "shadow":
                _check_runs_beside(model, record)
        after = replace(record, state=state, because=asked.reason)
        if older := _takes_over(model, record, after):
            _check_may_return(older, record, asked)
            said["answers_now"] = older.label
        after = replace(after, approved_by=asked.who) if state == "approved" else after
        return Change(_DONE[state], _said(after, asked, said), point=after)

    return decide


def to_default(
    reference: str, asked: Asked, *, model_version: int | None = None, expected: str | None = None
) -> Decide:
    """Moves the default to a point that answers: version and point in one step. Where it is there already nothing is
    done, so a call may be repeated; evidence that is overridden once more is kept once more.

    The change raises: `UnknownVersion`, `UnknownPoint`, `NotApproved`, `Forbidden`, `BadEvidence`, `Conflict` where
    the default is not the `expected` one.
    """

    def decide(model: Model) -> Change | None:
        _check_expected(model, expected)
        record = model.point(model.version(_version_of(model, reference, model_version)), reference)
        change = promote(model, record, asked)
        return None if change.default == model.default and "overridden" not in change.said else change

    return decide


def promote(model: Model, record: PointRecord, asked: Asked) -> Change:
    """The default moves to a point. Raises: `Forbidden`, `BadEvidence`."""
    said = {"from": model.default.said, **_allow(record, asked)}
    default = Default(record.model_version, record.name, record.version)
    return Change("set default", _said(record, asked, {**said, "to": default.said}), default=default)


def to_previous(asked: Asked, *, expected: str | None = None, seen: Default | None = None) -> Decide:
    """Moves the default back to what it was before; `seen` is what the caller took that for.

    The change raises: `Conflict` where there is nothing before, where that may not answer any more, or where it is not
    what was seen; `Forbidden`.
    """

    def decide(model: Model) -> Change:
        _check_expected(model, expected)
        previous = model.previous
        if previous is None:
            raise Conflict(f"{model.default.label} is the first default of model '{model.name}': nothing was before it")
        if seen not in (None, previous):
            raise Conflict(f"the default of model '{model.name}' has moved meanwhile: look again")
        record = model.exact(previous.label)
        if record.state != "approved":
            raise Conflict(f"the default was {previous.label} before, but {record.stated}: name another default")
        _check_eyes(record, asked)
        said = {"from": model.default.said, "to": previous.said}
        return Change("roll back", _said(record, asked, said), default=previous, goes_back=True)

    return decide


def to_alias(alias: str, reference: str, asked: Asked, *, expected: str | None = None) -> Decide:
    """Makes an alias, or leads it to another point that answers.

    The change raises: `BadName`, `UnknownPoint`, `NotApproved`, `Forbidden`, `BadEvidence`, `Conflict` where a point
    has the name, or where the alias does not lead to the `expected` one.
    """
    check_name(alias, "an alias")

    def decide(model: Model) -> Change:
        before = model.aliases.get(alias)
        if expected is not None and expected != before:
            raise Conflict(f"alias '{alias}' of model '{model.name}' leads to {before or 'nothing'}, not {expected}")
        if alias == ARGMAX or alias in {each.name for each in model.points} | {each.name for each in model.broken}:
            raise Conflict(f"'{alias}' is the name of an operating point of model '{model.name}'; choose another")
        record = model.point(model.version(_version_of(model, reference, None)), reference)
        said = {"alias": alias, "from": before, "to": record.label, **_allow(record, asked)}
        return Change("set alias", _said(record, asked, said), aliases={alias: record.label})

    return decide


def without_alias(alias: str, asked: Asked) -> Decide:
    """Takes an alias away. The change raises: `UnknownAlias`."""

    def decide(model: Model) -> Change:
        before = model.aliases.get(alias)
        if before is None:
            known = ", ".join(model.aliases) or "none"
            raise UnknownAlias(f"model '{model.name}' has no alias {alias[:100]!r}, only {known}")
        said = {"alias": alias, "from": before, "to": None, "reason": asked.reason}
        return Change("drop alias", said, aliases={alias: None})

    return decide


def _version_of(model: Model, reference: str, told: int | None) -> int | None:
    """The model version of a reference that names one point; else the one told, None for the default's."""
    label = model.aliases.get(reference, reference)
    return model.exact(label).model_version if told is None and "@" in label else told


def _allow(record: PointRecord, asked: Asked) -> dict[str, Any]:
    """Whether a point may answer, and what the audit trail says of that. Raises: `Forbidden`, `BadEvidence`."""
    _check_eyes(record, asked)
    found = examine(record)
    strict = asked.approval == "four_eyes"
    against = found.against + (found.missing if strict else ())
    doubts = found.doubts + (() if strict else found.missing)
    if against and not asked.override:
        raise BadEvidence(
            f"the evidence of {record.label} speaks against it: {'; '.join(against)}. 'override': true with the reason "
            "lets it answer nevertheless, and is kept in the audit trail"
        )
    said: dict[str, Any] = {"overridden": list(against)} if against else {}
    return said | ({"warnings": list(doubts)} if doubts else {})


def _check_eyes(record: PointRecord, asked: Asked) -> None:
    if asked.approval == "off":
        return
    _check_somebody(asked.who)
    if asked.who == record.author:
        raise Forbidden(f"approval is four_eyes: {asked.who} published {record.label}, so somebody else must do this")


def _check_somebody(who: str) -> None:
    if who in RESERVED:
        raise Forbidden(
            f"approval is four_eyes, which tells people apart by the names of their API keys, and '{who}' is nobody in "
            "particular: call with a key, 'setpoint keys create' makes one"
        )


def _check_unused(model: Model, record: PointRecord, state: PointState) -> None:
    """A point that answers under the default or an alias must not stop to. Raises: `Conflict`."""
    if model.default.label == record.label:
        raise Conflict(f"{record.label} is the default of model '{model.name}': move the default before it is {state}")
    if led := [alias for alias, label in model.aliases.items() if label == record.label]:
        raise Conflict(f"alias '{led[0]}' leads to {record.label}: move it, or take it away, before it is {state}")


def _check_runs_beside(model: Model, record: PointRecord) -> None:
    """Raises `Conflict` where a shadow of another version could not be run on the rows of the default one."""
    default, own = model.version(None), model.versions[record.model_version]
    if own is default or own.graph is None or default.graph is None:
        return  # scores come with a call, which names the version
    if (why := model.why_not_beside(record)) is not None:
        raise Conflict(f"{record.label} cannot be a shadow of what the default version answers: {why}")


def _takes_over(model: Model, record: PointRecord, after: PointRecord) -> PointRecord | None:
    """The other point that the bare name leads to once a point is in another state; None where it leads to the same,
    or to nothing.
    """
    if model.answering(record.model_version, record.name) is not record or after.state == "approved":
        return None
    points = tuple(after if each is record else each for each in model.points)
    return replace(model, points=points).answering(record.model_version, record.name)


def _check_may_return(older: PointRecord, record: PointRecord, asked: Asked) -> None:
    """Raises `Forbidden` where who takes a point out of service may not let an older one answer in its place."""
    if not asked.may_approve:
        raise Forbidden(
            f"without {record.label} the name '{record.name}' leads to {older.label}: {asked.who} needs the scope "
            "'approve' for that"
        )
    _check_eyes(older, asked)


def _check_expected(model: Model, expected: str | None) -> None:
    if expected is not None and expected != model.default.label:
        raise Conflict(f"the default of model '{model.name}' is {model.default.label} by now, not {expected[:200]}")


def _said(record: PointRecord, asked: Asked, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "operating_point": record.label,
        **said,
        "reason": asked.reason,
        "evidence_digest": record.evidence_digest,
        "author": record.author,
        "approved_by": record.approved_by,
    }
