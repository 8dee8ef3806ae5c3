"""What the shop keeps about its users and products."""

from shop.views import product
from stillpoint.app import user
from stillpoint.app.tables import Column, Table
from stillpoint.dtypes import Kind

users = Table(
    name="users",
    entity=user,
    columns={
        "signed_up_at": Column(kind=Kind.TEXT, description="When the account was made."),
        "country": Column(kind=Kind.TEXT, optional=True, description="ISO 3166 code."),
        "push_opt_in": Column(kind=Kind.FLAG, description="Whether push messages are welcome."),
    },
)

products = Table(
    name="products",
    entity=product,
    columns={
        "title": Column(kind=Kind.TEXT, description="As shown."),
        "category": Column(kind=Kind.TEXT, description="Where it is found in the shop."),
        "price": Column(kind=Kind.NUMBER, optional=True, description="In the shop's currency."),
    },
)
