"""How fast the model service is, as ratios within one run: against ONNX Runtime itself and against other servers."""
