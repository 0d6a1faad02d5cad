"""Three voters whose leader is killed, or stopped in order, while clients of the other two write: when is the next write acknowledged,
and how long did the one wait who waited longest?"""

import http.client
import json
import signal
import statistics
import threading
import time

import servers

WRITERS = 4  # of each member


class Writer(threading.Thread):
    """One client that writes one key after the other, and notes when it asked, when it was answered, and whether well."""

    def __init__(self, address, number):
        super().__init__(daemon=True)
        self.address = address
        self.number = number
        self.stopping = False
        self.answers = []
        self.asked = 0.0

    def run(self):
        conn = http.client.HTTPConnection(self.address, timeout=20)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        n = 0
        while not self.stopping:
            n += 1
            self.asked = time.monotonic()
            try:
                conn.request("PUT", "/v2/keys/bench/w%d" % self.number, "value=%d" % n, headers)
                answer = conn.getresponse()
                answer.read()
                well = answer.status in (200, 201)
            except (OSError, http.client.HTTPException):
                conn.close()
                well = False
            self.answers.append((self.asked, time.monotonic(), well))
            if not well:
                time.sleep(0.005)
        conn.close()


def leader_of(server):
    for i, a in enumerate(server.addresses):
        conn = http.client.HTTPConnection(a, timeout=5)
        try:
            conn.request("GET", "/v2/stats/self")
            if json.loads(conn.getresponse().read()).get("state") == "StateLeader":
                return i
        except (OSError, ValueError):
            pass
        finally:
            conn.close()
    return None


def lose(server, signal_number):
    """Ends the leader under load. In ms: to the next acknowledged write, the longest answer of those who waited, the longest time
    without any acknowledged write."""
    server.wait("a leader", lambda: leader_of(server) is not None)
    leader = leader_of(server)
    writers = [Writer(a, i * WRITERS + k) for i, a in enumerate(server.addresses) for k in range(WRITERS)]
    for w in writers:
        w.start()
    time.sleep(1)
    others = [w for i, w in enumerate(writers) if i // WRITERS != leader]
    ended = time.monotonic()
    server.processes[leader].send_signal(signal_number)
    while not all(any(asked >= ended and well for asked, _, well in w.answers) for w in others) and time.monotonic() < ended + 30:
        time.sleep(0.05)
    time.sleep(0.5)
    for w in writers:
        w.stopping = True
    server.processes[leader].wait()
    server.respawn(leader)
    for w in writers:
        w.join()

    answers = sorted((answered, asked, well) for w in others for asked, answered, well in w.answers)
    after = [answered for answered, asked, well in answers if well and asked >= ended]
    waited = [answered - ended for answered, asked, _ in answers if asked < ended <= answered]
    acknowledged = [answered for answered, _, well in answers if well]
    pauses = [b - a for a, b in zip(acknowledged, acknowledged[1:]) if b >= ended]
    for a in server.addresses:
        server.wait("a write at " + a, lambda: server.request(a, "PUT", "/v2/keys/ready", "value=yes") in (200, 201))
    time.sleep(1)
    return (min(after) - ended) * 1000, max(waited) * 1000, max(pauses) * 1000


def run(bench):
    rounds = bench.opts.rounds * 2
    print("\n3 voters, %d clients of each write one key after the other; the leader is ended %d times (what its own clients see is not counted)"
          % (WRITERS, rounds))
    with bench.clusters(3) as both:
        time.sleep(2)
        for signal_number, first, words in ((signal.SIGKILL, 0, "killed"), (signal.SIGTERM, 2, "stopped in order")):
            seen = {s.name: [] for s in both}
            for _ in range(rounds):
                for s in both:
                    seen[s.name].append(lose(s, signal_number))
            print("  %-46s %-8s %26s  ratio" % ("", "", "ms min median max"))
            for column, what in ((0, "to the next acknowledged write"), (1, "longest answer"), (2, "longest time without a write")):
                if column < first:
                    continue
                values = {name: [v[column] for v in rows] for name, rows in seen.items()}
                for s in both:
                    print("  %-46s %-8s %s %s" % ("%s, %s" % (words, what), s.name, servers.figures(values[s.name]),
                                                  servers.ratio(values) if s.name == "fleetd" else ""), flush=True)
