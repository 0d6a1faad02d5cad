/* Two lines, separated by a newline, as samples of one host: each unit of the second one has cells without
 * control characters, shares are from 0 to 1000, and known figures are written as JSON that is read again. */
#include "client/core/usage.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_row(const UsageSample *former, const UsageSample *now, const UsageFigures *unit) {
        _cleanup_json_ JsonValue *again = NULL;
        _cleanup_text_ Text cells = {}, json = {};
        UsageRow row;

        usage_row(former, now, unit, &row);
        for (UsageColumn c = 0; c < _USAGE_COLUMN_MAX; c++) {
                usage_append_cell(&cells, &row, c);
                assert(usage_share(&row.cells[c]) >= -1 && usage_share(&row.cells[c]) <= 1000);
        }
        assert(cells.error >= 0 && !strchr(text_chars(&cells), '-'));
        json_open(&json, NULL, '{');
        usage_append_json(&json, unit ?: &now->host);
        json_close(&json, '}');
        assert(json_object_parse(json.chars, json.size, &again, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        const uint8_t *end = size > 0 ? memchr(bytes, '\n', size) : NULL;
        size_t n = end ? (size_t) (end - bytes) : size;
        _cleanup_usage_ UsageSample *former = NULL, *now = NULL;

        if (usage_parse((const char *) bytes, n, &former) < 0)
                return 0;
        check_row(NULL, former, NULL);
        if (!end || usage_parse((const char *) end + 1, size - n - 1, &now) < 0)
                return 0;
        check_row(former, now, NULL);
        for (size_t i = 0; i < now->n_units; i++)
                check_row(former, now, &now->units[i]);
        return 0;
}
