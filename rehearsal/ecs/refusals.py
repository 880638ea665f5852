"""ECS's own errors. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html"""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class Refused(ServiceException):
    """An error of the API: its code and AWS's text."""


def invalid(message: str) -> Refused:
    return Refused("InvalidParameterException", message)


def client(message: str) -> Refused:
    return Refused("ClientException", message)


def unsupported(message: str) -> Refused:
    return Refused("UnsupportedFeatureException", message)


def service_not_found() -> Refused:
    return Refused("ServiceNotFoundException", "Service not found.")


def service_not_active() -> Refused:
    return Refused("ServiceNotActiveException", "Service was not ACTIVE.")


def deployment_not_found() -> Refused:
    return Refused("ServiceDeploymentNotFoundException", "The service deployment does not exist.")


def conflict(message: str) -> Refused:
    return Refused("ConflictException", message)
