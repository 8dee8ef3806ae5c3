"""Feast's retrieval job: computes a result at its first use, and saves it."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.sources import S3Access, filesystem_of
from stillpoint.stores.history.write import write_file


class StillpointRetrievalJob(RetrievalJob):
    """A result that is computed once, at the first `to_arrow` or `to_df`. On-demand views run as Feast runs them."""

    def __init__(
        self,
        compute: Callable[[], pa.Table],
        *,
        access: S3Access,
        resolve: Callable[[str], str],
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._compute = compute
        self._access, self._resolve = access, resolve
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._metadata = metadata
        self._table: pa.Table | None = None

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        if self._table is None:
            self._table = self._compute()
        return self._table

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the result to a Parquet file, or into a folder if the path does not end in `.parquet`.

        A relative path lies in the folder of `feature_store.yaml`, where the saved dataset is read again.

        Raises:
            SavedDatasetLocationAlreadyExists: the path exists, and `allow_overwrite` is false.
            InvalidInput: the storage is not a `SavedDatasetFileStorage`.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise InvalidInput(f"saved dataset storage {type(storage).__name__}: expected SavedDatasetFileStorage")
        path = self._resolve(storage.file_options.uri)
        filesystem, inner = filesystem_of(path, self._access.at(storage.file_options.s3_endpoint_override))
        exists = filesystem.get_file_info(inner).type != pafs.FileType.NotFound
        if exists and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=path)
        table = self.to_arrow()
        if path.endswith(".parquet"):
            write_file(filesystem, inner, table)
            return
        before = filesystem.get_file_info(pafs.FileSelector(inner, recursive=True)) if exists else []
        write_file(filesystem, f"{inner}/part-0.parquet", table)
        for info in before:
            if info.type == pafs.FileType.File and info.base_name != "part-0.parquet":
                filesystem.delete_file(info.path)

    def to_sql(self) -> str:
        raise InvalidInput("this offline store joins without SQL; use to_arrow() or to_df()")

    def to_remote_storage(self) -> Any:
        raise InvalidInput("this offline store does not stage results; use persist() with an s3:// path")
