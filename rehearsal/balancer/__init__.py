"""A load balancer on real ports behind the ELBv2 API of the rehearsal."""

from rehearsal.balancer.balancing import Balancing

__all__ = ["Balancing"]
