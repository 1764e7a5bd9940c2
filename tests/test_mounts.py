"""Stores and locks on network disks, by lists of mounts as Linux writes them."""

import os
from pathlib import Path

import pytest
from conftest import TINY_RUN

from fmnist_tuning.store import mounts
from fmnist_tuning.store.mounts import NetworkDisk, caution, network_disk

HEAD = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


def mount(point: str, kind: str, options: str = "rw") -> str:
    return f"36 22 0:52 / {point} rw,nosuid shared:7 master:2 - {kind} host:/home {options}\n"


@pytest.mark.parametrize(
    ("kind", "options", "shares_locks"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", True),
        ("nfs", "rw,vers=3,nolock", False),
        ("nfs", "rw,vers=3,local_lock=all", False),
        ("nfs", "rw,vers=3,local_lock=posix", True),  # flock, which our locks are, is shared
        ("cifs", "rw,vers=3.1.1", True),
        ("cifs", "rw,nobrl", False),
        ("lustre", "rw,flock", True),
        ("lustre", "rw,localflock", False),
        ("ceph", "rw", True),
        ("beegfs", "rw", False),
        ("9p", "rw", False),
        ("fuse.sshfs", "rw", False),
    ],
)
def test_network_disks(kind, options, shares_locks):
    """Their kind is known, and whether their locks reach other machines."""
    listed = HEAD + mount("/home", kind, options)
    assert network_disk(Path("/home/ada/x"), listed) == NetworkDisk(kind, shares_locks)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk"])
def test_local_disks(kind):
    """No warning."""
    assert network_disk(Path("/home/x"), HEAD + mount("/home", kind)) is None
    assert caution(Path("/home/x"), store="x.db", mounts=HEAD + mount("/home", kind)) is None


def test_the_mount_that_counts():
    """The innermost one, of two at one place the later one, and whole names of folders only."""
    nfs, local = mount("/home", "nfs4"), mount("/home/ada/scratch", "xfs")
    for listed in (HEAD + nfs + local, HEAD + local + nfs):
        assert network_disk(Path("/home/ada/scratch/x"), listed) is None
        assert network_disk(Path("/home/ada/scratches"), listed).kind == "nfs4"
    assert network_disk(Path("/homes"), HEAD + nfs) is None
    assert network_disk(Path("/home"), HEAD + nfs + mount("/home", "xfs")) is None
    assert network_disk(Path("/my runs/x"), HEAD + mount("/my\\040runs", "nfs")).kind == "nfs"


@pytest.mark.parametrize("listed", ["", "nonsense\n", "1 2 3 - nfs\n", "\udcff - -\n"])
def test_a_list_of_mounts_that_says_nothing(listed):
    """It is no reason to stop."""
    assert network_disk(Path("/home"), listed) is None


def test_what_is_said():
    """A store on a network disk is always named; locks for a server only if others miss them."""
    listed = HEAD + mount("/home", "nfs4") + mount("/tank", "nfs", "rw,nolock")
    said = caution(Path("/home"), store="sqlite:////home/mlflow.db", mounts=listed)
    assert said.startswith("warning: sqlite:////home/mlflow.db is on a network disk (nfs4)")
    assert "`mlflow server`" in said
    assert caution(Path("/home"), store=None, mounts=listed) is None
    said = caution(Path("/tank"), store=None, mounts=listed)
    assert "work in a folder of its own on each machine" in said


def test_run_warns_once(migrated, fmnist_here, sweep_file, tmp_path, monkeypatch):
    """On stderr, and trains all the same; `plan` writes nothing, and is silent."""
    listed = tmp_path / "mountinfo"
    listed.write_text(HEAD + mount(os.fspath(migrated.parent), "nfs4"))
    monkeypatch.setattr(mounts, "_MOUNTS", listed)
    sweep = sweep_file("sweep: s\ntitle: S\narms: [{name: one}]\n")
    assert "warning" not in fmnist_here("plan", sweep, *TINY_RUN[1:]).stderr
    done = fmnist_here("run", sweep, *TINY_RUN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is on a network disk (nfs4)") == 1
    assert "warning" not in done.stdout
