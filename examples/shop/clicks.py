"""Logs of clicks as shops and public datasets write them: a user or session, a time, an item, and what was done."""

from shop.events import Cart, Purchase, Search, View
from stillpoint.app.logs import ClickLog

clicks = ClickLog(
    name="clicks",
    user=("user_id", "visitorid", "visitor_id", "session_id", "session", "user_session"),
    moment=("timestamp", "event_time", "ts", "time"),
    kind=("event_type", "event", "type"),
    kinds={
        **dict.fromkeys(("view", "views", "click", "clicks", "detail"), View),
        **dict.fromkeys(("cart", "carts", "addtocart", "add_to_cart", "add"), Cart),
        **dict.fromkeys(("purchase", "transaction", "order", "orders", "buy"), Purchase),
        "search": Search,
    },
    fields={
        "product_id": ("product_id", "item_id", "itemid", "aid", "item"),
        "category": ("category", "category_code", "category_id", "categoryid"),
        "price": ("price",),
        "quantity": ("quantity",),
        "query": ("query",),
    },
    missing={"category": "unknown"},
    by_place=("session_id", "timestamp", "item_id", "event_type"),
)
