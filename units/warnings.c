#include "units/warnings.h"

#include "base/text.h"

void warnings_done(Warnings *warnings) {
        for (size_t i = 0; i < warnings->n; i++)
                free(warnings->items[i].message);
        free(warnings->items);
        *warnings = (Warnings) {};
}

int warnings_add(Warnings *warnings, unsigned line, const char *message) {
        _cleanup_free_ char *copy = strdup(message); /* it quotes the file */

        if (!copy || GROW(warnings->items, warnings->capacity, warnings->n + 1) < 0)
                return -ENOMEM;
        warnings->items[warnings->n++] = (Warning) { .line = line,
                                                     .message = text_keep_to_one_line(TAKE_PTR(copy)) };
        return 0;
}

bool warnings_are_full(Warnings *warnings, unsigned line) {
        if (warnings->n < WARNINGS_MAX)
                return false;
        if (warnings->n_left_out++ == 0)
                warnings->left_out_line = line;
        return true;
}

int warnings_add_rest(Warnings *warnings) {
        char message[64];

        if (warnings->n_left_out == 0)
                return 0;
        snprintf(message, sizeof(message), "%zu more %s left out", warnings->n_left_out,
                 warnings->n_left_out == 1 ? "warning is" : "warnings are");
        return warnings_add(warnings, warnings->left_out_line, message);
}
