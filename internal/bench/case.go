package bench

import (
	"fmt"
	"strings"
	"time"
)

// An Op is what a request does with its session.
type Op string

// The operations. Of a request that only loads, nothing is saved.
const (
	Load   Op = "load"   // look at it
	Keep   Op = "keep"   // load it, save it unchanged
	Change Op = "change" // load it, change one key, save it
	First  Op = "first"  // make a session and save it
	Logout Op = "logout" // load it and end it
)

// Ops are all operations.
var Ops = []Op{Load, Keep, Change, First, Logout}

// A Size is how much a session holds.
type Size string

// The sizes.
const (
	Small Size = "8"   // eight small values
	Large Size = "64K" // 64 values of 1 KiB, and a counter
)

// Sizes are all sizes.
var Sizes = []Size{Small, Large}

// A Case is one thing to compare.
type Case struct {
	Size     Size `json:"size"`
	Op       Op   `json:"op"`
	Browsers int  `json:"browsers"` // how many send requests at once
}

func (c Case) String() string {
	return fmt.Sprintf("values=%s/op=%s/browsers=%d", c.Size, c.Op, c.Browsers)
}

// Cases are all combinations, with one browser and with 64.
func Cases() []Case {
	var cases []Case
	for _, browsers := range []int{1, 64} {
		for _, size := range Sizes {
			for _, op := range Ops {
				cases = append(cases, Case{size, op, browsers})
			}
		}
	}
	return cases
}

// counter is the key that [Change] changes. Every session has it.
const counter = "count"

// loginTime has what BSON's dates hold, so that all stores return the same.
var loginTime = time.Date(2026, time.November, 22, 9, 12, 44, 18e6, time.UTC)

// Values are what a session of the size holds, apart from the counter.
func Values(size Size) map[string]any {
	if size == Small {
		return map[string]any{
			"user_id": 421337,
			"name":    "Ada Lovelace",
			"email":   "ada@example.com",
			"theme":   "dark",
			"locale":  "en-GB",
			"admin":   true,
			"login":   loginTime,
		}
	}
	return blocks(1 << 10)
}

// blocks are 64 values of n bytes.
func blocks(n int) map[string]any {
	values := make(map[string]any, 64)
	for i := range 64 {
		values[fmt.Sprintf("block%02d", i)] = strings.Repeat(string(rune('!'+i)), n)
	}
	return values
}
