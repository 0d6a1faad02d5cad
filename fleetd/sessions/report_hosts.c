#include "fleetd/sessions/report_hosts.h"

#include "base/parse.h"
#include "units/verdict_former.h"

void report_host_write(const char *machine_id, uint8_t bits, Writer *w) {
        uint8_t bytes[REPORT_HOST_BYTES] = {};

        (void) hex_read(machine_id, bytes, REPORT_ID_BYTES);
        bytes[REPORT_ID_BYTES] = bits;
        write_raw(w, bytes, sizeof(bytes));
}

bool report_host_read(Reader *r, char ret[static MACHINE_ID_SIZE], uint8_t *ret_bits) {
        const uint8_t *bytes = r->left > 0 ? read_raw(r, REPORT_HOST_BYTES) : NULL;

        if (!bytes)
                return false;
        hex_print(bytes, REPORT_ID_BYTES, ret);
        *ret_bits = bytes[REPORT_ID_BYTES];
        return true;
}

void host_condition_write(const HostCondition *c, bool coded, Writer *w) {
        _cleanup_text_ Text message = {}, code = {};
        char cut[REPLICA_PROBLEM_SIZE];

        verdict_append(&message, &c->problem);
        verdict_append_code(&code, &c->problem);
        w->error = MIN(w->error, MIN(message.error, code.error));
        snprintf(cut, sizeof(cut), "%s", text_chars(&message));
        report_host_write(c->machine, c->flags, w);
        write_u64(w, (uint64_t) c->clock_ms);
        write_string(w, cut);
        if (coded)
                write_string(w, text_chars(&code));
}

bool host_condition_read(Reader *r, bool coded, HostCondition *ret) {
        _cleanup_free_ char *problem = NULL, *code = NULL;

        *ret = (HostCondition) {};
        if (!report_host_read(r, ret->machine, &ret->flags))
                return false;
        ret->clock_ms = (int64_t) read_u64(r);
        problem = read_string(r, REPLICA_PROBLEM_SIZE - 1);
        code = coded ? read_string(r, 2 * VERDICT_ARGS_SIZE) : NULL;
        if (r->failed || !problem)
                return false;
        verdict_read_former(VERDICT_IN_HEARTBEAT, problem, &ret->problem);
        verdict_set_code(&ret->problem, code ?: "");
        return true;
}
