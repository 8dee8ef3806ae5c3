"""Makes a push reach both stores or neither, and write online exactly what a fill of the same rows writes.

Feast calls no plugin before a push's first write: it writes view by view, online and then offline, and converts the values
to its own objects before a store sees them. So when the configuration of a Stillpoint store is loaded, three of Feast's
methods are wrapped. Other stores are unaffected.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from feast import FeatureStore, FeatureView, RepoConfig
from feast.data_source import PushMode
from feast.infra.passthrough_provider import PassthroughProvider

from stillpoint.stores.rehearsal import rehearsal

OFFLINE_STORE = "stillpoint.stores.offline"
_OURS = "_stillpoint"


@runtime_checkable
class FrameWriter(Protocol):
    """An online store that writes a pushed frame itself."""

    def write_frame(self, config: RepoConfig, view: FeatureView, frame: pd.DataFrame) -> None: ...

    async def write_frame_async(self, config: RepoConfig, view: FeatureView, frame: pd.DataFrame) -> None: ...


def take_over_pushes() -> None:
    """Wrap Feast's push methods, once per process."""
    steps: list[tuple[type[Any], str, Callable[[Any], Any]]] = [
        (FeatureStore, "push", _with_rehearsal),
        (FeatureStore, "push_async", _with_rehearsal_async),
        (FeatureStore, "write_to_online_store", _with_null_rows),
        (FeatureStore, "write_to_online_store_async", _with_null_rows_async),
        (PassthroughProvider, "ingest_df", _as_columns),
        (PassthroughProvider, "ingest_df_async", _as_columns_async),
    ]
    for owner, name, step in steps:
        method = getattr(owner, name)
        if not hasattr(method, _OURS):
            ours = wraps(method)(step(method))
            setattr(ours, _OURS, True)
            setattr(owner, name, ours)


def _with_rehearsal(push: Callable[..., None]) -> Callable[..., None]:
    def ours(*args: Any, **kwargs: Any) -> None:
        if _can_be_half(push, args, kwargs):
            with rehearsal():
                push(*args, **kwargs)
        push(*args, **kwargs)

    return ours


def _with_rehearsal_async(push: Callable[..., Any]) -> Callable[..., Any]:
    async def ours(*args: Any, **kwargs: Any) -> None:
        if _can_be_half(push, args, kwargs):
            with rehearsal():
                await push(*args, **kwargs)
        await push(*args, **kwargs)

    return ours


def _can_be_half(push: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    """Return whether a push writes more than once, and only into stores that can rehearse it."""
    call = inspect.signature(push).bind(*args, **kwargs)
    call.apply_defaults()
    store, to = call.arguments["self"], call.arguments["to"]
    online, offline = to is not PushMode.OFFLINE, to is not PushMode.ONLINE
    if online and not isinstance(store._get_provider().online_store, FrameWriter):
        return False
    if offline and type(store.config.offline_store).__module__ != OFFLINE_STORE:
        return False
    return (online and offline) or len(
        store._fvs_for_push_source_or_raise(call.arguments["push_source_name"], True)
    ) > 1


def _with_null_rows(write: Callable[..., None]) -> Callable[..., None]:
    """Write a frame of nulls too: Feast drops it with a warning, and outdated values would stay online."""

    def ours(*args: Any, **kwargs: Any) -> None:
        found = _frame(write, args, kwargs)
        if found is None:
            write(*args, **kwargs)
        else:
            provider, view, frame = found
            provider.ingest_df(view, frame)

    return ours


def _with_null_rows_async(write: Callable[..., Any]) -> Callable[..., Any]:
    async def ours(*args: Any, **kwargs: Any) -> None:
        found = _frame(write, args, kwargs)
        if found is None:
            await write(*args, **kwargs)
        else:
            provider, view, frame = found
            await provider.ingest_df_async(view, frame)

    return ours


def _frame(write: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, FeatureView, pd.DataFrame] | None:
    """Return what the Stillpoint online store must write, or None if Feast writes it."""
    call = inspect.signature(write).bind(*args, **kwargs)
    given = call.arguments
    store = given.pop("self")
    provider = store._get_provider()
    if not isinstance(provider.online_store, FrameWriter):
        return None
    view, frame = store._get_feature_view_and_df_for_online_write(**given)
    return (provider, view, frame) if _is_stored(view) and frame is not None and not frame.empty else None


def _as_columns(ingest: Callable[..., None]) -> Callable[..., None]:
    def ours(provider: Any, feature_view: Any, df: pd.DataFrame, field_mapping: dict[str, str] | None = None) -> None:
        if isinstance(provider.online_store, FrameWriter) and _is_stored(feature_view):
            provider.online_store.write_frame(provider.repo_config, feature_view, df)
        else:
            ingest(provider, feature_view, df, field_mapping)

    return ours


def _as_columns_async(ingest: Callable[..., Any]) -> Callable[..., Any]:
    async def ours(
        provider: Any, feature_view: Any, df: pd.DataFrame, field_mapping: dict[str, str] | None = None
    ) -> None:
        if isinstance(provider.online_store, FrameWriter) and _is_stored(feature_view):
            await provider.online_store.write_frame_async(provider.repo_config, feature_view, df)
        else:
            await ingest(provider, feature_view, df, field_mapping)

    return ours


def _is_stored(view: Any) -> bool:
    """Return whether a view's pushed columns are stored as they are; Feast computes on-demand views first."""
    return isinstance(view, FeatureView) and view.batch_source is not None
