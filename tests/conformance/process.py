"""The daemon as a process: process.py PROGRAM SCRATCH. Options that end it at once, exit statuses, messages to the service manager, the
descriptors that are left for clients, and a reload. Prints a result for each behaviour."""
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback

PROGRAM, SCRATCH = sys.argv[1], sys.argv[2]
PATIENCE = 60


def path(name):
    return os.path.join(SCRATCH, name)


def run(*options):
    """Run a daemon that ends by itself: its exit status, and its output."""
    p = subprocess.run([PROGRAM, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    return p.returncode, p.stdout, p.stderr


def same(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


def boot_id():
    """The kernel's, with the start of process 1 in its last 8 bytes: a container has a boot of its own."""
    with open("/proc/sys/kernel/random/boot_id") as f:
        kernel = bytes.fromhex(f.read().strip().replace("-", ""))
    with open("/proc/1/stat") as f:
        started = int(f.read().rsplit(")", 1)[1].split()[19])
    return (kernel[:8] + (int.from_bytes(kernel[8:], sys.byteorder) ^ started).to_bytes(8, sys.byteorder)).hex()


class Daemon:
    """A daemon that runs until it is stopped; its messages to the service manager are in 'notified'."""
    count = 0

    def __init__(self, *options, config="", limit=None, watchdog=None, without_input=False):
        Daemon.count += 1
        self.name = f"d{Daemon.count}"
        self.config, self.log_path, self.sock = path(self.name + ".conf"), path(self.name + ".log"), path(self.name + ".sock")
        self.write(config)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path(self.name + ".notify"))
        self.notify.settimeout(0.2)
        self.notified = []
        environment = dict(os.environ, NOTIFY_SOCKET=path(self.name + ".notify"))
        environment.pop("JOURNAL_STREAM", None)
        if watchdog:
            environment["WATCHDOG_USEC"] = str(watchdog)

        def limits():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            if limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)

        with open(self.log_path, "w") as log:
            command = [PROGRAM, *self.options(), *options]
            if without_input:
                command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
            self.p = subprocess.Popen(["timeout", "-k", "5", "300", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                      env=environment, preexec_fn=limits)

    def options(self):
        return [f"--config={self.config}", f"--state-directory={path(self.name)}", f"--runtime-directory={path(self.name + '-run')}",
                "--unit-directory=", "--cluster-file=", f"--listen-socket={self.sock}", "--listen-client=off", "--agent=no", "--name=alpha",
                "--machine-id=" + "a" * 32]

    def write(self, text):
        with open(self.config, "w") as f:
            f.write(text)

    def wait_notified(self, message):
        """Wait for this message; return the earlier ones."""
        before = []
        end = time.monotonic() + PATIENCE
        while True:
            try:
                said = self.notify.recv(4096).decode()
            except socket.timeout:
                assert self.p.poll() is None and time.monotonic() < end, f"{message} was not said: {before}; {self.log()}"
                continue
            self.notified.append(said)
            if said == message:
                return before
            before.append(said)

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def wait_log(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.log():
            assert time.monotonic() < end, f"{text!r} is not in: {self.log()}"
            time.sleep(0.02)

    def pid(self):
        """timeout's child"""
        with open(f"/proc/{self.p.pid}/task/{self.p.pid}/children") as f:
            return int(f.read().split()[0])

    def soft_limit(self):
        with open(f"/proc/{self.pid()}/limits") as f:
            return int(re.search(r"^Max open files +(\d+)", f.read(), re.M).group(1))

    def ask(self, method, target, body=""):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(PATIENCE)
        s.connect(self.sock)
        s.sendall((f"{method} {target} HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        answer = b""
        while piece := s.recv(65536):
            answer += piece
        s.close()
        return int(answer.split()[1])

    def signal(self, number):
        os.kill(self.pid(), number)

    def ends(self):
        self.signal(signal.SIGTERM)
        same(self.p.wait(PATIENCE), 0)

    def close(self):
        if self.p.poll() is None:
            self.p.terminate()  # timeout(1) passes it on
            self.p.wait()
        self.notify.close()


def daemon(*options, **how):
    d = Daemon(*options, **how)
    daemons.append(d)
    return d


daemons = []


# -- Options and errors that end it at once --

def help_and_version_end_with_status_0():
    for option in ("--help", "-h"):
        status, out, err = run("--agent=no", option)
        same((status, err), (0, ""))
        lines = out.split("\n")
        same(lines[0], "fleetd [OPTION...]")
        for line in ("  -h --help                    show this",
                     "     --recover --force         after a permanent loss of the majority: make this host a cluster of one, and exit",
                     "     --state-directory=DIR     log, tree and assignment records (/var/lib/fleet)",
                     "     --advertise-client=URL    URL of this host's key API for other machines (none)",
                     "     --debug=BOOL              log checks without effect, too",
                     "Each option is also a key of fleetd.conf. See fleetd(8), fleetd.conf(5)."):
            assert line in lines, f"{line!r} is not in {out}"
        at = lines.index("     --limit-connections-per-client=N ")
        same(lines[at + 1], "                               connections of one address, or of one user of the socket; 0: no such limit (0)")
        assert "     --limit-backlog-size=SIZE " + "of a stream's unread events (256K)" in lines, out  # of exactly 25 characters
    version = run("--version")
    assert re.fullmatch(r"fleetd version \S+\n", version[1]), version
    same(version, run("version"))
    same(version, run("--nonsense", "--version"))
    same((version[0], version[2]), (0, ""))


def invalid_options_end_it_with_status_2():
    for options, message in ((["--nope"], "fleetd: unknown option or missing value: --nope; see fleetd --help\n"),
                             (["--agent=no", "version"], "fleetd: fleetd takes no arguments, but got 'version'; did you mean fleetctl?\n"),
                             ([f"--config={path('none.conf')}"], f"fleetd: Failed to read {path('none.conf')}: No such file or directory\n"),
                             ([f"--config={SCRATCH}"], f"fleetd: Failed to read {SCRATCH}: Invalid argument\n")):
        same(run(*options), (2, "", message))


def a_missing_resource_ends_with_status_1():
    open(path("empty.conf"), "w").close()
    same(run("--config=/proc/self/mem"), (1, "", "fleetd: Failed to read /proc/self/mem: Input/output error\n"))  # a disk that fails
    common = [f"--config={path('empty.conf')}", "--unit-directory=", "--cluster-file=", "--listen-client=off", "--agent=no", "--machine-id=" + "b" * 32]
    status, _, err = run(*common, "--state-directory=/proc/no", f"--listen-socket={path('x.sock')}")
    same((status, err.split("\n")[-2]), (1, "fleetd: Failed to open the state directory /proc/no: No such file or directory"))
    status, _, err = run(*common, f"--state-directory={path('nokey')}", f"--runtime-directory={path('nokey-run')}", f"--listen-socket={path('x.sock')}",
                         "--listen-peer=127.0.0.1:1", f"--peer-key={path('none.key')}")
    same(status, 1)
    assert path("none.key") in err.split("\n")[-2], err
    status, _, err = run(*common, f"--state-directory={path('nosock')}", f"--runtime-directory={path('nosock-run')}", "--listen-socket=/proc/no/x.sock")
    same(status, 1)
    assert "/proc/no/x.sock" in err.split("\n")[-2], err
    status, _, err = run(*common, f"--state-directory={path('nothing')}", f"--backup={path('copy')}")
    same(status, 1)
    assert err.startswith("fleetd: "), err


def a_host_with_units_keeps_its_agent():
    """Without it, nothing stops them."""
    os.makedirs(path("units/agent"))
    with open(path("units/agent/assignment"), "w") as f:
        f.write('{"lineage":"00000000000000ab","units":[{"name":"a.service","order":"run","text":"[Service]\\nExecStart=/bin/a\\n","unit":1}]}\n')
    status, _, err = run(f"--config={path('empty.conf')}", "--unit-directory=", "--cluster-file=", "--listen-client=off", "--agent=no", "--machine-id=" + "b" * 32,
                         f"--state-directory={path('units')}", f"--runtime-directory={path('units-run')}", f"--listen-socket={path('x.sock')}")
    same(status, 1)
    assert "fleetd: Agent=no: this host has units of the cluster, such as a.service. " in err, err


# -- While it runs --

def it_notifies_the_manager_when_it_is_ready_and_when_it_stops():
    d = daemon(watchdog=600000)
    before = d.wait_notified("READY=1")
    assert "EXTEND_TIMEOUT_USEC=600000000" in before and before[0] == "WATCHDOG=1", before
    for _ in range(3):
        d.wait_notified("WATCHDOG=1")
    assert re.search(r"^fleetd \S+ runs on alpha$", d.log(), re.M), d.log()
    d.wait_log("leader, term")
    leads = "STATUS=leader, term 2, 1 of 1 voters reachable"
    if leads not in d.notified:
        d.wait_notified(leads)
    status, _, err = run(*d.options())
    same((status, err.split("\n")[-2]), (1, f"fleetd: another fleetd is running on {path(d.name)}; to stop it: systemctl stop fleetd"))
    status, _, err = run(*d.options(), f"--backup={path('copy')}")
    same((status, err), (1, f"fleetd: another fleetd is running on {path(d.name)}; to stop it: systemctl stop fleetd\n"))
    same(d.ask("PUT", "/v2/keys/a", "value=1"), 201)
    same(d.ask("GET", "/metrics"), 200)
    with open(path(d.name + "/tree/trusted")) as marker:
        same(marker.read().split("\n")[1], "boot " + boot_id())
    d.ends()
    d.wait_notified("STOPPING=1")
    assert "stopping; units are not touched, and after 10 min without fleetd they start on other hosts, too" in d.log()
    same(run(*d.options(), f"--backup={path('copy')}")[0], 0)
    same(os.path.exists(path("copy")), True)


def an_interrupt_ends_it_with_status_0_too():
    d = daemon()
    d.wait_notified("READY=1")
    d.signal(signal.SIGINT)
    same(d.p.wait(PATIENCE), 0)


def it_runs_without_standard_input():
    d = daemon(without_input=True)
    d.wait_notified("READY=1")
    same(os.readlink(f"/proc/{d.pid()}/fd/0"), "/dev/null")
    same(d.ask("GET", "/metrics"), 200)
    d.ends()


def clients_leave_descriptors_to_the_daemon():
    says = "LimitConnections= is {} instead of {}: the host allows {} descriptors; expected LimitNOFILE={} in fleetd.service, or a lower LimitConnections=\n"
    for options, limit, soft, message in (([], (256, 1000), 1000, says.format(488, 10000, 1000, 10512)),  # one listener
                                          (["--listen-client=127.0.0.1:9", "--client-access=off"], (256, 1000), 1000, says.format(488, 10000, 1000, 10512)),
                                          (["--limit-connections=16"], (256, 528), 528, None),
                                          (["--limit-connections=17"], (256, 528), 528, says.format(16, 17, 528, 529)),
                                          (["--limit-connections=100"], (256, 4000), 4000, None),  # for sessions, too
                                          (["--limit-connections=100", "--limit-sessions=100"], (256, 4000), 712, None),
                                          (["--limit-connections=100", "--limit-sessions=100"], (2000, 4000), 2000, None),
                                          (["--listen-socket=", "--limit-connections=1000"], (256, 528), 256, None)):
        d = daemon(*options, limit=limit)
        d.wait_notified("READY=1")
        same(d.soft_limit(), soft)
        found = [line + "\n" for line in d.log().split("\n") if "LimitConnections=" in line]
        same(found, [message] if message else [])
        d.ends()


def a_reload_applies_the_settings_it_can_and_a_broken_file_changes_nothing():
    d = daemon(limit=(256, 1000))
    d.wait_notified("READY=1")
    same(d.ask("PUT", "/v2/keys/a", "value=" + "x" * 1025), 201)
    d.write("[Fleetd]\nLimitValueSize=1K\nQuota=1M\nDebug=yes\nBrakeSec=5s\n")
    d.signal(signal.SIGHUP)
    d.wait_notified("RELOADING=1")
    same([m for m in d.wait_notified("READY=1") if not m.startswith("STATUS=")], [])
    log = d.log()
    for line in (f"Reloading configuration from {d.config}", "applied the new value of BrakeSec=", "applied the new value of LimitValueSize=",
                 "applied the new value of Debug=", "Quota= was changed; restart fleetd to apply it, which touches no unit"):
        same(log.count(line + "\n"), 1)
    same(log.count("LimitConnections= is 488 instead of 10000"), 2)
    assert "applied the new value of LimitConnections=" not in log, log
    same(d.ask("PUT", "/v2/keys/a", "value=" + "x" * 1025), 400)
    same(d.ask("PUT", "/v2/keys/a", "value=" + "x" * 1024), 200)

    d.write("[Fleetd]\nLimitValueSize=2K\nNope=1\n")
    d.signal(signal.SIGHUP)
    d.wait_notified("RELOADING=1")
    d.wait_notified("READY=1")
    assert d.log().endswith(f"Failed to reload the configuration, keeping the previous one: {d.config}: line 3: unknown setting Nope=; see fleetd.conf(5)\n"), d.log()
    same(d.ask("PUT", "/v2/keys/a", "value=" + "x" * 1025), 400)

    d.write("")
    d.signal(signal.SIGHUP)
    d.wait_notified("RELOADING=1")
    d.wait_notified("READY=1")
    same(d.ask("PUT", "/v2/keys/a", "value=" + "x" * 1025), 200)
    d.ends()


def main():
    for name, f in list(globals().items()):
        if not callable(f) or name in ("main", "run", "same", "path", "daemon", "boot_id", "Daemon") or f.__module__ != "__main__":
            continue
        try:
            f()
            print(f"ok {name}", flush=True)
        except Exception as e:  # any error becomes a result
            print(f"not ok {name}: {str(e)[:500]!r} at line {traceback.extract_tb(e.__traceback__)[1].lineno}", flush=True)
        finally:
            for d in daemons:
                d.close()
            daemons.clear()


main()
