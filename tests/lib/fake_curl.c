#include "tests/lib/fake_curl.h"

#include <signal.h>
#include <stdarg.h>
#include <time.h>

#include "base/memory.h"
#include "client/core/resolver.h"

enum {
        WAITS_MAX = 100000,
        LOOKS_MAX = 1000,
        REQUESTS_MAX = 2000,
        PIECE = 50,
        REAL_S = 1700000000,
        FOR_CHILD_S = 3600
};

static struct {
        FakeAnswer *answers, *(*answer)(const char *url);
        size_t n;
        FILE *sent;
        uint64_t now_ms;
        unsigned n_waits, n_polls,
                n_requests; /* n_polls: waits without a timeout since the last one with one */
} fake;

void fake_curl_begin(FakeAnswer *answers, size_t n, FILE *sent) {
        fake = (typeof(fake)) { .answers = answers, .n = n, .sent = sent, .now_ms = 1000 };
}

void fake_curl_begin_with(FakeAnswer *(*answer)(const char *url)) {
        fake = (typeof(fake)) { .answer = answer, .now_ms = 1000 };
}

/* -- Time -- */

static void pass(uint64_t ms) {
        fake.now_ms += ms;
        fake.n_polls = ms > 0 ? 0 : fake.n_polls + 1;
        if (++fake.n_waits > WAITS_MAX || fake.n_polls > LOOKS_MAX) {
                fprintf(stderr, "fleetctl waits without end\n");
                abort();
        }
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret) {
        *ret = (struct timespec) { .tv_sec = (id == CLOCK_REALTIME ? REAL_S : 0) +
                                             (time_t) fake.now_ms / 1000,
                                   .tv_nsec = (long) fake.now_ms % 1000 * 1000000 };
        return 0;
}

int __wrap_usleep(useconds_t us);
int __wrap_usleep(useconds_t us) {
        pass(us / 1000);
        return 0;
}

int __wrap_nanosleep(const struct timespec *span, struct timespec *left);
int __wrap_nanosleep(const struct timespec *span, struct timespec *left) {
        pass((uint64_t) span->tv_sec * 1000 + (uint64_t) span->tv_nsec / 1000000);
        return 0;
}

/* A wait of an hour is a wait for the end of a command: let real time pass. */
int __real_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *span);
int __wrap_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *span);
int __wrap_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *span) {
        int signal = __real_sigtimedwait(set, info,
                                         span->tv_sec >= FOR_CHILD_S ? span : &(struct timespec) {});

        if (signal < 0)
                pass((uint64_t) span->tv_sec * 1000 + (uint64_t) span->tv_nsec / 1000000);
        return signal;
}

int __wrap_gethostname(char *name, size_t size);
int __wrap_gethostname(char *name, size_t size) {
        strncpy(name, getenv("FAKE_HOST") ?: "host", size);
        return 0;
}

void __wrap_resolver_append(Text *t, const char *name);
void __wrap_resolver_append(Text *t, const char *name) {
        const char *next = getenv("FAKE_RESOLVER");

        text_printf(t, "this host %s %s%s%s", next ? "does not resolve" : "resolves", name, next ? ": " : "",
                    next ?: "");
}

/* -- libcurl -- */

struct Curl_easy {
        curl_write_callback on_header, on_body;
        curl_xferinfo_callback on_progress;
        void *header_data, *body_data, *progress_data;
        const char *posted, *method;
        char *url;
        struct curl_slist *headers;
        FakeAnswer *answer;
        const char *rest; /* of the body of the answer */
        uint64_t begun_ms, due_ms, timeout_ms;
        bool done, told;
        CURLcode code;
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

void curl_easy_reset(CURL *easy) {
        struct Curl_easy *e = easy;

        free(e->url);
        *e = (struct Curl_easy) {};
}

void curl_easy_cleanup(CURL *easy) {
        curl_easy_reset(easy);
        free(easy);
}

const char *curl_easy_strerror(CURLcode code) {
        return "an error of curl's";
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
        else if (option == CURLOPT_XFERINFOFUNCTION)
                e->on_progress = va_arg(ap, curl_xferinfo_callback);
        else if (option == CURLOPT_XFERINFODATA)
                e->progress_data = va_arg(ap, void *);
        else if (option == CURLOPT_POSTFIELDS)
                e->posted = va_arg(ap, const char *);
        else if (option == CURLOPT_HTTPHEADER)
                e->headers = va_arg(ap, struct curl_slist *);
        else if (option == CURLOPT_CUSTOMREQUEST)
                e->method = va_arg(ap, const char *);
        else if (option == CURLOPT_TIMEOUT_MS)
                e->timeout_ms = (uint64_t) va_arg(ap, long);
        else if (option == CURLOPT_URL)
                e->url = strdup(va_arg(ap, const char *));
        va_end(ap);
        return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...) {
        const struct Curl_easy *e = easy;
        va_list ap;

        va_start(ap, info);
        *va_arg(ap, long *) = info == CURLINFO_RESPONSE_CODE && e->answer ? e->answer->status : 0;
        va_end(ap);
        return CURLE_OK;
}

static bool is_for(const FakeAnswer *a, const char *method, const char *path) {
        size_t size = strlen(a->path);

        if (!streq(a->method, method) || a->at_ms > fake.now_ms - 1000)
                return false;
        return size > 0 && a->path[size - 1] == '*' ? strncmp(a->path, path, size - 1) == 0 :
                                                      streq(a->path, path);
}

static FakeAnswer *find(const char *method, const char *path) {
        FakeAnswer *timed = NULL, *next = NULL, *last = NULL, *found;

        for (size_t i = 0; i < fake.n; i++) {
                FakeAnswer *a = &fake.answers[i];

                if (!is_for(a, method, path))
                        continue;
                if (a->at_ms > 0 && (!timed || a->at_ms > timed->at_ms))
                        timed = a;
                if (a->at_ms == 0 && !a->used && !next)
                        next = a;
                if (a->at_ms == 0)
                        last = a;
        }
        found = timed ?: next ?: last;
        if (found)
                found->used = true;
        return found;
}

static void begin(struct Curl_easy *e) {
        static FakeAnswer nothing = {
                .status = 404, .body = "{\"error\":{\"code\":404,\"message\":\"no answer is written down\"}}"
        };
        static const char local[] = "http://localhost";
        const char *path = starts_with(e->url, local) ? e->url + sizeof(local) - 1 : e->url;
        char header[64];

        if (++fake.n_requests > REQUESTS_MAX) {
                fprintf(stderr, "fleetctl asks without end\n");
                abort();
        }
        if (fake.sent)
                fprintf(fake.sent, "%s %s%s%s%s\n", e->method, path,
                        e->headers ?
                                streq(e->headers->data, "Content-Type: application/json") ? "" : " FORM" :
                                "",
                        e->posted ? " " : "", e->posted ?: "");
        e->answer = fake.answer ? fake.answer(e->url) : find(e->method, path) ?: &nothing;
        e->rest = e->answer->body ?: "";
        e->begun_ms = fake.now_ms;
        if (e->answer->index) {
                snprintf(header, sizeof(header), "X-Etcd-Index: %s\r\n", e->answer->index);
                (void) e->on_header(header, 1, strlen(header), e->header_data);
        }
        if (e->answer->stale) {
                snprintf(header, sizeof(header), "X-Fleet-Stale: %s\r\n", e->answer->stale);
                (void) e->on_header(header, 1, strlen(header), e->header_data);
        }
}

static bool give(struct Curl_easy *e, const char *bytes, size_t size) {
        for (size_t at = 0, n; at < size; at += n) {
                n = MIN(size - at, (size_t) PIECE);
                if (e->on_body((char *) bytes + at, 1, n, e->body_data) != n)
                        return false;
        }
        return true;
}

/* Deliver the lines that are due. */
static void go_on(struct Curl_easy *e) {
        if (e->answer->size > 0) {
                e->code = give(e, e->rest, e->answer->size) ? e->answer->code : CURLE_WRITE_ERROR;
                e->done = true;
        }
        while (!e->done && *e->rest) {
                size_t size = strcspn(e->rest, "\n");
                const char *line = e->rest;
                unsigned long ms;
                char *end;

                if (size == 3 && memcmp(line, "...", 3) == 0) {
                        e->due_ms = UINT64_MAX;
                        return;
                }
                if (size == 7 && memcmp(line, "SIGTERM", 7) == 0) {
                        (void) raise(SIGTERM);
                        e->rest = line + size + 1;
                        continue;
                }
                if (*line == '@') {
                        ms = strtoul(line + 1, &end, 10);
                        e->due_ms = e->begun_ms + ms;
                        if (fake.now_ms < e->due_ms)
                                return;
                        size -= (size_t) (end + 1 - line);
                        line = end + 1;
                }
                size += line[size] == '\n';
                e->rest = line + size;
                if (!give(e, line, size)) {
                        e->code = CURLE_WRITE_ERROR;
                        e->done = true;
                        return;
                }
        }
        if (!e->done)
                e->code = e->answer->code;
        e->done = true;
}

CURLcode curl_easy_perform(CURL *easy) {
        struct Curl_easy *e = easy;

        begin(e);
        for (go_on(e); !e->done; go_on(e)) {
                pass(MIN(e->due_ms - fake.now_ms, (uint64_t) 1000));
                if (e->on_progress && e->on_progress(e->progress_data, 0, 0, 0, 0))
                        return CURLE_ABORTED_BY_CALLBACK;
                if (fake.now_ms >= e->begun_ms + e->timeout_ms)
                        return CURLE_OPERATION_TIMEDOUT;
        }
        if (e->code == CURLE_OPERATION_TIMEDOUT)
                pass(e->timeout_ms);
        return e->code;
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

        if (!e->answer)
                begin(e);
        if (!e->done)
                go_on(e);
        *running = !e->done;
        return CURLM_OK;
}

CURLMsg *curl_multi_info_read(CURLM *multi, int *left) {
        struct Curl_multi *m = multi;
        struct Curl_easy *e = m->easy;

        if (!e->done || e->told)
                return NULL;
        e->told = true;
        m->message = (CURLMsg) { .msg = CURLMSG_DONE, .easy_handle = e, .data.result = e->code };
        return &m->message;
}

CURLMcode curl_multi_poll(CURLM *multi, struct curl_waitfd *fds, unsigned n, int ms, int *ret) {
        const struct Curl_easy *e = ((struct Curl_multi *) multi)->easy;

        pass(MIN((uint64_t) ms, e->due_ms - fake.now_ms));
        return CURLM_OK;
}
