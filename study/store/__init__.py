"""Store of results: blocks of replicates in a folder or a bucket, written once and verified."""

from study.errors import StoreError
from study.store.cells import Block, DamagedBlock, Store

__all__ = ["Block", "DamagedBlock", "Store", "StoreError"]
