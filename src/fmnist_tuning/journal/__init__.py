"""The lab journal, computed from a study and left alone where a person wrote."""

from fmnist_tuning.journal.blocks import read_blocks, replace_blocks
from fmnist_tuning.journal.document import difference, read_text, write_journal

__all__ = ["difference", "read_blocks", "read_text", "replace_blocks", "write_journal"]
