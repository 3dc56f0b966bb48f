"""`ui`: MLflow's own pages over a study's store, on this machine alone."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from search.commands import command, tracking_uri, warn

LOCAL = ("127.0.0.1", "localhost", "::1")
PORTS = range(5000, 5020)


@command(example="eca-search ui runs/digits")
@click.argument("folder", default="runs", metavar="[DIR]", type=click.Path(path_type=Path))
@tracking_uri
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(1, 65535), help="Else the first free one from 5000 on.")
@click.option("--expose", is_flag=True, help="Let --host be one that other machines reach.")
def ui(folder: Path, tracking_uri: str | None, host: str, port: int | None, expose: bool) -> None:
    """Open the MLflow store of DIR, a study's folder or a folder of studies, until Ctrl-C.

    MLflow asks nobody for a password: who reaches the address can read and delete every run.
    """
    if host not in LOCAL and not expose:
        raise click.UsageError(
            f"{host} may be reached by other machines, and MLflow has no password; "
            "add --expose if that is meant, or use an ssh tunnel"
        )
    from search.redaction import redacted
    from search.store import file as database

    uri = store(folder, tracking_uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"this study's runs are on a server already: {redacted(uri)}")
        return
    port = port or _free(host)
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    click.echo(f"MLflow at {address}   (Ctrl-C ends it; store {redacted(uri)})")
    for name, page in _pages(folder, uri).items():
        click.echo(f"  {name:9} {address}/{page}")
    sys.stdout.flush()
    arguments = ["--host", host, "--port", str(port), "--workers", "1"]
    if (file := database(uri)) is not None:
        beside = file.parent / "mlartifacts"
        arguments += ["--artifacts-destination", str(beside)]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # not an argument: other users see those
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # 15 processes and 1.2 GB otherwise
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])


def _pages(folder: Path, uri: str) -> dict[str, str]:
    """The views of a study; none for a folder of several."""
    from search import journal, launch
    from search.driving import tracking_of

    if not journal.exists(folder.absolute()):
        return {}
    return tracking_of(launch.load(folder), uri, warn).pages()


def store(folder: Path, tracking_uri: str | None) -> str:
    """The store of a study or of a folder of studies; a usage error where there is none yet."""
    from search import journal, launch, text
    from search.store import default_uri
    from search.store import file as database

    folder = folder.absolute()
    there, out = os.environ.get("MLFLOW_TRACKING_URI"), folder
    if journal.exists(folder):
        study, out = launch.load(folder), folder.parent
        there = study.tracking_uri or study.space.search.tracking.uri or there
    uri = tracking_uri or there or default_uri(out)
    file = database(uri)
    if file is not None and not file.is_file():
        if out == folder:
            raise click.UsageError(f"no MLflow store at {file}; name a study's folder")
        warn(f"no MLflow store at {file} yet")
        raise click.UsageError(f"{text.typed('sync', folder, uri)} writes it")
    return uri


def _free(host: str) -> int:
    """The first port from 5000 on that nobody listens on."""
    for port in PORTS:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise click.UsageError(f"ports {PORTS[0]} to {PORTS[-1]} are taken; name another with --port")
