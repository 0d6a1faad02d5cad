#!/usr/bin/env python3
# Takes 30 s.
"""The examples of fleet-web(7) for proxies: nginx, below a prefix, and Caddy add a login and the key of the page."""

import base64
import glob
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../client"))
import browser  # noqa: E402
import fake_fleetd  # noqa: E402

PROGRAM = os.path.join(os.environ.get("LAB_BUILD", os.getcwd()), "client/web/fleet-web")
MANUAL = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../man/fleet-web.7.scd")
WAIT_SECONDS = 60
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ops:secret").decode()}
NGINX = """daemon off; pid %(folder)s/pid; error_log stderr; %(user)s events {}
http { access_log off; client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/proxy; fastcgi_temp_path %(folder)s/fastcgi;
uwsgi_temp_path %(folder)s/uwsgi; scgi_temp_path %(folder)s/scgi; server { listen %(address)s;
%(example)s } }
"""


class Missing(Exception):
    pass


def program(folder, package):
    """The program of a Debian package, which is not installed: that would start its service."""
    packages = [package, "nginx-common"] if package == "nginx" else [package]
    if not shutil.which(package):
        if subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, capture_output=True).returncode != 0:
            raise Missing(package)
        for file in glob.glob(folder + "/*.deb"):
            subprocess.run(["dpkg", "-x", file, folder], check=True)
    return shutil.which(package, path=f"{os.environ['PATH']}:{folder}/usr/bin:{folder}/usr/sbin")


def example(begin, page, folder):
    """That of the manual, with the addresses of this test, and its key."""
    text = re.search(rf"^{begin} {{\n.*?^}}\n", open(MANUAL).read(), re.S | re.M).group(0)
    address, key = page.split("/#key=")
    return re.sub(r"(X-Fleet-Key) [\w-]+", rf"\1 {key}", text.replace("127.0.0.1:2381", address.removeprefix("http://")).replace("/etc/nginx", folder))


def start_nginx(page, address, folder):
    nginx = program(folder, "nginx")
    with open(folder + "/fleet.htpasswd", "w") as f:
        f.write("ops:{PLAIN}secret\n")
    with open(folder + "/conf", "w") as f:
        f.write(NGINX % {"folder": folder, "address": address, "example": example("location /fleet/", page, folder), "user": "user root;" * (os.getuid() == 0)})
    return [nginx, "-c", folder + "/conf", "-e", "stderr"], "/fleet/"


def start_caddy(page, address, folder):
    caddy = program(folder, "caddy")
    digest = subprocess.run([caddy, "hash-password", "--plaintext", "secret"], capture_output=True, text=True, check=True).stdout.strip()
    with open(folder + "/conf", "w") as f:
        f.write("{\nadmin off\n}\n" + example(r"fleet\.example\.org", page, folder).replace("fleet.example.org", "http://" + address).replace("$2a$14$...", digest))
    return [caddy, "run", "--config", folder + "/conf", "--adapter", "caddyfile"], "/"


def get(address, path, method="GET", login=True):
    c = http.client.HTTPConnection(address, timeout=WAIT_SECONDS)
    c.request(method, path, headers=LOGIN if login else {})
    answer = c.getresponse()
    body = answer.read().decode()
    c.close()
    return answer.status, body


def accepts(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


def look(address):
    """The page has no key in its address: the proxy adds it."""
    b = browser.Browser(int(time.time() * 1000))
    try:
        b.cdp("Network.enable")
        b.cdp("Network.setExtraHTTPHeaders", headers=LOGIN)
        b.open(address)
        b.until("document.querySelectorAll('#machines h3').length === 3")
        b.js("{ document.querySelector('#machines h3 a').click(); }")
        b.until("document.querySelector('#details .lines div')")
        assert b.js("location.href").startswith(address + "?machine="), b.js("location.href")
        assert b.js("window.wrong") == [], b.js("window.wrong")
    finally:
        b.close()


def check(start, folder, page):
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = "127.0.0.1:%d" % s.getsockname()[1]
    command, prefix = start(page, address, folder)
    with open(folder + "/log", "w") as log, subprocess.Popen(command, env={"HOME": folder, "PATH": os.environ["PATH"]}, stdout=log, stderr=log) as proxy:
        try:
            end = time.monotonic() + WAIT_SECONDS
            while not accepts(address):
                assert proxy.poll() is None and time.monotonic() < end, open(folder + "/log").read()
                time.sleep(0.05)
            assert get(address, prefix + "view", login=False)[0] == 401
            status, body = get(address, prefix + "view")
            assert status == 200 and [m["name"] for m in json.loads(body)["machines"]] == ["alpha", "beta", "gamma"], (status, body)
            status, body = get(address, prefix)
            files = re.findall(r'(?:src|href)="([^"#]*)"', body)
            assert status == 200 and {"page.css", "page.js"} <= set(files), files
            assert all(get(address, prefix + f)[0] == 200 for f in files if not f.startswith("data:")), files
            assert get(address, prefix + "view", "POST")[0] == 405
            n = json.loads(get(address, prefix + "view")[1])["n"]
            assert get(address, f"{prefix}view?after={n}")[0] in (200, 204), "a page that waits for news"
            if not browser.missing():
                look(f"http://{address}{prefix}")
        finally:
            proxy.terminate()


def main():
    failed = 0
    for name, start in (("nginx_serves_the_page_below_a_prefix", start_nginx), ("caddy_serves_the_page", start_caddy)):
        with tempfile.TemporaryDirectory() as folder:
            cluster = fake_fleetd.start(folder + "/sock")
            with subprocess.Popen([PROGRAM, f"--endpoint=unix://{folder}/sock", "--listen=127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as web:
                try:
                    check(start, folder, web.stdout.readline().strip())
                    print(f"ok {name}", flush=True)
                except Missing as e:
                    print(f"ok {name} # SKIP: apt-get cannot download {e}", flush=True)
                except Exception as e:
                    failed = 1
                    traceback.print_exc()
                    print(f"not ok {name}: {(str(e) or repr(e)).splitlines()[0]}", flush=True)
                finally:
                    web.kill()
                    cluster.server.shutdown()
                    cluster.server.server_close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
