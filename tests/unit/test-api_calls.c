/* Journals and commands about units, between a client, this host and another one: what is run, how much of it
 * at a time, and how a reader that is slow holds up its own child and nothing else. Children and the other
 * host are played. */

#include "tests/lib/test.h"
#include "fleetd/api/remote_command_spec.h"
#include "io/child_uv.h"
#include "tests/lib/quiet_peer.h"
#include "units/json.h"

enum {
        JOURNALS = 32,
        COMMANDS = 16,
        USAGES = 16,
        WINDOW = 256 * 1024,
        PIECE = 32 * 1024,
        CHILDREN_MAX = 64,
        BURST = 16,
};

/* -- Children -- */

struct Child {
        const ChildEvents *events;
        void *userdata;
        ChildOptions options;
        char line[256];
        bool paused, killed, runs;
        Deferred begin;
};

static Child children[CHILDREN_MAX];
static unsigned n_children;
static bool spawn_fails;

static void child_begins(void *userdata) {
        Child *c = userdata;

        if (c->runs && !c->killed)
                c->events->on_begin(c->userdata);
}

int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err);
int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err) {
        Child *c = &children[n_children++ % CHILDREN_MAX];

        assert_false(c->runs);
        if (spawn_fails)
                return error_set(err, -EAGAIN, "cannot run it");
        *c = (Child) { .events = events, .userdata = userdata, .options = *options, .runs = true };
        for (size_t i = 0; argv[i]; i++)
                snprintf(c->line + strlen(c->line), sizeof(c->line) - strlen(c->line), "%s ", argv[i]);
        c->begin = DEFERRED(child_begins, c);
        loop_defer(loop, &c->begin);
        *ret = c;
        return 0;
}

void __wrap_child_pause(Child *child, bool paused);
void __wrap_child_pause(Child *child, bool paused) {
        child->paused = paused;
}

Child *__wrap_child_kill(Child *child);
Child *__wrap_child_kill(Child *child) {
        child->killed = true;
        return NULL;
}

void __wrap_child_stop(Child *child);
void __wrap_child_stop(Child *child) {
        assert_false(child->killed);
        child->killed = true;
}

/* The process of a child that was stopped is gone. */
static void child_is_gone(Child *c) {
        assert_true(c->killed);
        c->runs = false;
        c->events->on_gone(c->userdata);
}

static void child_ends(Child *c, int status) {
        c->runs = false;
        c->events->on_exit(c->userdata, status);
}

static void child_says(Child *c, size_t size) {
        static char bytes[PIECE];

        assert_false(c->paused);
        memset(bytes, 'x', sizeof(bytes));
        assert_true(size <= sizeof(bytes));
        c->events->on_output(c->userdata, bytes, size);
}

/* -- The host -- */

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

#define assert_done(h, call)                                                   \
        do {                                                                   \
                KvStatus status_ = KV_UNKNOWN;                                 \
                void *done_ = &status_;                                        \
                assert_int_equal(call, 0);                                     \
                for (unsigned i_ = 0; i_ < 100 && status_ == KV_UNKNOWN; i_++) \
                        quiet_peer_pass(h, 10);                                \
                assert_int_equal(status_, KV_OK);                              \
        } while (false)

static void have_machine(QuietPeer *h, const char *id, const char *name) {
        Machine m = { .name = (char *) name, .address = (char *) "10.0.0.1", .version = (char *) "0" };

        snprintf(m.id, sizeof(m.id), "%s", id);
        assert_done(h, registry_publish_facts(h->registry, &m, on_done, done_));
}

static void have_state(QuietPeer *h, const char *unit, const char *load) {
        StateChange change = {};

        snprintf(change.unit, sizeof(change.unit), "%s", unit);
        assert_int_equal(unit_state_init(&change.state, load, "active", "running", NULL, 1, false), 0);
        assert_done(h, registry_publish(h->registry, &change, 1, on_done, done_));
        unit_state_done(&change.state);
}

static int host_setup(void **state) {
        QuietPeer *h = quiet_peer_new(false);

        n_children = 0;
        memset(children, 0, sizeof(children));
        have_machine(h, QUIET_PEER_ID, "alpha");
        have_machine(h, QUIET_PEER_OTHER_ID, "beta");
        have_state(h, "web.service", "loaded");
        have_state(h, "own.service", STATE_FOREIGN);
        assert_true(quiet_peer_meet(h));
        *state = h;
        return 0;
}

static int host_teardown(void **state) {
        quiet_peer_free(*state);
        return 0;
}

static const char *ask(QuietPeer *h, const char *method, const char *target) {
        char request[512];

        if (h->client.open)
                quiet_peer_leave(h); /* the one before */
        snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: fleet\r\n\r\n", method, target);
        return (const char *) quiet_peer_request(h, API_SOCKET, request, strlen(request))->bytes;
}

#define assert_says(text, part)                                            \
        do {                                                               \
                if (!strstr(text, part))                                   \
                        fail_msg("\"%s\" is not said in: %s", part, text); \
        } while (false)

/* -- The other host asks -- */

#define PIN "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void peer_calls_on(QuietPeerWire *wire, uint64_t number, RemoteCommandSpec spec, const char *unit) {
        _cleanup_writer_ Writer w = {};

        snprintf(spec.unit, sizeof(spec.unit), "%s", unit);
        assert_int_equal(remote_command_spec_check(&spec, NULL), 0);
        write_u64(&w, number);
        remote_command_spec_write(&spec, &w);
        assert_true(quiet_peer_send_on(wire, PEER_CALL, w.bytes, w.size));
}

static void peer_calls_by(QuietPeer *h, uint64_t number, RemoteCommandSpec spec, const char *unit) {
        peer_calls_on(&h->asking, number, spec, unit);
}

static void peer_calls(QuietPeer *h, uint64_t number, RemoteCommandKind kind, const char *unit, bool follow) {
        peer_calls_by(h, number, (RemoteCommandSpec) { .kind = kind, .follow = follow }, unit);
}

static void peer_grants(QuietPeer *h, uint64_t number, uint64_t bytes) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u64(&w, bytes);
        assert_true(quiet_peer_send(h, PEER_CALL_CREDIT, w.bytes, w.size));
}

static unsigned refused; /* the status of the last refusal */

/* Return the bytes of chunks in 'ret', and the exit status; -1: not yet. An older host skips the chunk of a
 * refusal. */
static int peer_hears(QuietPeer *h, Text *ret) {
        int status = -1;
        Frame f;

        while (quiet_peer_receive(&h->asking, &f)) {
                Reader r = reader_over(f.payload, f.size);
                const void *bytes;
                size_t n;

                (void) read_u64(&r);
                if (f.type == PEER_CALL_CHUNK && (bytes = read_blob(&r, PEER_FRAME_MAX, &n)))
                        text_append_bytes(ret, bytes, n);
                if (f.type == PEER_CALL_CHUNK && r.left > 0) {
                        refused = read_u32(&r);
                        free(read_string(&r, ERROR_MESSAGE_MAX));
                        assert_int_equal(reader_end(&r), 0);
                }
                if (f.type == PEER_CALL_END)
                        status = read_u32(&r);
        }
        return status;
}

static void what_is_the_hosts_own_is_read_but_not_touched(void **state) {
        static const char *const verbs[] = { "kill", "reload", "reset-failed" };
        static const RemoteCommandKind kinds[] = { CALL_KILL, CALL_RELOAD, CALL_RESET_FAILED };
        QuietPeer *h = *state;
        char target[100];

        for (size_t i = 0; i < ELEMENTS(verbs); i++) {
                _cleanup_text_ Text said = {};
                const char *answer;

                snprintf(target, sizeof(target), "/fleet/v1/%s/own.service?machine=" QUIET_PEER_ID, verbs[i]);
                answer = ask(h, "POST", target);
                assert_says(answer, "HTTP/1.1 409");
                assert_says(answer, "own.service on this machine is a unit of the host");
                peer_calls(h, i, kinds[i], "own.service", false);
                assert_int_equal(peer_hears(h, &said), 1);
                assert_string_equal(
                        said.chars,
                        "own.service on this machine is a unit of the host, not of the cluster\n");
                assert_int_equal(n_children, 0);
        }
        assert_says(ask(h, "POST", "/fleet/v1/kill/web.service?machine=" QUIET_PEER_ID), "HTTP/1.1 200");
        assert_int_equal(n_children, 1);
        assert_says(ask(h, "GET", "/fleet/v1/status/own.service?machine=" QUIET_PEER_ID), "HTTP/1.1 200");
        assert_int_equal(n_children, 2);
        assert_says(ask(h, "POST", "/fleet/v1/kill/none.service?machine=" QUIET_PEER_ID), "HTTP/1.1 404");
}

static void a_restricted_host_is_listed_with_its_prefixes(void **state) {
        KvCommand write = { .op = KV_SET,
                            .internal = true,
                            .key = kv_string("/_fleet/cluster/host/" QUIET_PEER_OTHER_ID),
                            .value = kv_string("{\"joined\":1,\"pins\":[\"" PIN
                                               "\"],\"restricted\":true,\"write\":\"/app,/logs\"}") };
        QuietPeer *h = *state;
        const char *answer;

        assert_null(strstr(ask(h, "GET", "/fleet/v1/machines?all=true"), "restricted"));
        assert_done(h,
                    registry_propose(
                            h->registry,
                            &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 },
                            on_done, done_));
        quiet_peer_pass(h, 10);
        answer = ask(h, "GET", "/fleet/v1/machines?all=true");
        assert_says(answer, "\"restricted\":true");
        assert_says(answer, "\"write\":\"/app,/logs\"");
}

static void a_restricted_host_reads_other_hosts_and_a_removed_one_does_not(void **state) {
        static const struct {
                const char *kind, *value;
                bool reads;
        } rows[] = {
                { "host", "{\"joined\":1,\"pins\":[\"" PIN "\"]}", true },
                { "host", "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}", true },
                { "removed", "{\"by\":\"root\",\"index\":1,\"since\":1}", false },
        };
        QuietPeer *h = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                bool restricted = strstr(rows[i].value, "restricted"), kills = rows[i].reads && !restricted;
                _cleanup_text_ Text killed = {}, read = {};
                unsigned before = n_children;
                char key[128], gone[128];
                KvCommand writes[] = { { .op = KV_SET, .internal = true },
                                       { .op = KV_DELETE, .internal = true } };

                snprintf(key, sizeof(key), "/_fleet/cluster/%s/" QUIET_PEER_OTHER_ID, rows[i].kind);
                snprintf(gone, sizeof(gone), "/_fleet/cluster/host/" QUIET_PEER_OTHER_ID);
                writes[0].key = kv_string(key);
                writes[0].value = kv_string(rows[i].value);
                writes[1].key = kv_string(gone);
                assert_done(h, registry_propose(h->registry,
                                                &(KvCommand) { .op = KV_TXN,
                                                               .internal = true,
                                                               .writes = writes,
                                                               .n_writes = rows[i].reads ? 1 : 2 },
                                                on_done, done_));
                quiet_peer_pass(h, 10);
                if (!rows[i].reads) { /* its session has ended; with the key file, it opens another one */
                        quiet_peer_part(h);
                        assert_true(quiet_peer_meet(h));
                }
                (void) peer_hears(h, &killed); /* the end of a call that it may not make any more */
                text_clear(&killed);
                peer_calls(h, 2 * i, CALL_KILL, "web.service", false);
                (void) peer_hears(h, &killed);
                assert_int_equal(n_children - before, kills);
                if (!kills)
                        assert_string_equal(
                                killed.chars,
                                "the other host rejected the request: this host is restricted or removed\n");
                before = n_children;
                peer_calls(h, 2 * i + 1, CALL_STATUS, "web.service", false);
                (void) peer_hears(h, &read);
                assert_int_equal(n_children - before, rows[i].reads);
        }
}

/* The administrator has taken the unit over, and there was no leader to report it to. */
static void what_has_become_the_hosts_is_not_touched_before_the_cluster_knows(void **state) {
        QuietPeer *h = *state;

        h->foreign = "web.service";
        assert_says(ask(h, "POST", "/fleet/v1/kill/web.service?machine=" QUIET_PEER_ID), "HTTP/1.1 409");
        assert_int_equal(n_children, 0);
        assert_says(ask(h, "GET", "/fleet/v1/status/web.service?machine=" QUIET_PEER_ID), "HTTP/1.1 200");
}

static void have_unit(QuietPeer *h, const char *name);

/* The cluster has a unit of this name, on another host. */
static void the_host_that_executes_a_call_decides_whose_a_unit_is(void **state) {
        static const struct {
                RemoteCommandKind kind;
                bool cluster_only;
                const char *foreign, *own; /* the agent knows it; systemd alone does */
                bool reads;
        } rows[] = {
                { CALL_JOURNAL, true, NULL, NULL, true },
                { CALL_JOURNAL, true, "db.service", NULL, false },
                { CALL_JOURNAL, true, NULL, "db.service", false },
                { CALL_STATUS, true, NULL, "db.service", false },
                { CALL_SHOW, true, NULL, "db.service", false },
                { CALL_DEPENDENCIES, true, NULL, "db.service", false },
                { CALL_SHOW, false, NULL, "db.service", true }, /* an operator */
                { CALL_LOG, true, NULL, NULL, true },
        };
        KvCommand restricts = { .op = KV_SET,
                                .internal = true,
                                .key = kv_string("/_fleet/cluster/host/" QUIET_PEER_OTHER_ID),
                                .value = kv_string("{\"joined\":1,\"pins\":[\"" PIN
                                                   "\"],\"restricted\":true}") };
        _cleanup_text_ Text last = {};
        QuietPeer *h = *state;

        have_unit(h, "db.service");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text said = {};
                unsigned before = n_children;

                h->foreign = rows[i].foreign;
                h->own = rows[i].own;
                refused = 0;
                peer_calls_by(
                        h, i,
                        (RemoteCommandSpec) { .kind = rows[i].kind, .cluster_only = rows[i].cluster_only },
                        "db.service");
                assert_int_equal(peer_hears(h, &said), rows[i].reads ? -1 : 1);
                assert_int_equal(n_children - before, rows[i].reads);
                assert_int_equal(refused, rows[i].reads ? 0 : 404);
                if (!rows[i].reads)
                        assert_string_equal(said.chars, "unit does not exist\n");
        }
        /* A restricted host sees what such a user sees. */
        assert_done(h, registry_propose(
                               h->registry,
                               &(KvCommand) {
                                       .op = KV_TXN, .internal = true, .writes = &restricts, .n_writes = 1 },
                               on_done, done_));
        quiet_peer_pass(h, 10);
        h->own = "db.service";
        peer_calls(h, 100, CALL_SHOW, "db.service", false);
        assert_int_equal(peer_hears(h, &last), 1);
        assert_int_equal(refused, 404);
        assert_null(h->systemd.done);
}

static void peer_cancels(QuietPeer *h, uint64_t number) {
        assert_true(quiet_peer_send(h, PEER_CALL_CANCEL, &number, sizeof(number)));
}

/* Another host, a user of this one, and root. */
static void one_caller_leaves_places_to_the_others(void **state) {
        static const char journal[] = "/fleet/v1/journal/web.service?machine=" QUIET_PEER_ID,
                          command[] = "/fleet/v1/status/web.service?machine=" QUIET_PEER_ID;
        _cleanup_text_ Text said = {};
        QuietPeer *h = *state;

        for (unsigned i = 0; i < JOURNALS / 2; i++)
                peer_calls(h, i, CALL_JOURNAL, "web.service", true);
        assert_int_equal(peer_hears(h, &said), -1);
        peer_calls(h, 100, CALL_JOURNAL, "web.service", true);
        assert_int_equal(peer_hears(h, &said), 1);
        assert_int_equal(refused, 503);
        assert_says(said.chars,
                    "16 of 32 places for journals on this host are taken, 16 of them for this user "
                    "or host, which gets no more");
        for (unsigned i = 0; i < COMMANDS / 2; i++)
                peer_calls(h, 200 + i, i % 2 ? CALL_STATUS : CALL_KILL, "web.service", false);
        text_clear(&said);
        peer_calls(h, 300, CALL_STATUS, "web.service", false);
        assert_int_equal(peer_hears(h, &said), 1);
        assert_says(said.chars, "8 of 16 places for commands about units");
        quiet_peer_pass(h, 1000); /* to the starts of the last ones */
        assert_int_equal(n_children, JOURNALS / 2 + COMMANDS / 2);
        assert_says(ask(h, "GET", journal), "HTTP/1.1 200");
        assert_says(ask(h, "GET", command), "HTTP/1.1 200");

        /* A child that was killed has its place until it is gone. */
        peer_cancels(h, 0);
        text_clear(&said);
        peer_calls(h, 301, CALL_JOURNAL, "web.service", true);
        assert_int_equal(peer_hears(h, &said), 1);
        child_is_gone(&children[0]);
        child_ends(&children[JOURNALS / 2], 0);
        peer_calls(h, 400, CALL_JOURNAL, "web.service", true);
        peer_calls(h, 401, CALL_STATUS, "web.service", false);
        assert_int_equal(n_children, JOURNALS / 2 + COMMANDS / 2 + 4);
}

/* A host has as many readers as its users; a user one on each host. The share of the time is the child's own.
 */
static void a_user_reads_the_usage_of_a_host_once_at_a_time(void **state) {
        static const char usage[] = "/fleet/v1/usage?machine=" QUIET_PEER_ID,
                          other[] = "/fleet/v1/usage?machine=" QUIET_PEER_OTHER_ID;
        _cleanup_text_ Text said = {};
        QuietPeer *h = *state;

        for (unsigned i = 0; i < USAGES / 2; i++)
                peer_calls(h, i, CALL_USAGE, "", false);
        assert_int_equal(peer_hears(h, &said), -1);
        peer_calls(h, 100, CALL_USAGE, "", false);
        assert_int_equal(peer_hears(h, &said), 1);
        assert_says(said.chars, "8 of 16 places for readers of usage on this host are taken");
        assert_says(ask(h, "GET", usage), "HTTP/1.1 200");
        assert_int_equal(children[USAGES / 2].options.class, CHILD_BRIEF);
        assert_int_equal(children[USAGES / 2].options.cpu_s, 0);
        assert_says(ask(h, "GET", usage), "HTTP/1.1 503");
        assert_says((const char *) h->client.said.bytes,
                    "this user has one of the readers of usage on this host");
        quiet_peer_leave(h);
        assert_int_equal(n_children, USAGES / 2 + 1);
        assert_true(children[USAGES / 2].killed);
        for (unsigned i = 0; i < 2; i++) { /* the former request has ended, and its call */
                (void) ask(h, "GET", other);
                quiet_peer_pass(h, 3000);
                assert_says((const char *) h->client.said.bytes, "HTTP/1.1 200");
        }
}

/* Five hosts which may not change units, and then one which may. */
static void those_who_only_read_leave_places_to_operators(void **state) {
        static const RemoteCommandSpec reads = { .kind = CALL_JOURNAL, .follow = true, .cluster_only = true };
        QuietPeer *h = *state;
        QuietPeerWire *const wires[] = { &h->third, &h->more[0], &h->more[1], &h->more[2], &h->more[3] };

        have_unit(h, "web.service");
        assert_true(quiet_peer_attach(h));
        for (unsigned i = 0; i < QUIET_PEER_MORE; i++)
                assert_true(quiet_peer_attach_more(h, i));
        for (size_t i = 0; i < ELEMENTS(wires) * JOURNALS; i++)
                peer_calls_on(wires[i / JOURNALS], i, reads, "web.service");
        quiet_peer_pass(h, 1000);
        assert_int_equal(n_children, JOURNALS / 2);
        for (unsigned i = 0; i < JOURNALS; i++)
                peer_calls(h, 1000 + i, CALL_JOURNAL, "web.service", true);
        quiet_peer_pass(h, 1000);
        assert_int_equal(n_children, JOURNALS * 3 / 4);
        assert_says(ask(h, "GET", "/fleet/v1/journal/web.service?machine=" QUIET_PEER_ID), "HTTP/1.1 200");
}

/* Each pair costs its sender 53 bytes. */
static void calls_that_are_cancelled_start_children_at_a_pace(void **state) {
        enum { PAIRS = 10000, SECONDS = 10, STARTS_S = 20 };
        QuietPeer *h = *state;

        for (unsigned i = 0; i < PAIRS; i++) {
                peer_calls(h, i, i % 2 ? CALL_JOURNAL : CALL_STATUS, "web.service", true);
                peer_cancels(h, i);
                if (i % (PAIRS / SECONDS) == 0) {
                        assert_says(ask(h, "GET", "/fleet/v1/status/web.service?machine=" QUIET_PEER_ID),
                                    "HTTP/1.1 200"); /* at once, for another caller */
                        quiet_peer_leave(h);
                        quiet_peer_pass(h, 1000);
                }
                for (unsigned c = 0; c < CHILDREN_MAX; c++)
                        if (children[c].runs && children[c].killed)
                                child_is_gone(&children[c]);
        }
        assert_in_range(n_children, BURST, BURST + STARTS_S * SECONDS + SECONDS);

        /* What waits for its start, and is cancelled, has cost nothing. */
        n_children = 0;
        for (unsigned i = 0; i < BURST + 4; i++)
                peer_calls(h, i, i % 2 ? CALL_JOURNAL : CALL_STATUS, "web.service", true);
        for (unsigned i = 0; i < BURST + 4; i++)
                peer_cancels(h, i);
        quiet_peer_pass(h, 1000);
        assert_in_range(n_children, 0, BURST);
}

static void a_child_waits_for_credit_of_the_host_that_asks(void **state) {
        _cleanup_text_ Text said = {};
        QuietPeer *h = *state;
        size_t sent = 0;

        peer_calls(h, 7, CALL_JOURNAL, "web.service", false);
        peer_grants(h, 7, WINDOW);
        for (; !children[0].paused; sent += PIECE)
                child_says(&children[0], PIECE);
        assert_int_equal(sent, WINDOW);
        peer_grants(h, 8, 10 * WINDOW); /* another one's */
        peer_grants(h, 7, WINDOW / 2);  /* late */
        assert_true(children[0].paused);
        peer_grants(h, 7, WINDOW + 1);
        assert_false(children[0].paused);
        child_says(&children[0], PIECE);
        assert_true(children[0].paused);
        assert_int_equal(peer_hears(h, &said), -1);
        assert_int_equal(said.size, WINDOW + PIECE);
}

static void an_older_host_that_gives_no_credit_gets_all(void **state) {
        _cleanup_text_ Text said = {};
        QuietPeer *h = *state;

        peer_calls(h, 7, CALL_JOURNAL, "web.service", false);
        for (size_t sent = 0; sent < 4 * WINDOW; sent += PIECE)
                child_says(&children[0], PIECE);
        child_ends(&children[0], 3);
        assert_int_equal(peer_hears(h, &said), 3);
        assert_int_equal(said.size, 4 * WINDOW);
}

/* -- This host asks -- */

static RemoteCommandSpec asked_spec;

/* The question that was sent, and the credit behind it. */
static uint64_t asked(QuietPeer *h, uint64_t *ret_credit) {
        uint64_t number = 0;
        Frame f;

        while (quiet_peer_receive(&h->asked, &f)) {
                Reader r = reader_over(f.payload, f.size);

                if (f.type == PEER_CALL) {
                        number = read_u64(&r);
                        assert_int_equal(remote_command_spec_read(&r, &asked_spec), 0);
                }
                if (f.type == PEER_CALL_CREDIT) {
                        (void) read_u64(&r);
                        *ret_credit = read_u64(&r);
                }
                if (f.type == PEER_CALL_CANCEL)
                        *ret_credit = 0;
        }
        return number;
}

static void peer_answers(QuietPeer *h, uint64_t number, size_t size) {
        _cleanup_writer_ Writer w = {};
        _cleanup_free_ char *bytes = malloc(size + 1);

        assert_non_null(bytes);
        memset(bytes, '#', size);
        write_u64(&w, number);
        write_blob(&w, bytes, size);
        (void) quiet_peer_send(h, PEER_CALL_CHUNK, w.bytes, w.size);
}

static void peer_ends(QuietPeer *h, uint64_t number, unsigned status) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u32(&w, status);
        (void) quiet_peer_send(h, PEER_CALL_END, w.bytes, w.size);
}

static bool client_hears(const QuietPeer *h, const char *what) {
        return memmem(h->client.said.bytes, h->client.said.size, what, strlen(what));
}

static void a_refusal_of_another_host_is_an_error_with_its_status(void **state) {
        static const char message[] = "16 of 32 places for journals are taken";
        QuietPeer *h = *state;

        for (unsigned i = 0; i < 3; i++) {
                _cleanup_writer_ Writer w = {};
                uint64_t credit = 0, number;

                assert_string_equal(
                        ask(h, "GET", "/fleet/v1/journal/web.service?machine=" QUIET_PEER_OTHER_ID), "");
                number = asked(h, &credit);
                write_u64(&w, number);
                write_blob(&w, "", 0);
                write_u32(&w, i == 1 ? 12 : 503);
                write_string(&w, message);
                if (i == 2)
                        w.size--; /* cut */
                assert_true(quiet_peer_send(h, PEER_CALL_CHUNK, w.bytes, w.size));
                assert_true(client_hears(h, "HTTP/1.1 503"));
                assert_true(client_hears(h, i < 2 ? message : "the other host rejected the request"));
                peer_answers(h, number, 10); /* for an older host */
                peer_ends(h, number, 1);
                assert_false(client_hears(h, "\"exit\""));
        }
}

static void a_user_without_the_right_to_change_asks_for_units_of_the_cluster(void **state) {
        QuietPeer *h = *state;
        uint64_t credit;

        quiet_peer_grant(h, "1000:units-see");
        have_unit(h, "db.service");
        for (unsigned i = 0; i < 2; i++) {
                h->uid = i ? 1000 : 0;
                (void) ask(h, "GET", "/fleet/v1/show/db.service?machine=" QUIET_PEER_OTHER_ID);
                assert_true(asked(h, &credit) > 0);
                assert_int_equal(asked_spec.cluster_only, i);
        }
        h->own = "db.service";
        assert_says(ask(h, "GET", "/fleet/v1/show/db.service?machine=" QUIET_PEER_ID), "HTTP/1.1 404");
        h->uid = 0;
        assert_says(ask(h, "GET", "/fleet/v1/show/db.service?machine=" QUIET_PEER_ID), "HTTP/1.1 200");
}

static size_t client_has(const QuietPeer *h) {
        size_t n = 0;

        for (size_t i = 0; i < h->client.said.size; i++)
                n += h->client.said.bytes[i] == '#';
        return n;
}

/* Before the first chunk, and after it: the settings are read again, with fewer rights. */
static void a_right_that_ends_ends_the_journal_that_it_permitted(void **state) {
        static const struct {
                const char *rights[2];
                bool streams;
                const char *answer;
        } rows[] = {
                { { "1000:units-see" }, false, "HTTP/1.1 403" },
                { { "1000:units-see" }, true, "HTTP/1.1 200" },
                { { "1000:units-see,units-change", "1000:units-see" }, false, "HTTP/1.1 503" },
                { { "1000:units-see", "1000:units-see,units-change" }, false, "" },
        };
        QuietPeer *h = *state;

        have_unit(h, "db.service");
        h->uid = 1000;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                bool kept = rows[i].answer[0] == 0;
                uint64_t credit = 0, number = 0;

                for (unsigned k = 0; k < 2; k++) {
                        quiet_peer_grant(h, rows[i].rights[k]);
                        quiet_peer_pass(h, 10);
                        if (k == 1)
                                break;
                        (void) ask(h, "GET",
                                   "/fleet/v1/journal/db.service?follow=true&machine=" QUIET_PEER_OTHER_ID);
                        number = asked(h, &credit);
                        if (rows[i].streams)
                                peer_answers(h, number, 10);
                }
                assert_true(client_hears(h, rows[i].answer));
                (void) asked(h, &credit);
                assert_int_equal(credit, kept ? WINDOW : 0); /* 0: cancelled */
                peer_answers(h, number, 3000);
                assert_int_equal(client_has(h), kept ? 3000 : rows[i].streams ? 10 : 0);
        }
}

static void client_reads(QuietPeer *h, bool reads) {
        h->client.base.held = reads ? 0 : 1 << 30;
        if (!reads)
                return;
        h->client.base.events->on_drain(h->client.base.userdata);
        quiet_peer_run(h);
}

static void a_slow_reader_of_another_hosts_journal_loses_nothing(void **state) {
        QuietPeer *h = *state;
        uint64_t credit = 0, number;
        size_t sent = 0;

        (void) ask(h, "GET", "/fleet/v1/journal/web.service?machine=" QUIET_PEER_OTHER_ID);
        number = asked(h, &credit);
        peer_answers(h, number, 0);
        assert_true(client_hears(h, "HTTP/1.1 200"));
        assert_int_equal(credit, WINDOW);
        for (; sent < 3 * WINDOW; sent += PIECE) { /* a fast one */
                assert_true(sent < credit);
                peer_answers(h, number, PIECE);
                (void) asked(h, &credit);
        }
        assert_int_equal(client_has(h), sent);

        client_reads(h, false);
        for (; sent < credit; sent += PIECE) {
                peer_answers(h, number, PIECE);
                (void) asked(h, &credit);
        }
        assert_in_range(sent, 3 * WINDOW + 1, 5 * WINDOW); /* then it gives no more */
        assert_int_equal(client_has(h), 3 * WINDOW);
        client_reads(h, true);
        assert_int_equal(client_has(h), sent);
        (void) asked(h, &credit);
        assert_int_equal(credit, sent + WINDOW);

        client_reads(h, false);
        peer_answers(h, number, PIECE);
        peer_ends(h, number, 5);
        assert_false(client_hears(h, "\"exit\""));
        client_reads(h, true);
        assert_int_equal(client_has(h), sent + PIECE);
        assert_true(client_hears(h, "{\"exit\":5}"));
}

static void a_slow_reader_gets_what_came_before_the_other_host_was_lost(void **state) {
        QuietPeer *h = *state;
        uint64_t credit = 0, number;

        (void) ask(h, "GET", "/fleet/v1/journal/web.service?machine=" QUIET_PEER_OTHER_ID);
        number = asked(h, &credit);
        peer_answers(h, number, 0);
        client_reads(h, false);
        peer_answers(h, number, PIECE);
        assert_true(quiet_peer_meet(h)); /* what was there before ends */
        assert_int_equal(client_has(h), 0);
        client_reads(h, true);
        assert_int_equal(client_has(h), PIECE);
        assert_true(client_hears(h, "the connection to that host was lost"));
        assert_true(client_hears(h, "{\"exit\":255}"));
}

static void an_older_host_that_knows_no_credit_is_held_to_a_bound(void **state) {
        QuietPeer *h = *state;
        uint64_t credit = 0, number;
        size_t sent = 0;

        (void) ask(h, "GET", "/fleet/v1/journal/web.service?machine=" QUIET_PEER_OTHER_ID);
        number = asked(h, &credit);
        assert_false(client_hears(h, "HTTP/1.1"));
        quiet_peer_pass(h, 2000); /* its first output may be late */
        assert_true(client_hears(h, "HTTP/1.1 200"));
        client_reads(h, false);
        for (; credit > 0; sent += PIECE) {
                assert_true(sent <= 4 * WINDOW);
                peer_answers(h, number, PIECE);
                (void) asked(h, &credit); /* 0: cancelled */
        }
        assert_true(sent > WINDOW);
        assert_true(h->client.closing || !h->client.open);
}

/* -- A client of this host -- */

static void have_unit(QuietPeer *h, const char *name) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n";
        Unit *unit = NULL;
        UnitChange change = {};

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, NULL), 0);
        change.unit = unit;
        assert_done(h, registry_change_units(h->registry, &change, 1, on_done, done_));
        unit_free(unit);
}

static void what_is_wrong_with_a_call_is_said(void **state) {
#define WEB "/fleet/v1/journal/web.service?machine=" QUIET_PEER_ID
#define ERROR(status, message) \
        "HTTP/1.1 " status, "{\"error\":{\"code\":" status ",\"message\":\"" message "\"}}"
        static const struct {
                const char *method, *target, *status, *body;
        } rows[] = {
                { "POST", WEB, ERROR("405", "only GET supported against this resource") },
                { "GET", "/fleet/v1/reload/web.service",
                  ERROR("405", "only POST supported against this resource") },
                { "GET", "/fleet/v1/journal/none.service", ERROR("404", "unit does not exist") },
                { "GET", "/fleet/v1/journal/none.service?machine=x", ERROR("404", "unit does not exist") },
                { "GET", "/fleet/v1/journal/idle.service?machine=x",
                  ERROR("404", "machine x does not exist") },
                { "GET", "/fleet/v1/journal/idle.service", ERROR("404", "idle.service is on no machine") },
                { "GET", "/fleet/v1/journal/x?machine=" QUIET_PEER_ID,
                  ERROR("400", "unit name must contain \\\".\\\"") },
                { "GET", WEB "&output=0123456789012345678901234567890",
                  ERROR("400", "output: journalctl has no format '0123456789012345678901234567890'") },
                { "GET", WEB "&output=01234567890123456789012345678901",
                  ERROR("400", "output: longer than 31 bytes") },
                { "GET", WEB "&since=01234567890123456789012345678901234567890123456789012345678901234",
                  ERROR("400", "since: longer than 63 bytes") },
                { "GET", WEB "&until=%21", ERROR("400", "until: expected a time as journalctl(1) takes it") },
                { "GET", WEB "&whom=01234567890123456", ERROR("400", "whom: longer than 15 bytes") },
                { "GET", WEB "&lines=x", ERROR("400", "lines: expected a number up to 100000") },
                { "GET", WEB "&lines=100001", ERROR("400", "lines: expected a number up to 100000") },
                { "GET", WEB "&follow=x", ERROR("400", "follow: expected true or false") },
                { "POST", "/fleet/v1/log", ERROR("405", "only GET supported against this resource") },
                { "GET", "/fleet/v1/log?machine=x", ERROR("404", "machine x does not exist") },
                { "GET", "/fleet/v1/log?lines=100001",
                  ERROR("400", "lines: expected a number up to 100000") },
                { "GET", "/fleet/v1/log?lines=4294967295",
                  ERROR("400", "lines: expected a number up to 100000") },
                { "GET", "/fleet/v1/log?matches=--file%3D%2Fx",
                  ERROR("400",
                        "matches: expected FIELD=VALUE with a field of the journal in capital letters, "
                        "for example UNIT=web.service or _PID=1") },
                { "POST", "/fleet/v1/usage", ERROR("405", "only GET supported against this resource") },
                { "GET", "/fleet/v1/usage?machine=x", ERROR("404", "machine x does not exist") },
                { "GET", "/fleet/v1/usage?interval=1ms", ERROR("400", "interval: expected 1s to 1h") },
                { "GET", "/fleet/v1/usage?interval=2h&machine=" QUIET_PEER_OTHER_ID,
                  ERROR("400", "interval: expected 1s to 1h") },
        };
        QuietPeer *h = *state;

        have_unit(h, "idle.service");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *answer = ask(h, rows[i].method, rows[i].target);

                assert_says(answer, rows[i].status);
                assert_says(answer, rows[i].body);
        }
        assert_int_equal(n_children, 0);
        spawn_fails = true;
        assert_says(ask(h, "GET", WEB), "HTTP/1.1 503");
        assert_says((const char *) h->client.said.bytes, "\"cannot run it\"");
        spawn_fails = false;
        for (unsigned i = 0; i < JOURNALS / 2; i++) /* what failed has taken no place */
                peer_calls(h, i, CALL_JOURNAL, "web.service", true);
        quiet_peer_pass(h, 1000);
        assert_int_equal(n_children, JOURNALS / 2 + 1);

        quiet_peer_part(h);
        assert_says(ask(h, "GET", "/fleet/v1/journal/web.service?machine=" QUIET_PEER_OTHER_ID),
                    "HTTP/1.1 503");
        assert_says((const char *) h->client.said.bytes, "\"beta is lost; the last reported state of "
                                                         "web.service: fleetctl why web.service\"");
        assert_says(ask(h, "GET", "/fleet/v1/log?machine=" QUIET_PEER_OTHER_ID), "HTTP/1.1 503");
        assert_says((const char *) h->client.said.bytes, "\"beta cannot be reached from this host (no "
                                                         "session to it is open)\"");
}

static void what_a_client_asks_for_is_what_is_run(void **state) {
        static const struct {
                const char *method, *target, *line;
        } rows[] = {
                { "GET", "journal/web.service?machine=" QUIET_PEER_ID,
                  "journalctl --no-pager --quiet --merge --lines=10 --output=short --unit web.service " },
                { "GET",
                  "journal/"
                  "web.service?lines=100000&follow=true&output=cat&since=1&until=2&machine=" QUIET_PEER_ID,
                  "journalctl --no-pager --quiet --merge --lines=all --output=cat --since=1 --until=2 "
                  "--follow --unit web.service " },
                { "GET", "log",
                  "journalctl --no-pager --quiet --merge --all --output=json --lines=all --unit "
                  "fleetd.service " },
                { "GET",
                  "log?lines=0&follow=true&priority=3&grep=a%20b&matches=A%3Db%0AC%3Dd&fields=MESSAGE&"
                  "machine=" QUIET_PEER_ID,
                  "journalctl --no-pager --quiet --merge --all --output=json --lines=0 --priority=3 "
                  "--grep=a b --output-fields=MESSAGE --follow --unit fleetd.service A=b C=d " },
                { "GET", "usage?interval=5s&machine=" QUIET_PEER_ID,
                  "/proc/self/exe --usage --interval=5s " },
                { "GET", "status/web.service?machine=" QUIET_PEER_ID,
                  "systemctl --no-pager status --full --lines=10 -- web.service " },
                { "GET", "show/web.service?properties=Id,Names&machine=" QUIET_PEER_ID,
                  "systemctl --no-pager show --property=Id,Names -- web.service " },
                { "GET", "dependencies/web.service?machine=" QUIET_PEER_ID,
                  "systemctl --no-pager list-dependencies -- web.service " },
                { "POST", "reload/web.service?machine=" QUIET_PEER_ID,
                  "systemctl --no-pager reload -- web.service " },
                { "POST", "kill/web.service?signal=SIGHUP&whom=main&machine=" QUIET_PEER_ID,
                  "systemctl --no-pager kill --signal=SIGHUP --kill-whom=main -- web.service " },
                { "POST", "reset-failed/web.service?machine=" QUIET_PEER_ID,
                  "systemctl --no-pager reset-failed -- web.service " },
        };
        QuietPeer *h = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char target[200];

                snprintf(target, sizeof(target), "/fleet/v1/%s", rows[i].target);
                assert_says(ask(h, rows[i].method, target), "HTTP/1.1 200");
                assert_int_equal(n_children, i + 1);
                assert_string_equal(children[i].line, rows[i].line);
                quiet_peer_leave(h);
                assert_true(children[i].killed);
        }
}

/* A field of an exported journal may have any bytes; readers of other formats get text. */
static void an_exported_journal_has_its_bytes(void **state) {
        static const struct {
                const char *output, *data;
        } rows[] = {
                { "export", "\"data64\":\"AP8K\"" },
                { "cat", "\"data\":\"\\u0000\\ufffd\\n\"" },
        };
        QuietPeer *h = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char target[100], line[100];

                snprintf(target, sizeof(target),
                         "/fleet/v1/journal/web.service?output=%s&machine=" QUIET_PEER_ID, rows[i].output);
                assert_says(ask(h, "GET", target), "HTTP/1.1 200");
                children[i].events->on_output(children[i].userdata, "\0\xff\n", 3);
                quiet_peer_run(h);
                snprintf(line, sizeof(line), "{\"machine\":\"" QUIET_PEER_ID "\",%s}\n", rows[i].data);
                assert_true(client_hears(h, line));
                quiet_peer_leave(h);
        }
}

static void a_slow_client_holds_up_the_child_and_gets_all(void **state) {
        QuietPeer *h = *state;

        assert_says(ask(h, "GET", WEB), "HTTP/1.1 200");
        assert_says((const char *) h->client.said.bytes, "Content-Type: application/x-ndjson\r\n");
        children[0].events->on_output(children[0].userdata, "a\"b", 3);
        quiet_peer_run(h);
        assert_true(client_hears(h, "{\"machine\":\"" QUIET_PEER_ID "\",\"data\":\"a\\\"b\"}\n"));
        assert_false(children[0].paused);

        client_reads(h, false);
        children[0].events->on_output(children[0].userdata, "held", 4);
        quiet_peer_run(h);
        assert_true(children[0].paused);
        assert_false(client_hears(h, "held"));
        client_reads(h, true);
        assert_true(client_hears(h, "{\"machine\":\"" QUIET_PEER_ID "\",\"data\":\"held\"}\n"));
        assert_false(children[0].paused);

        children[0].events->on_output(children[0].userdata, "more", 4);
        child_ends(&children[0], 7);
        quiet_peer_run(h);
        assert_true(client_hears(h, "\"more\"}\n"));
        assert_true(client_hears(h, "{\"exit\":7}\n"));
        assert_false(children[0].killed); /* it has ended by itself */
        assert_says(ask(h, "GET", WEB), "HTTP/1.1 200");
}

static void a_host_that_cancels_or_is_lost_ends_its_own_calls_alone(void **state) {
        _cleanup_writer_ Writer cancel = {};
        _cleanup_text_ Text said = {};
        QuietPeer *h = *state;

        peer_calls(h, 5, CALL_JOURNAL, "web.service", true);
        peer_calls(h, 6, CALL_STATUS, "web.service", false);
        assert_says(ask(h, "GET", WEB), "HTTP/1.1 200");
        assert_int_equal(n_children, 3);
        write_u64(&cancel, 5);
        assert_true(quiet_peer_send(h, PEER_CALL_CANCEL, cancel.bytes, cancel.size));
        assert_true(children[0].killed);
        assert_false(children[1].killed || children[2].killed);
        quiet_peer_part(h);
        assert_true(children[1].killed);
        assert_false(children[2].killed);

        assert_true(quiet_peer_meet(h));
        write_u8(&cancel, 99); /* a question in a form that is not known */
        assert_true(quiet_peer_send(h, PEER_CALL, cancel.bytes, cancel.size));
        assert_int_equal(peer_hears(h, &said), 1);
        assert_string_equal(said.chars, "the other host rejected the request: its version may differ\n");
        assert_int_equal(n_children, 3);
}

/* Calls of units of the host itself end, as before they begin. */
static void a_host_that_becomes_restricted_loses_what_it_may_not_read(void **state) {
        KvCommand write = { .op = KV_SET,
                            .internal = true,
                            .key = kv_string("/_fleet/cluster/host/" QUIET_PEER_OTHER_ID),
                            .value = kv_string("{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}") };
        _cleanup_text_ Text said = {};
        QuietPeer *h = *state;

        for (unsigned i = 0; i <= BURST; i++) /* the last one waits for its start */
                peer_calls(h, i, CALL_JOURNAL, "own.service", true);
        assert_int_equal(n_children, BURST);
        assert_done(h,
                    registry_propose(
                            h->registry,
                            &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 },
                            on_done, done_));
        quiet_peer_pass(h, 1000);
        assert_int_equal(n_children, BURST);
        for (unsigned i = 0; i < BURST; i++)
                assert_true(children[i].killed);
        refused = 0;
        assert_int_equal(peer_hears(h, &said), 1);
        assert_int_equal(refused, 403);
}

int main(void) {
#define on_a_host(f) cmocka_unit_test_setup_teardown(f, host_setup, host_teardown)
        const struct CMUnitTest tests[] = {
                on_a_host(what_is_the_hosts_own_is_read_but_not_touched),
                on_a_host(a_restricted_host_is_listed_with_its_prefixes),
                on_a_host(a_restricted_host_reads_other_hosts_and_a_removed_one_does_not),
                on_a_host(what_has_become_the_hosts_is_not_touched_before_the_cluster_knows),
                on_a_host(the_host_that_executes_a_call_decides_whose_a_unit_is),
                on_a_host(a_user_without_the_right_to_change_asks_for_units_of_the_cluster),
                on_a_host(a_right_that_ends_ends_the_journal_that_it_permitted),
                on_a_host(one_caller_leaves_places_to_the_others),
                on_a_host(a_user_reads_the_usage_of_a_host_once_at_a_time),
                on_a_host(those_who_only_read_leave_places_to_operators),
                on_a_host(calls_that_are_cancelled_start_children_at_a_pace),
                on_a_host(a_child_waits_for_credit_of_the_host_that_asks),
                on_a_host(an_older_host_that_gives_no_credit_gets_all),
                on_a_host(a_refusal_of_another_host_is_an_error_with_its_status),
                on_a_host(a_slow_reader_of_another_hosts_journal_loses_nothing),
                on_a_host(a_slow_reader_gets_what_came_before_the_other_host_was_lost),
                on_a_host(an_older_host_that_knows_no_credit_is_held_to_a_bound),
                on_a_host(what_is_wrong_with_a_call_is_said),
                on_a_host(what_a_client_asks_for_is_what_is_run),
                on_a_host(an_exported_journal_has_its_bytes),
                on_a_host(a_slow_client_holds_up_the_child_and_gets_all),
                on_a_host(a_host_that_becomes_restricted_loses_what_it_may_not_read),
                on_a_host(a_host_that_cancels_or_is_lost_ends_its_own_calls_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
