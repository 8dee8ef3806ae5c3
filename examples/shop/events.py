"""What happens in the shop."""

from stillpoint.app import Annotated, Event, Family, Meta

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Price = Annotated[float, Meta(ge=0, le=1_000_000)]

SHOWN = Family(name="shown", allowed_lateness=None)


class ProductEvent(Event):
    """Something that a user does with a product."""

    product_id: Name
    category: Name


class View(ProductEvent):
    """A product's page is opened."""

    recommendation_id: Name | None = None


class Cart(ProductEvent):
    """A product is put into the cart."""

    price: Price | None = None


class Purchase(ProductEvent):
    """A product is bought."""

    price: Price | None = None
    quantity: Annotated[int, Meta(ge=1, le=1_000)] = 1


class Search(Event):
    """The catalogue is searched."""

    query: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]


class Impression(Event, lake_only=True, family=SHOWN):
    """Recommended products are shown."""

    recommendation_id: Name
    kind: Name
    items: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=200)]
    surface: Name
