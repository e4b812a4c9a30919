//go:build !race

package explore

// pace is how many times as many schedules the quick search tries without the race detector.
const pace = 4
