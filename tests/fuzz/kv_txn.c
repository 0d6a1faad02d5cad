/* Arbitrary bytes as the body of a transaction: rejected with a message, or a command that the log stores and
 * returns. */

#include "fleetd/api/kv_v1_txn.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_writer_ Writer w = {}, again = {};
        _cleanup_free_ void *decoded = NULL;
        KvCommand cmd, back;
        KvStatus status;
        char at[32] = "";
        Error err = {};
        int r;

        r = kv_txn_decode(bytes, size, &arena, &cmd, at, &err);
        if (r < 0) {
                assert(r == -ENOMEM || err.message[0]);
                return 0;
        }
        assert(cmd.op == KV_TXN && !cmd.internal && cmd.n_checks + cmd.n_writes > 0);
        assert(at[0] == 0);
        if (kv_command_check(&cmd, &status, &err) < 0) {
                assert(status == KV_TOO_LARGE); /* the parts are valid; only the whole can be too large */
                return 0;
        }
        assert(kv_command_encode(&cmd, KV_LEVEL_MAX, &w) == 0);
        assert(kv_command_decode(w.bytes, w.size, &back, &decoded) == 0);
        assert(kv_command_encode(&back, KV_LEVEL_MAX, &again) == 0);
        assert(w.size == again.size && memcmp(w.bytes, again.bytes, w.size) == 0);
        return 0;
}
