"""MLServer with adaptive batching: `mlserver start FOLDER`, whose settings name `mlserver_app.Network`.

A custom runtime, as its documentation shows for a library it has no runtime of. Adaptive batching is off there unless
`max_batch_size` and `max_batch_time` are set: the callers there are at once, and a millisecond. Inference is left in a
worker process of its own (`parallel_workers: 1`, the default).
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import open_session


class Network(MLModel):
    """Rows in, logits out."""

    async def load(self) -> bool:
        """Opens the network."""
        self.session = open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One run for what MLServer put together."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        made = self.session.run(None, {"x": rows})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("z", made)])
