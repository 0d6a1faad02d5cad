/* The HTTP server on a real host: rights by listener, fleet's API of units, and the answers to invalid
 * requests. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "fleetd/api/request.h"
#include "tests/lib/store_inside.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "units/api_json.h"

typedef struct Fixture {
        Host *host;
        Api *api;
        char *scratch; /* NULL: the host's own */
        char *socket;
        char tcp[64];
        char *answer; /* the last one, whole */
} Fixture;

static void fixture_open_with(Fixture *fixture, ClientAccess access, const ApiLimits *limits,
                              const HttpLimits *http) {
        Error err = {};

        fixture->host->settings.client_access = access;
        fixture->host->settings.limits = limits ? *limits : api_limits_default;
        fixture->host->settings.http = http ? *http : http_limits_default;
        fixture->api = api_free(fixture->api);
        assert_int_equal(api_new(&fixture->api, &fixture->host->components), 0);
        snprintf(fixture->tcp, sizeof(fixture->tcp), "127.0.0.1:%d", scratch_port());
        if (api_listen(fixture->api, API_SOCKET, fixture->socket, &err) < 0 ||
            api_listen(fixture->api, API_LOOPBACK, fixture->tcp, &err) < 0)
                fail_msg("%s", err.message);
}

static void fixture_open(Fixture *fixture, ClientAccess access) {
        fixture_open_with(fixture, access, NULL, NULL);
}

static Fixture *fixture_new(bool joins) {
        Fixture *fixture = NEW0(Fixture, 1);

        fixture->host = host_new(joins);
        fixture->socket = scratch_path(fixture->host->scratch, "socket");
        fixture_open(fixture, CLIENT_READ_WRITE);
        return fixture;
}

static int fixture_setup(void **state) {
        *state = fixture_new(false);
        return 0;
}

static int joining_setup(void **state) {
        *state = fixture_new(true);
        return 0;
}

/* A host that has lost its quorum since: a majority had confirmed its tree. */
static int lonely_setup(void **state) {
        Fixture *fixture = fixture_new(true);

        assert_int_equal(read_bound_confirm(&fixture->host->store->read_bound, 0), 0);
        *state = fixture;
        return 0;
}

static int fallen_setup(void **state) {
        static const char floor[] = "1\nlineage 00000000000000ab\nindex 500\n";
        Fixture *fixture = NEW0(Fixture, 1);
        _cleanup_free_ char *agent = NULL;
        _cleanup_close_ int dir_fd = -1;

        fixture->scratch = scratch_new();
        agent = scratch_path(fixture->scratch, "agent");
        dir_fd = open_dir(agent, 0700);
        assert_true(dir_fd >= 0);
        assert_int_equal(write_file_at(dir_fd, "floor", floor, strlen(floor), 0600), 0);
        fixture->host = host_new_at(fixture->scratch, true);
        fixture->socket = scratch_path(fixture->host->scratch, "socket");
        fixture_open(fixture, CLIENT_READ_WRITE);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        fixture->api = api_free(fixture->api);
        host_free(fixture->host);
        if (fixture->scratch)
                scratch_free(fixture->scratch);
        free(fixture->socket);
        free(fixture->answer);
        free(fixture);
        return 0;
}

/* -- Asking -- */

/* 'head': further lines, each with its end. Returns the status; the answer stays in the fixture. */
static unsigned ask(Fixture *fixture, ApiListener listener, const char *method, const char *target,
                    const char *head, const char *body) {
        _cleanup_text_ Text t = {};
        unsigned status = 0;

        text_printf(&t, "%s %s HTTP/1.1\r\n", method, target);
        if (!strstr(head, "Host:"))
                text_printf(&t, "Host: %s\r\n", listener == API_SOCKET ? "fleet" : fixture->tcp);
        text_append(&t, head);
        if (body)
                text_printf(&t, "Content-Length: %zu\r\n", strlen(body));
        text_printf(&t, "Connection: close\r\n\r\n%s", body ?: "");
        assert_int_equal(t.error, 0);
        free(fixture->answer);
        fixture->answer = host_ask(fixture->host, listener == API_SOCKET ? fixture->socket : fixture->tcp,
                                   t.chars, t.size);
        (void) sscanf(fixture->answer, "HTTP/1.1 %u", &status);
        return status;
}

static const char *body_of(const Fixture *fixture) {
        const char *end = strstr(fixture->answer, "\r\n\r\n");

        return end ? end + 4 : "";
}

#define assert_says(fixture, part)                                                      \
        do {                                                                            \
                if (!strstr((fixture)->answer, part))                                   \
                        fail_msg("\"%s\" is not said in: %s", part, (fixture)->answer); \
        } while (false)

#define JSON "Content-Type: application/json\r\n"
#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"
#define OPTIONS_OF(command) \
        "\"options\":[{\"section\":\"Service\",\"name\":\"ExecStart\",\"value\":\"" command "\"}]"

static unsigned put_unit(Fixture *fixture, const char *name, const char *body) {
        _cleanup_text_ Text target = {};

        text_printf(&target, "/fleet/v1/units/%s", name);
        return ask(fixture, API_SOCKET, "PUT", target.chars, JSON, body);
}

/* -- Listeners -- */

static void units_are_taken_over_the_socket_only(void **state) {
        static const char *const targets[] = {
                "/fleet/v1/units",
                "/fleet/v1/units/a.service",
                "/fleet/v1/state",
                "/fleet/v1/machines",
                "/fleet/v1/cluster",
                "/fleet/v1/events",
                "/fleet/v1/history",
                "/fleet/v1/journal/a.service",
                "/fleet/v1/kill/a.service",
                "/fleet/v1/unknown",
                "/fleet/v1",
                "/v1-alpha/units",
        };
        static const char *const methods[] = { "GET", "PUT", "POST", "DELETE", "PATCH", "HEAD" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(targets); i++)
                for (size_t m = 0; m < ELEMENTS(methods); m++)
                        assert_int_equal(ask(fixture, API_LOOPBACK, methods[m], targets[i], JSON,
                                             "{" OPTIONS_OF("/bin/true") "}"),
                                         403);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_string_equal(body_of(fixture), "{}");
}

static void small_requests_do_not_wait_for_large_listings(void **state) {
        enum { LISTERS = 200 };
        static const char list[] = "GET /v2/keys/dir HTTP/1.1\r\nHost: localhost\r\n\r\n",
                          get[] = "GET /v2/keys/dir/0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        Fixture *fixture = *state;
        char answer[16];
        int fds[LISTERS + 1];

        for (unsigned i = 0; i < 600; i++) {
                char target[64];

                snprintf(target, sizeof(target), "/v2/keys/dir/%u", i);
                assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", target, FORM, "value=1"), 201);
        }
        for (unsigned i = 0; i <= LISTERS; i++) {
                struct sockaddr_un a = { .sun_family = AF_UNIX };

                snprintf(a.sun_path, sizeof(a.sun_path), "%s", fixture->socket);
                fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fds[i], (struct sockaddr *) &a, sizeof(a)), 0);
        }
        /* Connections are accepted in order, some versions of libuv accept one in a turn: who is answered on
         * a later one has all accepted. */
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/version", "", NULL), 200);
        for (unsigned i = 0; i <= LISTERS; i++) {
                const char *request = i < LISTERS ? list : get;

                assert_int_equal(send(fds[i], request, strlen(request), 0), strlen(request));
        }
        HOST_UNTIL(fixture->host, recv(fds[LISTERS], answer, sizeof(answer), MSG_PEEK) > 0);
        assert_true(recv(fds[LISTERS - 1], answer, sizeof(answer), MSG_PEEK) < 0);
        /* One of those that wait leaves; the last has its turn in the end. */
        close(fds[LISTERS - 2]);
        HOST_UNTIL(fixture->host, recv(fds[LISTERS - 1], answer, sizeof(answer), MSG_PEEK) > 0);
        for (unsigned i = 0; i <= LISTERS; i++)
                if (i != LISTERS - 2)
                        close(fds[i]);
}

/* -- Large answers -- */

enum { MANY = 2500 };

static void fill(Fixture *fixture, const char *dir) {
        unsigned at_once = strlen(dir) > 480 ?
                                   4 :
                                   100; /* each long key is counted beside those that share its beginning */

        for (unsigned i = 0; i < MANY;) {
                _cleanup_text_ Text t = {};

                text_append(&t, "{\"writes\":[");
                for (unsigned n = 0; n < at_once && i < MANY; n++, i++)
                        text_printf(&t, "%s{\"action\":\"set\",\"key\":\"%s/%04u\",\"value\":\"v\"}",
                                    n > 0 ? "," : "", dir, i);
                text_append(&t, "]}");
                assert_int_equal(ask(fixture, API_LOOPBACK, "POST", "/fleet/v1/kv/txn", JSON, t.chars), 200);
        }
}

static unsigned count_keys(const Fixture *fixture) {
        unsigned n = 0;

        for (const char *p = fixture->answer; (p = strstr(p, "\"key\":")); p++)
                n++;
        return n;
}

/* A large read that continues until the test ends it, or the store. */
typedef struct Endless {
        _Atomic bool reads, stops;
        bool large, done, freed;
        int result;
} Endless;

static int endless_begin(void *userdata, const KvFound *found) {
        Endless *e = userdata;

        if (!e->large)
                return -E2BIG;
        e->reads = true;
        return 1;
}

static int endless_visit(void *userdata, const KvNode *node) {
        Endless *e = userdata;

        assert_int_equal(usleep(5000), 0); /* all nodes take longer than any test waits */
        return !e->stops;
}

static int endless_end(void *userdata) {
        return 0;
}

static void endless_grow(void *userdata) {
        Endless *e = userdata;

        e->large = true;
}

static void endless_done(void *userdata, int result) {
        Endless *e = userdata;

        e->done = true;
        e->result = result;
}

static void endless_free(void *userdata) {
        Endless *e = userdata;

        e->freed = true;
}

static const KvListOps endless_ops = { .begin = endless_begin,
                                       .visit = endless_visit,
                                       .end = endless_end,
                                       .grow = endless_grow,
                                       .done = endless_done,
                                       .free = endless_free };

/* NULL: it has ended already. */
static KvList *endless_start(Fixture *fixture, Endless *e) {
        KvRange range = { .key = kv_string("/"), .recursive = true, .visits_max = API_LARGE_VISITS };
        KvList *list;

        kv_list(fixture->host->store, &range, &endless_ops, e, &list);
        return list;
}

static void a_large_answer_is_made_off_the_loop_and_is_whole(void **state) {
        static const struct {
                const char *target;
                unsigned keys;
        } rows[] = {
                { "/v2/keys/dir", MANY + 1 },
                { "/v2/keys/?recursive=true", MANY + 1 },
                { "/v2/keys/dir?quorum=true&sorted=true", MANY + 1 },
                { "/fleet/v1/kv/list?prefix=/dir&limit=2000", 2000 },
                { "/fleet/v1/kv/list?prefix=/dir&limit=10000&quorum=true", MANY + 1 },
                { "/fleet/v1/kv/list?prefix=/dir", 1000 }, /* on the loop */
        };
        Fixture *fixture = *state;

        fill(fixture, "/dir");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                fixture->host->loop->turns.most = (TurnWork) {};
                assert_int_equal(ask(fixture, API_LOOPBACK, "GET", rows[i].target, "", NULL), 200);
                assert_int_equal(count_keys(fixture), rows[i].keys);
                assert_in_range(fixture->host->loop->turns.most.nodes, 1, API_LARGE_VISITS + 100);
                assert_says(fixture, "/dir/0000\"");
        }
        assert_int_equal(ask(fixture, API_LOOPBACK, "HEAD", "/v2/keys/dir", "", NULL), 200);
        assert_string_equal(body_of(fixture), "");

        assert_int_equal(ask(fixture, API_LOOPBACK, "GET",
                             "/fleet/v1/kv/list?prefix=/dir&limit=2000&values=false", "", NULL),
                         200);
        assert_null(strstr(fixture->answer, "\"value\""));
}

static void a_long_key_is_sorted_off_the_loop(void **state) {
        Fixture *fixture = *state;
        char dir[601];

        memset(dir, 'a', sizeof(dir) - 1);
        dir[0] = '/';
        dir[sizeof(dir) - 1] = 0;
        fill(fixture, dir);
        fixture->host->loop->turns.most = (TurnWork) {};
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/?recursive=true", "", NULL), 200);
        assert_int_equal(count_keys(fixture), MANY + 1);
        assert_in_range(fixture->host->loop->turns.most.nodes, 1, API_LARGE_VISITS + 100);
}

static void the_third_large_answer_at_a_time_is_503_and_may_be_asked_again(void **state) {
        static const char *const targets[] = { "/v2/keys/dir", "/v2/keys/?recursive=true&quorum=true",
                                               "/fleet/v1/kv/list?prefix=/dir&limit=2000" };
        Endless reads[KV_LARGE_READS_MAX] = {}, more = {};
        KvList *lists[KV_LARGE_READS_MAX];
        Fixture *fixture = *state;

        fill(fixture, "/dir");
        for (unsigned i = 0; i < KV_LARGE_READS_MAX; i++) {
                lists[i] = endless_start(fixture, &reads[i]);
                assert_non_null(lists[i]);
        }
        assert_null(endless_start(fixture, &more));
        assert_true(more.done && more.freed);
        assert_int_equal(more.result, -EBUSY);
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, "GET", targets[i], "", NULL), 503);
                assert_says(fixture, "\r\nRetry-After: 1\r\n");
                assert_null(strstr(strstr(fixture->answer, "Retry-After") + 1, "Retry-After"));
                assert_says(fixture, "too many large answers are being made");
        }
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/dir/0001", "", NULL), 200);

        reads[0].stops = true;
        kv_list_cancel(lists[1]);
        HOST_UNTIL(fixture->host, reads[0].freed && reads[1].freed);
        assert_true(reads[0].done);
        assert_int_equal(reads[0].result, 0);
        assert_false(reads[1].done); /* its request has ended */
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", targets[0], "", NULL), 200);
}

static void a_large_read_ends_after_its_time(void **state) {
        Fixture *fixture = *state;
        Endless e = {};

        fill(fixture, "/dir");
        assert_non_null(endless_start(fixture, &e));
        HOST_UNTIL(fixture->host, e.freed);
        assert_true(e.done);
        assert_int_equal(e.result, -ETIMEDOUT);
        assert_non_null(strstr(request_large_reason(e.result), "longer than 4s"));
}

static void a_store_closes_while_large_answers_are_made(void **state) {
        Fixture *fixture = *state;
        Endless e = {};

        fill(fixture, "/dir");
        assert_non_null(endless_start(fixture, &e));
        HOST_UNTIL(fixture->host, e.reads);
        fixture->api = api_free(fixture->api);
        fixture->host = host_free(fixture->host);
        assert_true(e.done && e.freed);
        assert_int_equal(e.result, -ECANCELED);
        fixture->host = host_new(false);
        free(fixture->socket);
        fixture->socket = scratch_path(fixture->host->scratch, "socket");
}

static int connect_and_send(Fixture *fixture, const char *request) {
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons(atoi(strchr(fixture->tcp, ':') + 1)) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        return fd;
}

/* By a reset: who only says that he sends no more may still wait for the answer. */
static void leave(int fd) {
        const struct linger reset = { .l_onoff = 1 };

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
        close(fd);
}

/* Reads that a majority confirms together are no new requests: they share the turn's work by what they
 * move, however few their nodes. */
static void listings_of_large_values_share_the_work_of_a_turn(void **state) {
        static const char *const requests[] = {
                "GET /v2/keys/large?quorum=true HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /fleet/v1/kv/list?prefix=/large&quorum=true HTTP/1.1\r\nHost: localhost\r\n\r\n"
        };
        enum { VALUE = 200 * 1024, VALUES = 4, CLIENTS = 30 };
        _cleanup_free_ char *value = NEW0(char, sizeof("value=") + VALUE);
        const Turns *turns;
        Fixture *fixture = *state;
        int fds[CLIENTS];

        memset(value, 'v', strlen("value=") + VALUE);
        memcpy(value, "value=", strlen("value="));
        for (unsigned i = 0; i < VALUES; i++) {
                char target[64];

                snprintf(target, sizeof(target), "/v2/keys/large/%u", i);
                assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", target, FORM, value), 201);
        }
        turns = loop_turns(fixture->host->loop);
        for (size_t i = 0; i < ELEMENTS(requests); i++) {
                uint64_t before = turns->total.bytes;

                fixture->host->loop->turns.most = (TurnWork) {};
                for (unsigned k = 0; k < CLIENTS; k++)
                        fds[k] = connect_and_send(fixture, requests[i]);
                HOST_UNTIL(fixture->host, turns->total.bytes - before >= (uint64_t) CLIENTS * VALUES * VALUE);
                assert_int_equal(ask(fixture, API_SOCKET, "GET", "/version", "", NULL), 200);
                assert_in_range(turns->most.bytes, VALUES * VALUE, TURN_WORK_MAX + 5 * VALUES * VALUE);
                for (unsigned k = 0; k < CLIENTS; k++)
                        leave(fds[k]);
        }
}

/* Holds a thread of the pool. */
static void hold_thread(void *userdata) {
        Endless *e = userdata;

        while (!e->stops)
                usleep(1000);
}

static void release_thread(void *userdata) {
        Endless *e = userdata;

        e->freed = true;
}

static void a_client_that_leaves_while_its_large_answer_is_made_leaves_nothing_behind(void **state) {
        static const char *const requests[] = {
                "GET /v2/keys/dir HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /fleet/v1/kv/list?prefix=/dir&limit=2000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        };
        enum { THREADS = 4 }; /* of the pool */
        Endless holds[THREADS] = {};
        Work works[THREADS] = {};
        Fixture *fixture = *state;

        fill(fixture, "/dir");
        for (unsigned i = 0; i < THREADS; i++) {
                works[i] = (Work) { .work = hold_thread, .done = release_thread, .userdata = &holds[i] };
                assert_int_equal(loop_work(fixture->host->loop, &works[i]), 0);
        }
        for (size_t i = 0; i < ELEMENTS(requests); i++) {
                unsigned under_way = fixture->host->store->n_lists;
                int fd = connect_and_send(fixture, requests[i]);

                HOST_UNTIL(fixture->host, fixture->host->store->n_lists == under_way + 1);
                leave(fd);
        }
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/v2/keys/dir/0000", "", NULL),
                         200); /* and the loop has noticed it */
        assert_int_equal(fixture->host->store->n_lists, 2);
        for (unsigned i = 0; i < THREADS; i++)
                holds[i].stops = true;
        HOST_UNTIL(fixture->host, fixture->host->store->n_lists == 0);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/dir", "", NULL), 200);
        HOST_UNTIL(fixture->host, holds[0].freed && holds[1].freed && holds[2].freed && holds[3].freed);
}

/* Without a leader, its read waits for a majority, and then has no client to answer. */
static void a_client_that_leaves_while_its_quorum_read_waits_is_not_answered(void **state) {
        static const char *const requests[] = {
                "GET /v2/keys/a?quorum=true HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /fleet/v1/kv/list?quorum=true HTTP/1.1\r\nHost: localhost\r\n\r\n"
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(requests); i++) {
                int fd = connect_and_send(fixture, requests[i]);

                assert_int_equal(ask(fixture, API_SOCKET, "GET", "/version", "", NULL), 200);
                leave(fd);
        }
        host_pause(fixture->host, 2000); /* its timeout is over: no callback is called */
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/version", "", NULL), 200);
}

/* A ReadIndex check that has begun and waits; NULL: checks are not held. */
static KvSync **held_sync;

void __real_kv_sync(KvStore *store, KvSync *sync);
void __wrap_kv_sync(KvStore *store, KvSync *sync);
void __wrap_kv_sync(KvStore *store, KvSync *sync) {
        if (held_sync && !*held_sync)
                *held_sync = sync;
        else
                __real_kv_sync(store, sync);
}

/* The unit arrives at this host after the request. */
static void a_unit_that_another_host_has_accepted_is_found_on_a_host_that_lags(void **state) {
        static const char request[] =
                "GET /fleet/v1/units/a.service HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n\r\n";
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        Fixture *fixture = *state;
        KvSync *held = NULL;
        char answer[64] = "";
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(a.sun_path, sizeof(a.sun_path), "%s", fixture->socket);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        held_sync = &held;
        HOST_UNTIL(fixture->host, held || recv(fd, answer, sizeof(answer) - 1, MSG_PEEK) > 0);
        held_sync = NULL;
        assert_string_equal(answer, "");

        host_unit(fixture->host, "a.service", "[Service]\nExecStart=/bin/true\n", TARGET_INACTIVE);
        __real_kv_sync(fixture->host->store, held);
        HOST_UNTIL(fixture->host, recv(fd, answer, sizeof(answer) - 1, MSG_PEEK) > 0);
        assert_true(starts_with(answer, "HTTP/1.1 200 "));
        close(fd);
}

static void beyond_a_limit_each_listener_answers_in_its_own_form(void **state) {
        static const struct {
                const char *method, *target, *head, *body;
                unsigned status;
                const char *words;
        } rows[] = {
                { "PUT", "/v2/keys/123456789012", FORM, "value=1", 400,
                  "the key is longer than 12 bytes or deeper than 512 levels" },
                { "GET", "/v2/keys/123456789012", "", NULL, 400, "the key is longer than 12 bytes" },
                { "PUT", "/v2/keys/k", FORM, "value=12345", 400, "the value is longer than 4 bytes" },
                { "POST", "/v2/keys/k?value=12345", "", NULL, 400, "the value is longer than 4 bytes" },
                { "PUT", "/v2/keys/k", FORM, "value=12345678901234567890", 413,
                  "the body is limited to 20 bytes" },
                { "GET", "/v2/keys/dir", "", NULL, 400,
                  "the answer would be more than 2 nodes or 32 MiB: list the directories in it one by one" },
                { "GET", "/v2/keys/?recursive=true", "", NULL, 400, "the answer would be more than 2 nodes" },
                { "GET",
                  "/v2/keys/"
                  "12345678901?wait=true&stream=true&recursive=false&sorted=true&x=12345678901234567890",
                  "", NULL, 414, "the request line is limited to 80 bytes" },
                { "GET", "/v2/keys/k", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n", NULL, 431,
                  "a request may have 5 fields" },
                { "GET", "/v2/keys/k?wait=true", "", NULL, 500, "too many watches" },
        };
        const ApiLimits limits = { .key_size = 12,
                                   .value_size = 4,
                                   .body_size = 20,
                                   .answer_nodes = 2,
                                   .answer_size = 32 << 20,
                                   .watches = 0 };
        const HttpLimits http = { .line_size = 80, .fields = 5 };
        Fixture *fixture = *state;

        for (size_t i = 0; i < 3; i++)
                assert_int_equal(
                        ask(fixture, API_LOOPBACK, "PUT",
                            (const char *[]) { "/v2/keys/dir/a", "/v2/keys/dir/b", "/v2/keys/dir/c" }[i],
                            FORM, "value=1"),
                        201);
        fixture_open_with(fixture, CLIENT_READ_WRITE, &limits, &http);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, rows[i].method, rows[i].target, rows[i].head,
                                     rows[i].body),
                                 rows[i].status);
                assert_says(fixture, rows[i].words);
                assert_says(fixture, "{\"errorCode\":");
                assert_says(fixture, "Content-Type: application/json\r\n");
        }
        assert_int_equal(
                ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n", NULL),
                431);
        assert_string_equal(body_of(fixture),
                            "{\"error\":{\"code\":431,\"message\":\"a request may have 5 fields\"}}");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/units/a.service", JSON,
                             "{" OPTIONS_OF("/bin/true") "}"),
                         413);
        assert_says(fixture, "{\"error\":{\"code\":413,");
        /* At the limit all is well. */
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/12345678901", FORM, "value=1234"), 201);
}

static void a_path_without_a_route_is_not_found_on_either_listener(void **state) {
        static const char *const targets[] = { "/v2",       "/v2/",   "/v2/keysx",       "/v2/nope",
                                               "/metrics",  "/fleet", "/fleet/v2/units", "/fleet/v1x",
                                               "/v3/kv/put" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(targets); i++)
                for (ApiListener listener = API_SOCKET; listener <= API_LOOPBACK; listener++) {
                        assert_int_equal(ask(fixture, listener, "GET", targets[i], "", NULL), 404);
                        assert_int_equal(ask(fixture, listener, "PUT", targets[i], "", NULL), 404);
                }
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/", "", NULL), 404);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/", "", NULL), 405);
        assert_says(fixture, "{\"error\":{\"code\":405,\"message\":\"\"}}");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/nope", "", NULL), 404);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/a/b", "", NULL), 404);
}

static void a_list_of_units_may_be_without_their_texts(void **state) {
        static const char unit[] = "{" OPTIONS_OF("/bin/true") "}";
        Fixture *fixture = *state;

        assert_int_equal(put_unit(fixture, "a.service", unit), 201);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_says(fixture, "\"options\":[");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units?texts=false", "", NULL), 200);
        assert_says(fixture, "\"desiredState\":\"inactive\",\"hash\":");
        assert_says(fixture, "\"name\":\"a.service\"");
        assert_null(strstr(fixture->answer, "\"options\":"));
        assert_null(strstr(fixture->answer, "\"text\":"));
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units?texts=few", "", NULL), 400);
        assert_says(fixture, "texts=few: expected true or false");
}

static void the_socket_answers_as_fleets_server(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_says(fixture, "Server: fleetd/" PACKAGE_VERSION "\r\n");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1//units", "", NULL), 301);
        assert_says(fixture, "Location: /fleet/v1/units\r\n");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/..%2F..%2Fetc%2Fpasswd", "", NULL),
                         404);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/x/../units?a=b", "", NULL), 301);
        assert_says(fixture, "Location: /fleet/v1/units?a=b\r\n");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/v2/keys/", "", NULL), 200);
        assert_null(strstr(fixture->answer, "Server:"));
}

/* As a real etcd 3.4 answered. */
static void a_nul_does_not_end_the_text_of_a_client(void **state) {
        static const struct {
                const char *method, *target, *type, *body;
                unsigned status;
                const char *said;
        } cases[] = {
                { "GET", "/v2/keys/?recursive=1%00", "", NULL, 400, "\"errorCode\":209" },
                { "GET", "/v2/keys/?waitIndex=5%00", "", NULL, 400, "\"errorCode\":203" },
                { "PUT", "/v2/keys/a", FORM, "ttl=5%00", 400, "\"errorCode\":202" },
                { "GET", "/v2/keys/?wait%00=true", "", NULL, 200, "\"action\":\"get\"" },
                { "GET", "/v2/keys%00", "", NULL, 404, "404 page not found" },
                { "GET", "/version%00", "", NULL, 404, "404 page not found" },
                { "PUT", "/v2/keys/a", "Content-Type: \r\n", "value=1", 201, "\"value\":\"\"" },
                { "PUT", "/v2/keys/a", "Content-Type: application/x-www-form-urlencoded; x\r\n", "value=1",
                  400, "mime: invalid media parameter" },
                { "OPTIONS", "/nope", "", NULL, 200, "Content-Length: 0" },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, cases[i].method, cases[i].target, cases[i].type,
                                     cases[i].body),
                                 cases[i].status);
                assert_says(fixture, cases[i].said);
        }
}

static void a_fixed_page_is_as_long_as_its_text(void **state) {
        static const char *const targets[] = { "/version", "/health", "/nope", "/v2/auth/enable" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                char length[64];

                (void) ask(fixture, API_LOOPBACK, "GET", targets[i], "", NULL);
                snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(body_of(fixture)));
                assert_says(fixture, length);
        }
}

static void a_web_page_cannot_use_a_browser_to_send_requests(void **state) {
        static const char *const others[] = { "http://localhost:1",
                                              "http://localhost",
                                              "http://127.0.0.1:1",
                                              "http://127.0.0.1",
                                              "http://[::1]:1",
                                              "http://",
                                              "file://" };
        Fixture *fixture = *state;
        char own[160];

        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/", "Host: evil.example\r\n", NULL), 403);
        assert_says(fixture, "does not match this listener");
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a", "Host: evil.example:2379\r\n" FORM,
                             "value=1"),
                         403);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a",
                             "Host: localhost.evil.example\r\n" FORM, "value=1"),
                         403);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a",
                             "Host: 127.0.0.1.evil.example\r\n" FORM, "value=1"),
                         403);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a",
                             "Origin: http://evil.example\r\n" FORM, "value=1"),
                         403);
        assert_says(fixture,
                    "requests of web pages from other origins are rejected (Origin: http://evil.example)");
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a", "Origin: null\r\n" FORM, "value=1"),
                         403);
        for (size_t i = 0; i < ELEMENTS(others); i++) { /* other servers may listen there */
                snprintf(own, sizeof(own), "Origin: %s\r\n" FORM, others[i]);
                assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a", own, "value=1"), 403);
        }
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", "", NULL), 404);

        assert_int_equal(
                ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a", "Host: localhost\r\n" FORM, "value=1"), 201);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", "Host: [::1]:2379\r\n", NULL), 200);
        snprintf(own, sizeof(own), "Origin: http://%s\r\n", fixture->tcp);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", own, NULL), 200);
        snprintf(own, sizeof(own), "Host: localhost%s\r\nOrigin: http://localhost%s\r\n",
                 strchr(fixture->tcp, ':'), strchr(fixture->tcp, ':'));
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", own, NULL), 200);
}

static void a_read_only_listener_takes_no_writes(void **state) {
        static const char *const methods[] = { "PUT", "POST", "DELETE", "PATCH" };
        Fixture *fixture = *state;

        fixture_open(fixture, CLIENT_READ_ONLY);
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/v2/keys/a", FORM, "value=1"), 201);
        for (size_t i = 0; i < ELEMENTS(methods); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, methods[i], "/v2/keys/a", FORM, "value=2"), 403);
                assert_says(fixture, "this listener is read-only (ClientAccess=read-only)");
        }
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", "", NULL), 200);
        assert_says(fixture, "\"value\":\"1\"");
}

static void a_second_listener_on_the_same_address_is_rejected_with_a_message(void **state) {
        Fixture *fixture = *state;
        Error err = {};

        assert_int_equal(api_listen(fixture->api, API_LOOPBACK, fixture->tcp, &err), -EADDRINUSE);
        assert_non_null(strstr(err.message, fixture->tcp));
}

/* -- Fleet's own keys -- */

static void the_registry_is_not_seen_over_tcp(void **state) {
        static const char *const targets[] = { "/v2/keys/_fleet",
                                               "/v2/keys/_fleet/unit",
                                               "/v2/keys/_fleet/unit/a.service",
                                               "/v2/keys/%5ffleet/unit/a.service",
                                               "/v2/keys/_fleet?recursive=true&quorum=true",
                                               "/v2/keys/_fleet/",
                                               "/v2/keys/_fleet/unit/a.service/x",
                                               "/v2/keys/_fleet/none/b.service/x" };
        Fixture *fixture = *state;

        host_unit(fixture->host, "a.service", "[Service]\nExecStart=/bin/secret\n", TARGET_INACTIVE);
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, "GET", targets[i], "", NULL), 404);
                assert_says(fixture,
                            "{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/_fleet\"");
                assert_int_equal(ask(fixture, API_LOOPBACK, "HEAD", targets[i], "", NULL), 404);
        }
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/?recursive=true", "", NULL), 200);
        assert_null(strstr(fixture->answer, "secret"));
        assert_null(strstr(fixture->answer, "_fleet"));
}

static void the_registry_is_not_written_over_tcp(void **state) {
        static const char *const writes[][3] = {
                { "PUT", "/v2/keys/_fleet/unit/a.service", "value=1" },
                { "PUT", "/v2/keys/_fleet", "value=1" },
                { "PUT", "/v2/keys/_fleet/new", "dir=true" },
                { "POST", "/v2/keys/_fleet/unit", "value=1" },
                { "POST", "/v2/keys/_fleet", "value=1" },
                { "DELETE", "/v2/keys/_fleet?recursive=true", NULL },
                { "DELETE", "/v2/keys/_fleet/unit/a.service", NULL },
                { "PUT", "/v2/keys/%5Ffleet/unit/a.service", "value=1" },
                { "PUT", "/v2/keys/_fleet/unit/a.service", "value=1&prevExist=true" },
                { "PUT", "/v2/keys/_fleet/unit/a.service", "ttl=1&refresh=true&prevExist=true" },
                { "DELETE", "/v2/keys/_fleet/unit/a.service?prevIndex=1", NULL },
        };
        Fixture *fixture = *state;
        uint64_t index;

        host_unit(fixture->host, "a.service", "[Service]\nExecStart=/bin/true\n", TARGET_INACTIVE);
        index = kv_index(fixture->host->store);
        for (size_t i = 0; i < ELEMENTS(writes); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, writes[i][0], writes[i][1], FORM, writes[i][2]),
                                 401);
                assert_says(fixture, "\"errorCode\":110");
        }
        assert_int_equal(kv_index(fixture->host->store), index);
        assert_int_equal(ask(fixture, API_LOOPBACK, "DELETE", "/v2/keys/?recursive=true", "", NULL), 400);
        assert_says(fixture, "\"errorCode\":107");
        assert_non_null(cluster_unit(registry_cluster(fixture->host->registry), "a.service"));
}

/* -- PUT of units -- */

static void the_kv_api_is_on_both_listeners_with_the_rights_of_v2(void **state) {
        static const char txn[] = "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"value\":\"1\"}]}";
        static const char ours[] =
                "{\"writes\":[{\"action\":\"set\",\"key\":\"/_fleet/a\",\"value\":\"1\"}]}";
        Fixture *fixture = *state;

        host_unit(fixture->host, "a.service", "[Service]\nExecStart=/bin/secret\n", TARGET_INACTIVE);
        for (ApiListener listener = API_SOCKET; listener <= API_LOOPBACK; listener++) {
                assert_int_equal(ask(fixture, listener, "POST", "/fleet/v1/kv/txn", JSON, txn), 200);
                assert_int_equal(ask(fixture, listener, "PUT", "/fleet/v1/kv/value/a", "", "2"), 200);
                assert_int_equal(ask(fixture, listener, "GET", "/fleet/v1/kv/value/a", "", NULL), 200);
                assert_string_equal(body_of(fixture), "2");
                assert_int_equal(ask(fixture, listener, "POST", "/fleet/v1/kv/txn", JSON, ours), 403);
                assert_int_equal(ask(fixture, listener, "PUT", "/fleet/v1/kv/value/_fleet/a", "", "2"), 403);
                assert_int_equal(ask(fixture, listener, "DELETE", "/fleet/v1/kv/value/_fleet?recursive=true",
                                     "", NULL),
                                 403);
                assert_int_equal(ask(fixture, listener, "GET", "/fleet/v1/kv/list", "", NULL), 200);
                assert_null(strstr(body_of(fixture), "_fleet"));
        }
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/kv/list?prefix=/_fleet", "", NULL), 200);
        assert_says(fixture, "\"key\":\"/_fleet/");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/kv/list?prefix=/_fleet", "", NULL),
                         200);
        assert_says(fixture, "\"nodes\":[]");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/kv/value/_fleet", "", NULL), 409);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/kv/value/_fleet", "", NULL), 404);
        assert_int_equal(ask(fixture, API_LOOPBACK, "POST", "/fleet/v1/kv/txn", "Host: evil\r\n" JSON, txn),
                         403);
        assert_int_equal(
                ask(fixture, API_LOOPBACK, "POST", "/fleet/v1/kv/txn", "Origin: http://evil\r\n" JSON, txn),
                403);
        assert_int_equal(ask(fixture, API_LOOPBACK, "POST", "/fleet/v1/kv/txn", "", txn), 415);
        fixture_open(fixture, CLIENT_READ_ONLY);
        assert_int_equal(ask(fixture, API_LOOPBACK, "POST", "/fleet/v1/kv/txn", JSON, txn), 403);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/kv/value/a", "", NULL), 200);
}

static void keys_that_a_unit_reads_are_not_written_by_anonymous_clients(void **state) {
        static const char message[] =
                "a.service reads /config/shop: write it by fleetctl as root or group fleet, "
                "or with keys-write:/config/shop";
        static const char txn[] = "{\"writes\":[{\"action\":\"set\",\"key\":\"/free\",\"value\":\"1\"},"
                                  "{\"action\":\"set\",\"key\":\"/config/shop/a\",\"value\":\"1\"}]}";
        static const struct {
                const char *method, *target, *head, *body;
                unsigned status;
        } rows[] = {
                { "PUT", "/v2/keys/config/shop", FORM, "value=1", 401 },
                { "PUT", "/v2/keys/config/shop/LD_PRELOAD", FORM, "value=1", 401 },
                { "PUT", "/v2/keys/config/shop/a?prevValue=0", FORM, "value=1", 401 },
                { "POST", "/v2/keys/config/shop", FORM, "value=1", 401 },
                { "PUT", "/v2/keys/config", FORM, "dir=true&ttl=1", 401 },
                { "DELETE", "/v2/keys/config?recursive=true", "", NULL, 401 },
                { "PUT", "/fleet/v1/kv/value/config/shop/a", "", "1", 403 },
                { "DELETE", "/fleet/v1/kv/value/config?recursive=true", "", NULL, 403 },
                { "POST", "/fleet/v1/kv/txn", JSON, txn, 403 },
        };
        Fixture *fixture = *state;

        host_raise(fixture->host, KV_LEVEL_INPUTS);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/config/shop/a", FORM, "value=0"), 201);
        host_unit(fixture->host, "a.service",
                  "[Service]\nExecStart=/bin/true\n[X-Fleet]\nEnvironmentKeys=/config/shop\n",
                  TARGET_INACTIVE);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, rows[i].method, rows[i].target, rows[i].head,
                                     rows[i].body),
                                 rows[i].status);
                assert_says(fixture, message);
        }
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/config/shop/a", "", NULL), 200);
        assert_says(fixture, "\"value\":\"0\"");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/free", "", NULL), 404);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/config/b", FORM, "value=1"), 201);
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/v2/keys/config/shop/a", FORM, "value=1"), 200);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/v2/keys/config?recursive=true", "", NULL), 200);
}

static void a_body_that_is_not_declared_as_json_is_415(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/units/a.service", "", "{}"), 415);
        assert_says(fixture, "{\"error\":{\"code\":415,\"message\":\"expected 1 Content-Type, got 0\"}}");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/units/a.service", JSON JSON, "{}"), 415);
        assert_says(fixture, "expected 1 Content-Type, got 2");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/units/a.service", FORM, "{}"), 415);
        assert_says(fixture, "only acceptable Content-Type is application/json");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/units/a.service",
                             "Content-Type: application/json ; charset=utf-8\r\n",
                             "{\"desiredState\":\"loaded\"," OPTIONS_OF("/bin/true") "}"),
                         201);
}

static void a_broken_body_is_400_with_its_reason(void **state) {
        static const char *const rows[][2] = {
                { "", "unable to decode body: " },
                { "{", "unable to decode body: " },
                { "[]", "unable to decode body: " },
                { "{\"name\":\"b.service\"}",
                  "name in URL \\\"a.service\\\" differs from unit name in request body \\\"b.service\\\"" },
                { "{\"options\":5}", "unable to decode body: " },
                { "{\"desiredState\":\"flying\"," OPTIONS_OF("/bin/true") "}", "flying" },
                { "{\"options\":[{\"section\":\"X-Fleet\",\"name\":\"MachineID\",\"value\":\"x\"},{"
                  "\"section\":\"X-Fleet\",\"name\":\"Global\",\"value\":\"true\"}]}",
                  "Global" },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(put_unit(fixture, "a.service", rows[i][0]), 400);
                assert_says(fixture, rows[i][1]);
        }
        assert_null(cluster_unit(registry_cluster(fixture->host->registry), "a.service"));
}

static void a_bad_name_is_400_and_what_is_no_name_404(void **state) {
        static const char *const names[] = {
                "a", "a.nothing", "a%2Fb.service", "a.service%00b", "a%0ab.service", "%ff.service", ".service"
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_true(put_unit(fixture, names[i], "{" OPTIONS_OF("/bin/true") "}") ==
                            (i == 2 || i == 3 ? 404 : 400));
        assert_int_equal(registry_cluster(fixture->host->registry)->units ? 1 : 0, 0);
}

/* What says under which conditions a change is made is a request's; an answer has none of it. */
static void a_unit_that_was_read_can_be_sent_back(Fixture *fixture, const char *name, TargetState target) {
        _cleanup_free_ char *body = NULL;
        char request[64];

        snprintf(request, sizeof(request), "{\"desiredState\":\"%s\"}", target_state_to_string(target));
        assert_int_equal(put_unit(fixture, name, request), 204);
        snprintf(request, sizeof(request), "/fleet/v1/units/%s", name);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", request, "", NULL), 200);
        body = strdup(body_of(fixture));
        assert_null(strstr(body, "expected"));
        assert_int_equal(put_unit(fixture, name, body), 204);
        assert_int_equal(cluster_unit(registry_cluster(fixture->host->registry), name)->target, target);
}

static void a_unit_is_created_replaced_wanted_and_destroyed(void **state) {
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        assert_int_equal(put_unit(fixture, "a.service", "{\"desiredState\":\"launched\"}"), 409);
        assert_says(fixture, "unit does not exist and options field empty");
        assert_int_equal(
                put_unit(fixture, "a.service", "{\"name\":\"a.service\"," OPTIONS_OF("/bin/one") "}"), 201);
        assert_string_equal(body_of(fixture), "");
        assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_INACTIVE);
        assert_int_equal(
                put_unit(fixture, "a.service", "{\"desiredState\":\"launched\",\"name\":\"a.service\"}"),
                204);
        assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_LAUNCHED);
        assert_int_equal(put_unit(fixture, "a.service", "{}"), 409);
        assert_says(fixture, "must provide DesiredState to update existing unit");
        assert_int_equal(put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/one") "}"), 409);
        assert_int_equal(
                put_unit(fixture, "a.service", "{\"desiredState\":\"loaded\"," OPTIONS_OF("/bin/one") "}"),
                204);
        assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_LOADED);
        assert_int_equal(put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/two") "}"), 201);
        assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_INACTIVE);

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/a.service", "", NULL), 200);
        assert_says(fixture, "\"name\":\"a.service\"");
        assert_says(fixture, "\"value\":\"/bin/two\"");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/v1-alpha/units", "", NULL), 200);
        assert_says(fixture, "{\"units\":[{");
        a_unit_that_was_read_can_be_sent_back(fixture, "a.service", TARGET_LAUNCHED);
        a_unit_that_was_read_can_be_sent_back(fixture, "a.service", TARGET_INACTIVE);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 204);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 404);
        assert_says(fixture, "unit does not exist");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/a.service", "", NULL), 404);
}

static void repeat(Text *t, const char *lines, size_t n) {
        for (size_t i = 0; i < n; i++)
                text_append(t, lines);
}

/* Texts that this version does not take, and an older one did. */
static void text_beyond_a_limit(Text *t, unsigned limit) {
        char item[120] = "";

        text_append(t, "[Service]\nExecStart=/bin/true\n");
        memset(item, 'a', sizeof(item) - 1);
        switch (limit) {
        case 0:
                text_append(t, "[Install]\n");
                repeat(t, "Also=b.service\n", 257);
                break;
        case 1:
                text_append(t, "[X-Fleet]\n");
                for (size_t i = 0; i < 200; i++)
                        text_printf(t, "Conflicts=*%.100s\n", item);
                break;
        case 2:
                text_append(t, "[X-Fleet]\n");
                for (size_t i = 0; i < 1000; i++)
                        text_printf(t, "MachineOf=%.40s\nConflicts=*aaaaaaaaaaaaaaa*b\n", item);
                break;
        case 3:
                text_printf(t, "[X-%01000d]\n", 0);
                repeat(t, "a=b\n", 2100);
                break;
        }
}

static unsigned put_text(Fixture *fixture, const char *name, const char *text, TargetState target) {
        ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_text_ Text body = {};

        unit.text = text;
        unit.desired_state = target;
        api_unit_write(&body, &unit);
        return put_unit(fixture, name, body.chars);
}

static void a_unit_that_an_older_version_stored_is_started_with_its_own_text(void **state) {
        static const char *const messages[] = { "names in Alias= and Also=", "Conflicts= has patterns with",
                                                "too many names and patterns", "the file is too large" };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        for (unsigned limit = 0; limit < ELEMENTS(messages); limit++) {
                UnitChange change = { .has_target = true, .target = TARGET_INACTIVE };
                _cleanup_unit_ Unit *stored = NULL;
                _cleanup_text_ Text text = {}, batch = {};
                ApiUnit units[1] = { API_UNIT_EMPTY };

                text_beyond_a_limit(&text, limit);
                assert_int_equal(unit_read("a.service", text.chars, text.size, &stored, NULL), 0);
                change.unit = stored;
                assert_int_equal(
                        host_wait(fixture->host, registry_change_units(fixture->host->registry, &change, 1,
                                                                       host_on_done, fixture->host)),
                        KV_OK);
                assert_int_equal(put_text(fixture, "a.service", text.chars, TARGET_LOADED), 204);
                assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_LOADED);
                assert_int_equal(put_text(fixture, "a.service", text.chars, _TARGET_INVALID), 409);
                assert_says(fixture, "must provide DesiredState to update existing unit");
                units[0] = (ApiUnit) { .name = "a.service",
                                       .text = text.chars,
                                       .desired_state = TARGET_LAUNCHED,
                                       .current_state = _TARGET_INVALID,
                                       .expected_state = _TARGET_INVALID };
                api_page_write(&batch, &api_units_page, units, 1, NULL);
                assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/batch", JSON, batch.chars), 204);
                assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_LAUNCHED);

                assert_true(put_text(fixture, "b.service", text.chars, TARGET_LOADED) >= 400);
                assert_says(fixture, messages[limit]);
                text_append(&text, "[Unit]\nDescription=Another\n");
                assert_true(put_text(fixture, "a.service", text.chars, TARGET_LOADED) >= 400);
                assert_says(fixture, messages[limit]);
                assert_int_equal(cluster_unit(c, "a.service")->target, TARGET_LAUNCHED);
        }
}

static void a_template_is_kept_but_not_launched(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(put_unit(fixture, "t@.service", "{" OPTIONS_OF("/bin/true") "}"), 201);
        assert_int_equal(put_unit(fixture, "t@.service", "{\"desiredState\":\"launched\"}"), 400);
        assert_says(fixture, "cannot activate template \\\"t@.service\\\"");
        assert_int_equal(put_unit(fixture, "t@.service", "{\"desiredState\":\"inactive\"}"), 204);
}

static void what_a_folder_owns_is_changed_in_the_folder(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n";
        Fixture *fixture = *state;
        Host *h = fixture->host;
        UnitChange change = { .has_target = true, .target = TARGET_LAUNCHED };
        _cleanup_free_ char *path = scratch_path(h->scratch, "a.service");
        Unit *unit = NULL;

        host_machine(h);
        scratch_write(path, text);
        assert_int_equal(unit_parse("a.service", text, strlen(text), &unit, NULL), 0);
        assert_int_equal(unit_set_owner(unit, h->id, path), 0);
        change.unit = unit;
        assert_int_equal(host_wait(h, registry_change_units(h->registry, &change, 1, host_on_done, h)),
                         KV_OK);
        unit_free(unit);

        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 409);
        assert_says(fixture, path);
        assert_says(fixture, "a.service on alpha; remove the file there");
        assert_int_equal(put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/other") "}"), 409);
        assert_says(fixture, "edit the file there");
        assert_int_equal(put_unit(fixture, "a.service", "{\"desiredState\":\"inactive\"}"), 204);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/a.service", "", NULL), 200);
        assert_says(fixture, "\"owner\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"");
}

static unsigned patch(Fixture *fixture, const char *op, const char *path, const char *value) {
        _cleanup_text_ Text body = {};

        text_printf(&body, "[{\"op\":\"%s\",\"path\":\"%s\"%s%s}]", op, path, *value ? ",\"value\":" : "",
                    value);
        return ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", body.chars);
}

static void a_machines_metadata_are_patched(void **state) {
#define PATH "/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/metadata/"
        static const struct {
                const char *op, *path, *value;
                unsigned status;
                const char *says;
        } rows[] = {
                { "add", PATH "gpu", "\"yes\"", 204, "Content-Type: application/json" },
                { "replace", PATH "gpu", "{\"value\":\"two\"}", 204, "" },
                { "replace", PATH "disk", "{\"Value\":\"ssd\"}", 204, "" },
                { "remove", PATH "zone", "", 204, "" },
                { "add", "/nope/metadata/gpu", "\"yes\"", 204, "" },
                { "test", PATH "gpu", "\"x\"", 400, "invalid op: expect add, remove, or replace" },
                { "add", "/nope/other/gpu", "\"x\"", 400, "machine metadata path invalid" },
                { "add", PATH, "\"x\"", 400, "machine metadata path invalid" },
                { "add", PATH "a/b", "\"x\"", 400, "machine metadata path invalid" },
                { "add", PATH "..", "\"x\"", 400, "machine metadata path invalid" },
                { "add", PATH "gpu", "{\"value\":\"\"}", 400,
                  "invalid value: add and replace require a value" },
                { "add", PATH "gpu", "", 400, "invalid value: add and replace require a value" },
                { "add", PATH "gpu", "\"a\\u0007b\"", 400, "control character" },
        };
        _cleanup_pairs_ Pairs own = {};
        Fixture *fixture = *state;
        Machine facts = { .name = (char *) "beta" };
        const ClusterMachine *m;

        snprintf(facts.id, sizeof(facts.id), "%s", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
        assert_int_equal(machine_metadata_parse("zone=a,disk=hdd", &own, NULL), 0);
        facts.metadata = own;
        assert_int_equal(host_wait(fixture->host, registry_publish_facts(fixture->host->registry, &facts,
                                                                         host_on_done, fixture->host)),
                         KV_OK);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(patch(fixture, rows[i].op, rows[i].path, rows[i].value), rows[i].status);
                assert_says(fixture, rows[i].says);
        }
        assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", "[]"), 204);
        assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", "{}"), 400);
        assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", "not json"), 400);

        m = cluster_machine(registry_cluster(fixture->host->registry), facts.id);
        assert_non_null(m);
        assert_int_equal(m->metadata.n, 2);
        assert_string_equal(pairs_get(&m->metadata, "gpu"), "two");
        assert_string_equal(pairs_get(&m->metadata, "disk"), "ssd");

        /* All or nothing. */
        assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "",
                             "[{\"op\":\"remove\",\"path\":\"" PATH
                             "gpu\"},{\"op\":\"remove\",\"path\":\"x\"}]"),
                         400);
        assert_string_equal(pairs_get(&m->metadata, "gpu"), "two");
#undef PATH
}

/* An operation for each of 'n' keys of a machine, the keys 'of' in turn; 0: all different. */
static void add_operations(Text *t, const char *id, size_t n, size_t of) {
        for (size_t i = 0; i < n; i++)
                text_printf(t, "%s{\"op\":\"add\",\"path\":\"/%s/metadata/k%zu\",\"value\":\"v\"}",
                            t->size > 1 ? "," : "[", id, of > 0 ? i % of : i);
}

static unsigned n_pairs_get, n_pairs_set;

const char *__real_pairs_get(const Pairs *pairs, const char *key);
const char *__wrap_pairs_get(const Pairs *pairs, const char *key);
const char *__wrap_pairs_get(const Pairs *pairs, const char *key) {
        n_pairs_get++;
        return __real_pairs_get(pairs, key);
}

int __real_pairs_set(Pairs *pairs, const char *key, const char *value);
int __wrap_pairs_set(Pairs *pairs, const char *key, const char *value);
int __wrap_pairs_set(Pairs *pairs, const char *key, const char *value) {
        n_pairs_set++;
        return __real_pairs_set(pairs, key, value);
}

static void the_keys_of_a_patch_are_counted_for_each_machine(void **state) {
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "cccccccccccccccccccccccccccccccc"
        static const struct {
                struct {
                        const char *id;
                        size_t n;
                } parts[3];       /* one after the other, in one request */
                const char *says; /* NULL: 204 */
        } rows[] = {
                { { { B, 129 } }, "machine " B " would have more than 128 metadata keys" },
                { { { C, 1 }, { B, 128 }, { C, 128 } }, "machine " C " would have" },
                { { { C, 1 }, { B, 129 }, { C, 128 } },
                  "machine " C " would have" }, /* the one that is named first */
                { { { B, 1 }, { C, 129 }, { B, 1 } }, "machine " C " would have" },
                { { { B, 128 } }, NULL },
                { { { B, 128 }, { C, 128 } }, NULL },
                { { { B, 129 } }, "machine " B " would have" }, /* one is new */
                { { { B, 128 }, { C, 128 }, { B, 128 } }, NULL },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text body = {};

                for (size_t k = 0; k < ELEMENTS(rows[i].parts) && rows[i].parts[k].id; k++)
                        add_operations(&body, rows[i].parts[k].id, rows[i].parts[k].n, 0);
                text_append_char(&body, ']');
                assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", body.chars),
                                 rows[i].says ? 400 : 204);
                assert_says(fixture, rows[i].says ?: "");
        }
}

/* Where it is asked for, and where it is carried out. */
static void a_patch_reads_each_of_its_operations_once(void **state) {
        _cleanup_text_ Text first = {}, all = {};
        Fixture *fixture = *state;

        add_operations(&first, B, 128, 0);
        text_append_char(&first, ']');
        assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", first.chars), 204);

        add_operations(&all, B, 1000, 128);
        text_append_char(&all, ']');
        n_pairs_get = n_pairs_set = 0;
        assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "", all.chars), 204);
        assert_in_range(n_pairs_get, 1000, 4000);
        assert_in_range(n_pairs_set, 1000, 4000);
#undef B
#undef C
}

/* A host of that letter, "A" for all of them, with metadata, and up. */
static void publish_machine(Fixture *fixture, const char *id, const char *name, const char *metadata) {
        Registry *r = fixture->host->registry;
        _cleanup_pairs_ Pairs own = {};
        Machine facts = { .name = (char *) name };
        PresenceChange up = { .presence = PRESENCE_UP };

        snprintf(facts.id, sizeof(facts.id), "%s", id);
        snprintf(up.machine, sizeof(up.machine), "%s", id);
        assert_int_equal(machine_metadata_parse(metadata, &own, NULL), 0);
        facts.metadata = own;
        assert_int_equal(
                host_wait(fixture->host, registry_publish_facts(r, &facts, host_on_done, fixture->host)),
                KV_OK);
        assert_int_equal(
                host_wait(fixture->host, registry_presence(r, 0, &up, 1, host_on_done, fixture->host)),
                KV_OK);
}

static const JsonValue *item_of(const JsonValue *root, const char *list, const char *member,
                                const char *value) {
        const JsonValue *all = json_value_member(root, list);

        for (size_t i = 0; i < json_value_count(all); i++)
                if (streq(json_value_string(json_value_member(json_value_item(all, i), member)) ?: "", value))
                        return json_value_item(all, i);
        fail_msg("no %s=%s", member, value);
        return NULL;
}

static const char *text_of(const JsonValue *v, const char *member) {
        return json_value_string(json_value_member(v, member)) ?: "";
}

static void a_batch_is_one_transaction(void **state) {
        static const char two[] =
                "{\"units\":[{\"name\":\"a.service\",\"desiredState\":\"launched\"," OPTIONS_OF(
                        "/bin/true") "},"
                                     "{\"name\":\"b.service\"," OPTIONS_OF("/bin/true") "}]}";
        static const struct {
                const char *body, *says;
                unsigned status;
        } rows[] = {
                { "{\"units\":[{\"name\":\"c.service\"," OPTIONS_OF(
                          "/bin/true") "},{\"name\":\"a b\"," OPTIONS_OF("/bin/true") "}]}",
                  "a b: ", 400 },
                { "{\"units\":[{\"name\":\"c.service\"," OPTIONS_OF(
                          "/bin/true") "},{\"name\":\"d.service\",\"desiredState\":\"loaded\"}]}",
                  "d.service: unit does not exist", 409 },
                { "{\"units\":[{\"name\":\"c.service\"," OPTIONS_OF(
                          "/bin/true") "},{\"name\":\"c.service\"," OPTIONS_OF("/bin/true") "}]}",
                  "c.service: named twice", 400 },
                { "{\"units\":[{\"name\":\"a.service\",\"replace\":false," OPTIONS_OF("/bin/false") "}]}",
                  "a.service: unit exists", 409 },
                { "{\"units\":[{\"name\":\"t@.service\",\"desiredState\":\"launched\"," OPTIONS_OF(
                          "/bin/true") "}]}",
                  "cannot activate template", 400 },
                { "[]", "unable to decode body", 400 },
        };
        Fixture *fixture = *state;
        uint64_t index;

        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/batch", JSON, two), 204);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/a.service", "", NULL), 200);
        assert_says(fixture, "\"desiredState\":\"launched\"");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/b.service", "", NULL), 200);
        assert_says(fixture, "\"desiredState\":\"inactive\"");
        index = kv_index(fixture->host->store);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/batch", JSON, rows[i].body),
                                 rows[i].status);
                assert_says(fixture, rows[i].says);
        }
        assert_int_equal(kv_index(fixture->host->store), index);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/c.service", "", NULL), 404);
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/batch", "", two), 415);
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/batch", JSON, "{}"), 204);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/batch", "", NULL), 405);
}

/* What is in a body is counted before any of it is read. */
static void a_body_of_too_much_is_refused_unread(void **state) {
        static const struct {
                const char *method, *target, *before, *item, *after, *says;
                size_t n; /* so many are refused, one less is not for that reason */
        } rows[] = {
                { "POST", "/fleet/v1/batch", "{\"units\":[", "1", "]}",
                  "\"more than 1000 units in one batch\"", 1001 },
                { "POST", "/fleet/v1/plan", "{\"units\":[", "1", "]}", "\"more than 1000 units in one plan\"",
                  1001 },
                { "PUT", "/fleet/v1/units/a.service", "{\"options\":[", "[]", "]}",
                  "\"unable to decode body: more than 4096 objects, arrays and items in ", 4095 },
                { "PUT", "/fleet/v1/units/a.service", "{", "\"a\":0", "}",
                  "\"unable to decode body: more than 1000 members in one object\"", 1001 },
                { "POST", "/fleet/v1/kv/txn", "{\"writes\":[", "1", "]}",
                  "more than 4096 objects, arrays and items in ", 4096 },
                { "PATCH", "/fleet/v1/machines", "[", "{}", "]",
                  "\"unable to decode body: more than 4096 objects, arrays and items in ", 4096 },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t less = 0; less <= 1; less++) {
                        _cleanup_text_ Text body = {};

                        text_append(&body, rows[i].before);
                        for (size_t k = 0; k < rows[i].n - less; k++)
                                text_printf(&body, "%s%s", k > 0 ? "," : "", rows[i].item);
                        text_append(&body, rows[i].after);
                        assert_int_equal(
                                ask(fixture, API_SOCKET, rows[i].method, rows[i].target, JSON, body.chars),
                                400);
                        if (!!strstr(fixture->answer, rows[i].says) != (less == 0))
                                fail_msg("%s of %zu: %s", rows[i].target, rows[i].n - less, fixture->answer);
                }
}

static void why_names_the_rule_that_excluded_each_machine(void **state) {
        static const char unit[] = "{" OPTIONS_OF("/bin/true") "}";
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *m;
        Fixture *fixture = *state;

        publish_machine(fixture, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "beta", "gpu=no");
        publish_machine(fixture, "cccccccccccccccccccccccccccccccc", "gamma", "gpu=yes");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/a.service", "", NULL), 404);
        assert_int_equal(put_unit(fixture, "a.service",
                                  "{\"text\":\"[Service]\\nExecStart=/bin/"
                                  "true\\n[X-Fleet]\\nMachineMetadata=gpu=yes\\n\","
                                  "\"desiredState\":\"launched\"}"),
                         201);
        assert_int_equal(put_unit(fixture, "idle.service", unit), 201);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/a.service", "", NULL), 200);
        assert_int_equal(json_value_parse(body_of(fixture), strlen(body_of(fixture)), &root, NULL), 0);
        m = item_of(root, "machines", "hostname", "beta");
        assert_string_equal(text_of(m, "rule"), "MachineMetadata");
        assert_string_equal(text_of(m, "reason"), "MachineMetadata=gpu=yes, and it has gpu=no");
        m = item_of(root, "machines", "hostname", "gamma");
        assert_non_null(json_value_member(m, "fits"));
        assert_non_null(json_value_member(m, "chosen"));
        assert_string_equal(text_of(root, "reason"),
                            "about to be assigned: gamma was the only machine that qualified");

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/idle.service", "", NULL), 200);
        assert_says(fixture, "its target state is inactive");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/why/a.service", JSON, "{}"), 405);
}

static KvStatus adopting_status;

static void on_adopting_set(void *userdata, const KvResult *result) {
        adopting_status = result->status;
}

static bool is_unreadable(Fixture *fixture, const char *unit) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(fixture->host->registry), unit);

        return u && cluster_unit_is_unreadable(u);
}

/* As a host of a later version would have written it. */
static void a_unit_that_cannot_be_read_is_listed_with_the_reason_and_not_changed(void **state) {
        static const char unit[] = "{" OPTIONS_OF("/bin/true") ",\"desiredState\":\"launched\"}";
        const KvCommand text = { .op = KV_SET,
                                 .internal = true,
                                 .key = kv_string("/_fleet/unit/a.service"),
                                 .value = kv_string("{}") };
        const KvCommand target = { .op = KV_SET,
                                   .internal = true,
                                   .key = kv_string("/_fleet/target/b.service"),
                                   .value = kv_string("paused") };
        Fixture *fixture = *state;
        uint64_t number;

        publish_machine(fixture, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "beta", "");
        assert_int_equal(put_unit(fixture, "a.service", unit), 201);
        assert_int_equal(put_unit(fixture, "b.service", unit), 201);
        assert_int_equal(kv_propose(fixture->host->store, &text, on_adopting_set, NULL, &number), 0);
        assert_int_equal(kv_propose(fixture->host->store, &target, on_adopting_set, NULL, &number), 0);
        HOST_UNTIL(fixture->host, is_unreadable(fixture, "a.service") && is_unreadable(fixture, "b.service"));

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_says(fixture, "\"name\":\"a.service\",\"reason\":\"left as it is: " CLUSTER_UNREADABLE "\"");
        assert_says(fixture, "\"name\":\"b.service\"");
        assert_null(strstr(fixture->answer, "desiredState\":\"inactive"));
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units/a.service", "", NULL), 200);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/a.service", "", NULL), 200);
        assert_says(fixture, "\"reason\":\"left as it is: " CLUSTER_UNREADABLE "\"");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/b.service", "", NULL), 200);
        assert_says(fixture, "\"reason\":\"left as it is: " CLUSTER_UNREADABLE "\"");

        assert_int_equal(put_unit(fixture, "a.service", unit), 409);
        assert_says(fixture, CLUSTER_UNREADABLE);
        assert_int_equal(put_unit(fixture, "b.service", "{\"desiredState\":\"loaded\"}"), 409);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 409);
        assert_says(fixture, CLUSTER_UNREADABLE);
}

/* Units are told as the engine judges them: what has finished is not moved, and a name that is taken is no
 * free place. */
static void why_reports_finished_units_and_conflicting_names(void **state) {
        static const char alpha[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                          beta[] = "cccccccccccccccccccccccccccccccc";
        static const char unit[] = "{" OPTIONS_OF("/bin/true") ",\"desiredState\":\"launched\"}";
        Fixture *fixture = *state;
        Registry *r = fixture->host->registry;
        _cleanup_json_ JsonValue *root = NULL;
        PresenceChange lost = { .presence = PRESENCE_LOST };
        char order[96], done[96], taken[96];
        uint64_t number;

        publish_machine(fixture, alpha, "beta", "");
        publish_machine(fixture, beta, "gamma", "");
        assert_int_equal(put_unit(fixture, "once.service", unit), 201);
        assert_int_equal(put_unit(fixture, "named.service", unit), 201);
        snprintf(order, sizeof(order), "/_fleet/machine/%s/unit/once.service", alpha);
        snprintf(done, sizeof(done), "/_fleet/state/once.service/%s", alpha);
        snprintf(taken, sizeof(taken), "/_fleet/state/named.service/%s", beta);

        const KvCommand writes[] = {
                { .op = KV_SET,
                  .internal = true,
                  .key = kv_string(order),
                  .value = kv_string("{\"order\":\"run\",\"reason\":\"because\"}") },
                { .op = KV_SET,
                  .internal = true,
                  .key = kv_string(done),
                  .value = kv_string(
                          "{\"load\":\"loaded\",\"active\":\"inactive\",\"sub\":\"dead\",\"done\":true}") },
                { .op = KV_SET,
                  .internal = true,
                  .key = kv_string(taken),
                  .value = kv_string("{\"load\":\"foreign\"}") },
        };
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                assert_int_equal(kv_propose(fixture->host->store, &writes[i], on_adopting_set, NULL, &number),
                                 0);
        HOST_UNTIL(fixture->host, cluster_state(registry_cluster(r), beta, "named.service"));

        snprintf(lost.machine, sizeof(lost.machine), "%s", alpha);
        lost.expected_index = cluster_machine(registry_cluster(r), alpha)->presence_index;
        assert_int_equal(
                host_wait(fixture->host, registry_presence(r, 0, &lost, 1, host_on_done, fixture->host)),
                KV_OK);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/once.service", "", NULL), 200);
        assert_says(fixture, "\"finished\":true");
        assert_says(fixture, "\"reason\":\"finished on beta: it ended successfully, and is not run again\","
                             "\"reasonKind\":\"finished\"}");

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/named.service", "", NULL), 200);
        assert_int_equal(json_value_parse(body_of(fixture), strlen(body_of(fixture)), &root, NULL), 0);
        assert_non_null(json_value_member(item_of(root, "machines", "hostname", "gamma"), "foreign"));
        assert_null(json_value_member(item_of(root, "machines", "hostname", "gamma"), "fits"));
        assert_null(json_value_member(item_of(root, "machines", "hostname", "beta"), "foreign"));
}

static void a_plan_reports_the_placement_of_units_and_changes_nothing(void **state) {
/* clang-format off */
#define UNIT(name, options) \
        "{\"name\":\"" name "\",\"text\":\"[Service]\\nExecStart=/bin/true\\n[X-Fleet]\\n" options "\\n\"}"
        static const char units[] = "{\"units\":["
                UNIT("a.service", "Conflicts=b.service") ","
                UNIT("b.service", "MachineMetadata=gpu=yes") ","
                UNIT("c.service", "MachineOf=b.service") ","
                UNIT("d.service", "MachineMetadata=gpu=maybe") ","
                UNIT("g.service", "Global=true") ","
                UNIT("t@.service", "") "]}";
        static const char broken[] = "{\"units\":[" UNIT("a.service", "MachineMetadata=gpu") "]}";
        /* clang-format on */
        _cleanup_json_ JsonValue *root = NULL;
        Fixture *fixture = *state;
        uint64_t index;

        publish_machine(fixture, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "beta", "");
        publish_machine(fixture, "cccccccccccccccccccccccccccccccc", "gamma", "gpu=yes");
        index = kv_index(fixture->host->store);
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, units), 200);
        assert_int_equal(json_value_parse(body_of(fixture), strlen(body_of(fixture)), &root, NULL), 0);
        assert_string_equal(text_of(item_of(root, "units", "name", "a.service"), "hostname"), "beta");
        assert_string_equal(text_of(item_of(root, "units", "name", "b.service"), "hostname"), "gamma");
        assert_string_equal(text_of(item_of(root, "units", "name", "c.service"), "hostname"), "gamma");
        assert_string_equal(text_of(item_of(root, "units", "name", "d.service"), "action"), "wait");
        assert_string_equal(text_of(item_of(root, "units", "name", "t@.service"), "action"), "keep");
        assert_int_equal(json_value_count(json_value_member(root, "units")), 7); /* the global one twice */
        assert_int_equal(kv_index(fixture->host->store), index);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_string_equal(body_of(fixture), "{}");

        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, broken), 400);
        assert_says(fixture, "a.service: line ");
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, "[]"), 400);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/plan", "", NULL), 405);
#undef UNIT
}

static void assign(Fixture *fixture, const char *unit, const char *machine) {
        const ClusterUnit *u = cluster_unit(registry_cluster(fixture->host->registry), unit);
        AssignmentChange change = { .kind = ASSIGNMENT_RUN, .unit_index = u->index };

        snprintf(change.unit, sizeof(change.unit), "%s", unit);
        snprintf(change.machine, sizeof(change.machine), "%s", machine);
        assert_int_equal(host_wait(fixture->host, registry_assign(fixture->host->registry, 0, &change, 1,
                                                                  NULL, host_on_done, fixture->host)),
                         KV_OK);
}

static void a_plan_of_two_units_that_exchange_their_machines_moves_both(void **state) {
/* clang-format off */
#define UNIT(name, other, zone) \
        "{\"name\":\"" name "\",\"text\":\"[Service]\\nExecStart=/bin/true\\n" \
        "[X-Fleet]\\nConflicts=" other "\\nMachineMetadata=zone=" zone "\\n\"}"
        static const char units[] = "{\"units\":[" UNIT("a.service", "b.service", "c") ","
                                                 UNIT("b.service", "a.service", "b") "]}";
        static const char one[] = "{\"units\":[" UNIT("a.service", "b.service", "c") "]}";
        /* clang-format on */
        static const char beta[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                          gamma[] = "cccccccccccccccccccccccccccccccc";
        _cleanup_json_ JsonValue *root = NULL;
        Fixture *fixture = *state;

        publish_machine(fixture, beta, "beta", "zone=b");
        publish_machine(fixture, gamma, "gamma", "zone=c");
        assert_int_equal(
                put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/true") ",\"desiredState\":\"launched\"}"),
                201);
        assert_int_equal(
                put_unit(fixture, "b.service", "{" OPTIONS_OF("/bin/true") ",\"desiredState\":\"launched\"}"),
                201);
        assign(fixture, "a.service", beta);
        assign(fixture, "b.service", gamma);

        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, units), 200);
        assert_int_equal(json_value_parse(body_of(fixture), strlen(body_of(fixture)), &root, NULL), 0);
        assert_string_equal(text_of(item_of(root, "units", "name", "a.service"), "action"), "move");
        assert_string_equal(text_of(item_of(root, "units", "name", "a.service"), "hostname"), "gamma");
        assert_string_equal(
                text_of(item_of(root, "units", "name", "a.service"), "reason"),
                "beta no longer qualifies (MachineMetadata=zone=c, and it has zone=b), and no other "
                "machine is free: it stops, and starts when another unit has left; gamma was the "
                "only machine that qualified");
        assert_string_equal(text_of(item_of(root, "units", "name", "b.service"), "action"), "move");
        assert_string_equal(text_of(item_of(root, "units", "name", "b.service"), "hostname"), "beta");

        /* The other one stays: its machine is not free. */
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, one), 200);
        assert_says(fixture, "\"action\":\"stop\"");
        assert_says(fixture, "no other machine qualifies (b is on gamma)");
#undef UNIT
}

/* A new text affects its own unit alone, so that the plan of that unit is complete. */
static void a_plan_of_a_new_conflict_moves_or_stops_the_unit_with_the_new_text(void **state) {
#define GLOBAL "[X-Fleet]\\nGlobal=true\\n"
#define PLANNED(name, options) \
        "{\"units\":[{\"name\":\"" name "\",\"text\":\"[Service]\\nExecStart=/bin/a\\n" options "\"}]}"
        static const char beta[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                          gamma[] = "cccccccccccccccccccccccccccccccc";
        static const struct {
                const char *name, *options;
        } units[] = { { "a.service", "" }, { "b.service", "" }, { "node.service", GLOBAL } };
        static const struct {
                const char *plan, *says;
        } rows[] = {
                { PLANNED("a.service", "[X-Fleet]\\nConflicts=b.service\\n"),
                  "{\"units\":[{\"action\":\"move\",\"hostname\":\"gamma\"" },
                { PLANNED("b.service", "[X-Fleet]\\nConflicts=a.service\\n"),
                  "{\"units\":[{\"action\":\"move\",\"hostname\":\"gamma\"" },
                { PLANNED("a.service", "[X-Fleet]\\nConflicts=node.service\\n"),
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\"" },
                { PLANNED("a.service", "[X-Fleet]\\nConflicts=node.service\\n"),
                  "\"beta no longer qualifies (Conflicts=node.service, and node.service is there); no "
                  "other "
                  "machine qualifies (node is on gamma)\"" },
                { PLANNED("a.service", "[X-Fleet]\\nConflicts=b.service\\nMove=no\\n"),
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\"" },
                { PLANNED("a.service", "[X-Fleet]\\nConflicts=b.service\\nMove=no\\n"),
                  "and b.service is there); it waits there (Move=no)\"" },
                { PLANNED("node.service", GLOBAL "Conflicts=a.service\\n"),
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\"" },
                { PLANNED("node.service", GLOBAL "Conflicts=a.service\\n"),
                  "{\"action\":\"stay\",\"effect\":\"none\",\"hostname\":\"gamma\"" },
                { PLANNED("n.service", "[X-Fleet]\\nConflicts=node.service\\n"),
                  "{\"units\":[{\"action\":\"wait\",\"name\":\"n.service\",\"reason\":\"no machine qualifies "
                  "(node is on beta and gamma)\"" },
        };
        Fixture *fixture = *state;

        publish_machine(fixture, beta, "beta", "");
        publish_machine(fixture, gamma, "gamma", "");
        for (size_t i = 0; i < ELEMENTS(units); i++) {
                char *body = NULL;

                assert_true(
                        asprintf(&body,
                                 "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n"
                                 "%s\"}",
                                 units[i].options) > 0);
                assert_int_equal(put_unit(fixture, units[i].name, body), 201);
                free(body);
                assign(fixture, units[i].name, beta);
        }
        assign(fixture, "node.service", gamma);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, rows[i].plan), 200);
                assert_says(fixture, rows[i].says);
        }
#undef PLANNED
#undef GLOBAL
}

static void a_plan_waits_for_a_machine_that_was_lost_repeatedly(void **state) {
        static const char unit[] = "{\"units\":[{\"name\":\"a.service\",\"text\":\"[X-Fleet]\\n"
                                   "MachineMetadata=gpu=yes\\n\"}]}";
        PresenceChange change = { .machine = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" };
        Fixture *fixture = *state;

        publish_machine(fixture, change.machine, "beta", "gpu=yes");
        for (size_t i = 0; i < 4; i++) {
                change.presence = i % 2 == 0 ? PRESENCE_LOST : PRESENCE_UP;
                change.expected_index = cluster_machine(registry_cluster(fixture->host->registry),
                                                        change.machine)
                                                ->presence_index;
                assert_int_equal(
                        host_wait(fixture->host, registry_presence(fixture->host->registry, 0, &change, 1,
                                                                   host_on_done, fixture->host)),
                        KV_OK);
        }
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, unit), 200);
        assert_says(fixture, "\"action\":\"wait\"");
        assert_says(fixture, "no machine qualifies (beta");
}

/* Each copy of a template reads the instances that follow it. */
/* Each unit is compared with all that were placed before it, pattern by pattern. */
static void a_plan_that_compares_too_much_is_refused(void **state) {
        static const struct {
                size_t n_patterns;
                unsigned status;
                const char *says;
        } rows[] = {
                { 1, 200, "\"action\":\"place\"" },
                { 128, 400,
                  "\"the plan compares too much (more than 2000000 steps): plan fewer units at once\"" },
        };
        Fixture *fixture = *state;

        publish_machine(fixture, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "beta", "");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text t = {};

                for (size_t k = 0; k < 250; k++) {
                        text_printf(&t, "%s{\"name\":\"%zu.service\",\"text\":\"[X-Fleet]\\nConflicts=",
                                    k > 0 ? "," : "{\"units\":[", k);
                        for (size_t n = 0; n < rows[i].n_patterns; n++)
                                text_printf(&t, "x%zu* ", n);
                        text_append(&t, "\"}");
                }
                text_append(&t, "]}");
                assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/plan", JSON, t.chars),
                                 rows[i].status);
                assert_says(fixture, rows[i].says);
        }
}

/* One unit may have as many options as fit into its text. The texts of a batch are counted until they do not
 * fit into one transaction. */
static void the_options_in_the_texts_of_a_request_are_bounded_for_all_of_them(void **state) {
        static const struct {
                const char *target, *line;
                size_t n_lines, n;
                unsigned status;
                const char *says;
        } rows[] = {
                { "/fleet/v1/plan", "a=\n", 36000, 1, 200, "\"name\":\"0.service\"" },
                { "/fleet/v1/plan", "a=\n", 15000, 3, 400,
                  "\"2.service: the units of the request have too many options and sections (more than "
                  "45000): "
                  "send fewer units at once\"" },
                { "/fleet/v1/plan", "[S]\n", 15000, 3, 400,
                  "2.service: the units of the request have too many" },
                { "/fleet/v1/plan", "# a comment\n", 10000, 7, 200, "\"name\":\"6.service\"" },
                { "/fleet/v1/batch", "a=\n", 15000, 4, 400,
                  "2.service: the units of the request have too many" },
                { "/fleet/v1/batch", "A=a value\n", 10000, 7, 413,
                  "\"2.service: the new texts of the batch have more than 250 KiB: send fewer units at "
                  "once\"" },
                { "/fleet/v1/batch", "a=\n", 15000, 2, 204, "" },
                { "/fleet/v1/batch", "a=\n", 15000, 2, 204, "" },
                { "/fleet/v1/batch", "a=\n", 15000, 3, 400,
                  "2.service: the units of the request have too many" },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                ApiUnit units[7];
                _cleanup_text_ Text text = {}, t = {};
                char names[7][16];

                text_append(&text, "[Service]\nExecStart=/bin/a\n");
                for (size_t k = 0; k < rows[i].n_lines; k++)
                        text_append(&text, rows[i].line);
                for (size_t k = 0; k < rows[i].n; k++) {
                        snprintf(names[k], sizeof(names[k]), "%zu.service", k);
                        units[k] = API_UNIT_EMPTY;
                        units[k].name = names[k];
                        units[k].text = text.chars;
                        units[k].desired_state = TARGET_INACTIVE;
                }
                api_page_write(&t, &api_units_page, units, rows[i].n, NULL);
                assert_int_equal(ask(fixture, API_SOCKET, "POST", rows[i].target, JSON, t.chars),
                                 rows[i].status);
                assert_non_null(strstr(body_of(fixture), rows[i].says));
        }
}

/* Units of 1.25 million steps each. */
static void what_the_units_of_a_request_have_to_be_compared_is_bounded_for_all_of_them(void **state) {
        static const struct {
                const char *target;
                size_t n;
                unsigned status;
        } rows[] = {
                { "/fleet/v1/plan", 1, 200 },
                { "/fleet/v1/plan", 2, 400 },
                { "/fleet/v1/batch", 2, 400 },
                { "/fleet/v1/batch", 1, 204 },
        };
        static const char *const names[] = { "a.service", "b.service" };
        _cleanup_text_ Text text = {};
        Fixture *fixture = *state;

        text_append(&text, "[X-Fleet]\n");
        for (size_t i = 0; i < 500; i++)
                text_printf(&text, "MachineOf=web-%03zu\nConflicts=web-x%03zu*\n", i, i);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                ApiUnit units[2] = { API_UNIT_EMPTY, API_UNIT_EMPTY };
                _cleanup_text_ Text t = {};

                for (size_t k = 0; k < rows[i].n; k++) {
                        units[k].name = names[k];
                        units[k].text = text.chars;
                }
                api_page_write(&t, &api_units_page, units, rows[i].n, NULL);
                assert_int_equal(ask(fixture, API_SOCKET, "POST", rows[i].target, JSON, t.chars),
                                 rows[i].status);
                if (rows[i].status == 400)
                        assert_says(fixture, "\"b.service: the units of one request have too many names and "
                                             "patterns to compare");
        }
        /* A single one that needs more is rejected with that reason: fewer requests do not help. */
        for (size_t i = 1; i < 3; i++) {
                ApiUnit alone = API_UNIT_EMPTY;
                _cleanup_text_ Text t = {}, large = {};

                text_beyond_a_limit(&large, 2);
                alone.name = names[0];
                alone.text = large.chars;
                api_page_write(&t, &api_units_page, &alone, 1, NULL);
                assert_int_equal(ask(fixture, API_SOCKET, "POST", rows[i].target, JSON, t.chars), 400);
                assert_says(
                        fixture,
                        "\"a.service: MachineOf= and Conflicts= have too many names and patterns to compare");
        }
        assert_int_equal(put_text(fixture, "b.service", text.chars, TARGET_INACTIVE), 201);
}

static void the_discovery_document_names_every_method(void **state) {
        static const struct {
                const char *resource, *method, *id, *path;
        } rows[] = {
                { "Machines", "List", "fleet.Machine.List", "machines" },
                { "Units", "List", "fleet.Unit.List", "units" },
                { "Units", "Get", "fleet.Unit.Get", "units/{unitName}" },
                { "Units", "Delete", "fleet.Unit.Delete", "units/{unitName}" },
                { "Units", "Set", "fleet.Unit.Set", "units/{unitName}" },
                { "UnitState", "Get", "fleet.UnitState.Get", "state/{unitName}" },
                { "UnitState", "List", "fleet.UnitState.List", "state" },
        };
        static const char *const schemas[] = { "Machine",  "MachinePage", "UnitOption",   "Unit",
                                               "UnitPage", "UnitState",   "UnitStatePage" };
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *v;
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/discovery?alt=json", "", NULL), 200);
        assert_int_equal(json_value_parse(body_of(fixture), strlen(body_of(fixture)), &root, NULL), 0);
        assert_string_equal(json_value_string(json_value_member(root, "id")), "fleet:v1");
        for (size_t i = 0; i < ELEMENTS(schemas); i++)
                assert_non_null(json_value_member(json_value_member(root, "schemas"), schemas[i]));
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                v = json_value_member(
                        json_value_member(json_value_member(root, "resources"), rows[i].resource), "methods");
                v = json_value_member(v, rows[i].method);
                assert_string_equal(json_value_string(json_value_member(v, "id")), rows[i].id);
                assert_string_equal(json_value_string(json_value_member(v, "path")), rows[i].path);
        }
        assert_int_equal(ask(fixture, API_SOCKET, "POST", "/fleet/v1/discovery", JSON, "{}"), 400);
        assert_says(fixture, "only HTTP GET supported against this resource");
}

static void a_method_that_a_resource_does_not_know_is_405(void **state) {
        static const char *const rows[][2] = {
                { "POST", "/fleet/v1/units" },           { "DELETE", "/fleet/v1/units" },
                { "POST", "/fleet/v1/units/a.service" }, { "PUT", "/fleet/v1/state" },
                { "PUT", "/fleet/v1/cluster" },          { "DELETE", "/fleet/v1/machines" },
                { "POST", "/fleet/v1/events" },          { "GET", "/fleet/v1" },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(ask(fixture, API_SOCKET, rows[i][0], rows[i][1], JSON, "{}"), 405);
}

/* -- Events -- */

/* Reads until 'end' has come. */
static void read_until(Fixture *fixture, int fd, Text *t, const char *end) {
        for (bool is_so = false; !is_so;) {
                char bytes[4096];
                ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

                if (n > 0)
                        text_append_bytes(t, bytes, (size_t) n);
                is_so = t->chars && strstr(t->chars, end);
                if (!is_so && n <= 0)
                        host_turn(fixture->host);
        }
}

static void events_with_details_begin_in_the_past_and_continue(void **state) {
        static const char request[] =
                "GET /fleet/v1/events?details=true&after=0 HTTP/1.1\r\nHost: fleet\r\n\r\n";
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -1;
        _cleanup_text_ Text t = {};
        Fixture *fixture = *state;
        Host *h = fixture->host;
        const char *at;
        char mark[32];

        host_machine(h);
        host_unit(h, "a.service", "[Service]\nExecStart=/bin/true\n", TARGET_LOADED);
        host_unit(h, "a.service", "[Service]\nExecStart=/bin/true\n", TARGET_LAUNCHED);
        host_order(h, "a.service", ASSIGNMENT_RUN);
        snprintf(a.sun_path, sizeof(a.sun_path), "%s", fixture->socket);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));

        /* A line of its own marks the end of past events. */
        snprintf(mark, sizeof(mark), "{\"index\":%llu}", (unsigned long long) kv_index(h->store));
        read_until(fixture, fd, &t, mark);
        at = strstr(t.chars, "\"kind\":\"machine\",");
        assert_non_null(at);
        assert_non_null(strstr(at, "\"hostname\":\"alpha\",\"version\":"));
        at = strstr(t.chars, "\"kind\":\"unit\",\"name\":\"a.service\",\"time\":");
        assert_non_null(at);
        at = strstr(at, "\"value\":\"launched\",\"was\":{\"value\":\"loaded\"}");
        assert_non_null(at);
        at = strstr(at, "\"kind\":\"order\",\"machine\":\"");
        assert_non_null(at);
        assert_non_null(strstr(at, "\"order\":\"run\",\"reason\":"));
        assert_null(strstr(t.chars, "ExecStart"));

        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 204);
        read_until(fixture, fd, &t, "\"kind\":\"unit\",\"name\":\"a.service\",\"removed\":true");

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/events?after=1", "", NULL), 400);
        assert_says(fixture, "after: only with details=true");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/events?details=maybe", "", NULL), 400);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/events?detail=true", "", NULL), 400);
        assert_says(fixture, "detail: expected details=BOOL, and with it after=INDEX");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/events?details=true", "", NULL), 403);
}

/* -- Pages -- */

static void page_tokens_are_those_of_fleet(void **state) {
        static const struct {
                const char *token;
                unsigned status;
                const char *says;
        } rows[] = {
                { "ZAACAA==", 200, "{}" }, /* page 2 of 100 */
                { "LQAJAA==", 400, "token limit must be 100" },
                { "EwBMLg==", 400, "token limit must be 100" },
                { "_wMAAA==", 400, "token limit must be 100" },
                { "ZAAAAA==", 400, "token page must be greater than zero" },
                { "ZAACAAAA", 200, "{}" },
                { "", 400, "EOF" },
                { "ZAA=", 400, "unexpected EOF" },
                { "!", 400, "illegal base64 data at input byte 0" },
                { "ZAACAA==&nextPageToken=ZAACAA==", 400, "too many values for page token" },
        };
        static const char *const collections[] = { "units", "state", "machines" };
        Fixture *fixture = *state;
        char target[128];

        for (size_t c = 0; c < ELEMENTS(collections); c++)
                for (size_t i = 0; i < ELEMENTS(rows); i++) {
                        snprintf(target, sizeof(target), "/fleet/v1/%s?nextPageToken=%s", collections[c],
                                 rows[i].token);
                        assert_int_equal(ask(fixture, API_SOCKET, "GET", target, "", NULL), rows[i].status);
                        assert_says(fixture, rows[i].says);
                }
}

static void a_hundred_units_are_a_page_and_the_next_one_has_the_rest(void **state) {
        Fixture *fixture = *state;
        UnitChange changes[101];
        Unit *units[101];
        char name[32];

        for (unsigned i = 0; i < 101; i++) {
                snprintf(name, sizeof(name), "u%03u.service", i);
                assert_int_equal(unit_parse(name, "[Service]\nExecStart=/bin/true\n", 30, &units[i], NULL),
                                 0);
                changes[i] = (UnitChange) { .unit = units[i] };
        }
        assert_int_equal(host_wait(fixture->host, registry_change_units(fixture->host->registry, changes, 50,
                                                                        host_on_done, fixture->host)),
                         KV_OK);
        assert_int_equal(host_wait(fixture->host, registry_change_units(fixture->host->registry, changes + 50,
                                                                        51, host_on_done, fixture->host)),
                         KV_OK);
        for (unsigned i = 0; i < 101; i++)
                unit_free(units[i]);

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_says(fixture, "\"nextPageToken\":\"ZAACAA==\"");
        assert_says(fixture, "u099.service");
        assert_null(strstr(fixture->answer, "u100.service"));
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units?nextPageToken=ZAACAA==", "", NULL),
                         200);
        assert_says(fixture, "u100.service");
        assert_null(strstr(fixture->answer, "u099.service"));
        assert_null(strstr(fixture->answer, "nextPageToken"));
}

static void twelve_units(Fixture *fixture, const char *text) {
        char name[32];

        for (unsigned i = 0; i < 12; i++) {
                snprintf(name, sizeof(name), "u%02u.service", i);
                host_unit(fixture->host, name, text, TARGET_INACTIVE);
        }
}

static void a_page_of_large_units_ends_early_and_the_next_one_begins_there(void **state) {
        Fixture *fixture = *state;
        char text[120001];

        for (size_t i = 0; i < sizeof(text) - 1; i++)
                text[i] = i % 100 == 99 ? '\n' : '#';
        text[sizeof(text) - 1] = 0;
        memcpy(text, "[Service]\nExecStart=/bin/true\n", 30);
        twelve_units(fixture, text);

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
        assert_says(fixture,
                    "\"nextPageToken\":\"ZAACAAkAAAA=\""); /* page 2 of 100, from the tenth unit on */
        assert_says(fixture, "u08.service");
        assert_null(strstr(fixture->answer, "u09.service"));

        /* No text of a page before moves it. */
        host_unit(fixture->host, "u00.service", "[Service]\nExecStart=/bin/true\n", TARGET_INACTIVE);
        assert_int_equal(
                ask(fixture, API_SOCKET, "GET", "/fleet/v1/units?nextPageToken=ZAACAAkAAAA=", "", NULL), 200);
        assert_says(fixture, "u09.service");
        assert_says(fixture, "u11.service");
        assert_null(strstr(fixture->answer, "u08.service"));
        assert_null(strstr(fixture->answer, "nextPageToken"));
        assert_int_equal(
                ask(fixture, API_SOCKET, "GET", "/fleet/v1/units?nextPageToken=ZAADAP____8=", "", NULL), 200);
        assert_null(strstr(fixture->answer, "service"));
}

/* '<' takes six bytes in JSON, and each option bears the name of its section. */
static void a_page_ends_by_its_size_as_json(void **state) {
        Fixture *fixture = *state;
        char angles[1001] = {};

        memset(angles, '<', sizeof(angles) - 1);
        for (unsigned sections = 0; sections < 2; sections++) {
                _cleanup_text_ Text t = {};

                text_append(&t, "[Service]\nExecStart=/bin/true\n");
                if (sections)
                        text_printf(&t, "[X-%s]\n", angles);
                for (unsigned i = 0; i < (sections ? 120 : 30); i++)
                        text_printf(&t, sections ? "a=b\n" : "#%s\n", angles);
                twelve_units(fixture, t.chars);
                assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 200);
                assert_in_range(strlen(fixture->answer), 1 << 20, 2 << 20);
        }
}

/* Of units that have no machine yet, whose names are long to compare with the patterns of all. */
static void a_page_ends_where_its_reasons_are_much_work(void **state) {
        char name[256], as[121] = {}, bs[61] = {};
        Fixture *fixture = *state;
        unsigned n_pages = 0, n = 0;

        host_machine(fixture->host);
        memset(as, 'a', sizeof(as) - 1);
        memset(bs, 'a', sizeof(bs) - 1);
        for (unsigned i = 0; i < 20; i++) {
                _cleanup_text_ Text t = {};

                text_append(&t, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n");
                for (unsigned k = 0; k < 40; k++)
                        text_printf(&t, "Conflicts=*%s%u-%u\n", bs, i, k);
                snprintf(name, sizeof(name), "%s%02u.service", as, i);
                host_unit(fixture->host, name, t.chars, TARGET_LAUNCHED);
        }
        snprintf(name, sizeof(name), "/fleet/v1/units");
        for (const char *token = name; token; n_pages++) {
                assert_int_equal(ask(fixture, API_SOCKET, "GET", name, "", NULL), 200);
                for (const char *at = fixture->answer; (at = strstr(at, "\"name\":\"a")); at++)
                        n++;
                token = strstr(fixture->answer, "\"nextPageToken\":\"");
                if (token)
                        snprintf(name, sizeof(name), "/fleet/v1/units?nextPageToken=%.12s",
                                 token + strlen("\"nextPageToken\":\""));
        }
        assert_int_equal(n, 20);
        assert_in_range(n_pages, 3, 19);
}

/* -- Without a quorum -- */

static void a_host_without_a_cluster_has_its_own_units(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/local", "", NULL), 200);
        assert_non_null(strstr(body_of(fixture), "\"machines\":[{\"hostname\":\"alpha\","));
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/state", "", NULL), 503);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/local", "", NULL), 403);
}

static void a_host_without_a_cluster_reports_so_on_every_path(void **state) {
        static const char *const paths[] = { "/", "/x", "/fleet/v1", "/fleet/v1/cluster" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                assert_int_equal(ask(fixture, API_SOCKET, "GET", paths[i], "", NULL), 503);
                assert_string_equal(
                        body_of(fixture),
                        "{\"error\":{\"code\":503,\"message\":\"fleet server unable to communicate with "
                        "etcd\",\"cause\":\"this host waits for admission to a cluster; no host of Join= has "
                        "admitted or rejected it yet: start one of them, or join by a token with fleetctl "
                        "join\"}}");
                assert_null(strstr(fixture->answer, "Server:"));
        }
}

static void a_joining_host_reports_that_it_has_no_tree_and_no_key_as_missing(void **state) {
        static const char *const paths[] = { "/v2/keys/", "/v2/keys/a", "/v2/keys/a?wait=true",
                                             "/fleet/v1/kv/list", "/fleet/v1/kv/value/a" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                assert_int_equal(ask(fixture, API_LOOPBACK, "GET", paths[i], "", NULL),
                                 starts_with(paths[i], "/v2/") ? 500 : 503);
                assert_says(fixture, "no state of a cluster yet: this host waits for admission to a cluster "
                                     "(journalctl -u fleetd)");
        }
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 503);
        assert_says(fixture, "no state of a cluster yet: this host waits for admission to a cluster");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/version", "", NULL), 200);
}

static void without_a_quorum_writes_say_so_and_reads_answer(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a", FORM, "value=1"), 500);
        assert_says(fixture, "\"errorCode\":300");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a?quorum=true", "", NULL), 500);
        assert_says(fixture, "\"errorCode\":300");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", "", NULL), 404);
        assert_says(fixture, "\"errorCode\":100");
        assert_int_equal(ask(fixture, API_LOOPBACK, "POST", "/fleet/v1/kv/txn", JSON,
                             "{\"checks\":[{\"key\":\"/a\",\"exists\":true}]}"),
                         503);
        assert_says(fixture, "nothing has changed");
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/fleet/v1/kv/value/a", "", "1"), 503);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/kv/value/a?quorum=true", "", NULL),
                         503);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/kv/list?quorum=true", "", NULL), 503);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/fleet/v1/kv/list", "", NULL), 200);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/health", "", NULL), 503);
        assert_says(fixture, "{\"health\":\"false\",\"reason\":\"");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/members/leader", "", NULL), 503);
        assert_int_equal(put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/true") "}"), 503);
        assert_says(fixture, "{\"error\":{\"code\":503,");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 503);
}

static void a_member_without_a_member_key_is_named_by_its_address(void **state) {
        Fixture *fixture = *state;
        KvState now;

        assert_int_equal(kv_member_add(fixture->host->store, 2, "10.0.0.2:2380"), 0);
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.n_members == 2));
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_says(fixture, "{\"address\":\"10.0.0.2:2380\",\"name\":\"10.0.0.2:2380\",");
}

static void collect_requested(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (strstr(message, " requested a change of "))
                text_printf(userdata, "%s %s\n", fields->unit ?: fields->machine, message);
}

static void collect_begin(Text *requested) {
        log_set_sink(collect_requested, requested);
        log_set_max_priority(LOG_INFO);
}

static void collect_end(void) {
        log_set_sink(NULL, NULL);
        log_set_max_priority(LOG_EMERG);
}

/* The history ends at a restore: the journal has the users, too. */
static void the_user_of_a_change_is_in_the_journal(void **state) {
        Fixture *fixture = *state;
        _cleanup_text_ Text requested = {};

        host_raise(fixture->host, KV_LEVEL_REVISIONS);
        collect_begin(&requested);
        assert_int_equal(
                put_unit(fixture, "a.service", "{\"desiredState\":\"launched\"," OPTIONS_OF("/bin/true") "}"),
                201);
        assert_int_equal(put_unit(fixture, "a.service", "{\"desiredState\":\"loaded\"}"), 204);
        assert_int_equal(
                put_unit(fixture, "a.service", "{\"desiredState\":\"loaded\"," OPTIONS_OF("/bin/false") "}"),
                201);
        assert_int_equal(
                put_unit(fixture, "a.service", "{\"desiredState\":\"loaded\"," OPTIONS_OF("/bin/true") "}"),
                201);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 204);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL), 404);
        collect_end();
        assert_string_equal(
                requested.chars,
                "a.service root@alpha requested a change of a.service: new text, target state launched; "
                "done\n"
                "a.service root@alpha requested a change of a.service: target state loaded; done\n"
                "a.service root@alpha requested a change of a.service: new text, target state loaded; done\n"
                "a.service root@alpha requested a change of a.service: return to revision 1, target state "
                "loaded; done\n"
                "a.service root@alpha requested a change of a.service: removal; done\n");
}

/* The fate of the next proposals; NULL: that of the store. 'status' KV_OK: no answer comes. */
typedef struct Fate {
        KvResult result;
        KvDone done;
        void *userdata;
        Deferred answer;
} Fate;

static Fate *fate;

static void fate_answer(void *userdata) {
        Fate *f = userdata;

        f->done(f->userdata, &f->result);
}

int __real_kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata,
                      uint64_t *ret_number);
int __wrap_kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata,
                      uint64_t *ret_number);
int __wrap_kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata,
                      uint64_t *ret_number) {
        if (!fate)
                return __real_kv_propose(store, cmd, done, userdata, ret_number);
        fate->done = done;
        fate->userdata = userdata;
        fate->answer.run = fate_answer;
        fate->answer.userdata = fate;
        if (fate->result.status != KV_OK)
                loop_defer(store->loop, &fate->answer);
        *ret_number = UINT64_MAX;
        return 0;
}

/* A change of a unit, and one of a machine. */
static void a_change_that_fails_is_in_the_journal_with_its_outcome(void **state) {
        static const struct {
                KvStatus status;
                const char *cause;
                unsigned answer;
                const char *outcome;
        } rows[] = {
                { KV_NO_LEADER, "no leader: 1 of 3 voters reachable; reads still work", 503,
                  "rejected: no leader: 1 of 3 voters reachable; reads still work" },
                { KV_UNKNOWN, "", 504,
                  "outcome unknown: the leader was lost: the change may have taken effect, or may still do "
                  "so" },
        };
        Fixture *fixture = *state;

        assert_int_equal(put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/true") "}"), 201);
        publish_machine(fixture, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "beta", "zone=a");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Fate given = { .result = { .status = rows[i].status, .cause = kv_string(rows[i].cause) } };
                _cleanup_text_ Text requested = {}, expected = {};

                collect_begin(&requested);
                fate = &given;
                assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/units/a.service", "", NULL),
                                 rows[i].answer);
                assert_int_equal(ask(fixture, API_SOCKET, "PATCH", "/fleet/v1/machines", "",
                                     "[{\"op\":\"add\",\"path\":\"/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/metadata/"
                                     "gpu\",\"value\":\"yes\"}]"),
                                 rows[i].answer);
                fate = NULL;
                collect_end();
                text_printf(&expected,
                            "a.service root@alpha requested a change of a.service: removal; %s\n"
                            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb root@alpha requested a change of the metadata "
                            "of beta: gpu=yes; %s\n",
                            rows[i].outcome, rows[i].outcome);
                assert_string_equal(requested.chars, expected.chars);
        }
}

static void a_change_whose_connection_ends_first_is_in_the_journal(void **state) {
        static const char request[] = "DELETE /fleet/v1/units/a.service HTTP/1.1\r\nHost: fleet\r\n\r\n";
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        Fixture *fixture = *state;
        _cleanup_text_ Text requested = {};
        Fate given = {};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(put_unit(fixture, "a.service", "{" OPTIONS_OF("/bin/true") "}"), 201);
        snprintf(a.sun_path, sizeof(a.sun_path), "%s", fixture->socket);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        collect_begin(&requested);
        fate = &given;
        HOST_UNTIL(fixture->host, given.done);
        assert_null(requested.chars);
        fixture->api = api_free(fixture->api);
        close(fd);
        fate = NULL;
        collect_end();
        assert_string_equal(
                requested.chars,
                "a.service root@alpha requested a change of a.service: removal; outcome unknown: the "
                "connection of the client ended first\n");
}

/* The leader is still known, and still leads by its own account: another voter has gone. */
static void health_is_confirmed_by_a_majority(void **state) {
        Fixture *fixture = *state;
        RaftServer *other;
        KvState now;

        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/health", "", NULL), 200);
        assert_string_equal(body_of(fixture), "{\"health\":\"true\"}");
        assert_int_equal(kv_member_add(fixture->host->store, 2, "10.0.0.2:2380"), 0);
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.n_members == 2));

        other = &((RaftServers *) raft_core_servers(replica_core(fixture->host->store->replica)))->items[1];
        other->role = RAFT_ROLE_VOTER;
        kv_state(fixture->host->store, &now);
        assert_true(now.ready);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/health", "", NULL), 503);
        assert_string_equal(body_of(fixture),
                            "{\"health\":\"false\",\"reason\":\"no majority of the voters answers\"}");

        other->role = RAFT_ROLE_STANDBY;
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/health", "", NULL), 200);
}

/* -- What etcd's clients ask beside the keys -- */

static void statistics_count_what_users_did_and_not_what_we_did(void **state) {
        Fixture *fixture = *state;
        KvCounts now;

        host_unit(fixture->host, "a.service", "[Service]\nExecStart=/bin/true\n", TARGET_INACTIVE);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/stats/store", "", NULL), 200);
        assert_string_equal(body_of(fixture),
                            "{\"getsSuccess\":0,\"getsFail\":0,\"setsSuccess\":0,\"setsFail\":"
                            "0,\"deleteSuccess\":0,\"deleteFail\":0,"
                            "\"updateSuccess\":0,\"updateFail\":0,\"createSuccess\":0,"
                            "\"createFail\":0,\"compareAndSwapSuccess\":0,"
                            "\"compareAndSwapFail\":0,\"compareAndDeleteSuccess\":0,"
                            "\"compareAndDeleteFail\":0,\"expireCount\":0,\"watchers\":0}");

        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a", FORM, "value=1"), 201);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a/b", FORM, "value=1"), 400);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a?prevExist=false", FORM, "value=1"),
                         412);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a?prevExist=true", FORM, "value=2"),
                         200);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a?prevValue=1", FORM, "value=3"), 412);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/a?prevValue=2", FORM, "value=3"), 200);
        assert_int_equal(ask(fixture, API_LOOPBACK, "DELETE", "/v2/keys/a?prevValue=1", "", NULL), 412);
        assert_int_equal(ask(fixture, API_LOOPBACK, "DELETE", "/v2/keys/b", "", NULL), 404);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/a", "", NULL), 200);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/b", "", NULL), 404);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/v2/keys/t?ttl=0", FORM, "value=1"), 201);
        HOST_UNTIL(fixture->host, (kv_counts(fixture->host->store, &now), now.done[KV_ACTION_EXPIRE] > 0));
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/stats/store", "", NULL), 200);
        assert_says(fixture, "\"getsSuccess\":1,\"getsFail\":1,");
        assert_says(
                fixture,
                "\"setsSuccess\":2,\"setsFail\":1,\"deleteSuccess\":0,\"deleteFail\":1,\"updateSuccess\":1,"
                "\"updateFail\":0,"
                "\"createSuccess\":0,\"createFail\":1,\"compareAndSwapSuccess\":1,\"compareAndSwapFail\":1,"
                "\"compareAndDeleteSuccess\":0,\"compareAndDeleteFail\":1,\"expireCount\":1,");
}

static void a_host_without_an_advertised_url_has_that_of_the_listener_while_it_is_up(void **state) {
        Fixture *fixture = *state;
        Registry *r = fixture->host->registry;
        MemberRecord other = { .raft_id = 2, .peer = "10.0.0.2:2380", .start_number = 1 };
        PresenceChange presence = { .machine = "00000000000000000000000000000002", .presence = PRESENCE_UP };
        char own[128];
        KvState now;

        assert_int_equal(host_wait(fixture->host, registry_record_start(r, presence.machine, &other,
                                                                        host_on_done, fixture->host)),
                         KV_OK);
        assert_int_equal(
                host_wait(fixture->host, registry_presence(r, 0, &presence, 1, host_on_done, fixture->host)),
                KV_OK);
        assert_int_equal(kv_member_add(fixture->host->store, 2, "10.0.0.2:2380"), 0);
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.n_members == 2));
        snprintf(own, sizeof(own), "http://%s", fixture->tcp);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/members", "", NULL), 200);
        assert_null(strstr(fixture->answer, "\"clientURLs\":[]"));
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/machines", "", NULL), 200);
        assert_string_equal(body_of(fixture), own); /* once */

        presence.presence = PRESENCE_LOST;
        presence.expected_index = cluster_machine(registry_cluster(r), presence.machine)->presence_index;
        assert_int_equal(
                host_wait(fixture->host, registry_presence(r, 0, &presence, 1, host_on_done, fixture->host)),
                KV_OK);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/members", "", NULL), 200);
        assert_says(fixture, "\"clientURLs\":[]");

        snprintf(other.client, sizeof(other.client), "http://10.0.0.2:2379"); /* with an agent or without */
        assert_int_equal(host_wait(fixture->host, registry_record_start(r, presence.machine, &other,
                                                                        host_on_done, fixture->host)),
                         KV_OK);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/members", "", NULL), 200);
        assert_says(fixture,
                    "\"peerURLs\":[\"http://10.0.0.2:2380\"],\"clientURLs\":[\"http://10.0.0.2:2379\"]");
}

static void another_hosts_url_is_the_one_it_advertises(void **state) {
        Fixture *fixture = *state;
        char own[128];
        KvState now;
        Machine other = { .id = "00000000000000000000000000000002",
                          .name = (char *) "beta",
                          .client = (char *) "http://10.0.0.2:2379",
                          .raft_id = 2 };

        /* It has published this, and is no member: no list contains it. */
        assert_int_equal(host_wait(fixture->host, registry_publish_facts(fixture->host->registry, &other,
                                                                         host_on_done, fixture->host)),
                         KV_OK);
        snprintf(own, sizeof(own), "http://%s", fixture->tcp);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/machines", "", NULL), 200);
        assert_string_equal(body_of(fixture), own);

        assert_int_equal(kv_member_add(fixture->host->store, 2, "10.0.0.2:2380"), 0);
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.n_members == 2));
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/machines", "", NULL), 200);
        assert_says(fixture, ", ");
        assert_says(fixture, "http://10.0.0.2:2379");
        assert_says(fixture, own);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/members", "", NULL), 200);
        assert_says(fixture,
                    "\"peerURLs\":[\"http://10.0.0.2:2380\"],\"clientURLs\":[\"http://10.0.0.2:2379\"]");
}

static void a_body_about_members_has_a_small_limit(void **state) {
        static const struct {
                const char *method, *target, *form; /* of the answer to a longer body */
                unsigned status;                    /* of a body at the limit */
        } rows[] = {
                { "POST", "/v2/members", "{\"errorCode\":", 409 },
                { "PUT", "/v2/members/1", "{\"errorCode\":", 404 },
                { "POST", "/v2/%6dembers", "{\"message\":", 409 }, /* only the handler decodes the path */
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t more = 0; more <= 1; more++) {
                        _cleanup_text_ Text body = {};

                        text_append(&body, "{\"peerURLs\":[\"http://a:1\"]");
                        while (body.size < 16384 - 1 + more)
                                text_append_char(&body, ' ');
                        text_append_char(&body, '}');
                        assert_int_equal(
                                ask(fixture, API_LOOPBACK, rows[i].method, rows[i].target, JSON, body.chars),
                                more ? 413 : rows[i].status);
                        if (more) {
                                assert_says(fixture, rows[i].form);
                                assert_says(fixture, "the body is limited to 16 KiB");
                        }
                }
}

static void changes_of_members_name_the_command(void **state) {
        Fixture *fixture = *state;
        _cleanup_text_ Text target = {};
        const char *id;

        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/members", "", NULL), 200);
        id = strstr(body_of(fixture), "\"id\":\"");
        assert_non_null(id);
        text_printf(&target, "/v2/members/%.*s", (int) strcspn(id + 6, "\""), id + 6);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", target.chars, "", NULL), 200);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", target.chars, JSON,
                             "{\"peerURLs\":[\"http://10.0.0.9:2380\"]}"),
                         409);
        assert_int_equal(
                ask(fixture, API_LOOPBACK, "PUT", target.chars, JSON, "{\"peerURLs\":[\"10.0.0.9\"]}"), 400);
        assert_int_equal(
                ask(fixture, API_LOOPBACK, "PUT", target.chars, JSON, "{\"peerURLs\":[\"http://a:x\"]}"),
                400);
        assert_says(fixture, "invalid port");
        assert_int_equal(ask(fixture, API_LOOPBACK, "POST", "/v2/members", JSON,
                             "{\"peerURLs\":[\"http://10.0.0.9:2380\"]}"),
                         409);
        assert_says(fixture, "a host joins by a token: fleetctl token");
        assert_int_equal(ask(fixture, API_LOOPBACK, "DELETE", target.chars, "", NULL), 403);
        assert_says(fixture, "members are removed on the local socket: fleetctl remove");
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", target.chars, "", NULL), 409);
        assert_says(fixture, "is this host: fleetctl leave takes it out of the cluster");
        assert_int_equal(ask(fixture, API_LOOPBACK, "DELETE", "/v2/members", "", NULL), 405);
        assert_null(strstr(fixture->answer, "Allow:"));
        assert_says(fixture, "X-Etcd-Cluster-Id: ");
        assert_int_equal(ask(fixture, API_LOOPBACK, "PATCH", "/v2/members", "", NULL), 405);
        assert_says(fixture, "Allow: GET,POST,DELETE,PUT");
}

/* -- What is old -- */

static void without_a_leader_for_three_seconds_answers_are_marked_as_old(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *young = NULL, *missing = NULL;

        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/", "", NULL), 200);
        assert_null(strstr(fixture->answer, "X-Fleet-Stale"));
        young = strdup(body_of(fixture));
        (void) ask(fixture, API_LOOPBACK, "GET", "/v2/keys/none", "", NULL);
        missing = strdup(body_of(fixture));

        HOST_UNTIL(fixture->host, kv_stale_ms(fixture->host->store) > 0);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/", "", NULL), 200);
        assert_says(fixture, "\r\nX-Fleet-Stale: 3\r\n");
        assert_string_equal(body_of(fixture), young);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/none", "", NULL), 404);
        assert_says(fixture, "\r\nX-Fleet-Stale: 3\r\n");
        assert_string_equal(body_of(fixture), missing);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/health", "", NULL), 503);
        assert_says(fixture, "\r\nX-Fleet-Stale: 3\r\n");
        assert_says(fixture, "{\"health\":\"false\",\"reason\":\"");

        /* The units of the host itself are as its systemd has them. */
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/local", "", NULL), 200);
        assert_null(strstr(fixture->answer, "X-Fleet-Stale"));
}

static void a_host_with_a_leader_marks_no_answer_as_stale(void **state) {
        Fixture *fixture = *state;

        host_pause(fixture->host, KV_STALE_MS + 100);
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/", "", NULL), 200);
        assert_null(strstr(fixture->answer, "X-Fleet-Stale"));
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_null(strstr(fixture->answer, "X-Fleet-Stale"));
        assert_null(strstr(fixture->answer, "staleSec"));
}

static void the_feature_level_is_raised_by_order_and_never_too_far(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_says(fixture, "\"level\":1,\"levelKnown\":13");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":14}"),
                         409);
        assert_says(fixture, "this fleetd supports 13 at most");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{}"), 400);
        assert_int_equal(ask(fixture, API_LOOPBACK, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":2}"),
                         403);
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":2}"),
                         204);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_says(fixture, "\"level\":2,");
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":1}"),
                         409);
        assert_says(fixture, "does not go back");
}

/* Raise the feature level to that of the settings. */
static void raise_level(Fixture *fixture) {
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":5}"),
                         204);
}

static void settings_of_the_cluster_are_set_and_checked(void **state) {
        static const struct {
                const char *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "{", 400, "" },
                { "[]", 400, "expected an object with some of" },
                { "{}", 400, "expected an object with some of" },
                { "{\"voters\":2}", 400,
                  "voters: expected 1, 3 or 5, or 0 for automatic, not 2: an even number" },
                { "{\"voters\":4}", 400, "not 4" },
                { "{\"voters\":7}", 400, "not 7" },
                { "{\"voters\":\"3\"}", 400, "voters" },
                { "{\"name\":3}", 400, "name: expected a string" },
                { "{\"name\":\"a b\"}", 400, "name: expected letters, digits" },
                { "{\"restricted\":1}", 400, "restricted: expected true or false" },
                { "{\"restricted\":true}", 409,
                  "restricted: a restricted host needs feature level 6, and the level is 5: all hosts need "
                  "this version of fleetd; then: fleetctl cluster level 6" },
                { "{\"restricted\":false}", 204, "" },
                { "{\"sticky\":\"yes\"}", 400, "sticky: expected true or false" },
                { "{\"sticky\":false}", 409,
                  "sticky: units that stay where their data is need feature level 12, and the level is 5: "
                  "all "
                  "hosts need this version of fleetd; then: fleetctl cluster level 12" },
                { "{\"spread\":1}", 400, "spread: expected a string" },
                { "{\"spread\":\"a b\"}", 400, "spread: metadata key 'a b'" },
                { "{\"spread\":\"rack\"}", 409,
                  "spread: no host has metadata rack: set it on each host first" },
                { "{\"voters\":3,\"name\":\"prod-1\"}", 204, "" },
                { "{\"voters\":5}", 204, "" },
                { "{\"voters\":0}", 204, "" },
                { "{\"spread\":\"\"}", 204, "" },
        };
        const KvCommand later = { .op = KV_SET,
                                  .internal = true,
                                  .key = kv_string("/_fleet/cluster/settings"),
                                  .value = kv_string("{\"voters\":\"most\"}") };
        Fixture *fixture = *state;
        uint64_t number;

        assert_int_equal(
                ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/settings", JSON, "{\"voters\":3}"), 409);
        assert_says(fixture,
                    "require feature level 5, and the level is 1: all hosts need this version of fleetd");
        raise_level(fixture);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                unsigned status = ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/settings", JSON,
                                      rows[i].body);

                if (status != rows[i].status || !strstr(fixture->answer, rows[i].says))
                        fail_msg("%s: %u %s", rows[i].body, status, fixture->answer);
        }
        assert_int_equal(
                ask(fixture, API_LOOPBACK, "PUT", "/fleet/v1/cluster/settings", JSON, "{\"voters\":3}"), 403);
        HOST_UNTIL(fixture->host, cluster_settings(registry_cluster(fixture->host->registry))->voters == 0);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_says(fixture, "\"settings\":{\"name\":\"prod-1\"}");

        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":12}"),
                         204);
        for (unsigned sticky = 0; sticky < 2; sticky++) {
                assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/settings", JSON,
                                     sticky ? "{\"sticky\":true}" : "{\"sticky\":false}"),
                                 204);
                assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
                assert_says(fixture, sticky ? "\"settings\":{\"name\":\"prod-1\",\"sticky\":true}" :
                                              "\"settings\":{\"name\":\"prod-1\",\"sticky\":false}");
        }

        /* As a host of a later version would have written them. */
        assert_int_equal(kv_propose(fixture->host->store, &later, on_adopting_set, NULL, &number), 0);
        HOST_UNTIL(fixture->host,
                   cluster_has_unreadable(registry_cluster(fixture->host->registry), LAYOUT_SETTINGS));
        assert_int_equal(
                ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/settings", JSON, "{\"voters\":3}"), 409);
        assert_says(fixture, "settings of the cluster: " CLUSTER_UNREADABLE);
}

static void hosts_that_a_new_lineage_waits_for_are_listed_until_the_wait_is_ended(void **state) {
        const KvCommand begin = { .op = KV_SET,
                                  .internal = true,
                                  .key = kv_string("/_fleet/cluster/adopting"),
                                  .value = kv_string("100000000000") };
        const KvCommand namesake = {
                .op = KV_SET,
                .internal = true,
                .key = kv_string("/_fleet/cluster/member/99999999999999999999999999999999"),
                .value = kv_string("{\"name\":\"alpha\",\"peer\":\"10.0.0.9:2380\",\"raftId\":9}")
        };
        Fixture *fixture = *state;
        uint64_t number;

        host_machine(fixture->host);
        host_unit(fixture->host, "a.service", "[Service]\nExecStart=/bin/a\n", TARGET_LAUNCHED);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/cluster/adopting", "", NULL), 404);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_null(strstr(fixture->answer, "waitsFor"));

        adopting_status = KV_UNKNOWN;
        assert_int_equal(kv_propose(fixture->host->store, &begin, on_adopting_set, NULL, &number), 0);
        HOST_UNTIL(fixture->host,
                   adopting_status == KV_OK && registry_cluster(fixture->host->registry)->adopting);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_says(fixture, "\"waitsFor\":[\"alpha\"]");
        adopting_status = KV_UNKNOWN;
        assert_int_equal(kv_propose(fixture->host->store, &namesake, on_adopting_set, NULL, &number), 0);
        HOST_UNTIL(fixture->host, adopting_status == KV_OK);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/cluster", "", NULL), 200);
        assert_says(fixture, "\"alpha (");
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/why/a.service", "", NULL), 200);
        assert_says(fixture, "waiting: the cluster was recovered or restored");
        assert_says(fixture, "\"reasonKind\":\"held\"");

        assert_int_equal(ask(fixture, API_LOOPBACK, "DELETE", "/fleet/v1/cluster/adopting", "", NULL), 403);
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/adopting", JSON, "{}"), 405);
        assert_int_equal(registry_cluster(fixture->host->registry)->adopting_since_ms, 100000000000);
        assert_int_equal(ask(fixture, API_SOCKET, "DELETE", "/fleet/v1/cluster/adopting", "", NULL), 204);
        HOST_UNTIL(fixture->host, registry_cluster(fixture->host->registry)->adopting_since_ms == 0);
}

static void raising_the_level_names_the_host_that_supports_less(void **state) {
        Fixture *fixture = *state;

        host_machine(fixture->host); /* which did not say what it knows: an old one */
        assert_int_equal(ask(fixture, API_SOCKET, "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":2}"),
                         409);
        assert_says(fixture, "alpha supports 1 at most; upgrade it first");
}

static void a_host_that_was_further_answers_nothing_from_before(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/", "", NULL), 500);
        assert_says(fixture, "{\"errorCode\":300,");
        assert_says(fixture, "this host served states beyond index 0 of its tree");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/v2/keys/?wait=true", "", NULL), 500);
        assert_int_equal(ask(fixture, API_SOCKET, "GET", "/fleet/v1/units", "", NULL), 503);
        assert_says(fixture, "served states beyond");
        assert_int_equal(ask(fixture, API_LOOPBACK, "GET", "/version", "", NULL), 200);
}

int main(int argc, char *argv[]) {
#define in_a_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_a_fixture(units_are_taken_over_the_socket_only),
                in_a_fixture(health_is_confirmed_by_a_majority),
                in_a_fixture(a_member_without_a_member_key_is_named_by_its_address),
                in_a_fixture(the_user_of_a_change_is_in_the_journal),
                in_a_fixture(a_change_that_fails_is_in_the_journal_with_its_outcome),
                in_a_fixture(a_change_whose_connection_ends_first_is_in_the_journal),
                in_a_fixture(small_requests_do_not_wait_for_large_listings),
                in_a_fixture(a_large_answer_is_made_off_the_loop_and_is_whole),
                in_a_fixture(a_long_key_is_sorted_off_the_loop),
                in_a_fixture(the_third_large_answer_at_a_time_is_503_and_may_be_asked_again),
                in_a_fixture(a_large_read_ends_after_its_time),
                in_a_fixture(a_store_closes_while_large_answers_are_made),
                in_a_fixture(listings_of_large_values_share_the_work_of_a_turn),
                in_a_fixture(a_client_that_leaves_while_its_large_answer_is_made_leaves_nothing_behind),
                cmocka_unit_test_setup_teardown(
                        a_client_that_leaves_while_its_quorum_read_waits_is_not_answered, lonely_setup,
                        fixture_teardown),
                in_a_fixture(a_unit_that_another_host_has_accepted_is_found_on_a_host_that_lags),
                in_a_fixture(beyond_a_limit_each_listener_answers_in_its_own_form),
                in_a_fixture(a_path_without_a_route_is_not_found_on_either_listener),
                in_a_fixture(a_list_of_units_may_be_without_their_texts),
                in_a_fixture(the_socket_answers_as_fleets_server),
                in_a_fixture(a_nul_does_not_end_the_text_of_a_client),
                in_a_fixture(a_fixed_page_is_as_long_as_its_text),
                in_a_fixture(a_web_page_cannot_use_a_browser_to_send_requests),
                in_a_fixture(a_read_only_listener_takes_no_writes),
                in_a_fixture(a_second_listener_on_the_same_address_is_rejected_with_a_message),
                in_a_fixture(the_registry_is_not_seen_over_tcp),
                in_a_fixture(the_registry_is_not_written_over_tcp),
                in_a_fixture(the_kv_api_is_on_both_listeners_with_the_rights_of_v2),
                in_a_fixture(keys_that_a_unit_reads_are_not_written_by_anonymous_clients),
                in_a_fixture(a_body_that_is_not_declared_as_json_is_415),
                in_a_fixture(a_broken_body_is_400_with_its_reason),
                in_a_fixture(a_bad_name_is_400_and_what_is_no_name_404),
                in_a_fixture(a_unit_is_created_replaced_wanted_and_destroyed),
                in_a_fixture(a_unit_that_an_older_version_stored_is_started_with_its_own_text),
                in_a_fixture(a_template_is_kept_but_not_launched),
                in_a_fixture(what_a_folder_owns_is_changed_in_the_folder),
                in_a_fixture(a_machines_metadata_are_patched),
                in_a_fixture(the_keys_of_a_patch_are_counted_for_each_machine),
                in_a_fixture(a_patch_reads_each_of_its_operations_once),
                in_a_fixture(a_batch_is_one_transaction),
                in_a_fixture(a_unit_that_cannot_be_read_is_listed_with_the_reason_and_not_changed),
                in_a_fixture(why_reports_finished_units_and_conflicting_names),
                in_a_fixture(why_names_the_rule_that_excluded_each_machine),
                in_a_fixture(a_plan_reports_the_placement_of_units_and_changes_nothing),
                in_a_fixture(a_plan_of_two_units_that_exchange_their_machines_moves_both),
                in_a_fixture(a_plan_of_a_new_conflict_moves_or_stops_the_unit_with_the_new_text),
                in_a_fixture(a_plan_waits_for_a_machine_that_was_lost_repeatedly),
                in_a_fixture(a_plan_that_compares_too_much_is_refused),
                in_a_fixture(the_options_in_the_texts_of_a_request_are_bounded_for_all_of_them),
                in_a_fixture(what_the_units_of_a_request_have_to_be_compared_is_bounded_for_all_of_them),
                in_a_fixture(the_discovery_document_names_every_method),
                in_a_fixture(a_method_that_a_resource_does_not_know_is_405),
                in_a_fixture(a_body_of_too_much_is_refused_unread),
                in_a_fixture(events_with_details_begin_in_the_past_and_continue),
                in_a_fixture(page_tokens_are_those_of_fleet),
                in_a_fixture(a_hundred_units_are_a_page_and_the_next_one_has_the_rest),
                in_a_fixture(a_page_of_large_units_ends_early_and_the_next_one_begins_there),
                in_a_fixture(a_page_ends_by_its_size_as_json),
                in_a_fixture(a_page_ends_where_its_reasons_are_much_work),
                in_a_fixture(statistics_count_what_users_did_and_not_what_we_did),
                in_a_fixture(a_host_without_an_advertised_url_has_that_of_the_listener_while_it_is_up),
                in_a_fixture(another_hosts_url_is_the_one_it_advertises),
                in_a_fixture(a_body_about_members_has_a_small_limit),
                in_a_fixture(changes_of_members_name_the_command),
                cmocka_unit_test_setup_teardown(a_host_without_a_cluster_has_its_own_units, joining_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_host_without_a_cluster_reports_so_on_every_path,
                                                joining_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        a_joining_host_reports_that_it_has_no_tree_and_no_key_as_missing, joining_setup,
                        fixture_teardown),
                cmocka_unit_test_setup_teardown(without_a_quorum_writes_say_so_and_reads_answer, lonely_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(without_a_leader_for_three_seconds_answers_are_marked_as_old,
                                                lonely_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_host_with_a_leader_marks_no_answer_as_stale, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(the_feature_level_is_raised_by_order_and_never_too_far,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(settings_of_the_cluster_are_set_and_checked, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        hosts_that_a_new_lineage_waits_for_are_listed_until_the_wait_is_ended, fixture_setup,
                        fixture_teardown),
                cmocka_unit_test_setup_teardown(raising_the_level_names_the_host_that_supports_less,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_host_that_was_further_answers_nothing_from_before,
                                                fallen_setup, fixture_teardown),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
