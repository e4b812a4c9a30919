# Each step of .ci/run is a target: "make lint"; "make" runs them all.
STEPS := $(shell sed -n 's/^readonly all_steps=(\(.*\))/\1/p' .ci/run)

.PHONY: all test $(STEPS)
all:
	bash .ci/run
test:
	go test ./...
$(STEPS):
	bash .ci/run $@
