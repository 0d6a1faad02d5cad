#!/usr/bin/env python3
"""fleet-web, the whole program, against a fleetd in Python: limits of its HTTP server, its addresses and its key, and a daemon that goes and comes."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fake_fleetd  # noqa: E402

PROGRAM = os.path.join(os.environ.get("BUILD", os.getcwd()), "client/web/fleet-web")
WAIT_SECONDS = 120  # on a slow and busy machine
SERVICE = "[Service]\nExecStart=/bin/sleep 1\n"


class Page:
    """A cluster, and fleet-web in front of it."""

    def __init__(self, *args, listen="--listen=127.0.0.1:0", env=None, **kwargs):
        self.dir = tempfile.mkdtemp(prefix="fleet-web-")
        self.socket = os.path.join(self.dir, "sock")
        self.cluster = fake_fleetd.start(self.socket)
        self.env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "FLEETCTL_ENDPOINT": "unix://" + self.socket, **(env or {})}
        self.program = subprocess.Popen([PROGRAM, *([listen] if listen else []), *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, **kwargs)

    def open(self):
        url = self.program.stdout.readline().strip()
        base, self.key = url.split("/#key=")
        self.address = base.removeprefix("http://")
        assert len(self.key) == 22, url
        return self

    def close(self):
        self.program.kill()
        self.program.communicate()
        self.cluster.server.shutdown()
        self.cluster.server.server_close()
        shutil.rmtree(self.dir)

    def get(self, path, method="GET", key=None, **headers):
        c = http.client.HTTPConnection(self.address, timeout=WAIT_SECONDS)
        c.request(method, "/" + path, headers={"X-Fleet-Key": key or self.key, **headers})
        answer = c.getresponse()
        body = answer.read().decode()
        c.close()
        return answer.status, body

    def view(self, until):
        """Follow the state until it is as wanted."""
        n = 0
        while True:
            status, body = self.get(f"view?after={n}")
            assert status in (200, 204), (status, body)
            if status == 200:
                state = json.loads(body)
                n = state["n"]
                if until(state):
                    return state

    def check_memory(self):
        """The service has 64 MiB."""
        kib = int(next(line.split()[1] for line in open(f"/proc/{self.program.pid}/status") if line.startswith("VmHWM")))
        assert kib < 64 * 1024 or "ASAN_OPTIONS" in os.environ, f"{kib} KiB"

    def put(self, name, text=SERVICE, state="launched"):
        s = http.client.HTTPConnection("localhost")
        s.sock = socket.socket(socket.AF_UNIX)
        s.sock.connect(self.socket)
        s.request("PUT", f"/fleet/v1/units/{name}", json.dumps({"name": name, "text": text, "desiredState": state}), {"Content-Type": "application/json"})
        assert s.getresponse().status == 201
        s.close()


def a_change_is_shown_when_an_event_reports_it(page):
    page.open()
    page.view(lambda s: not s["units"] and [m["name"] for m in s["machines"]] == ["alpha", "beta", "gamma"])
    page.put("a.service")
    state = page.view(lambda s: s["units"])
    assert [(u["name"], u["c"], u["state"], u["machine"]) for u in state["units"]] == [("a.service", "ok", "active (running)", "alpha")], state["units"]
    page.put("b.service", SERVICE.replace("sleep 1", "false"))
    state = page.view(lambda s: len(s["units"]) == 2)
    assert [(p["name"], p["c"]) for p in state["problems"]] == [("b.service", "bad")], state["problems"]
    assert all(method == "GET" for method, path in page.cluster.requests if path != "/fleet/v1/units/a.service" and path != "/fleet/v1/units/b.service")


def fifty_machines_with_five_thousand_units_take_less_memory_than_the_service_has(page):
    """With the figures of all of them, and while several pages read all documents."""
    unit = {"currentState": "launched", "desiredState": "launched", "hash": "0" * 40, "options": [], "text": "", "reason": ""}
    page.cluster.machines = [{"id": "%032x" % i, "hostname": f"host{i}", "presence": "up", "role": "attached"} for i in range(1, 51)]
    for i in range(5000):
        name, machine = f"web@{i}.service", "%032x" % (i % 50 + 1)
        page.cluster.units[name] = {"name": name, "machineID": machine, **unit}
        page.cluster.states[name, machine] = {"name": name, "machineID": machine, "systemdActiveState": "active", "systemdSubState": "running",
                                              "systemdLoadState": "loaded", "since": 1}
    page.open()
    state = page.view(lambda s: s["units"])
    assert len(state["units"]) == 5000
    status, body = page.get("view")
    assert len(body) < 5000 * 160, len(body)
    n, known = 0, 0
    while known < 5000:
        status, body = page.get(f"usage?after={n}")
        assert status in (200, 204), body
        if status == 200:
            figures = json.loads(body)
            n, known = figures["n"], sum("cpu" in unit for machine in figures["machines"] for unit in machine["units"])
    for _ in range(3):  # while the figures are kept
        with page.cluster.lock:
            page.cluster.notify(kind="state")
        page.view(lambda s: True)
        assert page.get(f"usage?after={n}")[0] in (200, 204)
    readers = [threading.Thread(target=lambda: [page.get(path) for path in ("view", "usage") * 3]) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    page.check_memory()


def a_host_that_sends_without_a_pause_does_not_stop_the_page(page):
    def usage(self, c, machine):
        line = json.dumps({"machine": machine, "data": json.dumps({"at": 1, "units": []}) + "\n"}).encode() + b"\n"
        part = b"%x\r\n%s\r\n" % (1000 * len(line), 1000 * line)
        c.lock.release()
        try:
            self.begin_stream()
            while True:
                self.wfile.write(part)
        except OSError:
            self.close_connection = True
        finally:
            c.lock.acquire()
    former, fake_fleetd.Handler.usage = fake_fleetd.Handler.usage, usage
    try:
        page.open()
        page.view(lambda s: s["machines"])
        page.get("usage")
        page.put("a.service")
        n = 0
        for _ in range(3):
            status, body = page.get(f"view?after={n}")
            n = json.loads(body)["n"] if status == 200 else n
            if '"a.service"' in body:
                break
        assert '"a.service"' in body, body
        page.check_memory()
    finally:
        fake_fleetd.Handler.usage = former


def a_daemon_that_goes_leaves_the_last_state(page):
    page.put("a.service")
    page.open()
    page.view(lambda s: s["units"])

    def hang_up(method, path):
        raise ConnectionError
    page.cluster.before_request = hang_up
    with page.cluster.lock:
        page.cluster.notify(kind="state")
    state = page.view(lambda s: s["notice"])
    assert state["notice"].startswith("fleetd on alpha does not answer since ") and state["units"], state["notice"]
    page.cluster.before_request = lambda method, path: None
    page.put("b.service")
    state = page.view(lambda s: not s["notice"])
    assert [u["name"] for u in state["units"]] == ["a.service", "b.service"]


def markup_and_control_characters_are_text(page):
    page.cluster.machines = [{**page.cluster.machines[0], "metadata": {"a": "<img src=x onerror=alert(1)>\u202e\u0007"}}]
    page.open()
    state = page.view(lambda s: s["machines"])
    assert state["machines"][0]["meta"].startswith("a=<img src=x onerror=alert(1)>\\x"), state["machines"][0]["meta"]
    assert "\u202e" not in state["machines"][0]["meta"]
    status, body = page.get("view")
    assert "<img" not in body, "a document is no page"


def bad_requests_get_the_documented_status(page):
    page.open()
    page.view(lambda s: True)
    for path, status in (("view?after=x", 400), (f"view?after={2 ** 64}", 400), ("why", 400), ("view/../", 404), ("fleet/v1/units", 404), ("v2/keys", 404)):
        assert page.get(path)[0] == status, (path, page.get(path))
    for method in ("POST", "PUT", "OPTIONS", "DELETE"):
        assert page.get("view", method)[0] == 405, method
        assert page.get("view", method, key="A" * 22)[0] == 405, method
    assert page.get("view", key="A" * 22)[0] == 403
    assert page.get("", key="A" * 22)[0] == 200
    assert page.get("", "HEAD") == (200, "")
    assert page.get("view", **{"X-Long": "x" * 65536})[0] == 431
    assert page.get("why?unit=" + "a" * 255 + ".service")[0] == 404
    page.cluster.requests.clear()
    for unit in ("..%2f..%2fv2%2fkeys", "a%0d%0aX:%20y", "a.service%3fx=1%23", ".."):  # a name stays a name in the request to the daemon
        assert page.get("why?unit=" + unit)[0] == 404, unit
    assert not [path for _, path in page.cluster.requests if "/keys" in path or "\n" in path or "?x" in path]
    for key in (page.key + "A", page.key[:-1], page.key.lower(), " "):
        assert page.get("view", key=key)[0] == 403, key
    assert page.key not in open(f"/proc/{page.program.pid}/cmdline").read()
    host, port = page.address.split(":")
    s = socket.create_connection((host, int(port)))  # many questions on one connection, and the client goes
    s.sendall(f"GET /view HTTP/1.1\r\nHost: h\r\nX-Fleet-Key: {page.key}\r\n\r\n".encode() * 50)
    s.close()
    assert page.get("view")[0] == 200


def a_page_of_another_run_has_another_key(page):
    page.open()
    former = page.key
    other = Page().open()
    try:
        assert other.key != former and other.get("view", key=former)[0] == 403
    finally:
        other.close()


def addresses_of_others_are_refused(page):
    page.open()
    for listen, status, message in (
            ("0.0.0.0:2381", 2, "0.0.0.0: the page is not encrypted; use ssh -L, or a proxy with TLS on this host"),
            ("[::]:2381", 2, ":: the page is not encrypted"),
            ("localhost:2381", 2, "--listen=localhost:2381: expected an address of this host and a port"),
            ("127.0.0.1", 2, "expected an address of this host and a port"),
            ("127.0.0.1:65536", 2, "expected an address of this host and a port"),
            (page.address, 1, f"{page.address} is in use; a free port: --listen=127.0.0.1:0")):
        other = Page(listen="--listen=" + listen)
        out, err = other.program.communicate(timeout=WAIT_SECONDS)
        other.close()
        assert (other.program.returncode, out) == (status, "") and message in err, (listen, other.program.returncode, out, err)
    other = Page("now")
    out, err = other.program.communicate(timeout=WAIT_SECONDS)
    other.close()
    assert other.program.returncode == 2 and "web has no arguments" in err, err


def a_tunnel_ends_with_the_program(page):
    ssh = os.path.join(page.dir, "ssh")
    with open(ssh, "w") as f:
        f.write(fake_fleetd.SSH)
    os.chmod(ssh, 0o755)
    said = os.path.join(page.dir, "said")
    far = Page("--tunnel=bastion:2222", env={"PATH": page.dir + ":" + os.environ["PATH"], "SAID": said}).open()
    try:
        assert far.view(lambda s: s["machines"])["host"] == "alpha"
        with open(said) as f:
            words = f.read().split()
        assert words[-2:] == ["--", "bastion"] and "2222" in words, words
        near = words[words.index("-L") + 1].split(":")[0]
        assert os.path.exists(near)
        far.program.send_signal(signal.SIGTERM)
        assert far.program.wait(WAIT_SECONDS) == 0 and not os.path.exists(near)
        assert far.program.stderr.read() == "", "ssh would keep it open"
    finally:
        far.close()
    with open(ssh, "w") as f:
        f.write("#!/bin/sh\nexit 255\n")
    far = Page("--tunnel=bastion", env={"PATH": page.dir + ":" + os.environ["PATH"]})
    out, err = far.program.communicate(timeout=WAIT_SECONDS)
    far.close()
    assert (far.program.returncode, out) == (1, "") and "ssh ended with status 255" in err, (far.program.returncode, out, err)


def a_signal_ends_it(page):
    page.open()
    page.view(lambda s: True)
    page.program.send_signal(signal.SIGTERM)
    assert page.program.wait(WAIT_SECONDS) == 0


def a_service_keeps_its_key_and_prints_nothing(page):
    """A socket as systemd passes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    state = os.path.join(page.dir, "state")
    os.mkdir(state)
    keys = []
    for _ in range(2):
        def pass_socket():
            os.dup2(listener.fileno(), 3)
            os.environ["LISTEN_PID"] = str(os.getpid())
        # The process that runs the program has the ID that the variable names.
        service = subprocess.Popen(["/bin/sh", "-c", f'LISTEN_PID=$$ exec "{PROGRAM}"'], preexec_fn=pass_socket, pass_fds=(3,), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env={**page.env, "LISTEN_FDS": "1", "STATE_DIRECTORY": state})
        page.address, page.key = "127.0.0.1:%d" % listener.getsockname()[1], "A" * 22
        assert page.get("")[0] == 200
        assert os.stat(os.path.join(state, "key")).st_mode & 0o777 == 0o600
        page.key = open(os.path.join(state, "key")).read()
        keys.append(page.key)
        assert page.view(lambda s: True)["host"] == "alpha"
        service.terminate()
        assert service.communicate(timeout=WAIT_SECONDS) == ("", ""), "the journal would have the key"
    assert keys[0] == keys[1] and len(keys[0]) == 22
    listener.close()


TESTS = (a_change_is_shown_when_an_event_reports_it, fifty_machines_with_five_thousand_units_take_less_memory_than_the_service_has,
         a_host_that_sends_without_a_pause_does_not_stop_the_page, a_daemon_that_goes_leaves_the_last_state,
         markup_and_control_characters_are_text, bad_requests_get_the_documented_status, a_page_of_another_run_has_another_key,
         addresses_of_others_are_refused, a_tunnel_ends_with_the_program, a_signal_ends_it, a_service_keeps_its_key_and_prints_nothing)


def main():
    failed = 0
    print(f"1..{len(TESTS)}")
    for test in TESTS:
        page = Page()
        try:
            test(page)
            print("ok " + test.__name__, flush=True)
        except Exception:
            failed += 1
            print("not ok " + test.__name__, flush=True)
            traceback.print_exc(file=sys.stdout)
        finally:
            page.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
