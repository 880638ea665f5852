"""onnxship's pipeline: configuration in, AWS calls, a result and its report out."""
