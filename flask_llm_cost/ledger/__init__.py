"""The ledger in a database: every call is stored exactly once."""

from .database import Ledger as Ledger
