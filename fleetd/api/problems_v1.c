/* GET /fleet/v1/problems: what is wrong with the cluster. A page ends after some work, so that it may have
 * few problems, or none. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/problems/daemon.h"

enum {
        PROBLEMS_WORK = 10000, /* objects on one page */
        ZONE_MAX_S = 86400,
};

static bool problems_may(void *userdata, Right right) {
        const Request *request = userdata;

        return !request->sender || sender_may(request->sender, right);
}

/* Read "ROW:OBJECT" of the next page, and "zone": seconds that local time is ahead of UTC. */
static int problems_read_parameters(const Request *request, ProblemSearch *ret, Error *err) {
        const char *token = request_parameter(request, "nextPageToken"),
                   *zone = request_parameter(request, "zone");
        size_t size = token ? strcspn(token, ":") : 0;
        char row[8];
        uint64_t n;

        if (token) {
                snprintf(row, sizeof(row), "%.*s", (int) size, token);
                if (token[size] != ':' || size >= sizeof(row) || parse_u64(row, &n) < 0 ||
                    strlen(token + size + 1) >= sizeof(ret->after))
                        return error_set(err, -EINVAL, "nextPageToken: expected that of the page before");
                ret->row = n;
                snprintf(ret->after, sizeof(ret->after), "%s", token + size + 1);
        }
        if (zone) {
                if (parse_u64(zone + (*zone == '-'), &n) < 0 || n > ZONE_MAX_S)
                        return error_set(err, -EINVAL,
                                         "zone=%.20s: expected seconds, for example zone=-18000", zone);
                ret->zone_ms = (int64_t) n * (*zone == '-' ? -1000 : 1000);
        }
        return 0;
}

unsigned problems_handle(Request *request, Error *err) {
        ProblemSearch s = { .self = request_machine(request),
                            .name = request_host(request),
                            .may = problems_may,
                            .userdata = request };
        char token[8 + sizeof(s.after)];
        _cleanup_text_ Text t = {};
        int r;

        if (problems_read_parameters(request, &s, err) < 0)
                return 400;
        r = problems_begin(&s, request->api->host);
        if (r >= 0)
                r = problems_search(&s, PAGE_SIZE, PROBLEMS_WORK);
        snprintf(token, sizeof(token), "%zu:%s", s.row, s.after);
        json_open(&t, NULL, '{');
        if (r > 0)
                json_add_string(&t, "nextPageToken", token);
        json_open(&t, "problems", '[');
        text_append_bytes(&t, text_chars(&s.list), s.list.size);
        json_close(&t, ']');
        json_close(&t, '}');
        t.error = MIN(t.error, r);
        problems_done(&s);
        return request_answer_json(request, 200, &t);
}
