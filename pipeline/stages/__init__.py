"""A verb per file: `stage(config, aws, clock, ...)` returns a frozen result or raises a PipelineError."""
