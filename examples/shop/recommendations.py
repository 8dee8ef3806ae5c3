"""What the shop recommends, when, and what counts as success."""

from shop.events import Cart, Impression, Purchase, Search, View
from stillpoint.app import hours, minutes
from stillpoint.app.recommendations import Label, PostProcessing, RecommendationKind, Trigger

for_you = RecommendationKind(name="for_you", delivery="pull", ttl=hours(2))
complete_the_cart = RecommendationKind(name="complete_the_cart", delivery="push", ttl=minutes(30), limit=5)

on_search = Trigger(on=Search, kinds=(for_you,))
on_view = Trigger(on=View, kinds=(for_you,))
on_cart = Trigger(on=Cart, kinds=(for_you, complete_the_cart), when=Cart.price >= 10.0, channel="push")
on_purchase = Trigger(on=Purchase, kinds=(for_you,))

opened = Label(shown=Impression, items="items", positive=View, item="product_id", within=minutes(30))

after_ranking = PostProcessing(steps=("not_just_seen", "diversity"), options={"diversity": "category"})
