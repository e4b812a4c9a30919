package bench

import (
	"flag"
	"testing"
)

var targetsFlag = flag.Bool("targets", false, "measure times too, which takes a minute or two and an idle machine")

// TestTargets checks what a request may cost at most. It fails by what can be counted;
// times, with -targets, are for people to read:
//
//	go -C internal/bench test -run TestTargets -targets -v .
func TestTargets(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	targets, err := ExactTargets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if *targetsFlag {
		env, description := environment(t)
		t.Log("server:", description)
		timed, err := TimedTargets(t.Context(), env, description, plan())
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, timed...)
	}
	for _, target := range targets {
		if target.Exact && !target.Met() {
			t.Error(target)
		} else {
			t.Log(target)
		}
	}
}
