//go:build race

package bench

// raceEnabled: the race detector allocates, and has pools forget.
const raceEnabled = true
