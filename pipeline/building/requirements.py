"""requirements.txt held against the packages of this machine, which are what an image without a base runs with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement

from pipeline.errors import ConfigError

REMEDY = "pip install -r requirements.txt, or set services.<name>.image.builder: docker, which installs it"
# Lines of pip's own that name further requirements, which nothing here reads.
OTHER_SOURCES = ("-r", "-e", "-c", "--requirement", "--editable", "--constraint")


def check_installed(requirements: str) -> tuple[str, ...]:
    """What the image will run with for each requirement, as `numpy 2.4.6`. Raises ConfigError naming every fault."""
    found, faults = [], []
    for line in _lines(requirements):
        try:
            found += _installed(line)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(
            "The `layers` builder runs with this machine's packages, and requirements.txt asks for others.",
            REMEDY,
            details=tuple(faults),
        )
    return tuple(found)


def _lines(text: str) -> Iterator[str]:
    """The lines that name a package: without comments, pip's options and hashes.

    https://pip.pypa.io/en/stable/reference/requirements-file-format/
    """
    for line in text.replace("\\\n", " ").splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        is_option = bare.startswith("-") and not bare.startswith(OTHER_SOURCES)
        if bare and not is_option:
            yield re.split(r"\s--[a-z]", bare)[0].strip()


def _installed(line: str) -> list[str]:
    """Name and version of what satisfies the line, nothing where its marker excludes this machine; else ValueError."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement as error:
        raise ValueError(f"`{line}` is not a requirement that can be checked") from error
    if wanted.marker and not wanted.marker.evaluate():
        return []
    try:
        have = version(wanted.name)
    except PackageNotFoundError as error:
        raise ValueError(f"{line} is not installed") from error
    if not wanted.specifier.contains(have, prereleases=True):
        raise ValueError(f"{line} is not what is installed ({have})")
    return [f"{wanted.name} {have}"]
