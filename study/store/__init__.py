"""Finished cells: where they are, what they hold, and who may write them."""

from study.store.cells import State as State
from study.store.cells import Store as Store
from study.store.decoding import DamagedCell as DamagedCell
from study.store.storage import StoreError as StoreError
