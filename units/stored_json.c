#include "units/stored_json.h"

#include "units/verdict_former.h"

const JsonWords presence_words = { presence_names, _PRESENCE_MAX, -EBADMSG };
const JsonWords assignment_words = { assignment_kind_names, _ASSIGNMENT_MAX, -EBADMSG };
const JsonWords problem_words = { problem_kind_names, _PROBLEM_MAX, -EBADMSG };
static const JsonWords health_words = { unit_health_names, _UNIT_HEALTH_MAX, -EBADMSG };

/* A value that is not readable counts as none: the other facts stay readable. */
static int capacity_read(const JsonValue *member, void *field, Error *err) {
        Resources *capacity = field;
        uint64_t memory_mib = 0, percent = 0;

        *capacity = (Resources) {};
        if (member && json_value_u64(json_value_member(member, "memory"), &memory_mib) >= 0 &&
            json_value_u64(json_value_member(member, "cpu"), &percent) >= 0 && memory_mib > 0 && percent > 0)
                *capacity = (Resources) { .memory_mib = (uint32_t) MIN(memory_mib, UINT32_MAX),
                                          .cpu_percent = (uint32_t) MIN(percent, UINT32_MAX) };
        return 0;
}

static void capacity_write(Text *t, const char *name, const void *field) {
        const Resources *capacity = field;

        if (!resources_are_set(*capacity))
                return;
        json_open(t, name, '{');
        json_add_u64(t, "cpu", capacity->cpu_percent);
        json_add_u64(t, "memory", capacity->memory_mib);
        json_close(t, '}');
}

/* The fields of each record; read and written by name, and written in this order. */

static const JsonField facts_fields[] = {
        { "address", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, address) },
        { "boot", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, boot_id) },
        { "booting", JSON_FIELD_BOOL, offsetof(Machine, booting) },
        { "capacity", JSON_FIELD_OTHER, offsetof(Machine, capacity), .size = sizeof(Resources),
          .write = capacity_write, .read = capacity_read },
        { "checks", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, checks) },
        { "client", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, client) },
        { "level", JSON_FIELD_U64, offsetof(Machine, level) },
        { "metadata", JSON_FIELD_PAIRS, offsetof(Machine, metadata) },
        { "name", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, name) },
        { "needsReboot", JSON_FIELD_BOOL, offsetof(Machine, needs_reboot) },
        { "peer", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, peer) },
        { "quadlet", JSON_FIELD_BOOL, offsetof(Machine, quadlet) },
        { "raftId", JSON_FIELD_U64, offsetof(Machine, raft_id) },
        { "softReboot", JSON_FIELD_BOOL, offsetof(Machine, soft_reboot) },
        { "softReboots", JSON_FIELD_U64, offsetof(Machine, soft_reboots) },
        { "takesFinished", JSON_FIELD_BOOL, offsetof(Machine, takes_finished) },
        { "users", JSON_FIELD_BOOL, offsetof(Machine, users) },
        { "version", JSON_FIELD_OWNED_OR_NULL, offsetof(Machine, version) },
};

static int presence_reason_read(const JsonValue *member, void *field, Error *err) {
        Verdict said = {};

        TRY(verdict_read_said(member, &said, err));
        verdict_read_former(VERDICT_IN_PRESENCE, said.args, field);
        return 0;
}

static const JsonField presence_fields[] = {
        { "announced", JSON_FIELD_BOOL, offsetof(PresenceRecord, announced) },
        { "away", JSON_FIELD_U64, offsetof(PresenceRecord, away_ms) },
        { "losses", JSON_FIELD_U64, offsetof(PresenceRecord, losses) },
        { "lost", JSON_FIELD_U64, offsetof(PresenceRecord, lost_ms) },
        { "quiet", JSON_FIELD_U64, offsetof(PresenceRecord, hold_off_until_ms) },
        { "reason", JSON_FIELD_OTHER, offsetof(PresenceRecord, verdict), .size = sizeof(Verdict),
          .write = verdict_add_message, .read = presence_reason_read },
        { "since", JSON_FIELD_U64, offsetof(PresenceRecord, since_ms) },
        { "state", JSON_FIELD_WORD, offsetof(PresenceRecord, presence), true, .words = &presence_words },
        { "verdict", JSON_FIELD_OTHER, offsetof(PresenceRecord, verdict), .size = sizeof(Verdict),
          .write = verdict_write, .read = verdict_read },
};

static const JsonField member_fields[] = {
        { "agentless", JSON_FIELD_BOOL, offsetof(MemberRecord, agentless) },
        { "client", JSON_FIELD_CHARS_SKIPPED, offsetof(MemberRecord, client), .size = CLUSTER_URL_SIZE },
        { "level", JSON_FIELD_U64, offsetof(MemberRecord, level) },
        { "name", JSON_FIELD_CHARS_SKIPPED, offsetof(MemberRecord, name), .size = HOST_NAME_SIZE },
        { "nonce", JSON_FIELD_CHARS, offsetof(MemberRecord, start_nonce), .size = START_NONCE_SIZE },
        { "peer", JSON_FIELD_CHARS, offsetof(MemberRecord, peer), .size = ADDRESS_SIZE },
        { "raftId", JSON_FIELD_U64, offsetof(MemberRecord, raft_id), true },
        { "start", JSON_FIELD_U64, offsetof(MemberRecord, start_number) },
};

static const JsonField assignment_fields[] = {
        { "base", JSON_FIELD_CHARS_SKIPPED, offsetof(Assignment, base), .size = UNIT_HASH_SIZE },
        { "finished", JSON_FIELD_BOOL, offsetof(Assignment, finished) },
        { "hash", JSON_FIELD_CHARS, offsetof(Assignment, hash), .size = UNIT_HASH_SIZE },
        { "hold", JSON_FIELD_U64, offsetof(Assignment, hold_ms) },
        { "inputs", JSON_FIELD_U64, offsetof(Assignment, inputs) },
        { "instead", JSON_FIELD_CHARS_SKIPPED, offsetof(Assignment, instead), .size = MACHINE_ID_SIZE },
        { "moveAfter", JSON_FIELD_U64, offsetof(Assignment, move_after_ms) },
        { "moveFailed", JSON_FIELD_CHARS_SKIPPED, offsetof(Assignment, move_failed),
          .size = MACHINE_ID_SIZE },
        { "moveFailures", JSON_FIELD_U64, offsetof(Assignment, move_failures) },
        { "order", JSON_FIELD_WORD, offsetof(Assignment, kind), true, .words = &assignment_words },
        { "own", JSON_FIELD_U64, offsetof(Assignment, own) },
        { "reason", JSON_FIELD_OTHER, offsetof(Assignment, why), .size = sizeof(Verdict),
          .write = verdict_add_said, .read = verdict_read_said },
        { "rev", JSON_FIELD_U64, offsetof(Assignment, revision) },
        { "since", JSON_FIELD_U64, offsetof(Assignment, since_ms) },
        { "term", JSON_FIELD_U64, offsetof(Assignment, term) },
        { "unit", JSON_FIELD_U64, offsetof(Assignment, unit_index) },
        { "unlessRunning", JSON_FIELD_BOOL, offsetof(Assignment, unless_running) },
        { "verdict", JSON_FIELD_OTHER, offsetof(Assignment, why), .size = sizeof(Verdict),
          .write = verdict_write, .read = verdict_read },
};

static const JsonField problem_fields[] = {
        { "confirmed", JSON_FIELD_BOOL, offsetof(Problem, confirmed) },
        { "kind", JSON_FIELD_WORD, offsetof(Problem, kind), true, .words = &problem_words },
        { "text", JSON_FIELD_OWNED_OR_NULL, offsetof(Problem, text) },
        { "unit", JSON_FIELD_U64, offsetof(Problem, unit_index) },
        { "unowned", JSON_FIELD_BOOL, offsetof(Problem, unowned) },
        { "warning", JSON_FIELD_BOOL, offsetof(Problem, warning) },
};

static const JsonField state_fields[] = {
        { "active", JSON_FIELD_OWNED, offsetof(UnitState, active) },
        { "available", JSON_FIELD_BOOL, offsetof(UnitState, available) },
        { "code", JSON_FIELD_OTHER, offsetof(UnitState, code), .size = sizeof(VerdictCode),
          .write = verdict_code_write, .read = verdict_code_read },
        { "done", JSON_FIELD_BOOL, offsetof(UnitState, done) },
        { "hash", JSON_FIELD_OWNED_OR_NULL, offsetof(UnitState, hash) },
        { "health", JSON_FIELD_WORD, offsetof(UnitState, health), .words = &health_words },
        { "inputs", JSON_FIELD_U64, offsetof(UnitState, inputs) },
        { "invocation", JSON_FIELD_CHARS_SKIPPED, offsetof(UnitState, invocation),
          .size = INVOCATION_ID_SIZE },
        { "job", JSON_FIELD_CHARS_CUT, offsetof(UnitState, job), .size = UNIT_STATE_JOB_SIZE },
        { "kept", JSON_FIELD_U64, offsetof(UnitState, kept) },
        { "lapsed", JSON_FIELD_BOOL, offsetof(UnitState, lapsed) },
        { "load", JSON_FIELD_OWNED, offsetof(UnitState, load) },
        { "reason", JSON_FIELD_OWNED_OR_NULL, offsetof(UnitState, reason) },
        { "since", JSON_FIELD_U64, offsetof(UnitState, since_ms) },
        { "sub", JSON_FIELD_OWNED, offsetof(UnitState, sub) },
        { "unchecked", JSON_FIELD_BOOL, offsetof(UnitState, unchecked) },
        { "why", JSON_FIELD_OWNED_OR_NULL, offsetof(UnitState, why) },
};

static int facts_check(void *record, Error *err) {
        Machine *machine = record;
        char address[IP_ADDRESS_SIZE] = "";

        if (!machine->address ||
            (ip_address_canonical(machine->address, address) && streq(machine->address, address)))
                return 0;
        free(machine->address);
        machine->address = *address ? strdup(address) : NULL;
        return *address && !machine->address ? -ENOMEM : 0;
}

static int problem_check(void *record, Error *err) {
        Problem *problem = record;

        if (problem->warning)
                problem->kind = problem->unowned ? PROBLEM_UNOWNED : PROBLEM_WARNED;
        return 0;
}

static int state_check(void *record, Error *err) {
        UnitState *s = record;

        if (s->code == VERDICT_NONE && s->reason && s->active && streq(s->active, "inactive"))
                s->code = verdict_read_former_stop(s->reason);
        return 0;
}

const JsonRecord facts_record = { JSON_FIELDS(facts_fields), sizeof(Machine), facts_check };
const JsonRecord presence_record = { JSON_FIELDS(presence_fields), sizeof(PresenceRecord) };
const JsonRecord member_record = { JSON_FIELDS(member_fields), sizeof(MemberRecord) };
const JsonRecord assignment_record = { JSON_FIELDS(assignment_fields), sizeof(Assignment) };
const JsonRecord problem_record = { JSON_FIELDS(problem_fields), sizeof(Problem), problem_check };
const JsonRecord state_record = { JSON_FIELDS(state_fields), sizeof(UnitState), state_check };

void machine_done(Machine *machine) {
        json_record_done(&facts_record, machine);
}

void unit_state_done(UnitState *state) {
        json_record_done(&state_record, state);
}

void stored_problem_write(Text *t, const Problem *problem) {
        Problem p = *problem; /* it borrows */

        p.unowned = p.kind == PROBLEM_UNOWNED;
        p.warning = p.kind == PROBLEM_WARNED || p.unowned;
        if (p.warning)
                p.kind = PROBLEM_REFUSED;
        json_record_write(t, &problem_record, &p);
}
