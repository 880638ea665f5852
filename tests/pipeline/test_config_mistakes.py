"""What is wrong with onnxship.yaml: each mistake with the key's path as it stands in the file, in our words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import config
from pipeline.errors import ConfigError

MODEL = {"path": "m.onnx", "golden": "g.npz"}
GOOD: dict[str, Any] = {
    "project": "digits",
    "environments": {"production": {"account": "111122223333", "region": "eu-west-1"}},
    "edge": {"allow_http": True, "ingress_cidrs": ["10.0.0.0/8"]},
    "services": {"digits": {"model": MODEL}},
}


def mistakes(tmp_path: Path, **changes: Any) -> tuple[str, ...]:
    """What `load` says of the good file after the changes."""
    path = tmp_path / "onnxship.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    assert refused.value.remedy
    return refused.value.details


def service(**settings: Any) -> dict[str, Any]:
    return {"digits": {"model": MODEL, **settings}}


WHOLE = [
    ("project: Digits", "project: must be a name: a lower-case letter, then ... (found 'Digits')"),
    ("cost: {monthly_usd: many}", "cost.monthly_usd: must be a number (found 'many')"),
    ("cost: {notify: [nobody]}", "cost.notify.0: must be an e-mail address (found 'nobody')"),
    ("poll_interval_s: 0", "poll_interval_s: must be above 0 (found 0)"),
    ("network: null", "network: holds nothing; give it a value, or remove the key"),
    ("network: nat", "network: must hold keys of its own, indented beneath it (found 'nat')"),
    ("netwrk: {}", "netwrk: is not a known key; did you mean `network`?"),
    ("services: {}", "services: must have at least 1, and has 0"),
    ("services: [digits]", "services: must hold keys of its own, indented beneath it"),
    ("services: {Digits: {model: {path: m, golden: g}}}", "services.Digits: must be a name: ... (found 'Digits')"),
    ("templates: {vpc: v.yaml}", "templates.vpc: must be `delivery`, ... or `billing` (found 'vpc')"),
    (
        "edge: {allow_http: true, ingress_cidrs: 10.0.0.0/8}",
        "edge.ingress_cidrs: must be a list: [one, two] (found '10.0.0.0/8')",
    ),
    (
        "edge: {allow_http: true, ingress_cidrs: [10.0.0.0/8, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16]}",
        "edge.ingress_cidrs: must have at most 4, and has 5",
    ),
]
OF_A_SERVICE = [
    ("gate: null", "gate: holds nothing; give it a value, or remove the key"),
    ("gate: {from: me}", "gate.from: must be `vpc` or `runner` (found 'me')"),
    ("gate: {against_live: 3}", "gate.against_live: must hold keys of its own, indented beneath it (found 3)"),
    ("gate: {load: {rsp: 9}}", "gate.load.rsp: is not a known key; did you mean `rps`?"),
    ("route: {paths: []}", "route.paths: must have at least 1, and has 0"),
    ("environment: {AB: 5}", "environment.AB: must be text; put it in quotes: '5' (found 5)"),
    ("environment: {A-B: x}", "environment.A-B: must be the name of a variable: ... (found 'A-B')"),
    ("compute: {cpu: big}", "compute.cpu: must be a whole number (found 'big')"),
    ("rollout: {bake_minutes: 1441}", "rollout.bake_minutes: must be at most 1440 (found 1441)"),
    ("rollout: {bake_minute: 1}", "rollout.bake_minute: is not a known key; did you mean `bake_minutes`?"),
    (
        "scan: {ignore: [{id: CVE-1, reason: 'no', until: 2027-01-31}]}",
        "scan.ignore.0.reason: must have 3 characters or more (found 'no')",
    ),
    (
        "scan: {ignore: [{id: CVE-1, reason: late, until: soon}]}",
        "scan.ignore.0.until: must be a date: 2027-01-31 (found 'soon')",
    ),
]
CASES = [(yaml.safe_load(text), line) for text, line in WHOLE]
CASES += [({"services": service(**yaml.safe_load(text))}, f"services.digits.{line}") for text, line in OF_A_SERVICE]


@pytest.mark.parametrize(("changes", "line"), CASES, ids=[line.partition(" ")[0] for _, line in CASES])
def test_a_mistake_is_told_with_its_path_and_what_would_be_right(tmp_path, changes, line):
    """None of the library's own words, and what was found where that is a plain value."""
    (told,) = mistakes(tmp_path, **changes)

    start, _, end = line.partition("...")
    assert told.startswith(start)
    assert told.endswith(end)
    assert "Input should" not in told


@pytest.mark.parametrize(
    ("vpc", "lines"),
    [
        ("new", ("network.vpc: must be `create`, or hold vpc_id, private_subnets and public_subnets (found 'new')",)),
        ({"vpc_id": "v", "private_subnets": ["a"], "public_subnets": "b"},
         ("network.vpc.private_subnets: must have at least 2, and has 1",
          "network.vpc.public_subnets: must be a list: [one, two] (found 'b')")),
    ],
)  # fmt: skip
def test_a_word_or_a_mapping_is_judged_as_what_it_was_meant_to_be(tmp_path, vpc, lines):
    """Not as both."""
    assert lines == mistakes(tmp_path, network={"vpc": vpc})


def test_what_an_environment_says_is_told_where_it_stands(tmp_path):
    """Under `environments`, by the environment's name; an account without quotes is a number for YAML."""
    assert (
        'environments.live.account: must be the 12 digits of an AWS account, in quotes: "111122223333" '
        "(found 111122223333)",
        "environments.live.region: is missing",
    ) == mistakes(tmp_path, environments={"live": {"account": 111122223333}})


@pytest.mark.parametrize("gate", [{}, {"from": "vpc"}])
def test_an_address_that_the_gate_would_not_use_is_a_mistake(tmp_path, gate):
    """`runner_cidr` beside `from: vpc` would silently do nothing."""
    (told,) = mistakes(tmp_path, services=service(gate={"runner_cidr": "192.0.2.7/32", **gate}))

    assert told.startswith("services.digits.gate.runner_cidr: does nothing with `from: vpc`")
    assert told.endswith("remove it, or set `from: runner` beside it")


def test_it_is_told_together_with_the_others(tmp_path):
    """All mistakes at once."""
    assert 2 == len(mistakes(tmp_path, services=service(gate={"runner_cidr": "192.0.2.7/32", "rps": 3})))


def test_an_overlay_may_name_the_address_for_every_service(tmp_path):
    """The rehearsal's does, whatever each service's gate uses."""
    path, overlay = tmp_path / "onnxship.yaml", tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    overlay.write_text('services: {"*": {gate: {runner_cidr: 127.0.0.1/32}}}')

    assert "vpc" == config.load(path, overlay=overlay).services["digits"].gate.from_
