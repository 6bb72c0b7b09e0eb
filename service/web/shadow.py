"""What a shadow would have decided, as it was counted."""

from collections import Counter

from starlette.requests import Request

from service.domain import Model, PointRecord
from service.ports import ShadowCount
from service.web.life_schemas import ShadowHour, ShadowPair, ShadowReply
from service.web.state import parts


async def show_shadow(request: Request, model: str, point: str) -> ShadowReply:
    """How often a shadow would have decided as the point that answered: by pair of classes, and hour by hour."""
    service = parts(request)

    def run() -> ShadowReply:
        found = service.registry.model(model)
        record = found.find(point)
        counts = service.shadows.counts(model, record.label)
        return _reply(found, record, counts, *service.shadows.skipped(model, record.label))

    return await service.lanes.changes.run(run)


def _reply(model: Model, record: PointRecord, counts: list[ShadowCount], skipped: int, scores: int) -> ShadowReply:
    classes = model.versions[record.model_version].classes
    pairs, agree, differ = Counter[tuple[str, int, int]](), Counter[str](), Counter[str]()
    for count in counts:
        pairs[count.answered_by, count.answered, count.would] += count.rows
        (agree if count.answered == count.would else differ)[count.hour.isoformat()] += count.rows
    return ShadowReply(
        operating_point=record.label,
        state=record.state,
        rows=agree.total() + differ.total(),
        agree=agree.total(),
        differ=differ.total(),
        skipped=skipped,
        without_inputs=scores,
        not_run=_not_run(model, record),
        pairs=[
            ShadowPair(answered_by=by, answered=classes[answered], shadow=classes[would], rows=rows)
            for (by, answered, would), rows in pairs.most_common()
        ],
        hours=[
            ShadowHour.model_validate({"hour": hour, "agree": agree[hour], "differ": differ[hour]})
            for hour in dict.fromkeys(count.hour.isoformat() for count in counts)
        ],
    )


def _not_run(model: Model, record: PointRecord) -> str | None:
    """Why rows that the default version answers are not counted; None where they are."""
    if record.state != "shadow" or record.model_version == model.default.model_version:
        return None
    return model.why_not_beside(record)
