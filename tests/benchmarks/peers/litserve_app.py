"""LitServe with batching: `python litserve_app.py`, port in `PORT`.

As its documentation advises: `max_batch_size` of what callers there are at once, a short `batch_timeout`, and
`fast_queue` (ZeroMQ) for a high load. One worker and one API server, since all contenders have one core.
"""

import os
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray
from session import open_session, run_together

Rows = NDArray[np.float32]


class Network(litserve.LitAPI):
    """Rows in, logits out."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Opens the network in the worker."""
        self.session = open_session()

    def decode_request(self, request: dict[str, Any]) -> Rows:
        """JSON to rows."""
        return np.array(request["inputs"], dtype=np.float32)

    def batch(self, inputs: list[Rows]) -> list[Rows]:
        """Left apart here: requests have different numbers of rows."""
        return inputs

    def predict(self, x: list[Rows]) -> list[Rows]:
        """All of them in one run."""
        return run_together(self.session, x)

    def unbatch(self, output: list[Rows]) -> list[Rows]:
        """Apart already."""
        return output

    def encode_response(self, output: Rows) -> dict[str, Any]:
        """Logits to JSON."""
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    api = Network(max_batch_size=16, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )
