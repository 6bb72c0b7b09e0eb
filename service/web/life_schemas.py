"""What goes over the wire about the life of a point, as types."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from service.web.schemas import DefaultReply, Override, State, Wire

Reason = Annotated[StrictStr, Field(min_length=1, max_length=1000, description="Why, for the audit trail.")]


class DefaultRequest(Wire):
    """The version and the point that answer when a request names neither: both move in one step."""

    model_version: StrictInt | None = Field(
        None, description="The point's own where it is `name@version` or an alias, else the default's."
    )
    operating_point: StrictStr = Field(description="`name` (its latest approved version), `name@version` or an alias.")
    reason: Reason
    expected: StrictStr | None = Field(None, description="The default as you know it; 409 where it has moved since.")
    override: Override = False


class RollbackRequest(Wire):
    """Why the default goes back to what it was before."""

    reason: Reason
    expected: StrictStr | None = Field(None, description="The default as you know it; 409 where it has moved since.")


class StateRequest(Wire):
    """Why a point's state changes."""

    reason: Reason


class ApproveRequest(StateRequest):
    """Why a point may answer."""

    override: Override = False


class AliasRequest(Wire):
    """Where an alias leads to."""

    operating_point: StrictStr = Field(description="`name` (its latest approved version now) or `name@version`.")
    reason: Reason
    expected: StrictStr | None = Field(None, description="Where it leads as you know it; 409 where that has changed.")
    override: Override = False


class AliasReply(BaseModel):
    """Another name for a point."""

    model_config = ConfigDict(protected_namespaces=())

    alias: str
    operating_point: str = Field(description="`name@version`.")
    model_version: int


class MovedReply(DefaultReply):
    """The default, and where a rollback would lead."""

    previous: DefaultReply | None = Field(description="What a rollback goes back to; null where nothing was before.")
    warnings: list[str] = Field([], description="What the point's own evidence says against it.")


class ShadowPair(BaseModel):
    """Rows that one point answered with one class, and the shadow would have with another, or the same."""

    answered_by: str = Field(description="`name@version`.")
    answered: str
    shadow: str
    rows: int


class ShadowHour(BaseModel):
    """The rows of one hour."""

    hour: datetime
    agree: int
    differ: int


class ShadowReply(BaseModel):
    """What a shadow would have decided on the rows that others answered, of all servers on this store."""

    operating_point: str
    state: State
    rows: int
    agree: int
    differ: int
    skipped: int = Field(
        description="Rows that this server did not count since it started: too many at once, a model that failed, or "
        "`without_inputs`."
    )
    without_inputs: int = Field(
        description="Of those, rows that came as features or logits, so a shadow of another version could not run them."
    )
    not_run: str | None = Field(
        description="Why rows that the default version answers are not run through the version of this shadow."
    )
    pairs: list[ShadowPair]
    hours: list[ShadowHour]
