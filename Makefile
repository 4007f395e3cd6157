# A menu. What each entry does stands in the script that it names.
.PHONY: help up down test torture-engine torture-fuzz torture-zoo verify fix bench-engine
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ --/'
up: ## a real Kubernetes with a KvsStore that answers
	@tests/bin/up
down: ## takes away everything that `up` made
	@tests/bin/down
test: ## verify, then every test, the real cluster included
	@tests/bin/test
torture-engine: ## the engine's safety tests in their long versions
	@tests/bin/torture-engine
torture-fuzz: ## hostile files for 30 minutes
	@tests/bin/tools torture && KVS_TORTURE=full tests/bin/fuzz
torture-zoo: ## planted bugs, each caught by the test that is for it
	@tests/bin/zoo all
verify: ## format, lints, docs, dependency rules, generated files; writes nothing
	@tests/bin/verify
fix: ## rewrites what verify would complain about
	@tests/bin/fix
bench-engine: ## our engine measured beside sled, fjall, redb, heed and rocksdb; flags in FLAGS="--quick"
	@tests/bin/bench-engine $(FLAGS)
