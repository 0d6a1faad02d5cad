/* fleetctl in this process, with arbitrary bytes as answers of fleetd: lists, pages, streams, errors, the
 * keys of an etcd, and with arbitrary input: JSON, folders, unit files.
 *
 * The first byte selects the command line. Parts follow, separated by 0x1e: the first one is stdin, or the
 * file or the lines "NAME=VALUE" of a folder that the command reads; each other part is an answer: a byte for
 * its status, then the body. fleetctl always ends, prints a message when it fails, and never sends control
 * characters to a terminal. It imports what it has exported. */
#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/fleetctl.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum {
        PARTS_MAX = 16,
        ARGUMENTS_MAX = 10,
        REQUESTS_MAX = 1000,
        SEPARATOR = 0x1e,
        SLEPT_MAX_MS = 100 * 60 * 1000
};

typedef struct Part {
        const uint8_t *bytes;
        size_t size;
} Part;

static struct {
        Part parts[PARTS_MAX];
        size_t n_parts, next; /* the next answer */
        bool obliging;        /* answer each request with "done" */
        unsigned n_requests, n_values;
        uint64_t now_ms;
        char *scratch;
} fuzz;

/* -- Time: it passes in each call that reads the clock or sleeps -- */

uint64_t __wrap_clock_monotonic_ms(void);
uint64_t __wrap_clock_monotonic_ms(void) {
        return fuzz.now_ms++;
}

int __wrap_usleep(useconds_t us);
int __wrap_usleep(useconds_t us) {
        fuzz.now_ms += us / 1000 + 1;
        assert(fuzz.now_ms < SLEPT_MAX_MS); /* the command ends */
        return 0;
}

/* Run no program, for example diff. */
int __wrap_subprocess_run(const char *const *command, const char *const environment[],
                          uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata, int *ret_signal);
int __wrap_subprocess_run(const char *const *command, const char *const environment[],
                          uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata,
                          int *ret_signal) {
        puts(command[0]);
        return EXIT_FAILED;
}

/* -- The functions of libcurl that connection.c calls -- */

struct Curl_easy {
        curl_write_callback on_header, on_body;
        void *header_data, *body_data;
        const char *posted;
        long status;
        CURLcode code;
        bool streams, done, delivered;
};

struct Curl_multi {
        CURL *easy;
        CURLMsg message;
};

#undef curl_easy_setopt
#undef curl_easy_getinfo

CURL *curl_easy_init(void) {
        return calloc(1, sizeof(struct Curl_easy));
}
void curl_easy_cleanup(CURL *easy) {
        free(easy);
}
void curl_easy_reset(CURL *easy) {
        *(struct Curl_easy *) easy = (struct Curl_easy) {};
}
const char *curl_easy_strerror(CURLcode code) {
        return "an error of curl's";
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *s) {
        struct curl_slist *item = calloc(1, sizeof(*item));

        assert(!list && item && !strpbrk(s, "\r\n"));
        return item;
}

void curl_slist_free_all(struct curl_slist *list) {
        free(list);
}

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...) {
        struct Curl_easy *e = easy;
        va_list ap;

        va_start(ap, option);
        if (option == CURLOPT_HEADERFUNCTION)
                e->on_header = va_arg(ap, curl_write_callback);
        else if (option == CURLOPT_HEADERDATA)
                e->header_data = va_arg(ap, void *);
        else if (option == CURLOPT_WRITEFUNCTION)
                e->on_body = va_arg(ap, curl_write_callback);
        else if (option == CURLOPT_WRITEDATA)
                e->body_data = va_arg(ap, void *);
        else if (option == CURLOPT_POSTFIELDS)
                e->posted = va_arg(ap, const char *);
        else if (option == CURLOPT_URL)
                for (const char *s = va_arg(ap, const char *); *s; s++)
                        assert((unsigned char) *s > ' ' &&
                               (unsigned char) *s < 0x7f); /* a URL is one word of ASCII */
        va_end(ap);
        return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...) {
        const struct Curl_easy *e = easy;
        va_list ap;

        va_start(ap, info);
        *va_arg(ap, long *) = info == CURLINFO_RESPONSE_CODE ? e->status : 0;
        va_end(ap);
        return CURLE_OK;
}

/* Deliver the body in pieces. */
static CURLcode answer(struct Curl_easy *e) {
        static const long statuses[] = { 200, 204, 201, 404, 400, 500, 412, 503 };
        static char done[] = "{\"action\":\"set\",\"node\":{\"key\":\"/"
                             "a\",\"value\":\"1\",\"modifiedIndex\":7,\"createdIndex\":7}}";
        static char header[] = "X-Etcd-Index: 7\r\n";
        Part part = { (const uint8_t *) done, sizeof(done) - 1 };

        fuzz.n_requests++;
        fuzz.n_values += e->posted && starts_with(e->posted, "value=");
        assert(fuzz.n_requests < REQUESTS_MAX);
        e->status = 200;
        if (!fuzz.obliging) {
                if (fuzz.next >= fuzz.n_parts) /* in the end, an error that ends also a watch */
                        return fuzz.n_requests < REQUESTS_MAX / 2 ? CURLE_COULDNT_CONNECT :
                                                                    CURLE_UNSUPPORTED_PROTOCOL;
                part = fuzz.parts[fuzz.next++];
                if (part.size == 0)
                        return CURLE_GOT_NOTHING;
                e->status = statuses[part.bytes[0] % ELEMENTS(statuses)];
                part.bytes++;
                part.size--;
        }
        (void) e->on_header(header, 1, sizeof(header) - 1, e->header_data);
        for (size_t at = 0, n; at < part.size; at += n) {
                _cleanup_free_ char *piece = NULL;

                n = MIN(part.size - at, (size_t) 700);
                piece = malloc(n);
                assert(piece);
                memcpy(piece, part.bytes + at, n);
                if (e->on_body(piece, 1, n, e->body_data) != n)
                        return CURLE_WRITE_ERROR;
        }
        return CURLE_OK;
}

CURLcode curl_easy_perform(CURL *easy) {
        return answer(easy);
}

CURLM *curl_multi_init(void) {
        return calloc(1, sizeof(struct Curl_multi));
}
CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy) {
        return CURLM_OK;
}

CURLMcode curl_multi_cleanup(CURLM *multi) {
        free(multi);
        return CURLM_OK;
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy) {
        ((struct Curl_multi *) multi)->easy = easy;
        return CURLM_OK;
}

CURLMcode curl_multi_perform(CURLM *multi, int *running) {
        struct Curl_easy *e = ((struct Curl_multi *) multi)->easy;

        if (!e->done)
                e->code = answer(e);
        e->done = true;
        *running = 0;
        return CURLM_OK;
}

CURLMsg *curl_multi_info_read(CURLM *multi, int *left) {
        struct Curl_multi *m = multi;
        struct Curl_easy *e = m->easy;

        if (!e->done || e->delivered)
                return NULL;
        e->delivered = true;
        m->message = (CURLMsg) { .msg = CURLMSG_DONE, .easy_handle = e, .data.result = e->code };
        return &m->message;
}

CURLMcode curl_multi_poll(CURLM *multi, struct curl_waitfd *fds, unsigned n, int ms, int *ret) {
        fuzz.now_ms += ms;
        return CURLM_OK;
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
        fuzz.n_requests = fuzz.n_values = 0;
        fuzz.obliging = commands[command].reads == FOLDER;
        fuzz.now_ms = 1000;
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
