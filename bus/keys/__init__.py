"""CURVE key pairs in files, and the master's record of which minion keys it accepts."""

from __future__ import annotations

from bus.keys.files import read_public, sync_files, sync_folder, write_beside, write_public
from bus.keys.pairs import Keypair, MinionKeys
from bus.keys.store import ACCEPTED, DENIED, FOLDERS, PENDING, REJECTED, UNKNOWN, KeyStore
from bus.keys.values import check_minion_id, check_public, fingerprint, key_from_fingerprint

__all__ = [
    "ACCEPTED",
    "DENIED",
    "FOLDERS",
    "PENDING",
    "REJECTED",
    "UNKNOWN",
    "KeyStore",
    "Keypair",
    "MinionKeys",
    "check_minion_id",
    "check_public",
    "fingerprint",
    "key_from_fingerprint",
    "read_public",
    "sync_files",
    "sync_folder",
    "write_beside",
    "write_public",
]
