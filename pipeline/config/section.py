"""What every section of the file is made of."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _ipv4_network(value: str) -> str:
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError as error:
        raise ValueError(f"is no range of IPv4 addresses: {error}") from error


Cidr = Annotated[str, AfterValidator(_ipv4_network)]


class Section(BaseModel):
    """A part of the file: no unknown keys, no changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
