"""The load test: Locust in a process of its own. Nothing imports this package; gevent patches Python on import."""
