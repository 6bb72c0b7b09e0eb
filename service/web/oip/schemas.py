"""What goes over the wire under `/v2`, as types: documentation alone, held to what the routes do by the tests."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Parameter = str | int | float | bool
Parameters = Annotated[dict[str, Parameter] | None, Field(None)]
Data = Annotated[list[Any], Field(description="Row by row, flat or nested; null is a missing value of FP32 and FP64.")]


class OipWire(BaseModel):
    """Fields that are not known are passed over."""

    model_config = ConfigDict(protected_namespaces=())


class OipError(OipWire):
    """An error under `/v2`."""

    error: str


class OipServer(OipWire):
    """The server and the extensions that it has."""

    name: str
    version: str
    extensions: list[str]


class OipLive(OipWire):
    """The process answers."""

    live: bool


class OipReady(OipWire):
    """Whether it is ready for requests, and if not why."""

    ready: bool
    live: bool | None = None
    name: str | None = None
    version: str | None = None
    error: str | None = None


class OipModels(OipWire):
    """The names of the models."""

    models: list[str]


class OipPort(OipWire):
    """A tensor of a model; -1 is a free length."""

    name: str
    datatype: str
    shape: list[int]


class OipModel(OipWire):
    """A model version's tensors. `properties`: `classes` and `operating_points` are JSON lists, the latter in the order
    of the indices that the input `operating_point` takes; `default_operating_point`; `model_digest`; `provider` is
    what it really runs on.
    """

    name: str
    versions: list[str]
    platform: str
    inputs: list[OipPort]
    outputs: list[OipPort]
    properties: dict[str, str]


class OipConfigPort(OipWire):
    """A tensor without its axis of rows."""

    name: str
    data_type: str
    dims: list[int]
    reshape: dict[str, list[int]] | None = None


class OipConfig(OipWire):
    """A model version as Triton's configuration."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, Any]
    max_batch_size: int
    input: list[OipConfigPort]
    output: list[OipConfigPort]
    parameters: dict[str, dict[str, str]]


class OipInput(OipWire):
    """An input, its numbers in `data` or behind the JSON with the parameter `binary_data_size`."""

    name: str
    datatype: str = Field(examples=["FP32"])
    shape: list[int]
    parameters: Parameters
    data: Data | None = None


class OipWanted(OipWire):
    """An output that is asked for; its parameters may be `binary_data` and `classification`."""

    name: str = Field(examples=["label"])
    parameters: Parameters


class OipRequest(OipWire):
    """Rows to decide. Parameters: `operating_point` (`name` or `name@version`), `binary_data_output`, `priority`,
    `timeout` in microseconds; others are passed over. An input `operating_point` names one point a row.
    """

    id: str | None = None
    parameters: Parameters
    inputs: list[OipInput]
    outputs: list[OipWanted] | None = None


class OipOutput(OipWire):
    """A tensor of the answer, its numbers in `data` or behind the JSON with the parameter `binary_data_size`."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters
    data: Data | None = None


class OipReply(OipWire):
    """Decisions; the parameter `operating_point` is the point that answered, several are set apart by commas."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Parameter]
    outputs: list[OipOutput]


class OipCount(OipWire):
    """How often, and how many nanoseconds in all."""

    count: int
    ns: int


class OipBatch(OipWire):
    """The requests of one number of rows."""

    batch_size: int
    compute_input: OipCount
    compute_infer: OipCount
    compute_output: OipCount


class OipModelStatistics(OipWire):
    """Counts of a model version since the server started; `last_inference` is in milliseconds since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int = Field(description="Rows.")
    execution_count: int
    inference_stats: dict[str, OipCount]
    batch_stats: list[OipBatch]
    memory_usage: list[dict[str, Any]]


class OipStatistics(OipWire):
    """Counts of model versions."""

    model_stats: list[OipModelStatistics]


class OipIndexRequest(OipWire):
    """May be left out."""

    ready: bool = False


class OipIndexItem(OipWire):
    """A model version in the repository."""

    name: str
    version: str
    state: str = Field(examples=["READY", "UNAVAILABLE"])
    reason: str


class OipLoadRequest(OipWire):
    """May be left out; no parameter is taken."""

    parameters: Parameters


class OipUnloadRequest(OipWire):
    """May be left out."""

    parameters: Parameters


class OipLoaded(OipWire):
    """The model is in memory."""

    name: str
    load: bool
