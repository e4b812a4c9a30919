// Package tools has no code. The go.mod beside it holds the versions of the programs that
// check this repository, where they are updated like any other dependency:
//
//	go -C internal/tools tool benchstat old.txt new.txt
package tools
