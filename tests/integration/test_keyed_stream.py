"""Views of contents and of pairs on real Spark: two shuffles in one micro-batch, over changing numbers of partitions."""

import uuid
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from ingestion.backfill import backfill
from ingestion.kinesis_shards import Record
from stillpoint.app.load import load_app
from stillpoint.lake.datasets import ALL_DATES
from tests.support.app_folders import SHARED_VIEWS, app_folder
from tests.support.batch_world import World
from tests.support.declared_views import assert_equals_the_oracle, listening

pytestmark = pytest.mark.timeout(900)


def test_spark_computes_keys_behind_the_users_and_a_backfill_on_spark_gives_the_same_rows(
    spark, tmp_path, redis_server, unique
):
    app = app_folder(tmp_path, f"spark_{uuid.uuid4().hex[:8]}", views=SHARED_VIEWS)
    world = World(tmp_path, redis_server, unique, app=app)
    for number, partitions in enumerate((2, 3)):
        world.settings = world.settings.model_copy(update={"shuffle_partitions": partitions})
        records = listening(number, 50, 50 * number, at=world.now)
        columns = [pa.array(list(column)) for column in zip(*records, strict=True)]
        frame = spark.createDataFrame(pa.Table.from_arrays(columns, names=list(Record._fields)))
        world.processor().process(frame, number)
    loaded = load_app(str(app))
    assert_equals_the_oracle(world.lake, loaded, {f"p_{unique}": redis_server.client()})
    of_contents = [view for view in loaded.records if view.name == "trending"]
    backfill(world.lake, ALL_DATES, at=datetime.now(UTC), app=loaded, views=of_contents, spark=spark)
    assert_equals_the_oracle(world.lake, loaded, {f"p_{unique}": redis_server.client()})
