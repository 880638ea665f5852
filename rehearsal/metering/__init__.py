"""CloudWatch's metrics and alarms for the rehearsal, fed by the load balancer."""

from rehearsal.metering.metering import Metering

__all__ = ["Metering"]
