"""Commands for a model on this machine: init, serve and manifest."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import click

from pipeline import config as configuration
from pipeline import report
from pipeline.building.context import USER_CODE
from pipeline.building.user_code import check_user_code
from pipeline.cli import interruption
from pipeline.cli.options import LOOPBACK, Run, config_options, dry_run_option, need, output_option, service_option
from pipeline.errors import ConfigError, UsageError
from pipeline.example_request import example_request
from pipeline.results import Quality
from pipeline.stages import init as init_stage
from pipeline.stages import publish

PORT = click.IntRange(1, 65535)
EXPLAINED_AFTER_S = 1.5  # an end that takes longer says what it waits for
MAX_SHOWN = 1000  # characters of a request that are still copied from a terminal


def add_to(cli: click.Group) -> None:
    for command in (init, serve, manifest):
        cli.add_command(command)


@click.command()
@click.option("--model", "model", type=click.Path(path_type=Path), required=True, help="Your .onnx file.")
@click.option("--data", type=click.Path(path_type=Path), help="Labelled rows, .npz or .csv, 32 or more.")
@click.option("--name", metavar="NAME", help="Of project and service; if left out, the file's.")
@click.option("--account", default="111122223333", show_default=True, metavar="ID", help="Your AWS account.")
@click.option("--region", default="eu-west-1", show_default=True, metavar="REGION", help="Where to deploy.")
@click.option("--directory", type=click.Path(path_type=Path), default=".", show_default=True, help="For the files.")
@dry_run_option
@output_option
def init(
    model: Path,
    data: Path | None,
    name: str | None,
    account: str,
    region: str,
    directory: Path,
    dry_run: bool,
    output: str,
) -> None:
    """Write a commented onnxship.yaml and golden.npz for a model of yours.

    A .csv has a header, the features in the model's order and the label in the last column, or in one named label,
    target or y. An .npz has an array for each input of the model, and the labels as `expected`. Without --data the
    model can be served; shipping it needs golden.npz.

    \b
    Example: onnxship init --model fraud.onnx --data labelled.csv
    """
    chosen = name or _name_from(model)
    _check("--name", chosen, r"[a-z][a-z0-9-]{0,19}", "1 to 20 of a-z, 0-9 and -, beginning with a letter")
    _check("--account", account, r"\d{12}", "the 12 digits of an AWS account")
    _check("--region", region, r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as eu-west-1")
    result = init_stage.init(
        model,
        publish.inspect_model(model),
        lambda path: _measured(path, chosen, bool(data)),
        data=data,
        directory=directory,
        name=chosen,
        account=account,
        region=region,
        dry_run=dry_run,
        on_progress=partial(click.echo, err=True),
    )
    click.echo(report.as_json(result) if output == "json" else report.as_text(result))


@click.command()
@config_options
@service_option
@click.option("--port", type=PORT, metavar="PORT", default=8080, show_default=True, help="The port to answer on.")
@click.option("--admin-port", type=PORT, metavar="PORT", default=8081, show_default=True, help="The port of /metrics.")
def serve(config_path: Path, env: str | None, service: str | None, port: int, admin_port: int) -> None:
    """Serve the model on this machine with the server that runs on ECS; no AWS, no rehearsal.

    It listens on 127.0.0.1 alone, where other machines do not reach it. The model and the server's settings stand in
    onnxship.yaml, which `onnxship init` writes. Ctrl-C ends it once all requests are answered, a second one at once.

    \b
    Example: onnxship serve --port 8080
    """
    need("fastapi", "onnxship[serve]")
    config = configuration.load(config_path, env)
    run = Run(config, config.resolve_service(service), "text")
    context = _working_directory(run)
    _need_free(port, admin_port)
    with tempfile.TemporaryDirectory(prefix="onnxship-serve-") as scratch:
        manifest = publish.write_local(run.config, run.service, Path(scratch) / "published")
        environment = (
            os.environ
            | run.settings.environment
            | {
                "PORT": str(port),
                "ADMIN_PORT": str(admin_port),
                "BIND_HOST": LOOPBACK,
                "MODEL_DIR": str(Path(scratch) / "models"),
                "MODEL_MANIFEST_URI": manifest.as_uri(),
                "RELEASE_ID": "local",
                "DEVICE": "cpu",
                "DRAIN_S": "0",
            }
        )
        click.echo(_how_to_call(run, port, Path(scratch) / "request.json"), err=True)
        _run_until_interrupted([sys.executable, "-m", "model_service"], environment, cwd=context)


@click.command()
@click.argument("model", metavar="[MODEL]", type=click.Path(path_type=Path), required=False)
@click.option("--repository", type=click.Path(path_type=Path), required=True, help="The directory of all models.")
@click.option("--name", metavar="NAME", help="What the server calls it; if left out, the file's or service's name.")
@click.option(
    "--golden", type=click.Path(path_type=Path), help="Golden inputs of MODEL, .npz: tried now and at each start."
)
@config_options
@click.option("--service", "-s", metavar="NAME", help="The service whose model is taken where no MODEL is given.")
@output_option
def manifest(
    model: Path | None,
    repository: Path,
    name: str | None,
    golden: Path | None,
    config_path: Path,
    env: str | None,
    service: str | None,
    output: str,
) -> None:
    """Put a model into a model server's repository, or a changed one in its place.

    MODEL is an .onnx file. Without it, the model of a service in onnxship.yaml is taken, with its golden inputs,
    labels and preprocessing. A server with MODEL_CONTROL=poll follows; the version before stays for its readers.

    \b
    Example: onnxship manifest fraud.onnx --repository models
    """
    if name:
        _check("--name", name, r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 of A-Z, a-z, 0-9, ., _ and -")
    store = partial(publish.write_repository, on_progress=partial(click.echo, err=True))
    if model:
        if service:
            raise UsageError(f"{model} and --service {service} name two models.", "leave one of them out")
        result = store(_of_file(model, golden), Path, repository, name or _name_from(model))
    else:
        config = _instead_of_a_model(golden, config_path, env)
        chosen = config.resolve_service(service)
        result = store(config.services[chosen].model, config.file, repository, name or chosen)
    click.echo(report.as_json(result) if output == "json" else report.as_text(result))


def _of_file(model: Path, golden: Path | None) -> configuration.Model:
    if golden and not golden.is_file():
        raise UsageError(f"There is no {golden}.", "name an .npz file that exists with --golden")
    return configuration.Model(path=str(model), golden=str(golden or ""))


def _instead_of_a_model(golden: Path | None, config_path: Path, env: str | None) -> configuration.Config:
    if golden or not config_path.exists():
        why = f"--golden {golden} belongs to one" if golden else f"there is no {config_path} to take one from"
        raise UsageError(
            f"No MODEL is given, and {why}.", "name the file: `onnxship manifest my.onnx --repository models`"
        )
    return configuration.load(config_path, env)


def _working_directory(run: Run) -> Path:
    """Where the server finds service.py, which is read first: it is refused here as `onnxship build` refuses it."""
    directory = run.config.file(run.settings.image.context)
    if not directory.is_dir():
        raise ConfigError(f"There is no directory {directory}.", "correct services.<name>.image.context")
    if (directory / USER_CODE).is_file():
        check_user_code(directory / USER_CODE)
    return directory


def _how_to_call(run: Run, port: int, example: Path) -> str:
    """Lines to copy; a request too long for one stands in `example`, which lasts as long as the server."""
    url = f"http://{LOOPBACK}:{port}"
    path, body = example_request(run.config, run.service)
    written = json.dumps(body)
    if len(written) > MAX_SHOWN:
        example.write_text(written)
        written = f"@{example}"
    golden = run.config.file(run.settings.model.golden)
    without = "" if golden.exists() else f"  There are no golden inputs at {golden}: the warm-up runs on zeros\n"
    has_images = run.settings.model.predict.preprocessing is not None
    images = f"\n  an image    curl {url}/predict -F file=@picture.jpg" if has_images else ""
    return (
        f"Serving {run.settings.model.path} on {url} (Ctrl-C ends it)\n{without}"
        f"  Swagger UI  {url}/docs\n"
        f"  ready       curl {url}/v2/health/ready\n"
        f"  predict     curl {url}{path} -d '{written}'{images}"
    )


def _run_until_interrupted(command: list[str], environment: dict[str, str], cwd: Path) -> None:
    """Run the server in the foreground; Ctrl-C and SIGTERM reach it as SIGTERM, so that it drains; a second ends it.

    Of a SIGKILL nobody can tell it: it holds a pipe whose other end is closed with this process.
    """
    its_end, ours = os.pipe()
    environment = environment | {"EXIT_WITH_FD": str(its_end)}
    process = subprocess.Popen(command, env=environment, cwd=cwd, start_new_session=True, pass_fds=(its_end,))
    os.close(its_end)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        code = _wait_for_answers(process)
    finally:
        os.close(ours)
    if code not in (0, -signal.SIGTERM):
        raise ConfigError(f"The server ended with exit code {code}.", "see the last log line above for the cause")


def _wait_for_answers(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a server that was told to end; a further signal ends it at once and is raised."""
    interruption.raise_once()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(EXPLAINED_AFTER_S)
        click.echo("Waiting for requests that are not answered yet; Ctrl-C again ends it at once.", err=True)
        return process.wait()
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        raise


def _need_free(port: int, admin_port: int) -> None:
    if port == admin_port:
        raise UsageError(f"--port and --admin-port are both {port}.", "give them two ports")
    for option, number in (("--port", port), ("--admin-port", admin_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, number))
            except OSError as error:
                why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
                raise UsageError(f"Port {number} {why}.", f"choose another with {option}") from error


def _check(option: str, value: str, pattern: str, takes: str) -> None:
    if not re.fullmatch(pattern, value, re.ASCII):
        raise UsageError(f"{option} `{value}` does not do.", f"give {option} {takes}")


def _measured(path: Path, service: str, has_data: bool) -> Quality | None:
    """The model's quality on the rows, judged as `publish` will; without rows only the file is checked."""
    config = configuration.load(path)
    return (
        publish.prepare(config.services[service].model, config.file, enforce_quality=False).quality
        if has_data
        else None
    )


def _name_from(model: Path) -> str:
    """A name that AWS takes, from the file's: other characters than a-z and 0-9 become dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", model.stem.lower()).strip("-")
    return (name if name[:1].isalpha() else f"model-{name}")[:20].strip("-")
