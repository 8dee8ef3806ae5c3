"""The views that the stream advances, as it says itself: a view counts as joined once it stands here."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.lake.objects import Objects

STREAMED_VIEWS_KEY = "stream/views.json"


class StreamedViews(BaseModel):
    """The views that the stream advances with every batch, since it joined them or began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: str = Field(description="The writer name of the stream's commits.")
    views: dict[str, str] = Field(
        description="By name the section, which carries the digest of what the view computes."
    )
    batch: int | None = Field(description="The newest batch when this was said; rows of all later ones are there.")
    at: AwareDatetime


def read_streamed_views(objects: Objects) -> StreamedViews | None:
    """Return what the stream last said, or None if it never has."""
    try:
        return StreamedViews.model_validate_json(objects.get(STREAMED_VIEWS_KEY))
    except ObjectMissing:
        return None
    except ValueError as error:
        raise CorruptData(f"{STREAMED_VIEWS_KEY} cannot be read: {error}") from None
