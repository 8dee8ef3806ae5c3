"""The element that shows HTML and changes it in place, and tells what was pressed in it."""

from collections.abc import Awaitable, Callable, Mapping

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from console.drawing.html import Markup

Act = Callable[[Mapping[str, str]], Awaitable[None]]
"""Takes what a button or form of the page tells: `action`, its data attributes and its fields."""


class LiveHtml(Element, component="morph.js"):
    """HTML drawn by pure functions. Text is escaped there; nothing here is taken from outside as markup."""

    def __init__(self, html: Markup, *, act: Act | None = None) -> None:
        super().__init__()
        self._props["html"] = str(html)
        if act is not None:

            async def told(event: GenericEventArguments) -> None:
                given = event.args
                if isinstance(given, dict):
                    await act({str(name): str(value) for name, value in given.items()})

            self.on("action", told)

    def show(self, html: Markup) -> None:
        """Show other HTML, if it is other."""
        if self._props["html"] != html:
            self._props["html"] = str(html)
            self.update()
