"""What a placement and a plan of moves cost: instructions of engine_plan() and rebalance_all(), counted by callgrind, which counts alike on each machine.
See tests/bench/plan.c and rebalance.c.

Usage: plan.py PROGRAM BEFORE REBALANCE: of this source and of the release before ("": without that row), and of the moves. With CHECK_ALL=yes, also
500 machines, and moves of ten times the units. Takes 20 s, or ten minutes."""

import os
import re
import subprocess
import sys
import tempfile

program, before, rebalance = sys.argv[1:]


class Count:
    """Instructions and examined machines for each placement."""

    def __init__(self, path, machines, units, *options, function="engine_plan"):
        with tempfile.NamedTemporaryFile(prefix="callgrind") as out:
            run = subprocess.run(["valgrind", "--tool=callgrind", "--toggle-collect=" + function, "--callgrind-out-file=" + out.name, path, str(machines), str(units)] + list(options),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        collected = re.search(r"Collected : (\d+)", run.stderr)
        if run.returncode != 0 or not collected:
            sys.exit("not ok %s counts: exit status %d: %s" % (path, run.returncode, run.stderr[-300:]))
        placed, examined = (int(n) for n in run.stdout.split())
        if function == "engine_plan" and placed != units:
            sys.exit("not ok each unit gets a machine: %d of %d" % (placed, units))
        self.cost, self.examined = int(collected.group(1)) / units, examined / units


def row(name, count, limit, other):
    ratio = count.cost / other.cost
    print("%s %s%s %.0f instructions, %.1f machines examined; %.0f and %.1f: ratio %.2f of %.2f"
          % ("ok" if ratio <= limit else "not ok", name, " #" if ratio <= limit else ":", count.cost, count.examined, other.cost, other.examined, ratio, limit), flush=True)


def large(options):
    """A search that ends early has the cost of a unit without its share of 50 machines: that is the least."""
    usual, large = Count(program, 50, 2000, *options), Count(program, 500, 20000, *options)
    row("with_500_machines_%s_each_examined_machine_costs_as_much" % ("and_sizes" if options else "and_no_sizes"), large, 1.3 * max(1, large.examined / usual.examined), usual)


plain = Count(program, 50, 2000)
if before:
    row("a_placement_costs_as_much_as_in_the_release_before", plain, 1.3, Count(before, 50, 2000))
row("with_ten_times_the_units_a_placement_costs_as_much", plain, 1.3, Count(program, 50, 200))
row("with_replicas_spread_and_requests_a_placement_costs_at_most_twice_as_much", Count(program, 50, 2000, "sized"), 2, plain)
for options in ([], ["sized"]) if os.environ.get("CHECK_ALL") == "yes" else ():
    large(options)
if os.environ.get("CHECK_ALL") == "yes":
    row("moves_of_ten_times_the_units_cost_as_much_for_each", Count(rebalance, 50, 20000, function="rebalance_all"), 1.3, Count(rebalance, 50, 2000, function="rebalance_all"))
