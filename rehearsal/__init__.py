"""The local AWS: moto for the control plane, and what moto lacks. It knows AWS's words, not the pipeline's."""
