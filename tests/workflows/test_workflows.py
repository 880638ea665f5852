"""The workflows, the buildspec and the Dockerfile hold to their linters, and each linter is shown to find something."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMA = Path(__file__).with_name("buildspec.schema.json")
TOOLS = Path(sys.executable).parent
# The commits that the actions' release tags point to. A pin that is not here was resolved by nobody.
PINS = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "aws-actions/configure-aws-credentials": ("e6de054238d6b7531b4efff3b6587d9aade6a06c", "v6.2.3"),
}
# The permissions that a job may have, and no others.
GRANTED = {"contents": "read", "id-token": "write"}
UNPINNED = """
on: push
jobs:
  a:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@main
      - run: echo ${{ github.event.head_commit.message }}
"""


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLS / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    return run(
        "zizmor", "--offline", "--persona=auditor", "--no-progress", "--color", "never", "--format", "plain", path
    )


def schema(name: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    return run("check-jsonschema", "--builtin-schema", name, *paths)


def parsed(path: Path) -> dict[str, Any]:
    # `on` is a boolean in YAML 1.1; only jobs and permissions are read here.
    return yaml.safe_load(path.read_text())


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path.name}:{name}", job) for path in WORKFLOWS for name, job in parsed(path)["jobs"].items()]


def steps() -> list[dict[str, Any]]:
    return [step for _, job in jobs() for step in job.get("steps", [])]


def test_there_are_four_workflows() -> None:
    """The four that the documentation names."""
    assert ["ci", "deploy", "nightly-loadtest", "rollback"] == [path.stem for path in WORKFLOWS]


def test_zizmor_finds_nothing() -> None:
    """zizmor's strictest auditor has nothing to say about workflows and Dependabot."""
    audited = zizmor(ROOT / ".github")

    assert (0, "") == (audited.returncode, audited.stdout.replace("No findings to report. Good job!", "").strip())


def test_zizmor_can_find_something(tmp_path: Path) -> None:
    """It finds an action that is not pinned, and a commit message that would run as a script."""
    bad = tmp_path / ".github" / "workflows" / "bad.yml"
    bad.parent.mkdir(parents=True)
    bad.write_text(UNPINNED)

    audited = zizmor(bad)

    assert audited.returncode != 0
    assert {"unpinned-uses", "template-injection"} <= set(re.findall(r"\[([a-z-]+)\]", audited.stdout))


@pytest.mark.parametrize("name", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_workflows_hold_to_their_schemas(name: str) -> None:
    """GitHub would read every workflow, and every job has a limit of time."""
    checked = schema(name, *WORKFLOWS)

    assert 0 == checked.returncode, checked.stdout


def test_schemas_can_refuse(tmp_path: Path) -> None:
    """A job without a limit of time is found, and so is a misspelt key."""
    bad = tmp_path / "bad.yml"
    bad.write_text(UNPINNED.replace("runs-on", "run-on"))

    assert 1 == schema("vendor.github-workflows", bad).returncode
    assert 1 == schema("custom.github-workflows-require-timeout", bad).returncode


def test_dependabot_holds_to_its_schema() -> None:
    """Dependabot would read its file, and waits a week with every update."""
    path = ROOT / ".github" / "dependabot.yml"

    assert 0 == schema("vendor.dependabot", path).returncode
    assert [7, 7] == [update["cooldown"]["default-days"] for update in parsed(path)["updates"]]


def test_actions_are_pinned_to_known_commits() -> None:
    """Every action stands at the commit of a release, and the comment beside it says which."""
    for path in WORKFLOWS:
        for used in re.findall(r"uses: (\S+.*)$", path.read_text(), re.MULTILINE):
            if used.startswith("$/"):
                continue
            name, _, rest = used.partition("@")

            assert f"{PINS[name][0]} # {PINS[name][1]}" == rest, path.name


def test_nothing_is_permitted_but_by_job() -> None:
    """A workflow itself may do nothing; a job may read the code and, where it needs AWS, ask for a token."""
    assert [{}] * len(WORKFLOWS) == [parsed(path)["permissions"] for path in WORKFLOWS]
    for name, job in jobs():
        assert job["permissions"].items() <= GRANTED.items(), name


def test_tokens_are_asked_for_only_where_aws_is_used() -> None:
    """`id-token: write` and an environment go with the AWS credentials, and with nothing else."""
    for name, job in jobs():
        uses_aws = "configure-aws-credentials" in str(job.get("steps"))

        assert uses_aws == ("id-token" in job["permissions"]), name
        assert uses_aws == ("environment" in job), name


def test_checkouts_leave_no_credentials() -> None:
    """No later step finds a token in .git/config."""
    found = [step for step in steps() if step.get("uses", "").startswith("actions/checkout")]

    assert found
    assert [False] * len(found) == [step["with"]["persist-credentials"] for step in found]


def test_every_run_is_one_command_that_people_type() -> None:
    """No logic in YAML: one line each, and no expression inside it."""
    for step in steps():
        if "run" in step:
            assert 1 == len(step["run"].strip().splitlines()), step
            assert "${{" not in step["run"], step


def test_commands_of_the_workflows_exist() -> None:
    """Every `onnxship <command>` with its options, and every `make <target>`, is there."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for script in [*(step.get("run", "") for step in steps()), *buildspec_commands()]:
        if made := re.match(r"make (\w+)$", script):
            assert made[1] in targets
        if called := re.match(r"\.venv/bin/onnxship (\w+)(.*)", script):
            command = [sys.executable, "-m", "pipeline", called[1], "--help"]
            said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

            assert set() == {option for option in re.findall(r"--[a-z-]+\b", called[2]) if option not in said}, script


def test_without_an_account_a_run_says_so() -> None:
    """Each workflow that needs AWS skips without a role, and has a job that says why in the summary."""
    for path in WORKFLOWS:
        if path.stem == "ci":
            continue
        conditions = {name: job.get("if") for name, job in parsed(path)["jobs"].items() if name != "ci"}

        assert "vars.ONNXSHIP_ROLE_ARN == ''" == conditions.pop("not-connected"), path.name
        assert ["vars.ONNXSHIP_ROLE_ARN != ''"] == list(conditions.values()), path.name


def test_deploys_wait_in_order() -> None:
    """No deploy is cancelled or dropped; a rollback is not made to wait for one."""
    deploy, rollback = (parsed(ROOT / ".github/workflows" / name) for name in ("deploy.yml", "rollback.yml"))

    assert {"group": "deploy-production", "cancel-in-progress": False, "queue": "max"} == deploy["concurrency"]
    assert rollback["concurrency"]["group"].startswith("rollback-")


def buildspec_commands() -> list[str]:
    phases = parsed(ROOT / "buildspec.yml")["phases"]
    return [command for phase in phases.values() for command in phase["commands"]]


def test_buildspec_holds_to_its_schema() -> None:
    """CodeBuild would read the buildspec."""
    checked = run("check-jsonschema", "--schemafile", SCHEMA, ROOT / "buildspec.yml")

    assert 0 == checked.returncode, checked.stdout


@pytest.mark.parametrize(
    ("text", "becomes"),
    [("version: 0.2", 'version: "0.2"'), ("  build:", "  bulid:"), ("on-failure: ABORT", "on-failure: STOP")],
)
def test_buildspec_schema_can_refuse(tmp_path: Path, text: str, becomes: str) -> None:
    """A version in quotes (batch builds fail on it), a misspelt phase and an unknown reaction are found."""
    bad = tmp_path / "buildspec.yml"
    bad.write_text((ROOT / "buildspec.yml").read_text().replace(text, becomes, 1))

    assert 1 == run("check-jsonschema", "--schemafile", SCHEMA, bad).returncode


def test_shell_of_buildspec_and_workflows_parses() -> None:
    """bash accepts every command, without running it."""
    for script in [*(step["run"] for step in steps() if "run" in step), *buildspec_commands()]:
        parsed_by = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)

        assert (0, "") == (parsed_by.returncode, parsed_by.stderr), script


def test_rollback_hands_inputs_on_whole(tmp_path: Path) -> None:
    """Whatever a person types as a release reaches the command as one word, and cannot become an option."""
    (script,) = [step["run"] for step in steps() if step.get("name") == "Roll back"]
    spoken = tmp_path / ".venv" / "bin" / "onnxship"
    spoken.parent.mkdir(parents=True)
    spoken.write_text('#!/bin/sh\nfor word in "$@"; do echo "[$word]"; done\n')
    spoken.chmod(0o755)

    def words(**environment: str) -> list[str]:
        shell = ["bash", "-eo", "pipefail", "-c", script]
        path = {"PATH": "/usr/bin:/bin"}
        return subprocess.run(
            shell, cwd=tmp_path, env=path | environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    assert ["[rollback]", "[--yes]", "[--]"] == words(RELEASE="", FULL_GATE="")
    assert ["[rollback]", "[--yes]", "[--full-gate]", "[--]", "[v1; rm -rf /]"] == words(
        RELEASE="v1; rm -rf /", FULL_GATE="yes"
    )


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile is clean at hadolint's strictest."""
    linted = run("hadolint", "--failure-threshold", "style", ROOT / "model_service" / "Dockerfile")

    assert (0, "") == (linted.returncode, linted.stdout)


def test_hadolint_can_find_something(tmp_path: Path) -> None:
    """A floating base image and a shell-form command are found."""
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nCMD python -m model_service\n")

    linted = run("hadolint", "--failure-threshold", "style", bad)

    assert 1 == linted.returncode
    assert {"DL3007", "DL3025"} <= set(re.findall(r"DL\d{4}", linted.stdout))
