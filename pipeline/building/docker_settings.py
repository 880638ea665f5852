"""What Docker is told beside the image: the registry's password, and what the building machine's network needs."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import ConfigError

SETTINGS_FILE = "config.json"
# The secrets' names are those of model_service/Dockerfile; a Dockerfile of one's own may mount them too.
SECRET_VARIABLES = {"ca": "ONNXSHIP_BUILD_CA", "pipconf": "ONNXSHIP_BUILD_PIP_CONFIG"}
NETWORK_VARIABLE = "ONNXSHIP_BUILD_NETWORK"


def machine_options(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Docker's words for this machine's network: build secrets (they end up in no layer) and `--network`.

    They come from the environment, because they belong to the machine and not to the image: they are no part of its
    digest. Raises ConfigError for a variable that names no file.
    """
    words: list[str] = []
    for name, variable in SECRET_VARIABLES.items():
        if path := environment.get(variable):
            if not Path(path).is_file():
                raise ConfigError(f"{variable} names {path}, which is no file.", f"correct or unset {variable}")
            words += ["--secret", f"id={name},src={Path(path).absolute()}"]
    if network := environment.get(NETWORK_VARIABLE):
        words += ["--network", network]
    return tuple(words)


@contextmanager
def signed_in(registry: str, user: str, password: str) -> Iterator[dict[str, str]]:
    """The environment in which Docker may push to `registry`, for as long as this lasts.

    `docker login` would leave the password in the user's ~/.docker/config.json. A directory of its own stands in for
    ~/.docker here, with all that the user's has: contexts, plugins, builders, other registries' logins.
    https://docs.docker.com/reference/cli/docker/#change-the-docker-directory
    """
    own = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser().absolute()
    with TemporaryDirectory(prefix="onnxship-docker-") as temporary:
        directory = Path(temporary)
        for entry in own.iterdir() if own.is_dir() else ():
            if entry.name != SETTINGS_FILE:
                (directory / entry.name).symlink_to(entry)
        settings = with_login(_read(own / SETTINGS_FILE), registry, user, password)
        (directory / SETTINGS_FILE).write_text(json.dumps(settings))
        yield {**os.environ, "DOCKER_CONFIG": temporary}


def with_login(settings: Mapping[str, Any], registry: str, user: str, password: str) -> dict[str, Any]:
    """Docker's settings with a login that no credential store is asked for, not even the one for every registry.

    https://docs.docker.com/reference/cli/docker/login/#credential-helpers
    """
    login = {"auth": b64encode(f"{user}:{password}".encode()).decode()}
    return {
        **settings,
        "auths": {**settings.get("auths", {}), registry: login},
        "credHelpers": {**settings.get("credHelpers", {}), registry: ""},
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"Docker's settings {path} are not valid JSON: {error}", "correct that file") from error
