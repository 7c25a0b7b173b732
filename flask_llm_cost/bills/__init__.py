"""What providers billed, and whether the ledger matches it.

``bills.read(files)`` recognizes each file's source; that is pure. ``bills.compare()``
compares a ledger to a statement, and ``bills.StoredBills`` keeps statements.
"""

from __future__ import annotations

from .document import Document as Document
from .held import as_text as as_text
from .held import compare as compare
from .held import true_costs as true_costs
from .line import Kind as Kind
from .line import KINDS as KINDS
from .line import Line as Line
from .line import LINE_CAUSES as LINE_CAUSES
from .reading import read as read
from .report import CAUSES as CAUSES
from .report import Report as Report
from .report import Residual as Residual
from .scopes import unknown_groups as unknown_groups
from .sources import recognize as recognize
from .sources import SOURCES as SOURCES
from .statement import Statement as Statement
from .stored import StoredBill as StoredBill
from .stored import StoredBills as StoredBills
