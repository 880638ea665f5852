"""A service deployment from the outside: where it happens, how it is gated, followed and explained.

Stages that change what runs (rollout, rollback, and deploy while it creates a service) share it.
"""
