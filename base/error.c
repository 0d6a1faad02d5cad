#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"

int error_set(Error *err, int code, const char *format, ...) {
        va_list ap;

        if (!err)
                return code;

        err->code = code;
        va_start(ap, format);
        vsnprintf(err->message, sizeof(err->message), format, ap);
        va_end(ap);
        text_keep_to_one_line(err->message); /* it may quote input from outside */
        return code;
}

int error_prefix(Error *err, int code, const char *format, ...) {
        char prefixed[ERROR_MESSAGE_MAX];
        va_list ap;
        int n;

        if (!err)
                return code;

        va_start(ap, format);
        n = vsnprintf(prefixed, sizeof(prefixed), format, ap);
        va_end(ap);
        if (n >= 0 && (size_t) n < sizeof(prefixed))
                snprintf(prefixed + n, sizeof(prefixed) - n, ": %s", error_text(err, code));

        err->code = code;
        memcpy(err->message, prefixed, sizeof(prefixed));
        text_keep_to_one_line(err->message);
        return code;
}

const char *error_text(const Error *err, int code) {
        return err && err->message[0] ? err->message : strerror(code < 0 ? -code : code);
}
