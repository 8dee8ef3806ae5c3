"""A Redis Cluster of three primaries and three replicas on loopback, over TLS where the program has it."""

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from stillpoint.local.process import free_port, port_answers
from stillpoint.local.redis_server import RedisServer, find_redis
from stillpoint.stores.redis.connection import connect

NODE_TIMEOUT_MS = 1_500
SLOTS = 16_384
BUS = 10_000
PRIMARIES = 3


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate for 127.0.0.1."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return key, cert


def free_port_pair() -> int:
    """Return a free port whose port for the nodes' own talk, 10,000 higher, is there and free too."""
    while (port := free_port()) + BUS > 65_535 or port_answers(port + BUS):
        pass
    return port


def until(holds: Callable[[], Any], what: str, *, seconds: float = 30.0) -> None:
    """Wait until something holds; what Redis refuses meanwhile counts as no."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(RedisError, OSError):
            if holds():
                return
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Cluster:
    """Six servers; the nodes of `servers` change their roles as the tests have it."""

    def __init__(self, folder: Path) -> None:
        options = {"cluster-enabled": "yes", "cluster-node-timeout": str(NODE_TIMEOUT_MS)}
        options |= {"repl-diskless-sync-delay": "0"}
        self.tls: dict[str, Any] = {}
        if find_redis().has_tls:
            key, cert = certificate(folder)
            options |= {"tls-cert-file": str(cert), "tls-key-file": str(key), "tls-ca-cert-file": str(cert)}
            options |= {"tls-cluster": "yes", "tls-replication": "yes", "tls-auth-clients": "no"}
            self.tls = {"ssl": True, "ssl_ca_certs": str(cert)}
        self.servers = [
            RedisServer(folder / f"node{n}", options=options, port=free_port_pair()) for n in range(2 * PRIMARIES)
        ]
        nodes = [self.node(server) for server in self.servers]
        for number, node in enumerate(nodes[:PRIMARIES]):
            first, end = number * SLOTS // PRIMARIES, (number + 1) * SLOTS // PRIMARIES
            node.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        until(lambda: all(len(self._known(node)) == len(nodes) for node in nodes), "the nodes did not meet")
        for number, node in enumerate(nodes[PRIMARIES:]):
            node.execute_command("CLUSTER", "REPLICATE", self.identity(nodes[number]))
        self.settle()

    def node(self, server: RedisServer) -> Any:
        """Return a client of one node alone."""
        return redis.Redis(port=server.port, **self.tls)

    def client(self) -> Any:
        """Return a client of the cluster; the caller closes it."""
        return connect(self.connection_string)

    def settle(self) -> None:
        """Wait until every node runs, knows of all slots, and every primary has a replica that is up to date."""
        until(self._is_whole, "the cluster did not become whole", seconds=60)

    def mend(self) -> None:
        """Start the servers that are down, and wait until the cluster is whole."""
        for server in self.servers:
            if not port_answers(server.port):
                server.restart()
        self.settle()

    @property
    def _options(self) -> str:
        return "".join(f",{name}={str(value).lower() if value is True else value}" for name, value in self.tls.items())

    @property
    def connection_string(self) -> str:
        """All nodes."""
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers) + self._options

    @property
    def endpoint(self) -> str:
        """One address, as a configuration endpoint is."""
        return f"127.0.0.1:{self.servers[0].port},db=0{self._options}"

    def owner(self, key: bytes | str) -> RedisServer:
        """Return the server that owns a key's slot."""
        return self.owner_of_slot(key_slot(key.encode() if isinstance(key, str) else key))

    def owner_of_slot(self, slot: int) -> RedisServer:
        for first, last, (_, port, *_), *_ in self._slots():
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody owns slot {slot}")

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return a replica of a primary."""
        for _, _, (_, port, *_), *replicas in self._slots():
            if port == primary.port:
                return next(server for server in self.servers if server.port == replicas[0][1])
        raise AssertionError(f"{primary.port} is no primary")

    def promote(self, replica: RedisServer) -> None:
        """Make a replica the primary, without loss, as a maintenance does."""
        self.node(replica).execute_command("CLUSTER", "FAILOVER")
        until(lambda: self.node(replica).info("replication")["role"] == "master", "the replica was not promoted")

    def begin_move(self, slot: int, target: RedisServer) -> RedisServer:
        """Let a slot be on its way to another primary; return whose it was."""
        source = self.owner_of_slot(slot)
        ours, theirs = self.node(source), self.node(target)
        theirs.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.identity(ours))
        ours.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.identity(theirs))
        return source

    def move_keys(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move what is stored in a slot."""
        ours = self.node(source)
        while keys := ours.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            ours.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 2000, "KEYS", *keys)

    def end_move(self, slot: int, target: RedisServer) -> None:
        """Tell every primary who owns a slot now, the new owner first."""
        identity = self.identity(self.node(target))
        others = [server for server in self.servers if server is not target and self._is_primary(server)]
        for server in [target, *others]:
            self.node(server).execute_command("CLUSTER", "SETSLOT", slot, "NODE", identity)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    @staticmethod
    def identity(node: Any) -> str:
        identity: bytes = node.execute_command("CLUSTER", "MYID")
        return identity.decode()

    def _is_primary(self, server: RedisServer) -> bool:
        return bool(self.node(server).info("replication")["role"] == "master")

    @staticmethod
    def _known(node: Any) -> Any:
        return node.execute_command("CLUSTER NODES")

    def _is_whole(self) -> bool:
        for server in self.servers:
            node = self.node(server)
            if node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                return False
            replication = node.info("replication")
            if replication["role"] == "master" and replication["connected_slaves"] != 1:
                return False
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
            if any(len(entry) != 4 for entry in node.execute_command("CLUSTER SLOTS")):
                return False
        return True

    def _slots(self) -> Any:
        for server in self.servers:
            with contextlib.suppress(RedisError, OSError):
                connection = self.node(server).connection_pool.get_connection()
                try:
                    connection.send_command("CLUSTER", "SLOTS")
                    return connection.read_response(disable_decoding=True)
                finally:
                    connection.disconnect()
        raise AssertionError("no node answers")
