#!/usr/bin/python3
"""Programs of test-secrets*.sh. On hosts, as /usr/local/bin/inputs.py:

    inputs.py plant SEED PATH        200 random variables at PATH/env, 60 random files at PATH/files, by the socket of fleetd
    inputs.py same SEED FOLDER       what a reader has written there is what "plant" has set
    inputs.py pairs PATH SECONDS     set PATH/a and PATH/b to one number, together, as fast as one client does; prints how often
    inputs.py together SECRET VALUE KEY VALUE    set a secret and a key at the same time
    inputs.py read FOLDER            a unit: write what it gets into FOLDER, then read its files again and again
    inputs.py registry ADDRESS:PORT USER PASSWORD    a registry with one image, private:1, without programs, for that user

On the machine of the lab:

    inputs.py capture FILE           write all frames of the bridge, until the lab ends
    inputs.py search VALUES PATH...  print the files at these paths that have a value of 32 bytes of the file VALUES, as it is, in hex or in base64

"read" writes: env, as env -0 prints it; files/..., all of $FLEET_CONFIG; secrets, a line "NAME SHA256" for each file of $CREDENTIALS_DIRECTORY;
reads, the number of times that it has read the files a and b of one version; and torn, if they differed once."""
import base64
import hashlib
import http.client
import http.server
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import time

SPECIAL = ["", " ", "  both ends  ", '"', "'", "a\"b'c", "$HOME", "${HOME}", "$$", "\\", "\\n", "ends with \\", "%n", "%%", "#first", ";first", "a=b", "`id`", "$(id)",
           "\ttab\t", "é€😀", "a\rb", "*?[", "-x", "\x01\x1f\x7f"]
LETTERS = [chr(c) for c in range(32, 127)] + list("\t\\\\\"\"''$$``  é€😀")


def variables(seed):
    r = random.Random(f"{seed} variables")
    values = SPECIAL + ["".join(r.choice(LETTERS) for _ in range(r.randrange(1, 300))) for _ in range(200 - len(SPECIAL))]
    keys = [f"{r.choice(['v', 'a/b-', 'x.y_'])}{i:03}" for i in range(200)]
    return dict(zip(keys, values))


def files(seed):
    r = random.Random(f"{seed} files")
    return {f"{r.choice(['', 'sub/', 'sub/deep/'])}f{i:02} .bin": r.randbytes(r.choice([0, 1, 100, 5000])) for i in range(60)}


def variable_name(key):
    return "".join(c.upper() if c.isascii() and c.isalnum() else "_" for c in key)


class Fleetd(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("fleet")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/fleet.sock")

    def begin(self, method, path, body):
        self.request(method, "/fleet/v1" + path, json.dumps(body), {"Content-Type": "application/json"})

    def end(self):
        answer = self.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            sys.exit(f"{answer.status}: {text}")

    def write(self, keys):
        """Set keys to values, bytes, in one transaction."""
        writes = [{"action": "set", "key": key, "value64": base64.b64encode(value).decode()} for key, value in keys.items()]
        self.begin("POST", "/kv/txn", {"writes": writes})
        self.end()


def plant(seed, path):
    keys = {f"{path}/env/{k}": v.encode() for k, v in variables(seed).items()}
    keys |= {f"{path}/files/{k}": v for k, v in files(seed).items()}
    fleetd, names = Fleetd(), list(keys)
    for at in range(0, len(names), 50):
        fleetd.write({k: keys[k] for k in names[at:at + 50]})


def same(seed, folder):
    with open(f"{folder}/env", "rb") as f:
        got = dict(v.split(b"=", 1) for v in f.read().split(b"\0") if v)
    for key, value in variables(seed).items():
        name = variable_name(key).encode()
        if got.get(name) != value.encode():
            sys.exit(f"{name}: {got.get(name)} in place of {value.encode()}")
    wanted, found = files(seed), {}
    for top, _, names in os.walk(f"{folder}/files"):
        for name in names:
            with open(f"{top}/{name}", "rb") as f:
                found[os.path.relpath(f"{top}/{name}", f"{folder}/files")] = f.read()
    if wanted != found:
        sys.exit(f"files differ: {sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))}")


def pairs(path, seconds):
    fleetd, n, end = Fleetd(), 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        n += 1
        fleetd.write({f"{path}/a": b"%d\n" % n * 1000, f"{path}/b": b"%d\n" % n * 1000})
    print(n)


def together(secret, secret_value, key, value):
    both = Fleetd(), Fleetd()
    both[0].begin("PUT", f"/secrets/{secret}", {"value": base64.b64encode(secret_value.encode()).decode()})
    both[1].begin("POST", "/kv/txn", {"writes": [{"action": "set", "key": key, "value": value}]})
    for fleetd in both:
        fleetd.end()


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "wb") as f:
        f.write(data)
    os.rename(f"{path}.new", path)


def read_pair(config):
    """Both files by one descriptor of the folder; None: a folder that old is not there any more."""
    values, folder = [], os.open(config, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ("a", "b"):
            with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as f:
                values.append(f.read())
            time.sleep(0.001)  # a replacement may be in between
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)
    return values


def read(folder):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 of a container has no default action
    subprocess.run(["rm", "-rf", f"{folder}/files"], check=True)
    config, secrets = os.environ.get("FLEET_CONFIG"), os.environ.get("CREDENTIALS_DIRECTORY")
    for top, _, names in os.walk(config) if config else ():
        for name in names:
            with open(f"{top}/{name}", "rb") as f:
                write(f"{folder}/files/{os.path.relpath(top, config)}/{name}", f.read())
    lines = ""
    for name in sorted(os.listdir(secrets)) if secrets else ():
        with open(f"{secrets}/{name}", "rb") as f:
            lines += f"{name} {hashlib.sha256(f.read()).hexdigest()}\n"
    write(f"{folder}/secrets", lines.encode())
    write(f"{folder}/env", subprocess.run(["env", "-0"], stdout=subprocess.PIPE, check=True).stdout)
    write(f"{folder}/started", b"%d %d\n" % (time.time() * 1000, os.getuid()))
    n, former, versions = 0, None, 0
    while config and os.path.exists(f"{config}/a"):
        pair = read_pair(config)
        if pair and pair[0] != pair[1]:
            write(f"{folder}/torn", b"%r %r\n" % (pair[0][:20], pair[1][:20]))
        n += 1
        if pair and pair[0] != former:
            former, versions = pair[0], versions + 1
        if n % 20 == 0:
            write(f"{folder}/reads", b"%d %d\n" % (n, versions))
    while True:
        time.sleep(3600)


def image():
    """Blobs of an image that has only folders, and links into the host's /usr."""
    layer, blobs = io.BytesIO(), {}
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in ("usr", "proc", "sys", "dev", "run", "tmp", "etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name in ("bin", "lib", "lib64", "sbin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)

    def add(data, kind):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(data)}

    first = add(layer.getvalue(), "layer.v1.tar")
    config = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine), "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [first["digest"]]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": add(json.dumps(config).encode(), "config.v1+json"), "layers": [first]}
    return json.dumps(manifest).encode(), blobs


def registry(address, user, password):
    manifest, blobs = image()
    login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[1]
            body, kind, status = b"{}", "application/json", 200
            if self.headers.get("Authorization") != login:
                status = 401
            elif self.path.startswith("/v2/private/manifests/"):
                body, kind = manifest, "application/vnd.oci.image.manifest.v1+json"
            elif self.path.startswith("/v2/private/blobs/") and name in blobs:
                body, kind = blobs[name], "application/octet-stream"
            elif self.path != "/v2/":
                status = 404
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="lab"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

    host, port = address.rsplit(":", 1)
    http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


def capture(path):
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    frames.bind(("br0", 0))
    with open(path, "wb", 0) as f:
        while True:
            f.write(frames.recv(65536))


def forms(value):
    """Bytes of which each is in no file by chance; of base64, those that the bytes before and after do not change."""
    yield from (value, value[:16], value.hex().encode(), value.hex().upper().encode())
    for before in range(3):
        text = base64.b64encode(b"\0" * before + value)
        inner = text[4 if before else 0:4 * ((before + len(value)) // 3)]
        yield from (inner, inner.translate(bytes.maketrans(b"+/", b"-_")))


def search(values, *paths):
    with open(values, "rb") as f:
        wanted, n = [form for value in iter(lambda: f.read(32), b"") for form in forms(value)], 0
    for path in paths:
        tree = os.walk(path) if os.path.isdir(path) else [(os.path.dirname(path), [], [os.path.basename(path)])]
        for top, folders, names in tree:
            folders[:] = [d for d in folders if not os.path.realpath(f"{top}/{d}").endswith(("/run/credentials", "/run/fleet/secrets"))]
            for name in names:
                file = f"{top}/{name}"
                try:
                    if not os.path.isfile(file) or os.path.islink(file):
                        continue
                    with open(file, "rb") as f:
                        data = f.read()
                except OSError:
                    continue  # it has ended
                n += 1
                if any(form in data for form in wanted):
                    print(file)
    print(f"searched {n}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
