"""Which file system a study lies on is known, and what holds there is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search.beforehand import doctor, filesystems
from search.execution import driving

Mounted = Callable[[str], None]


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Have the kernel tell of one more mount, at `tmp_path/shared`."""
    (tmp_path / "shared").mkdir()

    def mount(line: str) -> None:
        known = tmp_path / "mounts"
        known.write_text(f"/dev/sda1 / ext4 rw 0 0\n{line.format(at=tmp_path / 'shared')}\n")
        monkeypatch.setattr(filesystems, "MOUNTS", known)

    return mount


@pytest.mark.parametrize(
    ("line", "state", "said"),
    [
        ("fs:/home {at} nfs4 rw,hard 0 0", "ok", "nfs4 (fs:/home): the journal, its lease"),
        ("fs:/home {at} nfs rw,soft,vers=3 0 0", "warn", "mounted soft"),
        ("mds@tcp:/lus {at} lustre rw,flock 0 0", "ok", "SQLite does not hold"),
        ("mds@tcp:/lus {at} lustre rw,localflock 0 0", "ok", "told by the lease"),
        ("mds@tcp:/lus {at} lustre rw,lazystatfs 0 0", "fail", "without flock"),
        ("bucket {at} fuse.s3fs rw 0 0", "fail", "takes no appends"),
        ("tmpfs {at} tmpfs rw 0 0", "warn", "gone when this machine is"),
        ("/dev/nvme0n1 {at} xfs rw 0 0", "ok", "all of it holds"),
    ],
)
def test_what_holds_is_said(
    mounted: Mounted, tmp_path: Path, line: str, state: str, said: str
) -> None:
    """`doctor` names the file system below --out, also where that is to be made yet."""
    mounted(line)
    (found,) = doctor._file_system(tmp_path / "shared" / "runs")

    assert (found.state, bool(found.remedy)) == (state, state != "ok")
    assert said in found.found


def test_the_nearest_mount_counts(mounted: Mounted, tmp_path: Path) -> None:
    """A folder beside a mount is not on it, nor is one whose name merely begins the same."""
    mounted("fs:/home {at} nfs4 rw 0 0")
    (tmp_path / "shared2").mkdir()

    for place, kind in (("shared", "nfs4"), ("shared2", "ext4")):
        there = filesystems.mount(tmp_path / place)
        assert there is not None
        assert there.kind == kind


def test_a_name_with_a_space_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel spells it in octal."""
    (tmp_path / "my disk").mkdir()
    (tmp_path / "mounts").write_text(f"fs:/x {tmp_path}/my\\040disk nfs4 rw 0 0\n")
    monkeypatch.setattr(filesystems, "MOUNTS", tmp_path / "mounts")
    there = filesystems.mount(tmp_path / "my disk")

    assert there is not None
    assert there.source == "fs:/x"


def test_where_the_kernel_does_not_tell_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other systems have no such file."""
    monkeypatch.setattr(filesystems, "MOUNTS", tmp_path / "none")

    assert filesystems.mount(tmp_path) is None
    assert list(doctor._file_system(tmp_path)) == []


def test_sqlite_on_a_network_is_warned_of(mounted: Mounted, tmp_path: Path) -> None:
    """A store that is yet to be made as well; one on a local disk is left alone."""
    mounted("fs:/home {at} nfs4 rw 0 0")

    assert driving._shared(tmp_path / "shared" / "runs" / "mlflow.db") == "nfs4 (fs:/home)"
    assert driving._shared(tmp_path / "mlflow.db") == ""
    assert driving._shared(None) == ""
