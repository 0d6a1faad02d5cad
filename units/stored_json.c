#include "units/stored_json.h"

#include <stdio.h>

#include <errno.h>

#include "units/json.h"

/* The object that every record is. */
static int open_record(const char *json, size_t size, JsonValue **ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        r = json_value_parse(json, size, &root, err);
        if (r < 0)
                return r;
        if (json_value_type(root) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected a JSON object");

        *ret = TAKE_PTR(root);
        return 0;
}

/* A copy of a string member; NULL if it is absent or empty. */
static int read_copy(const JsonValue *object, const char *name, char **ret, Error *err) {
        const char *s = NULL;
        int r;

        r = json_read_string(object, name, &s, err);
        if (r < 0 || !s || !*s)
                return r;
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

void stored_unit_write(Text *t, const Unit *unit) {
        json_open(t, NULL, '{');
        json_add_string(t, "hash", unit->hash);
        json_add_string(t, "owner", unit->owner);
        json_add_string(t, "path", unit->path);
        json_add_string_always(t, "text", unit->text);
        json_close(t, '}');
}

int stored_unit_read(const char *name, const char *json, size_t size, Unit **ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_unit_ Unit *unit = NULL;
        const char *text = NULL;
        int r;

        r = open_record(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "text", &text, err);
        if (r < 0)
                return r;
        if (!text)
                return error_set(err, -EBADMSG, "the unit has no text");

        r = unit_read(name, text, strlen(text), &unit, err);
        if (r < 0)
                return r;
        r = read_copy(root, "owner", &unit->owner, err);
        if (r < 0)
                return r;
        r = read_copy(root, "path", &unit->path, err);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(unit);
        return 0;
}

void stored_facts_write(Text *t, const Machine *machine) {
        json_open(t, NULL, '{');
        json_add_string(t, "address", machine->address);
        json_add_string(t, "boot", machine->boot_id);
        json_add_string(t, "client", machine->client);
        if (machine->level > 0)
                json_add_u64(t, "level", machine->level);
        json_add_pairs(t, "metadata", &machine->metadata);
        json_add_string(t, "name", machine->name);
        json_add_string(t, "peer", machine->peer);
        json_add_bool(t, "quadlet", machine->quadlet);
        json_add_u64(t, "raftId", machine->raft_id);
        json_add_string(t, "version", machine->version);
        json_close(t, '}');
}

int stored_facts_read(const char *id, const char *json, size_t size, Machine *ret, Error *err) {
        _cleanup_machine_ Machine machine = {};
        _cleanup_json_ JsonValue *root = NULL;
        const struct {
                const char *name;
                char **field;
        } strings[] = {
                { "address", &machine.address }, { "boot", &machine.boot_id },
                { "client", &machine.client },   { "name", &machine.name },
                { "peer", &machine.peer },       { "version", &machine.version },
        };
        int r;

        if (!machine_id_is_valid(id))
                return error_set(err, -EBADMSG, "'%.64s' is no machine id: expected 32 hex digits", id);
        memcpy(machine.id, id, sizeof(machine.id));

        r = open_record(json, size, &root, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTS(strings); i++) {
                r = read_copy(root, strings[i].name, strings[i].field, err);
                if (r < 0)
                        return r;
        }
        r = json_read_u64(root, "raftId", &machine.raft_id, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "level", &machine.level, err);
        if (r < 0)
                return r;
        r = json_read_bool(root, "quadlet", &machine.quadlet, err);
        if (r < 0)
                return r;
        r = json_read_pairs(root, "metadata", &machine.metadata, err);
        if (r < 0)
                return r;

        *ret = machine;
        machine = (Machine) {};
        return 0;
}

void stored_presence_write(Text *t, PresenceRecord record) {
        json_open(t, NULL, '{');
        json_add_u64(t, "losses", record.losses);
        json_add_u64(t, "lost", record.lost_ms);
        json_add_u64(t, "quiet", record.hold_off_until_ms);
        json_add_string(t, "reason", record.reason);
        json_add_u64(t, "since", record.since_ms);
        json_add_string(t, "state", presence_to_string(record.presence));
        json_close(t, '}');
}

int stored_presence_read(const char *json, size_t size, PresenceRecord *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        PresenceRecord record = {};
        const char *state = "", *reason = "";
        const struct {
                const char *name;
                uint64_t *field;
        } numbers[] = {
                { "losses", &record.losses },
                { "lost", &record.lost_ms },
                { "quiet", &record.hold_off_until_ms },
                { "since", &record.since_ms },
        };
        int r;

        r = open_record(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "state", &state, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTS(numbers); i++) {
                r = json_read_u64(root, numbers[i].name, numbers[i].field, err);
                if (r < 0)
                        return r;
        }
        r = json_read_string(root, "reason", &reason, err);
        if (r < 0)
                return r;

        snprintf(record.reason, sizeof(record.reason), "%s", reason);
        record.presence = presence_from_string(state);
        if (record.presence < 0)
                return error_set(err, -EBADMSG, "state: '%.32s' is none of up, away, lost, left", state);
        *ret = record;
        return 0;
}

void stored_member_write(Text *t, const MemberRecord *member) {
        json_open(t, NULL, '{');
        json_add_string(t, "client", member->client);
        json_add_u64(t, "level", member->level);
        json_add_string(t, "nonce", member->start_nonce);
        json_add_string(t, "peer", member->peer);
        json_add_u64(t, "raftId", member->raft_id);
        json_add_u64(t, "start", member->start_number);
        json_close(t, '}');
}

int stored_member_read(const char *json, size_t size, MemberRecord *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *peer = "", *nonce = "", *client = "";
        uint64_t id = 0, start = 0, level = 0;
        int r;

        r = json_value_parse(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "raftId", &id, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "start", &start, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "level", &level, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "nonce", &nonce, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "peer", &peer, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "client", &client, err);
        if (r < 0)
                return r;
        if (id == 0 || strlen(peer) >= sizeof(ret->peer) || strlen(nonce) >= sizeof(ret->start_nonce))
                return error_set(err, -EBADMSG, "raftId is missing, or peer or nonce is too long");

        ret->raft_id = id;
        ret->start_number = start;
        ret->level = level;
        snprintf(ret->start_nonce, sizeof(ret->start_nonce), "%s", nonce);
        snprintf(ret->peer, sizeof(ret->peer), "%s", peer);
        if (strlen(client) < sizeof(ret->client))
                snprintf(ret->client, sizeof(ret->client), "%s", client);
        return 0;
}

void assignment_done(Assignment *order) {
        free(order->reason);
        *order = (Assignment) {};
}

void stored_assignment_write(Text *t, const Assignment *order) {
        json_open(t, NULL, '{');
        json_add_string(t, "order", assignment_kind_to_string(order->kind));
        json_add_string(t, "reason", order->reason);
        json_add_u64(t, "since", order->since_ms);
        json_add_u64(t, "term", order->term);
        json_add_u64(t, "unit", order->unit_index);
        json_close(t, '}');
}

int stored_assignment_read(const char *json, size_t size, Assignment *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_assignment_ Assignment order = {};
        const char *kind = "";
        int r;

        r = open_record(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "order", &kind, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "since", &order.since_ms, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "term", &order.term, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "unit", &order.unit_index, err);
        if (r < 0)
                return r;
        r = read_copy(root, "reason", &order.reason, err);
        if (r < 0)
                return r;

        order.kind = assignment_kind_from_string(kind);
        if (order.kind < 0)
                return error_set(err, -EBADMSG, "order: '%.32s' is none of load, run, stop", kind);
        *ret = order;
        order = (Assignment) {};
        return 0;
}

void problem_done(Problem *problem) {
        free(problem->text);
        *problem = (Problem) {};
}

void stored_problem_write(Text *t, const Problem *problem) {
        json_open(t, NULL, '{');
        json_add_bool(t, "confirmed", problem->confirmed);
        json_add_string(t, "kind", problem_kind_to_string(problem->kind));
        json_add_string(t, "text", problem->text);
        json_add_u64(t, "unit", problem->unit_index);
        json_close(t, '}');
}

int stored_problem_read(const char *json, size_t size, Problem *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_problem_ Problem problem = {};
        const char *kind = "";
        int r;

        r = open_record(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_bool(root, "confirmed", &problem.confirmed, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "kind", &kind, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "unit", &problem.unit_index, err);
        if (r < 0)
                return r;
        r = read_copy(root, "text", &problem.text, err);
        if (r < 0)
                return r;

        problem.kind = problem_kind_from_string(kind);
        if (problem.kind < 0)
                return error_set(err, -EBADMSG, "kind: '%.32s' is none of refused, taken, held", kind);
        *ret = problem;
        problem = (Problem) {};
        return 0;
}

void stored_state_write(Text *t, const UnitState *state) {
        json_open(t, NULL, '{');
        json_add_string(t, "active", state->active);
        json_add_bool(t, "done", state->done);
        json_add_string(t, "hash", state->hash);
        json_add_string(t, "job", state->job[0] ? state->job : NULL);
        json_add_string(t, "load", state->load);
        json_add_u64(t, "since", state->since_ms);
        json_add_string(t, "sub", state->sub);
        json_close(t, '}');
}

int stored_state_read(const char *json, size_t size, UnitState *ret, Error *err) {
        const char *load = "", *active = "", *sub = "", *hash = NULL, *job = "";
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t since_ms = 0;
        bool done = false;
        int r;

        r = open_record(json, size, &root, err);
        if (r < 0)
                return r;
        const JsonField strings[] = {
                { "load", &load }, { "active", &active }, { "sub", &sub }, { "hash", &hash }, { "job", &job }
        };

        r = json_read_strings(root, strings, ELEMENTS(strings), err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "since", &since_ms, err);
        if (r < 0)
                return r;
        r = json_read_bool(root, "done", &done, err);
        if (r < 0)
                return r;
        r = unit_state_init(ret, load, active, sub, hash, since_ms, done);
        if (r == 0)
                snprintf(ret->job, sizeof(ret->job), "%s", job);
        return r;
}
