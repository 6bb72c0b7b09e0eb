"""Decisions out of the log: `GET /decisions?request_id=...`."""

from starlette.requests import Request
from starlette.responses import Response

from service.errors import BadRequest
from service.web.bodies import answer
from service.web.schemas import DecisionReply
from service.web.state import parts, principal


async def show_decisions(request: Request, request_id: str, first_row: int = 0, limit: int = 1000) -> Response:
    """What was decided in a request, row by row from `first_row` on, and by which point: `evidence` is the address of
    the point with all that is known of it.
    """
    if not 1 <= limit <= 1000 or first_row < 0:
        raise BadRequest(f"limit must be from 1 to 1000 and first_row 0 or more, got {limit} and {first_row}"[:200])
    service, who = parts(request), principal(request)

    def run() -> Response:
        found = service.kept_decisions.of_request(request_id[:100], who.models, first_row, limit)
        replies = [
            DecisionReply(**vars(each), evidence=f"/models/{each.model}/operating-points/{each.point}")
            for each in found
        ]
        return answer(replies, list[DecisionReply])

    return await service.lanes.changes.run(run)
