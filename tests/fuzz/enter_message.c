/* Arbitrary bytes as a join request, and as its answer: what is accepted is written as it was read. */

#include "fleetd/identity/enter_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void fuzz_request(const uint8_t *bytes, size_t size) {
        _cleanup_enter_request_ EnterRequest request = {}, again = {};
        _cleanup_writer_ Writer w = {};

        if (enter_request_read(bytes, size, &request, NULL) < 0)
                return;
        enter_request_write(&request, &w);
        assert(w.error == 0 && enter_request_read(w.bytes, w.size, &again, NULL) == 0);
        assert(streq(request.token, again.token) && streq(request.csr, again.csr) &&
               request.level == again.level && request.exposed == again.exposed &&
               memcmp(request.secret, again.secret, sizeof(request.secret)) == 0);
}

static void fuzz_answer(const uint8_t *bytes, size_t size) {
        _cleanup_enter_answer_ EnterAnswer answer = {}, again = {};
        _cleanup_writer_ Writer w = {};

        if (enter_answer_read(bytes, size, &answer, NULL) < 0)
                return;
        enter_answer_write(&answer, &w);
        assert(w.error == 0 && enter_answer_read(w.bytes, w.size, &again, NULL) == 0);
        assert(same_string(answer.refusal, again.refusal) && answer.n_endpoints == again.n_endpoints &&
               streq(answer.certificate, again.certificate));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        if (size == 0)
                return 0;
        if (bytes[0] == 'q')
                fuzz_request(bytes + 1, size - 1);
        else
                fuzz_answer(bytes + 1, size - 1);
        return 0;
}
