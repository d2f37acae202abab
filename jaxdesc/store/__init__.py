"""Artifacts, on disk or in a bucket: shards that are whole or not there, found by fingerprint."""

from jaxdesc.store.artifact import Artifact, Draft, Shards
from jaxdesc.store.place import Place, csv_file, read_file, write_file, write_rows
from jaxdesc.store.processes import Processes
from jaxdesc.store.store import Store

__all__ = [
    "Artifact",
    "Draft",
    "Place",
    "Processes",
    "Shards",
    "Store",
    "csv_file",
    "read_file",
    "write_file",
    "write_rows",
]
