/* Any text as each of the small values: an accepted value is in its range, and is printed and read again
 * unchanged. */

#include "base/base64.h"
#include "base/parse.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void numbers(const char *s) {
        uint64_t v = 7, again;
        char text[64];
        bool b;

        if (parse_u64(s, &v) == 0) {
                snprintf(text, sizeof(text), "%llu", (unsigned long long) v);
                assert(parse_u64(text, &again) == 0 && again == v);
        } else
                assert(v == 7); /* untouched */

        v = 7;
        if (parse_span_ms(s, &v) == 0) {
                snprintf(text, sizeof(text), "%llums", (unsigned long long) v);
                assert(parse_span_ms(text, &again) == 0 && again == v);
        } else
                assert(v == 7);

        v = 7;
        if (parse_size(s, &v) == 0) {
                snprintf(text, sizeof(text), "%llu", (unsigned long long) v);
                assert(parse_size(text, &again) == 0 && again == v);
        } else
                assert(v == 7);

        (void) parse_bool(s, &b);
        if (parse_hex_id(s, 32) == 0) {
                assert(strlen(s) == 32);
                for (const char *p = s; *p; p++)
                        assert(hex_digit(*p) >= 0);
        }
}

static void address(const char *s) {
        char host[64] = "", again_host[64], text[128];
        uint16_t port = 0, again;

        if (parse_address(s, host, sizeof(host), &port) < 0)
                return;
        assert(port > 0 && host[0] && strlen(host) < sizeof(host));
        snprintf(text, sizeof(text), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
        assert(parse_address(text, again_host, sizeof(again_host), &again) == 0 && again == port &&
               streq(host, again_host));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *text = malloc(size + 1), *decoded = NULL, *back = NULL;
        _cleanup_text_ Text json = {}, printable = {}, base64 = {};
        size_t decoded_size, back_size;
        char *second;

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;

        numbers(text);
        address(text);
        text_append_json(&json, bytes, size);
        for (size_t i = 0; i < json.size; i++)
                assert((unsigned char) json.chars[i] >= ' ');
        text_append_printable(&printable, text);
        for (size_t i = 0; i < printable.size; i++)
                assert((unsigned char) printable.chars[i] >= ' ' && printable.chars[i] != 0x7f);

        text_append_base64(&base64, bytes, size, size % 2 == 0);
        assert(base64.error == 0);
        assert(base64_decode(base64.chars ?: "", base64.size, &back, &back_size) == 0);
        assert(back_size == size && memcmp(back, bytes, size) == 0);
        if (base64_decode(text, size, &decoded, &decoded_size) == 0)
                assert(decoded_size <= size);

        second = strchr(text, '\n');
        if (second) {
                *second++ = 0;
                if (strlen(text) < 64 && strlen(second) < 256)
                        (void) glob_match(text, second);
                assert(text_distance(text, second) == text_distance(second, text));
        }
        return 0;
}
