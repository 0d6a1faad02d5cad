/* Requests of hosts without a replica, on a replica: whose they are, the rights that they have, how much of
 * an answer is sent. The other host is played. */
#include <malloc.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/api/forward.h"
#include "io/child_uv.h"
#include "kvstore/command/command.h"
#include "peers/frames.h"
#include "tests/lib/quiet_peer.h"

#define PIN  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ROOT "local:0@" QUIET_PEER_OTHER_ID

/* -- No child is started -- */

int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err);
int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err) {
        return error_set(err, -EAGAIN, "cannot run it");
}

static int host_setup(void **state) {
        QuietPeer *h = quiet_peer_new(false);

        assert_true(quiet_peer_meet(h));
        *state = h;
        return 0;
}

static int host_teardown(void **state) {
        quiet_peer_free(*state);
        return 0;
}

/* Return a request of root on the other host. */
static ForwardRequest request_of(uint32_t number, const char *method, const char *path,
                                 const char *principal) {
        ForwardRequest request = { .number = number, .path = kv_string(path) };

        snprintf(request.method, sizeof(request.method), "%s", method);
        snprintf(request.sender.user, sizeof(request.sender.user), "root");
        assert_int_equal(principal_parse(principal, strlen(principal), &request.sender.principal), 0);
        request.sender.is_operator = streq(principal, ROOT);
        return request;
}

static void grant(QuietPeer *h, uint32_t number, uint64_t total) {
        _cleanup_writer_ Writer w = {};

        write_u32(&w, number);
        write_u64(&w, total);
        assert_true(quiet_peer_send(h, PEER_FORWARD_CREDIT, w.bytes, w.size));
}

static void forward(QuietPeer *h, const ForwardRequest *request) {
        _cleanup_writer_ Writer w = {};

        forward_request_begin(request->number, 7, request->bound, &w);
        forward_request_write(request, &w);
        assert_true(quiet_peer_send(h, PEER_FORWARD, w.bytes, w.size));
        grant(h, request->number, FORWARD_WINDOW);
}

typedef struct Heard {
        unsigned status; /* 0: no head so far */
        bool streams;
        char type[64];
        Text body;
        bool ended;
        ForwardEnding ending;
} Heard;

/* Add the frames about a request that have arrived; those of others are dropped. */
static void hear(QuietPeer *h, uint32_t number, Heard *ret) {
        Frame f;

        while (quiet_peer_receive(&h->asking, &f)) {
                ForwardEnding ending;
                ForwardHead head;
                KvBytes bytes;

                if (f.type == PEER_FORWARD_HEAD) {
                        assert_int_equal(forward_head_read(f.payload, f.size, &head), 0);
                        if (head.number == number) {
                                ret->status = head.status;
                                ret->streams = head.streams;
                                snprintf(ret->type, sizeof(ret->type), "%s", head.type);
                        }
                        free(head.texts);
                } else if (f.type == PEER_FORWARD_CHUNK) {
                        Reader r = reader_over(f.payload, f.size);

                        assert_int_equal(forward_chunk_read(f.payload, f.size, &bytes), 0);
                        if (read_u32(&r) == number)
                                text_append_bytes(&ret->body, bytes.data, bytes.size);
                } else if (f.type == PEER_FORWARD_END) {
                        assert_int_equal(forward_end_read(f.payload, f.size, &ending), 0);
                        if (ending.number == number) {
                                assert_false(ret->ended);
                                ret->ended = true;
                                ret->ending = ending;
                        }
                }
        }
        text_append_bytes(&ret->body, "", 0);
}

/* Forward a request, and return the status of its answer. */
static unsigned status_of(QuietPeer *h, const ForwardRequest *request) {
        Heard heard = {};

        forward(h, request);
        for (unsigned i = 0; i < 200 && !heard.ended; i++) {
                quiet_peer_pass(h, 10);
                hear(h, request->number, &heard);
        }
        text_done(&heard.body);
        assert_true(heard.ended);
        assert_int_equal(heard.ending.end, FORWARD_COMPLETE);
        return heard.status;
}

static void a_request_of_a_client_of_the_host_is_answered(void **state) {
        ForwardRequest request = request_of(1, "GET", "/fleet/v1/cluster", ROOT);
        Heard heard = {};
        QuietPeer *h = *state;

        forward(h, &request);
        hear(h, 1, &heard);
        assert_int_equal(heard.status, 200);
        assert_string_equal(heard.type, "application/json");
        assert_false(heard.streams);
        assert_non_null(strstr(heard.body.chars, "\"name\":\"beta\"")); /* the host that was asked */
        assert_non_null(strstr(heard.body.chars, "\"replica\":\"" QUIET_PEER_ID "\""));
        assert_non_null(strstr(heard.body.chars, "\"role\":\"attached\""));
        assert_true(heard.ended);
        assert_int_equal(heard.ending.end, FORWARD_COMPLETE);
        assert_int_equal(heard.ending.index, kv_index(h->store));
        text_done(&heard.body);
}

static void a_principal_of_another_host_is_rejected(void **state) {
        static const char *const principals[] = {
                "local:0@" QUIET_PEER_ID, "anonymous@" QUIET_PEER_ID, "machine:" QUIET_PEER_OTHER_ID,
                "machine:" QUIET_PEER_ID, "token:0123456789ab",
        };
        QuietPeer *h = *state;

        for (uint32_t i = 0; i < ELEMENTS(principals); i++) {
                ForwardRequest request = request_of(i, "GET", "/fleet/v1/machines", principals[i]);
                Heard heard = {};

                request.sender.is_operator = true;
                forward(h, &request);
                hear(h, i, &heard);
                assert_int_equal(heard.status, 0);
                assert_int_equal(heard.ending.end, FORWARD_REFUSED);
                assert_string_equal(heard.ending.reason, "the request is for a principal of another host");
                text_done(&heard.body);
        }
}

static unsigned n_lines;

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        n_lines++;
}

/* A host may claim any user ID: all requests that it forwards have one limit. */
static void a_host_writes_few_lines_in_the_log(void **state) {
        QuietPeer *h = *state;

        n_lines = 0;
        log_set_sink(on_log, NULL);
        for (uint32_t i = 0; i < 400; i++) {
                char principal[PRINCIPAL_TEXT_SIZE];
                ForwardRequest request;
                Heard heard = {};

                snprintf(principal, sizeof(principal), "local:%u@%s", 1000 + i,
                         i % 2 == 0 ? QUIET_PEER_OTHER_ID : QUIET_PEER_ID);
                request = request_of(i, "DELETE", "/fleet/v1/units/a.service", principal);
                forward(h, &request);
                hear(h, i, &heard);
                assert_true(heard.status == 403 || heard.ending.end == FORWARD_REFUSED);
                text_done(&heard.body);
        }
        log_set_sink(NULL, NULL);
        print_message("%u lines in the log\n", n_lines);
        assert_true(n_lines > 0 && n_lines < 10);
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

static void write_key(QuietPeer *h, const char *key, const char *value) {
        KvCommand write = {
                .op = KV_SET, .internal = true, .key = kv_string(key), .value = kv_string(value)
        };
        KvStatus status = KV_UNKNOWN;

        assert_int_equal(
                registry_propose(
                        h->registry,
                        &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 },
                        on_done, &status),
                0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(status, KV_OK);
        quiet_peer_pass(h, 20); /* the cluster view has it, too */
}

static unsigned submit(QuietPeer *h, uint32_t number, const char *principal) {
        static const char body[] =
                "{\"desiredState\":\"inactive\",\"options\":[{\"section\":\"Service\",\"name\":"
                "\"ExecStart\",\"value\":\"/bin/true\"}]}";
        char path[64];
        ForwardRequest request;

        snprintf(path, sizeof(path), "/fleet/v1/units/u%u.service", (unsigned) number);
        request = request_of(number, "PUT", path, principal);
        request.body = kv_string(body);
        request.n_content_types = 1;
        snprintf(request.content_type, sizeof(request.content_type), "application/json");
        return status_of(h, &request);
}

static unsigned list_units(QuietPeer *h, uint32_t number, const char *principal, const char *right) {
        ForwardRequest request = request_of(number, "GET", "/fleet/v1/units", principal);
        unsigned status;

        if (right)
                assert_int_equal(right_list_add(&request.sender.granted, right, NULL, NULL), 0);
        status = status_of(h, &request);
        right_list_unref(request.sender.granted);
        return status;
}

/* The lesser of the claim and of the rights of the host. */
static void a_sender_has_its_rights_and_no_more_than_its_host(void **state) {
        static const char group[] = "local:1000,100@" QUIET_PEER_OTHER_ID;
        QuietPeer *h = *state;

        assert_int_equal(list_units(h, 1, ROOT, NULL), 200);
        assert_int_equal(list_units(h, 2, group, NULL), 403);
        assert_int_equal(list_units(h, 3, group, "units-see"), 200);
        assert_int_equal(list_units(h, 4, "anonymous@" QUIET_PEER_OTHER_ID, NULL), 403);
        assert_int_equal(list_units(h, 5, "user:ann", "units-see"), 403); /* the tree has no such user */
        assert_int_equal(submit(h, 6, group), 403);
        assert_int_equal(submit(h, 7, ROOT), 201);
        assert_non_null(cluster_unit(registry_cluster(h->registry), "u7.service"));

        write_key(h, "/_fleet/cluster/principal/ann",
                  "{\"pins\":[\"" PIN "\"],\"rights\":[{\"right\":\"units-see\"}]}");
        assert_int_equal(list_units(h, 8, "user:ann", NULL), 200);
        assert_int_equal(submit(h, 9, "user:ann"), 403);

        write_key(h, "/_fleet/cluster/host/" QUIET_PEER_OTHER_ID,
                  "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}");
        assert_int_equal(list_units(h, 10, ROOT, NULL), 200);
        assert_int_equal(submit(h, 11, ROOT), 403);
}

static void a_replica_that_is_behind_says_so_after_a_second(void **state) {
        ForwardRequest request = request_of(1, "GET", "/fleet/v1/machines", ROOT);
        Heard heard = {};
        QuietPeer *h = *state;

        quiet_peer_pass(h, 3000); /* the feature level was raised */
        request.bound = kv_index(h->store) + 1;
        forward(h, &request);
        hear(h, 1, &heard);
        assert_false(heard.ended);
        write_key(h, "/_fleet/cluster/adopting", "1"); /* any change */
        hear(h, 1, &heard);
        assert_int_equal(heard.status, 200);
        text_done(&heard.body);

        heard = (Heard) {};
        request.number = 2;
        request.bound = kv_index(h->store) + 1000;
        forward(h, &request);
        quiet_peer_pass(h, 900);
        hear(h, 2, &heard);
        assert_false(heard.ended);
        quiet_peer_pass(h, 200);
        hear(h, 2, &heard);
        assert_int_equal(heard.status, 0);
        assert_int_equal(heard.ending.end, FORWARD_BEHIND);
        text_done(&heard.body);
}

static void a_stream_is_sent_up_to_its_credit_and_ends_with_its_client(void **state) {
        ForwardRequest request = request_of(1, "GET", "/fleet/v1/events", ROOT);
        _cleanup_writer_ Writer w = {};
        Heard heard = {};
        QuietPeer *h = *state;
        size_t whole;

        forward_request_begin(1, 7, 0, &w);
        forward_request_write(&request, &w);
        assert_true(quiet_peer_send(h, PEER_FORWARD, w.bytes, w.size));
        hear(h, 1, &heard);
        assert_int_equal(heard.status, 200);
        assert_true(heard.streams);
        for (uint32_t i = 10; i < 20; i++)
                assert_int_equal(submit(h, i, ROOT), 201);
        hear(h, 1, &heard);
        assert_int_equal(heard.body.size, 0);

        grant(h, 1, 100);
        hear(h, 1, &heard);
        assert_int_equal(heard.body.size, 100);
        grant(h, 1, 50); /* an older frame takes nothing back */
        hear(h, 1, &heard);
        assert_int_equal(heard.body.size, 100);
        grant(h, 1, FORWARD_WINDOW);
        hear(h, 1, &heard);
        whole = heard.body.size;
        assert_true(whole > 500);
        assert_non_null(strstr(heard.body.chars, "u19.service"));

        writer_done(&w);
        w = (Writer) {};
        write_u32(&w, 1);
        assert_true(quiet_peer_send(h, PEER_FORWARD_CANCEL, w.bytes, w.size));
        assert_int_equal(submit(h, 20, ROOT), 201);
        hear(h, 1, &heard);
        assert_int_equal(heard.body.size, whole);
        assert_false(heard.ended);
        text_done(&heard.body);
}

static void a_reader_that_takes_nothing_is_cut(void **state) {
        ForwardRequest request = request_of(1, "GET", "/fleet/v1/events", ROOT);
        _cleanup_writer_ Writer w = {};
        const RegistryObserver *observer;
        Heard heard = {};
        QuietPeer *h = *state;

        forward_request_begin(1, 7, 0, &w);
        forward_request_write(&request, &w);
        assert_true(quiet_peer_send(h, PEER_FORWARD, w.bytes, w.size));
        observer = TAILQ_FIRST(&h->api->requests)->state;
        for (uint64_t i = 1; i <= 20000 && !heard.ended; i++) {
                observer->on_change(
                        observer->userdata,
                        &(RegistryChange) { .kind = CHANGED_UNIT, .index = i, .unit = "a.service" });
                hear(h, 1, &heard);
        }
        assert_true(heard.ended);
        assert_int_equal(heard.ending.end, FORWARD_CUT);
        assert_string_equal(heard.ending.reason, "the reader of events fell too far behind");
        text_done(&heard.body);
}

static void a_host_has_64_requests_under_way(void **state) {
        QuietPeer *h = *state;
        Heard heard = {};

        for (uint32_t i = 0; i < FORWARDS_MAX; i++) {
                ForwardRequest request = request_of(i, "GET", "/fleet/v1/events", ROOT);

                forward(h, &request);
                if (i == 1) {
                        hear(h, 1, &heard);
                        assert_int_equal(heard.status, 200);
                        forward(h, &request); /* the number is in use */
                        hear(h, 1, &heard);
                        assert_int_equal(heard.ending.end, FORWARD_REFUSED);
                        text_done(&heard.body);
                }
        }
        heard = (Heard) {};
        forward(h, &(ForwardRequest) { 0 }); /* not a request: dropped */
        {
                ForwardRequest request = request_of(100, "GET", "/fleet/v1/machines", ROOT);

                forward(h, &request);
        }
        hear(h, 100, &heard);
        assert_int_equal(heard.ending.end, FORWARD_REFUSED);
        assert_string_equal(heard.ending.reason,
                            "64 requests of this host are under way, which is the limit");
        text_done(&heard.body);

        quiet_peer_hang_up(h); /* they end with their session */
        quiet_peer_pass(h, 10);
        assert_null(TAILQ_FIRST(&h->api->requests));
}

extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated(void) {
        struct mallinfo2 info = mallinfo2();

        return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() :
                                                         info.uordblks + info.hblkhd;
}

/* A restricted host asks 64 times for all units, and takes nothing of the answers. */
static void answers_that_are_not_taken_are_not_kept(void **state) {
        enum {
                UNITS = 100,
                VALUE = 1900,
                HELD_MAX = 4 * 1024 * 1024,
                LARGE = 4000000,
                MOST = 48 * 1024 * 1024
        };
        QuietPeer *h = *state;
        size_t before, held, most = 0;
        char *large = malloc(LARGE);
        char *body = malloc(VALUE + 256);

        assert_non_null(body);
        for (uint32_t i = 0; i < UNITS; i++) {
                int at = sprintf(
                        body, "{\"desiredState\":\"inactive\",\"options\":[{\"section\":\"Service\",\"name\":"
                              "\"ExecStart\",\"value\":\"/bin/true");
                char path[64];
                ForwardRequest request;

                memset(body + at, 'a', VALUE);
                strcpy(body + at + VALUE, "\"}]}");
                snprintf(path, sizeof(path), "/fleet/v1/units/u%u.service", (unsigned) i);
                request = request_of(1000 + i, "PUT", path, ROOT);
                request.body = kv_string(body);
                request.n_content_types = 1;
                snprintf(request.content_type, sizeof(request.content_type), "application/json");
                assert_int_equal(status_of(h, &request), 201);
        }
        free(body);
        write_key(h, "/_fleet/cluster/host/" QUIET_PEER_OTHER_ID,
                  "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}");
        assert_non_null(large);
        memset(large, 'x', LARGE);
        before = allocated();
        for (uint32_t i = 0; i < FORWARDS_MAX; i++) {
                ForwardRequest request = request_of(i, "GET", "/fleet/v1/units", ROOT);
                _cleanup_writer_ Writer w = {};

                request.body = (KvBytes) { large, LARGE };
                forward_request_begin(request.number, 7, 0, &w);
                forward_request_write(&request, &w);
                assert_true(quiet_peer_send(h, PEER_FORWARD, w.bytes, w.size)); /* without credit */
                writer_done(&w);
                w = (Writer) {};
                held = allocated() - before;
                if (held > most && held < SIZE_MAX / 2)
                        most = held;
        }
        print_message("%zu bytes are held for 64 requests\n", most);
        for (unsigned i = 0; i < 600; i++)
                quiet_peer_pass(h, 1000);
        held = allocated() - before;
        print_message("after 10 minutes, %zu bytes are held for 64 requests\n", held);
        free(large);
        assert_true(most < MOST);
        assert_true(held < HELD_MAX || held > SIZE_MAX / 2);
}

/* A key whose value takes 1.4 MiB as JSON. */
static void write_large(QuietPeer *h) {
        enum { VALUE = 240 * 1024 };
        char *value = malloc(VALUE + 1);

        assert_non_null(value);
        memset(value, 1, VALUE); /* six bytes each */
        value[VALUE] = 0;
        write_key(h, "/large", value);
        free(value);
}

/* All of them wait for the same index, while nothing is held. */
static void answers_to_requests_that_waited_are_bounded(void **state) {
        enum { MOST = 48 * 1024 * 1024 };
        QuietPeer *h = *state;
        size_t before, held, most = 0;

        write_large(h);
        before = allocated();
        for (uint32_t i = 0; i < FORWARDS_MAX; i++) {
                ForwardRequest request = request_of(i, "GET", "/v2/keys/large", ROOT);
                _cleanup_writer_ Writer w = {};

                forward_request_begin(request.number, 7, kv_index(h->store) + 1, &w);
                forward_request_write(&request, &w);
                assert_true(quiet_peer_send(h, PEER_FORWARD, w.bytes, w.size)); /* without credit */
        }
        write_key(h, "/small", "1");
        for (unsigned i = 0; i < 200; i++) {
                quiet_peer_pass(h, 10);
                held = allocated() - before;
                if (held > most && held < SIZE_MAX / 2)
                        most = held;
        }
        print_message("%zu bytes are held for 64 requests\n", most);
        assert_true(most > 24 * 1024 * 1024 && most < MOST);
}

/* -- The limit of writes -- */

/* Send a frame of n equal commands of the other host; 'principal' "": of its components. */
static void relay_commands(QuietPeer *h, const KvCommand *cmd, const char *principal, size_t n) {
        _cleanup_writer_ Writer w = {}, command = {};
        static uint64_t number;

        assert_int_equal(kv_command_encode(cmd, KV_LEVEL_MAX, &command), 0);
        write_u8(&w, 1);
        write_u64(&w, 12345); /* origin */
        write_u64(&w, 1);
        write_u8(&w, 0);
        write_varint(&w, n);
        for (size_t i = 0; i < n; i++) {
                write_u64(&w, ++number);
                write_u64(&w, kv_cluster_ms(h->store) + 10000);
                write_blob(&w, command.bytes, command.size);
                write_blob(&w, principal, strlen(principal));
        }
        assert_true(quiet_peer_send(h, PEER_RELAY, w.bytes, w.size));
}

static void relay_writes(QuietPeer *h, size_t n) {
        const KvCommand cmd = { .op = KV_SET, .key = kv_string("/a"), .value = kv_string("1") };

        relay_commands(h, &cmd, ROOT, n);
}

/* n transactions, each with so many writes of a pair of metadata: what the host reports has a lower limit. */
static void relay_metadata(QuietPeer *h, size_t n_writes, size_t n) {
        KvCommand writes[100], txn = { .op = KV_TXN, .internal = true, .writes = writes };

        for (size_t i = 0; i < n_writes; i++)
                writes[i] = (KvCommand) { .op = KV_SET,
                                          .internal = true,
                                          .key = kv_string("/_fleet/machine/" QUIET_PEER_OTHER_ID
                                                           "/metadata/zone"),
                                          .value = kv_string("a") };
        txn.n_writes = n_writes;
        relay_commands(h, &txn, ROOT, n);
}

/* Return how many writes of the frames that have arrived were accepted. */
static size_t n_accepted(QuietPeer *h) {
        size_t n = 0;
        Frame f;

        while (quiet_peer_receive(&h->asking, &f)) {
                Reader r = reader_over(f.payload, f.size);

                if (f.type != PEER_RELAYED)
                        continue;
                (void) read_u8(&r);
                (void) read_u64(&r);
                (void) read_u64(&r);
                if (read_u8(&r) == 0)
                        n += read_varint(&r);
        }
        return n;
}

/* Return the status of the answer that is there at once. */
static unsigned status_at_once(QuietPeer *h, const ForwardRequest *request) {
        Heard heard = {};

        forward(h, request);
        hear(h, request->number, &heard);
        text_done(&heard.body);
        return heard.status;
}

/* The host itself sends less: this one ignores that. */
static void the_writes_of_a_host_and_its_forwarded_requests_have_one_limit(void **state) {
        enum { SENT = 900, WRITES_PER_SECOND = 250, WRITES_BURST = 800 }; /* fleetd(8), Many hosts */
        QuietPeer *h = *state;
        size_t accepted, n_refused = 0;

        relay_writes(h, SENT);
        accepted = n_accepted(h);
        assert_in_range(accepted, WRITES_BURST, WRITES_BURST + WRITES_PER_SECOND / 10);
        for (uint32_t i = 0; i < 2; i++) {
                const char *path = "/fleet/v1/units/none.service";
                ForwardRequest change = request_of(1 + i, "DELETE", path, ROOT),
                               read = request_of(11 + i, "GET", path, ROOT);

                assert_int_equal(status_at_once(h, &change), i == 0 ? 503 : 404);
                assert_int_equal(status_at_once(h, &read), 404);
                quiet_peer_pass(h, 1000);
        }
        for (uint32_t i = 0; i < SENT; i++) {
                ForwardRequest change = request_of(100 + i, "DELETE", "/fleet/v1/units/none.service", ROOT);

                if (status_at_once(h, &change) == 503)
                        n_refused++;
        }
        assert_true(n_refused > 0 && n_refused < SENT);
        relay_writes(h, SENT);
        assert_in_range(n_accepted(h), 0, WRITES_PER_SECOND / 10);
}

/* The host itself sets that a command is of its components. They have a limit of their own, by the weight of
 * their commands: so many writes of users have no effect on it. */
static void the_components_of_a_host_have_a_limit_by_weight(void **state) {
        enum { PER_SECOND = 250, BURST = 800, WRITES = 19 /* as 20 */ };
        QuietPeer *h = *state;

        relay_metadata(h, 1, 900);
        assert_in_range(n_accepted(h), BURST, BURST + PER_SECOND / 10);
        relay_metadata(h, 1, 900);
        assert_in_range(n_accepted(h), 0, PER_SECOND / 10);
        relay_writes(h, 100);
        assert_int_equal(n_accepted(h), 100);
        quiet_peer_pass(h, 1000);
        (void) n_accepted(h);
        relay_metadata(h, 1, 900);
        assert_in_range(n_accepted(h), PER_SECOND, PER_SECOND + PER_SECOND / 10);
        quiet_peer_pass(h, 1000 * BURST / PER_SECOND);
        (void) n_accepted(h);
        relay_metadata(h, WRITES, 450);
        assert_in_range(n_accepted(h), BURST / 2, 1 + (BURST + PER_SECOND / 10) / 2);
}

static int count_row(void *userdata, const KvHistoryRow *row) {
        HistoryEvent e;

        assert_int_equal(history_decode(row->body, &e), 0);
        *(size_t *) userdata += streq(e.machine, QUIET_PEER_OTHER_ID);
        return 1;
}

/* The history is common to all hosts: one of them does not push out the rows of the others. */
static void a_host_adds_a_limited_number_of_rows_to_the_history(void **state) {
        enum { ROWS = 100, COMMANDS = 50, BURST = 3000 };
        static const char key[] = "/_fleet/state/x.service/" QUIET_PEER_OTHER_ID;
        static uint8_t bodies[ROWS][KV_NOTE_MAX];
        KvCommand writes[ROWS], txn = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = ROWS };
        QuietPeer *h = *state;
        size_t n = 0;

        quiet_peer_pass(h, 1000); /* the feature level is raised */
        (void) n_accepted(h);
        for (size_t c = 0; c < COMMANDS; c++) {
                for (size_t i = 0; i < ROWS; i++) {
                        char reason[32];
                        HistoryNote note = { .kind = HISTORY_STATE,
                                             .unit = "x.service",
                                             .machine = QUIET_PEER_OTHER_ID,
                                             .reason = reason };

                        snprintf(reason, sizeof(reason), "%zu of %zu", i, c);
                        writes[i] = (KvCommand) { .op = KV_SET,
                                                  .internal = true,
                                                  .key = kv_string(key),
                                                  .value = kv_string("{\"active\":\"active\"}"),
                                                  .note = { 1 + c, { bodies[i], 0 } } };
                        writes[i].note.body.size = history_encode(&note, false, bodies[i]);
                }
                relay_commands(h, &txn, "", 1);
        }
        quiet_peer_pass(h, 500);
        assert_int_equal(n_accepted(h), COMMANDS);
        assert_int_equal(kv_local_history(h->store, 0, false, count_row, &n), 0);
        assert_in_range(n, BURST, BURST + ROWS);
}

/* -- Cost -- */

/* Send the request in the current turn, and do not end that. */
static void put_on(QuietPeerWire *wire, const ForwardRequest *request) {
        _cleanup_writer_ Writer w = {};

        forward_request_begin(request->number, 7, request->bound, &w);
        forward_request_write(request, &w);
        quiet_peer_put_on(wire, PEER_FORWARD, w.bytes, w.size);
}

/* Return how many answers have begun on the wire; *ret_cut is set to how many have ended early. */
static unsigned answers_on(QuietPeerWire *wire, unsigned *ret_cut) {
        unsigned n = 0;
        Frame f;

        *ret_cut = 0;
        while (quiet_peer_receive(wire, &f)) {
                ForwardEnding ending;

                n += f.type == PEER_FORWARD_HEAD;
                if (f.type != PEER_FORWARD_END)
                        continue;
                assert_int_equal(forward_end_read(f.payload, f.size, &ending), 0);
                *ret_cut += ending.end == FORWARD_CUT;
        }
        return n;
}

/* Three hosts take nothing of their answers: when a fourth one waits, the oldest one of the first ends. */
static void answers_to_all_hosts_are_bounded_and_others_get_their_places(void **state) {
        static const char *const roots[] = { ROOT, "local:0@00000000000000000000000000000000",
                                             "local:0@11111111111111111111111111111111",
                                             "local:0@22222222222222222222222222222222" };
        static const unsigned n_requests[] = { 24, 24, 11, 1 }, n_answers[] = { 23, 12, 11, 0 };
        enum { LAST = ELEMENTS(roots) - 1 };
        QuietPeer *h = *state;
        QuietPeerWire *const wires[] = { &h->asking, &h->more[0], &h->more[1], &h->more[2] };
        unsigned cut;

        write_large(h);
        for (unsigned host = 0; host <= LAST; host++) {
                if (host > 0)
                        assert_true(quiet_peer_attach_more(h, host - 1));
                for (uint32_t i = 0; i < n_requests[host]; i++) {
                        ForwardRequest request = request_of(i, "GET", "/v2/keys/large", roots[host]);

                        request.sender.is_operator = true;
                        put_on(wires[host], &request);
                        quiet_peer_pass(h, 1);
                }
                assert_int_equal(answers_on(wires[host], &cut), n_answers[host]);
        }
        {
                ForwardRequest request = request_of(1, "GET", "/fleet/v1/machines", roots[LAST]);

                request.sender.is_operator = true;
                put_on(wires[LAST], &request); /* commands do not wait for keys */
                quiet_peer_pass(h, 1);
                assert_int_equal(answers_on(wires[LAST], &cut), 1);
        }
        for (unsigned i = 0; i < 60; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(answers_on(wires[LAST], &cut), 1);
        for (unsigned host = 0; host < LAST; host++) {
                (void) answers_on(wires[host], &cut);
                assert_int_equal(cut, host == 0 ? 1 : 0);
        }
}

/* Return the numbers of the requests whose answers have arrived, as digits. */
static const char *answered_on(QuietPeerWire *wire, char ret[static 16]) {
        size_t n = 0;
        Frame f;

        while (quiet_peer_receive(wire, &f)) {
                ForwardHead head;

                if (f.type != PEER_FORWARD_HEAD)
                        continue;
                assert_int_equal(forward_head_read(f.payload, f.size, &head), 0);
                assert_true(n < 15);
                ret[n++] = (char) ('0' + head.number);
                free(head.texts);
        }
        ret[n] = 0;
        return ret;
}

static void a_turn_without_budget_begins_one_request(void **state) {
        QuietPeer *h = *state;
        char numbers[16];

        (void) turns_end_work(&h->loop.turns);
        loop_count(&h->loop, 0, TURN_WORK_MAX);
        for (uint32_t i = 1; i <= 5; i++) {
                ForwardRequest request = request_of(i, "GET", "/fleet/v1/machines", ROOT);

                put_on(&h->asking, &request);
        }
        assert_string_equal(answered_on(&h->asking, numbers), "1");
        (void) turns_end_work(&h->loop.turns);
        loop_count(&h->loop, 0, TURN_WORK_MAX);
        (void) loop_run_due(&h->loop, 100);
        assert_string_equal(answered_on(&h->asking, numbers), "2");

        /* A request that arrives in a turn with budget does not precede those that wait. */
        (void) turns_end_work(&h->loop.turns);
        {
                ForwardRequest last = request_of(6, "GET", "/fleet/v1/machines", ROOT);

                put_on(&h->asking, &last);
        }
        assert_string_equal(answered_on(&h->asking, numbers), "");
        (void) loop_run_due(&h->loop, 100);
        assert_string_equal(answered_on(&h->asking, numbers), "3456");
}

static void sessions_take_turns(void **state) {
        QuietPeer *h = *state;
        char numbers[16];

        assert_true(quiet_peer_attach(h));
        (void) turns_end_work(&h->loop.turns);
        loop_count(&h->loop, 0, TURN_WORK_MAX);
        for (uint32_t i = 1; i <= 6; i++) {
                bool third = i > 4;
                ForwardRequest request = request_of(i, "GET", "/fleet/v1/machines",
                                                    third ? "local:0@" QUIET_PEER_THIRD_ID : ROOT);

                put_on(third ? &h->third : &h->asking, &request);
        }
        assert_string_equal(answered_on(&h->asking, numbers), "1");
        for (unsigned i = 0; i < 4; i++) {
                static const char *const next[] = { "", "5", "", "6" }, *const own[] = { "2", "", "3", "" };

                (void) turns_end_work(&h->loop.turns);
                loop_count(&h->loop, 0, TURN_WORK_MAX);
                (void) loop_run_due(&h->loop, 100);
                assert_string_equal(answered_on(&h->third, numbers), next[i]);
                assert_string_equal(answered_on(&h->asking, numbers), own[i]);
        }
}

static void a_body_has_the_limit_of_its_route(void **state) {
        enum { SIZE = 1024 * 1024 + 1 };
        ForwardRequest request = request_of(1, "POST", "/fleet/v1/plan", ROOT);
        char *body = malloc(SIZE);

        assert_non_null(body);
        memset(body, ' ', SIZE);
        request.body = (KvBytes) { body, SIZE };
        assert_int_equal(status_of(*state, &request), 413);
        request.number++;
        request.body.size--;
        assert_int_equal(status_of(*state, &request), 400);
        free(body);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, host_setup, host_teardown)
                TEST(a_request_of_a_client_of_the_host_is_answered),
                TEST(a_principal_of_another_host_is_rejected),
                TEST(a_host_writes_few_lines_in_the_log),
                TEST(a_sender_has_its_rights_and_no_more_than_its_host),
                TEST(a_replica_that_is_behind_says_so_after_a_second),
                TEST(a_stream_is_sent_up_to_its_credit_and_ends_with_its_client),
                TEST(a_reader_that_takes_nothing_is_cut),
                TEST(a_host_has_64_requests_under_way),
                TEST(answers_that_are_not_taken_are_not_kept),
                TEST(answers_to_requests_that_waited_are_bounded),
                TEST(the_writes_of_a_host_and_its_forwarded_requests_have_one_limit),
                TEST(the_components_of_a_host_have_a_limit_by_weight),
                TEST(a_host_adds_a_limited_number_of_rows_to_the_history),
                TEST(a_turn_without_budget_begins_one_request),
                TEST(answers_to_all_hosts_are_bounded_and_others_get_their_places),
                TEST(sessions_take_turns),
                TEST(a_body_has_the_limit_of_its_route),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
