"""MLflow on a real PostgreSQL, its server proxying files: many drivers at once lose no run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """benchmarks/mlflow_server.py, which starts both servers and writes eight studies at once."""
    spec = importlib.util.spec_from_file_location("server", ROOT / "benchmarks/mlflow_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.programs() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("its driver is not installed (pip install 'eca-search[postgres]')")
    return module


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_children_at_once_are_all_there(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight drivers with 25 trials each: every run once, whole, its files through the server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = bench.measure("server on postgresql", drivers=8, each=25, scratch=tmp_path)

    assert found["said"] == []
    assert found["drivers_level"] == 8
    assert found["whole"] == found["trials_told_once"] == found["children"] == 200
    assert found["artifacts"] == ["mlflow-artifacts"]  # not the server's folder: none is shared
    kept = [path for path in (tmp_path / "proxied").rglob("*") if path.is_file()]
    assert len(kept) > 200


@pytest.mark.slow
def test_a_store_in_postgresql_without_a_server(bench: ModuleType, tmp_path: Path) -> None:
    """A `postgresql://` store is written by the driver itself; a second time adds nothing."""
    from mlflow import MlflowClient

    from search.tracking.following import Tracking

    with bench.postgresql() as uri:
        study, assignments = bench.started(tmp_path, "alone", 3)
        bench.ended(study, assignments)
        Tracking(uri, "alone", study, say=pytest.fail).project(study)
        client = MlflowClient(uri)
        before = [run.to_dictionary() for run in client.search_runs(["1"])]
        Tracking(uri, "alone", study, say=pytest.fail).project(study)
        after = [run.to_dictionary() for run in client.search_runs(["1"])]

    assert len(before) == 4
    assert after == before
