"""AWS's own errors, raised from this project's code."""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class Refused(ServiceException):  # type: ignore[misc]
    """`Refused(code, message)`, serialised by moto in the service's own protocol.

    A class of this package, since moto takes the module of an exception of its own for the name of a service.
    """
