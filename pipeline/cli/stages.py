"""Each stage by itself: `--release ID` names the release whose earlier results it goes on from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import click

from pipeline.aws.ledger import release_id_for
from pipeline.building import git
from pipeline.cli.gates import fetch_published, published_of
from pipeline.cli.options import Run, confirm, dry_run_option, run_options, yes_option
from pipeline.cli.release import Release, opened
from pipeline.config import AgainstLive
from pipeline.deployment.access import gate_headers
from pipeline.deployment.place import find_place, ledger_of
from pipeline.errors import GateRefused, UsageError
from pipeline.results import Target, Verdict
from pipeline.stages import alarms as alarms_stage
from pipeline.stages import bootstrap as bootstrap_stage
from pipeline.stages import build as build_stage
from pipeline.stages import deploy as deploy_stage
from pipeline.stages import loadtest as loadtest_stage
from pipeline.stages import publish as publish_stage

release_option = click.option(
    "--release", "release_id", metavar="ID", required=True, help="The release that `build` or `ship` began."
)


def add_to(cli: click.Group) -> None:
    for command in (bootstrap, build, scan, publish, deploy, rollout, loadtest, alarms):
        cli.add_command(command)


@click.command()
@run_options
@dry_run_option
def bootstrap(run: Run, dry_run: bool) -> None:
    """Once per account and environment: the roles that deploy, an image repository, a bucket.

    \b
    Example: onnxship bootstrap --env production
    """
    run.show(bootstrap_stage.bootstrap(run.config, run.aws, run.clock, on_progress=run.progress, dry_run=dry_run))


@click.command()
@run_options
@click.option(
    "--release", "release_id", metavar="ID", help="The release to begin; made from time and commit if left out."
)
@click.option("--allow-dirty", is_flag=True, help="Build files that are not committed.")
@dry_run_option
def build(run: Run, release_id: str | None, allow_dirty: bool, dry_run: bool) -> None:
    """Build the linux/amd64 image and push it to ECR; an image with the same content is reused.

    \b
    Example: onnxship build --release v2
    """
    if dry_run:
        run.show(build_stage.build(**_common(run), allow_dirty=allow_dirty, dry_run=True))  # type: ignore[arg-type]
        return
    sha = git.identify(run.config.directory, []).sha
    chosen = release_id or release_id_for(run.clock.now(), sha)
    run.progress(f"release {chosen}")
    facts = {"committed_at": git.committed_at(run.config.directory), "allow_dirty": allow_dirty}
    with opened(run, chosen, "onnxship build", **facts) as release:
        run.show(release.build(allow_dirty=allow_dirty))


@click.command()
@run_options
@release_option
def scan(run: Run, release_id: str) -> None:
    """Wait for ECR's findings of the release's image, and judge them.

    \b
    Example: onnxship scan --release v2
    """
    with _begun(run, release_id, "onnxship scan") as release:
        run.show(release.scan())


@click.command()
@run_options
@release_option
@dry_run_option
def publish(run: Run, release_id: str, dry_run: bool) -> None:
    """Validate the model, measure its quality on the golden inputs, and pin it in S3.

    \b
    Example: onnxship publish --release v2
    """
    if dry_run:
        run.show(publish_stage.publish(**_common(run), dry_run=True))  # type: ignore[arg-type]
        return
    with _begun(run, release_id, "onnxship publish") as release:
        run.show(release.publish())


@click.command()
@run_options
@release_option
@dry_run_option
def deploy(run: Run, release_id: str, dry_run: bool) -> None:
    """Bring the stacks below the service to what onnxship.yaml says: network, cluster, roles.

    The service's own stack is deployed by `rollout`, which creates it with its first release.

    \b
    Example: onnxship deploy --release v2
    """
    if dry_run:
        run.show(deploy_stage.deploy_foundation(**_common(run), dry_run=True))  # type: ignore[arg-type]
        return
    with _begun(run, release_id, "onnxship deploy") as release:
        run.show(release.deploy_foundation())


@click.command()
@run_options
@release_option
@dry_run_option
@yes_option
def rollout(run: Run, release_id: str, dry_run: bool, yes: bool) -> None:
    """Register the release's task definition and put it into production behind the gate.

    \b
    Example: onnxship rollout --release v2 --yes
    """
    if dry_run:
        run.show(deploy_stage.deploy_service(**_common(run), task_definition_arn="", dry_run=True))  # type: ignore[arg-type]
        return
    confirm(run, "Roll out", yes)
    with _begun(run, release_id, "onnxship rollout") as release:
        release.register()
        rolled_out = release.put_into_production()
        release.finish({})
        run.show(rolled_out)


@click.command()
@run_options
@click.option("--url", metavar="URL", help="The listener to load; production if left out.")
@click.option(
    "--release", "release_id", metavar="ID", help="The release whose inputs are sent; the live one if left out."
)
@click.option(
    "--kind", type=click.Choice(["predict", "infer"]), help="Which route is called; gate.load.kind if left out."
)
@click.option("--against", metavar="URL", help="Compare with this listener as the gate does with production.")
def loadtest(run: Run, url: str | None, release_id: str | None, kind: str | None, against: str | None) -> None:
    """Send the configured load with Locust and judge it by services.<name>.gate.

    \b
    Example: onnxship loadtest --kind infer
             onnxship loadtest --url http://candidate.example --against http://production.example
    """
    ledger = ledger_of(run.config, run.aws, run.service)
    current = ledger.current()
    named = release_id or (current.release_id if current else None)
    record = ledger.record(named) if named else None
    if record is None:
        raise UsageError(
            f"There is no release `{named or 'live'}` whose inputs could be sent.", "see `onnxship history`"
        )
    target = replace(_production(run) if url is None else Target(url), live_url=against or "")
    model = fetch_published(run, published_of(record))
    gate = run.config.services[run.service].gate
    gate = gate.model_copy(
        update={
            "load": gate.load.model_copy(update={"kind": kind or gate.load.kind}),
            "against_live": gate.against_live or AgainstLive(),  # `--against` asks for it, whatever the gate does
        }
    )
    tested = loadtest_stage.loadtest(run.config, service=run.service, target=target, model=model, gate=gate)
    run.show(tested)
    if tested.verdict is not Verdict.PASS:
        raise GateRefused(
            f"The load test of {tested.url} ended as {tested.verdict}: {tested.reason}.",
            "compare with services.<name>.gate in onnxship.yaml; `onnxship logs` shows the tasks' own lines",
            details=tested.details,
        )


@click.command()
@run_options
@dry_run_option
def alarms(run: Run, dry_run: bool) -> None:
    """Set the budget and the cost alarms, and say who has confirmed their e-mail.

    \b
    Example: onnxship alarms
    """
    run.show(alarms_stage.alarms(run.config, run.aws, run.clock, on_progress=run.progress, dry_run=dry_run))


def _production(run: Run) -> Target:
    """The production listener, with what gates send where the service asks for API keys."""
    place = find_place(run.config, run.aws, run.service)
    asks_for_keys = run.config.services[run.service].api_keys_secret_arn
    return Target(place.production_url, gate_headers(run.aws, place.gate_secret_arn) if asks_for_keys else {})


def _begun(run: Run, release_id: str, command: str) -> AbstractContextManager[Release]:
    """A release whose draft stands already."""
    ledger = ledger_of(run.config, run.aws, run.service)
    if ledger.draft(release_id) is None:
        raise UsageError(
            f"There is no open release `{release_id}`.", f"begin it with `onnxship build --release {release_id}`"
        )
    return opened(run, release_id, command)


def _common(run: Run) -> dict[str, object]:
    return {
        "config": run.config,
        "aws": run.aws,
        "clock": run.clock,
        "service": run.service,
        "on_progress": run.progress,
    }
