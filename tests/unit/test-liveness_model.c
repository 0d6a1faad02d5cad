/* Attached hosts in virtual time, without daemons: heartbeats, of which some are lost, reports of five
 * replicas, which pause, and the liveness of the leader, which changes. CHECK_ALL: 10,000 hosts for a day. */
#include <time.h>
#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/sessions/reports.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/message.h"

enum {
        REPLICAS = 5,
        HOSTS_MAX = 10000,
        HOST_DIGITS = 8,
        TICK_MS = LIVENESS_TICK_MS,
        TICKS_PER_HOUR = 3600 * 1000 / TICK_MS,
        LOSS = 100,       /* one message of so many */
        KERNEL_TICKS = 3, /* until a silent kernel is noticed */
        MOVE_TICKS = 3,   /* until a host uses its other replica */
        PAUSE_TICKS = 4,  /* 2 s */
        DELAYED_MAX = 8,  /* reports */
};

typedef struct ModelHost {
        uint32_t slots[2]; /* its sessions: to 'replicas' of the same index, which never end */
        uint8_t replicas[2];
        uint8_t in_use; /* index of these */
        bool due;       /* a heartbeat on the session in use: after a move, or the last one was lost */
        bool cut;
        bool lost;
} ModelHost;

typedef struct ModelReplica {
        Reporter reporter;
        unsigned paused; /* ticks left */
        unsigned silent; /* ticks of the pause so far */
        bool late, down;
        Writer delayed[DELAYED_MAX]; /* in order; they arrive together */
        size_t n_delayed;
} ModelReplica;

typedef struct Model {
        ModelHost hosts[HOSTS_MAX];
        ModelReplica replicas[REPLICAS];
        unsigned n, leader, next_loss;
        uint64_t tick, term, cut_tick, n_lost, last_lost_tick, bytes;
        ClusterView view;
        Liveness liveness;
        Reports reports;
        Random random;
} Model;

static Model model;

static const char *host_id(char ret[static MACHINE_ID_SIZE], const ModelHost *h) {
        snprintf(ret, MACHINE_ID_SIZE, "a%031u", (unsigned) (h - model.hosts));
        return ret;
}

static ModelHost *host_of(const char *id) {
        return &model.hosts[atoi(id + MACHINE_ID_SIZE - 1 - HOST_DIGITS)];
}

static bool on_sign(void *userdata, const char *id, const LivenessSign *sign, bool late) {
        if (sign->unattached && cluster_machine(&model.view.cluster, id)->presence == PRESENCE_LOST)
                return false;
        assert_int_equal(liveness_sign(&model.liveness, &model.view.cluster, id, sign, late), 0);
        return true;
}

static LivenessSign look(void *userdata, const char *id) {
        const ModelHost *h = host_of(id);

        return (LivenessSign) { .session = true,
                                .kernel = !h->cut || model.tick - model.cut_tick < KERNEL_TICKS };
}

static uint64_t now_ms(void) {
        return 1000000 + model.tick * TICK_MS;
}

static void lead(unsigned replica) {
        char id[MACHINE_ID_SIZE];

        model.leader = replica;
        model.term++;
        liveness_reset(&model.liveness, 1000);
        reports_begin(&model.reports, on_sign, NULL);
        for (unsigned i = 0; i < model.n; i++)
                if (!model.hosts[i].lost)
                        assert_int_equal(reports_expect(&model.reports, host_id(id, &model.hosts[i])), 0);
}

static void set_presence(const ModelHost *h, Presence presence) {
        PresenceRecord record = { .presence = presence };
        _cleanup_text_ Text t = {};
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];

        stored_presence_write(&t, &record);
        cluster_view_put(&model.view, layout_key(key, LAYOUT_PRESENCE, NULL, host_id(id, h)), t.chars);
}

/* Return the slot of the host. */
static uint32_t begin_session(unsigned replica, const char *machine_id) {
        uint32_t slot = UINT32_MAX;

        assert_int_equal(reporter_slot(&model.replicas[replica].reporter, machine_id, 1, &slot), 0);
        return slot;
}

static void begin(unsigned hosts) {
        model = (Model) { .n = hosts, .next_loss = LOSS };
        random_seed(&model.random, 1);
        for (unsigned i = 0; i < 2 * hosts; i++) {
                ModelHost *h = &model.hosts[i % hosts];
                unsigned k = i / hosts, other = i % hosts / REPLICAS % (REPLICAS - 1);
                char id[MACHINE_ID_SIZE];

                h->replicas[k] = (uint8_t) ((i % hosts + k * (1 + other)) % REPLICAS);
                h->slots[k] = begin_session(h->replicas[k], host_id(id, h));
        }
        for (unsigned i = 0; i < hosts; i++) {
                char id[MACHINE_ID_SIZE];

                host_id(id, &model.hosts[i]);
                set_presence(&model.hosts[i], PRESENCE_UP);
                assert_int_equal(cluster_machine(&model.view.cluster, id)->presence, PRESENCE_UP);
        }
        lead(0);
}

static void end(void) {
        for (unsigned r = 0; r < REPLICAS; r++) {
                reporter_done(&model.replicas[r].reporter);
                for (size_t i = 0; i < model.replicas[r].n_delayed; i++)
                        writer_done(&model.replicas[r].delayed[i]);
        }
        reports_done(&model.reports);
        liveness_reset(&model.liveness, 0);
        cluster_view_free(&model.view);
}

/* Whether a message is lost. */
static bool lost(void) {
        if (--model.next_loss > 0)
                return false;
        model.next_loss = 1 + (unsigned) random_below(&model.random, 2 * LOSS - 1);
        return true;
}

static inline bool send_heartbeat(const ModelHost *h, unsigned session, uint8_t signs) {
        ModelReplica *p = &model.replicas[h->replicas[session]];

        if (lost() || p->down)
                return false;
        reporter_heartbeat(&p->reporter, h->slots[session], signs);
        return true;
}

static void move(ModelHost *h) {
        h->in_use = !h->in_use;
        h->due = true;
}

/* Each host sends its heartbeats to replicas that run; one in four ticks on the idle session. Every other
 * host sends one in two ticks to the replica that it uses, and all do if that requests it: but at once after
 * a move, and again with the next tick if it was lost, as TCP does. */
static void send_heartbeats(void) {
        for (unsigned i = 0; i < model.n; i++) {
                ModelHost *h = &model.hosts[i];

                if (h->cut)
                        continue;
                if (model.replicas[h->replicas[h->in_use]].silent >= MOVE_TICKS)
                        move(h);
                if (i % 2 == 0 && !reporter_requests_rare(&model.replicas[h->replicas[h->in_use]].reporter))
                        send_heartbeat(h, h->in_use, SIGN_IN_USE);
                else if ((model.tick + i / 2) % 2 == 0 || h->due)
                        h->due = !send_heartbeat(h, h->in_use, SIGN_IN_USE | SIGN_RARE);
                if ((model.tick + i) % 4 == 0)
                        send_heartbeat(h, !h->in_use, 0);
        }
}

static void deliver(unsigned replica, const Writer *frame) {
        char id[MACHINE_ID_SIZE];
        int e;

        snprintf(id, sizeof(id), "b%031u", replica);
        e = reports_take(&model.reports, id, 1 + replica, model.term, now_ms(), frame->bytes, frame->size);
        if (e < 0) /* of a former term */
                reporter_again(&model.replicas[replica].reporter);
        model.bytes += frame->size;
}

/* A report that is lost is sent again by TCP: it arrives with the next one. */
static void report(unsigned replica, bool delay) {
        ModelReplica *p = &model.replicas[replica];
        const ReportHead head = { .session = 1 + replica, .term = model.term, .kept = !p->late };
        Writer frame = {};

        if (p->down)
                return;
        if (p->paused > 0) {
                p->silent++;
                p->late = true;
                if (--p->paused > 0)
                        return;
        }
        reporter_write(&p->reporter, &head, look, NULL, &frame);
        assert_int_equal(frame.error, 0);
        p->late = false;
        p->silent = 0;
        p->delayed[p->n_delayed++] = frame;
        if (delay && p->n_delayed < DELAYED_MAX)
                return;
        for (size_t i = 0; i < p->n_delayed; i++) {
                deliver(replica, &p->delayed[i]);
                writer_done(&p->delayed[i]);
                p->delayed[i] = (Writer) {};
        }
        p->n_delayed = 0;
}

static void write_changes(void) {
        _cleanup_free_ PresenceChange *changes = NULL;
        size_t n;

        assert_int_equal(liveness_changes(&model.liveness, &model.view.cluster, &changes, &n), 0);
        for (size_t i = 0; i < n; i++) {
                ModelHost *h = host_of(changes[i].machine);

                if (changes[i].presence == PRESENCE_UP || !h->cut)
                        fail_msg("host %s, tick %llu: %s: %s", changes[i].machine,
                                 (unsigned long long) model.tick, presence_to_string(changes[i].presence),
                                 message_of(&changes[i].verdict));
                set_presence(h, changes[i].presence);
                if (changes[i].presence != PRESENCE_LOST)
                        continue;
                h->lost = true;
                model.n_lost++;
                model.last_lost_tick = model.tick;
        }
}

static void tick(bool lossy) {
        ModelReplica *leader = &model.replicas[model.leader];

        send_heartbeats();
        for (unsigned r = 0; r < REPLICAS; r++)
                report(r, lossy && r != model.leader && random_below(&model.random, LOSS) == 0);
        if (!leader->down && leader->silent == 0) {
                liveness_tick(&model.liveness);
                reports_tick(&model.reports, now_ms(), leader->late);
                write_changes();
        }
        model.tick++;
}

static double cpu_s(void) {
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void no_host_is_lost_in_a_day(void **state) {
        unsigned hosts = getenv("CHECK_ALL") ? HOSTS_MAX : 1000, hours = getenv("CHECK_ALL") ? 24 : 1;
        double from_s;

        begin(hosts);
        from_s = cpu_s();
        for (unsigned t = 0; t < hours * TICKS_PER_HOUR; t++) {
                unsigned r = (unsigned) random_below(&model.random, REPLICAS);

                if (random_below(&model.random, TICKS_PER_HOUR / 12) == 0 && model.replicas[r].paused == 0)
                        model.replicas[r].paused = 1 + (unsigned) random_below(&model.random, PAUSE_TICKS);
                if (random_below(&model.random, TICKS_PER_HOUR / 4) == 0)
                        lead((model.leader + 1) % REPLICAS);
                tick(true);
        }
        printf("%u hosts, %u h, 1 %% of the messages lost: none lost, %.1f s of CPU, %.0f bytes of reports "
               "in "
               "a second\n",
               hosts, hours, cpu_s() - from_s, (double) model.bytes / (hours * 3600));
#if !defined(__SANITIZE_ADDRESS__)
        assert_true(cpu_s() - from_s <= 60);
#endif
        end();
}

static void cut(unsigned first, unsigned n) {
        for (unsigned i = first; i < first + n; i++)
                model.hosts[i].cut = true;
        model.cut_tick = model.tick;
}

static void a_tenth_of_the_hosts_is_lost_in_4_s(void **state) {
        begin(HOSTS_MAX);
        for (unsigned t = 0; t < 100; t++)
                tick(true);
        cut(2000, 1000);
        for (unsigned t = 0; t < 20; t++)
                tick(true);
        assert_int_equal(model.n_lost, 1000);
        printf("1000 of %u hosts: lost within %llu ms\n", HOSTS_MAX,
               (unsigned long long) (model.last_lost_tick - model.cut_tick) * TICK_MS);
        assert_true((model.last_lost_tick - model.cut_tick) * TICK_MS <= 4000);
        end();
}

/* The next leader is elected after 2 s. Hosts with an idle session to another replica are not unattached. */
static void a_tenth_of_the_hosts_and_the_leader_are_lost_after_the_grace(void **state) {
        begin(HOSTS_MAX);
        for (unsigned t = 0; t < 100; t++)
                tick(true);
        cut(2000, 1000);
        model.replicas[0].down = true;
        for (unsigned i = 0; i < HOSTS_MAX; i++) /* their sessions are reset */
                if (!model.hosts[i].cut && model.hosts[i].replicas[model.hosts[i].in_use] == 0)
                        move(&model.hosts[i]);
        for (unsigned t = 0; t < 4; t++)
                tick(true);
        lead(1);
        for (unsigned t = 0; t < 40; t++)
                tick(true);
        assert_int_equal(model.n_lost, 1000);
        printf("1000 of %u hosts with the leader: lost within %llu ms\n", HOSTS_MAX,
               (unsigned long long) (model.last_lost_tick - model.cut_tick) * TICK_MS);
        assert_true((model.last_lost_tick - model.cut_tick) * TICK_MS <= 2000 + REPORT_GRACE_MS);
        end();
}

/* All sessions end: the hosts are admitted again at 500 a second and replica, and none is lost meanwhile. */
static void no_host_is_lost_in_a_blackout_of_all_sessions(void **state) {
        unsigned admitted = 0;

        begin(HOSTS_MAX);
        for (unsigned t = 0; t < 100; t++)
                tick(true);
        for (unsigned r = 1; r < REPLICAS; r++)
                model.replicas[r].down = true;
        reporter_done(&model.replicas[0].reporter);
        for (unsigned i = 0; i < HOSTS_MAX; i++) {
                model.hosts[i].replicas[0] = model.hosts[i].replicas[1] = 1; /* none that runs */
                model.hosts[i].in_use = 0;
        }
        lead(0);
        for (unsigned t = 0; t < 120; t++) {
                for (unsigned k = 0; k < REPORT_ADMISSION * TICK_MS / 1000 && admitted < HOSTS_MAX; k++) {
                        ModelHost *h = &model.hosts[admitted++];
                        char id[MACHINE_ID_SIZE];

                        h->slots[0] = h->slots[1] = begin_session(0, host_id(id, h));
                        h->replicas[0] = 0;
                        reporter_heartbeat(&model.replicas[0].reporter, h->slots[0], SIGN_IN_USE);
                }
                tick(false);
        }
        assert_int_equal(admitted, HOSTS_MAX);
        assert_true(reporter_requests_rare(&model.replicas[0].reporter));
        assert_int_equal(model.n_lost, 0);
        end();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_host_is_lost_in_a_day),
                cmocka_unit_test(a_tenth_of_the_hosts_is_lost_in_4_s),
                cmocka_unit_test(a_tenth_of_the_hosts_and_the_leader_are_lost_after_the_grace),
                cmocka_unit_test(no_host_is_lost_in_a_blackout_of_all_sessions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
