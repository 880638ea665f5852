"""What can go wrong in a stack, in CloudFormation's own words."""

from __future__ import annotations


class TemplateError(Exception):
    """The template, its parameters or the request is invalid: AWS answers ValidationError with this text."""


class ResourceFailed(Exception):
    """A resource could not be made, changed or unmade. `handler_code`: CloudFormation's handler error code.

    https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-test-contract-errors.html
    """

    def __init__(self, message: str, handler_code: str = "GeneralServiceException") -> None:
        super().__init__(message)
        self.message = message
        self.handler_code = handler_code


class Cancelled(Exception):
    """The operation was cancelled while it waited: the rehearsal stops, or the stack is being deleted."""
