"""Rows of the served log travel from functions to a worker through a queue (SQS), many in a message.

A function freezes between its invocations and may never wake up, so it can gather no batch, and a commit each would swamp the
lake. What was sent is kept by the queue until a worker has committed it. A message is JSON: version, id, rows, and an
Arrow stream, compressed by zstd, in base64.
"""

import base64
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.ipc
from pydantic import BaseModel, ConfigDict, Field

from inference.predictions.predict import Prediction
from inference.predictions.served_tables import served_table
from stillpoint.errors import CorruptData, StillpointError
from stillpoint.served_rows import SERVED_COLUMNS

LIMIT_BYTES = 250_000
"""Of a message; SQS takes 262,144."""


class ServedMessage(BaseModel):
    """Some rows. The id is the same for every delivery."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    rows: int = Field(ge=1)
    data: str

    def table(self) -> pa.Table:
        """Return the rows.

        Raises:
            CorruptData: the data are none, or not as many.
        """
        try:
            packed = base64.b64decode(self.data, validate=True)
            with (
                pa.input_stream(pa.BufferReader(packed), compression="zstd") as source,
                pa.ipc.open_stream(source) as reader,
            ):
                table = reader.read_all().cast(SERVED_COLUMNS)
        except (ValueError, pa.ArrowException, OSError) as error:
            raise CorruptData(f"message {self.id} of the served log cannot be unpacked: {error}") from None
        if table.num_rows != self.rows:
            raise CorruptData(f"message {self.id} of the served log holds {table.num_rows} rows; expected {self.rows}")
        return table


def messages(table: pa.Table, *, limit: int = LIMIT_BYTES) -> Iterator[ServedMessage | pa.Table]:
    """Yield rows as messages that the queue takes, in as few as halving gives; a single row that is too large as it is."""
    if table.num_rows == 0:
        return
    message = ServedMessage(id=uuid.uuid4().hex, rows=table.num_rows, data=_packed(table))
    if len(message.data) + 200 <= limit:
        yield message
    elif table.num_rows == 1:
        yield table
    else:
        half = table.num_rows // 2
        yield from messages(table.slice(0, half), limit=limit)
        yield from messages(table.slice(half), limit=limit)


class ServedSender:
    """Sends what was served. It is on the queue, or in the lake, when `send` returns."""

    def __init__(
        self,
        send: Callable[[str], None],
        *,
        write: Callable[[pa.Table], None],
        refused: Callable[[StillpointError], None],
    ) -> None:
        """`send` puts a text on the queue; `write` commits a row that is too large for it to the lake; `refused` hears of
        what cannot be logged. The first two raise if they could not."""
        self._send = send
        self._write = write
        self._refused = refused

    def send(self, predictions: Sequence[Prediction]) -> None:
        """Send the records of predictions. If it raises, some may have been sent; sent again, they are copies."""
        for one in messages(served_table(predictions, refused=self._refused)):
            if isinstance(one, ServedMessage):
                self._send(one.model_dump_json())
            else:
                self._write(one)


def _packed(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed, pa.ipc.new_stream(packed, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()
