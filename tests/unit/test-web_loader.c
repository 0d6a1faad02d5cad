/* The documents of fleet-web, from answers of a daemon to what a browser gets, in a time that passes at once.
 */
#include "tests/unit/web_asks.h"

#include <curl/curl.h>

#include "base/clock.h"
#include "client/web/loader.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_curl.h"
#include "tests/lib/size.h"
#include "units/json.h"

#define A "11111111111111111111111111111111"
#define B "22222222222222222222222222222222"
#define C "33333333333333333333333333333333"

enum { ANSWERS_MAX = 16 };

/* Of the fake daemon, by the begin of a path. The first one that fits is given. */
static FakeAnswer answers[ANSWERS_MAX];
static size_t n_answers;
static unsigned n_requests, n_usage;
static CURLcode broken; /* of all answers */

static FakeAnswer *daemon_answer(const char *url) {
        static FakeAnswer given[64];
        static size_t n_given;
        static const char local[] = "http://localhost";
        static char cluster[2000];
        FakeAnswer *ret = &given[n_given++ % ELEMENTS(given)];

        const char *at;

        assert_true(starts_with(url, local));
        n_requests++;
        n_usage += strstr(url, "/usage") != NULL;
        *ret = (FakeAnswer) { .status = 404, .body = "{\"error\":{\"code\":404,\"message\":\"none\"}}" };
        for (size_t i = 0; i < n_answers; i++)
                if (starts_with(url + sizeof(local) - 1, answers[i].path)) {
                        *ret = answers[i];
                        break;
                }
        if (ret->body && (at = strstr(ret->body, "\"time\":5000000"))) { /* it goes on */
                snprintf(cluster, sizeof(cluster), "%.*s\"time\":%llu%s", (int) (at - ret->body), ret->body,
                         5000000 + (unsigned long long) clock_monotonic_ms(),
                         at + strlen("\"time\":5000000"));
                ret->body = cluster;
        }
        ret->code = broken;
        return ret;
}

static void says(const char *path, long status, const char *body) {
        for (size_t i = 0; i < n_answers; i++)
                if (streq(answers[i].path, path)) {
                        answers[i] = (FakeAnswer) { .path = path, .status = status, .body = body };
                        return;
                }
        assert_true(n_answers < ANSWERS_MAX);
        answers[n_answers++] = (FakeAnswer) { .path = path, .status = status, .body = body };
}

#define STATE(unit, machine, active, sub, more)                                                              \
        "{\"name\":\"" unit "\",\"machineID\":\"" machine "\",\"systemdLoadState\":\"loaded\","              \
        "\"systemdActiveState\":\"" active "\",\"systemdSubState\":\"" sub "\",\"since\":1699999990000" more \
        "}"
#define UNIT(unit, machine, more)                                                                       \
        "{\"name\":\"" unit "\",\"desiredState\":\"launched\",\"currentState\":\"launched\",\"text\":"  \
        "\"[Service]\\nEnvironment=SECRET=1\\n\",\"options\":[{\"section\":\"Service\",\"name\":\"A\"," \
        "\"value\":\"SECRET\"}],\"machineID\":\"" machine "\"" more "}"

#define MOVING        "\"reasonKind\":\"moving\",\"reason\":\"beta starts it\""
#define WAITS         "\"reasonKind\":\"waiting\",\"reason\":\"waiting: needs gpu=true\""
#define UNIT_DB       UNIT("db.service", B, "")
#define UNIT_REPORT   UNIT("report.service", "", "," WAITS)
#define UNIT_TEMPLATE UNIT("web@.service", "", "")
#define UNIT_WEB1     UNIT("web@1.service", A, "")
#define UNIT_WEB2     UNIT("web@2.service", C, "")
#define UNIT_WEB3     UNIT("web@3.service", A, "," MOVING)
#define UNIT_ILL      UNIT("ill.service", A, "")
#define UNIT_OFF      "{\"name\":\"off.service\",\"desiredState\":\"inactive\"}"
#define EXITED        "\"reason\":\"exit status 1\""
#define ILL           "\"health\":\"failing\",\"why\":\"no answer\""
#define STATE_DB      STATE("db.service", B, "failed", "failed", "," EXITED)
#define STATE_WEB1    STATE("web@1.service", A, "active", "running", ",\"health\":\"passing\"")
#define STATE_WEB3    STATE("web@3.service", A, "activating", "start", "")
#define STATE_ILL     STATE("ill.service", A, "active", "running", "," ILL)

/* A cluster in which everything happens at once. */
static void daemon_begin(void) {
        n_answers = 0;
        n_requests = n_usage = 0;
        broken = CURLE_OK;
        says("/fleet/v1/cluster", 200,
             "{\"name\":\"alpha\",\"settings\":{\"name\":\"home\"},\"time\":5000000,\"leader\":{\"id\":\"" A
             "\",\"name\":\"alpha\"},\"voters\":[{\"id\":\"" A "\",\"role\":\"voter\",\"reachable\":true},"
             "{\"id\":\"" B "\",\"role\":\"voter\",\"reachable\":true},{\"id\":\"" C
             "\",\"role\":\"voter\"}],\"maintenance\":[{\"name\":\"beta\",\"mode\":\"draining\",\"reason\":"
             "\"<img src=x onerror=alert(1)>\"}]}");
        says("/fleet/v1/problems", 200,
             "{\"problems\":[{\"command\":\"fleetctl journal db.service\",\"description\":\"failed on beta 4 "
             "min "
             "ago\",\"kind\":\"failed\",\"name\":\"db.service\",\"severity\":\"warning\"},{\"description\":"
             "\"voter unreachable\",\"kind\":\"voter\",\"name\":\"gamma\",\"severity\":\"warning\"},"
             "{\"description\":\"not placed\",\"kind\":\"waiting\",\"name\":\"report.service\",\"severity\":"
             "\"warning\"},{\"description\":\"level\",\"kind\":\"level\",\"name\":\"cluster\",\"severity\":"
             "\"info\"}]}");
        says("/fleet/v1/machines", 200,
             "{\"machines\":[{\"id\":\"" A
             "\",\"hostname\":\"alpha\",\"presence\":\"up\",\"role\":\"leader\","
             "\"primaryIP\":\"10.0.0.1\",\"metadata\":{\"zone\":\"a\",\"ssd\":\"true\"},\"since\":4990000},"
             "{\"id\":\"" B "\",\"hostname\":\"beta\",\"presence\":\"up\",\"kind\":\"voter\",\"maintenance\":"
             "\"draining\"},{\"id\":\"" C "\",\"hostname\":\"gamma\",\"presence\":\"lost\",\"kind\":"
             "\"attached\"}]}");
        says("/fleet/v1/units", 200,
             "{\"units\":[" UNIT_DB "," UNIT_REPORT "," UNIT_TEMPLATE "," UNIT_WEB1 "," UNIT_WEB2
             "," UNIT_WEB3 "," UNIT_ILL "," UNIT_OFF "]}");
        says("/fleet/v1/state", 200,
             "{\"states\":[" STATE_DB "," STATE_WEB1 "," STATE_WEB3 "," STATE_ILL "]}");
        says("/fleet/v1/rollouts", 200,
             "{\"rollouts\":[{\"name\":\"web@.service\",\"state\":\"paused\",\"revision\":4,\"of\":6,"
             "\"available\":4,"
             "\"failed\":1,\"why\":\"web@3.service on alpha: exit status 1\"}]}");
        says("/fleet/v1/reboots", 200,
             "{\"reboots\":[{\"name\":\"alpha\",\"state\":\"queued\",\"reason\":\"beta first\"}]}");
        says("/fleet/v1/history", 200,
             "{\"kind\":\"leader\",\"machine\":\"" A
             "\",\"first\":1,\"last\":1699999000000,\"count\":1,\"index\":1}\n"
             "{\"kind\":\"metadata\",\"machine\":\"" B
             "\",\"user\":\"<b>\\u202eeve\\u0007\",\"reason\":\"a=b\",\"first\":2,"
             "\"last\":1699999001000,\"count\":2,\"index\":2}\n{\"index\":2,\"oldest\":1}\n");
        says("/fleet/v1/events", 200, "{\"index\":1}\n@3000 {\"index\":2}\n...");
        says("/fleet/v1/why/db.service", 200,
             "{\"name\":\"db.service\",\"desiredState\":\"launched\",\"machineID\":\"" B
             "\",\"reason\":\"beta was the only one\","
             "\"rollout\":\"paused\",\"rolloutNext\":\"rollout resume "
             "db.service\",\"text\":\"SECRET\",\"machines\":[{\"id\":\"" A
             "\",\"hostname\":\"alpha\",\"reason\":\"MachineMetadata=zone=b, and it has "
             "<zone>a\",\"rule\":\"MachineMetadata\"},{"
             "\"id\":\"" B "\",\"hostname\":\"beta\",\"fits\":true,\"assignment\":\"run\","
             "\"systemdActiveState\":\"failed\","
             "\"systemdSubState\":\"failed\",\"systemdLoadState\":\"loaded\",\"stateReason\":\"exit status "
             "1\",\"since\":1699999990000}]}");
        fake_curl_begin_with(daemon_answer);
}

typedef struct Bench {
        ManualLoop loop;
        WebServer *server;
        WebLoader *loader;
        ConnectionSettings settings;
        WebAsk ask;
} Bench;

static int setup(void **state) {
        static const WebEvents events = { .on_asked = web_loader_on_asked, .on_why = web_loader_on_why };
        Bench *b = NEW0(Bench, 1);

        daemon_begin();
        b->settings = (ConnectionSettings) { .endpoint = "unix:///run/fleet.sock",
                                             .plain = true,
                                             .read_ms = 3000 };
        manual_loop_init(&b->loop, 1);
        assert_int_equal(web_loader_new(&b->loader, &b->loop.base, &b->settings, NULL), 0);
        assert_int_equal(web_server_new(&b->server, &b->loop.base, WEB_TEST_KEY, "p", &events, b->loader), 0);
        web_loader_serve(b->loader, b->server);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        (void) web_loader_stop(b->loader);
        while (manual_loop_work(&b->loop))
                ;
        web_server_free(b->server);
        web_loader_free(b->loader);
        loop_done(&b->loop.base);
        text_done(&b->ask.body);
        free(b);
        return 0;
}

/* Let half a second pass, in which one piece of work is done. */
static bool step(Bench *b) {
        bool works = manual_loop_work(&b->loop);

        pass(&b->loop, 500);
        return works;
}

static const char *ask(Bench *b, const char *target) {
        web_ask_get(&b->ask, b->server, target);
        for (unsigned i = 0; i < 30 && b->ask.status == 0; i++)
                (void) step(b);
        return text_chars(&b->ask.body);
}

/* Ask for the state, until it has a text. */
static void view_until(Bench *b, const char *text) {
        for (unsigned i = 0; i < 60; i++) {
                if (strstr(ask(b, "/view"), text))
                        return;
                (void) step(b);
        }
        fail_msg("the page has no %s:\n%s", text, ask(b, "/view"));
}

static void assert_has(const char *document, const char *part) {
        if (!strstr(document, part))
                fail_msg("no %s in\n%s", part, document);
}

/* -- Members -- */

typedef struct Members {
        const char *allowed;
        char path[128];
} Members;

static void check_value(Members *m, const JsonValue *v);

static int check_member(void *userdata, const char *name, const JsonValue *v) {
        Members *m = userdata;
        size_t size = strlen(m->path);

        snprintf(m->path + size, sizeof(m->path) - size, "%s%s", size > 0 ? "." : "", name);
        if (!text_has_word(m->allowed, m->path))
                fail_msg("the document has the member %s", m->path);
        check_value(m, v);
        m->path[size] = 0;
        return 0;
}

static void check_value(Members *m, const JsonValue *v) {
        JSON_EACH(item, v)
                check_value(m, item);
        if (json_value_type(v) == JSON_VALUE_OBJECT)
                (void) json_value_each(v, check_member, m);
}

static void assert_members(const char *document, const char *allowed) {
        Members m = { .allowed = allowed };
        _cleanup_json_ JsonValue *root = NULL;

        assert_int_equal(json_value_parse(document, strlen(document), &root, NULL), 0);
        check_value(&m, root);
        assert_null(strstr(document, "SECRET"));
}

#define VIEW_MEMBERS                                                                                         \
        "n program now notice cluster host leader staleMs canLose problems problems.c problems.of "          \
        "problems.name "                                                                                     \
        "problems.what problems.command work work.of work.name work.done work.total work.what work.command " \
        "machines machines.id machines.name machines.c machines.role machines.presence machines.since "      \
        "machines.badge machines.meta units units.name units.c units.state units.machine units.on "          \
        "units.since "                                                                                       \
        "units.health events events.at events.unit events.machine events.what events.count"

static void the_view_has_the_state_of_the_cluster_and_nothing_else(void **state) {
        static const char *const parts[] = {
                "\"notice\":\"\",\"cluster\":\"home\",\"host\":\"alpha\",\"leader\":\"alpha\",\"staleMs\":0,"
                "\"canLose\":0,",
                "{\"c\":\"bad\",\"of\":\"unit\",\"name\":\"db.service\",\"what\":\"failed on beta 4 min "
                "ago\",\"command\":\"fleetctl journal db.service\"}",
                "{\"c\":\"bad\",\"of\":\"machine\",\"name\":\"gamma\",\"what\":\"voter "
                "unreachable\",\"command\":\"\"}",
                "{\"c\":\"warn\",\"of\":\"unit\",\"name\":\"report.service\"",
                "{\"c\":\"info\",\"of\":\"cluster\",\"name\":\"cluster\"",
                "{\"of\":\"rollout\",\"name\":\"web@.service\",\"what\":\"revision 4: paused, 4 of 6 "
                "available, 1 failed; web@3.service on alpha: exit status 1\"",
                "\"command\":\"fleetctl rollout resume web@.service\",\"done\":4,\"total\":6}",
                "{\"of\":\"unit\",\"name\":\"web@3.service\",\"what\":\"beta starts "
                "it\",\"command\":\"fleetctl why "
                "web@3.service\"",
                "{\"of\":\"reboot\",\"name\":\"alpha\",\"what\":\"queued: beta "
                "first\",\"command\":\"fleetctl reboot "
                "--status\"",
                "{\"of\":\"machine\",\"name\":\"beta\",\"what\":\"draining: \\u003cimg src=x "
                "onerror=alert(1)\\u003e\",\"command\":\"fleetctl drain beta\"",
                "{\"id\":\"" A "\",\"name\":\"alpha\",\"c\":\"ok\",\"role\":\"leader\",\"presence\":\"up\","
                "\"since\":1699999",
                "\"badge\":\"\",\"meta\":\"ssd=true,zone=a\"}",
                "\"name\":\"beta\",\"c\":\"info\",\"role\":\"voter\",\"presence\":\"up\",\"since\":0,"
                "\"badge\":\"draining\"",
                "\"name\":\"gamma\",\"c\":\"bad\",\"role\":\"attached\",\"presence\":\"lost\"",
                "{\"name\":\"db.service\",\"c\":\"bad\",\"state\":\"failed\",\"machine\":\"beta\",\"on\":\"" B
                "\",\"since\":1699999990000,\"health\":\"\"}",
                "{\"name\":\"report.service\",\"c\":\"warn\",\"state\":\"waiting\",\"machine\":\"\",\"on\":"
                "\"\",\"since\":0",
                "{\"name\":\"web@1.service\",\"c\":\"ok\",\"state\":\"active "
                "(running)\",\"machine\":\"alpha\"",
                "{\"name\":\"web@2.service\",\"c\":\"warn\",\"state\":\"unknown\",\"machine\":\"gamma\"",
                "{\"name\":\"web@3.service\",\"c\":\"info\",\"state\":\"activating (start)\"",
                "{\"name\":\"ill.service\",\"c\":\"bad\",\"state\":\"active (running)\"",
                "{\"name\":\"off.service\",\"c\":\"off\",\"state\":\"inactive\",\"machine\":\"\"",
                "\"events\":[{\"at\":1699999001000,\"unit\":\"\",\"machine\":\"beta\",\"what\":\"metadata "
                "a=b by "
                "\\u003cb\\u003e",
                "{\"at\":1699999000000,\"unit\":\"\",\"machine\":\"alpha\",\"what\":\"is the "
                "leader\",\"count\":1}]}",
        };
        Bench *b = *state;
        const char *view = ask(b, "/view");

        assert_int_equal(b->ask.status, 200);
        for (size_t i = 0; i < ELEMENTS(parts); i++)
                assert_has(view, parts[i]);
        assert_null(strstr(view, "web@.service\",\"c\"")); /* a template does not run */
        assert_null(strstr(view, "\xe2\x80\xae"));         /* it would turn the rest of the line around */
        assert_null(strstr(view, "\\u0007"));
        assert_members(view, VIEW_MEMBERS);
}

static void equal_states_are_one_document(void **state) {
        Bench *b = *state;

        view_until(b, "\"n\":1001,");
        web_ask_get(&b->ask, b->server, "/view?after=1001");
        for (unsigned i = 0; i < 19; i++) /* it is read again meanwhile: an event has come */
                (void) step(b);
        assert_int_equal(b->ask.status, 0);
        assert_true(n_requests > 12);
        says("/fleet/v1/reboots", 200, "{\"reboots\":[]}");
        pass(&b->loop, 1000);
        assert_int_equal(b->ask.status, 204);
        assert_has(ask(b, "/view?after=1001"), "\"n\":1002,");
}

/* -- The state is in doubt -- */

static void the_banner_has_what_makes_the_state_doubtful(void **state) {
        Bench *b = *state;

        view_until(b, "\"notice\":\"\"");
        broken = CURLE_COULDNT_CONNECT;
        view_until(b, "\"notice\":\"fleetd on alpha does not answer since ");
        assert_has(text_chars(&b->ask.body), ": systemctl status fleetd. Units are not affected.\"");
        assert_has(text_chars(&b->ask.body), "\"name\":\"db.service\""); /* the last state */
        broken = CURLE_OK;
        view_until(b, "\"notice\":\"\"");

        says("/fleet/v1/cluster", 200, "{\"name\":\"alpha\",\"staleSec\":12,\"time\":5000000}");
        view_until(b, "\"notice\":\"No leader for 12 s: alpha shows its own copy, of ");
        assert_has(text_chars(&b->ask.body), "\"leader\":\"\",\"staleMs\":12000,");
        says("/fleet/v1/cluster", 403,
             "{\"error\":{\"code\":403,\"message\":\"ops may not see units: units-see\"}}");
        view_until(b, "\"notice\":\"ops may not see units: units-see\"");
        says("/fleet/v1/cluster", 503,
             "{\"error\":{\"code\":503,\"message\":\"no replica reachable for 12 s\"}}");
        view_until(b, "\"notice\":\"no replica reachable for 12 s\"");

        says("/fleet/v1/cluster", 200, "{\"name\":\"alpha\",\"removed\":true}");
        says("/fleet/v1/problems", 200,
             "{\"problems\":[{\"description\":\"alpha was removed from the "
             "cluster\",\"kind\":\"removed\",\"name\":"
             "\"alpha\",\"severity\":\"critical\"}]}");
        view_until(b, "\"notice\":\"alpha was removed from the cluster\"");
        assert_has(text_chars(&b->ask.body),
                   "\"problems\":[],\"work\":[],\"machines\":[],\"units\":[],\"events\":[]}");
        assert_members(text_chars(&b->ask.body), VIEW_MEMBERS);
}

static void a_daemon_that_has_never_answered_has_an_empty_state(void **state) {
        Bench *b = *state;

        broken = CURLE_COULDNT_CONNECT;
        assert_has(ask(b, "/view"), "\"notice\":\"fleetd at unix:///run/fleet.sock does not answer since ");
        assert_has(text_chars(&b->ask.body), "\"units\":[],\"events\":[]}");
        broken = CURLE_OK;
        view_until(b, "\"name\":\"db.service\"");
}

static void an_answer_that_is_cut_anywhere_leaves_the_last_state(void **state) {
        static const char *const paths[] = { "/fleet/v1/cluster", "/fleet/v1/problems", "/fleet/v1/machines",
                                             "/fleet/v1/units",   "/fleet/v1/state",    "/fleet/v1/rollouts",
                                             "/fleet/v1/reboots", "/fleet/v1/history" };
        Bench *b = *state;

        view_until(b, "\"notice\":\"\"");
        for (size_t p = 0; p < ELEMENTS(paths); p++) {
                const char *whole = NULL;
                size_t size;

                for (size_t i = 0; i < n_answers; i++)
                        if (streq(answers[i].path, paths[p]))
                                whole = answers[i].body;
                size = strlen(whole);
                for (size_t cut = 1; cut < size - 1; cut += MAX(size / 6, (size_t) 1)) {
                        _cleanup_free_ char *part = strndup(whole, cut);

                        says(paths[p], 200, part);
                        for (unsigned i = 0; i < 3; i++)
                                (void) step(b);
                        assert_has(ask(b, "/view"), "\"name\":\"db.service\",\"c\":\"bad\"");
                        assert_members(text_chars(&b->ask.body), VIEW_MEMBERS);
                }
                says(paths[p], 200, whole);
        }
        view_until(b, "\"notice\":\"\"");
}

/* -- Only while watched -- */

static void without_a_page_there_is_no_request(void **state) {
        Bench *b = *state;
        unsigned before;

        assert_false(step(b));
        assert_int_equal(n_requests, 0);
        (void) ask(b, "/view");
        for (unsigned i = 0; i < 100; i++)
                (void) step(b);
        before = n_requests;
        for (unsigned i = 0; i < 100; i++)
                assert_false(step(b));
        assert_int_equal(n_requests, before);
        assert_int_equal(n_usage, 0);

        says("/fleet/v1/reboots", 200, "{\"reboots\":[]}");
        assert_null(strstr(ask(b, "/view"), "beta first")); /* what was shown before is not shown again */
}

#define SAMPLE(at, cpu)                                                                                \
        "{\\\"at\\\":" at ",\\\"cpus\\\":2,\\\"host\\\":{\\\"busy\\\":" cpu ",\\\"idle\\\":" at        \
        ",\\\"memory\\\":1000,\\\"available\\\":750,\\\"disk\\\":{\\\"size\\\":100,\\\"free\\\":30}}," \
        "\\\"units\\\":[{"                                                                             \
        "\\\"name\\\":\\\"web@1.service\\\",\\\"cpu\\\":" cpu ",\\\"memory\\\":1048576}]}\\n"

static void figures_are_read_while_a_page_asks_for_them(void **state) {
        Bench *b = *state;
        unsigned i;

        says("/fleet/v1/usage?interval=2s&machine=" A, 200,
             "{\"machine\":\"" A "\",\"data\":\"" SAMPLE(
                     "1000000", "1000000") "\"}\n@1000 {\"machine\":\"" A
                                           "\",\"data\":\"" SAMPLE("2000000", "1500000") "\"}\n...");
        says("/fleet/v1/usage?interval=2s&machine=" B, 503,
             "{\"error\":{\"code\":503,\"message\":\"beta has a former version of fleetd\"}}");
        assert_has(ask(b, "/usage"), "\"program\":\"p\",\"machines\":[{\"id\":\"" A "\"");
        for (i = 0; i < 30 && !strstr(ask(b, "/usage"), "\"cpu\":\"50.0 %\""); i++)
                (void) step(b);
        assert_has(text_chars(&b->ask.body),
                   "{\"name\":\"web@1.service\",\"cpu\":\"50.0 %\",\"memory\":\"1.0 M\"}");
        assert_has(text_chars(&b->ask.body),
                   "\"cpu\":{\"part\":0.333,\"text\":\"33 %\"},\"memory\":{\"part\":0.250,"
                   "\"text\":\"25 %\"},\"disk\":{\"part\":0.700,\"text\":\"70 %\"}");
        assert_has(text_chars(&b->ask.body),
                   "{\"id\":\"" B
                   "\",\"note\":\"no figures: beta has a former version of fleetd\",\"units\":[]}");
        assert_null(strstr(text_chars(&b->ask.body), C)); /* it is lost */
        assert_members(
                text_chars(&b->ask.body),
                "n program machines machines.id machines.note machines.cpu machines.cpu.part "
                "machines.cpu.text machines.memory machines.memory.part machines.memory.text machines.disk "
                "machines.disk.part machines.disk.text machines.units machines.units.name machines.units.cpu "
                "machines.units.memory machines.units.io machines.units.tasks machines.units.pressure");
        for (i = 0; i < 20; i++)
                (void) step(b);
        assert_has(ask(b, "/usage"), "\"note\":\"no answer for "); /* and the former figures */
        assert_has(text_chars(&b->ask.body), "50.0 %");

        i = n_usage;
        for (unsigned k = 0; k < 40; k++) { /* the page is hidden, and another one shows the state */
                (void) ask(b, "/view");
                (void) step(b);
        }
        n_usage = 0;
        for (unsigned k = 0; k < 40; k++) {
                (void) ask(b, "/view");
                (void) step(b);
        }
        assert_int_equal(n_usage, 0);
}

static void a_host_that_cannot_send_figures_has_a_note(void **state) {
        Bench *b = *state;

        says("/fleet/v1/usage", 404, "{\"error\":{\"code\":404,\"message\":\"\"}}");
        for (unsigned i = 0; i < 5 && !strstr(ask(b, "/usage"), "no figures"); i++)
                (void) step(b);
        assert_has(text_chars(&b->ask.body),
                   "{\"id\":\"" A "\",\"note\":\"no figures: the fleetd that was asked is "
                   "of a version without it\",\"units\":[]}");
}

/* -- Why -- */

static void details_are_in_the_words_of_the_daemon(void **state) {
        static const char members[] =
                "lines events events.at events.unit events.machine events.what events.count commands";
        Bench *b = *state;

        assert_has(ask(b, "/why?unit=db.service"), "{\"lines\":[[\"state\",\"db.service failed on beta");
        assert_has(text_chars(&b->ask.body),
                   "[\"placement\",\"beta was the only one\"],[\"rollout\",\"paused\"],[\"alpha\",\"no: "
                   "MachineMetadata=zone=b, and it has \\u003czone\\u003ea\"]]");
        assert_has(text_chars(&b->ask.body), "\"commands\":[\"fleetctl why db.service\",\"fleetctl journal "
                                             "db.service\",\"fleetctl rollout resume db.service\"]}");
        assert_members(text_chars(&b->ask.body), members);
        assert_has(
                ask(b, "/why?machine=" B),
                "{\"lines\":[[\"presence\",\"up\"],[\"maintenance\",\"draining\"],[\"reason\",\"\\u003cimg");
        assert_has(text_chars(&b->ask.body),
                   "\"events\":[{\"at\":1699999001000,\"unit\":\"\",\"machine\":\"beta\"");
        assert_null(strstr(text_chars(&b->ask.body), "is the leader")); /* alpha */
        assert_members(text_chars(&b->ask.body), members);
        assert_string_equal(ask(b, "/why?unit=none.service"), "there is no such unit\n");
        assert_int_equal(b->ask.status, 404);
        assert_string_equal(ask(b, "/why?machine=4"), "there is no such machine\n");
        assert_int_equal(b->ask.status, 404);
        broken = CURLE_COULDNT_CONNECT;
        assert_has(ask(b, "/why?unit=db.service"), "no fleetd listens at /run/fleet.sock");
        assert_int_equal(b->ask.status, 502);
}

/* -- Without memory -- */

/* Ask for a document; it is whole, or there is a message. */
static void ask_for_whole(Bench *b, const char *target, const char *part) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *document = ask(b, target);

        alloc_pause(true);
        if (b->ask.status == 200 && b->ask.body.error == 0) { /* else it was sent, and is not kept here */
                if (json_value_parse(document, strlen(document), &root, NULL) < 0)
                        fail_msg("%s: %s", target, document);
                assert_has(document, part);
        } else if (b->ask.status != 200 && b->ask.status != 204 && b->ask.status < 502)
                fail_msg("%s: %u %s", target, b->ask.status, document);
        alloc_pause(false);
}

/* Allocation n fails, and the 'count' - 1 behind it, while the documents are read again. Return false if
 * there are fewer. */
static bool survives(unsigned n, unsigned count) {
        void *state = NULL;
        bool failed;
        Bench *b;

        (void) setup(&state);
        b = state;
        says("/fleet/v1/usage?interval=2s&machine=" A, 200,
             "{\"machine\":\"" A "\",\"data\":\"" SAMPLE(
                     "1000000", "1000000") "\"}\n@1000 {\"machine\":\"" A
                                           "\",\"data\":\"" SAMPLE("2000000", "1500000") "\"}\n...");
        view_until(b, "\"notice\":\"\"");
        alloc_fail_span(n, count);
        for (unsigned i = 0; i < 8; i++) {
                ask_for_whole(b, "/usage", "\"machines\":[");
                ask_for_whole(b, "/view", "\"name\":\"db.service\",\"c\":\"bad\"");
        }
        ask_for_whole(b, "/why?unit=db.service", "\"placement\"");
        ask_for_whole(b, "/why?machine=" B, "\"presence\"");
        failed = alloc_has_failed();
        alloc_fail_at(0);
        for (unsigned i = 0; i < 30; i++) /* it begins again what it could not begin */
                (void) step(b);
        view_until(b, "\"notice\":\"\"");
        for (unsigned i = 0; i < 30 && !strstr(ask(b, "/usage"), "\"cpu\":\"50.0 %\""); i++)
                (void) step(b);
        assert_has(text_chars(&b->ask.body), "\"cpu\":\"50.0 %\"");
        teardown(&state);
        return failed;
}

static void without_memory_the_last_document_stays(void **state) {
        unsigned stride = test_size(37, 11, 1), n;

        for (n = 1; survives(n, 1); n += stride)
                ;
        for (n = 1; survives(n, 20); n += 3 * stride)
                ;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_view_has_the_state_of_the_cluster_and_nothing_else, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(equal_states_are_one_document, setup, teardown),
                cmocka_unit_test_setup_teardown(the_banner_has_what_makes_the_state_doubtful, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_daemon_that_has_never_answered_has_an_empty_state, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(an_answer_that_is_cut_anywhere_leaves_the_last_state, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(without_a_page_there_is_no_request, setup, teardown),
                cmocka_unit_test_setup_teardown(figures_are_read_while_a_page_asks_for_them, setup, teardown),
                cmocka_unit_test_setup_teardown(a_host_that_cannot_send_figures_has_a_note, setup, teardown),
                cmocka_unit_test_setup_teardown(details_are_in_the_words_of_the_daemon, setup, teardown),
                cmocka_unit_test(without_memory_the_last_document_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
