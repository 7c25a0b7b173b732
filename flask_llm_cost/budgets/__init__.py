"""Budgets: their definition, their counters in the ledger, alerts and enforcement.

.. code-block:: text

    Policy      the budgets of an app, and the app's own code: limits, callback, signals
    Enforcer    decides before and after each call
    Budgets     what a ledger stores of budgets: counters, reservations, alerts, outbox
    Standing    how one window of a budget stands
    Alert       a threshold was reached, or a call was refused
"""

from .alert import Alert as Alert
from .definition import Budget as Budget
from .definition import BudgetWindow as BudgetWindow
from .definition import model_of as model_of
from .definition import read_budgets as read_budgets
from .definition import tags_of as tags_of
