/* /fleet/v1/machines: the list of machines, changes of their metadata, and the removal of a lost one. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/identity/authority.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/presence.h"

enum {
        OPERATIONS_MAX = 1000, /* of one PATCH */
        SESSIONS_MS = 1000,    /* for the answer of the leader */
        SESSIONS_LOOK_MS = 10,
};

/* -- Listing -- */

static const char *machine_role(const KvState *state, const ClusterMachine *m) {
        if (m->member.raft_id == 0)
                return NULL;
        if (m->member.raft_id == state->leader_id)
                return "leader";
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == m->member.raft_id)
                        return kv_member_role_name(state->members[i].role);
        return NULL;
}

static const char *machine_kind(const KvState *state, const ClusterMachine *m) {
        if (cluster_machine_is_removed(m))
                return NULL;
        for (size_t i = 0; i < state->n_members && m->member.raft_id != 0; i++)
                if (state->members[i].raft_id == m->member.raft_id &&
                    state->members[i].role != KV_MEMBER_SPARE)
                        return state->members[i].role == KV_MEMBER_VOTER ? "voter" : "standby";
        return "attached";
}

/* Return its problem of an aspect, borrowed from the message of its verdict. */
static const char *machine_problem(const ClusterMachine *m, const Text *message, VerdictAspect of) {
        return m->verdict.of == of && message->size > 0 ? message->chars + strlen(verdict_aspect_begin(of)) :
                                                          NULL;
}

/* 'message' is empty, and lives as long as the result. */
static ApiMachine machine_entity(const KvState *state, const ClusterMachine *m, Text *message) {
        const ClusterMachine *successor = cluster_machine_successor(m);

        verdict_append(message, &m->verdict);
        return (ApiMachine) {
                .id = m->id,
                .primary_ip = cluster_machine_address(m),
                .metadata = m->metadata,
                .hostname = cluster_machine_hostname(m),
                .presence = cluster_machine_is_removed(m) ? "removed" : presence_to_string(m->presence),
                .version = m->facts ? m->facts->version : NULL,
                .role = machine_role(state, m),
                .kind = machine_kind(state, m),
                .certificate_ms = m->host ? m->host->expires_ms : 0,
                .replaced_by = successor ? successor->id : NULL,
                .problem = machine_problem(m, message, VERDICT_OF_REPLICA),
                .identity_problem = machine_problem(m, message, VERDICT_OF_IDENTITY),
                .checks_problem = m->facts ? m->facts->checks : NULL,
                .clock_problem = machine_problem(m, message, VERDICT_OF_CLOCK),
                .session_problem = machine_problem(m, message, VERDICT_OF_SESSIONS),
                .maintenance = m->maintenance ? maintenance_mode_to_string(m->maintenance->mode) : NULL,
                .needs_reboot = m->facts && m->facts->needs_reboot,
                .reboot = m->reboot ? reboot_state_to_string(m->reboot->state) : NULL,
                .since_ms = m->since_ms,
                .away_ms = m->away_ms,
                .reason = m->presence != PRESENCE_UP && message->size > 0 ? message->chars : NULL,
                .n_units = m->load,
                .agentless = m->member.agentless,
                .restricted = cluster_machine_is_restricted(m),
                .write = cluster_machine_is_restricted(m) ? m->host->write : NULL,
        };
}

static void machine_add_sizes(const SchedulerView *view, const ClusterMachine *m, ApiMachine *ret) {
        Resources capacity = scheduler_view_capacity(view, m);

        if (!resources_are_set(capacity))
                return;
        ret->memory_mib = capacity.memory_mib;
        ret->memory_requested_mib = m->requested.memory_mib;
        ret->memory_load_mib = m->sized.memory_mib;
        ret->cpu_percent = capacity.cpu_percent;
        ret->cpu_requested_percent = m->requested.cpu_percent;
        ret->cpu_load_percent = m->sized.cpu_percent;
}

/* fleet's list has machines with facts that are there; all: without facts, or gone, too. The name of a
 * removed machine is known for events of its past. A host that has a certificate, and has not been in contact
 * since, is listed in the same way: a token may replace it. */
static bool machine_is_listed(const ClusterMachine *m, bool all) {
        if (cluster_machine_is_removed(m))
                return all && (m->host || cluster_machine_hostname(m));
        return all || (m->facts && !presence_is_down(m->presence));
}

static void machines_list(Request *request, bool sessions) {
        const Membership *membership = request->api->host->membership;
        const Cluster *c = request_cluster(request);
        bool all = streq(request_parameter(request, "all") ?: "", "true");
        _cleanup_free_ ClusterMachine **machines = NULL;
        SchedulerView *view = NULL;
        size_t total = 0, bytes = 0, i = 0;
        _cleanup_text_ Text t = {};
        ApiMachine entities[PAGE_SIZE];
        Text messages[PAGE_SIZE] = {};
        Error err = {};
        KvState state;
        Page page;

        kv_state(request->api->host->store, &state);
        machines = cluster_machines_sorted(c, &total);
        if (!page_of(request, &page, &err)) {
                request_error(request, 400, "%s", err.message);
                return;
        }
        if (!machines || scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        for (; i < total && page_wants(&page); i++) {
                const ClusterMachine *m = machines[i];

                if (!machine_is_listed(m, all) || page_skips(&page))
                        continue;
                entities[page.n] = machine_entity(&state, m, &messages[page.n]);
                machine_add_sizes(view, m, &entities[page.n]);
                if (sessions && streq(entities[page.n].kind ?: "", "attached")) {
                        entities[page.n].session = membership_session(membership, m->id, true);
                        entities[page.n].idle_session = membership_session(membership, m->id, false);
                }
                t.error = MIN(t.error, messages[page.n].error);
                bytes += m->metadata.n * (METADATA_KEY_MAX + METADATA_VALUE_MAX);
                page_add(&page, NULL, NULL);
                page.full = bytes >= PAGE_BYTES;
        }
        scheduler_view_free(view);
        while (i < total && !machine_is_listed(machines[i], all))
                i++;
        api_page_write(&t, &api_machines_page, entities, page.n, page_next(&page, i < total));
        for (i = 0; i < page.n; i++)
                text_done(&messages[i]);
        request_answer_json(request, 200, &t);
}

/* A request that waits for the sessions of attached hosts, which the leader has. */
typedef struct SessionsWait {
        Request *request;
        Timer look;
        uint64_t until_ms;
} SessionsWait;

static void sessions_on_end(Request *request) {
        SessionsWait *w = request->state;

        timer_stop(&w->look);
        free(w);
}

static void sessions_on_look(void *userdata) {
        SessionsWait *w = userdata;
        const Api *api = w->request->api;
        int r = membership_ask_sessions(api->host->membership);

        if (r == -EAGAIN && loop_now_ms(api->loop) < w->until_ms)
                r = timer_start(&w->look, api->loop, SESSIONS_LOOK_MS) < 0 ? -ENOMEM : r;
        else if (r == -EAGAIN)
                r = -ETIMEDOUT;
        if (r != -EAGAIN)
                machines_list(w->request, r == 0);
}

unsigned machines_list_handle(Request *request, Error *err) {
        bool sessions = streq(request_parameter(request, "sessions") ?: "", "true") &&
                        request->api->host->membership;
        SessionsWait *w = sessions ? NEW0(SessionsWait, 1) : NULL;

        if (!w) {
                machines_list(request, false);
                return 0;
        }
        *w = (SessionsWait) { .request = request,
                              .look = TIMER(sessions_on_look, w),
                              .until_ms = loop_now_ms(request->api->loop) + SESSIONS_MS };
        request->state = w;
        request->on_end = sessions_on_end;
        sessions_on_look(w);
        return 0;
}

/* -- Metadata: a JSON patch of paths /ID/metadata/KEY -- */

/* Parse "/ID/metadata/KEY"; the key points into 'path'. */
static bool path_parse(const char *path, char ret_machine[static MACHINE_ID_SIZE], const char **ret_key) {
        const char *end = path[0] == '/' ? strchr(path + 1, '/') : NULL;
        const char *key = end ? starts_with(end, "/metadata/") ? end + strlen("/metadata/") : NULL : NULL;

        if (!key || end == path + 1 || machine_metadata_check(key, "", NULL) < 0 || streq(key, ".") ||
            streq(key, ".."))
                return false;
        snprintf(ret_machine, MACHINE_ID_SIZE, "%.*s", (int) (end - path - 1), path + 1);
        if (end - path - 1 != MACHINE_ID_SIZE - 1 || !machine_id_is_valid(ret_machine))
                ret_machine[0] = 0;
        *ret_key = key;
        return true;
}

/* fleet accepted {"value": "TEXT"} and documented "TEXT": accept both. */
static const char *operation_value(const JsonValue *operation) {
        const JsonValue *v = json_value_member(operation, "value");

        return json_value_string(json_value_type(v) == JSON_VALUE_OBJECT ? json_value_member(v, "value") : v);
}

/* Read one operation. Its machine is "" if no machine can have that id: a valid operation without effect. */
static int operation_read(const JsonValue *operation, char ret_machine[static MACHINE_ID_SIZE],
                          MetadataChange *ret, Error *err) {
        const char *op = json_value_string(json_value_member(operation, "op")) ?: "";
        const char *path = json_value_string(json_value_member(operation, "path")) ?: "";
        const char *value = operation_value(operation) ?: "";
        bool removes = streq(op, "remove");

        if (!removes && !streq(op, "add") && !streq(op, "replace"))
                return error_set(err, -EINVAL, "invalid op: expect add, remove, or replace");
        if (!path_parse(path, ret_machine, &ret->key))
                return error_set(err, -EINVAL, "machine metadata path invalid");
        if (!removes && !*value)
                return error_set(err, -EINVAL, "invalid value: add and replace require a value");
        ret->machine = ret_machine;
        ret->value = removes ? "" : value;
        return machine_metadata_check(ret->key, ret->value, err);
}

/* The number of keys that one machine would have, set over its own metadata. */
typedef struct MachineKeys {
        const char *machine; /* borrowed */
        const Pairs *set;    /* borrowed; NULL: the machine is unknown */
        size_t n;
        UT_hash_handle hh;
} MachineKeys;

static MachineKeys *machine_keys(const Cluster *c, MachineKeys **table, MachineKeys *unused, const char *id) {
        MachineKeys *keys;
        const ClusterMachine *m;

        HASH_FIND_STR(*table, id, keys);
        if (keys)
                return keys;
        m = cluster_machine(c, id);
        *unused = (MachineKeys) { .machine = id };
        if (m) {
                unused->set = &m->set;
                unused->n = m->set.n;
        }
        HASH_ADD_KEYPTR(hh, *table, id, strlen(id), unused);
        return TABLE_ADDED(unused) ? unused : NULL;
}

/* Check that no machine gets more keys than its own metadata may have. */
static int keys_fit(const Cluster *c, const MetadataChange *changes, size_t n, Error *err) {
        _cleanup_free_ MachineKeys *all = NEW0(MachineKeys, n + 1);
        MachineKeys *table = NULL, *keys;
        int r = all ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < n; i++) {
                keys = machine_keys(c, &table, &all[i], changes[i].machine);
                if (!keys)
                        r = -ENOMEM;
                else
                        keys->n += !keys->set || !pairs_get(keys->set, changes[i].key);
        }
        for (keys = table; r == 0 && keys; keys = keys->hh.next) /* in the order of the request */
                if (keys->n > METADATA_KEYS_MAX)
                        r = error_set(err, -EINVAL, "machine %s would have more than %d metadata keys",
                                      keys->machine, METADATA_KEYS_MAX);
        HASH_CLEAR(hh, table);
        return r;
}

void metadata_patch_done(MetadataPatch *patch) {
        free(patch->changes);
        free(patch->ids);
        json_value_free(patch->root);
        *patch = (MetadataPatch) {};
}

unsigned metadata_patch_read(const Request *request, MetadataPatch *ret, Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_(metadata_patch_done) MetadataPatch patch = {};
        size_t n_operations;
        int r;

        r = json_value_parse(request->http->body, request->http->body_size, &patch.root, err);
        if (r >= 0 && json_value_type(patch.root) != JSON_VALUE_ARRAY)
                r = error_set(err, -EBADMSG, "expected an array of operations");
        n_operations = json_value_count(patch.root);
        if (r >= 0 && n_operations > OPERATIONS_MAX)
                r = error_set(err, -EINVAL, "more than %d operations in one request", OPERATIONS_MAX);
        if (r < 0)
                return request_body_refused(r, err);
        patch.changes = NEW0(MetadataChange, n_operations + 1);
        patch.ids = calloc(n_operations + 1, sizeof(*patch.ids));
        if (!patch.changes || !patch.ids)
                return error_set(err, 500, "out of memory");
        for (size_t i = 0; r >= 0 && i < n_operations; i++) {
                r = operation_read(json_value_item(patch.root, i), patch.ids[i], &patch.changes[patch.n],
                                   err);
                if (r >= 0 && patch.ids[i][0])
                        patch.n++;
        }
        if (r >= 0)
                r = keys_fit(c, patch.changes, patch.n, err);
        if (r < 0)
                return request_refused(r, err);
        *ret = patch;
        patch = (MetadataPatch) {};
        return 0;
}

unsigned machines_patch_handle(Request *request, Error *err) {
        _cleanup_(metadata_patch_done) MetadataPatch patch = {};
        const char *user = request_user(request);
        ChangeLines *lines;
        unsigned status;

        status = metadata_patch_read(request, &patch, err);
        if (status > 0)
                return status;
        lines = change_lines_new(request, patch.n);
        if (!lines)
                return error_set(err, 500, "out of memory");
        for (size_t i = 0; i < patch.n; i++) {
                patch.changes[i].user = user;
                text_printf(change_lines_add(lines, NULL, patch.changes[i].machine),
                            "%s requested a change of the metadata of %s: %s=%s",
                            *user ? user : request->sender->text,
                            cluster_name_of(request_cluster(request), patch.changes[i].machine),
                            patch.changes[i].key, patch.changes[i].value ?: "");
        }
        return change_lines_sent(request, "the metadata", 204, "application/json",
                                 registry_set_metadata(request_registry(request), patch.changes, patch.n,
                                                       change_lines_on_done, request));
}

/* -- Removal -- */

/* Return how many voters other than this machine there are, and how many of them this host reaches. */
static size_t other_voters(const KvState *state, const ClusterMachine *m, size_t *ret_reachable) {
        size_t n = 0;

        *ret_reachable = 0;
        for (size_t i = 0; i < state->n_members; i++) {
                const KvMember *member = &state->members[i];

                if (member->role != KV_MEMBER_VOTER || member->raft_id == m->member.raft_id)
                        continue;
                n++;
                *ret_reachable += member->reachable;
        }
        return n;
}

static bool machine_is_voter(const KvState *state, const ClusterMachine *m) {
        const char *role = machine_role(state, m);

        return role && (streq(role, "voter") || streq(role, "leader"));
}

static bool state_has_standby(const KvState *state) {
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].role == KV_MEMBER_STANDBY)
                        return true;
        return false;
}

/* Return whether this voter may not be removed; then set the reason. */
static bool removal_of_voter_is_refused(const KvState *state, const ClusterMachine *m, Error *ret) {
        const char *name = cluster_machine_name(m);
        const ClusterMachine *successor = cluster_machine_successor(m);
        size_t n, n_reachable;

        if (!machine_is_voter(state, m))
                return false;
        n = other_voters(state, m, &n_reachable);
        if (successor)
                error_set(ret, 409,
                          "%s is a voter until %s, which is at its address, has taken its vote: try again",
                          name, cluster_machine_name(successor));
        else if (n == 0)
                error_set(ret, 409, "%s is the last voter", name);
        else if (n_reachable <= n / 2)
                error_set(ret, 409,
                          "%s is a voter, and of the %zu other%s %zu answer%s: start %s first, or recover "
                          "(fleetctl recover)",
                          name, n, plural(n), n_reachable, n_reachable == 1 ? "s" : "",
                          n == 1 ? "it" : "them");
        else
                return false;
        return true;
}

/* Return whether a key that the removal depends on cannot be read. With force, those that the host itself
 * writes do not count. */
static bool removal_needs_unreadable(const ClusterMachine *m, bool force) {
        for (const ClusterUnreadable *x = LIST_FIRST(&m->unreadable); x; x = LIST_NEXT(x, of_owner))
                if (!force || !(kinds[x->key.kind]->on_removal & REMOVAL_OF_UNREADABLE))
                        return true;
        return false;
}

bool machine_removal_is_refused(const Request *request, const ClusterMachine *m, bool force, Error *ret) {
        const Cluster *c = request_cluster(request);
        const char *name = cluster_machine_name(m);
        const ClusterMachine *successor = cluster_machine_successor(m);
        uint64_t gone_ms = c->now_ms > m->since_ms ? c->now_ms - m->since_ms : 0;
        KvState now, *state = &now;

        kv_state(request->api->host->store, state);
        if (!state->ready || state->stopped)
                error_set(ret, 409,
                          "this host follows no leader, and may not know the members; fleetctl status");
        else if (c->adopting && !force) /* it may run units: only a person knows that it is gone */
                error_set(ret, 409,
                          "the cluster waits for its hosts to report their units; if %s is gone for ever: "
                          "--force",
                          name);
        else if (removal_needs_unreadable(m, force))
                error_set(ret, 409, "%s: %s", name, CLUSTER_UNREADABLE);
        else if (streq(m->id, request_machine(request)))
                error_set(ret, 409, "%s is this host: fleetctl leave takes it out of the cluster", name);
        else if (m->presence == PRESENCE_UP && !(force && m->host))
                error_set(ret, 409,
                          "%s is up: run fleetctl leave on it, or shut it down, and remove it an hour later",
                          name);
        else if (removal_of_voter_is_refused(state, m, ret))
                return true;
        else if (m->presence == PRESENCE_AWAY && !force && machine_is_voter(state, m))
                error_set(ret, 409,
                          "%s is a voter, and away: start its fleetd; %sa new host at its address (%s) "
                          "replaces it within seconds (fleetctl help replace)",
                          name,
                          state_has_standby(state) ?
                                  "after 10 min without an answer, a standby votes in its place, and " :
                                  "",
                          m->member.peer);
        else if (m->presence == PRESENCE_AWAY && !force)
                error_set(ret, 409, "%s is away: start its fleetd, or remove it an hour after it is lost",
                          name);
        else if (gone_ms < LONG_LOST_MS && !successor && !force)
                error_set(ret, 409, "%s %s %llu min ago; it can be removed in %llu min, or now with --force",
                          name, m->presence == PRESENCE_LEFT ? "shut down" : "was lost",
                          (unsigned long long) gone_ms / 60000,
                          (unsigned long long) (LONG_LOST_MS - gone_ms + 59999) / 60000);
        else
                return false;
        return true;
}

static void removal_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;

        if (status != KV_COMPARE_FAILED && status != KV_NOT_FOUND) {
                change_on_done(request, status, message, index);
                return;
        }
        request->changing = false;
        if (!request_decide_again(request))
                request_error(request, 409, "the machine has changed meanwhile; see fleetctl list-machines");
}

/* fleet has no path of one machine. */
unsigned machine_handle(Request *request, Error *err) {
        return error_set(err, 404, "%s", "");
}

/* The host may have had the keys of the cluster, and others may have them now. */
static int machine_remove_compromised(Request *request, const ClusterMachine *m, const char *user,
                                      Error *err) {
        (void) request_registry(request);
        return authority_compromised(request->api->host->authority, m, user, removal_on_done, request, err);
}

unsigned machines_delete_handle(Request *request, Error *err) {
        bool compromised = same_string(request_parameter(request, "compromised"), "true"),
             force = compromised || same_string(request_parameter(request, "force"), "true");
        const Cluster *c = request_cluster(request);
        const ClusterMachine *m = cluster_machine(c, request->rest);
        int r;

        if (!m || cluster_machine_is_removed(m))
                return error_set(err, 404, "machine does not exist");
        if (machine_removal_is_refused(request, m, force, err))
                return 409;
        r = compromised ? machine_remove_compromised(request, m, request_user(request), err) :
                          registry_remove_machine(request_registry(request), m, request_user(request), NULL,
                                                  removal_on_done, request);
        if (r < 0 && compromised) {
                (void) request_refused(r, err);
                return 409;
        }
        return change_sent(request, "the machine", r);
}
