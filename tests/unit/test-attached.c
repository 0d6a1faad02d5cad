/* A host without a replica, and a replica that does not do what it should: it is behind, does not answer,
 * sends old states, or frames that no replica sends. The replica is played. */

#include "tests/lib/test.h"
#include "kvstore/remote_frames.h"
#include "kvstore/result_frame.h"
#include "tests/lib/commands.h"
#include "tests/lib/quiet_peer.h"

enum { CLUSTER = 7, LINEAGE = 7, INDEX = 100, CLUSTER_MS = 1000000, STEP_MS = 100, HOUR_MS = 3600000 };

#define FACTS "/_fleet/machine/" QUIET_PEER_ID "/facts"

/* -- The replica -- */

/* What it does with each request. */
typedef struct Replica {
        QuietPeer *host;
        uint64_t index, cluster_ms;
        bool silent;           /* it answers no heartbeat */
        bool behind;           /* it has not reached what the host has seen */
        bool busy;             /* it has as many reads as it takes */
        bool in_parts;         /* its first events of a watch are not all */
        uint32_t slice;        /* number of the subscription to the slice; 0: none */
        unsigned n_subscribed; /* requests so far */
        unsigned n_watched, n_ended, n_relayed, n_proposals; /* n_relayed: frames of these */
        uint32_t watch;                                      /* number of the last subscription to keys, */
        uint64_t since;                                      /* and where it begins */
        uint64_t origin, proposal;                           /* of the last proposal */
} Replica;

static void says(Replica *p, PeerFrame type, Writer *w) {
        assert_int_equal(w->error, 0);
        (void) quiet_peer_send_on(&p->host->asked, type, w->bytes, w->size);
        writer_done(w);
}

static void says_current(Replica *p) {
        const RemoteCurrent current = { .cluster_id = CLUSTER,
                                        .lineage = LINEAGE,
                                        .index = p->slice > 0 ? p->index : 0,
                                        .events = p->index,
                                        .term = 1,
                                        .leader_id = 2,
                                        .leader = QUIET_PEER_OTHER_ID,
                                        .cluster_ms = p->cluster_ms + p->host->now_ms,
                                        .level = KV_LEVEL_ATTACHED,
                                        .members = { { .raft_id = 2 } },
                                        .n_members = 1 };
        Writer w = {};

        remote_current_write(&current, &w);
        says(p, PEER_CURRENT, &w);
}

/* Send a page of the slice at an index, with one node; 'modified' 0: with none. */
static void says_page(Replica *p, uint64_t index, uint64_t modified, const char *value) {
        const RemoteItem item = { .kind = REMOTE_NODE,
                                  .node = { .key = kv_string(FACTS),
                                            .value = kv_string(value),
                                            .created = 1,
                                            .modified = modified } };
        Writer w = {};

        remote_page_write(&(RemotePage) { .number = p->slice, .index = index, .lineage = LINEAGE }, &w);
        if (modified > 0)
                remote_item_write(&item, &w);
        says(p, PEER_PAGE, &w);
}

/* An event in a page of 'index'; 0: of a part of the events. */
static void says_events(Replica *p, uint32_t number, uint64_t index, uint64_t event) {
        const RemoteItem item = { .kind = REMOTE_EVENT,
                                  .event = { .action = KV_ACTION_SET,
                                             .index = event,
                                             .node = { .key = kv_string("/a"), .modified = event } } };
        Writer w = {};

        remote_page_write(&(RemotePage) { .number = number, .index = index, .lineage = LINEAGE }, &w);
        remote_item_write(&item, &w);
        says(p, PEER_EVENTS, &w);
}

static void says_event(Replica *p, uint32_t number, uint64_t index) {
        says_events(p, number, index, index);
}

static void says_gone(Replica *p, uint32_t number, RemoteGone cause) {
        Writer w = {};

        remote_end_write(&(RemoteEnd) { .number = number, .cause = cause, .index = p->index }, &w);
        says(p, PEER_GONE, &w);
}

static void take_subscribe(Replica *p, const Frame *f) {
        RemoteSubscribe s;
        Writer w = {};

        assert_int_equal(remote_subscribe_read(f->payload, f->size, &s), 0);
        p->n_subscribed++;
        if (p->behind) {
                says_gone(p, s.number, REMOTE_GONE_BEHIND);
                return;
        }
        if (s.kind == REMOTE_SLICE) {
                p->slice = s.number;
                says_page(p, p->index, 0, "");
                return;
        }
        p->n_watched++;
        p->watch = s.number;
        p->since = s.since;
        remote_page_write(
                &(RemotePage) { .number = s.number, .index = p->in_parts ? 0 : p->index, .lineage = LINEAGE },
                &w);
        says(p, PEER_EVENTS, &w);
}

/* A read finds nothing, at the index of the replica. */
static void take_read(Replica *p, const Frame *f) {
        RemoteRead read;
        Writer w = {};

        assert_int_equal(remote_read_read(f->payload, f->size, &read), 0);
        remote_found_write(&(RemoteFound) { .number = read.number,
                                            .error = p->behind               ? -EAGAIN :
                                                     p->busy                 ? -EBUSY :
                                                     read.kind == REMOTE_GET ? -ENOENT :
                                                                               0,
                                            .index = p->index,
                                            .missing = read.key },
                           &w);
        says(p, PEER_FOUND, &w);
}

static void relayed_head(const Replica *p, uint8_t kind, Writer *w) {
        write_u8(w, 1);
        write_u64(w, p->origin);
        write_u64(w, p->cluster_ms + p->host->now_ms);
        write_u8(w, kind);
}

/* Accept each proposal. */
static void take_relay(Replica *p, const Frame *f) {
        Reader r = reader_over(f->payload, f->size);
        uint64_t n;
        Writer w = {};

        (void) read_u8(&r);
        p->origin = read_u64(&r);
        (void) read_u64(&r);
        (void) read_u8(&r);
        n = read_varint(&r);
        assert_true(n > 0);
        p->n_relayed++;
        relayed_head(p, 0, &w);
        write_varint(&w, n);
        for (uint64_t i = 0; i < n; i++) {
                size_t size;

                p->proposal = read_u64(&r);
                (void) read_u64(&r);
                (void) read_blob(&r, KV_COMMAND_MAX, &size);
                (void) read_blob(&r, KV_PRINCIPAL_MAX, &size);
                write_u64(&w, p->proposal);
                p->n_proposals++;
        }
        assert_false(r.failed);
        says(p, PEER_RELAYED, &w);
}

static void says_result(Replica *p, const KvResult *result) {
        Writer w = {};

        relayed_head(p, 1, &w);
        write_u64(&w, p->proposal);
        result_frame_write(result, &w);
        says(p, PEER_RELAYED, &w);
}

static void answer(Replica *p) {
        Frame f;

        while (p->host->asked.open && quiet_peer_receive(&p->host->asked, &f)) {
                _cleanup_free_ void *payload = malloc(f.size + 1);
                Frame own = { .type = f.type, .payload = payload, .size = f.size };

                memcpy(payload, f.payload, f.size); /* an answer may make the host send more */
                if (f.type == PEER_SUBSCRIBE)
                        take_subscribe(p, &own);
                else if (f.type == PEER_UNSUBSCRIBE)
                        p->n_ended++;
                else if (f.type == PEER_READ)
                        take_read(p, &own);
                else if (f.type == PEER_RELAY)
                        take_relay(p, &own);
        }
}

/* Let time pass: the replica answers. */
static void pass(Replica *p, uint64_t ms) {
        for (uint64_t i = 0; i < ms; i += STEP_MS) {
                if (!p->silent && p->host->asked.open)
                        says_current(p);
                quiet_peer_run(p->host);
                answer(p);
                quiet_peer_pass(p->host, STEP_MS);
                answer(p);
        }
}

static void meet(Replica *p) {
        assert_true(quiet_peer_meet(p->host));
        kv_attach(p->host->store, QUIET_PEER_OTHER_ID);
        p->slice = 0;
        pass(p, STEP_MS);
}

static KvState state_of(const Replica *p) {
        KvState state;

        kv_state(p->host->store, &state);
        return state;
}

static int attached_setup(void **state) {
        static Replica replica;

        replica = (Replica) { .host = quiet_peer_new(true), .index = INDEX, .cluster_ms = CLUSTER_MS };
        meet(&replica);
        pass(&replica, 1000);
        assert_true(state_of(&replica).attached && state_of(&replica).ready);
        *state = &replica;
        return 0;
}

static int attached_teardown(void **state) {
        Replica *p = *state;

        quiet_peer_free(p->host);
        return 0;
}

/* -- The clients of the host -- */

typedef struct Read {
        KvGet get;
        bool done;
        int result;
        uint64_t index;
} Read;

static void on_read(void *userdata, int result, const KvFound *found) {
        Read *read = userdata;

        read->done = true;
        read->result = result;
        read->index = found ? found->index : 0;
}

static void begin_read(Replica *p, Read *read) {
        *read = (Read) { .get = { .key = kv_string("/a"), .done = on_read, .userdata = read } };
        kv_get(p->host->store, &read->get);
}

typedef struct Write {
        bool done;
        KvStatus status;
} Write;

static void on_written(void *userdata, const KvResult *result) {
        *(Write *) userdata = (Write) { true, result->status };
}

static void begin_write(Replica *p, Write *write) {
        const KvCommand cmd = SET("/a", "1");
        uint64_t number;

        *write = (Write) {};
        assert_int_equal(kv_propose(p->host->store, &cmd, on_written, write, &number), 0);
}

typedef struct Watch {
        KvWatch *watch;
        uint64_t last;
        unsigned n, n_cleared;
} Watch;

static void on_event(void *userdata, KvWatchEvent *event) {
        Watch *w = userdata;

        assert_true(event->event.index > w->last);
        w->last = event->event.index;
        w->n++;
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Watch *w = userdata;

        w->n_cleared++;
        w->watch = NULL;
}

static int watch_at(Replica *p, const char *key, uint64_t since, Watch *ret) {
        static const KvWatchOps ops = { .on_event = on_event, .on_cleared = on_cleared };
        const KvWatchOptions options = { .key = kv_string(key), .since = since };
        uint64_t oldest;

        *ret = (Watch) {};
        return kv_watch(p->host->store, &options, &ops, ret, &ret->watch, &oldest);
}

static int take_value(void *userdata, const KvNode *node) {
        snprintf(userdata, 16, "%.*s", (int) node->value.size, (const char *) node->value.data);
        return 1;
}

static void assert_facts(Replica *p, const char *value) {
        char facts[16] = "";

        (void) kv_local_get(p->host->store, kv_string(FACTS), take_value, facts);
        assert_string_equal(facts, value);
}

/* -- A replica that is behind -- */

static void a_replica_that_is_behind_for_ever_is_asked_a_few_times_a_second(void **state) {
        Replica *p = *state;
        Write write;
        Read read;

        p->behind = true;
        says_gone(p, p->slice, REMOTE_GONE_BEHIND);
        p->n_subscribed = 0;
        begin_read(p, &read);
        pass(p, 1400);
        assert_false(read.done);
        pass(p, 600);
        assert_true(read.done);
        assert_int_equal(read.result, -ETIMEDOUT);
        assert_in_range(p->n_subscribed, 2, 10);
        pass(p, 8000);
        assert_in_range(p->n_subscribed, 4, 20);
        assert_false(state_of(p).ready);

        p->behind = false;
        pass(p, 3000);
        assert_true(state_of(p).ready);
        begin_write(p, &write);
        pass(p, STEP_MS);
        says_result(p, &(KvResult) { .index = INDEX + 1 });
        assert_true(write.done && write.status == KV_OK);
}

static void an_answer_that_is_older_than_what_the_host_has_seen_is_not_taken(void **state) {
        Replica *p = *state;
        Read read;

        p->index = INDEX + 10;
        begin_read(p, &read);
        pass(p, STEP_MS);
        assert_true(read.done && read.index == INDEX + 10);
        p->index = INDEX + 5;
        begin_read(p, &read);
        pass(p, 1000);
        assert_false(read.done);
        p->index = INDEX + 11;
        pass(p, 500);
        assert_true(read.done && read.index == INDEX + 11);
}

static void a_read_that_the_replica_has_no_room_for_is_sent_again(void **state) {
        Replica *p = *state;
        Read read;

        p->busy = true;
        begin_read(p, &read);
        pass(p, 1000);
        assert_false(read.done);
        p->busy = false;
        pass(p, 500);
        assert_true(read.done && read.index == INDEX);
}

/* -- A replica that accepts, and never answers -- */

static void a_write_that_is_accepted_and_never_answered_has_an_unknown_outcome(void **state) {
        Replica *p = *state;
        Write write;

        begin_write(p, &write);
        pass(p, 5000);
        assert_false(write.done);
        pass(p, 6000);
        assert_true(write.done);
        assert_int_equal(write.status, KV_UNKNOWN);
        assert_in_range(p->n_relayed, 1, 8);
}

/* The cause of a failed comparison has both values; and a result that cannot be read is none. */
static void each_result_of_a_write_is_taken(void **state) {
        static const char values[KV_CAUSE_MAX + 1];
        static const size_t sizes[] = { 0, ERROR_MESSAGE_MAX + 1, KV_CAUSE_MAX, KV_CAUSE_MAX + 1 };
        Replica *p = *state;

        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                Write write;

                begin_write(p, &write);
                pass(p, 200);
                says_result(p, &(KvResult) { .status = KV_COMPARE_FAILED,
                                             .index = INDEX,
                                             .cause = { values, sizes[i] } });
                pass(p, STEP_MS);
                assert_true(write.done);
                assert_int_equal(write.status, sizes[i] <= KV_CAUSE_MAX ? KV_COMPARE_FAILED : KV_UNKNOWN);
        }
}

/* A replica rejects what is above a higher limit: this host sends its reports no faster. */
static void the_reports_of_the_host_are_sent_at_a_pace(void **state) {
        enum { N = 600, BURST = 400, PER_SECOND = 200 };
        const KvCommand cmd = COMMAND(KV_SET, FACTS, .internal = true), of_user = SET("/a", "1");
        static Write written;
        Replica *p = *state;
        Write write = {};
        uint64_t number;

        pass(p, 3000);
        p->n_proposals = 0;
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(kv_propose(p->host->store, &cmd, on_written, &written, NULL), 0);
        pass(p, 100);
        assert_in_range(p->n_proposals, BURST, BURST + PER_SECOND / 5);
        assert_int_equal(kv_propose(p->host->store, &of_user, on_written, &write, &number), 0);
        pass(p, STEP_MS);
        p->proposal = number;
        says_result(p, &(KvResult) { .index = INDEX + 1 });
        assert_true(write.done && write.status == KV_OK);
        pass(p, 500);
        assert_in_range(p->n_proposals, BURST + PER_SECOND / 2, N - 1);
        pass(p, 600);
        assert_int_equal(p->n_proposals, N + 1);
        assert_false(written.done);
}

/* The former replica has it, and may have proposed it. */
static void a_write_that_the_next_replica_refuses_has_an_unknown_outcome(void **state) {
        Replica *p = *state;
        Write write;

        begin_write(p, &write);
        pass(p, 200);
        assert_int_equal(p->n_relayed, 1);
        quiet_peer_part(p->host);
        meet(p);
        pass(p, 200);
        assert_int_equal(p->n_relayed, 2);
        says_result(p, &(KvResult) { .status = KV_NO_LEADER });
        pass(p, 2000);
        assert_true(write.done);
        assert_int_equal(write.status, KV_UNKNOWN);

        begin_write(p, &write);
        pass(p, 200);
        says_result(p, &(KvResult) { .status = KV_NO_LEADER });
        assert_true(write.done && write.status == KV_NO_LEADER);
}

/* The copy of the former replica may have been applied before the deadline, and its result dropped since. */
static void a_write_that_comes_too_late_to_the_next_replica_has_an_unknown_outcome(void **state) {
        const KvResult late = { .status = KV_LATE, .index = INDEX, .now_ms = CLUSTER_MS + HOUR_MS };
        Replica *p = *state;
        Write write;

        begin_write(p, &write);
        pass(p, 200);
        quiet_peer_part(p->host);
        meet(p);
        pass(p, 200);
        assert_int_equal(p->n_relayed, 2);
        says_result(p, &late);
        assert_true(write.done);
        assert_int_equal(write.status, KV_UNKNOWN);

        begin_write(p, &write); /* with one copy, it is sent again */
        pass(p, 200);
        says_result(p, &late);
        pass(p, 200);
        assert_false(write.done);
        assert_int_equal(p->n_relayed, 4);
        says_result(p, &(KvResult) { .index = INDEX + 1 });
        assert_true(write.done && write.status == KV_OK);
}

/* -- A replica that sends what is past -- */

static void a_page_of_the_past_does_not_take_the_slice_back(void **state) {
        Replica *p = *state;

        says_page(p, INDEX + 10, INDEX + 9, "new");
        assert_facts(p, "new");
        says_page(p, INDEX + 5, INDEX + 4, "old");
        pass(p, 500);
        assert_facts(p, "new");
        p->index = INDEX + 11;
        pass(p, 3000);
        assert_true(state_of(p).ready);
}

static void events_of_the_past_are_dropped(void **state) {
        Replica *p = *state;
        Watch watch;

        assert_int_equal(watch_at(p, "/a", 0, &watch), 0);
        pass(p, STEP_MS);
        says_event(p, p->watch, INDEX + 3);
        says_event(p, p->watch, INDEX + 3);
        says_event(p, p->watch, INDEX + 2);
        says_event(p, p->watch, INDEX - 5);
        says_event(p, p->watch, INDEX + 4);
        pass(p, STEP_MS);
        assert_int_equal(watch.n, 2);
        assert_int_equal(watch.last, INDEX + 4);
        kv_watch_close(watch.watch);
}

static void a_page_without_keys_is_complete(void **state) {
        Replica *p = *state;

        says_page(p, INDEX + 1, INDEX + 1, "new");
        p->index = INDEX + 2;
        says_gone(p, p->slice, REMOTE_GONE_WINDOW);
        pass(p, 500); /* the next one has no key, and drops none */
        assert_facts(p, "new");
        assert_true(state_of(p).ready);
}

/* -- Watches -- */

static void equal_watches_share_a_subscription_which_ends_after_the_last_one(void **state) {
        Replica *p = *state;
        Watch first, second, past;

        assert_int_equal(watch_at(p, "/a", 0, &first), 0);
        assert_int_equal(watch_at(p, "/a", 0, &second), 0);
        pass(p, STEP_MS);
        assert_int_equal(p->n_watched, 1);
        says_event(p, p->watch, INDEX + 1);
        pass(p, STEP_MS);
        assert_int_equal(first.n + second.n, 2);
        assert_int_equal(watch_at(p, "/a", INDEX + 1, &past), 0);
        pass(p, STEP_MS);
        assert_int_equal(past.n, 1);
        assert_int_equal(p->n_watched, 1);
        kv_watch_close(first.watch);
        kv_watch_close(second.watch);
        kv_watch_close(past.watch);
        pass(p, 9500);
        assert_int_equal(p->n_ended, 0);
        pass(p, 1000);
        assert_int_equal(p->n_ended, 1);
}

/* The slice does not change, and other keys do. */
static void a_watch_from_now_on_begins_after_the_last_answer(void **state) {
        Replica *p = *state;
        Watch watch;

        p->index = INDEX + 2000;
        pass(p, 1000);
        assert_int_equal(kv_seen(p->host->store), INDEX + 2000);
        assert_int_equal(watch_at(p, "/a", 0, &watch), 0);
        pass(p, STEP_MS);
        assert_int_equal(p->since, INDEX + 2001);
        kv_watch_close(watch.watch);
}

/* The replica has 1000 events, and those that a subscription here has may be older. */
static void a_watch_from_before_the_window_asks_the_replica(void **state) {
        Replica *p = *state;
        Watch first, past;

        assert_int_equal(watch_at(p, "/a", 0, &first), 0);
        pass(p, STEP_MS);
        says_event(p, p->watch, INDEX + 1);
        p->index = INDEX + 1001;
        pass(p, 1000);
        assert_int_equal(watch_at(p, "/a", INDEX + 1, &past), 0);
        pass(p, STEP_MS);
        assert_int_equal(p->n_watched, 2);
        assert_int_equal(p->since, INDEX + 1);
        says_gone(p, p->watch, REMOTE_GONE_WINDOW);
        pass(p, STEP_MS);
        assert_int_equal(past.n, 0);
        assert_int_equal(past.n_cleared, 1);
        pass(p, 300);
        assert_int_equal(p->n_ended, 1); /* clients that begin in the past again and again use up no limit */
        kv_watch_close(first.watch);
}

static const char *ask(QuietPeer *h, const char *target) {
        char request[512];

        if (h->client.open)
                quiet_peer_leave(h);
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: fleet\r\n\r\n", target);
        return (const char *) quiet_peer_request(h, API_SOCKET, request, strlen(request))->bytes;
}

static void of_1001_watches_the_last_one_is_refused(void **state) {
        static Watch watches[1001];
        Replica *p = *state;
        char key[32];

        for (unsigned i = 0; i < 1000; i++) {
                snprintf(key, sizeof(key), "/w/%u", i);
                assert_int_equal(watch_at(p, key, 0, &watches[i]), 0);
        }
        pass(p, STEP_MS);
        assert_int_equal(p->n_watched, 1000);
        assert_int_equal(watch_at(p, "/w/1000", 0, &watches[1000]), -ENOBUFS);
        assert_non_null(strstr(ask(p->host, "/v2/keys/other?wait=true"), "too many watches"));
        assert_non_null(strstr(ask(p->host, "/fleet/v1/kv/changes?prefix=/other"), "503 "));
        assert_int_equal(watch_at(p, "/w/7", 0, &watches[1000]), 0); /* of a key that is watched */
        for (unsigned i = 0; i <= 1000; i++)
                kv_watch_close(watches[i].watch);
}

static void a_replica_without_room_ends_the_watch(void **state) {
        Replica *p = *state;
        Watch watch;

        assert_int_equal(watch_at(p, "/a", 0, &watch), 0);
        pass(p, STEP_MS);
        says_gone(p, p->watch, REMOTE_GONE_FULL);
        pass(p, STEP_MS);
        assert_int_equal(watch.n_cleared, 1);
}

static bool client_hears(const QuietPeer *h, const char *what) {
        return memmem(h->client.said.bytes, h->client.said.size, what, strlen(what));
}

static void without_a_replica_a_watch_is_parked_for_a_minute_and_then_cut(void **state) {
        Replica *p = *state;
        QuietPeer *h = p->host;

        assert_non_null(strstr(ask(h, "/v2/keys/a?wait=true"), "200 OK"));
        pass(p, 1000);
        p->silent = true;
        pass(p, 59000);
        assert_true(h->client.open && !h->client.closing);
        p->silent = false; /* in time */
        pass(p, 1000);
        p->silent = true;
        pass(p, 59000);
        assert_true(h->client.open && !h->client.closing);
        pass(p, 3000);
        assert_true(!h->client.open || h->client.closing);
        assert_false(client_hears(h, "errorCode"));
}

/* -- Frames that no replica sends -- */

static void a_list_of_1000_replicas_is_dropped(void **state) {
        Replica *p = *state;
        RemoteCurrent current = { .cluster_id = CLUSTER, .lineage = LINEAGE, .term = 9 };
        _cleanup_writer_ Writer w = {};

        remote_current_write(&current, &w);
        w.size--; /* the number of members */
        write_varint(&w, 1000);
        for (unsigned i = 0; i < 1000; i++) {
                write_u64(&w, i + 1);
                write_u8(&w, 0);
        }
        assert_true(quiet_peer_send_on(&p->host->asked, PEER_CURRENT, w.bytes, w.size));
        assert_int_equal(state_of(p).n_members, 1);
        assert_int_equal(state_of(p).term, 1);
}

static void frames_of_12_mib_are_read_and_one_byte_more_ends_the_session(void **state) {
        static const PeerFrame types[] = { PEER_PAGE,  PEER_EVENTS,  PEER_GONE,
                                           PEER_FOUND, PEER_CURRENT, PEER_RELAYED };
        Replica *p = *state;
        _cleanup_free_ uint8_t *bytes = calloc(1, PEER_FRAME_MAX + 1);

        assert_non_null(bytes);
        bytes[0] = 1; /* version */
        for (size_t i = 0; i < ELEMENTS(types); i++) {
                assert_true(quiet_peer_send_on(&p->host->asked, types[i], bytes, PEER_FRAME_MAX));
                pass(p, STEP_MS);
                assert_true(state_of(p).ready);
        }
        assert_false(quiet_peer_send_on(&p->host->asked, PEER_PAGE, bytes, PEER_FRAME_MAX + 1));
        assert_facts(p, "");
        meet(p);
        pass(p, 3000);
        assert_true(state_of(p).ready);
}

/* An answer to a heartbeat between two parts has an index behind the events of the second one. */
static void a_watch_with_a_part_of_its_events_misses_none(void **state) {
        Replica *p = *state;
        Watch watch;

        p->in_parts = true;
        assert_int_equal(watch_at(p, "/a", p->index + 1, &watch), 0);
        pass(p, STEP_MS);
        says_events(p, p->watch, 0, p->index + 1);
        pass(p, STEP_MS);
        assert_int_equal(watch.n, 1);
        p->index += 100;
        says_current(p);
        pass(p, STEP_MS);
        says_event(p, p->watch, p->index - 50);
        pass(p, STEP_MS);
        kv_watch_close(watch.watch);
        assert_int_equal(watch.n, 2);
}

/* -- Removals -- */

/* It has not applied the admission of this host, and is not dialed again. */
static void a_rejection_by_a_replica_that_lags_ends_with_the_next_answer(void **state) {
        const PeerAddress known[] = { { .machine_id = QUIET_PEER_OTHER_ID, .address = "10.0.0.2:2380" },
                                      { .machine_id = QUIET_PEER_THIRD_ID, .address = "10.0.0.3:2380" } };
        _cleanup_writer_ Writer w = {};
        Replica *p = *state;
        QuietPeer *h = p->host;

        assert_int_equal(peers_set_known(h->peers, known, ELEMENTS(known)), 0);
        for (unsigned i = 0; i < 10 && !h->dial.done; i++)
                quiet_peer_pass(h, STEP_MS);
        assert_true(quiet_peer_connects(h, &h->third));
        rejection_write(&w, REJECTION_REMOVED, "machine " QUIET_PEER_ID " was removed from the cluster");
        (void) quiet_peer_send_on(&h->third, PEER_REJECTED, w.bytes, w.size);
        assert_true(peers_is_removed(h->peers));

        pass(p, STEP_MS);
        assert_true(state_of(p).ready);
        p->silent = true;
        pass(p, 5000);
        assert_false(state_of(p).ready);
        assert_false(state_of(p).removed);
}

/* -- Clocks -- */

/* Cluster time never runs backward, and a write has its effect nevertheless. */
static void a_replica_whose_clock_jumps_by_an_hour_takes_no_state_back(void **state) {
        static const int jumps[] = { HOUR_MS, -HOUR_MS };
        Replica *p = *state;
        uint64_t before = kv_cluster_ms(p->host->store);

        for (size_t i = 0; i < ELEMENTS(jumps); i++) {
                Write write;

                p->cluster_ms += jumps[i];
                pass(p, 1000);
                assert_true(state_of(p).ready);
                assert_true(kv_cluster_ms(p->host->store) >= before);
                before = kv_cluster_ms(p->host->store);
                begin_write(p, &write);
                pass(p, STEP_MS);
                says_result(p, &(KvResult) { .index = ++p->index });
                assert_true(write.done && write.status == KV_OK);
        }
}

/* Its wall clock decides nothing: cluster time is that of the leader. */
static void a_host_whose_clock_jumps_by_an_hour_continues(void **state) {
        static const int jumps[] = { HOUR_MS, -HOUR_MS };
        Replica *p = *state;
        Watch watch;

        assert_int_equal(watch_at(p, "/a", 0, &watch), 0);
        pass(p, STEP_MS);
        for (size_t i = 0; i < ELEMENTS(jumps); i++) {
                unsigned n_subscribed = p->n_subscribed;
                uint64_t before = kv_cluster_ms(p->host->store);
                Write write;

                p->host->wall_jump_ms += jumps[i];
                pass(p, 5000);
                assert_true(state_of(p).ready);
                assert_int_equal(p->n_subscribed, n_subscribed);
                assert_in_range(kv_cluster_ms(p->host->store), before + 4000, before + 6000);
                begin_write(p, &write);
                pass(p, STEP_MS);
                says_result(p, &(KvResult) { .index = ++p->index });
                assert_true(write.done && write.status == KV_OK);
                says_event(p, p->watch, p->index);
                pass(p, STEP_MS);
                assert_int_equal(watch.n, i + 1);
        }
        kv_watch_close(watch.watch);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, attached_setup, attached_teardown)
        const struct CMUnitTest tests[] = {
                T(a_watch_with_a_part_of_its_events_misses_none),
                T(a_read_that_the_replica_has_no_room_for_is_sent_again),
                T(a_replica_that_is_behind_for_ever_is_asked_a_few_times_a_second),
                T(an_answer_that_is_older_than_what_the_host_has_seen_is_not_taken),
                T(a_write_that_is_accepted_and_never_answered_has_an_unknown_outcome),
                T(each_result_of_a_write_is_taken),
                T(the_reports_of_the_host_are_sent_at_a_pace),
                T(a_write_that_the_next_replica_refuses_has_an_unknown_outcome),
                T(a_write_that_comes_too_late_to_the_next_replica_has_an_unknown_outcome),
                T(a_page_of_the_past_does_not_take_the_slice_back),
                T(events_of_the_past_are_dropped),
                T(a_page_without_keys_is_complete),
                T(equal_watches_share_a_subscription_which_ends_after_the_last_one),
                T(a_watch_from_now_on_begins_after_the_last_answer),
                T(a_watch_from_before_the_window_asks_the_replica),
                T(of_1001_watches_the_last_one_is_refused),
                T(a_replica_without_room_ends_the_watch),
                T(without_a_replica_a_watch_is_parked_for_a_minute_and_then_cut),
                T(a_list_of_1000_replicas_is_dropped),
                T(frames_of_12_mib_are_read_and_one_byte_more_ends_the_session),
                T(a_rejection_by_a_replica_that_lags_ends_with_the_next_answer),
                T(a_host_whose_clock_jumps_by_an_hour_continues),
                T(a_replica_whose_clock_jumps_by_an_hour_takes_no_state_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
