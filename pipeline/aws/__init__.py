"""The only importers of boto3: pure request builders, thin senders, errors translated at this door."""
