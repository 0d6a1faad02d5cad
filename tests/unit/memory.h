/* What the files of test-memory share. */
#pragma once

/* Each allocation of 'scenario' fails (alloc_fail_each()); counts it among the scenarios, and its points. */
void survive(const char *name, int (*scenario)(void *userdata), void *userdata, unsigned stride);

/* memory_daemon.c: whole daemons in virtual time. */
void a_client_that_writes_is_answered_and_nothing_is_done_by_half(void **state);
void an_agent_begins_again_what_it_could_not_begin(void **state);
void an_agent_reads_again_what_it_could_not_read(void **state);
void an_engine_that_begins_leaves_out_no_unit(void **state);
void an_agent_that_cannot_begin_leaves_nothing_behind(void **state);
void a_daemon_starts_or_says_why_not(void **state);
void hosts_find_each_other_and_a_checkpoint_arrives(void **state);
