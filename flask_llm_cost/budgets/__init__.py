"""What may be spent: budgets, their calendar windows, and what a call may come to. Pure."""

from .alert import Alert as Alert
from .budget import Budget as Budget
from .budget import defined as defined
from .budget import tags_of as tags_of
from .window import Window as Window
