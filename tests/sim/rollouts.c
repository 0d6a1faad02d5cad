#include "tests/sim/rollouts.h"

#include "fleetd/features/rollout/rollout.h"
#include "tests/sim/reached.h"

#define UNIT "roll.service"

enum {
        VERSIONS_MAX = 64,
        WATCH_MS = 2000,
        SLOW_MS = 3000,      /* a start of SIM_SLOW */
        DISTURBED_MS = 6000, /* after a fault, in which its effects may become visible */
        TURN_MS = 3000,
        LOST_PERCENT = 20, /* of the first starts of a text, which a power cut follows */
        DECIDED_MS = 2000, /* from a failure to the end of the rollout, with a leader */
};

typedef struct RollingHost {
        char key[LAYOUT_KEY_MAX];   /* of its assignment */
        uint64_t index;             /* of the key, in the newest version */
        unsigned assigned;          /* the text */
        uint64_t assigned_ms;       /* since when */
        uint64_t since_ms;          /* of the assignment to run; 0: to stop */
        bool has_had[VERSIONS_MAX]; /* assigned at any time */
        unsigned running;           /* version; 0: none */
        unsigned stopped;           /* version that fleetd has stopped last; 0: none, or it has ended */
        uint64_t started_ms;        /* of 'running', or of 'stopped' */
        uint64_t taken_ms;          /* fleetd has stopped an available instance; 0: it is available again */
} RollingHost;

static struct {
        SimCluster *cluster;
        char policy[256];
        unsigned max_unavailable;
        unsigned n; /* versions; the first is 1 */
        char hashes[VERSIONS_MAX][UNIT_HASH_SIZE];
        SimQuality qualities[VERSIONS_MAX];
        bool ending; /* the last text is submitted */
        RollingHost hosts[CLUSTER_HOSTS_MAX];
        uint64_t lost_ms; /* since then, a host is lost in its step; 0: none */
        bool seen;        /* a rollout */
        RolloutState state;
} rolling;

static Reached reached = {
        .table = "rollouts",
        .states = { [ROLLOUT_CANARY] = { "canary", 20, 20 },
                    [ROLLOUT_HELD] = { "held", 20, 20 },
                    [ROLLOUT_ROLLING] = { "rolling", 20, 20 },
                    [ROLLOUT_BETWEEN_BATCHES] = { "pausing", 50, 50 },
                    [ROLLOUT_PAUSED] = { "paused", 20, 20 },
                    [ROLLOUT_REVERTING] = { "reverting", 20, 20 },
                    [ROLLOUT_DONE] = { "done", 20, 20 } },
};
static uint64_t total_texts[_SIM_QUALITY_MAX], total_steps, total_reverts, most_taken;

/* -- Requests -- */

static const char *const commands[] = {
        [SIM_GOOD] = "good", [SIM_EXITS] = "exits", [SIM_NEVER_READY] = "never",
        [SIM_SLOW] = "slow", [SIM_FLAPS] = "flaps",
};

static void rolling_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        SimCluster *c = userdata;

        if (status != KV_OK)
                world_trace(c->world, "people", "request about %s rejected: %s", UNIT, message);
}

/* Return the leader's registry; NULL: no leader, or the cluster does not support rollouts. */
static Registry *rolling_registry(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        KvState state;

        if (!leader)
                return NULL;
        kv_state(daemon_host(leader->daemon)->store, &state);
        return state.level >= KV_LEVEL_UPDATES ? daemon_host(leader->daemon)->registry : NULL;
}

static const ClusterUnit *rolling_unit(Registry *r) {
        const ClusterUnit *u = r ? cluster_any_unit(registry_cluster(r), UNIT) : NULL;

        return u && u->unit ? u : NULL;
}

static void rolling_draw_policy(World *w, unsigned hosts) {
        static const char *const actions[] = { "pause", "revert", "revert" };
        unsigned n = hosts > 8 ? 3 : 1 + (unsigned) world_draw(w, 2);

        rolling.max_unavailable = n;
        snprintf(rolling.policy, sizeof(rolling.policy),
                 "Global=yes\nUpdateWatchSec=2s\nUpdateDeadlineSec=20s\nMaxUnavailable=%u\n%s%"
                 "sUpdateOnFailure=%s\n",
                 n, world_chance(w, 40) ? "Canary=1\n" : "", world_chance(w, 80) ? "UpdatePauseSec=4s\n" : "",
                 actions[world_draw(w, ELEMENTS(actions))]);
}

static Unit *rolling_text(unsigned version) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;

        text_printf(&t, "[Service]\nExecStart=/bin/%s %u\nTimeoutStartSec=10s\n[X-Fleet]\n%s",
                    commands[rolling.qualities[version]], version, rolling.policy);
        if (t.error < 0 || unit_parse(UNIT, t.chars, t.size, &unit, NULL) < 0)
                abort();
        snprintf(rolling.hashes[version], sizeof(rolling.hashes[version]), "%s", unit->hash);
        return unit;
}

static void rolling_submit(SimCluster *c, Registry *r, unsigned version) {
        _cleanup_unit_ Unit *unit = rolling_text(version);

        world_trace(c->world, "people", "%s: text %u (%s)", UNIT, version,
                    commands[rolling.qualities[version]]);
        (void) registry_change_units(
                r,
                &(UnitChange) { .unit = unit, .name = UNIT, .has_target = true, .target = TARGET_LAUNCHED },
                1, rolling_on_done, c);
}

static void rolling_new_text(SimCluster *c, Registry *r, SimQuality quality) {
        if (rolling.n + 1 >= VERSIONS_MAX)
                return;
        rolling.qualities[++rolling.n] = quality;
        total_texts[quality]++;
        rolling_submit(c, r, rolling.n);
}

static void rolling_ask(SimCluster *c, Registry *r, const ClusterUnit *u, RolloutVerb verb) {
        _cleanup_rollout_ RolloutRecord next = {};
        const RolloutRequest request = {
                .now_ms = registry_cluster(r)->now_ms,
                .index = registry_cluster(r)->index + 1,
                .by = "root@sim",
        };
        Error err = {};

        if (rollout_ask(u, verb, &request, &next, &err) < 0)
                return;
        world_trace(c->world, "people", "%s %s", rollout_verb_to_string(verb), UNIT);
        (void) registry_roll(r, 0, &(RolloutWrite) { .head = u, .record = &next, .reason = "requested" },
                             rolling_on_done, c);
}

static SimQuality rolling_draw_quality(World *w) {
        return world_chance(w, 45) ? SIM_GOOD : (SimQuality) world_draw(w, _SIM_QUALITY_MAX);
}

static void rolling_request(SimCluster *c, Registry *r, const ClusterUnit *u) {
        World *w = c->world;

        switch (world_draw(w, 10)) {
        case 0:
                rolling_ask(c, r, u, ROLLOUT_PAUSE);
                break;
        case 1:
        case 2:
        case 3:
                rolling_ask(c, r, u, ROLLOUT_RESUME);
                rolling_ask(c, r, u, ROLLOUT_PROMOTE);
                break;
        case 4:
                total_reverts++;
                rolling_submit(c, r, 1 + (unsigned) world_draw(w, rolling.n));
                break;
        case 5:
        case 6:
        case 7:
                rolling_new_text(c, r, rolling_draw_quality(w));
                break;
        default:
                break;
        }
}

static void rolling_on_turn(void *userdata) {
        SimCluster *c = userdata;
        Registry *r = rolling_registry(c);
        const ClusterUnit *u = rolling_unit(r);

        if (c->quiet)
                return;
        world_at(c->world, TURN_MS / 2 + world_draw(c->world, TURN_MS), NULL, rolling_on_turn, c);
        if (u)
                rolling_request(c, r, u);
        else if (r)
                rolling_submit(c, r, 1);
}

void rollouts_begin(SimCluster *c) {
        memset(&rolling, 0, sizeof(rolling));
        rolling.cluster = c;
        rolling.n = 1;
        rolling_draw_policy(c->world, c->n);
        unit_free(rolling_text(1));
        for (unsigned i = 0; i < c->n; i++)
                (void) layout_key(rolling.hosts[i].key, LAYOUT_ASSIGNMENT, UNIT, c->machines[i].machine_id);
        c->rolls = true;
        world_at(c->world, 100, NULL, rolling_on_turn, c);
}

bool rollouts_end(SimCluster *c) {
        Registry *r = rolling_registry(c);
        const ClusterUnit *u = rolling_unit(r);

        if (!u)
                return false;
        if (!rolling.ending) {
                rolling.ending = true;
                rolling_new_text(c, r, SIM_GOOD);
                return false;
        }
        if (!u->rollout || !streq(u->unit->hash, rolling.hashes[rolling.n]))
                return false;
        rolling_ask(c, r, u, ROLLOUT_RESUME);
        rolling_ask(c, r, u, ROLLOUT_PROMOTE);
        return u->rollout->state == ROLLOUT_DONE && streq(u->rollout->to.hash, u->unit->hash);
}

/* -- Observations -- */

static bool rolling_is(const SimCluster *c) {
        return rolling.cluster == c && c->rolls;
}

static unsigned rolling_version(const char *hash) {
        for (unsigned i = 1; hash && i <= rolling.n; i++)
                if (streq(rolling.hashes[i], hash))
                        return i;
        return 0;
}

static uint64_t member_of(const char *value, const char *name) {
        const char *at = strstr(value, name);

        return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* A step gives an instance another text, or starts it again: it has another time then. */
static void check_rewritten(const SimCluster *c, RollingHost *h, const char *value, unsigned version) {
        bool runs = strstr(value, "\"order\":\"run\"");
        uint64_t since_ms = runs ? member_of(value, "\"since\":") : 0;

        if (runs && version == h->assigned && since_ms == h->since_ms && rolling.state == ROLLOUT_REVERTING)
                world_failed(c->world, "a-revert-changes-only-instances-that-differ", "%s: %s", h->key,
                             value);
        h->since_ms = since_ms;
}

void rollouts_note(SimCluster *c, const KvNode *node) {
        unsigned version;
        const char *at;

        if (!rolling_is(c) || !node->key.data || node->dir)
                return;
        for (unsigned i = 0; i < c->n; i++) {
                RollingHost *h = &rolling.hosts[i];
                char value[1024], hash[UNIT_HASH_SIZE] = "";

                if (!kv_bytes_equal(node->key, kv_string(h->key)) || node->modified <= h->index)
                        continue;
                snprintf(value, sizeof(value), "%.*s", (int) node->value.size,
                         (const char *) node->value.data);
                at = strstr(value, "\"hash\":\"");
                if (at)
                        snprintf(hash, sizeof(hash), "%s", at + strlen("\"hash\":\""));
                version = rolling_version(hash);
                h->index = node->modified;
                check_rewritten(c, h, value, version);
                if (version == 0 && !strstr(value, "\"order\":\"stop\""))
                        world_failed(c->world, "each-assignment-has-a-text", "%s: %s", h->key, value);
                h->has_had[version] = true;
                if (version == h->assigned)
                        continue;
                h->assigned = version;
                h->assigned_ms = world_now_ms(c->world);
                total_steps++;
        }
}

/* A text whose process ends or is never ready was never available. */
static void check_completed(const SimCluster *c, const RolloutRecord *record) {
        unsigned version = record && record->completed.number > 0 ? rolling_version(record->completed.hash) :
                                                                    0;
        SimQuality quality = rolling.qualities[version];

        if (version > 0 && (quality == SIM_EXITS || quality == SIM_NEVER_READY))
                world_failed(c->world, "a-completed-text-was-available", "%s: text %u (%s)", UNIT, version,
                             commands[quality]);
}

/* Whether one machine alone was lost after it got the text, and before it was available with it. */
static bool one_is_lost_in_its_step(const Cluster *view, const ClusterUnit *u) {
        const RolloutRecord *r = u->rollout;
        size_t n_lost = 0, n_in_step = 0;

        for (const ClusterMachine *m = view->machines; m; m = m->hh.next) {
                const ClusterAssignment *a = cluster_assignment_on(m, UNIT);
                const ClusterState *s = cluster_state_on(m, UNIT);

                if (m->presence == PRESENCE_UP)
                        continue;
                n_lost++;
                n_in_step += m->presence == PRESENCE_LOST && a && cluster_assignment_is_active(a) &&
                             streq(a->hash, r->to.hash) && a->index > r->begun &&
                             a->index < m->presence_index && a->index >= r->retry &&
                             !cluster_machine_is_rebooting(m) &&
                             !(s && s->state.available && s->state.hash && streq(s->state.hash, a->hash));
        }
        return n_lost == 1 && n_in_step == 1;
}

/* A failure is not tolerated: the rollout pauses, or reverts. */
static void check_lost(const SimCluster *c, const Cluster *view, const ClusterUnit *u) {
        bool rolls = u->rollout &&
                     (u->rollout->state == ROLLOUT_ROLLING || u->rollout->state == ROLLOUT_CANARY) &&
                     streq(u->rollout->to.hash, u->unit->hash);

        if (!rolls || !one_is_lost_in_its_step(view, u)) {
                rolling.lost_ms = 0;
                return;
        }
        if (rolling.lost_ms == 0)
                rolling.lost_ms = world_now_ms(c->world);
        if (world_now_ms(c->world) >= rolling.lost_ms + DECIDED_MS)
                world_failed(c->world, "a-host-lost-in-its-step-stops-the-rollout", "it is %s",
                             rollout_state_to_string(u->rollout->state));
}

void rollouts_watch(SimCluster *c) {
        Registry *r = rolling_is(c) ? rolling_registry(c) : NULL;
        const ClusterUnit *u = rolling_unit(r);
        bool changed;

        if (!rolling_is(c))
                return;
        if (!u)
                return;
        check_completed(c, u->rollout);
        check_lost(c, registry_cluster(r), u);
        changed = u->rollout && (!rolling.seen || rolling.state != u->rollout->state);
        rolling.seen = u->rollout != NULL;
        if (!changed)
                return;
        rolling.state = u->rollout->state;
        reached_enter(&reached, c, rolling.state);
}

/* -- Checks -- */

/* Whether the host is away, or was since then: fleetd may have had another view of it. */
static bool host_is_disturbed(const SimMachine *m, uint64_t since_ms) {
        return !machine_serves(m) || m->leaves || m->suspect_until_ms + DISTURBED_MS >= since_ms ||
               m->absent_until_ms + DISTURBED_MS >= since_ms;
}

static bool host_is_available(const SimMachine *m) {
        const RollingHost *h = &rolling.hosts[m->index];
        SimQuality quality = rolling.qualities[h->running];
        uint64_t ready_ms = h->started_ms + (quality == SIM_SLOW ? SLOW_MS : 0);

        return h->running > 0 && (quality == SIM_GOOD || quality == SIM_SLOW) &&
               world_now_ms(m->cluster->world) >= ready_ms + WATCH_MS;
}

static unsigned rolling_count_taken(const SimCluster *c) {
        unsigned n = 0;

        for (unsigned i = 0; i < c->n; i++) {
                RollingHost *h = &rolling.hosts[i];

                if (host_is_available(&c->machines[i]))
                        h->taken_ms = 0;
                n += h->taken_ms > 0 && !host_is_disturbed(&c->machines[i], h->taken_ms);
        }
        return n;
}

static void check_budget(SimMachine *m) {
        RollingHost *h = &rolling.hosts[m->index];
        SimCluster *c = m->cluster;
        unsigned n;

        h->taken_ms = world_now_ms(c->world);
        if (host_is_disturbed(m, h->assigned_ms))
                return;
        n = rolling_count_taken(c);
        most_taken = MAX(most_taken, n);
        if (n > rolling.max_unavailable)
                world_failed(c->world, "a-rollout-keeps-the-budget",
                             "%s stops on %s: %u are unavailable, %u may be", UNIT, m->name, n,
                             rolling.max_unavailable);
}

bool rollouts_check_stop(SimMachine *m, const char *unit, bool asked) {
        RollingHost *h = &rolling.hosts[m->index];
        bool available;

        if (rolling.cluster != m->cluster || !streq(unit, UNIT))
                return false;
        available = host_is_available(m);
        h->stopped = asked ? h->running : 0;
        h->running = 0;
        if (asked && available && m->cluster->rolls)
                check_budget(m);
        return true;
}

static void on_power_on(void *userdata) {
        SimMachine *m = userdata;

        if (!m->power && !m->has_left)
                machine_power_on(m);
}

static void on_power_cut(void *userdata) {
        SimMachine *m = userdata;
        World *w = m->cluster->world;
        uint64_t for_ms = 8000 + world_draw(w, 8000);

        if (m->cluster->quiet || !m->power || m->has_left)
                return;
        machine_absent(m, for_ms);
        machine_suspect(m, world_now_ms(w), world_now_ms(w) + for_ms + 20000);
        machine_power_cut(m);
        world_at(w, for_ms, NULL, on_power_on, m);
}

bool rollouts_check_start(SimMachine *m, const char *unit) {
        RollingHost *h = &rolling.hosts[m->index];
        SimCluster *c = m->cluster;
        unsigned version;

        if (rolling.cluster != c || !streq(unit, UNIT))
                return false;
        version = rolling_version(sim_systemd_hash(m->systemd, unit));
        if (version == 0 || !h->has_had[version])
                world_failed(c->world, "each-text-was-assigned", "%s starts on %s with text %u", unit,
                             m->name, version);
        if (version == h->stopped && h->assigned_ms < h->started_ms && !host_is_disturbed(m, h->started_ms))
                world_failed(c->world, "no-restart-without-another-text",
                             "%s was stopped on %s, and starts with the same text %u", unit, m->name,
                             version);
        h->running = version;
        h->stopped = 0;
        h->started_ms = world_now_ms(c->world);
        if (version == rolling.n && c->n > 2 && world_chance(c->world, LOST_PERCENT)) /* in its step */
                world_at(c->world, world_draw(c->world, WATCH_MS), NULL, on_power_cut, m);
        return true;
}

void rollouts_check(SimCluster *c) {
        const ClusterUnit *u = rolling_unit(rolling_registry(c));
        RolloutState state = u && u->rollout ? u->rollout->state : ROLLOUT_DONE;

        if (!u || (state != ROLLOUT_DONE && state != ROLLOUT_PAUSED && state != ROLLOUT_HELD))
                world_failed(c->world, "a-rollout-ends", "%s is %s", UNIT,
                             u ? rollout_state_to_string(state) : "unknown");
}

void rollouts_print(void) {
        printf(" texts:");
        for (unsigned i = 0; i < _SIM_QUALITY_MAX; i++)
                printf(" %s %llu,", commands[i], (unsigned long long) total_texts[i]);
        printf(" reverts %llu, assignments %llu, at most %llu unavailable\n",
               (unsigned long long) total_reverts, (unsigned long long) total_steps,
               (unsigned long long) most_taken);
        reached_print(&reached);
}
