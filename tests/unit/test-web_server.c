/* The HTTP of fleet-web: who gets what, and when. */
#include "tests/unit/web_asks.h"

typedef struct Bench {
        ManualLoop loop;
        WebServer *server;
        unsigned n_asked[_WEB_DOCUMENT_MAX], n_why, n_idle;
        uint64_t question;
        bool of_machine;
        char name[300];
} Bench;

static void on_asked(void *userdata, WebDocument document) {
        ((Bench *) userdata)->n_asked[document]++;
}

static void on_why(void *userdata, uint64_t question, bool of_machine, const char *name) {
        Bench *b = userdata;

        b->n_why++;
        b->question = question;
        b->of_machine = of_machine;
        snprintf(b->name, sizeof(b->name), "%s", name);
}

static void on_idle(void *userdata) {
        ((Bench *) userdata)->n_idle++;
}

static const WebEvents events = { .on_asked = on_asked, .on_why = on_why, .on_idle = on_idle };

static int setup(void **state) {
        Bench *b = NEW0(Bench, 1);

        manual_loop_init(&b->loop, 1);
        assert_int_equal(web_server_new(&b->server, &b->loop.base, WEB_TEST_KEY, "p1", &events, b), 0);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        web_server_free(b->server);
        loop_done(&b->loop.base);
        free(b);
        return 0;
}

static void publish(Bench *b, WebDocument document, const char *rest) {
        _cleanup_text_ Text t = {};

        text_append(&t, rest);
        assert_int_equal(web_server_publish(b->server, document, &t), 0);
}

static void each_route_is_closed_without_the_key_and_to_methods_that_change(void **state) {
        static const char right[] = WEB_TEST_KEY;
        static const struct {
                const char *target;
                unsigned open, closed; /* GET with the key, and without it; anything else than 404: a route */
        } routes[] = {
                { "/", 200, 200 },
                { "/page.css", 200, 200 },
                { "/page.js", 200, 200 },
                { "/view", 200, 403 },
                { "/view?after=0", 200, 403 },
                { "/usage", 200, 403 },
                { "/why?unit=a.service", 200, 403 },
                { "/why?machine=1", 200, 403 },
                { "/why", 400, 403 },
                { "/why?unit=", 400, 403 },
                { "/why?unit=a%00b", 400, 403 },
                { "/why?unit=a&machine=b", 400, 403 },
                { "/view?after=x", 400, 403 },
                { "/view?after=-1", 400, 403 },
                { "/view?after=18446744073709551616", 400, 403 },
                { "/view?after=1%00", 400, 403 },
                { "/view?after=%zz", 400, 403 },
                { "/view/", 404, 404 },
                { "/view/../", 404, 404 },
                { "/index.html", 404, 404 },
                { "/page.js/", 404, 404 },
                { "/page", 404, 404 },
                { "//", 404, 404 },
                { "/key", 404, 404 },
                { "/v2/keys", 404, 404 },
                { "/fleet/v1/units", 404, 404 },
                { "/../etc/passwd", 404, 404 },
                { "/%76iew", 200, 403 }, /* a target is compared when it is decoded */
                { "/view%00", 400, 400 },
                { "/%", 400, 400 },
                { "*", 404, 404 },
        };
        static const char *const methods[] = { "GET",    "HEAD",    "POST",  "PUT",
                                               "DELETE", "OPTIONS", "TRACE", "get" };
        static const char *const keys[] = {
                NULL, "", "A", WEB_TEST_KEY "A", "AAECAwQFBgcICQoLDA0ODx", "BAECAwQFBgcICQoLDA0ODw", right,
        };
        Bench *b = *state;
        WebAsk a = {};

        publish(b, WEB_VIEW, "\"x\":1}");
        publish(b, WEB_USAGE, "\"x\":2}");
        for (size_t i = 0; i < ELEMENTS(routes); i++)
                for (size_t m = 0; m < ELEMENTS(methods); m++)
                        for (size_t k = 0; k < ELEMENTS(keys); k++) {
                                bool reads = m < 2, has_key = keys[k] == right;
                                unsigned expected = has_key ? routes[i].open : routes[i].closed;

                                web_ask_begin(&a, b->server, methods[m], routes[i].target, keys[k], NULL);
                                if (a.status == 0)
                                        web_server_answer(b->server, b->question, 200, "{}");
                                if (!reads && strstr(routes[i].target, "%00") == NULL &&
                                    !streq(routes[i].target, "/%") && routes[i].open != 404)
                                        expected = 405;
                                if (!reads && strstr(routes[i].target, "?"))
                                        expected = 405;
                                if (a.status != expected)
                                        fail_msg("%s %s with the key %s: %u, not %u", methods[m],
                                                 routes[i].target, keys[k] ?: "-", a.status, expected);
                                assert_non_null(strstr(a.policy, "default-src 'none'; script-src 'self'"));
                                assert_string_equal(a.allow, a.status == 405 ? "GET, HEAD" : "");
                                assert_null(strstr(text_chars(&a.body), WEB_TEST_KEY));
                                if (!has_key)
                                        assert_null(strstr(text_chars(&a.body), "\"x\""));
                        }
        text_done(&a.body);
}

static void the_constant_files_have_tags(void **state) {
        Bench *b = *state;
        char tag[64];
        WebAsk a = {};

        web_ask_begin(&a, b->server, "GET", "/", NULL, NULL);
        assert_string_equal(a.type, "text/html; charset=utf-8");
        assert_string_equal(a.cache, "no-cache");
        assert_non_null(strstr(text_chars(&a.body), "<script type=\"module\" src=\"page.js\">"));
        snprintf(tag, sizeof(tag), "%s", a.tag);
        assert_int_equal(tag[0], '"');
        web_ask_begin(&a, b->server, "GET", "/", NULL, tag);
        assert_int_equal(a.status, 304);
        assert_string_equal(text_chars(&a.body), "");
        web_ask_begin(&a, b->server, "GET", "/page.css", NULL, tag);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.type, "text/css; charset=utf-8");
        web_ask_begin(&a, b->server, "GET", "/page.js", NULL, "\"\"");
        assert_string_equal(a.type, "text/javascript; charset=utf-8");
        text_done(&a.body);
}

static void a_question_waits_for_a_newer_document(void **state) {
        Bench *b = *state;
        WebAsk first = {}, second = {}, usage = {};

        web_ask_get(&first, b->server, "/view");
        assert_int_equal(first.status, 0);
        assert_int_equal(b->n_asked[WEB_VIEW], 1);
        publish(b, WEB_VIEW, "\"x\":1}");
        assert_int_equal(first.status, 200);
        assert_string_equal(first.cache, "no-store");
        assert_string_equal(first.type, "application/json");
        assert_string_equal(text_chars(&first.body), "{\"n\":1001,\"now\":1000,\"program\":\"p1\",\"x\":1}");

        web_ask_get(&first, b->server, "/view?after=1001");
        web_ask_get(&second, b->server, "/view?after=1001");
        web_ask_get(&usage, b->server, "/usage?after=1001");
        publish(b, WEB_VIEW, "\"x\":1}"); /* nothing new */
        assert_int_equal(first.status, 0);
        publish(b, WEB_VIEW, "\"x\":2}");
        assert_string_equal(text_chars(&first.body), "{\"n\":1002,\"now\":1000,\"program\":\"p1\",\"x\":2}");
        assert_string_equal(text_chars(&second.body), text_chars(&first.body));
        assert_int_equal(usage.status, 0);
        publish(b, WEB_USAGE, "\"y\":1}");
        assert_string_equal(text_chars(&usage.body), "{\"n\":1001,\"program\":\"p1\",\"y\":1}");

        web_ask_get(&first, b->server, "/view?after=1001"); /* an older one */
        assert_int_equal(first.status, 200);
        web_ask_get(&first, b->server, "/view?after=18446744073709551615"); /* of another run */
        assert_int_equal(first.status, 200);

        web_ask_get(&first, b->server, "/view?after=1002");
        pass(&b->loop, WEB_WAIT_MS - 1);
        assert_int_equal(first.status, 0);
        pass(&b->loop, 1);
        assert_int_equal(first.status, 204);

        web_ask_get(&first, b->server, "/view?after=1001"); /* a page counts ages from when it is sent */
        assert_non_null(strstr(text_chars(&first.body), "{\"n\":1002,\"now\":11000,"));

        web_server_forget(b->server, WEB_VIEW); /* what was shown an hour ago is not shown again */
        web_ask_get(&first, b->server, "/view");
        assert_int_equal(first.status, 0);
        publish(b, WEB_VIEW, "\"x\":2}");
        assert_non_null(strstr(text_chars(&first.body), "{\"n\":1003,"));
        text_done(&first.body);
        text_done(&second.body);
        text_done(&usage.body);
}

/* A page that was hidden asks the next process of a service for what is newer than the document of the former
 * one. */
static void a_document_has_another_number_in_each_process(void **state) {
        Bench *b = *state;
        WebAsk ask = {};

        publish(b, WEB_VIEW, "\"x\":1}");
        web_ask_get(&ask, b->server, "/view");
        assert_non_null(strstr(text_chars(&ask.body), "{\"n\":1001,"));
        web_server_free(b->server);
        pass(&b->loop, 60000);
        assert_int_equal(web_server_new(&b->server, &b->loop.base, WEB_TEST_KEY, "p2", &events, b), 0);
        publish(b, WEB_VIEW, "\"x\":2}");
        web_ask_get(&ask, b->server, "/view?after=1001");
        assert_int_equal(ask.status, 200);
        assert_non_null(strstr(text_chars(&ask.body), "\"program\":\"p2\",\"x\":2"));
        text_done(&ask.body);
}

static void a_question_about_a_unit_is_answered_to_who_asked(void **state) {
        Bench *b = *state;
        WebAsk unit = {}, machine = {}, gone = {};
        uint64_t question;

        web_ask_get(&unit, b->server, "/why?unit=web%401.service");
        assert_string_equal(b->name, "web@1.service");
        assert_false(b->of_machine);
        question = b->question;
        web_ask_get(&machine, b->server, "/why?machine=11");
        assert_true(b->of_machine);
        web_server_answer(b->server, b->question, 404, "there is no such machine");
        assert_int_equal(machine.status, 404);
        assert_string_equal(text_chars(&machine.body), "there is no such machine\n");
        assert_int_equal(unit.status, 0);
        web_server_answer(b->server, question, 200, "{\"lines\":[]}");
        assert_string_equal(text_chars(&unit.body), "{\"lines\":[]}");
        web_server_answer(b->server, question, 200, "{}"); /* it was answered */

        web_ask_get(&gone, b->server, "/why?unit=a.service");
        web_handler.on_gone(b->server, &gone.request);
        web_server_answer(b->server, b->question, 200, "{}");
        assert_int_equal(gone.status, 0);
        web_ask_get(&gone, b->server, "/view");
        web_handler.on_gone(b->server, &gone.request);
        publish(b, WEB_VIEW, "}");
        assert_int_equal(gone.status, 0);
        text_done(&unit.body);
        text_done(&machine.body);
}

static void a_server_without_a_request_is_idle_after_five_minutes(void **state) {
        Bench *b = *state;
        WebAsk a = {};

        pass(&b->loop, WEB_IDLE_MS - 1);
        web_ask_begin(&a, b->server, "GET", "/", NULL, NULL);
        pass(&b->loop, WEB_IDLE_MS - 1);
        assert_int_equal(b->n_idle, 0);
        pass(&b->loop, 1);
        assert_int_equal(b->n_idle, 1);
        text_done(&a.body);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(
                        each_route_is_closed_without_the_key_and_to_methods_that_change, setup, teardown),
                cmocka_unit_test_setup_teardown(the_constant_files_have_tags, setup, teardown),
                cmocka_unit_test_setup_teardown(a_question_waits_for_a_newer_document, setup, teardown),
                cmocka_unit_test_setup_teardown(a_document_has_another_number_in_each_process, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_question_about_a_unit_is_answered_to_who_asked, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_server_without_a_request_is_idle_after_five_minutes, setup,
                                                teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
