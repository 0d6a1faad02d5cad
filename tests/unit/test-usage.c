/* Lines of usage, and the cells between two lines of one host. */
#include "tests/lib/test.h"
#include "client/core/usage.h"

/* Parse a line in which ' stands for ". */
static UsageSample *sample(const char *line) {
        _cleanup_free_ char *text = strdup(line);
        UsageSample *s = NULL;

        assert_non_null(text);
        for (char *c = text; *c; c++)
                *c = *c == '\'' ? '"' : *c;
        assert_int_equal(usage_parse(text, strlen(text), &s), 0);
        return s;
}

/* Assert the cells of a unit (NULL: of the host), with a blank and a bar between. */
static void assert_cells(const UsageSample *former, const UsageSample *now, const char *unit,
                         const char *cells) {
        const UsageFigures *f = NULL;
        _cleanup_text_ Text t = {};
        UsageRow row;

        for (size_t i = 0; unit && i < now->n_units; i++)
                if (streq(now->units[i].name, unit))
                        f = &now->units[i];
        assert_true(!unit || f);
        usage_row(former, now, f, &row);
        for (UsageColumn c = 0; c < _USAGE_COLUMN_MAX; c++) {
                text_append(&t, c > 0 ? "|" : "");
                usage_append_cell(&t, &row, c);
        }
        assert_string_equal(t.chars, cells);
}

static void rates_are_between_two_samples_by_the_clock_of_the_host(void **state) {
        _cleanup_usage_ UsageSample *a = sample(
                                            "{'at':1000000,'cpus':2,'host':{'busy':1000000,'idle':3000000,"
                                            "'memory':8000,'available':6000,"
                                            "'disk':{'size':1000,'free':300},'pressure':{'cpu':0}},"
                                            "'units':[{'name':'web@2.container','cpu':1000000,"
                                            "'memory':46242202,'tasks':12,'read':0,'written':100,"
                                            "'pressure':{'cpu':0,'memory':0,'io':0}}]}"),
                                    *b = sample(
                                            "{'at':3000000,'cpus':2,'host':{'busy':2000000,'idle':6000000,"
                                            "'memory':8192,'available':4096,"
                                            "'disk':{'size':100000000,'free':2097152},"
                                            "'pressure':{'cpu':20000}},"
                                            "'units':[{'name':'web@2.container','cpu':2024000,"
                                            "'memory':46242202,'tasks':12,'read':2516584,'written':100,"
                                            "'pressure':{'cpu':160000,'memory':1000,'io':159999}}]}");
        UsageRow row;

        assert_cells(a, b, "web@2.container", "51.2 %|44.1 M|1.2 M|12|cpu 8 %|–");
        assert_cells(a, b, NULL, "25.0 %|4.0 K|–|–|cpu 1 %|2.0 M");
        usage_row(a, b, NULL, &row);
        assert_int_equal(usage_share(&row.cells[USAGE_COLUMN_CPU]), 250);
        assert_int_equal(usage_share(&row.cells[USAGE_COLUMN_MEMORY]), 500);
        assert_int_equal(usage_share(&row.cells[USAGE_COLUMN_DISK]), 979);
        assert_int_equal(usage_share(&row.cells[USAGE_COLUMN_IO]), -1);
}

static void a_figure_that_the_host_does_not_provide_is_a_dash(void **state) {
        _cleanup_usage_ UsageSample *a = sample(
                                            "{'at':1,'units':[{'name':'a.service','cpu':5},{'name':'b'}]}"),
                                    *b = sample("{'at':1000001,'units':[{'name':'b','memory':'x','tasks':-1,"
                                                "'read':1.5},{'name':'a.service','cpu':30005,"
                                                "'memory':536870912,'tasks':9}]}");

        assert_cells(a, b, "a.service", "3.0 %|512.0 M|–|9|–|–");
        assert_cells(a, b, "b", "–|–|–|–|–|–");
        assert_cells(a, b, NULL, "–|–|–|–|–|–");
}

static void without_a_former_sample_there_is_no_rate(void **state) {
        static const char line[] = "{'at':5,'host':{'busy':1,'idle':1},'units':[{'name':'a','cpu':5,"
                                   "'memory':1023,'tasks':0,'read':1,'written':1,'pressure':{'io':5}}]}";
        _cleanup_usage_ UsageSample *a = sample(line), *b = sample("{'at':6,'units':[]}");

        assert_cells(NULL, a, "a", "|1023 B||0||–");
        assert_cells(b, a, "a", "|1023 B||0||–"); /* the host was started again: its clock fell */
        assert_cells(a, a, "a", "|1023 B||0||–");
        assert_cells(NULL, a, NULL, "|–|–|–|–|–");
}

static void a_counter_that_fell_is_an_empty_cell(void **state) {
        _cleanup_usage_ UsageSample *a = sample("{'at':1,'host':{'busy':9,'idle':9},'units':[{'name':'a',"
                                                "'cpu':9,'read':9,'written':1,"
                                                "'pressure':{'cpu':9,'memory':9}}]}"),
                                    *b = sample(
                                            "{'at':1000001,'host':{'busy':8,'idle':9},'units':[{'name':'a',"
                                            "'cpu':8,'read':8,'written':2,"
                                            "'pressure':{'cpu':8,'memory':10009}}]}");

        assert_cells(a, b, "a", "|–||–|memory 1 %|–");
        assert_cells(a, b, NULL, "|–|–|–|–|–");
        assert_cells(b, b, NULL, "|–|–|–|–|–");
}

static void huge_figures_are_no_other_figures(void **state) {
        _cleanup_usage_ UsageSample *a = sample(
                                            "{'at':1,'units':[{'name':'a','cpu':0,'read':0,'written':0}]}"),
                                    *b = sample("{'at':2,'host':{'memory':5,'available':6},"
                                                "'units':[{'name':'a','cpu':9223372036854775807,"
                                                "'memory':9223372036854775807,'tasks':9223372036854775807,"
                                                "'read':1000,'written':0}]}");

        assert_cells(a, b, "a", "1844674407370955161.5 %|7.9 E|953.6 M|9223372036854775807|–|–");
        assert_cells(a, b, NULL, "–|–|–|–|–|–");
}

static void a_unit_that_is_new_has_no_rate_beside_one_that_has(void **state) {
        _cleanup_usage_ UsageSample
                *a = sample("{'at':0,'units':[{'name':'c','cpu':0},{'name':'a','cpu':0}]}"),
                *b = sample("{'at':1000,'units':[{'name':'b','cpu':7},{'name':'c','cpu':1}]}");

        assert_int_equal(b->n_units, 2);
        assert_cells(a, b, "b", "|–|–|–|–|–");
        assert_cells(a, b, "c", "0.1 %|–|–|–|–|–");
}

static void another_line_is_no_sample(void **state) {
        static const char *const lines[] = { "",
                                             "{",
                                             "[]",
                                             "7",
                                             "fleetd: no such option --usage",
                                             "{}",
                                             "{\"at\":\"1\"}",
                                             "{\"at\":1,\"units\":[{}]}" };
        UsageSample *s;

        for (size_t i = 0; i < ELEMENTS(lines); i++)
                assert_int_equal(usage_parse(lines[i], strlen(lines[i]), &s), -EBADMSG);
}

static void a_line_that_would_take_much_memory_is_not_read(void **state) {
        static const char begin[] = "{\"at\":1,\"units\":[", end[] = "{}]}";
        _cleanup_text_ Text t = {};
        UsageSample *s;

        text_append(&t, begin);
        while (t.size < 4 * 1024 * 1024)
                text_append(&t, "{\"a\":1},");
        text_append(&t, end);
        assert_int_equal(usage_parse(t.chars, t.size, &s), -EFBIG);
}

static void known_figures_are_written_as_they_were_read(void **state) {
        _cleanup_usage_ UsageSample *s = sample(
                "{'at':1,'host':{'busy':2,'memory':1,'disk':{'free':3}},'units':["
                "{'name':'a','pressure':{'memory':8,'cpu':7},'cpu':1}]}");
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        usage_append_json(&t, &s->units[0]);
        json_close(&t, '}');
        json_open(&t, NULL, '{');
        usage_append_json(&t, &s->host);
        json_close(&t, '}');
        assert_string_equal(t.chars, "{\"cpu\":1,\"pressure\":{\"cpu\":7,\"memory\":8}},"
                                     "{\"memory\":1,\"busy\":2,\"disk\":{\"free\":3}}");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rates_are_between_two_samples_by_the_clock_of_the_host),
                cmocka_unit_test(a_figure_that_the_host_does_not_provide_is_a_dash),
                cmocka_unit_test(without_a_former_sample_there_is_no_rate),
                cmocka_unit_test(a_counter_that_fell_is_an_empty_cell),
                cmocka_unit_test(huge_figures_are_no_other_figures),
                cmocka_unit_test(a_unit_that_is_new_has_no_rate_beside_one_that_has),
                cmocka_unit_test(another_line_is_no_sample),
                cmocka_unit_test(a_line_that_would_take_much_memory_is_not_read),
                cmocka_unit_test(known_figures_are_written_as_they_were_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
