"""What a running stream's states of version 1 hold: three views by their place, whose bytes these views still read."""

from stillpoint.app.events import TAPS
from stillpoint.app.version_one import VersionOne
from stillpoint.clock import DAY
from stillpoint.features.streamed.engine import section_name

from .biometrics import Biometrics
from .events import BIOMETRICS, SHOWN
from .search_embeddings import SearchEmbeddings
from .session_bounce_rates import SessionBounceRates

TAP, READING = 0, 1

STATES = VersionOne(
    families=tuple((family.name, family.lateness_us) for family in (TAPS, BIOMETRICS, SHOWN)),
    sections=(
        (section_name(SessionBounceRates), TAP, DAY + 1),
        (section_name(SearchEmbeddings), TAP, DAY + 1),
        (section_name(Biometrics), READING, DAY + 1),
    ),
)
