// Package proof holds the tests of mongostore that search, and those that need helpers with
// dependencies of their own or a long time: random histories against a model, histories of
// concurrent requests that are checked for linearizability, damaged documents, a soak under
// faults, and a search for goroutines left behind.
//
//	go test ./...                             the short form, in about two minutes
//	go test -run Model -rapid.checks 1000     so many histories against the model
//	go test -run Histories -histories 5000    so many concurrent histories of each kind
//	go test -run Damage -damage.n 100000      so many damaged documents
//	go test -run Soak -soak 1m                a longer soak
//
// The server under the tests is a process of its own, so what is measured in this one is the
// store and its driver alone.
package proof
