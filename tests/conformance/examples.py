#!/usr/bin/env python3
"""The examples of README, HACKING, the manual, FROM-FLEET and OPERATING: each is run, or listed in tests/conformance/examples with a reason.

Usage: examples.py check                          every example has a row there, every row an example
       examples.py local BUILD SCRATCH            run those of "local", with the daemon "alone" of tests/conformance/daemon.sh
       examples.py hosts PAGE [SECTION[:PART]] [HOST]   those of "lab" of one section on the hosts of LAB_NAME (tests/lab/lab.sh), by default on HOST
       examples.py quickstart PAGE                run those of "quickstart" in the top folder

An example stands between lines of three backquotes. Lines with a prompt ("$ ", "# ", "beta# ") are commands, those after it their output. Without
a prompt, each line is a command; a block that begins like a unit file or fleetd.conf is checked as such. Three spaces separate a command from a
remark. Output is compared on a terminal of 100 columns, without regard to numbers, names of hosts and spacing; "..." stands for any text, or
for any lines."""
import fnmatch, fcntl, glob, os, pty, random, re, select, shlex, signal, socket, struct, subprocess, sys, termios, time

os.environ["LC_ALL"] = "C.UTF-8"  # the output of fleetctl depends on it
here = os.path.dirname(os.path.realpath(__file__))
top = os.path.realpath(f"{here}/../..")
PAGES = ["README.md", "HACKING.md", "docs/FROM-FLEET.md", "docs/OPERATING.md"] + sorted(os.path.relpath(p, top) for p in glob.glob(f"{top}/man/*.scd"))
PROMPT = re.compile(r"^([a-z]*)([#$]) (?=\S)")
HOST_NAME = r"\b(alpha|beta|gamma|delta)\b"
READS = re.compile(r"(./quickstart )?(fleetctl (list-|status|why|events|cluster$|directory$|kv (get|ls)|secret ls|journal|log|rollout [\w@]+\.service$)|curl -s )")


class Example:
    def __init__(self, page, section, line, command, host="", output=None):
        self.page, self.section, self.line, self.command, self.host = page, section, line, command, host
        self.output = output  # lines; None: not stated

    def __str__(self):
        return f"{self.page}:{self.line}: {self.command}".replace("\n", " ")


def is_complete(command):
    try:
        shlex.split(command, comments=False)
    except ValueError:
        return False
    return not command.endswith("\\") and "<<" not in command


def examples_of_block(page, section, first, lines):
    """A file, the commands of a session, or plain commands."""
    text = [line for line in lines if line.strip() and not re.match(r"^# [\w@./-]+$", line)]
    if re.match(r"^# /[\w@./-]+$", lines[0]) or text and re.match(r"^\[[A-Z]|^[A-Z][A-Za-z]+=", text[0]):
        yield Example(page, section, first, "\n".join(lines) + "\n", host="file")
        return
    has_prompts = any(PROMPT.match(line) for line in lines)
    at = 0
    while at < len(lines):
        prompt = PROMPT.match(lines[at])
        if has_prompts and not prompt:
            raise SystemExit(f"not ok {page}:{first + at}: output without a command")
        number, command = first + at, lines[at][prompt.end():] if prompt else lines[at]
        command = re.sub(r"(?<=\S)\s{3,}\S.*$", "", command)
        at += 1
        while at < len(lines) and not is_complete(command):
            command += "\n" + lines[at]
            at += 1
        output = []
        while has_prompts and at < len(lines) and not PROMPT.match(lines[at]):
            output.append(lines[at])
            at += 1
        if command.strip():
            yield Example(page, section, number, command, prompt.group(1) if prompt else "", output or None)


def examples_of(page):
    section, block, first = "", None, 0
    for number, line in enumerate(open(f"{top}/{page}", encoding="utf-8").read().split("\n"), 1):
        if line.strip().startswith("```"):
            if block is None:
                block, first, margin = [], number + 1, line[:len(line) - len(line.lstrip())]
            else:
                yield from examples_of_block(page, section, first, block)
                block = None
        elif block is not None:
            line = line.removeprefix(margin)
            block.append(line.replace("\\\\", "\\") if page.endswith(".scd") else line)
        elif re.match(r"^#+ ", line):
            section = line.lstrip("# ")


def rows():
    """(line, page, pattern, where, reason)"""
    for number, line in enumerate(open(f"{here}/examples", encoding="utf-8").read().split("\n"), 1):
        if line and not line.startswith("#"):
            page, pattern, where, *reason = line.split("\t")
            yield number, page, pattern, where, reason[0] if reason else ""


def row_of(example, table):
    for row in table:
        if fnmatch.fnmatchcase(example.page, row[1]) and fnmatch.fnmatchcase(example.command.split("\n")[0], row[2]):
            return row
    return None


def check_levels(examples):
    """The numbers of a document are not compared with those of a command: the feature levels in it are those of this version."""
    level = re.search(r"KV_LEVEL_MAX = (\d+)", open(f"{top}/kvstore/command/command.h", encoding="utf-8").read()).group(1)
    shown = [(e, n) for e in examples if e.command.startswith("fleetctl cluster level") for n in e.command.split()[3:] + (e.output or [])]
    wrong = [f"not ok {e}: feature level {n.strip()}, and that of this version is {level}" for e, n in shown if n.strip() != level]
    print("\n".join(wrong) or f"ok feature_levels_are_those_of_this_version # {len(shown)} of them")


def check():
    table, used, examples, skipped, n = list(rows()), set(), [], 0, 0
    for page in PAGES:
        for example in examples_of(page):
            examples.append(example)
            row = row_of(example, table)
            n += 1
            if not row:
                print(f"not ok {example}: neither run nor listed in tests/conformance/examples")
                continue
            used.add(row[0])
            if row[3] == "-":
                skipped += 1
                if not row[4]:
                    print(f"not ok tests/conformance/examples:{row[0]}: no reason")
    for row in table:
        if row[0] not in used:
            print(f"not ok tests/conformance/examples:{row[0]}: no such example")
    print(f"ok every_example_is_run_or_listed # {n} examples, {skipped} of them not run")
    check_levels(examples)


# -- A terminal --

def screen(data):
    """The lines that a terminal shows after these bytes, without colours."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[^\x1b]|\x1b", data.decode("utf-8", "replace")):
        if part.startswith("\x1b["):
            n = int(re.sub(r"\D", "", part) or 1)
            if part[-1] == "A":
                row = max(row - n, 0)
            elif part[-1] == "K":
                lines[row] = lines[row][:column]
            elif part[-1] == "J":
                lines[row] = lines[row][:column]
                del lines[row + 1:]
        elif part == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        elif part == "\r":
            column = 0
        elif part >= " " or part == "\t":
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1:]
            column += 1
    return [line.rstrip() for line in lines]


def run_on_terminal(argv, cwd, env, seconds, typed=b""):
    """Return (exit status, or None if it still runs after this time; bytes). 'typed' answers its question."""
    pid, me = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    fcntl.ioctl(me, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    said, end, status = b"", time.monotonic() + seconds, None
    while time.monotonic() < end:
        if status is None:
            done, raw = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(raw) if done else None
        if select.select([me], [], [], 0.05 if status is None else 0)[0]:
            try:
                more = os.read(me, 65536)
            except OSError:
                more = b""
            if not more:
                if status is None:
                    time.sleep(0.02)
                    continue
                break
            said += more
            if typed and re.search(rb"(\[y/N\]|continue:) $", said):
                os.write(me, typed)
                typed = b""
        elif status is not None:  # processes in the background may keep the terminal
            break
    if status is None:
        time.sleep(0.05)
        done, raw = os.waitpid(pid, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(raw)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    os.close(me)
    return status, said


# -- Comparison --

def shape(line, exact):
    """A regular expression for a line of output in a document; with 'exact', hosts have the stated names."""
    parts = []
    for token in re.findall(r"\.\.\.|\s+|[0-9a-f]{32}|\b[0-9a-f]{7}\b|\d[\d.:]*|alpha|beta|gamma|delta|leader|voter|standby|\w+|\W", line.strip()):
        if token == "...":
            parts.append(".*")
        elif token.isspace():
            parts.append(r"\s+")
        elif re.fullmatch("[0-9a-f]{7}", token):
            parts.append("[0-9a-f]{7}")
        elif token[0].isdigit():
            parts.append(r"[\d.:]+")
        elif token in ("alpha", "beta", "gamma", "delta") and not exact:
            parts.append("(alpha|beta|gamma|delta)")
        elif token in ("leader", "voter", "standby"):
            parts.append("(leader|voter|standby)")
        else:
            parts.append(re.escape(token))
    # A name of a host and its metadata may stand in any row.
    return re.compile(r"\s*" + "".join(parts).replace(r"zone=a", "zone=.").replace("zone=b", "zone=.").replace("zone=c", "zone=.") + r"\s*")


def differs(expected, said, exact=False):
    """Return the first expected line that is missing, or None. Lines beyond "..." and before the end must not follow."""
    at, free = 0, False
    for line in expected:
        if line.strip() == "...":
            free = True
            continue
        wanted = shape(line, exact)
        if free:
            while at < len(said) and not wanted.fullmatch(said[at]):
                at += 1
        if at >= len(said) or not wanted.fullmatch(said[at]):
            return line
        at, free = at + 1, False
    return None if free or at >= len(said) else f"the end, before: {said[at]}"


def run(example, argv, cwd, env, seconds=60, words=()):
    """Run it, print the result, and return the lines of its output. Commands that only read are repeated until their output is the stated one."""
    answer = b"alpha\n" if re.match("fleetctl (restore|recover)", example.command) else b"y\n"  # it asks for the name of the host
    stays, typed = "stays" in words, answer if "asks" in words else b""
    begun = time.monotonic()
    end = begun + 45
    while True:
        status, data = run_on_terminal(argv, cwd, env, (4 if example.output else 2) if stays else seconds, typed)
        said = screen(data)
        while said and not said[-1]:
            said.pop()
        if stays and status is not None:
            missing = f"it ended with status {status}"
        else:
            # "1": a difference, problems of the cluster, or a machine that does not answer.
            good = stays or status == (137 if "killed" in words else 5 if "held" in words else 0) or status == 1 and re.match(r"(./quickstart )?fleetctl (diff|status|log)", example.command)
            missing = example.output and differs(example.output, said, "exact" in words)
            missing = f"no line '{missing.strip()}'" if missing else None if good else f"exit status {status}"
        if not missing or status == 2 or not READS.match(example.command) or time.monotonic() > end:
            break
        time.sleep(0.5)
    took = time.monotonic() - begun
    print(f"ok {example}" if not missing else f"not ok {example}: {missing}", f"# {took:.1f} s" if took > 1 else "", flush=True)
    if missing:
        print("\n".join("# " + line for line in said[-20:]), flush=True)
    return said


def selected(page, where, section=None):
    """The examples of one section; "SECTION:PART": those of it whose rows have the word ":PART"."""
    table, (name, _, part) = list(rows()), (section or "").partition(":")
    for example in examples_of(page):
        row = row_of(example, table)
        if not row or row[3].split()[0] != where or (name and f"({name})" not in example.section and example.section != name):
            continue
        words = row[3].split()[1:]
        if [w for w in words if w.startswith(":")] == ([f":{part}"] if part else []):
            yield example, words


def check_file(example, build, scratch):
    """A part of a unit file, or fleetd.conf."""
    text = example.command
    if "[Fleetd]" in text:
        with open(f"{scratch}/example.conf", "w") as f:
            f.write(text)
        # A valid configuration gets as far as the missing state; an invalid one is exit status 2.
        r = subprocess.run([f"{build}/fleetd/fleetd", f"--config={scratch}/example.conf", f"--state-directory={scratch}/none", f"--backup={scratch}/none/b"],
                           capture_output=True, text=True)
        good = r.returncode == 1
    else:
        name = re.match(r"^# ([\w@.-]+\.[a-z]+)\n", text)
        kind = "container" if "[Container]" in text else "service"
        path = f"{scratch}/{name.group(1) if name else 'example@.' + kind}"
        if not text.lstrip("#").lstrip().startswith("[") and not name:
            text = "[X-Fleet]\n" + text
        with open(path, "w") as f:
            f.write(text if re.search("ExecStart=|^Image=", text, re.M) else "[Service]\nExecStart=/bin/true\n" + text)
        r = subprocess.run([f"{build}/client/fleetctl", "verify", path], capture_output=True, text=True)
        good = r.returncode == 0 and "warning" not in r.stderr
    print(f"ok {example.page}:{example.line}: the file is valid" if good else f"not ok {example.page}:{example.line}: {r.stdout}{r.stderr}".strip())


def free_ports():
    """A number P, for which the ports P0 to P9 and those of P + 1 are free."""
    while True:
        first = random.randrange(1300, 3200, 2)
        try:
            for port in range(10 * first, 10 * first + 20):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
            return first
        except OSError:
            pass


def local(build, scratch):
    ports = free_ports()
    address = os.environ["EXAMPLES_ADDRESS"]
    env = {**os.environ, "PATH": f"{build}/client:{build}/fleetd:{os.environ['PATH']}", "TERM": "dumb", "NO_COLOR": "1",
           "FLEETCTL_ENDPOINT": f"unix://{scratch}/alone.sock"}
    os.makedirs(f"{scratch}/work", exist_ok=True)
    os.symlink(build, f"{scratch}/work/build")
    os.symlink(build, f"{scratch}/work/build-san")
    os.symlink(f"{top}/tests", f"{scratch}/work/tests")
    for page in PAGES:
        state, later = [], []  # assignments of earlier examples of the page; examples that run with the next one
        for example, words in selected(page, "local"):
            if example.host == "file":
                check_file(example, build, scratch)
                continue
            command = re.sub("/(tmp|etc/fleet)/", f"{scratch}/work/", example.command)
            command = command.replace("127.0.0.1:2379", address).replace("/run/fleet.sock", f"{scratch}/alone.sock")
            command = re.sub(r"127\.0\.0\.1:123([78])", lambda m: f"127.0.0.1:{ports + int(m.group(1)) - 7}", command)
            command = re.sub(r"make -C build(-san)? [\w/-]+ && ", "", command)
            if "later" in words:
                later.append(command + " >/dev/null")
                continue
            script = "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + "\n".join(state + later) + "\n" + command
            later = []
            name = re.match(r"^([a-z]+)=\$\(", command)
            if name:  # its value is that of the one run
                name = name.group(1)
                script += f"\n[ -n \"${name}\" ] && echo \"${name}\" >{scratch}/{name}"
                state.append(f"{name}=$(cat {scratch}/{name})")
            run(example, ["bash", "-c", script], f"{scratch}/work", env, words=words)


# Text of a document, and what stands for it on the hosts: systemd-nspawn does not reboot with the links of the lab.
ON_HOSTS = [("systemctl reboot$", "systemctl poweroff"), ("--deadline=1min", "--deadline=1s")]

# A host that is off is booted. After a shutdown, wait for its end.
ON_HOST = f"""export top={top}
. {top}/tests/lab/lab.sh
host_is_on "$1" || {{ host_clear "$1"; host_up "$1"; host_wait "$1"; }}
host_exec "$@"
status=$?
[[ $4 != *systemctl\\ poweroff ]] || {{ wait_for 60 host_is_off "$1" && host_clear "$1"; }}
exit $status"""


def hosts(page, section=None, host="alpha"):
    env, token, names = {**os.environ, "TERM": "xterm"}, "fleet1-none", {}
    for example, words in selected(page, "lab", section):
        command = re.sub(HOST_NAME, lambda m: names.get(m[0], m[0]), example.command)
        inside = f"mkdir -p /root/work && cd /root/work && export LC_ALL=C.UTF-8 NO_COLOR=1 PAGER=cat && {command}"
        for text, substitute in ON_HOSTS:
            inside = re.sub(text, substitute, inside)
        inside = re.sub("fleet1-\\.\\.\\.|\\bTOKEN$", token, inside)  # the last one that was printed
        said = run(example, ["bash", "-c", ON_HOST, "-", example.host or host, "bash", "-c", inside], top, env, words=words)
        token = next((line for line in said if line.startswith("fleet1-")), token)
        if "found" in words:  # the two change places in the commands that follow
            stated, found = (re.search(HOST_NAME, "\n".join(lines)) for lines in (example.output, said))
            names = {stated[0]: found[0], found[0]: stated[0]} if found else {}


def quickstart(page):
    for example, _ in selected(page, "quickstart"):
        run(example, ["bash", "-c", example.command], top, {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}, seconds=300)


if __name__ == "__main__":
    {"check": check, "local": local, "hosts": hosts, "quickstart": quickstart}[sys.argv[1]](*sys.argv[2:])
