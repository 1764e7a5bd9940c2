"""Whole studies as files: out of one store, into another, two halves into one."""

from fmnist_tuning.exchange.entries import Entry, Logged, RunEntry, SweepEntry
from fmnist_tuning.exchange.exporting import Exported, export_study
from fmnist_tuning.exchange.format import decode, encode, read_file
from fmnist_tuning.exchange.importing import Imported, import_study

__all__ = [
    "Entry",
    "Exported",
    "Imported",
    "Logged",
    "RunEntry",
    "SweepEntry",
    "decode",
    "encode",
    "export_study",
    "import_study",
    "read_file",
]
