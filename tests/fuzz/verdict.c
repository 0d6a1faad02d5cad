/* Any text as the reason of a presence, or as the problem of a heartbeat: its message is the text, and only
 * an aspect that the text begins with decides. */
#include <assert.h>

#include "units/verdict_former.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void former(VerdictPlace place, const char *text) {
        _cleanup_text_ Text message = {};
        Verdict v;

        verdict_read_former(place, text, &v);
        verdict_append(&message, &v);
        assert(message.error == 0 && v.of < _VERDICT_OF_MAX && v.code < _VERDICT_MAX);
        assert(strlen(text) >= VERDICT_ARGS_SIZE || strstr(text, VERDICT_NEXT) ||
               streq(text_chars(&message), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *text = malloc(size + 1);

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;
        former(VERDICT_IN_PRESENCE, text);
        former(VERDICT_IN_HEARTBEAT, text);
        return 0;
}
