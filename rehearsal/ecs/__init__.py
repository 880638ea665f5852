"""The rehearsal's ECS: services, blue/green and rolling deployments, tasks as real processes."""
