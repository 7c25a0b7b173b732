"""The app's own tables: users and their questions."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from werkzeug.security import check_password_hash
from werkzeug.security import generate_password_hash


class Base(DeclarativeBase):
    """The base class of all models."""


db = SQLAlchemy(model_class=Base)

if t.TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


class User(Model):
    """Someone who can log in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    is_admin: Mapped[bool] = mapped_column(default=False)

    # Required by Flask-Login.
    is_authenticated = True
    is_active = True
    is_anonymous = False

    def get_id(self) -> str:
        return str(self.id)

    def knows(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


class Question(Model):
    """A question. The answer is not stored."""

    __tablename__ = "questions"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    text: Mapped[str] = mapped_column(sa.Text)


def load_user(user_id: str) -> User | None:
    """Load the user of a cookie, for Flask-Login."""
    return db.session.get(User, int(user_id))


def find_user(name: str) -> User | None:
    return db.session.scalar(sa.select(User).where(User.name == name))


def seed() -> None:
    """Create two users, with their names as passwords."""
    for name in ("admin", "visitor"):
        if find_user(name) is None:
            user = User()
            user.name = name
            user.password_hash = generate_password_hash(name)
            user.is_admin = name == "admin"
            db.session.add(user)
    db.session.commit()
