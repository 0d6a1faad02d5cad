# Unit files for test-unit-files.sh: those of all packages of this machine, under other names, and some with common errors.
# Each goes into the folder argv[1]; "refused" has those that have to be rejected, with their messages.
import os, sys

FOLDERS = ["/usr/lib/systemd/system", "/usr/lib/systemd/user", "/etc/systemd/system"]
TYPES = ["automount", "mount", "path", "service", "socket", "swap", "target", "timer"]

ODD = {
    "crlf": b"[Unit]\r\nDescription=c\r\n\r\n# c\r\n[Service]\r\nExecStart=/bin/true a  \r\nEnvironment=A=1\r\n",
    "bom": b"\xef\xbb\xbf[Unit]\nDescription=b\n[Service]\nExecStart=/bin/true\n",
    "tabs": b"[Unit]\n\tDescription\t=\ta\tb\t\n[Service]\n\tExecStart\t=\t/bin/true\tx \\\n\t\ty\n",
    "comment-inside": b"[Service]\nExecStart=/bin/true a \\\n# not this \\\n; nor this \\\n  b \\\n  c\nNice=3\n",
    "comment-continued": b"[Service]\n# c \\\nNice=1\nNice=4\nExecStart=/bin/true\n",
    "line-of-2047": b"[Service]\nExecStart=/bin/true " + b"x" * (2047 - len("ExecStart=/bin/true ")) + b"\n",
    "continued-60k": b"[Service]\nExecStart=/bin/true \\\n" + b"   argument-of-some-length \\\n" * 2200 + b"   last\n",
    "duplicates": b"[Service]\nNice=1\nNice=2\nEnvironment=A=1\nEnvironment=B=2\nEnvironment=A=3\nExecStart=/bin/true\n[Unit]\nAfter=a.service\n"
                  b"[Service]\nNice=5\n[Unit]\nAfter=b.service\n",
    "resets": b"[Unit]\nAfter=a.service\nConditionPathExists=/nowhere\nConditionPathExists=\n[Service]\nExecStart=/bin/false\nExecStart=\n"
              b"ExecStart=/bin/true\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\n",
    "specifiers": b"[Unit]\nDescription=%n %N %p %i %% %H %t\n[Service]\nExecStart=/bin/echo %n %p %%n '%i' \"%t/x\" $$HOME ${A}\n",
    "no-newline": b"[Service]\nExecStart=/bin/true\nNice=7",
    "continued-at-end": b"[Service]\nExecStart=/bin/true \\",
    "outside": b"Nice=9\n# [Service]\n[Service]\nExecStart=/bin/true\nUnknownOption=1\n[Unknown]\nA=1\n[X-Else]\nB=2\n",
    "blank-ends": b"[Service]\nExecStart=/bin/true a \\\n\nNice=2\n",
    "utf8": "[Unit]\nDescription=größer\u00a0– 日本語\n[Service]\nExecStart=/bin/true \"ü\"\n".encode(),
    "quotes": b"[Service]\nExecStart=/bin/echo \"a b\" 'c \\'d' e\\x20f \"g\\\n h\" # no comment\nEnvironment=\"A=1 2\" 'B=3' C=\\\"4\n",
    "long-lists": b"[Unit]\n" + b"".join(b"After=x%d.service\n" % i for i in range(500)) + b"[Service]\nExecStart=/bin/true\n",
}
REFUSED = {
    "not-utf8": (b"[Unit]\nDescription=gr\xf6\xdfer\n[Service]\nExecStart=/bin/true\n", "line 2: not UTF-8 text: byte 0xf6"),
    "zero-byte": (b"[Service]\nExecStart=/bin/true a\0b\n", "line 2: a zero byte"),
    "line-of-2048": (ODD["line-of-2047"][:-1] + b"x\n", "line 2: line too long (max 2048 bytes)"),
    "no-equals": (b"[Service]\nExecStart=/bin/true a \\\n  b\nand so on\n", "line 4: unexpected newline encountered while parsing option name (missing =)"),
    # systemd continues these two lines. fleet, whose grammar and hashes fleetd uses, does not, and its fleetctl rejected them.
    "comment-ends": (b"[Service]\nExecStart=/bin/true a \\\n# not this\n  b\n", "line 4: unexpected newline encountered while parsing option name (missing =)"),
    "crlf-continued": (b"[Service]\r\nExecStart=/bin/true a \\\r\n  b\r\nNice=1\r\n", "line 3: unexpected newline encountered while parsing option name (missing =)"),
    "open-section": (b"[Service\nExecStart=/bin/true\n", "line 1: unable to find end of section (missing ])"),
    "garbage": (b"[Service] # mine\nExecStart=/bin/true\n", "line 1: found garbage after section name [Service]: # mine"),
    "alias": (b"[Service]\nExecStart=/bin/true\n[Install]\nAlias=dbus.service\n", "line 4: Alias=dbus.service is refused: "),
    "nothing": (b"# only this\n", "a unit file needs at least one option in a [section]; here is none"),
}


def put(folder, name, text):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(text)


def main():
    out = sys.argv[1]
    n, seen = 0, set()
    os.makedirs(out)
    for folder in FOLDERS:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            stem, _, kind = name.rpartition(".")
            if os.path.islink(path) or not os.path.isfile(path) or kind not in TYPES:
                continue
            # Names that a unit takes by [Install] belong to the host: a unit under another name may not take them.
            text = b"".join(line for line in open(path, "rb") if not line.startswith((b"Alias=", b"Also=")))
            if not text.strip() or text in seen:
                continue
            seen.add(text)
            put(out, "u%04d%s.%s" % (n, "@" if stem.endswith("@") else "", kind), text)
            n += 1
    for name, text in ODD.items():
        put(out, "u-%s.service" % name, text)
    os.makedirs(out + "/refused")
    with open(out + "/refused/expected", "w") as f:
        for name, (text, message) in REFUSED.items():
            put(out + "/refused", name + ".service", text)
            f.write("%s.service %s\n" % (name, message))


main()
