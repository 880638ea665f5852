"""What a request's body means, and how its answer is written: the protocol's JSON and bytes, and /predict."""
