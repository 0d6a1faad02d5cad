# The key API against recorded answers of etcd: test-keys_v2.sh runs one daemon and the player.
EXTRA_DIST += tests/conformance/README.md tests/conformance/replay.py tests/conformance/etcd-v2.jsonl \
	tests/conformance/deviations tests/conformance/daemon.sh tests/conformance/test-keys_v2.sh tests/conformance/kv_v1.py tests/conformance/test-kv_v1.sh \
	tests/conformance/fleet_v1.py tests/conformance/test-fleet_v1.sh tests/conformance/metrics.py tests/conformance/test-metrics.sh \
	tests/conformance/process.py tests/conformance/test-process.sh tests/conformance/memory.py tests/conformance/test-memory.sh \
	tests/conformance/test-cluster_v2.sh tests/conformance/test-etcdctl.sh tests/conformance/test-fleetctl_kv.sh tests/conformance/test-export.sh tests/conformance/test-manual.sh tests/conformance/examples tests/conformance/examples.py tests/conformance/test-streams.sh \
	tests/conformance/test-hostile.sh tests/conformance/hostile.py tests/conformance/test-bad_http.sh tests/conformance/bad_http.py tests/conformance/test-recover.sh tests/conformance/test-transfer.sh tests/conformance/test-rpm.sh tests/conformance/test-backup.sh tests/formats/backup-1.gz tests/formats/state-1 tests/conformance/test-join.sh tests/conformance/test-sandbox.sh tests/conformance/test-guided.sh tests/conformance/test-users.sh tests/conformance/test-secure.sh
