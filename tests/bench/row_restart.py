"""One voter with many keys: from the start of the program to its first answers, after an orderly stop and after a kill."""

import http.client
import signal
import subprocess
import time

import servers

LAST = "/v2/keys/many/d%d/k999"


def answers(address, method, path, body, well):
    conn = http.client.HTTPConnection(address, timeout=5)
    try:
        conn.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"} if body else {})
        answer = conn.getresponse()
        answer.read()
        return answer.status in well
    except (OSError, http.client.HTTPException):
        return False
    finally:
        conn.close()


def restart(server, signal_number, n):
    """Ends and starts the one member. Seconds to the first read, and to the first acknowledged write."""
    address = server.addresses[0]
    server.processes[0].send_signal(signal_number)
    server.processes[0].wait()
    begun = time.monotonic()
    server.respawn(0)
    while not answers(address, "GET", LAST % (n // 1000 - 1), None, (200,)):
        time.sleep(0.001)
        if server.processes[0].poll() is not None or time.monotonic() > begun + 120:
            raise SystemExit("%s does not come back: %s" % (server.name, server.last_words()))
    read = time.monotonic() - begun
    while not answers(address, "PUT", "/v2/keys/ready", "value=yes", (200, 201)):
        time.sleep(0.001)
    return read * 1000, (time.monotonic() - begun) * 1000


def run(bench):
    for n in (100000, 1000000):
        print("\n1 voter, %d keys of 32 bytes: from the start of the program to its first answer" % n)
        with bench.clusters(1) as both:
            both = both if n <= 100000 or bench.opts.before else both[:1]
            for s in both:
                subprocess.run([bench.opts.load, "fill", "64", str(n)] + s.addresses, check=True, stdout=subprocess.DEVNULL)
            print("  %-40s %-8s %26s  ratio" % ("", "", "ms min median max"))
            for signal_number, words in ((signal.SIGTERM, "stopped in order"), (signal.SIGKILL, "killed")):
                seen = {s.name: [] for s in both}
                for _ in range(bench.opts.rounds):
                    for s in both:
                        seen[s.name].append(restart(s, signal_number, n))
                for column, what in ((0, "first read"), (1, "first write")):
                    values = {name: [v[column] for v in rows] for name, rows in seen.items()}
                    for s in both:
                        print("  %-40s %-8s %s %s" % ("%s, %s" % (words, what), s.name, servers.figures(values[s.name]),
                                                      servers.ratio(values) if s.name == "fleetd" else ""), flush=True)
            for s in both:
                print("  %-40s %-8s %s KiB resident" % ("memory, restarted", s.name, " ".join(str(k) for k in s.memory_kib())))
