"""Workload APIs of many pods in a process of its own, as SPIRE's agent is: gRPC bears no forks beside it.

Reads lines of JSON, `{"socket": …, "who": …}`, and prints each socket once it is served; ends with its input."""

from __future__ import annotations

import json
import sys
from concurrent import futures
from pathlib import Path

import grpc
from spiffe._proto import workload_pb2_grpc

from pegboard_hub.services.authority import Authority
from tests.hub.test_services import Endpoint


def main(folder: str, trust_domain: str) -> None:
    authority = Authority(Path(folder), trust_domain, settle_s=0)
    authority.open()
    running = []
    for line in sys.stdin:
        asked = json.loads(line)
        served, path = Endpoint(), Path(asked["socket"])
        served.tell(authority.mint(asked["who"]), authority.bundle)
        server = grpc.server(futures.ThreadPoolExecutor(4))
        workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(served, server)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        path.chmod(0o777)
        running.append((server, served))
        print(path, flush=True)
    for server, served in running:
        served.ended = True
        server.stop(None).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
