/* The APIs answer by answer: for each request its status, every field and the whole body, in tables. */
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "tests/lib/test.h"
#include "fleetd/api/cluster_v2.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/daemon_internal.h"
#include "fleetd/metrics_table.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/store_inside.h"

typedef struct Fixture {
        Host *host;
        Api *api;
        char *socket, tcp[64];
        uint64_t base; /* the index at which the test began */
        char *answer;  /* the last one, whole */
        char *body;    /* of the last row of play(), in 'answer' */
} Fixture;

/* While 'figures_wait', each scrape waits for a post of 'figures_go'. */
static bool figures_wait;
static sem_t figures_go;
static unsigned n_begun;

static void complete_figures(MetricsScrape *scrape) {
        if (figures_wait)
                assert_int_equal(sem_wait(&figures_go), 0);
        text_append(&scrape->text, scrape->form == METRICS_OPENMETRICS ? "# EOF\n" : "fleetd_figure 2\n");
}

static int begin_figures(const ComponentHost *host, MetricsForm form, MetricsScrape **ret) {
        n_begun++;
        *ret = NEW0(MetricsScrape, 1);
        (*ret)->form = form;
        (*ret)->complete = complete_figures;
        text_append(&(*ret)->text, "fleetd_figure 1\n");
        return 0;
}

enum { BRAKE_MS = 40000 };

static uint64_t brake_now_ms = BRAKE_MS;

uint64_t __wrap_engine_brake(const Engine *e);
uint64_t __wrap_engine_brake(const Engine *e) {
        return brake_now_ms;
}

void __wrap_agent_each_unit(const Agent *agent, void (*each)(void *userdata, const SystemdUnit *unit),
                            void *userdata);
void __wrap_agent_each_unit(const Agent *agent, void (*each)(void *userdata, const SystemdUnit *unit),
                            void *userdata) {
        static const SystemdUnit units[] = {
                { .name = "b.service", .load = "loaded", .active = "failed", .sub = "failed", .hash = "11" },
                { .name = "a.service", .load = "loaded", .active = "active", .sub = "running" },
        };

        for (size_t i = 0; i < ELEMENTS(units); i++)
                each(userdata, &units[i]);
}

static const Component *const components[] = { &data_component,
                                               &rebalance_component,
                                               &reboot_component,
                                               &replicas_component,
                                               &rollout_component,
                                               &services_component,
                                               NULL };

static void fixture_open(Fixture *fixture, const ApiLimits *limits) {
        ComponentHost *host = &fixture->host->components;
        Error err = {};

        host->components = components;
        host->engine = (Engine *) fixture; /* their functions are played */
        host->agent = (Agent *) fixture;
        host->metrics = begin_figures;
        fixture->host->settings.limits = limits ? *limits : api_limits_default;
        fixture->api = api_free(fixture->api);
        assert_int_equal(api_new(&fixture->api, host), 0);
        snprintf(fixture->tcp, sizeof(fixture->tcp), "127.0.0.1:%d", scratch_port());
        if (api_listen(fixture->api, API_SOCKET, fixture->socket, &err) < 0 ||
            api_listen(fixture->api, API_LOOPBACK, fixture->tcp, &err) < 0)
                fail_msg("%s", err.message);
        fixture->base = kv_index(fixture->host->store);
}

static Fixture *fixture_new(bool joins) {
        Fixture *fixture = NEW0(Fixture, 1);

        fixture->host = host_new(joins);
        fixture->socket = scratch_path(fixture->host->scratch, "socket");
        fixture_open(fixture, NULL);
        return fixture;
}

static int fixture_setup(void **state) {
        *state = fixture_new(false);
        return 0;
}

/* No majority answers, and one had confirmed its tree. */
static int lonely_setup(void **state) {
        Fixture *fixture = fixture_new(true);

        assert_int_equal(read_bound_confirm(&fixture->host->store->read_bound, 0), 0);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        fixture->api = api_free(fixture->api);
        host_free(fixture->host);
        free(fixture->socket);
        free(fixture->answer);
        free(fixture);
        return 0;
}

/* -- Answers that are expected -- */

/* In what is expected these stand for what differs from run to run: "@3" for the index at which the test
 * began and 3, "#3" for it in 20 digits, "~100" for up to 60 seconds less than 100, "$A" for the address of
 * the listener, "$C" for the cluster's id, "$H" for its form with 16 digits, "$I" for this member's,
 * "$T" for the term, "$R" for an index of the log, "$S" for a number, "$D" for the time, "$E100;" for the
 * time 100 seconds from now, "$J" for words of the JSON library. */
static bool fits(const Fixture *fixture, const char *expected, const char *answer) {
        KvPosition now;
        KvState state;
        char text[64];

        kv_position(fixture->host->store, &now);
        kv_state(fixture->host->store, &state);
        while (*expected) {
                uint64_t wanted, given;
                char *end, *end_given;
                struct tm tm = {};

                if (*expected == '$' ? !strchr("ACDEHIJRSTU", expected[1]) :
                                       !strchr("@#~", *expected) || expected[1] < '0' || expected[1] > '9') {
                        if (*expected++ != *answer++)
                                return false;
                        continue;
                }
                wanted = strtoull(expected + (*expected == '$' ? 2 : 1), &end, 10);
                if (*expected == '~') {
                        given = strtoull(answer, &end_given, 10);
                        if (end_given == answer || given > wanted || given + 60 < wanted)
                                return false;
                        answer = end_given;
                } else if (starts_with(expected, "$R") || starts_with(expected, "$S")) {
                        if (strtoull(answer, &end_given, 10) >
                                    (expected[1] == 'R' ? now.raft_index : UINT64_MAX) ||
                            end_given == answer)
                                return false;
                        answer = end_given;
                } else if (starts_with(expected, "$J")) {
                        answer += strcspn(answer, "\"");
                } else if (starts_with(expected, "$D") || starts_with(expected, "$E")) {
                        const char *rest = strptime(answer, "%Y-%m-%dT%H:%M:%S", &tm);
                        int64_t due = rest ? (int64_t) timegm(&tm) - (int64_t) wanted : 0;

                        if (!rest || due > time(NULL) + 1 || due < time(NULL) - 60)
                                return false;
                        if (rest[0] == '.')
                                rest += 1 + strspn(rest + 1, "0123456789");
                        answer = rest;
                        end += *end == ';';
                } else {
                        if (*expected == '@' || *expected == '#')
                                snprintf(text, sizeof(text), *expected == '@' ? "%" PRIu64 : "%020" PRIu64,
                                         fixture->base + wanted);
                        else if (starts_with(expected, "$A"))
                                snprintf(text, sizeof(text), "%s", fixture->tcp);
                        else if (starts_with(expected, "$C"))
                                snprintf(text, sizeof(text), "%" PRIx64, now.cluster_id);
                        else if (starts_with(expected, "$H"))
                                hex64_print(now.cluster_id, text);
                        else if (starts_with(expected, "$I"))
                                v2_member_id(&state, state.raft_id, text);
                        else if (starts_with(expected, "$T"))
                                snprintf(text, sizeof(text), "%" PRIu64, now.term);
                        else
                                fail_msg("%.8s: nothing stands behind it", expected);
                        if (!starts_with(answer, text))
                                return false;
                        answer += strlen(text);
                }
                expected = end;
        }
        return *answer == 0;
}

#define FORM           "Content-Type: application/x-www-form-urlencoded\r\n"
#define JSON           "Content-Type: application/json\r\n"
#define CLUSTER        "X-Etcd-Cluster-Id: $C\r\n"
#define KEYS(index)    JSON CLUSTER "X-Etcd-Index: " index "\r\nX-Raft-Index: $R\r\nX-Raft-Term: $T\r\n"
#define REFUSED(index) JSON CLUSTER "X-Etcd-Index: " index "\r\n"
#define TEXT           "Content-Type: text/plain; charset=utf-8\r\n"
#define NOSNIFF        "X-Content-Type-Options: nosniff\r\n"
#define SERVER         "Server: fleetd/" PACKAGE_VERSION "\r\n"

/* Bodies of errors: of etcd's keys, and of fleet's API. */
#define KEY_ERROR(code, message, cause, index)                                                              \
        "{\"errorCode\":" #code ",\"message\":\"" message "\",\"cause\":\"" cause "\",\"index\":" index "}" \
        "\n"
#define ERROR(code, message) "{\"error\":{\"code\":" #code ",\"message\":\"" message "\"}}"

typedef struct Row {
        const char *request, *fields, *body; /* "METHOD TARGET"; 'fields' with the end of each line */
        unsigned status;
        const char *head,
                *answer; /* 'head': all fields but the length, the date and the end of the connection */
} Row;

static void send_row(Fixture *fixture, ApiListener listener, const Row *row) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "%s HTTP/1.1\r\n%s", row->request, row->fields ?: "");
        if (!row->fields || !strstr(row->fields, "Host:"))
                text_printf(&t, "Host: %s\r\n", listener == API_SOCKET ? "fleet" : fixture->tcp);
        if (row->body)
                text_printf(&t, "Content-Length: %zu\r\n", strlen(row->body));
        text_printf(&t, "Connection: close\r\n\r\n%s", row->body ?: "");
        free(fixture->answer);
        fixture->answer = host_ask(fixture->host, listener == API_SOCKET ? fixture->socket : fixture->tcp,
                                   t.chars, t.size);
}

static void join_chunks(char *body) {
        char *to = body, *from = body, *data;
        size_t size;

        while ((size = strtoul(from, &data, 16)) > 0) {
                assert_true(starts_with(data, "\r\n") && strlen(data) >= size + 4);
                memmove(to, data + 2, size);
                to += size;
                from = data + 2 + size;
                assert_true(starts_with(from, "\r\n"));
                from += 2;
        }
        assert_string_equal(from, "0\r\n\r\n");
        *to = 0;
}

/* Cuts what no row says out of the last answer, and returns its body; 'ret_length' is what it says of its
 * length, -1 for nothing. */
static char *split(Fixture *fixture, int *ret_length) {
        char *body = strstr(fixture->answer, "\r\n\r\n"), *from;

        *ret_length = -1;
        if (!body)
                fail_msg("no answer: %s", fixture->answer);
        body[2] = 0;
        for (size_t i = 0; i < 4; i++) {
                static const char *const cut[] = { "\r\nDate: ", "\r\nConnection: close\r\n",
                                                   "\r\nContent-Length: ", "\r\nTransfer-Encoding: " };
                char *end;

                from = strstr(fixture->answer, cut[i]);
                if (!from)
                        continue;
                if (i == 2)
                        *ret_length = atoi(from + strlen(cut[i]));
                if (i == 3)
                        join_chunks(body + 4);
                end = strstr(from + 2, "\r\n");
                memmove(from, end, strlen(end) + 1);
        }
        return body + 4;
}

static void play(Fixture *fixture, ApiListener listener, const Row *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                unsigned status = 0;
                int length, at = 0;
                char *body;

                send_row(fixture, listener, &rows[i]);
                body = fixture->body = split(fixture, &length);
                (void) sscanf(fixture->answer, "HTTP/1.1 %u %*[^\r]\r\n%n", &status, &at);
                if (status != rows[i].status || !fits(fixture, rows[i].head, fixture->answer + at) ||
                    !fits(fixture, rows[i].answer, body)) {
                        fprintf(stderr, "%s %s\n is answered with %u\n%s\n%s\ninstead of %u\n%s\n%s\n",
                                rows[i].request, rows[i].body ?: "", status, fixture->answer + at, body,
                                rows[i].status, rows[i].head,
                                rows[i].answer); /* longer than what cmocka prints */
                        fail();
                }
                if (length >= 0 && !starts_with(rows[i].request, "HEAD") && (size_t) length != strlen(body))
                        fail_msg("%s: %d bytes are announced: %s", rows[i].request, length, body);
        }
}

/* -- /v2/keys, as etcd 2 and 3.4 answer -- */

static void a_value_is_set_read_and_removed(void **state) {
        static const Row rows[] = {
                { "GET /v2/keys", NULL, NULL, 200, KEYS("0"),
                  "{\"action\":\"get\",\"node\":{\"dir\":true}}\n" },
                { "GET /v2/keys/", NULL, NULL, 200, KEYS("0"),
                  "{\"action\":\"get\",\"node\":{\"dir\":true}}\n" },
                { "OPTIONS /v2/keys/a", NULL, NULL, 200, "", "" },
                { "OPTIONS /v2/keys//a", NULL, NULL, 200, "", "" },
                { "PATCH /v2/keys/a", NULL, NULL, 405, TEXT "Allow: HEAD,GET,PUT,POST,DELETE\r\n" NOSNIFF,
                  "Method Not Allowed\n" },
                { "GET /v2/keys/a", NULL, NULL, 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/a", "0") },
                { "GET /v2/keys/x/y/z", NULL, NULL, 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/x", "0") },
                { "PUT /v2/keys/a", FORM, "value=1", 201, KEYS("@1"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a", FORM, "value=2", 200, KEYS("@2"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@2},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/a", NULL, NULL, 200, KEYS("@2"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "GET /v2/keys/a/", NULL, NULL, 200, KEYS("@2"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "HEAD /v2/keys/a", NULL, NULL, 200, KEYS("@2"), "" },
                { "GET /v2/keys/a?quorum=true", NULL, NULL, 200, KEYS("@2"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "HEAD /v2/keys/a?quorum=true", NULL, NULL, 200, KEYS("@2"), "" },
                { "GET /v2/keys/a?quorum=true&wait=true", NULL, NULL, 200, KEYS("@2"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "GET /v2/keys/b?quorum=true", NULL, NULL, 404, REFUSED("@2"),
                  KEY_ERROR(100, "Key not found", "/b", "@2") },
                { "GET /v2/keys/a/b", NULL, NULL, 400, REFUSED("@2"),
                  KEY_ERROR(104, "Not a directory", "/a", "@2") },
                { "GET /v2/keys/a/b/c", NULL, NULL, 400, REFUSED("@2"),
                  KEY_ERROR(104, "Not a directory", "/a", "@2") },
                { "PUT /v2/keys/a/b", FORM, "value=1", 400, REFUSED("@2"),
                  KEY_ERROR(104, "Not a directory", "/a", "@2") },
                { "POST /v2/keys/a", FORM, "value=1", 400, REFUSED("@2"),
                  KEY_ERROR(104, "Not a directory", "/a", "@2") },
                { "PUT /v2/keys/a?value=3", NULL, NULL, 200, KEYS("@3"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"3\",\"modifiedIndex\":@3,\"createdIndex\":@3},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "PUT /v2/keys/a?value=query", FORM, "value=body", 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"body\",\"modifiedIndex\":@4,\"createdIndex\":@4},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"3\",\"modifiedIndex\":@3,\"createdIndex\":@3}}\n" },
                { "PUT /v2/keys/a", FORM, "value=first&value=second", 200, KEYS("@5"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"first\",\"modifiedIndex\":@5,\"createdIndex\":@5},\"prevNode\":{\"key\":"
                  "\"/a\",\"value\":\"body\",\"modifiedIndex\":@4,\"createdIndex\":@4}}\n" },
                { "PUT /v2/keys/a", FORM, "value=%22%5C%0A%C3%A4&x=y", 200, KEYS("@6"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\\\"\\\\\\nä\",\"modifiedIndex\":@6,\"createdIndex\":@6},\"prevNode\":{"
                  "\"key\":\"/a\",\"value\":\"first\",\"modifiedIndex\":@5,\"createdIndex\":@5}}\n" },
                { "PUT /v2/keys/a", NULL, "value=not+a+form", 200, KEYS("@7"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@7,\"createdIndex\":@7},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"\\\"\\\\\\nä\",\"modifiedIndex\":@6,\"createdIndex\":@6}}\n" },
                { "PUT /v2/keys/a", JSON, "value=not+a+form", 200, KEYS("@8"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@8,\"createdIndex\":@8},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@7,\"createdIndex\":@7}}\n" },
                { "PUT /v2/keys/a", "Content-Type: APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8\r\n",
                  "value=form", 200, KEYS("@9"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"form\",\"modifiedIndex\":@9,\"createdIndex\":@9},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@8,\"createdIndex\":@8}}\n" },
                { "PUT /v2/keys/a", "Content-Type: application/x-www-form-urlencode\r\n", "value=none", 200,
                  KEYS("@10"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@10,\"createdIndex\":@10},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"form\",\"modifiedIndex\":@9,\"createdIndex\":@9}}\n" },
                { "PUT /v2/keys/a", "Content-Type: application/x-www-form-urlencoded; x\r\n", "value=1", 400,
                  REFUSED("0"), KEY_ERROR(210, "Invalid POST form", "mime: invalid media parameter", "0") },
                { "PUT /v2/keys/a", FORM, "value=%4", 400, REFUSED("0"),
                  KEY_ERROR(210, "Invalid POST form", "invalid URL escape \\\"%4\\\"", "0") },
                { "GET /v2/keys/a?value=%4", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(210, "Invalid POST form", "invalid URL escape \\\"%4\\\"", "0") },
                { "DELETE /v2/keys/a", FORM, "prevValue=no+body+is+read", 200, KEYS("@11"),
                  "{\"action\":\"delete\",\"node\":{\"key\":\"/"
                  "a\",\"modifiedIndex\":@11,\"createdIndex\":@10},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@10,\"createdIndex\":@10}}\n" },
                { "DELETE /v2/keys/a", NULL, NULL, 404, REFUSED("@11"),
                  KEY_ERROR(100, "Key not found", "/a", "@11") },
                { "PUT /v2/keys/", FORM, "value=1", 400, REFUSED("@11"),
                  KEY_ERROR(107, "Root is read only", "/", "@11") },
                { "PUT /v2/keys/?prevExist=true", FORM, "value=1", 400, REFUSED("@11"),
                  KEY_ERROR(107, "Root is read only", "/", "@11") },
                { "DELETE /v2/keys/", NULL, NULL, 400, REFUSED("@11"),
                  KEY_ERROR(107, "Root is read only", "/", "@11") },
                { "DELETE /v2/keys/?recursive=true", NULL, NULL, 400, REFUSED("@11"),
                  KEY_ERROR(107, "Root is read only", "/", "@11") },
                { "PUT /v2/keys/%3Ca%3E%22%5C", FORM, "value=<&>", 201, KEYS("@12"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "\\u003ca\\u003e\\\"\\\\\",\"value\":\"\\u003c\",\"modifiedIndex\":@12,\"createdIndex\":@"
                  "12}}\n" },
                { "GET /v2/keys/%3Ca%3E%22%5C", NULL, NULL, 200, KEYS("@12"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "\\u003ca\\u003e\\\"\\\\\",\"value\":\"\\u003c\",\"modifiedIndex\":@12,\"createdIndex\":@"
                  "12}}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void directories_are_made_listed_and_removed(void **state) {
        static const Row rows[] = {
                { "PUT /v2/keys/d", FORM, "dir=true", 201, KEYS("@1"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "d\",\"dir\":true,\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/d", FORM, "dir=true", 403, REFUSED("@1"),
                  KEY_ERROR(102, "Not a file", "/d", "@1") },
                { "PUT /v2/keys/d", FORM, "value=1", 403, REFUSED("@1"),
                  KEY_ERROR(102, "Not a file", "/d", "@1") },
                { "GET /v2/keys/d", NULL, NULL, 200, KEYS("@1"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "d\",\"dir\":true,\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/d/x", FORM, "value=1", 201, KEYS("@2"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "PUT /v2/keys/d/e/y", FORM, "value=2", 201, KEYS("@3"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/e/"
                  "y\",\"value\":\"2\",\"modifiedIndex\":@3,\"createdIndex\":@3}}\n" },
                { "PUT /v2/keys/d/e/z", FORM, "value=3", 201, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/e/"
                  "z\",\"value\":\"3\",\"modifiedIndex\":@4,\"createdIndex\":@4}}\n" },
                { "PUT /v2/keys/d/f", FORM, "dir=true", 201, KEYS("@5"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5}}\n" },
                { "PUT /v2/keys/d/_hidden", FORM, "value=4", 201, KEYS("@6"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "_hidden\",\"value\":\"4\",\"modifiedIndex\":@6,\"createdIndex\":@6}}\n" },
                { "PUT /v2/keys/d/_secret/k", FORM, "value=5", 201, KEYS("@7"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/_secret/"
                  "k\",\"value\":\"5\",\"modifiedIndex\":@7,\"createdIndex\":@7}}\n" },
                { "GET /v2/keys/d", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/"
                  "e\",\"dir\":true,\"modifiedIndex\":@3,\"createdIndex\":@3},{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5},{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}],\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/d?sorted=true", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/"
                  "e\",\"dir\":true,\"modifiedIndex\":@3,\"createdIndex\":@3},{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5},{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}],\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/d?recursive=true", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/"
                  "e\",\"dir\":true,\"nodes\":[{\"key\":\"/d/e/"
                  "y\",\"value\":\"2\",\"modifiedIndex\":@3,\"createdIndex\":@3},{\"key\":\"/d/e/"
                  "z\",\"value\":\"3\",\"modifiedIndex\":@4,\"createdIndex\":@4}],\"modifiedIndex\":@3,"
                  "\"createdIndex\":@3},{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5},{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}],\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/d?recursive=true&sorted=true&quorum=true", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/"
                  "e\",\"dir\":true,\"nodes\":[{\"key\":\"/d/e/"
                  "y\",\"value\":\"2\",\"modifiedIndex\":@3,\"createdIndex\":@3},{\"key\":\"/d/e/"
                  "z\",\"value\":\"3\",\"modifiedIndex\":@4,\"createdIndex\":@4}],\"modifiedIndex\":@3,"
                  "\"createdIndex\":@3},{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5},{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}],\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/d?recursive=false", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/"
                  "e\",\"dir\":true,\"modifiedIndex\":@3,\"createdIndex\":@3},{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5},{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}],\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "HEAD /v2/keys/d", NULL, NULL, 200, KEYS("@7"), "" },
                { "GET /v2/keys/?recursive=true", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/"
                  "d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/e\",\"dir\":true,\"nodes\":[{\"key\":\"/d/e/"
                  "y\",\"value\":\"2\",\"modifiedIndex\":@3,\"createdIndex\":@3},{\"key\":\"/d/e/"
                  "z\",\"value\":\"3\",\"modifiedIndex\":@4,\"createdIndex\":@4}],\"modifiedIndex\":@3,"
                  "\"createdIndex\":@3},{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5},{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}],\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}]}}\n" },
                { "GET /v2/keys/d/_hidden", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d/"
                  "_hidden\",\"value\":\"4\",\"modifiedIndex\":@6,\"createdIndex\":@6}}\n" },
                { "GET /v2/keys/d/_secret", NULL, NULL, 200, KEYS("@7"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d/_secret\",\"dir\":true,\"nodes\":[{\"key\":\"/"
                  "d/_secret/"
                  "k\",\"value\":\"5\",\"modifiedIndex\":@7,\"createdIndex\":@7}],\"modifiedIndex\":@7,"
                  "\"createdIndex\":@7}}\n" },
                { "DELETE /v2/keys/d", NULL, NULL, 403, REFUSED("@7"),
                  KEY_ERROR(102, "Not a file", "/d", "@7") },
                { "DELETE /v2/keys/d?dir=true", NULL, NULL, 403, REFUSED("@7"),
                  KEY_ERROR(108, "Directory not empty", "/d", "@7") },
                { "DELETE /v2/keys/d/f?dir=true", NULL, NULL, 200, KEYS("@8"),
                  "{\"action\":\"delete\",\"node\":{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@8,\"createdIndex\":@5},\"prevNode\":{\"key\":\"/d/"
                  "f\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":@5}}\n" },
                { "DELETE /v2/keys/d/x?dir=true", NULL, NULL, 200, KEYS("@9"),
                  "{\"action\":\"delete\",\"node\":{\"key\":\"/d/"
                  "x\",\"modifiedIndex\":@9,\"createdIndex\":@2},\"prevNode\":{\"key\":\"/d/"
                  "x\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2}}\n" },
                { "PUT /v2/keys/d?dir=true&prevExist=true", FORM, "ttl=1000", 200, KEYS("@10"),
                  "{\"action\":\"update\",\"node\":{\"key\":\"/"
                  "d\",\"dir\":true,\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@10,"
                  "\"createdIndex\":@1},\"prevNode\":{\"key\":\"/"
                  "d\",\"dir\":true,\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "DELETE /v2/keys/d?recursive=true", NULL, NULL, 200, KEYS("@11"),
                  "{\"action\":\"delete\",\"node\":{\"key\":\"/"
                  "d\",\"dir\":true,\"modifiedIndex\":@11,\"createdIndex\":@1},\"prevNode\":{\"key\":\"/"
                  "d\",\"dir\":true,\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "DELETE /v2/keys/d?recursive=true", NULL, NULL, 404, REFUSED("@11"),
                  KEY_ERROR(100, "Key not found", "/d", "@11") },
                { "PUT /v2/keys/file", FORM, "value=1", 201, KEYS("@12"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "file\",\"value\":\"1\",\"modifiedIndex\":@12,\"createdIndex\":@12}}\n" },
                { "PUT /v2/keys/file", FORM, "dir=true", 200, KEYS("@13"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "file\",\"dir\":true,\"modifiedIndex\":@13,\"createdIndex\":@13},\"prevNode\":{\"key\":\"/"
                  "file\",\"value\":\"1\",\"modifiedIndex\":@12,\"createdIndex\":@12}}\n" },
                { "POST /v2/keys/q", FORM, "value=1", 201, KEYS("@14"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/q/"
                  "#14\",\"value\":\"1\",\"modifiedIndex\":@14,\"createdIndex\":@14}}\n" },
                { "POST /v2/keys/q", FORM, "value=2&ttl=1000", 201, KEYS("@15"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/q/"
                  "#15\",\"value\":\"2\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@15,"
                  "\"createdIndex\":@15}}\n" },
                { "POST /v2/keys/q?dir=true", NULL, NULL, 201, KEYS("@16"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/q/"
                  "#16\",\"dir\":true,\"modifiedIndex\":@16,\"createdIndex\":@16}}\n" },
                { "POST /v2/keys/q?prevIndex=1&prevValue=x&prevExist=true", FORM, "value=4", 201, KEYS("@17"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/q/"
                  "#17\",\"value\":\"4\",\"modifiedIndex\":@17,\"createdIndex\":@17}}\n" },
                { "POST /v2/keys/q?noValueOnSuccess=true", FORM, "value=5", 201, KEYS("@18"),
                  "{\"action\":\"create\"}\n" },
                { "POST /v2/keys/", FORM, "value=root", 201, KEYS("@19"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/"
                  "#19\",\"value\":\"root\",\"modifiedIndex\":@19,\"createdIndex\":@19}}\n" },
                { "GET /v2/keys/q?recursive=true&sorted=true", NULL, NULL, 200, KEYS("@19"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/q\",\"dir\":true,\"nodes\":[{\"key\":\"/q/"
                  "#14\",\"value\":\"1\",\"modifiedIndex\":@14,\"createdIndex\":@14},{\"key\":\"/q/"
                  "#15\",\"value\":\"2\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@15,"
                  "\"createdIndex\":@15},{\"key\":\"/q/"
                  "#16\",\"dir\":true,\"modifiedIndex\":@16,\"createdIndex\":@16},{\"key\":\"/q/"
                  "#17\",\"value\":\"4\",\"modifiedIndex\":@17,\"createdIndex\":@17},{\"key\":\"/q/"
                  "#18\",\"value\":\"5\",\"modifiedIndex\":@18,\"createdIndex\":@18}],\"modifiedIndex\":@14,"
                  "\"createdIndex\":@14}}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void conditions_decide_about_a_write(void **state) {
        static const Row rows[] = {
                { "PUT /v2/keys/a?prevExist=true", FORM, "value=1", 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/a", "0") },
                { "PUT /v2/keys/a?prevIndex=1", FORM, "value=1", 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/a", "0") },
                { "PUT /v2/keys/a?prevValue=1", FORM, "value=1", 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/a", "0") },
                { "PUT /v2/keys/a?prevExist=false&prevIndex=5&prevValue=x", FORM, "value=1", 201, KEYS("@1"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a?prevExist=false", FORM, "value=2", 412, REFUSED("@1"),
                  KEY_ERROR(105, "Key already exists", "/a", "@1") },
                { "PUT /v2/keys/a?prevExist=true", FORM, "value=2", 200, KEYS("@2"),
                  "{\"action\":\"update\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@1},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a?prevExist=true&prevValue=1", FORM, "value=3", 412, REFUSED("@2"),
                  KEY_ERROR(101, "Compare failed", "[1 != 2]", "@2") },
                { "PUT /v2/keys/a?prevExist=true&prevValue=2", FORM, "value=3", 200, KEYS("@3"),
                  "{\"action\":\"compareAndSwap\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"3\",\"modifiedIndex\":@3,\"createdIndex\":@1},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@2,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a?prevValue=3", FORM, "value=4", 200, KEYS("@4"),
                  "{\"action\":\"compareAndSwap\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"4\",\"modifiedIndex\":@4,\"createdIndex\":@1},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"3\",\"modifiedIndex\":@3,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a?prevIndex=1000", FORM, "value=5", 412, REFUSED("@4"),
                  KEY_ERROR(101, "Compare failed", "[1000 != @4]", "@4") },
                { "PUT /v2/keys/a?prevIndex=1000&prevValue=4", FORM, "value=5", 412, REFUSED("@4"),
                  KEY_ERROR(101, "Compare failed", "[1000 != @4]", "@4") },
                { "PUT /v2/keys/a?prevIndex=1000&prevValue=5", FORM, "value=5", 412, REFUSED("@4"),
                  KEY_ERROR(101, "Compare failed", "[5 != 4] [1000 != @4]", "@4") },
                { "PUT /v2/keys/a?prevIndex=0", FORM, "value=5", 200, KEYS("@5"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"5\",\"modifiedIndex\":@5,\"createdIndex\":@5},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"4\",\"modifiedIndex\":@4,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a?prevIndex=18446744073709551615", FORM, "value=6", 412, REFUSED("@5"),
                  KEY_ERROR(101, "Compare failed", "[18446744073709551615 != @5]", "@5") },
                { "PUT /v2/keys/a?noValueOnSuccess=true", FORM, "value=6", 200, KEYS("@6"),
                  "{\"action\":\"set\"}\n" },
                { "PUT /v2/keys/a?noValueOnSuccess=true&prevValue=x", FORM, "value=7", 412, REFUSED("@6"),
                  KEY_ERROR(101, "Compare failed", "[x != 6]", "@6") },
                { "PUT /v2/keys/n?noValueOnSuccess=true&prevExist=false", FORM, "value=7", 201, KEYS("@7"),
                  "{\"action\":\"create\"}\n" },
                { "DELETE /v2/keys/a?prevValue=x", NULL, NULL, 412, REFUSED("@7"),
                  KEY_ERROR(101, "Compare failed", "[x != 6]", "@7") },
                { "DELETE /v2/keys/a?prevIndex=1000", NULL, NULL, 412, REFUSED("@7"),
                  KEY_ERROR(101, "Compare failed", "[1000 != @6]", "@7") },
                { "DELETE /v2/keys/none?prevIndex=1", NULL, NULL, 404, REFUSED("@7"),
                  KEY_ERROR(100, "Key not found", "/none", "@7") },
                { "DELETE /v2/keys/a?prevValue=6&noValueOnSuccess=true", NULL, NULL, 200, KEYS("@8"),
                  "{\"action\":\"compareAndDelete\",\"node\":{\"key\":\"/"
                  "a\",\"modifiedIndex\":@8,\"createdIndex\":@6},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"6\",\"modifiedIndex\":@6,\"createdIndex\":@6}}\n" },
                { "DELETE /v2/keys/n?noValueOnSuccess=true&prevExist=false", NULL, NULL, 200, KEYS("@9"),
                  "{\"action\":\"delete\",\"node\":{\"key\":\"/"
                  "n\",\"modifiedIndex\":@9,\"createdIndex\":@7},\"prevNode\":{\"key\":\"/"
                  "n\",\"value\":\"7\",\"modifiedIndex\":@7,\"createdIndex\":@7}}\n" },
                { "PUT /v2/keys/dir", FORM, "dir=true", 201, KEYS("@10"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "dir\",\"dir\":true,\"modifiedIndex\":@10,\"createdIndex\":@10}}\n" },
                { "PUT /v2/keys/dir?prevValue=1", FORM, "value=1", 403, REFUSED("@10"),
                  KEY_ERROR(102, "Not a file", "/dir", "@10") },
                { "DELETE /v2/keys/dir?prevValue=1&recursive=true", NULL, NULL, 403, REFUSED("@10"),
                  KEY_ERROR(102, "Not a file", "/dir", "@10") },
                { "GET /v2/keys/", NULL, NULL, 200, KEYS("@10"),
                  "{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/"
                  "dir\",\"dir\":true,\"modifiedIndex\":@10,\"createdIndex\":@10}]}}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void a_time_to_live_is_set_renewed_and_taken_away(void **state) {
        static const Row rows[] = {
                { "PUT /v2/keys/a", FORM, "value=1&ttl=1000", 201, KEYS("@1"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/a", NULL, NULL, 200, KEYS("@1"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a", FORM, "refresh=true&ttl=2000", 200, KEYS("@2"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E2000;Z\",\"ttl\":~2000,\"modifiedIndex\":@2,"
                  "\"createdIndex\":@2},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@1,"
                  "\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/a", FORM, "refresh=true&ttl=3000&prevExist=true", 200, KEYS("@3"),
                  "{\"action\":\"update\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E3000;Z\",\"ttl\":~3000,\"modifiedIndex\":@3,"
                  "\"createdIndex\":@2},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E2000;Z\",\"ttl\":~2000,\"modifiedIndex\":@2,"
                  "\"createdIndex\":@2}}\n" },
                { "PUT /v2/keys/a", FORM, "refresh=true", 400, REFUSED("0"),
                  KEY_ERROR(212, "A TTL must be provided on refresh", "No TTL value set", "0") },
                { "PUT /v2/keys/a", FORM, "refresh=true&ttl=", 400, REFUSED("0"),
                  KEY_ERROR(212, "A TTL must be provided on refresh", "No TTL value set", "0") },
                { "PUT /v2/keys/a", FORM, "refresh=true&ttl=10&value=1", 400, REFUSED("0"),
                  KEY_ERROR(211, "Value provided on refresh", "A value was provided on a refresh", "0") },
                { "PUT /v2/keys/a", FORM, "refresh=true&ttl=4000&value=", 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E4000;Z\",\"ttl\":~4000,\"modifiedIndex\":@4,"
                  "\"createdIndex\":@4},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E3000;Z\",\"ttl\":~3000,\"modifiedIndex\":@3,"
                  "\"createdIndex\":@2}}\n" },
                { "PUT /v2/keys/none", FORM, "refresh=true&ttl=10&prevExist=true", 404, REFUSED("@4"),
                  KEY_ERROR(100, "Key not found", "/none", "@4") },
                { "PUT /v2/keys/a", FORM, "ttl=&value=2", 200, KEYS("@5"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@5,\"createdIndex\":@5},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"expiration\":\"$E4000;Z\",\"ttl\":~4000,\"modifiedIndex\":@4,"
                  "\"createdIndex\":@4}}\n" },
                { "PUT /v2/keys/a", FORM, "ttl=31536000000", 200, KEYS("@6"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"expiration\":\"$E31536000000;Z\",\"ttl\":~31536000000,"
                  "\"modifiedIndex\":@6,\"createdIndex\":@6},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"2\",\"modifiedIndex\":@5,\"createdIndex\":@5}}\n" },
                { "PUT /v2/keys/a", FORM, "ttl=31536000001", 200, KEYS("@7"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@7,\"createdIndex\":@7},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"expiration\":\"$E31536000000;Z\",\"ttl\":~31536000000,"
                  "\"modifiedIndex\":@6,\"createdIndex\":@6}}\n" },
                { "PUT /v2/keys/a", FORM, "ttl=18446744073709551615", 200, KEYS("@8"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@8,\"createdIndex\":@8},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"\",\"modifiedIndex\":@7,\"createdIndex\":@7}}\n" },
                { "PUT /v2/keys/a", FORM, "ttl=18446744073709551616", 400, REFUSED("0"),
                  KEY_ERROR(202, "The given TTL in POST form is not a number",
                            "invalid value for \\\"ttl\\\"", "0") },
                { "PUT /v2/keys/a", FORM, "ttl=-1", 400, REFUSED("0"),
                  KEY_ERROR(202, "The given TTL in POST form is not a number",
                            "invalid value for \\\"ttl\\\"", "0") },
                { "PUT /v2/keys/a", FORM, "ttl=1s", 400, REFUSED("0"),
                  KEY_ERROR(202, "The given TTL in POST form is not a number",
                            "invalid value for \\\"ttl\\\"", "0") },
                { "PUT /v2/keys/a?ttl=%20", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(202, "The given TTL in POST form is not a number",
                            "invalid value for \\\"ttl\\\"", "0") },
                { "PUT /v2/keys/d", FORM, "dir=true&ttl=1000", 201, KEYS("@9"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "d\",\"dir\":true,\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@9,"
                  "\"createdIndex\":@9}}\n" },
                { "PUT /v2/keys/d/k", FORM, "value=1&ttl=500", 201, KEYS("@10"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "k\",\"value\":\"1\",\"expiration\":\"$E500;Z\",\"ttl\":~500,\"modifiedIndex\":@10,"
                  "\"createdIndex\":@10}}\n" },
                { "GET /v2/keys/d?recursive=true", NULL, NULL, 200, KEYS("@10"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "d\",\"dir\":true,\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"nodes\":[{\"key\":\"/d/"
                  "k\",\"value\":\"1\",\"expiration\":\"$E500;Z\",\"ttl\":~500,\"modifiedIndex\":@10,"
                  "\"createdIndex\":@10}],\"modifiedIndex\":@9,\"createdIndex\":@9}}\n" },
                { "POST /v2/keys/d", FORM, "value=1&ttl=31536000001", 201, KEYS("@11"),
                  "{\"action\":\"create\",\"node\":{\"key\":\"/d/"
                  "#11\",\"value\":\"1\",\"modifiedIndex\":@11,\"createdIndex\":@11}}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void each_wrong_parameter_is_named(void **state) {
        static const Row rows[] = {
                { "GET /v2/keys/?recursive=yes", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"recursive\\\"", "0") },
                { "GET /v2/keys/?sorted=", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"sorted\\\"", "0") },
                { "GET /v2/keys/?wait=tRue", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"wait\\\"", "0") },
                { "GET /v2/keys/?dir=2", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"dir\\\"", "0") },
                { "GET /v2/keys/?quorum=fALSE", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"quorum\\\"", "0") },
                { "GET /v2/keys/?stream=on", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"stream\\\"", "0") },
                { "GET /v2/keys/?noValueOnSuccess=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"noValueOnSuccess\\\"", "0") },
                { "GET /v2/keys/?prevExist=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for prevExist", "0") },
                { "GET /v2/keys/?refresh=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for refresh", "0") },
                { "GET /v2/keys/?prevIndex=", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(203, "The given index in POST form is not a number",
                            "invalid value for \\\"prevIndex\\\"", "0") },
                { "GET /v2/keys/?prevIndex=-1", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(203, "The given index in POST form is not a number",
                            "invalid value for \\\"prevIndex\\\"", "0") },
                { "GET /v2/keys/?waitIndex=a", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(203, "The given index in POST form is not a number",
                            "invalid value for \\\"waitIndex\\\"", "0") },
                { "GET /v2/keys/?waitIndex=18446744073709551616", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(203, "The given index in POST form is not a number",
                            "invalid value for \\\"waitIndex\\\"", "0") },
                { "GET /v2/keys/?prevValue=", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(201, "PrevValue is Required in POST form", "\\\"prevValue\\\" cannot be empty",
                            "0") },
                { "HEAD /v2/keys/?wait=true", NULL, NULL, 400, REFUSED("0"), "" },
                { "PUT /v2/keys/a?wait=true", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "\\\"wait\\\" can only be used with GET requests", "0") },
                { "DELETE /v2/keys/a?wait=1", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "\\\"wait\\\" can only be used with GET requests", "0") },
                { "PUT /v2/keys/a?wait=false&sorted=0&stream=f&quorum=F&recursive=FALSE&dir=False", FORM,
                  "value=1", 201, KEYS("@1"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/a?recursive=1&sorted=t&quorum=T", NULL, NULL, 200, KEYS("@1"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/a?recursive=TRUE&sorted=True&quorum=true&unknown=x", NULL, NULL, 200,
                  KEYS("@1"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/?prevIndex=x&recursive=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(203, "The given index in POST form is not a number",
                            "invalid value for \\\"prevIndex\\\"", "0") },
                { "GET /v2/keys/?recursive=x&sorted=y", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for \\\"recursive\\\"", "0") },
                { "PUT /v2/keys/a?prevValue=&noValueOnSuccess=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(201, "PrevValue is Required in POST form", "\\\"prevValue\\\" cannot be empty",
                            "0") },
                { "PUT /v2/keys/a?ttl=x&prevExist=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(202, "The given TTL in POST form is not a number",
                            "invalid value for \\\"ttl\\\"", "0") },
                { "PUT /v2/keys/a?prevExist=x&refresh=x", NULL, NULL, 400, REFUSED("0"),
                  KEY_ERROR(209, "Invalid field", "invalid value for prevExist", "0") },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void a_path_with_dots_or_doubled_slashes_leads_to_the_clean_one(void **state) {
        static const Row rows[] = {
                { "GET /v2/keys//a", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /v2/keys/a\r\n",
                  "<a href=\"/v2/keys/a\">Moved Permanently</a>.\n\n" },
                { "HEAD /v2/keys/a//", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /v2/keys/a/\r\n", "" },
                { "PUT /v2/keys/a/../b/", FORM, "value=1", 301, "Location: /v2/keys/b/\r\n", "" },
                { "GET /v2/keys/./a?quorum=true&x=%20", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /v2/keys/a?quorum=true&x=%20\r\n",
                  "<a href=\"/v2/keys/a?quorum=true&amp;x=%20\">Moved Permanently</a>.\n\n" },
                { "GET /v2/keys/a/.", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /v2/keys/a\r\n",
                  "<a href=\"/v2/keys/a\">Moved Permanently</a>.\n\n" },
                { "GET /v2/keys/a/..", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /v2/keys\r\n",
                  "<a href=\"/v2/keys\">Moved Permanently</a>.\n\n" },
                { "GET /v2/keys/a/...", NULL, NULL, 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/a", "0") },
                { "GET /v2/keys/.a", NULL, NULL, 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/.a", "0") },
                { "GET /v2/keys//%3C%26%3E%22'%20%25%C3%A4", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: "
                  "/v2/keys/%3C&%3E%22%27%20%25%C3%A4\r\n",
                  "<a href=\"/v2/keys/%3C&amp;%3E%22%27%20%25%C3%A4\">Moved Permanently</a>.\n\n" },
                { "GET /..", NULL, NULL, 301, "Content-Type: text/html; charset=utf-8\r\nLocation: /\r\n",
                  "<a href=\"/\">Moved Permanently</a>.\n\n" },
                { "GET //", NULL, NULL, 301, "Content-Type: text/html; charset=utf-8\r\nLocation: /\r\n",
                  "<a href=\"/\">Moved Permanently</a>.\n\n" },
                { "GET /nope/.", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /nope\r\n",
                  "<a href=\"/nope\">Moved Permanently</a>.\n\n" },
                { "OPTIONS /nope/.", NULL, NULL, 200, "", "" },
                { "GET /%2e%2e/version", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /version\r\n",
                  "<a href=\"/version\">Moved Permanently</a>.\n\n" },
                { "OPTIONS *", NULL, NULL, 200, "", "" },
                { "GET *", NULL, NULL, 400, "", "" },
                { "GET /%", NULL, NULL, 400, TEXT, "400 Bad Request" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void a_watch_answers_with_the_first_change_from_its_index_on(void **state) {
        static const Row rows[] = {
                { "PUT /v2/keys/a", FORM, "value=1", 201, KEYS("@1"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "PUT /v2/keys/d/k", FORM, "value=2&ttl=1000", 201, KEYS("@2"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "k\",\"value\":\"2\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@2,"
                  "\"createdIndex\":@2}}\n" },
                { "PUT /v2/keys/d/_h", FORM, "value=3", 201, KEYS("@3"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "_h\",\"value\":\"3\",\"modifiedIndex\":@3,\"createdIndex\":@3}}\n" },
                { "DELETE /v2/keys/a", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"delete\",\"node\":{\"key\":\"/"
                  "a\",\"modifiedIndex\":@4,\"createdIndex\":@1},\"prevNode\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/a?wait=true&waitIndex=1", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/?wait=true&waitIndex=1&recursive=true", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1}}\n" },
                { "GET /v2/keys/d?wait=true&waitIndex=1&recursive=true", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "k\",\"value\":\"2\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@2,"
                  "\"createdIndex\":@2}}\n" },
                { "GET /v2/keys/d/k?wait=true&waitIndex=1", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "k\",\"value\":\"2\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@2,"
                  "\"createdIndex\":@2}}\n" },
                { "GET /v2/keys/d/_h?wait=true&waitIndex=1", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "_h\",\"value\":\"3\",\"modifiedIndex\":@3,\"createdIndex\":@3}}\n" },
                { "GET /v2/keys/d/k?wait=1&quorum=false&waitIndex=1", NULL, NULL, 200, KEYS("@4"),
                  "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                  "k\",\"value\":\"2\",\"expiration\":\"$E1000;Z\",\"ttl\":~1000,\"modifiedIndex\":@2,"
                  "\"createdIndex\":@2}}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

/* -- /fleet/v1/kv -- */

static void a_value_is_its_bytes_with_its_indexes_beside_it(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/kv/value/a", NULL, NULL, 404, JSON, ERROR(404, "key not found") "\n" },
                { "PUT /fleet/v1/kv/value/a", NULL, "one", 201, JSON,
                  "{\"action\":\"set\",\"index\":@1,\"node\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@1}}\n" },
                { "PUT /fleet/v1/kv/value/a?ttl=1000", NULL, "two", 200, JSON,
                  "{\"action\":\"set\",\"index\":@2,\"node\":{\"createdIndex\":@2,\"key\":\"/"
                  "a\",\"modifiedIndex\":@2,\"ttl\":~1000},\"prevNode\":{\"createdIndex\":@1,"
                  "\"key\":\"/a\",\"modifiedIndex\":@1}}\n" },
                { "GET /fleet/v1/kv/value/a", NULL, NULL, 200,
                  "Content-Type: application/octet-stream\r\nX-Fleet-Index: "
                  "@2\r\nX-Fleet-Modified-Index: @2\r\nX-Fleet-Created-Index: @2\r\n" NOSNIFF
                  "X-Fleet-TTL: ~1000\r\n",
                  "two" },
                { "HEAD /fleet/v1/kv/value/a?quorum=true", NULL, NULL, 200,
                  "Content-Type: application/octet-stream\r\nX-Fleet-Index: "
                  "@2\r\nX-Fleet-Modified-Index: @2\r\nX-Fleet-Created-Index: @2\r\n" NOSNIFF
                  "X-Fleet-TTL: ~1000\r\n",
                  "" },
                { "PUT /fleet/v1/kv/value/a?prevExist=true", NULL, "three", 200, JSON,
                  "{\"action\":\"update\",\"index\":@3,\"node\":{\"createdIndex\":@2,\"key\":"
                  "\"/a\",\"modifiedIndex\":@3},\"prevNode\":{\"createdIndex\":@2,\"key\":\"/"
                  "a\",\"modifiedIndex\":@2,\"ttl\":~1000}}\n" },
                { "PUT /fleet/v1/kv/value/a?prevExist=false", NULL, "four", 412, JSON,
                  "{\"error\":{\"code\":412,\"message\":\"key already exists: "
                  "/a\"},\"index\":@3}\n" },
                { "PUT /fleet/v1/kv/value/a?prevExist=false&prevIndex=1", NULL, "four", 400, JSON,
                  ERROR(400, "prevIndex: what must not exist has none; leave out prevIndex "
                             "or prevExist") "\n" },
                { "PUT /fleet/v1/kv/value/a?prevIndex=1000", NULL, "four", 412, JSON,
                  "{\"error\":{\"code\":412,\"message\":\"compare failed: [1000 != "
                  "@3]\"},\"index\":@3}\n" },
                { "PUT /fleet/v1/kv/value/none?prevIndex=1000", NULL, "four", 404, JSON,
                  "{\"error\":{\"code\":404,\"message\":\"key not found: "
                  "/none\"},\"index\":@3}\n" },
                { "PUT /fleet/v1/kv/value/none?prevExist=true", NULL, "four", 404, JSON,
                  "{\"error\":{\"code\":404,\"message\":\"key not found: "
                  "/none\"},\"index\":@3}\n" },
                { "PUT /fleet/v1/kv/value/new?prevExist=false", NULL, "", 201, JSON,
                  "{\"action\":\"create\",\"index\":@4,\"node\":{\"createdIndex\":@4,\"key\":"
                  "\"/new\",\"modifiedIndex\":@4}}\n" },
                { "GET /fleet/v1/kv/value/new", NULL, NULL, 200,
                  "Content-Type: application/octet-stream\r\nX-Fleet-Index: "
                  "@4\r\nX-Fleet-Modified-Index: @4\r\nX-Fleet-Created-Index: @4\r\n" NOSNIFF,
                  "" },
                { "PUT /fleet/v1/kv/value/a", FORM, "value=1", 415, JSON,
                  ERROR(415, "the body is the value itself, of type "
                             "application/octet-stream: curl -T FILE") "\n" },
                { "PUT /fleet/v1/kv/value/a", "Content-Type: text/plain\r\n", "five", 200, JSON,
                  "{\"action\":\"set\",\"index\":@5,\"node\":{\"createdIndex\":@5,\"key\":\"/"
                  "a\",\"modifiedIndex\":@5},\"prevNode\":{\"createdIndex\":@2,\"key\":\"/"
                  "a\",\"modifiedIndex\":@3}}\n" },
                { "PUT /fleet/v1/kv/value/a/b", NULL, "1", 409, JSON,
                  "{\"error\":{\"code\":409,\"message\":\"not a directory: "
                  "/a\"},\"index\":@5}\n" },
                { "PUT /fleet/v1/kv/value/d/k", NULL, "1", 201, JSON,
                  "{\"action\":\"set\",\"index\":@6,\"node\":{\"createdIndex\":@6,\"key\":\"/"
                  "d/k\",\"modifiedIndex\":@6}}\n" },
                { "PUT /fleet/v1/kv/value/d", NULL, "1", 409, JSON,
                  "{\"error\":{\"code\":409,\"message\":\"not a file: "
                  "/d\"},\"index\":@6}\n" },
                { "GET /fleet/v1/kv/value/d", NULL, NULL, 409, JSON,
                  "{\"error\":{\"code\":409,\"message\":\"it is a directory: GET "
                  "/fleet/v1/kv/list?prefix=KEY\"},\"index\":@6}\n" },
                { "DELETE /fleet/v1/kv/value/d", NULL, NULL, 409, JSON,
                  "{\"error\":{\"code\":409,\"message\":\"not a file: "
                  "/d\"},\"index\":@6}\n" },
                { "DELETE /fleet/v1/kv/value/d?dir=true", NULL, NULL, 409, JSON,
                  "{\"error\":{\"code\":409,\"message\":\"directory not empty: "
                  "/d\"},\"index\":@6}\n" },
                { "DELETE /fleet/v1/kv/value/a?prevIndex=1000", NULL, NULL, 412, JSON,
                  "{\"error\":{\"code\":412,\"message\":\"compare failed: [1000 != "
                  "@5]\"},\"index\":@6}\n" },
                { "DELETE /fleet/v1/kv/value/a", NULL, NULL, 200, JSON,
                  "{\"action\":\"delete\",\"index\":@7,\"node\":{\"createdIndex\":@5,\"key\":"
                  "\"/a\",\"modifiedIndex\":@7},\"prevNode\":{\"createdIndex\":@5,\"key\":\"/"
                  "a\",\"modifiedIndex\":@5}}\n" },
                { "DELETE /fleet/v1/kv/value/a", NULL, NULL, 404, JSON,
                  "{\"error\":{\"code\":404,\"message\":\"key not found: "
                  "/a\"},\"index\":@7}\n" },
                { "DELETE /fleet/v1/kv/value/d?recursive=true", NULL, NULL, 200, JSON,
                  "{\"action\":\"delete\",\"index\":@8,\"node\":{\"createdIndex\":@6,\"dir\":"
                  "true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@8},\"prevNode\":{\"createdIndex\":@6,\"dir\":true,"
                  "\"key\":\"/d\",\"modifiedIndex\":@6}}\n" },
                { "PUT /fleet/v1/kv/value/", NULL, "1", 403, JSON,
                  "{\"error\":{\"code\":403,\"message\":\"root is read only: "
                  "/\"},\"index\":@8}\n" },
                { "DELETE /fleet/v1/kv/value/", NULL, NULL, 403, JSON,
                  "{\"error\":{\"code\":403,\"message\":\"root is read only: "
                  "/\"},\"index\":@8}\n" },
                { "GET /fleet/v1/kv/value", NULL, NULL, 400, JSON, ERROR(400, "a key begins with '/'") "\n" },
                { "GET /fleet/v1/kv/value//a", NULL, NULL, 400, JSON,
                  ERROR(400, "a key has no empty part, none of '.' and '..', and no '/' at "
                             "its end") "\n" },
                { "GET /fleet/v1/kv/value/a/", NULL, NULL, 400, JSON,
                  ERROR(400, "a key has no empty part, none of '.' and '..', and no '/' at "
                             "its end") "\n" },
                { "GET /fleet/v1/kv/value/../a", NULL, NULL, 400, JSON,
                  ERROR(400, "a key has no empty part, none of '.' and '..', and no '/' at "
                             "its end") "\n" },
                { "PUT /fleet/v1/kv/value/_fleet/unit/a.service", NULL, "1", 403, JSON,
                  ERROR(403, "/_fleet is written by fleet alone") "\n" },
                { "GET /fleet/v1/kv/value/_fleet", NULL, NULL, 404, JSON,
                  "{\"error\":{\"code\":404,\"message\":\"key not found\"},\"index\":@8}\n" },
                { "PUT /fleet/v1/kv/value/f?ttl=31536000001", NULL, "1", 201, JSON,
                  "{\"action\":\"set\",\"index\":@9,\"node\":{\"createdIndex\":@9,\"key\":\"/"
                  "f\",\"modifiedIndex\":@9}}\n" },
                { "PUT /fleet/v1/kv/value/f?ttl=31536000000", NULL, "1", 200, JSON,
                  "{\"action\":\"set\",\"index\":@10,\"node\":{\"createdIndex\":@10,\"key\":"
                  "\"/"
                  "f\",\"modifiedIndex\":@10,\"ttl\":~31536000000},\"prevNode\":{"
                  "\"createdIndex\":@9,\"key\":\"/f\",\"modifiedIndex\":@9}}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void what_a_path_does_not_take_is_refused_with_what_it_takes(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/kv", NULL, NULL, 404, JSON,
                  ERROR(404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY") "\n" },
                { "GET /fleet/v1/kv/", NULL, NULL, 404, JSON,
                  ERROR(404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY") "\n" },
                { "GET /fleet/v1/kv/lists", NULL, NULL, 404, JSON,
                  ERROR(404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY") "\n" },
                { "GET /fleet/v1/kv/list/a", NULL, NULL, 404, JSON,
                  ERROR(404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY") "\n" },
                { "GET /fleet/v1/kv/list%00", NULL, NULL, 404, JSON,
                  ERROR(404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY") "\n" },
                { "PUT /fleet/v1/kv/list", NULL, NULL, 405, JSON "Allow: GET,HEAD\r\n",
                  ERROR(405, "PUT is not for this path; it takes GET,HEAD") "\n" },
                { "HEAD /fleet/v1/kv/changes", NULL, NULL, 405, JSON "Allow: GET\r\n", "" },
                { "GET /fleet/v1/kv/txn", NULL, NULL, 405, JSON "Allow: POST\r\n",
                  ERROR(405, "GET is not for this path; it takes POST") "\n" },
                { "POST /fleet/v1/kv/value/a", NULL, "1", 405, JSON "Allow: GET,HEAD,PUT,DELETE\r\n",
                  ERROR(405, "POST is not for this path; it takes GET,HEAD,PUT,DELETE") "\n" },
                { "POST /fleet/v1/kv/txn?quorum=true", JSON, "{}", 400, JSON,
                  ERROR(400, "quorum: this takes no parameters") "\n" },
                { "GET /fleet/v1/kv/value/a?prevIndex=1", NULL, NULL, 400, JSON,
                  ERROR(400, "prevIndex: this takes quorum") "\n" },
                { "GET /fleet/v1/kv/value/a?quoru=true", NULL, NULL, 400, JSON,
                  ERROR(400, "quoru: this takes quorum") "\n" },
                { "GET /fleet/v1/kv/value/a?quorum=true&quorum=true", NULL, NULL, 400, JSON,
                  ERROR(400, "quorum: given twice") "\n" },
                { "GET /fleet/v1/kv/value/a?quorum=2", NULL, NULL, 400, JSON,
                  ERROR(400, "quorum: expected true or false") "\n" },
                { "GET /fleet/v1/kv/value/a?quorum=true%00", NULL, NULL, 400, JSON,
                  ERROR(400, "quorum: contains a NUL byte") "\n" },
                { "GET /fleet/v1/kv/value/a?=1", NULL, NULL, 400, JSON,
                  ERROR(400, ": this takes quorum") "\n" },
                { "GET /fleet/v1/kv/value/a?x=%4", NULL, NULL, 400, JSON,
                  ERROR(400, "invalid URL escape \\\"%4\\\"") },
                { "PUT /fleet/v1/kv/value/a?prevIndex=0", NULL, "1", 400, JSON,
                  ERROR(400, "prevIndex: expected a number from 1 to 18446744073709551615") "\n" },
                { "PUT /fleet/v1/kv/value/a?prevIndex=18446744073709551616", NULL, "1", 400, JSON,
                  ERROR(400, "prevIndex: expected a number from 1 to 18446744073709551615") "\n" },
                { "PUT /fleet/v1/kv/value/a?ttl=-1", NULL, "1", 400, JSON,
                  ERROR(400, "ttl: expected a number from 0 to 18446744073709551615") "\n" },
                { "PUT /fleet/v1/kv/value/a?quorum=true", NULL, "1", 400, JSON,
                  ERROR(400, "quorum: this takes prevExist prevIndex ttl") "\n" },
                { "DELETE /fleet/v1/kv/value/a?ttl=1", NULL, NULL, 400, JSON,
                  ERROR(400, "ttl: this takes dir prevIndex recursive") "\n" },
                { "GET /fleet/v1/kv/list?limit=0", NULL, NULL, 400, JSON,
                  ERROR(400, "limit: expected a number from 1 to 10000") "\n" },
                { "GET /fleet/v1/kv/list?limit=10001", NULL, NULL, 400, JSON,
                  ERROR(400, "limit: expected a number from 1 to 10000") "\n" },
                { "GET /fleet/v1/kv/list?limit=10000", NULL, NULL, 200, JSON, "{\"nodes\":[]}\n" },
                { "GET /fleet/v1/kv/list?prefix=a", NULL, NULL, 400, JSON,
                  ERROR(400, "prefix: a key begins with '/'") "\n" },
                { "GET /fleet/v1/kv/list?prefix=", NULL, NULL, 400, JSON,
                  ERROR(400, "prefix: a key begins with '/'") "\n" },
                { "GET /fleet/v1/kv/list?prefix=/a/", NULL, NULL, 400, JSON,
                  ERROR(400, "prefix: a key has no empty part, none of '.' and '..', and no '/' at "
                             "its end") "\n" },
                { "GET /fleet/v1/kv/list?nextPageToken=x", NULL, NULL, 400, JSON,
                  ERROR(400, "nextPageToken: invalid; use the token of the previous answer, with the "
                             "same prefix") "\n" },
                { "GET /fleet/v1/kv/list?nextPageToken=", NULL, NULL, 400, JSON,
                  ERROR(400, "nextPageToken: invalid; use the token of the previous answer, with the "
                             "same prefix") "\n" },
                { "GET /fleet/v1/kv/list?nextPageToken=YQ", NULL, NULL, 400, JSON,
                  ERROR(400, "nextPageToken: invalid; use the token of the previous answer, with the "
                             "same prefix") "\n" },
                { "GET /fleet/v1/kv/list?values=no&recursive=x", NULL, NULL, 400, JSON,
                  ERROR(400, "recursive: expected true or false") "\n" },
                { "GET /fleet/v1/kv/changes?after=18446744073709551615", NULL, NULL, 400, JSON,
                  ERROR(400, "after: expected a number from 0 to 18446744073709551614") "\n" },
                { "GET /fleet/v1/kv/changes?progress=3601", NULL, NULL, 400, JSON,
                  ERROR(400, "progress: expected a number from 0 to 3600") "\n" },
                { "GET /fleet/v1/kv/changes?limit=1", NULL, NULL, 400, JSON,
                  ERROR(400, "limit: this takes after prefix progress") "\n" },
                { "GET /fleet/v1/kv/changes?prefix=//", NULL, NULL, 400, JSON,
                  ERROR(400, "prefix: a key has no empty part, none of '.' and '..', and no '/' at "
                             "its end") "\n" },
                { "OPTIONS /fleet/v1/kv/list", NULL, NULL, 405, JSON "Allow: GET,HEAD\r\n",
                  ERROR(405, "OPTIONS is not for this path; it takes GET,HEAD") "\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void a_list_comes_in_pages(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/kv/list", NULL, NULL, 200, JSON, "{\"nodes\":[]}\n" },
                { "PUT /fleet/v1/kv/value/d/a", NULL, "1", 201, JSON,
                  "{\"action\":\"set\",\"index\":@1,\"node\":{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1}}\n" },
                { "PUT /fleet/v1/kv/value/d/e/b?ttl=1000", NULL, "2", 201, JSON,
                  "{\"action\":\"set\",\"index\":@2,\"node\":{\"createdIndex\":@2,\"key\":\"/d/e/"
                  "b\",\"modifiedIndex\":@2,\"ttl\":~1000}}\n" },
                { "PUT /fleet/v1/kv/value/d/_h", NULL, "3", 201, JSON,
                  "{\"action\":\"set\",\"index\":@3,\"node\":{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3}}\n" },
                { "GET /fleet/v1/kv/list", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[{\"createdIndex\":@1,\"dir\":true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@1},{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3,\"value\":\"3\"},{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1,\"value\":\"1\"},{\"createdIndex\":@2,\"dir\":true,\"key\":\"/d/"
                  "e\",\"modifiedIndex\":@2},{\"createdIndex\":@2,\"key\":\"/d/e/"
                  "b\",\"modifiedIndex\":@2,\"ttl\":~1000,\"value\":\"2\"}]}\n" },
                { "HEAD /fleet/v1/kv/list", NULL, NULL, 200, JSON, "" },
                { "GET /fleet/v1/kv/list?recursive=false&values=false", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[{\"createdIndex\":@1,\"dir\":true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@1}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d&recursive=false&quorum=true", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[{\"createdIndex\":@1,\"dir\":true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@1},{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3,\"value\":\"3\"},{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1,\"value\":\"1\"},{\"createdIndex\":@2,\"dir\":true,\"key\":\"/d/"
                  "e\",\"modifiedIndex\":@2}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d/a", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1,\"value\":\"1\"}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d/a/b", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/none", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/_fleet", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d&limit=5&values=false", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nodes\":[{\"createdIndex\":@1,\"dir\":true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@1},{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3},{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1},{\"createdIndex\":@2,\"dir\":true,\"key\":\"/d/"
                  "e\",\"modifiedIndex\":@2},{\"createdIndex\":@2,\"key\":\"/d/e/"
                  "b\",\"modifiedIndex\":@2,\"ttl\":~1000}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d&limit=4&values=false", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nextPageToken\":\"L2U\",\"nodes\":[{\"createdIndex\":@1,\"dir\":true,"
                  "\"key\":\"/d\",\"modifiedIndex\":@1},{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3},{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1},{\"createdIndex\":@2,\"dir\":true,\"key\":\"/d/"
                  "e\",\"modifiedIndex\":@2}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d&limit=1&values=false", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nextPageToken\":\"Lw\",\"nodes\":[{\"createdIndex\":@1,\"dir\":true,"
                  "\"key\":\"/d\",\"modifiedIndex\":@1}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d&limit=1&values=false&nextPageToken=Lw", NULL, NULL, 200,
                  JSON,
                  "{\"index\":@3,\"nextPageToken\":\"L19o\",\"nodes\":[{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3}]}\n" },
                { "GET /fleet/v1/kv/list?prefix=/d&limit=2&values=false&nextPageToken=L19o", NULL, NULL, 200,
                  JSON,
                  "{\"index\":@3,\"nextPageToken\":\"L2U\",\"nodes\":[{\"createdIndex\":@1,\"key\":\"/d/"
                  "a\",\"modifiedIndex\":@1},{\"createdIndex\":@2,\"dir\":true,\"key\":\"/d/"
                  "e\",\"modifiedIndex\":@2}]}\n" },
                { "GET /fleet/v1/kv/list?limit=1", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nextPageToken\":\"L2Q\",\"nodes\":[{\"createdIndex\":@1,\"dir\":true,"
                  "\"key\":\"/d\",\"modifiedIndex\":@1}]}\n" },
                { "GET /fleet/v1/kv/list?limit=1&nextPageToken=L2Q", NULL, NULL, 200, JSON,
                  "{\"index\":@3,\"nextPageToken\":\"L2QvX2g\",\"nodes\":[{\"createdIndex\":@3,\"key\":\"/d/"
                  "_h\",\"modifiedIndex\":@3,\"value\":\"3\"}]}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

static void a_transaction_answers_its_writes_or_the_reason_of_its_rejection(void **state) {
        static const Row rows[] = {
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"checks\":[{\"key\":\"/"
                  "a\",\"exists\":false}],\"writes\":[{\"action\":\"create\",\"key\":\"/"
                  "a\",\"value\":\"1\"},{\"action\":\"set\",\"key\":\"/d/"
                  "k\",\"value64\":\"AP8=\",\"ttl\":1000},{\"action\":\"set\",\"key\":\"/e\",\"dir\":true}]}",
                  200, JSON,
                  "{\"index\":@3,\"writes\":[{\"action\":\"create\",\"node\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@1,\"value\":\"1\"}},{\"action\":\"set\",\"node\":{\"createdIndex\":"
                  "@2,\"key\":\"/d/"
                  "k\",\"modifiedIndex\":@2,\"ttl\":~1000,\"value64\":\"AP8=\"}},{\"action\":\"set\","
                  "\"node\":{\"createdIndex\":@3,\"dir\":true,\"key\":\"/e\",\"modifiedIndex\":@3}}]}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"checks\":[{\"key\":\"/a\",\"value\":\"1\"},{\"key\":\"/"
                  "d\",\"exists\":true}],\"writes\":[{\"action\":\"update\",\"key\":\"/"
                  "a\",\"value\":\"2\"},{\"action\":\"set\",\"key\":\"/d/"
                  "k\",\"refresh\":true,\"ttl\":2000},{\"action\":\"delete\",\"key\":\"/e\",\"dir\":true}]}",
                  200, JSON,
                  "{\"index\":@6,\"writes\":[{\"action\":\"update\",\"node\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@4,\"value\":\"2\"},\"prevNode\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@1,\"value\":\"1\"}},{\"action\":\"set\",\"node\":{\"createdIndex\":"
                  "@5,\"key\":\"/d/"
                  "k\",\"modifiedIndex\":@5,\"ttl\":~2000,\"value64\":\"AP8=\"},\"prevNode\":{"
                  "\"createdIndex\":@2,\"key\":\"/d/"
                  "k\",\"modifiedIndex\":@2,\"ttl\":~1000,\"value64\":\"AP8=\"}},{\"action\":\"delete\","
                  "\"node\":{\"createdIndex\":@3,\"dir\":true,\"key\":\"/"
                  "e\",\"modifiedIndex\":@6},\"prevNode\":{\"createdIndex\":@3,\"dir\":true,\"key\":\"/"
                  "e\",\"modifiedIndex\":@3}}]}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/a\",\"exists\":true}]}", 200, JSON,
                  "{\"index\":@6,\"writes\":[]}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"checks\":[{\"key\":\"/a\",\"exists\":true},{\"key\":\"/"
                  "a\",\"exists\":false}],\"writes\":[{\"action\":\"delete\",\"key\":\"/a\"}]}",
                  412, JSON,
                  "{\"error\":{\"at\":\"checks[1]\",\"code\":412,\"message\":\"checks[1]: the key "
                  "exists\"},\"found\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@4,\"value\":\"2\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/none\",\"exists\":true}]}", 412,
                  JSON,
                  "{\"error\":{\"at\":\"checks[0]\",\"code\":412,\"message\":\"checks[0]: the key does not "
                  "exist\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/none\",\"value\":\"\"}]}", 412,
                  JSON,
                  "{\"error\":{\"at\":\"checks[0]\",\"code\":412,\"message\":\"checks[0]: the key does not "
                  "exist\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/none\",\"modifiedIndex\":7}]}",
                  412, JSON,
                  "{\"error\":{\"at\":\"checks[0]\",\"code\":412,\"message\":\"checks[0]: the key does not "
                  "exist\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/a\",\"modifiedIndex\":1000}]}",
                  412, JSON,
                  "{\"error\":{\"at\":\"checks[0]\",\"code\":412,\"message\":\"checks[0]: the modified index "
                  "is @4, not "
                  "1000\"},\"found\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@4,\"value\":\"2\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/a\",\"value\":\"1\"}]}", 412, JSON,
                  "{\"error\":{\"at\":\"checks[0]\",\"code\":412,\"message\":\"checks[0]: the value is "
                  "another "
                  "one\"},\"found\":{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@4,\"value\":\"2\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"checks\":[{\"key\":\"/d\",\"value\":\"1\"}]}", 412, JSON,
                  "{\"error\":{\"at\":\"checks[0]\",\"code\":412,\"message\":\"checks[0]: it is a directory, "
                  "and has no "
                  "value\"},\"found\":{\"createdIndex\":@2,\"dir\":true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@2},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"set\",\"key\":\"/b\"},{\"action\":\"update\",\"key\":\"/"
                  "none\",\"value\":\"1\"}]}",
                  404, JSON,
                  "{\"error\":{\"at\":\"writes[1]\",\"code\":404,\"message\":\"writes[1]: key not found: "
                  "/none\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"checks\":[{\"key\":\"/"
                  "a\",\"exists\":true}],\"writes\":[{\"action\":\"create\",\"key\":\"/a\"}]}",
                  412, JSON,
                  "{\"error\":{\"at\":\"writes[0]\",\"code\":412,\"message\":\"writes[0]: key already "
                  "exists: /a\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"writes\":[{\"action\":\"delete\",\"key\":\"/d\"}]}", 409,
                  JSON,
                  "{\"error\":{\"at\":\"writes[0]\",\"code\":409,\"message\":\"writes[0]: not a file: "
                  "/d\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"delete\",\"key\":\"/d\",\"dir\":true}]}", 409, JSON,
                  "{\"error\":{\"at\":\"writes[0]\",\"code\":409,\"message\":\"writes[0]: directory not "
                  "empty: /d\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{\"writes\":[{\"action\":\"set\",\"key\":\"/a/b\"}]}", 409,
                  JSON,
                  "{\"error\":{\"at\":\"writes[0]\",\"code\":409,\"message\":\"writes[0]: not a directory: "
                  "/a\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"delete\",\"key\":\"/\",\"recursive\":true}]}", 403, JSON,
                  "{\"error\":{\"at\":\"writes[0]\",\"code\":403,\"message\":\"writes[0]: root is read only: "
                  "/\"},\"index\":@6}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"set\",\"key\":\"/_fleet/unit/a.service\"}]}", 403, JSON,
                  "{\"error\":{\"at\":\"writes[0]\",\"code\":403,\"message\":\"writes[0]: key: what is below "
                  "/_fleet is fleet's own\"}}\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"set\",\"key\":\"/ok\"},{\"action\":\"post\",\"key\":\"/b\"}]}",
                  400, JSON,
                  "{\"error\":{\"at\":\"writes[1]\",\"code\":400,\"message\":\"writes[1]: action: expected "
                  "set, create, update or delete\"}}\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{}", 400, JSON,
                  ERROR(400, "nothing to check and nothing to write: {\\\"checks\\\": [...], \\\"writes\\\": "
                             "[...]}") "\n" },
                { "POST /fleet/v1/kv/txn", JSON, "[]", 400, JSON, ERROR(400, "expected an object") "\n" },
                { "POST /fleet/v1/kv/txn", JSON, "{", 400, JSON, ERROR(400, "$J") "\n" },
                { "POST /fleet/v1/kv/txn", JSON, "", 400, JSON, ERROR(400, "$J") "\n" },
                { "POST /fleet/v1/kv/txn", NULL, "{}", 415, JSON,
                  ERROR(415, "only an application/json body is taken") "\n" },
                { "POST /fleet/v1/kv/txn", "Content-Type: application/jsonx\r\n", "{}", 415, JSON,
                  ERROR(415, "only an application/json body is taken") "\n" },
                { "POST /fleet/v1/kv/txn", "Content-Type: Application/JSON; charset=utf-8\r\n", "{}", 400,
                  JSON,
                  ERROR(400, "nothing to check and nothing to write: {\\\"checks\\\": [...], \\\"writes\\\": "
                             "[...]}") "\n" },
                { "POST /fleet/v1/kv/txn", "Content-Type: text/plain\r\n", "{}", 415, JSON,
                  ERROR(415, "only an application/json body is taken") "\n" },
                { "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"delete\",\"key\":\"/d\",\"recursive\":true}]}", 200, JSON,
                  "{\"index\":@7,\"writes\":[{\"action\":\"delete\",\"node\":{\"createdIndex\":@2,\"dir\":"
                  "true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@7},\"prevNode\":{\"createdIndex\":@2,\"dir\":true,\"key\":\"/"
                  "d\",\"modifiedIndex\":@2}}]}\n" },
                { "GET /fleet/v1/kv/list", NULL, NULL, 200, JSON,
                  "{\"index\":@7,\"nodes\":[{\"createdIndex\":@1,\"key\":\"/"
                  "a\",\"modifiedIndex\":@4,\"value\":\"2\"}]}\n" },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

/* -- What clients of etcd look for beside the keys -- */

static void clients_of_etcd_find_version_health_members_and_rights(void **state) {
        static const Row rows[] = {
                { "GET /version", NULL, NULL, 200, JSON,
                  "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}" },
                { "PUT /version", NULL, NULL, 405, TEXT "Allow: GET\r\n" NOSNIFF, "Method Not Allowed\n" },
                { "GET /health", NULL, NULL, 200, TEXT, "{\"health\":\"true\"}" },
                { "HEAD /health", NULL, NULL, 405, TEXT "Allow: GET\r\n" NOSNIFF, "" },
                { "OPTIONS /health", NULL, NULL, 200, "", "" },
                { "OPTIONS /v2/nope", NULL, NULL, 200, "", "" },
                { "GET /v2/nope", NULL, NULL, 404, TEXT NOSNIFF, "404 page not found\n" },
                { "GET /v2/machines", NULL, NULL, 200, TEXT, "http://$A" },
                { "HEAD /v2/machines", NULL, NULL, 200, TEXT, "" },
                { "POST /v2/machines", NULL, NULL, 405, TEXT "Allow: GET,HEAD\r\n" NOSNIFF,
                  "Method Not Allowed\n" },
                { "GET /v2/machines/", NULL, NULL, 404, TEXT NOSNIFF, "404 page not found\n" },
                { "GET /v2/members/1", NULL, NULL, 404, JSON CLUSTER, "{\"message\":\"Not found\"}" },
                { "GET /v2/members/x", NULL, NULL, 404, JSON CLUSTER, "{\"message\":\"Not found\"}" },
                { "PATCH /v2/members", NULL, NULL, 405, TEXT "Allow: GET,POST,DELETE,PUT\r\n" NOSNIFF,
                  "Method Not Allowed\n" },
                { "PUT /v2/members", JSON, "{\"peerURLs\":[\"http://a:1\"]}", 405, TEXT CLUSTER NOSNIFF,
                  "Method Not Allowed\n" },
                { "DELETE /v2/members/", NULL, NULL, 405, TEXT CLUSTER NOSNIFF, "Method Not Allowed\n" },
                { "DELETE /v2/members/x", NULL, NULL, 404, JSON CLUSTER,
                  "{\"message\":\"No such member: x\"}" },
                { "DELETE /v2/members/0012", NULL, NULL, 404, JSON CLUSTER,
                  "{\"message\":\"No such member: 12\"}" },
                { "DELETE /v2/members/000", NULL, NULL, 404, JSON CLUSTER,
                  "{\"message\":\"No such member: 0\"}" },
                { "DELETE /v2/members/0123456789abcdef", NULL, NULL, 404, JSON CLUSTER,
                  "{\"message\":\"No such member: 123456789abcdef\"}" },
                { "DELETE /v2/members/0ffffffffffffffff", NULL, NULL, 404, JSON CLUSTER,
                  "{\"message\":\"No such member: ffffffffffffffff\"}" },
                { "DELETE /v2/members/1ffffffffffffffff", NULL, NULL, 404, JSON CLUSTER,
                  "{\"message\":\"No such member: 1ffffffffffffffff\"}" },
                { "PUT /v2/members/1", NULL, "{}", 415, JSON CLUSTER,
                  "{\"message\":\"Bad Content-Type , accept application/json\"}" },
                { "PUT /v2/members/1", JSON, "{\"peerURLs\":[\"http://a:1\"]}", 404, JSON CLUSTER,
                  "{\"message\":\"No such member: 1\"}" },
                { "POST /v2/members", JSON,
                  "{\"peerURLs\":[\"http://a:1\",\"https://b:2\",\"unix://c\",\"unixs://d\"]}", 409,
                  JSON CLUSTER, "{\"message\":\"a host joins by a token: fleetctl token\"}" },
                { "POST /v2/members", "Content-Type: application/json; charset=utf-8\r\n",
                  "{\"peerURLs\":[\"http://a:1\"]}", 409, JSON CLUSTER,
                  "{\"message\":\"a host joins by a token: fleetctl token\"}" },
                { "POST /v2/members", "Content-Type: text/plain; x\r\n", "{\"peerURLs\":[\"http://a:1\"]}",
                  415, JSON CLUSTER,
                  "{\"message\":\"Bad Content-Type text/plain, accept application/json\"}" },
                { "POST /v2/members", NULL, "{\"peerURLs\":[\"http://a:1\"]}", 415, JSON CLUSTER,
                  "{\"message\":\"Bad Content-Type , accept application/json\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[]}", 400, JSON CLUSTER,
                  "{\"message\":\"no valid URLs given\"}" },
                { "POST /v2/members", JSON, "{}", 400, JSON CLUSTER,
                  "{\"message\":\"no valid URLs given\"}" },
                { "POST /v2/members", JSON, "[]", 400, JSON CLUSTER,
                  "{\"message\":\"expected an object with \\\"peerURLs\\\"\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":1}", 400, JSON CLUSTER,
                  "{\"message\":\"peerURLs: expected a list of strings\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[1]}", 400, JSON CLUSTER,
                  "{\"message\":\"peerURLs: expected a list of strings\"}" },
                { "POST /v2/members", JSON, "{", 400, JSON CLUSTER, "{\"message\":\"$J\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"a:1\"]}", 400, JSON CLUSTER,
                  "{\"message\":\"URL scheme must be http, https, unix, or unixs: a:1\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"http://a\"]}", 400, JSON CLUSTER,
                  "{\"message\":\"URL address does not have the form \\\"host:port\\\": http://a\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"http://a/b:1\"]}", 400, JSON CLUSTER,
                  "{\"message\":\"URL address does not have the form \\\"host:port\\\": http://a/b:1\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"http://a:b\"]}", 400, JSON CLUSTER,
                  "{\"message\":\"parse \\\"http://a:b\\\": invalid port \\\":b\\\" after host\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"http://a:1b/\"]}", 400, JSON CLUSTER,
                  "{\"message\":\"parse \\\"http://a:1b/\\\": invalid port \\\":1b/\\\" after host\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"http://a:1/b\"]}", 400, JSON CLUSTER,
                  "{\"message\":\"URL must not contain a path: http://a:1/b\"}" },
                { "POST /v2/members", JSON, "{\"peerURLs\":[\"http://a:1\",\"ftp://a:1\"]}", 400,
                  JSON CLUSTER,
                  "{\"message\":\"URL scheme must be http, https, unix, or unixs: ftp://a:1\"}" },
                { "GET /v2/auth/users", NULL, NULL, 200, JSON CLUSTER, "{\"users\":null}\n" },
                { "HEAD /v2/auth/roles", NULL, NULL, 200, JSON CLUSTER, "" },
                { "GET /v2/auth/roles", NULL, NULL, 200, JSON CLUSTER, "{\"roles\":null}\n" },
                { "PUT /v2/auth/users", NULL, NULL, 405, TEXT "Allow: GET,HEAD\r\n" NOSNIFF,
                  "Method Not Allowed\n" },
                { "GET /v2/auth/users/root", NULL, NULL, 404, TEXT NOSNIFF, "404 page not found\n" },
                { "GET /v2/auth/enable", NULL, NULL, 200, JSON CLUSTER, "{\"enabled\":false}\n" },
                { "PUT /v2/auth/enable", NULL, NULL, 409, JSON CLUSTER,
                  "{\"message\":\"auth: there are no users; rights depend on the listener "
                  "(fleet-api(7))\"}" },
                { "DELETE /v2/auth/enable", NULL, NULL, 409, JSON CLUSTER,
                  "{\"message\":\"auth: already disabled\"}" },
                { "POST /v2/auth/enable", NULL, NULL, 405, TEXT "Allow: GET,PUT,DELETE\r\n" NOSNIFF,
                  "Method Not Allowed\n" },
                { "GET /v2/members", NULL, NULL, 200, JSON CLUSTER,
                  "{\"members\":[{\"id\":\"$I\",\"name\":\"alpha\",\"peerURLs\":[],\"clientURLs\":[\"http://"
                  "$A\"]}]}\n" },
                { "GET /v2/members/leader", NULL, NULL, 200, JSON CLUSTER,
                  "{\"id\":\"$I\",\"name\":\"alpha\",\"peerURLs\":[],\"clientURLs\":[\"http://$A\"]}\n" },
                { "GET /v2/stats/self", NULL, NULL, 200, JSON,
                  "{\"name\":\"alpha\",\"id\":\"$I\",\"state\":\"StateLeader\",\"startTime\":\"$DZ\","
                  "\"leaderInfo\":{\"leader\":\"$I\",\"uptime\":\"$S.$Ss\",\"startTime\":\"$DZ\"},"
                  "\"recvAppendRequestCnt\":0,\"sendAppendRequestCnt\":0}" },
                { "GET /v2/stats/leader", NULL, NULL, 200, JSON, "{\"leader\":\"$I\",\"followers\":{}}" },
                { "GET /v2/stats/store", NULL, NULL, 200, JSON,
                  "{\"getsSuccess\":0,\"getsFail\":0,\"setsSuccess\":0,\"setsFail\":0,\"deleteSuccess\":0,"
                  "\"deleteFail\":0,\"updateSuccess\":0,\"updateFail\":0,\"createSuccess\":0,\"createFail\":"
                  "0,\"compareAndSwapSuccess\":0,\"compareAndSwapFail\":0,\"compareAndDeleteSuccess\":0,"
                  "\"compareAndDeleteFail\":0,\"expireCount\":0,\"watchers\":0}" },
                { "POST /v2/stats/store", NULL, NULL, 405, TEXT "Allow: GET\r\n" NOSNIFF,
                  "Method Not Allowed\n" },
                { "GET /v2/stats/nope", NULL, NULL, 404, TEXT NOSNIFF, "404 page not found\n" },
                { "GET /metrics", NULL, NULL, 404, TEXT NOSNIFF, "404 page not found\n" },
                { "OPTIONS /metrics", NULL, NULL, 200, "", "" },
                { "GET /fleet/v1/units", NULL, NULL, 403, JSON,
                  ERROR(403, "units are managed on the local socket only: /run/fleet.sock") },
                { "OPTIONS /fleet/v1/units", NULL, NULL, 403, JSON,
                  ERROR(403, "units are managed on the local socket only: /run/fleet.sock") },
                { "GET /fleet/v1x", NULL, NULL, 404, TEXT NOSNIFF, "404 page not found\n" },
                { "GET /version", "Host: [::1\r\n", NULL, 403, JSON,
                  ERROR(403, "Host header '[::1' does not match this listener") },
                { "GET /version", "Host: localhost:12a\r\n", NULL, 403, JSON,
                  ERROR(403, "Host header 'localhost:12a' does not match this listener") },
                { "GET /version", "Host: LOCALHOST:12\r\n", NULL, 200, JSON,
                  "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}" },
                { "GET /version", "Host: [::1]:12\r\n", NULL, 200, JSON,
                  "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}" },
                { "GET /version", "Host: [::1]x\r\n", NULL, 403, JSON,
                  ERROR(403, "Host header '[::1]x' does not match this listener") },
                { "GET /version", "Host: 127.1.2.3\r\n", NULL, 200, JSON,
                  "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}" },
                { "GET /version", "Host: 127.1.2.3x\r\n", NULL, 403, JSON,
                  ERROR(403, "Host header '127.1.2.3x' does not match this listener") },
                { "GET /version", "Host: 128.1.2.3\r\n", NULL, 403, JSON,
                  ERROR(403, "Host header '128.1.2.3' does not match this listener") },
                { "GET /version", "Host: localhost\r\nOrigin: http://localhost\r\n", NULL, 200, JSON,
                  "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}" },
                { "GET /version", "Host: localhost\r\nOrigin: https://localhost\r\n", NULL, 403, JSON,
                  ERROR(403, "requests of web pages from other origins are rejected (Origin: "
                             "https://localhost)") },
                { "GET /version", "Host: localhost\r\nOrigin: http://elsewhere\r\n", NULL, 403, JSON,
                  ERROR(403,
                        "requests of web pages from other origins are rejected (Origin: http://elsewhere)") },
        };

        play(*state, API_LOOPBACK, rows, ELEMENTS(rows));
}

/* -- /fleet/v1, over the socket -- */

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SELF   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ALPHA  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define BETA   "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define GAMMA  "cccccccccccccccccccccccccccccccc"
#define DELTA  "dddddddddddddddddddddddddddddddd"
#define ETA    "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

typedef struct Record {
        const char *key, *value; /* below /_fleet/ */
} Record;

static void on_written(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

/* As another host of the cluster writes it. */
static void write_records(Fixture *fixture, const Record *records, size_t n) {
        Registry *r = fixture->host->registry;

        for (size_t i = 0; i < n; i++) {
                _cleanup_text_ Text key = {};
                KvCommand cmd = { .op = KV_SET, .internal = true, .value = kv_string(records[i].value) };
                uint64_t number;

                text_printf(&key, "/_fleet/%s", records[i].key);
                cmd.key = (KvBytes) { key.chars, key.size };
                assert_int_equal(kv_propose(fixture->host->store, &cmd, on_written, NULL, &number), 0);
        }
        HOST_UNTIL(fixture->host, kv_index(fixture->host->store) == fixture->base + n &&
                                          registry_cluster(r)->index == fixture->base + n);
        fixture->base += n;
}

static const Record hosts[] = {
        { "machine/" BETA "/facts", "{\"address\":\"10.0.0.2\",\"metadata\":{\"gpu\":\"no\",\"zone\":\"a\"},"
                                    "\"name\":\"beta\",\"version\":\"7\"}" },
        { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":5000}" },
        { "machine/" BETA "/metadata/gpu", "yes" },
        { "machine/" GAMMA "/facts", "{\"name\":\"gamma\"}" },
        { "machine/" GAMMA "/presence", "{\"state\":\"away\",\"reason\":\"it is silent\"}" },
        { "machine/" DELTA "/facts", "{\"address\":\"10.0.0.4\",\"name\":\"delta\"}" },
        { "machine/" DELTA "/presence",
          "{\"away\":3,\"reason\":\"its fleetd was stopped\",\"state\":\"lost\"}" },
        { "machine/" ETA "/presence", "{\"state\":\"up\"}" },
};

#define UNIT_TEXT(more) "\"text\":\"[Service]\\nExecStart=/bin/true\\n" more "\""

static const Record units[] = {
        { "unit/a.service", "{\"hash\":\"0000000000000000000000000000000000000001\",\"text\":\"[Service]"
                            "\\nExecStart=/bin/a\\n\"}" },
        { "target/a.service", "launched" },
        { "machine/" BETA "/unit/a.service",
          "{\"order\":\"run\",\"reason\":\"it has the fewest units\",\"since\":1,\"term\":1}" },
        { "state/a.service/" BETA,
          "{\"active\":\"active\",\"hash\":\"0000000000000000000000000000000000000001\",\"load\":\"loaded\","
          "\"since\":1500,\"sub\":\"running\"}" },
        { "state/a.service/" GAMMA,
          "{\"active\":\"failed\",\"job\":\"dependency\",\"load\":\"loaded\",\"reason\":\"a unit that it "
          "requires failed to start\",\"sub\":\"dead\"}" },
        { "state/b.service/" BETA,
          "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\",\"sub\":\"dead\"}" },
        { "state/b.service/" DELTA, "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}" },
        { "unit/w.service",
          "{\"text\":\"[Service]\\nExecStart=/bin/w\\n[X-Fleet]\\nMachineMetadata=gpu=maybe\\n\"}" },
        { "target/w.service", "launched" },
        { "unit/g.service", "{\"text\":\"[Service]\\nExecStart=/bin/"
                            "g\\n[X-Fleet]\\nGlobal=true\\nMachineMetadata=gpu=yes\\n\"}" },
        { "target/g.service", "launched" },
        { "machine/" BETA "/unit/g.service", "{\"order\":\"load\"}" },
};

/* Return the number after 'name' in the last body. */
static uint64_t number_in(const Fixture *fixture, const char *name) {
        const char *at = strstr(fixture->body, name);

        assert_non_null(at);
        return strtoull(at + strlen(name), NULL, 10);
}

static void the_cluster_has_its_time_its_brake_and_the_host_that_holds_its_level_back(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"lost\",\"since\":5000}" },
                { "machine/" GAMMA "/facts", "{\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"lost\",\"since\":6000}" },
                { "machine/" DELTA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"up\",\"since\":5000}" },
        };
        static const Row rows[] = {
                { "GET /fleet/v1/cluster", NULL, NULL, 200, JSON SERVER,
                  "{\"brake\":{\"lost\":2,\"of\":3,\"until\":$S},\"clusterId\":\"$H\",\"index\":@6,"
                  "\"leader\":{\"id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":\"alpha\"},\"lastIndex\":"
                  "$S,\"lastTerm\":$T,\"level\":1,\"levelHeldBy\":\"" GAMMA
                  "\",\"levelKnown\":$S,\"machine\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":\"alpha\","
                  "\"raftIndex\":$R,\"role\":\"leader\",\"term\":$T,\"time\":$S,\"voters\":[{\"id\":"
                  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":\"alpha\",\"reachable\":true,\"role\":"
                  "\"voter\",\"seat\":"
                  "\"voter\"}]}" },
        };
        Fixture *fixture = *state;
        uint64_t until_ms, wall_ms = clock_real_ms();

        /* So long that it holds machines that were lost at the begin of the clock. */
        brake_now_ms = UINT64_C(200) * 365 * 86400 * 1000;
        write_records(fixture, records, ELEMENTS(records));
        fixture->base -= ELEMENTS(records);
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));

        /* Cluster time and the wall clock differ by nothing in a cluster that has always had a leader. */
        until_ms = number_in(fixture, "\"until\":");
        assert_in_range(until_ms, 6000 + brake_now_ms - 60000, 6000 + brake_now_ms + 60000);
        assert_in_range(number_in(fixture, "\"time\":"), wall_ms - 60000, wall_ms + 60000);
        brake_now_ms = BRAKE_MS;
}

static void machines_are_listed_and_their_metadata_changed(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/machines", NULL, NULL, 200, JSON SERVER,
                  "{\"machines\":[{\"hostname\":\"beta\",\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"kind\":\"attached\",\"metadata\":{\"gpu\":\"yes\",\"zone\":\"a\"},\"presence\":\"up\","
                  "\"primaryIP\":\"10.0.0.2\",\"since\":5000,\"version\":\"7\"},{\"hostname\":\"gamma\","
                  "\"id\":\"cccccccccccccccccccccccccccccccc\",\"kind\":\"attached\",\"presence\":\"away\","
                  "\"reason\":\"it is silent\"}]}" },
                { "GET /fleet/v1/machines?all=true", NULL, NULL, 200, JSON SERVER,
                  "{\"machines\":[{\"hostname\":\"beta\",\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"kind\":\"attached\",\"metadata\":{\"gpu\":\"yes\",\"zone\":\"a\"},\"presence\":\"up\","
                  "\"primaryIP\":\"10.0.0.2\",\"since\":5000,\"version\":\"7\"},{\"hostname\":\"gamma\","
                  "\"id\":\"cccccccccccccccccccccccccccccccc\",\"kind\":\"attached\",\"presence\":\"away\","
                  "\"reason\":\"it is "
                  "silent\"},{\"awaySince\":3,\"hostname\":\"delta\",\"id\":"
                  "\"dddddddddddddddddddddddddddddddd\",\"kind\":\"attached\",\"presence\":\"lost\","
                  "\"primaryIP\":\"10.0.0.4\",\"reason\":\"its fleetd was "
                  "stopped\"},{\"id\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\"kind\":\"attached\","
                  "\"presence\":\"up\"}]}" },
                { "GET /fleet/v1/machines?all=1", NULL, NULL, 200, JSON SERVER,
                  "{\"machines\":[{\"hostname\":\"beta\",\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"kind\":\"attached\",\"metadata\":{\"gpu\":\"yes\",\"zone\":\"a\"},\"presence\":\"up\","
                  "\"primaryIP\":\"10.0.0.2\",\"since\":5000,\"version\":\"7\"},{\"hostname\":\"gamma\","
                  "\"id\":\"cccccccccccccccccccccccccccccccc\",\"kind\":\"attached\",\"presence\":\"away\","
                  "\"reason\":\"it is silent\"}]}" },
                { "GET /fleet/v1/machines?nextPageToken=x", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "illegal base64 data at input byte 0") },
                { "PUT /fleet/v1/machines", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET and PATCH supported against this resource") },
                { "GET /fleet/v1/machines/", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA
                  "/metadata/k\",\"value\":\"v\"},{\"op\":\"remove\",\"path\":\"/" BETA "/metadata/zone\"}]",
                  204, JSON SERVER, "" },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"replace\",\"path\":\"/" GAMMA "/metadata/l\",\"value\":{\"value\":\"w\"}}]",
                  204, JSON SERVER, "" },
                { "PATCH /fleet/v1/machines", JSON, "[]", 204, JSON SERVER, "" },
                { "PATCH /fleet/v1/machines", JSON, "{}", 400, JSON SERVER,
                  ERROR(400, "unable to decode body: expected an array of operations") },
                { "PATCH /fleet/v1/machines", JSON, "[", 400, JSON SERVER,
                  ERROR(400, "unable to decode body: $J") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"move\",\"path\":\"/" GAMMA "/metadata/k\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "invalid op: expect add, remove, or replace") },
                { "PATCH /fleet/v1/machines", JSON, "[{\"path\":\"/" GAMMA "/metadata/k\",\"value\":\"v\"}]",
                  400, JSON SERVER, ERROR(400, "invalid op: expect add, remove, or replace") },
                { "PATCH /fleet/v1/machines", JSON, "[{\"op\":\"add\",\"path\":\"/" GAMMA "/metadata/k\"}]",
                  400, JSON SERVER, ERROR(400, "invalid value: add and replace require a value") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"replace\",\"path\":\"/" GAMMA "/metadata/k\",\"value\":\"\"}]", 400,
                  JSON SERVER, ERROR(400, "invalid value: add and replace require a value") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"" GAMMA "/metadata/k\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "machine metadata path invalid") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA "/meta/k\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "machine metadata path invalid") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA "/metadata/\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "machine metadata path invalid") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA "/metadata/.\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "machine metadata path invalid") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA "/metadata/..\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "machine metadata path invalid") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"//metadata/k\",\"value\":\"v\"}]", 400, JSON SERVER,
                  ERROR(400, "machine metadata path invalid") },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/unknown/metadata/k\",\"value\":\"v\"}]", 204, JSON SERVER,
                  "" },
                { "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA "0/metadata/k\",\"value\":\"v\"}]", 204, JSON SERVER,
                  "" },
                { "GET /fleet/v1/machines", NULL, NULL, 200, JSON SERVER,
                  "{\"machines\":[{\"hostname\":\"beta\",\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"kind\":\"attached\",\"metadata\":{\"gpu\":\"yes\"},\"presence\":\"up\",\"primaryIP\":"
                  "\"10.0.0.2\",\"since\":5000,\"version\":\"7\"},{\"hostname\":\"gamma\",\"id\":"
                  "\"cccccccccccccccccccccccccccccccc\",\"kind\":\"attached\",\"metadata\":{\"k\":\"v\","
                  "\"l\":\"w\"},\"presence\":\"away\",\"reason\":\"it is silent\"}]}" },
        };
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
}

static void states_are_those_of_machines_that_are_there(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/local", NULL, NULL, 200, JSON SERVER,
                  "{\"machines\":[{\"hostname\":\"alpha\",\"id\":\"" ALPHA
                  "\"}],\"states\":[{\"machineID\":\"" ALPHA
                  "\",\"name\":\"a.service\",\"systemdActiveState\":\"active\",\"systemdLoadState\":"
                  "\"loaded\",\"systemdSubState\":\"running\"},{\"hash\":\"11\",\"machineID\":\"" ALPHA
                  "\",\"name\":\"b.service\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":"
                  "\"loaded\",\"systemdSubState\":\"failed\"}]}" },
                { "GET /fleet/v1/local/a", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "PUT /fleet/v1/local", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "GET /fleet/v1/state", NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"hash\":\"0000000000000000000000000000000000000001\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"since\":1500,"
                  "\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":"
                  "\"running\"},{\"job\":\"dependency\",\"machineID\":\"cccccccccccccccccccccccccccccccc\","
                  "\"name\":\"a.service\",\"reason\":\"a unit that it requires failed to "
                  "start\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"dead\"},{\"finished\":true,\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"b.service\",\"systemdActiveState\":"
                  "\"inactive\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":\"dead\"}]}" },
                { "GET /fleet/v1/state?unitName=a.service", NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"hash\":\"0000000000000000000000000000000000000001\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"since\":1500,"
                  "\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":"
                  "\"running\"},{\"job\":\"dependency\",\"machineID\":\"cccccccccccccccccccccccccccccccc\","
                  "\"name\":\"a.service\",\"reason\":\"a unit that it requires failed to "
                  "start\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"dead\"}]}" },
                { "GET /fleet/v1/state?unitName=", NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"hash\":\"0000000000000000000000000000000000000001\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"since\":1500,"
                  "\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":"
                  "\"running\"},{\"job\":\"dependency\",\"machineID\":\"cccccccccccccccccccccccccccccccc\","
                  "\"name\":\"a.service\",\"reason\":\"a unit that it requires failed to "
                  "start\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"dead\"},{\"finished\":true,\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"b.service\",\"systemdActiveState\":"
                  "\"inactive\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":\"dead\"}]}" },
                { "GET /fleet/v1/state?machineID=" GAMMA, NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"job\":\"dependency\",\"machineID\":\"cccccccccccccccccccccccccccccccc\","
                  "\"name\":\"a.service\",\"reason\":\"a unit that it requires failed to "
                  "start\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"dead\"}]}" },
                { "GET /fleet/v1/state?machineID=" DELTA, NULL, NULL, 200, JSON SERVER, "{}" },
                { "GET /fleet/v1/state?machineID=&unitName=b.service", NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"finished\":true,\"machineID\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"name\":\"b.service\",\"systemdActiveState\":\"inactive\",\"systemdLoadState\":"
                  "\"loaded\",\"systemdSubState\":\"dead\"}]}" },
                { "GET /fleet/v1/state/a.service", NULL, NULL, 200, JSON SERVER,
                  "{\"hash\":\"0000000000000000000000000000000000000001\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"since\":1500,"
                  "\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":"
                  "\"running\"}" },
                { "GET /fleet/v1/state/a.service?machineID=" GAMMA, NULL, NULL, 200, JSON SERVER,
                  "{\"hash\":\"0000000000000000000000000000000000000001\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"since\":1500,"
                  "\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":"
                  "\"running\"}" },
                { "GET /fleet/v1/state/none.service", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "unit state does not exist") },
                { "GET /fleet/v1/state/", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "PUT /fleet/v1/state", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "GET /fleet/v1/state?nextPageToken=ZAABAA==&nextPageToken=ZAABAA==", NULL, NULL, 400,
                  JSON SERVER, ERROR(400, "too many values for page token") },
                { "GET /fleet/v1/state?nextPageToken=ZAABAA==", NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"hash\":\"0000000000000000000000000000000000000001\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"since\":1500,"
                  "\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":"
                  "\"running\"},{\"job\":\"dependency\",\"machineID\":\"cccccccccccccccccccccccccccccccc\","
                  "\"name\":\"a.service\",\"reason\":\"a unit that it requires failed to "
                  "start\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"dead\"},{\"finished\":true,\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"b.service\",\"systemdActiveState\":"
                  "\"inactive\",\"systemdLoadState\":\"loaded\",\"systemdSubState\":\"dead\"}]}" },
                { "GET /fleet/v1/state?nextPageToken=ZAACAA==", NULL, NULL, 200, JSON SERVER, "{}" },
        };
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, units, ELEMENTS(units));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
}

static void health_is_unknown_of_a_machine_that_is_not_up(void **state) {
#define RUNS "\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\""
        static const Record records[] = {
                { "unit/h.service",
                  "{\"text\":\"[Service]\\nExecStart=/bin/h\\n[X-Fleet]\\nGlobal=true\\n\"}" },
                { "target/h.service", "launched" },
                { "state/h.service/" BETA, "{" RUNS ",\"available\":true,\"health\":\"passing\"}" },
                { "state/h.service/" GAMMA,
                  "{" RUNS ",\"available\":true,\"health\":\"passing\",\"why\":\"x\"}" },
                { "state/h.service/" ETA, "{" RUNS ",\"health\":\"failing\",\"why\":\"HTTP 503\"}" },
        };
#undef RUNS
#define RUNS                                                                                        \
        "\"name\":\"h.service\",\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\"," \
        "\"systemdSubState\":\"running\""
        static const Row rows[] = {
                { "GET /fleet/v1/state?unitName=h.service", NULL, NULL, 200, JSON SERVER,
                  "{\"states\":[{\"available\":true,\"health\":\"passing\",\"machineID\":\"" BETA "\"," RUNS
                  "},{\"health\":\"unknown\",\"machineID\":\"" GAMMA "\"," RUNS
                  "},{\"health\":\"failing\",\"machineID\":\"" ETA "\"," RUNS ",\"why\":\"HTTP 503\"}]}" },
        };
#undef RUNS
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, records, ELEMENTS(records));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
}

#define OF_SHOP(more)                                                                                     \
        "{\"text\":\"[Service]\\nExecStart=/bin/true\\n[X-Fleet]\\nService=shop\\nPort=http:8080\\n" more \
        "\"}"
#define ACTIVE(more) "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"" more "}"

static const Record services[] = {
        { "unit/shop-1.service", OF_SHOP("") },
        { "target/shop-1.service", "launched" },
        { "machine/" BETA "/unit/shop-1.service", "{\"order\":\"run\"}" },
        { "endpoint/shop-1.service/" BETA,
          "{\"address\":\"10.0.0.2\",\"name\":\"beta.example\",\"ports\":[{\"name\":\"http\",\"port\":8080,"
          "\"protocol\":\"tcp\"},{\"name\":\"dns\",\"port\":53,\"protocol\":\"udp\"}],"
          "\"services\":[\"shop\",\"web\"],\"zone\":\"a\"}" },
        { "unit/shop-2.service", OF_SHOP("") },
        { "target/shop-2.service", "launched" },
        { "machine/" ETA "/unit/shop-2.service", "{\"order\":\"run\"}" },
        { "state/shop-2.service/" ETA, ACTIVE(",\"health\":\"failing\",\"why\":\"http:8080: 503\"") },
        { "unit/shop-3.service", OF_SHOP("") },
        { "target/shop-3.service", "launched" },
        { "machine/" DELTA "/unit/shop-3.service", "{\"order\":\"run\"}" },
        { "unit/shop-4.service", OF_SHOP("MachineMetadata=gpu=maybe\\n") },
        { "target/shop-4.service", "launched" },
        { "unit/shop-5.service", OF_SHOP("") },
        { "target/shop-5.service", "launched" },
        { "machine/" BETA "/unit/shop-5.service", "{\"order\":\"run\"}" },
        { "state/shop-5.service/" BETA, ACTIVE(",\"health\":\"passing\"") },
        { "unit/shop-6.service", OF_SHOP("") },
        { "target/shop-6.service", "launched" },
        { "machine/" GAMMA "/unit/shop-6.service", "{\"order\":\"run\"}" },
        { "state/shop-6.service/" GAMMA, ACTIVE(",\"available\":true,\"health\":\"passing\"") },
        { "unit/shop-7.service", OF_SHOP("") },
        { "target/shop-7.service", "launched" },
        { "machine/" BETA "/unit/shop-7.service", "{\"order\":\"run\"}" },
        { "state/shop-7.service/" BETA, ACTIVE(",\"available\":true,\"health\":\"passing\"") },
        { "unit/shop-8.service", OF_SHOP("") }, /* these two are not wanted: */
        { "unit/shop-9.service", OF_SHOP("") },
        { "target/shop-9.service", "launched" },
        { "machine/" BETA "/unit/shop-9.service", "{\"order\":\"run\"}" },
        { "state/shop-9.service/" BETA,
          "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\",\"sub\":\"dead\"}" },
};

static void services_are_listed_with_their_endpoints_and_why_a_unit_has_none(void **state) {
#define MISSING(where, n, code, reason, state)                                                        \
        "{" where "\"reason\":\"" reason "\",\"reasonCode\":\"" code "\"," state "\"unit\":\"shop-" n \
        ".service\"}"
#define ON(id, name) "\"machine\":\"" name "\",\"machineID\":\"" id "\","
#define SHOP_1                                                          \
        "{\"address\":\"10.0.0.2\",\"endpoint\":\"beta-bafd2fc8\"," ON( \
                BETA, "beta") "\"ports\":[\"http/tcp:8080\","           \
                              "\"dns/udp:53\"],\"unit\":\"shop-1.service\",\"zone\":\"a\"}"
#define SHOP_2 \
        MISSING(ON(ETA, "eeeeeeee"), "2", "endpoint-not-passing", "http:8080: 503", "\"state\":\"failing\",")
#define SHOP_3 \
        MISSING(ON(DELTA, "delta"), "3", "away-stopped", "its fleetd was stopped", "\"state\":\"lost\",")
#define SHOP_4 \
        MISSING("", "4", "endpoint-not-assigned", "fleetctl why shop-4.service", "\"state\":\"unassigned\",")
#define SHOP_5                                                                                           \
        MISSING(ON(BETA, "beta"), "5", "endpoint-crashed",                                               \
                "it ended before it was available; it is registered again when it has been healthy for " \
                "UpdateWatchSec=",                                                                       \
                "")
#define SHOP_6                                                  \
        MISSING(ON(GAMMA, "gamma"), "6", "endpoint-no-address", \
                "its host has no address; set ServiceAddress= there", "")
#define SHOP_7                                             \
        MISSING(ON(BETA, "beta"), "7", "endpoint-awaited", \
                "its host is about to register it; if it does not: the journal of fleetd there", "")
#define WEB                                                                                        \
        "{\"endpoints\":1,\"machines\":[\"beta\"],\"name\":\"web\",\"ports\":[\"http/tcp\",\"dns/" \
        "udp\"],\"wanted\":1}"
        static const Row rows[] = {
                { "GET /fleet/v1/services", NULL, NULL, 200, JSON SERVER,
                  "{\"services\":[{\"endpoints\":1,\"machine\":\"eeeeeeee\",\"machines\":[\"beta\"],\"name\":"
                  "\"shop\",\"ports\":[\"http/tcp\",\"dns/udp\"],\"reason\":\"http:8080: "
                  "503\",\"reasonCode\":"
                  "\"endpoint-not-passing\",\"state\":\"failing\",\"unit\":\"shop-2.service\",\"wanted\":7}"
                  "," WEB "]}" },
                { "GET /fleet/v1/services/shop", NULL, NULL, 200, JSON SERVER,
                  "{\"endpoints\":[" SHOP_1 "," SHOP_2 "," SHOP_3 "," SHOP_4 "," SHOP_5 "," SHOP_6 "," SHOP_7
                  "]}" },
                { "GET /fleet/v1/services/web", NULL, NULL, 200, JSON SERVER,
                  "{\"endpoints\":[" SHOP_1 "]}" },
                { "GET /fleet/v1/services?nextPageToken=ZAACAA==", NULL, NULL, 200, JSON SERVER, "{}" },
                { "GET /fleet/v1/services?nextPageToken=ZAACAOkDAABzaG9w", NULL, NULL, 200,
                  JSON SERVER, /* after shop */
                  "{\"services\":[" WEB "]}" },
                { "GET "
                  "/fleet/v1/services/"
                  "shop?nextPageToken="
                  "ZAACAOkDAABzaG9wLTYuc2VydmljZS9jY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjYw==", /* after
                                                                                                     shop-6 on
                                                                                                     gamma */
                  NULL, NULL, 200, JSON SERVER, "{\"endpoints\":[" SHOP_7 "]}" },
                { "GET /fleet/v1/services/shop?nextPageToken=ZAACAOkDAABzaG9wLTYuc2VydmljZQ==", /* after
                                                                                                   shop-6 */
                  NULL, NULL, 200, JSON SERVER, "{\"endpoints\":[" SHOP_6 "," SHOP_7 "]}" },
                { "GET /fleet/v1/services/shop?nextPageToken=x", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "illegal base64 data at input byte 0") },
                { "GET /fleet/v1/services/none", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "no unit has the service none") },
                { "PUT /fleet/v1/services/shop", NULL, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
        };
        Fixture *fixture = *state;

        host_raise(fixture->host, KV_LEVEL_SERVICES);
        fixture->base = kv_index(fixture->host->store);
        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, services, ELEMENTS(services));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
}

/* Write the presence of a machine since 'ago_ms' of cluster time. */
static void write_presence(Fixture *fixture, const char *id, const char *presence, uint64_t ago_ms) {
        uint64_t now_ms = kv_cluster_ms(fixture->host->store);
        char key[64], value[64];

        snprintf(key, sizeof(key), "machine/%s/presence", id);
        snprintf(value, sizeof(value), "{\"state\":\"%s\",\"since\":%" PRIu64 "}", presence, now_ms - ago_ms);
        write_records(fixture, &(Record) { key, value }, 1);
}

/* 'kind': "" is none. */
static void assert_reason(Fixture *fixture, const char *unit, const char *kind, const char *expected) {
        _cleanup_json_ JsonValue *root = NULL;
        char request[64];
        int length;
        char *body;

        snprintf(request, sizeof(request), "GET /fleet/v1/units/%s", unit);
        send_row(fixture, API_SOCKET, &(Row) { .request = request });
        body = split(fixture, &length);
        assert_int_equal(json_value_parse(body, strlen(body), &root, NULL), 0);
        assert_string_equal(json_value_string(json_value_member(root, "reason")) ?: "", expected);
        assert_string_equal(json_value_string(json_value_member(root, "reasonKind")) ?: "", kind);
}

static void write_units_that_wait(Fixture *fixture) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"name\":\"beta\"}" },
                { "machine/" GAMMA "/facts", "{\"name\":\"gamma\"}" },
                { "machine/" DELTA "/facts", "{\"name\":\"delta\"}" },
                { "machine/" ETA "/facts", "{\"name\":\"newton\"}" },
                { "machine/11111111111111111111111111111111/facts", "{\"name\":\"alpha\"}" },
                { "unit/web@1.service", "{\"text\":\"[X-Fleet]\\nConflicts=web@*.service\\n\"}" },
                { "unit/web@2.service", "{\"text\":\"[X-Fleet]\\nConflicts=web@*.service\\n\"}" },
                { "unit/web@3.service", "{\"text\":\"[X-Fleet]\\nConflicts=web@*.service\\n\"}" },
                { "unit/free.service", "{\"text\":\"[Service]\\n\"}" },
                { "unit/ssd.service", "{\"text\":\"[X-Fleet]\\nMachineMetadata=ssd=true\\n\"}" },
                { "unit/late.service", "{\"text\":\"[X-Fleet]\\nMachineMetadata=ssd=true\\n\"}" },
                { "target/web@1.service", "launched" },
                { "target/web@2.service", "launched" },
                { "target/web@3.service", "launched" },
                { "target/free.service", "launched" },
                { "target/ssd.service", "launched" },
                { "target/late.service", "launched" },
                { "machine/" BETA "/unit/web@1.service", "{\"order\":\"run\"}" },
                { "machine/" ETA "/unit/web@2.service", "{\"order\":\"run\"}" },
                { "machine/11111111111111111111111111111111/unit/web@3.service", "{\"order\":\"run\"}" },
                { "machine/" BETA "/unit/free.service", "{\"order\":\"run\"}" },
                { "machine/" ETA "/unit/ssd.service", "{\"order\":\"run\"}" },
        };

        write_records(fixture, records, ELEMENTS(records));
        write_presence(fixture, ETA, "up", 0);
        write_presence(fixture, "11111111111111111111111111111111", "up", 0);
}

/* First the cause, then what follows. */
static void a_unit_that_waits_states_the_cause_and_what_follows(void **state) {
        Fixture *fixture = *state;

        write_units_that_wait(fixture);
        write_presence(fixture, BETA, "left", 0);
        write_presence(fixture, GAMMA, "lost", 3600000);
        write_presence(fixture, DELTA, "lost", 7200000);
        assert_reason(fixture, "web@1.service", "waiting",
                      "waiting: beta was shut down; no other machine qualifies (web@3 is on alpha, web@2 on "
                      "newton)");
        assert_reason(fixture, "free.service", "waiting", "waiting: beta was shut down; moving to alpha");
        assert_reason(fixture, "ssd.service", "waiting",
                      "waiting: newton no longer qualifies (MachineMetadata=ssd=true, and it has no ssd); no "
                      "other machine qualifies (alpha has no metadata ssd=true; beta was shut down)");
        assert_reason(
                fixture, "late.service", "waiting",
                "no machine qualifies (alpha and newton have no metadata ssd=true; beta was shut down)");

        write_presence(fixture, BETA, "lost", 3599000);
        assert_reason(
                fixture, "web@1.service", "waiting",
                "waiting: beta is lost; no other machine qualifies (web@3 is on alpha, web@2 on newton)");
        write_presence(fixture, BETA, "lost", 3600000);
        assert_reason(fixture, "web@1.service", "waiting",
                      "waiting: no machine qualifies (web@3 is on alpha, web@2 on newton)");
        assert_reason(fixture, "free.service", "waiting", "waiting: moving to alpha");
        write_records(fixture,
                      &(Record) { "machine/11111111111111111111111111111111/unit/ssd.service",
                                  "{\"order\":\"run\"}" },
                      1);
        assert_reason(fixture, "ssd.service", "moving",
                      "moving: newton no longer qualifies (MachineMetadata=ssd=true, and it has no ssd); "
                      "alpha has it");

        /* A machine that is lost and was removed leaves no trace in reasons. */
        send_row(fixture, API_SOCKET, &(Row) { .request = "DELETE /fleet/v1/machines/" BETA });
        HOST_UNTIL(fixture->host, cluster_machine_is_removed(
                                          cluster_machine(registry_cluster(fixture->host->registry), BETA)));
        assert_reason(fixture, "web@1.service", "waiting",
                      "no machine qualifies (web@3 is on alpha, web@2 on newton)");
}

/* Two of five; one has left, and does not count. */
static void the_mass_failure_brake_states_its_end(void **state) {
        static const char form[] =
                "held back until HH:MM:SS: 2 of 4 machines were lost within a minute (BrakeSec=)";
        char expected[sizeof(form)], time[16];
        Fixture *fixture = *state;
        struct tm tm;
        time_t end;

        write_units_that_wait(fixture);
        write_presence(fixture, DELTA, "left", 0);
        write_presence(fixture, GAMMA, "lost", 30000);
        write_presence(fixture, BETA, "lost", 5000);
        end = (time_t) ((loop_wall_ms(fixture->host->loop) + BRAKE_MS - 5000) / 1000);
        for (unsigned i = 0; i < 3; i++, end--) { /* the second may end between the two */
                memcpy(expected, form, sizeof(form));
                (void) strftime(time, sizeof(time), "%H:%M:%S", localtime_r(&end, &tm));
                memcpy(strstr(expected, "HH"), time, strlen(time));
                send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/units/free.service" });
                if (strstr(fixture->answer, expected))
                        break;
        }
        if (!strstr(fixture->answer, expected))
                fail_msg("%s", fixture->answer);

        /* Its time is over: gamma is released first, and beta waits for its units. */
        write_presence(fixture, GAMMA, "lost", 80000);
        write_presence(fixture, BETA, "lost", 50000);
        assert_reason(fixture, "free.service", "waiting", "waiting: beta is lost; moving to alpha");
        write_records(fixture, &(Record) { "machine/" GAMMA "/unit/late.service", "{\"order\":\"run\"}" }, 1);
        write_records(fixture, &(Record) { "unit/late.service", "{\"text\":\"[Service]\\n\"}" }, 1);
        assert_reason(fixture, "free.service", "held",
                      "held back: machines that were lost together are replaced one by one (BrakeSec=)");
}

/* -- Leaving -- */

/* The same after requests that have written. */
static void write_now(Fixture *fixture, const Record *records, size_t n) {
        fixture->base = kv_index(fixture->host->store);
        write_records(fixture, records, n);
}

enum { LONG_LIST = 1250 };

/* Read all pages of a list, and note in 'ret' how often it has the name of each number. Before the page after
 * a thousand items, delete a name before it, and before the last page one of a page that has not been read.
 */
static void read_pages(Fixture *fixture, const char *path, unsigned ret[static LONG_LIST],
                       const char *const removed[2]) {
        _cleanup_text_ Text next = {};
        unsigned n_pages = 0;

        memset(ret, 0, LONG_LIST * sizeof(*ret));
        text_printf(&next, "GET %s", path);
        for (bool more = true; more; n_pages++) {
                const char *token, *end;

                send_row(fixture, API_SOCKET, &(Row) { .request = next.chars });
                for (const char *at = fixture->answer; (at = strstr(at, "\"name\":\"u"));) {
                        unsigned i;

                        at += strlen("\"name\":\"u");
                        i = (unsigned) atoi(at);
                        assert_true(i < LONG_LIST);
                        ret[i]++;
                }
                token = strstr(fixture->answer, "\"nextPageToken\":\"");
                more = token;
                if (!more)
                        break;
                token += strlen("\"nextPageToken\":\"");
                end = strchr(token, '"');
                text_clear(&next);
                text_printf(&next, "GET %s%cnextPageToken=%.*s", path, strchr(path, '?') ? '&' : '?',
                            (int) (end - token), token);
                if (n_pages + 1 == 11 || n_pages + 1 == 12) { /* pages read */
                        KvCommand cmd = { .op = KV_DELETE, .internal = true };
                        uint64_t number;

                        cmd.key = kv_string(removed[n_pages + 1 - 11]);
                        fixture->base = kv_index(fixture->host->store);
                        assert_int_equal(kv_propose(fixture->host->store, &cmd, on_written, NULL, &number),
                                         0);
                        HOST_UNTIL(fixture->host,
                                   registry_cluster(fixture->host->registry)->index == fixture->base + 1);
                }
        }
        assert_int_equal(n_pages, 12);
}

static void the_pages_of_a_long_list_have_each_item_once_while_others_are_removed(void **state) {
        static const char *const removed[][2] = {
                { "/_fleet/unit/u0001.service", "/_fleet/unit/u1240.service" },
                { "/_fleet/state/u0001.service/" BETA, "/_fleet/state/u1240.service/" BETA },
                { "/_fleet/state/u0002.service/" BETA, "/_fleet/state/u1241.service/" BETA },
                { "/_fleet/data/u0001.service", "/_fleet/data/u1240.service" },
        };
        static const char *const paths[] = { "/fleet/v1/units", "/fleet/v1/state",
                                             "/fleet/v1/state?machineID=" BETA,
                                             "/fleet/v1/data?machine=" GAMMA };
        static char keys[3 * LONG_LIST][80];
        static Record records[3 * LONG_LIST];
        unsigned seen[LONG_LIST];
        Fixture *fixture = *state;

        for (unsigned i = 0; i < LONG_LIST; i++) {
                snprintf(keys[2 * i], sizeof(keys[0]), "unit/u%04u.service", i);
                records[2 * i] = (Record) { keys[2 * i],
                                            "{\"text\":\"[Service]\\nExecStart=/bin/true\\n\"}" };
                snprintf(keys[2 * i + 1], sizeof(keys[0]), "state/u%04u.service/" BETA, i);
                records[2 * i + 1] = (Record) {
                        keys[2 * i + 1], "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}"
                };
                snprintf(keys[2 * LONG_LIST + i], sizeof(keys[0]), "data/u%04u.service", i);
                records[2 * LONG_LIST + i] = (Record) { keys[2 * LONG_LIST + i],
                                                        "{\"machine\":\"" GAMMA "\",\"since\":5}" };
        }
        write_now(fixture, hosts, ELEMENTS(hosts));
        for (size_t i = 0; i < ELEMENTS(records); i += 50)
                write_now(fixture, records + i, 50);
        for (size_t row = 0; row < ELEMENTS(paths); row++) {
                read_pages(fixture, paths[row], seen, removed[row]);
                for (unsigned i = 0; i < LONG_LIST; i++) {
                        bool gone = i == 1240 || (row == 2 && (i == 1 || i == 1241));

                        if (seen[i] != !gone)
                                fail_msg("%s: u%04u is listed %u times", paths[row], i, seen[i]);
                }
        }

        /* A key whose item was removed, and keys that no daemon writes. */
        send_row(fixture, API_SOCKET,
                 &(Row) { .request = "GET /fleet/v1/units?nextPageToken=ZAAMAEwEAAB1MTI0MC5zZXJ2aWNl" });
        assert_non_null(strstr(fixture->answer, "u1241.service"));
        assert_null(strstr(fixture->answer, "u1239.service"));
        send_row(fixture, API_SOCKET,
                 &(Row) { .request = "GET /fleet/v1/state?nextPageToken=ZAAMAEwEAAB1MTI0OC5zZXJ2aWNl" });
        assert_non_null(strstr(fixture->answer, "u1248.service"));
        assert_null(strstr(fixture->answer, "u1247.service"));
        write_now(fixture,
                  &(Record) { "state/u1248.service/" GAMMA,
                              "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}" },
                  1);
        send_row(
                fixture, API_SOCKET,
                &(Row) {
                        .request =
                                "GET "
                                "/fleet/v1/"
                                "state?nextPageToken="
                                "ZAAMAEwEAAB1MTI0OC5zZXJ2aWNlL2JiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJi" });
        assert_null(strstr(fixture->answer, "\"machineID\":\"" BETA "\",\"name\":\"u1248"));
        assert_non_null(strstr(fixture->answer, "\"machineID\":\"" GAMMA "\",\"name\":\"u1248"));
        send_row(fixture, API_SOCKET,
                 &(Row) { .request = "GET /fleet/v1/units?nextPageToken=ZAAMAEwEAAD___8A" });
        assert_null(strstr(fixture->answer, ".service"));
}

static void raise_level(Fixture *fixture, unsigned to) {
        uint64_t level = 0, since_ms;
        char body[32];

        snprintf(body, sizeof(body), "{\"level\":%u}", to);

        send_row(fixture, API_SOCKET,
                 &(Row) { .request = "PUT /fleet/v1/cluster/level",
                          .fields = "Content-Type: application/json\r\n",
                          .body = body });
        HOST_UNTIL(fixture->host, /* the row for the history follows the answer */
                   registry_read_level(fixture->host->registry, &level, &since_ms) == 0 && level == to);
}

/* Send a request about the leave of this host, and check status and a part of the answer. */
static void assert_leave(Fixture *fixture, const char *method, unsigned status, const char *says) {
        char request[64], head[32];

        snprintf(request, sizeof(request), "%s /fleet/v1/cluster/leave", method);
        snprintf(head, sizeof(head), "HTTP/1.1 %u ", status);
        send_row(fixture, API_SOCKET, &(Row) { .request = request });
        if (!starts_with(fixture->answer, head) || !strstr(fixture->answer, says))
                fail_msg("%s: %s", request, fixture->answer);
}

static void a_leave_is_refused_with_the_reason_or_begins_and_is_cancelled(void **state) {
        static const Record self[] = {
                { "machine/" SELF "/facts", "{\"level\":9,\"name\":\"alpha\"}" },
                { "machine/" SELF "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "cluster/member/" SELF,
                  "{\"level\":9,\"name\":\"alpha\",\"peer\":\"10.0.0.1:2380\",\"raftId\":1}" },
        };
        static const Record others[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "cluster/member/" BETA, "{\"name\":\"beta\",\"peer\":\"10.0.0.2:2380\",\"raftId\":2}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"lost\",\"since\":5000}" },
                { "machine/" DELTA "/presence", "{\"state\":\"lost\",\"since\":5000}" },
        };
        static const Record owned[] = {
                { "unit/own.service", "{\"owner\":\"" SELF "\",\"text\":\"[Service]\\n\"}" },
                { "unit/pinned.service", "{\"text\":\"[X-Fleet]\\nMachineID=" SELF "\\n\"}" },
                { "target/pinned.service", "launched" },
                { "machine/" SELF "/unit/pinned.service", "{\"order\":\"run\"}" },
        };
        static const Record moving[] = {
                { "state/pinned.service/" SELF,
                  "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}" },
                { "machine/" BETA "/unit/pinned.service", "{\"order\":\"run\"}" },
        };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        assert_leave(fixture, "POST", 409,
                     "leave requires feature level 5, and the level is 1: fleetctl cluster level 5");
        raise_level(fixture, 5);
        assert_leave(
                fixture, "POST", 409,
                "alpha is not in the list of machines yet: try again when fleetctl list-machines has it");
        write_now(fixture, self, ELEMENTS(self));
        assert_leave(fixture, "POST", 409,
                     "alpha is the last voter: no other host is up that stays in the cluster");

        brake_now_ms = UINT64_C(200) * 365 * 86400 * 1000;
        write_now(fixture, others, ELEMENTS(others));
        assert_leave(fixture, "POST", 409,
                     "2 of 4 machines were lost within a minute, and nothing moves before ");
        brake_now_ms = BRAKE_MS;
        write_now(fixture, owned, ELEMENTS(owned));
        assert_leave(fixture, "POST", 409,
                     "the unit directory of this host owns 1 unit (own.service): move the file to another "
                     "host, or remove it");
        assert_leave(fixture, "GET", 200,
                     "\"reason\":\"the unit directory of this host owns 1 unit (own.service): move the file "
                     "to another host, or remove it\",\"step\":\"none\"");
        write_now(fixture, &(Record) { "unit/own.service", "{\"text\":\"[Service]\\n\"}" }, 1);
        assert_leave(fixture, "GET", 200, "\"name\":\"alpha\",\"step\":\"none\"");
        assert_leave(fixture, "DELETE", 404, "this host is not leaving its cluster");

        /* Another record than that of the tree, as if it had changed before the write. */
        cluster_machine(c, SELF)->maintenance_index++;
        assert_leave(fixture, "POST", 409,
                     "another request changed the maintenance of the machine meanwhile; try again");
        cluster_machine(c, SELF)->maintenance_index--;
        assert_leave(fixture, "POST", 204, "");
        HOST_UNTIL(fixture->host, cluster_machine_is_leaving(cluster_machine(c, SELF)));
        assert_string_equal(cluster_machine(c, SELF)->maintenance->by, "root@alpha");
        assert_leave(fixture, "POST", 204, ""); /* again */
        assert_leave(fixture, "GET", 200,
                     "\"reason\":\"waiting: alpha no longer qualifies (it is leaving the cluster); no other "
                     "machine qualifies ");
        assert_leave(fixture, "GET", 200,
                     "\"reasonKind\":\"waiting\",\"step\":\"units\",\"unit\":\"pinned.service\",\"units\":1,"
                     "\"waiting\":[\"pinned.service\"]}");
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/cluster" });
        assert_non_null(
                strstr(fixture->answer,
                       "\"leaving\":[{\"name\":\"alpha\",\"units\":1,\"waiting\":[\"pinned.service\"]}]"));
        /* Another host starts it: it is not to be stopped. */
        write_now(fixture, moving, ELEMENTS(moving));
        assert_leave(fixture, "GET", 200,
                     "\"reason\":\"moving: alpha no longer qualifies (it is leaving the cluster); beta has "
                     "it\",\"reasonKind\":\"moving\"");
        assert_leave(fixture, "GET", 200, "\"waiting\":[]}");
        write_now(fixture, owned, 1); /* submitted at the same time */
        assert_leave(fixture, "GET", 200,
                     "\"reason\":\"the unit directory of this host owns 1 unit (own.service): move the file "
                     "to another host, or remove it\",\"step\":\"owner\"");
        assert_leave(fixture, "DELETE", 204, "");
        HOST_UNTIL(fixture->host, !cluster_machine_is_leaving(cluster_machine(c, SELF)));
        write_now(fixture, &(Record) { "unit/own.service", "{\"text\":\"[Service]\\n\"}" }, 1);

        /* Another host that leaves does not count as one that stays. */
        assert_int_equal(
                kv_propose(fixture->host->store,
                           &(KvCommand) { .op = KV_SET,
                                          .internal = true,
                                          .key = kv_string("/_fleet/machine/" BETA "/maintenance"),
                                          .value = kv_string("{\"for\":\"leave\",\"mode\":\"draining\"}") },
                           on_written, NULL, NULL),
                0);
        HOST_UNTIL(fixture->host, cluster_machine_is_leaving(cluster_machine(c, BETA)));
        assert_leave(fixture, "POST", 409, "alpha is the last voter");
}

static unsigned n_views;

int __real_scheduler_view_new(const Cluster *cluster, uint64_t now_ms, SchedulerView **ret);
int __wrap_scheduler_view_new(const Cluster *cluster, uint64_t now_ms, SchedulerView **ret);
int __wrap_scheduler_view_new(const Cluster *cluster, uint64_t now_ms, SchedulerView **ret) {
        n_views++;
        return __real_scheduler_view_new(cluster, now_ms, ret);
}

/* Check the maintenance that the cluster answers, and how many views of the scheduler that costs: each is a
 * pass over all units. */
static void assert_cluster_maintenance(Fixture *fixture, const char *says, unsigned views) {
        n_views = 0;
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/cluster" });
        if (says ? !strstr(fixture->answer, says) : strstr(fixture->answer, "\"maintenance\"") != NULL)
                fail_msg("%s is not in: %s", says ?: "no maintenance", fixture->answer);
        assert_int_equal(n_views, views);
}

/* Send a request about the maintenance of a machine, and check status and a part of the answer. */
static void assert_maintenance(Fixture *fixture, const char *request, const char *body, unsigned status,
                               const char *says) {
        char line[128], head[32];
        const char *space = strchr(request, ' ');

        snprintf(line, sizeof(line), "%.*s /fleet/v1/machines/%s/maintenance", (int) (space - request),
                 request, space + 1);
        snprintf(head, sizeof(head), "HTTP/1.1 %u ", status);
        send_row(fixture, API_SOCKET,
                 &(Row) { .request = line,
                          .fields = body ? "Content-Type: application/json\r\n" : NULL,
                          .body = body });
        if (!starts_with(fixture->answer, head) || !strstr(fixture->answer, says))
                fail_msg("%s %s: %s", line, body ?: "", fixture->answer);
}

static void assert_answer(Fixture *fixture, const char *request, const char *body, unsigned status,
                          const char *says) {
        char head[32];

        snprintf(head, sizeof(head), "HTTP/1.1 %u ", status);
        send_row(fixture, API_SOCKET,
                 &(Row) { .request = request,
                          .fields = body ? "Content-Type: application/json\r\n" : NULL,
                          .body = body });
        if (!starts_with(fixture->answer, head) || !strstr(fixture->answer, says))
                fail_msg("%s %s: %s", request, body ?: "", fixture->answer);
}

#define REVISIONS "/fleet/v1/revisions/r.service"

static void each_text_of_a_unit_is_a_revision(void **state) {
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "GET /fleet/v1/revisions/none.service", NULL, 404, "unit does not exist" },
                { "PUT /fleet/v1/units/r.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=1\\n\"}", 201, "" },
                { "GET " REVISIONS, NULL, 200,
                  "{\"name\":\"r.service\",\"revisions\":[{\"by\":\"root@alpha\",\"hash\":\"" },
                { "PUT /fleet/v1/units/r.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"# old\\n[Service]\\nA=2\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/r.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=3\\n\"}", 201, "" },
                { "GET " REVISIONS, NULL, 200,
                  "{\"name\":\"r.service\",\"previous\":2,\"revisions\":[{\"by\":\"root@alpha\",\"hash\":"
                  "\"" },
                { "GET " REVISIONS, NULL, 200, "\"how\":\"submitted\",\"number\":3,\"since\":" },
                { "GET " REVISIONS, NULL, 200, "\"how\":\"submitted\",\"number\":1,\"since\":" },
                { "GET " REVISIONS "?rev=2", NULL, 200, "\"text\":\"# old\\n[Service]\\nA=2\\n\"" },
                { "GET " REVISIONS "?rev=3", NULL, 200, "\"text\":\"[Service]\\nA=3\\n\"" },
                { "GET " REVISIONS "?rev=4", NULL, 404,
                  "r.service has no revision 4; fleetctl history r.service lists them" },
                { "GET " REVISIONS "?rev=0", NULL, 400, "rev=0: expected a number from 1 on" },
                { "GET " REVISIONS "?rev=02", NULL, 400, "rev=02: expected a number from 1 on" },
                { "GET " REVISIONS "?rev=99999999999999999999", NULL, 400, "expected a number from 1 on" },
                { "GET " REVISIONS "?rev=x%2Fy", NULL, 400, "rev=x/y: expected a number from 1 on" },
                /* A former text gets its number. */
                { "PUT /fleet/v1/units/r.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=2\\n\"}", 201, "" },
                { "GET " REVISIONS, NULL, 200, "\"how\":\"reverted\",\"number\":2,\"since\":" },
                { "GET " REVISIONS, NULL, 200, "\"previous\":3," },
        };
        Fixture *fixture = *state;

        raise_level(fixture, 8);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        /* It has one row: that of its last submission. */
        assert_null(strstr(strstr(fixture->answer, "\"number\":2,") + 1, "\"number\":2,"));
        assert_null(strstr(fixture->answer, "\"how\":\"submitted\",\"number\":2,"));

        /* A key that cannot be read, and one that is absent. */
        write_now(fixture, &(Record) { "revision/r.service/1", "{" }, 1);
        assert_answer(fixture, "GET " REVISIONS "?rev=1", NULL, 500,
                      "revision 1 of r.service cannot be read: Bad message; fleetctl history r.service lists "
                      "others");
        write_now(fixture,
                  &(Record) { "unit/s.service",
                              "{\"rev\":3,\"revs\":[{\"hash\":\"a\",\"rev\":1}],\"text\":\"\"}" },
                  1);
        assert_answer(fixture, "GET /fleet/v1/revisions/s.service", NULL, 200, "\"number\":1");
        assert_answer(fixture, "GET /fleet/v1/revisions/s.service?rev=1", NULL, 404,
                      "s.service has no revision 1;");
}

static void a_revision_of_an_instance_has_the_drop_ins_of_its_own(void **state) {
#define OWN "\\n\\n# web@1.service.d/a.conf\\n[Service]\\nB=1\\n\""
        static const struct {
                const char *request, *body, *says;
        } rows[] = {
                { "PUT /fleet/v1/units/web@.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=1\\n\"}", "" },
                { "PUT /fleet/v1/units/web@1.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=1\\n" OWN "}", "" },
                { "PUT /fleet/v1/units/web@2.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=1\\n\"}", "" },
                { "PUT /fleet/v1/units/web@.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nA=2\\n\"}", "" },
                { "GET /fleet/v1/revisions/web@.service?rev=1", NULL,
                  "\"name\":\"web@.service\",\"options\":[{\"name\":\"A\",\"section\":\"Service\",\"value\":"
                  "\"1\"}],\"text\":\"[Service]\\nA=1\\n\"" },
                { "GET /fleet/v1/revisions/web@1.service?rev=1", NULL, "\"text\":\"[Service]\\nA=1\\n" OWN },
                { "GET /fleet/v1/revisions/web@1.service?rev=2", NULL, "\"text\":\"[Service]\\nA=2\\n" OWN },
                { "GET /fleet/v1/revisions/web@1.service?rev=2", NULL, "\"name\":\"web@1.service\"" },
                { "GET /fleet/v1/revisions/web@2.service?rev=1", NULL, "\"text\":\"[Service]\\nA=1\\n\"" },
                { "GET /fleet/v1/revisions/web@2.service?rev=2", NULL, "\"text\":\"[Service]\\nA=2\\n\"" },
        };
        _cleanup_unit_ Unit *former = NULL;
        Fixture *fixture = *state;
        static const char text[] = "[Service]\nA=1\n\n\n# web@1.service.d/a.conf\n[Service]\nB=1\n";

        raise_level(fixture, 9);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].body ? 201 : 200, rows[i].says);
        assert_int_equal(unit_read("web@1.service", text, strlen(text), &former, NULL), 0);
        assert_answer(fixture, "GET /fleet/v1/revisions/web@1.service?rev=1", NULL, 200, former->hash);
        assert_answer(fixture, "GET /fleet/v1/revisions/web@1.service?rev=3", NULL, 404,
                      "web@1.service has no revision 3; fleetctl history web@1.service lists them");
#undef OWN
}

#define ROLLOUT "/fleet/v1/rollouts/agent.service"

/* A global unit on two machines: beta is being updated, and gamma has the former text. */
static void write_rollout(Fixture *fixture) {
        static const Record first[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "target/agent.service", "launched" },
                { "unit/agent.service",
                  "{\"rev\":2,\"text\":\"[X-Fleet]\\nGlobal=yes\\n[Service]\\nExecStart=/bin/a\\n\"}" },
                { "unit/other.service", "{\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
        };
        char assignment[128], record[256];
        const char *hash;

        write_now(fixture, first, ELEMENTS(first));
        hash = cluster_unit(registry_cluster(fixture->host->registry), "agent.service")->unit->hash;
        snprintf(assignment, sizeof(assignment), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":2,\"since\":1}",
                 hash);
        snprintf(record, sizeof(record),
                 "{\"by\":\"root@alpha\",\"completed\":1,\"completedHash\":\"1111\",\"from\":1,\"fromHash\":"
                 "\"1111\",\"progress\":1,\"since\":1,\"state\":\"rolling\",\"to\":2,\"toHash\":\"%s\"}",
                 hash);
        write_now(fixture,
                  (const Record[]) {
                          { "machine/" BETA "/unit/agent.service", assignment },
                          { "machine/" GAMMA "/unit/agent.service",
                            "{\"hash\":\"1111\",\"order\":\"run\",\"rev\":1,\"since\":1}" },
                          { "state/agent.service/" GAMMA, "{\"active\":\"active\",\"available\":true,"
                                                          "\"hash\":\"1111\",\"load\":\"loaded\"}" },
                          { "rollout/agent.service", record },
                  },
                  4);
}

static void a_rollout_is_reported_paused_and_resumed(void **state) {
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "GET /fleet/v1/rollouts/none.service", NULL, 404, "unit does not exist" },
                { "PUT /fleet/v1/rollouts/none.service", "{\"request\":\"pause\"}", 404,
                  "unit does not exist" },
                { "GET /fleet/v1/rollouts/other.service", NULL, 200,
                  "{\"instances\":[],\"name\":\"other.service\",\"revision\":1,\"state\":\"none\",\"wanted\":"
                  "\"" },
                { "PUT /fleet/v1/rollouts/other.service", "{\"request\":\"pause\"}", 409,
                  "no rollout of other.service is under way" },
                { "GET /fleet/v1/rollouts", NULL, 200, "{\"rollouts\":[{\"ageMs\":" },
                { "GET " ROLLOUT, NULL, 200,
                  "\"behind\":1,\"by\":\"root@alpha\",\"completed\":1,\"from\":1," },
                { "GET " ROLLOUT, NULL, 200,
                  "\"machine\":\"beta\",\"machineID\":\"" BETA
                  "\",\"name\":\"agent.service\",\"revision\":2,\"state\":\"updating\",\"why\":"
                  "\"starting\"}" },
                { "GET " ROLLOUT, NULL, 200,
                  "\"revision\":1,\"state\":\"old\",\"why\":\"waiting: 1 of 2 unavailable, "
                  "MaxUnavailable=1\"}]" },
                { "GET " ROLLOUT, NULL, 200, "\"of\":2," },
                { "GET /fleet/v1/revisions/agent.service", NULL, 200, "\"outcome\":\"rolling\"" },
                { "PUT " ROLLOUT, "{\"request\":\"stop\"}", 400,
                  "request: expected pause, resume or promote, not stop" },
                { "PUT " ROLLOUT, "{}", 400, "request" },
                { "PUT " ROLLOUT, "{\"request\":\"resume\"}", 409,
                  "no rollout of agent.service is paused; it is rolling: fleetctl rollout agent.service" },
                { "PUT " ROLLOUT, "{\"request\":\"promote\"}", 409, "no rollout of agent.service is held" },
                { "PUT " ROLLOUT, "{\"request\":\"pause\"}", 204, "" },
                { "GET " ROLLOUT, NULL, 200, "\"before\":\"rolling\"," },
                { "GET " ROLLOUT, NULL, 200, "\"why\":\"waiting: the rollout is paused\"}" },
                { "GET " ROLLOUT, NULL, 200, "\"state\":\"paused\"," },
                { "GET " ROLLOUT, NULL, 200, "\"why\":\"by root@alpha\"}" },
                { "GET /fleet/v1/cluster", NULL, 200, "\"state\":\"paused\",\"why\":\"by root@alpha\"}]" },
                { "GET /fleet/v1/why/agent.service", NULL, 200,
                  "\"rollout\":\"agent.service: revision 2: paused, 0 of 2 available, 1 with its text: by "
                  "root@alpha\",\"rolloutNext\":\"rollout resume agent.service\"}" },
                { "PUT " ROLLOUT, "{\"request\":\"pause\"}", 409, "is paused already: by root@alpha;" },
                { "PUT " ROLLOUT, "{\"request\":\"resume\"}", 204, "" },
                { "GET " ROLLOUT, NULL, 200, "\"state\":\"rolling\"," },
                { "GET /fleet/v1/history", NULL, 200, "\"reason\":\"revision 2: resumed\"" },
        };
        Fixture *fixture = *state;

        raise_level(fixture, 9);
        write_rollout(fixture);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
}

/* The number of the content is in the place of the revision. */
static void a_rollout_of_a_content_is_reported_with_what_has_changed(void **state) {
        static const char *const rows[][2] = {
                { "GET /fleet/v1/rollouts/a.service", "\"completed\":1,\"content\":2," },
                { "GET /fleet/v1/rollouts/a.service", "\"what\":\"secret db-password\",\"why\":\"by ann\"}" },
                { "GET /fleet/v1/cluster", "{\"content\":2,\"name\":\"a.service\"," },
                { "GET /fleet/v1/why/a.service",
                  "\"rollout\":\"a.service: content 2: paused, 0 of 1 available, 1 with its content: by ann; "
                  "a.service: " },
                { "GET /fleet/v1/revisions/a.service", "\"outcome\":\"completed\"" },
        };
        char assignment[160], record[512];
        Fixture *fixture = *state;
        const char *hash;

        raise_level(fixture, KV_LEVEL_INPUTS);
        write_now(fixture,
                  (const Record[]) {
                          { "machine/" BETA "/facts", "{\"level\":13,\"name\":\"beta\"}" },
                          { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                          { "target/a.service", "launched" },
                          { "unit/a.service", "{\"rev\":1,\"text\":\"[X-Fleet]\\nSecret=db-password\\n"
                                              "OnChange=restart\\n[Service]\\nExecStart=/bin/a\\n\"}" },
                          { "inputs/a.service", "{\"number\":2,\"what\":\"secret db-password\"}" },
                  },
                  5);
        hash = cluster_unit(registry_cluster(fixture->host->registry), "a.service")->unit->hash;
        snprintf(assignment, sizeof(assignment),
                 "{\"hash\":\"%s\",\"inputs\":2,\"order\":\"run\",\"rev\":1,\"since\":1}", hash);
        snprintf(record, sizeof(record),
                 "{\"before\":\"rolling\",\"completed\":1,\"completedHash\":\"%s\",\"completedInputs\":1,"
                 "\"from\":1,\"fromHash\":\"%s\",\"fromInputs\":1,\"progress\":1,\"since\":1,\"state\":"
                 "\"paused\",\"to\":1,\"toHash\":\"%s\",\"toInputs\":2,\"why\":\"by ann\",\"outcomes\":"
                 "[{\"hash\":\"%s\",\"result\":\"completed\"}]}",
                 hash, hash, hash, hash);
        write_now(fixture,
                  (const Record[]) { { "machine/" BETA "/unit/a.service", assignment },
                                     { "rollout/a.service", record } },
                  2);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i][0], NULL, 200, rows[i][1]);
        assert_answer(fixture, "PUT /fleet/v1/rollouts/a.service", "{\"request\":\"resume\"}", 204, "");
        assert_answer(fixture, "GET /fleet/v1/history", NULL, 200, "\"reason\":\"content 2: resumed\"");
        assert_null(strstr(fixture->answer, "wantedContent"));
        write_now(fixture, (const Record[]) { { "inputs/a.service", "{\"number\":3}" } }, 1);
        assert_answer(fixture, "GET /fleet/v1/rollouts/a.service", NULL, 200, "\"wantedContent\":3");
        assert_null(strstr(fixture->answer, "\"what\""));

        assert_null(strstr(fixture->answer, "\"pending\""));
        write_now(
                fixture,
                (const Record[]) { { "secret/db-password",
                                     "{\"clusterKey\":1,\"set\":7,\"size\":3,\"units\":[],\"version\":1}" } },
                1);
        assert_answer(fixture, "GET /fleet/v1/rollouts/a.service", NULL, 200, "\"pending\":true");
        write_now(fixture, (const Record[]) { { "inputs/a.service", "{\"number\":3,\"secrets\":8}" } }, 1);
        assert_answer(fixture, "GET /fleet/v1/rollouts/a.service", NULL, 200, "\"wantedContent\":3");
        assert_null(strstr(fixture->answer, "\"pending\""));
        write_now(fixture,
                  (const Record[]) { { "state/a.service/" BETA,
                                       "{\"active\":\"inactive\",\"code\":\"secret-unsealed\",\"load\":"
                                       "\"loaded\",\"reason\":\"cannot seal it\",\"sub\":\"dead\"}" } },
                  1);
        assert_answer(fixture, "GET /fleet/v1/why/a.service", NULL, 200,
                      "\"stateReason\":\"cannot seal it\",\"stateReasonCode\":\"secret-unsealed\"");
}

/* A unit that is only loaded, and one that has finished its work: both have the text, and do not run. */
static void an_instance_that_does_not_run_is_not_available(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "unit/idle.service", "{\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
                { "target/idle.service", "loaded" },
                { "unit/job.service", "{\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
                { "target/job.service", "launched" },
                { "state/job.service/" BETA,
                  "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\",\"sub\":\"dead\"}" },
        };
        static const char *const rows[][2] = {
                { "GET /fleet/v1/rollouts/idle.service", "\"loaded\":1," },
                { "GET /fleet/v1/rollouts/idle.service", "\"of\":1," },
                { "GET /fleet/v1/rollouts/idle.service", "\"revision\":1,\"state\":\"loaded\"" },
                { "GET /fleet/v1/rollouts/job.service", "\"finished\":1," },
                { "GET /fleet/v1/rollouts/job.service", "\"revision\":1,\"state\":\"finished\"" },
        };
        Fixture *fixture = *state;
        char load[128], run[128];

        raise_level(fixture, 9);
        write_now(fixture, records, ELEMENTS(records));
        snprintf(load, sizeof(load), "{\"hash\":\"%s\",\"order\":\"load\",\"rev\":1,\"since\":1}",
                 cluster_unit(registry_cluster(fixture->host->registry), "idle.service")->unit->hash);
        snprintf(run, sizeof(run), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":1,\"since\":1}",
                 cluster_unit(registry_cluster(fixture->host->registry), "job.service")->unit->hash);
        write_now(fixture,
                  (const Record[]) { { "machine/" BETA "/unit/idle.service", load },
                                     { "machine/" BETA "/unit/job.service", run } },
                  2);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_answer(fixture, rows[i][0], NULL, 200, rows[i][1]);
                assert_null(strstr(fixture->answer, "available"));
        }
}

static void the_outcome_of_a_text_is_in_the_list_of_revisions(void **state) {
        Fixture *fixture = *state;
        char record[512];
        const char *hash;

        raise_level(fixture, 9);
        write_rollout(fixture);
        hash = cluster_unit(registry_cluster(fixture->host->registry), "agent.service")->unit->hash;
        snprintf(record, sizeof(record),
                 "{\"completed\":2,\"completedHash\":\"%s\",\"outcomes\":[{\"hash\":\"1111\",\"result\":"
                 "\"completed\"},{\"hash\":\"%s\",\"result\":\"failed\"}],\"state\":\"done\",\"to\":2,"
                 "\"toHash\":\"%s\"}",
                 hash, hash, hash);
        write_now(fixture, &(Record) { "rollout/agent.service", record }, 1);
        assert_answer(fixture, "GET /fleet/v1/revisions/agent.service", NULL, 200,
                      "{\"completed\":2,\"name\":\"agent.service\",");
        assert_answer(fixture, "GET /fleet/v1/revisions/agent.service", NULL, 200,
                      "\"number\":2,\"outcome\":\"failed\",");
}

static void the_failure_that_paused_a_rollout_is_reported_once(void **state) {
        static const Record first[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "target/drop.service", "launched" },
                { "unit/drop.service", "{\"rev\":2,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
        };
#define FAILED                                                                                   \
        "\"failed\":[{\"machine\":\"" BETA "\",\"unit\":\"drop.service\",\"why\":\"exit status " \
        "1\"}],\"since\":1,\"state\":\"paused\",\"to\":2,\"toHash\":\"2222\","
#define FAILURE \
        "[{\"failure\":{\"machineID\":\"" BETA "\",\"name\":\"drop.service\",\"why\":\"exit status 1\"},"
        static const char reverting[] =
                "{" FAILED "\"why\":\"revert to revision 1 failed: drop.service on beta: exit status 1\"}",
                          by_user[] = "{" FAILED "\"why\":\"by root\"}",
                          refused[] = "{\"kind\":\"refused\",\"text\":\"line 3\"}";
        char assignment[128], unit_state[160], record[512];
        Fixture *fixture = *state;
        const char *hash;

        raise_level(fixture, 9);
        write_now(fixture, first, ELEMENTS(first));
        hash = cluster_unit(registry_cluster(fixture->host->registry), "drop.service")->unit->hash;
        snprintf(assignment, sizeof(assignment), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":2,\"since\":1}",
                 hash);
        snprintf(unit_state, sizeof(unit_state),
                 "{\"active\":\"failed\",\"hash\":\"%s\",\"job\":\"failed\",\"load\":\"loaded\",\"reason\":"
                 "\"exit status 1\"}",
                 hash);
        snprintf(record, sizeof(record),
                 "{\"completed\":1,\"completedHash\":\"1111\",\"failed\":[{\"machine\":\"" BETA
                 "\",\"unit\":\"drop.service\",\"why\":\"exit status "
                 "1\"}],\"progress\":1,\"since\":1,\"state\":\"paused\",\"to\":2,\"toHash\":\"%s\",\"why\":"
                 "\"drop.service on beta: exit status 1\"}",
                 hash);
        write_now(fixture,
                  (const Record[]) { { "machine/" BETA "/unit/drop.service", assignment },
                                     { "state/drop.service/" BETA, unit_state },
                                     { "machine/" BETA "/problem/drop.service",
                                       "{\"kind\":\"paused\",\"text\":\"its rollout is paused\"}" },
                                     { "rollout/drop.service", record } },
                  4);
        assert_answer(fixture, "GET /fleet/v1/rollouts/drop.service", NULL, 200,
                      "\"state\":\"failed\",\"why\":\"exit status 1\"}]");
        assert_answer(fixture, "GET /fleet/v1/why/drop.service", NULL, 200,
                      "\"rollout\":\"drop.service: revision 2: paused, 0 of 1 available, 1 with its text: "
                      "drop.service on beta: exit status 1\",");
        assert_null(strstr(fixture->answer, "\"problem\""));
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200, FAILURE "\"name\":\"drop.service\"");

        write_now(fixture, &(Record) { "rollout/drop.service", reverting }, 1);
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200, FAILURE);
        write_now(fixture, &(Record) { "rollout/drop.service", by_user }, 1);
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200, "\"why\":\"by root\"");
        assert_null(strstr(fixture->answer, "\"failure\""));
        write_now(fixture, &(Record) { "machine/" BETA "/problem/drop.service", refused }, 1);
        assert_answer(fixture, "GET /fleet/v1/why/drop.service", NULL, 200,
                      "\"problem\":\"line 3\",\"problemKind\":\"refused\"");
}

static void a_reverted_text_is_in_the_answer_about_the_cluster_for_a_day_or_until_the_next_text(
        void **state) {
#define OF_R     "\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}"
#define REVERTED "{\"how\":\"reverted\"," FORMER OF_R
#define FORMER   "\"revs\":[{\"hash\":\"2222222222222222222222222222222222222222\",\"rev\":2}],"
        static const struct {
                const char *unit, *state;
                uint64_t ago_ms;
                bool listed;
        } rows[] = {
                { REVERTED, "done", 3600000, true },
                { REVERTED, "reverting", 3600000, false },
                { REVERTED, "done", 86400000, false },
                { "{" FORMER OF_R, "done", 3600000, false },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                uint64_t now_ms = registry_cluster(fixture->host->registry)->now_ms;
                char record[256];

                snprintf(record, sizeof(record),
                         "{\"progress\":%" PRIu64
                         ",\"reverted\":2,\"revertedHash\":\"2222\",\"since\":1,\"state\":\"%s\",\"to\":1,"
                         "\"toHash\":\"1111\",\"why\":\"exit status 1\"}",
                         now_ms - rows[i].ago_ms, rows[i].state);
                write_now(fixture,
                          (const Record[]) { { "unit/r.service", rows[i].unit },
                                             { "rollout/r.service", record } },
                          2);
                assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200,
                              rows[i].listed ?
                                      "\"name\":\"r.service\",\"revision\":2,\"why\":\"exit status 1\"}]" :
                                      "");
                assert_int_equal(strstr(fixture->answer, "\"reverted\":[") != NULL, rows[i].listed);
        }
#undef OF_R
#undef REVERTED
#undef FORMER
}

/* In their order. */
static void the_number_of_replicas_is_read_set_and_reset(void **state) {
#define SET     "/fleet/v1/units/web@.service"
#define WITHOUT "{\"text\":\"[Service]\\nExecStart="
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "GET " SET "/replicas", NULL, 404, "unit does not exist" },
                { "PUT " SET, "{\"text\":\"[Service]\\nExecStart=/a\\n\",\"desiredState\":\"launched\"}", 400,
                  "cannot activate template" },
                { "PUT " SET, "{\"text\":\"[Service]\\nExecStart=/a\\n\"}", 201, "" },
                { "GET " SET "/replicas", NULL, 409, "web@.service has no Replicas=" },
                { "PUT " SET "/replicas", "{\"count\":2}", 409, "web@.service has no Replicas=" },
                { "PUT " SET,
                  "{\"text\":\"[Service]\\nExecStart=/"
                  "a\\n[X-Fleet]\\nReplicas=3\\n\",\"desiredState\":\"launched\"}",
                  201, "" },
                { "GET " SET "/replicas", NULL, 200,
                  "{\"count\":3,\"desiredState\":\"launched\",\"file\":3,\"name\":\"web@.service\",\"due\":"
                  "3}" },
                { "PUT " SET "/replicas", "{\"count\":-1}", 400, "count" },
                { "PUT " SET "/replicas", "{\"count\":1001}", 400,
                  "count: expected a number from 0 to 1000" },
                { "PUT " SET "/replicas", "{}", 400, "count: expected a number from 0 to 1000" },
                { "PUT " SET "/replicas", "{", 400, "" },
                { "DELETE " SET "/replicas", NULL, 204, "" },
                { "PUT " SET "/replicas", "{\"count\":0}", 204, "" },
                { "GET " SET "/replicas", NULL, 200,
                  "{\"count\":0,\"desiredState\":\"launched\",\"file\":3,\"name\":\"web@.service\","
                  "\"scaledBy\":\"" },
                { "GET /fleet/v1/why/web@.service", NULL, 200,
                  "\"replicas\":{\"count\":0,\"desiredState\":\"launched\",\"file\":3," },
                /* A text with the same number keeps the scaled one, and the target state. */
                { "PUT " SET, "{\"text\":\"[Service]\\nExecStart=/b\\n[X-Fleet]\\nReplicas=3\\n\"}", 201,
                  "" },
                { "GET " SET "/replicas", NULL, 200,
                  "{\"count\":0,\"desiredState\":\"launched\",\"file\":3," },
                { "GET " SET, NULL, 200, "\"desiredState\":\"launched\"" },
                { "PUT " SET, "{\"text\":\"[Service]\\nExecStart=/b\\n[X-Fleet]\\nReplicas=2\\n\"}", 201,
                  "" },
                { "GET " SET "/replicas", NULL, 200,
                  "{\"count\":2,\"desiredState\":\"launched\",\"file\":2,\"name\":\"web@.service\","
                  "\"due\":" },
                { "PUT " SET "/replicas", "{\"count\":1}", 204, "" },
                { "DELETE " SET "/replicas", NULL, 204, "" },
                { "DELETE " SET "/replicas", NULL, 204, "" },
                { "GET " SET "/replicas", NULL, 200,
                  "{\"count\":2,\"desiredState\":\"launched\",\"file\":2,\"name\":\"web@.service\","
                  "\"due\":" },
                /* Without the option, the template has no target state any more, and can get none. */
                { "PUT " SET, WITHOUT "/b\\n\",\"desiredState\":\"launched\"}", 201, "" },
                { "GET " SET, NULL, 200, "\"desiredState\":\"inactive\"" },
                { "PUT " SET, WITHOUT "/c\\n\",\"desiredState\":\"launched\"}", 400,
                  "cannot activate template" },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_SCHEDULING);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
}

static void below_its_level_a_number_of_replicas_is_rejected_and_changes_nothing(void **state) {
#define RAISES "the level is 11: all hosts need this version of fleetd; then: fleetctl cluster level 12"
        static const Record records[] = {
                { "unit/web@.service", "{\"text\":\"[Service]\\nA=1\\n[X-Fleet]\\nReplicas=3\\n\"}" },
                { "unit/web@1.service", "{\"from\":\"web@.service\",\"text\":\"[Service]\\nA=1\\n\"}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "PUT /fleet/v1/units/a@.service", "{\"text\":\"[X-Fleet]\\nReplicas=3\\n\"}", 409,
                  "a@.service: Replicas= begins at feature level 12, and this cluster has level 11; when all "
                  "hosts run this version: fleetctl cluster level 12" },
                { "GET /fleet/v1/units/a@.service", NULL, 404, "" },
                { "GET " SET "/replicas", NULL, 409, "scale requires feature level 12, and " RAISES },
                { "PUT " SET "/replicas", "{\"count\":2}", 409,
                  "scale requires feature level 12, and " RAISES },
                { "DELETE " SET "/replicas", NULL, 409, "scale requires feature level 12, and " RAISES },
                { "GET " SET, NULL, 200, "\"desiredState\":\"inactive\"" },
                { "GET /fleet/v1/units/web@2.service", NULL, 404, "" },
        };
        Fixture *fixture = *state;
        uint64_t index;

        raise_level(fixture, KV_LEVEL_SERVICES);
        write_now(fixture, records, ELEMENTS(records));
        index = kv_index(fixture->host->store);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        assert_int_equal(kv_index(fixture->host->store), index);
#undef RAISES
}

static void instances_that_are_none_of_a_set_are_named_and_the_data_of_all(void **state) {
#define FOLLOWS \
        "{\"from\":\"web@.service\",\"text\":\"[Service]\\nStateDirectory=d\\n[X-Fleet]\\nReplicas=2\\n\"}"
#define OWN  "{\"text\":\"[Service]\\nStateDirectory=own\\n\"}"
#define DATA "[Service]\\nStateDirectory=d\\n"
#define UP   "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}"
        static const Record records[] = {
                { "unit/web@.service",
                  "{\"text\":\"[Service]\\nStateDirectory=d\\n[X-Fleet]\\nReplicas=2\\n\"}" },
                { "unit/web@1.service", FOLLOWS },
                { "unit/web@2.service", OWN },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" BETA "/unit/web@1.service", "{\"order\":\"run\",\"since\":1}" },
                { "machine/" BETA "/unit/web@2.service", "{\"order\":\"run\",\"since\":1}" },
                { "machine/" BETA "/unit/web@9.service", "{\"order\":\"run\",\"since\":1}" },
                { "state/web@1.service/" BETA, UP },
                { "state/web@2.service/" BETA, UP },
                { "unit/web@03.service", FOLLOWS },
                { "unit/web@9.service", FOLLOWS },
                { "unit/web@12.service", FOLLOWS },
                { "unit/web@13.service", OWN },
                { "unit/web@blue.service", FOLLOWS },
                { "unit/webs.service", OWN },
                { "data/web@7.service", "{\"machine\":\"" BETA "\",\"since\":5}" },
                { "unit/db.service", "{\"text\":\"" DATA "[X-Fleet]\\nSticky=yes\\n\"}" },
                { "data/db.service", "{\"machine\":\"" BETA "\",\"since\":5}" },
                { "data/web@1.service", "{\"machine\":\"" BETA "\",\"since\":5}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says, *lacks;
        } rows[] = {
                { "GET " SET "/replicas", NULL, 200,
                  "\"name\":\"web@.service\",\"above\":[\"web@12.service\",\"web@9.service\"],\"apart\":["
                  "\"web@2.service\"],\"running\":1}" },
                { "PUT " SET "/replicas", "{\"count\":10}", 204, "" },
                { "GET " SET "/replicas", NULL, 200,
                  "\"above\":[\"web@12.service\"],\"apart\":[\"web@2.service\"],\"due\":7,\"running\":1}",
                  "web@9" },
                { "GET /fleet/v1/data?unit=web@.service", NULL, 200, "\"name\":\"web@1.service\"", "webs" },
                { "GET /fleet/v1/data?unit=web@.service", NULL, 200,
                  "\"name\":\"web@7.service\",\"since\":5}", "webs" },
                { "GET /fleet/v1/data?unit=web@1.service", NULL, 200, "\"name\":\"web@1.service\"",
                  "web@12" },
                { "GET /fleet/v1/data?unit=web@.service&machine=" BETA, NULL, 200, "web@7.service", "web@2" },
                { "GET /fleet/v1/data", NULL, 200, "webs.service" },
                { "GET /fleet/v1/data?nextPageToken=ZAAMAOkDAAB3ZWJAOS5zZXJ2aWNl", NULL, 200, "webs.service",
                  "web@9" }, /* after that */
                { "GET /fleet/v1/data?unit=web@.service&nextPageToken=ZAACAAgAAAA=", NULL, 200,
                  "web@blue.service", "web@9" }, /* after eight */
                { "GET /fleet/v1/data?nextPageToken=x", NULL, 400, "illegal base64 data at input byte 0" },
                { "GET /fleet/v1/data?unit=none.service", NULL, 200, "{\"units\":[]}" },
                { "POST /fleet/v1/plan",
                  "{\"units\":[{\"name\":\"db.service\",\"text\":\"" DATA "[X-Fleet]\\nSticky=yes\\n\"}]}",
                  200, ": its data is there (StateDirectory=d)\",", "no longer" },
                { "POST /fleet/v1/plan",
                  "{\"units\":[{\"name\":\"db.service\",\"text\":\"[Service]\\nA=1\\n\"}]}", 200,
                  " no longer: its data is there (StateDirectory=d)\"," },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_SCHEDULING);
        write_now(fixture, records, ELEMENTS(records));
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
                if (rows[i].lacks && strstr(fixture->answer, rows[i].lacks))
                        fail_msg("%s: %s", rows[i].request, fixture->answer);
        }
#undef DATA
#undef FOLLOWS
#undef OWN
#undef UP
#undef SET
}

static void moves_that_would_balance_the_cluster_are_proposed(void **state) {
        static const struct {
                const char *request;
                unsigned status;
                const char *says;
        } rows[] = {
                { "/fleet/v1/rebalance?moves=0", 400, "moves=0: expected a number from 1 to 100" },
                { "/fleet/v1/rebalance?moves=101", 400, "moves=101: expected a number from 1 to 100" },
                { "/fleet/v1/rebalance?unit=", 400, "unit=: expected a name or a pattern" },
                { "/fleet/v1/rebalance?output=json", 400, "output: unknown parameter; expected moves, unit" },
                { "/fleet/v1/rebalance?unit=none*", 404, "no unit has a name that matches none*" },
                { "/fleet/v1/rebalance", 200, "{\"moves\":[]}" },
        };
        Fixture *fixture = *state;

        assert_answer(fixture, "GET /fleet/v1/rebalance", NULL, 409, "rebalance requires feature level 12");
        raise_level(fixture, KV_LEVEL_SCHEDULING);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char request[80];

                snprintf(request, sizeof(request), "GET %s", rows[i].request);
                assert_answer(fixture, request, NULL, rows[i].status, rows[i].says);
        }
}

/* The host reboots or shuts down, and is cordoned or drained afterwards. */
static void a_host_that_reboots_or_shuts_down_is_cordoned_afterwards(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" BETA "/maintenance",
                  "{\"for\":\"shutdown\",\"mode\":\"draining\",\"since\":1}" },
                { "machine/" GAMMA "/maintenance", "{\"for\":\"reboot\",\"mode\":\"drained\",\"since\":1}" },
                { "machine/" GAMMA "/reboot", "{\"kind\":\"reboot\",\"state\":\"rebooting\"}" },
        };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);
        const MaintenanceRecord *beta, *gamma;

        raise_level(fixture, KV_LEVEL_UPDATES);
        write_now(fixture, records, ELEMENTS(records));
        assert_answer(fixture, "PUT /fleet/v1/machines/" BETA "/maintenance", "{\"mode\":\"cordoned\"}", 204,
                      "");
        assert_answer(fixture, "PUT /fleet/v1/machines/" GAMMA "/maintenance", "{\"mode\":\"draining\"}", 204,
                      "");
        assert_answer(fixture, "PUT /fleet/v1/machines/" GAMMA "/maintenance", "{\"mode\":\"cordoned\"}", 204,
                      "");
        beta = cluster_machine(c, BETA)->maintenance;
        assert_string_equal(beta->purpose, CLUSTER_FOR_SHUTDOWN);
        assert_string_equal(beta->before, "cordoned");
        assert_int_equal(beta->mode, MAINTENANCE_DRAINING);
        gamma = cluster_machine(c, GAMMA)->maintenance;
        assert_string_equal(gamma->purpose, CLUSTER_FOR_REBOOT);
        assert_string_equal(gamma->before, "draining");
        assert_int_equal(gamma->mode, MAINTENANCE_DRAINED);
}

/* An instance that was created before its template has a text of its own; a request with the text of the
 * template makes it follow. */
static void an_instance_follows_its_template_after_a_request_with_its_text(void **state) {
        static const Record records[] = {
                { "unit/web@.service",
                  "{\"canary\":\"1\",\"rev\":4,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
                { "unit/web@1.service", "{\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
                { "target/web@1.service", "launched" },
                { "unit/web@2.service", "{\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/b\\n\"}" },
                { "target/web@2.service", "launched" },
                { "unit/web@3.service", "{\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/b\\n\"}" },
                { "unit/web@4.service",
                  "{\"owner\":\"" ALPHA
                  "\",\"path\":\"/u/web@4.service\",\"rev\":1,\"text\":\"[Service]\\nExecStart=/bin/"
                  "b\\n\"}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "GET /fleet/v1/rollouts/web@.service", NULL, 200,
                  "{\"apart\":[\"web@1.service\",\"web@2.service\"],\"instances\":" },
                { "GET /fleet/v1/rollouts/web@.service", NULL, 200, "\"joiners\":[\"web@1.service\"]," },
                /* Without a target state, nothing changes: fleet's message. */
                { "PUT /fleet/v1/units/web@1.service",
                  "{\"name\":\"web@1.service\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 409,
                  "must provide DesiredState" },
                { "PUT /fleet/v1/units/web@1.service",
                  "{\"desiredState\":\"launched\",\"name\":\"web@1.service\",\"text\":\"[Service]"
                  "\\nExecStart=/bin/a\\n\"}",
                  201, "" },
                { "GET /fleet/v1/rollouts/web@.service", NULL, 200, "{\"apart\":[\"web@2.service\"]," },
                { "GET /fleet/v1/rollouts/web@2.service", NULL, 200,
                  "\"template\":\"web@.service\",\"templateNext\":\"start --replace web@2.service\"" },
                { "GET /fleet/v1/why/web@2.service", NULL, 200,
                  "\"template\":\"web@.service\",\"templateNext\":\"start --replace web@2.service\"" },
                { "GET /fleet/v1/why/web@4.service", NULL, 200,
                  "\"template\":\"web@.service\"}" }, /* the text is that of a file */
                { "GET /fleet/v1/rollouts/web@1.service", NULL, 200, "\"name\":\"web@.service\"" },
                /* What was requested with the text counts. */
                { "GET /fleet/v1/rollouts/web@.service", NULL, 200,
                  "\"warnings\":[\"Canary=1 of 1 instance of web@.service: the rollout is held when all have "
                  "the "
                  "new text\"]" },
                /* It follows, and the same request changes nothing. */
                { "PUT /fleet/v1/units/web@1.service",
                  "{\"desiredState\":\"launched\",\"name\":\"web@1.service\",\"text\":\"[Service]"
                  "\\nExecStart=/bin/a\\n\"}",
                  204, "" },
                { "POST /fleet/v1/plan",
                  "{\"units\":[{\"name\":\"web@.service\",\"text\":\"[Service]\\nExecStart=/bin/"
                  "c\\n[X-Fleet]\\nMinAvailable=1\\n\"}]}",
                  200,
                  "\"rollouts\":[{\"atATime\":1,\"effect\":\"restart\",\"instances\":1,\"leastMs\":10000,"
                  "\"name\":\"web@.service\",\"warnings\":[\"MinAvailable=1: web@.service has 1 instance; "
                  "none can be stopped first\"]}]" },
        };
        Fixture *fixture = *state;

        write_now(fixture, records, ELEMENTS(records));
        assert_answer(fixture, "GET /fleet/v1/rollouts/web@.service", NULL, 200, "\"name\":\"web@.service\"");
        assert_null(strstr(fixture->answer, "apart"));
        assert_answer(fixture, "GET /fleet/v1/why/web@2.service", NULL, 200, "\"name\":\"web@2.service\"");
        assert_null(strstr(fixture->answer, "template"));
        raise_level(fixture, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        assert_answer(fixture, "GET /fleet/v1/why/web@1.service", NULL, 200, "\"from\":\"web@.service\"");
        assert_null(strstr(fixture->answer, "\"template"));
}

static void a_plan_has_the_rollout_that_a_destroyed_template_begins_when_it_is_submitted_again(void **state) {
#define PLANNED(text) \
        "{\"units\":[{\"name\":\"web@.service\",\"text\":\"[Service]\\nExecStart=" text "\\n\"}]}"
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "PUT /fleet/v1/units/web@.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/web@1.service",
                  "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
                { "DELETE /fleet/v1/units/web@.service", NULL, 204, "" },
                { "POST /fleet/v1/plan", PLANNED("/bin/c"), 200,
                  "\"rollouts\":[{\"atATime\":1,\"effect\":\"restart\",\"instances\":1," },
                { "POST /fleet/v1/plan", PLANNED("/bin/a"), 200, "\"name\":\"web@.service\"" },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        assert_null(strstr(fixture->answer, "rollouts"));
#undef PLANNED
}

static size_t count_of(const char *text, const char *part) {
        size_t n = 0;

        for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
                n++;
        return n;
}

static void a_plan_of_a_template_has_the_instances_that_its_new_text_stops_or_leaves_waiting(void **state) {
#define UNIT(name, text) "{\"name\":\"" name "\",\"text\":\"[Service]\\nExecStart=/bin/a\\n" text "\"}"
#define NOWHERE          "[X-Fleet]\\nMachineMetadata=gpu=%i\\n"
        static const Record machine[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"metadata\":{\"gpu\":\"3\"},\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" BETA "/unit/web@1.service", "{\"order\":\"run\",\"since\":1}" },
                { "machine/" BETA "/unit/web@2.service", "{\"order\":\"run\",\"since\":1}" },
                { "machine/" BETA "/unit/web@3.service", "{\"order\":\"run\",\"since\":1}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "PUT /fleet/v1/units/web@.service",
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/web@1.service",
                  "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/web@2.service", /* of its own text */
                  "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/b\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/web@3.service", /* it stays */
                  "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/web@4.service",
                  "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
                { "PUT /fleet/v1/units/web@5.service", /* not started */
                  "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201, "" },
        };
        static const char stops[] = "{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":\"" BETA
                                    "\",\"name\":\"web@1.service\",\"reason\":\"beta no longer qualifies "
                                    "(MachineMetadata=gpu=1, and it has gpu=3); there is no other machine\"}",
                          waits[] = "{\"action\":\"wait\",\"name\":\"web@4.service\",\"reason\":\"no machine "
                                    "qualifies (beta has gpu=3, not gpu=4)\"}";
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        write_now(fixture, machine, ELEMENTS(machine));

        assert_answer(fixture, "POST /fleet/v1/plan", "{\"units\":[" UNIT("web@.service", NOWHERE) "]}", 200,
                      stops);
        assert_non_null(strstr(fixture->answer, waits));
        assert_int_equal(count_of(fixture->answer, "\"action\""), 3);
        /* Each unit of the request is planned once. */
        assert_answer(fixture, "POST /fleet/v1/plan",
                      "{\"units\":[" UNIT("web@.service", NOWHERE) "," UNIT("web@1.service", NOWHERE) "]}",
                      200, stops);
        assert_int_equal(count_of(fixture->answer, "\"action\""), 3);
        assert_answer(fixture, "POST /fleet/v1/plan",
                      "{\"units\":[" UNIT("web@.service", NOWHERE) "," UNIT("web@.service", NOWHERE) "]}",
                      400, "\"web@.service: named twice\"");
        /* The text that they have. */
        assert_answer(fixture, "POST /fleet/v1/plan", "{\"units\":[" UNIT("web@.service", "") "]}", 200,
                      "keep");
        assert_int_equal(count_of(fixture->answer, "\"action\""), 1);
#undef NOWHERE
#undef UNIT
}

/* A draft is judged by its requests, and by its siblings in the cluster and in the plan; one that stays
 * counts with what its new text requests. */
static void a_plan_judges_drafts_by_requests_and_siblings(void **state) {
#define UNIT(name, text) \
        "{\"name\":\"" name "\",\"text\":\"[Service]\\nExecStart=/bin/a\\n[X-Fleet]\\n" text "\"}"
#define CAPACITY "\"capacity\":{\"cpu\":400,\"memory\":1024},\"level\":13"
        static const Record records[] = {
                { "machine/" BETA "/facts", "{" CAPACITY ",\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" ETA "/facts", "{" CAPACITY ",\"name\":\"eta\"}" },
                { "machine/" ETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "unit/a.service", "{\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}" },
                { "target/a.service", "launched" },
                { "machine/" BETA "/unit/a.service", "{\"kind\":\"run\",\"since\":1}" },
        };
        static const struct {
                const char *units, *says;
        } rows[] = {
                { UNIT("x.service", "MemoryRequest=2G"),
                  "no machine qualifies (beta and eta have 1.0G of 1.0G of memory free, less than 2.0G)" },
                { UNIT("x.service", "MemoryRequest=700M") "," UNIT(
                          "y.service", "MemoryRequest=700M") "," UNIT("z.service", "MemoryRequest=700M"),
                  "no machine qualifies (beta and eta have 324M of 1.0G of memory free, less than 700M)" },
                { UNIT("a.service", "MemoryRequest=900M") "," UNIT(
                          "x.service", "MemoryRequest=700M") "," UNIT("y.service", "MemoryRequest=300M"),
                  "\"hostname\":\"eta\",\"machineID\":\"" ETA "\",\"name\":\"y.service\"" },
                { UNIT("w@1.service", "Spread=machine") "," UNIT("w@2.service", "Spread=machine"),
                  "\"name\":\"w@2.service\",\"reason\":\"beta had the fewest of its instances (0) of 2" },
                { UNIT("w@1.service", "MaxPerMachine=1") "," UNIT("w@2.service", "MaxPerMachine=1") "," UNIT(
                          "w@3.service", "MaxPerMachine=1"),
                  "no machine qualifies (beta has w@2.service, with MaxPerMachine=1; eta has w@1.service, "
                  "with" },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_SCHEDULING);
        write_now(fixture, records, ELEMENTS(records));
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text body = {};

                text_printf(&body, "{\"units\":[%s]}", rows[i].units);
                assert_answer(fixture, "POST /fleet/v1/plan", body.chars, 200, rows[i].says);
        }
#undef CAPACITY
#undef UNIT
}

static void a_plan_of_a_large_template_has_some_of_its_instances(void **state) {
        enum { N = 12, SIZE = 120 * 1024 };
        Fixture *fixture = *state;
        _cleanup_text_ Text body = {};
        char request[64];

        raise_level(fixture, KV_LEVEL_UPDATES);
        assert_answer(fixture, "PUT /fleet/v1/units/web@.service",
                      "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201,
                      "");
        for (unsigned i = 0; i < N; i++) {
                snprintf(request, sizeof(request), "PUT /fleet/v1/units/web@%u.service", i);
                assert_answer(fixture, request,
                              "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}",
                              201, "");
        }
        text_append(&body, "{\"units\":[{\"name\":\"web@.service\",\"text\":\"#");
        for (unsigned i = 0; i < SIZE / 10; i++)
                text_append(&body, i % 100 == 99 ? "comment\\n#" : "a comment ");
        text_append(&body, "\\n[Service]\\nExecStart=/bin/b\\n\"}]}");
        assert_int_equal(body.error, 0);
        assert_answer(fixture, "POST /fleet/v1/plan", body.chars, 200,
                      "a template runs nowhere; its instances do, of which only some are planned here");
        assert_int_equal(count_of(fixture->answer, "\"action\":\"wait\""), 1024 * 1024 / SIZE + 1);
}

static void a_plan_of_a_template_reads_some_of_many_options_of_its_instances(void **state) {
        enum { N = 6, LINES = 16000 };
        static const char text[] =
                "{\"desiredState\":\"launched\",\"text\":\"[Service]\\nExecStart=/bin/a\\n";
        Fixture *fixture = *state;
        char request[64];

        raise_level(fixture, KV_LEVEL_UPDATES);
        assert_answer(fixture, "PUT /fleet/v1/units/web@.service",
                      "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201,
                      "");
        for (unsigned i = 0; i < N; i++) {
                _cleanup_text_ Text body = {};

                text_printf(&body, "%s\\n\\n# web@%u.service.d/a.conf\\n[Service]\\n", text, i);
                for (unsigned k = 0; k < LINES; k++)
                        text_append(&body, "a=\\n");
                text_append(&body, "\"}");
                snprintf(request, sizeof(request), "PUT /fleet/v1/units/web@%u.service", i);
                assert_answer(fixture, request, body.chars, 201, "");
        }
        assert_answer(
                fixture, "POST /fleet/v1/plan",
                "{\"units\":[{\"name\":\"web@.service\",\"text\":\"[Service]\\nExecStart=/bin/b\\n\"}]}", 200,
                "a template runs nowhere; its instances do, of which only some are planned here");
        assert_int_equal(count_of(fixture->answer, "\"action\":\"wait\""), OPTIONS_READ_MAX / LINES + 1);
}

static void a_unit_of_a_directory_returns_to_a_former_text_only(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
        };
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *former = NULL;
        static const char text[] = "[Service]\nExecStart=/bin/a\n";
        char value[1024];

        raise_level(fixture, KV_LEVEL_UPDATES);
        write_now(fixture, records, ELEMENTS(records));
        assert_int_equal(unit_parse("d.service", text, sizeof(text) - 1, &former, NULL), 0);
        snprintf(value, sizeof(value),
                 "{\"how\":\"directory\",\"owner\":\"" BETA "\",\"path\":\"/x/"
                 "d.service\",\"rev\":2,\"revs\":[{\"hash\":\"%s\",\"rev\":1}],\"text\":\"[Service]"
                 "\\nExecStart=/bin/b\\n\"}",
                 former->hash);
        write_now(fixture, &(Record) { "unit/d.service", value }, 1);
        assert_answer(fixture, "PUT /fleet/v1/units/d.service",
                      "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/c\\n\"}", 409,
                      "d.service comes from /x/d.service on beta; edit the file there");
        assert_answer(fixture, "PUT /fleet/v1/units/d.service",
                      "{\"desiredState\":\"inactive\",\"text\":\"[Service]\\nExecStart=/bin/a\\n\"}", 201,
                      "");
        assert_answer(fixture, "GET /fleet/v1/revisions/d.service", NULL, 200,
                      "\"how\":\"reverted\",\"number\":1,");
        assert_answer(fixture, "GET /fleet/v1/why/d.service", NULL, 200,
                      "\"file\":\"/x/d.service\",\"fileHostname\":\"beta\"");
}

static void reboots_are_queued_listed_cancelled_and_resumed(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\",\"softReboot\":true}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" DELTA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"lost\",\"since\":5000}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "GET /fleet/v1/reboots", NULL, 200, "{\"reboots\":[]}" },
                { "POST /fleet/v1/reboots", "{}", 400, "machines: expected 1 to 1000 IDs" },
                { "POST /fleet/v1/reboots", "{\"machines\":[]}", 400, "machines: expected 1 to 1000 IDs" },
                { "POST /fleet/v1/reboots", "{\"machines\":[1]}", 400, "machines: expected strings" },
                { "POST /fleet/v1/reboots", "{\"kind\":\"hard\",\"machines\":[\"" BETA "\"]}", 400, "kind" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"],\"slots\":1001}", 400,
                  "slots: expected at most 1000" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"],\"returnMs\":31536000001}", 400,
                  "at most 365 days" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"none\"]}", 409, "machine none does not exist" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\",\"" DELTA "\"]}", 409,
                  "delta is lost" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"],\"zone\":\"zoen\"}", 409,
                  "no machine has metadata zoen: set it on each host first" },
                { "GET /fleet/v1/reboots", NULL, 200, "{\"reboots\":[]}" },
                { "POST /fleet/v1/reboots", "{\"kind\":\"soft\",\"machines\":[\"" GAMMA "\",\"" BETA "\"]}",
                  409, "beta cannot be rebooted with --soft: its systemd is older than version 254" },
                { "GET /fleet/v1/reboots", NULL, 200, "{\"reboots\":[]}" },
                { "POST /fleet/v1/reboots", "{\"kind\":\"soft\",\"machines\":[\"" GAMMA "\"]}", 204, "" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"]}", 204, "" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"]}", 204, "" }, /* it stays so */
                { "GET /fleet/v1/reboots", NULL, 200,
                  "{\"reboots\":[{\"by\":\"root@alpha\",\"id\":\"" GAMMA
                  "\",\"kind\":\"soft\",\"name\":\"gamma\",\"presence\":\"up\",\"state\":\"queued\"},{\"by\":"
                  "\"root@alpha\",\"id\":\"" BETA "\"" },
                { "GET /fleet/v1/machines", NULL, 200, "\"reboot\":\"queued\"" },
                { "DELETE /fleet/v1/reboots", NULL, 204, "" },
                { "GET /fleet/v1/reboots", NULL, 200, "{\"reboots\":[]}" },
                { "DELETE /fleet/v1/reboots", NULL, 204, "" },
                { "POST /fleet/v1/reboots/resume", NULL, 204, "" },
        };
        static const Record failed[] = {
                { "machine/" BETA "/reboot",
                  "{\"kind\":\"reboot\",\"state\":\"failed\",\"why\":\"it is not back in time\"}" },
                { "machine/" BETA "/maintenance", "{\"for\":\"reboot\",\"mode\":\"drained\"}" },
                { "machine/" GAMMA "/reboot", "{\"kind\":\"reboot\",\"state\":\"queued\"}" },
        };
        static const Record
                down[] = { { "machine/" BETA "/presence", "{\"state\":\"left\",\"since\":1}" } },
                up[] = { { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" } },
                alone[] = { { "machine/" GAMMA "/maintenance", "{\"mode\":\"cordoned\"}" },
                            { "unit/o.service", "{\"text\":\"[Service]\\n\"}" },
                            { "target/o.service", "launched" },
                            { "machine/" BETA "/unit/o.service", "{\"order\":\"run\"}" } },
                rebooting[] = { { "machine/" GAMMA "/reboot",
                                  "{\"kind\":\"reboot\",\"state\":\"rebooting\",\"until\":9999999999999}" } };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        write_now(fixture, records, ELEMENTS(records));
        assert_answer(fixture, "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"]}", 409,
                      "planned reboots require feature level 9, and the level is 1");
        raise_level(fixture, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);

        write_now(fixture, failed, ELEMENTS(failed));
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200,
                      "\"reboots\":[{\"name\":\"beta\",\"reason\":\"it is not back in "
                      "time\",\"state\":\"failed\"}],\"rebootsQueued\":1");
        assert_answer(fixture, "GET /fleet/v1/reboots", NULL, 200,
                      "\"reason\":\"the queue has stopped at beta\",\"state\":\"queued\"}]}");
        assert_answer(fixture, "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"]}", 409,
                      "the queue has stopped at beta: it is not back in time; continue it with fleetctl "
                      "reboot --resume");
        write_now(fixture, down, 1);
        assert_answer(fixture, "POST /fleet/v1/reboots/resume", NULL, 409,
                      "beta is left; start it before, or end the queue with fleetctl reboot --cancel");
        write_now(fixture, up, 1);
        assert_answer(fixture, "POST /fleet/v1/reboots/resume", NULL, 204, "");
        HOST_UNTIL(fixture->host, !cluster_machine(c, BETA)->reboot);
        assert_null(cluster_machine(c, BETA)->maintenance);
        assert_non_null(cluster_machine(c, GAMMA)->reboot);

        write_now(fixture, alone, ELEMENTS(alone));
        assert_answer(fixture, "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\"]}", 409,
                      "no other machine can run units: its units would keep beta from the reboot; to stop "
                      "them: fleetctl reboot beta --deadline=5min");
        assert_answer(fixture, "POST /fleet/v1/reboots",
                      "{\"deadlineMs\":300000,\"machines\":[\"" BETA "\"]}", 204, "");

        /* A host that is about to reboot continues. */
        write_now(fixture, rebooting, 1);
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200,
                      "\"rebooting\":[{\"name\":\"gamma\",\"state\":\"rebooting\"}],\"rebootsQueued\":1");
        assert_answer(fixture, "DELETE /fleet/v1/reboots", NULL, 204, "");
        assert_non_null(cluster_machine(c, GAMMA)->reboot);
        assert_answer(fixture, "GET /fleet/v1/reboots", NULL, 200, "\"returnMs\":");
}

static void a_unit_moves_or_the_answer_has_the_rule_that_excludes_the_machine(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" DELTA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"lost\",\"since\":5000}" },
                { "unit/a.service", "{\"text\":\"[Service]\\n\"}" },
                { "target/a.service", "launched" },
                { "machine/" BETA "/unit/a.service", "{\"order\":\"run\"}" },
                { "unit/c.service", "{\"text\":\"[X-Fleet]\\nConflicts=d.service\\n\"}" },
                { "target/c.service", "launched" },
                { "machine/" BETA "/unit/c.service", "{\"order\":\"run\"}" },
                { "unit/d.service", "{\"text\":\"[Service]\\n\"}" },
                { "target/d.service", "launched" },
                { "machine/" GAMMA "/unit/d.service", "{\"order\":\"run\"}" },
                { "unit/e.service", "{\"text\":\"[X-Fleet]\\nConflicts=h.service\\n\"}" },
                { "target/e.service", "launched" },
                { "machine/" BETA "/unit/e.service", "{\"order\":\"run\"}" },
                { "unit/h.service", "{\"text\":\"[Service]\\n\"}" },
                { "machine/" GAMMA "/unit/h.service", "{\"order\":\"stop\"}" },
                { "unit/f.service", "{\"text\":\"[Service]\\n\"}" },
                { "target/f.service", "launched" },
                { "machine/" BETA "/unit/f.service", "{\"order\":\"run\"}" },
                { "state/f.service/" BETA, "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\"}" },
                { "unit/g.service", "{\"text\":\"[X-Fleet]\\nGlobal=yes\\n\"}" },
                { "target/g.service", "launched" },
                { "unit/i.service", "{\"text\":\"[Service]\\n\"}" },
                { "unit/j.service", "{\"text\":\"[Service]\\nType=oneshot\\n\"}" },
                { "target/j.service", "launched" },
                { "machine/" BETA "/unit/j.service", "{\"order\":\"run\"}" },
                { "state/j.service/" BETA, "{\"active\":\"activating\",\"load\":\"loaded\"}" },
                { "unit/k.service", "{\"text\":\"[X-Fleet]\\nMachineID=" BETA "\\n\"}" },
                { "target/k.service", "launched" },
                { "machine/" BETA "/unit/k.service", "{\"order\":\"run\"}" },
                { "unit/m.service", "{\"text\":\"[X-Fleet]\\nMachineOf=a.service\\n\"}" },
                { "target/m.service", "launched" },
                { "machine/" BETA "/unit/m.service", "{\"order\":\"run\"}" },
                { "unit/follows-m.service", "{\"text\":\"[X-Fleet]\\nMachineOf=m.service\\n\"}" },
                { "target/follows-m.service", "launched" },
                { "machine/" BETA "/unit/follows-m.service", "{\"order\":\"run\"}" },
                { "unit/n.service", "{\"text\":\"[X-Fleet]\\nMove=no\\n\"}" },
                { "target/n.service", "launched" },
                { "machine/" BETA "/unit/n.service", "{\"order\":\"run\"}" },
                { "unit/o.service",
                  "{\"owner\":\"" BETA
                  "\",\"path\":\"/etc/fleet/units/o.service\",\"text\":\"[X-Fleet]\\nGlobal=yes\\n\"}" },
                { "unit/t@.service", "{\"text\":\"[Service]\\n\"}" },
                { "unit/u.service", "of a later version" },
                { "unit/w.service", "{\"text\":\"[X-Fleet]\\nMachineID=" DELTA "\\n\"}" },
                { "target/w.service", "launched" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "PUT /fleet/v1/units/a.service/move", "{", 400, "message" },
                { "PUT /fleet/v1/units/a.service/move", "{\"machine\":7}", 400, "machine" },
                { "PUT /fleet/v1/units/a.service/move", "{\"machine\":\"gamma\"}", 404,
                  "machine does not exist" },
                { "PUT /fleet/v1/units/none.service/move", "{}", 404, "unit does not exist" },
                { "GET /fleet/v1/units/none.service/move", NULL, 404, "unit does not exist" },
                { "DELETE /fleet/v1/units/none.service/move", NULL, 404, "unit does not exist" },
                { "POST /fleet/v1/units/a.service/move", "{}", 405, "only GET, PUT and DELETE" },
                { "DELETE /fleet/v1/units/a.service/move", NULL, 204, "" },
                { "GET /fleet/v1/units/a.service/move", NULL, 200,
                  "{\"id\":\"" BETA "\",\"machine\":\"beta\",\"name\":\"a.service\",\"state\":\"none\"}" },
                { "PUT /fleet/v1/units/a.service/move", "{\"machine\":\"" BETA "\"}", 204, "" },
                { "PUT /fleet/v1/units/a.service/move", "{\"machine\":\"" DELTA "\"}", 409,
                  "delta does not qualify: it is lost; the rules of all machines: fleetctl why a.service\"" },
                { "PUT /fleet/v1/units/a.service/move", "{\"from\":\"" DELTA "\",\"machine\":\"" GAMMA "\"}",
                  409, "it is no longer on " },
                { "PUT /fleet/v1/units/c.service/move", "{\"machine\":\"" GAMMA "\"}", 409,
                  "gamma does not qualify: Conflicts=d.service, and d.service is there; to free it: fleetctl "
                  "unload d.service, and after the move: fleetctl start d.service" },
                { "PUT /fleet/v1/units/m.service/move", "{\"machine\":\"" GAMMA "\"}", 409,
                  "gamma does not qualify: MachineOf=a.service, and a.service is not there; to move both: "
                  "fleetctl move a.service gamma" },
                { "PUT /fleet/v1/units/c.service/move", "{}", 409, "; to free one: fleetctl help move" },
                { "PUT /fleet/v1/units/k.service/move", "{}", 409,
                  "); the rules of all machines: fleetctl why k.service\"" },
                { "PUT /fleet/v1/units/e.service/move", "{\"machine\":\"" GAMMA "\"}", 409,
                  "and h.service is there; h.service is being unloaded: repeat the command when it has "
                  "ended" },
                { "PUT /fleet/v1/units/g.service/move", "{}", 409,
                  "to take it from a machine, with MachineMetadata= or Conflicts= in [X-Fleet]: fleetctl "
                  "edit g.service" },
                { "PUT /fleet/v1/units/o.service/move", "{}", 409,
                  "[X-Fleet]: correct /etc/fleet/units/o.service on beta\"" },
                { "PUT /fleet/v1/units/i.service/move", "{}", 409,
                  "its target state is inactive; to start it: fleetctl start i.service" },
                { "PUT /fleet/v1/units/j.service/move", "{}", 409, "it is a job that has not ended" },
                { "PUT /fleet/v1/units/n.service/move", "{}", 409,
                  "Move=no; to move it: repeat the command with --force" },
                { "PUT /fleet/v1/units/t@.service/move", "{}", 409,
                  "a template runs nowhere; its instances do: fleetctl list-units 't@*'" },
                { "PUT /fleet/v1/units/t@.service/move", "{\"force\":true}", 409, "a template runs nowhere" },
                { "PUT /fleet/v1/units/u.service/move", "{}", 409, "its key cannot be read by this fleetd" },
                { "PUT /fleet/v1/units/w.service/move", "{}", 409,
                  "it is on no machine: fleetctl why w.service" },
                { "PUT /fleet/v1/units/n.service/move", "{\"force\":true}", 204, "" },
                { "GET /fleet/v1/units/n.service/move", NULL, 200,
                  "{\"by\":\"root@alpha\",\"from\":\"beta\",\"id\":\"" GAMMA
                  "\",\"machine\":\"gamma\",\"name\":\"n.service\",\"since\":" },
                { "GET /fleet/v1/units/n.service/move", NULL, 200, "\"state\":\"queued\"}" },
                { "PUT /fleet/v1/units/n.service/move", "{}", 204, "" }, /* it moves already */
                { "GET /fleet/v1/units/n.service", NULL, 200, "\"reason\":\"moves to gamma: queued\"" },
                { "GET /fleet/v1/why/n.service", NULL, 200,
                  "\"reason\":\"it is not the machine to which the unit moves\"" },
                { "PUT /fleet/v1/units/n.service/move", "{\"machine\":\"" BETA "\"}", 204, "" },
                { "GET /fleet/v1/units/n.service/move", NULL, 200, "\"state\":\"none\"" },
                { "PUT /fleet/v1/units/a.service/move", "{\"machine\":\"" GAMMA "\"}", 204, "" },
        };
        static const Record starts[] = {
                { "machine/" GAMMA "/unit/a.service", "{\"order\":\"run\"}" },
        };
        static const Record active[] = {
                { "state/a.service/" GAMMA, "{\"active\":\"active\",\"load\":\"loaded\"}" },
        };
        static const Record stops[] = {
                { "machine/" BETA "/unit/a.service", "{\"order\":\"stop\"}" },
        };
        static const Record drains[] = {
                { "machine/" GAMMA "/maintenance", "{\"mode\":\"cordoned\"}" },
                { "machine/" BETA "/maintenance", "{\"mode\":\"draining\"}" },
        };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        write_now(fixture, records, ELEMENTS(records));
        assert_answer(fixture, "PUT /fleet/v1/units/a.service/move", "{\"machine\":\"" GAMMA "\"}", 409,
                      "move requires feature level 9, and the level is 1: all hosts need this version of "
                      "fleetd; then: fleetctl cluster level 9");
        raise_level(fixture, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        assert_answer(fixture, "GET /fleet/v1/history?unit=n.service", NULL, 200,
                      "\"reason\":\"move of n.service to gamma ended: it "
                      "stays\",\"result\":\"ended\",\"user\":\"root@alpha\"");

        assert_answer(fixture, "GET /fleet/v1/units/a.service/move", NULL, 200,
                      "{\"by\":\"root@alpha\",\"followers\":[\"follows-m.service\",\"m.service\"],\"from\":"
                      "\"beta\"");
        write_now(fixture, starts, 1);
        assert_answer(fixture, "GET /fleet/v1/units/a.service", NULL, 200,
                      "\"reason\":\"moves to gamma: it starts there\"");
        write_now(fixture, active, 1);
        write_now(fixture, stops, 1);
        assert_answer(fixture, "GET /fleet/v1/units/a.service/move", NULL, 200,
                      "\"from\":\"beta\",\"id\":\"" GAMMA "\"");
        assert_answer(fixture, "GET /fleet/v1/units/a.service/move", NULL, 200,
                      "\"reason\":\"it is available after 10 s (UpdateWatchSec=)\"");
        assert_answer(fixture, "GET /fleet/v1/machines/" BETA "/maintenance", NULL, 200,
                      "\"name\":\"a.service\",\"reason\":\"it is available after 10 s "
                      "(UpdateWatchSec=)\",\"state\":\"moving\"");
        assert_answer(fixture, "DELETE /fleet/v1/units/a.service/move", NULL, 204, "");
        assert_null(cluster_unit(c, "a.service")->move);
        assert_answer(fixture, "GET /fleet/v1/history?unit=a.service", NULL, 200,
                      "\"reason\":\"move of a.service to gamma ended: cancelled\"");

        /* Without d.service, gamma would still be cordoned. */
        write_now(fixture, drains, 1);
        assert_answer(fixture, "PUT /fleet/v1/units/c.service/move", "{}", 409,
                      "; the rules of all machines: fleetctl why c.service\"");
        write_now(fixture, drains, ELEMENTS(drains));
        assert_answer(fixture, "PUT /fleet/v1/units/c.service/move", "{\"machine\":\"" GAMMA "\"}", 409,
                      "beta is being drained, and the drain moves it");
        assert_answer(fixture, "PUT /fleet/v1/units/n.service/move",
                      "{\"force\":true,\"machine\":\"" GAMMA "\"}", 409,
                      "gamma does not qualify: it is cordoned; to let it get units again: fleetctl uncordon "
                      "gamma\"");
        write_now(fixture, &(Record) { "move/a.service", "of a later version" }, 1);
        assert_answer(fixture, "DELETE /fleet/v1/units/a.service/move", NULL, 409,
                      "its key cannot be read by this fleetd");
}

static void a_machine_is_cordoned_and_drained_or_the_answer_has_the_reason(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" DELTA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"lost\",\"since\":5000}" },
                { "unit/m.service", "{\"text\":\"[X-Fleet]\\nMachineID=" BETA "\\n\"}" },
                { "target/m.service", "launched" },
                { "machine/" BETA "/unit/m.service", "{\"order\":\"run\"}" },
                { "unit/n.service", "{\"text\":\"[X-Fleet]\\nMove=no\\n\"}" },
                { "target/n.service", "launched" },
                { "machine/" BETA "/unit/n.service", "{\"order\":\"run\"}" },
                { "unit/o.service", "{\"text\":\"[Service]\\n\"}" },
                { "target/o.service", "launched" },
                { "machine/" BETA "/unit/o.service", "{\"order\":\"run\"}" },
                { "unit/p.service", "{\"text\":\"[X-Fleet]\\nMachineOf=o.service\\n\"}" },
                { "target/p.service", "launched" },
                { "machine/" BETA "/unit/p.service", "{\"order\":\"run\"}" },
                { "unit/u.service", "of a later version" },
                { "target/u.service", "launched" },
                { "machine/" BETA "/unit/u.service", "{\"order\":\"run\"}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "PUT " BETA, "{", 400, "message" },
                { "PUT " BETA, "{}", 400, "mode" },
                { "PUT " BETA, "{\"mode\":\"drained\"}", 400,
                  "mode: expected cordoned or draining, not drained" },
                { "PUT " BETA, "{\"mode\":\"cordoned\",\"force\":true}", 400, "are for the mode draining" },
                { "PUT " BETA, "{\"mode\":\"draining\",\"deadlineMs\":31536000001}", 400,
                  "at most 365 days" },
                { "PUT " BETA, "{\"mode\":\"draining\",\"deadlineMs\":-1}", 400, "deadlineMs" },
                { "PUT " BETA, "{\"mode\":\"cordoned\",\"reason\":\"a\\nb\"}", 400,
                  "reason: expected one line" },
                { "PUT none", "{\"mode\":\"cordoned\"}", 404, "machine does not exist" },
                { "GET 99999999999999999999999999999999", NULL, 404, "machine does not exist" },
                { "DELETE none", NULL, 404, "machine does not exist" },
                { "GET " BETA, NULL, 200, "\"mode\":\"none\",\"name\":\"beta\",\"presence\":\"up\"" },
                { "DELETE " BETA, NULL, 204, "" },
                { "PUT " DELTA, "{\"mode\":\"draining\"}", 409,
                  "delta is lost: its units move without a drain; to keep other units away from it when it "
                  "returns: fleetctl cordon delta" },
                { "PUT " GAMMA, "{\"mode\":\"cordoned\",\"reason\":\"disk\"}", 204, "" },
                { "PUT " GAMMA, "{\"mode\":\"cordoned\"}", 204, "" },
                { "GET " GAMMA, NULL, 200,
                  "\"mode\":\"cordoned\",\"name\":\"gamma\",\"presence\":\"up\",\"reason\":\"disk\"" },
                { "PUT " BETA, "{\"mode\":\"draining\"}", 409,
                  "no other machine can run units: its units would stay; to stop them: fleetctl drain beta "
                  "--deadline=5min" },
                { "DELETE " GAMMA, NULL, 204, "" },
                { "GET " GAMMA, NULL, 200, "\"mode\":\"none\"" },
                { "PUT " BETA, "{\"mode\":\"draining\"}", 204, "" },
                { "PUT " BETA, "{\"mode\":\"cordoned\"}", 204, "" }, /* it stays as it is */
                { "GET " BETA, NULL, 200, "\"mode\":\"draining\"" },
                { "GET " BETA, NULL, 200,
                  "{\"name\":\"m.service\",\"reason\":\"no other machine qualifies (" },
                { "GET " BETA, NULL, 200,
                  "{\"code\":\"bound\",\"name\":\"n.service\",\"reason\":\"Move=no\",\"state\":"
                  "\"waiting\"}" },
                { "GET " BETA, NULL, 200,
                  "{\"machine\":\"gamma\",\"name\":\"o.service\",\"state\":\"queued\"}," },
                { "GET " BETA, NULL, 200,
                  "{\"name\":\"p.service\",\"reason\":\"after o.service, beside which it "
                  "stays\",\"state\":\"queued\"}," },
                { "GET " BETA, NULL, 200,
                  "{\"blocked\":true,\"name\":\"u.service\",\"reason\":\"its key cannot be read by this "
                  "fleetd: upgrade the host\",\"state\":\"waiting\"}],\"unitsLeft\":5}" },
                { "PUT " BETA, "{\"mode\":\"draining\",\"deadlineMs\":300000,\"force\":true}", 204, "" },
                { "GET " BETA, NULL, 200, "\"force\":true" },
                { "GET " BETA, NULL, 200, "\"deadlineMs\":" },
        };
        static const char *const former[] = {
                "{\"deadline\":9999999999999,\"force\":true,\"mode\":\"cordoned\",\"since\":1,\"why\":"
                "\"disk\"}",
                "{\"deadline\":9999999999999,\"force\":true,\"mode\":\"drained\",\"since\":1,\"why\":"
                "\"disk\"}",
        };
        Fixture *fixture = *state;

        write_now(fixture, records, ELEMENTS(records));
        assert_maintenance(fixture, "PUT " BETA, "{\"mode\":\"cordoned\"}", 409,
                           "cordon and drain require feature level 7, and the level is 1: all hosts need "
                           "this version of fleetd; then: fleetctl cluster level 7");
        raise_level(fixture, 7);
        assert_cluster_maintenance(fixture, NULL, 0);
        assert_maintenance(fixture, "PUT " GAMMA, "{\"mode\":\"cordoned\",\"reason\":\"tape\"}", 204, "");
        assert_cluster_maintenance(
                fixture, "\"maintenance\":[{\"mode\":\"cordoned\",\"name\":\"gamma\",\"reason\":\"tape\"}]",
                0);
        assert_maintenance(fixture, "DELETE " GAMMA, NULL, 204, "");
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/history" });
        assert_non_null(strstr(fixture->answer, "\"reason\":\"uncordoned\",\"user\":\"root@alpha\""));
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_maintenance(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        assert_cluster_maintenance(fixture,
                                   "\"mode\":\"draining\",\"name\":\"beta\",\"unit\":\"m.service\","
                                   "\"waiting\":2,\"why\":\"no other machine",
                                   1);
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/cluster" });
        assert_non_null(strstr(fixture->answer, "\"maintenance\":[{\"deadlineMs\":"));
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/machines" });
        assert_non_null(strstr(fixture->answer, "\"maintenance\":\"draining\""));
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/why/m.service" });
        assert_non_null(
                strstr(fixture->answer, "no longer qualifies (it is draining); no other machine qualifies"));
        write_now(fixture,
                  &(Record) { "machine/" BETA "/maintenance", "{\"for\":\"leave\",\"mode\":\"draining\"}" },
                  1);
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/cluster" });
        assert_non_null(strstr(fixture->answer, "\"leaving\":[{\"name\":\"beta\",\"units\":5,\"waiting\":["
                                                "\"m.service\",\"n.service\",\"u.service\"]}]"));
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/why/n.service" });
        assert_non_null(strstr(fixture->answer, "beta is leaving the cluster; it stays: Move=no"));
        assert_maintenance(fixture, "PUT " BETA, "{\"mode\":\"draining\",\"force\":true}", 409,
                           "beta is leaving the cluster; to keep it, run on it: fleetctl leave --cancel");
        assert_maintenance(fixture, "DELETE " BETA, NULL, 409, "beta is leaving the cluster");
        /* An unknown purpose holds back no operator. */
        write_now(fixture,
                  &(Record) { "machine/" BETA "/maintenance", "{\"for\":\"other\",\"mode\":\"cordoned\"}" },
                  1);
        assert_maintenance(fixture, "PUT " BETA, "{\"mode\":\"draining\",\"deadlineMs\":300000}", 204, "");
        assert_maintenance(fixture, "GET " BETA, NULL, 200, "\"mode\":\"draining\"");
        assert_null(strstr(fixture->answer, "\"for\""));
        assert_maintenance(fixture, "DELETE " BETA, NULL, 204, "");
        /* Another drain keeps the reason of the one before, and not its deadline and its force. */
        for (size_t i = 0; i < ELEMENTS(former); i++) {
                write_now(fixture, &(Record) { "machine/" BETA "/maintenance", former[i] }, 1);
                assert_maintenance(fixture, "PUT " BETA, "{\"mode\":\"draining\"}", 204, "");
                assert_maintenance(fixture, "GET " BETA, NULL, 200, "\"mode\":\"draining\"");
                assert_null(strstr(fixture->answer, "deadlineMs"));
                assert_null(strstr(fixture->answer, "force"));
                assert_non_null(strstr(fixture->answer, "\"reason\":\"disk\""));
                assert_non_null(strstr(fixture->answer, "\"unitsLeft\":5"));
        }
        /* A record of a later version. */
        write_now(fixture, &(Record) { "machine/" BETA "/maintenance", "{\"mode\":\"evacuating\"}" }, 1);
        assert_maintenance(fixture, "GET " BETA, NULL, 200,
                           "\"mode\":\"cordoned\",\"name\":\"beta\",\"presence\":\"up\",\"reason\":\"its key "
                           "cannot be read by this fleetd: upgrade the host\"");
        assert_maintenance(fixture, "PUT " BETA, "{\"mode\":\"draining\"}", 409,
                           "beta: its key cannot be read by this fleetd: upgrade the host");
        assert_maintenance(fixture, "DELETE " BETA, NULL, 409, "beta: its key cannot be read");
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/cluster" });
        assert_non_null(strstr(fixture->answer, "\"maintenance\":[{\"mode\":\"cordoned\",\"name\":\"beta\","
                                                "\"reason\":\"its key cannot be read"));
}

/* A machine that has been lost or shut down for an hour; each other one has its reason and a next step. */
/* A unit without another machine keeps its host from the reboot. */
static void a_reboot_names_the_unit_that_keeps_its_host_and_takes_a_deadline_later(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "unit/m.service", "{\"text\":\"[X-Fleet]\\nMachineID=" BETA "\\n\"}" },
                { "target/m.service", "launched" },
                { "machine/" BETA "/unit/m.service", "{\"order\":\"run\"}" },
                { "machine/" BETA "/reboot",
                  "{\"kind\":\"reboot\",\"seq\":1,\"since\":1,\"state\":\"draining\"}" },
                { "machine/" BETA "/maintenance", "{\"for\":\"reboot\",\"mode\":\"draining\"}" },
                { "machine/" GAMMA "/reboot",
                  "{\"kind\":\"reboot\",\"seq\":2,\"since\":1,\"state\":\"queued\"}" },
        };
        static const struct {
                const char *request, *body;
                unsigned status;
                const char *says;
        } rows[] = {
                { "GET /fleet/v1/reboots", NULL, 200,
                  "\"reason\":\"m.service: no other machine qualifies (gamma has another ID " },
                { "GET /fleet/v1/reboots", NULL, 200,
                  "\"state\":\"draining\",\"unit\":\"m.service\",\"unitsLeft\":1}" },
                { "GET /fleet/v1/reboots", NULL, 200,
                  "\"reason\":\"beta is before it\",\"state\":\"queued\"}" },
                { "GET /fleet/v1/cluster", NULL, 200,
                  "\"reboots\":[{\"name\":\"beta\",\"reason\":\"m.service: no other machine qualifies (gamma "
                  "has another ID " },
                { "GET /fleet/v1/cluster", NULL, 200, "\"state\":\"draining\"}]" },
                { "POST /fleet/v1/reboots", "{\"machines\":[\"" BETA "\",\"" GAMMA "\"]}", 204, "" },
                { "GET /fleet/v1/cluster", NULL, 200, "\"reboots\":[{\"name\":\"beta\"," },
                { "POST /fleet/v1/reboots",
                  "{\"deadlineMs\":300000,\"machines\":[\"" BETA "\",\"" GAMMA "\"]}", 204, "" },
                { "GET /fleet/v1/reboots", NULL, 200, "{\"reboots\":[{\"deadlineMs\":" },
                { "GET /fleet/v1/history", NULL, 200,
                  "its reboot stops the units that are left at a deadline" },
        };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        raise_level(fixture, KV_LEVEL_UPDATES);
        write_now(fixture, records, ELEMENTS(records));
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_answer(fixture, rows[i].request, rows[i].body, rows[i].status, rows[i].says);
        assert_int_equal(cluster_machine(c, GAMMA)->reboot->deadline_ms, 300000);
        assert_int_equal(cluster_machine(c, BETA)->reboot->deadline_ms, 300000);
        assert_true(cluster_machine(c, BETA)->maintenance->deadline_ms > c->now_ms);
        assert_string_equal(cluster_machine(c, BETA)->maintenance->purpose, CLUSTER_FOR_REBOOT);
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200, "");
        assert_null(strstr(fixture->answer, "\"reboots\""));
}

static void a_host_that_is_back_has_the_time_for_which_it_is_observed(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" BETA "/reboot",
                  "{\"kind\":\"reboot\",\"seq\":1,\"since\":1,\"state\":\"back\"}" },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_UPDATES);
        write_now(fixture, records, ELEMENTS(records));
        assert_answer(fixture, "GET /fleet/v1/reboots", NULL, 200,
                      "\"reason\":\"it has to stay up for 30 s, with its units available\"");
}

/* With Move=stop-first, the drain stops no instance while the budget of its template allows none. */
static void a_drain_names_the_budget_for_which_it_waits(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "unit/o.service", "{\"text\":\"[X-Fleet]\\nMove=stop-first\\nMinAvailable=1\\n\"}" },
                { "target/o.service", "launched" },
                { "machine/" BETA "/unit/o.service", "{\"order\":\"run\"}" },
                { "state/o.service/" BETA, "{\"active\":\"active\",\"available\":true,\"load\":\"loaded\"}" },
                { "machine/" BETA "/maintenance", "{\"mode\":\"draining\"}" },
        };
        Fixture *fixture = *state;

        raise_level(fixture, KV_LEVEL_UPDATES);
        write_now(fixture, records, ELEMENTS(records));
        assert_maintenance(
                fixture, "GET " BETA, NULL, 200,
                "{\"name\":\"o.service\",\"reason\":\"0 of 1 instances of o.service are unavailable "
                "(MaxUnavailable=1, MinAvailable=1): none can be stopped first\",\"state\":\"waiting\"}");
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200,
                      "\"unit\":\"o.service\",\"waiting\":1,\"why\":\"0 of 1 instances");
        assert_answer(fixture, "GET /fleet/v1/why/o.service", NULL, 200,
                      "waiting: beta no longer qualifies (it is draining); 0 of 1 instances");
        write_now(fixture,
                  &(Record) { "machine/" BETA "/maintenance", "{\"deadline\":1,\"mode\":\"draining\"}" }, 1);
        assert_maintenance(fixture, "GET " BETA, NULL, 200, "\"state\":\"queued\"}");
}

/* A wait of a drain, a move or a planned reboot: beta and gamma are up, and m.service is available on beta.
 */
typedef struct WaitRow {
        const char *options; /* of m.service */
        Record records[6];   /* written after those; value "": the key is deleted */
        const char *request; /* of what waits */
        const char *says;    /* a part of its answer */
        const char *why;     /* a part of the reason of m.service; NULL: it is that of the unit alone */
        const char *status;  /* a part of what status reads, after a minute; NULL: time ends the wait */
} WaitRow;

#define DRAINS \
        { "machine/" BETA "/maintenance", "{\"mode\":\"draining\"}" }
#define MOVES \
        { "move/m.service", "{\"since\":1,\"to\":\"" GAMMA "\"}" }
#define QUEUED(id) \
        { "machine/" id "/reboot", "{\"kind\":\"reboot\",\"seq\":2,\"since\":1,\"state\":\"queued\"}" }
#define REBOOT_IN(state)                                                                           \
        {                                                                                          \
                "machine/" BETA "/reboot",                                                         \
                        "{\"boot\":\"1\",\"kind\":\"reboot\",\"since\":1,\"state\":\"" state "\"}" \
        }
#define REBOOT_HAS(mode) \
        { "machine/" BETA "/maintenance", "{\"for\":\"reboot\",\"mode\":\"" mode "\"}" }
#define IS(id, presence) \
        { "machine/" id "/presence", "{\"since\":99999999999999,\"state\":\"" presence "\"}" }
#define GONE_TOGETHER                                         \
        IS(DELTA, "lost"), IS(ETA, "lost"), {                 \
                "machine/" ETA "/facts", "{\"name\":\"eta\"}" \
        }
#define ADOPTING \
        { "cluster/adopting", "1" }
#define BETA_AWAY     "beta is away; on it: systemctl start fleetd"
#define GET_DRAIN     "GET /fleet/v1/machines/" BETA "/maintenance"
#define GET_MOVE      "GET /fleet/v1/units/m.service/move"
#define GET_REBOOTS   "GET /fleet/v1/reboots"
#define GET_WHY       "GET /fleet/v1/why/m.service"
#define NO_BUDGET     "0 of 1 instances of m.service are unavailable (MaxUnavailable=1, MinAvailable=1)"
#define NOT_REPORTED  "the cluster was recovered or restored, and not all hosts have reported"
#define LOST_TOGETHER "machines were lost together, and nothing moves (BrakeSec=)"

#define WAITS_THERE                                                                                          \
        "waiting: beta was shut down, and no other machine takes over (Move=no); to move it: fleetctl move " \
        "m.service --force"

static const WaitRow drain_waits[] = {
        { "Move=no\\n", { IS(BETA, "left") }, GET_WHY, WAITS_THERE },
        { "Move=no\\n",
          { { "machine/" BETA "/presence", "{\"announced\":true,\"since\":1,\"state\":\"lost\"}" } },
          GET_WHY,
          WAITS_THERE },
        { "Move=no\\n",
          { { "machine/" BETA "/unit/m.service",
              "{\"order\":\"load\",\"reason\":\"the deadline has passed\"}" } },
          GET_WHY,
          "waiting: the deadline has passed" },
        { "Move=no\\nMachineMetadata=a=b\\n",
          {},
          GET_WHY,
          "waiting: beta no longer qualifies (MachineMetadata=a=b, and it has no a), and it stays there "
          "(Move=no)" },
        { "", { { "machine/" BETA "/unit/m.service", "" } }, GET_WHY, "about to be assigned: " },
        { "",
          { { "machine/" BETA "/unit/m.service", "{\"order\":\"stop\"}" } },
          GET_WHY,
          "waiting: it has to end on beta" },
        { "", { DRAINS }, GET_DRAIN, "\"state\":\"queued\"", "moving to gamma" },
        { "Move=no\\n",
          { DRAINS },
          GET_DRAIN,
          "[{\"code\":\"bound\",\"name\":\"m.service\",\"reason\":\"Move=no",
          "Move=no",
          "\"why\":\"Move=no" },
        { "MachineID=" BETA "\\n",
          { DRAINS },
          GET_DRAIN,
          "\"reason\":\"no other machine qualifies",
          "no other machine qualifies",
          "\"why\":\"no other machine qualifies" },
        { "Move=stop-first\\nMinAvailable=1\\n",
          { DRAINS },
          GET_DRAIN,
          "\"reason\":\"" NO_BUDGET,
          NO_BUDGET,
          "\"why\":\"" NO_BUDGET },
        { "",
          { DRAINS, IS(BETA, "away") },
          GET_DRAIN,
          "[{\"blocked\":true,\"name\":\"m.service\",\"reason\":\"" BETA_AWAY "\"",
          BETA_AWAY,
          "\"why\":\"" BETA_AWAY "\"" },
        { "Move=no\\n",
          { DRAINS, IS(BETA, "away") },
          GET_DRAIN,
          "[{\"blocked\":true,\"name\":\"m.service\",\"reason\":\"" BETA_AWAY "\"",
          BETA_AWAY,
          "\"why\":\"" BETA_AWAY "\"" },
        { "",
          { DRAINS, IS(GAMMA, "away"), { "machine/" GAMMA "/unit/m.service", "{\"order\":\"run\"}" } },
          GET_DRAIN,
          "\"reason\":\"gamma, to which it moves, is away\"",
          "gamma, to which it moves, is away",
          "\"why\":\"gamma, to which it moves, is away\"" },
        { "",
          { DRAINS,
            { "machine/" BETA "/unit/m.service", "{\"moveAfter\":99999999999999,\"moveFailed\":\"" GAMMA
                                                 "\",\"order\":\"run\",\"reason\":\"the move failed\"}" } },
          GET_DRAIN,
          "\"reason\":\"the move to gamma failed; the next attempt is in 9",
          "the move to gamma failed; the next attempt is in 9",
          "\"why\":\"the move to gamma failed; the next attempt is in 9" },
        { "",
          { DRAINS, { "target/m.service", "of a later version" } },
          GET_DRAIN,
          "\"reason\":\"its key cannot be read",
          "its key cannot be read",
          "\"why\":\"its key cannot be read" },
        { "",
          { DRAINS, { "machine/" BETA "/facts", "of a later version" } },
          GET_DRAIN,
          "its key cannot be read",
          "its key cannot be read",
          "its key cannot be read" },
        { "",
          { DRAINS, GONE_TOGETHER },
          GET_DRAIN,
          "\"reason\":\"" LOST_TOGETHER "\",\"state\":\"waiting\"",
          LOST_TOGETHER,
          "\"brake\":{" },
        { "", { DRAINS, ADOPTING }, GET_DRAIN, "\"reason\":\"" NOT_REPORTED, NOT_REPORTED, "\"waitsFor\":[" },
};

static const WaitRow move_waits[] = {
        { "Move=stop-first\\nMinAvailable=1\\n",
          { MOVES },
          GET_MOVE,
          "\"reason\":\"" NO_BUDGET,
          NO_BUDGET,
          "\"moves\":[{\"machine\":\"gamma\",\"name\":\"m.service\",\"reason\":\"" NO_BUDGET },
        { "",
          { MOVES, IS(BETA, "away") },
          GET_MOVE,
          "\"reason\":\"" BETA_AWAY "\"",
          BETA_AWAY,
          "\"name\":\"m.service\",\"reason\":\"" BETA_AWAY "\"" },
        { "",
          { MOVES, IS(GAMMA, "away"), { "machine/" BETA "/unit/m.service", "" } },
          GET_MOVE,
          "\"reason\":\"gamma is away\"",
          "moves to gamma: waiting: gamma is away\",\"reasonKind\":\"moving\"",
          "\"name\":\"m.service\",\"reason\":\"gamma is away\"" },
        { "",
          { MOVES, GONE_TOGETHER },
          GET_MOVE,
          "\"reason\":\"" LOST_TOGETHER "\"",
          LOST_TOGETHER,
          "\"name\":\"m.service\",\"reason\":\"" LOST_TOGETHER },
        { "", { MOVES, ADOPTING }, GET_MOVE, "\"reason\":\"" NOT_REPORTED, NOT_REPORTED, "\"waitsFor\":[" },
        { "", { { "move/m.service", "of a later version" } }, GET_DRAIN, "{", "its key cannot be read" },
};

static const WaitRow reboot_waits[] = {
        { "",
          { QUEUED(BETA), IS(BETA, "away") },
          GET_REBOOTS,
          "\"reason\":\"it is not up\"",
          NULL,
          "\"reboots\":[{\"name\":\"beta\",\"reason\":\"it is not up\",\"state\":\"queued\"}]" },
        { "",
          { QUEUED(BETA), { "machine/" BETA "/maintenance", "{\"for\":\"leave\",\"mode\":\"draining\"}" } },
          GET_REBOOTS,
          "\"reason\":\"it is in maintenance for another reason: leave\"",
          NULL,
          "\"reason\":\"it is in maintenance for another reason: leave\"" },
        { "",
          { QUEUED(BETA), { "machine/" GAMMA "/reboot", "of a later version" } },
          GET_REBOOTS,
          "\"reason\":\"the reboot of gamma: its key cannot be read",
          NULL,
          "the reboot of gamma: its key" },
        { "",
          { QUEUED(BETA), ADOPTING },
          GET_REBOOTS,
          "\"reason\":\"" NOT_REPORTED,
          NULL,
          "\"reason\":\"" NOT_REPORTED },
        { "",
          { QUEUED(BETA), GONE_TOGETHER },
          GET_REBOOTS,
          "\"reason\":\"" LOST_TOGETHER,
          NULL,
          "\"reason\":\"" LOST_TOGETHER },
        { "",
          { REBOOT_IN("failed"), QUEUED(GAMMA) },
          GET_REBOOTS,
          "\"reason\":\"the queue has stopped at beta\",\"state\":\"queued\"",
          NULL,
          "\"state\":\"failed\"}]" },
        { "",
          { REBOOT_IN("draining"), REBOOT_HAS("draining"), QUEUED(GAMMA) },
          GET_REBOOTS,
          "\"reason\":\"beta is before it\",\"state\":\"queued\"" },
        /* The first one may not begin, and the second one waits for it. */
        { "",
          { QUEUED(BETA),
            QUEUED(GAMMA),
            { "machine/" BETA "/maintenance", "{\"for\":\"leave\",\"mode\":\"draining\"}" } },
          GET_REBOOTS,
          "\"reason\":\"beta is before it\",\"state\":\"queued\"",
          NULL,
          "\"name\":\"beta\"" },
        { "Move=no\\n",
          { REBOOT_IN("draining"), REBOOT_HAS("draining") },
          GET_REBOOTS,
          "[{\"id\":",
          "Move=no",
          "[{\"name\":\"beta\",\"reason\":\"m.service: Move=no" },
        { "",
          { REBOOT_IN("draining"), REBOOT_HAS("draining"), IS(BETA, "away") },
          GET_REBOOTS,
          "[{\"blocked\":true,\"id\":",
          BETA_AWAY,
          "[{\"blocked\":true,\"name\":\"beta\",\"reason\":\"m.service: " BETA_AWAY },
        { "",
          { REBOOT_IN("draining"), REBOOT_HAS("draining"), GONE_TOGETHER },
          GET_REBOOTS,
          "\"reason\":\"" LOST_TOGETHER,
          LOST_TOGETHER,
          "\"reason\":\"" LOST_TOGETHER },
        { "",
          { REBOOT_IN("draining"), REBOOT_HAS("draining"), ADOPTING },
          GET_REBOOTS,
          "\"reason\":\"" NOT_REPORTED,
          NOT_REPORTED,
          "\"reason\":\"" NOT_REPORTED },
        { "Global=yes\\nMinAvailable=1\\n",
          { REBOOT_IN("draining"), REBOOT_HAS("drained") },
          GET_REBOOTS,
          "\"reason\":\"" NO_BUDGET,
          NULL,
          "\"reason\":\"" NO_BUDGET },
        /* Its deadline has passed, and does not end this wait. */
        { "",
          { REBOOT_IN("draining"),
            { "machine/" BETA "/maintenance", "{\"deadline\":1,\"for\":\"reboot\",\"mode\":\"draining\"}" },
            GONE_TOGETHER },
          GET_REBOOTS,
          "\"reason\":\"" LOST_TOGETHER,
          LOST_TOGETHER,
          "\"reason\":\"" LOST_TOGETHER },
        { "", { REBOOT_IN("rebooting"), REBOOT_HAS("drained") }, GET_REBOOTS, "\"reason\":\"it goes down\"" },
        { "",
          { REBOOT_IN("down"), REBOOT_HAS("drained"), IS(BETA, "lost") },
          GET_REBOOTS,
          "\"reason\":\"it is not up again yet\"" },
        { "",
          { REBOOT_IN("down"),
            REBOOT_HAS("drained"),
            { "machine/" BETA "/facts", "{\"boot\":\"2\",\"booting\":true,\"level\":9,\"name\":\"beta\"}" } },
          GET_REBOOTS,
          "\"reason\":\"it is up, and boot-complete.target is not reached yet\"" },
        { "",
          { { "machine/" BETA "/reboot", "{\"boot\":\"1\",\"kind\":\"reboot\",\"since\":1,\"state\":\"back\","
                                         "\"until\":99999999999999}" },
            { "state/m.service/" BETA, "" } },
          GET_REBOOTS,
          "\"reason\":\"m.service is not available again\"" },
        { "",
          { { "machine/" BETA "/reboot", "{\"boot\":\"1\",\"kind\":\"reboot\",\"since\":1,\"state\":\"back\","
                                         "\"steady\":1,\"until\":99999999999999}" } },
          GET_REBOOTS,
          "\"reason\":\"its units are available, and have to remain so for 30 s\"" },
};

static void delete_record(Fixture *fixture, const char *below) {
        char key[LAYOUT_KEY_MAX];
        KvCommand cmd = { .op = KV_DELETE, .internal = true };

        snprintf(key, sizeof(key), "/_fleet/%s", below);
        cmd.key = kv_string(key);
        assert_int_equal(kv_propose(fixture->host->store, &cmd, on_written, NULL, NULL), 0);
        fixture->base = kv_index(fixture->host->store) + 1;
        HOST_UNTIL(fixture->host, registry_cluster(fixture->host->registry)->index == fixture->base);
}

static void begin_wait(Fixture *fixture, const WaitRow *row) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"boot\":\"1\",\"level\":9,\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" DELTA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"lost\",\"since\":1}" },
                { "target/m.service", "launched" },
                { "machine/" BETA "/unit/m.service", "{\"order\":\"run\"}" },
                { "state/m.service/" BETA, "{\"active\":\"active\",\"available\":true,\"load\":\"loaded\"}" },
        };
        char text[256];

        snprintf(text, sizeof(text), "{\"text\":\"[X-Fleet]\\n%s\"}", row->options);
        write_now(fixture, records, ELEMENTS(records));
        write_now(fixture, &(Record) { "unit/m.service", text }, 1);
        for (size_t i = 0; i < ELEMENTS(row->records) && row->records[i].key; i++)
                if (*row->records[i].value)
                        write_now(fixture, &row->records[i], 1);
                else
                        delete_record(fixture, row->records[i].key);
}

static void check_waits(const WaitRow *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                void *state;
                Fixture *fixture;

                fixture_setup(&state);
                fixture = state;
                begin_wait(fixture, &rows[i]);
                assert_answer(fixture, rows[i].request, NULL, 200, rows[i].says);
                if (rows[i].why)
                        assert_answer(fixture, "GET /fleet/v1/units/m.service", NULL, 200, rows[i].why);
                if (rows[i].status)
                        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200, rows[i].status);
                fixture_teardown(&state);
        }
}

static void a_wait_of_less_than_a_minute_is_no_problem(void **state) {
        static const WaitRow rows[] = {
                { "",
                  { IS(BETA, "away"),
                    { "move/m.service", "{\"since\":99999999999999,\"to\":\"" GAMMA "\"}" } } },
                { "",
                  { IS(BETA, "away"),
                    { "machine/" BETA "/reboot",
                      "{\"kind\":\"reboot\",\"since\":99999999999999,\"state\":\"queued\"}" } } },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                begin_wait(fixture, &rows[i]);
        assert_answer(fixture, GET_MOVE, NULL, 200, "\"state\":\"waiting\"");
        assert_answer(fixture, GET_REBOOTS, NULL, 200, "\"reason\":\"it is not up\"");
        assert_answer(fixture, "GET /fleet/v1/cluster", NULL, 200, "");
        assert_null(strstr(fixture->answer, "\"moves\""));
        assert_null(strstr(fixture->answer, "\"reboots\""));
}

static void each_wait_has_a_reason(void **state) {
        check_waits(drain_waits, ELEMENTS(drain_waits));
        check_waits(move_waits, ELEMENTS(move_waits));
        check_waits(reboot_waits, ELEMENTS(reboot_waits));
}

static void a_machine_is_removed_when_it_has_been_gone_for_an_hour(void **state) {
        static const Record more[] = {
                { "machine/ffffffffffffffffffffffffffffffff/facts", "{\"name\":\"zeta\"}" },
                { "machine/ffffffffffffffffffffffffffffffff/presence",
                  "{\"state\":\"lost\",\"since\":99999999999999}" },
                { "machine/11111111111111111111111111111111/facts", "{\"name\":\"one\"}" },
                { "machine/11111111111111111111111111111111/presence",
                  "{\"state\":\"left\",\"since\":99999999999999}" },
                { "machine/22222222222222222222222222222222/presence", "{\"state\":\"lost\",\"since\":1}" },
                { "cluster/member/22222222222222222222222222222222",
                  "{\"name\":\"two\",\"peer\":\"10.0.0.2:2380\",\"raftId\":2,\"start\":7}" },
                { "machine/77777777777777777777777777777777/presence", "{\"state\":\"lost\",\"since\":1}" },
                { "cluster/member/77777777777777777777777777777777",
                  "{\"name\":\"seven\",\"peer\":\"10.0.0.7:2380\",\"raftId\":1}" },
                { "machine/33333333333333333333333333333333/facts", "{\"name\":\"three\"}" },
                { "machine/33333333333333333333333333333333/presence", "{\"state\":\"left\",\"since\":1}" },
                { "machine/44444444444444444444444444444444/facts", "{\"name\":\"four\"}" },
                { "machine/88888888888888888888888888888888/presence", "{\"state\":\"lost\",\"since\":1}" },
                { "machine/88888888888888888888888888888888/facts", "{" },
                { "cluster/host/99999999999999999999999999999999",
                  "{\"joined\":1,\"pins\":["
                  "\"5555555555555555555555555555555555555555555555555555555555555555\"]}" },
                { "machine/" DELTA "/metadata/k", "v" },
                { "machine/" DELTA "/problem/p.service", "{\"kind\":\"refused\",\"text\":\"line 1\"}" },
                { "machine/" DELTA "/unit/w.service", "{\"order\":\"run\"}" },
                { "machine/" DELTA "/unit/done.service", "{\"order\":\"run\"}" },
                { "state/done.service/" DELTA,
                  "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\",\"sub\":\"dead\"}" },
        };
        static const Row rows[] = {
                { "DELETE /fleet/v1/machines/" BETA, NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "beta is up: run fleetctl leave on it, or shut it down, and remove it an hour "
                             "later") },
                { "DELETE /fleet/v1/machines/" GAMMA, NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "gamma is away: start its fleetd, or remove it an hour after it is lost") },
                { "DELETE /fleet/v1/machines/ffffffffffffffffffffffffffffffff", NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "zeta was lost 0 min ago; it can be removed in 60 min, or now with --force") },
                { "DELETE /fleet/v1/machines/11111111111111111111111111111111", NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "one shut down 0 min ago; it can be removed in 60 min, or now with --force") },
                { "DELETE /fleet/v1/machines/22222222222222222222222222222222", NULL, NULL, 204, SERVER, "" },
                { "DELETE /fleet/v1/machines/77777777777777777777777777777777", NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "seven is the last voter") },
                { "DELETE /fleet/v1/machines/77777777777777777777777777777777?force=true", NULL, NULL, 409,
                  JSON SERVER, ERROR(409, "seven is the last voter") },
                { "DELETE /fleet/v1/machines/" BETA "?force=true", NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "beta is up: run fleetctl leave on it, or shut it down, and remove it an hour "
                             "later") },
                { "DELETE /fleet/v1/machines/88888888888888888888888888888888", NULL, NULL, 409, JSON SERVER,
                  "{\"error\":{\"code\":409,\"message\":\"88888888: " CLUSTER_UNREADABLE "\"}}" },
                { "DELETE /fleet/v1/machines/33333333333333333333333333333333", NULL, NULL, 204, SERVER, "" },
                { "DELETE /fleet/v1/machines/44444444444444444444444444444444", NULL, NULL, 204, SERVER, "" },
                { "DELETE /fleet/v1/machines/99999999999999999999999999999999", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "machine does not exist") },
                { "DELETE /fleet/v1/machines/gamma", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "machine does not exist") },
                { "DELETE /fleet/v1/machines/" DELTA, NULL, NULL, 204, SERVER, "" },
                { "DELETE /fleet/v1/machines/" DELTA, NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "machine does not exist") },
                { "GET /fleet/v1/directory", NULL, NULL, 200, JSON SERVER, "{\"problems\":[]}" },
                /* Of a removed member, the name is left; of one that has joined, and was not up, its ID. */
                { "GET /fleet/v1/machines?all=true", NULL, NULL, 200, JSON SERVER,
                  "{\"machines\":[{\"hostname\":\"one\",\"id\":\"11111111111111111111111111111111\",\"kind\":"
                  "\"attached\",\"presence\":\"left\",\"since\":99999999999999},{\"hostname\":\"two\",\"id\":"
                  "\"22222222222222222222222222222222\",\"presence\":\"removed\",\"role\":\"standby\"},{"
                  "\"hostname\":\"seven\",\"id\":\"77777777777777777777777777777777\",\"kind\":\"voter\","
                  "\"presence\":\"lost\",\"role\":\"leader\",\"since\":1},{\"id\":"
                  "\"88888888888888888888888888888888\",\"kind\":\"attached\",\"presence\":\"lost\","
                  "\"since\":1},{\"id\":\"99999999999999999999999999999999\",\"presence\":\"removed\"},{"
                  "\"hostname\":\"beta\",\"id\":\"" BETA
                  "\",\"kind\":\"attached\",\"metadata\":{\"gpu\":\"yes\",\"zone\":\"a\"},\"presence\":"
                  "\"up\",\"primaryIP\":\"10.0.0.2\",\"since\":5000,\"units\":2,\"version\":\"7\"},{"
                  "\"hostname\":\"gamma\",\"id\":\"" GAMMA
                  "\",\"kind\":\"attached\",\"presence\":\"away\",\"reason\":\"it is silent\"},{\"id\":\"" ETA
                  "\",\"kind\":\"attached\",\"presence\":\"up\"},{\"hostname\":\"zeta\",\"id\":"
                  "\"ffffffffffffffffffffffffffffffff\",\"kind\":\"attached\",\"presence\":\"lost\","
                  "\"since\":99999999999999}]}" },
        };
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);
        const ClusterMachine *delta;
        KvState now;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, units, ELEMENTS(units));
        write_records(fixture, more, ELEMENTS(more));
        assert_int_equal(kv_member_add(fixture->host->store, 2, "10.0.0.2:2380"), 0);
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.n_members == 2));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));

        /* Its assignments and metadata stay, and what has finished there; its other states do not. */
        delta = cluster_machine(c, DELTA);
        assert_non_null(delta);
        assert_true(cluster_machine_is_removed(delta));
        assert_non_null(cluster_assignment_on(delta, "w.service"));
        assert_non_null(cluster_state_on(delta, "done.service"));
        assert_null(cluster_state_on(delta, "b.service"));
        assert_int_equal(delta->set.n, 1);
        assert_null(cluster_machine(c, "33333333333333333333333333333333"));
}

/* Connect, and wait for an answer: the next request is read in the first turn of the loop behind it. */
static int open_connection(Fixture *fixture) {
        static const char request[] = "GET /version HTTP/1.1\r\nHost: fleet\r\n\r\n";
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        char answer[1024];

        snprintf(a.sun_path, sizeof(a.sun_path), "%s", fixture->socket);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        HOST_UNTIL(fixture->host, recv(fd, answer, sizeof(answer), 0) > 0);
        return fd;
}

static void send_delete(int fd, const char *machine) {
        char request[256];

        snprintf(request, sizeof(request),
                 "DELETE /fleet/v1/machines/%s?force=true HTTP/1.1\r\nHost: fleet\r\n\r\n", machine);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
}

static unsigned next_status(Fixture *fixture, int fd) {
        char answer[1024] = "";
        unsigned status = 0;

        HOST_UNTIL(fixture->host, recv(fd, answer, sizeof(answer) - 1, 0) > 0);
        (void) sscanf(answer, "HTTP/1.1 %u", &status);
        fixture->answer = (free(fixture->answer), strdup(answer));
        return status;
}

/* Its presence changes between the decision and the tree: the conditions are checked again. */
static void a_request_is_decided_again_when_its_view_was_older(void **state) {
        static const char path[] = "/_fleet/machine/" DELTA "/presence";
        static const struct {
                const char *presence;
                unsigned status;
        } rows[] = { { "{\"state\":\"left\"}", 204 }, { "{\"state\":\"up\"}", 409 } };
        KvCommand other = { .op = KV_SET,
                            .internal = true,
                            .key = kv_string("/_fleet/machine/" DELTA "/facts"),
                            .value = kv_string("{\"name\":\"delta\"}") };
        const KvCommand name = { .op = KV_SET,
                                 .internal = true,
                                 .key = kv_string("/_fleet/cluster/settings"),
                                 .value = kv_string("{\"name\":\"prod\"}") };
        static const char settings[] =
                "PUT /fleet/v1/cluster/settings HTTP/1.1\r\nHost: fleet\r\nContent-Type: "
                "application/json\r\nContent-Length: 12\r\n\r\n{\"voters\":3}";
        Fixture *fixture = *state;
        unsigned first, second;
        int fds[2];

        raise_level(fixture, 5);
        write_now(fixture, hosts, ELEMENTS(hosts));
        fds[0] = open_connection(fixture);
        fds[1] = open_connection(fixture);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                KvCommand change = { .op = KV_SET,
                                     .internal = true,
                                     .key = kv_string(path),
                                     .value = kv_string(rows[i].presence) };

                write_now(fixture, &(Record) { "machine/" DELTA "/presence", "{\"state\":\"lost\"}" }, 1);
                /* The second one is written to the log behind the first one, a turn later at least. */
                send_delete(fds[0], DELTA);
                assert_int_equal(kv_propose(fixture->host->store, &other, on_written, NULL, NULL), 0);
                assert_int_equal(kv_propose(fixture->host->store, &change, on_written, NULL, NULL), 0);
                assert_int_equal(next_status(fixture, fds[0]), rows[i].status);
                if (rows[i].status == 409 && !strstr(fixture->answer, "delta is up: run fleetctl leave"))
                        fail_msg("%s", fixture->answer);
        }

        /* Two requests at once: one removes it. */
        send_delete(fds[0], BETA);
        assert_int_equal(next_status(fixture, fds[0]), 409);
        write_now(fixture, &(Record) { "machine/" BETA "/presence", "{\"state\":\"lost\"}" }, 1);
        send_delete(fds[0], BETA);
        send_delete(fds[1], BETA);
        first = next_status(fixture, fds[0]);
        second = next_status(fixture, fds[1]);
        assert_int_equal(MIN(first, second), 204);
        assert_int_equal(MAX(first, second), 404);

        /* Another member of the settings. */
        assert_int_equal(send(fds[0], settings, strlen(settings), 0), strlen(settings));
        assert_int_equal(kv_propose(fixture->host->store, &other, on_written, NULL, NULL), 0);
        assert_int_equal(kv_propose(fixture->host->store, &name, on_written, NULL, NULL), 0);
        if (next_status(fixture, fds[0]) != 204)
                fail_msg("%s", fixture->answer);
        HOST_UNTIL(fixture->host, cluster_settings(registry_cluster(fixture->host->registry))->voters == 3);
        assert_string_equal(cluster_settings(registry_cluster(fixture->host->registry))->name, "prod");
        close(fds[0]);
        close(fds[1]);
}

static int send_scale(Fixture *fixture, unsigned count) {
        int fd = open_connection(fixture);
        char text[256];

        snprintf(text, sizeof(text),
                 "PUT /fleet/v1/units/web@.service/replicas HTTP/1.1\r\nHost: fleet\r\nContent-Type: "
                 "application/json\r\nContent-Length: 11\r\n\r\n{\"count\":%u}",
                 count);
        assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
        return fd;
}

/* The second one was decided on the view before the first one, and is decided again. */
static void of_two_numbers_of_replicas_at_once_the_last_one_counts(void **state) {
        static const Record records[] = {
                { "unit/web@.service", "{\"text\":\"[Service]\\nA=1\\n[X-Fleet]\\nReplicas=3\\n\"}" },
        };
        Fixture *fixture = *state;
        _cleanup_text_ Text large = {};
        const ClusterUnit *head;
        int first, second;

        raise_level(fixture, KV_LEVEL_SCHEDULING);
        write_now(fixture, records, ELEMENTS(records));
        first = send_scale(fixture, 4);
        second = send_scale(fixture, 5);
        assert_int_equal(next_status(fixture, first), 204);
        assert_int_equal(next_status(fixture, second), 204);
        close(first);
        close(second);
        head = cluster_unit(registry_cluster(fixture->host->registry), "web@.service");
        HOST_UNTIL(fixture->host, cluster_replicas(head) == 5);
        assert_int_equal(head->replicas->file, 3);

        text_append(&large, "{\"text\":\"[X-Fleet]\\nReplicas=3\\n");
        while (large.size < 20 * 1024)
                text_append(&large, "# aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n");
        text_append(&large, "\"}");
        assert_answer(fixture, "PUT /fleet/v1/units/web@.service", large.chars, 201, "");
        assert_answer(fixture, "PUT /fleet/v1/units/web@.service/replicas", "{\"count\":1000}", 400,
                      "Replicas=1000: 1000 copies of 20 KiB exceed 16 MiB");
        assert_answer(fixture, "GET /fleet/v1/units/web@.service/replicas", NULL, 200, "{\"count\":5,");
}

/* A record that changes each time: the attempts end. */
static void a_removal_of_a_machine_that_changes_again_and_again_is_refused(void **state) {
        Fixture *fixture = *state;
        ClusterMachine *m;

        write_records(fixture, hosts, ELEMENTS(hosts));
        m = cluster_machine(registry_cluster(fixture->host->registry), DELTA);
        m->presence_index--; /* never that of the tree */
        play(fixture, API_SOCKET,
             &(Row) { "DELETE /fleet/v1/machines/" DELTA, NULL, NULL, 409, JSON SERVER,
                      ERROR(409, "the machine has changed meanwhile; see fleetctl list-machines") },
             1);
}

/* As fleetctl remove, for clients of etcd: the ID is that of /v2/members. */
static void a_lost_member_is_deleted_by_its_id(void **state) {
        static const Record lost[] = {
                { "machine/" SELF "/facts", "{\"level\":9,\"name\":\"alpha\"}" },
                { "cluster/member/" SELF,
                  "{\"level\":9,\"name\":\"alpha\",\"peer\":\"10.0.0.1:2380\",\"raftId\":1}" },
                { "machine/22222222222222222222222222222222/presence", "{\"state\":\"lost\",\"since\":1}" },
                { "cluster/member/22222222222222222222222222222222",
                  "{\"level\":9,\"name\":\"two\",\"peer\":\"10.0.0.2:2380\",\"raftId\":2,\"start\":7}" },
        };
        char id[MEMBER_ID_SIZE], request[sizeof("DELETE /v2/members/") + MEMBER_ID_SIZE];
        Fixture *fixture = *state;
        const ClusterMachine *two;
        KvState now;

        write_records(fixture, lost, ELEMENTS(lost));
        raise_level(fixture, 5);
        assert_int_equal(kv_member_add(fixture->host->store, 2, "10.0.0.2:2380"), 0);
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.n_members == 2));
        v2_member_id(&now, 2, id);
        snprintf(request, sizeof(request), "DELETE /v2/members/%s", id);
        send_row(fixture, API_SOCKET, &(Row) { .request = request });
        if (!starts_with(fixture->answer, "HTTP/1.1 204 "))
                fail_msg("%s", fixture->answer);
        two = cluster_machine(registry_cluster(fixture->host->registry), "22222222222222222222222222222222");
        assert_true(two && cluster_machine_is_removed(two) && two->removed);
        assert_string_equal(two->removed->how, "lost");
        send_row(fixture, API_SOCKET, &(Row) { .request = request });
        if (!starts_with(fixture->answer, "HTTP/1.1 409 ") ||
            !strstr(fixture->answer, "the member is being removed already"))
                fail_msg("%s", fixture->answer);
}

static void a_replaced_machine_is_removed_at_once(void **state) {
        static const Record more[] = {
                { "machine/22222222222222222222222222222222/presence",
                  "{\"state\":\"lost\",\"since\":99999999999999}" },
                { "cluster/member/22222222222222222222222222222222",
                  "{\"name\":\"beta\",\"peer\":\"10.0.0.2:2380\",\"raftId\":2,\"start\":7}" },
                { "cluster/member/" BETA, "{\"peer\":\"10.0.0.2:2380\",\"raftId\":3,\"start\":1}" },
        };
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, more, ELEMENTS(more));
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/machines?all=true" });
        if (!strstr(fixture->answer, "\"replacedBy\":\"" BETA "\""))
                fail_msg("%s", fixture->answer);
        play(fixture, API_SOCKET,
             &(Row) { "DELETE /fleet/v1/machines/22222222222222222222222222222222", NULL, NULL, 204, SERVER,
                      "" },
             1);
}

static void why_has_the_steps_that_place_a_unit_without_a_change_of_its_options(void **state) {
        static const Record records[] = {
                { "machine/" BETA "/facts", "{\"level\":9,\"metadata\":{\"zone\":\"a\"},\"name\":\"beta\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" BETA "/maintenance", "{\"mode\":\"drained\"}" },
                { "machine/" GAMMA "/facts", "{\"level\":9,\"name\":\"gamma\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" DELTA "/facts",
                  "{\"level\":9,\"metadata\":{\"zone\":\"a\"},\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"up\",\"since\":1}" },
                { "machine/" DELTA "/maintenance", "{\"for\":\"shutdown\",\"mode\":\"draining\"}" },
                { "unit/f.service",
                  "{\"text\":\"[X-Fleet]\\nMachineOf=none.service\\nMachineOf=h.service\\n\"}" },
                { "target/f.service", "launched" },
                { "unit/h.service", "{\"text\":\"[Service]\\n\"}" },
                { "unit/z.service", "{\"text\":\"[X-Fleet]\\nMachineMetadata=zone=a\\n\"}" },
                { "target/z.service", "launched" },
                { "unit/s.service", "{\"text\":\"[X-Fleet]\\nMachineMetadata=zone=b\\n\"}" },
                { "target/s.service", "launched" },
                { "unit/x.service", "{\"text\":\"[Service]\\n\"}" },
                { "target/x.service", "launched" },
        };
        /* Two units on gamma conflict with one; beta has a unit of its name from another source. */
        static const Record conflicts[] = {
                { "unit/c.service", "{\"text\":\"[X-Fleet]\\nConflicts=d*.service\\n\"}" },
                { "target/c.service", "launched" },
                { "state/c.service/" BETA,
                  "{\"active\":\"inactive\",\"load\":\"foreign\",\"reason\":\"this host has a unit of that "
                  "name from another source: /etc/systemd/system/c.service\"}" },
                { "unit/d1.service", "{\"text\":\"[X-Fleet]\\nConflicts=c.service\\n\"}" },
                { "target/d1.service", "launched" },
                { "machine/" GAMMA "/unit/d1.service", "{\"order\":\"run\"}" },
                { "unit/e.service", "{\"text\":\"[X-Fleet]\\nConflicts=c.service\\n\"}" },
                { "target/e.service", "launched" },
                { "machine/" GAMMA "/unit/e.service", "{\"order\":\"run\"}" },
        };
        Fixture *fixture = *state;

        write_now(fixture, records, ELEMENTS(records));
        assert_answer(fixture, "GET /fleet/v1/why/z.service", NULL, 200, "\"steps\":[\"uncordon beta\"]}");
        assert_answer(fixture, "GET /fleet/v1/why/f.service", NULL, 200,
                      "\"missing\":[\"none.service\"],\"name\"");
        assert_null(strstr(fixture->answer, "\"steps\"")); /* it cannot be started */
        assert_non_null(strstr(fixture->answer, "\"reason\":\"MachineOf=none.service, and the cluster has no "
                                                "unit none.service\",\"rule\":\"MachineOf\""));
        assert_non_null(
                strstr(fixture->answer, "\"no machine qualifies (the cluster has no unit none.service)\""));
        assert_answer(fixture, "GET /fleet/v1/why/s.service", NULL, 200, "zone=b");
        assert_null(strstr(fixture->answer, "\"steps\""));
        assert_answer(fixture, "GET /fleet/v1/why/x.service", NULL, 200, "\"chosen\":true");
        assert_null(strstr(fixture->answer, "\"steps\""));

        /* A host that is down, and would qualify; gamma has no zone. */
        assert_null(strstr(fixture->answer, "\"down\""));
        write_now(fixture,
                  (Record[]) { { "machine/" DELTA "/presence", "{\"state\":\"left\",\"since\":1}" },
                               { "machine/" GAMMA "/presence", "{\"state\":\"left\",\"since\":1}" } },
                  2);
        assert_answer(fixture, "GET /fleet/v1/why/z.service", NULL, 200, "\"down\":[{\"name\":\"delta\"}],");
        write_now(fixture, &(Record) { "machine/" DELTA "/maintenance", "{\"mode\":\"drained\"}" }, 1);
        assert_answer(fixture, "GET /fleet/v1/why/z.service", NULL, 200,
                      "\"down\":[{\"cordoned\":true,\"name\":\"delta\"}],");
        write_now(fixture,
                  &(Record) { "machine/" DELTA "/maintenance", "{\"for\":\"leave\",\"mode\":\"draining\"}" },
                  1);
        assert_answer(fixture, "GET /fleet/v1/why/z.service", NULL, 200, "beta");
        assert_null(strstr(fixture->answer, "\"down\""));
        write_now(fixture, &(Record) { "machine/" GAMMA "/presence", "{\"state\":\"up\",\"since\":1}" }, 1);

        write_now(fixture, conflicts, ELEMENTS(conflicts));
        assert_answer(fixture, "GET /fleet/v1/why/c.service", NULL, 200,
                      "\"steps\":[\"unload d1.service e.service\"]}");
        assert_non_null(strstr(fixture->answer, "\"rule\":\"Conflicts\",\"units\":"));
        assert_non_null(strstr(fixture->answer, "\"rule\":\"Foreign\""));
        assert_non_null(strstr(fixture->answer, "\"reason\":\"this host has a unit of that name from another "
                                                "source: /etc/systemd/system/c.service\""));
        write_now(fixture, &(Record) { "unit/c.service", "{\"text\":\"[Service]\\n\"}" }, 1);
        assert_answer(fixture, "GET /fleet/v1/why/c.service", NULL, 200,
                      "\"reason\":\"d1.service is there and has "
                      "Conflicts=c.service\",\"rule\":\"Conflicts\",\"ruleOf\":\"d1.service\"");
        write_now(fixture, conflicts, 1);
        write_now(fixture, &(Record) { "target/e.service", "inactive" }, 1);
        assert_answer(fixture, "GET /fleet/v1/why/c.service", NULL, 200, "and d1.service is there");
        assert_null(strstr(fixture->answer, "\"steps\""));

        /* To unload a global unit would stop it on all machines. */
        write_now(fixture, &(Record) { "target/e.service", "launched" }, 1);
        assert_answer(fixture, "GET /fleet/v1/why/c.service", NULL, 200, "\"steps\":[\"unload d1.service ");
        write_now(fixture,
                  &(Record) { "unit/e.service",
                              "{\"text\":\"[X-Fleet]\\nConflicts=c.service\\nGlobal=yes\\n\"}" },
                  1);
        assert_answer(fixture, "GET /fleet/v1/why/c.service", NULL, 200, "is there");
        assert_null(strstr(fixture->answer, "\"steps\""));
}

static void why_names_the_file_of_a_unit_and_rejects_a_lost_machine_that_has_it(void **state) {
        static const Record more[] = {
                { "unit/f.service",
                  "{\"owner\":\"" BETA "\",\"path\":\"/etc/fleet/units/f.service\"," UNIT_TEXT("") "}" },
                { "target/f.service", "launched" },
                { "machine/" DELTA "/unit/f.service",
                  "{\"order\":\"run\",\"reason\":\"before\",\"since\":1,\"term\":1}" },
        };
        static const char *const parts[] = {
                "\"file\":\"/etc/fleet/units/f.service\",\"fileHostname\":\"beta\"",
                "\"order\":\"run\",\"presence\":\"lost\",\"reason\":\"it is lost\"",
        };
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, more, ELEMENTS(more));
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/why/f.service" });
        for (size_t i = 0; i < ELEMENTS(parts); i++)
                if (!strstr(fixture->answer, parts[i]))
                        fail_msg("%s: %s", parts[i], fixture->answer);
        assert_null(strstr(fixture->answer, "\"label\""));

        /* A lost machine, and the new installation of its host. */
        write_now(fixture,
                  (const Record[]) {
                          { "machine/" DELTA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                          { "machine/" ETA "/facts", "{\"level\":9,\"name\":\"delta\"}" },
                          { "machine/" ETA "/presence", "{\"state\":\"up\",\"since\":1}" },
                  },
                  3);
        send_row(fixture, API_SOCKET, &(Row) { .request = "GET /fleet/v1/why/f.service" });
        if (!strstr(fixture->answer, "\"label\":\"delta (dddddddd)\"") ||
            !strstr(fixture->answer, "\"label\":\"delta (eeeeeeee)\""))
                fail_msg("%s", fixture->answer);
}

static void a_machine_that_is_gone_is_removed_while_hosts_have_to_report_their_units(void **state) {
        static const Record records[] = {
                { "cluster/adopting", "1" },
                { "machine/" DELTA "/facts", "{\"name\":\"delta\"}" },
                { "machine/" DELTA "/presence", "{\"state\":\"lost\",\"since\":99999999999999}" },
        };
        static const Row rows[] = {
                { "DELETE /fleet/v1/machines/" DELTA, NULL, NULL, 409, JSON SERVER,
                  ERROR(409, "the cluster waits for its hosts to report their units; if delta is gone for "
                             "ever: --force") },
                { "DELETE /fleet/v1/machines/" DELTA "?force=true", NULL, NULL, 204, SERVER, "" },
        };
        Fixture *fixture = *state;
        const Cluster *c;

        write_records(fixture, records, ELEMENTS(records));
        c = registry_cluster(fixture->host->registry);
        assert_true(cluster_awaits_report(c, cluster_machine(c, DELTA)));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
        assert_true(c->adopting);
        assert_null(cluster_machine(c, DELTA)); /* it is awaited no more */
}

static void why_and_plan_report_the_result_for_each_machine(void **state) {
        static const Record problem[] = {
                { "machine/" GAMMA "/problem/a.service", "{\"kind\":\"refused\",\"text\":\"line 1\"}" },
                { "machine/" BETA "/problem/a.service", /* it is omitted: beta acts on it next */
                  "{\"confirmed\":true,\"kind\":\"reverted\",\"text\":\"revision 2 was reverted\"}" },
        };
#define PLANNED(name, more) "{\"name\":\"" name "\",\"text\":\"[Service]\\nExecStart=/bin/true\\n" more "\"}"
        static const Row rows[] = {
                { "GET /fleet/v1/why/a.service", NULL, NULL, 200, JSON SERVER,
                  "{\"desiredState\":\"launched\",\"machineID\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"machines\":[{\"assignment\":\"run\",\"chosen\":true,\"fits\":true,\"hostname\":\"beta\","
                  "\"id\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"order\":\"run\",\"presence\":\"up\",\"reason\":"
                  "\"it has the fewest "
                  "units\",\"since\":1500,\"systemdActiveState\":\"active\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"running\",\"units\":2},{\"hostname\":\"gamma\",\"id\":"
                  "\"cccccccccccccccccccccccccccccccc\",\"job\":\"dependency\",\"presence\":\"away\","
                  "\"problem\":\"line 1\",\"problemKind\":\"refused\",\"reason\":\"it is away (it is "
                  "silent)\",\"rule\":\"Presence\",\"stateReason\":\"a unit that it requires failed to "
                  "start\",\"systemdActiveState\":\"failed\",\"systemdLoadState\":\"loaded\","
                  "\"systemdSubState\":\"dead\"},{\"hostname\":\"delta\",\"id\":"
                  "\"dddddddddddddddddddddddddddddddd\",\"longLost\":true,\"presence\":\"lost\",\"reason\":"
                  "\"it is "
                  "lost\",\"rule\":\"Presence\"},{\"id\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\"presence\":"
                  "\"up\",\"reason\":\"it has published no facts "
                  "yet\",\"rule\":\"Presence\"}],\"name\":\"a.service\",\"reason\":\"it has the fewest "
                  "units\"}" },
                { "GET /fleet/v1/why/w.service", NULL, NULL, 200, JSON SERVER,
                  "{\"desiredState\":\"launched\",\"machines\":[{\"hostname\":\"beta\",\"id\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"presence\":\"up\",\"reason\":\"MachineMetadata=gpu="
                  "maybe, and it has "
                  "gpu=yes\",\"rule\":\"MachineMetadata\",\"units\":2},{\"hostname\":\"gamma\",\"id\":"
                  "\"cccccccccccccccccccccccccccccccc\",\"presence\":\"away\",\"reason\":\"it is away (it is "
                  "silent)\",\"rule\":\"Presence\"},{\"hostname\":\"delta\",\"id\":"
                  "\"dddddddddddddddddddddddddddddddd\",\"longLost\":true,\"presence\":\"lost\",\"reason\":"
                  "\"it is "
                  "lost\",\"rule\":\"Presence\"},{\"id\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\"presence\":"
                  "\"up\",\"reason\":\"it has published no facts "
                  "yet\",\"rule\":\"Presence\"}],\"name\":\"w.service\",\"reason\":\"no machine qualifies "
                  "(beta has gpu=yes, not gpu=maybe; eeeeeeee has published no facts yet; gamma is away (it "
                  "is silent))\",\"reasonKind\":\"waiting\"}" },
                { "GET /fleet/v1/why/g.service", NULL, NULL, 200, JSON SERVER,
                  "{\"desiredState\":\"launched\",\"global\":true,\"machines\":[{\"assignment\":\"load\","
                  "\"fits\":true,\"hostname\":"
                  "\"beta\",\"id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"order\":\"load\",\"presence\":"
                  "\"up\",\"units\":2},{\"hostname\":\"gamma\",\"id\":\"cccccccccccccccccccccccccccccccc\","
                  "\"presence\":\"away\",\"reason\":\"it is away (it is "
                  "silent)\",\"rule\":\"Presence\"},{\"hostname\":\"delta\",\"id\":"
                  "\"dddddddddddddddddddddddddddddddd\",\"longLost\":true,\"presence\":\"lost\",\"reason\":"
                  "\"it is "
                  "lost\",\"rule\":\"Presence\"},{\"id\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\"presence\":"
                  "\"up\",\"reason\":\"it has published no facts "
                  "yet\",\"rule\":\"Presence\"}],\"name\":\"g.service\"}" },
                { "GET /fleet/v1/why/b.service", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "unit does not exist") },
                { "GET /fleet/v1/why/", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1/why", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "PUT /fleet/v1/why/a.service", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[" PLANNED("a.service", "") "," PLANNED("n.service", "") "," PLANNED(
                          "g.service", "[X-Fleet]\\nGlobal=true\\n") "]}",
                  200, JSON SERVER,
                  "{\"units\":[{\"action\":\"stay\",\"effect\":\"restart\",\"hostname\":\"beta\","
                  "\"machineID\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"reason\":"
                  "\"beta has it, and still "
                  "qualifies\"},{\"action\":\"place\",\"hostname\":\"beta\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"n.service\",\"reason\":\"beta was the "
                  "only machine that "
                  "qualified\"},{\"action\":\"stay\",\"effect\":\"restart\",\"hostname\":\"beta\","
                  "\"machineID\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"g.service\",\"reason\":"
                  "\"global\"}]}" },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[" PLANNED("a.service", "[X-Fleet]\\nMachineMetadata=gpu=none\\n") "]}", 200,
                  JSON SERVER,
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"reason\":\"beta no longer "
                  "qualifies (MachineMetadata=gpu=none, and it has gpu=yes); no other machine qualifies "
                  "(eeeeeeee has published no facts yet; gamma is away (it is silent))\"}]}" },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[" PLANNED("n.service",
                                         "[X-Fleet]\\nGlobal=true\\nMachineMetadata=gpu=none\\n") "]}",
                  200, JSON SERVER,
                  "{\"units\":[{\"action\":\"wait\",\"name\":\"n.service\",\"reason\":\"no machine qualifies "
                  "(beta has gpu=yes, not gpu=none; eeeeeeee has published no facts yet; gamma is away (it "
                  "is silent))\"}]}" },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[" PLANNED("g.service",
                                         "[X-Fleet]\\nGlobal=true\\nMachineMetadata=gpu=none\\n") "]}",
                  200, JSON SERVER,
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"g.service\",\"reason\":\"MachineMetadata="
                  "gpu=none, and it has gpu=yes\"}]}" },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[{\"name\":\"a.service\",\"text\":\"[Service]\\nExecStart=/bin/"
                  "a\\nMemoryMax=1G\\n\"},{\"name\":\"g.service\",\"text\":\"[Service]\\nExecStart=/bin/"
                  "g\\n[X-Fleet]\\nGlobal=true\\n\"}]}",
                  200, JSON SERVER,
                  "{\"units\":[{\"action\":\"stay\",\"effect\":\"live\",\"hostname\":\"beta\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"reason\":\"beta has it, and "
                  "still "
                  "qualifies\"},{\"action\":\"stay\",\"effect\":\"none\",\"hostname\":\"beta\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"g.service\",\"reason\":\"global\"}]}" },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[" PLANNED("t@.service", "") "," PLANNED(
                          "n.service", "[X-Fleet]\\nConflicts=a.service\\n") "]}",
                  200, JSON SERVER,
                  "{\"units\":[{\"action\":\"keep\",\"name\":\"t@.service\",\"reason\":\"a template runs "
                  "nowhere; its instances do\"},{\"action\":\"wait\",\"name\":\"n.service\",\"reason\":\"no "
                  "machine qualifies (a is on beta; eeeeeeee has published no facts yet; gamma is away (it "
                  "is silent))\"}]}" },
                { "POST /fleet/v1/plan", JSON, "{\"units\":[" PLANNED("fleetd.service", "") "]}", 400,
                  JSON SERVER, ERROR(400, "fleetd.service: a unit of that name belongs to fleet itself") },
                { "POST /fleet/v1/plan", JSON, "{\"units\":[" PLANNED("a", "") "]}", 400, JSON SERVER,
                  ERROR(400, "a: unit name must contain \\\".\\\"") },
                { "POST /fleet/v1/plan", JSON, "{\"units\":[{\"name\":\"a.service\",\"text\":\"[Service\"}]}",
                  400, JSON SERVER,
                  ERROR(400, "a.service: line 1: unable to find end of section (missing ])") },
                { "POST /fleet/v1/plan", JSON,
                  "{\"units\":[{\"text\":\"[Service]\\nExecStart=/bin/true\\n\"}]}", 400, JSON SERVER,
                  ERROR(400, ": unit name cannot be empty") },
                { "POST /fleet/v1/plan", JSON, "{\"units\":[]}", 200, JSON SERVER, "{\"units\":[]}" },
                { "POST /fleet/v1/plan", JSON, "{}", 200, JSON SERVER, "{\"units\":[]}" },
                { "POST /fleet/v1/plan", JSON, "{", 400, JSON SERVER,
                  ERROR(400, "unable to decode body: $J") },
                { "GET /fleet/v1/plan", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only POST supported against this resource") },
        };
#undef PLANNED
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, problem, ELEMENTS(problem));
        write_records(fixture, units, ELEMENTS(units));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
}

static void a_plan_of_metadata_lists_the_units_that_move_or_stop(void **state) {
#define UP(id, name, zone)                                                                            \
        { "machine/" id "/facts", "{\"metadata\":{\"zone\":\"" zone "\"},\"name\":\"" name "\"}" }, { \
                "machine/" id "/presence", "{\"state\":\"up\"}"                                       \
        }
#define PLACED(name, more)                                                           \
        { "unit/" name, "{" UNIT_TEXT(more) "}" }, { "target/" name, "launched" }, { \
                "machine/" BETA "/unit/" name, "{\"order\":\"run\"}"                 \
        }
        static const Record records[] = {
                UP(BETA, "beta", "a"),
                UP(GAMMA, "gamma", "a"),
                PLACED("a-follows.service", "[X-Fleet]\\nMachineOf=moves.service\\n"),
                PLACED("any.service", ""),
                PLACED("ended.service", "[X-Fleet]\\nMachineMetadata=zone=a\\n"),
                { "state/ended.service/" BETA,
                  "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\"}" },
                PLACED("global.service", "[X-Fleet]\\nGlobal=true\\nMachineMetadata=zone=a\\n"),
                PLACED("moves.service", "[X-Fleet]\\nMachineMetadata=zone=a\\n"),
                PLACED("stops.service", "[X-Fleet]\\nMachineMetadata=zone=a\\nMachineID=" BETA "\\n"),
        };
#undef PLACED
#undef UP
#define PATCH(op, key, value) \
        "[{\"op\":\"" op "\",\"path\":\"/" BETA "/metadata/" key "\",\"value\":\"" value "\"}]"
        static const Row rows[] = {
                { "POST /fleet/v1/plan/machines", JSON, PATCH("add", "zone", "b"), 200, JSON SERVER,
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":\"" BETA
                  "\",\"name\":\"global.service\",\"reason\":\"MachineMetadata=zone=a, and it has "
                  "zone=b\"},{\"action\":\"move\",\"hostname\":\"gamma\",\"machineID\":\"" GAMMA
                  "\",\"name\":\"moves.service\",\"reason\":\"gamma was the only machine that "
                  "qualified\"},{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":\"" BETA
                  "\",\"name\":\"stops.service\",\"reason\":\"beta no longer qualifies "
                  "(MachineMetadata=zone=a, and it has zone=b); no other machine qualifies (gamma has "
                  "another ID than " BETA
                  ")\"},{\"action\":\"move\",\"hostname\":\"gamma\",\"machineID\":\"" GAMMA
                  "\",\"name\":\"a-follows.service\",\"reason\":\"gamma was the only machine that "
                  "qualified\"}]}" },
                { "POST /fleet/v1/plan/machines", JSON, PATCH("remove", "zone", ""), 200, JSON SERVER,
                  "{\"units\":[{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":\"" BETA
                  "\",\"name\":\"global.service\",\"reason\":\"MachineMetadata=zone=a, and it has no "
                  "zone\"},{\"action\":\"move\",\"hostname\":\"gamma\",\"machineID\":\"" GAMMA
                  "\",\"name\":\"moves.service\",\"reason\":\"gamma was the only machine that "
                  "qualified\"},{\"action\":\"stop\",\"hostname\":\"beta\",\"machineID\":\"" BETA
                  "\",\"name\":\"stops.service\",\"reason\":\"beta no longer qualifies "
                  "(MachineMetadata=zone=a, and it has no zone); no other machine qualifies (gamma has "
                  "another ID than " BETA
                  ")\"},{\"action\":\"move\",\"hostname\":\"gamma\",\"machineID\":\"" GAMMA
                  "\",\"name\":\"a-follows.service\",\"reason\":\"gamma was the only machine that "
                  "qualified\"}]}" },
                { "POST /fleet/v1/plan/machines", JSON, PATCH("add", "disk", "b"), 200, JSON SERVER,
                  "{\"units\":[]}" },
                { "POST /fleet/v1/plan/machines", JSON, "[]", 200, JSON SERVER, "{\"units\":[]}" },
                { "POST /fleet/v1/plan/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/unknown/metadata/a\",\"value\":\"b\"}]", 200, JSON SERVER,
                  "{\"units\":[]}" },
                { "POST /fleet/v1/plan/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" GAMMA "/metadata/a\",\"value\":\"b\"}]", 200, JSON SERVER,
                  "{\"units\":[]}" },
                { "POST /fleet/v1/plan/machines", JSON, "{}", 400, JSON SERVER,
                  ERROR(400, "unable to decode body: expected an array of operations") },
                { "POST /fleet/v1/plan/machines", JSON, PATCH("move", "zone", "b"), 400, JSON SERVER,
                  ERROR(400, "invalid op: expect add, remove, or replace") },
        };
#undef PATCH
        static const Record lost[] = {
                { "machine/" BETA "/presence", "{\"state\":\"lost\"}" },
                { "machine/" GAMMA "/presence", "{\"state\":\"left\"}" },
        };
        static const Row of_lost = {
                "POST /fleet/v1/plan",
                JSON,
                "{\"units\":[{\"name\":\"any.service\",\"text\":\"[Service]\\nExecStart=/bin/true\\n\"}]}",
                200,
                JSON SERVER,
                "{\"units\":[{\"action\":\"wait\",\"name\":\"any.service\",\"reason\":\"no machine qualifies "
                "(gamma was shut down)\"}]}"
        };
        Fixture *fixture = *state;

        write_records(fixture, records, ELEMENTS(records));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
        write_records(fixture, lost, ELEMENTS(lost)); /* its units move, or wait: they do not stay */
        play(fixture, API_SOCKET, &of_lost, 1);
        assert_string_equal(
                pairs_get(&cluster_machine(registry_cluster(fixture->host->registry), BETA)->metadata,
                          "zone"),
                "a");
}

static void what_a_unit_directory_asks_is_listed_and_answered(void **state) {
        static const Record problems[] = {
                { "machine/" BETA "/problem/z.service",
                  "{\"kind\":\"held\",\"text\":\"too many are gone\",\"unit\":3}" },
                { "machine/" BETA "/problem/a.service",
                  "{\"kind\":\"taken\",\"text\":\"its name is taken\"}" },
                { "machine/" BETA "/problem/u.service",
                  "{\"kind\":\"refused\",\"text\":\"not owned\",\"unowned\":true,\"warning\":true}" },
                { "machine/" DELTA "/problem/r.service", "{\"kind\":\"refused\",\"text\":\"no unit\"}" },
                { "machine/" DELTA "/problem/q.service",
                  "{\"confirmed\":true,\"kind\":\"held\",\"text\":\"asked\"}" },
        };
        static const Row rows[] = {
                { "GET /fleet/v1/directory", NULL, NULL, 200, JSON SERVER,
                  "{\"problems\":[{\"kind\":\"taken\",\"machineID\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","
                  "\"name\":\"a.service\",\"reason\":\"its name is "
                  "taken\"},{\"kind\":\"unowned\",\"machineID\":\"" BETA
                  "\",\"name\":\"u.service\",\"reason\":\"not "
                  "owned\"},{\"kind\":\"held\",\"machineID\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":"
                  "\"z.service\",\"reason\":\"too many are "
                  "gone\"},{\"confirmed\":true,\"kind\":\"held\",\"machineID\":"
                  "\"dddddddddddddddddddddddddddddddd\",\"name\":\"q.service\",\"reason\":\"asked\"},{"
                  "\"kind\":\"refused\",\"machineID\":\"dddddddddddddddddddddddddddddddd\",\"name\":\"r."
                  "service\",\"reason\":\"no unit\"}]}" },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"held\",\"machineID\":\"" BETA "\",\"names\":[\"z.service\"]}", 204, SERVER,
                  "" },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"taken\",\"machineID\":\"" BETA "\",\"names\":[\"a.service\",\"u.service\"]}",
                  204, SERVER, "" },
                { "GET /fleet/v1/directory", NULL, NULL, 200, JSON SERVER,
                  "{\"problems\":[{\"confirmed\":true,\"kind\":\"taken\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"a.service\",\"reason\":\"its name is "
                  "taken\"},{\"confirmed\":true,\"kind\":\"unowned\",\"machineID\":\"" BETA
                  "\",\"name\":\"u.service\",\"reason\":\"not "
                  "owned\"},{\"confirmed\":true,\"kind\":\"held\",\"machineID\":"
                  "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"name\":\"z.service\",\"reason\":\"too many are "
                  "gone\"},{\"confirmed\":true,\"kind\":\"held\",\"machineID\":"
                  "\"dddddddddddddddddddddddddddddddd\",\"name\":\"q.service\",\"reason\":\"asked\"},{"
                  "\"kind\":\"refused\",\"machineID\":\"dddddddddddddddddddddddddddddddd\",\"name\":\"r."
                  "service\",\"reason\":\"no unit\"}]}" },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"taken\",\"machineID\":\"" BETA "\",\"names\":[\"z.service\"]}", 404,
                  JSON SERVER,
                  ERROR(404,
                        "z.service: the directory of beta has no problem with it that awaits confirmation") },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"held\",\"machineID\":\"" BETA "\",\"names\":[\"u.service\"]}", 404,
                  JSON SERVER,
                  ERROR(404,
                        "u.service: the directory of beta has no problem with it that awaits confirmation") },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"refused\",\"machineID\":\"" DELTA "\",\"names\":[\"r.service\"]}", 400,
                  JSON SERVER, ERROR(400, "kind: expected held, reverted or taken") },
                { "POST /fleet/v1/directory", JSON, "{\"machineID\":\"" BETA "\",\"names\":[\"a.service\"]}",
                  400, JSON SERVER, ERROR(400, "kind: expected held, reverted or taken") },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"held\",\"machineID\":\"" BETA "\",\"names\":[]}", 400, JSON SERVER,
                  ERROR(400, "names: expected 1 to 100") },
                { "POST /fleet/v1/directory", JSON, "{\"kind\":\"held\",\"machineID\":\"" BETA "\"}", 400,
                  JSON SERVER, ERROR(400, "names: expected 1 to 100") },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"held\",\"machineID\":\"" BETA "\",\"names\":[\"z.service\",\"none.service\"]}",
                  404, JSON SERVER,
                  ERROR(404, "none.service: the directory of beta has no problem with it that awaits "
                             "confirmation") },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"held\",\"machineID\":\"" GAMMA "\",\"names\":[\"z.service\"]}", 404,
                  JSON SERVER,
                  ERROR(404, "z.service: the directory of gamma has no problem with it that awaits "
                             "confirmation") },
                { "POST /fleet/v1/directory", JSON, "{\"kind\":\"held\",\"names\":[\"z.service\"]}", 404,
                  JSON SERVER,
                  ERROR(404,
                        "z.service: the directory of  has no problem with it that awaits confirmation") },
                { "POST /fleet/v1/directory", JSON,
                  "{\"kind\":\"held\",\"machineID\":\"" BETA "\",\"names\":[1]}", 404, JSON SERVER,
                  ERROR(404, ": the directory of beta has no problem with it that awaits confirmation") },
                { "POST /fleet/v1/directory", JSON, "{", 400, JSON SERVER,
                  ERROR(400, "unable to decode body: $J") },
                { "DELETE /fleet/v1/directory", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only GET and POST supported against this resource") },
                { "GET /fleet/v1/directory/x", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
        };
        Fixture *fixture = *state;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, problems, ELEMENTS(problems));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));
}

static void units_are_changed_one_by_one_and_many_at_once(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/units", NULL, NULL, 200, JSON SERVER, "{}" },
                { "GET /fleet/v1/units/", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1/units/u.service", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "unit does not exist") },
                { "POST /fleet/v1/units", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "POST /fleet/v1/units/u.service", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET, PUT and DELETE supported against this resource") },
                { "PUT /fleet/v1/units/", JSON, "{}", 404, JSON SERVER, ERROR(404, "") },
                { "PUT /fleet/v1/units/u.service", JSON, "{}", 409, JSON SERVER,
                  ERROR(409, "unit does not exist and options field empty") },
                { "PUT /fleet/v1/units/u.service", JSON, "{\"desiredState\":\"launched\"}", 409, JSON SERVER,
                  ERROR(409, "unit does not exist and options field empty") },
                { "PUT /fleet/v1/units/u.service", JSON, "{\"name\":\"\"," UNIT_TEXT("") "}", 201, SERVER,
                  "" },
                { "PUT /fleet/v1/units/u.service", JSON, "{\"name\":\"u.service\"," UNIT_TEXT("") "}", 409,
                  JSON SERVER, ERROR(409, "must provide DesiredState to update existing unit") },
                { "PUT /fleet/v1/units/u.service", JSON, "{\"desiredState\":\"loaded\"," UNIT_TEXT("") "}",
                  204, SERVER, "" },
                { "PUT /fleet/v1/units/u.service", JSON,
                  "{\"canary\":\"-1\",\"desiredState\":\"loaded\"," UNIT_TEXT("# 2\\n") "}", 400, JSON SERVER,
                  ERROR(400, "u.service: canary: expected a number or a percentage, for example 1 or 10%") },
                { "PUT /fleet/v1/units/u.service", JSON,
                  "{\"desiredState\":\"loaded\",\"onFailure\":\"stop\"," UNIT_TEXT("# 2\\n") "}", 400,
                  JSON SERVER, ERROR(400, "u.service: on-failure: expected pause, revert or continue") },
                { "PUT /fleet/v1/units/u.service", JSON, "{\"replace\":false," UNIT_TEXT("# 2\\n") "}", 409,
                  JSON SERVER, ERROR(409, "unit exists") },
                { "PUT /fleet/v1/units/u.service", JSON,
                  "{\"desiredState\":\"loaded\",\"expectedHash\":\"0123456789\"," UNIT_TEXT("# 2\\n") "}",
                  409, JSON SERVER,
                  ERROR(409, "the unit was changed meanwhile: its hash is 86943ac, not 0123456") },
                { "PUT /fleet/v1/units/u.service", JSON,
                  "{\"desiredState\":\"loaded\",\"expectedState\":\"launched\"," UNIT_TEXT("# 2\\n") "}", 409,
                  JSON SERVER,
                  ERROR(409, "the unit was changed meanwhile: its target state is loaded, not launched") },
                { "PUT /fleet/v1/units/u.service", JSON,
                  "{\"desiredState\":\"launched\",\"expectedState\":\"loaded\"," UNIT_TEXT("# 2\\n") "}", 204,
                  SERVER, "" },
                { "PUT /fleet/v1/units/v.service", JSON,
                  "{\"expectedState\":\"loaded\"," UNIT_TEXT("# 2\\n") "}", 409, JSON SERVER,
                  ERROR(409, "unit does not exist any longer") },
                { "PUT /fleet/v1/units/u.service", JSON, "{\"destroy\":true}", 400, JSON SERVER,
                  ERROR(400, "destroy is for a batch: use DELETE") },
                { "PUT /fleet/v1/units/w.service", JSON,
                  "{" UNIT_TEXT("[X-Fleet]\\nTargetState=loaded\\n") "}", 201, SERVER, "" },
                { "PUT /fleet/v1/units/w.service", JSON,
                  "{\"desiredState\":\"inactive\",\"expectedState\":\"loaded\"}", 204, SERVER, "" },
                { "PUT /fleet/v1/units/x.service", JSON,
                  "{\"desiredState\":\"launched\"," UNIT_TEXT("[X-Fleet]\\nTargetState=loaded\\n") "}", 201,
                  SERVER, "" },
                { "PUT /fleet/v1/units/x.service", JSON,
                  "{\"desiredState\":\"inactive\",\"expectedState\":\"launched\"}", 204, SERVER, "" },
                { "PUT /fleet/v1/units/x@.service", JSON,
                  "{" UNIT_TEXT("[X-Fleet]\\nTargetState=loaded\\n") "}", 201, SERVER, "" },
                { "PUT /fleet/v1/units/t@.service", JSON, "{\"desiredState\":\"loaded\"," UNIT_TEXT("") "}",
                  400, JSON SERVER, ERROR(400, "cannot activate template \\\"t@.service\\\"") },
                { "PUT /fleet/v1/units/t@.service", JSON, "{" UNIT_TEXT("") "}", 201, SERVER, "" },
                { "PUT /fleet/v1/units/t@.service", JSON, "{\"desiredState\":\"launched\"}", 400, JSON SERVER,
                  ERROR(400, "cannot activate template \\\"t@.service\\\"") },
                { "PUT /fleet/v1/units/t@.service", JSON, "{\"desiredState\":\"inactive\"}", 204, SERVER,
                  "" },
                { "PUT /fleet/v1/units/fleetd.service", JSON, "{" UNIT_TEXT("") "}", 400, JSON SERVER,
                  ERROR(400, "fleetd.service: a unit of that name belongs to fleet itself") },
                { "PUT /fleet/v1/units/u.service", NULL, "{}", 415, JSON SERVER,
                  ERROR(415, "expected 1 Content-Type, got 0") },
                { "PUT /fleet/v1/units/u.service", "Content-Type: application/json;x\r\n", "{}", 409,
                  JSON SERVER, ERROR(409, "must provide DesiredState to update existing unit") },
                { "PUT /fleet/v1/units/u.service", "Content-Type: application/json \t; x\r\n", "{}", 409,
                  JSON SERVER, ERROR(409, "must provide DesiredState to update existing unit") },
                { "PUT /fleet/v1/units/u.service", "Content-Type: application/jso\r\n", "{}", 415,
                  JSON SERVER, ERROR(415, "only acceptable Content-Type is application/json") },
                { "GET /fleet/v1/batch", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only POST supported against this resource") },
                { "POST /fleet/v1/batch", FORM, "{}", 415, JSON SERVER,
                  ERROR(415, "only acceptable Content-Type is application/json") },
                { "POST /fleet/v1/batch", JSON, "{", 400, JSON SERVER,
                  ERROR(400, "unable to decode body: $J") },
                { "POST /fleet/v1/batch", JSON,
                  "{\"units\":[{\"name\":\"u.service\",\"desiredState\":\"launched\"},{\"name\":\"x."
                  "service\"," UNIT_TEXT("") "}]}",
                  204, SERVER, "" },
                { "POST /fleet/v1/batch", JSON,
                  "{\"units\":[{\"name\":\"u.service\",\"desiredState\":\"loaded\"},{\"name\":\"u.service\","
                  "\"desiredState\":\"launched\"}]}",
                  400, JSON SERVER, ERROR(400, "u.service: named twice") },
                { "POST /fleet/v1/batch", JSON,
                  "{\"units\":[{\"name\":\"x.service\",\"destroy\":true},{\"name\":\"y.service\",\"destroy\":"
                  "true}]}",
                  404, JSON SERVER, ERROR(404, "y.service: unit does not exist") },
                { "POST /fleet/v1/batch", JSON,
                  "{\"units\":[{\"name\":\"x.service\",\"destroy\":true,\"expectedHash\":\"1\"}]}", 409,
                  JSON SERVER,
                  ERROR(409, "x.service: the unit was changed meanwhile: its hash is 86943ac, not 1") },
                { "POST /fleet/v1/batch", JSON, "{\"units\":[{\"name\":\"x.service\",\"destroy\":true}]}",
                  204, SERVER, "" },
                { "POST /fleet/v1/batch", JSON, "{\"units\":[{\"desiredState\":\"loaded\"}]}", 400,
                  JSON SERVER, ERROR(400, ": unit name cannot be empty") },
                { "POST /fleet/v1/batch", JSON, "{}", 204, SERVER, "" },
                { "DELETE /fleet/v1/units/u.service", NULL, NULL, 204, SERVER, "" },
                { "DELETE /fleet/v1/units/u.service", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "unit does not exist") },
                { "GET /fleet/v1/state", NULL, NULL, 200, JSON SERVER, "{}" },
        };

        play(*state, API_SOCKET, rows, ELEMENTS(rows));
}

static void the_socket_has_routes_of_its_own(void **state) {
        static const Row rows[] = {
                { "GET /metrics", NULL, NULL, 200,
                  "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" SERVER,
                  "fleetd_figure 1\nfleetd_figure 2\n" },
                { "GET /metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n", NULL, 200,
                  "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n" SERVER,
                  "fleetd_figure 1\n# EOF\n" },
                { "PUT /metrics", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "GET /version", NULL, NULL, 200, JSON SERVER,
                  "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}" },
                { "OPTIONS /version", NULL, NULL, 200, SERVER, "" },
                { "OPTIONS /nope", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /", NULL, NULL, 405, JSON SERVER, ERROR(405, "") },
                { "GET /x", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1", NULL, NULL, 405, JSON SERVER, ERROR(405, "") },
                { "GET /fleet/v1/", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1/x", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1x", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /v1-alpha/state", NULL, NULL, 200, JSON SERVER, "{}" },
                { "GET /v1-alphax/state", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1/units%00", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "GET /fleet/v1/units?a=%4", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "invalid URL escape \\\"%4\\\"") },
                { "GET /fleet/v1/cluster", NULL, NULL, 200, JSON SERVER,
                  "{\"clusterId\":\"$H\",\"leader\":{\"id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":"
                  "\"alpha\"},\"lastIndex\":$S,\"lastTerm\":$T,\"level\":1,\"levelKnown\":13,\"machine\":"
                  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":\"alpha\",\"raftIndex\":$R,\"role\":"
                  "\"leader\",\"term\":$T,\"voters\":[{\"id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":"
                  "\"alpha\",\"reachable\":true,\"role\":\"voter\",\"seat\":\"voter\"}]}" },
                { "GET /v1-alpha/cluster", NULL, NULL, 200, JSON SERVER,
                  "{\"clusterId\":\"$H\",\"leader\":{\"id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":"
                  "\"alpha\"},\"lastIndex\":$S,\"lastTerm\":$T,\"level\":1,\"levelKnown\":13,\"machine\":"
                  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":\"alpha\",\"raftIndex\":$R,\"role\":"
                  "\"leader\",\"term\":$T,\"voters\":[{\"id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"name\":"
                  "\"alpha\",\"reachable\":true,\"role\":\"voter\",\"seat\":\"voter\"}]}" },
                { "PUT /fleet/v1/cluster", JSON, "{}", 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "GET /fleet/v1/cluster/level", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only PUT supported against this resource") },
                { "PUT /fleet/v1/cluster/level", JSON, "{", 400, JSON SERVER,
                  ERROR(400, "expected {\\\"level\\\":N}: $J") },
                { "PUT /fleet/v1/cluster/level", JSON, "{}", 400, JSON SERVER,
                  ERROR(400, "expected {\\\"level\\\":N}") },
                { "PUT /fleet/v1/cluster/level", JSON, "{\"level\":0}", 400, JSON SERVER,
                  ERROR(400, "expected {\\\"level\\\":N}") },
                { "PUT /fleet/v1/cluster/level", JSON, "{\"level\":\"1\"}", 400, JSON SERVER,
                  ERROR(400, "expected {\\\"level\\\":N}: level: expected a whole number") },
                { "PUT /fleet/v1/cluster/level", JSON, "{\"level\":1000}", 409, JSON SERVER,
                  ERROR(409, "feature level 1000: this fleetd supports 13 at most") },
                { "PUT /fleet/v1/cluster/level", JSON, "{\"level\":1}", 204, SERVER, "" },
                { "PUT /fleet/v1/cluster/level", JSON, "{\"level\":2}", 204, SERVER, "" },
                { "PUT /fleet/v1/cluster/level", JSON, "{\"level\":1}", 409, JSON SERVER,
                  ERROR(409, "the feature level is 2, and does not go back") },
                { "GET /v2/members", NULL, NULL, 200, JSON CLUSTER,
                  "{\"members\":[{\"id\":\"$I\",\"name\":\"alpha\",\"peerURLs\":[],\"clientURLs\":[\"http://"
                  "$A\"]}]}\n" },
                { "GET /fleet/v1/cluster/adopting", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only DELETE supported against this resource") },
                { "DELETE /fleet/v1/cluster/adopting", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "no host is waited for") },
                { "PUT /fleet/v1/discovery", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "only HTTP GET supported against this resource") },
                { "PUT /fleet/v1/events", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "GET /fleet/v1/events?x=1", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "x: expected details=BOOL, and with it after=INDEX") },
                { "GET /fleet/v1/events?details=x", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "details: expected details=BOOL, and with it after=INDEX") },
                { "GET /fleet/v1/events?after=1", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "after: only with details=true") },
                { "GET /fleet/v1/events?details=true&after=x", NULL, NULL, 400, JSON SERVER,
                  ERROR(400, "after: expected details=BOOL, and with it after=INDEX") },
                { "GET /fleet/v1/journal/a.service", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "unit does not exist") },
                { "POST /fleet/v1/journal/a.service", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only GET supported against this resource") },
                { "GET /fleet/v1/status/a.service", NULL, NULL, 404, JSON SERVER,
                  ERROR(404, "unit does not exist") },
                { "GET /fleet/v1/kill/a.service", NULL, NULL, 405, JSON SERVER,
                  ERROR(405, "only POST supported against this resource") },
                { "GET /fleet/v1//x", NULL, NULL, 301,
                  "Content-Type: text/html; charset=utf-8\r\nLocation: /fleet/v1/x\r\n" SERVER,
                  "<a href=\"/fleet/v1/x\">Moved Permanently</a>.\n\n" },
                { "GET /%2e%2e/x", NULL, NULL, 404, JSON SERVER, ERROR(404, "") },
                { "PUT /v2/keys/_fleet/unit/a.service", FORM, "value=1", 401, REFUSED("0"),
                  KEY_ERROR(110, "The request requires user authentication", "Insufficient credentials",
                            "0") },
                { "GET /v2/keys/_fleet/none", NULL, NULL, 404, REFUSED("0"),
                  KEY_ERROR(100, "Key not found", "/_fleet", "0") },
                { "GET /v2/machines", NULL, NULL, 200, TEXT, "http://$A" },
                { "GET *", NULL, NULL, 400, SERVER, "" },
                { "GET /%", NULL, NULL, 400, TEXT SERVER, "400 Bad Request" },
        };

        play(*state, API_SOCKET, rows, ELEMENTS(rows));
}

/* -- Figures -- */

static bool counts_are_played;

size_t __real_kv_window_bytes(const KvStore *store);
size_t __wrap_kv_window_bytes(const KvStore *store);
size_t __wrap_kv_window_bytes(const KvStore *store) {
        return counts_are_played ? 302 : __real_kv_window_bytes(store);
}

void __real_kv_counts(const KvStore *store, KvCounts *ret);
void __wrap_kv_counts(const KvStore *store, KvCounts *ret);
void __wrap_kv_counts(const KvStore *store, KvCounts *ret) {
        __real_kv_counts(store, ret);
        for (KvAction a = 0; counts_are_played && a < _KV_ACTION_MAX; a++) {
                ret->done[a] = 100 + a;
                ret->refused[a] = 200 + a;
        }
        if (!counts_are_played)
                return;
        ret->entries_bytes = 301;
        ret->cost.total = 303;
        ret->cost_max.total = 304;
        ret->deferred = 305;
        ret->users = (KvUsage) { .n_keys = 306, .bytes = 307 };
        ret->own = (KvUsage) { .n_keys = 308, .bytes = 309 };
        ret->quota_bytes = 310;
        ret->commits = (DurationCounts) { .buckets = { 1, 2 }, .sum_ns = 311000 };
        ret->log_writes = (DurationCounts) { .buckets = { [DURATION_BUCKETS] = 3 }, .sum_ns = 312000 };
}

void __wrap_engine_counts(const Engine *e, EngineCounts *ret);
void __wrap_engine_counts(const Engine *e, EngineCounts *ret) {
        *ret = (EngineCounts) { .leader_since_s = 1,
                                .passes = 2,
                                .pass_failures = 3,
                                .scheduled = 4,
                                .schedule_failures = 5,
                                .unscheduled = 6,
                                .unschedule_failures = 7,
                                .moves = { [MOVE_LOST] = 41,
                                           [MOVE_DRAINED] = 42,
                                           [MOVE_EDITED] = 43,
                                           [MOVE_CONFLICT] = 44,
                                           [MOVE_REQUESTED] = 45 } };
}

static const RegistryCounts *played_counts(void) {
        static const RegistryCounts counts = { .done = 401, .failed = 402 };

        return &counts;
}

const RegistryCounts *__real_registry_counts(const Registry *r);
const RegistryCounts *__wrap_registry_counts(const Registry *r);
const RegistryCounts *__wrap_registry_counts(const Registry *r) {
        return counts_are_played ? played_counts() : __real_registry_counts(r);
}

static void each_figure_is_written_under_its_own_name(void **state) {
        static const Row rows[] = {
                { "GET /v2/stats/store", NULL, NULL, 200, JSON,
                  "{\"getsSuccess\":11,\"getsFail\":12,\"setsSuccess\":101,\"setsFail\":201,"
                  "\"deleteSuccess\":106,\"deleteFail\":206,\"updateSuccess\":103,\"updateFail\":203,"
                  "\"createSuccess\":102,\"createFail\":202,\"compareAndSwapSuccess\":104,"
                  "\"compareAndSwapFail\":204,\"compareAndDeleteSuccess\":105,\"compareAndDeleteFail\":205,"
                  "\"expireCount\":107,\"watchers\":13}" },
        };
        static const char figures[] =
                "# HELP fleet_build_info Version of this fleetd.\n# TYPE fleet_build_info "
                "gauge\nfleet_build_info{version=\"" PACKAGE_VERSION
                "\"} 1\n# HELP fleet_units Units of the cluster.\n# TYPE fleet_units gauge\nfleet_units 3\n# "
                "HELP fleet_units_by_state Units of the cluster, by state: failed on a machine, active on "
                "one, waiting for a machine.\n# TYPE fleet_units_by_state "
                "gauge\nfleet_units_by_state{state=\"active\"} 0\nfleet_units_by_state{state=\"failed\"} "
                "1\nfleet_units_by_state{state=\"waiting\"} 1\nfleet_units_by_state{state=\"other\"} 1\n# "
                "HELP fleet_problems Problems of fleetctl status, by kind, as they were at the scrape "
                "before. A host "
                "without a replica has its own ones.\n# TYPE fleet_problems gauge\n# "
                "HELP fleet_machines Machines of the cluster, by presence.\n# TYPE fleet_machines "
                "gauge\nfleet_machines{presence=\"up\"} 2\nfleet_machines{presence=\"away\"} "
                "1\nfleet_machines{presence=\"lost\"} 1\nfleet_machines{presence=\"left\"} 0\n# HELP "
                "fleet_hosts Hosts of the cluster, by kind.\n# TYPE fleet_hosts "
                "gauge\nfleet_hosts{kind=\"voter\"} 0\nfleet_hosts{kind=\"standby\"} "
                "0\nfleet_hosts{kind=\"attached\"} 4\n# HELP fleet_hosts_without_idle_session Attached hosts "
                "that have had a session to one replica only for a minute or more.\n# TYPE "
                "fleet_hosts_without_idle_session gauge\nfleet_hosts_without_idle_session 0\n# HELP "
                "fleet_machines_maintenance Machines that get no units, by mode of their maintenance: "
                "cordoned, draining (also for a leave), drained.\n# TYPE fleet_machines_maintenance "
                "gauge\nfleet_machines_maintenance{mode=\"cordoned\"} "
                "0\nfleet_machines_maintenance{mode=\"draining\"} "
                "0\nfleet_machines_maintenance{mode=\"drained\"} 0\n# HELP fleet_rollouts Rollouts that have "
                "not ended, by state.\n# TYPE fleet_rollouts gauge\nfleet_rollouts{state=\"canary\"} "
                "0\nfleet_rollouts{state=\"held\"} 0\nfleet_rollouts{state=\"rolling\"} "
                "0\nfleet_rollouts{state=\"pausing\"} 0\nfleet_rollouts{state=\"paused\"} "
                "0\nfleet_rollouts{state=\"reverting\"} 0\n# HELP fleet_tokens Tokens that still permit a "
                "host to join.\n# TYPE fleet_tokens gauge\nfleet_tokens 1\n# HELP "
                "fleet_certificate_expiry_seconds When the last certificate that was issued for this host "
                "ends, in seconds since 1970.\n# TYPE fleet_certificate_expiry_seconds "
                "gauge\nfleet_certificate_expiry_seconds 1900000000.500000\n# HELP "
                "fleet_engine_leader_start_time When this host's engine began to place units, in seconds "
                "since 1970; 0: it does not.\n# TYPE fleet_engine_leader_start_time "
                "gauge\nfleet_engine_leader_start_time 1\n# HELP fleet_engine_task_count_total Assignments "
                "that the engine wrote.\n# TYPE fleet_engine_task_count_total "
                "counter\nfleet_engine_task_count_total{type=\"attemptscheduleunit\"} "
                "4\nfleet_engine_task_count_total{type=\"unscheduleunit\"} 6\n# HELP "
                "fleet_engine_task_failure_count_total Assignments that were rejected, and planned again.\n# "
                "TYPE fleet_engine_task_failure_count_total "
                "counter\nfleet_engine_task_failure_count_total{type=\"attemptscheduleunit\"} "
                "5\nfleet_engine_task_failure_count_total{type=\"unscheduleunit\"} 7\n# HELP "
                "fleet_engine_reconcile_count_total Passes of the engine.\n# TYPE "
                "fleet_engine_reconcile_count_total counter\nfleet_engine_reconcile_count_total 2\n# HELP "
                "fleet_engine_reconcile_failure_count_total Passes that failed.\n# TYPE "
                "fleet_engine_reconcile_failure_count_total "
                "counter\nfleet_engine_reconcile_failure_count_total{type=\"schedule\"} 3\n# HELP "
                "fleet_engine_moves_total Assignments that the engine wrote to move a unit, by what ended "
                "its former place.\n# TYPE fleet_engine_moves_total "
                "counter\nfleet_engine_moves_total{reason=\"lost\"} "
                "41\nfleet_engine_moves_total{reason=\"drained\"} "
                "42\nfleet_engine_moves_total{reason=\"edited\"} "
                "43\nfleet_engine_moves_total{reason=\"conflict\"} "
                "44\nfleet_engine_moves_total{reason=\"requested\"} 45\n# HELP fleet_engine_brake_active "
                "Whether the mass-failure brake holds back all moves.\n# TYPE fleet_engine_brake_active "
                "gauge\nfleet_engine_brake_active 0\n# HELP fleet_engine_waiting_units Units that are to run "
                "or to be loaded, and have no machine.\n# TYPE fleet_engine_waiting_units "
                "gauge\nfleet_engine_waiting_units 1\n# HELP fleet_registry_operation_count_total "
                "Transactions of the registry.\n# TYPE fleet_registry_operation_count_total "
                "counter\nfleet_registry_operation_count_total{type=\"set\"} 401\n# HELP "
                "fleet_registry_operation_failed_count_total Transactions that were rejected, or whose "
                "outcome is unknown.\n# TYPE fleet_registry_operation_failed_count_total "
                "counter\nfleet_registry_operation_failed_count_total{type=\"set\"} 402\n# HELP "
                "fleet_store_has_leader Whether this host knows a leader.\n# TYPE fleet_store_has_leader "
                "gauge\nfleet_store_has_leader 1\n# HELP fleet_store_is_leader Whether this host leads.\n# "
                "TYPE fleet_store_is_leader gauge\nfleet_store_is_leader 1\n# HELP "
                "fleet_store_leader_changes_total How often this host followed another leader, or began to "
                "lead.\n# TYPE fleet_store_leader_changes_total counter\nfleet_store_leader_changes_total "
                "31\n# HELP fleet_store_term Raft's term.\n# TYPE fleet_store_term gauge\nfleet_store_term "
                "$T\n# HELP fleet_store_index The store's index, as applied here.\n# TYPE fleet_store_index "
                "gauge\nfleet_store_index @0\n# HELP fleet_store_raft_index Raft's index, as applied "
                "here.\n# TYPE fleet_store_raft_index gauge\nfleet_store_raft_index $R\n# HELP "
                "fleet_store_lag_entries Entries that are committed, as this host knows, and not applied "
                "here.\n# TYPE fleet_store_lag_entries gauge\nfleet_store_lag_entries 0\n# HELP "
                "fleet_store_condition Whether the replica of this host has this condition.\n# TYPE "
                "fleet_store_condition gauge\nfleet_store_condition{condition=\"diverged\"} "
                "0\nfleet_store_condition{condition=\"no-majority\"} "
                "0\nfleet_store_condition{condition=\"stopped\"} "
                "0\nfleet_store_condition{condition=\"quarantined\"} "
                "0\nfleet_store_condition{condition=\"snapshot-refused\"} 0\n# HELP fleet_store_keys Keys "
                "and directories.\n# TYPE fleet_store_keys gauge\nfleet_store_keys{owner=\"users\"} "
                "306\nfleet_store_keys{owner=\"fleet\"} 308\n# HELP fleet_store_bytes Bytes of keys and "
                "values, as the quota counts them.\n# TYPE fleet_store_bytes "
                "gauge\nfleet_store_bytes{owner=\"users\"} 307\nfleet_store_bytes{owner=\"fleet\"} 309\n# "
                "HELP fleet_store_quota_bytes Limit of these bytes.\n# TYPE fleet_store_quota_bytes "
                "gauge\nfleet_store_quota_bytes{owner=\"users\"} "
                "310\nfleet_store_quota_bytes{owner=\"fleet\"} 310\n# HELP fleet_store_log_memory_bytes "
                "Bytes of the log's entries that are in memory.\n# TYPE fleet_store_log_memory_bytes "
                "gauge\nfleet_store_log_memory_bytes 301\n# HELP fleet_store_event_window_bytes Bytes of the "
                "event windows in memory.\n# TYPE fleet_store_event_window_bytes "
                "gauge\nfleet_store_event_window_bytes 302\n# HELP fleet_store_apply_cost_total Cost of the "
                "entries that were applied here, in bytes.\n# TYPE fleet_store_apply_cost_total "
                "counter\nfleet_store_apply_cost_total 303\n# HELP fleet_store_apply_cost_max Cost of the "
                "costliest of them.\n# TYPE fleet_store_apply_cost_max gauge\nfleet_store_apply_cost_max "
                "304\n# HELP fleet_store_deferred_total Commands that did not fit into their entry's "
                "budget.\n# TYPE fleet_store_deferred_total counter\nfleet_store_deferred_total 305\n# HELP "
                "fleet_store_operations_total Users' changes that were applied here.\n# TYPE "
                "fleet_store_operations_total counter\nfleet_store_operations_total{action=\"set\"} "
                "101\nfleet_store_operations_total{action=\"create\"} "
                "102\nfleet_store_operations_total{action=\"update\"} "
                "103\nfleet_store_operations_total{action=\"compareAndSwap\"} "
                "104\nfleet_store_operations_total{action=\"compareAndDelete\"} "
                "105\nfleet_store_operations_total{action=\"delete\"} "
                "106\nfleet_store_operations_total{action=\"expire\"} 107\n# HELP "
                "fleet_store_operations_refused_total Users' changes that were refused.\n# TYPE "
                "fleet_store_operations_refused_total "
                "counter\nfleet_store_operations_refused_total{action=\"set\"} "
                "201\nfleet_store_operations_refused_total{action=\"create\"} "
                "202\nfleet_store_operations_refused_total{action=\"update\"} "
                "203\nfleet_store_operations_refused_total{action=\"compareAndSwap\"} "
                "204\nfleet_store_operations_refused_total{action=\"compareAndDelete\"} "
                "205\nfleet_store_operations_refused_total{action=\"delete\"} "
                "206\nfleet_store_operations_refused_total{action=\"expire\"} 207\n# HELP "
                "fleet_store_commit_seconds Time from the proposal of a change on this host until it is "
                "applied here.\n# TYPE fleet_store_commit_seconds "
                "histogram\nfleet_store_commit_seconds_bucket{le=\"0.0005\"} "
                "1\nfleet_store_commit_seconds_bucket{le=\"0.001\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.002\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.004\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.008\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.016\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.032\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.064\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.128\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.256\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"0.512\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"1.024\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"2.048\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"4.096\"} "
                "3\nfleet_store_commit_seconds_bucket{le=\"+Inf\"} 3\nfleet_store_commit_seconds_sum "
                "0.000311\nfleet_store_commit_seconds_count 3\n# HELP fleet_store_log_write_seconds Time of "
                "a write of the log, with its sync.\n# TYPE fleet_store_log_write_seconds "
                "histogram\nfleet_store_log_write_seconds_bucket{le=\"0.0005\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.001\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.002\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.004\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.008\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.016\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.032\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.064\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.128\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.256\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"0.512\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"1.024\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"2.048\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"4.096\"} "
                "0\nfleet_store_log_write_seconds_bucket{le=\"+Inf\"} 3\nfleet_store_log_write_seconds_sum "
                "0.000312\nfleet_store_log_write_seconds_count 3\n# HELP fleet_session_up Whether a session "
                "to this other member is open, and its kernel has answered recently.\n# TYPE "
                "fleet_session_up gauge\n# HELP fleet_sessions Other hosts to which a session is open, by "
                "kind.\n# TYPE fleet_sessions gauge\nfleet_sessions{kind=\"voter\"} "
                "0\nfleet_sessions{kind=\"standby\"} 0\nfleet_sessions{kind=\"attached\"} 0\n# HELP "
                "fleet_subscriptions Slices and keys of hosts without a replica that are followed here.\n# "
                "TYPE fleet_subscriptions gauge\nfleet_subscriptions 0\n# HELP fleet_admission_waiting "
                "Connections to ListenPeer= that are not authenticated yet, and hosts that are joining.\n# "
                "TYPE fleet_admission_waiting gauge\nfleet_admission_waiting 0\n# HELP "
                "fleet_http_requests_total Answers, by the class of their status.\n# TYPE "
                "fleet_http_requests_total "
                "counter\nfleet_http_requests_total{listener=\"socket\",class=\"2xx\"} "
                "0\nfleet_http_requests_total{listener=\"socket\",class=\"3xx\"} "
                "0\nfleet_http_requests_total{listener=\"socket\",class=\"4xx\"} "
                "0\nfleet_http_requests_total{listener=\"socket\",class=\"5xx\"} "
                "0\nfleet_http_requests_total{listener=\"loopback\",class=\"2xx\"} "
                "1\nfleet_http_requests_total{listener=\"loopback\",class=\"3xx\"} "
                "0\nfleet_http_requests_total{listener=\"loopback\",class=\"4xx\"} "
                "0\nfleet_http_requests_total{listener=\"loopback\",class=\"5xx\"} 0\n# HELP "
                "fleet_http_connections Open connections of clients.\n# TYPE fleet_http_connections "
                "gauge\nfleet_http_connections{listener=\"socket\"} "
                "0\nfleet_http_connections{listener=\"loopback\"} 0\n# HELP fleet_http_watches Clients that "
                "wait for a change of a key.\n# TYPE fleet_http_watches gauge\nfleet_http_watches 0\n# HELP "
                "fleet_http_rejected_total Requests and connections that exceeded a limit.\n# TYPE "
                "fleet_http_rejected_total "
                "counter\nfleet_http_rejected_total{listener=\"socket\",limit=\"connections\"} "
                "0\nfleet_http_rejected_total{listener=\"socket\",limit=\"memory\"} "
                "0\nfleet_http_rejected_total{listener=\"socket\",limit=\"time\"} "
                "0\nfleet_http_rejected_total{listener=\"socket\",limit=\"line\"} "
                "0\nfleet_http_rejected_total{listener=\"socket\",limit=\"head\"} "
                "0\nfleet_http_rejected_total{listener=\"socket\",limit=\"body\"} "
                "0\nfleet_http_rejected_total{listener=\"loopback\",limit=\"connections\"} "
                "0\nfleet_http_rejected_total{listener=\"loopback\",limit=\"memory\"} "
                "0\nfleet_http_rejected_total{listener=\"loopback\",limit=\"time\"} "
                "0\nfleet_http_rejected_total{listener=\"loopback\",limit=\"line\"} "
                "0\nfleet_http_rejected_total{listener=\"loopback\",limit=\"head\"} "
                "0\nfleet_http_rejected_total{listener=\"loopback\",limit=\"body\"} 0\n# HELP "
                "fleet_agent_actions_total Actions of the agent on units of this host.\n# TYPE "
                "fleet_agent_actions_total "
                "counter\nfleet_agent_actions_total{action=\"write\",result=\"done\"} "
                "0\nfleet_agent_actions_total{action=\"write\",result=\"failed\"} "
                "0\nfleet_agent_actions_total{action=\"start\",result=\"done\"} "
                "0\nfleet_agent_actions_total{action=\"start\",result=\"failed\"} "
                "0\nfleet_agent_actions_total{action=\"reload\",result=\"done\"} "
                "0\nfleet_agent_actions_total{action=\"reload\",result=\"failed\"} "
                "0\nfleet_agent_actions_total{action=\"stop\",result=\"done\"} "
                "0\nfleet_agent_actions_total{action=\"stop\",result=\"failed\"} "
                "0\nfleet_agent_actions_total{action=\"remove\",result=\"done\"} "
                "0\nfleet_agent_actions_total{action=\"remove\",result=\"failed\"} "
                "0\nfleet_agent_actions_total{action=\"restart\",result=\"done\"} "
                "0\nfleet_agent_actions_total{action=\"restart\",result=\"failed\"} 0\n# HELP "
                "fleet_agent_start_seconds Time from the assignment of a unit until it is active on this "
                "host.\n# TYPE fleet_agent_start_seconds "
                "histogram\nfleet_agent_start_seconds_bucket{le=\"0.0005\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.001\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.002\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.004\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.008\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.016\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.032\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.064\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.128\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.256\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"0.512\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"1.024\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"2.048\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"4.096\"} "
                "0\nfleet_agent_start_seconds_bucket{le=\"+Inf\"} 0\nfleet_agent_start_seconds_sum "
                "0.000000\nfleet_agent_start_seconds_count 0\n# HELP fleet_health_checks Health checks of "
                "the units that run on this host.\n# TYPE fleet_health_checks gauge\nfleet_health_checks "
                "0\n# HELP fleet_health_probes_total Executions of health checks by this host. Late ones are "
                "discarded.\n# TYPE fleet_health_probes_total "
                "counter\nfleet_health_probes_total{result=\"passed\"} "
                "0\nfleet_health_probes_total{result=\"failed\"} "
                "0\nfleet_health_probes_total{result=\"discarded\"} 0\n# HELP fleet_loop_turn_cpu_seconds "
                "CPU time of the turns of the event loop.\n# TYPE fleet_loop_turn_cpu_seconds "
                "histogram\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.0001\"} "
                "1\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.00025\"} "
                "3\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.0005\"} "
                "6\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.001\"} "
                "10\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.0025\"} "
                "15\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.005\"} "
                "21\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.01\"} "
                "28\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.02\"} "
                "36\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.05\"} "
                "45\nfleet_loop_turn_cpu_seconds_bucket{le=\"0.1\"} "
                "55\nfleet_loop_turn_cpu_seconds_bucket{le=\"1\"} "
                "66\nfleet_loop_turn_cpu_seconds_bucket{le=\"+Inf\"} 1000\nfleet_loop_turn_cpu_seconds_sum "
                "2.500000\nfleet_loop_turn_cpu_seconds_count 1000\n# HELP fleet_loop_turn_cpu_max_seconds "
                "CPU time of the longest turn since the start.\n# TYPE fleet_loop_turn_cpu_max_seconds "
                "gauge\nfleet_loop_turn_cpu_max_seconds 0.001500\n# HELP fleet_loop_turn_wall_max_seconds "
                "Wall time of the longest turn since the start.\n# TYPE fleet_loop_turn_wall_max_seconds "
                "gauge\nfleet_loop_turn_wall_max_seconds 0.003000\n# HELP fleet_loop_work_total Work of the "
                "event loop that grows with its input.\n# TYPE fleet_loop_work_total "
                "counter\nfleet_loop_work_total{unit=\"nodes\"} 21\nfleet_loop_work_total{unit=\"bytes\"} "
                "22\n# HELP fleet_loop_turn_work_max The most such work of one turn since the start.\n# TYPE "
                "fleet_loop_turn_work_max gauge\nfleet_loop_turn_work_max{unit=\"nodes\"} "
                "23\nfleet_loop_turn_work_max{unit=\"bytes\"} 24\n";
        /* One can be used: the others are revoked, used, expired. This host has a certificate. */
        static const Record tokens[] = {
                { "cluster/token/aaaaaaaaaaaa",
                  "{\"expires\":9000000000000,\"hash\":\"" DIGEST "\",\"total\":2,\"uses\":1}" },
                { "cluster/token/bbbbbbbbbbbb", "{\"expires\":9000000000000,\"hash\":\"" DIGEST
                                                "\",\"revoked\":true,\"total\":2,\"uses\":1}" },
                { "cluster/token/cccccccccccc",
                  "{\"expires\":9000000000000,\"hash\":\"" DIGEST "\",\"total\":2,\"uses\":0}" },
                { "cluster/token/dddddddddddd",
                  "{\"expires\":1000,\"hash\":\"" DIGEST "\",\"total\":2,\"uses\":1}" },
                { "cluster/host/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                  "{\"expires\":1900000000500,\"joined\":1,\"pins\":[\"" DIGEST "\"],\"start\":1}" },
        };
        Fixture *fixture = *state;
        Loop *loop = fixture->host->loop;
        ComponentHost host;
        MetricsScrape *scrape;
        Turns turns;

        write_records(fixture, hosts, ELEMENTS(hosts));
        write_records(fixture, units, ELEMENTS(units));
        write_records(fixture, tokens, ELEMENTS(tokens));
        counts_are_played = true;
        fixture->api->gets = 11;
        fixture->api->gets_failed = 12;
        fixture->api->n_watching = 13;
        play(fixture, API_LOOPBACK, rows, ELEMENTS(rows));
        fixture->api->n_watching = 0;

        turns = loop->turns;
        loop->turns = (Turns) { .n = 1000,
                                .cpu_ns = 2500000000,
                                .cpu_max_ns = 1500000,
                                .wall_max_ns = 3000000,
                                .total = { .nodes = 21, .bytes = 22 },
                                .most = { .nodes = 23, .bytes = 24 } };
        for (size_t i = 0; i < TURN_BUCKETS; i++)
                loop->turns.buckets[i] = i + 1;
        loop->turns.buckets[TURN_BUCKETS] = 1000 - TURN_BUCKETS * (TURN_BUCKETS + 1) / 2;
        host = (ComponentHost) { .io.loop = loop,
                                 .store = fixture->host->store,
                                 .peers = fixture->host->peers,
                                 .registry = fixture->host->registry,
                                 .engine = (Engine *) fixture,
                                 .api = fixture->api,
                                 .leader_changes = 31 };
        assert_int_equal(metrics_begin(&host, METRICS_TEXT, &scrape), 0);
        loop->turns = turns;
        counts_are_played = false;
        if (!fits(fixture, figures, scrape->text.chars)) {
                fprintf(stderr, "%s", scrape->text.chars); /* longer than what cmocka prints */
                fail();
        }
        metrics_scrape_free(scrape);

        host.engine = NULL; /* of a host without an engine */
        assert_int_equal(metrics_begin(&host, METRICS_OPENMETRICS, &scrape), 0);
        assert_non_null(strstr(scrape->text.chars, "\nfleet_engine_leader_start_time 0\n"));
        metrics_scrape_free(scrape);
}

/* -- Streams -- */

typedef struct StreamReader {
        int fd;
        bool ended;
        char text[32 * 1024];
        size_t size;
} StreamReader;

static int connect_to(const Fixture *fixture, ApiListener listener) {
        struct sockaddr_un local = { .sun_family = AF_UNIX };
        struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(listener == API_SOCKET ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

        snprintf(local.sun_path, sizeof(local.sun_path), "%s", fixture->socket);
        tcp.sin_port = htons(atoi(strchr(fixture->tcp, ':') + 1));
        r = listener == API_SOCKET ? connect(fd, (struct sockaddr *) &local, sizeof(local)) :
                                     connect(fd, (struct sockaddr *) &tcp, sizeof(tcp));
        assert_int_equal(r, 0);
        return fd;
}

static void say(Fixture *fixture, int fd, const char *request) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "%s HTTP/1.1\r\nHost: %s\r\n\r\n", request, fixture->tcp);
        assert_int_equal(send(fd, t.chars, t.size, MSG_NOSIGNAL), t.size);
}

static void stream_open(Fixture *fixture, StreamReader *s, ApiListener listener, const char *request) {
        *s = (StreamReader) { .fd = connect_to(fixture, listener) };
        say(fixture, s->fd, request);
}

static bool stream_has(StreamReader *s, const char *text) {
        ssize_t n;

        while ((n = recv(s->fd, s->text + s->size, sizeof(s->text) - 1 - s->size, MSG_DONTWAIT)) > 0)
                s->size += n;
        s->ended = s->ended || n == 0;
        s->text[s->size] = 0;
        return text ? strstr(s->text, text) != NULL : s->ended;
}

/* What has come since, with the bodies of its chunks alone, is that. */
static void stream_says(Fixture *fixture, StreamReader *s, const char *expected) {
        _cleanup_text_ Text t = {};
        const char *last = strrchr(expected, '\n');

        assert_non_null(last);
        for (unsigned lines = 0;; host_turn(fixture->host)) {
                const char *data;
                size_t size, n = 0;

                lines = 0;
                (void) stream_has(s, NULL);
                text_clear(&t);
                for (const char *p = s->text;
                     (size = strtoul(p, (char **) &data, 16)) > 0 && strlen(data) >= size + 4;
                     p = data + 2 + size + 2)
                        text_append_bytes(&t, data + 2, size);
                for (const char *p = t.chars; p && *p; p++)
                        lines += *p == '\n';
                for (const char *p = expected; *p; p++)
                        n += *p == '\n';
                if (lines >= n)
                        break;
        }
        if (!fits(fixture, expected, t.chars)) {
                fprintf(stderr, "said:\n%sinstead of:\n%s", t.chars,
                        expected); /* longer than what cmocka prints */
                fail();
        }
        s->size = 0;
}

static void stream_begins(Fixture *fixture, StreamReader *s, const char *head) {
        char *end, *date;

        HOST_UNTIL(fixture->host, stream_has(s, "\r\n\r\n"));
        end = strstr(s->text, "\r\n\r\n") + 2;
        *end = 0;
        date = strstr(s->text, "Date: ");
        assert_non_null(date);
        memmove(date, strstr(date, "\r\n") + 2, strlen(strstr(date, "\r\n") + 2) + 1);
        if (!fits(fixture, head, s->text))
                fail_msg("begins with:\n%sinstead of:\n%s", s->text, head);
        memmove(s->text, end + 2, s->size - (end + 2 - s->text) + 1);
        s->size -= end + 2 - s->text;
}

/* By a reset: who only says that he sends no more may still wait for the answer. */
static void leave(int fd) {
        const struct linger reset = { .l_onoff = 1 };

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
        close(fd);
}

static unsigned count_requests(const Fixture *fixture) {
        const Request *request;
        unsigned n = 0;

        TAILQ_FOREACH(request, &fixture->api->requests, requests)
                n++;
        return n;
}

static void put(Fixture *fixture, const char *target, const char *form) {
        const Row row = { target, FORM, form, 0, NULL, NULL };

        send_row(fixture, API_LOOPBACK, &row);
        if (!starts_with(fixture->answer, "HTTP/1.1 20"))
                fail_msg("%s: %s", target, fixture->answer);
}

#define CHUNKED "Transfer-Encoding: chunked\r\n"

static void a_watch_streams_changes_until_its_reader_leaves(void **state) {
        static const Row rows[] = {
                { "GET /v2/keys/other?wait=true", NULL, NULL, 500, REFUSED("0"),
                  KEY_ERROR(300, "Raft Internal Error", "too many watches", "0") },
        };
        ApiLimits limits = api_limits_default;
        Fixture *fixture = *state;
        StreamReader s;

        put(fixture, "PUT /v2/keys/d/old", "value=0");
        limits.watches = 1;
        fixture_open(fixture, &limits);
        stream_open(fixture, &s, API_LOOPBACK, "GET /v2/keys/d?wait=true&stream=true&recursive=true");
        stream_begins(fixture, &s, "HTTP/1.1 200 OK\r\n" KEYS("@0") CHUNKED);
        assert_int_equal(fixture->api->n_watching, 1);
        play(fixture, API_LOOPBACK, rows, ELEMENTS(rows));

        put(fixture, "PUT /v2/keys/x", "value=not+here");
        put(fixture, "PUT /v2/keys/d/_hidden", "value=neither");
        put(fixture, "PUT /v2/keys/d/k", "value=1");
        put(fixture, "PUT /v2/keys/d/k", "value=2");
        put(fixture, "DELETE /v2/keys/d?recursive=true", "");
        stream_says(
                fixture, &s,
                "{\"action\":\"set\",\"node\":{\"key\":\"/d/"
                "k\",\"value\":\"1\",\"modifiedIndex\":@3,\"createdIndex\":@3}}\n{\"action\":\"set\","
                "\"node\":{\"key\":\"/d/"
                "k\",\"value\":\"2\",\"modifiedIndex\":@4,\"createdIndex\":@4},\"prevNode\":{\"key\":\"/d/"
                "k\",\"value\":\"1\",\"modifiedIndex\":@3,\"createdIndex\":@3}}\n{\"action\":\"delete\","
                "\"node\":{\"key\":\"/"
                "d\",\"dir\":true,\"modifiedIndex\":@5,\"createdIndex\":$R},\"prevNode\":{\"key\":\"/"
                "d\",\"dir\":true,\"modifiedIndex\":$R,\"createdIndex\":$R}}\n");
        leave(s.fd);
        HOST_UNTIL(fixture->host, fixture->api->n_watching == 0);

        stream_open(fixture, &s, API_LOOPBACK, "GET /v2/keys/other?wait=true");
        stream_begins(fixture, &s, "HTTP/1.1 200 OK\r\n" KEYS("@5") CHUNKED);
        assert_int_equal(fixture->api->n_watching, 1);
        put(fixture, "PUT /v2/keys/other", "value=1");
        HOST_UNTIL(fixture->host, stream_has(&s, "0\r\n\r\n"));
        assert_int_equal(fixture->api->n_watching, 0);
        stream_says(fixture, &s,
                    "{\"action\":\"set\",\"node\":{\"key\":\"/"
                    "other\",\"value\":\"1\",\"modifiedIndex\":@6,\"createdIndex\":@6}}\n");
        close(s.fd);
}

/* As when a snapshot has replaced the tree. */
static void a_watch_and_a_stream_of_changes_end_when_their_events_leave_the_window(void **state) {
        static const Row rows[] = {
                { "GET /fleet/v1/kv/changes?after=1", NULL, NULL, 410, JSON,
                  "{\"error\":{\"code\":410,\"message\":\"changes between index 1 and @51 are no longer in "
                  "the event window: list again, and continue after the index of that "
                  "answer\"},\"index\":@1,\"oldest\":@51}\n" },
        };
        Fixture *fixture = *state;
        StreamReader watch, changes;

        put(fixture, "PUT /v2/keys/a", "value=1");
        stream_open(fixture, &watch, API_LOOPBACK, "GET /v2/keys/a?wait=true");
        stream_begins(fixture, &watch, "HTTP/1.1 200 OK\r\n" KEYS("@1") CHUNKED);
        stream_open(fixture, &changes, API_LOOPBACK, "GET /fleet/v1/kv/changes");
        stream_begins(fixture, &changes, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n" CHUNKED);
        stream_says(fixture, &changes, "{\"index\":@1}\n");
        store_clear_watches(fixture->host->store, fixture->base + 50);
        HOST_UNTIL(fixture->host, stream_has(&watch, "0\r\n\r\n") && stream_has(&changes, "0\r\n\r\n"));
        stream_says(fixture, &watch,
                    "{\"errorCode\":400,\"message\":\"watcher is cleared due to etcd "
                    "recovery\",\"index\":@50}\n");
        stream_says(fixture, &changes,
                    "{\"error\":{\"code\":410,\"message\":\"changes between index @1 and @51 are no longer "
                    "in the event window: list again, and continue after the index of that "
                    "answer\"},\"index\":@50,\"oldest\":@51}\n");
        assert_int_equal(fixture->api->n_watching, 0);
        close(watch.fd);
        close(changes.fd);
        play(fixture, API_LOOPBACK, rows,
             ELEMENTS(rows)); /* who asks for them is refused, and does not count as one that waits */
        assert_int_equal(fixture->api->n_watching, 0);
}

static void changes_have_the_previous_node(void **state) {
        Fixture *fixture = *state;
        StreamReader s;

        stream_open(fixture, &s, API_LOOPBACK, "GET /fleet/v1/kv/changes?prefix=/d&progress=0");
        stream_begins(fixture, &s, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n" CHUNKED);
        put(fixture, "PUT /v2/keys/d/k", "value=1");
        put(fixture, "PUT /v2/keys/d/k", "refresh=true&ttl=1000");
        put(fixture, "PUT /v2/keys/e", "value=1");
        put(fixture, "PUT /v2/keys/d/k?prevValue=1", "value=2");
        put(fixture, "DELETE /v2/keys/d/k", "");
        stream_says(
                fixture, &s,
                "{\"index\":@0}\n{\"action\":\"set\",\"index\":@1,\"node\":{\"createdIndex\":@1,\"key\":\"/d/"
                "k\",\"modifiedIndex\":@1,\"value\":\"1\"}}\n{\"action\":\"set\",\"index\":@2,\"node\":{"
                "\"createdIndex\":@2,\"key\":\"/d/"
                "k\",\"modifiedIndex\":@2,\"ttl\":~1000,\"value\":\"1\"},\"prevNode\":{\"createdIndex\":@1,"
                "\"key\":\"/d/"
                "k\",\"modifiedIndex\":@1,\"value\":\"1\"},\"refresh\":true}\n{\"action\":\"compareAndSwap\","
                "\"index\":@4,\"node\":{\"createdIndex\":@2,\"key\":\"/d/"
                "k\",\"modifiedIndex\":@4,\"value\":\"2\"},\"prevNode\":{\"createdIndex\":@2,\"key\":\"/d/"
                "k\",\"modifiedIndex\":@2,\"ttl\":~1000,\"value\":\"1\"}}\n{\"action\":\"delete\",\"index\":@"
                "5,\"node\":{\"createdIndex\":@2,\"key\":\"/d/"
                "k\",\"modifiedIndex\":@5},\"prevNode\":{\"createdIndex\":@2,\"key\":\"/d/"
                "k\",\"modifiedIndex\":@4,\"value\":\"2\"}}\n");
        assert_int_equal(fixture->api->n_watching, 1);
        leave(s.fd);
        HOST_UNTIL(fixture->host, fixture->api->n_watching == 0);

        stream_open(fixture, &s, API_LOOPBACK, "GET /fleet/v1/kv/changes?after=0&progress=1&prefix=/e");
        stream_begins(fixture, &s, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n" CHUNKED);
        stream_says(fixture, &s,
                    "{\"index\":0}\n{\"action\":\"set\",\"index\":@3,\"node\":{\"createdIndex\":@3,\"key\":"
                    "\"/e\",\"modifiedIndex\":@3,\"value\":\"1\"}}\n{\"index\":@5}\n{\"index\":@5}\n");
        leave(s.fd);
        HOST_UNTIL(fixture->host, fixture->api->n_watching == 0);
}

static void events_name_what_has_changed_and_with_details_how(void **state) {
        static const Record later[] = {
                { "machine/" BETA "/problem/z.service",
                  "{\"confirmed\":true,\"kind\":\"held\",\"text\":\"too many are gone\"}" },
                { "machine/" BETA "/presence", "{\"state\":\"lost\",\"reason\":\"it is silent\"}" },
                { "target/a.service", "loaded" },
                { "revision/a.service/3", "{}" },
                { "rollout/a.service", "{\"state\":\"done\"}" },
                { "endpoint/a.service/" BETA, "{\"address\":\"10.0.0.2\",\"services\":[\"a\",\"b\"]}" },
                { "machine/" BETA "/reported", "0000000000000007" },
        };
        static const Row rows[] = {
                { "DELETE /fleet/v1/units/a.service", NULL, NULL, 204, SERVER, "" },
        };
        Fixture *fixture = *state;
        StreamReader plain, details;

        stream_open(fixture, &plain, API_SOCKET, "GET /fleet/v1/events");
        stream_begins(fixture, &plain,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n" SERVER CHUNKED);
        write_records(fixture, hosts, 3);
        write_records(fixture, units, 4);
        write_records(fixture, later, ELEMENTS(later));
        fixture->base -= 14;
        stream_says(fixture, &plain,
                    "{}\n{\"index\":@1,\"kind\":\"machine\",\"machine\":\"" BETA
                    "\"}\n{\"index\":@2,\"kind\":\"presence\",\"machine\":\"" BETA
                    "\"}\n{\"index\":@3,\"kind\":\"machine\",\"machine\":\"" BETA
                    "\"}\n{\"index\":@4,\"kind\":\"unit\",\"name\":\"a.service\"}\n{\"index\":@5,\"kind\":"
                    "\"target\",\"name\":\"a.service\"}\n{\"index\":@6,\"kind\":\"order\",\"machine\":\"" BETA
                    "\",\"name\":\"a.service\"}\n{\"index\":@7,\"kind\":\"state\",\"machine\":\"" BETA
                    "\",\"name\":\"a.service\"}\n{\"index\":@8,\"kind\":\"problem\",\"machine\":\"" BETA
                    "\",\"name\":\"z.service\"}\n{\"index\":@9,\"kind\":\"presence\",\"machine\":\"" BETA
                    "\"}\n{\"index\":@10,\"kind\":\"target\",\"name\":\"a.service\"}\n{\"index\":@11,"
                    "\"kind\":\"revision\",\"name\":\"a.service\"}\n{\"index\":@12,\"kind\":\"rollout\","
                    "\"name\":\"a.service\"}\n{\"index\":@13,\"kind\":\"endpoint\",\"machine\":\"" BETA
                    "\",\"name\":\"a.service\"}\n{\"index\":@14,\"kind\":\"cluster\",\"machine\":\"" BETA
                    "\"}\n");
        close(plain.fd);
        HOST_UNTIL(fixture->host, TAILQ_EMPTY(&fixture->api->requests));
        play(fixture, API_SOCKET, rows, ELEMENTS(rows));

        stream_open(fixture, &details, API_SOCKET, "GET /fleet/v1/events?details=true&after=0");
        stream_begins(fixture, &details,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n" SERVER CHUNKED);
        stream_says(
                fixture, &details,
                "{\"index\":0}\n{\"index\":@1,\"kind\":\"machine\",\"machine\":\"" BETA
                "\",\"time\":$S,\"hostname\":\"beta\",\"version\":\"7\"}\n{\"index\":@2,\"kind\":"
                "\"presence\",\"machine\":\"" BETA
                "\",\"time\":$S,\"presence\":\"up\"}\n{\"index\":@3,\"kind\":\"metadata\",\"machine\":\"" BETA
                "\",\"name\":\"gpu\",\"time\":$S,\"value\":\"yes\"}\n{\"index\":@4,\"kind\":\"unit\","
                "\"name\":\"a.service\",\"time\":$S,\"hash\":\"dc244fef41a3382ca41f5c4ebc8b33614902a7ea\"}\n{"
                "\"index\":@5,\"kind\":\"target\",\"name\":\"a.service\",\"time\":$S,\"value\":\"launched\"}"
                "\n{\"index\":@6,\"kind\":\"order\",\"machine\":\"" BETA
                "\",\"name\":\"a.service\",\"time\":$S,\"order\":\"run\",\"reason\":\"it has the fewest "
                "units\",\"term\":1}\n{\"index\":@7,\"kind\":\"state\",\"machine\":\"" BETA
                "\",\"name\":\"a.service\",\"time\":$S,\"active\":\"active\",\"load\":\"loaded\",\"since\":"
                "1500,\"sub\":\"running\"}\n{\"index\":@8,\"kind\":\"problem\",\"machine\":\"" BETA
                "\",\"name\":\"z.service\",\"time\":$S,\"confirmed\":true,\"problem\":\"held\",\"reason\":"
                "\"too many are gone\"}\n{\"index\":@9,\"kind\":\"presence\",\"machine\":\"" BETA
                "\",\"time\":$S,\"presence\":\"lost\",\"reason\":\"it is "
                "silent\",\"was\":{\"presence\":\"up\"}}\n{\"index\":@10,\"kind\":\"target\",\"name\":\"a."
                "service\",\"time\":$S,\"value\":\"loaded\",\"was\":{\"value\":\"launched\"}}\n{\"index\":@"
                "11,\"kind\":\"revision\",\"name\":\"a.service\",\"revision\":3,\"time\":$S}\n{\"index\":@12,"
                "\"kind\":\"rollout\",\"name\":\"a.service\",\"time\":$S}\n{\"index\":@13,\"kind\":"
                "\"endpoint\",\"machine\":\"" BETA
                "\",\"name\":\"a.service\",\"time\":$S,\"address\":\"10.0.0.2\",\"services\":[\"a\",\"b\"]}\n"
                "{\"index\":@14,\"kind\":\"reported\",\"machine\":\"" BETA
                "\",\"time\":$S}\n{\"index\":@15,\"kind\":\"unit\",\"name\":\"a.service\",\"removed\":true,"
                "\"time\":$S,\"was\":{\"hash\":\"dc244fef41a3382ca41f5c4ebc8b33614902a7ea\"}}\n{\"index\":@"
                "16,\"kind\":\"target\",\"name\":\"a.service\",\"removed\":true,\"time\":$S,\"was\":{"
                "\"value\":\"loaded\"}}\n{\"index\":@16}\n");
        leave(details.fd);
        HOST_UNTIL(fixture->host, TAILQ_EMPTY(&fixture->api->requests));
}

/* -- Requests that end before their answer -- */

enum { THREADS = 4 }; /* of the pool */

typedef struct Hold {
        sem_t release;
        bool ended;
        Work work;
} Hold;

static void hold_thread(void *userdata) {
        Hold *hold = userdata;

        while (sem_wait(&hold->release) < 0)
                ;
}

static void release_thread(void *userdata) {
        ((Hold *) userdata)->ended = true;
}

/* Nothing is written to the log before release(). */
static void hold_log(Fixture *fixture, Hold holds[static THREADS]) {
        for (unsigned i = 0; i < THREADS; i++) {
                holds[i] = (Hold) {
                        .work = { .work = hold_thread, .done = release_thread, .userdata = &holds[i] }
                };
                assert_int_equal(sem_init(&holds[i].release, 0, 0), 0);
                assert_int_equal(loop_work(fixture->host->loop, &holds[i].work), 0);
        }
}

static void release_log(Fixture *fixture, Hold holds[static THREADS]) {
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(sem_post(&holds[i].release), 0);
        HOST_UNTIL(fixture->host, holds[0].ended && holds[1].ended && holds[2].ended && holds[3].ended);
}

static bool is_pending(const Fixture *fixture) {
        const Request *request = TAILQ_FIRST(&fixture->api->requests);

        return request && (request->syncing || request->proposal > 0 || request->changing);
}

static int begin(Fixture *fixture, ApiListener listener, const char *request, const char *fields,
                 const char *body) {
        int fd = connect_to(fixture, listener);
        _cleanup_text_ Text t = {};

        text_printf(&t, "%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %zu\r\n\r\n%s", request, fixture->tcp,
                    fields, strlen(body), body);
        assert_int_equal(send(fd, t.chars, t.size, MSG_NOSIGNAL), t.size);
        HOST_UNTIL(fixture->host, is_pending(fixture));
        return fd;
}

static void a_change_continues_when_its_client_has_left_or_the_api_is_closed(void **state) {
        static const struct {
                ApiListener listener;
                const char *request, *fields, *body;
        } rows[] = {
                { API_LOOPBACK, "PUT /v2/keys/a", FORM, "value=1" },
                { API_LOOPBACK, "PUT /fleet/v1/kv/value/b", "", "1" },
                { API_LOOPBACK, "POST /fleet/v1/kv/txn", JSON,
                  "{\"writes\":[{\"action\":\"set\",\"key\":\"/c\",\"value\":\"1\"}]}" },
                { API_SOCKET, "PUT /fleet/v1/units/u.service", JSON, "{" UNIT_TEXT("") "}" },
                { API_SOCKET, "PATCH /fleet/v1/machines", JSON,
                  "[{\"op\":\"add\",\"path\":\"/" BETA "/metadata/k\",\"value\":\"v\"}]" },
                { API_SOCKET, "PUT /fleet/v1/cluster/level", JSON, "{\"level\":2}" },
        };
        static const Row there[] = {
                { "GET /v2/keys/?sorted=true", NULL, NULL, 200, KEYS("@6"),
                  "{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@1,\"createdIndex\":@1},{\"key\":\"/"
                  "b\",\"value\":\"1\",\"modifiedIndex\":@2,\"createdIndex\":@2},{\"key\":\"/"
                  "c\",\"value\":\"1\",\"modifiedIndex\":@3,\"createdIndex\":@3}]}}\n" },
        };
        Fixture *fixture = *state;
        uint64_t base = fixture->base;
        Hold holds[THREADS];
        KvState now;
        int fd;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                hold_log(fixture, holds);
                fd = begin(fixture, rows[i].listener, rows[i].request, rows[i].fields, rows[i].body);
                if (rows[i].listener == API_LOOPBACK) {
                        leave(fd);
                        HOST_UNTIL(fixture->host, TAILQ_EMPTY(&fixture->api->requests));
                } else {
                        fixture_open(fixture, NULL);
                        close(fd);
                }
                release_log(fixture, holds);
        }
        HOST_UNTIL(fixture->host, (kv_state(fixture->host->store, &now), now.level == 2));
        fixture->base = base;
        play(fixture, API_LOOPBACK, there, ELEMENTS(there));
        assert_non_null(cluster_unit(registry_cluster(fixture->host->registry), "u.service"));
}

static int joining_setup(void **state) {
        *state = fixture_new(true);
        return 0;
}

static void a_client_that_leaves_before_the_tree_is_confirmed_is_not_answered(void **state) {
        static const char *const requests[] = { "GET /v2/keys/a", "GET /fleet/v1/kv/list", "HEAD /v2/keys/" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(requests); i++) {
                int fd = begin(fixture, API_LOOPBACK, requests[i], "", "");

                leave(fd);
                HOST_UNTIL(fixture->host, TAILQ_EMPTY(&fixture->api->requests));
        }
        fixture->api = api_free(fixture->api);
        host_pause(fixture->host, 1500); /* the time that they were given is over: no callback is called */
}

/* Of four clients, the one whose scrape is under way and one that waits leave. The last one's scrape ends
 * after the API. */
static void one_scrape_is_under_way_and_others_wait(void **state) {
        Fixture *fixture = *state;
        StreamReader readers[4];
        unsigned before = n_begun;

        assert_int_equal(sem_init(&figures_go, 0, 0), 0);
        figures_wait = true;
        for (size_t i = 0; i < ELEMENTS(readers); i++) {
                stream_open(fixture, &readers[i], API_SOCKET, "GET /metrics");
                HOST_UNTIL(fixture->host, count_requests(fixture) == i + 1);
        }
        assert_int_equal(n_begun, before + 1);
        for (size_t i = 0; i < 2; i++) {
                Request *request = TAILQ_FIRST(&fixture->api->requests);

                request->http->userdata = NULL; /* as when its client has gone */
                request_free(request);
        }
        assert_int_equal(sem_post(&figures_go), 0);
        HOST_UNTIL(fixture->host, n_begun == before + 2);
        assert_int_equal(sem_post(&figures_go), 0);
        HOST_UNTIL(fixture->host, stream_has(&readers[2], "fleetd_figure 2\n"));
        HOST_UNTIL(fixture->host, n_begun == before + 3);
        fixture->api = api_free(fixture->api);
        HOST_UNTIL(fixture->host, stream_has(&readers[3], NULL));
        assert_int_equal(readers[3].size, 0);
        for (size_t i = 0; i < ELEMENTS(readers); i++)
                close(readers[i].fd);
        figures_wait = false;
        assert_int_equal(sem_post(&figures_go), 0); /* the end of the loop waits for the worker */
}

static void a_listing_and_an_answer_to_a_directory_are_taken_up_to_their_limit(void **state) {
        static const Row fits_in[] = {
                { "GET /v2/keys/d", NULL, NULL, 200, KEYS("@0"),
                  "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/"
                  "a\",\"value\":\"1\",\"modifiedIndex\":@0,\"createdIndex\":@0}],\"modifiedIndex\":@0,"
                  "\"createdIndex\":@0}}\n" },
        };
        static const Row refused[] = {
                { "GET /v2/keys/d", NULL, NULL, 400, REFUSED("@1"),
                  KEY_ERROR(210, "Invalid POST form",
                            "the answer would be more than 1 nodes or 32 MiB: list the directories in it one "
                            "by one",
                            "@1") },
        };
        ApiLimits limits = api_limits_default;
        Fixture *fixture = *state;

        put(fixture, "PUT /v2/keys/d/a", "value=1");
        limits.answer_nodes = 1;
        fixture_open(fixture, &limits);
        play(fixture, API_LOOPBACK, fits_in, ELEMENTS(fits_in));
        put(fixture, "PUT /v2/keys/d/b", "value=1");
        play(fixture, API_LOOPBACK, refused, ELEMENTS(refused));

        for (unsigned n = 100; n <= 101; n++) {
                _cleanup_text_ Text body = {};
                Row row = { "POST /fleet/v1/directory",
                            JSON,
                            NULL,
                            n == 100 ? 404 : 400,
                            JSON SERVER,
                            n == 100 ? ERROR(404, "x: the directory of  has no problem with it that awaits "
                                                  "confirmation") :
                                       ERROR(400, "names: expected 1 to 100") };

                text_append(&body, "{\"kind\":\"held\",\"names\":[\"x\"");
                for (unsigned i = 1; i < n; i++)
                        text_append(&body, ",\"x\"");
                text_append(&body, "]}");
                row.body = body.chars;
                play(fixture, API_SOCKET, &row, 1);
        }
}

/* -- Without a majority -- */

static void without_a_leader_reads_say_how_old_they_are(void **state) {
        static const Row rows[] = {
                { "GET /v2/keys/a", NULL, NULL, 404,
                  JSON "X-Etcd-Cluster-Id: 0\r\nX-Etcd-Index: 0\r\nX-Fleet-Stale: $S\r\n",
                  KEY_ERROR(100, "Key not found", "/a", "0") },
                { "GET /v2/keys/", NULL, NULL, 200,
                  JSON "X-Etcd-Cluster-Id: 0\r\nX-Etcd-Index: 0\r\nX-Raft-Index: $R\r\nX-Raft-Term: "
                       "$T\r\nX-Fleet-Stale: $S\r\n",
                  "{\"action\":\"get\",\"node\":{\"dir\":true}}\n" },
                { "GET /fleet/v1/kv/value/a", NULL, NULL, 404, JSON "X-Fleet-Stale: $S\r\n",
                  ERROR(404, "key not found") "\n" },
                { "GET /fleet/v1/kv/list", NULL, NULL, 200, JSON "X-Fleet-Stale: $S\r\n",
                  "{\"nodes\":[]}\n" },
                { "GET /health", NULL, NULL, 503, TEXT "X-Fleet-Stale: $S\r\nRetry-After: 1\r\n",
                  "{\"health\":\"false\",\"reason\":\"this host waits for admission to a cluster\"}" },
                { "GET /v2/machines", NULL, NULL, 200, TEXT "X-Fleet-Stale: $S\r\n", "http://$A" },
                { "GET /v2/members", NULL, NULL, 200, JSON "X-Etcd-Cluster-Id: 0\r\nX-Fleet-Stale: $S\r\n",
                  "{\"members\":[]}\n" },
                { "GET /v2/members/leader", NULL, NULL, 503,
                  JSON "X-Etcd-Cluster-Id: 0\r\nX-Fleet-Stale: $S\r\nRetry-After: 1\r\n",
                  "{\"message\":\"During election\"}" },
                { "GET /v2/stats/leader", NULL, NULL, 403, JSON "X-Fleet-Stale: $S\r\n",
                  "{\"message\":\"not current leader\"}" },
                { "GET /v2/stats/self", NULL, NULL, 200, JSON "X-Fleet-Stale: $S\r\n",
                  "{\"name\":\"alpha\",\"id\":\"0\",\"state\":\"StateFollower\",\"startTime\":\"$DZ\","
                  "\"leaderInfo\":{\"leader\":\"0\",\"uptime\":\"$S.$Ss\",\"startTime\":\"$DZ\"},"
                  "\"recvAppendRequestCnt\":0,\"sendAppendRequestCnt\":0}" },
        };
        Fixture *fixture = *state;

        fixture->host->store->leaderless_ms = loop_now_ms(fixture->host->loop) -
                                              KV_STALE_MS; /* as if it had waited */
        play(fixture, API_LOOPBACK, rows, ELEMENTS(rows));
}

#define in_a_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_fixture(a_value_is_set_read_and_removed),
                in_a_fixture(directories_are_made_listed_and_removed),
                in_a_fixture(conditions_decide_about_a_write),
                in_a_fixture(a_time_to_live_is_set_renewed_and_taken_away),
                in_a_fixture(each_wrong_parameter_is_named),
                in_a_fixture(a_path_with_dots_or_doubled_slashes_leads_to_the_clean_one),
                in_a_fixture(a_watch_answers_with_the_first_change_from_its_index_on),
                in_a_fixture(a_value_is_its_bytes_with_its_indexes_beside_it),
                in_a_fixture(what_a_path_does_not_take_is_refused_with_what_it_takes),
                in_a_fixture(a_list_comes_in_pages),
                in_a_fixture(a_transaction_answers_its_writes_or_the_reason_of_its_rejection),
                in_a_fixture(clients_of_etcd_find_version_health_members_and_rights),
                in_a_fixture(the_cluster_has_its_time_its_brake_and_the_host_that_holds_its_level_back),
                in_a_fixture(machines_are_listed_and_their_metadata_changed),
                in_a_fixture(services_are_listed_with_their_endpoints_and_why_a_unit_has_none),
                in_a_fixture(states_are_those_of_machines_that_are_there),
                in_a_fixture(the_pages_of_a_long_list_have_each_item_once_while_others_are_removed),
                in_a_fixture(health_is_unknown_of_a_machine_that_is_not_up),
                in_a_fixture(a_unit_that_waits_states_the_cause_and_what_follows),
                in_a_fixture(the_mass_failure_brake_states_its_end),
                in_a_fixture(a_leave_is_refused_with_the_reason_or_begins_and_is_cancelled),
                in_a_fixture(each_text_of_a_unit_is_a_revision),
                in_a_fixture(a_revision_of_an_instance_has_the_drop_ins_of_its_own),
                in_a_fixture(a_rollout_is_reported_paused_and_resumed),
                in_a_fixture(a_rollout_of_a_content_is_reported_with_what_has_changed),
                in_a_fixture(an_instance_that_does_not_run_is_not_available),
                in_a_fixture(the_outcome_of_a_text_is_in_the_list_of_revisions),
                in_a_fixture(the_failure_that_paused_a_rollout_is_reported_once),
                in_a_fixture(a_unit_moves_or_the_answer_has_the_rule_that_excludes_the_machine),
                in_a_fixture(a_machine_is_cordoned_and_drained_or_the_answer_has_the_reason),
                in_a_fixture(
                        a_reverted_text_is_in_the_answer_about_the_cluster_for_a_day_or_until_the_next_text),
                in_a_fixture(the_number_of_replicas_is_read_set_and_reset),
                in_a_fixture(below_its_level_a_number_of_replicas_is_rejected_and_changes_nothing),
                in_a_fixture(instances_that_are_none_of_a_set_are_named_and_the_data_of_all),
                in_a_fixture(of_two_numbers_of_replicas_at_once_the_last_one_counts),
                in_a_fixture(a_host_that_reboots_or_shuts_down_is_cordoned_afterwards),
                in_a_fixture(an_instance_follows_its_template_after_a_request_with_its_text),
                in_a_fixture(moves_that_would_balance_the_cluster_are_proposed),
                in_a_fixture(
                        a_plan_has_the_rollout_that_a_destroyed_template_begins_when_it_is_submitted_again),
                in_a_fixture(
                        a_plan_of_a_template_has_the_instances_that_its_new_text_stops_or_leaves_waiting),
                in_a_fixture(a_plan_judges_drafts_by_requests_and_siblings),
                in_a_fixture(a_plan_of_a_large_template_has_some_of_its_instances),
                in_a_fixture(a_plan_of_a_template_reads_some_of_many_options_of_its_instances),
                in_a_fixture(a_unit_of_a_directory_returns_to_a_former_text_only),
                in_a_fixture(reboots_are_queued_listed_cancelled_and_resumed),
                in_a_fixture(a_reboot_names_the_unit_that_keeps_its_host_and_takes_a_deadline_later),
                in_a_fixture(a_host_that_is_back_has_the_time_for_which_it_is_observed),
                in_a_fixture(a_drain_names_the_budget_for_which_it_waits),
                cmocka_unit_test(each_wait_has_a_reason),
                in_a_fixture(a_wait_of_less_than_a_minute_is_no_problem),
                in_a_fixture(a_machine_is_removed_when_it_has_been_gone_for_an_hour),
                in_a_fixture(a_request_is_decided_again_when_its_view_was_older),
                in_a_fixture(a_removal_of_a_machine_that_changes_again_and_again_is_refused),
                in_a_fixture(a_lost_member_is_deleted_by_its_id),
                in_a_fixture(a_replaced_machine_is_removed_at_once),
                in_a_fixture(why_has_the_steps_that_place_a_unit_without_a_change_of_its_options),
                in_a_fixture(why_names_the_file_of_a_unit_and_rejects_a_lost_machine_that_has_it),
                in_a_fixture(a_machine_that_is_gone_is_removed_while_hosts_have_to_report_their_units),
                in_a_fixture(why_and_plan_report_the_result_for_each_machine),
                in_a_fixture(a_plan_of_metadata_lists_the_units_that_move_or_stop),
                in_a_fixture(what_a_unit_directory_asks_is_listed_and_answered),
                in_a_fixture(units_are_changed_one_by_one_and_many_at_once),
                in_a_fixture(the_socket_has_routes_of_its_own),
                in_a_fixture(each_figure_is_written_under_its_own_name),
                in_a_fixture(a_watch_streams_changes_until_its_reader_leaves),
                in_a_fixture(a_watch_and_a_stream_of_changes_end_when_their_events_leave_the_window),
                in_a_fixture(changes_have_the_previous_node),
                in_a_fixture(events_name_what_has_changed_and_with_details_how),
                in_a_fixture(one_scrape_is_under_way_and_others_wait),
                in_a_fixture(a_listing_and_an_answer_to_a_directory_are_taken_up_to_their_limit),
                in_a_fixture(a_change_continues_when_its_client_has_left_or_the_api_is_closed),
                cmocka_unit_test_setup_teardown(
                        a_client_that_leaves_before_the_tree_is_confirmed_is_not_answered, joining_setup,
                        fixture_teardown),
                cmocka_unit_test_setup_teardown(without_a_leader_reads_say_how_old_they_are, lonely_setup,
                                                fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
