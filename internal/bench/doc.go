// Package bench measures what a request pays for its session: with this
// project's store, with others, and with nothing but the driver. It is for this
// repository only.
//
//	go -C internal/bench test -run '^$' -bench .
//
// compares all of them in one process, on one server, in turns. The yardstick is
// the floor: the same request, and the calls to the driver alone that no store
// can do without. Every figure is also given as a ratio to it.
//
// The server is another process, so that its work is not counted as ours: that
// of MONGODB_URI, or what mongotest finds or starts.
package bench
