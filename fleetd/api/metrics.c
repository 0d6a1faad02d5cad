/* GET /metrics: a scrape is begun on the loop, and completed by a worker, which reads files of the kernel.
 * One scrape is under way at a time; further requests wait in order, so that scrapes leave the other workers
 * to the log. */
#include "fleetd/api/handlers.h"

/* The scrape under way. It outlives its request, whose client may leave, and the API, which may be freed. */
struct Scraping {
        Api *api;         /* NULL: freed */
        Request *request; /* NULL: ended */
        MetricsScrape *scrape;
        Work work;
};

static void scraping_next(Api *api);

static void scraping_run(void *userdata) {
        struct Scraping *s = userdata;

        s->scrape->complete(s->scrape);
}

static void scraping_answer(Request *request, MetricsScrape *scrape) {
        Text *t = &scrape->text;
        Shared *body = t->error < 0 ? NULL : shared_new(t->chars, t->size);

        if (body)
                request_answer_shared(request, 200, metrics_content_type(scrape->form), NULL, body);
        else
                request_error(request, 500, "out of memory");
        shared_unref(body);
}

static void scraping_done(void *userdata) {
        struct Scraping *s = userdata;
        Api *api = s->api;

        if (s->request) {
                s->request->on_end = NULL;
                scraping_answer(s->request, s->scrape);
        }
        if (api)
                api->scraping = NULL;
        if (api)
                api->scraped = metrics_scrape_keep(s->scrape);
        else
                metrics_scrape_free(s->scrape);
        free(s);
        if (api)
                scraping_next(api);
}

static void scraping_on_end(Request *request) {
        struct Scraping *s = request->state;

        s->request = NULL;
}

/* Begin a scrape for the request. 0 or -ENOMEM. */
static int scraping_begin(Request *request) {
        MetricsForm form = metrics_form_accepted(request->http->accept);
        _cleanup_(metrics_scrape_freep) MetricsScrape *scrape = NULL;
        _cleanup_free_ struct Scraping *s = NEW0(struct Scraping, 1);
        Api *api = request->api;

        if (!s)
                return -ENOMEM;
        TRY(api->host->metrics(api->host, form, &scrape));
        metrics_scrape_resume(scrape, TAKE_PTR(api->scraped));
        *s = (struct Scraping) { .api = api, .request = request, .scrape = scrape };
        s->work = WORK(scraping_run, scraping_done, s);
        s->work.nice = WORK_NICE_ANSWER;
        TRY(loop_work(api->loop, &s->work));
        (void) TAKE_PTR(scrape);
        request->state = s;
        request->on_end = scraping_on_end;
        api->scraping = TAKE_PTR(s);
        return 0;
}

static void scraping_next(Api *api) {
        Request *request;

        while (!api->scraping && (request = TAILQ_FIRST(&api->scrapes))) {
                TAILQ_REMOVE(&api->scrapes, request, scrapes);
                request->on_end = NULL;
                if (scraping_begin(request) < 0)
                        request_error(request, 500, "out of memory");
        }
}

static void waiting_on_end(Request *request) {
        TAILQ_REMOVE(&request->api->scrapes, request, scrapes);
}

unsigned metrics_handle(Request *request, Error *err) {
        Api *api = request->api;

        TAILQ_INSERT_TAIL(&api->scrapes, request, scrapes);
        request->on_end = waiting_on_end;
        scraping_next(api);
        return 0;
}

void metrics_stop(Api *api) {
        if (api->scraping)
                api->scraping->api = NULL;
        api->scraped = metrics_scrape_free(api->scraped);
}
