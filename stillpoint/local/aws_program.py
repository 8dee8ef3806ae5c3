"""The AWS stand-in with Kinesis's resharding: records of closed shards stay readable until their retention ends.

A program of its own, run in the stand-in's environment, which does not have this package; so it imports nothing of it. The
stand-in deletes shards that are split, merged or replaced, together with every record that was not read yet.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

kinesis: Any = import_module("ministack.services.kinesis")

END = "ending_sequence_number"
CLOSED_AT = "closed_at"

Shard = dict[str, Any]
Stream = dict[str, Any]


def is_open(shard: Shard) -> bool:
    """Say whether a shard takes records."""
    return END not in shard


def close(shard: Shard) -> Shard:
    """Return a shard that takes no more records, and ends now."""
    return {**shard, END: kinesis._next_sequence_number(), CLOSED_AT: time.time()}


def keep_closed_shards(reshard: Callable[[dict[str, Any]], Any], *names: str) -> Callable[[dict[str, Any]], Any]:
    """Wrap a split or merge, so that it closes the named shards instead of deleting them."""

    def run(data: dict[str, Any]) -> Any:
        _, stream = kinesis._resolve_stream(data)
        before = dict(stream["shards"]) if stream else {}
        chosen = [data.get(name) for name in names]
        for shard_id in chosen:
            if shard_id in before and not is_open(before[shard_id]):
                return kinesis.error_response_json(
                    "ResourceInUseException", f"Shard {shard_id} is closed; only an open one can be resharded", 400
                )
        answer = reshard(data)
        if stream:
            gone = [shard_id for shard_id in before if shard_id not in stream["shards"]]
            for shard_id in gone:
                stream["shards"][shard_id] = close(before[shard_id])
            stream["shards"] = dict(sorted(stream["shards"].items()))
        return answer

    return run


def update_shard_count(data: dict[str, Any]) -> Any:
    """Close the open shards and open as many new ones as asked, each the child of those whose keys it takes over."""
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return kinesis.error_response_json("ResourceNotFoundException", f"Stream {name} not found", 400)
    target = int(data.get("TargetShardCount") or 0)
    former = {shard_id: shard for shard_id, shard in stream["shards"].items() if is_open(shard)}
    count = len(former)
    if not max(1, -(-count // 2)) <= target <= 2 * count:
        return kinesis.error_response_json(
            "InvalidArgumentException",
            f"UpdateShardCount cannot scale to less than half or more than double the current open shard count. Current "
            f"open shard count: {count} Target shard count: {target}",
            400,
        )
    made = kinesis._build_shards(target, kinesis._max_shard_index(stream) + 1)
    for shard in made.values():
        parents = [shard_id for shard_id, one in former.items() if _overlap(one, shard)]
        shard["parent_shard_id"] = parents[0]
        shard["adjacent_parent_shard_id"] = parents[1] if len(parents) > 1 else None
    stream["shards"] |= {shard_id: close(shard) for shard_id, shard in former.items()} | made
    return kinesis.json_response(
        {
            "StreamName": stream["StreamName"],
            "CurrentShardCount": count,
            "TargetShardCount": target,
            "StreamARN": stream["StreamARN"],
        }
    )


def _overlap(one: Shard, other: Shard) -> bool:
    return int(one["starting_hash_key"]) <= int(other["ending_hash_key"]) and int(other["starting_hash_key"]) <= int(
        one["ending_hash_key"]
    )


def expire_records(expire: Callable[[Stream], None]) -> Callable[[Stream], None]:
    """Wrap the expiry of records, so that iterators move along and closed shards are dropped after their retention."""

    def run(stream: Stream) -> None:
        before = {shard_id: len(shard["records"]) for shard_id, shard in stream["shards"].items()}
        expire(stream)
        cutoff = time.time() - stream["RetentionPeriodHours"] * 3600
        for shard_id, shard in list(stream["shards"].items()):
            gone = before[shard_id] - len(shard["records"])
            if gone:
                for state in kinesis._shard_iterators.values():
                    if state["shard_id"] == shard_id and state["stream"] == stream["StreamName"]:
                        state["position"] = max(0, state["position"] - gone)
            if not is_open(shard) and shard[CLOSED_AT] < cutoff:
                del stream["shards"][shard_id]

    return run


def routing(key: int, stream: Stream) -> str:
    """Return the open shard that takes a hash key."""
    for shard_id, shard in stream["shards"].items():
        if is_open(shard) and int(shard["starting_hash_key"]) <= key <= int(shard["ending_hash_key"]):
            return str(shard_id)
    raise LookupError(f"no open shard takes the hash key {key}")


def describe_shard(describe: Callable[[str, Shard], dict[str, Any]]) -> Callable[[str, Shard], dict[str, Any]]:
    """Wrap the description of a shard, so that it shows where a closed one ends."""

    def run(shard_id: str, shard: Shard) -> dict[str, Any]:
        found = describe(shard_id, shard)
        if not is_open(shard):
            found["SequenceNumberRange"]["EndingSequenceNumber"] = shard[END]
        return found

    return run


def end_closed_shards(get_records: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Wrap reading, so that a closed shard that has been read to its end gives no next iterator."""

    def run(data: dict[str, Any]) -> Any:
        answer = get_records(data)
        state = kinesis._shard_iterators.get(data.get("ShardIterator"))
        stream = kinesis._streams.get(state["stream"]) if state else None
        shard = stream["shards"].get(state["shard_id"]) if state and stream else None
        if answer[0] != 200 or stream is None or shard is None or is_open(shard):
            return answer
        body = kinesis.json.loads(answer[2])
        following = kinesis._shard_iterators.get(body["NextShardIterator"])
        if following["position"] < len(shard["records"]):
            return answer
        del kinesis._shard_iterators[body.pop("NextShardIterator")]
        body["ChildShards"] = [
            {
                "ShardId": shard_id,
                "ParentShards": [one[name] for name in ("parent_shard_id", "adjacent_parent_shard_id") if one[name]],
                "HashKeyRange": {
                    "StartingHashKey": one["starting_hash_key"],
                    "EndingHashKey": one["ending_hash_key"],
                },
            }
            for shard_id, one in stream["shards"].items()
            if state["shard_id"] in (one["parent_shard_id"], one["adjacent_parent_shard_id"])
        ]
        return kinesis.json_response(body)

    return run


def count_open_shards(summary: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Wrap the stream summary, so that it counts open shards only."""

    def run(data: dict[str, Any]) -> Any:
        answer = summary(data)
        _, stream = kinesis._resolve_stream(data)
        if answer[0] != 200 or not stream:
            return answer
        body = kinesis.json.loads(answer[2])
        body["StreamDescriptionSummary"]["OpenShardCount"] = sum(map(is_open, stream["shards"].values()))
        return kinesis.json_response(body)

    return run


def reshard_as_kinesis() -> None:
    """Replace the stand-in's functions by the ones above."""
    kinesis._split_shard = keep_closed_shards(kinesis._split_shard, "ShardToSplit")
    kinesis._merge_shards = keep_closed_shards(kinesis._merge_shards, "ShardToMerge", "AdjacentShardToMerge")
    kinesis._update_shard_count = update_shard_count
    kinesis._expire_records = expire_records(kinesis._expire_records)
    kinesis._route_to_shard = routing
    kinesis._shard_out = describe_shard(kinesis._shard_out)
    kinesis._get_records = end_closed_shards(kinesis._get_records)
    kinesis._describe_stream_summary = count_open_shards(kinesis._describe_stream_summary)


if __name__ == "__main__":
    reshard_as_kinesis()
    sys.exit(import_module("ministack.app").main())
