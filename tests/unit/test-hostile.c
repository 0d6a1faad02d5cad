/* A restricted host without a replica whose programs are not fleet's: the test plays it, and sends frames of
 * its own making. An ordinary host, which may read and write all, is the comparison. */

#include "tests/lib/test.h"
#include "fleetd/daemon_internal.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/forward_frames.h"
#include "fleetd/api/request.h"
#include "fleetd/features/inputs/content_bytes.h"
#include "kvstore/remote_frames.h"
#include "kvstore/result_frame.h"
#include "tests/lib/commands.h"
#include "tests/lib/quiet_peer.h"

#define PIN    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HOST   "/_fleet/cluster/host/" QUIET_PEER_OTHER_ID
#define OWN    "/_fleet/machine/" QUIET_PEER_OTHER_ID
#define OTHER  "/_fleet/machine/" QUIET_PEER_ID
#define MEMBER "/_fleet/cluster/member/" QUIET_PEER_ID
#define USER   "/_fleet/cluster/principal/ann"
#define TOKEN  "/_fleet/cluster/token/0123456789ab"
#define ROOT   "local:0@" QUIET_PEER_OTHER_ID
#define SECRET "not-for-others"
#define JSON   "application/json"
#define ORIGIN 77
#define FORGED 66 /* of proposals that claim to be relayed */

/* Keys that the host may write, and values. */
static const struct {
        const char *key, *value;
} own[] = {
        { OWN "/reported", "0123456789abcdef" },
        { OWN "/facts", "{}" },
        { OWN "/problem/a.service", "{\"kind\":\"refused\"}" },
        { "/_fleet/state/a.service/" QUIET_PEER_OTHER_ID,
          "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}" },
};

/* Keys below /_fleet that are not for the host, also some that do not exist. */
static const char *const denied[] = {
        "/_fleet",
        "/_fleet/cluster",
        USER,
        TOKEN,
        "/_fleet/cluster/ca/key",
        OTHER,
        OTHER "/facts",
        OTHER "/presence",
        "/_fleet/unit/a.service",
        "/_fleet/target/a.service",
        "/_fleet/secret",
        "/_fleet/secret/db-password",
        "/_fleet/inputs/a.service",
        "/_fleet/none",
};

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

static void write_key(QuietPeer *h, const char *key, const char *value) {
        KvCommand write = SET(key, value, .internal = true);
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };
        KvStatus status = KV_UNKNOWN;

        assert_int_equal(registry_propose(h->registry, &txn, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(status, KV_OK);
        quiet_peer_pass(h, 20); /* the cluster view has it, too */
}

static void restrict_host(QuietPeer *h) {
        write_key(h, HOST, "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}");
}

static int host_setup(void **state) {
        QuietPeer *h = quiet_peer_new(false);
        KvState store;

        h->attached = true;
        (void) quiet_peer_meet(h);
        if (h->asked.open) { /* no host listens there */
                h->asked.base.events->on_close(h->asked.base.userdata, -ECONNRESET, "reset");
                h->asked.open = false;
        }
        assert_non_null(peers_accepted(h->peers, QUIET_PEER_OTHER_ID));
        for (unsigned i = 0; i < 100; i++) {
                kv_state(h->store, &store);
                if (store.level >= KV_LEVEL_IDENTITY)
                        break;
                quiet_peer_pass(h, 100);
        }
        assert_true(store.level >= KV_LEVEL_IDENTITY);
        write_key(h, HOST, "{\"joined\":1,\"pins\":[\"" PIN "\"]}");
        write_key(h, USER, "{\"pins\":[\"" PIN "\"],\"rights\":[{\"right\":\"administer\"}]}");
        write_key(h, "/_fleet/unit/a.service", "{\"text\":\"[Service]\\nExecStart=/bin/" SECRET "\\n\"}");
        write_key(h, "/_fleet/target/a.service", "inactive");
        *state = h;
        return 0;
}

static int host_teardown(void **state) {
        quiet_peer_free(*state);
        return 0;
}

/* -- Reads -- */

/* What the frames of one type that have arrived carry, as text. */
typedef struct Heard {
        Text keys;
        int error;
        bool any;
        KvStatus status;
        RemoteGone gone;
        char cause[128];
} Heard;

static void heard_done(Heard *heard) {
        text_done(&heard->keys);
        *heard = (Heard) {};
}

static void hear_found(Heard *heard, const Frame *f) {
        RemoteFound found;
        KvNode node;

        assert_int_equal(remote_found_read(f->payload, f->size, &found), 0);
        heard->error = found.error;
        while (remote_next_node(&found, &node) > 0)
                text_printf(&heard->keys, "%.*s ", (int) node.key.size, (const char *) node.key.data);
}

static void hear_events(Heard *heard, const Frame *f) {
        RemotePage page;
        RemoteItem item;

        assert_int_equal(remote_page_read(f->payload, f->size, &page), 0);
        while (remote_next_item(&page, &item) > 0)
                text_printf(&heard->keys, "%.*s ", (int) item.event.node.key.size,
                            (const char *) item.event.node.key.data);
}

static void hear_gone(Heard *heard, const Frame *f) {
        RemoteEnd end;

        assert_int_equal(remote_end_read(f->payload, f->size, &end), 0);
        heard->gone = end.cause;
}

/* Take the frames that have arrived; those of other types are dropped. */
static void hear(QuietPeer *h, PeerFrame type, Heard *ret) {
        Frame f;

        while (quiet_peer_receive(&h->asking, &f)) {
                if (f.type != type)
                        continue;
                ret->any = true;
                if (type == PEER_FOUND)
                        hear_found(ret, &f);
                else if (type == PEER_EVENTS)
                        hear_events(ret, &f);
                else if (type == PEER_GONE)
                        hear_gone(ret, &f);
        }
        text_append_bytes(&ret->keys, "", 0);
}

static void read_key(QuietPeer *h, const char *key, Heard *ret) {
        RemoteRead read = { .number = 1, .kind = REMOTE_GET, .key = kv_string(key) };
        _cleanup_writer_ Writer w = {};

        remote_read_write(&read, &w);
        assert_true(quiet_peer_send(h, PEER_READ, w.bytes, w.size));
        *ret = (Heard) {};
        for (unsigned i = 0; i < 100 && !ret->any; i++) {
                quiet_peer_pass(h, 10);
                hear(h, PEER_FOUND, ret);
        }
        assert_true(ret->any);
}

static void keys_of_others_are_absent_from_reads(void **state) {
        QuietPeer *h = *state;
        Heard heard;

        write_key(h, "/a/b", "1");
        read_key(h, USER, &heard);
        assert_string_equal(heard.keys.chars, USER " ");
        heard_done(&heard);

        restrict_host(h);
        for (size_t i = 0; i < ELEMENTS(denied); i++) {
                read_key(h, denied[i], &heard);
                assert_int_equal(heard.error, -ENOENT);
                assert_string_equal(heard.keys.chars, "");
                heard_done(&heard);
        }
        read_key(h, "/a/b", &heard);
        assert_string_equal(heard.keys.chars, "/a/b ");
        heard_done(&heard);
}

/* -- Watches -- */

static void subscribe(QuietPeer *h, uint32_t number, RemoteKind kind, const char *key, uint64_t since) {
        RemoteSubscribe s = { .number = number, .kind = kind, .key = kv_string(key), .since = since };
        _cleanup_writer_ Writer w = {};
        KvState store;

        kv_state(h->store, &store);
        s.lineage = store.lineage;
        remote_subscribe_write(&s, NULL, 0, &w);
        assert_true(quiet_peer_send(h, PEER_SUBSCRIBE, w.bytes, w.size));
}

static void watch(QuietPeer *h, const char *key, Heard *ret) {
        subscribe(h, 5, REMOTE_BELOW, key, 0);
        quiet_peer_pass(h, 50);
        write_key(h, USER, "{\"pins\":[\"" PIN "\"],\"rights\":[]}");
        write_key(h, "/a/c", "1");
        quiet_peer_pass(h, 50);
        *ret = (Heard) {};
        hear(h, PEER_EVENTS, ret);
}

static void keys_of_others_are_absent_from_watches(void **state) {
        QuietPeer *h = *state;
        uint64_t first = kv_index(h->store);
        Heard heard;

        watch(h, "/", &heard);
        assert_string_equal(heard.keys.chars, USER " /a/c ");
        heard_done(&heard);

        /* The same watch lasts: its events are checked when they are delivered. */
        restrict_host(h);
        quiet_peer_pass(h, 50);
        hear(h, PEER_EVENTS, &heard);
        heard_done(&heard);
        watch(h, "/", &heard);
        assert_string_equal(heard.keys.chars, "/a/c ");
        heard_done(&heard);

        subscribe(h, 6, REMOTE_BELOW, "/", first); /* the past */
        quiet_peer_pass(h, 50);
        hear(h, PEER_EVENTS, &heard);
        assert_string_equal(heard.keys.chars, "/a/c /a/c ");
        heard_done(&heard);

        for (size_t i = 0; i < ELEMENTS(denied); i++)
                for (RemoteKind kind = REMOTE_KEY; kind < _REMOTE_KIND_MAX; kind++) {
                        subscribe(h, (uint32_t) (10 + i * _REMOTE_KIND_MAX + kind), kind, denied[i], first);
                        quiet_peer_pass(h, 50);
                        hear(h, PEER_GONE, &heard);
                        assert_true(heard.any);
                        assert_int_equal(heard.gone, REMOTE_GONE_RIGHTS);
                        heard_done(&heard);
                }
}

/* -- Writes -- */

static uint64_t number;

/* Propose a command for 'principal'; "": the host itself. */
static KvStatus propose(QuietPeer *h, const char *principal, const KvCommand *cmd, Heard *ret) {
        _cleanup_writer_ Writer w = {}, command = {};
        KvStatus status = _KV_STATUS_MAX;

        assert_int_equal(kv_command_encode(cmd, KV_LEVEL_MAX, &command), 0);
        write_u8(&w, 1);
        write_u64(&w, ORIGIN);
        write_u64(&w, 1);
        write_u8(&w, 0);
        write_varint(&w, 1);
        write_u64(&w, ++number);
        write_u64(&w, kv_cluster_ms(h->store) + 10000);
        write_blob(&w, command.bytes, command.size);
        write_blob(&w, principal, strlen(principal));
        assert_true(quiet_peer_send(h, PEER_RELAY, w.bytes, w.size));
        for (unsigned i = 0; i < 100 && status == _KV_STATUS_MAX; i++) {
                Frame f;

                quiet_peer_pass(h, 10);
                while (quiet_peer_receive(&h->asking, &f)) {
                        Reader r = reader_over(f.payload, f.size);
                        _cleanup_arena_ Arena arena = {};
                        KvResult result;

                        if (f.type != PEER_RELAYED)
                                continue;
                        (void) read_u8(&r);
                        (void) read_u64(&r);
                        (void) read_u64(&r);
                        if (read_u8(&r) != 1) /* accepted */
                                continue;
                        assert_int_equal(read_u64(&r), number);
                        assert_int_equal(result_frame_read(&r, &arena, &result), 0);
                        status = result.status;
                        if (ret && result.has_found)
                                text_printf(&ret->keys, "%.*s", (int) result.found.value.size,
                                            (const char *) result.found.value.data);
                }
        }
        assert_int_not_equal(status, _KV_STATUS_MAX);
        return status;
}

static int take_value(void *userdata, const KvNode *node) {
        snprintf(userdata, 64, "%.*s", (int) node->value.size, (const char *) node->value.data);
        return 1;
}

static const char *value_of(QuietPeer *h, const char *key, char ret[static 64]) {
        ret[0] = 0;
        (void) kv_local_get(h->store, kv_string(key), take_value, ret);
        return ret;
}

static KvStatus propose_value(QuietPeer *h, const char *principal, KvOp op, const char *key,
                              const char *value) {
        const ClusterMachine *m = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID);
        KvCheck is_up = { .kind = KV_CHECK_MODIFIED,
                          .key = kv_string(OWN "/presence"),
                          .index = m ? m->presence_index : 0 };
        KvCommand write = COMMAND(op, key, .value = kv_string(value));
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };

        if (!starts_with(key, "/_fleet"))
                return propose(h, principal, &write, NULL);
        write.internal = true;
        if (starts_with(key, "/_fleet/endpoint/")) {
                txn.checks = &is_up;
                txn.n_checks = 1;
        }
        return propose(h, principal, &txn, NULL);
}

static KvStatus propose_write(QuietPeer *h, const char *principal, KvOp op, const char *key) {
        return propose_value(h, principal, op, key, "1");
}

static void the_host_writes_only_what_is_its_own(void **state) {
        static const char *const others[] = {
                "/a",
                "/",
                OTHER "/facts",
                OTHER "/presence",
                OTHER "/unit/a.service",
                OTHER "/problem/a",
                OTHER "/maintenance",
                OTHER "/metadata/zone",
                OTHER "/reported",
                OWN "/presence",
                OWN "/metadata/zone",
                "/_fleet/state/a.service/" QUIET_PEER_ID,
                "/_fleet/unit/a.service",
                "/_fleet/unit/b.service",
                "/_fleet/target/a.service",
                HOST,
                MEMBER,
                USER,
                TOKEN,
                "/_fleet/cluster/level",
                "/_fleet/cluster/settings",
                "/_fleet/cluster/ca/key",
                "/_fleet/cluster/ca/roots",
                "/_fleet/cluster/adopting",
                "/_fleet/cluster",
                "/_fleet",
                "/_fleet/none",
        };
        static const char *const claims[] = { "", ROOT, "user:ann", "anonymous@" QUIET_PEER_OTHER_ID };
        QuietPeer *h = *state;
        KvCommand raise = { .op = KV_RAISE, .limit = KV_LEVEL_MAX, .internal = true };

        assert_int_equal(propose_write(h, ROOT, KV_SET, "/a"), KV_OK);
        assert_int_equal(propose_write(h, ROOT, KV_DELETE, "/_fleet/target/a.service"), KV_OK);
        restrict_host(h);
        for (size_t i = 0; i < ELEMENTS(others); i++)
                for (size_t k = 0; k < ELEMENTS(claims); k++) {
                        KvStatus set = propose_write(h, claims[k], KV_SET, others[i]),
                                 delete = propose_write(h, claims[k], KV_DELETE, others[i]);

                        if (set != KV_FORBIDDEN || delete != KV_FORBIDDEN)
                                fail_msg("%s, for '%s': %s, %s", others[i], claims[k], kv_status_name(set),
                                         kv_status_name(delete));
                }
        assert_int_equal(propose(h, "", &raise, NULL), KV_FORBIDDEN);
        assert_int_equal(propose(h, "machine:" QUIET_PEER_ID, &raise, NULL), KV_FORBIDDEN);
        assert_int_equal(propose(h, "local:0@" QUIET_PEER_ID, &raise, NULL), KV_FORBIDDEN);
        for (size_t i = 0; i < ELEMENTS(own); i++)
                assert_int_equal(propose_value(h, "", KV_SET, own[i].key, own[i].value), KV_OK);
}

/* A key that cannot be read would stop operators: nothing changes what a later version may have written. */
static void the_host_writes_no_value_that_cannot_be_read(void **state) {
        QuietPeer *h = *state;
        const ClusterMachine *m;

        for (unsigned restricted = 0; restricted < 2; restricted++) {
                if (restricted)
                        restrict_host(h);
                for (size_t i = 0; i < ELEMENTS(own); i++)
                        assert_int_equal(propose_value(h, "", KV_SET, own[i].key, "\xff"), KV_FORBIDDEN);
                for (KvOp op = KV_SET; op <= KV_UPDATE; op++) {
                        KvCommand write = COMMAND(op, OWN "/maintenance", .internal = true, .dir = true,
                                                  .value = kv_string(""));
                        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };

                        assert_int_equal(propose(h, "", &txn, NULL), KV_FORBIDDEN);
                }
        }
        m = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID);
        assert_true(LIST_EMPTY(&m->unreadable));
}

/* -- Its maintenance -- */

#define MAINTENANCE OWN "/maintenance"
#define LEAVE       "{\"for\":\"leave\",\"mode\":\"draining\",\"since\":1}"
#define CORDON      "{\"by\":\"ann@a\",\"mode\":\"cordoned\",\"since\":1}"

/* Propose a write of a key of its own; NULL: delete it. _KV_CHECK_MAX: without a check. */
static KvStatus propose_own(QuietPeer *h, const char *principal, const char *key, const char *value,
                            KvCheckKind kind, uint64_t index) {
        KvCheck check = { .kind = kind, .key = kv_string(key), .index = index };
        KvCommand write = COMMAND(value ? KV_SET : KV_DELETE, key, .internal = true,
                                  .value = kv_string(value));
        KvCommand txn = { .op = KV_TXN,
                          .internal = true,
                          .checks = &check,
                          .n_checks = kind != _KV_CHECK_MAX,
                          .writes = &write,
                          .n_writes = 1 };
        KvStatus status = propose(h, principal, &txn, NULL);

        quiet_peer_pass(h, 20);
        return status;
}

/* A write of its own maintenance, as a request to leave does. */
static KvStatus propose_maintenance(QuietPeer *h, const char *principal, const char *value, KvCheckKind kind,
                                    uint64_t index) {
        return propose_own(h, principal, MAINTENANCE, value, kind, index);
}

static uint64_t maintenance_index(QuietPeer *h) {
        const ClusterMachine *m = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID);

        return m ? m->maintenance_index : 0;
}

static void the_host_changes_its_leave_and_no_cordon(void **state) {
        static const char *const claims[] = { "", ROOT, "user:ann" };
        static const char *const others[] = {
                CORDON,
                "{\"mode\":\"draining\",\"since\":1}",
                "{\"for\":\"leave\",\"mode\":\"cordoned\",\"since\":1}",
                "{\"for\":\"leave\",\"mode\":\"drained\",\"since\":1}",
                "{\"for\":\"other\",\"mode\":\"draining\",\"since\":1}",
        };
        QuietPeer *h = *state;
        char value[64];
        uint64_t index;

        restrict_host(h);
        for (size_t i = 0; i < ELEMENTS(claims); i++) {
                for (size_t k = 0; k < ELEMENTS(others); k++)
                        assert_int_equal(propose_maintenance(h, claims[i], others[k], KV_CHECK_ABSENT, 0),
                                         KV_FORBIDDEN);
                /* Without a check, a cordon that is on its way would be overwritten. */
                assert_int_equal(propose_maintenance(h, claims[i], LEAVE, _KV_CHECK_MAX, 0), KV_FORBIDDEN);
                assert_int_equal(propose_maintenance(h, claims[i], LEAVE, KV_CHECK_MODIFIED, UINT64_MAX),
                                 KV_FORBIDDEN);
                assert_int_equal(propose_maintenance(h, claims[i], LEAVE, KV_CHECK_ABSENT, 0), KV_OK);
                index = maintenance_index(h);
                assert_int_equal(propose_maintenance(h, claims[i], NULL, KV_CHECK_EXISTS, 0), KV_FORBIDDEN);
                assert_int_equal(propose_maintenance(h, claims[i], LEAVE, KV_CHECK_ABSENT, 0),
                                 KV_COMPARE_FAILED);
                assert_int_equal(propose_maintenance(h, claims[i], NULL, KV_CHECK_MODIFIED, index), KV_OK);
                write_key(h, MAINTENANCE, CORDON);
                index = maintenance_index(h);
                assert_int_equal(propose_maintenance(h, claims[i], NULL, KV_CHECK_MODIFIED, index),
                                 KV_FORBIDDEN);
                assert_int_equal(propose_maintenance(h, claims[i], LEAVE, KV_CHECK_MODIFIED, index),
                                 KV_FORBIDDEN);
                assert_string_equal(value_of(h, MAINTENANCE, value), CORDON);
                write_key(h, MAINTENANCE, LEAVE);
                index = maintenance_index(h);
                assert_int_equal(propose_maintenance(h, claims[i], NULL, KV_CHECK_MODIFIED, index), KV_OK);
        }

        /* An operator of an ordinary host may end each of them. */
        write_key(h, HOST, "{\"joined\":1,\"pins\":[\"" PIN "\"]}");
        write_key(h, MAINTENANCE, CORDON);
        index = maintenance_index(h);
        assert_int_equal(propose_maintenance(h, ROOT, LEAVE, KV_CHECK_MODIFIED, index), KV_OK);
}

#define SHUTDOWN "{\"for\":\"shutdown\",\"mode\":\"draining\",\"since\":1}"

static void the_host_announces_its_shutdown_and_keeps_a_cordon(void **state) {
        static const char kept[] = "{\"before\":\"cordoned\",\"by\":\"ann@a\",\"for\":\"shutdown\","
                                   "\"mode\":\"draining\",\"since\":1}";
        QuietPeer *h = *state;
        uint64_t index;

        restrict_host(h);
        assert_int_equal(propose_maintenance(h, "", SHUTDOWN, _KV_CHECK_MAX, 0), KV_FORBIDDEN);
        assert_int_equal(propose_maintenance(h, "", SHUTDOWN, KV_CHECK_ABSENT, 0), KV_OK);
        index = maintenance_index(h);
        assert_int_equal(propose_maintenance(h, "", CORDON, KV_CHECK_MODIFIED, index), KV_FORBIDDEN);
        assert_int_equal(propose_maintenance(h, "", NULL, KV_CHECK_MODIFIED, index), KV_OK);
        write_key(h, MAINTENANCE, CORDON);
        index = maintenance_index(h);
        assert_int_equal(propose_maintenance(h, "", SHUTDOWN, KV_CHECK_MODIFIED, index), KV_FORBIDDEN);
        assert_int_equal(propose_maintenance(h, "", kept, KV_CHECK_MODIFIED, index), KV_OK);
        index = maintenance_index(h);
        assert_int_equal(propose_maintenance(h, "", NULL, KV_CHECK_MODIFIED, index), KV_FORBIDDEN);
        assert_int_equal(propose_maintenance(h, "", CORDON, KV_CHECK_MODIFIED, index), KV_OK);
}

#define REBOOT OWN "/reboot"

static KvStatus propose_reboot(QuietPeer *h, const char *value, uint64_t index) {
        return propose_own(h, "", REBOOT, value, KV_CHECK_MODIFIED, index);
}

static void the_host_only_reports_that_its_reboot_is_rejected(void **state) {
        static const char rebooting[] = "{\"kind\":\"soft\",\"seq\":2,\"state\":\"rebooting\"}";
        static const char *const rejected[] = {
                "{\"kind\":\"soft\",\"seq\":2,\"state\":\"rejected\",\"why\":\"w\"}", /* of a former version
                                                                                       */
                "{\"kind\":\"soft\",\"seq\":2,\"state\":\"rejected\",\"verdict\":{\"args\":[\"w\"],\"code\":"
                "\"reboot-rejected\"}}",
        };
        static const char *const others[] = {
                NULL,
                "{\"kind\":\"reboot\",\"seq\":2,\"state\":\"rejected\"}",
                "{\"kind\":\"soft\",\"seq\":1,\"state\":\"rejected\"}",
                "{\"kind\":\"soft\",\"seq\":2,\"state\":\"back\"}",
        };
        QuietPeer *h = *state;
        uint64_t index;

        restrict_host(h);
        assert_int_equal(propose_reboot(h, rejected[0], 1), KV_FORBIDDEN);
        write_key(h, REBOOT, "{\"kind\":\"soft\",\"seq\":2,\"state\":\"draining\"}");
        index = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID)->reboot_index;
        assert_int_equal(propose_reboot(h, rejected[0], index), KV_FORBIDDEN);
        write_key(h, REBOOT, rebooting);
        index = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID)->reboot_index;
        for (size_t i = 0; i < ELEMENTS(others); i++)
                assert_int_equal(propose_reboot(h, others[i], index), KV_FORBIDDEN);
        for (size_t i = 0; i < ELEMENTS(rejected); i++) {
                write_key(h, REBOOT, rebooting);
                index = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID)->reboot_index;
                assert_int_equal(propose_reboot(h, rejected[i], index), KV_OK);
        }
}

/* Its facts stay, and with them its name: it takes none that another machine has. */
static void the_host_takes_no_name_of_another_machine(void **state) {
        static const struct {
                const char *facts;
                KvStatus status;
        } rows[] = {
                { "{\"name\":\"beta\"}", KV_OK },
                { "{\"name\":\"alpha\"}", KV_FORBIDDEN },
                { NULL, KV_FORBIDDEN },
                { "{\"name\":\"gamma\"}", KV_OK },
                { "{\"name\":\"alpha\"}", KV_FORBIDDEN },
                { "{\"name\":\"beta\"}", KV_OK },
        };
        QuietPeer *h = *state;

        restrict_host(h);
        write_key(h, OTHER "/facts", "{\"name\":\"alpha\"}");
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (propose_own(h, "", OWN "/facts", rows[i].facts, _KV_CHECK_MAX, 0) != rows[i].status)
                        fail_msg("row %zu", i);
}

#define WEB(services)                                                                                  \
        "{\"address\":\"10.0.0.2\",\"name\":\"bbbbbbbb\",\"ports\":[{\"name\":\"http\",\"port\":8080," \
        "\"protocol\":\"tcp\"}],"                                                                      \
        "\"services\":[\"" services "\"]}"

/* Those of the unit that it is to run, at a pace; a withdrawal has none, and a return is no withdrawal. */
static void the_host_registers_the_endpoints_of_its_assignments(void **state) {
        static const char key[] = "/_fleet/endpoint/web.service/" QUIET_PEER_OTHER_ID;
        QuietPeer *h = *state;
        unsigned taken = 0;
        uint64_t begin_ms;

        restrict_host(h);
        write_key(h, "/_fleet/unit/web.service",
                  "{\"text\":\"[X-Fleet]\\nPort=http:8080\\n[Service]\\nExecStart=/a\\n\"}");
        write_key(h, OWN "/facts", "{\"address\":\"10.0.0.2\",\"name\":\"beta\"}");
        write_key(h, OWN "/presence", "{\"since\":5,\"state\":\"up\"}");
        assert_int_equal(propose_value(h, "", KV_SET, key, WEB("web")), KV_FORBIDDEN);
        write_key(h, OWN "/unit/web.service", "{\"order\":\"run\"}");
        assert_int_equal(propose_value(h, "", KV_SET, key, WEB("db")), KV_FORBIDDEN);
        assert_int_equal(
                propose_value(h, "", KV_SET, "/_fleet/endpoint/web.service/" QUIET_PEER_ID, WEB("web")),
                KV_FORBIDDEN);
        begin_ms = h->now_ms;
        for (unsigned i = 0; i < 600; i++) {
                KvStatus status;

                if (i % 8 == 0) /* it sends no heartbeats */
                        write_key(h, OWN "/presence", "{\"since\":5,\"state\":\"up\"}");
                status = propose_value(h, "", KV_SET, key, WEB("web"));
                assert_true(status == KV_OK || status == KV_BUSY);
                taken += status == KV_OK;
                if (status == KV_OK)
                        assert_int_equal(propose_value(h, "", KV_DELETE, key, NULL), KV_OK);
        }
        assert_in_range(taken, 100, 101 + 20 * (h->now_ms - begin_ms) / 1000);
        assert_true(taken < 600);
}

/* A rejected report is repeated with the values of then. What an operator waits for has a rate of its own. */
static void reports_about_the_host_have_a_rate(void **state) {
        enum { N = 300, BURST = 60 };
        static const size_t pairs[][2] = { { 0, 2 }, { 3, 1 } };
        KvCommand both[] = { COMMAND(KV_SET, own[3].key, .internal = true),
                             COMMAND(KV_SET, own[0].key, .internal = true) };
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = both, .n_writes = 2 };
        QuietPeer *h = *state;

        restrict_host(h);
        for (size_t p = 0; p < ELEMENTS(pairs); p++) {
                uint64_t begin_ms = h->now_ms, seconds;
                unsigned taken = 0;

                for (unsigned i = 0; i < N; i++) {
                        size_t k = pairs[p][i % 2];
                        char value[64];
                        KvStatus status;

                        snprintf(value, sizeof(value), "{\"name\":\"h%u\"}", i);
                        status = propose_value(h, "", KV_SET, own[k].key, k == 1 ? value : own[k].value);
                        assert_true(status == KV_OK || status == KV_BUSY);
                        taken += status == KV_OK;
                }
                seconds = (h->now_ms - begin_ms) / 1000;
                assert_in_range(taken, BURST, BURST + seconds + 1);
        }
        both[0].value = kv_string(own[3].value);
        both[1].value = kv_string(own[0].value);
        while (propose_value(h, "", KV_SET, own[3].key, own[3].value) == KV_OK)
                continue;
        assert_int_equal(propose(h, "", &txn, NULL), KV_BUSY); /* a report of each kind that it contains */
        assert_int_equal(propose_maintenance(h, "", SHUTDOWN, KV_CHECK_ABSENT, 0), KV_OK);
        quiet_peer_pass(h, 1000);
        assert_int_equal(propose_value(h, "", KV_SET, own[1].key, own[1].value), KV_OK);
}

/* Keys of a former version of the leader, which did not check what a host writes. */
static void a_host_with_keys_that_cannot_be_read_is_removed(void **state) {
        QuietPeer *h = *state;
        Request request = { .api = h->api };
        KvStatus status = KV_UNKNOWN;
        const ClusterMachine *m;
        Error err = {};
        char value[64];

        write_key(h, MAINTENANCE, "\xff");
        write_key(h, OWN "/problem/a.service", "\xff");
        write_key(h, OWN "/facts", "\xff");
        m = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID);
        assert_true(machine_removal_is_refused(&request, m, false, &err));
        assert_non_null(strstr(err.message, CLUSTER_UNREADABLE));
        if (machine_removal_is_refused(&request, m, true, &err))
                fail_msg("%s", err.message);
        assert_int_equal(registry_remove_machine(h->registry, m, "ann", NULL, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(status, KV_OK);
        assert_string_equal(value_of(h, MAINTENANCE, value), "");
        assert_string_equal(value_of(h, OWN "/problem/a.service", value), "");
        assert_string_equal(value_of(h, OWN "/facts", value), "");

        /* The rights of the host itself are not guessed. */
        write_key(h, HOST, "\xff");
        m = cluster_machine(registry_cluster(h->registry), QUIET_PEER_OTHER_ID);
        assert_true(machine_removal_is_refused(&request, m, true, &err));
}

static void the_host_writes_below_the_prefixes_of_its_token(void **state) {
        static const struct {
                const char *key;
                KvStatus status;
        } rows[] = {
                { "/app", KV_OK },         { "/app/x", KV_OK },
                { "/logs/b", KV_OK },      { "/apple", KV_FORBIDDEN },
                { "/logs", KV_FORBIDDEN }, { "/logs/c", KV_FORBIDDEN },
                { "/", KV_FORBIDDEN },     { OTHER "/facts", KV_FORBIDDEN },
        };
        static const char *const claims[] = { "", ROOT, "anonymous@" QUIET_PEER_OTHER_ID };
        QuietPeer *h = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t k = 0; k < ELEMENTS(claims); k++) {
                        KvStatus status;

                        write_key(h, HOST,
                                  "{\"joined\":1,\"pins\":[\"" PIN
                                  "\"],\"restricted\":true,\"write\":\"/app,/logs/b\"}");
                        status = propose_write(h, claims[k], KV_SET, rows[i].key);
                        if (status != rows[i].status)
                                fail_msg("%s, for '%s': %s", rows[i].key, claims[k], kv_status_name(status));
                        if (status == KV_OK)
                                assert_int_equal(propose_write(h, claims[k], KV_DELETE, rows[i].key), KV_OK);
                }
        assert_int_equal(propose_write(h, "user:ann", KV_SET, "/app/x"), KV_FORBIDDEN);
        restrict_host(h);
        assert_int_equal(propose_write(h, ROOT, KV_SET, "/app/x"), KV_FORBIDDEN);
}

/* A transaction with a check, and a write that the host may do. */
static KvStatus propose_check(QuietPeer *h, const char *principal, const KvCheck *check, Heard *ret) {
        KvCommand write = SET(own[0].key, own[0].value, .internal = true);
        KvCommand txn = { .op = KV_TXN,
                          .internal = true,
                          .checks = (KvCheck *) check,
                          .n_checks = 1,
                          .writes = &write,
                          .n_writes = 1 };

        *ret = (Heard) {};
        return propose(h, principal, &txn, ret);
}

static void a_check_reveals_no_key_of_others(void **state) {
        QuietPeer *h = *state;
        KvCheck absent = { .kind = KV_CHECK_ABSENT, .key = kv_string("/_fleet/unit/a.service") },
                adopting = { .kind = KV_CHECK_ABSENT, .key = kv_string("/_fleet/cluster/adopting") },
                users = { .kind = KV_CHECK_ABSENT, .key = kv_string("/a") },
                root = { .kind = KV_CHECK_EXISTS, .key = kv_string("/") };
        Heard heard;

        assert_int_equal(propose_check(h, "", &absent, &heard), KV_COMPARE_FAILED);
        heard_done(&heard);
        restrict_host(h);
        for (size_t i = 0; i < ELEMENTS(denied); i++)
                for (KvCheckKind kind = KV_CHECK_ABSENT; kind < _KV_CHECK_MAX; kind++) {
                        KvCheck check = { .kind = kind, .key = kv_string(denied[i]), .index = 1 };

                        if (kind == KV_CHECK_VALUE)
                                check.value = kv_string("inactive");
                        assert_int_equal(propose_check(h, "", &check, &heard), KV_FORBIDDEN);
                        assert_int_equal(heard.keys.size, 0);
                        heard_done(&heard);
                }
        assert_int_equal(propose_check(h, "", &adopting, &heard), KV_OK);
        heard_done(&heard);
        assert_int_equal(propose_check(h, "", &users, &heard), KV_OK);
        heard_done(&heard);
        assert_int_equal(propose_check(h, "", &root, &heard), KV_OK);
        heard_done(&heard);
}

/* The history is no place for claims about others. */
static void the_host_adds_rows_about_itself_only(void **state) {
        static const struct {
                HistoryNote note;
                KvStatus status;
        } rows[] = {
                { { .kind = HISTORY_STATE, .unit = "a.service", .machine = QUIET_PEER_OTHER_ID }, KV_OK },
                { { .kind = HISTORY_STATE, .unit = "a.service", .machine = QUIET_PEER_ID }, KV_FORBIDDEN },
                { { .kind = HISTORY_STATE, .unit = "a.service" }, KV_FORBIDDEN },
                { { .kind = HISTORY_PRESENCE, .machine = QUIET_PEER_OTHER_ID }, KV_FORBIDDEN },
                { { .kind = HISTORY_REMOVED, .machine = QUIET_PEER_OTHER_ID, .user = "root" }, KV_FORBIDDEN },
                { { .kind = _HISTORY_KIND_MAX, .machine = QUIET_PEER_OTHER_ID }, KV_FORBIDDEN },
        };
        QuietPeer *h = *state;

        restrict_host(h);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                uint8_t body[KV_NOTE_MAX];
                KvCommand write = SET(
                        own[0].key, own[0].value, .internal = true,
                        .note = { .wall_ms = 1,
                                  .body = { body, history_encode(&rows[i].note, false, body) } });
                KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };

                assert_int_equal(propose(h, "", &txn, NULL), rows[i].status);
        }
}

/* Propose to the leader in the name of another machine, as a replica does that relays. */
static void propose_relayed(QuietPeer *h, const char *machine, const char *key, const char *value) {
        KvCommand write = SET(key, value, .internal = key[1] == '_');
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };
        _cleanup_writer_ Writer w = {}, command = {};
        KvState store;

        kv_state(h->store, &store);
        assert_int_equal(kv_command_encode(write.internal ? &txn : &write, KV_LEVEL_MAX, &command), 0);
        write_u64(&w, store.cluster_id);
        write_u64(&w, 9); /* some Raft ID: the host has none */
        write_u64(&w, store.raft_id);
        write_u64(&w, store.term);
        write_u64(&w, FORGED);
        write_u64(&w, 1);
        write_u8(&w, 2 | (machine ? 4 : 0)); /* principals follow; of an attached host */
        if (machine)
                write_string(&w, machine);
        write_varint(&w, 1);
        write_u64(&w, ++number);
        write_u64(&w, store.cluster_ms + 10000);
        write_blob(&w, command.bytes, command.size);
        write_blob(&w, "", 0);
        assert_true(quiet_peer_send(h, PEER_PROPOSE, w.bytes, w.size));
        quiet_peer_pass(h, 1000);
}

static void the_host_relays_for_no_other_one(void **state) {
        QuietPeer *h = *state;
        char value[64];

        propose_relayed(h, NULL, "/a", "1");
        assert_string_equal(value_of(h, "/a", value), "1"); /* an ordinary host, for itself */
        propose_relayed(h, QUIET_PEER_ID, "/a", "2");
        assert_string_equal(value_of(h, "/a", value), "1");
        restrict_host(h);
        propose_relayed(h, NULL, "/a", "3");
        propose_relayed(h, QUIET_PEER_ID, "/a", "4");
        propose_relayed(h, QUIET_PEER_ID, OTHER "/reported", "1");
        propose_relayed(h, "ffffffffffffffffffffffffffffffff", "/a", "5"); /* nothing is known of it */
        assert_string_equal(value_of(h, "/a", value), "1");
        assert_string_equal(value_of(h, OTHER "/reported", value), "");
}

/* -- Forwarded requests -- */

static void forward_send(QuietPeer *h, const char *method, const char *path, const char *principal,
                         const Text *body) {
        ForwardRequest request = { .number = (uint32_t) ++number,
                                   .path = kv_string(path),
                                   .body = { body->chars, body->size },
                                   .content_type = JSON,
                                   .n_content_types = 1 };
        _cleanup_writer_ Writer w = {};

        snprintf(request.method, sizeof(request.method), "%s", method);
        assert_int_equal(principal_parse(principal, strlen(principal), &request.sender.principal), 0);
        request.sender.is_operator = request.sender.reads = request.sender.writes = true;
        forward_request_begin(request.number, 7, 0, &w);
        forward_request_write(&request, &w);
        assert_true(quiet_peer_send(h, PEER_FORWARD, w.bytes, w.size));
}

/* Return the status of the next answer, and its number; 0: none has arrived. */
static unsigned forward_receive(QuietPeer *h, uint32_t *ret_number) {
        unsigned status = 0;
        Frame f;

        while (status == 0 && quiet_peer_receive(&h->asking, &f)) {
                ForwardHead head;

                if (f.type != PEER_FORWARD_HEAD)
                        continue;
                assert_int_equal(forward_head_read(f.payload, f.size, &head), 0);
                *ret_number = head.number;
                status = head.status;
                free(head.texts);
        }
        return status;
}

static unsigned forward(QuietPeer *h, const char *method, const char *path, const char *principal) {
        unsigned status = 0, found;
        uint32_t answered;

        forward_send(h, method, path, principal, &(Text) {});
        for (unsigned i = 0; i < 200 && status == 0; i++) {
                quiet_peer_pass(h, 10);
                while ((found = forward_receive(h, &answered)) != 0)
                        status = answered == (uint32_t) number ? found : status;
        }
        return status;
}

static void forwarded_requests_have_the_rights_of_the_host(void **state) {
        static const struct {
                const char *method, *path;
                unsigned ordinary, restricted;
        } rows[] = {
                { "GET", "/fleet/v1/units", 200, 200 },
                { "GET", "/v2/keys/_fleet", 200, 404 },
                { "GET", "/v2/keys/_fleet/unit/a.service", 200, 404 },
                { "GET", "/fleet/v1/kv/value" USER, 200, 404 },
                { "GET", "/fleet/v1/cluster/tokens", 200, 403 },
                { "GET", "/fleet/v1/cluster/users", 200, 403 },
                { "GET", "/fleet/v1/cluster/backup", 200, 403 },
                { "DELETE", "/fleet/v1/units/none.service", 404, 403 },
                { "DELETE", "/v2/keys/none", 404, 401 },
                { "DELETE", "/fleet/v1/machines/" QUIET_PEER_ID, 404, 403 },
                { "DELETE", "/fleet/v1/cluster/users/bob", 404, 403 },
                { "POST", "/fleet/v1/cluster/ca/rotate", 400, 403 },
                /* of the host that gets the request from its own clients, and of no other one */
                { "POST", "/fleet/v1/cluster/leave", 403, 403 },
                { "POST", "/fleet/v1/cluster/init", 403, 403 },
                { "POST", "/fleet/v1/cluster/join", 403, 403 },
                { "POST", "/fleet/v1/cluster/host/rekey", 403, 403 },
        };
        QuietPeer *h = *state;

        h->components.components = daemon_components; /* join has routes of its own */
        for (unsigned pass = 0; pass < 2; pass++) {
                if (pass == 1)
                        restrict_host(h);
                for (size_t i = 0; i < ELEMENTS(rows); i++) {
                        unsigned expected = pass == 0 ? rows[i].ordinary : rows[i].restricted,
                                 status = forward(h, rows[i].method, rows[i].path, ROOT);

                        if (status != expected)
                                fail_msg("%s %s: %u instead of %u", rows[i].method, rows[i].path, status,
                                         expected);
                }
        }
        assert_int_equal(forward(h, "GET", "/fleet/v1/cluster/tokens", "user:ann"), 403);
}

static unsigned n_decoded; /* bodies of plans */

int __real_api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err);
int __wrap_api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err);
int __wrap_api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err) {
        n_decoded++;
        return __real_api_units_read(json, size, max, ret, err);
}

/* Texts with 20,000 options: 600,000 steps of work. */
static void plans_above_the_pace_wait_undecoded_and_in_order(void **state) {
        enum { UNITS = 500, OPTIONS = 40, CANCELED = 60, AT_ONCE = 10, PLANS = 2, PATIENCE = 1000 };
        _cleanup_text_ Text body = {};
        QuietPeer *h = *state;
        uint32_t first, answered;

        n_decoded = 0;
        for (unsigned i = 0; i < UNITS; i++) {
                text_printf(&body, "%s{\"name\":\"%u.service\",\"text\":\"[Service]\\n",
                            i > 0 ? "," : "{\"units\":[", i);
                for (unsigned k = 0; k < OPTIONS; k++)
                        text_append(&body, "a=b\\n");
                text_append(&body, "\"}");
        }
        text_append(&body, "]}");
        for (unsigned i = 0; i < CANCELED; i++) {
                _cleanup_writer_ Writer cancel = {};

                forward_send(h, "POST", "/fleet/v1/plan", ROOT, &body);
                write_u32(&cancel, (uint32_t) number);
                assert_true(quiet_peer_send(h, PEER_FORWARD_CANCEL, cancel.bytes, cancel.size));
        }
        assert_in_range(n_decoded, 1, AT_ONCE);
        while (forward_receive(h, &answered) != 0)
                ;
        n_decoded = 0;
        first = (uint32_t) number + 1;
        for (unsigned i = 0; i < PLANS; i++)
                forward_send(h, "POST", "/fleet/v1/plan", ROOT, &body);
        assert_int_equal(n_decoded, 0);
        for (unsigned i = 0, n = 0; n < PLANS; i++) {
                assert_true(i < PATIENCE);
                quiet_peer_pass(h, 10);
                if (forward_receive(h, &answered) == 200)
                        assert_int_equal(answered, first + n++);
                assert_in_range(n_decoded, n, n + 1);
        }
}

/* 250 units that exclude each other by 12 patterns each: about a million comparisons. The cluster view
 * changes between the steps, and while the last plan waits, the right to it ends. */
static void a_plan_is_made_in_steps_and_each_sender_has_a_pace(void **state) {
        enum { UNITS = 250, PATTERNS = 12, STEPS_MIN = 10, PLANS = 5 };
        PresenceChange up = { .machine = QUIET_PEER_OTHER_ID, .presence = PRESENCE_UP };
        static const char right[] = "1000:units-see";
        _cleanup_text_ Text body = {}, request = {};
        KvStatus status = KV_UNKNOWN;
        QuietPeer *h = *state;
        const Writer *said;

        write_key(h, OWN "/facts", "{\"name\":\"beta\"}");
        assert_int_equal(registry_presence(h->registry, 0, &up, 1, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        for (unsigned i = 0; i < UNITS; i++) {
                text_printf(&body, "%s{\"name\":\"%u.service\",\"text\":\"[X-Fleet]\\nConflicts=",
                            i > 0 ? "," : "{\"units\":[", i);
                for (unsigned k = 0; k < PATTERNS; k++)
                        text_printf(&body, "x%u* ", k);
                text_append(&body, "\"}");
        }
        text_append(&body, "]}");
        text_printf(&request,
                    "POST /fleet/v1/plan HTTP/1.1\r\nHost: fleet\r\nContent-Type: " JSON "\r\n"
                    "Content-Length: %zu\r\n\r\n%s",
                    body.size, body.chars);
        quiet_peer_grant(h, right);
        h->uid = 1000;
        for (unsigned i = 1; i < PLANS; i++) {
                uint64_t n_turns = h->loop.turns.n;

                said = quiet_peer_request(h, API_SOCKET, request.chars, request.size);
                for (unsigned k = 0; k < 100 && said->size == 0; k++) {
                        char facts[64];

                        snprintf(facts, sizeof(facts), "{\"name\":\"b%u\"}", k);
                        write_key(h, OWN "/facts", facts);
                        quiet_peer_pass(h, 100);
                }
                assert_true(starts_with((const char *) said->bytes, "HTTP/1.1 200"));
                assert_true(h->loop.turns.n - n_turns >= STEPS_MIN);
                quiet_peer_leave(h);
        }
        said = quiet_peer_request(h, API_SOCKET, request.chars, request.size);
        assert_int_equal(said->size, 0); /* its pace does not permit it yet */
        quiet_peer_grant(h, NULL);
        quiet_peer_pass(h, 60000);
        assert_true(starts_with((const char *) said->bytes, "HTTP/1.1 403"));
}

/* -- Contents of units -- */

/* Return the status of the answer, or -ENOENT. */
static int ask_for_content(QuietPeer *h, const char *unit, const char *hash) {
        _cleanup_writer_ Writer w = {};
        InputsStatus status;
        Resolved resolved;
        Frame f;

        write_u8(&w, 1);
        write_u32(&w, ++number);
        write_string(&w, unit);
        write_string(&w, hash);
        write_u64(&w, 0);
        assert_true(quiet_peer_send(h, PEER_INPUTS, w.bytes, w.size));
        while (quiet_peer_receive(&h->asking, &f)) {
                if (f.type != PEER_INPUTS_PART)
                        continue;
                assert_true(f.size > INPUTS_PART_HEAD && f.size < 4096);
                assert_int_equal(inputs_answer_read(f.payload + INPUTS_PART_HEAD, f.size - INPUTS_PART_HEAD,
                                                    &status, &resolved),
                                 0);
                content_done(&resolved.content);
                return (int) status;
        }
        return -ENOENT;
}

/* It knows the unit, and its text. */
static void the_host_gets_no_content_of_units_of_others(void **state) {
        static const char *const orders[] = { NULL, "{\"order\":\"stop\"}", "{\"order\":\"run\"}" };
        QuietPeer *h = *state;
        Resolver *resolver;
        const char *hash;

        assert_int_equal(resolver_new(&resolver, &h->components), 0);
        write_key(h, OTHER "/unit/a.service", "{\"order\":\"run\"}");
        for (unsigned pass = 0; pass < 2; pass++) {
                if (pass == 1)
                        restrict_host(h);
                for (size_t i = 0; i < ELEMENTS(orders); i++) {
                        if (orders[i]) /* without a hash, it names no text */
                                write_key(h, OWN "/unit/a.service", orders[i]);
                        hash = cluster_unit(registry_cluster(h->registry), "a.service")->unit->hash;
                        assert_int_equal(ask_for_content(h, "a.service", hash), INPUTS_UNASSIGNED);
                        assert_int_equal(ask_for_content(h, "a.service", ""), INPUTS_UNASSIGNED);
                        assert_int_equal(ask_for_content(h, "none.service", ""), INPUTS_UNASSIGNED);
                        assert_int_equal(ask_for_content(h, "../a.service", hash), INPUTS_UNASSIGNED);
                }
        }
        resolver_free(resolver);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, host_setup, host_teardown)
                TEST(keys_of_others_are_absent_from_reads),
                TEST(keys_of_others_are_absent_from_watches),
                TEST(the_host_writes_only_what_is_its_own),
                TEST(the_host_writes_no_value_that_cannot_be_read),
                TEST(the_host_changes_its_leave_and_no_cordon),
                TEST(the_host_announces_its_shutdown_and_keeps_a_cordon),
                TEST(the_host_takes_no_name_of_another_machine),
                TEST(the_host_registers_the_endpoints_of_its_assignments),
                TEST(reports_about_the_host_have_a_rate),
                TEST(the_host_only_reports_that_its_reboot_is_rejected),
                TEST(a_host_with_keys_that_cannot_be_read_is_removed),
                TEST(the_host_writes_below_the_prefixes_of_its_token),
                TEST(a_check_reveals_no_key_of_others),
                TEST(the_host_adds_rows_about_itself_only),
                TEST(the_host_relays_for_no_other_one),
                TEST(the_host_gets_no_content_of_units_of_others),
                TEST(forwarded_requests_have_the_rights_of_the_host),
                TEST(a_plan_is_made_in_steps_and_each_sender_has_a_pace),
                TEST(plans_above_the_pace_wait_undecoded_and_in_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
