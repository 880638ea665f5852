"""onnxship.yaml: what is read, what is refused, and in which words."""

from pathlib import Path

import pytest

from pipeline import config
from pipeline.errors import ConfigError, UsageError

SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-a1b2c3"
MINIMAL = """
project: digits
environments:
  staging: {account: "111122223333", region: eu-west-1}
  production: {account: "444455556666", region: eu-west-1, services: {digits: {compute: {min: 4}}}}
edge: {allow_http: true, ingress_cidrs: [10.0.0.0/8]}
services:
  digits: {model: {path: m.onnx, golden: golden.npz}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "onnxship.yaml"
    path.write_text(MINIMAL)
    return path


def change(file: Path, old: str, new: str) -> Path:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return file


def test_an_environment_is_merged_over_the_rest(file: Path) -> None:
    """Only production has four tasks; everything else is shared."""
    staging, production = config.load(file, "staging"), config.load(file, "production")

    assert (2, 4) == (staging.services["digits"].compute.min, production.services["digits"].compute.min)
    assert "444455556666" == production.environment.account


def test_with_several_environments_none_is_the_default(file: Path) -> None:
    """A command never guesses where to act."""
    with pytest.raises(UsageError, match="2 environments: staging, production") as caught:
        config.load(file)

    assert "--env" in caught.value.remedy


def test_an_unknown_environment_names_the_known_ones(file: Path) -> None:
    """The error lists what could have been meant."""
    with pytest.raises(UsageError, match="no environment `prod`; it has staging, production"):
        config.load(file, "prod")


def test_every_mistake_is_shown_at_once_with_its_path(file: Path) -> None:
    """Three mistakes, one run."""
    change(file, "path: m.onnx", "pth: m.onnx")
    change(file, "allow_http: true", "allow_http: maybe")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert (
        "edge.allow_http: must be true or false (found 'maybe')",
        "services.digits.model.path: is missing",
        "services.digits.model.pth: is not a known key; did you mean `path`?",
    ) == tuple(sorted(caught.value.details))


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        ("{cpu: 1000}", "cpu 1000 is not a Fargate size"),
        ("{cpu: 256, memory_mib: 4096}", "memory_mib 4096 does not go with cpu 256"),
        ("{min: 3, max: 2}", "max 2 is below min 3"),
        ("{type: ec2}", "`ec2` is not built yet"),
    ],
)
def test_sizes_that_fargate_does_not_sell_are_refused(file: Path, compute: str, says: str) -> None:
    """What AWS would refuse minutes later is refused at once."""
    change(file, "golden: golden.npz}}", f"golden: golden.npz}}, compute: {compute}}}")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("MODEL_CONTROL: poll", "MODEL_CONTROL changes what is served behind the gates' back"),
        ("MODEL_REPOSITORY_URI: file:///m", "MODEL_REPOSITORY_URI changes what is served behind the gates' back"),
        ("API_KEYS_FILE: /keys.json", "on ECS keys come from a secret: set environment.API_KEYS_SECRET_ARN"),
        ("GATE_KEY_SHA256: ff", "GATE_KEY_SHA256 is set by onnxship itself where there is API_KEYS_SECRET_ARN"),
    ],
)
def test_settings_that_would_undo_a_release_are_refused(file: Path, variable: str, says: str) -> None:
    """What is served is what was judged: the server's own ways to change it stay off."""
    change(file, "golden: golden.npz}}", f"golden: golden.npz}}, environment: {{{variable}}}}}")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("where", "arn", "says"),
    [
        ("environment", "keys", "API_KEYS_SECRET_ARN is not the ARN of a secret"),
        ("environment", f"{SECRET_ARN}:app::", "whole and without a JSON key"),
        ("secrets", SECRET_ARN, "put it under `environment`"),
        ("environment", SECRET_ARN, "API keys would travel as plain text; set edge.certificate_arn"),
    ],
)
def test_api_keys_that_would_not_be_safe_are_refused(file: Path, where: str, arn: str, says: str) -> None:
    """They come from a whole secret, which the server reads itself, and go over TLS alone."""
    change(file, "golden: golden.npz}}", f'golden: golden.npz}}, {where}: {{API_KEYS_SECRET_ARN: "{arn}"}}}}')

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert says in str(caught.value)


def test_a_gpu_on_fargate_is_refused(file: Path) -> None:
    """Fargate has none, and the task definition would be registered all the same."""
    change(file, "golden: golden.npz}}", "golden: golden.npz}, image: {target: gpu}}")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert "image.target is gpu and compute.type is fargate, but Fargate has no GPU" in str(caught.value)


@pytest.mark.parametrize(
    ("edge", "says"),
    [
        ("certificate_arn: arn:aws:acm:x, ", "set edge.domain"),
        ("scheme: internal, ", "services.digits.gate.from to vpc"),
    ],
)
def test_what_the_gate_could_never_reach_is_refused(file: Path, edge: str, says: str) -> None:
    """A certificate without its name, and a private load balancer asked from a public address."""
    change(file, "edge: {", "edge: {" + edge)
    change(file, "golden: golden.npz}}", "golden: golden.npz}, gate: {from: runner}}")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert says in str(caught.value)


def test_plain_http_must_be_chosen(file: Path) -> None:
    """Without a certificate and without allow_http nothing is deployed."""
    change(file, "allow_http: true, ", "")

    with pytest.raises(ConfigError, match=r"(?s)plain HTTP.*allow_http: true"):
        config.load(file, "staging")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "project: [unclosed\n"])
def test_a_file_that_is_no_configuration_is_refused(file: Path, text: str) -> None:
    """Empty files, lists and broken YAML end in a ConfigError, never in a traceback."""
    file.write_text(text)

    with pytest.raises(ConfigError):
        config.load(file)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("10.0.0.0/8", "300.0.0.0/0", "no range of IPv4 addresses"),
        ("10.0.0.0/8", "10.0.0.1/8", "no range of IPv4 addresses"),
        ("project: digits", "project: digits\ncost: {notify: [nobody]}", "cost.notify.0"),
        ("project: digits", "project: digits\nproject: letters", "`project` stands twice"),
    ],
)
def test_values_that_aws_or_yaml_would_take_wrongly_are_refused(file: Path, old: str, new: str, says: str) -> None:
    """Addresses that are none, and a key that stands twice."""
    change(file, old, new)

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert says in str(caught.value)


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    """The remedy is `onnxship init`."""
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "onnxship.yaml")

    assert "onnxship init" in caught.value.remedy


def test_an_overlay_is_merged_over_every_service(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`services: {"*": ...}` in the overlay stands for each service of the file."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text('edge: {production_port: 18080}\nservices: {"*": {image: {builder: layers}}}\n')
    monkeypatch.setenv("ONNXSHIP_OVERLAY", str(overlay))

    loaded = config.load(file, "staging")

    assert (18080, "layers") == (loaded.edge.listens_on, loaded.services["digits"].image.builder)


def test_an_overlay_that_is_gone_is_told_with_the_way_out(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell points at a local AWS whose files were removed; no other configuration would mend that."""
    monkeypatch.setenv("ONNXSHIP_OVERLAY", "/nonexistent/overlay.yaml")

    with pytest.raises(UsageError, match="which ONNXSHIP_OVERLAY names") as caught:
        config.load(file, "staging")

    assert "onnxship rehearse env --unset" in caught.value.remedy


def test_two_services_may_not_take_the_same_paths(file: Path) -> None:
    """Behind one load balancer each service needs paths and a priority of its own."""
    file.write_text(file.read_text() + "  letters: {model: {path: l.onnx, golden: g.npz}}\n")

    with pytest.raises(ConfigError, match=r"(?s)priority"):
        config.load(file, "staging")


def test_the_service_is_the_only_one_or_the_named_one(file: Path) -> None:
    """`--service` is needed only when there is a choice."""
    loaded = config.load(file, "staging")

    assert "digits" == loaded.resolve_service(None)
    with pytest.raises(UsageError, match="no service `letters`"):
        loaded.resolve_service("letters")


def test_stack_names_say_project_environment_and_service(file: Path) -> None:
    """A stack can be found in the console by its name."""
    loaded = config.load(file, "staging")

    assert "digits-staging-network" == loaded.stack_name("network")
    assert "digits-staging-digits-service" == loaded.stack_name("service", "digits")


def test_the_commented_example_is_a_valid_configuration() -> None:
    """The reference at the top of the repository can be used as it stands."""
    example = Path(__file__).parents[2] / "onnxship.yaml"

    assert "digits" == config.load(example).project


def test_the_commented_example_shows_every_key_of_a_service() -> None:
    """No key exists that the reference does not explain."""
    text = (Path(__file__).parents[2] / "onnxship.yaml").read_text()
    sections = (config.Config, config.Network, config.Edge, config.Image, config.Model, config.Compute)
    sections += (config.Rollout, config.Gate, config.Load, config.AgainstLive, config.Scan, config.Route)
    sections += (config.Service, config.Cost, config.Predict, config.Preprocessing, config.Resize)
    internal = {"environment_name", "directory", "path", "overlay"}
    keys = {field.alias or name for section in sections for name, field in section.model_fields.items()} - internal

    assert set() == {key for key in keys if f"{key}:" not in text}


@pytest.mark.parametrize(
    ("against_live", "says"),
    [
        (
            "{rps: 10, duration_s: 5}",
            "rps 10 x duration_s 5 gives 50 pairs of requests, too few to compare; 60 are needed",
        ),
        ("{max_latency_ratio: 0.9}", "must be at least 1 (found 0.9)"),
        ("{duration_s: 301}", "must be at most 300 (found 301)"),
    ],
)
def test_a_comparison_that_could_decide_nothing_is_refused(file: Path, against_live: str, says: str) -> None:
    """Before a release is built, not at its gate."""
    change(file, "golden: golden.npz}", f"golden: golden.npz}}, gate: {{against_live: {against_live}}}")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert says in caught.value.details[0]


def test_the_comparison_can_be_switched_off(file: Path) -> None:
    """`against_live: null` leaves the load's own thresholds; without the key it is on."""
    assert config.load(file, "staging").services["digits"].gate.against_live == config.AgainstLive()

    change(file, "golden: golden.npz}", "golden: golden.npz}, gate: {against_live: null}")

    assert config.load(file, "staging").services["digits"].gate.against_live is None


def test_a_load_that_could_never_suffice_is_refused(file: Path) -> None:
    """The gate would run its whole time and decide nothing."""
    load = "{rps: 20, duration_s: 6, min_requests: 121}"
    change(file, "golden: golden.npz}", f"golden: golden.npz}}, gate: {{load: {load}}}")

    with pytest.raises(ConfigError) as caught:
        config.load(file, "staging")

    assert "rps 20 x duration_s 6 sends 120 requests, and min_requests 121 are needed" in caught.value.details[0]
