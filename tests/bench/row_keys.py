"""Key writes, local and quorum reads a second, at several numbers of connections, with one voter and with three; and resident memory."""

import statistics
import subprocess
import time

import servers


def load(program, verb, connections, seconds, server):
    out = subprocess.run([program, verb, str(connections), str(seconds)] + server.addresses, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    rate, _, p99, _, errors = (float(x) for x in out.split())
    if errors:
        print("  (%s answered %d requests with an error)" % (server.name, errors))
    return rate, p99


def keys(opts, both):
    print("  %-28s %-8s %26s   %26s  ratio" % ("", "", "requests/s min median max", "99 % below, ms, median"))
    for verb, words in (("put", "writes"), ("get", "local reads"), ("quorum", "quorum reads")):
        for connections in opts.connections:
            rates = {s.name: [] for s in both}
            tails = {s.name: [] for s in both}
            for turn in range(opts.rounds):
                for s in both if turn % 2 == 0 else both[::-1]:
                    rate, p99 = load(opts.load, verb, connections, opts.seconds, s)
                    rates[s.name].append(rate)
                    tails[s.name].append(p99 / 1000)
            for s in both:
                print("  %-28s %-8s %s   %26.1f %s" % ("%s, %d connections" % (words, connections), s.name, servers.figures(rates[s.name]),
                                                      statistics.median(tails[s.name]), servers.ratio(rates) if s.name == "fleetd" else ""), flush=True)


def run(bench):
    for members in bench.opts.members:
        with bench.clusters(members) as both:
            time.sleep(2)
            print("\n%d voter%s, 1000 keys of 128 bytes, each connection asks again when answered" % (members, "s" if members > 1 else ""))
            for s in both:
                print("  memory, idle                 %-8s %s KiB resident" % (s.name, " ".join(str(k) for k in s.memory_kib())))
            keys(bench.opts, both)
            for s in both:
                print("  memory, after the load       %-8s %s KiB resident" % (s.name, " ".join(str(k) for k in s.memory_kib())))
