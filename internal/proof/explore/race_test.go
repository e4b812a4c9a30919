//go:build race

package explore

// raceEnabled reports whether the race detector is on.
const raceEnabled = true
