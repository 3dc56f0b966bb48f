"""Two Ray nodes of one CPU each on this machine, taken away when asked to.

A script: `nodes.py [JSON]`, the environment of the second node where it is not the first's. It
prints the cluster's address and, as JSON, each node's id by the process that starts its workers.
Then it obeys `drain` (the second node is told that it will go), `remove` (the second node, at
once), `behead` (what makes the first one the head) and the end of stdin, after which nothing of it
is left.
"""

from __future__ import annotations

import json
import sys
import time

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2


def main() -> None:
    """Start the nodes and do as stdin says."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1, env_vars=json.loads((sys.argv[1:] or ["{}"])[0]))
    print(cluster.address, flush=True)
    nodes = (cluster.head_node, second)
    parents = {node.all_processes["raylet"][0].process.pid: node.node_id for node in nodes}
    print(json.dumps(parents), flush=True)
    for line in sys.stdin:
        if line.strip() == "drain":
            reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
            until = 1000 * int(time.time() + 600)
            ray._raylet.GcsClient(address=cluster.address).drain_node(
                second.node_id, reason, "wanted", until
            )
        elif line.strip() == "remove":
            cluster.remove_node(second, allow_graceful=False)
        else:
            cluster.head_node.kill_gcs_server(check_alive=False)
            cluster.head_node.kill_raylet(check_alive=False)
        print("done", flush=True)
    for node in [*cluster.worker_nodes, cluster.head_node]:
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


if __name__ == "__main__":
    main()
