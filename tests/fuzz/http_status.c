/* The answer to a health check, in pieces: the status of a prefix is that of the whole, or more bytes are
 * needed. */

#include "fleetd/features/health/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        int whole = probe_read_status((const char *) bytes, size);

        assert(whole == 0 || whole == -EBADMSG || (whole >= 200 && whole <= 999));
        for (size_t n = 0; n < size && n < 256; n++) {
                _cleanup_free_ char *copy = malloc(n + 1);
                int status;

                assert(copy);
                if (n > 0)
                        memcpy(copy, bytes, n);
                status = probe_read_status(copy, n);
                assert(status == 0 || status == whole);
        }
        return 0;
}
