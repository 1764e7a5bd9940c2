"""Whether locks can be trusted where a store or its locks are kept: not on every network disk."""

import re
from pathlib import Path
from typing import Final, NamedTuple

_MOUNTS: Final = Path("/proc/self/mountinfo")
# On these a lock is known to the machine that holds it, and perhaps to no other.
_LOCKS_HERE_ONLY: Final = {
    *("9p", "afs", "beegfs", "davfs", "fuse.davfs", "fuse.davfs2", "fuse.gvfsd-fuse"),
    *("fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}
# On these locks reach other machines, if the server and the mount's options allow it.
_LOCKS_SHARED: Final = {
    *("ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.juicefs", "glusterfs", "gpfs"),
    *("lustre", "nfs", "nfs4", "orangefs", "smb3", "smbfs"),
}
_OPTIONS_HERE_ONLY: Final = {"nolock", "local_lock=all", "local_lock=flock", "localflock", "nobrl"}


class NetworkDisk(NamedTuple):
    """A mounted file system whose files are on another machine."""

    kind: str  # as in the kernel's list of mounts
    shares_locks: bool  # if several machines use it


def network_disk(path: Path, mounts: str | None = None) -> NetworkDisk | None:
    """The network disk that a path is on; None if it is on none, or the system does not say.

    `mounts` is the text of Linux's list of mounts, as in `man 5 proc`: this process's by default.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(errors="surrogateescape")
        except OSError:  # no Linux
            return None
    found: tuple[int, str, set[str]] | None = None
    for line in mounts.splitlines():
        first, _, last = line.partition(" - ")
        fields, kinds = first.split(), last.split()
        if len(fields) < 6 or len(kinds) < 3:  # noqa: PLR2004  the fields that always are there
            continue
        point = Path(_unescaped(fields[4]))
        depth = len(point.parts)
        # Of two mounts on one folder the later one is seen.
        if path.is_relative_to(point) and (found is None or depth >= found[0]):
            found = depth, kinds[0], {*fields[5].split(","), *kinds[2].split(",")}
    if found is None or found[1] not in _LOCKS_HERE_ONLY | _LOCKS_SHARED:
        return None
    _, kind, options = found
    return NetworkDisk(kind, kind in _LOCKS_SHARED and not options & _OPTIONS_HERE_ONLY)


def caution(folder: Path, *, store: str | None, mounts: str | None = None) -> str | None:
    """A warning if a network disk endangers a study; None if all is well.

    `folder` has the locks, and the `store` that is named, if that is a file or a folder. SQLite's
    authors warn of every network disk (https://www.sqlite.org/howtocorrupt.html, 2.1).
    """
    disk = network_disk(folder.resolve(), mounts)
    if disk is None:
        return None
    if store is not None:
        return (
            f"warning: {store} is on a network disk ({disk.kind}), where file locks can fail; then "
            "commands on several machines damage the store. Use a local disk, or an `mlflow "
            "server` with --tracking-uri http://HOST:PORT"
        )
    if disk.shares_locks:
        return None
    return (
        f"warning: {folder} is on a network disk ({disk.kind}) whose locks other machines do not "
        "see; work in a folder of its own on each machine, or two of them may train the same run"
    )


def _unescaped(text: str) -> str:
    """A path in which the kernel has written spaces, and what else parts its lines, as numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
