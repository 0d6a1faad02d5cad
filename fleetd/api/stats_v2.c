/* /v2/stats: counters of this host since its start. 'state' is Raft's role, also after a lost election. */
#include <time.h>

#include "fleetd/api/cluster_v2.h"
#include "units/json.h"

static void add_time(Text *t, const char *name, uint64_t wall_ms) {
        time_t seconds = (time_t) (wall_ms / 1000);
        char date[32], whole[48];
        struct tm tm;

        gmtime_r(&seconds, &tm);
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(whole, sizeof(whole), "%s.%03uZ", date, (unsigned) (wall_ms % 1000));
        json_add_string(t, name, whole);
}

/* Add a duration in Go's format: "1h2m3.5s". */
static void add_span(Text *t, const char *name, uint64_t ms) {
        uint64_t minutes = ms / 60000;
        char text[64] = "";
        size_t n = 0;

        if (minutes >= 60)
                n += (size_t) snprintf(text, sizeof(text), "%lluh", (unsigned long long) minutes / 60);
        if (minutes > 0)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%llum",
                                       (unsigned long long) minutes % 60);
        snprintf(text + n, sizeof(text) - n, "%llu.%03us", (unsigned long long) ms / 1000 % 60,
                 (unsigned) (ms % 1000));
        json_add_string(t, name, text);
}

static const char *comma(const Text *t) {
        return t->size > 0 && t->chars[t->size - 1] != '{' ? "," : "";
}

static void add_count(Text *t, const char *name, uint64_t n) {
        text_printf(t, "%s\"%s\":%llu", comma(t), name, (unsigned long long) n);
}

static void add_seconds(Text *t, const char *name, double ms) {
        text_printf(t, "%s\"%s\":%.6f", comma(t), name, ms / 1000);
}

static void add_results(Text *t, const char *name, uint64_t n_done, uint64_t n_refused) {
        text_printf(t, "%s\"%sSuccess\":%llu,\"%sFail\":%llu", comma(t), name, (unsigned long long) n_done,
                    name, (unsigned long long) n_refused);
}

static void stats_answer(Request *request, Text *t) {
        json_close(t, '}');
        request_answer_built(request, 200, "application/json", NULL, t);
}

unsigned v2_stats_self_handle(Request *request, Error *err) {
        static const char *const roles[_KV_ROLE_MAX] = {
                [KV_ROLE_NONE] = "StateFollower",
                [KV_ROLE_FOLLOWER] = "StateFollower",
                [KV_ROLE_CANDIDATE] = "StateCandidate",
                [KV_ROLE_LEADER] = "StateLeader",
        };
        Api *api = request->api;
        char id[MEMBER_ID_SIZE], leader[MEMBER_ID_SIZE];
        _cleanup_text_ Text t = {};
        uint64_t now, wall;
        KvCounts counts;
        KvState state;

        api_state_changed(api); /* may begin the uptime of a leader now */
        now = loop_now_ms(api->loop);
        wall = loop_wall_ms(api->loop);
        kv_state(api->host->store, &state);
        kv_counts(api->host->store, &counts);
        v2_member_id(&state, state.raft_id, id);
        v2_member_id(&state, state.leader_id, leader);
        json_open(&t, NULL, '{');
        json_add_string_always(&t, "name", api->settings->name);
        json_add_string(&t, "id", id);
        json_add_string(&t, "state", roles[state.role]);
        add_time(&t, "startTime", wall - (now - api->started_ms));
        json_open(&t, "leaderInfo", '{');
        json_add_string(&t, "leader", leader);
        add_span(&t, "uptime", now - api->leader_since_ms);
        add_time(&t, "startTime", wall - (now - api->leader_since_ms));
        json_close(&t, '}');
        add_count(&t, "recvAppendRequestCnt", counts.traffic.appends_received);
        add_count(&t, "sendAppendRequestCnt", counts.traffic.appends_sent);
        stats_answer(request, &t);
        return 0;
}

static void follower_write(Text *t, const KvState *state, const KvCounts *counts, uint64_t raft_id) {
        ReplicationStatsMember none = {};
        const ReplicationStatsMember *m = &none;
        char id[MEMBER_ID_SIZE];

        for (size_t k = 0; k < counts->traffic.n_members; k++)
                if (counts->traffic.members[k].raft_id == raft_id)
                        m = &counts->traffic.members[k];
        v2_member_id(state, raft_id, id);
        json_open(t, id, '{');
        json_open(t, "latency", '{');
        add_seconds(t, "current", m->current);
        add_seconds(t, "average", m->average);
        add_seconds(t, "standardDeviation", replication_stats_deviation(m));
        add_seconds(t, "minimum", m->minimum);
        add_seconds(t, "maximum", m->maximum);
        json_close(t, '}');
        json_open(t, "counts", '{');
        add_count(t, "fail", m->n_failures);
        add_count(t, "success", m->n_answers);
        json_close(t, '}');
        json_close(t, '}');
}

unsigned v2_stats_leader_handle(Request *request, Error *err) {
        char id[MEMBER_ID_SIZE];
        _cleanup_text_ Text t = {};
        KvCounts counts;
        KvState state;

        kv_state(request->api->host->store, &state);
        if (state.role != KV_ROLE_LEADER)
                return request_answer_text(request, 403, "application/json", NULL,
                                           "{\"message\":\"not current leader\"}");
        kv_counts(request->api->host->store, &counts);
        v2_member_id(&state, state.raft_id, id);
        json_open(&t, NULL, '{');
        json_add_string(&t, "leader", id);
        json_open(&t, "followers", '{');
        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id != state.raft_id)
                        follower_write(&t, &state, &counts, state.members[i].raft_id);
        json_close(&t, '}');
        stats_answer(request, &t);
        return 0;
}

unsigned v2_stats_store_handle(Request *request, Error *err) {
        const Api *api = request->api;
        _cleanup_text_ Text t = {};
        KvCounts counts;

        kv_counts(api->host->store, &counts);
        json_open(&t, NULL, '{');
        add_results(&t, "gets", api->gets, api->gets_failed);
        add_results(&t, "sets", counts.done[KV_ACTION_SET], counts.refused[KV_ACTION_SET]);
        add_results(&t, "delete", counts.done[KV_ACTION_DELETE], counts.refused[KV_ACTION_DELETE]);
        add_results(&t, "update", counts.done[KV_ACTION_UPDATE], counts.refused[KV_ACTION_UPDATE]);
        add_results(&t, "create", counts.done[KV_ACTION_CREATE], counts.refused[KV_ACTION_CREATE]);
        add_results(&t, "compareAndSwap", counts.done[KV_ACTION_CAS], counts.refused[KV_ACTION_CAS]);
        add_results(&t, "compareAndDelete", counts.done[KV_ACTION_CAD], counts.refused[KV_ACTION_CAD]);
        add_count(&t, "expireCount", counts.done[KV_ACTION_EXPIRE]);
        add_count(&t, "watchers", api->n_watching);
        stats_answer(request, &t);
        return 0;
}
