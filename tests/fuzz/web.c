/* fleet-web: the first line is the target of a request, the second one the key that is sent with it. Parts
 * follow, separated by 0x1e: the answers of the daemon, each for the next request, over and over. No input
 * ends the program, each question is answered, and no answer has the key. */
#include "client/web/loader.h"
#include "tests/lib/fake_curl.h"
#include "tests/lib/manual_loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { PARTS_MAX = 16, SEPARATOR = 0x1e, STEPS_MAX = 40 };

#define WEB_FUZZ_KEY "AAECAwQFBgcICQoLDA0ODw"

static struct {
        char *parts[PARTS_MAX];
        size_t n_parts, next;
        unsigned status;
} fuzz;

static FakeAnswer *answer(const char *url) {
        static FakeAnswer answers[64];
        static size_t n;
        FakeAnswer *a = &answers[n++ % ELEMENTS(answers)];
        const char *body = fuzz.n_parts > 0 ? fuzz.parts[fuzz.next++ % fuzz.n_parts] : "";

        for (const char *s = url; *s; s++)
                assert((unsigned char) *s > ' ' && (unsigned char) *s < 0x7f); /* one word of ASCII */
        *a = (FakeAnswer) { .status = *body == '!' ? 500 : 200, .body = body, .size = strlen(body) };
        return a;
}

static void on_answer(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                      const void *body, size_t size) {
        assert(fuzz.status == 0);
        fuzz.status = status;
        assert(!size || !memmem(body, size, WEB_FUZZ_KEY, strlen(WEB_FUZZ_KEY)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const WebEvents events = { .on_asked = web_loader_on_asked, .on_why = web_loader_on_why };
        static const HttpSink sink = { .answer = on_answer };
        const ConnectionSettings settings = { .endpoint = "unix:///s", .plain = true, .read_ms = 3000 };
        char *text = strndup((const char *) bytes, size), *rest = text, *target, *key;
        HttpRequest request = { .method = "GET", .host = "h", .sink = &sink };
        WebServer *server = NULL;
        WebLoader *loader = NULL;
        ManualLoop loop;

        fuzz = (typeof(fuzz)) {};
        target = strsep(&rest, "\n");
        key = strsep(&rest, "\n");
        while (rest && fuzz.n_parts < PARTS_MAX)
                fuzz.parts[fuzz.n_parts++] = strsep(&rest, "\x1e");
        fake_curl_begin_with(answer);
        manual_loop_init(&loop, 1);
        assert(web_loader_new(&loader, &loop.base, &settings, NULL) == 0);
        assert(web_server_new(&server, &loop.base, WEB_FUZZ_KEY, "p", &events, loader) == 0);
        web_loader_serve(loader, server);

        request.target = *target ? target : "/";
        request.key = key;
        web_handler.on_request(server, &request);
        for (unsigned i = 0; i < STEPS_MAX && fuzz.status == 0; i++) {
                (void) manual_loop_work(&loop);
                loop.now_ms += 500;
                while (loop_next_due_ms(&loop.base) <= loop.now_ms)
                        (void) loop_run_due(&loop.base, 1000);
        }
        assert(fuzz.status != 0);
        (void) web_loader_stop(loader);
        while (manual_loop_work(&loop))
                ;
        web_server_free(server);
        web_loader_free(loader);
        loop_done(&loop.base);
        free(text);
        return 0;
}
