"""What the app keeps about its users and contents."""

from typing import get_args

from stillpoint.app import Entity, user
from stillpoint.app.tables import Column, Table
from stillpoint.dtypes import Kind

from .events import Category

content = Entity("content")

CATEGORIES: tuple[str, ...] = get_args(Category)

users = Table(
    name="users",
    entity=user,
    columns={
        "signed_up_at": Column(kind=Kind.TIME, description="When the account was made."),
        "gender": Column(kind=Kind.TEXT, optional=True, description="As stated by the user."),
        "locale": Column(kind=Kind.TEXT, optional=True, description="The app's language and region, BCP 47."),
        "subscribed": Column(kind=Kind.FLAG, description="Has a paid subscription."),
        "push_opt_in": Column(kind=Kind.FLAG, description="Whether push messages are welcome."),
    },
)

catalogue = Table(
    name="catalogue",
    entity=content,
    columns={
        "title": Column(kind=Kind.TEXT, description="As shown."),
        "description": Column(kind=Kind.TEXT, description="As shown."),
        "category": Column(kind=Kind.TEXT, description="One of the app's categories."),
        "duration_seconds": Column(kind=Kind.INTEGER, description="Length."),
        "published_at": Column(kind=Kind.TIME, description="From when on it may be shown."),
    },
)
