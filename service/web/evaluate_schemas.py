"""What goes over the wire about points on new rows, as types."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from service.web.schemas import AllowOtherModel, CalibrateData, Interval, Number, ScoreColumns, State, Wire

Holds = Literal["yes", "no", "unsure"]


class EvaluateSpec(Wire):
    """Which points to measure on the rows."""

    points: list[StrictStr] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="`name`, `name@version` or alias, in any state; all that are not retired where it is left out.",
        examples=[["screening", "argmax"]],
    )
    metrics: list[Annotated[StrictStr, Field(max_length=1000)]] = Field(
        [], max_length=20, description="Beside the usual ones, and those that the points were fitted for."
    )
    positive: StrictStr | None = Field(None, description="Positive class of the usual metrics; else each point's.")
    model_version: StrictInt | None = Field(None, description="The points' own, else the default version.")
    allow_other_model: AllowOtherModel = False
    columns: ScoreColumns | None = Field(
        None, description="Of an uploaded table of scores, which columns hold what; a feature cache needs none."
    )


class EvaluateRequest(EvaluateSpec):
    """The spec with its data."""

    data: CalibrateData


class EvaluateForm(BaseModel):
    """The spec as JSON and the data as a feature cache."""

    spec: str = Field(description="An `EvaluateSpec` as JSON; `{}` for every point.")
    data: Annotated[
        str, Field(json_schema_extra={"format": "binary"}, description="A feature cache: .npz, Parquet, Arrow, CSV.")
    ]


class ClassRows(BaseModel):
    """How many rows a class has, and its share with a 95 % interval; null for weighted and grouped rows."""

    name: str
    rows: int
    share: Number
    low: Number | None
    high: Number | None


class BoundReply(BaseModel):
    """A constraint that a point was fitted under, at the prevalence that the point was fitted for.

    It holds where the whole interval keeps the bound, and is broken where none of it does.
    """

    constraint: str
    metric: str
    at_least: bool
    bound: Number
    measured: Interval
    at_fit: Interval | None = Field(description="The same in the evidence of the fit.")
    holds: Holds


class EvaluatedReply(BaseModel):
    """A point on these rows."""

    operating_point: str = Field(description="`name@version`.")
    state: State
    is_default: bool
    fitted_for: str | None = Field(description="The metric and the constraints it was fitted for.")
    metric: str | None
    positive: str | None
    prevalence: list[Number] | None
    measured: dict[str, Interval]
    argmax: dict[str, Interval] = Field(description="The plain model on the same rows.")
    gain: dict[str, Interval] = Field(description="How much better than the plain model, paired; above 0 is better.")
    at_fit: Interval | None = Field(description="Its own metric in the evidence of the fit.")
    bounds: list[BoundReply]
    holds: Holds | None = Field(description="All bounds together; null where it has none.")
    fitted_on_these_rows: bool = Field(description="These rows chose the point and flatter it.")
    warnings: list[str]


class EvaluateReply(BaseModel):
    """Points of a model version on labelled rows that did not fit them."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    model_version: int
    rows: int
    data_digest: str
    classes: list[ClassRows]
    points: list[EvaluatedReply]
    warnings: list[str]
