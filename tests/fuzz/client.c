/* fleetctl in this process, with arbitrary bytes as answers of fleetd: lists, pages, streams, errors, the
 * keys of an etcd, and with arbitrary input: JSON, folders, unit files.
 *
 * The first byte selects the command line. Parts follow, separated by 0x1e: the first one is stdin, or the
 * file or the lines "NAME=VALUE" of a folder that the command reads; each other part is an answer: a byte for
 * its status, then the body. fleetctl always ends, prints a message when it fails, and never sends control
 * characters to a terminal. It imports what it has exported. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/fleetctl.h"
#include "tests/lib/fake_curl.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { PARTS_MAX = 16, ARGUMENTS_MAX = 10, REQUESTS_MAX = 1000, SEPARATOR = 0x1e };

typedef struct Part {
        const uint8_t *bytes;
        size_t size;
} Part;

static struct {
        Part parts[PARTS_MAX];
        size_t n_parts, next; /* the next answer */
        bool obliging;        /* answer each request with "done" */
        unsigned n_requests;
        char *scratch;
} fuzz;

/* Run no program, for example diff. */
int __wrap_subprocess_run(const char *const *command, const char *const environment[],
                          uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata, int *ret_signal);
int __wrap_subprocess_run(const char *const *command, const char *const environment[],
                          uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata,
                          int *ret_signal) {
        puts(command[0]);
        return EXIT_FAILED;
}

/* Return the next part as an answer. */
static FakeAnswer *answer(const char *url) {
        static const long statuses[] = { 200, 204, 201, 404, 400, 500, 412, 503 };
        static FakeAnswer answers[REQUESTS_MAX];
        FakeAnswer *a = &answers[fuzz.n_requests++];
        const Part *part = &fuzz.parts[fuzz.next];

        assert(fuzz.n_requests < REQUESTS_MAX);
        for (const char *s = url; *s; s++)
                assert((unsigned char) *s > ' ' && (unsigned char) *s < 0x7f); /* one word of ASCII */
        *a = (FakeAnswer) { .status = 200,
                            .index = "7",
                            .body = "{\"action\":\"set\",\"node\":{\"key\":\"/"
                                    "a\",\"value\":\"1\",\"modifiedIndex\":7,\"createdIndex\":7}}" };
        if (fuzz.obliging)
                return a;
        if (fuzz.next >= fuzz.n_parts) { /* in the end, an error that ends also a watch */
                a->code = fuzz.n_requests < REQUESTS_MAX / 2 ? CURLE_COULDNT_CONNECT :
                                                               CURLE_UNSUPPORTED_PROTOCOL;
                a->body = "";
                return a;
        }
        fuzz.next++;
        a->body = part->size > 1 ? (const char *) part->bytes + 1 : "";
        a->size = part->size > 1 ? part->size - 1 : 0;
        if (part->size > 0)
                a->status = statuses[part->bytes[0] % ELEMENTS(statuses)];
        else
                a->code = CURLE_GOT_NOTHING;
        return a;
}

/* -- Input -- */

typedef enum ReadIndex { STDIN, FILE_HERE, FOLDER } ReadIndex;

static const struct {
        ReadIndex reads;
        bool raw; /* prints units, journals and keys unchanged */
        const char *arguments[ARGUMENTS_MAX];
} commands[] = {
        { .arguments = { "list-machines", "--full" } },
        { .arguments = { "list-machines", "--output=json" }, .raw = true },
        { .arguments = { "list-units", "--full" } },
        { .arguments = { "list-unit-files",
                         "--fields=unit,hash,dstate,state,target,global,desc,reason,owner,problem" } },
        { .arguments = { "cat", "a.service" }, .raw = true },
        { .arguments = { "cat", "--source", "a.service" }, .raw = true },
        { .arguments = { "status" } },
        { .arguments = { "status", "a.service" }, .raw = true },
        { .arguments = { "journal", "a.service" }, .raw = true },
        { .arguments = { "journal", "--output=json", "a.service" }, .raw = true },
        { .arguments = { "show", "a.service" }, .raw = true },
        { .arguments = { "why", "a.service" } },
        { .arguments = { "is-active", "*" } },
        { .arguments = { "directory" } },
        { .arguments = { "directory", "confirm" } },
        { .arguments = { "stop", "--block-attempts=1", "a*" } },
        { .arguments = { "destroy", "--no-block", "--yes", "*" } },
        { .arguments = { "import", "--etcd=http://127.0.0.1:2379", "--yes" } },
        { .arguments = { "verify", "a.service" }, .reads = FILE_HERE },
        { .arguments = { "plan", "a.service" }, .reads = FILE_HERE },
        { .arguments = { "diff", "a.service" }, .reads = FILE_HERE, .raw = true },
        { .arguments = { "submit", "--replace", "a.service" }, .reads = FILE_HERE },
        { .arguments = { "start", "--block-attempts=1", "a.service" }, .reads = FILE_HERE },
        { .arguments = { "kv", "get", "/a" }, .raw = true },
        { .arguments = { "kv", "ls", "--recursive", "/a" }, .raw = true },
        { .arguments = { "kv", "set", "/a", "1" }, .raw = true },
        { .arguments = { "kv", "watch", "/a" }, .raw = true },
        { .arguments = { "kv", "watch", "--all", "/a" }, .raw = true },
        { .arguments = { "kv", "txn" }, .raw = true },
        { .arguments = { "kv", "export", "/a" }, .raw = true },
        { .arguments = { "kv", "import", "/a" } },
        { .arguments = { "kv", "import", "/a", "a.service" }, .reads = FILE_HERE },
        { .arguments = { "kv", "import", "/a", "folder" }, .reads = FOLDER },
        { .arguments = { "log", "--lines=3" } },
        { .arguments = { "log", "--output=json" }, .raw = true },
        { .arguments = { "import", "--yes", "folder" }, .reads = FOLDER },
        { .arguments = { "export", "out" } },
        { .arguments = { "init", "--voters=3" } },
        { .arguments = { "list-members" } },
        { .arguments = { "machine", "show", "a" } },
        { .arguments = { "services" } },
        { .arguments = { "services", "a" } },
        { .arguments = { "secret" } },
        { .arguments = { "secret", "set", "a" } },
};

static void file_put(const char *name, const uint8_t *bytes, size_t size) {
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return; /* a folder has that name, or a file has the name of a folder */
        assert(write(fd, bytes, size) == (ssize_t) size);
        close(fd);
}

/* Create files from lines "NAME=VALUE"; a name may contain folders. */
static void folder_put(const uint8_t *bytes, size_t size) {
        const char *p = (const char *) bytes, *end = p + size;

        assert(remove_tree_at(AT_FDCWD, "folder") == 0 || errno == ENOENT);
        assert(mkdir("folder", 0700) == 0);
        while (p < end) {
                const char *newline = memchr(p, '\n', end - p) ?: end,
                           *equals = memchr(p, '=', newline - p) ?: newline;
                _cleanup_free_ char *name = NULL;

                assert(asprintf(&name, "folder/%.*s", (int) MIN(equals - p, 200), p) >= 0);
                if (!strstr(name, "..")) {
                        for (char *slash = name; (slash = strchr(slash + 1, '/'));) {
                                *slash = 0;
                                (void) mkdir(name, 0700);
                                *slash = '/';
                        }
                        if (equals < newline && !ends_with(name, "/"))
                                file_put(name, (const uint8_t *) equals + 1, newline - equals - 1);
                }
                p = newline + 1;
        }
}

/* -- One run -- */

typedef struct Output {
        char *chars;
        size_t size;
} Output;

static int run_command(size_t command, const void *input, size_t input_size, Output *out, Output *err) {
        char copies[ARGUMENTS_MAX][128], *argv[ARGUMENTS_MAX + 2] = { (char *) "fleetctl" };
        FILE *old_in = stdin, *old_out = stdout, *old_err = stderr;
        static char nothing[] = "";
        int status, argc = 1;

        for (size_t i = 0; i < ARGUMENTS_MAX && commands[command].arguments[i]; i++) {
                snprintf(copies[i], sizeof(copies[i]), "%s", commands[command].arguments[i]);
                argv[argc++] = copies[i];
        }
        stdin = input_size > 0 ? fmemopen((void *) input, input_size, "r") : fmemopen(nothing, 1, "r");
        stdout = open_memstream(&out->chars, &out->size);
        stderr = open_memstream(&err->chars, &err->size);
        assert(stdin && stdout && stderr);
        status = fleetctl_main(argc, argv);
        fclose(stdin);
        fclose(stdout);
        fclose(stderr);
        stdin = old_in, stdout = old_out, stderr = old_err;
        return status;
}

static void output_done(Output *o) {
        free(o->chars);
        *o = (Output) {};
}

static bool is_for_a_terminal(const Output *o) {
        for (size_t i = 0; i < o->size; i++)
                if (((unsigned char) o->chars[i] < 0x20 && o->chars[i] != '\n' && o->chars[i] != '\t') ||
                    o->chars[i] == 0x7f)
                        return false;
        return true;
}

static int count_member(void *userdata, const char *name, const JsonValue *v) {
        ++*(unsigned *) userdata;
        return 0;
}

static size_t find_command(const char *verb, const char *second, size_t n) {
        for (size_t i = 0; i < ELEMENTS(commands); i++)
                if (streq(commands[i].arguments[0], verb) && streq(commands[i].arguments[1], second) &&
                    !commands[i].arguments[n])
                        return i;
        abort();
}

/* Import what was exported, unless the server has listed a key twice, which JSON cannot represent. */
static void import_again(const Output *exported) {
        _cleanup_json_ JsonValue *root = NULL;
        Output out = {}, err = {};
        unsigned n = 0;
        int status;

        if (json_value_parse(exported->chars, exported->size, &root, NULL) < 0)
                return;
        assert(json_value_each(root, count_member, &n) == 0);
        if (n >= REQUESTS_MAX)
                return;
        fuzz.obliging = true;
        fuzz.n_requests = 0;
        status = run_command(find_command("kv", "import", 3), exported->chars, exported->size, &out, &err);
        if (status != EXIT_DONE)
                fprintf(stderr, "%s%s", exported->chars, err.chars);
        assert(status == EXIT_DONE && fuzz.n_requests == n);
        output_done(&out);
        output_done(&err);
}

static void split(const uint8_t *bytes, size_t size) {
        fuzz.n_parts = 0;
        for (const uint8_t *p = bytes, *end = bytes + size; fuzz.n_parts < PARTS_MAX; fuzz.n_parts++) {
                const uint8_t *separator = p < end ? memchr(p, SEPARATOR, end - p) : NULL;

                fuzz.parts[fuzz.n_parts] = (Part) { p, (separator ?: end) - p };
                if (!separator) {
                        fuzz.n_parts++;
                        return;
                }
                p = separator + 1;
        }
}

static void scratch_forget(void) {
        assert(chdir("/") == 0);
        scratch_free(fuzz.scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        Output out = {}, err = {};
        size_t command;
        Part *input = &fuzz.parts[0];
        int status;

        if (size == 0)
                return 0;
        if (!fuzz.scratch) {
                fuzz.scratch = scratch_new();
                assert(chdir(fuzz.scratch) == 0);
                (void) atexit(scratch_forget);
                (void) unsetenv("FLEETCTL_ENDPOINT");
        }
        command = bytes[0] % ELEMENTS(commands);
        split(bytes + 1, size - 1);
        fuzz.next = 1;
        fuzz.n_requests = 0;
        fuzz.obliging = commands[command].reads == FOLDER;
        fake_curl_begin_with(answer);
        if (commands[command].reads == FILE_HERE)
                file_put("a.service", input->bytes, input->size);
        else if (commands[command].reads == FOLDER)
                folder_put(input->bytes, input->size);
        (void) remove_tree_at(AT_FDCWD, "out"); /* of an export */

        status = run_command(command, input->bytes, input->size, &out, &err);
        assert(status >= 0 && status <= 255);
        assert(status == EXIT_DONE || err.size > 0 || out.size > 0); /* with a message */
        if (!is_for_a_terminal(&err))
                fprintf(stderr, "%s", err.chars);
        if (!commands[command].raw && !is_for_a_terminal(&out))
                fprintf(stderr, "%s", out.chars);
        assert(is_for_a_terminal(&err));
        assert(is_for_a_terminal(&out) || commands[command].raw);
        if (status == EXIT_DONE && command == find_command("kv", "export", 3))
                import_again(&out);
        output_done(&out);
        output_done(&err);
        return 0;
}
