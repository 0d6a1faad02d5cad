/* Kinds of keys of membership and security: hosts and their tombstones, maintenance, tokens, users, lineages,
 * the CA, settings; rollouts and moves. Each value is a record on the heap: of a machine, of a unit, of the
 * cluster, or in a table by name. */
#include <stdio.h>

#include "fleetd/registry/kinds.h"

/* Allocate and read a record of 'size' bytes, which ret->record owns. */
static int record_decode(KvBytes bytes, size_t size, int (*read)(const char *, size_t, void *, Error *),
                         void (*record_free)(void *), KindValue *ret, Error *err) {
        _cleanup_free_ void *record = calloc(1, size);
        int r;

        if (!record)
                return -ENOMEM;
        r = read(bytes.data, bytes.size, record, err);
        if (r < 0)
                return r;
        ret->record = TAKE_PTR(record);
        ret->record_free = record_free;
        return 0;
}

/* PREFIX_free(), PREFIX_read(): stored_NAME_read() for any record. 'done' frees what the record owns. */
#define RECORD(prefix, Type, name, done)                                                           \
        static void prefix##_free(void *record) {                                                  \
                if (record)                                                                        \
                        done(record);                                                              \
                free(record);                                                                      \
        }                                                                                          \
        static int prefix##_read(const char *json, size_t size, void *record, Error *err) {        \
                return stored_##name##_read(json, size, record, err);                              \
        }                                                                                          \
        static int prefix##_decode_record(KvBytes bytes, KindValue *ret, Error *err) {             \
                return record_decode(bytes, sizeof(Type), prefix##_read, prefix##_free, ret, err); \
        }

static void nothing_done(const void *record) {
        (void) record;
}

RECORD(host, HostRecord, host, nothing_done)
RECORD(removed, RemovedRecord, removed, nothing_done)
RECORD(maintenance, MaintenanceRecord, maintenance, nothing_done)
RECORD(reboot, RebootRecord, reboot, nothing_done)
RECORD(move, MoveRecord, move, nothing_done)
RECORD(rollout, RolloutRecord, rollout, rollout_record_done)
RECORD(ca_roots, CaRoots, ca_roots, ca_roots_record_done)
RECORD(ca_keys, CaKeys, ca_keys, ca_keys_record_done)
RECORD(ca_rotation, CaRotation, ca_rotation, nothing_done)
RECORD(settings, ClusterSettings, settings, nothing_done)
RECORD(token, TokenRecord, token, token_record_done)
RECORD(denied, DeniedRecord, denied, nothing_done)
RECORD(principal, PrincipalRecord, principal, nothing_done)
RECORD(lineage, LineageRecord, lineage, nothing_done)

/* -- One value of a machine, or of the cluster -- */

#define SINGLE(prefix, owner)                                                                           \
        int kind_##prefix##_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {     \
                return prefix##_decode_record(bytes, ret, err);                                         \
        }                                                                                               \
        int kind_##prefix##_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) { \
                prefix##_free((owner)->prefix);                                                         \
                (owner)->prefix = TAKE_PTR(v->record);                                                  \
                (owner)->prefix##_index = v->modified;                                                  \
                return 0;                                                                               \
        }                                                                                               \
        int kind_##prefix##_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {               \
                return kind_##prefix##_apply(c, e, k, &(KindValue) {});                                 \
        }

SINGLE(host, e->machine)
SINGLE(removed, e->machine)
SINGLE(maintenance, e->machine)
SINGLE(reboot, e->machine)
SINGLE(rollout, e->unit)
SINGLE(move, e->unit)

/* -- Metadata of a machine -- */

const Pairs *kind_metadata_own(const ClusterMachine *m) {
        return m->facts && !cluster_machine_is_restricted(m) ? &m->facts->metadata : NULL;
}

int kind_metadata_merge(ClusterMachine *m) {
        const Pairs *own = kind_metadata_own(m);
        _cleanup_pairs_ Pairs merged = {};

        if (own && pairs_copy(own, &merged) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < m->set.n; i++)
                if (pairs_set(&merged, m->set.items[i].key,
                              *m->set.items[i].value ? m->set.items[i].value : NULL) < 0)
                        return -ENOMEM;
        pairs_done(&m->metadata);
        m->metadata = merged;
        merged = (Pairs) {};
        return 0;
}

int kind_host_merge(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        bool was_restricted = cluster_machine_is_restricted(e->machine);
        int r = kind_host_apply(c, e, k, v);

        if (r < 0 || was_restricted == cluster_machine_is_restricted(e->machine))
                return r;
        return kind_metadata_merge(e->machine);
}

/* The machine keeps its units and receives no others. */
int kind_maintenance_unreadable(KindValue *ret) {
        MaintenanceRecord *cordoned = NEW0(MaintenanceRecord, 1);

        if (!cordoned)
                return -ENOMEM;
        *cordoned = (MaintenanceRecord) { .mode = MAINTENANCE_CORDONED, .why = CLUSTER_UNREADABLE };
        ret->record = cordoned;
        ret->record_free = maintenance_free;
        return 0;
}

SINGLE(ca_roots, c)
SINGLE(ca_keys, c)
SINGLE(ca_rotation, c)
SINGLE(settings, c)

/* -- Tables by the name in the key -- */

/* A name that is not valid is no name of such an object: its key is unreadable, and so has no effect. */
#define TABLE(prefix, Type, table, kind, is_valid)                                                           \
        int kind_##prefix##_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {          \
                if (!is_valid(k->unit))                                                                      \
                        return error_set(err, -EBADMSG, "invalid name");                                     \
                return prefix##_decode_record(bytes, ret, err);                                              \
        }                                                                                                    \
        static void prefix##_remove(Cluster *c, Type *x) {                                                   \
                HASH_DEL(c->table, x);                                                                       \
                prefix##_take(&x->record);                                                                   \
                free(x);                                                                                     \
        }                                                                                                    \
        int kind_##prefix##_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {                    \
                Type *x = TABLE_FIND(c->table, k->unit);                                                     \
                                                                                                             \
                if (x)                                                                                       \
                        prefix##_remove(c, x);                                                               \
                return 0;                                                                                    \
        }                                                                                                    \
        static Type *prefix##_get(Cluster *c, const char *name) {                                            \
                Type *x = TABLE_FIND(c->table, name);                                                        \
                _cleanup_free_ Type *fresh = x ? NULL : NEW0(Type, 1);                                       \
                                                                                                             \
                if (!fresh)                                                                                  \
                        return x;                                                                            \
                snprintf(fresh->name, sizeof(fresh->name), "%s", name);                                      \
                HASH_ADD_STR(c->table, name, fresh);                                                         \
                return TABLE_ADDED(fresh) ? TAKE_PTR(fresh) : NULL;                                          \
        }                                                                                                    \
        int kind_##prefix##_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {      \
                Type *x = prefix##_get(c, k->unit);                                                          \
                                                                                                             \
                if (!x)                                                                                      \
                        return -ENOMEM;                                                                      \
                prefix##_take(&x->record);                                                                   \
                memcpy(&x->record, v->record, sizeof(x->record));                                            \
                free(TAKE_PTR(v->record)); /* its contents are the entry's now */                            \
                x->index = v->modified;                                                                      \
                return 0;                                                                                    \
        }                                                                                                    \
        int kind_##prefix##_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) { \
                int r = 0;                                                                                   \
                                                                                                             \
                for (Type *x = c->table; x && r == 0; x = x->hh.next)                                        \
                        r = found(userdata, kind, x->name, NULL);                                            \
                return r;                                                                                    \
        }

static bool lineage_name_is_valid(const char *name) {
        return parse_hex_id(name, LINEAGE_SIZE - 1) >= 0;
}

#define token_take     token_record_done
#define denied_take    nothing_done
#define principal_take nothing_done
#define lineage_take   nothing_done

TABLE(token, ClusterToken, tokens, LAYOUT_TOKEN, token_id_is_valid)
TABLE(denied, ClusterDenied, denied, LAYOUT_DENIED, digest_is_valid)
TABLE(principal, ClusterPrincipal, principals, LAYOUT_PRINCIPAL, principal_name_is_valid)
TABLE(lineage, ClusterLineage, lineages, LAYOUT_LINEAGE, lineage_name_is_valid)

/* -- Release -- */

void cluster_kinds_done_unit(ClusterUnit *u) {
        rollout_free(u->rollout);
        move_free(u->move);
}

void cluster_kinds_done_machine(ClusterMachine *m) {
        host_free(m->host);
        removed_free(m->removed);
        maintenance_free(m->maintenance);
        reboot_free(m->reboot);
}

void cluster_kinds_done(Cluster *c) {
        while (c->tokens)
                token_remove(c, c->tokens);
        while (c->denied)
                denied_remove(c, c->denied);
        while (c->principals)
                principal_remove(c, c->principals);
        while (c->lineages)
                lineage_remove(c, c->lineages);
        ca_roots_free(c->ca_roots);
        ca_keys_free(c->ca_keys);
        ca_rotation_free(c->ca_rotation);
        settings_free(c->settings);
}
