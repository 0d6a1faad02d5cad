#include "fleetd/api/keys_v2_answer.h"

#include "fleetd/api/keys_v2_internal.h"

static const char *hex_of(uint64_t v, char ret[static 17]) {
        char *p = ret + 16;

        *p = 0;
        do
                *--p = "0123456789abcdef"[v & 15];
        while ((v >>= 4) > 0);
        return p;
}

const HttpField *keys_head(KeysHead *h, const Request *request, uint64_t index, bool error) {
        HttpField *field = h->fields;
        KvPosition now;

        kv_position(request->api->host->store, &now);
        *field++ = (HttpField) { "X-Etcd-Cluster-Id", hex_of(now.cluster_id, h->cluster) };
        *field++ = (HttpField) { "X-Etcd-Index", text_u64(index, h->index) };
        if (!error) {
                *field++ = (HttpField) { "X-Raft-Index", text_u64(now.raft_index, h->raft_index) };
                *field++ = (HttpField) { "X-Raft-Term", text_u64(now.term, h->term) };
        }
        *field = (HttpField) {};
        return h->fields;
}

KvBytes keys_cause(const char *text) {
        return (KvBytes) { text, strlen(text) };
}

void keys_answer_error(Request *request, unsigned status, unsigned code, KvBytes cause, uint64_t index) {
        _cleanup_text_ Text t = {};
        KeysHead head;
        unsigned usual = keys_v2_write_error(&t, code, cause.data, cause.size, index);

        request_answer(request, status > 0 ? status : usual, "application/json",
                       keys_head(&head, request, index, true), t.chars ?: "", t.size);
}

void keys_answer_refusal(Request *request, unsigned code, const char *cause) {
        keys_answer_error(request, 0, code, keys_cause(cause), 0);
}

void keys_v2_refuse(Request *request, const char *cause) {
        keys_answer_refusal(request, 300, cause);
}

void keys_v2_forbid(Request *request) {
        keys_answer_refusal(request, 110, KEYS_FORBIDDEN);
}

void keys_v2_refuse_any(Request *request, const char *cause) {
        if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, cause);
        else
                request_error(request, 503, "%s", cause);
}
