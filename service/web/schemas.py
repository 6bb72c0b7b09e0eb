"""What goes over the wire, as types: requests that are small are checked by them, and the OpenAPI document shows all.

Arrays are read by hand (`tensors`); the types of requests that carry them are documentation, held to what the routes do
by the tests.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from calibrate.uncertainty import Kind

# The pattern is told, not checked here: the domain's own check says more.
_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
Name = Annotated[StrictStr, Field(json_schema_extra={"pattern": _PATTERN}, examples=["thyroid"])]
Matrix = list[list[float]]
Scores = Matrix | list[float] | list[dict[str, float]] | dict[str, list[float]] | None
# JSON has no infinity: a text "inf" taken for a number would be stored as null, which nobody could read back.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

Override = Annotated[
    StrictBool, Field(description="Also where the point's own evidence speaks against it; the reason is kept.")
]
AllowOtherModel = Annotated[
    StrictBool, Field(description="Also where the rows were made by another model file; the audit trail keeps it.")
]
State = Literal["draft", "shadow", "approved", "retired"]
ByClass = Number | list[Number] | dict[str, Number]


class Wire(BaseModel):
    """Unknown fields are refused: a typing error must not pass as an option left out."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class NearestReply(BaseModel):
    """How near a constraint comes: the value reached at `cut`, `alone` or while the others hold."""

    constraint: str
    value: Number | None
    cut: Number | None
    alone: bool
    needed: int | None = Field(None, description="Of a constraint with a confidence: the fewest that could certify it.")
    there: int | None = Field(None, description="How many there are.")
    unit: str | None = Field(None, description="Of what.")
    certifiable: Number | None = Field(None, description="The best bound that they can certify.")


class Problem(BaseModel):
    """An error (RFC 9457). `type` names the fact, `detail` says what was wanted, what came and which item."""

    type: str = Field(examples=["urn:setpoint:problem:unknown-point"])
    title: str
    status: int
    detail: str
    request_id: str
    nearest: list[NearestReply] | None = Field(None, description="Of `infeasible`: how near each constraint comes.")


class PredictRequest(Wire):
    """Rows, as exactly one of `inputs`, `features`, `logits`, `probabilities` and `margins`, and the operating point
    that decides them.
    """

    model: Name
    model_version: int | None = Field(None, description="The default version where it is left out.")
    inputs: list[Any] | dict[str, Any] | None = Field(
        None,
        description="Rows: lists of numbers in the model's order; records, or one record, of its described columns or "
        "of its inputs; or an object of columns or of inputs. Names in any order, a category as its text or its code; "
        "null is a missing value.",
    )
    features: Matrix | None = Field(None, description="Rows of last-layer features, for a model with a linear head.")
    logits: Scores = Field(
        None,
        description="Rows of logits in the order of the classes, or by class name; one logit a row for two classes.",
    )
    probabilities: Scores = Field(
        None, description="The same as probabilities; one a row is that of the second of two classes."
    )
    margins: list[float] | None = Field(None, description="The log-odds of the second of two classes, one a row.")
    operating_point: str | list[str] | None = Field(
        None,
        description="`name` (its latest approved version), `name@version` or an alias, or a list with one per row; "
        "else the default.",
    )
    compare: list[str] = Field(
        [],
        description="Up to 100 points whose labels are given beside; drafts and shadows too. Those of another version "
        "(`name@version`, an alias) or model (`model/point`) that takes the same inputs run on them too.",
    )
    priority: int = Field(
        0, ge=0, le=1000, description="Whose turn it is where calls wait: 1 is the most urgent, 0 the same as 100."
    )
    timeout_ms: float | None = Field(
        None, gt=0, le=3_600_000, description="How long the call waits for its run of the model; then it is 504."
    )


class Prediction(BaseModel):
    """One decided row."""

    label: str
    probabilities: list[float] = Field(description="The model's own, one per class: what may be read as a risk.")
    adjusted: list[float] = Field(description="What the decision rule saw: after scale and bias.")
    margin: float = Field(
        description="How far the decision is from flipping, in adjusted log-odds: towards the second of two classes, "
        "above 0 where it is decided; winner minus runner-up otherwise."
    )


class PredictReply(BaseModel):
    """Decisions, and the version and point that made them."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    model_version: int
    operating_point: str | list[str] = Field(description="`name@version`, or a list with one per row.")
    classes: list[str]
    predictions: list[Prediction]
    compare: dict[str, list[str]] | None = Field(None, description="For each point in `compare`, a label per row.")
    request_id: str


class ScoreColumns(Wire):
    """Which columns of an uploaded table hold what: a CSV or Parquet file with any names."""

    scores: StrictStr | list[StrictStr] = Field(
        description="The column of scores of the second of two classes, or one column per class: named by the classes "
        "in any order, else in their order."
    )
    labels: StrictStr = Field(description="The column of labels: class names, or 0 and 1.")
    scores_are: Literal["probabilities", "logits", "margins"] = Field(description="Margins are log-odds, one a row.")
    decimal: Literal[".", ","] | None = Field(
        None, description="The decimal mark; taken from the numbers where they leave no doubt."
    )


class CalibrateSpec(Wire):
    """What to fit and how to publish it."""

    model: Name
    name: Name = Field(description="The point's name; it gets the next version of that name.")
    metric: StrictStr = Field(
        max_length=1000, examples=["f1", "recall[sick]", "cost(fp=1, fn=50)", "2*tp/(2*tp + fp + 3*fn)"]
    )
    constraints: list[StrictStr] = Field(
        [],
        max_length=20,
        examples=[["recall >= 0.9", "alerts <= 200 per 100000"], ["recall >= 0.9 @ 95%"]],
        description="What must hold too; with a confidence behind it, for new rows.",
    )
    method: StrictStr = "bias_adjustment"
    search: StrictStr | None = Field(
        None,
        min_length=1,
        description="For bias_adjustment: exact, committee, nonempty, bagged, smoothed, expected, decimal; else auto.",
    )
    digits: StrictInt | None = Field(None, description="For search decimal: 1 to 6, else 3.")
    tau: StrictFloat | None = Field(None, description="For logit_adjustment; fitted for the metric where left out.")
    positive: StrictStr | None = Field(None, description="The positive class; of two the second where left out.")
    prior: list[StrictFloat] | None = Field(
        None, description="Training class frequencies; else the data's, the model's."
    )
    prevalence: ByClass | None = Field(
        None,
        description="Class frequencies where the point will be used, by class or in order; of two classes also the "
        "share of the positive one.",
    )
    negatives_kept: ByClass | None = Field(
        None, description="The rate at which training kept the rows of each class; of two also that of the negatives."
    )
    class_weights: dict[str, Number] | list[Number] | None = Field(
        None, description="The weight of each class in the training loss."
    )
    cost_matrix: list[list[Number]] | None = Field(
        None, description="For mean_cost and minimum_risk: a row for each decision, a column for each true class."
    )
    calibration: StrictStr | None = Field(
        None,
        description="A calibration map before the method (temperature, bias_corrected_temperature, platt, "
        "vector_scaling, or auto), kept only where cross-fitted log loss gains.",
    )
    model_version: StrictInt | None = None
    columns: ScoreColumns | None = Field(
        None, description="Of an uploaded table of scores, which columns hold what; a feature cache needs none."
    )
    make_default: StrictBool = Field(
        False, description="Make it the default in the same step; needs the scope `approve`, not with four eyes."
    )
    reason: str = Field("", max_length=1000, description="Why the default moves, for the audit trail.")
    override: Override = False
    allow_other_model: AllowOtherModel = False


class CalibrateData(Wire):
    """Rows with labels, as exactly one of `inputs`, `features`, `logits`, `probabilities` and `margins`."""

    labels: list[str] | list[int]
    features: Matrix | None = None
    logits: Scores = None
    probabilities: Scores = Field(None, description="As those of `POST /predict`.")
    margins: list[float] | None = Field(None, description="As those of `POST /predict`.")
    inputs: list[Any] | dict[str, list[Any]] | None = Field(None, description="As those of `POST /predict`.")
    classes: list[str] | None = Field(None, description="Where given, they must be the model's, in its order.")
    sample_weight: list[float] | None = Field(None, description="For how many rows each row stands.")
    cost_fp: list[float] | None = Field(None, description="What a false alarm on each row costs.")
    cost_fn: list[float] | None = Field(None, description="What a miss on each row costs.")
    group: list[str] | list[int] | None = Field(
        None, description="Rows with the same entry belong together (one card, one patient) and count as one."
    )


class CalibrateRequest(CalibrateSpec):
    """The spec with its data."""

    data: CalibrateData


class CertifiedInterval(BaseModel):
    """The measured share and the range that is certified for it; `confidence` is null where it holds on average."""

    value: Number | None
    low: Number
    high: Number
    confidence: Number | None
    rows: StrictInt
    kind: Literal["certified", "submitted"]


class Interval(BaseModel):
    """A measured number with its pointwise interval; null where undefined.

    `kind` says what it is about and which rows it comes from: this point on rows that did not fit it (`held_out`) or on
    its fitting rows, corrected for the optimism of having chosen it on them (`optimism_corrected`) or within
    simultaneous bands (`simultaneous`); the procedure that chose it (`cross_fitted`); a guarantee (`certified`); or
    from outside (`submitted`).
    """

    value: Number | None
    low: Number | None
    high: Number | None
    confidence: Number
    rows: StrictInt
    kind: Kind


class GuaranteeReply(BaseModel):
    """A promise about new rows, with a confidence or on average; `rule` made it, on `rows` trials of a kind `unit`."""

    constraint: str
    metric: str
    at_least: bool
    bound: Number
    kind: Literal["confidence", "average"]
    confidence: Number | None
    rule: Literal["order statistic", "learn then test"]
    unit: Literal["rows", "groups"]
    rows: StrictInt
    errors_allowed: StrictInt
    errors_seen: StrictInt
    value: Number | None
    held_together: Number | None = Field(description="The confidence with which all guarantees hold at once.")
    interval: CertifiedInterval


class Point(Wire):
    """The decision rule `argmax(q)` of `q = softmax(scale * logits + bias)`; with a weight and an offset
    `argmax(weight * q + offset)`, with costs `argmin(cost @ q)`.
    """

    classes: list[StrictStr]
    scale: list[Number]
    bias: list[Number]
    weight: list[Number] | None = None
    offset: list[Number] | None = None
    cost: list[list[Number]] | None = Field(None, description="A row for each decision, a column for each true class.")


class MapTrial(BaseModel):
    """What a calibration map gains in cross-fitted log loss per row."""

    name: str
    gain: Number
    standard_error: Number


class MapReply(BaseModel):
    """The calibration map `scale * logits + bias` that a point contains, null where none was kept, and what was tried.
    The `probabilities` of a prediction are the softmax of the mapped logits.
    """

    name: StrictStr | None
    scale: list[Number] | None
    bias: list[Number] | None
    trials: list[MapTrial] = []


class PointDetails(BaseModel):
    """What a fit says of a point beside the point itself; more than is listed here may come along."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    method: str = "submitted"
    metric: str | None = None
    constraints: list[StrictStr] = Field([], max_length=100, description="The bounds that the metric was fitted under.")
    positive: StrictStr | None = Field(
        None, description="The class that unqualified metrics are of; of two classes the second unless named."
    )
    evidence: dict[str, Interval] = Field({}, description="What this very point achieves.")
    before: dict[str, Interval] = Field({}, description="The plain model (argmax) on the same rows.")
    gain: dict[str, Interval] = Field(
        {}, description="How much better the point is than the plain model on the same rows; above 0 is better."
    )
    procedure: dict[str, Interval] = Field(
        {}, description="What the procedure that chose the point gives, cross-fitted; not about this very point."
    )
    model_scores: dict[str, Interval | Number | None] = Field(
        {}, description="What no point changes: ROC AUC and the like; a bare number where it came without an interval."
    )
    prevalence: list[Number] | None = Field(None, description="The class frequencies that all of these are told for.")
    survives: list[StrictStr] = Field([], description="Metrics whose promise holds at any prevalence.")
    mis_before: list[Number] | None = Field(None, description="Mean predicted probability per class without the point.")
    mis_after: list[Number] | None = None
    calibration: MapReply | None = None
    guarantees: list[GuaranteeReply] = Field([], max_length=100)
    warnings: list[str] = []


class PointReply(PointDetails):
    """A published operating point: the rule, where it came from and what it achieved."""

    model: str
    model_version: int
    name: str
    version: int
    operating_point: str = Field(description="`name@version`.")
    fitted_for: str | None = Field(description="The metric, its constraints and the prevalence, in words.")
    state: State = Field(description="Only an approved point answers.")
    because: str = Field(description="The reason that was given for its state.")
    author: str = Field(description="Who published it.")
    approved_by: str | None = Field(description="Who approved it; null where it was approved as it was published.")
    aliases: list[str] = Field(description="Other names that lead to it.")
    is_default: bool
    point: Point
    digest: str
    model_digest: str = Field(description="SHA-256 of the model file that it was made for.")
    evidence_digest: str = Field(description="SHA-256 over the point and all that is said for it.")
    threshold: float | None = Field(description="The same rule on the second class's probability, of two classes.")
    created_at: datetime


class ProgressReply(BaseModel):
    """How far a calibration is: a stage, the rows once they are known, and what is done of a total where it counts."""

    stage: Literal["starting", "reading", "logits", "fitting", "evidence", "scores", "curve", "publishing"]
    rows: int | None = None
    done: int | None = None
    total: int | None = None


class JobReply(BaseModel):
    """A calibration as a job."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    model: str
    model_version: int
    name: str = Field(description="The name that the point gets.")
    metric: str
    constraints: list[str]
    positive: str | None = Field(description="The positive class, where it was named.")
    fitted_for: str = Field(description="The metric, its constraints and the prevalence, in words.")
    principal: str = Field(description="Who asked for it.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int = Field(description="How often it was begun; after three times it has failed.")
    cancel_asked: bool
    data_digest: str = Field(description="SHA-256 of the data as it came in.")
    progress: ProgressReply | None
    operating_point: str | None = Field(description="`name@version`, once it is done.")
    result: PointReply | None = Field(description="The point, once it is done; not in a list.")
    error: Problem | None = Field(description="What stood in the way, once it has failed; not in a list.")


class CurveReply(BaseModel):
    """The trade-off curve of a point's fitting rows: every metric at the cuts that matter, from no alert to all.

    `columns` has `margin` and `threshold` of the cut, `tp fp fn tn` as rows by weight, each metric, and for those that
    have bands `... low` and `... high`, which hold at all cuts at once with this confidence; null where undefined.
    `best` is the place of the best cut of each metric. The cuts are on the model's own logits, without a calibration
    map.
    """

    operating_point: str
    positive: str
    prevalence: Number
    confidence: Number
    rows: int
    best: dict[str, int]
    columns: dict[str, list[Number | None]]


_Measured = Annotated[str, Field(max_length=200)]


class SubmittedDetails(PointDetails):
    """What may be said of a point that was fitted elsewhere."""

    evidence: dict[_Measured, Interval] = {}
    before: dict[_Measured, Interval] = {}
    gain: dict[_Measured, Interval] = {}
    procedure: dict[_Measured, Interval] = {}
    model_scores: dict[_Measured, Interval | Number | None] = {}
    model_digest: StrictStr | None = Field(
        None, max_length=100, description="SHA-256 of the model file that made the fitting rows; null where unknown."
    )


class PublishRequest(Wire):
    """A point fitted elsewhere, with what a fit said of it; its evidence will be marked `submitted`."""

    name: Name
    point: Point
    model_version: StrictInt | None = None
    model_digest: StrictStr | None = Field(
        None, max_length=100, description="SHA-256 of the model file it was fitted on; refused where it is another."
    )
    allow_other_model: AllowOtherModel = False
    details: SubmittedDetails = Field(
        SubmittedDetails(), description="What `FitResult.to_dict` holds beside the point."
    )


class DefaultReply(BaseModel):
    """What answers when a request names nothing."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    model_version: int
    operating_point: str


class InputReply(BaseModel):
    """An input of a model; null in `shape` is a free length, the first one the rows."""

    name: str
    dtype: str
    shape: list[int | None]


class ColumnReply(BaseModel):
    """One column of a row, as the model's trainer described it."""

    name: str
    kind: Literal["number", "category"]
    missing: str = Field(description="What the model makes of null.")
    codes: dict[str, float] = {}


class HeadReply(BaseModel):
    """The linear last layer that was found in the graph."""

    features: str
    logits: str
    width: int = Field(description="The number of features.")


class VersionReply(BaseModel):
    """A version of a model."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    model_version: int
    is_default: bool
    kind: Literal["onnx", "scores"] = Field(
        description="`scores` of a version that is registered by its classes alone: it takes `logits` only."
    )
    digest: str = Field(description="SHA-256 of the file; of `scores`, of the classes.")
    size_bytes: int
    inputs: list[InputReply]
    columns: list[ColumnReply] = Field(description="How to write a row, where the model says so.")
    notes: list[str]
    classes: list[str]
    prior: list[float] | None
    head: HeadReply | None = Field(description="Null where there is none: then all but `features` works.")
    output: str | None = Field(description="Null of `scores`.")
    output_kind: Literal["logits", "probabilities"] | None
    provider: str | None = Field(description="What it really runs on; null before it was loaded, and of `scores`.")
    depends_on_batch: bool | None = Field(
        description="Whether a row's answer depends on the other rows of its batch, so that each row is run by itself; "
        "null where that is not known: registered before it was looked at, too slow or not to be run on drawn rows, or "
        "of `scores`."
    )
    is_random: bool = Field(description="Whether answers depend on chance or on earlier runs: see `allow_random`.")
    warnings: list[str] = Field(description="What to know of this version's answers; its points repeat it.")
    created_at: datetime


class ModelReply(BaseModel):
    """A model with its versions, its default and the names of its points."""

    name: str
    default: DefaultReply
    versions: list[VersionReply]
    operating_points: list[str] = Field(description="All of them, in any state.")
    aliases: dict[str, str] = Field(description="Other names, with the `name@version` that each leads to.")


class RegisterRequest(Wire):
    """A model by its classes alone, in the order of its scores."""

    name: Name
    classes: list[StrictStr]
    prior: list[Number] | None = Field(None, description="The class frequencies the model was trained under.")


class RegisterForm(BaseModel):
    """An ONNX file and what it does not say itself; without a file, a model by its classes alone."""

    file: Annotated[
        str | None, Field(json_schema_extra={"format": "binary"}, description="One self-contained ONNX file.")
    ] = None
    name: Name
    classes: str | None = Field(
        None, description="JSON list of names, in the order of the logits. Needed where there is no file."
    )
    prior: str | None = Field(None, description="JSON list: the class frequencies the model was trained under.")
    output: str | None = Field(None, description="The output to use, where no linear head can be found.")
    output_kind: Literal["logits", "probabilities"] | None = None
    columns: str | None = Field(
        None,
        description="JSON list: the columns of the one input in its order, as names, or as objects with `name`, "
        "`kind` (number, category), `missing` and `codes`. Rows are then matched by name.",
    )
    allow_random: bool = Field(
        False, description="Also a model that answers at random, as with dropout left on; the audit trail keeps it."
    )


class CalibrateForm(BaseModel):
    """The spec as JSON and the data as a feature cache."""

    spec: str = Field(description="A `CalibrateSpec` as JSON.")
    data: Annotated[
        str,
        Field(
            json_schema_extra={"format": "binary"},
            description="A feature cache: .npz, Parquet, Arrow, CSV; or a table of scores and labels, whose columns "
            "the spec names.",
        ),
    ]


class AuditReply(BaseModel):
    """Who changed what, when, and why; its number in the trail, and its hash, which the next entry holds on to."""

    at: datetime
    actor: str
    action: str
    model: str
    details: dict[str, Any]
    number: int
    hash: str


class AuditHeadReply(BaseModel):
    """The number and the hash of the newest entry; of an empty trail 0 and zeros."""

    number: int
    hash: str


class DecisionReply(BaseModel):
    """One row that was decided: by which point of which model, for whom and when; `input_digest` is of the row, and
    `evidence` the address of the point with all that is known of it.
    """

    request_id: str
    row: int
    at: datetime
    model: str
    model_version: int
    model_digest: str
    point: str
    point_digest: str
    label: str
    margin: float | None
    principal: str
    input_digest: str
    number: int = Field(description="Its place in the log.")
    evidence: str


class HealthReply(BaseModel):
    """Alive, or ready, and if not why not."""

    status: Literal["ok", "not ready"]
    reasons: list[str] = []
    providers: dict[str, str] = {}
