/* The replica's side of hosts without a replica: subscriptions and reads of a host that sends what it likes.
 * That host is played. */

#include "tests/lib/test.h"
#include "kvstore/kvstore_internal.h"
#include "kvstore/serve_internal.h"
#include "kvstore/serve_reads.h"
#include "tests/lib/commands.h"
#include "tests/lib/quiet_peer.h"

enum { FUTURE = 1000000 };

static size_t queued; /* bytes that wait for each session; 0: what waits */

size_t __real_peer_queued(const PeerSession *session);
size_t __wrap_peer_queued(const PeerSession *session);
size_t __wrap_peer_queued(const PeerSession *session) {
        return queued ?: __real_peer_queued(session);
}

static KvSync *held; /* a request for a confirmation by a majority that waits; NULL: none */
static bool holds;

void __real_kv_sync(KvStore *store, KvSync *sync);
void __wrap_kv_sync(KvStore *store, KvSync *sync);
void __wrap_kv_sync(KvStore *store, KvSync *sync) {
        if (holds)
                held = sync;
        else
                __real_kv_sync(store, sync);
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

static void have_machine(QuietPeer *h, const char *id, const char *name) {
        Machine m = { .name = (char *) name, .address = (char *) "10.0.0.1", .version = (char *) "0" };
        KvStatus status = KV_UNKNOWN;

        snprintf(m.id, sizeof(m.id), "%s", id);
        assert_int_equal(registry_publish_facts(h->registry, &m, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(status, KV_OK);
}

static void meet(QuietPeer *h) {
        (void) quiet_peer_meet(h); /* the replica does not dial it */
        assert_true(h->asking.open);
}

/* Return whether the founder has written what it writes by itself. */
static bool has_begun(const QuietPeer *h) {
        const Cluster *c = registry_cluster(h->registry);

        return cluster_settings(c)->sticky && cluster_machine(c, QUIET_PEER_ID)->member.raft_id != 0;
}

static int replica_setup(void **state) {
        QuietPeer *h = quiet_peer_new(false);

        queued = 0;
        holds = false;
        held = NULL;
        have_machine(h, QUIET_PEER_ID, "alpha");
        have_machine(h, QUIET_PEER_OTHER_ID, "beta");
        for (unsigned i = 0; i < 1000 && !has_begun(h); i++)
                quiet_peer_pass(h, 10);
        h->attached = true;
        meet(h);
        *state = h;
        return 0;
}

static int replica_teardown(void **state) {
        quiet_peer_free(*state);
        return 0;
}

static void on_written(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

static void write_key(QuietPeer *h, const char *key) {
        const KvCommand cmd = SET(key, "1");
        uint64_t index = kv_index(h->store), number;

        assert_int_equal(kv_propose(h->store, &cmd, on_written, NULL, &number), 0);
        for (unsigned i = 0; i < 100 && kv_index(h->store) == index; i++)
                quiet_peer_pass(h, 10);
        quiet_peer_pass(h, 20);
}

/* -- The other host -- */

static void subscribe_with(QuietPeer *h, const RemoteSubscribe *s, const uint64_t *hashes, size_t n) {
        _cleanup_writer_ Writer w = {};

        remote_subscribe_write(s, hashes, n, &w);
        assert_int_equal(w.error, 0);
        (void) quiet_peer_send_on(&h->asking, PEER_SUBSCRIBE, w.bytes, w.size);
}

static void subscribe(QuietPeer *h, const RemoteSubscribe *s) {
        subscribe_with(h, s, NULL, 0);
}

static void subscribe_slice(QuietPeer *h, uint32_t number) {
        subscribe(h, &(RemoteSubscribe) { .number = number, .kind = REMOTE_SLICE });
}

static void subscribe_key(QuietPeer *h, uint32_t number, const char *key, uint64_t since) {
        subscribe(h, &(RemoteSubscribe) {
                             .number = number, .kind = REMOTE_KEY, .key = kv_string(key), .since = since });
}

enum { HASHES_MAX = 64 };

/* What the replica has sent. */
typedef struct Heard {
        unsigned n_pages, n_events, n_gone, n_found, n_current;
        uint32_t number; /* of the last page or events */
        uint64_t index;
        RemoteEnd end; /* the last one */
        RemoteFound found;
        RemoteCurrent current;
        Text keys;                   /* of the slice, and of events */
        uint64_t hashes[HASHES_MAX]; /* of these versions */
        size_t n_hashes, n_nodes, n_dropped;
        uint64_t dropped; /* the last one */
        size_t page_size; /* of the last page, in bytes */
} Heard;

static void hear_items(const Frame *f, Heard *ret) {
        RemotePage page;
        RemoteItem item;

        assert_int_equal(remote_page_read(f->payload, f->size, &page), 0);
        ret->number = page.number;
        ret->index = page.index;
        while (remote_next_item(&page, &item) > 0) {
                KvBytes key = item.kind == REMOTE_EVENT ? item.event.node.key : item.node.key;

                if (item.kind == REMOTE_DROPPED) {
                        ret->n_dropped++;
                        ret->dropped = item.hash;
                        continue;
                }
                text_append_bytes(&ret->keys, key.data, key.size);
                text_append(&ret->keys, " ");
                if (item.kind != REMOTE_NODE)
                        continue;
                assert_true(ret->n_hashes < HASHES_MAX);
                ret->hashes[ret->n_hashes++] = remote_hash(key, item.node.modified);
                ret->n_nodes++;
        }
}

static void hear(QuietPeer *h, Heard *ret) {
        Frame f;

        text_done(&ret->keys);
        *ret = (Heard) {};
        text_append(&ret->keys, "");
        while (quiet_peer_receive(&h->asking, &f)) {
                if (f.type == PEER_PAGE || f.type == PEER_EVENTS) {
                        ret->n_pages += f.type == PEER_PAGE;
                        ret->n_events += f.type == PEER_EVENTS;
                        ret->page_size = f.size;
                        hear_items(&f, ret);
                } else if (f.type == PEER_GONE) {
                        ret->n_gone++;
                        assert_int_equal(remote_end_read(f.payload, f.size, &ret->end), 0);
                } else if (f.type == PEER_FOUND) {
                        ret->n_found++;
                        assert_int_equal(remote_found_read(f.payload, f.size, &ret->found), 0);
                } else if (f.type == PEER_CURRENT) {
                        ret->n_current++;
                        assert_int_equal(remote_current_read(f.payload, f.size, &ret->current), 0);
                }
        }
        assert_int_equal(ret->keys.error, 0);
}

#define _cleanup_heard_ _cleanup_(heard_done)
static void heard_done(Heard *heard) {
        text_done(&heard->keys);
}

/* -- Subscriptions -- */

/* A host that moves over has most keys already. */
static void a_resumed_slice_has_only_what_the_host_lacks(void **state) {
        const RemoteSubscribe slice = { .number = 1, .kind = REMOTE_SLICE };
        const uint64_t unknown = 42;
        _cleanup_heard_ Heard all = {}, resumed = {};
        QuietPeer *h = *state;
        size_t n;

        subscribe(h, &slice);
        quiet_peer_pass(h, 100);
        hear(h, &all);
        n = all.n_nodes;
        assert_true(n >= 1);
        assert_int_equal(all.n_dropped, 0);

        /* Nothing changed. */
        subscribe_with(h, &slice, all.hashes, n);
        quiet_peer_pass(h, 100);
        hear(h, &resumed);
        assert_int_equal(resumed.n_pages, 1);
        assert_string_equal(resumed.keys.chars, "");
        assert_int_equal(resumed.n_dropped, 0);
        assert_true(resumed.index > 0);
        assert_true(resumed.page_size < 100);

        /* The host has no version of one key, or an older one, which is dropped by its hash. */
        subscribe_with(h, &slice, all.hashes + 1, n - 1);
        quiet_peer_pass(h, 100);
        hear(h, &resumed);
        assert_int_equal(resumed.n_nodes, 1);
        assert_int_equal(resumed.hashes[0], all.hashes[0]);
        assert_int_equal(resumed.n_dropped, 0);
        all.hashes[n] = unknown;
        subscribe_with(h, &slice, all.hashes, n + 1);
        quiet_peer_pass(h, 100);
        hear(h, &resumed);
        assert_int_equal(resumed.n_nodes, 0);
        assert_int_equal(resumed.n_dropped, 1);
        assert_true(resumed.dropped == unknown);

        /* A key has changed since. */
        have_machine(h, QUIET_PEER_OTHER_ID, "changed");
        hear(h, &resumed);
        subscribe_with(h, &slice, all.hashes, n);
        quiet_peer_pass(h, 100);
        hear(h, &resumed);
        assert_int_equal(resumed.n_nodes, 1);
        assert_int_equal(resumed.n_dropped, 1); /* the former version */
        assert_non_null(strstr(resumed.keys.chars, "/_fleet/machine/" QUIET_PEER_OTHER_ID "/facts "));
}

static void a_slice_is_that_of_the_host_of_the_session(void **state) {
        static const RemoteSubscribe other = { .number = 2,
                                               .kind = REMOTE_SLICE,
                                               .key = { "/_fleet/machine/" QUIET_PEER_ID, 48 } };
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        have_machine(h, "dddddddddddddddddddddddddddddddd", "delta"); /* has no replica, either */
        subscribe_slice(h, 1);
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 1);
        assert_true(heard.index > 0);
        assert_non_null(strstr(heard.keys.chars, "/_fleet/machine/" QUIET_PEER_OTHER_ID "/facts "));
        assert_null(strstr(heard.keys.chars, "/_fleet/machine/dddddddddddddddddddddddddddddddd/facts"));

        subscribe(h, &other); /* a slice has no key: no frame of this version */
        quiet_peer_pass(h, 2000);
        hear(h, &heard);
        assert_true(heard.number != 2 && heard.n_gone == 0);
        assert_true(h->asking.open && !h->asking.closing);
}

static void events_of_the_future_wait_for_their_index(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        subscribe_key(h, 1, "/a", kv_index(h->store) + 2);
        quiet_peer_pass(h, 100);
        write_key(h, "/a");
        hear(h, &heard);
        assert_string_equal(heard.keys.chars, "");
        write_key(h, "/a");
        hear(h, &heard);
        assert_string_equal(heard.keys.chars, "/a ");
}

static void a_bound_of_the_future_is_behind_after_a_second(void **state) {
        _cleanup_heard_ Heard heard = {};
        _cleanup_writer_ Writer w = {};
        QuietPeer *h = *state;

        subscribe(h, &(RemoteSubscribe) { .number = 1, .kind = REMOTE_SLICE, .bound = FUTURE });
        remote_read_write(
                &(RemoteRead) { .number = 2, .kind = REMOTE_GET, .key = kv_string("/a"), .bound = FUTURE },
                &w);
        assert_true(quiet_peer_send_on(&h->asking, PEER_READ, w.bytes, w.size));
        quiet_peer_pass(h, 900);
        hear(h, &heard);
        assert_int_equal(heard.n_pages + heard.n_gone + heard.n_found, 0);
        quiet_peer_pass(h, 200);
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 0);
        assert_int_equal(heard.n_gone, 1);
        assert_int_equal(heard.end.cause, REMOTE_GONE_BEHIND);
        assert_int_equal(heard.n_found, 1);
        assert_int_equal(heard.found.error, -EAGAIN);
}

/* The replica may have been cut off: its tree is sent when a majority has confirmed that it is current. */
static void a_slice_waits_for_a_majority(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        holds = true;
        subscribe_slice(h, 1);
        quiet_peer_pass(h, 500);
        hear(h, &heard);
        assert_non_null(held);
        assert_int_equal(heard.n_pages + heard.n_gone, 0);
        holds = false;
        held->done(held->userdata, KV_OK);
        quiet_peer_pass(h, 500);
        hear(h, &heard);
        assert_true(heard.n_pages > 0);

        holds = true;
        subscribe_slice(h, 2);
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        holds = false;
        held->done(held->userdata, KV_NO_LEADER);
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 0);
        assert_int_equal(heard.end.cause, REMOTE_GONE_BEHIND);
}

static void indexes_of_another_lineage_are_not_these(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        KvPosition position;

        kv_position(h->store, &position);
        subscribe(h, &(RemoteSubscribe) { .number = 1,
                                          .kind = REMOTE_KEY,
                                          .key = kv_string("/a"),
                                          .since = FUTURE,
                                          .lineage = position.lineage + 1 });
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_events, 0);
        assert_int_equal(heard.n_gone, 1);
        assert_int_equal(heard.end.cause, REMOTE_GONE_LINEAGE);
        assert_int_equal(heard.end.index, kv_index(h->store));
        /* A slice is a state of the present lineage, also for a host that has seen a later one. */
        subscribe(h, &(RemoteSubscribe) { .number = 2,
                                          .kind = REMOTE_SLICE,
                                          .bound = FUTURE,
                                          .lineage = position.lineage + 1 });
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 1);
}

static void a_session_has_its_slice_and_1000_watches(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        char key[32];

        subscribe_slice(h, 1);
        for (uint32_t i = 0; i < 1000; i++) {
                snprintf(key, sizeof(key), "/w/%u", (unsigned) i);
                subscribe_key(h, 2 + i, key, 0);
        }
        quiet_peer_pass(h, 500);
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 1);
        assert_int_equal(heard.n_events, 1000);
        assert_int_equal(heard.n_gone, 0);
        subscribe_key(h, 2000, "/w/more", 0);
        hear(h, &heard);
        assert_int_equal(heard.n_gone, 1);
        assert_int_equal(heard.end.cause, REMOTE_GONE_FULL);
        assert_int_equal(heard.end.number, 2000);
        write_key(h, "/w/999");
        hear(h, &heard);
        assert_string_equal(heard.keys.chars, "/w/999 ");
}

/* Other sessions have the rest of the limits. */
static void all_sessions_have_50000_subscriptions(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        Serve *serve = h->store->serve;
        size_t others = SERVE_SUBSCRIPTIONS_MAX - 1;

        serve->n += others;
        subscribe_key(h, 1, "/a", 0);
        subscribe_key(h, 2, "/b", 0);
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_gone, 1);
        assert_int_equal(heard.end.number, 2);
        assert_int_equal(heard.end.cause, REMOTE_GONE_FULL);
        serve->n -= others;
        subscribe_key(h, 3, "/b", 0);
        quiet_peer_pass(h, 100);
        write_key(h, "/b");
        hear(h, &heard);
        assert_int_equal(heard.n_gone, 0);
        assert_string_equal(heard.keys.chars, "/b ");
}

static void the_queues_of_all_sessions_have_64_mib(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        Serve *serve = h->store->serve;

        subscribe_key(h, 1, "/a", 0);
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        serve->queued += SERVE_QUEUES_MAX;
        write_key(h, "/a");
        hear(h, &heard);
        assert_int_equal(heard.n_gone, 1);
        assert_int_equal(heard.end.cause, REMOTE_GONE_OVERFLOW);
        serve->queued -= SERVE_QUEUES_MAX;
        assert_int_equal(serve->queued, 0);
        subscribe_key(h, 2, "/a", 0);
        quiet_peer_pass(h, 100);
        write_key(h, "/a");
        hear(h, &heard);
        assert_int_equal(heard.n_gone, 0);
        assert_int_equal(serve->queued, 0);
}

/* -- Hosts that do not read -- */

static void write_large(QuietPeer *h, const char *key) {
        _cleanup_free_ char *value = calloc(1, 200 * 1024);
        const KvCommand cmd = COMMAND(KV_SET, key, .value = { value, 200 * 1024 });
        uint64_t index = kv_index(h->store), number;

        assert_non_null(value);
        assert_int_equal(kv_propose(h->store, &cmd, on_written, NULL, &number), 0);
        for (unsigned i = 0; i < 100 && kv_index(h->store) == index; i++)
                quiet_peer_pass(h, 10);
        assert_true(kv_index(h->store) > index);
}

/* Return what waits for a host of 'more', in bytes; 0 after the end of its session. */
static size_t waiting_for(QuietPeer *h, unsigned i) {
        char id[MACHINE_ID_SIZE] = {};
        PeerSession *session;

        memset(id, '0' + (int) i, sizeof(id) - 1);
        session = peers_accepted(h->peers, id);
        return session ? peer_queued(session) : 0;
}

static size_t waiting_for_all(QuietPeer *h) {
        size_t size = h->store->serve->queued;

        for (unsigned i = 0; i < QUIET_PEER_MORE; i++)
                size += waiting_for(h, i);
        return size;
}

static void read_large(QuietPeer *h, unsigned i, uint32_t number) {
        const RemoteRead read = { .number = number, .kind = REMOTE_GET, .key = kv_string("/large") };
        _cleanup_writer_ Writer w = {};

        remote_read_write(&read, &w);
        assert_int_equal(w.error, 0);
        quiet_peer_put_on(&h->more[i], PEER_READ, w.bytes, w.size);
}

/* Hosts that do not read request 70 MiB. The session of the one for which most waits ends; the others, and a
 * host that reads, are not affected. */
static void of_hosts_that_do_not_read_the_one_with_most_gives_way(void **state) {
        enum { LONGEST = 1, N_LONGEST = 140, N_OTHERS = 72 }; /* values of 0.2 MiB */
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        unsigned n_found = 0;
        Frame f;

        write_large(h, "/large");
        subscribe_slice(h, 1);
        subscribe_key(h, 2, "/a", 0);
        for (unsigned i = 0; i < QUIET_PEER_MORE; i++) {
                assert_true(quiet_peer_attach_more(h, i));
                h->more[i].stuck = true;
        }
        for (uint32_t n = 1; n <= N_LONGEST; n++) {
                read_large(h, LONGEST, n);
                quiet_peer_pass(h, 1);
        }
        assert_true(waiting_for(h, LONGEST) > 25 * 1024 * 1024);
        for (uint32_t n = 1; n <= N_OTHERS; n++)
                for (unsigned i = 0; i < QUIET_PEER_MORE; i++) {
                        if (i != LONGEST)
                                read_large(h, i, n);
                        quiet_peer_pass(h, 1);
                        assert_true(waiting_for_all(h) <= SERVE_QUEUES_MAX);
                }
        for (unsigned i = 0; i < QUIET_PEER_MORE; i++)
                assert_int_equal(h->more[i].open && !h->more[i].closing, i != LONGEST);
        assert_true(waiting_for_all(h) > SERVE_QUEUES_MAX / 2);

        hear(h, &heard);
        write_key(h, "/a");
        hear(h, &heard);
        assert_string_equal(heard.keys.chars, "/a ");
        assert_int_equal(heard.n_gone, 0);
        assert_true(quiet_peer_attach_more(h, LONGEST));
        read_large(h, LONGEST, 1);
        quiet_peer_pass(h, 100);
        while (quiet_peer_receive(&h->more[LONGEST], &f))
                n_found += f.type == PEER_FOUND;
        assert_int_equal(n_found, 1);
}

static void read_put(QuietPeer *h, uint32_t number, RemoteReadKind kind, uint64_t bound) {
        const RemoteRead read = { .number = number,
                                  .kind = kind,
                                  .key = kv_string(kind == REMOTE_SYNC ? "" : "/a"),
                                  .bound = bound };
        _cleanup_writer_ Writer w = {};

        remote_read_write(&read, &w);
        assert_int_equal(w.error, 0);
        quiet_peer_put_on(&h->asking, PEER_READ, w.bytes, w.size);
}

/* A host that reads what no replica has yet takes neither the places of others nor those of its lease. */
static void a_host_has_64_reads_that_wait_and_reads_of_an_index_beside_them(void **state) {
        enum { MAX_READS = SERVE_READS_OF_SESSION_MAX };
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        for (uint32_t i = 1; i <= MAX_READS + 1; i++)
                read_put(h, i, REMOTE_GET, FUTURE);
        quiet_peer_pass(h, 10);
        hear(h, &heard);
        assert_int_equal(heard.n_found, 1);
        assert_int_equal(heard.found.number, MAX_READS + 1);
        assert_int_equal(heard.found.error, -EBUSY);
        read_put(h, 1000, REMOTE_SYNC, 0);
        quiet_peer_pass(h, 50);
        hear(h, &heard);
        assert_int_equal(heard.n_found, 1);
        assert_int_equal(heard.found.number, 1000);
        assert_int_equal(heard.found.status, KV_OK);
        for (uint32_t i = 0; i <= SERVE_SYNCS_OF_SESSION_MAX; i++)
                read_put(h, 2000 + i, REMOTE_SYNC, 0);
        hear(h, &heard);
        assert_int_equal(heard.n_found, 1);
        assert_int_equal(heard.found.number, 2000 + SERVE_SYNCS_OF_SESSION_MAX);
        assert_int_equal(heard.found.status, KV_BUSY);
        quiet_peer_pass(h, 1100);
        hear(h, &heard);
        assert_int_equal(heard.n_found, MAX_READS + SERVE_SYNCS_OF_SESSION_MAX);
        read_put(h, 3000, REMOTE_GET, 0); /* all places are free again */
        quiet_peer_pass(h, 10);
        hear(h, &heard);
        assert_int_equal(heard.n_found, 1);
        assert_int_equal(heard.found.error, -ENOENT);
}

/* Of many events, a turn of the loop sends a part: the index of an answer to a heartbeat in between would
 * have the host drop the others. */
static void an_answer_does_not_count_a_watch_with_a_part_of_its_events(void **state) {
        enum { N_KEYS = 900, N_PER_WAIT = 100 };
        unsigned n_after = 0, n_answers = 0;
        uint64_t since, number, events = 0;
        _cleanup_writer_ Writer w = {};
        QuietPeer *h = *state;
        char key[32];

        write_key(h, "/w/first");
        since = kv_index(h->store);
        for (unsigned i = 0; i < N_KEYS; i++) {
                snprintf(key, sizeof(key), "/w/%u", i);
                assert_int_equal(kv_propose(h->store, &SET(key, "1"), on_written, NULL, &number), 0);
                if (i % N_PER_WAIT == 0)
                        quiet_peer_pass(h, 100);
        }
        quiet_peer_pass(h, 1000);
        remote_subscribe_write(
                &(RemoteSubscribe) {
                        .number = 1, .kind = REMOTE_BELOW, .key = kv_string("/w"), .since = since },
                NULL, 0, &w);
        quiet_peer_put_on(&h->asking, PEER_SUBSCRIBE, w.bytes, w.size);
        for (bool more = true; more;) {
                RemoteCurrent current;
                RemotePage page;
                RemoteItem item;
                Frame f;

                more = loop_run_due(&h->loop, 100);
                (void) turns_end_work(&h->loop.turns);
                while (quiet_peer_receive(&h->asking, &f)) {
                        if (f.type == PEER_CURRENT) {
                                assert_int_equal(remote_current_read(f.payload, f.size, &current), 0);
                                events = MAX(events, current.events);
                                n_answers++;
                        }
                        if (f.type != PEER_EVENTS)
                                continue;
                        assert_int_equal(remote_page_read(f.payload, f.size, &page), 0);
                        while (remote_next_item(&page, &item) > 0) {
                                assert_true(item.event.index > events);
                                n_after += n_answers > 0;
                        }
                        if (page.index == 0)
                                kv_answer_heartbeat(h->store, peers_accepted(h->peers, QUIET_PEER_OTHER_ID),
                                                    false);
                }
        }
        assert_true(n_answers > 0 && n_after > 0);
}

/* An answer to a heartbeat overtakes what waits for a slow connection. */
static void an_answer_does_not_count_what_waits_for_the_connection(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        subscribe_slice(h, 1);
        subscribe_key(h, 2, "/a", 0);
        quiet_peer_pass(h, 500);
        hear(h, &heard);
        kv_answer_heartbeat(h->store, peers_accepted(h->peers, QUIET_PEER_OTHER_ID), false);
        hear(h, &heard);
        assert_int_equal(heard.n_current, 1);
        assert_int_equal(heard.current.index, kv_index(h->store));
        assert_int_equal(heard.current.events, kv_index(h->store));
        queued = 100;
        kv_answer_heartbeat(h->store, peers_accepted(h->peers, QUIET_PEER_OTHER_ID), false);
        hear(h, &heard);
        assert_int_equal(heard.n_current, 1);
        assert_int_equal(heard.current.index, 0);
        assert_int_equal(heard.current.events, 0);
        assert_int_equal(heard.current.leader_id, 1);
}

static void a_slow_host_loses_its_watch_and_delays_no_other_one(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        char value[16 * 1024];
        uint64_t number;

        memset(value, 'x', sizeof(value));
        subscribe_key(h, 1, "/a", 0);
        quiet_peer_pass(h, 100);
        queued = SERVE_QUEUE_MAX + 1;
        hear(h, &heard);
        for (unsigned i = 0; i < 2 * SERVE_QUEUE_MAX / sizeof(value) && heard.n_gone == 0; i++) {
                const KvCommand cmd = COMMAND(KV_SET, "/a", .value = { value, sizeof(value) });

                assert_int_equal(kv_propose(h->store, &cmd, on_written, NULL, &number), 0);
                quiet_peer_pass(h, 20);
                hear(h, &heard);
                assert_int_equal(heard.n_events, 0);
        }
        assert_int_equal(heard.n_gone, 1);
        assert_int_equal(heard.end.cause, REMOTE_GONE_OVERFLOW);
}

/* Once a second, for 100 s: more often is rejected with the session. */
/* -- Hosts that subscribe to much, again and again -- */

static void versions_of_a_large_slice_are_compared_in_several_turns(void **state) {
        enum { N = REMOTE_HASHES_MAX - 1 };
        _cleanup_free_ uint64_t *hashes = malloc((N + 1) * sizeof(*hashes));
        const RemoteSubscribe slice = { .number = 1, .kind = REMOTE_SLICE };
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        uint64_t turns;

        for (uint64_t i = 0; i <= N; i++)
                hashes[i] = MAX(i, 1u) << 20; /* one of them twice */
        turns = h->loop.turns.n;
        subscribe_with(h, &slice, hashes, N + 1);
        quiet_peer_pass(h, 1000);
        hear(h, &heard);
        assert_int_equal(heard.n_dropped, N);
        assert_in_range(h->loop.turns.n - turns, N / SERVE_VERSIONS_AT_ONCE / 3, UINT64_MAX);
}

/* It continues from where it was. */
static void a_host_that_subscribes_to_many_events_again_and_again_waits(void **state) {
        enum { EVENTS = 1000, MORE = 10, AGAIN = 100 };
        unsigned n = SERVE_VISITS_BURST / EVENTS + MORE;
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;
        uint64_t since;

        write_key(h, "/w/0");
        since = kv_index(h->store);
        for (unsigned i = 1; i < EVENTS; i++) {
                const KvCommand cmd = SET("/w/1", "1");
                uint64_t number;

                assert_int_equal(kv_propose(h->store, &cmd, on_written, NULL, &number), 0);
                quiet_peer_pass(h, i % 100 == 0 ? 20 : 0);
        }
        quiet_peer_pass(h, 100);
        for (uint32_t i = 0; i < n; i++) {
                subscribe(h, &(RemoteSubscribe) { .number = 1,
                                                  .kind = REMOTE_BELOW,
                                                  .key = kv_string("/w"),
                                                  .since = since });
                quiet_peer_pass(h, 0);
        }
        hear(h, &heard);
        assert_in_range(heard.n_gone, MORE - 2, MORE + 2);
        assert_int_equal(heard.end.cause, REMOTE_GONE_OVERFLOW);
        assert_in_range(heard.end.retry_ms, SERVE_AGAIN_MS, 2 * SERVE_AGAIN_MS);
        quiet_peer_pass(h, heard.end.retry_ms);
        subscribe(h, &(RemoteSubscribe) {
                             .number = 1, .kind = REMOTE_BELOW, .key = kv_string("/w"), .since = since });
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_gone, 0);
        assert_int_equal(heard.index, kv_index(h->store));
        quiet_peer_part(h); /* another session makes no difference */
        meet(h);
        for (uint32_t i = 0; i < AGAIN; i++) {
                subscribe(h, &(RemoteSubscribe) { .number = 1,
                                                  .kind = REMOTE_BELOW,
                                                  .key = kv_string("/w"),
                                                  .since = since });
                quiet_peer_pass(h, 0);
        }
        hear(h, &heard);
        assert_in_range(heard.n_gone, AGAIN / 2, AGAIN);
}

static void a_host_that_moves_again_and_again_leaves_nothing_behind(void **state) {
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        for (uint32_t i = 1; i <= 100; i++) {
                subscribe_slice(h, i);
                subscribe_key(h, 1000 + i, "/a", 0);
                quiet_peer_pass(h, 1000); /* more often, it is rejected */
                if (i < 100)
                        meet(h);
        }
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 1);
        assert_int_equal(heard.n_gone, 0);
        quiet_peer_pass(h, SERVE_AGAIN_MS);
        assert_int_equal(h->store->serve->n, 2);
        write_key(h, "/a");
        hear(h, &heard);
        assert_string_equal(heard.keys.chars, "/a ");
}

static void frames_of_12_mib_are_read_and_one_byte_more_ends_the_session(void **state) {
        static const PeerFrame types[] = { PEER_SUBSCRIBE, PEER_UNSUBSCRIBE, PEER_READ, PEER_RELAY };
        _cleanup_free_ uint8_t *bytes = calloc(1, PEER_FRAME_MAX + 1);
        _cleanup_heard_ Heard heard = {};
        QuietPeer *h = *state;

        assert_non_null(bytes);
        bytes[0] = REMOTE_PROTOCOL;
        for (size_t i = 0; i < ELEMENTS(types); i++)
                assert_true(quiet_peer_send_on(&h->asking, types[i], bytes, PEER_FRAME_MAX));
        hear(h, &heard);
        assert_int_equal(heard.n_pages + heard.n_gone + heard.n_found, 0);
        assert_false(quiet_peer_send_on(&h->asking, PEER_READ, bytes, PEER_FRAME_MAX + 1));
        meet(h);
        subscribe_slice(h, 1);
        quiet_peer_pass(h, 100);
        hear(h, &heard);
        assert_int_equal(heard.n_pages, 1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, replica_setup, replica_teardown)
        const struct CMUnitTest tests[] = {
                T(a_resumed_slice_has_only_what_the_host_lacks),
                T(a_slice_is_that_of_the_host_of_the_session),
                T(events_of_the_future_wait_for_their_index),
                T(a_bound_of_the_future_is_behind_after_a_second),
                T(a_slice_waits_for_a_majority),
                T(indexes_of_another_lineage_are_not_these),
                T(a_session_has_its_slice_and_1000_watches),
                T(all_sessions_have_50000_subscriptions),
                T(the_queues_of_all_sessions_have_64_mib),
                T(of_hosts_that_do_not_read_the_one_with_most_gives_way),
                T(a_host_has_64_reads_that_wait_and_reads_of_an_index_beside_them),
                T(an_answer_does_not_count_a_watch_with_a_part_of_its_events),
                T(an_answer_does_not_count_what_waits_for_the_connection),
                T(a_slow_host_loses_its_watch_and_delays_no_other_one),
                T(versions_of_a_large_slice_are_compared_in_several_turns),
                T(a_host_that_subscribes_to_many_events_again_and_again_waits),
                T(a_host_that_moves_again_and_again_leaves_nothing_behind),
                T(frames_of_12_mib_are_read_and_one_byte_more_ends_the_session),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
