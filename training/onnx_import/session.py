"""ONNX Runtime on bytes that are no released model yet."""

import onnxruntime as ort


def make_session(model: bytes | str) -> ort.InferenceSession:
    """A session on this machine's CPU of a model's bytes, or of the file with this name."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other work has the core meanwhile
    return ort.InferenceSession(model, options, ["CPUExecutionProvider"])
