/* POST /fleet/v1/cluster/join: make this host a member of the cluster of a token. The answer comes when the
 * certificate of this host is stored; then the daemon restarts itself and enters the cluster.
 *
 * POST /fleet/v1/cluster/init: open the peer listener of a cluster of one, and create the cluster's CA. */

#include "fleetd/api/handlers.h"
#include "units/json_record.h"

/* Status by the cause of a failure; all others are temporary (503). */
static unsigned join_status(int error) {
        static const struct {
                int error;
                unsigned status;
        } statuses[] = {
                { -EINVAL, 400 },   { -ENODATA, 400 },    { -EBADMSG, 400 },       { -EPROTONOSUPPORT, 400 },
                { -EEXIST, 409 },   { -EALREADY, 409 },   { -EADDRNOTAVAIL, 409 }, { -ENXIO, 409 },
                { -ENOTUNIQ, 409 }, { -EADDRINUSE, 409 }, { -EACCES, 403 },        { -ENOMEM, 500 },
        };

        for (size_t i = 0; i < ELEMENTS(statuses); i++)
                if (statuses[i].error == error)
                        return statuses[i].status;
        return 503;
}

static void join_on_end(Request *request) {
        request->api->options.join_cancel(request->api->options.userdata, request);
}

static void join_on_done(void *userdata, int error, const char *message, const ApiJoined *joined) {
        Request *request = userdata;
        _cleanup_text_ Text t = {};
        char id[HEX64_SIZE];

        request->on_end = NULL;
        if (error < 0) {
                request_error(request, join_status(error), "%s", message);
                return;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "cluster", hex64_print(joined->cluster_id, id));
        json_add_string(&t, "listen", joined->listen);
        json_add_string(&t, "machine", request->api->machine_id);
        json_add_string(&t, "through", joined->through);
        json_close(&t, '}');
        request_answer_json(request, 200, &t);
}

static unsigned join_begin(Request *request, bool init, Error *err) {
        static const JsonField fields[] = {
                { "token", JSON_FIELD_TEXT, offsetof(ApiJoin, token) },
                { "listen", JSON_FIELD_TEXT, offsetof(ApiJoin, listen) },
                { "discard", JSON_FIELD_BOOL, offsetof(ApiJoin, discard) },
                { "exposed", JSON_FIELD_BOOL, offsetof(ApiJoin, exposed) },
        };
        const ApiOptions *options = &request->api->options;
        _cleanup_json_ JsonValue *root = NULL;
        ApiJoin join = { .init = init, .token = "", .listen = "" };
        int r;

        if (!options->join)
                return error_set(err, 501, "this daemon cannot join a cluster");
        r = json_object_parse(request->http->body, request->http->body_size, &root, err);
        if (r >= 0)
                r = json_read_fields(root, JSON_FIELDS(fields), &join, err);
        if (r < 0)
                return request_body_refused(r, err);
        r = options->join(options->userdata, &join, join_on_done, request, err);
        if (r < 0) {
                (void) request_refused(r, err);
                return join_status(r);
        }
        request->on_end = join_on_end;
        return 0;
}

unsigned join_handle(Request *request, Error *err) {
        return join_begin(request, false, err);
}

unsigned init_handle(Request *request, Error *err) {
        return join_begin(request, true, err);
}
