#include "tests/lib/test.h"
#include "base/base64.h"
#include "base/bytes.h"
#include "units/token.h"

static Token example(void) {
        Token t = {
                .cluster_id = 0x0123456789abcdef,
                .id = "0a1b2c3d4e5f",
                .n_endpoints = 2,
                .endpoints = { "10.0.0.1:7412", "[2001:db8::1]:7412" },
        };

        for (unsigned i = 0; i < TOKEN_ROOT_BYTES; i++)
                t.root[i] = i;
        for (unsigned i = 0; i < TOKEN_SECRET_BYTES; i++)
                t.secret[i] = 0xf0 | i;
        return t;
}

static const char example_text[] =
        "fleet1-Ae_Nq4lnRSMBAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8KGyw9Tl_w8fLz9PX29_j5-vv8_f7_Ag0xMC4w"
        "LjAuMTo3NDEyElsyMDAxOmRiODo6MV06NzQxMp7QvZ0";

static void assert_read(const char *text, int error, const char *message) {
        Token t = { .n_endpoints = 77 };
        Error err = {};

        assert_int_equal(token_read(text, &t, &err), error);
        assert_non_null(strstr(err.message, message));
        assert_int_equal(t.n_endpoints, 77);
}

static void a_token_is_read_as_it_was_printed(void **state) {
        _cleanup_text_ Text text = {};
        Token t = example(), read = {};
        Error err = {};

        token_print(&t, &text);
        assert_string_equal(text.chars, example_text);
        if (token_read(text.chars, &read, &err) < 0)
                fail_msg("%s", err.message);
        assert_memory_equal(&read, &t, sizeof(t));
}

static void every_number_of_endpoints_is_possible(void **state) {
        for (unsigned n = 0; n <= TOKEN_ENDPOINTS_MAX; n++) {
                _cleanup_text_ Text text = {};
                Token t = example(), read = {};

                t.n_endpoints = n;
                memset(t.endpoints, 0, sizeof(t.endpoints));
                for (unsigned i = 0; i < n; i++)
                        snprintf(t.endpoints[i], ADDRESS_SIZE, "192.168.100.10%u:65535", i);
                token_print(&t, &text);
                assert_true(text.size <= 91 + strlen(TOKEN_PREFIX) + n * 32);
                assert_int_equal(token_read(text.chars, &read, NULL), 0);
                assert_memory_equal(&read, &t, sizeof(t));
        }
}

static void other_text_is_not_a_token(void **state) {
        char text[TOKEN_TEXT_MAX + 2] = TOKEN_PREFIX;

        assert_read("", -EINVAL, "not a token: expected 'fleet1-'");
        assert_read("fleet1", -EINVAL, "not a token");
        assert_read("K10abc::server:abc", -EINVAL, "not a token");
        assert_read(" fleet1-AQAA", -EINVAL, "not a token");
        assert_read("fleet1-AQAA\n", -EINVAL, "not a token");
        assert_read("fleet1-AQ+A", -EINVAL, "not a token");
        assert_read("fleet1-AQA=", -EINVAL, "not a token");
        assert_read("fleet1-abc", -EINVAL, "not a token, or not a whole one: copy the line");
        assert_read("fleet1-nonsense-nonsense", -EINVAL, "not a token, or not a whole one");
        memset(text + strlen(text), 'A', TOKEN_TEXT_MAX + 1 - strlen(text));
        assert_read(text, -EINVAL, "not a token");
}

static void a_token_without_its_end_is_truncated(void **state) {
        char text[sizeof(example_text)];

        for (size_t n = strlen(TOKEN_PREFIX); n < sizeof(text) - 1; n++) {
                snprintf(text, n + 1, "%s", example_text);
                assert_read(text, -ENODATA, "truncated: copy the whole line");
        }
}

static void a_changed_character_is_found_by_the_checksum(void **state) {
        size_t first = strlen(TOKEN_PREFIX) + 2; /* behind the version */

        for (size_t i = first; i < sizeof(example_text) - 1; i++) {
                char text[sizeof(example_text)];
                Token t;
                int r;

                memcpy(text, example_text, sizeof(text));
                text[i] = text[i] == 'B' ? 'C' : 'B';
                r = token_read(text, &t, NULL);
                assert_true(r == -EBADMSG || r == -ENODATA); /* the size of an endpoint may have grown */
        }
        assert_read("fleet1-Ae_Nq4lnRSMBAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8KGyw9Tl_w8fLz9PX29_j5-vv8_"
                    "f7_Ag"
                    "0xMC4wLjAuMTo3NDEyElsyMDAxOmRiODo6MV06NzQxMp7QvZ1",
                    -EBADMSG, "wrong checksum: a character was changed");
}

static void characters_behind_a_token_are_rejected(void **state) {
        char text[sizeof(example_text) + 8];

        for (unsigned n = 1; n <= 8; n++) {
                snprintf(text, sizeof(text), "%s%.*s", example_text, (int) n, "AAAAAAAA");
                assert_read(text, -EBADMSG, "wrong checksum");
        }
}

static void another_version_asks_for_another_program(void **state) {
        uint8_t bytes[] = { 2, 'a', 'b', 'c', 0, 0, 0, 0 };
        uint32_t checksum = crc32c(0, bytes, 4);
        _cleanup_text_ Text text = {};

        for (size_t i = 0; i < 4; i++)
                bytes[4 + i] = checksum >> 8 * i;
        text_append(&text, TOKEN_PREFIX);
        text_append_base64(&text, bytes, sizeof(bytes), true);
        assert_read(text.chars, -EPROTONOSUPPORT,
                    "the token has version 2, and this program knows version 1 only");
}

/* A record with a valid checksum, which another program may have written. */
static void an_endpoint_is_an_address(void **state) {
        static const char *const rows[] = { "", "host", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000" };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text text = {};
                Token t = example();

                snprintf(t.endpoints[1], ADDRESS_SIZE, "%s", rows[i]);
                token_print(&t, &text);
                assert_int_equal(token_read(text.chars, &t, NULL), -EBADMSG);
        }
}

static void the_hash_of_a_secret_is_its_sha_256(void **state) {
        char hash[TOKEN_HASH_SIZE];

        assert_int_equal(token_secret_hash((const uint8_t *) "0123456789abcdef", hash), 0);
        assert_string_equal(hash, "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_token_is_read_as_it_was_printed),
                cmocka_unit_test(every_number_of_endpoints_is_possible),
                cmocka_unit_test(other_text_is_not_a_token),
                cmocka_unit_test(a_token_without_its_end_is_truncated),
                cmocka_unit_test(a_changed_character_is_found_by_the_checksum),
                cmocka_unit_test(characters_behind_a_token_are_rejected),
                cmocka_unit_test(another_version_asks_for_another_program),
                cmocka_unit_test(an_endpoint_is_an_address),
                cmocka_unit_test(the_hash_of_a_secret_is_its_sha_256),
        };

        return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
