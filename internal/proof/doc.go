// Package proof holds the tests of mongostore that need helpers with dependencies of
// their own, or a long time: histories of concurrent requests that are checked for
// linearizability, a soak under faults, and a search for goroutines left behind.
//
//	go test ./...                           the short form, in about a minute
//	go test -run Histories -histories 5000  so many histories of each kind
//	go test -run Soak -soak 1m              a longer soak
//
// Package explore, below, tries the interleavings of few requests one by one, against the server in
// package fakemongo.
//
// The tests run against the server that mongotest gives, in a process of its
// own, so that what is measured in this one is the store and its driver alone.
package proof
