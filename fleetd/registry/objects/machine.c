/* What the cluster knows of a machine. */
#include "base/parse.h"
#include "fleetd/registry/cluster_parts.h"

/* -- Facts -- */

const Pairs *cluster_metadata_own(const ClusterMachine *m) {
        return m->facts && !cluster_machine_is_restricted(m) ? &m->facts->metadata : NULL;
}

int cluster_metadata_merge(ClusterMachine *m) {
        const Pairs *own = cluster_metadata_own(m);
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

static int facts_applied(Cluster *c, const KindEntries *e, const void *was, const KindValue *is) {
        const Machine *before = was, *now = is->record;
        ClusterMachine *m = e->machine;

        if (!before || !now || before->quadlet != now->quadlet ||
            before->takes_finished != now->takes_finished ||
            !resources_equal(before->capacity, now->capacity) ||
            (!cluster_machine_is_restricted(m) && !pairs_equal(&before->metadata, &now->metadata)))
                m->place_index = is->modified;
        if (now && now->takes_finished && (!before || !before->takes_finished))
                m->takes_index = is->modified;
        m->facts_created = is->created;
        return cluster_metadata_merge(m);
}

static const JsonField facts_shown[] = {
        { "hostname", JSON_FIELD_OWNED, offsetof(Machine, name) },
        { "version", JSON_FIELD_OWNED, offsetof(Machine, version) },
};

KIND(facts, "machine/%m/facts", "machine", CHANGED_MACHINE, OF_MACHINE, KV_LEVEL_FIRST, SLICE_PLACE,
     { .own_set = RIGHT_REPORT, .remove = RIGHT_ADMINISTER, .reports = 1u << KV_REPORT_STATE },
     REMOVAL_OF_MACHINE | REMOVAL_OF_UNREADABLE, kind_stays, .record = &facts_record,
     .shown = JSON_FIELDS(facts_shown), .applied = facts_applied);

/* -- Metadata that people set -- */

static int metadata_text(const LayoutKey *k, const char *text, size_t size, Error *err) {
        if (size > METADATA_VALUE_MAX || strlen(text) != size)
                return error_set(err, -EBADMSG, "not a value of machine metadata");
        return machine_metadata_check(k->unit, text, err);
}

/* One request sets many keys: update this key alone, without a merge. */
static int metadata_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        const char *text = v->record;

        if (pairs_set(&e->machine->set, k->unit, text) < 0)
                return -ENOMEM;
        return pairs_set(&e->machine->metadata, k->unit, *text ? text : NULL);
}

static int metadata_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        const Pairs *stated = cluster_metadata_own(e->machine);
        const char *own = stated ? pairs_get(stated, k->unit) : NULL;

        if (pairs_set(&e->machine->set, k->unit, NULL) < 0)
                return -ENOMEM;
        return pairs_set(&e->machine->metadata, k->unit, own);
}

static int metadata_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (size_t i = 0; i < e->machine->set.n && r == 0; i++)
                r = found(userdata, LAYOUT_METADATA, e->machine->set.items[i].key, e->machine->id);
        return r;
}

static const JsonField metadata_shown[] = { { "value", JSON_FIELD_CHARS, 0 } };

KIND(metadata, "machine/%m/metadata/%u", "metadata", CHANGED_MACHINE, OF_MACHINE, KV_LEVEL_FIRST, SLICE_PLACE,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_OF_HOST, kind_stays, .text = metadata_text,
     .shown = JSON_FIELDS(metadata_shown), .apply = metadata_apply, .clear = metadata_clear,
     .each = metadata_each);

/* -- Presence -- */

/* A machine that is away keeps its units and receives no others. */
static void presence_unreadable(void *record) {
        PresenceRecord *presence = record;

        presence->presence = PRESENCE_AWAY;
        verdict_say(&presence->verdict, VERDICT_SAID, CLUSTER_UNREADABLE);
}

static int presence_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        static const PresenceRecord absent = { .presence = PRESENCE_LOST };
        const PresenceRecord *presence = v->record ?: &absent;
        ClusterMachine *m = e->machine;

        m->presence = presence->presence;
        m->since_ms = presence->since_ms;
        m->away_ms = presence->away_ms;
        m->losses = presence->losses;
        m->lost_ms = presence->lost_ms;
        m->announced = presence->announced;
        m->hold_off_until_ms = presence->hold_off_until_ms;
        m->verdict = presence->verdict;
        m->presence_index = v->modified;
        for (ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                cluster_update_lists(c, a->of);
        return 0;
}

static void presence_show_reason(Text *t, const char *name, const void *field) {
        verdict_add_message(t, name, field);
}

static const JsonField presence_shown[] = {
        { "presence", JSON_FIELD_WORD, offsetof(PresenceRecord, presence), .words = &presence_words },
        { "reason", JSON_FIELD_OTHER, offsetof(PresenceRecord, verdict), .write = presence_show_reason },
};

KIND(presence, "machine/%m/presence", "presence", CHANGED_PRESENCE, OF_MACHINE, KV_LEVEL_FIRST, SLICE_MACHINE,
     { .remove = RIGHT_ADMINISTER }, REMOVAL_ITSELF, kind_stays, .record = &presence_record,
     .shown = JSON_FIELDS(presence_shown), .unreadable = presence_unreadable, .apply = presence_apply,
     .present = offsetof(ClusterMachine, presence_index));

/* -- The new lineage in which a host has reported all that it runs -- */

static int reported_text(const LayoutKey *k, const char *text, size_t size, Error *err) {
        if (size != LINEAGE_DIGITS || parse_hex_id(text, LINEAGE_DIGITS) < 0)
                return error_set(err, -EBADMSG, "expected a lineage of %d hex digits", LINEAGE_DIGITS);
        return 0;
}

static int reported_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        e->machine->reported = v->record ? strtoull(v->record, NULL, 16) : 0;
        e->machine->reported_index = v->modified;
        return 0;
}

KIND(reported, "machine/%m/reported", "reported", CHANGED_CLUSTER, OF_MACHINE, KV_LEVEL_FIRST, SLICE_MACHINE,
     { .own_set = RIGHT_REPORT,
       .own_remove = RIGHT_REPORT,
       .remove = RIGHT_ADMINISTER,
       .reports = 1u << KV_REPORT_OTHER },
     REMOVAL_OF_MACHINE | REMOVAL_OF_UNREADABLE, kind_ends, .text = reported_text, .apply = reported_apply,
     .present = offsetof(ClusterMachine, reported));

/* -- Members -- */

static void member_list_set(Cluster *c, ClusterMachine *m, bool in) {
        if (m->is_member == in)
                return;
        if (in)
                LIST_INSERT_HEAD(&c->members, m, of_members);
        else
                LIST_REMOVE(m, of_members);
        m->is_member = in;
}

static int member_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        e->machine->member = *(const MemberRecord *) v->record;
        member_list_set(c, e->machine, true);
        return 0;
}

/* The last start stays: the daemon compares it with its own after it joins again. */
static int member_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        MemberRecord *member = &e->machine->member;

        member->raft_id = 0;
        member->peer[0] = member->client[0] = member->name[0] = 0;
        member_list_set(c, e->machine, false);
        return 0;
}

/* After a restore, all have to join again. */
static bool member_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        return lineage->is_restored || !streq(k->machine, lineage->machine_id);
}

/* A machine with a member key, which says no more than that. */
static void member_unreadable(void *record) {}

KIND(member, "cluster/member/%m", "member", CHANGED_CLUSTER, OF_MACHINE, KV_LEVEL_FIRST, SLICE_ALL,
     { .set = RIGHT_ADMINISTER }, REMOVAL_OF_HOST, member_ends, .record = &member_record,
     .unreadable = member_unreadable, .apply = member_apply, .clear = member_clear,
     .present = offsetof(ClusterMachine, member.raft_id));
