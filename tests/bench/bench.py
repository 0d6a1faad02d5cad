#!/usr/bin/env python3
"""Figures of fleetd, side by side with a real etcd where one is installed.

Each row is a module with run(bench); the table below says in which order. Rounds of both alternate, so that other load of
the machine affects both. Nothing is asserted.  Python 3.8 or newer, standard library only.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

import row_idle
import row_keys
import row_leader
import row_placements
import row_restart
import row_sizes
import row_snapshot
import row_turns
import row_watchers
import servers

ROWS = {
    "keys": row_keys,
    "watchers": row_watchers,
    "idle": row_idle,
    "leader": row_leader,
    "restart": row_restart,
    "snapshot": row_snapshot,
    "sizes": row_sizes,
    "turns": row_turns,
    "placements": row_placements,
}


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--fleetd", required=True)
    ap.add_argument("--fleetctl")
    ap.add_argument("--before", default=os.environ.get("BENCH_BEFORE"), help="an earlier fleetd, to compare with instead of etcd")
    ap.add_argument("--load", required=True)
    ap.add_argument("--crowd", required=True)
    ap.add_argument("--herd", required=True)
    ap.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")))
    ap.add_argument("--seconds", type=int, default=int(os.environ.get("BENCH_SECONDS", "2")))
    ap.add_argument("--members", type=int, action="append", choices=(1, 3))
    ap.add_argument("--connections", type=int, action="append")
    ap.add_argument("--only", action="append", choices=ROWS, default=os.environ.get("BENCH_ROWS", "").split() or None)
    opts = ap.parse_args()
    opts.connections = opts.connections or [1, 64, 256]
    opts.members = opts.members or [1, 3]

    scratch = tempfile.mkdtemp(prefix="fleetd-bench-", dir=os.environ.get("TMPDIR"))
    try:
        bench = servers.Bench(opts, scratch)
        fs = subprocess.run(["stat", "-f", "-c", "%T", scratch], stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
        print("%d cores, load %.1f before; state on %s in %s. Load generator and all servers share the cores; writes wait for fsync."
              % (os.cpu_count(), os.getloadavg()[0], fs, scratch))
        if opts.before:
            print("Compared with %s" % opts.before)
        elif bench.etcd:
            print(subprocess.run([bench.etcd, "--version"], stdout=subprocess.PIPE, universal_newlines=True).stdout.splitlines()[0])
        else:
            print("No etcd is installed (Debian: etcd-server): no comparison.")
        for name, row in ROWS.items():
            if not opts.only or name in opts.only:
                row.run(bench)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
