"""One voter with a million keys, under load: the latency of its clients during a checkpoint.

64 connections write at full speed, which causes checkpoints. Others get and put at a fixed rate, and their latency is
measured from the due time of each request. Seconds with a checkpoint are compared with seconds without."""

import os
import statistics
import subprocess
import threading
import time

KEYS = 1000000
SPANS = 4      # wanted of each kind
LIMIT_SEC = 120


class Watcher(threading.Thread):
    """Notes when the copy that becomes the checkpoint is there."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.path = os.path.join(folder, "0", "tree", "checkpoint.new")
        self.seen = []
        self.stopping = False

    def run(self):
        while not self.stopping:
            if os.path.exists(self.path):
                self.seen.append(time.monotonic())
            time.sleep(0.005)


def span(bench, server):
    """A second of paced gets and puts: their 99 % in ms."""
    verbs = ("get", "put")
    loads = [subprocess.Popen([bench.opts.load, verb, "8", "1@500"] + server.addresses, stdout=subprocess.PIPE, universal_newlines=True) for verb in verbs]
    return [float(p.communicate()[0].split()[2]) / 1000 for p in loads]


def run(bench):
    print("\n1 voter, %d keys of 32 bytes, 64 connections write; also 500 gets and 500 puts a second" % KEYS)
    with bench.clusters(1) as both:
        s = both[0]
        for other in both[1:]:
            other.stop()
        subprocess.run([bench.opts.load, "fill", "64", str(KEYS)] + s.addresses, check=True, stdout=subprocess.DEVNULL)
        watcher = Watcher(s.folder)
        watcher.start()
        driver = subprocess.Popen([bench.opts.load, "put", "64", str(LIMIT_SEC + 5)] + s.addresses, stdout=subprocess.DEVNULL)
        begun = time.monotonic()
        spans = {True: [], False: []}
        while min(len(v) for v in spans.values()) < SPANS and time.monotonic() < begun + LIMIT_SEC:
            start = time.monotonic()
            tails = span(bench, s)
            spans[any(start <= t for t in watcher.seen)].append(tails)
        driver.kill()
        driver.wait()
        watcher.stopping = True
        for column, verb in enumerate(("gets", "puts")):
            tails = {kind: [v[column] for v in rows] for kind, rows in spans.items()}
            if not tails[True] or not tails[False]:
                print("  %s: %d spans with a checkpoint, %d without: no comparison" % (verb, len(tails[True]), len(tails[False])))
                continue
            medians = {kind: statistics.median(v) for kind, v in tails.items()}
            print("  99 %% of %s below: %.1f ms (median of %d spans) without a checkpoint, %.1f ms (of %d) with one; ratio %.2f"
                  % (verb, medians[False], len(tails[False]), medians[True], len(tails[True]), medians[True] / medians[False]), flush=True)
