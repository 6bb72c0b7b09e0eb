"""What runs models."""

import os

# ONNX Runtime reports its use to its makers unless told not to, and reads this once, when it is imported. A server that
# holds other people's models and rows reports nothing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
