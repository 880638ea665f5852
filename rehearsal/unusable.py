"""The one error that `python -m rehearsal` answers with exit 2."""


class Unusable(Exception):
    """What `up` was asked for cannot be had: `what` is wrong, `remedy` helps."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy
