/* Arbitrary bytes as each frame by which a host asks for the content of a unit, and as a whole answer: what
 * is accepted is within its limits, and is read again as it was written. The first byte selects the frame. */

#include "fleetd/features/inputs/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void request(const void *bytes, size_t size) {
        InputsRequest one, two;
        Writer w = {};

        if (inputs_request_read(bytes, size, &one) == 0) {
                assert(strlen(one.unit) <= UNIT_NAME_MAX && strlen(one.hash) < UNIT_HASH_SIZE);
                inputs_request_write(&one, &w);
                assert(inputs_request_read(w.bytes, w.size, &two) == 0);
                assert(one.number == two.number && streq(one.unit, two.unit) && streq(one.hash, two.hash) &&
                       one.index == two.index);
                inputs_request_done(&two);
        }
        inputs_request_done(&one);
        writer_done(&w);
}

static void part(const void *bytes, size_t size) {
        InputsPart one, two;
        Writer w = {};

        if (inputs_part_read(bytes, size, &one) < 0)
                return;
        assert(one.bytes.size > 0 && one.bytes.size <= INPUTS_PART_MAX);
        inputs_part_write(&one, &w);
        assert(w.size == one.bytes.size + INPUTS_PART_HEAD && inputs_part_read(w.bytes, w.size, &two) == 0);
        assert(one.number == two.number && one.left == two.left && one.bytes.size == two.bytes.size &&
               memcmp(one.bytes.data, two.bytes.data, one.bytes.size) == 0);
        writer_done(&w);
}

static size_t check_items(const ContentItem *items, size_t n, size_t n_max, size_t value_max) {
        size_t size = 0;

        assert(n <= n_max);
        for (size_t i = 0; i < n; i++) {
                assert(items[i].name[0] && items[i].size <= value_max);
                size += items[i].size;
        }
        return size;
}

static void check_content(const Content *c) {
        assert(check_items(c->credentials, c->n_credentials, INPUT_SECRETS_MAX, SECRET_SIZE_MAX) <=
               INPUT_SECRETS_SIZE_MAX);
        assert(check_items(c->variables, c->n_variables, INPUT_VARIABLES_MAX, INPUT_VARIABLE_SIZE_MAX) <=
               INPUT_VARIABLES_SIZE_MAX);
        assert(check_items(c->files, c->n_files, INPUT_FILES_MAX, INPUT_FILES_SIZE_MAX) <=
               INPUT_FILES_SIZE_MAX);
        for (size_t i = 0; i < c->n_credentials; i++)
                assert(!strchr(c->credentials[i].name, '/'));
        for (size_t i = 0; i < c->n_variables; i++)
                assert(!strpbrk(c->variables[i].name, "=\n\"'$ "));
        for (size_t i = 0; i < c->n_files; i++)
                assert(c->files[i].name[0] != '/' && strncmp(c->files[i].name, "../", 3) != 0 &&
                       !strstr(c->files[i].name, "/../"));
}

static bool same_items(const ContentItem *a, size_t n, const ContentItem *b, size_t n_b) {
        for (size_t i = 0; n == n_b && i < n; i++)
                if (!streq(a[i].name, b[i].name) || a[i].size != b[i].size ||
                    (a[i].size > 0 && memcmp(a[i].value, b[i].value, a[i].size) != 0))
                        return false;
        return n == n_b;
}

static void answer(const void *bytes, size_t size) {
        InputsStatus status, again;
        Resolved one, two;
        Writer w = {};

        if (inputs_answer_read(bytes, size, &status, &one) < 0)
                return;
        assert(status < _INPUTS_STATUS_MAX);
        check_content(&one.content);
        inputs_answer_write(status, &one, &w);
        assert(w.error == 0 && inputs_answer_read(w.bytes, w.size, &again, &two) == 0 && status == again);
        assert(one.index == two.index && streq(one.content.digest, two.content.digest) &&
               one.content.problem.code == two.content.problem.code &&
               one.content.waits == two.content.waits);
        assert(same_items(one.content.credentials, one.content.n_credentials, two.content.credentials,
                          two.content.n_credentials) &&
               same_items(one.content.variables, one.content.n_variables, two.content.variables,
                          two.content.n_variables) &&
               same_items(one.content.files, one.content.n_files, two.content.files, two.content.n_files));
        content_done(&one.content);
        content_done(&two.content);
        writer_done(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static void (*const frames[])(const void *, size_t) = { request, part, answer };

        if (size > 0)
                frames[bytes[0] % ELEMENTS(frames)](bytes + 1, size - 1);
        return 0;
}
