"""Fixed banks of mocks in HDF5: write, read, merge, check. See docs/bank-format.md."""

from __future__ import annotations

from melotte.engine.bank_checks import check_bank
from melotte.engine.bank_reading import BankReader, find_shards
from melotte.engine.bank_writing import merge_banks, shard_path, write_bank

__all__ = ["BankReader", "check_bank", "find_shards", "merge_banks", "shard_path", "write_bank"]
