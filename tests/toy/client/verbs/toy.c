/* toy: give the cluster a toy, or print it. */
#include "client/core/client.h"

static int toy_give(Client *c, const char *text, Error *err) {
        _cleanup_text_ Text body = {};
        int r;

        json_open(&body, NULL, '{');
        json_add_string(&body, "text", text);
        json_close(&body, '}');
        r = client_request(c, "PUT", "/fleet/v1/toy", &body, NULL, err);
        return r < 0 ? client_fail_after(r, err, "Failed to give the toy: ") : EXIT_DONE;
}

static int toy_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text t = {};
        int r;

        if (n > 0)
                return toy_give(c, args[0], err);
        r = client_get_json(c, "/fleet/v1/toy", &root, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to read the toy: ");
        text_printable(&t, "%s", member_text(root, "text"));
        if (*member_text(root, "why"))
                text_printable(&t, ": %s", member_text(root, "why"));
        text_append_char(&t, '\n');
        return t.error < 0 ? t.error : output_text(text_chars(&t), t.size);
}

VERB(toy, "toy", "", "[TEXT]", "Print the toy of the cluster, or give it one",
     "While the toy is \"busy\", no host starts a unit, for 2 s at most.\n", toy_run);
