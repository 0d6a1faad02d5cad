/* Any text as a token: an accepted one has one spelling, and its parts are within their limits. */

#include "base/parse.h"
#include "units/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *text = malloc(size + 1);
        _cleanup_text_ Text again = {};
        Token token;
        Error err = {};

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;

        if (token_read(text, &token, &err) < 0) {
                assert(err.message[0]);
                return 0;
        }
        assert(parse_hex_id(token.id, TOKEN_ID_SIZE - 1) == 0 && token.n_endpoints <= TOKEN_ENDPOINTS_MAX);
        for (unsigned i = 0; i < token.n_endpoints; i++)
                assert(memchr(token.endpoints[i], 0, ADDRESS_SIZE));
        token_print(&token, &again);
        assert(again.error == 0 && streq(again.chars, text));
        return 0;
}
