noinst_LIBRARIES += kvstore/libkvstore.a
kvstore_libkvstore_a_SOURCES = \
	kvstore/kvstore.h kvstore/kvstore.c kvstore/outcomes.h kvstore/outcomes.c kvstore/kvstore_internal.h kvstore/time.c kvstore/state.c \
	kvstore/propose.h kvstore/propose.c kvstore/propose_internal.h kvstore/propose_frames.c \
	kvstore/floor.h kvstore/floor.c kvstore/rescue.h kvstore/rescue.c \
	kvstore/raft/replica.h kvstore/raft/replica.c kvstore/raft/replica_internal.h \
	kvstore/raft/stop.c kvstore/raft/reopen.c kvstore/raft/inputs.c kvstore/raft/forget.c kvstore/raft/obey.c kvstore/raft/outward.c \
	kvstore/raft/bootstrap.h kvstore/raft/bootstrap.c \
	kvstore/raft/folder.h kvstore/raft/folder.c kvstore/raft/transfer.h kvstore/raft/transfer.c \
	kvstore/raft/reads.h kvstore/raft/reads.c kvstore/raft/compare.h kvstore/raft/compare.c \
	kvstore/hub.h kvstore/hub.c kvstore/large.c \
	kvstore/session/peers.h kvstore/session/peers.c kvstore/session/peers_internal.h \
	kvstore/session/admission.c kvstore/session/hosts.c \
	kvstore/traffic.h kvstore/traffic.c \
	kvstore/session/session.h kvstore/session/session.c \
	kvstore/session/frame.h kvstore/session/frame.c \
	kvstore/apply.h kvstore/apply_internal.h kvstore/apply.c kvstore/apply_key.c \
	kvstore/cost.h kvstore/cost.c kvstore/long_keys.h kvstore/long_keys.c kvstore/estimate.h kvstore/estimate.c kvstore/budget.h kvstore/budget.c \
	kvstore/events.h kvstore/events.c \
	kvstore/results.h kvstore/results.c \
	kvstore/arena.h kvstore/arena.c \
	kvstore/tree.h kvstore/tree.c kvstore/tree_reader.c kvstore/tree_nodes.c kvstore/tree_events.c \
	kvstore/tree_format.h kvstore/tree_format.c \
	kvstore/file_sum.h kvstore/file_sum.c \
	kvstore/tree_internal.h kvstore/snapshot.c kvstore/tree_results.c \
	kvstore/command.h kvstore/command.c
kvstore_libkvstore_a_CFLAGS = $(AM_CFLAGS) $(LMDB_CFLAGS)

# What links the store as a whole.
KVSTORE_LIBS = kvstore/libkvstore.a kvstore/raft/libraftcore.a io/libio.a base/libbase.a $(LMDB_LIBS) $(RAFT_LIBS) $(IO_LIBS) -lpthread

# What a test of this folder links, in this order.
KVSTORE_TEST_LIBS = kvstore/libkvstore.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lpthread

if HAVE_CMOCKA
KVSTORE_TESTS = \
	tests/unit/test-command \
	tests/unit/test-tree \
	tests/unit/test-tree_calls \
	tests/unit/test-apply \
	tests/unit/test-cost \
	tests/unit/test-hub \
	tests/unit/test-events \
	tests/unit/test-floor \
	tests/unit/test-results \
	tests/unit/test-results_format \
	tests/unit/test-tree_format \
	tests/unit/test-budget \
	tests/unit/test-kvstore_memory
check_PROGRAMS += $(KVSTORE_TESTS)
TESTS += $(KVSTORE_TESTS)

tests_unit_test_command_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_command_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_tree_SOURCES = tests/unit/test-tree.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_tree_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_tree_LDADD = $(KVSTORE_TEST_LIBS)

# What tests/lib/failing_database.c stands in for.
FAILING_DATABASE = -Wl,--wrap=mdb_env_create,--wrap=mdb_env_open,--wrap=mdb_env_copyfd2,--wrap=mdb_txn_begin,--wrap=mdb_txn_renew,--wrap=mdb_txn_commit \
	-Wl,--wrap=mdb_dbi_open,--wrap=mdb_stat,--wrap=mdb_get,--wrap=mdb_put,--wrap=mdb_del \
	-Wl,--wrap=mdb_cursor_open,--wrap=mdb_cursor_get,--wrap=mdb_cursor_put,--wrap=mdb_cursor_del
tests_unit_test_tree_calls_SOURCES = tests/unit/test-tree_calls.c tests/lib/failing_database.h tests/lib/failing_database.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_tree_calls_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_unit_test_tree_calls_LDFLAGS = $(AM_LDFLAGS) $(FAILING_DATABASE)
tests_unit_test_tree_calls_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_apply_SOURCES = tests/unit/test-apply.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/model.h tests/lib/model.c
tests_unit_test_apply_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_apply_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_cost_SOURCES = tests/unit/test-cost.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_cost_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_cost_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_events_SOURCES = tests/unit/test-events.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/model.h tests/lib/model.c
tests_unit_test_events_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_events_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_floor_SOURCES = tests/unit/test-floor.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_floor_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_floor_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_kvstore_memory_SOURCES = tests/unit/test-kvstore_memory.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_kvstore_memory_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_kvstore_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_kvstore_memory_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_results_SOURCES = tests/unit/test-results.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_results_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_results_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_tree_format_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_tree_format_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_budget_SOURCES = tests/unit/test-budget.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_budget_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_budget_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_results_format_SOURCES = tests/unit/test-results_format.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_results_format_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_results_format_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_results_format_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_hub_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_hub_LDADD = $(KVSTORE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-kvstore tests/unit/test-rescue
TESTS += tests/unit/test-kvstore tests/unit/test-rescue
tests_unit_test_rescue_SOURCES = tests/unit/test-rescue.c tests/lib/trio.h tests/lib/trio.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/failing_database.h tests/lib/failing_database.c
tests_unit_test_rescue_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_unit_test_rescue_LDFLAGS = $(AM_LDFLAGS) $(FAILING_DATABASE) \
	-Wl,--wrap=open_dir,--wrap=mkdirat,--wrap=mkdir,--wrap=renameat2,--wrap=fsync_dir,--wrap=fsync,--wrap=remove_tree_at,--wrap=pwrite_all \
	-Wl,--wrap=folder_open,--wrap=folder_closed,--wrap=folder_write_identity,--wrap=raft_log_open,--wrap=raft_log_take_entries,--wrap=random_seed_from_system \
	-Wl,--wrap=bootstrap_check,--wrap=bootstrap_own_hardware,--wrap=bootstrap_restored,--wrap=file_sum_check
tests_unit_test_rescue_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_kvstore_SOURCES = tests/unit/test-kvstore.c $(SIDE_BY_SIDE) tests/lib/scratch.h tests/lib/scratch.c tests/lib/tree_file.h tests/lib/tree_file.c
tests_unit_test_kvstore_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_kvstore_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=raft_core_log_fits,--wrap=folder_copy,--wrap=raft_core_timeout_ms,--wrap=replica_send_message
tests_unit_test_kvstore_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-raft_folder
TESTS += tests/unit/test-raft_folder
tests_unit_test_raft_folder_SOURCES = tests/unit/test-raft_folder.c tests/lib/folder_room.h tests/lib/folder_room.c \
	tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/scratch.h tests/lib/scratch.c tests/lib/tree_file.h tests/lib/tree_file.c
tests_unit_test_raft_folder_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_raft_folder_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=read_file_at
tests_unit_test_raft_folder_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-raft_folder_calls
TESTS += tests/unit/test-raft_folder_calls
tests_unit_test_raft_folder_calls_SOURCES = tests/unit/test-raft_folder_calls.c tests/lib/folder_room.h tests/lib/folder_room.c \
	tests/lib/scratch.h tests/lib/scratch.c tests/lib/tree_file.h tests/lib/tree_file.c \
	tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h tests/lib/manual_loop.h tests/lib/manual_loop.c
tests_unit_test_raft_folder_calls_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_raft_folder_calls_LDFLAGS = $(FAILING_ALLOCATIONS) -Wl,--wrap=read_file_at \
	-Wl,--wrap=fsync,--wrap=fstat,--wrap=fstatat,--wrap=ftruncate,--wrap=mkdirat,--wrap=unlinkat,--wrap=renameat \
	-Wl,--wrap=pread,--wrap=pwrite,--wrap=open,--wrap=openat
tests_unit_test_raft_folder_calls_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

# Parts of the replica, which is played.
FAKE_REPLICA = -Wl,--wrap=replica_term,--wrap=replica_leader,--wrap=replica_is_leader,--wrap=replica_is_open,--wrap=replica_send,--wrap=replica_answer \
	-Wl,--wrap=replica_write_head,--wrap=replica_read_head,--wrap=raft_core_id,--wrap=raft_core_leads,--wrap=raft_core_commit_index \
	-Wl,--wrap=raft_core_applied_index,--wrap=raft_core_servers,--wrap=peer_number,--wrap=peers_handle
check_PROGRAMS += tests/unit/test-reads tests/unit/test-compare tests/unit/test-propose
TESTS += tests/unit/test-reads tests/unit/test-compare tests/unit/test-propose
tests_unit_test_propose_SOURCES = tests/unit/test-propose.c tests/lib/fake_replica.h tests/lib/fake_replica.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_propose_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_propose_LDFLAGS = $(AM_LDFLAGS) $(FAKE_REPLICA) \
	-Wl,--wrap=replica_door_leader,--wrap=replica_door_term,--wrap=replica_submit,--wrap=peer_reply,--wrap=peers_session
tests_unit_test_propose_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_reads_SOURCES = tests/unit/test-reads.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_reads_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_reads_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_REPLICA)
tests_unit_test_reads_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_compare_SOURCES = tests/unit/test-compare.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_compare_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_compare_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_REPLICA) \
	-Wl,--wrap=replica_transfer,--wrap=replica_probe,--wrap=raft_log_first_index,--wrap=transfers_send_again \
	-Wl,--wrap=tree_begin_read,--wrap=tree_meta,--wrap=tree_kept_hash,--wrap=tree_abort
tests_unit_test_compare_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-raft_transfer
TESTS += tests/unit/test-raft_transfer
tests_unit_test_raft_transfer_SOURCES = tests/unit/test-raft_transfer.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_transfer_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_raft_transfer_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_REPLICA) \
	-Wl,--wrap=replica_checkpoint,--wrap=replica_send_message,--wrap=replica_exchange,--wrap=replica_work_ended \
	-Wl,--wrap=raft_core_match_index,--wrap=compare_may_send,--wrap=compare_differs,--wrap=loop_work \
	-Wl,--wrap=folder_room,--wrap=folder_incoming_open,--wrap=folder_incoming_finish,--wrap=folder_incoming_discard
tests_unit_test_raft_transfer_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

# The replica itself, whose parts are played.
FAKE_PARTS = \
	-Wl,--wrap=loop_work,--wrap=raft_core_leader,--wrap=raft_core_match_index,--wrap=raft_core_entry,--wrap=raft_core_new \
	-Wl,--wrap=raft_core_free,--wrap=raft_core_log_fits,--wrap=raft_core_start,--wrap=raft_core_receive,--wrap=raft_core_tick \
	-Wl,--wrap=raft_core_apply,--wrap=raft_core_submit,--wrap=raft_core_appended,--wrap=raft_core_installed \
	-Wl,--wrap=raft_core_checkpointed,--wrap=raft_core_change,--wrap=raft_core_transfer,--wrap=raft_log_open,--wrap=raft_log_close \
	-Wl,--wrap=raft_log_crash,--wrap=raft_log_meta,--wrap=raft_log_torn,--wrap=raft_log_last_index,--wrap=raft_log_oldest_write_ms \
	-Wl,--wrap=raft_log_take_entries,--wrap=raft_log_entries_free,--wrap=raft_log_entries,--wrap=raft_log_write_meta,--wrap=raft_log_append \
	-Wl,--wrap=raft_log_reset,--wrap=raft_log_cut,--wrap=bootstrap_found,--wrap=bootstrap_join,--wrap=bootstrap_set_aside \
	-Wl,--wrap=bootstrap_check,--wrap=bootstrap_own_hardware,--wrap=bootstrap_mark_tree,--wrap=folder_open,--wrap=folder_open_nothing \
	-Wl,--wrap=folder_done,--wrap=folder_rebuild,--wrap=folder_rebuilt,--wrap=folder_room,--wrap=folder_closed,--wrap=folder_distrust \
	-Wl,--wrap=folder_read_identity,--wrap=folder_copy,--wrap=folder_probe,--wrap=folder_adopt,--wrap=folder_forget_checkpoint \
	-Wl,--wrap=folder_cancel,--wrap=folder_install,--wrap=folder_lose,--wrap=folder_is_lost,--wrap=folder_set_aside,--wrap=folder_found \
	-Wl,--wrap=tree_begin_read,--wrap=tree_begin_write,--wrap=tree_commit,--wrap=tree_abort,--wrap=tree_close,--wrap=tree_meta \
	-Wl,--wrap=tree_set_meta,--wrap=tree_configuration,--wrap=tree_set_configuration,--wrap=apply_empty,--wrap=tree_set_work \
	-Wl,--wrap=tree_touched,--wrap=tree_file_size,--wrap=raft_configuration_decode_servers,--wrap=transfers_new,--wrap=transfers_free \
	-Wl,--wrap=transfers_drop,--wrap=transfers_busy,--wrap=transfers_send,--wrap=transfers_step,--wrap=transfers_on_bulk \
	-Wl,--wrap=transfers_on_ack,--wrap=transfers_whole,--wrap=transfers_received,--wrap=compare_new,--wrap=compare_free \
	-Wl,--wrap=compare_applied,--wrap=compare_committed,--wrap=compare_settled,--wrap=compare_on_frame,--wrap=compare_differs \
	-Wl,--wrap=compare_undecided,--wrap=compare_exchanged,--wrap=peers_self,--wrap=peers_set_self,--wrap=peer_hello \
	-Wl,--wrap=peers_session,--wrap=peers_send_raft,--wrap=peer_reply,--wrap=raft_core_state,--wrap=raft_core_role \
	-Wl,--wrap=raft_core_term,--wrap=raft_core_first_index,--wrap=raft_core_last_index,--wrap=raft_core_stored_index \
	-Wl,--wrap=raft_core_entries_bytes,--wrap=raft_core_timeout_ms,--wrap=raft_core_installing,--wrap=raft_core_is_behind \
	-Wl,--wrap=raft_core_error,--wrap=raft_core_id,--wrap=raft_core_commit_index,--wrap=raft_core_applied_index \
	-Wl,--wrap=raft_core_servers,--wrap=peers_handle
check_PROGRAMS += tests/unit/test-raft_replica tests/unit/test-raft_obey tests/unit/test-raft_stop
TESTS += tests/unit/test-raft_replica tests/unit/test-raft_obey tests/unit/test-raft_stop
FAKE_PARTS_SOURCES = tests/lib/fake_parts.h tests/lib/fake_parts.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_replica_SOURCES = tests/unit/test-raft_replica.c $(FAKE_PARTS_SOURCES)
tests_unit_test_raft_replica_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_raft_replica_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_PARTS)
tests_unit_test_raft_replica_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_raft_obey_SOURCES = tests/unit/test-raft_obey.c $(FAKE_PARTS_SOURCES)
tests_unit_test_raft_obey_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_raft_obey_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_PARTS)
tests_unit_test_raft_obey_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_raft_stop_SOURCES = tests/unit/test-raft_stop.c $(FAKE_PARTS_SOURCES)
tests_unit_test_raft_stop_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_raft_stop_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_PARTS)
tests_unit_test_raft_stop_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-command tests/fuzz/fuzz-apply tests/fuzz/fuzz-results
tests_fuzz_fuzz_results_SOURCES = tests/fuzz/results.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_results_LDADD = kvstore/libkvstore.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
tests_fuzz_fuzz_command_SOURCES = tests/fuzz/command.c tests/fuzz/standalone.c
tests_fuzz_fuzz_command_LDADD = kvstore/libkvstore.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
tests_fuzz_fuzz_apply_SOURCES = tests/fuzz/apply.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_apply_LDADD = kvstore/libkvstore.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
