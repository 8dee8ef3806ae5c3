"""What is known of users, of products, and of a user's interest in a category, a moment after each event."""

from shop.events import Cart, ProductEvent, Purchase, Search, View
from stillpoint.app import (
    Entity,
    StreamView,
    count,
    count_distinct,
    days,
    embedding,
    exists,
    hours,
    last,
    mean,
    minutes,
    most_frequent,
    session,
    share,
    sum_,
    time_since_first,
    time_since_last,
    user,
)

product = Entity("product")
user_category = Entity("user_category", "user_id", "category")

RECENT = [minutes(10), hours(1), days(30)]


class Browsing(StreamView):
    """What the user looked at lately, and how much of it they put into the cart or bought."""

    entity, ttl, owner = user, hours(24), "discovery"
    views = count(View, over=RECENT, unit="views", description="Product pages opened.")
    carts = count(Cart, over=RECENT, unit="products", description="Products put into the cart.")
    products = count_distinct(View.product_id, over=[hours(1)], description="Different products looked at.")
    last_category = last(ProductEvent.category, over=days(30), description="The category looked at last.")
    top_category = most_frequent(View.category, over=days(30), description="The category looked at most.")
    conversion = share(
        Purchase, of=View, on="product_id", over=days(30), description="Share of viewed products bought."
    )
    cart_price = mean(Cart.price, over=hours(1), unit="price", description="Mean price of what was put into the cart.")


class Visit(StreamView):
    """The current visit: it ends when the user pauses for half an hour."""

    entity, ttl = user, minutes(30)
    visit_views = count(View, over=session(minutes(30)), description="Product pages opened in this visit.")
    visit_age = time_since_first(ProductEvent, over=session(minutes(30)), description="Time since the visit began.")
    visit_cart = exists(Cart, over=session(minutes(30)), description="Something was put into the cart in this visit.")


class Buying(StreamView):
    """When and for how much the user bought."""

    entity, ttl = user, days(30)
    since_purchase = time_since_last(Purchase, over=days(365), description="Time since the last purchase.")
    spent = sum_(Purchase.price, over=[days(30)], unit="price", default=0.0, description="What was bought for.")


class Searching(StreamView):
    """What the user searched for lately, as one direction in the encoder's space."""

    entity, ttl = user, hours(24)
    search_direction = embedding(Search.query, newest=5, over=hours(24), description="The last searches, blended.")
    searches = count(Search, over=[hours(1)], unit="searches", description="Searches made.")


class Demand(StreamView):
    """How much a product is asked for, in the last hour and day."""

    entity, ttl, row_step = product, hours(24), minutes(5)
    demand_views = count(View, over=[hours(1), days(1)], unit="views", description="How often it was looked at.")
    demand_carts = count(Cart, over=[hours(1), days(1)], unit="products", description="How often it went into a cart.")
    demand_purchases = count(
        Purchase, over=[hours(1), days(1)], unit="purchases", description="How often it was bought."
    )


class Interest(StreamView):
    """How much a user looks at a category."""

    entity, ttl = user_category, days(1)
    category_views = count(View, over=[days(1)], unit="views", description="Products of the category looked at.")
