"""The service's settings: environment variables, checked all at once before anything else happens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from model_service.errors import StartRefused

DEVICES = ("cpu", "cuda")
ACCESS_LOGS = ("all", "errors", "off")
MODEL_CONTROLS = ("none", "poll", "explicit")
LOG_LEVELS = ("debug", "info", "warning", "error")
RELEASE_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
SECRET_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:\S+")
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
EMF_NAMESPACE = re.compile(r"(?!AWS/)[0-9A-Za-z._/#:-]{1,255}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ORIGIN = re.compile(r"https?://[^/\s,]+")
MIB = 1024 * 1024
# Only what is hardly anything else, by difflib's ratio: most variables here are another program's.
SIMILARITY, SHORTEST_SIMILAR = 0.9, 7


@dataclass(frozen=True, slots=True)
class Settings:
    """What docs/reference/model-service.md lists; a field is its variable in lower case."""

    model_manifest_uri: str = ""
    model_manifest_version_id: str = ""
    model_manifest_sha256: str = ""
    model_repository_uri: str = ""
    model_control: str = "none"
    model_poll_s: float = 15.0
    load_models: str = ""
    keep_versions: int = 1
    default_model: str = ""
    load_timeout_s: float = 600.0
    model_dir: Path = Path("/models")
    release_id: str = "local"
    device: str = "cpu"
    gpu_mem_limit_mib: int = 0
    api_keys_file: str = ""
    api_keys_secret_arn: str = ""
    api_keys_reload_s: float = 60.0
    gate_key_sha256: str = ""
    bind_host: str = "0.0.0.0"  # noqa: S104 - the load balancer reaches the task by its own address
    port: int = 8080
    admin_port: int = 8081
    grpc_port: int = -1
    drain_s: float = 3.0
    shutdown_s: int = 30
    max_header_bytes: int = 64 * 1024
    max_body_bytes: int = 16 * MIB
    max_rows: int = 4096
    max_images: int = 32
    max_image_pixels: int = 25_000_000
    max_pending: int = 1024
    max_queue_s: float = 5.0
    max_queue_bytes: int = 256 * MIB
    max_batch: int = 0
    slots: int = 0
    wide_path: str = "auto"
    hot_path: str = "on"
    request_timeout_s: float = 60.0
    read_timeout_s: float = 30.0
    # More than the load balancer's 60 s, so that never the target closes first and makes a 502.
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#connection-idle-timeout
    keep_alive_s: int = 75
    max_model_bytes: int = 10 * 1024 * MIB
    download_connections: int = 4
    emf_namespace: str = ""
    emf_interval_s: float = 60.0
    stream_max_sessions: int = 256
    stream_in_flight: int = 16
    stream_max_session_s: float = 900.0
    stream_idle_s: float = 300.0
    stream_origins: tuple[str, ...] = ()
    exit_with_fd: int = -1
    access_log: str = "all"
    log_level: str = "info"


DEFAULTS = {field.name: field.default for field in fields(Settings)}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises StartRefused with every fault of it, each with its variable's name."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field, read in READERS.items():
        text = environ.get(field.upper(), "")
        if not text:
            continue
        try:
            values[field] = read(text)
        except ValueError as error:
            faults.append(f"{field.upper()}={text!r} {error}")
    faults += _missing(values, faults)
    faults += _same_ports(values)
    control = values.get("model_control", "none")
    if "load_models" in values and control != "explicit" and "MODEL_CONTROL=" not in " ".join(faults):
        faults.append(f"LOAD_MODELS needs MODEL_CONTROL=explicit: with {control} all models are loaded")
    if {"api_keys_file", "api_keys_secret_arn"} <= values.keys():
        faults.append("API_KEYS_FILE and API_KEYS_SECRET_ARN are both given; name one")
    if faults:
        raise StartRefused("the environment cannot be used: " + "; ".join(faults))
    return Settings(**values)


def _same_ports(values: Mapping[str, Any]) -> list[str]:
    """Ports that are one, whether given or by default; 0 is a free one each time, and -1 none."""
    ports = {name: values.get(name, DEFAULTS[name]) for name in ("port", "admin_port", "grpc_port")}
    return [
        f"{one.upper()} and {other.upper()} are both {ports[one]}; each needs a port of its own"
        for one, other in combinations(ports, 2)
        if ports[one] == ports[other] > 0
    ]


def similar_variables(environ: Mapping[str, str]) -> list[str]:
    """In words, the variables in `environ` that are called almost as a setting, and so are none."""
    known = [field.upper() for field in READERS]
    others = [name for name in environ if name not in known and len(name) >= SHORTEST_SIMILAR]
    return [
        f"the variable {name} is not read: did you mean {close[0]}?"
        for name in sorted(others)
        if (close := get_close_matches(name.upper(), known, 1, SIMILARITY))
    ]


def _missing(values: Mapping[str, Any], faults: list[str]) -> list[str]:
    """One model is pinned, or a repository is followed; a manifest in S3 is only taken with the version and digest that
    pin it."""
    uri, said = values.get("model_manifest_uri", ""), " ".join(faults)
    if "MODEL_MANIFEST_URI=" in said or "MODEL_REPOSITORY_URI=" in said:
        return []
    if "model_repository_uri" in values:
        return ["MODEL_MANIFEST_URI and MODEL_REPOSITORY_URI are both given; name one"] if uri else []
    if not uri:
        return ["MODEL_MANIFEST_URI is missing, or MODEL_REPOSITORY_URI for several models"]
    found = []
    if values.get("model_control", "none") != "none":
        found.append(f"MODEL_CONTROL={values['model_control']} needs MODEL_REPOSITORY_URI: a manifest is pinned")
    if uri.startswith("s3://"):
        pins = ("model_manifest_version_id", "model_manifest_sha256")
        missing = [pin.upper() for pin in pins if pin not in values and pin.upper() not in said]
        found += [f"{pin} is missing (an s3:// manifest must be pinned)" for pin in missing]
    return found


def _uri(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "s3" and parts.netloc and parts.path.strip("/"):
        return text
    if parts.scheme == "file" and parts.path.startswith("/"):
        return text
    raise ValueError("is neither s3://bucket/key nor file:///absolute/path")


def _number(kind: type[int] | type[float], lowest: float, highest: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = None
        if number is None or not lowest <= number <= highest:
            words = "a whole number" if kind is int else "a number"
            raise ValueError(f"is not {words} from {lowest} to {highest}")
        return number

    return read


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return text.lower()

    return read


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"is not {what}")
        return text

    return read


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().lower() for origin in text.split(","))
    if not all(origin == "*" or ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("is not origins like https://app.example.com, with commas between them, or *")
    return origins


READERS: dict[str, Callable[[str], Any]] = {
    "model_manifest_uri": _uri,
    "model_manifest_version_id": str,
    "model_manifest_sha256": _matching(SHA256, "a sha256 in 64 lower-case hex digits"),
    "model_repository_uri": _uri,
    "model_control": _one_of(MODEL_CONTROLS),
    "model_poll_s": _number(float, 0.1, 86400),
    "load_models": str,
    "default_model": str,
    "keep_versions": _number(int, 1, 100),
    "load_timeout_s": _number(float, 0.1, 86400),
    "model_dir": Path,
    "release_id": _matching(RELEASE_ID, "1 to 64 of the characters 0-9 A-Z a-z . _ -"),
    "device": _one_of(DEVICES),
    "gpu_mem_limit_mib": _number(int, 0, 2**20),
    "api_keys_file": str,
    "api_keys_secret_arn": _matching(SECRET_ARN, "the ARN of a secret in Secrets Manager"),
    "api_keys_reload_s": _number(float, 0.1, 86400),
    "gate_key_sha256": _matching(SHA256, "a sha256 in 64 lower-case hex digits"),
    "bind_host": str,
    "port": _number(int, 0, 65535),
    "admin_port": _number(int, 0, 65535),
    "grpc_port": _number(int, 0, 65535),
    "drain_s": _number(float, 0, 3600),
    "shutdown_s": _number(int, 0, 3600),
    "max_header_bytes": _number(int, 1024, 2**30),
    "max_body_bytes": _number(int, 1, 2**40),
    "max_rows": _number(int, 1, 2**31),
    "max_images": _number(int, 1, 4096),
    "max_image_pixels": _number(int, 1, 2 * 89_478_485),  # Pillow itself takes no more
    "max_pending": _number(int, 1, 2**20),
    "max_model_bytes": _number(int, 1, 2**50),
    "max_queue_s": _number(float, 0, 3600),
    "max_queue_bytes": _number(int, 0, 2**50),
    "max_batch": _number(int, 0, 65536),
    "slots": _number(int, 0, 1024),
    "wide_path": _one_of(("auto", "on", "off")),
    "hot_path": _one_of(("on", "off")),
    "request_timeout_s": _number(float, 0.001, 86400),
    "read_timeout_s": _number(float, 0.1, 86400),
    "keep_alive_s": _number(int, 1, 86400),
    "download_connections": _number(int, 1, 64),
    "emf_namespace": _matching(EMF_NAMESPACE, "a namespace of CloudWatch that is not AWS's own"),
    "emf_interval_s": _number(float, 0.1, 3600),
    "stream_max_sessions": _number(int, 0, 2**20),
    "stream_in_flight": _number(int, 1, 65536),
    "stream_max_session_s": _number(float, 1, 86400),
    "stream_idle_s": _number(float, 1, 86400),
    "stream_origins": _origins,
    "exit_with_fd": _number(int, 0, 2**20),
    "access_log": _one_of(ACCESS_LOGS),
    "log_level": _one_of(LOG_LEVELS),
}
