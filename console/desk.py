"""What every page works with: the sources, the readings that pages share, and the scrapes of service and stream."""

import urllib.request
from collections.abc import Sequence

from console.erasures import Erasures
from console.live.readings import Reading, Readings
from console.loaded import LiveModel
from console.reading.exposition import Exposition
from console.reading.live import LiveRelease, live_release
from console.reading.samplers import Sampler
from console.reading.servers import Machine, machine
from console.running import Runs
from console.sources import Sources
from stillpoint.errors import NotFound, StackUnavailable


class Desk:
    """The state of one console process. Its readings are made in threads, and shared by all open pages."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.authorization: str | None = None
        """The header of whoever opened a page last, for a service that shows its metrics to known callers only."""
        self.readings = Readings()
        self.runs = Runs(sources, self.readings)
        self.erasures = Erasures(sources, self.readings)
        self.model = LiveModel(sources)
        self._service = Sampler(self._service_page)
        self._stream: tuple[str, Sampler] | None = None

    async def live(self) -> Reading[LiveRelease]:
        """Return which release is live."""
        return await self.readings.read("live", lambda: live_release(self.sources), fresh=1.5)

    async def machine(self) -> Reading[Machine]:
        """Return the servers and processes of the home."""
        return await self.readings.read("machine", lambda: machine(self.sources.settings), fresh=4.0)

    async def service(self) -> Reading[Sequence[Exposition]]:
        """Return the scrapes of the HTTP service."""
        return await self.readings.read("service", self._service.sample, fresh=1.5)

    async def stream(self) -> Reading[Sequence[Exposition]]:
        """Return the scrapes of the stream, if it was started with a port for them."""
        return await self.readings.read("stream", self._stream_scrapes, fresh=1.5)

    def close(self) -> None:
        self.readings.close()

    def _service_page(self) -> str:
        answer = self.sources.ask("GET", "/metrics", token=self.authorization)
        if answer.status_code != 200:
            raise StackUnavailable(f"{self.sources.service}/metrics answers {answer.status_code}")
        return answer.text

    def _stream_scrapes(self) -> Sequence[Exposition]:
        address = machine(self.sources.settings).address_of("stream") if self._stream is None else self._stream[0]
        if address is None:
            raise NotFound(
                "the stream shows no times of its own; start it with `stillpoint stream --metrics-port 9400`"
            )
        if self._stream is None:
            self._stream = (address, Sampler(lambda: _page(address)))
        try:
            return self._stream[1].sample()
        except StackUnavailable:
            self._stream = None  # started again, it may listen elsewhere
            raise


def _page(address: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError as error:
        raise StackUnavailable(f"the stream's metrics at {address} do not answer ({type(error).__name__})") from error
