"""Decisions out of the log: `GET /decisions?request_id=...`."""

from starlette.requests import Request
from starlette.responses import Response

from service.domain import DecisionPage
from service.errors import BadRequest
from service.web.bodies import answer
from service.web.schemas import DecisionReply
from service.web.state import parts
from service.web.state import principal as caller

_LARGEST = {"first_row": 2**31 - 1, "after": 2**63 - 1}  # that their columns take


async def show_decisions(
    request: Request,
    request_id: str,
    first_row: int = 0,
    after: int = 0,
    limit: int = 1000,
    principal: str | None = None,
) -> Response:
    """What was decided in a request, row by row from `first_row` on, and by which point: `evidence` is the address of
    the point with all that is known of it.

    Callers may give their requests the same id: `principal` tells of one caller alone. The next page begins with
    `first_row` and `after` as `row` and `number` of the last entry of this one.
    """
    if not 1 <= limit <= 1000:
        raise BadRequest(f"limit must be from 1 to 1000, got {str(limit)[:100]}")
    for name, number in (("first_row", first_row), ("after", after)):
        if not 0 <= number <= _LARGEST[name]:
            raise BadRequest(f"{name} must be from 0 to {_LARGEST[name]}, got {str(number)[:100]}")
    service, who = parts(request), caller(request)
    page = DecisionPage(request_id[:100], first_row, after, limit, principal)

    def run() -> Response:
        replies = [
            DecisionReply(**vars(each), number=number, evidence=f"/models/{each.model}/operating-points/{each.point}")
            for number, each in service.kept_decisions.of_request(page, who.models)
        ]
        return answer(replies, list[DecisionReply])

    return await service.lanes.changes.run(run)
