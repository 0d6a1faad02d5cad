"""The size of the stripped daemon without libraries: libraft, and on Debian 12 llhttp, are linked into the program.

Usage: size.py STRIPPED MAP, the map that the linker wrote."""

import os
import re
import sys

stripped, linked = sys.argv[1:]
LIMIT = 1500000
IN_FILE = (".text", ".rodata", ".data", ".eh_frame")


def library_bytes(path):
    """Of sections that the linker kept: those before its memory map are discarded."""
    size, section, kept = 0, "", False
    for line in open(path):
        kept = kept or line.startswith("Linker script and memory map")
        named = re.match(r" (\.[\w.]+)", line)
        section = named.group(1) if named else section
        part = re.search(r" +0x[0-9a-f]+ +0x([0-9a-f]+) \S*(libraft\.a|llhttp)", line)
        if kept and part and section.startswith(IN_FILE):
            size += int(part.group(1), 16)
    return size


size, libraries = os.stat(stripped).st_size, library_bytes(linked)
name = "the_stripped_daemon_without_libraries_is_below_%d_bytes" % LIMIT
ok = libraries > 50000 and size - libraries < LIMIT
print("%s %s%s %d, and %d of libraries" % ("ok" if ok else "not ok", name, " #" if ok else ":", size - libraries, libraries))
