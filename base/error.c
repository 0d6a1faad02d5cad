#include "base/error.h"

#include "base/text.h"

int error_set(Error *err, int code, const char *format, ...) {
        va_list ap;

        if (!err)
                return code;

        err->code = code;
        err->next = NULL;
        va_start(ap, format);
        text_format_list(err->message, sizeof(err->message), format, ap);
        va_end(ap);
        text_keep_to_one_line(err->message); /* it may quote input from outside */
        return code;
}

int error_prefix(Error *err, int code, const char *format, ...) {
        const char *next = err ? err->next : NULL;
        char prefix[ERROR_MESSAGE_MAX], message[ERROR_MESSAGE_MAX];
        va_list ap;

        va_start(ap, format);
        vsnprintf(prefix, sizeof(prefix), format, ap);
        va_end(ap);
        snprintf(message, sizeof(message), "%s", error_text(err, code));
        (void) error_set(err, code, "%s: %s", prefix, message);
        if (err)
                err->next = next;
        return code;
}

const char *error_text(const Error *err, int code) {
        return err && err->message[0] ? err->message : strerror(code < 0 ? -code : code);
}
