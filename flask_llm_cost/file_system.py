"""Find out whether a folder is on a network file system."""

from __future__ import annotations

import functools
import logging
import os
import re
import typing as t
from pathlib import Path

_log = logging.getLogger("flask_llm_cost")

_MOUNTS: t.Final = Path("/proc/self/mountinfo")

# Folders of a virtual machine's host, too: its locks are not ours.
_NETWORK: t.Final = frozenset(
    "9p acfs afs afpfs beegfs ceph cifs coda davfs fhgfs gfs gfs2 glusterfs gpfs lustre"
    " ncpfs nfs nfs3 nfs4 ocfs2 orangefs panfs prl_fs pvfs2 shfs smb smb2 smb3 smbfs vboxsf"
    " virtiofs vmhgfs webdav".split()
)
_LOCAL_FUSE: t.Final = frozenset(
    "fuseblk fuse.bindfs fuse.encfs fuse.fuse-overlayfs fuse.gocryptfs fuse.lxcfs"
    " fuse.mergerfs fuse.ntfs fuse.ntfs-3g fuse.unionfs".split()
)
_ESCAPED: t.Final = re.compile(r"\\([0-7]{3})")


def network_type(folder: Path) -> str | None:
    """Return the type of the network file system that a folder is on.

    :return: For example ``nfs4``; ``None`` if it is local, or if the system does not say.
    """
    path = os.path.realpath(folder)
    if path.startswith("\\\\"):
        return "UNC"
    try:
        text = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:  # not Linux
        return None
    kind = _type_of(path, text)
    if kind in _NETWORK:
        return kind
    # The others are clients of something: sshfs, s3fs, rclone, gcsfuse, juicefs, ...
    return kind if kind.startswith("fuse") and kind not in _LOCAL_FUSE else None


def _type_of(path: str, mounts: str) -> str:
    longest, found = -1, ""
    for line in mounts.split("\n"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.partition(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # What is mounted last at a point hides what was mounted there before.
        if inside and len(point) >= longest:
            longest, found = len(point), kind
    return found


@functools.cache
def warn_of_network(folder: Path, advice: str) -> None:
    """Log, once, that a folder is on a network file system.

    :param advice: What to do, as sentences.
    """
    kind = network_type(folder)
    if kind is not None:
        _log.warning("%s", network_message(folder, kind, advice))


def network_message(folder: Path, kind: str, advice: str) -> str:
    """Say that a folder is on a network file system, and what to do."""
    return f"{folder} is on a network file system ({kind}). {advice}"
