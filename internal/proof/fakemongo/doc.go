// Package fakemongo is a MongoDB server in memory, for tests that have to decide what happens
// between a driver and a server, command by command, thousands of times per second.
//
// It has one database's worth of collections and the commands that a session store sends:
// find, getMore, killCursors, insert, update, delete, aggregate (for counts), the commands
// for indexes, which it accepts and ignores, and what a driver needs to connect. A command on one document
// is atomic, as in MongoDB. A deletion of many is not, as in MongoDB: it decides what to
// look at, and then deletes what still matches. As the primary of a replica set it
// carries out a retryable write once, and answers a repetition as the first time.
//
// A filter or an update with an operator that it does not know is refused, never ignored.
//
// Connections are in memory ([Server.DialContext]), so that it can be used in a bubble of
// testing/synctest, where a timeout takes no time.
package fakemongo
