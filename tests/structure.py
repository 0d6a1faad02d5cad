#!/usr/bin/env python3
"""Print what breaks the limits of structure, one line each; used by tests/tidy.sh.

Usage: tests/structure.py RULE FILE...

  functions  a function of more than 80 lines
  files      a file of more than 700 lines
  parameters a function with more than 7 parameters
  circles    files of one folder that include each other in a circle: at most one circle of at most 3 per folder
  folders    folders that include each other in a circle
  repeats    an include that a file has by way of its own header, its folder's header of internals, or base/memory.h
  calls      files that call each other in a circle: an edge is a call of a function that another file defines
  counters   no limit: the figures that may only fall (tests/counters)
  features   a function, type or constant of a folder of fleetd/features/ that more than five files outside of it use
  words      a word of tests/words, in comments, texts and names

A .c and a .h of one name are one file of the graph. Layout is that of clang-format: a function begins in the first column and ends with
a '}' there."""
import collections, fnmatch, os, re, sys

COMMON = "base/memory.h"  # has the standard headers that nearly every file needs
LINES_MAX, FUNCTION_MAX, PARAMETERS_MAX, CIRCLE_MAX, USERS_MAX = 700, 80, 7, 3, 5


def without_comments(text):
    keep = lambda m: re.sub(r"[^\n]", " ", m.group(0)) if m.group(0)[0] == "/" else m.group(0)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', keep, text, flags=re.S)


def parameters(head):
    """The number of parameters of the outermost parentheses that hold any."""
    most = 0
    depth = count = 0
    for c in head:
        if c == "(":
            depth += 1
            count = count or 1 if depth == 1 else count
        elif c == ")":
            depth -= 1
            if depth == 0:
                most, count = max(most, count), 0
        elif c == "," and depth == 1:
            count += 1
    return most


def functions(path):
    """Each function definition or declaration: (line, name, number of lines, number of parameters)."""
    lines = without_comments(open(path).read()).split("\n")
    i = 0
    while i < len(lines):
        line = lines[i]
        if not re.match(r"[a-zA-Z_]", line) or line.startswith(("typedef", "struct", "enum", "union")) and "(" not in line:
            i += 1
            continue
        if re.match(r"[A-Z][A-Z_]*\(", line):  # a macro that defines functions, or a row
            i += 1
            continue
        head, j = "", i
        while j < len(lines) and not re.search(r"[;{}]", head):
            head += lines[j] + " "
            j += 1
        m = re.match(r"[^={;]*?\b(\w+)\(", head)
        if not m or not re.search(r"[;{]", head):
            i = max(j, i + 1)
            continue
        end = j
        if "{" in head and "=" not in head[:head.index("{")]:
            while end < len(lines) and lines[end - 1] != "}":
                end += 1
        yield i + 1, m.group(1), end - i, parameters(re.split(r"[{;]", head)[0])
        i = end


def includes(files):
    graph = collections.defaultdict(set)
    for path in files:
        node = os.path.splitext(path)[0]
        graph[node]
        for found in re.findall(r'^#include "([^"]+)"', open(path).read(), flags=re.M):
            if found.endswith(".h") and found in files and os.path.splitext(found)[0] != node:
                graph[node].add(os.path.splitext(found)[0])
    return graph


def repeats(files):
    direct = {path: re.findall(r'^#include [<"]([^>"]+)', open(path).read(), flags=re.M) for path in files}

    def all_of(path):
        found, todo = set(), [path]
        while todo:
            new = [name for name in direct.get(todo.pop(), ()) if name not in found]
            found.update(new)
            todo += new
        return found

    for path in files:
        own = [name for name in direct[path] if path.endswith(".c") and (name == path[:-1] + "h" or name.endswith("_internal.h"))]
        known = set().union(*map(all_of, own)) - set(own)
        if COMMON in all_of(path):
            known.update(direct[COMMON])
        for name in direct[path]:
            if name in known:
                print(f"{path}: {name}")


def calls(files):
    """NAME.c with NAME.h calls what other files define. A name that two programs define, as main, is no edge."""
    texts = {path: without_comments(open(path).read()) for path in files}
    defined, own = collections.defaultdict(set), collections.defaultdict(set)
    for path in files:
        node, lines = os.path.splitext(path)[0], texts[path].split("\n")
        for line, name, n, _ in functions(path):
            if lines[line + n - 2] == "}":
                (own if lines[line - 1].startswith("static ") else defined)[name].add(node)
    graph = collections.defaultdict(set)
    for path in files:
        node = os.path.splitext(path)[0]
        for name in set(re.findall(r"(?<![\w.>])(\w+)\(", texts[path])):
            if len(defined[name]) == 1 and node not in own[name]:
                graph[node] |= defined[name] - {node}
    return graph


def circles(graph):
    """Strongly connected sets of more than one node (Tarjan), each sorted."""
    index, low, on, stack, found = {}, {}, set(), [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        on.add(v)
        for w in sorted(graph[v]):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in on:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            part = []
            while not part or part[-1] != v:
                part.append(stack.pop())
                on.discard(part[-1])
            if len(part) > 1:
                found.append(sorted(part))

    sys.setrecursionlimit(10000)
    for v in sorted(graph):
        if v not in index:
            visit(v)
    return found


def words(files):
    """Lines with a word of tests/words. CamelCase counts as several words; a match inside an allowed context is none."""
    rows, exempt, known = [], [], {}
    for line in open(os.path.join(os.path.dirname(__file__), "words")):
        fields = line.rstrip("\n").split("\t")
        if fields[0] == "exempt":
            exempt.append(fields[1])
        elif fields[0] and not line.startswith("#"):
            if not re.fullmatch("[a-z?|]+", fields[0]):
                sys.exit(f"tests/words: {fields[0]}: only letters, '?' and '|'")
            rows.append((re.compile(rf"(?<![a-z])(?:{fields[0]})(?![a-z])", re.I), fields[1],
                         re.compile(fields[2], re.I) if len(fields) > 2 else None))
    for path in files:
        if any(fnmatch.fnmatch(path, pattern) for pattern in exempt):
            continue
        text = open(path, errors="replace").read()
        # Each different word is compared once, with all rows.
        found = set(re.findall("[A-Z]+[a-z]*|[a-z]+", text))
        for word in found - known.keys():
            known[word] = [i for i, row in enumerate(rows) if row[0].fullmatch(word)]
        here = [rows[i] for i in sorted({i for word in found for i in known[word]})]
        if not here:
            continue
        text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
        for n, line in enumerate(text.split("\n"), 1):
            for word, instead, allowed in here:
                m = word.search(allowed.sub(" ", line) if allowed else line)
                if m:
                    print(f"{path}:{n}: '{m.group(0)}' ({instead}): {line.strip()[:90]}")


def features(files):
    """Each name that a header of a feature declares, in at most USERS_MAX files outside of its folder and of client/verbs/."""
    strings = re.compile(r'"(\\.|[^"\\\n])*"')
    words_of = {path: set(re.findall(r"\w+", strings.sub("", without_comments(open(path).read())))) for path in files}
    for path in files:
        folder = re.match(r"fleetd/features/\w+/", path)
        if not folder or not path.endswith(".h"):
            continue
        text = without_comments(open(path).read())
        names = {name for _, name, _, _ in functions(path)} | set(sum(re.findall(r"^} (\w+);|^ {8}([A-Z][A-Z_0-9]+)\b", text, flags=re.M), ())) - {""}
        for name in sorted(names):
            users = [p for p in files if name in words_of[p] and not p.startswith((folder[0], "client/verbs/"))]
            if len(users) > USERS_MAX:
                print(f"{path}: {name} is used in {len(users)} files: {' '.join(users)}")


def counters(files):
    """Lines of code are those without comments that are not blank."""
    texts = [open(path).read() for path in files]
    print(sum(1 for text in texts for line in without_comments(text).split("\n") if line.strip()), "lines of code")
    print(sum(text.count("\n") > LINES_MAX - 20 for text in texts), "files near the limit")
    print(len(circles(calls(files))), "sets of files that call each other in a circle")


def main():
    rule, files = sys.argv[1], sys.argv[2:]
    if rule == "functions":
        for path in files:
            for line, name, n, _ in functions(path):
                if n > FUNCTION_MAX:
                    print(f"{path}:{line}: {name}() has {n} lines")
    elif rule == "parameters":
        for path in files:
            for line, name, _, n in functions(path):
                if n > PARAMETERS_MAX:
                    print(f"{path}:{line}: {name}() has {n} parameters")
    elif rule == "files":
        for path in files:
            n = open(path).read().count("\n")
            if n > LINES_MAX:
                print(f"{path}: {n} lines")
    elif rule == "circles":
        seen = collections.Counter()
        for part in circles(includes(set(files))):
            folder = os.path.dirname(part[0])
            seen[folder] += 1
            if len(part) > CIRCLE_MAX or seen[folder] > 1 or any(os.path.dirname(p) != folder for p in part):
                print(f"{folder}: {' '.join(part)}")
    elif rule == "folders":
        graph = collections.defaultdict(set)
        for node, others in includes(set(files)).items():
            for other in others:
                if os.path.dirname(node) != os.path.dirname(other):
                    graph[os.path.dirname(node)].add(os.path.dirname(other))
        for part in circles(graph):
            print(" ".join(part))
    elif rule == "calls":
        for part in circles(calls(files)):
            print(f"{len(part)}: {' '.join(part)}")
    elif rule == "repeats":
        repeats(files)
    elif rule == "features":
        features(files)
    elif rule == "counters":
        counters(files)
    elif rule == "words":
        words(files)
    else:
        sys.exit(__doc__)


main()
