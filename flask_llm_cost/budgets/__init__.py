"""What may be spent: budgets, their calendar windows, and what a call may come to. Pure."""

from .alert import Alert as Alert
from .definition import Budget as Budget
from .definition import defined as defined
from .definition import tags_of as tags_of
from .window import Window as Window
