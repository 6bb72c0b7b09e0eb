"""Files that come in and go out: caches, and models as ONNX graphs."""
