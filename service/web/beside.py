"""Compared points of other model versions, which run on the same rows.

Decided here: a version of another model, or another version of the same one, decides the rows of a call where it takes
the same inputs and has the same classes; else the call is refused with the difference, because a column in another
place, or a class under another index, would be compared in silence.
"""

from collections.abc import Sequence
from typing import NamedTuple

from service.domain import Model, ModelVersion, PointRecord, Principal
from service.errors import BadRequest, TooLarge
from service.inference import Rows
from service.registry import Registry

MAX_VERSIONS = 8  # of a call, beside the one that answers: each is a run of a model


class Beside(NamedTuple):
    """A point of another version, as the call refers to it."""

    reference: str
    version: ModelVersion
    record: PointRecord


def find_beside(
    references: Sequence[str], model: Model, version: ModelVersion, registry: Registry, who: Principal, rows: Rows
) -> Sequence[Beside]:
    """Those of the compared points that are of other versions: a `name@version` or an alias of this model, or
    `model/point`, where a bare name is of that model's default version.

    Raises: `BadRequest` where the rows are no inputs, or those of the other version or its classes differ; `TooLarge`,
    `Forbidden`, `UnknownModel`, `UnknownPoint`, `NotApproved`.
    """
    found: list[Beside] = []
    for reference in references:
        name, slash, rest = reference.rpartition("/")
        if slash:
            who.check_model(name)
        owner = registry.model(name) if slash else model
        record = owner.elsewhere(version, rest) if owner is model else _record(owner, rest)
        if record is None:
            if slash:
                raise BadRequest(
                    f"compare {reference[:200]!r}: {version.shown} answers this call itself; name its points without "
                    "the model, and those of its other versions as name@version"
                )
            continue
        other = owner.versions[record.model_version]
        record = owner.compared(other, record.label)
        if (why := version.why_apart(other)) is not None:
            raise BadRequest(f"compare {reference[:200]!r} cannot decide rows of {version.shown}: {why}")
        if rows.inputs is None:
            raise BadRequest(
                f"compare {reference[:200]!r} is of {other.shown}, which has to be run on the rows: send inputs, not "
                "features or logits"
            )
        found.append(Beside(reference, other, record))
    versions = {(each.version.model, each.version.version) for each in found}
    if len(versions) > MAX_VERSIONS:
        raise TooLarge(f"a call may compare at most {MAX_VERSIONS} other versions, got {len(versions)}")
    return found


def _record(owner: Model, reference: str) -> PointRecord:
    """The point of another model: any version's by `name@version` or alias, else the default version's."""
    exact = owner.aliases.get(reference, reference)
    return owner.exact(exact) if "@" in exact else owner.compared(owner.version(None), reference)
