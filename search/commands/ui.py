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

    Links to each study's saved views are printed: all trials, the front, trials by network and by
    kernels, failures. No study and no run is changed; views that an older release did not give are
    added.

    MLflow asks nobody for a password: who reaches the address can read and delete every run.
    """
    if host not in LOCAL and not expose:
        raise click.UsageError(
            f"{host} may be reached by other machines, and MLflow has no password; "
            "add --expose if that is meant, or use an ssh tunnel"
        )
    from search.redaction import redacted
    from search.store import file as database
    from search.store import stripped

    uri = store(folder, tracking_uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"the runs are on a server already: {redacted(uri)}")
        _print_links(folder, tracking_uri, uri, stripped(uri).rstrip("/"))
        return
    port = port or _free(host)
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    click.echo(f"MLflow at {address}   (Ctrl-C ends it; store {redacted(uri)})")
    _print_links(folder, tracking_uri, uri, address)
    sys.stdout.flush()
    arguments = ["--host", host, "--port", str(port), "--workers", "1"]
    if (file := database(uri)) is not None:
        beside = file.parent / "mlartifacts"
        arguments += ["--artifacts-destination", str(beside)]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # not an argument: other users see those
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # 15 processes and 1.2 GB otherwise
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])


def _print_links(folder: Path, asked: str | None, uri: str, address: str) -> None:
    """The views of each study whose runs are in the store `uri`; of any other, where they are."""
    from search import text
    from search.errors import JournalError
    from search.execution import launch
    from search.execution.driving import tracking_of
    from search.redaction import redacted
    from search.study import journal
    from search.tracking.away import TrackingError
    from spaces import SpaceError

    folder = folder.absolute()
    alone = journal.exists(folder)
    for each in [folder] if alone else _below(folder):
        try:
            if not journal.exists(each):
                continue
            study = launch.load(each)
            tracking = tracking_of(study, asked or study.tracking_uri, warn)
            pages = tracking.pages() if tracking.uri == uri else {}
        except TrackingError as error:
            warn(str(error))
            return  # nor does the store tell of any other
        except (JournalError, SpaceError) as error:
            warn(str(error))  # one that cannot be shown hides no other
            continue
        if tracking.uri != uri:
            warn(f"{study.name}: its runs are in {redacted(tracking.uri)}")
        elif not pages:
            warn(f"{study.name}: not there yet; {text.typed('sync', each, uri)} writes it")
        elif not alone:
            click.echo(study.name)
        for name, page in pages.items():
            click.echo(f"  {name:9} {address}/{page}")


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def store(folder: Path, tracking_uri: str | None) -> str:
    """The store of a study or of a folder of studies; a usage error where there is none yet."""
    from search import text
    from search.execution import launch
    from search.store import default_uri
    from search.store import file as database
    from search.study import journal

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
