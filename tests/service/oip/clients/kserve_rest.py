"""What kserve's `InferenceRESTClient` can call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from httpx import HTTPStatusError
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.service.oip.clients.checks import Served, run


def request(served: Served, *, binary: bool = False, **more: Any) -> InferRequest:
    """A request for the model."""
    x = InferInput("x", list(served.x.shape), "FP32")
    x.set_data_from_numpy(served.x, binary_data=binary)
    return InferRequest("fraud", [x], **more)


def within(work: Callable[[InferenceRESTClient], Awaitable[None]]) -> None:
    """Runs the work with a client."""

    async def main() -> None:
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
            await work(client)

    asyncio.run(main())


def agrees(response: Any, served: Served) -> None:
    """Labels and numbers are the model's."""
    found = {output.name: output.as_numpy() for output in response.outputs}
    words = [word if isinstance(word, bytes) else str(word).encode() for word in found["label"].tolist()]
    assert words == served.labels, words
    assert np.allclose(found["probabilities"], served.probabilities, atol=1e-5)


def check_health(served: Served) -> None:
    """It reads fields of the answers."""

    async def work(c: InferenceRESTClient) -> None:
        url = f"http://{served.address}"
        assert await c.is_server_live(url) is True
        assert await c.is_server_ready(url) is True
        assert await c.is_model_ready(url, "fraud") is True
        assert await c.is_model_ready(url, "nope") is False

    within(work)


def check_infer(served: Served) -> None:
    """JSON and binary, in and out; it sends the model's name and an id, and sees the point that answered."""

    async def work(c: InferenceRESTClient) -> None:
        url = f"http://{served.address}"
        for binary in (False, True):
            for more in ({}, {"parameters": {"binary_data_output": True}}):
                response = await c.infer(url, request(served, binary=binary, **more), model_name="fraud")
                agrees(response, served)
                assert response.parameters["operating_point"] == "argmax@1"
            outputs = [RequestedOutput("label", parameters={"binary_data": True}), RequestedOutput("probabilities")]
            asked = request(served, binary=binary, request_outputs=outputs, request_id="r1")
            response = await c.infer(url, asked, model_name="fraud")
            assert response.id == "r1"
            assert [output.name for output in response.outputs] == ["label", "probabilities"]
            agrees(response, served)

    within(work)


def check_operating_point(served: Served) -> None:
    """By parameter and by header."""

    async def work(c: InferenceRESTClient) -> None:
        url = f"http://{served.address}"
        for asked, headers in (
            (request(served, parameters={"operating_point": "all"}), {}),
            (request(served), {"Setpoint-Operating-Point": "all"}),
        ):
            response = await c.infer(url, asked, model_name="fraud", headers=headers)
            assert response.parameters["operating_point"] == "all@1"
            (label,) = (output for output in response.outputs if output.name == "label")
            assert {str(word) for word in label.as_numpy().tolist()} <= {"fraud", "b'fraud'"}

    within(work)


def check_errors(served: Served) -> None:
    """It reads the text where the content type is exactly JSON's."""

    async def work(c: InferenceRESTClient) -> None:
        for url, model, status, said in (
            (f"http://{served.address}", "nope", 404, "there is no model 'nope'"),
            (f"http://{served.address}", "two", 400, "takes the inputs x, kind"),
            (f"http://{served.guarded}", "fraud", 401, "this call needs"),
        ):
            caught = None
            try:
                await c.infer(url, request(served), model_name=model)
            except HTTPStatusError as error:
                caught = error
            assert caught is not None
            assert caught.response.status_code == status
            assert said in str(caught), str(caught)

    within(work)


def check_base_path_and_token(served: Served) -> None:
    """The address may hold a path; the token is a header."""

    async def work(c: InferenceRESTClient) -> None:
        agrees(await c.infer(f"http://{served.base}", request(served), model_name="fraud"), served)
        headers = {"Authorization": f"Bearer {served.token}"}
        guarded = f"http://{served.guarded}"
        agrees(await c.infer(guarded, request(served), model_name="fraud", headers=headers), served)

    within(work)


if __name__ == "__main__":
    run(globals())
