"""Why a figure is missing."""


class CannotMeasure(Exception):
    """The benchmark cannot go on: what is wrong, and one thing to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\nFix: {remedy}")


class PeerDoesNotRun(Exception):
    """A peer cannot be installed, does not start or answers wrongly: its rows say so and hold no figure."""


class OursDoesNotRun(Exception):
    """The model service does not start or answers wrongly: the row counts as missed, the other rows go on."""
