/* PUT /fleet/v1/cluster/level: raise the feature level now, and not a day after all hosts support it. */

#include "fleetd/api/handlers.h"
#include "units/json.h"

static unsigned raising_status(KvStatus status) {
        if (status == KV_UNKNOWN)
                return 504;
        return status == KV_INVALID ? 409 : 503;
}

static void raising_on_done(Request *request, const KvResult *result) {
        if (result->status == KV_OK)
                request_answer(request, 204, NULL, NULL, "", 0);
        else
                request_error(request, raising_status(result->status), "%.*s", (int) result->cause.size,
                              (const char *) result->cause.data);
}

/* The same for a level that changes. */
static void raising_on_raised(Request *request, const KvResult *result) {
        KvState state;

        kv_state(request->api->host->store, &state);
        if (result->status == KV_OK) /* the level holds also without a row */
                (void) registry_note_level(request_registry(request), state.level, request_user(request));
        raising_on_done(request, result);
}

unsigned level_handle(Request *request, Error *err) {
        const ClusterMachine *behind = NULL;
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t level = 0;
        unsigned can;
        KvState state;
        int r;

        r = json_value_parse(request->http->body, request->http->body_size, &root, err);
        r = r < 0 ? r : json_read_u64(root, "level", &level, err);
        if (r < 0) {
                error_prefix(err, r, "expected {\"level\":N}");
                return request_status_of(r);
        }
        if (level == 0)
                return error_set(err, 400, "expected {\"level\":N}");
        kv_state(request->api->host->store, &state);
        can = cluster_level(request_cluster(request), state.level_max, &behind);
        if (level > can && behind)
                return error_set(err, 409, "feature level %llu: %s supports %u at most; upgrade it first",
                                 (unsigned long long) level, cluster_machine_name(behind), can);
        if (level > can)
                return error_set(err, 409, "feature level %llu: this fleetd supports %u at most",
                                 (unsigned long long) level, can);
        if (level < state.level)
                return error_set(err, 409, "the feature level is %u, and does not go back", state.level);
        if (request_propose(request, &(KvCommand) { .op = KV_RAISE, .internal = true, .limit = level },
                            level > state.level ? raising_on_raised : raising_on_done, err) < 0)
                return error_set(err, 503, "out of memory");
        return 0;
}
