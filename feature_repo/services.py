"""The order of the views in the ranker's feature service."""

from stillpoint.app.order import ViewOrder

ranker = ViewOrder(
    first=(
        "session_bounce_rates",
        "search_embeddings",
        "biometrics",
        "user_profiles",
        "user_taste",
        "content_profiles",
    )
)
