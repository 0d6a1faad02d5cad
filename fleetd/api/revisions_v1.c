/* GET /fleet/v1/revisions/NAME: the stored revisions of a unit, newest first; with the parameter "rev", one
 * of them as a unit. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/registry/layout.h"

/* Return what became of a text in the rollout of its set; NULL: unknown. */
static const char *revision_outcome(const RolloutRecord *r, const char *hash) {
        const RolloutOutcome *ended = r ? rollout_record_outcome(r, hash) : NULL;

        if (r && r->state != ROLLOUT_DONE && streq(r->to.hash, hash) && !rollout_record_is_of_content(r))
                return rollout_state_to_string(r->state);
        return ended ? rollout_result_to_string(ended->result) : NULL;
}

/* Return the number of the last text that all instances had; 0: none, or it is not stored any more. */
static uint64_t revisions_completed(const RolloutRecord *r, const Unit *unit) {
        const Revision *former;

        if (!r || r->completed.number == 0)
                return 0;
        if (streq(r->completed.hash, unit->base))
                return revisions_wanted(&unit->revisions);
        former = revisions_find(&unit->revisions, 0, r->completed.hash);
        return former ? former->number : 0;
}

/* 'unit': that has the revision as its wanted text; NULL: a former one. */
static void revision_write(Text *t, const RolloutRecord *rollout, const Revision *revision,
                           const Unit *unit) {
        uint64_t number = unit ? revisions_wanted(&unit->revisions) : revision->number;

        json_open(t, NULL, '{');
        json_add_string(t, "by", revision->by);
        json_add_string(t, "hash", unit ? unit->hash : revision->hash);
        json_add_string(t, "how", revision_how_to_string(revision->how));
        json_add_u64(t, "number", number);
        json_add_string(t, "outcome", revision_outcome(rollout, unit ? unit->base : revision->hash));
        json_add_u64(t, "since", revision->since_ms);
        json_add_bool(t, "wanted", unit);
        json_close(t, '}');
}

/* Write the revision with the highest number below 'below'. Return its number; 0: there is none. */
static uint64_t revision_write_next(Text *t, const RolloutRecord *rollout, const Unit *unit, uint64_t below) {
        const Revisions *all = &unit->revisions;
        const Revision *next = NULL;
        uint64_t wanted = revisions_wanted(all);

        for (size_t i = 0; i < all->n_former; i++)
                if (all->former[i].number < below && (!next || all->former[i].number > next->number))
                        next = &all->former[i];
        if (wanted < below && (!next || wanted > next->number)) {
                revision_write(t, rollout, &all->wanted, unit);
                return wanted;
        }
        if (next)
                revision_write(t, rollout, next, NULL);
        return next ? next->number : 0;
}

static unsigned revisions_answer(Request *request, const ClusterUnit *u) {
        const Cluster *c = request_cluster(request);
        const RolloutRecord *rollout = rollout_head(c, u)->rollout;
        uint64_t below = UINT64_MAX, completed = revisions_completed(rollout, u->unit);
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        if (completed > 0)
                json_add_u64(&t, "completed", completed);
        json_add_string(&t, "name", u->name);
        if (u->unit->revisions.n_former > 0)
                json_add_u64(&t, "previous",
                             u->unit->revisions.former[u->unit->revisions.n_former - 1].number);
        json_open(&t, "revisions", '[');
        do
                below = revision_write_next(&t, rollout, u->unit, below);
        while (below > 0);
        json_close(&t, ']');
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

static unsigned revision_answer_unit(Request *request, const Unit *unit) {
        ApiUnit entity = API_UNIT_EMPTY;
        _cleanup_text_ Text t = {};

        entity.name = unit->name;
        entity.file = &unit->file;
        entity.hash = unit->hash;
        entity.text = unit->text;
        api_unit_write(&t, &entity);
        return request_answer_json(request, 200, &t);
}

/* Read a revision of the set of 'u': the text that 'u' has with it. -ENOENT: there is none. */
static int revision_read(Request *request, const ClusterUnit *head, const ClusterUnit *u, uint64_t number,
                         Unit **ret) {
        const Revisions *all = &head->unit->revisions;
        _cleanup_unit_ Unit *former = NULL;
        Unit instance = *u->unit; /* it borrows all */
        int r;

        if (head == u) /* also if the template is gone: then the texts are whole */
                instance.own_size = 0;
        if (number == revisions_wanted(all))
                return unit_compose(&instance, head->unit, ret);
        if (!revisions_find(all, number, NULL))
                return -ENOENT;
        r = registry_read_revision(request->api->host->registry, head->name, number, &former);
        return r < 0 ? r : unit_compose(&instance, former, ret);
}

/* 'head': whose revisions they are, the template that 'u' follows, or 'u' itself. */
static unsigned revision_answer(Request *request, const ClusterUnit *head, const ClusterUnit *u,
                                const char *text, Error *err) {
        uint64_t number = revision_parse_number(text);
        _cleanup_unit_ Unit *unit = NULL;
        int r;

        if (number == 0)
                return error_set(err, 400, "rev=%.32s: expected a number from 1 on", text);
        r = revision_read(request, head, u, number, &unit);
        if (r >= 0)
                return revision_answer_unit(request, unit);
        if (r == -ENOENT)
                return error_set(err, 404, "%s has no revision %s; fleetctl history %s lists them", u->name,
                                 text, u->name);
        return error_set(err, 500, "revision %s of %s cannot be read: %s; fleetctl history %s lists others",
                         text, u->name, strerror(-r), u->name);
}

unsigned revisions_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = cluster_unit(c, request->rest),
                          *template = u && u->unit->from ? cluster_unit(c, u->unit->from) : NULL;
        const char *number = request_parameter(request, "rev");

        if (!u)
                return error_set(err, 404, "unit does not exist");
        if (number)
                return revision_answer(request, template ?: u, u, number, err);
        return revisions_answer(request, template ?: u); /* its texts are those of its template */
}
