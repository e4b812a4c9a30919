// Package explore holds a search through the ways in which concurrent requests can meet.
//
// A script is two or three chains of requests for one session, to one or several processes. Each runs
// against a server in memory, whose commands are let through one by one, in every order, and each with
// every fault; then it is checked that the promises hold. The statements are those of
// verify_test.go. A run lasts about a millisecond, since in a bubble of testing/synctest nobody waits.
//
//	go test -v                        some thousands of schedules, in less than a minute
//	go test -v -runs 5000 -seed 7     others, so many of each sort
//	go test -v -explore all -timeout 0                 all, or of scripts with very many some thousands each; it takes hours
//	go test -v -explore all -world '^rs: login@1 set'  all of some scripts
//	go test -run Replay -replay '...' one, as a failure prints it
package explore
