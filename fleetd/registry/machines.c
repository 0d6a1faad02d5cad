/* Presence and member keys: written by membership, on the leader. */

#include "base/log.h"
#include "base/parse.h"
#include "fleetd/registry/cluster_keys.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/registry.h"
#include "fleetd/registry/shutdown.h"
#include "fleetd/registry/transaction_parts.h"
#include "units/json.h"

static const char next_raft_id[] = "next-raft-id";

static void machines_note(Transaction *t, const Registry *r, HistoryKind kind, const char *machine,
                          const char *reason) {
        transaction_note(t, r, &(HistoryNote) { .kind = kind, .machine = machine, .reason = reason });
}

/* The problem of a replica or of a clock may contain figures that change: its begin and its end have rows. */
static void machines_note_presence(Transaction *t, const Registry *r, const PresenceChange *c,
                                   const char *reason) {
        const ClusterMachine *known = cluster_machine(registry_cluster(r), c->machine);
        bool unreported = c->verdict.code == VERDICT_LOST_UNREPORTED;
        VerdictAspect of = c->verdict.of;
        char row[PRESENCE_REASON_SIZE + 16];

        if (known && known->presence == c->presence && known->verdict.of == of &&
            (of == VERDICT_OF_REPLICA || of == VERDICT_OF_CLOCK))
                return;
        snprintf(row, sizeof(row), "%s%s%s", presence_to_string(c->presence), *reason ? ": " : "", reason);
        transaction_note(t, r,
                         &(HistoryNote) { .kind = HISTORY_PRESENCE,
                                          .machine = c->machine,
                                          .code = unreported ? c->verdict.code :
                                                               verdict_code(presence_to_string(c->presence)),
                                          .reason = row });
}

/* A removed machine that is up again is a host of the cluster again. */
static void machines_end_tombstone(Transaction *t, const Registry *r, const ClusterMachine *known,
                                   Presence presence) {
        if (!known || known->removed_index == 0 || presence != PRESENCE_UP)
                return;
        transaction_check(t, KV_CHECK_MODIFIED, known->removed_index, LAYOUT_REMOVED, NULL, known->id);
        transaction_delete(t, LAYOUT_REMOVED, NULL, known->id);
        transaction_deny_keys(t, r, known);
}

/* In one transaction. Further problems and states are deleted by registry_remove_rest(). */
enum { REMOVED_MAX = 500 };

typedef struct Removal {
        Transaction *t;
        const ClusterMachine *machine;
        size_t max;    /* of writes */
        bool is_final; /* no host returns: finished units do not count any more */
} Removal;

static bool machines_keeps_state(const ClusterMachine *m, const ClusterState *s) {
        return s->state.done && cluster_assignment_on(m, s->unit); /* a finished unit does not run again */
}

static int machines_on_removed_key(void *userdata, LayoutKind kind, const char *unit, const char *machine) {
        const Removal *r = userdata;

        if (kind == LAYOUT_STATE && !r->is_final &&
            machines_keeps_state(r->machine, cluster_state_on(r->machine, unit)))
                return 0;
        if (r->t->n_writes >= r->max)
                return 1;
        transaction_delete(r->t, kind, unit, machine);
        return 0;
}

/* Delete the endpoints of the machine. One may be in the log that the cluster view does not have yet: check
 * that it is absent, as far as there is room. */
static void machines_withdraw(Transaction *t, const Cluster *c, const ClusterMachine *m) {
        const KindEntries e = { .machine = (ClusterMachine *) m };
        char key[LAYOUT_KEY_MAX];

        (void) kind_endpoint.each(c, &e, machines_on_removed_key,
                                  &(Removal) { t, m, t->n_writes + ENDPOINTS_MAX });
        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next) {
                const Transaction before = *t;

                if (!a->of->unit || a->of->unit->placement.service.names.n == 0 ||
                    cluster_endpoint(c, m->id, a->unit) ||
                    cluster_is_unreadable(c, kv_string(layout_key(key, LAYOUT_ENDPOINT, a->unit,
                                                                  m->id)))) /* deleted above */
                        continue;
                transaction_check(t, KV_CHECK_ABSENT, 0, LAYOUT_ENDPOINT, a->unit, m->id);
                if (!transaction_fits(t, &before))
                        return;
        }
}

static void machines_add_presence(Transaction *t, Registry *r, const PresenceChange *c, const Text *reason) {
        const Cluster *cluster = registry_cluster(r);
        const ClusterMachine *m = cluster_machine(cluster, c->machine);
        PresenceRecord record = presence_next(m, c->presence, cluster->adopting, c->announced,
                                              cluster->now_ms);

        transaction_check_index(t, c->expected_index, LAYOUT_PRESENCE, NULL, c->machine);
        machines_end_tombstone(t, r, m, c->presence);
        record.away_ms = c->away_ms;
        record.verdict = c->verdict;
        if (registry_is_codeless(r))
                verdict_say(&record.verdict, VERDICT_SAID, text_chars(reason));
        transaction_put(t, LAYOUT_PRESENCE, NULL, c->machine, &record);
        machines_note_presence(t, r, c, text_chars(reason));
        if (m && presence_is_down(c->presence))
                machines_withdraw(t, cluster, m);
}

/* Add the first changes that fit, at least one. Return their number. */
static size_t machines_add_presences(Transaction *t, Registry *r, uint64_t term,
                                     const PresenceChange *changes, size_t n) {
        static const char *const verbs[_PRESENCE_MAX] = {
                [PRESENCE_UP] = "is up",
                [PRESENCE_AWAY] = "is away",
                [PRESENCE_LOST] = "is lost",
                [PRESENCE_LEFT] = "was shut down",
        };

        for (size_t i = 0; i < n; i++) {
                const Transaction before = *t;
                const PresenceChange *c = &changes[i];
                _cleanup_text_ Text reason = {};

                verdict_append(&reason, &c->verdict);
                machines_add_presence(t, r, c, &reason);
                if (i > 0 && !transaction_fits(t, &before))
                        return i;
                log_notice(((LogFields) { .machine = c->machine,
                                          .term = term,
                                          .message_id = history_message_id(HISTORY_PRESENCE) }),
                           "machine %s %s%s%s", cluster_name_of(registry_cluster(r), c->machine),
                           verbs[c->presence], reason.size > 0 ? ": " : "", text_chars(&reason));
        }
        return n;
}

int registry_presence(Registry *r, uint64_t term, const PresenceChange *changes, size_t n, RegistryDone done,
                      void *userdata) {
        for (size_t sent = 0;;) {
                _cleanup_transaction_ Transaction t = {};

                sent += machines_add_presences(&t, r, term, changes + sent, n - sent);
                if (sent == n)
                        return transaction_send(r, &t, term, done, userdata);
                TRY(transaction_send(r, &t, term, NULL, NULL));
        }
}

/* -- Removal -- */

/* Delete the keys of the machine that are deleted at one of these times. */
static void machines_remove_keys(const Removal *r, const Cluster *c, unsigned on_removal) {
        const KindEntries e = { .machine = (ClusterMachine *) r->machine };

        for (LayoutKind kind = 0; kind < _LAYOUT_MAX; kind++)
                if (kinds[kind]->on_removal & on_removal)
                        (void) (kinds[kind]->each ?
                                        kinds[kind]->each(c, &e, machines_on_removed_key, (void *) r) :
                                        kinds_each_of(kind, c, &e, machines_on_removed_key, (void *) r));
}

static void machines_remove_reports(Transaction *t, const Registry *r, const ClusterMachine *m) {
        machines_remove_keys(&(Removal) { t, m, REMOVED_MAX }, registry_cluster(r), REMOVAL_OF_REPORTS);
}

/* Delete what serves the return of the host only: it can return with a new token only. */
static void machines_remove_membership(Transaction *t, const Registry *r, const ClusterMachine *m) {
        if (m->host_index > 0) {
                transaction_check(t, KV_CHECK_MODIFIED, m->host_index, LAYOUT_HOST, NULL, m->id);
                transaction_delete(t, LAYOUT_HOST, NULL, m->id);
        }
        machines_remove_keys(&(Removal) { t, m, SIZE_MAX }, registry_cluster(r), REMOVAL_OF_HOST);
}

static void machines_write_tombstone(Transaction *t, const Registry *r, const ClusterMachine *m,
                                     const char *user, const char *how) {
        RemovedRecord removed = { .index = registry_cluster(r)->index, .since_ms = registry_wall_ms(r) };
        KvState state;

        kv_state(registry_store(r), &state);
        if (state.level < KV_LEVEL_IDENTITY)
                return;
        snprintf(removed.by, sizeof(removed.by), "%s", user ?: "");
        snprintf(removed.how, sizeof(removed.how), "%s", how);
        if (m->host && m->host->pins.n > 0)
                memcpy(removed.pin, m->host->pins.items[0], sizeof(removed.pin));
        if (m->host && m->host->pins.n > 1)
                memcpy(removed.pin2, m->host->pins.items[1], sizeof(removed.pin2));
        transaction_deny_keys(t, r, m);
        transaction_put(t, LAYOUT_REMOVED, NULL, m->id, &removed);
}

/* Delete what each machine has, and note it in the history. */
static void machines_remove(Transaction *t, const Registry *r, const ClusterMachine *m, const char *user) {
        transaction_check_index(t, m->presence_index, LAYOUT_PRESENCE, NULL, m->id);
        if (m->presence_index > 0) {
                transaction_delete(t, LAYOUT_PRESENCE, NULL, m->id);
                transaction_note(t, r,
                                 &(HistoryNote) { .kind = HISTORY_REMOVED,
                                                  .machine = m->id,
                                                  .user = user,
                                                  .reason = cluster_machine_hostname(m) });
        }
        machines_remove_keys(&(Removal) { t, m, SIZE_MAX }, registry_cluster(r), REMOVAL_OF_MACHINE);
        for (const ClusterUnreadable *x = LIST_FIRST(&m->unreadable); x && t->n_writes < REMOVED_MAX;
             x = LIST_NEXT(x, of_owner))
                if (kinds[x->key.kind]->on_removal & REMOVAL_OF_UNREADABLE &&
                    !(kinds[x->key.kind]->on_removal & REMOVAL_OF_HOST)) /* deleted with the membership */
                        transaction_delete(t, x->key.kind, x->key.unit, m->id);
}

int registry_remove_machine(Registry *r, const ClusterMachine *m, const char *user, const CaChange *ca,
                            RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        machines_remove(&t, r, m, user);
        if (m->host_index > 0)
                machines_remove_membership(&t, r, m);
        machines_write_tombstone(&t, r, m, user,
                                 ca ? CLUSTER_REMOVED_COMPROMISED : presence_to_string(m->presence));
        if (ca)
                transaction_change_ca(&t, r, ca);
        machines_remove_reports(&t, r, m);
        return transaction_send(r, &t, 0, done, userdata);
}

/* -- Maintenance -- */

static void machines_note_maintenance(Transaction *t, const Registry *r, const ClusterMachine *m,
                                      const MaintenanceRecord *maintenance, const char *user,
                                      VerdictCode code, const char *reason) {
        bool leave = streq(maintenance->purpose, CLUSTER_FOR_LEAVE);

        transaction_note(t, r,
                         &(HistoryNote) { .kind = leave ? HISTORY_LEAVE : HISTORY_MAINTENANCE,
                                          .machine = m->id,
                                          .user = user,
                                          .code = code,
                                          .reason = reason });
}

static void machines_check_maintenance(Transaction *t, const ClusterMachine *m) {
        transaction_check_index(t, m->maintenance_index, LAYOUT_MAINTENANCE, NULL, m->id);
}

int registry_maintain(Registry *r, uint64_t term, const ClusterMachine *m,
                      const MaintenanceRecord *maintenance, const char *reason, RegistryDone done,
                      void *userdata) {
        bool lost = term > 0 && maintenance->mode == MAINTENANCE_CORDONED && m->presence == PRESENCE_LOST &&
                    !cluster_machine_is_stopping(m);
        _cleanup_transaction_ Transaction t = {};

        machines_check_maintenance(&t, m);
        transaction_put(&t, LAYOUT_MAINTENANCE, NULL, m->id, maintenance);
        if (reason)
                machines_note_maintenance(&t, r, m, maintenance, term == 0 ? maintenance->by : NULL,
                                          streq(maintenance->purpose, CLUSTER_FOR_LEAVE) ?
                                                  VERDICT_LEAVE_BEGUN :
                                          lost ? VERDICT_DRAIN_LOST :
                                                 VERDICT_SAID,
                                          reason);
        return transaction_send(r, &t, term, done, userdata);
}

int registry_end_maintenance(Registry *r, const ClusterMachine *m, const char *user, const char *reason,
                             RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        machines_check_maintenance(&t, m);
        transaction_delete(&t, LAYOUT_MAINTENANCE, NULL, m->id);
        machines_note_maintenance(&t, r, m, m->maintenance, user, VERDICT_SAID, reason);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_announce_shutdown(Registry *r, const ClusterMachine *m, bool stopping, RegistryDone done,
                               void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        MaintenanceRecord next = {};
        int e = stopping ? shutdown_begin(m->maintenance, &next) : shutdown_end(m->maintenance, &next);

        if (stopping ? e == 0 : e < 0)
                return -EALREADY;
        machines_check_maintenance(&t, m);
        if (stopping && !m->maintenance)
                next.since_ms = registry_wall_ms(r);
        transaction_put(&t, LAYOUT_MAINTENANCE, NULL, m->id, e > 0 ? &next : NULL);
        machines_note_maintenance(&t, r, m, m->maintenance ?: &next, NULL, VERDICT_SAID,
                                  stopping ? "draining: the host is shutting down" :
                                             "the host does not shut down any more");
        return transaction_send(r, &t, 0, done, userdata);
}

/* Add the change of the maintenance that belongs to a step of a reboot. */
static void machines_maintain_for_reboot(Transaction *t, const Registry *r, const RebootChange *c) {
        const MaintenanceRecord *now = c->machine->maintenance;
        MaintenanceRecord next = {};
        int e;

        if (c->maintenance == REBOOT_KEEPS)
                return;
        machines_check_maintenance(t, c->machine);
        if (c->maintenance == REBOOT_DRAINS) {
                e = reboot_begin(now, c->drain_until_ms, &next);
                if (e > 0 && !now) {
                        snprintf(next.by, sizeof(next.by), "%s", c->record ? c->record->by : "");
                        next.since_ms = registry_wall_ms(r);
                }
        } else if (c->maintenance == REBOOT_CORDONS || c->maintenance == REBOOT_LIMITS) {
                e = now && streq(now->purpose, CLUSTER_FOR_REBOOT);
                if (e > 0) {
                        next = *now;
                        if (c->maintenance == REBOOT_CORDONS)
                                next.mode = MAINTENANCE_CORDONED;
                        next.deadline_ms = c->drain_until_ms;
                }
        } else if ((e = reboot_end(now, &next)) == 0)
                transaction_delete(t, LAYOUT_MAINTENANCE, NULL, c->machine->id);
        if (e <= 0)
                return;
        transaction_put(t, LAYOUT_MAINTENANCE, NULL, c->machine->id, &next);
}

int registry_reboot(Registry *r, uint64_t term, const RebootChange *changes, size_t n, const char *user,
                    RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        for (size_t i = 0; i < n; i++) {
                const RebootChange *c = &changes[i];
                RebootRecord record = c->record ? *c->record : (RebootRecord) {};

                transaction_say_former(&t, r, &record.why);
                transaction_check_index(&t, c->machine->reboot_index, LAYOUT_REBOOT, NULL, c->machine->id);
                transaction_put(&t, LAYOUT_REBOOT, NULL, c->machine->id, c->record ? &record : NULL);
                machines_maintain_for_reboot(&t, r, c);
                transaction_note(&t, r,
                                 &(HistoryNote) { .kind = HISTORY_MAINTENANCE,
                                                  .machine = c->machine->id,
                                                  .user = user,
                                                  .reason = c->reason,
                                                  .verdict = c->verdict });
        }
        return transaction_send(r, &t, term, done, userdata);
}

int registry_leave(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_check(&t, KV_CHECK_MODIFIED, m->maintenance_index, LAYOUT_MAINTENANCE, NULL, m->id);
        machines_remove(&t, r, m, m->maintenance->by);
        machines_remove_membership(&t, r, m);
        machines_write_tombstone(&t, r, m, m->maintenance->by, CLUSTER_REMOVED_LEAVE);
        machines_remove_reports(&t, r, m);
        return transaction_send(r, &t, term, done, userdata);
}

/* Return whether no host of the cluster has this machine ID: the machine was removed, and has not returned.
 * Without a tombstone, it was removed by a former version, or long ago. */
static bool machines_is_gone(const ClusterMachine *m) {
        return cluster_machine_is_removed(m) && m->host_index == 0 && m->member.raft_id == 0;
}

static bool machines_has_rest(const ClusterMachine *m) {
        if (m->problems)
                return true;
        for (const ClusterState *s = m->states; s; s = s->hh.next)
                if (!machines_keeps_state(m, s))
                        return true;
        return false;
}

const ClusterMachine *registry_removed_rest(const Registry *r) {
        const Cluster *c = registry_cluster(r);

        bool any = !c->adopting && c->counts[MACHINES_REMOVED] > 0;

        for (const ClusterMachine *m = any ? c->machines : NULL; m; m = m->hh.next)
                if (machines_is_gone(m) && machines_has_rest(m))
                        return m;
        return NULL;
}

int registry_remove_rest(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done,
                         void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_check(&t, KV_CHECK_ABSENT, 0, LAYOUT_PRESENCE, NULL, m->id);
        transaction_check(&t, KV_CHECK_ABSENT, 0, LAYOUT_HOST, NULL, m->id);
        machines_remove_reports(&t, r, m);
        return transaction_send(r, &t, term, done, userdata);
}

/* -- The end of a tombstone -- */

const ClusterMachine *registry_forgettable(const Registry *r) {
        uint64_t now_ms = registry_wall_ms(r);
        const Cluster *c = registry_cluster(r);

        for (const ClusterMachine *m = c->counts[MACHINES_REMOVED] > 0 ? c->machines : NULL; m;
             m = m->hh.next)
                if (m->removed && cluster_machine_is_removed(m) && m->removed->since_ms > 0 &&
                    now_ms > m->removed->since_ms && now_ms - m->removed->since_ms >= TOMBSTONE_MS)
                        return m;
        return NULL;
}

int registry_forget_machine(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done,
                            void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_check(&t, KV_CHECK_ABSENT, 0, LAYOUT_PRESENCE, NULL, m->id);
        transaction_check(&t, KV_CHECK_MODIFIED, m->removed_index, LAYOUT_REMOVED, NULL, m->id);
        machines_remove_keys(&(Removal) { &t, m, REMOVED_MAX, .is_final = true }, registry_cluster(r),
                             REMOVAL_OF_REPORTS | REMOVAL_OF_HOST | REMOVAL_OF_TOMBSTONE);
        if (t.n_writes < REMOVED_MAX) { /* else the rest follows */
                transaction_delete(&t, LAYOUT_REMOVED, NULL, m->id);
                transaction_deny_keys(&t, r, m);
        }
        return transaction_send(r, &t, term, done, userdata);
}

/* -- Members -- */

typedef struct NextId {
        uint64_t index;
        char digits[32];
} NextId;

static int machines_on_next_id(void *userdata, const KvNode *node) {
        NextId *next = userdata;

        next->index = node->modified;
        if (node->value.size < sizeof(next->digits))
                memcpy(next->digits, node->value.data, node->value.size);
        return 0;
}

/* Return the next unused Raft id: above that of each key and each member, past ones included. */
static int machines_next_id(Registry *r, uint64_t *ret_id, uint64_t *ret_index) {
        const Cluster *cluster = registry_cluster(r);
        char path[LAYOUT_KEY_MAX];
        NextId stored = {};
        uint64_t next = 1;
        KvState state;
        int e;

        e = kv_local_get(registry_store(r), kv_string(layout_key(path, LAYOUT_CLUSTER, next_raft_id, NULL)),
                         machines_on_next_id, &stored);
        if (e < 0 && e != -ENOENT)
                return e;
        *ret_index = stored.index;

        /* An invalid value is harmless: the members below count, too. */
        (void) parse_u64(stored.digits, &next);
        kv_state(registry_store(r), &state);
        for (size_t i = 0; i < state.n_members; i++)
                next = MAX(next, state.members[i].raft_id + 1);
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                next = MAX(next, m->member.raft_id + 1);
        *ret_id = next;
        return 0;
}

/* Give the machine the next Raft ID. */
static int machines_write_id(Transaction *t, Registry *r, const char *machine_id, const char *peer_address,
                             uint64_t *ret_id) {
        _cleanup_text_ Text next = {};
        MemberRecord member = {};
        uint64_t index = 0;

        TRY(machines_next_id(r, &member.raft_id, &index));

        text_printf(&next, "%llu", (unsigned long long) member.raft_id + 1);

        transaction_check(t, KV_CHECK_MODIFIED, index, LAYOUT_CLUSTER, next_raft_id, NULL);
        transaction_write(t, KV_SET, LAYOUT_CLUSTER, next_raft_id, NULL, transaction_text(t, &next));
        snprintf(member.peer, sizeof(member.peer), "%s", peer_address);
        transaction_put(t, LAYOUT_MEMBER, NULL, machine_id, &member);
        *ret_id = member.raft_id;
        return 0;
}

int registry_assign_replica(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done,
                            void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        uint64_t id;
        int e;

        transaction_check(&t, KV_CHECK_ABSENT, 0, LAYOUT_MEMBER, NULL, m->id);
        e = machines_write_id(&t, r, m->id, "", &id);
        return e < 0 ? e : transaction_send(r, &t, term, done, userdata);
}

int registry_admit(Registry *r, const char *machine_id, const char *peer_address, uint64_t *ret_id,
                   RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        uint64_t id;

        TRY(machines_write_id(&t, r, machine_id, peer_address, &id));
        machines_note(&t, r, HISTORY_JOINED, machine_id, peer_address);

        TRY(transaction_send(r, &t, 0, done, userdata));
        *ret_id = id;
        return 0;
}

int registry_record_start(Registry *r, const char *machine_id, const MemberRecord *member, RegistryDone done,
                          void *userdata) {
        const ClusterMachine *known = cluster_machine(registry_cluster(r), machine_id);
        _cleanup_transaction_ Transaction t = {};

        transaction_check(&t, KV_CHECK_MODIFIED,
                          transaction_key_index(&t, r, LAYOUT_MEMBER, NULL, machine_id), LAYOUT_MEMBER, NULL,
                          machine_id);
        transaction_put(&t, LAYOUT_MEMBER, NULL, machine_id, member);
        if (!known || known->member.start_number != member->start_number ||
            !streq(known->member.start_nonce, member->start_nonce))
                machines_note(&t, r, HISTORY_STARTED, machine_id, NULL);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_retire_member(Registry *r, uint64_t term, const ClusterMachine *m, const char *reason,
                           RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_check(&t, KV_CHECK_MODIFIED, m->presence_index, LAYOUT_PRESENCE, NULL, m->id);
        transaction_check(&t, KV_CHECK_MODIFIED, transaction_key_index(&t, r, LAYOUT_MEMBER, NULL, m->id),
                          LAYOUT_MEMBER, NULL, m->id);
        transaction_delete(&t, LAYOUT_MEMBER, NULL, m->id);
        machines_note(&t, r, HISTORY_REPLACED, m->id, reason);
        return transaction_send(r, &t, term, done, userdata);
}
