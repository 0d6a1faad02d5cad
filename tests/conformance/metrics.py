"""Both forms of /metrics under load, and the files that use them.

usage: metrics.py SOCKET ADDRESS FAMILIES DASHBOARDS

While clients write keys at ADDRESS, scrape SOCKET in both forms. promtool (Debian's prometheus) checks the text format, the parser of
python3-prometheus-client reads both. FAMILIES is the manual page with the table of families; DASHBOARDS is the folder of rules and dashboard.
"""
import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

PATH, ADDRESS, MANUAL, FOLDER = sys.argv[1:5]
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PROMETHEUS = OPENMETRICS + ",application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def check(name, good, detail=""):
    print("ok %s" % name if good else "not ok %s: %s" % (name, str(detail)[:500]))


class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(PATH)


def scrape(accept):
    client = Local("fleet")
    client.request("GET", "/metrics", headers={"Accept": accept} if accept is not None else {})
    answer = client.getresponse()
    body = answer.read().decode()
    client.close()
    return answer.status, answer.getheader("Content-Type", ""), body


def load(stop):
    client = http.client.HTTPConnection(ADDRESS, timeout=60)
    n = 0
    while not stop.is_set():
        client.request("PUT", "/v2/keys/load/%d" % (n % 100), body="value=%d" % n, headers={"Content-Type": "application/x-www-form-urlencoded"})
        client.getresponse().read()
        client.request("GET", "/v2/keys/none")
        client.getresponse().read()
        n += 1


stop = threading.Event()
clients = [threading.Thread(target=load, args=(stop,)) for _ in range(8)]
for c in clients:
    c.start()
wrong, seconds, families = [], [], {}
end = time.monotonic() + 5
while time.monotonic() < end:
    for accept, form, read in ((None, "text/plain; version=0.0.4", read_text), (PROMETHEUS, OPENMETRICS.replace(";", "; "), read_openmetrics)):
        began = time.monotonic()
        status, kind, body = scrape(accept)
        seconds.append(time.monotonic() - began)
        try:
            families[read] = list(read(body))
        except Exception as e:
            wrong.append((form, e))
        if status != 200 or not kind.startswith(form):
            wrong.append((form, status, kind))
stop.set()
for c in clients:
    c.join()
check("both_forms_are_read_under_load", not wrong and len(seconds) >= 10, wrong or len(seconds))
print("# %d scrapes while 8 clients write: median %.1f ms, longest %.1f ms" % (len(seconds), statistics.median(seconds) * 1000, max(seconds) * 1000))

text = scrape(None)[2]
tool = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
check("promtool_finds_nothing", tool.returncode == 0 and not tool.stdout + tool.stderr, tool.stdout + tool.stderr)
check("openmetrics_ends", scrape(OPENMETRICS)[2].endswith("\n# EOF\n"))


def names(read):
    return {s.name for f in families[read] for s in f.samples}


check("both_forms_have_the_same_samples", names(read_text) == names(read_openmetrics), names(read_text) ^ names(read_openmetrics))

# Bad values select the text format.
for accept in ("", ",", ";;;", "application/openmetrics-text;version=2.0.0", "application/openmetrics-text;q=x", "a/" + "b" * 8000, "application/openmetrics-text;" * 500 + "q=0"):
    status, kind, _ = scrape(accept)
    check("accept_falls_back_to_text", status == 200 and kind.startswith("text/plain"), (accept[:60], status, kind))

values = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families[read_text] for s in f.samples}
check("requests_are_counted", all(values[("fleet_http_requests_total", (("class", c), ("listener", "loopback")))] > 10 for c in ("2xx", "4xx")), values)
for name in ("commit", "log_write"):
    check("times_are_counted", values[("fleet_store_%s_seconds_count" % name, ())] > 10 and values[("fleet_store_%s_seconds_sum" % name, ())] > 0, name)

# -- The table of the manual --

with open(MANUAL) as f:
    table = dict(re.findall(r"^\*((?:fleet|process)_[a-z_]+)\*, ([a-z]+)", f.read(), re.M))
types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
check("the_manual_has_all_families", table and set(table) == set(types), set(table) ^ set(types))
check("the_manual_has_their_types", all(t == types[n] or (t == "info" and types[n] == "gauge") for n, t in table.items()))

# -- Rules and dashboard --

with open(FOLDER + "/fleet.json") as f:
    dashboard = json.load(f)
expressions = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
check("the_dashboard_has_its_data_source_as_variable", all(t["datasource"]["uid"] == "${datasource}" for p in dashboard["panels"] for t in p["targets"] + [p]))
check("the_dashboard_needs_no_plugin", {p["type"] for p in dashboard["panels"]} <= {"stat", "timeseries"})
with open(FOLDER + "/fleet.rules.yml") as f:
    rules = re.findall(r"^ +expr: (.*)$", f.read(), re.M)
check("rules_and_dashboard_have_expressions", len(rules) >= 10 and len(expressions) >= 10, (rules, expressions))
for e in rules + expressions:
    used = {re.sub(r"_(bucket|sum|count)$", "", n) if n not in table else n for n in re.findall(r"\b(?:fleet|process)_[a-z_]+", e)}
    if not used or used - set(table):
        check("an_expression_uses_families_of_the_table", False, e)
check("all_expressions_were_read", True)
for command in (["check", "rules", FOLDER + "/fleet.rules.yml"], ["test", "rules", FOLDER + "/fleet.rules.test.yml"]):
    tool = subprocess.run(["promtool"] + command, capture_output=True, text=True)
    check("promtool_%s_rules" % command[0], tool.returncode == 0, tool.stdout + tool.stderr)
