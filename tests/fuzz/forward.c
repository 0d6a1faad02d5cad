/* Arbitrary bytes as the frames of forwarded requests and their answers: what is accepted is written as it
 * was read. */

#include "fleetd/api/forward_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void fuzz_request(const uint8_t *bytes, size_t size) {
        ForwardRequest request = {}, again = {};
        _cleanup_writer_ Writer w = {};

        if (forward_request_read(bytes, size, &request) < 0)
                return;
        forward_request_begin(request.number, request.lineage, request.bound, &w);
        forward_request_write(&request, &w);
        assert(w.error == 0 && forward_request_read(w.bytes, w.size, &again) == 0);
        assert(request.number == again.number && request.bound == again.bound &&
               streq(request.method, again.method) && request.path.size == again.path.size &&
               request.body.size == again.body.size && request.parameters.n == again.parameters.n &&
               principal_equal(&request.sender.principal, &again.sender.principal) &&
               right_list_covers(request.sender.granted, again.sender.granted) &&
               right_list_covers(again.sender.granted, request.sender.granted));
        forward_request_done(&request);
        forward_request_done(&again);
}

static void fuzz_head(const uint8_t *bytes, size_t size) {
        ForwardHead head = {}, again = {};
        _cleanup_writer_ Writer w = {};

        if (forward_head_read(bytes, size, &head) < 0)
                return;
        forward_head_write(&head, &w);
        assert(w.error == 0 && forward_head_read(w.bytes, w.size, &again) == 0);
        assert(head.status == again.status && head.size == again.size && streq(head.type, again.type));
        for (size_t i = 0; head.fields[i].name; i++)
                assert(streq(head.fields[i].name, again.fields[i].name) &&
                       streq(head.fields[i].value, again.fields[i].value));
        free(head.texts);
        free(again.texts);
}

static void fuzz_end(const uint8_t *bytes, size_t size) {
        ForwardEnding ending, again;
        _cleanup_writer_ Writer w = {};

        if (forward_end_read(bytes, size, &ending) < 0)
                return;
        forward_end_write(&ending, &w);
        assert(w.error == 0 && forward_end_read(w.bytes, w.size, &again) == 0);
        assert(ending.end == again.end && streq(ending.reason, again.reason));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        KvBytes chunk;

        if (size == 0)
                return 0;
        switch (bytes[0]) {
        case 'q':
                fuzz_request(bytes + 1, size - 1);
                break;
        case 'h':
                fuzz_head(bytes + 1, size - 1);
                break;
        case 'e':
                fuzz_end(bytes + 1, size - 1);
                break;
        default:
                (void) forward_chunk_read(bytes + 1, size - 1, &chunk);
        }
        return 0;
}
