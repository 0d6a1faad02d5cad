/* Arbitrary bytes as an answer to a host that asks for the content of a unit, and behind a right checksum as
 * a copy: what is accepted is within its limits, and is read again as it was written. */

#include "fleetd/features/inputs/content_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_content(const Content *c) {
        for (size_t l = 0; l < CONTENT_LISTS; l++) {
                assert(c->n[l] <= INPUT_FILES_MAX);
                for (size_t i = 0; i < c->n[l]; i++)
                        assert(c->lists[l][i].name[0] && c->lists[l][i].size <= INPUT_FILES_SIZE_MAX);
        }
        for (size_t i = 0; i < c->n_credentials; i++)
                assert(!strchr(c->credentials[i].name, '/'));
        for (size_t i = 0; i < c->n_variables; i++)
                assert(!strpbrk(c->variables[i].name, "=\n\"'$ "));
        for (size_t i = 0; i < c->n_files; i++)
                assert(c->files[i].name[0] != '/' && strncmp(c->files[i].name, "../", 3) != 0 &&
                       !strstr(c->files[i].name, "/../"));
}

static void check_equal(const Content *a, const Content *b) {
        assert(streq(a->digest, b->digest) && a->problem.code == b->problem.code);
        for (size_t l = 0; l < CONTENT_LISTS; l++) {
                assert(a->n[l] == b->n[l]);
                for (size_t i = 0; i < a->n[l]; i++) {
                        const ContentItem *x = &a->lists[l][i], *y = &b->lists[l][i];

                        assert(streq(x->name, y->name) && x->size == y->size &&
                               (x->size == 0 || memcmp(x->value, y->value, x->size) == 0));
                }
        }
}

static void answer(const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        InputsStatus status, again;
        Resolved one, two;

        if (inputs_answer_read(bytes, size, &status, &one) < 0)
                return;
        check_content(&one.content);
        inputs_answer_write(status, &one, &w);
        assert(w.error == 0 && inputs_answer_read(w.bytes, w.size, &again, &two) == 0 && status == again);
        assert(one.index == two.index);
        check_equal(&one.content, &two.content);
        content_done(&one.content);
        content_done(&two.content);
}

static void copy(const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {}, again = {};
        InputCopy one, two;

        write_u8(&w, 1);
        write_u32(&w, crc32c(0, bytes, size));
        write_raw(&w, bytes, size);
        if (input_copy_read(w.bytes, w.size, &one) < 0)
                return;
        check_content(&one.content);
        input_copy_write(&one, &again);
        assert(again.error == 0 && input_copy_read(again.bytes, again.size, &two) == 0);
        assert(one.number == two.number && one.version == two.version);
        for (size_t i = 0; i < one.content.n_credentials; i++)
                one.content.credentials[i].size = 0;
        check_equal(&one.content, &two.content);
        content_done(&one.content);
        content_done(&two.content);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        if (size > 0)
                (bytes[0] % 2 ? copy : answer)(bytes + 1, size - 1);
        return 0;
}
