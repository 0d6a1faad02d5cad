/* What the handlers of fleet's API share. Within fleetd/api only. */
#pragma once

#include "fleetd/api/request.h"
#include "fleetd/scheduler/scheduler.h"
#include "units/api_json.h"

enum {
        PAGE_SIZE = 100,
        PAGE_BYTES = 1024 * 1024, /* a page ends behind the item that reaches it ... */
        PAGE_WORK = 100000,       /* ... or for whose reason the scheduler looked at so much
                                     (scheduler_view_work()): some 10 ms */
        BATCH_MAX = 1000,         /* units */
};

/* The page of a list that a request asks for. */
typedef struct Page {
        size_t first, n, total; /* items of the list; up to PAGE_SIZE of them */
        unsigned number;        /* from 1 on */
        char token[16];
} Page;

/* False: it was answered with 400 already. The caller may lower ret->n, to one at least. */
bool page_of(Request *request, size_t total, Page *ret);
/* The token of the next page (it borrows from 'page'), NULL on the last one. */
const char *page_next(Page *page);

/* A change of the registry that a request waits for: change_on_done() answers 'success', or why not. */
typedef struct ChangeWork ChangeWork;

ChangeWork *change_new(Request *request, unsigned success,
                       const char *type); /* 'type' of the empty answer, may be NULL; NULL: no memory */
void change_sent(Request *request, ChangeWork *work,
                 int r); /* 'r' as sending it returned; below 0 answers 500 */
void change_on_done(void *work, KvStatus status, const char *sentence, uint64_t index);

/* Why a unit is where it is, or nowhere: a sentence in 'ret'. */
void unit_reason(const Request *request, const SchedulerView *view, const ClusterUnit *unit, Error *ret);

/* The machine to be asked about a unit: that of its order, else one that reports a state; NULL: none. */
const ClusterMachine *unit_machine(const Cluster *cluster, const char *unit);

bool machine_is_there(const ClusterMachine *machine); /* up or away: what it said counts */

/* Handlers of units and their states. */
void units_list_handle(Request *request);
void units_get_handle(Request *request);
void units_put_handle(Request *request);
void units_delete_handle(Request *request);
void batch_handle(Request *request);
void states_list_handle(Request *request);
void states_get_handle(Request *request);
