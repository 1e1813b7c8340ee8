"""Other people's ONNX classifiers."""
