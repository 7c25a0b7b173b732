"""The app's own tables: tenants, their users and the users' questions."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import relationship
from werkzeug.security import check_password_hash
from werkzeug.security import generate_password_hash


class Base(DeclarativeBase):
    """The base class of all models."""


db = SQLAlchemy(model_class=Base)

if t.TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


class Tenant(Model):
    """A customer: a company with users."""

    __tablename__ = "tenants"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), unique=True)
    limit_usd: Mapped[str | None] = mapped_column(sa.String(20))
    """What its plan includes per month. ``None`` is no limit."""
    digest: Mapped[str | None] = mapped_column(sa.Text)
    """What its users asked about: written by a job."""


class User(Model):
    """Someone who can log in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    role: Mapped[str] = mapped_column(sa.String(20), default="member")
    """``member``, ``finance`` or ``admin``."""
    tenant_id: Mapped[int] = mapped_column(sa.ForeignKey("tenants.id"))
    tenant: Mapped[Tenant] = relationship(lazy="joined")

    # Required by Flask-Login.
    is_authenticated = True
    is_active = True
    is_anonymous = False

    @property
    def sees_costs(self) -> bool:
        """Whether the dashboard is open to them, with the costs of all tenants."""
        return self.role in ("finance", "admin")

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


def find_tenant(name: str) -> Tenant | None:
    return db.session.scalar(sa.select(Tenant).where(Tenant.name == name))


def limit_of(tags: t.Mapping[str, str]) -> str | None:
    """Return what a tenant may spend per month, for the budget in ``config.py``."""
    tenant = find_tenant(tags["tenant"])
    return None if tenant is None else tenant.limit_usd


_TENANTS: t.Final = {"acme": "5.00", "globex": "0.01", "staff": None}
_USERS: t.Final = {
    "visitor": ("acme", "member"),
    "guest": ("globex", "member"),
    "finance": ("staff", "finance"),
    "admin": ("staff", "admin"),
}


def seed() -> None:
    """Create tenants and users, with their names as passwords."""
    for name, limit in _TENANTS.items():
        if find_tenant(name) is None:
            tenant = Tenant()
            tenant.name, tenant.limit_usd = name, limit
            db.session.add(tenant)
    for name, (tenant_name, role) in _USERS.items():
        if find_user(name) is None:
            user = User()
            user.name, user.role = name, role
            user.password_hash = generate_password_hash(name)
            user.tenant = db.session.scalars(
                sa.select(Tenant).where(Tenant.name == tenant_name)
            ).one()
            db.session.add(user)
    db.session.commit()
