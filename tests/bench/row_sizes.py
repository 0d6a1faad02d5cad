"""Sizes of the programs, stripped."""

import os
import shutil
import subprocess


def size_kib(program, scratch):
    copy = os.path.join(scratch, "stripped")
    shutil.copyfile(program, copy)
    subprocess.run(["strip", copy], check=False, stderr=subprocess.DEVNULL)
    size = os.stat(copy).st_size
    os.unlink(copy)
    return size / 1024


def run(bench):
    print("\nSizes, stripped")
    for program in (bench.opts.fleetd, bench.opts.fleetctl, bench.etcd, shutil.which("etcdctl")):
        if program and os.path.exists(program):
            print("  %-28s %.0f KiB" % (os.path.basename(program), size_kib(program, bench.scratch)))
