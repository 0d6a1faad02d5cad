/* Keys and clocks: changes of the cluster key and of the root of the CA, with the leader, or another host,
 * killed at each state and two hosts off; other keys of hosts, also many in a short time; cluster keys that
 * are lost; certificates that expire while all hosts are off, and wrong wall clocks. Afterwards all hosts
 * work, without a token, and each with its own key. Whole daemons, with certificates.
 *
 *      test-rotate [--seed N] [--runs N] [--trace]; with CHECK_QUICK=yes, fewer hosts crash, with
 * CHECK_ALL=yes, more
 */

#include "base/base64.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/identity.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/identity/revocation.h"
#include "tests/lib/scratch.h"
#include "tests/lib/size.h"
#include "tests/lib/store_inside.h"
#include "tests/sim/tokens.h"

#define DAY_MS        INT64_C(86400000)
#define YEAR_MS       (365 * DAY_MS)
#define SINCE_1970_MS INT64_C(1700000000000) /* to the begin of a world */

enum {
        PATIENCE_MS = 120000,
        STEP_MS = 20,
        RESTART_MS = 2000,
        HOSTS = 5,
        ATTACHED = 2, /* hosts without a replica, in addition */
        OFF = 2,
        ADD_MS = 25,
        ADD_STEP_MS = 8
};

static bool last_is_added; /* the leader has begun to add the last host as a member */
static bool has_stored;    /* a host has stored a certificate */

static void on_message(const char *message) {
        last_is_added |= starts_with(message, "add member 5 (");
        has_stored |= starts_with(message, "received a certificate");
}

/* -- The cluster -- */

#undef UNTIL
#define UNTIL(name, expression) UNTIL_EACH(PATIENCE_MS, STEP_MS, name, expression)

static const Cluster *view_of(const SimMachine *m) {
        return registry_cluster(daemon_host(m->daemon)->registry);
}

static SimMachine *leader(void) {
        SimMachine *found = NULL;
        uint64_t term = 0;

        for (unsigned i = 0; i < cluster->n; i++) {
                KvState state = state_of(machine(i));

                if (state.role == KV_ROLE_LEADER && state.ready && state.term > term) {
                        found = machine(i);
                        term = state.term;
                }
        }
        return found;
}

static const Cluster *view(void) {
        return leader() ? view_of(leader()) : NULL;
}

static void set_clock(SimMachine *m, int64_t offset_ms) {
        m->wall_offset_ms = offset_ms;
        if (m->loop)
                world_loop_set_wall_offset(m->loop, offset_ms);
}

static void start(SimMachine *m) {
        machine_power_on(m);
        UNTIL("a-daemon-starts", m->loop && m->daemon);
}

static void power_off(SimMachine *m) {
        machine_suspect(m, world_now_ms(world), UINT64_MAX);
        machine_power_cut(m);
}

static MadeToken token_of_leader(void) {
        UNTIL("there-is-a-leader", leader());
        return make_token(leader(), NULL);
}

/* Each host is up, with a record; the first ones have a replica. */
static bool is_whole(void) {
        const Cluster *c = view();
        KvState state = leader() ? state_of(leader()) : (KvState) {};

        if (!c || !c->ca_roots || state.n_voters_reachable != 3 || state.n_members != HOSTS)
                return false;
        for (unsigned i = 0; i < cluster->n; i++) {
                const ClusterMachine *m = cluster_machine(c, machine(i)->machine_id);

                if (!m || m->presence != PRESENCE_UP || !m->host || !is_ready(machine(i)) ||
                    (m->member.raft_id == 0) != (i >= HOSTS))
                        return false;
        }
        return true;
}

static TlsCertificate certificate_of(const SimMachine *m) {
        _cleanup_identity_ HostIdentity identity = {};
        TlsCertificate certificate = {};

        if (identity_read(m->folder, &identity, NULL) < 0 ||
            tls_certificate_read(identity.certificate, strlen(identity.certificate), &certificate, NULL) < 0)
                world_failed(world, "a-host-has-an-identity", "%s", m->name);
        return certificate;
}

static void found_by_tokens(unsigned hosts) {
        found(hosts, 1);
        for (unsigned i = 1; i < hosts; i++) {
                MadeToken token = token_of_leader();

                join_with(machine(i), &token);
                UNTIL("a-host-is-a-member",
                      view() && cluster_machine(view(), machine(i)->machine_id) &&
                              (cluster_machine(view(), machine(i)->machine_id)->member.raft_id != 0) ==
                                      (i < HOSTS));
                UNTIL("a-host-without-a-replica-is-attached", i < HOSTS || state_of(machine(i)).attached);
        }
}

static bool sealing; /* SealWith=host on all hosts */

static void found_five(void) {
        found_by_tokens(HOSTS);
        UNTIL("five-hosts-are-members", is_whole());
        for (unsigned i = 0; sealing && i < HOSTS; i++) {
                machine(i)->settings.seal_with = SEAL_WITH_HOST;
                power_off(machine(i));
                start(machine(i));
                UNTIL("five-hosts-are-members", is_whole());
        }
}

static void over(void) {
        cluster = cluster_free(cluster);
}

/* -- What is on the hosts -- */

static bool stores_only(const SimMachine *m, const CaRoots *roots) {
        _cleanup_identity_ HostIdentity identity = {};
        _cleanup_text_ Text expected = {};

        for (size_t i = 0; i < roots->n; i++)
                text_append(&expected, roots->items[i].pem);
        return identity_read(m->folder, &identity, NULL) == 0 && streq(identity.roots, expected.chars);
}

static bool all_store(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (!view() || !stores_only(machine(i), view()->ca_roots))
                        return false;
        return true;
}

static bool has_key(const SimMachine *m, uint64_t number) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};

        return cluster_key_file_read(m->folder, number, &file, NULL) == 0 &&
               file.form == (sealing ? SEAL_WITH_HOST : SEAL_WITH_NO);
}

/* All hosts have this cluster key, and no former one. */
static bool all_have_key(uint64_t number) {
        for (unsigned i = 0; i < cluster->n; i++)
                for (uint64_t k = 1; k <= number; k++)
                        if (has_key(machine(i), k) != (k == number))
                                return false;
        return true;
}

/* The number rises with each leader that makes a key. */
static bool all_have_the_next_key(void) {
        uint64_t number = view() && view()->ca_keys ? view()->ca_keys->items[0].cluster_key : 0;

        return number > 1 && all_have_key(number);
}

static void read_pins(char ret[HOSTS][DIGEST_SIZE]) {
        for (unsigned i = 0; i < HOSTS; i++) {
                TlsCertificate certificate = certificate_of(machine(i));

                tls_pin_print(&certificate.pin, ret[i]);
        }
}

/* The hosts are those of before, and the cluster works: a write, a token and a signature succeed. */
static void check_works(char pins[HOSTS][DIGEST_SIZE]) {
        char now[HOSTS][DIGEST_SIZE];
        MadeToken token;

        UNTIL("all-hosts-work-afterwards", is_whole());
        read_pins(now);
        for (unsigned i = 0; i < HOSTS; i++) {
                const ClusterMachine *m = cluster_machine(view(), machine(i)->machine_id);

                if (!streq(now[i], pins[i]) || m->host->pins.n != 1 ||
                    !streq(m->host->pins.items[0], pins[i]))
                        world_failed(world, "a-host-keeps-its-key", "%s", machine(i)->name);
        }
        token = token_of_leader();
        if (!cluster_token(view(), token.id))
                UNTIL("a-token-is-stored", view() && cluster_token(view(), token.id));
}

/* -- Changes of keys -- */

typedef enum Change { CHANGE_REKEY, CHANGE_ROTATE, CHANGE_COMPROMISED, _CHANGE_MAX } Change;

static void on_begun(void *userdata, KvStatus status, const char *message, uint64_t index) {
        KvStatus *result = userdata;

        *result = status;
}

static void begin(Change change, unsigned at) {
        Authority *authority = daemon_host(machine(at)->daemon)->authority;
        KvStatus status = _KV_STATUS_MAX;
        Error err = {};
        int r;

        if (change == CHANGE_REKEY)
                r = authority_rekey(authority, "root", on_begun, &status, &err);
        else
                r = authority_rotate(authority, change == CHANGE_COMPROMISED, "root", on_begun, &status,
                                     &err);
        if (r < 0)
                world_failed(world, "a-change-begins", "%s", err.message);
        UNTIL("a-change-begins", status != _KV_STATUS_MAX);
        if (status != KV_OK)
                world_failed(world, "a-change-begins", "status %d", status);
}

static void on_return(void *userdata) {
        start(userdata);
}

static void crash(SimMachine *m) {
        world_trace(world, m->name, "is killed");
        power_off(m);
        for (uint64_t until_ms = world_now_ms(world) + RESTART_MS; world_now_ms(world) < until_ms;)
                world_run(world, world_now_ms(world) + STEP_MS);
        on_return(m);
}

static void kill_leader(void) {
        if (leader())
                crash(leader());
}

static bool is_in(CaRotationState state) {
        return view() && view()->ca_rotation && view()->ca_rotation->state == state;
}

static bool has_ended(void) {
        return view() && view()->ca_roots && !view()->ca_rotation && view()->ca_roots->n == 1;
}

enum { AT_THE_END = 100 }; /* the former root is removed */

/* Return a host of this role that runs and does not lead. */
static SimMachine *follower(KvMemberRole role) {
        KvState state = state_of(leader());

        for (unsigned i = 0; i < HOSTS; i++)
                for (size_t k = 0; serves(machine(i)) && machine(i) != leader() && k < state.n_members; k++)
                        if (state.members[k].raft_id == state_of(machine(i)).raft_id &&
                            state.members[k].role == role)
                                return machine(i);
        world_failed(world, "there-are-voters-and-standbys", "none of role %d", role);
}

/* The leader, or another voter, crashes when a change reaches a state, while two hosts are off; these return
 * afterwards. A change of the cluster key waits for all members, unless the keys are compromised. */
static void change_with_a_crash(Change change, int crash_in, bool of_leader) {
        char pins[HOSTS][DIGEST_SIZE], former[DIGEST_SIZE];
        SimMachine *off[OFF], *other;
        MadeToken token;

        world_trace(world, "test", "change %d, crash in %d, of %s", change, crash_in,
                    of_leader ? "the leader" : "another voter");
        found_five();
        read_pins(pins);
        token = token_of_leader();
        memcpy(former, ca_roots_current(view()->ca_roots)->id, sizeof(former));
        off[0] = follower(KV_MEMBER_VOTER);
        off[1] = follower(KV_MEMBER_STANDBY);
        for (unsigned i = 0; i < OFF; i++)
                power_off(off[i]);
        other = follower(KV_MEMBER_VOTER);
        UNTIL("hosts-are-lost",
              leader() && cluster_machine(view(), off[0]->machine_id)->presence != PRESENCE_UP &&
                      cluster_machine(view(), off[1]->machine_id)->presence != PRESENCE_UP);
        begin(change, leader()->index);
        if (crash_in >= 0) {
                UNTIL("a-state-is-reached",
                      crash_in == AT_THE_END ? has_ended() : is_in((CaRotationState) crash_in));
                crash(of_leader ? leader() : other);
        }
        if (change == CHANGE_COMPROMISED && view() && cluster_token(view(), token.id))
                world_failed(world, "all-tokens-end-at-once", "%s", token.id);
        if (change == CHANGE_REKEY) {
                world_run(world, world_now_ms(world) + 5000);
                if (!is_in(CA_ROTATION_REKEY))
                        world_failed(world, "a-change-of-the-key-waits-for-members", "it has ended");
        } else {
                UNTIL("a-rotation-ends", has_ended());
        }
        for (unsigned i = 0; i < OFF; i++)
                start(off[i]);
        UNTIL("a-change-ends", has_ended());
        check_works(pins);
        UNTIL("former-keys-are-deleted", change == CHANGE_ROTATE || all_have_the_next_key());
        UNTIL("all-hosts-store-the-roots", all_store());
        if ((change == CHANGE_REKEY) != streq(ca_roots_current(view()->ca_roots)->id, former))
                world_failed(world, "a-rotation-replaces-the-root", "%s", former);
        over();
}

static void rotate_each_step_with_absent_hosts(void) {
        static const int states[] = { CA_ROTATION_BEGIN, CA_ROTATION_DISTRIBUTE, CA_ROTATION_ISSUE,
                                      AT_THE_END };

        for (size_t i = 0; i < ELEMENTS(states); i++)
                for (unsigned of_leader = 0; of_leader < 2; of_leader++)
                        if (of_leader || i >= test_size(ELEMENTS(states), 2, 0))
                                change_with_a_crash(CHANGE_ROTATE, states[i], of_leader);
}

static void rekey_each_step_with_absent_hosts(void) {
        change_with_a_crash(CHANGE_REKEY, -1, true);
        change_with_a_crash(CHANGE_REKEY, CA_ROTATION_REKEY, true);
        change_with_a_crash(CHANGE_REKEY, CA_ROTATION_REKEY, false);
        change_with_a_crash(CHANGE_COMPROMISED, CA_ROTATION_REKEY, true);
        change_with_a_crash(CHANGE_COMPROMISED, CA_ROTATION_DISTRIBUTE, true);
        change_with_a_crash(CHANGE_COMPROMISED, CA_ROTATION_ISSUE, true);
}

/* -- A compromised host -- */

/* Return whether cluster key 1 opens a private key of the CA, or the former root is trusted anywhere. */
static bool uses_former(const ClusterKey *key, const char *root_pem) {
        const Cluster *c = view();
        KvState state = state_of(leader());

        for (size_t i = 0; i < c->ca_keys->n; i++) {
                const CaKey *sealed = &c->ca_keys->items[i];
                char context[CA_CONTEXT_SIZE], *bytes, *opened;
                size_t size, opened_size;
                int r;

                if (base64_decode(sealed->sealed, strlen(sealed->sealed), &bytes, &size) < 0)
                        world_failed(world, "a-key-is-base64", "%s", sealed->sealed);
                keys_ca_context(state.cluster_id, sealed->root, context);
                r = unseal(key->bytes, context, strlen(context), bytes, size, &opened, &opened_size);
                free(bytes);
                if (r == 0) {
                        tls_secret_free(opened, opened_size);
                        return true;
                }
        }
        for (unsigned i = 0; i < HOSTS; i++) {
                _cleanup_identity_ HostIdentity identity = {};

                if (cluster_machine(c, machine(i)->machine_id)->removed)
                        continue;
                if (identity_read(machine(i)->folder, &identity, NULL) < 0 ||
                    strstr(identity.roots, root_pem) || has_key(machine(i), key->number))
                        return true;
        }
        return false;
}

/* The disk of a member is stolen while the host runs: nothing that was on it is valid afterwards. */
static void remove_compromised(void) {
        _cleanup_cluster_key_ ClusterKey stolen = {};
        KvStatus status = _KV_STATUS_MAX;
        _cleanup_free_ char *root = NULL;
        SimMachine *m;
        MadeToken token;
        Error err = {};

        found_five();
        token = token_of_leader();
        m = follower(KV_MEMBER_VOTER);
        root = strdup(ca_roots_current(view()->ca_roots)->pem);
        if (cluster_key_read(m->folder, 1, &stolen, &err) < 0 || !root || !uses_former(&stolen, root))
                world_failed(world, "a-member-has-the-cluster-key", "%s", err.message);
        machine_suspect(m, world_now_ms(world), UINT64_MAX);
        if (authority_compromised(daemon_host(leader()->daemon)->authority,
                                  cluster_machine(view(), m->machine_id), "root", on_begun, &status,
                                  &err) < 0)
                world_failed(world, "a-host-is-removed", "%s", err.message);
        UNTIL("a-host-is-removed", status != _KV_STATUS_MAX);
        UNTIL("all-tokens-end-at-once", view() && !cluster_token(view(), token.id));
        world_run(world, world_now_ms(world) + 1000);
        if (!leader() || !cluster_machine(view(), m->machine_id)->removed ||
            cluster_machine(view(), m->machine_id)->host)
                world_failed(world, "a-pin-ends-at-once", "%s", m->name);
        UNTIL("nothing-of-the-former-keys-is-valid", leader() && has_ended() && !uses_former(&stolen, root));
        /* It is not admitted any more, as it is or after a start. */
        power_off(m);
        start(m);
        world_run(world, world_now_ms(world) + 20000);
        if (!leader() || leader() == m || is_ready(m) || state_of(leader()).n_members != HOSTS - 1 ||
            state_of(leader()).n_voters_reachable != 3)
                world_failed(world, "a-removed-host-stays-outside", "%s", m->name);
        over();
}

/* -- Another key of a host -- */

typedef enum RekeyStep {
        REKEY_MADE,     /* the next key is on disk */
        REKEY_RECORDED, /* the cluster has two pins */
        REKEY_STORED,   /* the host has a certificate for the next key */
        _REKEY_STEP_MAX,
} RekeyStep;

static bool has_two_pins(const SimMachine *m) {
        const ClusterMachine *host = view() ? cluster_machine(view(), m->machine_id) : NULL;

        return host && host->host && host->host->pins.n == 2;
}

static bool rekey_is_at(RekeyStep step, const SimMachine *m) {
        switch (step) {
        case REKEY_MADE:
                return identity_has_next_key(m->folder);
        case REKEY_RECORDED:
                return has_two_pins(m);
        default:
                return has_two_pins(m) && !identity_has_next_key(m->folder);
        }
}

/* A host gets another key; the host or the leader crashes at each step. One key is valid at the end, the new
 * one, and the host was a member all the time. */
static void machine_rekey(void) {
        char before[HOSTS][DIGEST_SIZE], after[HOSTS][DIGEST_SIZE];

        found_five();
        for (RekeyStep step = REKEY_MADE; step < _REKEY_STEP_MAX; step++)
                for (unsigned victim = 0; victim < 3; victim++) {
                        SimMachine *m = victim == 1 ? leader() : follower(KV_MEMBER_VOTER);
                        Error err = {};

                        read_pins(before);
                        world_trace(world, "test", "another key for %s, step %d, victim %u", m->name, step,
                                    victim);
                        if (membership_rekey_host(daemon_host(m->daemon)->membership, &err) < 0)
                                world_failed(world, "a-host-makes-a-key", "%s", err.message);
                        UNTIL("a-step-is-reached", rekey_is_at(step, m));
                        if (victim == 0) {
                                power_off(m);
                                world_run(world, world_now_ms(world) + RESTART_MS);
                                start(m);
                        } else {
                                kill_leader();
                        }
                        UNTIL("one-key-is-valid-at-the-end",
                              is_whole() && !has_two_pins(m) && !identity_has_next_key(m->folder));
                        read_pins(after);
                        if (streq(after[m->index], before[m->index]))
                                world_failed(world, "a-host-has-another-key", "%s", m->name);
                        check_works(after);
                }
        over();
}

/* Return whether a replica that runs has this key of a host. */
static bool key_is_recorded(const SimMachine *m, const char *pin) {
        for (unsigned i = 0; i < HOSTS; i++) {
                const ClusterMachine *host = serves(machine(i)) ?
                                                     cluster_machine(view_of(machine(i)), m->machine_id) :
                                                     NULL;

                if (host && host->host && pins_have(&host->host->pins, pin))
                        return true;
        }
        return false;
}

static bool has_one_key(const SimMachine *m) {
        const ClusterMachine *host = view() ? cluster_machine(view(), m->machine_id) : NULL;

        return is_ready(m) && host && host->presence == PRESENCE_UP && host->host &&
               host->host->pins.n == 1 && !identity_has_next_key(m->folder);
}

/* Cut a host off, or heal its links: what was sent on them arrives then. Return the host, or NULL. */
static SimMachine *isolate(SimMachine *m, bool cut) {
        for (unsigned i = 0; m && i < cluster->n; i++)
                if (machine(i) != m)
                        sim_net_cut(cluster->net, m->host, machine(i)->host, cut);
        return cut ? m : NULL;
}

/* Hosts request keys again and again, also before the last one was used, while leaders crash, stand
 * still and are cut off. An answer can be lost at any time: the cluster has the key of each host at all
 * times. */
static void repeated_machine_rekeys(void) {
        enum { FAULT_MS = 6000, CHECK_MS = 3 };
        const uint64_t all_ms = test_size(18000, 45000, 45000);
        uint64_t rekey_ms[HOSTS + ATTACHED] = {}, fault_ms = FAULT_MS, heal_ms = 0, now_ms, end_ms;
        SimMachine *isolated = NULL;
        char used[HOSTS + ATTACHED][DIGEST_SIZE];
        unsigned requests = 0;

        found_by_tokens(HOSTS + ATTACHED);
        UNTIL("all-hosts-are-up", is_whole());
        end_ms = world_now_ms(world) + all_ms;
        fault_ms += world_now_ms(world);
        has_stored = true;
        for (unsigned i = 0; i < cluster->n; i++) { /* none of the keys that it knows may be valid any more */
                machine_suspect(machine(i), world_now_ms(world), UINT64_MAX);
                machine_absent(machine(i), all_ms + REVOCATION_SILENT_MS + PATIENCE_MS);
        }
        while ((now_ms = world_now_ms(world)) < end_ms) {
                for (unsigned i = 0; i < cluster->n && has_stored; i++)
                        read_pin(machine(i), used[i]);
                has_stored = false;
                for (unsigned i = 0; i < cluster->n; i++) {
                        SimMachine *m = machine(i);
                        Error err = {};

                        if (!key_is_recorded(m, used[i]))
                                world_failed(world, "the-cluster-has-the-key-of-each-host", "%s", m->name);
                        if (!serves(m) || now_ms < rekey_ms[i])
                                continue;
                        requests += !identity_has_next_key(m->folder);
                        if (membership_rekey_host(daemon_host(m->daemon)->membership, &err) < 0)
                                world_failed(world, "a-host-makes-a-key", "%s", err.message);
                        rekey_ms[i] = now_ms + world_draw(world, 4000);
                }
                if (now_ms >= heal_ms)
                        isolated = isolate(isolated, false);
                if (now_ms >= fault_ms && leader()) {
                        SimMachine *m = leader();
                        uint64_t for_ms = 1000 + world_draw(world, 5000);

                        fault_ms = now_ms + FAULT_MS;
                        if (world_chance(world, 33)) {
                                crash(m);
                                continue;
                        }
                        if (world_chance(world, 50))
                                world_loop_pause(m->loop, for_ms);
                        else {
                                isolated = isolate(m, true);
                                heal_ms = now_ms + for_ms;
                        }
                }
                world_run(world, now_ms + CHECK_MS);
        }
        (void) isolate(isolated, false);
        for (unsigned i = 0; i < cluster->n; i++)
                /* A host that was cut off can know no key of the others any more; then it is replaced as a
                 * voter. */
                UNTIL_EACH(REVOCATION_SILENT_MS + PATIENCE_MS, STEP_MS, "one-key-is-valid-at-the-end",
                           has_one_key(machine(i)));
        (void) token_of_leader();
        world_trace(world, "test", "%u keys", requests);
        if (requests < 4 * cluster->n)
                world_failed(world, "hosts-had-further-keys", "%u", requests);
        over();
}

/* -- Hosts without a replica -- */

/* The certificates of all hosts are younger than this one, and valid. */
static bool all_are_renewed(uint64_t since_ms) {
        for (unsigned i = 0; i < cluster->n; i++) {
                TlsCertificate certificate = certificate_of(machine(i));

                if (certificate.not_after_ms <= since_ms)
                        return false;
        }
        return true;
}

static uint64_t latest_end_ms(void) {
        uint64_t latest_ms = 0;

        for (unsigned i = 0; i < cluster->n; i++) {
                TlsCertificate certificate = certificate_of(machine(i));

                latest_ms = MAX(latest_ms, certificate.not_after_ms);
        }
        return latest_ms;
}

/* Hosts without a replica get their certificates by any replica: in a rotation with one of them off and the
 * leader killed, for another key, and after the certificates of all have expired. One that is removed loses
 * its sessions at once. */
static void attached_hosts_have_certificates(void) {
        SimMachine *m, *off;
        KvStatus status = _KV_STATUS_MAX;
        char before[DIGEST_SIZE] = "", after[DIGEST_SIZE] = "";
        uint64_t end_ms;
        Error err = {};

        found_by_tokens(HOSTS + ATTACHED);
        UNTIL("all-hosts-are-up", is_whole());
        m = machine(HOSTS);
        off = machine(HOSTS + 1);
        power_off(off);
        UNTIL("a-host-is-lost", cluster_machine(view(), off->machine_id)->presence != PRESENCE_UP);
        begin(CHANGE_ROTATE, leader()->index);
        UNTIL("a-state-is-reached", is_in(CA_ROTATION_ISSUE));
        crash(leader());
        UNTIL("a-rotation-ends", has_ended());
        start(off);
        UNTIL("all-hosts-work-afterwards", is_whole());
        UNTIL("all-hosts-store-the-roots", all_store());

        read_pin(m, before);
        if (membership_rekey_host(daemon_host(m->daemon)->membership, &err) < 0)
                world_failed(world, "a-host-makes-a-key", "%s", err.message);
        UNTIL("one-key-is-valid-at-the-end", (read_pin(m, after), !streq(after, before)) && is_whole() &&
                                                     !has_two_pins(m) && !identity_has_next_key(m->folder));

        end_ms = latest_end_ms();
        for (unsigned i = 0; i < cluster->n; i++)
                power_off(machine(i));
        for (unsigned i = 0; i < cluster->n; i++) {
                machine(i)->wall_offset_ms = 90 * DAY_MS;
                start(machine(i));
        }
        UNTIL("all-hosts-work-afterwards", is_whole());
        UNTIL("expired-certificates-are-renewed", all_are_renewed(end_ms));

        machine_suspect(m, world_now_ms(world), UINT64_MAX);
        if (authority_compromised(daemon_host(leader()->daemon)->authority,
                                  cluster_machine(view(), m->machine_id), "root", on_begun, &status,
                                  &err) < 0)
                world_failed(world, "a-host-is-removed", "%s", err.message);
        UNTIL("a-host-is-removed", status != _KV_STATUS_MAX);
        run_ms(1000);
        if (state_of(m).ready || !leader() || !cluster_machine(view(), m->machine_id)->removed)
                world_failed(world, "a-removed-host-has-no-session", "%s", m->name);
        for (unsigned i = 0; i < HOSTS; i++)
                if (store_sent_index(daemon_host(machine(i)->daemon)->store, m->machine_id) > 0)
                        world_failed(world, "a-removed-host-has-no-slice", "%s", machine(i)->name);
        UNTIL("a-rotation-ends", has_ended());
        UNTIL("the-others-work-afterwards", is_ready(off));
        over();
}

/* -- Lost cluster keys -- */

static void lose_key(const SimMachine *m) {
        _cleanup_free_ char *path = scratch_path(m->folder, "secrets/key.1");

        if (unlink(path) < 0)
                world_failed(world, "a-host-has-the-cluster-key", "%s", m->name);
}

static void check_root(const char *root) {
        UNTIL("there-is-a-leader", leader());
        if (!streq(ca_roots_current(view()->ca_roots)->id, root))
                world_failed(world, "the-ca-stays", "%s", root);
}

static bool shows(const SimMachine *m, VerdictCode problem) {
        const ClusterMachine *host = view() ? cluster_machine(view(), m->machine_id) : NULL;

        return host && host->verdict.of == VERDICT_OF_REPLICA && host->verdict.code == problem;
}

static bool shows_missing_key(const SimMachine *m) {
        return shows(m, VERDICT_KEY_MISSING) || shows(m, VERDICT_KEY_DAMAGED);
}

/* The leader loses the key: a voter that has it leads, once, and sends it. */
static void leader_without_the_key(void) {
        char pins[HOSTS][DIGEST_SIZE], root[DIGEST_SIZE];
        uint64_t term, end_ms;
        bool shown = false;
        SimMachine *m;

        found_five();
        read_pins(pins);
        memcpy(root, ca_roots_current(view()->ca_roots)->id, sizeof(root));
        m = leader();
        term = state_of(m).term;
        lose_key(m);
        UNTIL("another-voter-leads", leader() && leader() != m);
        UNTIL("the-key-is-sent", all_have_key(1));
        world_run(world, world_now_ms(world) + 70000);
        if (state_of(leader()).term != term + 1)
                world_failed(world, "leadership-is-transferred-once", "term %llu after %llu",
                             (unsigned long long) state_of(leader()).term, (unsigned long long) term);
        check_root(root);
        m = follower(KV_MEMBER_STANDBY);
        lose_key(m); /* the leader sends it again, within a moment: it is no problem of the cluster */
        UNTIL("the-key-is-sent", (shown |= shows_missing_key(m), all_have_key(1)));
        end_ms = world_now_ms(world) + 7000;
        UNTIL("some-seconds-pass", (shown |= shows_missing_key(m), world_now_ms(world) >= end_ms));
        if (shown)
                world_failed(world, "a-key-that-is-sent-again-is-no-problem", "%s", m->name);
        over();
}

/* The folder of each host, as on a disk that is not mounted. */
static void move_keys(const char *from, const char *to) {
        for (unsigned i = 0; i < HOSTS; i++) {
                _cleanup_free_ char *old = scratch_path(machine(i)->folder, from),
                                    *new = scratch_path(machine(i)->folder, to);

                if (rename(old, new) < 0)
                        world_failed(world, "a-host-has-the-cluster-key", "%s", machine(i)->name);
        }
}

/* Only a voter that is off has the key: the CA waits for it. So it does when the key of all hosts is away,
 * and returns. When an administrator gives the keys up, another CA replaces it, and all hosts remain members
 * by their pins. */
static void key_of_no_member(void) {
        char pins[HOSTS][DIGEST_SIZE], root[DIGEST_SIZE];
        SimMachine *off;

        found_five();
        read_pins(pins);
        memcpy(root, ca_roots_current(view()->ca_roots)->id, sizeof(root));
        off = follower(KV_MEMBER_VOTER);
        power_off(off);
        UNTIL("a-host-is-lost",
              leader() && cluster_machine(view(), off->machine_id)->presence != PRESENCE_UP);
        for (unsigned i = 0; i < HOSTS; i++)
                if (machine(i) != off)
                        lose_key(machine(i));
        for (unsigned i = 0; i < HOSTS; i++)
                UNTIL("members-report-the-missing-key", machine(i) == off || shows_missing_key(machine(i)));
        world_run(world, world_now_ms(world) + 30000);
        check_root(root);
        start(off);
        UNTIL("the-key-is-sent", all_have_key(1));
        check_works(pins);
        check_root(root);

        move_keys("secrets", "secrets.away");
        for (unsigned i = 0; i < HOSTS; i++)
                UNTIL("members-report-the-missing-key", shows_missing_key(machine(i)));
        world_run(world, world_now_ms(world) + 60000);
        check_root(root);
        move_keys("secrets.away", "secrets");
        UNTIL("no-problem-remains", !shows_missing_key(leader()));
        check_works(pins);
        check_root(root);

        for (unsigned i = 0; i < HOSTS; i++)
                lose_key(machine(i));
        begin(CHANGE_COMPROMISED, leader()->index);
        UNTIL("another-ca-replaces-it", has_ended() && !streq(ca_roots_current(view()->ca_roots)->id, root));
        UNTIL("all-hosts-store-it", all_have_the_next_key() && all_store());
        check_works(pins);
        UNTIL("no-problem-remains", !shows_missing_key(leader()));
        over();
}

/* -- Sealed cluster keys -- */

static bool shows_sealed_key(const SimMachine *m) {
        return shows(m, VERDICT_KEY_SEALED);
}

static bool shows_unsealed_key(const SimMachine *m) {
        return shows(m, VERDICT_KEY_AS_IT_IS) || shows(m, VERDICT_KEY_NOT_STORED);
}

static void start_again(SimMachine *m) {
        power_off(m);
        start(m);
}

static char *sealed_file(const SimMachine *m) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};

        if (cluster_key_file_read(m->folder, 1, &file, NULL) < 0)
                return NULL;
        return memcpy(calloc(1, CLUSTER_KEY_FILE_MAX), file.text, file.size);
}

/* Sealed keys that no member can open are kept, with the CA, until they can be opened. */
static void check_sealed_keys_of_no_member(const char *root) {
        char *before[HOSTS];

        for (unsigned i = 0; i < HOSTS; i++) {
                before[i] = sealed_file(machine(i));
                machine(i)->sealer.broken = true;
        }
        for (unsigned i = 0; i < HOSTS; i++)
                start_again(machine(i));
        for (unsigned i = 0; i < HOSTS; i++)
                UNTIL("members-report-the-sealed-key", shows_sealed_key(machine(i)));
        world_run(world, world_now_ms(world) + 70000);
        check_root(root);
        for (unsigned i = 0; i < HOSTS; i++) {
                _cleanup_free_ char *after = sealed_file(machine(i));

                if (!before[i] || !after || memcmp(before[i], after, CLUSTER_KEY_FILE_MAX) != 0)
                        world_failed(world, "a-sealed-key-is-kept", "%s", machine(i)->name);
                free(before[i]);
                machine(i)->sealer.broken = false;
        }
        for (unsigned i = 0; i < HOSTS; i++)
                UNTIL("no-problem-remains", !shows_sealed_key(machine(i)));
}

/* The key of a host, or of its TPM, is another one: the leader sends the cluster key, which is sealed again.
 * A leader that cannot open its key lets another voter lead. */
static void sealed_keys(void) {
        char pins[HOSTS][DIGEST_SIZE], root[DIGEST_SIZE];
        SimMachine *m;

        sealing = true;
        found_five();
        read_pins(pins);
        memcpy(root, ca_roots_current(view()->ca_roots)->id, sizeof(root));
        UNTIL("all-keys-are-sealed", all_have_key(1));
        check_sealed_keys_of_no_member(root);

        m = follower(KV_MEMBER_VOTER);
        m->sealer.host = 99;
        start_again(m);
        UNTIL("members-report-the-sealed-key", shows_sealed_key(m));
        UNTIL("no-problem-remains", !shows_sealed_key(m) && is_whole());
        m = leader();
        m->sealer.broken = true;
        start_again(m);
        UNTIL("another-voter-leads", leader() && leader() != m);
        UNTIL("members-report-the-sealed-key", shows_sealed_key(m));
        if (kv_transfer(daemon_host(leader()->daemon)->store, state_of(m).raft_id) < 0)
                world_failed(world, "leadership-is-transferred", "%s", m->name);
        UNTIL("a-leader-without-the-key", leader() == m);
        UNTIL("another-voter-leads", leader() && leader() != m);
        m->sealer.broken = false;
        UNTIL("no-problem-remains", !shows_sealed_key(m));
        check_works(pins);
        check_root(root);

        /* A setting that has no effect is a problem, but the key is of use. */
        m = leader();
        m->settings.seal_with = SEAL_WITH_NO;
        start_again(m);
        UNTIL("a-key-is-written-as-it-is", !has_key(m, 1) && is_whole());
        m->settings.seal_with = SEAL_WITH_HOST;
        m->sealer.broken = true;
        start_again(m);
        UNTIL("a-key-that-is-not-sealed-is-a-problem", shows_unsealed_key(m));
        m->sealer.broken = false;
        UNTIL("all-keys-are-sealed", all_have_key(1) && !shows_unsealed_key(m));
        check_works(pins);
        over();

        change_with_a_crash(CHANGE_REKEY, CA_ROTATION_REKEY, true);
        change_with_a_crash(CHANGE_COMPROMISED, CA_ROTATION_REKEY, false);
        sealing = false;
}

/* -- Clocks -- */

/* All hosts were off for longer than a certificate is valid; then each one gets a new certificate. */
static void all_certificates_expired(void) {
        char pins[HOSTS][DIGEST_SIZE];

        found_five();
        read_pins(pins);
        for (unsigned i = 0; i < HOSTS; i++)
                power_off(machine(i));
        for (unsigned i = 0; i < HOSTS; i++)
                machine(i)->wall_offset_ms = 90 * DAY_MS;
        for (unsigned i = 0; i < HOSTS; i++)
                start(machine(i));
        check_works(pins);
        for (unsigned i = 0; i < HOSTS; i++)
                UNTIL("expired-certificates-are-renewed",
                      (int64_t) certificate_of(machine(i)).not_after_ms >
                              (int64_t) loop_wall_ms(world_loop(machine(i)->loop)));
        over();
}

/* Return the number of hosts whose clock differs from the leader's by their presence. */
static unsigned n_wrong_clocks(void) {
        const Cluster *c = view();
        unsigned n = 0;

        for (const ClusterMachine *m = c ? c->machines : NULL; m; m = m->hh.next)
                n += m->verdict.of == VERDICT_OF_CLOCK;
        return c ? n : UINT32_MAX;
}

/* A power cut of all hosts loses the entry that added a member, but not its log: the member knows no leader,
 * because no leader knows it, and gets one all the same. */
static void power_cut_in_an_addition(void) {
        char pins[HOSTS][DIGEST_SIZE];

        for (unsigned delay_ms = 1; delay_ms <= ADD_MS; delay_ms += ADD_STEP_MS) {
                last_is_added = false;
                found_by_tokens(HOSTS);
                while (!last_is_added)
                        world_run(world, world_now_ms(world) + 1);
                world_run(world, world_now_ms(world) + delay_ms);
                read_pins(pins);
                world_trace(world, "test", "power cut %u ms after the addition", delay_ms);
                for (unsigned i = 0; i < HOSTS; i++)
                        power_off(machine(i));
                for (unsigned i = 0; i < HOSTS; i++)
                        start(machine(i));
                check_works(pins);
                over();
        }
}

/* A wrong clock of one host, and of all, while they run and at a start; a rotation ends all the same. */
static void wrong_clocks(int64_t offset_ms) {
        char pins[HOSTS][DIGEST_SIZE];

        found_five();
        read_pins(pins);
        set_clock(machine(1), offset_ms);
        power_off(machine(1));
        start(machine(1));
        check_works(pins);
        UNTIL("a-wrong-clock-is-a-condition", n_wrong_clocks() == (leader() == machine(1) ? HOSTS - 1 : 1));
        begin(CHANGE_ROTATE, leader()->index);
        UNTIL("a-rotation-ends", has_ended());
        check_works(pins);
        for (unsigned i = 0; i < HOSTS; i++)
                power_off(machine(i));
        for (unsigned i = 0; i < HOSTS; i++) {
                machine(i)->wall_offset_ms = offset_ms;
                start(machine(i));
        }
        check_works(pins);
        UNTIL("equal-clocks-are-no-condition", n_wrong_clocks() == 0);
        begin(CHANGE_COMPROMISED, leader()->index);
        UNTIL("a-rotation-ends", has_ended());
        check_works(pins);
        /* The clocks are right again. */
        for (unsigned i = 0; i < HOSTS; i++)
                set_clock(machine(i), 0);
        begin(CHANGE_COMPROMISED, leader()->index);
        UNTIL("a-rotation-ends", has_ended());
        check_works(pins);
        over();
}

static void clock_1970(void) {
        wrong_clocks(-SINCE_1970_MS + DAY_MS);
}

static void clock_2050(void) {
        wrong_clocks(24 * YEAR_MS);
}

static void (*const scenarios[])(void) = {
        rotate_each_step_with_absent_hosts,
        rekey_each_step_with_absent_hosts,
        remove_compromised,
        machine_rekey,
        repeated_machine_rekeys,
        attached_hosts_have_certificates,
        leader_without_the_key,
        key_of_no_member,
        sealed_keys,
        all_certificates_expired,
        power_cut_in_an_addition,
        clock_1970,
        clock_2050,
};

int main(int argc, char *argv[]) {
        return tokens_main(argc, argv, "tests/sim/test-rotate", scenarios, ELEMENTS(scenarios), on_message,
                           "all hosts work with their keys");
}
