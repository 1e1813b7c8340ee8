"""What a network is, and what a released model is and how it runs."""

import os

# ONNX Runtime's official builds report every session to Microsoft and keep a device id under $HOME, unless this is set
# before they are imported (its Privacy.md, "Disabling Telemetry").
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
