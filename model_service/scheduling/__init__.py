"""From requests to runs of the model: a job per request, batches of jobs, threads that run them."""
