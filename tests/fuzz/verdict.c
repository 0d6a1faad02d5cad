/* Any text as the reason of a presence, or as the problem of a heartbeat: its message is the text. The same
 * with a name and arguments; and any value as the member of a record: what is read is read again as it was
 * written. */

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

static void named(const char *name, const char *args) {
        Verdict v, again;

        verdict_read_former(VERDICT_IN_HEARTBEAT, "cluster key missing: x", &v);
        verdict_set_named(&v, name, args, strlen(args));
        assert(v.code > VERDICT_NONE && v.code < _VERDICT_MAX);
        again = v;
        verdict_set_named(&again, verdict_name(&v), v.said ? "" : v.args, v.said ? 0 : strlen(v.args));
        assert(v.code == again.code && (v.code != VERDICT_SAID || verdict_equal(&v, &again)));
}

static void member(const char *json, size_t size) {
        _cleanup_json_ JsonValue *value = NULL, *second = NULL;
        _cleanup_text_ Text t = {}, u = {};
        Verdict v = {}, again = {};

        if (json_object_parse(json, size, &value, NULL) < 0 || verdict_read(value, &v, NULL) < 0)
                return;
        verdict_write(&t, NULL, &v);
        if (t.size == 0)
                return;
        assert(json_object_parse(t.chars, t.size, &second, NULL) == 0);
        verdict_read_former(VERDICT_IN_HEARTBEAT, v.said ? v.args : "", &again);
        assert(verdict_read(second, &again, NULL) == 0 && again.of == v.of && again.code == v.code);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *text = malloc(size + 1);

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;
        former(VERDICT_IN_PRESENCE, text);
        former(VERDICT_IN_HEARTBEAT, text);
        named(text, "7");
        named("key-missing", text);
        member(text, size);
        return 0;
}
