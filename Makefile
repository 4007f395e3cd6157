# A menu. What each entry does stands in the script that it names.
.PHONY: help up down test torture torture-engine torture-operator torture-server torture-fuzz torture-zoo torture-alerts scale verify fix bench-engine bench-server bench-metrics dashboards
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ --/'
up: ## a real Kubernetes with a KvsStore that answers; MONITORING=1 starts a Prometheus beside it
	@MONITORING=$(MONITORING) tests/bin/up
down: ## takes away everything that `up` made
	@tests/bin/down
test: ## verify, then every test, the real cluster included
	@tests/bin/test
torture: torture-engine torture-server torture-alerts torture-operator ## all of the following, one after the other
torture-engine: ## the engine's safety tests in their long versions
	@tests/bin/torture-engine
torture-operator: ## the operator killed at every call, lied to and contradicted, on a real Kubernetes
	@tests/bin/torture-operator
torture-server: ## the server among thousands of clients that mean no good
	@tests/bin/torture-server
torture-fuzz: ## hostile files for 30 minutes
	@tests/bin/tools torture && KVS_TORTURE=full tests/bin/fuzz
torture-zoo: ## planted bugs, each caught by the test that is for it
	@tests/bin/zoo all
scale: ## a thousand stores at once, and what one operator needs for them
	@tests/bin/scale
torture-alerts: ## faults of real servers, each of which must raise its alert in a real Prometheus
	@tests/bin/torture-alerts
verify: ## format, lints, docs, dependency rules, generated files; writes nothing
	@tests/bin/verify
fix: ## rewrites what verify would complain about
	@tests/bin/fix
bench-engine: ## our engine measured beside sled, fjall, redb, heed and rocksdb; flags in FLAGS="--quick"
	@tests/bin/bench-engine $(FLAGS)
bench-server: ## our server measured beside Redis and Valkey; flags in FLAGS="--quick"
	@tests/bin/bench-server $(FLAGS)
bench-metrics: ## what metrics cost: throughput with and without scrapes, and how long a scrape takes
	@tests/bin/bench-metrics $(FLAGS)
dashboards: ## draws the pictures of the dashboards anew
	@tests/bin/dashboards
