#include "tests/sim/attached.h"

#include "tests/lib/store_inside.h"

void over(void) {
        cluster = cluster_free(cluster);
}

bool slice_is_equal(SimMachine *m) {
        SimMachine *leader = leader_with(machine(0));

        return leader && serves(m) && cluster_slice_equals(m, leader);
}

void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status == KV_OK)
                *(bool *) userdata = true;
        else
                world_failed(world, "a-request-succeeds", "%s", message);
}

void request_unit(SimMachine *at, const char *name, const SimMachine *on) {
        UnitChange change = { .name = name, .has_target = on, .target = TARGET_LAUNCHED, .remove = !on };
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};
        SimUserUnit *u = &cluster->units[0];
        bool done = false;

        snprintf(u->name, sizeof(u->name), "%s", name);
        cluster->n_units = 1;
        u->touched_ms = world_now_ms(world);
        if (!on)
                u->stopping_ms = u->touched_ms;
        text_printf(&text, "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nService=shop\nMachineID=%s\n",
                    on ? on->machine_id : "");
        if (on && unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_host(at->daemon)->registry, &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
}

SimMachine *attached_by(unsigned members, const TokenRequest *request) {
        SimMachine *m;
        MadeToken token;

        found(6, members);
        m = machine(5);
        token = make_token_of(machine(0), request);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
        return m;
}

SimMachine *attached(void) {
        return attached_by(5, &(TokenRequest) { .uses = 1, .by = "root" });
}

/* -- Keys of users -- */

void on_written(void *userdata, const KvResult *result) {
        *(KeyWrite *) userdata = (KeyWrite) { true, result->status, result->index };
}

KeyWrite try_write(SimMachine *m, const char *key, const char *value) {
        KeyWrite write = {};
        uint64_t number;

        if (kv_propose(daemon_host(m->daemon)->store,
                       &(KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string(value) },
                       on_written, &write, &number) < 0)
                abort();
        UNTIL("a-write-is-answered", write.done);
        return write;
}

uint64_t write_key(SimMachine *m, const char *key, const char *value) {
        KeyWrite write = try_write(m, key, value);

        if (write.status != KV_OK)
                world_failed(world, "a-write-succeeds", "%s", kv_status_name(write.status));
        return write.index;
}

static void on_read(void *userdata, int result, const KvFound *found) {
        KeyRead *read = userdata;

        read->done = true;
        read->result = result < 0 ? result : found->error;
        if (result >= 0 && found->node)
                snprintf(read->value, sizeof(read->value), "%.*s", (int) found->node->value.size,
                         (const char *) found->node->value.data);
}

void begin_read(SimMachine *m, const char *key, KeyRead *ret) {
        *ret = (KeyRead) { .get = { .key = kv_string(key), .done = on_read, .userdata = ret } };
        kv_get(daemon_host(m->daemon)->store, &ret->get);
}

void expect_key(SimMachine *m, const char *key, const char *value) {
        KeyRead read;

        begin_read(m, key, &read);
        UNTIL("a-read-is-answered", read.done);
        if (read.result < 0 || !streq(read.value, value))
                world_failed(world, "a-host-reads-its-own-writes", "%s: %d, %s", key, read.result,
                             read.value);
}

void on_key_event(void *userdata, KvWatchEvent *event) {
        KeyWatch *w = userdata;

        if (w->n > 0 && event->event.index <= w->seen[w->n - 1])
                world_failed(world, "a-watch-repeats-nothing", "index %llu",
                             (unsigned long long) event->event.index);
        w->seen[w->n++ % SEEN_MAX] = event->event.index;
}

static void on_key_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        world_failed(world, "a-watch-keeps-its-position", "oldest %llu, current %llu",
                     (unsigned long long) oldest, (unsigned long long) current);
}

void watch_keys(SimMachine *m, const char *key, uint64_t since, KeyWatch *ret) {
        static const KvWatchOps ops = { .on_event = on_key_event, .on_cleared = on_key_cleared };
        const KvWatchOptions options = { .key = kv_string(key), .recursive = true, .since = since };
        uint64_t oldest;

        *ret = (KeyWatch) {};
        if (kv_watch(daemon_host(m->daemon)->store, &options, &ops, ret, &ret->watch, &oldest) < 0)
                world_failed(world, "a-watch-opens", "%s", key);
}

SimMachine *replica_of(SimMachine *m) {
        SimMachine *replica = cluster_replica_of(m);

        return replica && store_sent_index(daemon_host(replica->daemon)->store, m->machine_id) > 0 ? replica :
                                                                                                     NULL;
}
